"""Meta-training of policies: it is reproducible, resumes exactly, and learns."""

import dataclasses
import os
import re
import signal
import time

import numpy as np
import pytest
import torch

from made_runs import opened, same
from mamlkit import measures
from mamlkit.experiments import paper
from mamlkit.experiments.rows import POLICY_ACTIVATIONS, POLICY_METHODS, PolicyEvaluation
from mamlkit.rl import maml_rl
from mamlkit.rl.policy import ACTIVATIONS
from mamlkit.rl.sampling import mean_returns, sample, to_steps
from mamlkit.runs import checkpoints, folders, policies, policy_training, seeds, train
from mamlkit.runs.policy_training import AFTER, BEFORE, GOALS

SMALL = {"meta_batch_size": 4, "rollouts": 3, "iterations": 4}
ROW = dataclasses.replace(paper.get("2d-navigation-maml"), name="small-navigation", **SMALL)
CHEETAH = dataclasses.replace(
    paper.get("half-cheetah-direction-maml"), name="small-cheetah", **SMALL | {"iterations": 1}
)


def test_more_goals_than_there_are_are_refused():
    row = paper.get("2d-navigation-maml")
    params = policies.build(row, 1, 1)[1].init(seeds.generator(0, "init"))
    with pytest.raises(ValueError, match="tasks=50, but .* has 40 of 2d-navigation; add some"):
        policies.evaluate(row, params, dataclasses.replace(row.evaluations[0], tasks=50))


@pytest.mark.parametrize("name", ["2d-navigation-maml", "2d-navigation-pretrained", "2d-navigation-oracle"])
def test_a_run_that_is_cut_goes_on_exactly(name, tmp_path):
    row = dataclasses.replace(paper.get(name), **SMALL)
    whole = train.fit(row)
    folder = opened(row, base=tmp_path)
    train.fit(row, folder=folder, until=2)
    rest = train.fit(row, folder=folder)
    assert same(whole.params, rest.params) and rest.iteration == 4
    columns = [c for c in policy_training.LOG_COLUMNS if "seconds" not in c]
    assert whole.log[columns].equals(rest.log[columns])
    assert not same(whole.params, train.fit(row, seed=1).params)


def test_a_run_whose_log_is_from_before_a_column_goes_on_exactly(tmp_path, monkeypatch):
    row = dataclasses.replace(ROW, iterations=3)
    folder, line = opened(row, base=tmp_path), policy_training.PolicyTraining.line
    older = lambda self, i: {k: v for k, v in line(self, i).items() if k != "beyond_clip"}
    with monkeypatch.context() as patch:
        patch.setattr(policy_training.PolicyTraining, "line", older)
        train.fit(row, folder=folder, until=2)
    rest = train.fit(row, folder=folder)
    assert rest.log.beyond_clip.isna().tolist() == [True, True, False]
    assert same(rest.params, train.fit(row).params)


def test_the_share_beyond_the_clip_is_that_of_the_steps_before_the_inner_step():
    row = dataclasses.replace(CHEETAH, baseline_clip=5.0, meta_batch_size=2, rollouts=1)
    env, policy = policies.build(row, 2, 1)
    everyone = policies.spread(policy.init(seeds.generator(0, "init")), 2)
    goals = env.task.sample(np.random.default_rng((0, policies.TRAIN, 0, GOALS)), 2)
    seen = sample(env, policy, everyone, 1, (0, policies.TRAIN, 0, BEFORE), goals)
    steps = [x for x, counts in zip(seen.observations.reshape(-1, 20), seen.valid.ravel()) if counts]
    wanted = sum(any(abs(value) > 5 for value in x) for x in steps) / len(steps)
    assert 0.1 < wanted < 0.99 and train.fit(row).log.beyond_clip.tolist() == [wanted]
    few = seen._replace(valid=np.zeros_like(seen.valid))
    few.valid[0, 0, :2] = True
    few.observations[0, 0, :2] = [[5.0] * 20, [-5.1] * 20]
    assert policy_training.beyond(few, 5.0) == 0.5
    free, bound = (dataclasses.replace(row, baseline_clip=clip) for clip in (None, 10.0))
    assert train.fit(free).log.beyond_clip.equals(train.fit(bound).log.beyond_clip)
    env.close()


def test_training_stops_when_asked_and_goes_on_exactly(tmp_path):
    row = dataclasses.replace(paper.get("2d-navigation-oracle"), **SMALL)
    folder, answers = opened(row, base=tmp_path), iter([False] * 3 + [True])
    assert train.fit(row, folder=folder, stop=lambda: next(answers)).iteration == 3
    assert same(train.fit(row, folder=folder).params, train.fit(row).params)


