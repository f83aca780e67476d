"""The figures of the reinforcement-learning chapters. No torch here.

They are like those of :mod:`mamlkit.report.plots`, and in its looks.
"""

__all__ = [
    "STEP_STYLES",
    "candidate_returns",
    "goal_returns",
    "return_curves",
    "training_returns",
    "trajectories",
]

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from mamlkit.report.plots import COLOURS, METHOD_STYLES, style_of

# One look per number of gradient steps.
STEP_STYLES: tuple[dict[str, Any], ...] = (
    {"color": COLOURS["grey"], "linestyle": ":", "label": "before"},
    {"color": COLOURS["orange"], "linestyle": "--", "label": "1 step"},
    {"color": COLOURS["sky"], "linestyle": "-.", "label": "2 steps"},
    {"color": COLOURS["blue"], "linestyle": "-", "label": "3 steps"},
)

STEPS = len(STEP_STYLES) - 1  # the last one on an axis

# One look per candidate.
CANDIDATE_STYLES: tuple[tuple[str, str], ...] = (
    ("vermillion", "-"),
    ("green", "-"),
    ("orange", "-"),
    ("purple", "--"),
    ("sky", "--"),
    ("black", "-."),
    ("grey", "-."),
    ("vermillion", ":"),
    ("green", ":"),
    ("purple", "-"),
)

# One colour per goal.
GOAL_COLOURS = ("blue", "vermillion", "green", "purple")


def _curve(ax: Axes, curve: pd.DataFrame, style: dict[str, Any], shade: float, **look: Any) -> None:
    """Returns with their interval.

    A single one, of a policy that is not adapted, is a level through the panel.
    """
    at, value, ci95 = (np.asarray(each, dtype=float) for each in (curve.index, curve["value"], curve["ci95"]))
    if len(curve) == 1:
        at, value, ci95, look = np.array([0, STEPS]), value.repeat(2), ci95.repeat(2), look | {"marker": ""}
    ax.plot(at, value, **style | look)
    ax.fill_between(at, value - ci95, value + ci95, color=style["color"], alpha=shade, linewidth=0)


def return_curves(
    ax: Axes,
    ours: Mapping[str, pd.DataFrame],
    paper: Mapping[str, pd.DataFrame],
    unfinished: Mapping[str, str] | None = None,
) -> None:
    """Returns after 0, 1, ... gradient steps: ours full, with intervals, the paper's dashed and hollow.

    Ours are in long dashes where the run is not at its end.

    Args:
        ax: where to draw.
        ours: method to a frame with ``value`` and ``ci95``, indexed by step; without lines the legend says
            that it was not run.
        paper: the same of the published returns; methods that the paper does not plot may be missing.
        unfinished: method to how far its run has come, such as ``16 of 500``, for the legend; empty if it is
            at its end.
    """
    for method, curve in ours.items():
        state = (unfinished or {}).get(method)
        style = style_of(method) | {"linestyle": (0, (7, 3)) if state else "-", "zorder": 3}
        if len(curve):
            _curve(ax, curve, style, shade=0.2, label=f"{method} ({state})" if state else method)
        else:
            ax.plot([], [], **style, label=f"{method} (not run)")
    hollow = {"linestyle": "--", "linewidth": 1.1, "markerfacecolor": "white"}
    for method, curve in paper.items():
        if len(curve):
            _curve(ax, curve, style_of(method) | hollow, shade=0.07, label=f"{method}, paper")
    ax.set(xlabel="gradient steps", ylabel="return", xticks=range(STEPS + 1))


def training_returns(ax: Axes, log: pd.DataFrame, *, window: int = 1, blind: float | None = None) -> None:
    """Mean returns in the course of MAML's training, before the inner step and, where there is one, after it.

    Args:
        ax: where to draw.
        log: lines of ``metrics.csv``: ``iteration``, ``return_before`` and perhaps ``return_after``.
        window: iterations of a running mean, drawn over the thin single values; 1 draws these alone.
        blind: the most that a policy can expect which is blind to its task, a dashed line.
    """
    colour = METHOD_STYLES["MAML"]["color"]
    after = "return_after" in log and log["return_after"].notna().any()
    looks = {"return_before": (":", "MAML, before the inner step"), "return_after": ("-", "MAML, after it")}
    looks = looks if after else {"return_before": ("-", "MAML")}
    for column, (line, label) in looks.items():
        values = log[column]
        if window > 1:
            ax.plot(log["iteration"], values, color=colour, linewidth=0.6, alpha=0.3)
            values = values.rolling(window, min_periods=1).mean()
        ax.plot(log["iteration"], values, color=colour, linestyle=line, label=label)
    if blind is not None:
        ax.axhline(blind, color=COLOURS["black"], linestyle="--", linewidth=0.9, label="best blind policy")
    ax.set(xlabel="iteration", ylabel="return")


