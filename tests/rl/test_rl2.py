"""RL^2: the whole sequence is what single steps give, state is carried and reset, gradients are right."""

import numpy as np
import pytest
import torch

from mamlkit.models.recurrent import gru, gru_states, init_gru
from mamlkit.rl import memory, rl2
from mamlkit.rl.actions import Choices
from mamlkit.rl.trials import Bandits
from mamlkit.runs.seeds import generator

ARMS, UNITS, TASKS, TIME = 3, 5, 6, 7
PULLS = Choices(ARMS)


def policy(dtype=torch.float64, seed=0):
    """Parameters of which none is zero."""
    draw = generator(seed, "test")
    begun = memory.init(0, PULLS, UNITS, draw)
    return {k: (v + 0.3 * torch.randn(v.shape, generator=draw)).to(dtype) for k, v in begun.items()}


def played(params, tasks=TASKS, time=TIME, seed=1):
    draw = generator(seed, "play")
    arms, luck, draws = (
        torch.rand(tasks, size, generator=draw).to(params["policy_head"]) for size in (ARMS, time, time)
    )
    return memory.sample(params, Bandits(arms, luck, dtype=arms.dtype), draws)


def test_the_unit_is_pytorchs():
    cell = torch.nn.GRUCell(4, UNITS, dtype=torch.float64)
    torch.nn.init.zeros_(cell.bias_hh)
    params = {"u_inputs": cell.weight_ih, "u_state": cell.weight_hh, "u_bias": cell.bias_ih}
    x, h = torch.randn(3, 4, dtype=torch.float64), torch.randn(3, UNITS, dtype=torch.float64)
    assert torch.allclose(gru(params, "u", x, h), cell(x, h), atol=1e-12)


def test_all_steps_at_once_are_single_steps_and_have_their_gradient():
    params = {k: v.double().requires_grad_() for k, v in init_gru("u", 4, UNITS, generator(0, "u")).items()}
    draw = generator(0, "x")
    x = torch.randn(TIME, 3, 4, generator=draw).double().requires_grad_()
    begin = torch.randn(3, UNITS, generator=draw).double().requires_grad_()
    weight = torch.randn(TIME, 3, UNITS, generator=draw).double()
    leaves = [*params.values(), x, begin]
    state, steps = begin, []
    for now in x:
        state = gru(params, "u", now, state)
        steps.append(state)
    whole = gru_states(params, "u", x, begin)
    assert torch.allclose(whole, torch.stack(steps), atol=1e-12)
    wanted = torch.autograd.grad((torch.stack(steps) * weight).sum(), leaves)
    found = torch.autograd.grad((whole * weight).sum(), leaves)
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-11)
    assert torch.autograd.gradcheck(
        lambda *parts: gru_states(dict(zip(params, parts)), "u", *parts[3:]), leaves
    )


def test_inputs_are_what_came_before_and_nothing_of_the_pull_itself():
    def told(actions, rewards):
        ones = torch.ones(1, 3)
        parts = torch.zeros(1, 3, 0), torch.tensor([actions]), torch.tensor([rewards]), ones, ones, ones > 0
        return memory.inputs_of(memory.Trials(*parts), PULLS)

    wanted = torch.tensor([[[0.0, 0, 0, 0, 0], [0, 0, 1, 1, 1], [1, 0, 0, 0, 1]]])
    assert torch.equal(told([2, 0, 1], [1.0, 0.0, 1.0]), wanted)
    assert torch.equal(told([2, 0, 2], [1.0, 0.0, 0.0]), wanted)


def test_log_probabilities_of_a_sequence_are_those_of_its_steps():
    for dtype, near in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        params = policy(dtype)
        trials = played(params)
        inputs = memory.inputs_of(trials, PULLS)
        found = memory.outputs_of(params, inputs, PULLS)
        assert torch.allclose(found.exp().sum(-1), torch.ones(TASKS, TIME, dtype=dtype))
        of_pulls = found.gather(-1, trials.actions[..., None])[..., 0]
        assert torch.allclose(of_pulls, trials.log_probs, atol=near)
        state = torch.zeros(TASKS, UNITS, dtype=dtype)
        for time in range(TIME):
            state = gru(params, "policy", inputs[:, time], state)
            logits = state @ params["policy_head"].T + params["policy_head_bias"]
            assert torch.allclose(found[:, time], logits.log_softmax(-1), atol=near)


def test_state_goes_on_over_the_episodes_of_a_trial_and_begins_anew_with_each():
    params = policy()
    trials = played(params)
    inputs = memory.inputs_of(trials, PULLS)
    whole = memory.outputs_of(params, inputs, PULLS)
    changed = inputs.clone()
    changed[0, 1] = 1 - changed[0, 1]  # what came of the first episode
    after = memory.outputs_of(params, changed, PULLS)
    assert torch.equal(after[0, 0], whole[0, 0]) and torch.equal(after[1:], whole[1:])
    assert (after[0, 1:] != whole[0, 1:]).all()  # it is still known at the last pull
    # a trial has what it has beside any others and in any order: nothing comes from another one
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    assert torch.allclose(memory.outputs_of(params, inputs[order], PULLS), whole[order], atol=1e-14)
    assert torch.allclose(memory.outputs_of(params, inputs[2:3], PULLS), whole[2:3], atol=1e-14)
    assert torch.allclose(whole[:, 0], whole[:1, 0].expand(TASKS, -1))  # all begin alike


