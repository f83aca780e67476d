"""The looks of the book's figures, and those of regression. No torch here.

Each function draws one kind of picture on given axes.

Colours are Okabe and Ito's, which people with any of the common kinds of colour blindness can tell
apart; line style or marker says the same again wherever two curves can be confused.
"""

__all__ = [
    "COLOURS",
    "METHOD_STYLES",
    "ON_WHITE",
    "adaptation_curve",
    "check_looks",
    "curve_of",
    "learning_curve",
    "mean_curve",
    "regression_fits",
    "scaling",
    "style_of",
    "use_style",
]

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter
from numpy.typing import ArrayLike

from mamlkit.measures import Z95
from mamlkit.report import committed, narrow

ON_WHITE = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # a box for words that a line would cross
COLOURS = {
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "green": "#009E73",
    "orange": "#E69F00",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "black": "#000000",
    "grey": "#7F7F7F",
}

# One look per method through the whole book.
METHOD_STYLES: dict[str, dict[str, Any]] = {
    "MAML": {"color": COLOURS["blue"], "linestyle": "-", "marker": "o"},
    "MAML, usual head and loss": {"color": COLOURS["black"], "linestyle": "--", "marker": "H"},
    "MAML, unclipped": {"color": COLOURS["purple"], "linestyle": "-.", "marker": "P"},
    "MAML, ratios": {"color": COLOURS["orange"], "linestyle": "-", "marker": "v"},
    "MAML, first order": {"color": COLOURS["sky"], "linestyle": "--", "marker": "s"},
    "pretrained": {"color": COLOURS["vermillion"], "linestyle": "-", "marker": "^"},
    "oracle": {"color": COLOURS["green"], "linestyle": "-", "marker": "D"},
    "random initialisation": {"color": COLOURS["grey"], "linestyle": ":", "marker": "x"},
    "paper": {"color": COLOURS["black"], "linestyle": "none", "marker": "*"},
}


