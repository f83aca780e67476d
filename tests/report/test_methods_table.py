"""The table of methods has each one that an experiment may name, and its patterns find its experiments."""

import dataclasses
import re
from fnmatch import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    assert "| `a new one` | – | ours | – | – | `sinusoid-new` |" in methods_table.methods()


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
        shown = re.findall("`(.*?)`", patterns)
        missing = [name for name in rows if not any(fnmatch(name, pattern) for pattern in shown)]
        assert missing == [], f"the line of {method} shows {shown}"


@pytest.mark.parametrize("method", ["maml", "a new one"])
@given(names=st.sets(st.from_regex(r"[a-z0-9]+(-[a-z0-9]+){0,3}", fullmatch=True), min_size=1, max_size=4))
def test_an_experiment_of_any_name_is_found_in_the_line_of_its_method(method, names):
    new = {n: dataclasses.replace(ROWS["sinusoid-maml"], name=n, method=method) for n in names - ROWS.keys()}
    with pytest.MonkeyPatch.context() as patch:
        for name, row in new.items():
            patch.setitem(ROWS, name, row)
        (line,) = (line for line in methods_table.methods().split("\n") if line.startswith(f"| `{method}` |"))
    shown = re.findall("`(.*?)`", line.rpartition(" | ")[2])
    assert [name for name in new if not any(fnmatch(name, pattern) for pattern in shown)] == []
    assert {name for name in new if not name.startswith(methods_table.STARTS)} <= set(shown)