@pytest.mark.parametrize("iterations", [0, 2])
def test_a_run_that_has_come_to_no_iteration_goes_on(iterations, tmp_path):
    row = dataclasses.replace(ROW, iterations=iterations)
    train.fit(row, folder=tmp_path, stop=lambda: True)
    assert train.fit(row, folder=tmp_path).iteration == iterations


@pytest.mark.parametrize("times", [1, 2])
def test_one_interrupt_lets_the_iteration_end_and_two_do_not(times, tmp_path, monkeypatch):
    row = dataclasses.replace(paper.get("2d-navigation-oracle"), **SMALL)
    folder, step, ended = opened(row, base=tmp_path), policy_training.PolicyTraining.step, []
    train.fit(row, folder=folder, until=1)

    def signalled(*args):
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0)  # Python handles a signal between two of its instructions
        step(*args)
        ended.append(True)

    with (
        monkeypatch.context() as patch,
        pytest.raises(KeyboardInterrupt, match="after iteration 2" if times == 1 else "at once"),
    ):
        patch.setattr(policy_training.PolicyTraining, "step", signalled)
        train.fit(row, folder=folder)
    assert len(ended) == (times == 1) and folders.iterations_done(folder) == (2 if times == 1 else 1)
    assert same(train.fit(row, folder=folder).params, train.fit(row).params)


@pytest.mark.parametrize("log", [None, "one line"])
def test_a_run_whose_log_is_cut_short_is_refused(log, tmp_path):
    row = dataclasses.replace(paper.get("2d-navigation-oracle"), **SMALL)
    folder = opened(row, base=tmp_path)
    train.fit(row, folder=folder, until=2)
    path = folder / "metrics.csv"
    lines = path.read_text().splitlines()
    path.unlink() if log is None else path.write_text("\n".join(lines[:2]))
    with pytest.raises(
        ValueError,
        match=f"metrics.csv has no line of iteration {1 if log is None else 2}, although the run's state "
        f"is of iteration 2",
    ):
        train.fit(row, folder=folder)


def test_a_run_that_is_killed_while_it_is_saved_goes_on(tmp_path, monkeypatch):
    row = dataclasses.replace(paper.get("2d-navigation-oracle"), **SMALL)
    folder = opened(row, base=tmp_path)
    train.fit(row, folder=folder, until=1)

    def killed(*_):
        raise MemoryError

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(checkpoints, "save_state", killed)
        train.fit(row, folder=folder, until=3)
    assert list(train.fit(row, folder=folder).log.iteration) == [1, 2, 3, 4]


@pytest.mark.parametrize("saves", [0, 1])
def test_a_run_that_is_killed_in_its_first_saves_goes_on(tmp_path, monkeypatch, saves):
    row, calls, own = (
        dataclasses.replace(paper.get("2d-navigation-oracle"), **SMALL),
        [],
        checkpoints.save_state,
    )
    folder = opened(row, base=tmp_path)

    def killed(*arguments):
        calls.append(1)
        if len(calls) > saves:
            raise MemoryError
        own(*arguments)

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(checkpoints, "save_state", killed)
        train.fit(row, folder=folder, until=2)
    assert list(train.fit(row, folder=folder).log.iteration) == [1, 2, 3, 4]


def test_the_number_of_simulation_threads_changes_nothing():
    assert same(train.fit(CHEETAH, threads=1).params, train.fit(CHEETAH, threads=2).params)


@pytest.mark.parametrize("name", ["2d-navigation-oracle", "2d-navigation-pretrained", "2d-navigation-maml"])
def test_the_number_of_pytorchs_threads_changes_nothing(name):
    """Also where all points are one piece, whose sums PyTorch would split otherwise for each number."""
    row = dataclasses.replace(paper.get(name), rollouts=40, iterations=2, meta_batch_size=1)
    found = []
    for threads in (1, 2, 4, 8):
        torch.set_num_threads(threads)
        found.append(train.fit(row))
    torch.set_num_threads(1)
    assert all(same(found[0].params, each.params) for each in found[1:])
    assert all(found[0].log.return_before.equals(each.log.return_before) for each in found[1:])


