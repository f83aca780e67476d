"""The paper's numbers with ours beside them: differences, their intervals, verdicts. No torch here."""

__all__ = ["table", "table_text"]

import math

import numpy as np
import pandas as pd

from mamlkit.measures import Z95, seeds_kept
from mamlkit.report.results import (
    Summary,
    directions,
    load,
    per_task_errors,
    published,
    summary,
    without_result,
)
from mamlkit.report.verdicts import NOT_JUDGED, margin, paper_curves, verdict


def table(lines: pd.DataFrame | None = None) -> pd.DataFrame:
    """Published numbers with ours, the difference, its 95 % interval, the verdict and the origin.

    Args:
        lines: of :func:`mamlkit.report.results.published`, perhaps with another ``row`` of ours to compare
            with, and ``varied`` where ours is of another algorithm or network, which is not judged; all as
            they are if None.

    Our interval that decides, ``deciding_ci95``, is the wider of that over tasks and, where there are several
    seeds, that over seeds. The interval of the difference is this one together with the paper's where it
    gives one. Where both sides were tested on the same goals, that over tasks is of the difference goal by
    goal, since what makes a goal hard is no chance there; of two directions it is that within each.
    ``difference_task_ci95`` leaves seeds out.

    The mean over both directions of a policy that has not been told one is not judged: whatever it does, it
    gains in one of them what it loses in the other, so that the number says only what moving costs.
    """
    paper, found = published(), []
    drawn = paper_curves(paper)
    for _, line in (paper if lines is None else lines).iterrows():
        ours = summary(line.row, line.evaluation, int(line.step), line.metric) if line.row else None
        entry = {k: line[k] for k in ("place", "setting", "method", "step", "metric", "note")}
        entry |= {"paper": line.value, "paper_ci95": line.ci95, "margin": margin(line, drawn)}
        entry["verdict"] = "not run"
        if ours:
            difference = ours.value - line.value
            ci95, over_tasks = _of_difference(line, ours)
            entry |= {"ours": ours.value, "ours_ci95": ours.ci95, "deciding_ci95": ours.deciding_ci95}
            entry |= {"seed_sd": ours.seed_sd, "seed_ci95": ours.seed_ci95, "seeds": len(ours.seeds)}
            entry |= {"difference": difference, "difference_ci95": ci95, "origin": ours.origin}
            entry |= {"difference_task_ci95": over_tasks}
            entry |= {"diverged": ours.diverged, "tasks": ours.tasks * len(ours.seeds)}
            entry |= {"median": ours.median, "one_ci95": ours.one_ci95}
            entry["verdict"] = (
                verdict(difference, ci95, entry["margin"]) if math.isfinite(difference) else "differs"
            )
            untold = line.setting.endswith("direction") and line.step == 0 and line.method != "oracle"
            if untold or line.varied:
                entry["verdict"] = NOT_JUDGED
            if ours.done < ours.total:
                entry["verdict"] = f"partial ({ours.done:,} of {ours.total:,})"
        elif line.row:
            entry["verdict"] = "stale" if load(line.row) else without_result(line.row)
        found.append(entry)
    return pd.DataFrame(found)


def _of_difference(line: pd.Series, ours: Summary) -> tuple[float, float]:
    """Half-widths of the difference from a published number: the one that decides, and over tasks alone."""
    kept = [seed for seed in ours.seeds if seed < seeds_kept(line.row)]
    if line.by_goal is None or not kept or ours.tasks != len(line.by_goal):
        paper = 0.0 if math.isnan(line.ci95) else line.ci95
        return math.hypot(ours.deciding_ci95, paper), math.hypot(ours.ci95, paper)
    found = [per_task_errors(line.row, seed, line.evaluation, line.metric)[:, line.step] for seed in kept]
    away = np.mean(found, axis=0) - line.by_goal
    if line.setting.endswith("direction"):  # both sides have the same goals of either: that is no chance
        for goals in directions(line.setting).values():
            away[goals] -= away[goals].mean()
    over_goals = Z95 * float(away.std()) / math.sqrt(len(away))
    return float(np.fmax(over_goals, ours.seed_ci95)), over_goals


def table_text() -> str:
    """:func:`table` as plain text for a terminal, followed by the origins of our numbers."""
    found = table()
    number = lambda value, ci95: (
        "" if pd.isna(value) else f"{value:.2f}" + ("" if pd.isna(ci95) else f" ± {ci95:.2f}")
    )
    column = lambda name: found[name] if name in found else pd.Series(math.nan, index=found.index)
    shown = found[["place", "setting", "method", "step", "metric"]].copy()
    shown["step"] = found.step.map(lambda s: "" if pd.isna(s) else str(s))
    for name in ("paper", "ours", "difference"):
        shown[name] = [number(v, c) for v, c in zip(column(name), column(f"{name}_ci95"))]
    shown["verdict"] = found.verdict
    origins = column("origin").dropna().unique()
    return "\n".join([shown.to_string(index=False), "", "Origins:", *(f"  {origin}" for origin in origins)])
