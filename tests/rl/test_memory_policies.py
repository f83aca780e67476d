"""A policy with a memory: what it is told, that its state is carried over episodes, and trials that end."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal

from made_tasks import BOTH, Made
from mamlkit.models.recurrent import gru
from mamlkit.rl import memory, rl2
from mamlkit.rl.actions import Choices, Moves
from mamlkit.runs.seeds import generator

UNITS = 5
names = lambda actions: type(actions).__name__


def policy(actions, seed=0):
    """Parameters of which none is zero."""
    draw = generator(seed, "test")
    begun = memory.init(1, actions, UNITS, draw)
    return {k: (v + 0.3 * torch.randn(v.shape, generator=draw)).double() for k, v in begun.items()}


def played(actions, params=None, tasks=4):
    some = Made(actions, tasks)
    noise = actions.noise(tasks, some.time, generator(1, "play")).double()
    return memory.sample(params or policy(actions), some, noise)


@pytest.mark.parametrize("actions", BOTH, ids=names)
def test_before_each_step_it_is_told_of_the_one_before_and_sees_the_episodes_first_observation(actions):
    trials = played(actions)
    inputs = memory.inputs_of(trials, actions)
    assert inputs.shape == (4, 6, 1 + actions.size + 2)
    for task in range(4):
        told = np.zeros(actions.size + 2)
        for time in range(6 if task % 2 == 0 else 3):
            wanted = [time % 3, *told]
            assert inputs[task, time].numpy() == pytest.approx(np.array(wanted, dtype=float))
            done = trials.actions[task, time]
            of_action = np.eye(3)[done] if isinstance(actions, Choices) else done.numpy()
            told = np.array([*of_action, float(trials.rewards[task, time]), float(time % 3 == 2)])
    with pytest.raises(ValueError, match="both must begin with"):
        memory.inputs_of(trials._replace(rewards=trials.rewards[0]), actions)


@pytest.mark.parametrize("actions", BOTH, ids=names)
def test_log_probabilities_are_those_of_single_steps_through_ends_of_episodes(actions):
    params, trials = policy(actions), played(actions)
    inputs = memory.inputs_of(trials, actions)
    outputs = memory.outputs_of(params, inputs, actions)
    found = actions.log_probs(params, outputs, trials.actions)
    assert torch.allclose(found[trials.lived], trials.log_probs[trials.lived], atol=1e-12)
    state = torch.zeros(4, UNITS, dtype=torch.float64)
    for time in range(6):
        state = gru(params, "policy", inputs[:, time], state)  # which nothing resets
        head = state @ params["policy_head"].T + params["policy_head_bias"]
        if isinstance(actions, Choices):
            wanted = head.log_softmax(-1)[torch.arange(4), trials.actions[:, time]]
        else:
            spread = params["policy_log_std"].exp()
            wanted = Independent(Normal(head, spread), 1).log_prob(trials.actions[:, time])
        assert torch.allclose(found[:, time], wanted, atol=1e-12)


@pytest.mark.parametrize("actions", BOTH, ids=names)
def test_who_forgets_knows_what_it_is_told_and_nothing_else(actions):
    params, some = policy(actions), Made(actions, 4)
    noise = actions.noise(4, some.time, generator(1, "play")).double()
    trials = memory.sample(params, some, noise, forget=True)
    inputs = memory.inputs_of(trials, actions)
    state = gru(params, "policy", inputs.flatten(0, 1), inputs.new_zeros(inputs.shape[:2].numel(), UNITS))
    outputs = actions.outputs(state @ params["policy_head"].T + params["policy_head_bias"])
    found = actions.log_probs(params, outputs.unflatten(0, inputs.shape[:2]), trials.actions)
    assert torch.allclose(found[trials.lived], trials.log_probs[trials.lived], atol=1e-12)
    assert not torch.equal(trials.log_probs, played(actions).log_probs)


@pytest.mark.parametrize("actions", BOTH, ids=names)
def test_who_is_not_told_rewards_gets_zeros_when_it_plays_and_when_it_learns(actions):
    params, some = policy(actions), Made(actions, 4)
    noise = actions.noise(4, some.time, generator(1, "play")).double()
    trials = memory.sample(params, some, noise, tell_reward=False)
    inputs = memory.inputs_of(trials, actions, tell_reward=False)
    told = memory.inputs_of(trials, actions)
    assert (inputs[..., -2] == 0).all() and (told[:, 1:, -2] != 0).any()
    others = [at for at in range(inputs.shape[2]) if at != inputs.shape[2] - 2]
    assert torch.equal(inputs[..., others], told[..., others])
    lived = trials.lived
    logs = lambda inputs: actions.log_probs(
        params, memory.outputs_of(params, inputs, actions), trials.actions
    )
    assert torch.allclose(logs(inputs)[lived], trials.log_probs[lived], atol=1e-12)
    assert not torch.allclose(logs(told)[lived], trials.log_probs[lived], atol=1e-3)
    how = {"actions": actions, "clip": 0.1, "entropy": 0.0, "scale": 3.0}
    gains = torch.ones_like(trials.rewards)
    divergence = lambda **more: float(rl2.loss(params, trials, gains, gains, **how, **more)[2])
    assert abs(divergence(tell_reward=False)) < 1e-12 < 1e-6 < divergence()


@pytest.mark.parametrize("actions", BOTH, ids=names)
def test_what_one_episode_brought_is_known_in_the_next_and_not_in_another_trial(actions):
    params, inputs = policy(actions), memory.inputs_of(played(actions), actions)
    whole = memory.outputs_of(params, inputs, actions)
    changed = inputs.clone()
    changed[0, 1, -2] += 1  # the reward of the first step
    after = memory.outputs_of(params, changed, actions)
    assert torch.equal(after[0, 0], whole[0, 0]) and torch.equal(after[1:], whole[1:])
    assert (after[0, 4:] != whole[0, 4:]).all()  # the second episode
    order = torch.tensor([3, 0, 2, 1])
    assert torch.allclose(memory.outputs_of(params, inputs[order], actions), whole[order], atol=1e-14)


def test_moves_are_drawn_from_the_gaussian_and_their_entropy_is_its():
    actions, count = Moves(2), 20_000
    params = {"policy_log_std": torch.tensor([0.3, -0.7])}
    mean = torch.tensor([1.0, -2.0]).expand(count, 2)
    noise = actions.noise(count, 1, generator(0, "noise"))[:, 0]
    drawn = actions.draw(params, mean, noise, False)
    spread = params["policy_log_std"].exp()
    # five standard errors: wrong in one of 1.7 million seeds, for each of four numbers
    assert ((drawn.mean(0) - mean[0]).abs() < 5 * spread / math.sqrt(count)).all()
    assert ((drawn.std(0) / spread - 1).abs() < 5 / math.sqrt(2 * count)).all()
    assert torch.equal(actions.draw(params, mean, noise, True), mean)
    theirs = Independent(Normal(mean[:3], spread), 1)
    assert torch.allclose(actions.entropy(params, mean[:3]), theirs.entropy())


@pytest.mark.parametrize("actions", BOTH, ids=names)
def test_a_trial_that_is_over_counts_for_nothing_more(actions):
    """Loss and gradient are those of the lived steps alone, added up one by one; padding may be anything."""
    trials, params = played(actions, policy(actions, 2)), policy(actions)
    assert trials.lived.tolist() == [[True] * 6, [True] * 3 + [False] * 3] * 2
    draw = generator(0, "gains")
    gains, returns = (torch.randn(4, 6, generator=draw).double() for _ in range(2))
    how = {"actions": actions, "clip": 0.1, "entropy": 0.05, "scale": 3.0}
    leaves = {k: v.clone().requires_grad_() for k, v in params.items()}
    value = lambda trials, gains: rl2.loss(leaves, trials, gains, returns, **how)[0]
    found = value(trials, gains)
    gradient = torch.autograd.grad(found, list(leaves.values()))
    total, count = 0.0, 0
    for task, steps in enumerate([6, 3, 6, 3]):
        alone = memory.Trials(*(part[task : task + 1, :steps] for part in trials))
        part = slice(task, task + 1), slice(0, steps)
        total = total + steps * rl2.loss(leaves, alone, gains[part], returns[part], **how)[0]
        count += steps
    assert torch.allclose(found, total / count, atol=1e-12)
    wanted = torch.autograd.grad(total / count, list(leaves.values()))
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(gradient, wanted, strict=True))
    other = trials._replace(log_probs=torch.where(trials.lived, trials.log_probs, 9.0))
    assert torch.equal(value(other, torch.where(trials.lived, gains, -7.0)), found)


@pytest.mark.parametrize("actions", BOTH, ids=names)
def test_the_gradient_of_the_loss_is_that_of_finite_differences(actions):
    trials, params = played(actions, policy(actions, 2)), policy(actions)
    draw = generator(0, "gains")
    gains, returns = (torch.randn(4, 6, generator=draw).double() for _ in range(2))
    how = {"actions": actions, "clip": 0.1, "entropy": 0.05, "scale": 3.0}
    value = lambda at: rl2.loss(at, trials, gains, returns, **how)[0]
    leaves = {k: v.clone().requires_grad_() for k, v in params.items()}
    gradient = torch.autograd.grad(value(leaves), list(leaves.values()))
    for (name, part), slope in zip(params.items(), gradient, strict=True):
        direction, step = torch.randn(part.shape, generator=draw).double(), 1e-6
        ends = [float(value(params | {name: part + sign * step * direction})) for sign in (1, -1)]
        assert slope.any() and (ends[0] - ends[1]) / (2 * step) == pytest.approx(
            float((slope * direction).sum()), rel=1e-5, abs=1e-9
        )


def test_returns_run_across_the_end_of_an_episode_and_stop_with_the_trial():
    """An update's target at the first step is the discounted sum of the whole trial."""
    actions = Choices(3)
    trials, params = played(actions), policy(actions)
    inputs = memory.inputs_of(trials, actions)
    expected = memory.values(params, inputs, 1.0) * trials.lived
    found, returns = rl2.advantages(trials.rewards, expected, 0.9, 1.0)
    for task, steps in enumerate([6, 3, 6, 3]):
        total = sum(0.9**t * (task + (t + 1) / 100) for t in range(steps))
        assert float(returns[task, 0]) == pytest.approx(total)
        assert float(found[task, 0]) == pytest.approx(total - float(expected[task, 0]))
    assert not found[~trials.lived].any() and not returns[~trials.lived].any()


