"""The sampler: which episodes count, what their randomness depends on, and what an update gets of them."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from mamlkit.rl import batched, envs, returns
from mamlkit.rl.policy import gaussian_mlp
from mamlkit.rl.sampling import mean_returns, sample, to_steps

POLICY = gaussian_mlp(2, 2, (5, 4))
# all but the second are near enough to be met by chance
GOALS = np.array([[0.02, -0.02], [0.4, 0.3], [-0.02, 0.03]])


def parameters(tasks, seed=0):
    params = POLICY.init(torch.Generator().manual_seed(seed))
    params["log_std"] -= 1.5  # small steps, so that the near goal is met
    return {k: torch.stack([v + 0.01 * task for task in range(tasks)]) for k, v in params.items()}


def rollouts_of(tasks=(0, 1, 2), rollouts=4, key=(0, 0), horizon=30, goals=GOALS, drop_unfinished=False):
    env = envs.make("2d-navigation", np.repeat(GOALS[list(tasks)], rollouts, axis=0), horizon=horizon)
    params = {k: v[list(tasks)] for k, v in parameters(3).items()}
    goals = None if goals is None else goals[list(tasks)]
    return sample(env, POLICY, params, rollouts, key, goals, drop_unfinished=drop_unfinished)


def episodes(found, task):
    """Length, last step and whether it counts, of every episode of a task that came to its end."""
    for row in range(found.last.shape[1]):
        start = 0
        for end in np.flatnonzero(found.last[task, row]):
            assert (found.time[task, row, start : end + 1] == np.arange(end + 1 - start)).all()
            valid = found.valid[task, row, start : end + 1]
            assert valid.all() or not valid.any()
            yield end + 1 - start, end, bool(valid[0])
            start = end + 1
        assert not found.valid[task, row, start:].any()


def test_in_training_every_episode_that_begins_counts_and_no_more_begin_than_needed():
    found = rollouts_of()
    lengths = [[length for length, _, counts in episodes(found, task) if counts] for task in range(3)]
    assert min(min(each) for each in lengths) < 30  # else this test has seen no early end
    for task, each in enumerate(lengths):
        assert all(counts for *_, counts in episodes(found, task))
        assert 120 <= sum(each) < 120 + 30 and sum(each) == found.valid[task].sum()
        assert (found.time[task] == 0).sum() == len(each)


def test_in_a_test_those_count_that_were_finished_when_the_task_had_enough():
    dropped = 0
    for key in range(30):
        found = rollouts_of(key=(key,), drop_unfinished=True)
        for task in range(3):
            ended = list(episodes(found, task))
            finished = 0
            for step in sorted({end for _, end, _ in ended}):
                together = [(length, counts) for length, end, counts in ended if end == step]
                assert all(counts == (finished < 120) for _, counts in together)
                finished += sum(length for length, counts in together if counts)
            assert finished == found.valid[task].sum() >= 120
            dropped += sum(not counts for *_, counts in ended)
    assert dropped > 0  # else this test has seen no episode that came too late


def test_without_early_ends_there_is_one_episode_a_row_whatever_the_rule():
    one, other = (rollouts_of(tasks=(1,), drop_unfinished=rule) for rule in (False, True))
    assert (
        one.rewards.shape == (1, 4, 30)
        and one.valid.all()
        and one.last[..., -1].all()
        and one.last.sum() == 4
    )
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_actions_are_kept_as_drawn_not_as_clipped():
    assert np.abs(sample_wide().actions).max() > 1


def sample_wide():
    """Rollouts of a policy whose deviations are 1."""
    env = envs.make("2d-navigation", GOALS[1:2], horizon=30)
    params = {k: v[None] for k, v in POLICY.init(torch.Generator().manual_seed(0)).items()}
    return sample(env, POLICY, params, 1, (0,), GOALS[1:2])


def test_every_episode_has_noise_of_its_own_and_its_environment_a_seed_of_its_own(monkeypatch):
    """Of 62 bits, so that two are never alike by chance."""
    begun, reset = [], batched.Batched.reset

    def watched(env, *, seed, options):
        begun.extend(number for number, new in zip(seed, options["reset_mask"], strict=True) if new)
        return reset(env, seed=seed, options=options)

    monkeypatch.setattr(batched.Batched, "reset", watched)
    found = rollouts_of()
    first = found.actions[:, :, 0]  # all begin in the same place
    episodes = int((found.time == 0)[found.valid].sum())
    assert len(begun) == episodes > 12 and len(set(begun)) == len(begun)
    assert len(np.unique(first.reshape(12, 2), axis=0)) == 12
    again, begun[:] = list(begun), []
    rollouts_of()
    assert begun == again
    begun.clear()
    rollouts_of(key=(0, 1))
    assert not set(begun) & set(again)


def test_an_episode_depends_on_key_task_and_number_alone():
    one, again, other = rollouts_of(), rollouts_of(), rollouts_of(key=(0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert not np.allclose(one.actions[:, :, :5], other.actions[:, :, :5])
    # A task's sample is the same with other tasks beside it, as far as the arithmetic of a batch allows.
    two = rollouts_of(tasks=(0, 1))
    steps = two.rewards.shape[-1]
    assert np.allclose(one.actions[:2, :, :steps][two.valid], two.actions[two.valid], atol=1e-5)
    assert np.array_equal(one.valid[:2, :, :steps], two.valid)


@pytest.mark.parametrize("drop_unfinished", [False, True])
@pytest.mark.parametrize("cut", [(1, 2), (2, 1), (1, 1, 1)])
def test_lanes_give_what_each_of_their_tasks_gives_alone(cut, drop_unfinished, two_threads):
    bounds, lengths = np.cumsum((0, *cut)), set()
    lanes = [
        envs.make("2d-navigation", np.repeat(GOALS[a:b], 4, axis=0), horizon=30) for a, b in pairwise(bounds)
    ]
    rules = {"drop_unfinished": drop_unfinished, "numbers": (5, 3, 4)}
    found = sample(lanes, POLICY, parameters(3), 4, (0, 1), GOALS, **rules)
    for a, b in pairwise(bounds):
        env = envs.make("2d-navigation", np.repeat(GOALS[a:b], 4, axis=0), horizon=30)
        params = {k: v[a:b] for k, v in parameters(3).items()}
        rules["numbers"] = (5, 3, 4)[a:b]
        alone = sample(env, POLICY, params, 4, (0, 1), GOALS[a:b], **rules)
        lengths.add(steps := alone.rewards.shape[2])
        assert all(
            np.array_equal(array[a:b, :, :steps], wanted) and not array[a:b, :, steps:].any()
            for array, wanted in zip(found, alone, strict=True)
        )
    assert len(lengths) > 1  # else nothing was padded


def test_lanes_of_too_few_environments_are_refused():
    lanes = [envs.make("2d-navigation", np.repeat(GOALS[:1], 4, axis=0)) for _ in range(2)]
    with pytest.raises(ValueError, match=r"4 \+ 4 environments for 3 tasks with rollouts=4"):
        sample(lanes, POLICY, parameters(3), 4, (0,), GOALS)


def test_all_actions_are_means_plus_noise_of_the_right_size():
    found = rollouts_of(tasks=(1,), rollouts=200)
    params = {k: v[1] for k, v in parameters(3).items()}
    z = (
        found.actions[0]
        - POLICY.mean(params, torch.from_numpy(found.observations[0]).flatten(0, 1))
        .numpy()
        .reshape(200, 30, 2)
    ) / np.exp(-1.49)
    # 12,000: the mean is within 4 standard errors in all but 6 of 100,000 runs, the variance likewise
    n = z.size
    assert abs(z.mean()) < 4 / np.sqrt(n) and abs(z.var() - 1) < 4 * np.sqrt(2 / n)
    assert abs(np.corrcoef(z[:, :-1].ravel(), z[:, 1:].ravel())[0, 1]) < 4 / np.sqrt(n)


def test_rewards_are_those_of_each_tasks_goal():
    found = rollouts_of(tasks=(1, 2))
    place = found.observations[:, :, 1:]
    distance = np.linalg.norm(place - GOALS[[1, 2]][:, None, None], axis=-1)
    same = found.valid[:, :, :-1] & ~found.last[:, :, :-1]
    assert found.rewards[:, :, :-1][same] == pytest.approx(-distance[same], abs=1e-6)


def test_goals_are_drawn_for_every_episode_where_none_are_given():
    found = rollouts_of(tasks=(1,), rollouts=50, goals=None)
    first = found.rewards[0, :, 0]
    assert len(np.unique(first.round(9))) > 45


def test_mean_returns_are_undiscounted_sums_over_the_episodes_that_count():
    found = rollouts_of()
    for task, wanted in enumerate(mean_returns(found)):
        sums, episodes = 0.0, 0
        for row in range(4):
            sums += found.rewards[task, row][found.valid[task, row]].sum()
            episodes += (found.last[task, row] & found.valid[task, row]).sum()
        assert wanted == pytest.approx(sums / episodes)


def test_an_update_gets_every_step_that_counts_once():
    found = rollouts_of()
    steps = to_steps(found, 0.99)
    for task in range(3):
        valid = found.valid[task]
        count = valid.sum()
        assert (
            steps.weights[task].sum() == pytest.approx(1, rel=1e-5)
            and (steps.weights[task] > 0).sum() == count
        )
        assert np.array_equal(steps.observations[task, :count], found.observations[task][valid])
        assert np.array_equal(steps.actions[task, :count], found.actions[task][valid])
        wanted = returns.advantages(
            found.observations[task], found.rewards[task], found.time[task], found.last[task], valid, 0.99
        )[valid]
        assert np.allclose(steps.advantages[task, :count], wanted, atol=1e-6)


def test_a_number_of_environments_that_does_not_fit_is_refused():
    env = envs.make("2d-navigation", GOALS)
    with pytest.raises(ValueError, match="3 environments for 1 tasks with rollouts=2"):
        sample(env, POLICY, parameters(1), 2, (0,), GOALS[:1])


def test_a_policy_that_is_not_finite_is_named():
    env = envs.make("2d-navigation", GOALS)
    params = parameters(3)
    params["bias2"][1] = float("nan")
    with pytest.raises(FloatingPointError, match="task 1"):
        sample(env, POLICY, params, 1, (0,), GOALS)