def test_training_and_tests_take_the_clip_of_the_row():
    free = dataclasses.replace(CHEETAH, baseline_clip=None)  # its joints are beyond 10 rad/s now and then
    clipped, unclipped = train.fit(CHEETAH).params, train.fit(free).params
    assert not same(clipped, unclipped)
    test, goals = PolicyEvaluation("small", 3, (0.1,)), np.array([1.0, -1.0])
    found, other = (policies.evaluate(row, clipped, test, goals=goals)["return"] for row in (CHEETAH, free))
    assert (found[:, 0] == other[:, 0]).all() and (found[:, 1] != other[:, 1]).all()


def test_an_iteration_is_algorithm_3_step_by_step():
    row = dataclasses.replace(ROW, iterations=1)
    env, policy = policies.build(row, 4, 3)
    theta = train.fit(dataclasses.replace(row, iterations=0)).params
    goals = env.task.sample(np.random.default_rng((0, policies.TRAIN, 0, GOALS)), 4)
    before = to_steps(
        sample(env, policy, policies.spread(theta, 4), 3, (0, policies.TRAIN, 0, BEFORE), goals),
        0.99,
    )
    each = [maml_rl.adapt(policy, theta, type(before)(*(part[t] for part in before)), 0.5) for t in range(4)]
    adapted = {k: torch.stack([fast[k] for fast in each]) for k in theta}
    after = to_steps(sample(env, policy, adapted, 3, (0, policies.TRAIN, 0, AFTER), goals), 0.99)
    wanted, step = maml_rl.meta_update(policy, theta, before, after, inner_lr=0.5, max_kl=0.01)
    fit = train.fit(row)
    assert not step.refused and all(torch.allclose(fit.params[k], wanted[k], atol=1e-4) for k in wanted)
    assert fit.log.kl[0] == pytest.approx(step.kl, rel=1e-2)


@pytest.mark.parametrize("name", ["half-cheetah-direction-maml", "ant-velocity-maml", "ant-velocity-oracle"])
def test_two_threads_share_the_robots_and_change_nothing(name, monkeypatch):
    row = dataclasses.replace(paper.get(name), **SMALL | {"meta_batch_size": 3, "iterations": 2})
    found, shared = [], []
    for threads in (1, 2):
        monkeypatch.setattr(policies, "MOST", threads)  # of simulation
        torch.set_num_threads(threads)
        training = policy_training.PolicyTraining(row, 0, "cpu")
        shared.append([(env.num_envs, env._threads) for env in training.lanes])
        for iteration in range(2):
            training.step(iteration)
        training.close()
        goals = policies.test_goals(row.environment)[:3]
        test = dataclasses.replace(row.evaluations[0], rollouts=2)
        tested = policies.evaluate(row, training.params, test, goals=goals)["return"]
        found.append(training.params | {"tested": torch.from_numpy(tested)})
    torch.set_num_threads(1)
    assert same(*found)
    assert shared == [[(9, 1)], [(6, 1), (3, 1)]]


def test_it_learns_to_adapt():
    row = dataclasses.replace(ROW, meta_batch_size=8, rollouts=10, iterations=12)
    fit = train.fit(row)
    test = PolicyEvaluation("small", 10, (0.5,))
    start = policies.evaluate(row, train.fit(dataclasses.replace(row, iterations=0)).params, test)[
        "return"
    ].mean(0)
    found = policies.evaluate(row, fit.params, test)["return"].mean(0)
    # at least 10 of the 50 that there are to gain
    assert found[1] > found[0] + 10 and found[1] > start[1] + 10


def test_the_oracle_sees_its_goal():
    row = dataclasses.replace(paper.get("half-cheetah-velocity-oracle"), rollouts=2, iterations=0)
    env, _ = policies.build(row, 1, 2)
    assert env.single_observation_space.shape == (21,)
    assert policies.evaluate(
        row,
        train.fit(row).params,
        PolicyEvaluation("few", 1, (), headline_step=0),
        goals=np.array([0.5, 1.0]),
    )["return"].shape == (2, 1)


def test_test_goals_are_the_papers():
    points = policies.test_goals("2d-navigation")
    assert points.shape == (40, 2) and points[0] == pytest.approx([-0.082978, 0.220324])
    assert policies.test_goals("half-cheetah-velocity")[:3] == pytest.approx([0.834044, 1.440649, 0.000229])
    directions = policies.test_goals("half-cheetah-direction")
    assert directions.shape == (40,) and (directions == 1).sum() == 18 and (directions == -1).sum() == 22
    for name in (
        "2d-navigation",
        "half-cheetah-velocity",
        "half-cheetah-direction",
        "ant-velocity",
        "ant-direction",
    ):
        assert policies.envs.ENVIRONMENTS[name].goals.contains(policies.test_goals(name)).all()


