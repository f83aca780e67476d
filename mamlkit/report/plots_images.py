"""The figures of the chapters with images, in the looks of :mod:`mamlkit.report.plots`. No torch here."""

__all__ = ["accuracy_curves", "class_probabilities", "drawings"]

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from mamlkit.report.plots import COLOURS, check_looks


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
            look = {
                "color": "white" if value < 0.6 else "black",
                "fontsize": 7.5,
                "ha": "center",
                "va": "center",
            }
            weight = "bold" if label == values[query].argmax() else "normal"
            ax.text(label, query, f"{value:.2f}".removeprefix("0"), look, weight=weight)
        for query, label in enumerate(labels):
            corner, red = (label - 0.46, query - 0.46), COLOURS["vermillion"]
            ax.add_patch(Rectangle(corner, 0.92, 0.92, fill=False, edgecolor=red, linewidth=2))
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

    Raises:
        ValueError: more curves than can be told apart.
    """
    looks = [("blue", "-", "o"), ("orange", "--", "s"), ("green", "-.", "D"), ("purple", ":", "^")]
    looks += [("vermillion", "-", "v"), ("sky", "--", "P"), ("black", "-.", "X")]
    check_looks(looks, curves)
    for (label, curve), (colour, line, marker) in zip(curves.items(), looks, strict=False):
        value, ci95 = (curve[column].to_numpy(dtype=float) for column in ("value", "ci95"))
        look: dict[str, Any] = {"color": COLOURS[colour], "linestyle": line, "marker": marker}
        ax.plot(curve.index, value, **look, label=label if len(curve) else f"{label} (not run)")
        low, high = value - ci95, value + ci95
        ax.fill_between(curve.index, low, high, color=COLOURS[colour], alpha=0.2, linewidth=0)
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
