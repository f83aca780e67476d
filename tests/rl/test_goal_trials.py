"""Trials in the paper's environments: the same episodes as one by one, and a flag where each ends."""

import numpy as np
import pytest
import torch

from mamlkit.rl import envs, memory
from mamlkit.rl.goal_trials import GoalTrials
from mamlkit.rl.memory import Trials

GOALS = np.array([[0.05, 0.0], [0.4, -0.3], [-0.2, 0.1]])
KEYS = np.array([[7, 0], [7, 1], [7, 2]])


def walked(episodes=3, noise=0.004):
    """Trials of a hand-made policy, which knows the goals."""
    some = GoalTrials(GOALS, KEYS, environment="2d-navigation", episodes=episodes)
    draw = np.random.default_rng(0)
    seen, found, lived = some.begin(), [], torch.ones(3, dtype=torch.bool)
    for _ in range(some.time):
        away = (GOALS - seen.numpy()) * 10 + draw.normal(0, 10 * noise, (3, 2))
        action = torch.as_tensor(away.clip(-0.5, 0.5), dtype=torch.float32)
        after = some.step(action)
        found.append((seen, action, after.rewards, after.ended, torch.zeros(3), lived))
        seen, lived = after.observations, lived & ~after.over
    return some, Trials(*(torch.stack(part, 1) for part in zip(*found)))


def test_a_trial_is_its_episodes_one_after_the_other_in_the_papers_own_environment():
    some, trials = walked()
    returns = some.measured(trials)["return"]
    lengths = set()
    for task in range(3):
        time = 0
        for episode in range(3):
            env = envs.make("2d-navigation", GOALS[task : task + 1])
            seen, _ = env.reset(seed=[0])
            total, done, steps = 0.0, False, 0
            while not done:
                assert trials.lived[task, time]
                assert trials.observations[task, time].numpy() == pytest.approx(seen[0], abs=1e-6)
                seen, reward, end, cut, _ = env.step(trials.actions[task, time : time + 1].numpy())
                done = bool(end[0] or cut[0])
                assert bool(trials.ended[task, time]) == done
                total, time, steps = total + reward[0], time + 1, steps + 1
            assert returns[task, episode] == pytest.approx(total, abs=1e-4)
            lengths.add(steps)
        assert not trials.lived[task, time:].any() and not trials.rewards[task, time:].any()
    assert len(lengths) > 2  # they end at different times
    assert trials.ended.sum(1).tolist() == [3, 3, 3]


def test_after_an_episode_the_first_observation_of_the_next_comes_with_the_flag():
    some, trials = walked()
    inputs = memory.inputs_of(trials, some.actions)
    for task, time in trials.ended[:, :-1].nonzero().tolist():
        if trials.lived[task, time + 1]:
            assert inputs[task, time + 1, -1] == 1 and not inputs[task, time + 1, :2].any()
            assert inputs[task, time + 1, 2:4].tolist() == trials.actions[task, time].tolist()
            assert inputs[task, time + 1, 4] == trials.rewards[task, time]


def test_a_trial_does_not_depend_on_the_others_and_repeats():
    half = {"environment": "half-cheetah-direction", "episodes": 2}
    goals, keys = np.array([1.0, -1.0]), np.array([[3, 0], [3, 1]])
    both, alone = GoalTrials(goals, keys, **half), GoalTrials(goals[1:], keys[1:], **half)
    assert both.observation == 20 and both.actions.size == 6 and both.time == 400
    ours, theirs = both.begin(), alone.begin()
    assert torch.equal(ours[1:], theirs) and not torch.equal(ours[:1], theirs)
    actions = torch.zeros(2, 6)
    for time in range(201):
        one, other = both.step(actions), alone.step(actions[1:])
        assert torch.equal(one.observations[1:], other.observations)
        assert bool(one.ended[0]) == (time == 199)
    assert torch.equal(both.begin(), ours)


def test_each_episode_of_each_trial_begins_elsewhere():
    goals, keys = np.ones(3), np.array([[3, 0], [3, 1], [4, 0]])
    some = GoalTrials(goals, keys, environment="half-cheetah-direction", episodes=3)
    starts = [some.begin()]
    for time in range(1, 401):
        after = some.step(torch.zeros(3, 6))
        if time % 200 == 0:
            starts.append(after.observations)
    rows = torch.cat(starts)
    assert len(rows) == 9 and len({tuple(row.tolist()) for row in rows}) == 9


def forward_and_backward(**more):
    """Two trials of the robot that differ in their goals alone."""
    given = {"environment": "half-cheetah-direction", "episodes": 2} | more
    return GoalTrials(np.array([1.0, -1.0]), np.array([[3, 0], [3, 0]]), **given)


def test_nothing_tells_the_goal_before_a_reward_does():
    """Same keys, same noise: two opposite goals look alike until the policy has been told a reward."""
    some, draw = forward_and_backward(), torch.Generator().manual_seed(0)
    params = memory.init(some.observation, some.actions, 8, draw)
    params["policy_head"] += 0.3
    noise = some.actions.noise(1, 40, draw).expand(2, -1, -1)
    trials = memory.sample(params, some, noise)
    alike = lambda part: [bool(torch.equal(*part[:, time])) for time in range(40)]
    seen, done, paid = (alike(getattr(trials, name)) for name in ("observations", "actions", "rewards"))
    assert seen[:2] == [True, True] and done[0] and not paid[0]
    assert not any(done[1:]) and not any(seen[2:])  # so what was compared is not idle


def test_rewards_are_those_of_the_environment_that_a_policy_without_memory_has():
    some = forward_and_backward()
    env = envs.make("half-cheetah-direction", np.array([1.0, -1.0]))
    seen, draw = some.begin().numpy(), np.random.default_rng(0)
    assert seen == pytest.approx(env.reset(seed=[[3, 0, 0], [3, 0, 0]])[0], abs=1e-5)
    total = np.zeros(2)
    for _ in range(200):
        actions = draw.normal(0, 1, (2, 6)).astype(np.float32)
        after = some.step(torch.from_numpy(actions))
        seen, rewards, *_ = env.step(actions)
        assert after.rewards.numpy() == pytest.approx(rewards, abs=1e-5)
        total += rewards
    assert after.ended.tolist() == [1, 1] and not after.over.any()
    assert total[0] != pytest.approx(total[1], abs=1)


def test_a_goal_that_is_shown_stands_behind_what_is_seen():
    shown, hidden = forward_and_backward(show_goal=True), forward_and_backward()
    assert shown.observation == hidden.observation + 1
    for _ in range(3):
        told, seen = shown.begin(), hidden.begin()
        assert torch.equal(told[:, :-1], seen) and told[:, -1].tolist() == [1, -1]


def test_what_makes_no_trial_is_refused():
    with pytest.raises(ValueError, match="a key for each goal"):
        GoalTrials(GOALS, KEYS[:2], environment="2d-navigation", episodes=2)
    with pytest.raises(ValueError, match="episodes=0"):
        GoalTrials(GOALS, KEYS, environment="2d-navigation", episodes=0)
    with pytest.raises(ValueError, match="environment 'maze' is unknown"):
        GoalTrials(GOALS, KEYS, environment="maze", episodes=2)
