"""The grid of compared methods, from the committed results: tables and a forest plot. No torch here.

Pages show the functions that return text with the directive ``{from-package} mamlkit.report.compare:NAME``.
"""

__all__ = [
    "clip_table",
    "clipped",
    "column_table",
    "costs",
    "elsewhere",
    "forest",
    "grid",
    "memory",
    "parts",
    "published",
    "tables",
]

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mamlkit import places
from mamlkit.experiments.compare import (
    COLUMNS,
    COMPARED,
    PARTS,
    TASKS,
    Column,
    Compared,
    column_of,
    methods_of,
    name_of,
    parts_of,
)
from mamlkit.experiments.paper import get
from mamlkit.report import results
from mamlkit.report.committed import benchmark_origin
from mamlkit.report.inventory import state_of
from mamlkit.report.notebook import fixed
from mamlkit.report.plots import COLOURS, ON_WHITE
from mamlkit.report.texts import badge, number, numbered
from mamlkit.report.traps import effect

TESTS = {"Q=1": "1 query", "Q=15": "15 queries", "Q=15, support statistics": "not transductive"}
KINDS = {"gradient steps": ("blue", "o"), "distances": ("vermillion", "s"), "nothing learned": ("grey", "x")}
ONE_SEED = (
    "A difference is between the same seeds; with one, its ± is over tasks alone and does not say how far "
    "another training would lie."
)
BY_SLUG = {method.slug: method for method in (*COMPARED, *PARTS)}
BASE = BY_SLUG["maml"]


def published() -> pd.DataFrame:
    """What the methods' own papers report.

    Columns: ``method`` (a slug of :data:`mamlkit.experiments.compare.COMPARED`), ``column``, ``value`` and
    ``ci95`` with the digits that are printed, the latter empty where there is none, ``source`` (a key of the
    bibliography), ``place``, where in it, and ``note``, how the protocol differs.
    """
    path = places.repository() / "data" / "published_methods.csv"
    return pd.read_csv(path, keep_default_na=False, dtype=str)


def grid(column: Column) -> pd.DataFrame:
    """What was run of a column, tested with 15 queries: one line per method, the most accurate first.

    Args:
        column: of :data:`mamlkit.experiments.compare.COLUMNS`.

    Returns:
        Columns: ``method``, ``kind``, ``slug``; ``value``, the accuracy in %, with ``ci95``, the wider of its
        intervals over tasks and over seeds; ``of_seeds``, the accuracy of each seed; ``gap`` to MAML's on the
        same tasks and seeds, with ``gap_ci95`` alike; ``published``, NaN where there is nothing.
    """
    printed = published().set_index(["method", "column"])["value"].astype(float).to_dict()
    lines = []
    for method in methods_of(column):
        row = get(name_of(column, method))
        step = row.evaluations[0].headline_step
        ours = results.summary(row.name, "Q=15", step, "accuracy")
        if ours is None:
            continue
        gap = effect(row.name, name_of(column, BASE), "Q=15")
        lines.append(
            {
                "method": method.words,
                "kind": method.kind,
                "slug": method.slug,
                "value": ours.value,
                "ci95": ours.deciding_ci95,
                "of_seeds": list(ours.of_seeds),
                "gap": gap.value if gap else np.nan,
                "gap_ci95": gap.deciding_ci95 if gap else np.nan,
                "published": printed.get((method.slug, column.name), np.nan),
            }
        )
    columns = ["method", "kind", "slug", "value", "ci95", "of_seeds", "gap", "gap_ci95", "published"]
    return pd.DataFrame(lines, columns=columns).sort_values("value", ascending=False, ignore_index=True)


