"""The chain, Q-learning side by side, and noise on parameters: against slow twins and closed forms."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mamlkit.rl import chain, dqn, parameter_noise
from mamlkit.rl.side_by_side import Networks

NET = Networks((6, 5, 7, 3))


def draws(count, start=0):
    return [torch.Generator().manual_seed(start + i) for i in range(count)]


def made(networks, members=4, points=9):
    """Networks with gains and shifts of their own, and points; in double precision."""
    theta = networks.init(draws(members)).double()
    torch.manual_seed(1)
    return theta + 0.3 * torch.randn_like(theta), torch.randn(members, points, networks.sizes[0]).double()


# -- the chain


def walk(policy, length, right=None):
    """The return of one episode, by a walk on a list: ``policy`` has an action for each state."""
    at, total, right = 1, 0.0, right or [1] * length
    for _ in range(length + 9):
        if policy[at] == right[at]:
            total += at == length - 1
            at = min(at + 1, length - 1)
        else:
            total += 0.001 * (at == 0)
            at = max(at - 1, 0)
    return total


@pytest.mark.parametrize("length", [3, 5, 20, 50])
def test_the_optimal_return_is_that_of_value_iteration(length):
    values = np.zeros(length)
    for _ in range(length + 9):
        right = np.append(values[1:], values[-1]) + (np.arange(length) == length - 1)
        left = np.append(values[0], values[:-1]) + 0.001 * (np.arange(length) == 0)
        values = np.maximum(left, right)
    assert values[1] == pytest.approx(chain.optimal_return(length), abs=1e-12)


@pytest.mark.parametrize("length", [3, 4, 6])
def test_a_policy_is_optimal_if_its_episode_has_the_optimal_return(length):
    for policy in itertools.product((0, 1), repeat=length):
        best = abs(walk(policy, length) - chain.optimal_return(length)) < 1e-9
        assert bool(chain.is_optimal(torch.tensor(policy))) == best


def test_in_a_mixed_chain_another_policy_is_optimal():
    for right in itertools.product((0, 1), repeat=4):
        for policy in itertools.product((0, 1), repeat=4):
            best = abs(walk(policy, 4, right) - chain.optimal_return(4)) < 1e-9
            assert bool(chain.is_optimal(torch.tensor(policy), torch.tensor(right))) == best


@given(st.integers(3, 12), st.integers(0, 2**31), st.lists(st.integers(0, 1), min_size=1, max_size=40))
def test_a_mixed_chain_is_a_plain_one_whose_actions_have_other_names(length, seed, actions):
    right = chain.mixed(length, torch.Generator().manual_seed(seed))
    at = plain = torch.tensor(chain.START)
    for action in map(torch.tensor, actions):
        renamed = chain.RIGHT if action == right[at] else chain.LEFT
        (at, reward), (plain, wanted) = (
            chain.move(at, action, length, right[at]),
            chain.move(plain, torch.tensor(renamed), length),
        )
        assert at == plain and reward == wanted


def test_in_half_of_the_states_the_second_action_goes_right():
    """Of 6,000: within five standard errors. No two chains are alike."""
    found = torch.stack([chain.mixed(60, draw) for draw in draws(100)])
    assert abs(float(found.float().mean()) - 0.5) < 5 * (0.25 / 6000) ** 0.5
    assert len(found.unique(dim=0)) == 100


def test_moves_are_those_of_a_walk():
    policy = [1, 0, 1, 1]  # from the second state to and fro
    state, total = torch.tensor([1]), 0.0
    for _ in range(13):
        state, reward = chain.move(state, torch.tensor([policy[int(state)]]), 4)
        total += float(reward)
    assert total == pytest.approx(walk(policy, 4))
    assert chain.observations(4)[2].tolist() == [1, 1, 1, 0]
    with pytest.raises(ValueError, match="length=2, but a chain has at least 3 states"):
        chain.steps(2)


# -- networks


@pytest.mark.parametrize("layer_norm", [True, False])
def test_outputs_are_those_of_one_network_at_a_time(layer_norm):
    networks = Networks((6, 5, 7, 3), layer_norm)
    theta, x = made(networks)
    for member, own in enumerate(theta):
        at, y = 0, x[member]
        for layer, (rows, columns) in enumerate(itertools.pairwise(networks.sizes)):
            weight = own[at : at + rows * columns].reshape(rows, columns)
            at += rows * columns
            y = y @ weight + own[at : at + columns]
            at += columns
            if layer == 2:
                break
            if layer_norm:
                gain, shift = own[at : at + columns], own[at + columns : at + 2 * columns]
                y = (y - y.mean(1, keepdim=True)) / (y.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
                y, at = y * gain + shift, at + 2 * columns
            y = y.clamp(min=0)
        assert at == theta.shape[1]
        torch.testing.assert_close(networks.outputs(theta, x)[member], y, rtol=1e-12, atol=1e-12)


def test_who_is_beside_a_network_does_not_matter():
    theta, x = made(NET, members=6)
    alone = torch.cat([NET.outputs(theta[i : i + 1], x[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(NET.outputs(theta, x), alone, rtol=1e-13, atol=1e-13)
    with pytest.raises(ValueError, match=r"theta is \[6, 3\], but must be \[members,"):
        NET.outputs(theta[:, :3], x)


def test_first_weights_are_as_large_as_xavier_says():
    theta = Networks((100, 60, 2)).init(draws(3))
    parts = Networks((100, 60, 2)).split(theta)
    bound = math.sqrt(6 / 160)
    assert 0.99 * bound < parts["weight0"].abs().max() <= bound
    assert (parts["gain0"] == 1).all() and not any(parts[n].any() for n in ("bias0", "shift0", "bias1"))
    assert not torch.equal(theta[0], theta[1])


# -- Q-learning


def batch_of(members=3, points=8, inputs=6, actions=3):
    torch.manual_seed(0)
    on = lambda *shape: torch.randn(members, points, *shape).double()
    return dqn.Batch(on(inputs), torch.randint(actions, (members, points)), on(), on(inputs), on() > 0)


@pytest.mark.parametrize("head", [True, False])
def test_losses_are_those_of_a_loop(head):
    batch, (q, _), (lagging, _) = batch_of(), made(NET, 3), made(NET, 3)
    lagging = lagging.roll(1, 0)
    policy = q.roll(2, 0) if head else None
    found = dqn.losses(NET, q, policy, lagging, batch, 0.9)
    for member in range(3):
        total = 0.0
        for point in range(8):
            at = member, point
            on = lambda theta, x, at=at: NET.outputs(theta[at[0]][None], x[at][None, None])[0, 0]
            wanted = float(batch.rewards[member, point])
            if not batch.ended[member, point]:
                wanted += 0.9 * max(on(lagging, batch.after).tolist())
            values = on(q, batch.seen).tolist()
            error = abs(values[int(batch.actions[member, point])] - wanted)
            total += 0.5 * error**2 if error < 1 else error - 0.5
            if head:
                logits = on(policy, batch.seen)
                total -= float(F.log_softmax(logits, 0)[int(np.argmax(values))])
        assert float(found[member]) == pytest.approx(total / 8, rel=1e-12)


def test_nothing_flows_into_the_copy_of_q_or_from_the_head_into_q():
    batch = batch_of()
    q, policy, lagging = (made(NET, 3)[0].roll(i, 0).requires_grad_() for i in range(3))
    with_head = dqn.losses(NET, q, policy, lagging, batch, 0.9).sum()
    of_q, of_policy, of_copy = torch.autograd.grad(with_head, (q, policy, lagging), allow_unused=True)
    assert of_copy is None and of_policy.abs().sum() > 0
    (alone,) = torch.autograd.grad(dqn.losses(NET, q, None, lagging, batch, 0.9).sum(), q)
    torch.testing.assert_close(of_q, alone, rtol=1e-12, atol=1e-12)


def test_the_gradient_is_that_of_finite_differences():
    batch, (q, _) = batch_of(), made(NET, 3)
    at = lambda theta: dqn.losses(NET, theta, None, q.roll(1, 0), batch, 0.9).sum()
    (gradient,) = torch.autograd.grad(at(q.requires_grad_()), q)
    direction = torch.randn_like(q)
    with torch.no_grad():
        change = (at(q + 1e-6 * direction) - at(q - 1e-6 * direction)) / 2e-6
    assert float(change) == pytest.approx(float((gradient * direction).sum()), rel=1e-6)


# -- noise


def test_noise_leaves_layer_normalisation_alone_and_has_the_wanted_size():
    """The mean square of 12,000 standard normal numbers: six standard errors, wrong in 1 of 500 million."""
    networks = Networks((50, 16, 16, 2))
    theta, sigma = networks.init(draws(10)), torch.linspace(0.1, 1.0, 10)
    noise = torch.randn(theta.shape, generator=torch.Generator().manual_seed(3))
    moved = parameter_noise.perturbed(theta, noise, sigma, parameter_noise.noisy(networks)) - theta
    for name, part in networks.split(moved).items():
        assert part.any() == name.startswith(("weight", "bias")), name
    sizes = torch.cat([p.flatten(1) for n, p in networks.split(moved).items() if n[0] in "wb"], 1)
    squares = (sizes / sigma[:, None]).double().square()
    assert abs(float(squares.mean()) - 1) < 6 * math.sqrt(2 / squares.numel())
    with pytest.raises(ValueError, match="they must be alike"):
        parameter_noise.perturbed(theta, noise[:, 1:], sigma, parameter_noise.noisy(networks))


@given(st.floats(0, 1), st.integers(2, 9))
def test_the_threshold_is_the_divergence_of_epsilon_greedy_play(epsilon, actions):
    greedy, mixed = np.eye(actions)[0], np.full(actions, epsilon / actions)
    mixed[0] += 1 - epsilon
    found = sum(p * math.log(p / other) for p, other in zip(greedy, mixed) if p)
    assert parameter_noise.threshold(epsilon, actions) == pytest.approx(found, abs=1e-9)


def test_a_threshold_of_no_share_is_refused():
    with pytest.raises(ValueError, match=r"epsilon=1\.5, but it must lie between 0 and 1"):
        parameter_noise.threshold(1.5, 2)


@settings(max_examples=30)
@given(st.lists(st.floats(-5, 5), min_size=4, max_size=4))
def test_the_divergence_is_that_of_the_definition(numbers):
    logits, others = torch.tensor(numbers).double().view(2, 1, 1, 2)
    p, q = logits.softmax(-1)[0, 0], others.softmax(-1)[0, 0]
    wanted = sum(float(a) * math.log(float(a) / float(b)) for a, b in zip(p, q))
    assert float(parameter_noise.kl(logits, others)) == pytest.approx(wanted, abs=1e-9) and wanted > -1e-12


def test_adapted_noise_keeps_the_distance_that_is_wanted():
    """After the approach, the share of steps that are too far is a half, and the mean log of sigma stands.

    Of a walk that goes up or down by a factor each step, ups and downs differ over 1,500 steps by what sigma
    has moved: so the share is within 0.5 +- log(sigma_end / sigma_begin) / (2 * 1500 log 1.01). That sigma
    moved by less than a factor of 3 is what is tested. In the same steps the median distance is the wanted.
    """
    networks, members = Networks((10, 16, 16, 2)), 8
    theta = networks.init(draws(members))
    seen = chain.observations(10)[torch.randint(10, (members, 32), generator=draws(1)[0])]
    logits, where = networks.outputs(theta, seen), parameter_noise.noisy(networks)
    noise = torch.Generator().manual_seed(5)
    for wanted in (0.05, 0.4):
        sigma, found, begin = torch.full((members,), 0.01), [], None
        for step in range(2200):
            drawn = torch.randn(theta.shape, generator=noise)
            other = networks.outputs(parameter_noise.perturbed(theta, drawn, sigma, where), seen)
            distance = parameter_noise.kl(logits, other)
            sigma = parameter_noise.rescaled(sigma, distance, wanted)
            if step == 700:
                begin = sigma
            if step > 700:
                found.append(distance)
        assert (sigma / begin).log().abs().max() < math.log(3)
        median = torch.stack(found).median(0).values
        assert ((median / wanted - 1).abs() < 0.35).all(), median


def test_a_fixed_sigma_stays():
    sigma, far = torch.tensor([0.1, 0.2]), torch.tensor([0.0, 9.0])
    assert torch.equal(parameter_noise.rescaled(sigma, far, 0.1, 1.0), sigma)
    torch.testing.assert_close(
        parameter_noise.rescaled(sigma, far, 0.1), torch.tensor([0.1 * 1.01, 0.2 / 1.01])
    )