def candidate_returns(
    ax: Axes, authors: pd.DataFrame, changed: Mapping[str, pd.DataFrame], published: pd.DataFrame
) -> None:
    """Return after the inner step in the course of training: with the authors' settings, changed, published.

    Args:
        ax: where to draw.
        authors: ``seed``, ``iteration``, ``after``; each seed is a thin black line.
        changed: what is changed to a frame alike, whose mean over its seeds is drawn, as far as all of them
            have come; one without lines is left out.
        published: ``iteration``, ``step``, ``value``; those after one step are stars, as far as the lines go.
    """
    for number, (_, of_seed) in enumerate(authors.groupby("seed")):
        label = "" if number else "the authors' settings, each seed"
        ax.plot(of_seed.iteration, of_seed.after, color=COLOURS["black"], linewidth=0.9, label=label)
    for number, (what, found) in enumerate(changed.items()):
        if len(found):
            mean = found.pivot(index="iteration", columns="seed", values="after").mean(axis=1, skipna=False)
            colour, line = CANDIDATE_STYLES[number % len(CANDIDATE_STYLES)]
            ax.plot(mean.index, mean, color=COLOURS[colour], linestyle=line, label=what)
    last = max((frame.iteration.max() for frame in (authors, *changed.values()) if len(frame)), default=100)
    stars = published[(published.step == 1) & (published.iteration <= 1.1 * last)]
    ax.plot(stars.iteration, stars.value, label="published", **METHOD_STYLES["paper"] | {"markersize": 9})
    ax.set(xlabel="iteration", ylabel="return after the inner step", xlim=(0, 1.1 * last))


def trajectories(ax: Axes, goals: ArrayLike, ways: Sequence[ArrayLike]) -> None:
    """Ways of a point from the origin to goals in the plane, each in the colour of its goal.

    The square is that which goals are drawn from.

    Args:
        ax: where to draw.
        goals: where they should go, ``[goals, 2]``, as many as there are colours at most.
        ways: one for each goal, ``[points, 2]``.
    """
    goals = np.asarray(goals, dtype=float)
    if len(ways) != len(goals) or len(goals) > len(GOAL_COLOURS):
        raise ValueError(
            f"{len(ways)} ways to {len(goals)} goals, but each goal has one way, and {len(GOAL_COLOURS)} can "
            "be told apart"
        )
    ax.add_patch(Rectangle((-0.5, -0.5), 1, 1, fill=False, edgecolor="#555555", linewidth=1.2))
    star: dict[str, Any] = {"marker": "*", "markersize": 12}
    star |= {"markeredgecolor": "black", "markeredgewidth": 0.6}
    for name, goal, way in zip(GOAL_COLOURS, goals, ways):
        ax.plot(*np.asarray(way, dtype=float).T, color=COLOURS[name], linewidth=0.9)
        ax.plot(*goal, color=COLOURS[name], linestyle="none", zorder=5, **star)
    ax.plot(0, 0, marker="s", color=COLOURS["black"], linestyle="none", markersize=4)
    ax.set(xlabel="$x$", ylabel="$y$", aspect="equal")


def goal_returns(ax: Axes, goals: ArrayLike, returns: ArrayLike) -> None:
    """The return of each test goal, a velocity, after 0, 1, ... gradient steps, against the goal.

    Args:
        ax: where to draw.
        goals: ``[tasks]``.
        returns: ``[tasks, steps]``, four steps at most.
    """
    goals, returns = np.asarray(goals, dtype=float), np.asarray(returns, dtype=float)
    if returns.ndim != 2 or len(returns) != len(goals) or returns.shape[1] > len(STEP_STYLES):
        raise ValueError(
            f"returns have shape {returns.shape} for {len(goals)} goals; give [tasks, steps], steps "
            f"at most {len(STEP_STYLES)}"
        )
    order = np.argsort(goals)
    for style, marker, values in zip(STEP_STYLES, "xs^o", returns.T):
        # marks alone: goals are a sample, and what is between two of them was not tested
        ax.plot(goals[order], values[order], marker=marker, markersize=3.5, **style | {"linestyle": "none"})
    ax.set(xlabel="goal velocity (m/s)", ylabel="return")
