"""Figures of the reinforcement-learning chapters: right numbers, looks that differ, rows not run."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from mamlkit.report import plots, plots_rl


@pytest.fixture
def ax():
    with mpl.rc_context({"backend": "Agg"}):
        plots.use_style()
        fig, ax = plt.subplots()
        yield ax
        plt.close(fig)


def curve(*values, ci95=1.0):
    return pd.DataFrame({"value": values, "ci95": [ci95] * len(values)})


def lines(ax):
    return {line.get_label(): line for line in ax.lines}


NOT_RUN = pd.DataFrame({"value": [], "ci95": []})


def test_steps_have_looks_of_their_own():
    assert (
        len({s["color"] for s in plots_rl.STEP_STYLES})
        == len({s["linestyle"] for s in plots_rl.STEP_STYLES})
        == 4
    )
    assert [s["label"] for s in plots_rl.STEP_STYLES] == ["before", "1 step", "2 steps", "3 steps"]


def test_return_curves_tell_ours_from_the_papers(ax):
    plots_rl.return_curves(ax, {"MAML": curve(-40.0, -12.0, -3.0)}, {"MAML": curve(-41.0, -11.0, -4.0)})
    ours, paper = lines(ax)["MAML"], lines(ax)["MAML, paper"]
    assert ours.get_xydata().tolist() == [[0, -40], [1, -12], [2, -3]] and paper.get_ydata().tolist() == [
        -41,
        -11,
        -4,
    ]
    assert ours.get_color() == paper.get_color() and ours.get_marker() == paper.get_marker()
    assert (ours.get_linestyle(), paper.get_linestyle()) == ("-", "--")
    assert paper.get_markerfacecolor() == "white" != ours.get_markerfacecolor()
    bands = [band.get_paths()[0].vertices[:, 1] for band in ax.collections]
    assert [(band.min(), band.max()) for band in bands] == [(-41, -2), (-42, -3)]
    assert (
        ax.get_xlabel() == "gradient steps"
        and ax.get_ylabel() == "return"
        and ax.get_xticks().tolist() == [0, 1, 2, 3]
    )


def test_an_unfinished_run_is_told_from_a_finished_one(ax):
    curves = {"MAML": curve(-40.0, -12.0), "pretrained": curve(-41.0, -20.0)}
    plots_rl.return_curves(ax, curves, {}, {"MAML": "16 of 500", "pretrained": ""})
    assert lines(ax)["MAML (16 of 500)"].is_dashed() and not lines(ax)["pretrained"].is_dashed()


def test_a_policy_that_is_not_adapted_is_a_level(ax):
    plots_rl.return_curves(ax, {"oracle": curve(-2.0)}, {"oracle": curve(-3.0)})
    assert lines(ax)["oracle"].get_xydata().tolist() == [[0, -2], [3, -2]]
    assert lines(ax)["oracle, paper"].get_xydata().tolist() == [[0, -3], [3, -3]]
    assert lines(ax)["oracle"].get_marker() == ""


def test_what_was_not_run_is_said_and_the_paper_still_drawn(ax):
    plots_rl.return_curves(
        ax, {"MAML": NOT_RUN, "pretrained": NOT_RUN}, {"MAML": curve(1.0, 2.0), "pretrained": NOT_RUN}
    )
    assert set(lines(ax)) == {"MAML (not run)", "pretrained (not run)", "MAML, paper"}


def test_training_returns_before_and_after(ax):
    log = pd.DataFrame(
        {"iteration": [1, 2, 3], "return_before": [-9.0, -8.0, -7.0], "return_after": [-6.0, -3.0, 0.0]}
    )
    plots_rl.training_returns(ax, log)
    before, after = lines(ax)["MAML, before the inner step"], lines(ax)["MAML, after it"]
    assert before.get_ydata().tolist() == [-9, -8, -7] and after.get_ydata().tolist() == [-6, -3, 0]
    assert before.get_linestyle() != after.get_linestyle()
    assert ax.get_xlabel() == "iteration" and ax.get_ylabel() == "return"


def test_training_returns_with_a_running_mean(ax):
    log = pd.DataFrame(
        {"iteration": [1, 2, 3], "return_before": [0.0, 2.0, 4.0], "return_after": [np.nan] * 3}
    )
    plots_rl.training_returns(ax, log, window=2)  # nothing is adapted
    thin, mean = ax.lines
    assert thin.get_ydata().tolist() == [0, 2, 4] and mean.get_ydata().tolist() == [0, 1, 3]
    assert mean.get_label() == "MAML" and mean.get_linestyle() == "-"
    assert thin.get_linewidth() < mean.get_linewidth()


def test_trajectories_lie_where_they_were_in_the_colours_of_their_goals(ax):
    way, goals = np.array([[0.0, 0.0], [0.1, 0.05], [0.2, 0.1]]), np.array([[0.3, -0.4], [-0.2, 0.5]])
    plots_rl.trajectories(ax, goals, [way, -way])
    first, its_goal, second, other_goal, start = ax.lines
    assert first.get_xydata().tolist() == way.tolist() and second.get_xydata().tolist() == (-way).tolist()
    assert [its_goal.get_xydata().tolist(), other_goal.get_xydata().tolist()] == [[g] for g in goals.tolist()]
    assert first.get_color() == its_goal.get_color() != second.get_color() == other_goal.get_color()
    assert start.get_xydata().tolist() == [[0, 0]] and its_goal.get_marker() == "*"
    assert ax.patches[0].get_bbox().extents.tolist() == [-0.5, -0.5, 0.5, 0.5]
    assert ax.get_aspect() == 1 and ax.get_xlabel() == "$x$"


@pytest.mark.parametrize(("ways", "goals"), [(1, 2), (5, 5)])
def test_ways_that_do_not_fit_their_goals_are_refused(ax, ways, goals):
    with pytest.raises(
        ValueError, match=f"{ways} ways to {goals} goals, but each goal has one way, and 4 can"
    ):
        plots_rl.trajectories(ax, np.zeros((goals, 2)), [np.zeros((2, 2))] * ways)


def test_goal_returns_are_in_the_order_of_the_goals(ax):
    plots_rl.goal_returns(ax, [2.0, 0.5, 1.0], [[-3, -2], [-1, 0], [-4, -5]])
    assert lines(ax)["before"].get_xydata().tolist() == [[0.5, -1], [1, -4], [2, -3]]
    assert lines(ax)["1 step"].get_ydata().tolist() == [0, -5, -2]
    assert to_hex(lines(ax)["before"].get_color()) == plots.COLOURS["grey"].lower()
    assert ax.get_xlabel() == "goal velocity (m/s)" and ax.get_ylabel() == "return"


@pytest.mark.parametrize("returns", [[1.0, 2.0], [[1.0]], [[1.0] * 5] * 2])
def test_goal_returns_of_another_shape_are_refused(ax, returns):
    with pytest.raises(ValueError, match=r"give \[tasks, steps\], steps at most 4"):
        plots_rl.goal_returns(ax, [0.0, 1.0], returns)
