"""Committed parameters are as far from their numbers as a hand finds, and a wrong number is seen."""

import dataclasses
import json
import math
import shutil

import pytest

from mamlkit import measures, places
from mamlkit.experiments import paper
from mamlkit.report import results
from mamlkit.runs import checkpoints, policies, rederive, seeds, supervised

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


def test_of_classes_after_fewer_steps_than_the_headline_has(monkeypatch):
    row = dataclasses.replace(paper.get("glyphs-5way-1shot"), network=("conv4", {"ways": 5, "filters": 2}))
    params, test = supervised.build(row).model.init(seeds.generator(0, "init")), row.evaluations[0]
    accuracy = supervised.evaluate(row, params, test, n_tasks=20, seed=1)["accuracy"]
    old = measures.statistics("accuracy", accuracy)
    error = math.sqrt(2 / 20) * old["sd"][1]
    old["mean"][1] += 3 * error
    monkeypatch.setattr(paper, "get", lambda name: row)
    monkeypatch.setattr(results, "load", lambda name: [{"evaluations": {test.name: {"accuracy": old}}}])
    monkeypatch.setattr(results, "checkpoint", lambda name: None)
    monkeypatch.setattr(checkpoints, "load_params", lambda path: params)
    assert test.headline_step == 3
    assert rederive.standard_errors(row.name, tasks=20)[1] == pytest.approx(3, rel=1e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps", [(), (11,), (-1,)])
def test_steps_that_no_test_takes_are_refused(name, steps):
    with pytest.raises(ValueError, match=rf"steps=.*, but {name} is tested after 0 to \d+ steps"):
        rederive.standard_errors(name, steps=steps)


def test_a_wrong_number_is_far_away(copy):
    path = copy / NAMES[0] / "seed0.json"
    result = json.loads(path.read_text(encoding="utf-8"))
    means = result["evaluations"]["K=5"]["mse"]["mean"]
    means[1] *= 2
    path.write_text(json.dumps(result), encoding="utf-8")
    far = rederive.standard_errors(NAMES[0], steps=(1, 10))
    assert far[1] > 5 and far[10] < 4


@pytest.mark.parametrize("tasks", [1, 0, -1, 2.5])
@pytest.mark.parametrize("name", NAMES)
def test_too_few_tasks_are_refused(name, tasks):
    with pytest.raises(ValueError, match=rf"tasks={tasks}, but a whole number from 2 on is needed"):
        rederive.standard_errors(name, tasks=tasks)


def test_an_evaluation_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="evaluation='K=7', but sinusoid-maml has 'K=5', 'K=10', 'K=20'"):
        rederive.standard_errors("sinusoid-maml", "K=7")


@pytest.mark.parametrize("name", ["sinusoid-oracle", "sinusoid-random"])
def test_a_row_that_was_not_run_says_so(copy, name):
    with pytest.raises(FileNotFoundError, match=name):
        rederive.standard_errors(name)


def test_a_row_that_trains_nothing_begins_anew():
    assert not results.checkpoint("sinusoid-random").exists()
    assert max(rederive.standard_errors("sinusoid-random", "K=10", steps=(0, 1, 10), seed=2).values()) < 5
