"""The figures: colours that can be told apart, right numbers on the axes, rows that were not run."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from mamlkit.experiments import paper
from mamlkit.experiments.rows import as_stored
from mamlkit.report import plots


@pytest.fixture
def ax():
    with mpl.rc_context({"backend": "Agg"}):
        plots.use_style()
        fig, ax = plt.subplots()
        yield ax
        plt.close(fig)


ROW = paper.get("sinusoid-maml")


def result(seed, mean, sd=0.5, tasks=100, diverged=0, done=ROW.iterations, settings=ROW.settings):
    """A committed result of a row, with one curve in all of its tests."""
    curve = {"mean": mean, "sd": [sd] * len(mean), "tasks": tasks, "diverged": [diverged] * len(mean)}
    tests = {e.name: {"settings": as_stored(e), "mse": curve} for e in ROW.evaluations}
    of_row = {"name": ROW.name, "settings": settings, "fingerprint": ROW.fingerprint}
    return of_row | {"seed": seed, "iterations_done": done, "evaluations": tests}


def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in mpl.colors.to_rgb(colour)]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_a_new_method_can_be_drawn_and_looks_like_none_that_is_known(ax):
    style = plots.style_of("a method of my own")
    assert style == plots.style_of("a method of my own")
    assert style not in list(plots.METHOD_STYLES.values())
    plots.adaptation_curve(ax, "a method of my own", pd.DataFrame({"value": [2.0, 1.0], "ci95": [0.1, 0.1]}))
    assert ax.get_legend_handles_labels()[1] == ["a method of my own"]


def test_a_fit_is_not_left_out_unsaid(ax):
    x = [0.0, 1.0]
    with pytest.raises(ValueError, match=r"4 curves came \(0, 1, 5, 10\), but 3 can be told apart"):
        plots.regression_fits(ax, x, x, (x, x), dict.fromkeys((0, 1, 5, 10), x))


def test_every_method_has_a_look_of_its_own():
    looks = [(s["color"], s["linestyle"], s["marker"]) for s in plots.METHOD_STYLES.values()]
    assert len(set(looks)) == len(looks)
    assert len({s["marker"] for s in plots.METHOD_STYLES.values()}) == len(looks), (
        "colour is not the only difference"
    )


def test_colours_stand_out_from_white():
    for name in ("blue", "vermillion", "green", "grey", "black"):
        assert 1.05 / (luminance(plots.COLOURS[name]) + 0.05) > 3, name


def test_style_is_white_and_readable(ax):
    assert mpl.rcParams["figure.facecolor"] == "white" and mpl.rcParams["figure.dpi"] == 120
    assert mpl.rcParams["font.size"] >= 10
    assert mpl.rcParams["axes.prop_cycle"].by_key()["color"][0] == plots.COLOURS["blue"]


def test_learning_curves_share_a_panel(ax):
    log = pd.DataFrame({"iteration": [100, 200, 300], "meta_loss": [3.0, 2.0, 1.0]})
    plots.learning_curve(ax, log, "MAML")
    plots.learning_curve(ax, log, "oracle", quantity="error")
    assert ax.lines[0].get_xydata().tolist() == [[100, 3.0], [200, 2.0], [300, 1.0]]
    assert ax.get_xlabel() == "iteration" and ax.get_ylabel() == "error"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["MAML", "oracle"]


def test_mean_curve_averages_seeds():
    curve = plots.mean_curve([result(0, [3.0, 1.0]), result(2, [5.0, 2.0])], "K=5", "mse")
    assert curve["value"].tolist() == [4.0, 1.5]
    assert curve["ci95"].tolist() == pytest.approx([1.96 * 0.5 / 10] * 2)
    assert curve["seed0"].tolist() == [3.0, 1.0] and curve["seed2"].tolist() == [5.0, 2.0]


def test_mean_curve_is_of_the_seeds_that_the_tables_count():
    whole, begun = result(0, [3.0, 1.0]), result(1, [9.0, 9.0], done=100)
    stale = result(2, [5.0, 5.0], settings=ROW.settings | {"inner_lr": 0.02})
    curve = plots.mean_curve([whole, begun], "K=5", "mse")
    assert curve["value"].tolist() == [3.0, 1.0] and "seed1" not in curve
    assert plots.mean_curve([begun], "K=5", "mse")["value"].tolist() == [9.0, 9.0]  # there is no other
    assert plots.mean_curve([whole, stale], "K=5", "mse").empty
    assert plots.curve_of(stale, "K=5", "mse")["value"].tolist() == [5.0, 5.0]


def test_the_interval_of_a_mean_curve_is_that_of_the_tasks_in_it():
    few = plots.mean_curve([result(0, [3.0], diverged=75)], "K=5", "mse")
    assert few["ci95"].tolist() == pytest.approx([1.96 * 0.5 / 5])


def test_mean_curve_interval_bounds_that_of_the_mean_over_seeds():
    rng = np.random.default_rng(0)
    errors = rng.exponential(size=(3, 100))  # seeds, tasks
    found = [result(k, [e.mean()], e.std()) for k, e in enumerate(errors)]
    assert plots.mean_curve(found, "K=5", "mse")["ci95"][0] >= 1.96 * errors.mean(0).std() / 10


def test_adaptation_curve_shows_mean_interval_and_seeds(ax):
    plots.adaptation_curve(
        ax, "MAML", plots.mean_curve([result(0, [3.0, 1.0]), result(1, [5.0, 2.0])], "K=5", "mse")
    )
    assert [line.get_ydata().tolist() for line in ax.lines] == [[4.0, 1.5], [3.0, 1.0], [5.0, 2.0]]
    assert ax.lines[0].get_label() == "MAML"
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() == pytest.approx(1.5 - 0.098) and band.max() == pytest.approx(4.0 + 0.098)
    assert ax.get_xlabel() == "inner steps" and ax.get_ylabel() == "mean squared error"


def test_a_row_that_was_not_run_says_so(ax):
    plots.adaptation_curve(ax, "oracle", plots.mean_curve([], "K=5", "mse"))
    assert ax.get_legend_handles_labels()[1] == ["oracle (not run)"]


def test_regression_fits_draws_task_fits_and_support(ax):
    x = np.linspace(-5, 5, 11)
    plots.regression_fits(ax, x, np.sin(x), (x[:3], np.sin(x[:3])), {10: x, 0: 0 * x, 1: x / 2})
    labels = ax.get_legend_handles_labels()[1]
    assert labels == ["task", "before", "1 step", "10 steps", "support"]
    assert ax.lines[2].get_ydata().tolist() == (x / 2).tolist()
    assert ax.get_xlabel() == "x (rad)"


def test_scaling_draws_every_way_and_the_proportion(ax):
    lines = pd.DataFrame(
        [
            {"value": v, "way": way, "ms": factor * v}
            for factor, way in enumerate(plots.WAY_STYLES, 1)
            for v in (4, 1, 2)
        ]
    )
    plots.scaling(ax, lines, "tasks")
    drawn = {line.get_label(): line.get_xydata().tolist() for line in ax.lines}
    assert drawn["mamlkit"] == [[1, 1], [2, 2], [4, 4]] and drawn["in proportion"] == [[1, 1], [4, 4]]
    assert drawn["loop"] == [[1, 2], [2, 4], [4, 8]] and ax.get_xlabel() == "tasks"
    assert ax.get_xscale() == ax.get_yscale() == "log"
