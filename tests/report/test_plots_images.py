"""Figures of the image chapters: what is drawn is what was given."""

import matplotlib
import numpy as np
import pandas as pd
import pytest

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.colors import to_rgb

from mamlkit.report import plots_images


@pytest.fixture
def ax():
    fig, ax = plt.subplots()
    yield ax
    plt.close(fig)


def test_drawings_lie_where_their_words_say_with_dark_ink(ax):
    images = np.zeros((2, 3, 4, 5), np.uint8)
    images[1, 2, 0, 4] = 255  # one pixel, top right, of the drawing in the second row, third column
    plots_images.drawings(ax, images, rows=["support", "query"], columns=["a", "b", "c"], gap=3)
    sheet = ax.images[0].get_array()
    assert sheet.shape == (2 * 6 + 3, 3 * 7 + 2 * 3)  # a frame of one pixel around each, gaps between
    assert sheet[9 + 1, 20 + 5] == 0 and (sheet == 0).sum() == 1  # ink is black
    assert (sheet == 0.75).sum() == 6 * (6 * 7 - 4 * 5)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["support", "query"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["a", "b", "c"]
    # their middles
    assert ax.get_yticks().tolist() == [2.5, 11.5] and ax.get_xticks().tolist() == [3.0, 13.0, 23.0]


def test_no_curve_is_left_out_unsaid(ax):
    curve = pd.DataFrame({"value": [20.0, 60.0], "ci95": [1.0, 1.0]})
    plots_images.accuracy_curves(ax, {f"step {k}": curve for k in range(7)})
    looks = {(line.get_color(), line.get_linestyle(), line.get_marker()) for line in ax.lines}
    assert len(looks) == len(ax.get_legend_handles_labels()[1]) == 7
    with pytest.raises(ValueError, match=r"8 curves came \(0, 1, .*, 7\), but 7 can be told apart"):
        plots_images.accuracy_curves(ax, dict.fromkeys(range(8), curve))


def test_drawings_without_words_or_ink(ax):
    plots_images.drawings(ax, np.zeros((1, 2, 3, 3)))
    assert not len(ax.get_xticks()) and not len(ax.get_yticks())
    assert ax.images[0].get_array().min() == 0.75  # the frames; paper is white


@pytest.mark.parametrize(
    ("shape", "words", "says"),
    [
        ((2, 4, 4), {}, r"shape \(2, 4, 4\)"),
        ((2, 3, 4, 4), {"rows": ["a"]}, "1 words for 2 rows"),
        ((2, 3, 4, 4), {"columns": "ab"}, "2 words for 3"),
    ],
)
def test_a_wrong_sheet_is_refused(ax, shape, words, says):
    with pytest.raises(ValueError, match=says):
        plots_images.drawings(ax, np.zeros(shape), **words)


def test_class_probabilities_frame_the_right_class_and_embolden_the_answer():
    fig, axes = plt.subplots(1, 2)
    probabilities = np.array([[[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]], [[0.1, 0.9, 0.0], [1.0, 0.0, 0.0]]])
    plots_images.class_probabilities(axes, probabilities, labels=[1, 0])
    assert [ax.get_title() for ax in axes] == ["before", "1 step"]
    for ax, values in zip(axes, probabilities, strict=True):
        assert np.array_equal(ax.images[0].get_array(), values)
        assert [(round(f.get_x() + 0.46), round(f.get_y() + 0.46)) for f in ax.patches] == [(1, 0), (0, 1)]
        bold = [t.get_position() for t in ax.texts if t.get_weight() == "bold"]
        assert bold == [(values[query].argmax(), query) for query in range(2)]
        assert ax.get_xlabel() == "class"
    assert [t.get_text() for t in axes[1].texts] == [".10", ".90", ".00", "1.00", ".00", ".00"]
    with pytest.raises(ValueError, match="2 axes for 3 steps"):
        plots_images.class_probabilities(axes, np.zeros((3, 1, 2)), [0])
    plt.close(fig)


def test_accuracy_curves_show_values_intervals_and_what_was_not_run(ax):
    curve = pd.DataFrame({"value": [20.0, 90.0], "ci95": [2.0, 1.0]}, index=[0, 1])
    nothing = pd.DataFrame({"value": [], "ci95": []})
    plots_images.accuracy_curves(ax, {"one query": curve, "fifteen": nothing}, chance=20)
    line, empty, guess = ax.lines
    assert line.get_xdata().tolist() == [0, 1] and line.get_ydata().tolist() == [20, 90]
    assert ax.collections[0].get_datalim(ax.transData).intervaly.tolist() == [18, 91]
    assert [h.get_label() for h in ax.get_legend_handles_labels()[0]] == ["one query", "fifteen (not run)"]
    assert guess.get_ydata() == [20, 20] and ax.texts[0].get_text() == "chance"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("inner steps", "accuracy, %")
    looks = {(to_rgb(each.get_color()), each.get_linestyle(), each.get_marker()) for each in (line, empty)}
    assert len(looks) == 2
