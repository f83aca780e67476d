"""The figures of the book: each function draws one kind of picture on given axes. No torch here.

Colours are Okabe and Ito's, which people with any of the common kinds of colour blindness can tell
apart; line style or marker says the same again wherever two curves can be confused.
"""

__all__ = [
    "COLOURS",
    "METHOD_STYLES",
    "accuracy_curves",
    "adaptation_curve",
    "class_probabilities",
    "drawings",
    "learning_curve",
    "mean_curve",
    "regression_fits",
    "scaling",
    "use_style",
]

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter
from numpy.typing import ArrayLike

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
    "MAML, unclipped": {"color": COLOURS["purple"], "linestyle": "-.", "marker": "P"},
    "MAML, ratios": {"color": COLOURS["orange"], "linestyle": "-", "marker": "v"},
    "MAML, first order": {"color": COLOURS["sky"], "linestyle": "--", "marker": "s"},
    "pretrained": {"color": COLOURS["vermillion"], "linestyle": "-", "marker": "^"},
    "oracle": {"color": COLOURS["green"], "linestyle": "-", "marker": "D"},
    "random initialisation": {"color": COLOURS["grey"], "linestyle": ":", "marker": "x"},
    "paper": {"color": COLOURS["black"], "linestyle": "none", "marker": "*"},
}


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


def learning_curve(
    ax: Axes, log: pd.DataFrame, method: str, *, column: str = "meta_loss", quantity: str = "meta-loss"
) -> None:
    """A training curve.

    Args:
        ax: where to draw.
        log: lines of ``metrics.csv`` (``Fit.log``): ``iteration`` and the column to show.
        method: a key of :data:`METHOD_STYLES`, shown in the legend.
        column: what to show; lines without a value are left out.
        quantity: its name and unit, on the axis.
    """
    shown = log[log[column].notna()]
    ax.plot(shown["iteration"], shown[column], **METHOD_STYLES[method] | {"marker": ""}, label=method)
    ax.set(xlabel="iteration", ylabel=quantity)
    ax.legend()


def mean_curve(found: Sequence[Mapping[str, Any]], evaluation: str, metric: str) -> pd.DataFrame:
    """A row's error after 0, 1, ... inner steps, from its committed results (``results.load``).

    Returns:
        One line per inner step: ``value``, the mean over test tasks and seeds; ``ci95``, half the 95 %
        interval over test tasks, averaged over the seeds, which is at least that of the mean; and one
        column ``seed<k>`` per seed. No lines if nothing was run.
    """
    curves = [result["evaluations"][evaluation][metric] for result in found]
    if not curves:
        return pd.DataFrame({"value": [], "ci95": []})
    means = np.array([curve["mean"] for curve in curves])
    ci95 = np.array([1.96 * np.array(curve["sd"]) / np.sqrt(curve["tasks"]) for curve in curves])
    seeds = {f"seed{result['seed']}": mean for result, mean in zip(found, means)}
    return pd.DataFrame({"value": means.mean(0), "ci95": ci95.mean(0)} | seeds)


