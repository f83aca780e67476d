"""What else could make the published run of HalfCheetah direction faster than ours: a table. No torch here.

Returns are those of training, from the committed logs. Pages show the functions that return text with the
directive ``{from-package} mamlkit.report.candidates:NAME``.
"""

__all__ = ["LONG_ROWS", "by_direction", "curves", "measured", "published", "solver", "table", "task_mix"]

import math
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from mamlkit import places
from mamlkit.experiments.candidates import AGAIN, AUTHORS, ITERATIONS, about, is_candidate
from mamlkit.experiments.paper import ROWS
from mamlkit.report import results
from mamlkit.report.inventory import state_of
from mamlkit.report.notebook import fixed
from mamlkit.report.texts import badge, measured_effect, numbered

WINDOW = 5  # iterations of a mean, the last of which is named
SNAPSHOT = 100  # the iteration of the plotted policy, by its script
AT = (10, 25, ITERATIONS, SNAPSHOT)
COLUMNS = ["seed", "iteration", "before", "after", "beyond"]
# Rows of the paper's length that have what else is asked for in their logs: what each changes.
LONG = {
    "": "nothing, a longer run",
    "-unclipped": "baseline without a clip, a longer run",
    "-first-order": "first order, a longer run",
    "-ratios": "likelihood ratios, a longer run",
}
HALF_CHEETAH = "HalfCheetah direction"  # in the published tables
AS_AUTHORS = "half-cheetah-direction-maml"  # the long run of the authors' settings
LONG_ROWS = {f"{AS_AUTHORS}{end}": words for end, words in LONG.items()}


def published() -> pd.DataFrame:
    """The authors' two tests of HalfCheetah direction after MAML's training, at most three steps of each.

    That of the paper's figure, and an earlier one that a later commit of their code has replaced
    (``icml_cheetahdirec_results_maml.pkl`` of commit ``7fe27d7``; its script names the iteration).

    Columns: ``source``, ``iteration``, ``max_kl``, ``step``, ``value``.
    """
    earlier = pd.read_csv(places.repository() / "data" / "published_snapshots.csv")
    found = results.published()
    found = found[(found.row == AS_AUTHORS) & (found.place == "Fig. 5")]
    plotted = found[["step", "value"]].assign(
        source="Fig. 5", iteration=SNAPSHOT, max_kl=ROWS[AS_AUTHORS].settings["max_kl"]
    )
    return pd.concat([earlier, plotted[earlier.columns]], ignore_index=True)


def curves(name: str) -> pd.DataFrame:
    """The returns of a row's training, iteration by iteration, of each seed whose result is not stale.

    Returns:
        Columns: ``seed``, ``iteration``; ``before`` and ``after``, the mean return of the last
        :data:`WINDOW` iterations, NaN where there are not so many; and ``beyond``, the share of the steps
        before the inner step whose observation lies beyond the clip, a mean over the same, NaN where it was
        not logged; and ``processor``, all that it was trained on.
    """
    found = [pd.DataFrame(columns=COLUMNS, dtype=float).assign(processor="")]
    for result in results.load(name):
        if not results.stale(result):
            log = results.training_log(name, result["seed"])
            log = log.reindex(columns=["iteration", "return_before", "return_after", "beyond_clip"])
            values = log.drop(columns="iteration").rolling(WINDOW).mean()
            # a log with gaps has no such means over them
            values[log.iteration.diff(WINDOW - 1) != WINDOW - 1] = float("nan")
            values.columns = COLUMNS[2:]
            values = values.assign(seed=result["seed"], iteration=log.iteration)[COLUMNS]
            found.append(values.assign(processor=_processors(result)))
    return pd.concat([each for each in found if len(each)] or found, ignore_index=True)


def _processors(result: dict[str, Any]) -> str:
    """What a run was trained on, in short words.

    >>> _processors({"origin": [{"processor": "Intel(R) Xeon(R) Processor"}, {"processor": "AMD EPYC"}]})
    'Intel Xeon, AMD EPYC'
    """
    names = [re.sub(r"\([RTM]+\)| (Processor|CPU)\b.*", "", part["processor"]) for part in result["origin"]]
    return ", ".join(dict.fromkeys(names))


def measured(name: str, iteration: int) -> pd.DataFrame:
    """The lines of :func:`curves` at an iteration, one for each seed that has come so far."""
    found = curves(name)
    return found[(found.iteration == iteration) & found.after.notna()]


def _over_seeds(values: Iterable[float]) -> str:
    """The mean, and in brackets the range where there are several.

    >>> _over_seeds([20.4]), _over_seeds([-10.0, 30.0])
    ('20', '10 (−10 to 30)')
    """
    values = list(values)
    mean = fixed(sum(values) / len(values), 0)
    return mean if len(values) == 1 else f"{mean} ({fixed(min(values), 0)} to {fixed(max(values), 0)})"


