"""The paper's numbers with ours beside them: differences, their intervals, verdicts. No torch here."""

__all__ = ["table", "table_text"]

import math
from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mamlkit.measures import seeds_kept
from mamlkit.report.results import (
    Summary,
    directions,
    load,
    per_task_errors,
    published,
    student,
    summary,
    without_result,
)
from mamlkit.report.verdicts import NOT_JUDGED, WORDS, margin, paper_curves, verdict

# Columns that are empty for a number that we have none beside.
OURS = (
    "ours",
    "ours_ci95",
    "deciding_ci95",
    "seed_sd",
    "seed_ci95",
    "seeds",
    "difference",
    "difference_ci95",
    "forward",
    "forward_ci95",
    "backward",
    "backward_ci95",
    "origin",
    "diverged",
    "tasks",
    "median",
    "one_ci95",
    "task_verdict",
)
PUBLISHED_TASKS = {"mse": 600, "return": 40}  # of the paper's means that it prints without an interval


class Difference(NamedTuple):
    """Ours less the paper's, and half of its 95 % intervals: the one that decides, and that over tasks."""

    value: float
    ci95: float
    over_tasks: float


def table(lines: pd.DataFrame | None = None, seeds: Collection[int] | None = None) -> pd.DataFrame:
    """Published numbers with ours, the difference, its 95 % interval, the verdict and the origin.

    Args:
        lines: of :func:`mamlkit.report.results.published`, perhaps with another ``row`` of ours to compare
            with, and ``varied`` where ours is of another algorithm or network, which is not judged; all as
            they are if None.
        seeds: of ours; all that count if None.

    Our interval that decides, ``deciding_ci95``, is the wider of that over tasks and, where there are several
    seeds, that over seeds. The interval of the difference is this one together with the paper's; where the
    paper prints none, with that of one training of ours on as many tasks (``paper_ci95``). Where both sides
    were tested on the same goals, that over tasks is of the difference goal by goal, since what makes a goal
    hard is no chance there. Of two directions it is that within each, and where the paper has one return for
    all goals of a direction, its chance is that of one return of ours. ``task_verdict`` leaves seeds out.

    Where the tasks are two directions, the verdict is the worse of those on each (``forward`` and
    ``backward`` are the differences there): too much in one must not pay for too little in the other.
    The mean over both of a policy that has not been told one is not judged: whatever it does, it gains in
    one of them what it loses in the other, so that the number says only what moving costs. Nor is what comes
    of a pretrained one there: how far it leans to one side, before its steps and after, is an accident of its
    training. Nor is a network that was not trained, of which both sides have drawn one.
    """
    paper, found = published(), []
    drawn = paper_curves(paper)
    for _, line in (paper if lines is None else lines).iterrows():
        ours = None
        if line.row:
            ours = summary(line.row, line.evaluation, int(line.step), line.metric, seeds)
        entry = {k: line[k] for k in ("place", "setting", "method", "step", "metric", "note")}
        entry |= {"paper": line.value, "paper_ci95": line.ci95, "margin": margin(line, drawn)}
        entry |= {"verdict": "not run"} | dict.fromkeys(OURS, math.nan)
        if ours:
            theirs = _of_paper(line, ours)
            whole, ways = _differences(line, ours, theirs)
            entry |= {"ours": ours.value, "ours_ci95": ours.ci95, "deciding_ci95": ours.deciding_ci95}
            entry |= {"seed_sd": ours.seed_sd, "seed_ci95": ours.seed_ci95, "seeds": len(ours.seeds)}
            entry |= {"paper_ci95": theirs, "difference": whole.value, "difference_ci95": whole.ci95}
            entry |= {f"{way}{end}": v for way, d in ways.items() for end, v in zip(("", "_ci95"), d)}
            entry |= {"origin": ours.origin}
            entry |= {"diverged": ours.diverged, "tasks": ours.tasks * len(ours.seeds)}
            entry |= {"median": ours.median, "one_ci95": ours.one_ci95}
            judged = [*ways.values()] or [whole]
            entry["verdict"] = _worst([(d.value, d.ci95) for d in judged], entry["margin"])
            entry["task_verdict"] = _worst([(d.value, d.over_tasks) for d in judged], entry["margin"])
            leans = bool(ways) and (line.step == 0 or line.method == "pretrained")
            if (leans and line.method != "oracle") or line.varied or line.method == "random":
                entry["verdict"] = NOT_JUDGED
            if ours.done < ours.total:
                entry["verdict"] = f"partial ({ours.done:,} of {ours.total:,})"
        elif line.row:
            entry["verdict"] = "stale" if load(line.row) else without_result(line.row)
        found.append(entry)
    return pd.DataFrame(found)