def test_what_is_tested_does_not_depend_on_the_other_goals():
    params = train.fit(dataclasses.replace(ROW, iterations=0)).params
    test, goals = PolicyEvaluation("small", 2, (0.1,)), policies.test_goals("2d-navigation")
    few, more = (policies.evaluate(ROW, params, test, goals=goals[:n])["return"] for n in (2, 5))
    assert few == pytest.approx(more[:2], rel=1e-3)


@pytest.mark.parametrize("method", ["maml", "policy gradient"])
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_state(method, tmp_path, monkeypatch):
    row = dataclasses.replace(ROW, method=method)
    folder = opened(row, base=tmp_path)
    train.fit(row, folder=folder, until=1)
    good = (folder / "state.safetensors").read_bytes()
    poisoned = lambda *args: to_steps(*args)._replace(
        advantages=torch.full_like(to_steps(*args).advantages, torch.nan)
    )
    monkeypatch.setattr(policy_training, "to_steps", poisoned)
    with pytest.raises(FloatingPointError, match="iteration 2 of small-navigation, seed 0, run folder"):
        train.fit(row, folder=folder)
    assert (folder / "state.safetensors").read_bytes() == good


def test_every_method_has_a_way_to_train():
    assert set(POLICY_METHODS) == {*policy_training.CURVATURE, "trpo", "policy gradient"}


def test_every_activation_of_a_row_is_one_of_the_policys():
    assert set(POLICY_ACTIVATIONS) == set(ACTIVATIONS)


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("method", "maml-ratios", "must be one of 'maml', 'maml, ratios'"),
        ("activation", "gelu", "must be one of 'relu', 'tanh'"),
        ("rollouts", 0, "at least 1"),
        ("meta_batch_size", 0, "at least 1"),
        ("iterations", -1, "at least 0"),
        ("max_kl", 0.0, "positive and finite"),
        ("max_kl", float("nan"), "positive and finite"),
        ("max_kl", float("inf"), "positive and finite"),
        ("outer_lr", -1.0, "positive and finite"),
        ("baseline_clip", -1.0, "positive and finite"),
        ("inner_lr", float("nan"), "at least 0"),
        ("inner_lr", -0.5, "at least 0"),
        ("discount", 1.5, "between 0 and 1"),
    ],
)
def test_settings_that_no_run_can_have_are_refused(setting, value, said):
    with pytest.raises(ValueError, match=f"small-navigation: {setting}=.*{said}"):
        dataclasses.replace(ROW, **{setting: value})


def spied(monkeypatch, row, iterations=2):
    """The arguments ``sample`` was called with, and the fit."""
    calls = []

    def spy(lanes, policy, params, rollouts, key, goals=None, **rules):
        found = sample(lanes, policy, params, rollouts, key, goals, **rules)
        calls.append(
            {
                "key": tuple(key),
                "goals": goals,
                "params": {k: v.clone() for k, v in params.items()},
                "found": found,
                **rules,
            }
        )
        return found

    monkeypatch.setattr(policy_training, "sample", spy)
    return calls, train.fit(dataclasses.replace(row, iterations=iterations))


def test_goals_and_noise_are_new_in_every_iteration_and_phase(monkeypatch):
    calls, fit = spied(monkeypatch, ROW)
    assert len({call["key"] for call in calls}) == 4
    assert (
        np.array_equal(calls[0]["goals"], calls[1]["goals"])
        and not np.isin(calls[2]["goals"], calls[0]["goals"]).any()
    )
    returns = [mean_returns(call["found"]).mean() for call in calls]
    assert list(fit.log.return_before) == returns[::2] and list(fit.log.return_after) == returns[1::2]


@pytest.mark.parametrize("name", ["2d-navigation-oracle", "half-cheetah-velocity-pretrained"])
def test_pretraining_and_the_oracle_draw_a_goal_for_every_episode(name, monkeypatch):
    calls, _ = spied(monkeypatch, dataclasses.replace(paper.get(name), rollouts=2), iterations=1)
    assert [call["goals"] for call in calls] == [None]


@pytest.mark.parametrize("max_kl", [0.001, 0.02])
def test_a_step_goes_to_the_edge_of_the_rows_own_region(max_kl):
    kl = train.fit(dataclasses.replace(CHEETAH, max_kl=max_kl)).log.kl[0]
    assert 0.3 * max_kl < kl <= max_kl