def column_table(column: str, name: str = "") -> str:
    """A column of the grid: three tests, the gap to MAML, and what the method's own paper reports.

    Methods that were not run are named in the caption. While nothing was trained there is no table.

    Args:
        column: its name.
        name: the table's label; ``tab-compare-`` and the column if empty.
    """
    chosen = column_of(column)
    found = grid(chosen)
    if (found.kind == "nothing learned").all():
        values = [f"{line.method} has {number(line.value, line.ci95)} %" for line in found.itertuples()]
        return f"{chosen.words}: nothing was trained so far; with 15 queries, {', '.join(values)}.\n"
    ranked = [BY_SLUG[slug] for slug in found.slug]
    missing = [method.words for method in methods_of(chosen) if method not in ranked]
    printed = published().set_index(["method", "column"])
    lines = [_line(chosen, method, found, printed) for method in ranked]
    parts = ["accuracy in % on 600 test tasks (± 95 % over tasks or over seeds, whichever is wider)"]
    if found.gap.notna().any():
        parts.append("the difference from MAML on the same tasks with 15 queries per class")
    if any(line["elsewhere"] for line in lines):
        parts.append("what other papers report under protocols of their own")
    caption = f"{chosen.words}, {chosen.episodes:,} training tasks each: {'; '.join(parts)}."
    if (found.of_seeds.map(len) == 1).any():
        caption += f" {ONE_SEED}"
    caption += f" Not run: {'; '.join(missing)}." if missing else ""
    right = [*TESTS.values(), "from MAML", "seeds", "elsewhere"]
    return numbered(lines, caption, name or f"tab-compare-{column}", right)


def _line(column: Column, method: Compared, found: pd.DataFrame, printed: pd.DataFrame) -> dict[str, str]:
    row = get(name_of(column, method))
    line = {"method": method.words}
    for test, words in TESTS.items():
        ours = results.summary(row.name, test, row.evaluations[0].headline_step, "accuracy")
        line[words] = number(ours.value, ours.deciding_ci95) if ours else ""
    if (state := state_of(row.name)) != "complete":
        line[next(iter(TESTS.values()))] += f" {badge(state)}"
    line |= {"from MAML": "", "seeds": "", "elsewhere": ""}
    for _, at in found[found.slug == method.slug].iterrows():
        line["seeds"] = str(len(at.of_seeds))
        if method != BASE and not np.isnan(at.gap):
            line["from MAML"] = number(at.gap, at.gap_ci95, signed=True)
    if (method.slug, column.name) in printed.index:
        of_others = printed.loc[(method.slug, column.name)]
        line["elsewhere"] = f"{_printed(of_others)} {{cite:p}}`{of_others.source}`"
    return line


def parts() -> str:
    """MAML++ part by part: each alone, two together and all, as differences from MAML with as many steps."""
    single = [part.slug for part in PARTS]
    slugs = ["learned-rates", "multi-step", "maml-plus-plus", *single, "maml-plus-plus-all"]
    shown = [column for column in COLUMNS if parts_of(column) and "glyphs" not in column.name]
    lines = [{"part": "MAML, 5 steps"}, *({"part": BY_SLUG[slug].words} for slug in slugs)]
    for column in shown:
        steps = [BY_SLUG["maml-5-steps"], BASE]  # MAML itself takes five steps in some settings
        base = next(method for method in steps if column.name not in method.but_for)
        for line, method in zip(lines, [base, *(BY_SLUG[slug] for slug in slugs)]):
            row = name_of(column, method)
            ours = results.summary(row, "Q=15", 5, "accuracy")
            gap = effect(row, name_of(column, base), "Q=15") if ours and method != base else None
            state = state_of(row)
            cells = [number(ours.value, ours.deciding_ci95)] if ours else []
            line[column.words] = " ".join([*cells, badge(state)] if state != "complete" else cells)
            of_gap = f"from MAML, {column.words.split()[1]}"
            line[of_gap] = number(gap.value, gap.deciding_ci95, signed=True) if gap else ""
            line[f"seeds, {column.words.split()[1]}"] = str(len(ours.seeds)) if ours else ""
    caption = (
        "MAML++ by its parts: accuracy in % on 600 test tasks with 15 queries per class after five steps, "
        "and the difference from MAML with five steps on the same tasks (± 95 % over tasks or over seeds, "
        f"whichever is wider). {ONE_SEED}"
    )
    return numbered(lines, caption, "tab-compare-parts", list(lines[0])[1:])


def clipped() -> pd.DataFrame:
    """What ``benchmarks/clip.py`` measured: ``method``, ``updates``, ``beyond`` (per cent), ``cosine``."""
    return pd.read_csv(places.repository() / "data" / "benchmarks" / "clip" / "beyond.csv")