def _worst(found: list[tuple[float, float]], margin: float) -> str:
    """The worst verdict on some differences and their intervals; what is not finite differs."""
    words = [verdict(value, ci95, margin) if math.isfinite(value) else WORDS[-1] for value, ci95 in found]
    return max(words, key=WORDS.index)


def _of_paper(line: pd.Series, ours: Summary) -> float:
    """The half-width of a published number's interval."""
    if not math.isnan(line.ci95):
        return float(line.ci95)
    return ours.one_ci95 * math.sqrt(ours.tasks / PUBLISHED_TASKS[line.metric])


def _differences(line: pd.Series, ours: Summary, theirs: float) -> tuple[Difference, dict[str, Difference]]:
    """From a published number; and in direction tasks in each direction."""
    value = ours.value - line.value
    kept = [seed for seed in ours.seeds if seed < seeds_kept(line.row)]
    if line.by_goal is None or not kept or ours.tasks != len(line.by_goal):
        return Difference(value, math.hypot(ours.deciding_ci95, theirs), math.hypot(ours.ci95, theirs)), {}
    each = [per_task_errors(line.row, seed, line.evaluation, line.metric)[:, line.step] for seed in kept]
    found, paper = np.stack(each), np.array(line.by_goal)
    ways = directions(line.setting) if line.setting.endswith("direction") else {}
    parts = {way: _of_goals(found[:, goals], paper[goals]) for way, goals in ways.items()}
    if not parts:
        over_tasks = _of_goals(found, paper).over_tasks
    else:  # both sides have the same goals of either: how many is no chance
        shares = [goals.mean() for goals in ways.values()]
        over_tasks = math.hypot(*(share * d.over_tasks for share, d in zip(shares, parts.values())))
    return Difference(value, float(np.fmax(over_tasks, ours.seed_ci95)), over_tasks), parts


def _of_goals(found: NDArray[np.float64], paper: NDArray[np.float64]) -> Difference:
    """Of returns ``[seeds, goals]`` from published ones ``[goals]`` on the same goals."""
    away = found.mean(0) - paper
    over_goals = student(away)[1]
    if np.ptp(paper) == 0:  # one return, which stands for all goals
        one = math.sqrt(len(paper)) * np.array([student(of_seed)[1] for of_seed in found])
        over_goals = math.hypot(over_goals, math.sqrt((one**2).mean()))
    return Difference(float(away.mean()), float(np.fmax(over_goals, student(found.mean(1))[1])), over_goals)


def table_text() -> str:
    """:func:`table` as plain text for a terminal, followed by the origins of our numbers."""
    found = table()
    number = lambda value, ci95: (
        "" if pd.isna(value) else f"{value:.2f}" + ("" if pd.isna(ci95) else f" ± {ci95:.2f}")
    )
    shown = found[["place", "setting", "method", "step", "metric"]].copy()
    shown["step"] = found.step.map(lambda s: "" if pd.isna(s) else str(s))
    for name in ("paper", "ours", "difference"):
        shown[name] = [number(v, c) for v, c in zip(found[name], found[f"{name}_ci95"])]
    shown["verdict"] = found.verdict
    origins = found.origin.dropna().unique()
    return "\n".join([shown.to_string(index=False), "", "Origins:", *(f"  {origin}" for origin in origins)])