def test_returns_by_episode_add_up_to_the_trial():
    trials = played(Choices(3))
    found = memory.by_episode(trials, 2)
    wanted = [[3 * task + 0.06, (3 * task + 0.15) * (task % 2 == 0)] for task in range(4)]
    assert found.numpy() == pytest.approx(np.array(wanted))
    assert torch.allclose(found.sum(1), trials.rewards.sum(1))
    assert torch.equal(memory.by_episode(trials, 1), found[:, :1])


def test_updates_raise_what_earns_more_through_ends_of_episodes_and_trials():
    actions = Moves(2)  # whose sum is what they earn
    params = {name: value.clone() for name, value in policy(actions).items()}
    optimiser = torch.optim.Adam(list(params.values()), lr=0.02)
    how = {"discount": 0.9, "decay": 0.9, "epochs": 2, "minibatches": 2, "clip": 0.2, "entropy": 0.01}
    earned = []
    for index in range(25):
        some, draw = Made(actions, 24), generator(0, "update", index)
        trials = memory.sample(params, some, actions.noise(24, 6, draw).double())
        rl2.update(params, optimiser, trials, draw, actions=actions, **how)
        earned.append(float(trials.rewards.sum() / trials.lived.sum()))
    assert all(value.isfinite().all() for value in params.values())
    assert np.mean(earned[-3:]) > np.mean(earned[:3]) + 1


