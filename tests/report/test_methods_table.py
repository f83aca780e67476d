"""The table of methods has each one that an experiment may name, and its patterns find its experiments."""

import dataclasses
import re
from fnmatch import fnmatch

from mamlkit import places
from mamlkit.experiments.paper import ROWS
from mamlkit.experiments.rows import POLICY_METHODS
from mamlkit.methods import METHODS
from mamlkit.report import methods_table
from mamlkit.report.methods_table import ABOUT


def test_every_method_has_a_line():
    known = METHODS.keys() | set(POLICY_METHODS)
    listed = [re.search("`(.*?)`", line).group(1) for line in methods_table.methods().split("\n")[5:-2]]
    assert ABOUT.keys() <= known and len(set(listed)) == len(listed)
    assert set(listed) == ABOUT.keys() | {row.method for row in ROWS.values() if hasattr(row, "method")}


def test_a_method_that_is_new_is_there_by_its_experiments(monkeypatch):
    row = dataclasses.replace(ROWS["sinusoid-maml"], name="sinusoid-new", method="a new one")
    monkeypatch.setitem(ROWS, row.name, row)
    assert "| `a new one` | ours | – | – | `sinusoid-new` |" in methods_table.methods()


def test_papers_and_chapters_are_there():
    keys = (places.repository() / "book" / "references.bib").read_text(encoding="utf-8")
    assert all(f"{{{about.paper}," in keys for about in ABOUT.values() if about.paper)
    chapters = {path.name[:2] for path in (places.repository() / "notebooks").glob("*.ipynb")}
    assert {f"{k:02d}" for about in ABOUT.values() for k in about.chapters} <= chapters
    assert "[10](../notebooks/10-learning-the-update.ipynb)" in methods_table.methods()


def test_patterns_find_all_experiments_of_a_method():
    lines = methods_table.methods().split("\n")[5:-2]
    for line in lines:
        method, *_, patterns = line.strip("| ").replace("\\|", "").split(" | ")
        rows = [name for name, row in ROWS.items() if getattr(row, "method", "") == method.strip("`")]
        assert all(any(fnmatch(name, p) for p in re.findall("`(.*?)`", patterns)) for name in rows)
