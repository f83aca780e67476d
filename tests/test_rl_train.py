"""Meta-training of policies: it is reproducible, resumes exactly, and learns."""

import dataclasses

import numpy as np
import pytest
import torch

from mamlkit import experiments, runs
from mamlkit.experiments import PolicyEvaluation
from mamlkit.rl import maml_rl, train
from mamlkit.rl.sampling import sample, to_steps

SMALL = {"meta_batch_size": 4, "rollouts": 3, "iterations": 4}
ROW = dataclasses.replace(experiments.get("2d-navigation-maml"), name="small-navigation", **SMALL)
CHEETAH = dataclasses.replace(experiments.get("half-cheetah-direction-maml"), name="small-cheetah", **SMALL | {"iterations": 1})


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", ["2d-navigation-maml", "2d-navigation-pretrained", "2d-navigation-oracle"])
def test_a_run_that_is_cut_goes_on_exactly(name, tmp_path):
    row = dataclasses.replace(experiments.get(name), **SMALL)
    whole = train.fit(row)
    folder = runs.open_run(row, 0, "cpu", base=tmp_path)
    train.fit(row, folder=folder, until=2)
    rest = train.fit(row, folder=folder)
    assert same(whole.params, rest.params) and rest.iteration == 4
    columns = [c for c in train.LOG_COLUMNS if "seconds" not in c]
    assert whole.log[columns].equals(rest.log[columns])
    assert not same(whole.params, train.fit(row, seed=1).params)


def test_the_number_of_simulation_threads_changes_nothing():
    assert same(train.fit(CHEETAH, threads=1).params, train.fit(CHEETAH, threads=2).params)


def test_an_iteration_is_algorithm_3_step_by_step():
    row = dataclasses.replace(ROW, iterations=1)
    env, policy = train.build(row, 4, 3)
    theta = train.fit(dataclasses.replace(row, iterations=0)).params
    goals = env.task.sample(np.random.default_rng((0, train.TRAIN, 0, train.GOALS)), 4)
    before = to_steps(sample(env, policy, train.spread(theta, 4), 3, (0, train.TRAIN, 0, train.BEFORE), goals), 0.99)
    each = [maml_rl.adapt(policy, theta, type(before)(*(part[t] for part in before)), 0.5) for t in range(4)]
    adapted = {k: torch.stack([fast[k] for fast in each]) for k in theta}
    after = to_steps(sample(env, policy, adapted, 3, (0, train.TRAIN, 0, train.AFTER), goals), 0.99)
    wanted, step = maml_rl.meta_update(policy, theta, before, after, inner_lr=0.5, max_kl=0.01)
    fit = train.fit(row)
    assert not step.refused and all(torch.allclose(fit.params[k], wanted[k], atol=1e-4) for k in wanted)
    assert fit.log.kl[0] == pytest.approx(step.kl, rel=1e-2)


def test_it_learns_to_adapt():
    row = dataclasses.replace(ROW, meta_batch_size=8, rollouts=10, iterations=12)
    fit = train.fit(row)
    test = PolicyEvaluation("small", 10, (0.5,))
    start = train.evaluate(row, train.fit(dataclasses.replace(row, iterations=0)).params, test)["return"].mean(0)
    found = train.evaluate(row, fit.params, test)["return"].mean(0)
    assert found[1] > found[0] + 10 and found[1] > start[1] + 10  # at least 10 of the 50 that there are to gain


def test_the_oracle_sees_its_goal():
    row = dataclasses.replace(experiments.get("half-cheetah-velocity-oracle"), rollouts=2, iterations=0)
    env, _ = train.build(row, 1, 2)
    assert env.single_observation_space.shape == (21,)
    assert train.evaluate(row, train.fit(row).params, PolicyEvaluation("few", 1, ()), goals=np.array([0.5, 1.0]))["return"].shape == (2, 1)


def test_test_goals_are_the_papers():
    assert train.test_goals("2d-navigation").shape == (40, 2)
    directions = train.test_goals("half-cheetah-direction")
    assert directions.shape == (40,) and (directions == 1).sum() == 18 and (directions == -1).sum() == 22
    for name in ("2d-navigation", "half-cheetah-velocity", "half-cheetah-direction", "ant-velocity", "ant-direction"):
        assert train.envs.ENVIRONMENTS[name].goals.contains(train.test_goals(name)).all()


def test_what_is_tested_does_not_depend_on_the_other_goals():
    params = train.fit(dataclasses.replace(ROW, iterations=0)).params
    test, goals = PolicyEvaluation("small", 2, (0.1,)), train.test_goals("2d-navigation")
    few, more = (train.evaluate(ROW, params, test, goals=goals[:n])["return"] for n in (2, 5))
    assert few == pytest.approx(more[:2], rel=1e-3)


def test_parameters_that_are_not_finite_stop_the_run_and_keep_the_state(tmp_path, monkeypatch):
    folder = runs.open_run(ROW, 0, "cpu", base=tmp_path)
    train.fit(ROW, folder=folder, until=1)
    good = (folder / "state.safetensors").read_bytes()
    poison = lambda policy, params, *args, **kwargs: ({k: v * float("nan") for k, v in params.items()}, train.maml_rl.Step(0, 0, 0, 1))
    monkeypatch.setattr(train.maml_rl, "meta_update", poison)
    with pytest.raises(FloatingPointError, match="not finite after iteration 1 of small-navigation"):
        train.fit(ROW, folder=folder)
    assert (folder / "state.safetensors").read_bytes() == good
