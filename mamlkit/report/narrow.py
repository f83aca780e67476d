"""The second form of a wide figure, for phones: its panels one below the other."""

__all__ = ["keep_both_forms", "stacked"]

import io
import itertools
import pickle
import sys
from base64 import b64encode
from collections import defaultdict
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

INCHES = 3.6  # a phone's page is 360 pixels wide, so a letter of 9 points has ten of them
WIDE = 480  # pixels: a narrower figure can be read on a phone as it is
APART = 0.12  # inches around a panel, so that its title is not taken for a caption of the one above
MANY = 4  # panels beside each other, from which on the second form has two in a line
SMALLER = 0.8  # a panel that shrinks by more has no room left for a legend inside
TALL = 3.0  # inches of a panel: the first form may have given it more, for a legend below
LINE = 42  # letters in a line of a legend or title of that width


def stacked(figure: Figure) -> Figure | None:
    """A copy of a figure whose panels lie one below the other, in the order of reading.

    Each panel gets the labels, title and numbers that it had in common with its neighbours. Where four or
    more lie beside each other, the copy has two in a line.

    Args:
        figure: left as it is.

    Returns:
        The copy, 3.6 inches wide; None for a figure that needs none, since it is narrow, and for one that
        has panels in no grid, no numbers or words along an axis (a drawing), or parts that cannot be copied.
    """
    if figure.get_figwidth() * figure.dpi <= WIDE or len({ax.get_gridspec() for ax in figure.axes}) != 1:
        return None
    if figure.axes[0].get_gridspec() is None or not any(_has_numbers(ax) for ax in figure.axes):
        return None
    try:
        copy = pickle.loads(pickle.dumps(figure))
    except (AttributeError, TypeError, pickle.PicklingError):  # a function without a name, for instance
        return None
    places: dict[tuple[int, int], list[Axes]] = defaultdict(list)  # two axes may share a place
    for ax in copy.axes:
        spec = ax.get_subplotspec()
        places[spec.rowspan.start, spec.colspan.start].append(ax)
    old = copy.axes[0].get_gridspec()
    across = min(old.ncols, 2 if old.ncols >= MANY else 1)
    down = -(-len(places) // across)
    ratio = (INCHES / across) / (copy.get_figwidth() / old.ncols)
    height = min(TALL, copy.get_figheight() / old.nrows * min(1, max(ratio, 0.85)))
    new = GridSpec(down, across, figure=copy)
    if old.ncols == 1:  # they lie below each other already, perhaps of different heights
        height, new = copy.get_figheight() / old.nrows, old
    for ax in copy.axes:
        _label(ax, copy.axes)
    before = None
    for number, place in enumerate(sorted(places)):
        for ax in places[place]:
            ax.set_subplotspec(new[number // across, number % across])
            if number % across and before and ax.get_shared_y_axes().joined(ax, before):
                ax.set_ylabel("")
                ax.tick_params(labelleft=False)
            before = ax
    room = [_below(copy, legend, height) for legend in list(copy.legends)]
    for ax in copy.axes:
        legend = ax.get_legend()
        if legend and (ratio < SMALLER or legend.get_bbox_to_anchor().x0 >= ax.bbox.x1):  # beside the panel
            owner = copy if len(places) == 1 else ax
            room.append(_below(owner, legend, height))
    copy.set_size_inches(INCHES, (height + 2 * APART) * down + sum(room))
    if down > 1 and (engine := copy.get_layout_engine()):
        engine.set(h_pad=APART)
    copy.draw_without_rendering()
    for ax in copy.axes:
        if _overlap(ax):
            ax.tick_params(axis="x", rotation=45)
    return copy


def _has_numbers(ax: Axes) -> bool:
    return ax.axison and bool(len(ax.get_xticks()) or len(ax.get_yticks()))


def _label(ax: Axes, others: list[Axes]) -> None:
    """Give a panel what stands at the edge of its grid only: labels, title, numbers of shared axes."""
    mine = ax.get_subplotspec()
    assert mine is not None
    for other in others:
        spec = other.get_subplotspec()
        assert spec is not None
        same_row, same_column = spec.rowspan == mine.rowspan, spec.colspan == mine.colspan
        if same_row and spec.is_first_col():
            ax.set_ylabel(ax.get_ylabel() or other.get_ylabel())
            if other.get_shared_y_axes().joined(ax, other):
                ax.tick_params(labelleft=True)
        if same_column and spec.is_last_row():
            ax.set_xlabel(ax.get_xlabel() or other.get_xlabel())
            if other.get_shared_x_axes().joined(ax, other):
                ax.tick_params(labelbottom=True)
        if same_column and spec.is_first_row():
            ax.set_title(ax.get_title() or other.get_title())


def _overlap(ax: Axes) -> bool:
    """Whether two numbers or words below a panel lie over each other."""
    boxes = [label.get_window_extent() for label in ax.get_xticklabels() if label.get_text()]
    return any(one.x1 > other.x0 for one, other in itertools.pairwise(sorted(boxes, key=lambda b: b.x0)))


def _below(owner: Any, legend: Any, height: float) -> float:
    """Set the legend of a figure or panel below it, in as many columns as there is room for.

    Returns:
        Inches that it takes.
    """
    of_figure = isinstance(owner, Figure)
    texts = [text.get_text() for text in legend.get_texts()]
    samples = dict(zip(texts, legend.legend_handles))
    for ax in owner.axes if of_figure else [owner]:
        # what is drawn, where it can be had: of a point with an error bar both parts
        samples |= {text: h for h, text in zip(*ax.get_legend_handles_labels()) if text in samples}
    columns = max(1, LINE // (max(map(len, texts), default=0) + 6))  # six for the sample of the line
    legend.remove()
    # below a panel's own numbers and label, half an inch
    of_panel = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.5 / height)}
    place = {"loc": "outside lower center"} if of_figure else of_panel
    owner.legend([samples[text] for text in texts], texts, ncols=columns, **place)
    return (-(-len(texts) // columns) + 1) * 1.5 * mpl.rcParams["font.size"] * 0.9 / 72


def keep_both_forms() -> None:
    """Make IPython keep, beside each wide figure, its second form, as WebP in the output's metadata.

    There it is called ``narrow``. Pages show it on small screens (``book/_ext/pictures.py``); JupyterLab
    does not know it. Elsewhere than in IPython this does nothing.
    """
    if "IPython" not in sys.modules:
        return
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None:
        return
    import matplotlib.pyplot as plt

    plt.switch_backend(plt.get_backend())  # it would come with IPython's own way, at the first figure
    shell.display_formatter.formatters["image/png"].for_type(Figure, _both)


def _both(figure: Figure) -> Any:
    """A figure's picture and the metadata that go with it, as IPython takes them."""
    if not figure.axes and not figure.lines:
        return None
    second = stacked(figure)
    return _saved(figure, "png"), {} if second is None else {"narrow": _saved(second, "webp", lossless=True)}


def _saved(figure: Figure, kind: str, **options: Any) -> str:
    file = io.BytesIO()
    figure.savefig(file, format=kind, bbox_inches="tight", pil_kwargs=options)
    return b64encode(file.getvalue()).decode()