def clip_table() -> str:
    """What the bound on the meta-gradient's components cuts on Mini-ImageNet: share and turn, by method."""
    lines = []
    for slug, found in clipped().groupby("method", sort=False):
        line = {"method": BY_SLUG[str(slug)].words}
        for at in found.itertuples():
            line[f"after {at.updates}"] = f"{fixed(at.beyond, 1)} ({at.cosine:.2f})"
        lines.append(line)
    caption = (
        "Mini-ImageNet 5-way 1-shot: share of the meta-gradient's components beyond ±10, in %, after so many "
        "updates of a training; in brackets the cosine between the gradient and what is left of it "
        f"({benchmark_origin('clip')})."
    )
    return numbered(lines, caption, "tab-compare-clip", list(lines[0])[1:])


def _printed(line: Any) -> str:
    """A number of :func:`published`, with its interval if it has one."""
    return line.value + (f" ± {line.ci95}" if line.ci95 else "")


def elsewhere() -> str:
    """What other papers report, a line per method, with how their protocols differ from ours."""
    found = published()
    settings = {column.name: column.words for column in COLUMNS if (found.column == column.name).any()}
    lines = []
    for slug, of_method in found.groupby("method", sort=False):
        line = {"method": f"{BY_SLUG[slug].words} {{cite:p}}`{', '.join(of_method.source.unique())}`"}
        line["place"] = "; ".join(of_method.place.unique())
        line["their protocol"] = "; ".join(filter(None, of_method.note.unique()))
        for name, setting in settings.items():
            of_setting = of_method[of_method.column == name]
            line[setting] = "".join(_printed(one) for one in of_setting.itertuples())
        lines.append(line)
    caption = "Accuracy in % that other papers report (a dash: not reported, or nothing known)."
    return numbered(lines, caption, "tab-compare-elsewhere", list(settings.values()))


def memory() -> pd.DataFrame:
    """What ``benchmarks/compared.py`` measured of trainings: ``column``, ``method``, ``numbers``, ``MB``."""
    return pd.read_csv(places.repository() / "data" / "benchmarks" / "compare" / "memory.csv")


def costs() -> str:
    """How many numbers a method learns, and the memory that its training takes at most, as a table."""
    measured = memory()
    shapes = [column for column in COLUMNS if (measured.column == column.name).any()]
    lines = []
    for method in COMPARED:
        line = {"method": method.words}
        for column in shapes:
            found = measured[(measured.column == column.name) & (measured.method == method.slug)]
            line[f"numbers, {column.words}"] = "".join(f"{n:,}" for n in found.numbers)
            line[f"MB, {column.words}"] = "".join(f"{mb:,}" for mb in found.MB)
        lines.append(line)
    caption = (
        "Numbers that a method learns, and the peak of memory of two updates of its training with the grid's "
        f"network, {TASKS} tasks each, above what the process held before (a dash: not a row of the grid)."
    )
    right = list(lines[0])[1:]
    lines = [line for line in lines if any(line[key] for key in right)]
    return numbered(lines, caption, "tab-compare-costs", right)


def tables() -> str:
    """Every column of which something was run, for the results page."""
    shown = [column for column in COLUMNS if not grid(column).empty]
    return "\n".join(column_table(column.name, f"tab-results-compare-{column.name}") for column in shown)


def forest(ax: Axes, found: pd.DataFrame) -> None:
    """Accuracies of a column as a forest plot: mean with interval, single seeds, other papers' numbers.

    Name and mean stand above each line, so that the plot needs no more room beside it than a phone has.

    Args:
        ax: where to draw.
        found: of :func:`grid`; the first line comes to the top.
    """
    heights = np.arange(len(found))[::-1]
    for height, (_, line) in zip(heights, found.iterrows()):
        colour, marker = KINDS[line.kind]
        look: dict[str, Any] = {"color": COLOURS[colour], "marker": marker, "markersize": 6, "capsize": 3}
        if len(line.of_seeds) == 1:
            look["markerfacecolor"] = "white"
        ax.errorbar(line.value, height, xerr=line.ci95, **look)
        ax.plot(line.of_seeds, [height] * len(line.of_seeds), "|", color=COLOURS[colour], markersize=9)
        ax.plot(line.published, height, "*", color=COLOURS["black"], markersize=9)
        words: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "va": "center", "bbox": ON_WHITE}
        ax.text(0.01, height + 0.42, line.method, **words)
        ax.text(0.99, height + 0.42, fixed(line.value, 1), ha="right", **words)
    for base in found[found.slug == BASE.slug].value:
        ax.axvline(base, color=COLOURS["grey"], linewidth=0.8, linestyle=":")
    ax.set(xlabel="accuracy (%)", yticks=[], ylim=(-0.5, len(found) - 0.2))