def by_direction() -> pd.DataFrame:
    """Returns of HalfCheetah on the test goals of each direction, the paper's and ours of the first seed.

    Returns:
        Columns: ``method``, ``step``, and for ``paper`` and ``ours`` each ``forward`` and ``backward``, a
        number or NaN; a line for each published number of the setting, and for MAML in first order.
    """
    ways = results.directions(HALF_CHEETAH)
    found = results.published()
    found = found[(found.setting == HALF_CHEETAH) & (found.place == "Fig. 5")]
    own = found[found.method == "MAML"]
    others = own.assign(method="MAML, first order", row=own.row + "-first-order")
    lines = []
    for at in pd.concat([found, others[[bool(results.load(row)) for row in others.row]]]).itertuples():
        line = {"method": at.method, "step": at.step}
        ours = np.full(len(ways["forward"]), math.nan)
        if results.load(at.row):
            ours = results.per_task_errors(at.row, 0, at.evaluation, at.metric)[:, at.step]
        for side, values in (("paper", at.by_goal), ("ours", ours)):
            line |= {f"{side}, {way}": np.array(values)[goals].mean() for way, goals in ways.items()}
        lines.append(line)
    return pd.DataFrame(lines)


def table(name: str = "tab-results-candidates") -> str:
    """Every candidate and what it returns; a page beside this one needs another name."""
    rows = {row: about(row).what for row in ROWS if is_candidate(row)} | LONG_ROWS
    lines = [_line(row, words) for row, words in rows.items()]
    for (source, iteration, bound), steps in published().groupby(
        ["source", "iteration", "max_kl"], sort=False
    ):
        value = steps.set_index("step").value
        cell = fixed(value[1], 0)
        what = f"published, {source}, KL bound {bound:g}"
        lines.append({"changed": what, f"iteration {iteration}": cell})
    caption = (
        "HalfCheetah direction, one change at a time (elliptic cones with PGS: two): return after the inner "
        f"step, a mean of the {WINDOW} iterations that end at the one named; of several seeds (0, 1, ...) "
        "their mean, and in brackets their range. Beyond the clip: share of the steps before the inner step "
        f"with an observation beyond ±10, up to iteration {ITERATIONS}, where it was logged. Processor: on "
        "another one sums round otherwise, so that a seed is another run. What was published are tests of "
        "one policy."
    )
    columns = ["changed", "seeds", *(f"iteration {k}" for k in AT), "beyond the clip", "processor"]
    lines = [{column: line.get(column, "") for column in columns} for line in lines]
    return numbered(lines, caption, name, ["seeds", *(f"iteration {k}" for k in AT), "beyond the clip"])


def _line(name: str, what: str) -> dict[str, str]:
    state = state_of(name)
    line = {"changed": what if state == "complete" else f"{what} {badge(state)} `{name}`", "seeds": ""}
    for iteration in AT:
        if len(found := measured(name, iteration)):
            line |= {f"iteration {iteration}": _over_seeds(found.after)}
            line["seeds"] = line["seeds"] or str(len(found))
            line["processor"] = "; ".join(
                f"{maker} ({', '.join(map(str, of.seed))})" if found.processor.nunique() > 1 else maker
                for maker, of in found.groupby(found.processor.str.split().str[0], sort=False)
            )
            if iteration == ITERATIONS and found.beyond.notna().all():
                line["beyond the clip"] = f"{100 * found.beyond.mean():.0f} %"
    return line


def task_mix() -> str:
    """What another share of forward goals does: item 19 of the deviations."""
    return _effect(
        {"candidate-forward-57": "57 % of the goals forward", "candidate-forward-80": "80 % of them forward"}
    )


def solver() -> str:
    """What the older solver and its cone do: item 21 of the deviations."""
    words = {
        "candidate-pgs": "projected Gauss-Seidel",
        "candidate-elliptic": "projected Gauss-Seidel and elliptic cones",
    }
    return _effect(words)


def _effect(changes: dict[str, str]) -> str:
    """Returns of changed rows at the last iteration, and the authors' of the same seeds, run by run."""
    alike = [measured(name, ITERATIONS) for name in (AUTHORS, AGAIN, AS_AUTHORS)]
    parts: list[str] = []
    shown: set[int] = set()
    authors = pd.concat([each for each in alike if len(each)] or alike)
    for name, words in changes.items():
        found = measured(name, ITERATIONS)
        found = found[found.seed.isin(authors.seed)]
        if len(found):
            which = f"seed{'s' if len(found) > 1 else ''} {', '.join(map(str, found.seed))}"
            where = ", ".join(found.processor.unique())
            parts.append(f"{_over_seeds(found.after)} with {words} ({which}, {where})")
            shown.update(found.seed)
    if not parts:
        return measured_effect([])
    of_authors = authors[authors.seed.isin(shown)].sort_values("seed", kind="stable")
    runs = " and ".join(
        f"{fixed(run.after, 0)} (seed {run.seed}, {run.processor})" for run in of_authors.itertuples()
    )
    where = "HalfCheetah direction, return of training after the inner step, up to iteration"
    parts = [f"{where} {ITERATIONS}: {'; '.join(parts)}. With the authors' settings: {runs}."]
    if of_authors.seed.duplicated().any():
        again = "Where one seed has several numbers, its sums were rounded otherwise"
        parts.append(f"{again} ([chapter 6](../notebooks/06-locomotion.ipynb)).")
    return measured_effect([*parts, "See {numref}`tab-results-candidates`."])