@pytest.mark.parametrize("actions", BOTH, ids=names)
def test_an_update_is_that_of_two_minibatches_written_out(actions):
    """Trials that end early, a gradient that is cut and one that is not, two passes."""
    trials, begun = played(actions, policy(actions, 2), tasks=6), policy(actions)
    trials = trials._replace(rewards=40 * trials.rewards)
    params = {name: value.clone() for name, value in begun.items()}
    how = {"discount": 0.9, "decay": 0.8, "epochs": 2, "minibatches": 2, "clip": 0.1, "entropy": 0.05}
    optimiser = torch.optim.SGD(list(params.values()), lr=0.1)
    found = rl2.update(params, optimiser, trials, generator(0, "update"), actions=actions, **how)

    scale = sum(0.9**t for t in range(6))
    expected = memory.values(begun, memory.inputs_of(trials, actions), scale)
    gains, returns = torch.zeros(6, 6).double(), torch.zeros(6, 6).double()
    for task in range(6):
        last = int(trials.lived[task].sum()) - 1
        ahead = 0.0
        for t in range(last, -1, -1):
            following = expected[task, t + 1] if t < last else 0.0
            ahead = trials.rewards[task, t] + 0.9 * following - expected[task, t] + 0.72 * ahead
            gains[task, t], returns[task, t] = ahead, ahead + expected[task, t]
    lived = gains[trials.lived]
    gains = (gains - lived.mean()) / (lived.std() + 1e-8)
    wanted, draw, norms = {name: value.clone() for name, value in begun.items()}, generator(0, "update"), []
    for _ in range(2):
        order = torch.randperm(6, generator=draw)
        for some in (order[:3], order[3:]):
            leaves = {name: value.clone().requires_grad_() for name, value in wanted.items()}
            few = memory.Trials(*(part[some] for part in trials))
            loss, *told = rl2.loss(
                leaves, few, gains[some], returns[some], actions=actions, clip=0.1, entropy=0.05, scale=scale
            )
            gradients = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values()))))
            norms.append(float(torch.cat([g.flatten() for g in gradients.values()]).norm()))
            cut = min(1.0, 0.5 / norms[-1])
            wanted = {name: value - 0.1 * cut * gradients[name] for name, value in wanted.items()}
    assert max(norms) > 0.5
    assert all(torch.allclose(params[name], wanted[name], atol=1e-12) for name in params)
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(found, told, strict=True))


def test_an_action_that_is_not_finite_is_refused():
    params = policy(Moves(2)) | {"policy_log_std": torch.full((2,), 1e3, dtype=torch.float64)}
    with pytest.raises(FloatingPointError, match="an action of the policy is not finite"):
        played(Moves(2), params)


def test_noise_for_another_number_of_tasks_is_refused():
    with pytest.raises(ValueError, match="there is noise for 3 tasks, but there are 4"):
        memory.sample(policy(Choices(3)), Made(Choices(3)), torch.rand(3, 6).double())
