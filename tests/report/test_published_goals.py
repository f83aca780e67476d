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
        assert line.difference_ci95 == pytest.approx(2.0227 * of_step.std() / np.sqrt(39), rel=1e-3)
        assert line.difference_ci95 < line.ours_ci95 / 5 and line.task_verdict == line.verdict
    commit(repository, "ant-velocity-maml", seed=1, errors=theirs - 30)  # seeds apart: they decide
    found = beside.table()
    line = found[(found.setting == "Ant velocity") & (found.method == "MAML")].iloc[1]
    assert line.difference_ci95 == pytest.approx(line.seed_ci95)
    assert (line.verdict, line.task_verdict) == ("inconclusive", "differs")


def lines_of(setting, method):
    found = beside.table()
    return found[(found.setting == setting) & (found.method == method)].set_index("step")


def published(setting, method):
    """The paper's returns, ``[goals, steps]``, and which goals are forward."""
    part = OF_POLICIES[(OF_POLICIES.setting == setting) & (OF_POLICIES.method == method)]
    return np.stack(list(part.by_goal), -1), results.directions(setting)["forward"]


def test_of_two_directions_the_worse_decides(repository):
    theirs, forward = published("HalfCheetah direction", "oracle")
    noise = np.random.default_rng(0).normal(0, 5, theirs.shape)
    for too_much, too_little, wanted in (
        (90, -70, "differs"),
        (50, -5, "differs"),
        (5, -50, "differs"),
        (8, -8, "reproduced"),
    ):
        away = np.where(forward, too_little, too_much)[:, None] + noise
        commit(repository, "half-cheetah-direction-oracle", errors=np.tile(theirs + away, (1, 4)))
        line = lines_of("HalfCheetah direction", "oracle").loc[0]
        assert abs(line.difference) < line.margin - line.difference_ci95  # the mean alone would be reproduced
        assert line.forward == pytest.approx(away[forward].mean(), abs=0.02)
        assert line.backward == pytest.approx(away[~forward].mean(), abs=0.02)
        half = results.student(noise[forward, 0])[1]
        assert line.forward_ci95 == pytest.approx(half, rel=1e-3) and line.verdict == wanted
    commit(repository, "ant-velocity-oracle", errors=np.zeros((40, 4)))
    assert lines_of("Ant velocity", "oracle").forward.isna().all()


def test_seeds_that_are_further_apart_than_goals_decide_in_each_direction_too(repository):
    """Student's t with one degree of freedom has its 97.5 % point at tan(0.475 pi)."""
    theirs, forward = published("Ant direction", "oracle")
    noise = np.random.default_rng(0).normal(0, 1, (len(theirs), 1))
    for seed, away in ((0, -20.0), (1, 30.0)):
        commit(repository, "ant-direction-oracle", errors=np.tile(theirs + noise + away, (1, 4)), seed=seed)
    line = lines_of("Ant direction", "oracle").loc[0]
    for way, goals in (("forward", forward), ("backward", ~forward)):
        assert line[way] == pytest.approx(5 + noise[goals].mean(), abs=0.02)
        assert line[f"{way}_ci95"] == pytest.approx(np.tan(0.475 * np.pi) * 25, rel=1e-3)
    found = np.array([[1.0, 2.0, 6.0], [3.0, 4.0, 8.0]])
    difference = beside._of_goals(found, np.array([2.0, 2.0, 2.5]))
    assert difference.over_tasks == pytest.approx(4.3027 * np.std([0, 1, 4.5], ddof=1) / np.sqrt(3), rel=1e-4)
    assert difference.value == pytest.approx(5.5 / 3)
    assert difference.ci95 == pytest.approx(np.tan(0.475 * np.pi))  # of the means 3 and 5


def test_what_is_not_judged_is_partial_as_long_as_it_is(repository):
    errors = np.tile([-2.0, 0.0, 1.0, 5.0], (40, 1))
    commit(repository, "ant-direction-maml", errors=errors, done=20)
    assert (lines_of("Ant direction", "MAML").verdict == "partial (20 of 500)").all()
    commit(repository, "ant-direction-maml", errors=errors)
    assert lines_of("Ant direction", "MAML").verdict.loc[0] == "not judged"


def test_a_return_that_stands_for_all_goals_is_as_uncertain_as_one_of_ours(repository):
    """Then the interval holds the difference of the truths, zero, in 95 of 100 cases, within six sd."""
    theirs, forward = published("Ant direction", "pretrained")
    assert all(len(np.unique(theirs[way])) == 4 for way in (forward, ~forward))  # one of each step
    rng, sd, held, trials = np.random.default_rng(0), 10.0, 0, 4000
    for _ in range(trials):
        paper = np.full(forward.sum(), rng.normal(0, sd))
        found = rng.normal(0, sd, (1, len(paper)))
        difference = beside._of_goals(found, paper)
        held += abs(difference.value) <= difference.ci95
    assert abs(held / trials - 0.95) < 6 * np.sqrt(0.95 * 0.05 / trials)
    commit(repository, "ant-direction-pretrained", errors=theirs + rng.normal(0, sd, theirs.shape))
    line = lines_of("Ant direction", "pretrained").loc[1]
    assert line.forward_ci95 == pytest.approx(2.09 * sd * np.sqrt(1 + 1 / forward.sum()), rel=0.4)
    assert line.difference_ci95 == pytest.approx(
        np.hypot(forward.mean() * line.forward_ci95, (~forward).mean() * line.backward_ci95)
    )


def test_networks_that_were_not_trained_are_not_judged(repository):
    commit(repository, "2d-navigation-random", errors=np.zeros((40, 4)))
    found = lines_of("2D navigation", "random")
    assert (found.verdict == "not judged").all() and found.ours.notna().all()
