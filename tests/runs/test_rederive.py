"""Committed parameters are as far from their numbers as a hand finds, and a wrong number is seen."""

import dataclasses
import json
import math
import shutil

import pytest

from mamlkit import places
from mamlkit.experiments import paper
from mamlkit.report import results
from mamlkit.runs import checkpoints, policies, rederive, supervised

NAMES = ["sinusoid-maml", "2d-navigation-maml"]


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A repository with two committed results, to be changed."""
    data = places.repository() / "data"
    for name in NAMES:
        shutil.copytree(data / "results" / name, tmp_path / "data" / "results" / name)
    shutil.copy(data / "test_goals.csv", tmp_path / "data")
    monkeypatch.setattr(places, "repository", lambda: tmp_path)
    return tmp_path / "data" / "results"


def test_of_tasks_by_hand(copy):
    row = paper.get(NAMES[0])
    found = rederive.standard_errors(row.name, "K=10", steps=(1, 10), tasks=100, seed=5)
    params = checkpoints.load_params(results.checkpoint(row.name))
    errors = supervised.evaluate(row, params, row.evaluations[1], n_tasks=100, seed=5)["mse"]
    old = results.load(row.name)[0]["evaluations"]["K=10"]["mse"]
    assert list(found) == [1, 10] and errors[:, -1].max() < 25  # none has diverged
    for step in found:
        difference = errors[:, step].mean() - old["mean"][step]
        error = math.hypot(errors[:, step].std() / 10, old["sd"][step] / math.sqrt(6000))
        assert found[step] == pytest.approx(abs(difference) / error, rel=1e-4)
        assert found[step] < 4


def test_of_a_policy_by_hand(copy):
    row = paper.get(NAMES[1])
    found = rederive.standard_errors(row.name, steps=(0, 1, 7), tasks=4, seed=3)
    test = dataclasses.replace(row.evaluations[0], inner_lrs=row.evaluations[0].inner_lrs[:1])
    params = checkpoints.load_params(results.checkpoint(row.name))
    goals = policies.test_goals(row.environment)[:4]
    new = policies.evaluate(row, params, test, goals=goals, seed=3)["return"]
    change = new - results.per_task_errors(row.name, 0, test.name, "return")[:4, :2]
    assert list(found) == [0, 1]  # it takes no seventh step
    assert list(found.values()) == pytest.approx(2 * abs(change.mean(0)) / change.std(0, ddof=1))


def test_a_wrong_number_is_far_away(copy):
    path = copy / NAMES[0] / "seed0.json"
    result = json.loads(path.read_text(encoding="utf-8"))
    means = result["evaluations"]["K=5"]["mse"]["mean"]
    means[1] *= 2
    path.write_text(json.dumps(result), encoding="utf-8")
    far = rederive.standard_errors(NAMES[0], steps=(1, 10))
    assert far[1] > 5 and far[10] < 4


def test_an_evaluation_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="evaluation='K=7', but sinusoid-maml has 'K=5', 'K=10', 'K=20'"):
        rederive.standard_errors("sinusoid-maml", "K=7")


def test_a_row_that_was_not_run_says_so(copy):
    with pytest.raises(FileNotFoundError, match="sinusoid-oracle"):
        rederive.standard_errors("sinusoid-oracle")