def adaptation_curve(
    ax: Axes, method: str, curve: pd.DataFrame, *, quantity: str = "mean squared error"
) -> None:
    """Error on query examples after 0, 1, ... inner steps, with its interval; single seeds as thin lines.

    Args:
        ax: where to draw.
        method: a key of :data:`METHOD_STYLES`, shown in the legend.
        curve: as :func:`mean_curve` gives; without lines the legend says that the row was not run.
        quantity: its name and unit, on the axis.
    """
    style = METHOD_STYLES[method]
    ax.plot(curve.index, curve["value"], **style, label=method if len(curve) else f"{method} (not run)")
    ax.fill_between(
        curve.index,
        curve["value"] - curve["ci95"],
        curve["value"] + curve["ci95"],
        color=style["color"],
        alpha=0.2,
        linewidth=0,
    )
    for seed in (c for c in curve.columns if c.startswith("seed")):
        ax.plot(curve.index, curve[seed], color=style["color"], linewidth=0.6, alpha=0.7)
    ax.set(xlabel="inner steps", ylabel=quantity)
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
    """
    looks = [("grey", ":", 1.6), ("orange", "--", 1.6), ("blue", "-", 1.8)]
    ax.plot(x, truth, color=COLOURS["black"], linewidth=3.5, alpha=0.22, label="task")
    for (steps, outputs), (colour, line, width) in zip(sorted(fits.items()), looks, strict=False):
        label = "before" if steps == 0 else f"{steps} step{'s' if steps > 1 else ''}"
        ax.plot(x, outputs, color=COLOURS[colour], linestyle=line, linewidth=width, label=label)
    ax.plot(
        *support,
        color=COLOURS["purple"],
        marker="^",
        linestyle="none",
        markersize=7,
        markeredgecolor="black",
        markeredgewidth=0.6,
        label="support",
        zorder=5,
    )
    ax.set(xlabel="x (rad)", ylabel="y")


def drawings(
    ax: Axes, images: ArrayLike, rows: Sequence[str] = (), columns: Sequence[str] = (), *, gap: int = 3
) -> None:
    """A sheet of drawings, ink black on white, with a thin frame around each.

    Args:
        ax: where to draw.
        images: ``[rows, columns, height, width]``, paper 0 and ink the largest value.
        rows: a word for each row, or none.
        columns: a word for each column, or none.
        gap: pixels between two drawings.
    """
    images = np.asarray(images, dtype=float)
    if images.ndim != 4:
        raise ValueError(f"images has shape {images.shape}; a sheet takes [rows, columns, height, width]")
    for words, count, axis in ((rows, images.shape[0], "rows"), (columns, images.shape[1], "columns")):
        if len(words) not in (0, count):
            raise ValueError(f"{len(words)} words for {count} {axis} of drawings; give one for each, or none")
    down, right, height, width = images.shape
    framed = np.pad(1 - images / (images.max() or 1), ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=0.75)
    spaced = np.pad(framed, ((0, 0), (0, 0), (0, gap), (0, gap)), constant_values=1.0)
    sheet = spaced.transpose(0, 2, 1, 3).reshape(down * (height + 2 + gap), -1)[:-gap, :-gap]
    ax.imshow(sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    middle = lambda count, size: np.arange(count) * (size + 2 + gap) + (size + 1) / 2
    ax.set_yticks(middle(down, height) if len(rows) else [], list(rows))
    ax.set_xticks(middle(right, width) if len(columns) else [], list(columns))
    ax.tick_params(length=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)


def class_probabilities(axes: Sequence[Axes], probabilities: ArrayLike, labels: Sequence[int]) -> None:
    """What a classifier makes of a task's queries after 0, 1, ... inner steps: one heat map per step.

    The right class is framed; a number in bold is the answer given.

    Args:
        axes: one for each step.
        probabilities: ``[steps, queries, ways]``.
        labels: the right class of each query.
    """
    probabilities = np.asarray(probabilities, dtype=float)
    if len(axes) != len(probabilities):
        raise ValueError(f"{len(axes)} axes for {len(probabilities)} steps; give one for each")
    for step, (ax, values) in enumerate(zip(axes, probabilities)):
        ax.imshow(values, vmin=0, vmax=1, cmap="cividis")
        for (query, label), value in np.ndenumerate(values):
            weight = "bold" if label == values[query].argmax() else "normal"
            ax.text(
                label,
                query,
                f"{value:.2f}".removeprefix("0"),
                ha="center",
                va="center",
                fontsize=7.5,
                weight=weight,
                color="white" if value < 0.6 else "black",
            )
        for query, label in enumerate(labels):
            frame = mpl.patches.Rectangle(
                (label - 0.46, query - 0.46),
                0.92,
                0.92,
                fill=False,
                edgecolor=COLOURS["vermillion"],
                linewidth=2,
            )
            ax.add_patch(frame)
        ax.set(title="before" if step == 0 else f"{step} step{'s' if step > 1 else ''}", xlabel="class")
        ax.set_xticks(range(values.shape[1]))
        ax.set_yticks([])
        ax.grid(False)


def accuracy_curves(
    ax: Axes, curves: Mapping[str, pd.DataFrame], *, along: str = "inner steps", chance: float | None = None
) -> None:
    """Accuracies with their intervals, of several networks or tests of one.

    Args:
        ax: where to draw.
        curves: label to a frame with ``value`` and ``ci95`` (percent), indexed by inner step or iteration; of
            a frame without lines the legend says that it was not run.
        along: what the index is.
        chance: the accuracy of guessing, in percent, drawn as a line and named.
    """
    looks = [("blue", "-", "o"), ("orange", "--", "s"), ("green", "-.", "D"), ("purple", ":", "^")]
    for (label, curve), (colour, line, marker) in zip(curves.items(), looks, strict=False):
        value, ci95 = (curve[column].to_numpy(dtype=float) for column in ("value", "ci95"))
        ax.plot(
            curve.index,
            value,
            color=COLOURS[colour],
            linestyle=line,
            marker=marker,
            label=label if len(curve) else f"{label} (not run)",
        )
        ax.fill_between(
            curve.index, value - ci95, value + ci95, color=COLOURS[colour], alpha=0.2, linewidth=0
        )
    if chance is not None:
        ax.axhline(chance, color=COLOURS["grey"], linestyle=":", linewidth=1.2)
        ax.annotate(
            "chance",
            (1, chance),
            xycoords=("axes fraction", "data"),
            xytext=(0, 2),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color="#595959",
        )
    ax.set(xlabel=along, ylabel="accuracy, %")
    ax.locator_params(axis="x", integer=True)


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
            ax.plot(
                ends, line[cost].iloc[0] * ends / ends[0], ":", color=COLOURS["grey"], label="in proportion"
            )
    ax.set(xscale="log", yscale="log", xlabel=quantity)
    ax.xaxis.set_major_locator(FixedLocator(sorted(lines["value"].unique())))
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.xaxis.set_minor_locator(NullLocator())
