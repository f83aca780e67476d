"""The second form of wide figures: the same panels, each with its labels, in the width of a phone."""

import pickle

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mamlkit.report import narrow, plots


@pytest.fixture(autouse=True)
def looks():
    with mpl.rc_context({"backend": "Agg"}):
        plots.use_style()
        yield
        plt.close("all")


def drawn(rows=1, columns=2, width=7.2, height=3.0, **options):
    """A figure with a line in each panel; x and y are named where readers of the first form look."""
    figure, grid = plt.subplots(rows, columns, figsize=(width, height), squeeze=False, **options)
    for number, ax in enumerate(grid.flat):
        ax.plot([0, 1, 2 + number], [0, number, 1], label="a line")
        ax.set_title(f"panel {number}")
    for ax in grid[-1] if options.get("sharex") else grid.flat:
        ax.set_xlabel("steps")
    for ax in grid[:, 0] if options.get("sharey") else grid.flat:
        ax.set_ylabel("error")
    return figure


def grids():
    shared = st.sampled_from([False, True, "row", "col"])
    return st.tuples(st.integers(1, 3), st.integers(1, 5), shared, shared)


@settings(max_examples=25)
@given(grids())
def test_every_panel_is_there_once_with_its_labels_in_the_order_of_reading(grid):
    rows, columns, sharex, sharey = grid
    # what shares no axis with the panel at the edge has labels of its own
    sharex, sharey = sharex in (True, "col") and sharex, sharey in (True, "row") and sharey
    figure = drawn(rows, columns, sharex=sharex, sharey=sharey)
    before = [(ax.get_position().bounds, ax.get_ylabel(), ax.get_xlabel()) for ax in figure.axes]
    copy = narrow.stacked(figure)
    assert copy.get_figwidth() == narrow.INCHES
    specs = [ax.get_subplotspec() for ax in copy.axes]
    across = 2 if columns >= narrow.MANY else 1
    assert [(s.rowspan.start, s.colspan.start) for s in specs] == [
        divmod(number, across) for number in range(rows * columns)
    ]
    for number, (one, other) in enumerate(zip(figure.axes, copy.axes, strict=True)):
        assert one.get_title() == other.get_title() == f"panel {number}"
        for mine, its in zip(one.lines, other.lines, strict=True):
            assert np.array_equal(mine.get_xydata(), its.get_xydata())
        assert one.get_xlim() == other.get_xlim() and one.get_ylim() == other.get_ylim()
        assert other.get_xlabel() == "steps"
        if number % across == 0 or not sharey:
            assert other.get_ylabel() == "error"
            assert any(label.get_text() for label in other.get_yticklabels())
            assert all(label.get_visible() for label in other.get_yticklabels())
        assert any(label.get_visible() for label in other.get_xticklabels())
    # the first form is as it was
    assert figure.get_figwidth() == 7.2
    assert before == [(ax.get_position().bounds, ax.get_ylabel(), ax.get_xlabel()) for ax in figure.axes]
    plt.close("all")


@pytest.mark.parametrize("columns", [1, 2, 3, 4, 5])
def test_panels_and_legends_lie_within_the_picture_and_not_over_each_other(columns):
    figure = drawn(2, columns, sharey=True, height=4.0)
    names = ["the authors' settings, each seed", "first order", "a third one", "oracle"]
    figure.legend([plt.Line2D([], []) for _ in names], names, loc="outside lower center", ncols=4)
    copy = narrow.stacked(figure)
    copy.draw_without_rendering()
    renderer = copy.canvas.get_renderer()
    boxes = [ax.get_tightbbox(renderer) for ax in copy.axes]
    legend = copy.legends[0].get_window_extent(renderer)
    for one in range(len(boxes)):
        assert boxes[one].x0 >= 0 and boxes[one].x1 <= copy.bbox.width + 1
        assert legend.y1 <= boxes[one].y0 + 1
        assert boxes[one].height > 72
        for other in range(one):
            assert not boxes[one].padded(-1).overlaps(boxes[other])
    assert [text.get_text() for text in copy.legends[0].get_texts()] == names


@pytest.mark.parametrize("columns", [1, 2])
def test_a_legend_beside_its_panel_comes_below_it(columns):
    figure = drawn(1, columns)
    for ax in figure.axes:
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    copy = narrow.stacked(figure)
    copy.draw_without_rendering()
    for ax in copy.axes:
        legend = ax.get_legend() or copy.legends[0]
        assert legend.get_window_extent().y1 < ax.bbox.y0
        assert [text.get_text() for text in legend.get_texts()] == ["a line"]


def test_a_legend_without_an_entry_is_no_hindrance():
    figure = drawn(1, 1)
    figure.axes[0].legend([], [])
    assert narrow.stacked(figure).legends[0].get_texts() == []


def test_an_error_bar_keeps_both_parts_in_the_legend():
    figure = drawn()
    figure.axes[0].errorbar([1], [1], [0.5], fmt="*", label="paper")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center")
    legend = narrow.stacked(figure).legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["a line", "paper"]
    assert "*" in [line.get_marker() for line in legend.findobj(plt.Line2D)]


def test_words_that_would_overlap_are_turned():
    figure = drawn(1, 1)
    words = ["rewarded, common", "rewarded, rare", "unrewarded, common", "unrewarded, rare"]
    figure.axes[0].set_xticks(range(4), words)
    turned = [label.get_rotation() for label in narrow.stacked(figure).axes[0].get_xticklabels()]
    assert turned == [45] * 4
    plain = narrow.stacked(drawn(1, 2)).axes[0].get_xticklabels()
    assert [label.get_rotation() for label in plain] == [0] * len(plain)


def test_what_needs_no_second_form_or_can_have_none():
    assert narrow.stacked(drawn(width=3.9)) is None
    drawing = drawn(1, 1)
    drawing.axes[0].set_axis_off()
    assert narrow.stacked(drawing) is None
    free = plt.figure(figsize=(7, 3))
    free.add_axes((0.1, 0.1, 0.8, 0.8))
    assert narrow.stacked(free) is None
    assert narrow.stacked(plt.figure(figsize=(7, 3))) is None
    unnamed = drawn()
    unnamed.axes[0].xaxis.set_major_formatter(lambda value, place: "")
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(unnamed)
    assert narrow.stacked(unnamed) is None