def test_the_policy_is_the_papers():
    params = train.fit(dataclasses.replace(CHEETAH, iterations=0)).params
    assert {k: tuple(v.shape) for k, v in params.items() if "weight" in k} == {
        "weight0": (100, 20),
        "weight1": (100, 100),
        "weight2": (6, 100),
    }


def test_adam_moves_each_parameter_by_its_step_size_at_first():
    row = dataclasses.replace(paper.get("2d-navigation-pretrained"), **SMALL | {"iterations": 1})
    start, end = (train.fit(dataclasses.replace(row, iterations=n)).params for n in (0, 1))
    assert (end["bias2"] - start["bias2"]).abs().tolist() == pytest.approx([0.001, 0.001], rel=1e-3)


def test_adam_goes_to_where_the_surrogate_is_less(monkeypatch):
    row = dataclasses.replace(paper.get("2d-navigation-pretrained"), **SMALL | {"iterations": 1})
    batches, plain = [], maml_rl.MetaBatch
    kept = lambda *given, **more: batches.append(plain(*given, **more)) or batches[-1]
    monkeypatch.setattr(maml_rl, "MetaBatch", kept)
    end = train.fit(row).params
    (batch,) = batches
    start = train.fit(dataclasses.replace(row, iterations=0)).params
    before, after = (batch.judge(batch.vector(params))[0] for params in (start, end))
    assert abs(before) < 1e-6 and after < -1e-3


def test_a_test_adapts_step_by_step_with_its_own_step_sizes(monkeypatch):
    params = train.fit(dataclasses.replace(ROW, iterations=0)).params
    calls = []

    def spy(*args, **rules):
        calls.append((args, rules))
        return sample(*args, **rules)

    monkeypatch.setattr(policies, "sample", spy)
    found = policies.evaluate(
        ROW, params, PolicyEvaluation("small", 2, (0.4, 0.1)), goals=policies.test_goals("2d-navigation")[:3]
    )["return"]
    assert [args[4] for args, _ in calls] == [(0, policies.TEST, step) for step in range(3)] and all(
        rules["drop_unfinished"] for _, rules in calls
    )
    fast = policies.spread(params, 3)
    for step, ((_, policy, used, rollouts, key, goals), rules) in enumerate(calls):
        assert all(torch.allclose(used[k], fast[k], atol=1e-6) for k in fast)
        episodes = sample(policies.build(ROW, 3, 2)[0], policy, fast, rollouts, key, goals, **rules)
        assert found[:, step] == pytest.approx(mean_returns(episodes), rel=1e-3)
        fast = maml_rl.adapt_each(policy, fast, to_steps(episodes, 0.99), (0.4, 0.1, 0.0)[step])


def test_a_task_that_diverges_is_nan_from_there_on_and_the_others_are_not():
    params = train.fit(dataclasses.replace(ROW, iterations=0)).params
    goals = policies.test_goals("2d-navigation")[:3]
    plain = policies.evaluate(ROW, params, PolicyEvaluation("small", 2, (0.4,)), goals=goals)["return"]
    real = maml_rl.adapt_each

    def broken(*args):
        moved = real(*args)
        moved["bias0"][1] = torch.nan
        return moved

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policies.maml_rl, "adapt_each", broken)
        found = policies.evaluate(ROW, params, PolicyEvaluation("small", 2, (0.4,)), goals=goals)["return"]
    assert (
        np.isnan(found[1, 1]) and np.isnan(found).sum() == 1 and np.array_equal(found[[0, 2]], plain[[0, 2]])
    )
    assert measures.statistics("return", found)["diverged"] == [0, 1]


def test_an_environment_without_test_goals_says_so():
    with pytest.raises(ValueError, match="has no goals of environment 'hopper'"):
        policies.test_goals("hopper")


@pytest.mark.parametrize(
    ("goal", "words"),
    [
        ("0.1", "'0.1' is no goal of 2d-navigation; give 2 numbers, with spaces between, of the points with"),
        ("a 0.2", "'a 0.2' is no goal"),
        ("0.6 0.2", "'0.6 0.2' is no goal"),
        ("", "nan is no goal"),
    ],
)
def test_a_bad_test_goal_is_named_with_its_line_before_training(goal, words, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    lines = f"environment,task,goal\n2d-navigation,0,0.1 0.2\n2d-navigation,1,{goal}\n"
    (tmp_path / "data" / "test_goals.csv").write_text(lines)
    monkeypatch.setattr(policies.places, "repository", lambda: tmp_path)
    with pytest.raises(ValueError, match=re.escape(f"test_goals.csv, line 3: {words}")):
        policy_training.PolicyTraining(ROW, 0, "cpu")
