"""A run of one's own in one line: its log, its tests, and what it says where there is none."""

import numpy as np
import pytest

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
    with pytest.raises(ValueError, match=r"nowhere holds no run.json, so it is no run; give"):
        plot_run(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="without a folder"):
        plot_run()