def test_the_first_pull_of_a_new_policy_is_any_arm_and_nothing_is_expected():
    params = memory.init(0, PULLS, UNITS, generator(0, "init"))
    inputs = torch.rand(2, 4, ARMS + 2)
    assert torch.allclose(memory.outputs_of(params, inputs, PULLS).exp(), torch.full((2, 4, ARMS), 1 / ARMS))
    assert not memory.values(params, inputs, 10.0).any()
    assert memory.policy_of(params).keys() == {k for k in params if k.startswith("policy")}


def test_arms_are_drawn_with_the_policys_probabilities():
    params, count = policy(torch.float32), 20_000
    found = played(params, tasks=count, time=1)
    wanted = memory.outputs_of(params, torch.zeros(1, 1, ARMS + 2), PULLS)[0, 0].exp()
    for arm in range(ARMS):
        share, chance = (found.actions == arm).float().mean(), wanted[arm]
        # five standard errors: wrong in one of 1.7 million seeds
        assert abs(share - chance) < 5 * (chance * (1 - chance) / count).sqrt()
    draws, luck, arms = torch.rand(4, 2), torch.rand(4, 2), torch.rand(4, ARMS)
    most = memory.sample(params, Bandits(arms, luck), draws, most_probable=True).actions[:, 0]
    assert (most == wanted.argmax()).all()
    ones = memory.sample(params, Bandits(arms, luck), torch.ones(4, 2)).actions  # the largest draw there is
    assert ones.max() < ARMS
    with pytest.raises(ValueError, match="they must be"):
        Bandits(arms, luck[:3])


def test_advantages_are_sums_by_hand_and_nothing_is_cut_within_a_trial():
    rewards, expected = torch.rand(2, 5).double(), torch.rand(2, 5).double()
    discount, decay = 0.9, 0.4
    found, returns = rl2.advantages(rewards, expected, discount, decay)
    after = torch.cat([expected[:, 1:], torch.zeros(2, 1)], 1)
    surprise = rewards + discount * after - expected
    for t in range(5):
        wanted = sum((discount * decay) ** (s - t) * surprise[:, s] for s in range(t, 5))
        assert torch.allclose(found[:, t], wanted)
    assert torch.allclose(returns, found + expected)
    whole, _ = rl2.advantages(rewards, expected, discount, 1.0)
    total = sum(discount**s * rewards[:, s] for s in range(5))
    assert torch.allclose(whole[:, 0], total - expected[:, 0])


SETTINGS = {"actions": PULLS, "clip": 0.1, "entropy": 0.05, "scale": 3.0}


def test_the_gradient_of_the_loss_is_that_of_finite_differences():
    """Of a sequence that is cut after four pulls, in float64, along each of some directions."""
    params = policy()
    trials = played(policy(seed=2), time=4)  # of another policy, so that ratios are not 1
    draw = generator(0, "gains")
    gains, returns = (torch.randn(TASKS, 4, generator=draw).double() for _ in range(2))
    value = lambda at: rl2.loss(at, trials, gains, returns, **SETTINGS)[0]
    leaves = {k: v.clone().requires_grad_() for k, v in params.items()}
    gradient = dict(zip(leaves, torch.autograd.grad(value(leaves), list(leaves.values())), strict=True))
    assert all(part.any() for part in gradient.values())
    for name, part in params.items():
        direction, step = torch.randn(part.shape, generator=draw).double(), 1e-6
        ends = [float(value(params | {name: part + sign * step * direction})) for sign in (1, -1)]
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(
            float((gradient[name] * direction).sum()), rel=1e-5, abs=1e-9
        )


def test_the_loss_is_ppos_written_out():
    params, trials = policy(), played(policy(seed=2))
    draw = generator(0, "gains")
    gains, returns = (torch.randn(TASKS, TIME, generator=draw).double() for _ in range(2))
    found, entropy, divergence = rl2.loss(params, trials, gains, returns, **SETTINGS)
    inputs = memory.inputs_of(trials, PULLS)
    logs, expected = (
        memory.outputs_of(params, inputs, PULLS).numpy(),
        memory.values(params, inputs, 3.0).numpy(),
    )
    total, spread = 0.0, 0.0
    for i in range(TASKS):
        for t in range(TIME):
            ratio = np.exp(logs[i, t, trials.actions[i, t]] - float(trials.log_probs[i, t]))
            gain = float(gains[i, t])
            total -= min(ratio * gain, min(max(ratio, 0.9), 1.1) * gain)
            total += ((expected[i, t] - float(returns[i, t])) / 3.0) ** 2
            spread -= (np.exp(logs[i, t]) * logs[i, t]).sum()
    count = TASKS * TIME
    assert float(found) == pytest.approx(total / count - 0.05 * spread / count)
    assert float(entropy) == pytest.approx(spread / count) and divergence > 0


def test_an_update_that_is_not_finite_is_refused():
    params = memory.init(0, PULLS, UNITS, generator(0, "init"))
    trials = played(params)
    params["policy_head"][0, 0] = torch.nan
    how = {
        "actions": PULLS,
        "discount": 0.9,
        "decay": 0.3,
        "epochs": 1,
        "minibatches": 1,
        "clip": 0.1,
        "entropy": 0.0,
    }
    with pytest.raises(FloatingPointError, match="not finite"):
        rl2.update(params, torch.optim.Adam(list(params.values())), trials, generator(0, "u"), **how)