def style_of(method: str) -> dict[str, Any]:
    """The look of a method: its own in :data:`METHOD_STYLES`, else one that its name decides.

    So a method that is new to the book can be drawn at once, and looks the same in every figure.

    >>> style_of("MAML")["marker"], style_of("my method") == style_of("my method")
    ('o', True)
    """
    if method in METHOD_STYLES:
        return METHOD_STYLES[method]
    choice = zlib.crc32(method.encode())
    colours, markers = ["purple", "sky", "orange", "black"], "pXh<>d"
    colour, marker = colours[choice % len(colours)], markers[choice // 7 % len(markers)]
    return {"color": COLOURS[colour], "linestyle": (0, (4, 1)), "marker": marker}


def use_style() -> None:
    """Set how every figure of the book looks: sizes, palette, white ground."""
    palette = [COLOURS[name] for name in ("blue", "vermillion", "green", "orange", "purple", "sky", "black")]
    mpl.rcParams.update(
        {
            "figure.dpi": 120,
            "savefig.dpi": "figure",
            "figure.figsize": (6.4, 3.6),
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "figure.constrained_layout.use": True,
            "axes.prop_cycle": cycler(color=palette),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#E3E3E3",
            "grid.linewidth": 0.7,
            "axes.axisbelow": True,
            "font.size": 10,
            "axes.titlesize": 10,
            "axes.labelsize": 10,
            "legend.fontsize": 9,
            "legend.frameon": False,
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
            "lines.linewidth": 1.6,
            "lines.markersize": 4.5,
            "image.cmap": "cividis",
            "svg.hashsalt": "mamlkit",  # so that a figure comes out byte for byte the same
        }
    )
    narrow.keep_both_forms()


def check_looks(looks: Sequence[Any], curves: Mapping[Any, Any]) -> None:
    """``ValueError`` for more curves than there are looks for: none is left out of a figure unsaid."""
    if len(curves) > len(looks):
        raise ValueError(
            f"{len(curves)} curves came ({', '.join(map(str, curves))}), but {len(looks)} can be told apart "
            "in one panel; draw the others on other axes"
        )


def learning_curve(ax: Axes, log: pd.DataFrame, method: str, *, quantity: str = "meta-loss") -> None:
    """A training curve.

    Args:
        ax: where to draw.
        log: lines of ``metrics.csv`` (``Fit.log``): ``iteration`` and ``meta_loss``.
        method: shown in the legend, and decides the look (:func:`style_of`).
        quantity: its name and unit, on the axis.
    """
    ax.plot(log["iteration"], log["meta_loss"], **style_of(method) | {"marker": ""}, label=method)
    ax.set(xlabel="iteration", ylabel=quantity)
    ax.legend()


def mean_curve(found: Sequence[Mapping[str, Any]], evaluation: str, metric: str) -> pd.DataFrame:
    """A row's error after 0, 1, ... inner steps, from its committed results (``results.load``).

    Of the seeds that its number in the tables is of: the finished ones, or else all, and none at all if one
    is of other settings than the row has now.

    Returns:
        One line per inner step: ``value``, the mean over test tasks and seeds; ``ci95``, half the 95 %
        interval over test tasks, averaged over the seeds, which is at least that of the mean; and one
        column ``seed<k>`` per seed. No lines if nothing was run.
    """
    whole = [dict(result) for result in found]
    return _mean(committed.counted([] if any(map(committed.stale, whole)) else whole), evaluation, metric)


def curve_of(result: Mapping[str, Any], evaluation: str, metric: str) -> pd.DataFrame:
    """As :func:`mean_curve` of one result as it is: of any settings and scale, also from a run folder."""
    return _mean([result], evaluation, metric)


def _mean(found: Sequence[Mapping[str, Any]], evaluation: str, metric: str) -> pd.DataFrame:
    curves = [result["evaluations"][evaluation][metric] for result in found]
    if not curves:
        return pd.DataFrame({"value": [], "ci95": []})
    means = np.array([curve["mean"] for curve in curves])
    counts = [curve["tasks"] - np.array(curve["diverged"]) for curve in curves]
    ci95 = np.array(
        [Z95 * np.array(curve["sd"]) / np.sqrt(np.maximum(count, 1)) for curve, count in zip(curves, counts)]
    )
    seeds = {f"seed{result['seed']}": mean for result, mean in zip(found, means)}
    return pd.DataFrame({"value": means.mean(0), "ci95": ci95.mean(0)} | seeds)


def adaptation_curve(ax: Axes, method: str, curve: pd.DataFrame) -> None:
    """Query error after 0, 1, ... inner steps, with its interval; single seeds as thin lines.

    Args:
        ax: where to draw.
        method: shown in the legend, and decides the look (:func:`style_of`).
        curve: as :func:`mean_curve` gives; without lines the legend says that the row was not run.
    """
    style = style_of(method)
    ax.plot(curve.index, curve["value"], **style, label=method if len(curve) else f"{method} (not run)")
    low, high = curve["value"] - curve["ci95"], curve["value"] + curve["ci95"]
    ax.fill_between(curve.index, low, high, color=style["color"], alpha=0.2, linewidth=0)
    for seed in (c for c in curve.columns if c.startswith("seed")):
        ax.plot(curve.index, curve[seed], color=style["color"], linewidth=0.6, alpha=0.7)
    ax.set(xlabel="inner steps", ylabel="mean squared error")
    ax.locator_params(axis="x", integer=True)


def regression_fits(
    ax: Axes,
    x: ArrayLike,
    truth: ArrayLike,
    support: tuple[ArrayLike, ArrayLike],
    fits: Mapping[int, ArrayLike],
) -> None:
    """One regression task: its function, the support points, and the fits after some inner steps.

    Args:
        ax: where to draw.
        x: inputs, ``[points]``, in radians.
        truth: the task's function at ``x``.
        support: inputs and targets of the support points.
        fits: number of inner steps to the network's outputs at ``x``; three at most.

    Raises:
        ValueError: more fits than can be told apart.
    """
    looks = [("grey", ":", 1.6), ("orange", "--", 1.6), ("blue", "-", 1.8)]
    check_looks(looks, fits)
    ax.plot(x, truth, color=COLOURS["black"], linewidth=3.5, alpha=0.22, label="task")
    for (steps, outputs), (colour, line, width) in zip(sorted(fits.items()), looks, strict=False):
        label = "before" if steps == 0 else f"{steps} step{'s' if steps > 1 else ''}"
        ax.plot(x, outputs, color=COLOURS[colour], linestyle=line, linewidth=width, label=label)
    points: dict[str, Any] = {"marker": "^", "linestyle": "none", "markersize": 7}
    points |= {"color": COLOURS["purple"], "markeredgecolor": "black", "markeredgewidth": 0.6}
    ax.plot(*support, **points, label="support", zorder=5)
    ax.set(xlabel="x (rad)", ylabel="y")


# One look per way to compute a meta-gradient.
WAY_STYLES: dict[str, dict[str, Any]] = {
    "mamlkit": {"color": COLOURS["blue"], "linestyle": "-", "marker": "o"},
    "loop": {"color": COLOURS["vermillion"], "linestyle": "--", "marker": "^"},
    "torch.func vmap": {"color": COLOURS["green"], "linestyle": "-.", "marker": "s"},
}


def scaling(ax: Axes, lines: pd.DataFrame, quantity: str, cost: str = "ms") -> None:
    """Time or memory against a quantity on logarithmic axes.

    A dotted line of slope one goes through our first point.

    Args:
        ax: where to draw.
        lines: ``value``, ``way`` (a key of :data:`WAY_STYLES`) and the cost.
        quantity: what ``value`` counts, on the axis.
        cost: column of ``lines``.
    """
    for way, style in WAY_STYLES.items():
        line = lines[lines["way"] == way].sort_values("value")
        ax.plot(line["value"], line[cost], **style, label=way)
        if way == "mamlkit":
            ends = line["value"].iloc[[0, -1]].to_numpy(float)
            in_proportion = line[cost].iloc[0] * ends / ends[0]
            ax.plot(ends, in_proportion, ":", color=COLOURS["grey"], label="in proportion")
    ax.set(xscale="log", yscale="log", xlabel=quantity)
    ax.xaxis.set_major_locator(FixedLocator(sorted(lines["value"].unique())))
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.xaxis.set_minor_locator(NullLocator())
