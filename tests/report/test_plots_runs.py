"""A run of one's own in one line: its log, its tests, and what it says where there is none."""

import re

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from made_results import commit, repository
from mamlkit.experiments import paper
from mamlkit.report.plots_runs import plot_run
from mamlkit.runs import folders, logs

NO_LINE = ["no line in the log yet"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    return repository(tmp_path, monkeypatch)


def labels(ax):
    return ax.get_legend_handles_labels()[1]


def test_a_tested_run_shows_its_log_and_a_curve_for_each_test(place):
    commit(place, "sinusoid-maml", errors=np.tile(np.linspace(3, 1, 11), (400, 1)))
    training, tests = plot_run(place / "runs" / "sinusoid-maml" / "seed0").axes
    assert training.lines[0].get_marker() == "o"  # a single line of its log
    assert labels(training) == ["meta-loss"] and labels(tests) == ["K=5", "K=10", "K=20"]
    assert tests.lines[0].get_ydata() == pytest.approx(np.linspace(3, 1, 11))
    assert tests.get_ylabel() == "mean squared error" and training.get_xlabel() == "iteration"


def test_several_runs_are_told_apart(place):
    commit(place, "sinusoid-maml")
    commit(place, "sinusoid-maml", seed=1)
    training, tests = plot_run(*(str(place / "runs" / "sinusoid-maml" / f"seed{k}") for k in (0, 1))).axes
    assert labels(training) == [f"sinusoid-maml, seed {k}: meta-loss" for k in (0, 1)]
    assert len(labels(tests)) == 6 and tests.lines[0].get_color() != tests.lines[3].get_color()


def test_a_policy_that_is_not_tested_yet_has_its_returns(place):
    row = paper.get("2d-navigation-maml")
    with folders.open_run(row, 0, "a device", base=place / "runs") as folder:
        line = {"iteration": 1, "seconds": 1.0, "return_before": -60.0, "return_after": -50.0}
        assert [text.get_text() for ax in plot_run(folder).axes for text in ax.texts][:1] == NO_LINE
        logs.write(folder / "metrics.csv", [line, line | {"iteration": 2, "return_after": -40.0}])
    training, tests = plot_run(folder).axes
    assert labels(training) == ["before adapting", "after adapting"] and training.get_ylabel() == "return"
    assert list(training.lines[1].get_ydata()) == [-50.0, -40.0]
    assert [text.get_text() for text in tests.texts] == ["not tested yet"]


def test_what_is_no_run_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere holds no run.json, so it is no run; give .*'\.\./runs/'"):
        plot_run(tmp_path / "a" / "b" / "c" / "nowhere")  # Three folders up, so not other tests' runs.
    with pytest.raises(ValueError, match="without a folder"):
        plot_run()


@pytest.mark.parametrize("name", ["run.json", "result.json", "metrics.csv"])
@pytest.mark.parametrize("content", ["", "[]", "{}", '{"name', "a,b\n1,2\n"])
def test_a_damaged_file_of_a_run_is_named(place, name, content):
    commit(place, "sinusoid-maml")
    folder = place / "runs" / "sinusoid-maml" / "seed0"
    (folder / name).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"{re.escape(str(folder / name))} is .*; restore it, or move"):
        plot_run(folder)


@pytest.mark.parametrize(
    "wrong",
    ["sinusoid-mml/seed0", "sinusoid-maml", "sinusoid-maml/seed7", "", "sinusoid-maml/seed0/run.json"],
)
def test_a_folder_that_is_no_run_is_answered_with_the_runs_that_are_there(place, wrong):
    commit(place, "sinusoid-maml")
    commit(place, "sinusoid-maml", seed=1)
    runs = ", ".join(str(place / "runs" / "sinusoid-maml" / f"seed{k}") for k in (0, 1))
    with pytest.raises(ValueError, match=f"so it is no run; .* has the runs {re.escape(runs)}$"):
        plot_run(place / "runs" / wrong)


def validated(place, name, value):
    """A tested run whose log has a validation."""
    commit(place, name)
    folder = place / "runs" / name / "seed0"
    line = {"iteration": 1000, "seconds": 1.0, "meta_loss": 1.0, "validation": value}
    logs.write(folder / "metrics.csv", [line])
    return folder


IMAGES, POINTS = "glyphs-5way-1shot", "sinusoid-maml"


def test_an_accuracy_is_not_drawn_on_an_axis_of_losses(place):
    for name, value, unit in ((IMAGES, 90.0, "accuracy, %"), (POINTS, 2.0, "mean squared error")):
        axes = plot_run(validated(place, name, value)).axes
        assert [ax.get_ylabel() for ax in axes] == ["meta-loss", unit, unit]
        assert [labels(ax) for ax in axes[:2]] == [["meta-loss"], ["validation"]]


@pytest.mark.parametrize("order", [(IMAGES, POINTS), (POINTS, IMAGES)])
def test_runs_of_several_metrics_have_a_panel_for_each(place, order):
    values = {IMAGES: 90.0, POINTS: 2.0}
    axes = plot_run(*(validated(place, name, values[name]) for name in order)).axes
    found = {(ax.get_ylabel(), label.partition(",")[0]) for ax in axes for label in labels(ax)}
    units = {IMAGES: ("meta-loss", "accuracy, %"), POINTS: ("meta-loss", "mean squared error")}
    assert found == {(unit, name) for name, of_run in units.items() for unit in of_run}
    assert all(len({label.partition(",")[0] for label in labels(ax)}) == 1 for ax in axes)
    assert [ax.get_xlabel() for ax in axes] == ["iteration"] * 4 + ["inner steps"] * 2


@pytest.mark.parametrize("seeds", [1, 2, 3, 6])
def test_the_legend_of_several_runs_does_not_lie_on_their_curves(place, seeds):
    for seed in range(seeds):
        commit(place, POINTS, seed=seed)
    figure = plot_run(*(place / "runs" / POINTS / f"seed{seed}" for seed in range(seeds)))
    FigureCanvasAgg(figure).draw()
    for ax in figure.axes:
        legend, panel = ax.get_legend().get_window_extent(), ax.get_window_extent()
        assert panel.height > 150 and figure.bbox.y0 <= legend.y0
        assert seeds == 1 or legend.y1 < panel.y0
