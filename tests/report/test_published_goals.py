"""Returns of the paper's policies goal by goal: those of its curves, on our goals, taken pair by pair."""

import numpy as np
import pytest

from made_results import commit
from mamlkit.report import beside, results
from mamlkit.runs import policies

GOALS = results.published_goals()
PRINTED = results.published()
OF_POLICIES = PRINTED[PRINTED.place.isin(["Fig. 4", "Fig. 5"])]


def test_their_means_and_intervals_are_the_published_ones():
    for line in OF_POLICIES.itertuples():
        values = np.array(line.by_goal)
        assert values.mean() == pytest.approx(line.value, abs=0.0101)
        assert 1.96 * values.std(ddof=1) / np.sqrt(40) == pytest.approx(line.ci95, abs=0.0101)
    assert PRINTED[PRINTED.metric != "return"].by_goal.isna().all()


def test_the_goals_are_those_of_our_tests():
    for setting, lines in OF_POLICIES[OF_POLICIES.row != ""].groupby("setting"):
        names = ["goal x", "goal y"] if setting == "2D navigation" else ["goal"]
        theirs = np.stack([GOALS.loc[(setting, name, 0)] for name in names], -1).squeeze()
        environment = lines.row.iloc[0].rpartition("-")[0]
        np.testing.assert_allclose(policies.test_goals(environment), theirs, atol=1e-6)


def test_a_difference_is_taken_goal_by_goal(repository):
    rng = np.random.default_rng(0)
    by_step = OF_POLICIES[(OF_POLICIES.setting == "Ant velocity") & (OF_POLICIES.method == "MAML")].by_goal
    theirs = np.stack(list(by_step), -1)  # [goals, steps]
    away = rng.normal(3, 2, theirs.shape)
    commit(repository, "ant-velocity-maml", errors=theirs + away)
    found = beside.table()
    for line in found[(found.setting == "Ant velocity") & (found.method == "MAML")].itertuples():
        of_step = away[:, line.step]
        assert line.difference == pytest.approx(of_step.mean(), abs=0.02)
        assert line.difference_ci95 == pytest.approx(1.96 * of_step.std() / np.sqrt(40), rel=1e-3)
        assert line.difference_task_ci95 == line.difference_ci95 < line.ours_ci95 / 5
    commit(repository, "ant-velocity-maml", seed=1, errors=theirs - 30)  # seeds apart: they decide
    found = beside.table()
    line = found[(found.setting == "Ant velocity") & (found.method == "MAML")].iloc[1]
    assert (
        line.difference_ci95 == pytest.approx(line.seed_ci95) and line.difference_task_ci95 < line.seed_ci95
    )
