"""The meta-policy-gradient: equal to automatic differentiation, finite differences and dense matrices."""

import pytest
import torch
from torch.func import grad, hessian, jacrev, vmap

from conftest import finite_difference, relative_error
from mamlkit.engine import kernels_cpu
from mamlkit.rl import maml_rl, parts, policy
from mamlkit.rl.sampling import Steps

ALPHA = 0.3
SMALL = policy.gaussian_mlp(3, 2, (5, 4))


def problem(tasks=3, points=6, seed=0, dtype=torch.float64):
    """A policy away from its initialisation, and made-up rollouts, some of them padded."""
    generator = torch.Generator().manual_seed(seed)
    random = lambda *shape: torch.randn(*shape, generator=generator, dtype=dtype)
    params = {k: v.to(dtype) + 0.3 * random(*v.shape) for k, v in SMALL.init(generator).items()}

    def steps():
        count = torch.tensor([points - task for task in range(tasks)])[:, None]
        weights = (torch.arange(points) < count).to(dtype) / count
        return Steps(random(tasks, points, 3), random(tasks, points, 2), random(tasks, points), weights)

    return params, steps(), steps()


def one(steps, task):
    return Steps(*(each[task] for each in steps))


SECOND_ORDER = pytest.mark.parametrize("curvature", ["log-densities", "ratios"])


def sampled(params, before):
    """The adapted parameters of each task, by plain automatic differentiation."""
    return [maml_rl.adapt(SMALL, params, one(before, t), ALPHA) for t in range(len(before.weights))]


def mean_over_tasks(function, params, before, after, fixed, drawn_with=None):
    tasks = range(len(fixed))
    return sum(
        function(SMALL, params, fixed[t], one(before, t), one(after, t), ALPHA, drawn_with) for t in tasks
    ) / len(fixed)


def meta_surrogate(policy_, params, sampled, before, after, alpha, drawn_with=None):
    """Algorithm 3's outer loss for one task, step by step: adapt, then the surrogate on the new steps."""
    return maml_rl.surrogate(
        policy_, maml_rl.adapt(policy_, params, before, alpha, drawn_with), sampled, after
    )


def meta_divergence(policy_, params, fixed, before, after, alpha, drawn_with):
    return maml_rl.divergence(
        policy_, maml_rl.adapt(policy_, params, before, alpha, drawn_with), fixed, after
    )


def first_order(after, fixed):
    """The mean over tasks of the gradient at the adapted parameters, as if these were given."""
    losses = lambda fixed: [maml_rl.inner_loss(SMALL, p, one(after, t)) for t, p in enumerate(fixed)]
    each = grad(lambda fixed: sum(losses(fixed)) / len(fixed))(fixed)
    return {k: sum(gradient[k] for gradient in each) for k in fixed[0]}


@pytest.fixture(params=[(1, 0), (1 << 22, 1 << 19)], ids=["one by one", "together"])
def chunked(request, monkeypatch):
    """One task at a time and every product by the loops, or all at once and small products by PyTorch."""
    piece, small = request.param
    monkeypatch.setattr(parts, "PIECE_BYTES", piece)
    monkeypatch.setattr(kernels_cpu.products, "FASTER", True)
    monkeypatch.setattr(kernels_cpu.products, "SMALL", small)


def test_log_densities_and_divergences_are_those_of_torch():
    mean, new_mean = torch.randn(2, 7, 3)
    log_std, new_log_std = torch.randn(2, 3)
    old, new = (torch.distributions.Normal(m, s.exp()) for m, s in ((mean, log_std), (new_mean, new_log_std)))
    actions = torch.randn(7, 3)
    assert torch.allclose(policy.log_prob(mean, log_std, actions), old.log_prob(actions).sum(-1), rtol=1e-5)
    wanted = torch.distributions.kl_divergence(old, new).sum(-1)
    assert torch.allclose(policy.kl(mean, log_std, new_mean, new_log_std), wanted, rtol=1e-4)


def test_the_divergence_of_a_policy_from_itself_is_zero():
    mean, log_std = torch.randn(7, 3), torch.randn(3)
    assert policy.kl(mean, log_std, mean, log_std).abs().max() < 1e-6


def test_the_inner_gradient_is_reinforce_by_hand():
    params, before, _ = problem()
    steps, spread = one(before, 1), params["log_std"].exp()
    residual = (steps.actions - SMALL.mean(params, steps.observations)) / spread
    by_hand = -((steps.weights * steps.advantages)[:, None] * (residual**2 - 1)).sum(0)
    found = grad(lambda p: maml_rl.inner_loss(SMALL, p, steps))(params)
    assert torch.allclose(found["log_std"], by_hand, rtol=1e-12)
    shifted = grad(lambda bias: maml_rl.inner_loss(SMALL, {**params, "bias2": bias}, steps))(params["bias2"])
    assert torch.allclose(
        shifted, -((steps.weights * steps.advantages)[:, None] * residual / spread).sum(0), rtol=1e-12
    )


def test_the_surrogate_gradient_at_theta_is_the_policy_gradient():
    params, _, after = problem()
    steps = one(after, 0)
    ours = grad(lambda p: maml_rl.surrogate(SMALL, p, params, steps))(params)
    assert relative_error(ours, grad(lambda p: maml_rl.inner_loss(SMALL, p, steps))(params)) < 1e-12


@SECOND_ORDER
def test_the_meta_policy_gradient_equals_finite_differences(chunked, curvature):
    params, before, after = problem()
    fixed = sampled(params, before)
    batch = maml_rl.MetaBatch(SMALL, params, before, after, ALPHA, curvature)
    theta = {k: v.clone() for k, v in params.items()} if curvature == "ratios" else None
    wanted = finite_difference(
        lambda p: mean_over_tasks(meta_surrogate, p, before, after, fixed, theta), params
    )
    assert relative_error(batch.unflatten(batch.gradient()), wanted) < 1e-7
    # the term with second derivatives is no small thing here
    assert relative_error(first_order(after, fixed), wanted) > 1e-2


@SECOND_ORDER
def test_fisher_products_equal_a_dense_hessian_through_the_inner_step(chunked, curvature):
    params, before, after = problem()
    fixed = sampled(params, before)
    batch = maml_rl.MetaBatch(SMALL, params, before, after, ALPHA, curvature)
    theta = batch.vector(params)
    drawn_with = params if curvature == "ratios" else None
    dense = hessian(
        lambda v: mean_over_tasks(meta_divergence, batch.unflatten(v), before, after, fixed, drawn_with)
    )(theta)
    assert torch.allclose(dense, dense.T, atol=1e-12) and torch.linalg.eigvalsh(dense).min() > -1e-10
    found = torch.stack([batch.fisher(e) for e in torch.eye(len(theta), dtype=theta.dtype)])
    assert torch.allclose(found, dense, atol=1e-11)


def test_first_order_takes_gradient_and_fisher_of_the_adapted_policies_as_they_are(chunked):
    params, before, after = problem()
    fixed = sampled(params, before)
    batch = maml_rl.MetaBatch(SMALL, params, before, after, ALPHA, "none")
    theta = batch.vector(params)
    assert relative_error(batch.unflatten(batch.gradient()), first_order(after, fixed)) < 1e-12
    shifted = lambda v, t: {k: fixed[t][k] + part for k, part in batch.unflatten(v).items()}
    dense = hessian(
        lambda v: sum(maml_rl.divergence(SMALL, shifted(v, t), fixed[t], one(after, t)) for t in range(3)) / 3
    )(0 * theta)
    assert torch.allclose(
        torch.stack([batch.fisher(e) for e in torch.eye(len(theta), dtype=theta.dtype)]), dense, atol=1e-11
    )
    elsewhere = {k: v + 0.05 for k, v in params.items()}  # is judged by what it adapts to all the same
    assert batch.judge(batch.vector(elsewhere))[0] == pytest.approx(
        float(mean_over_tasks(meta_surrogate, elsewhere, before, after, fixed)), rel=1e-10
    )


def test_an_unknown_curvature_is_refused():
    params, before, after = problem()
    with pytest.raises(ValueError, match="'ratios'"):
        maml_rl.MetaBatch(SMALL, params, before, after, ALPHA, "ratio")


def test_ratios_have_the_curvature_of_the_expected_reward_and_log_densities_have_none():
    # A bandit: no observation, so the mean is the last bias m, and the reward -|a - c|^2 has the expectation
    # -|m - c|^2 - sum of variances. Minus its Hessian in m is 2 I.
    generator = torch.Generator().manual_seed(11)
    params = {k: torch.zeros_like(v, dtype=torch.float64) for k, v in SMALL.init(generator).items()}
    bias, n, centre = (
        torch.tensor([0.3, -0.2], dtype=torch.float64),
        100_000,
        torch.tensor([1.0, 0.5], dtype=torch.float64),
    )
    z = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    reward = -((bias + z - centre) ** 2).sum(-1)
    steps = Steps(
        torch.zeros(n, 3, dtype=torch.float64),
        bias + z,
        reward - reward.mean(),
        torch.full((n,), 1 / n, dtype=torch.float64),
    )
    drawn_with = {**params, "bias2": bias}

    def curvature(drawn):
        moved = lambda m: maml_rl.adapt(SMALL, {**params, "bias2": m}, steps, 1.0, drawn)["bias2"]
        return torch.eye(2, dtype=torch.float64) - jacrev(moved)(bias)

    assert curvature(None).abs().max() < 1e-12  # the advantages have the mean 0
    terms = -steps.advantages[:, None, None] * (
        z[:, :, None] * z[:, None] - torch.eye(2, dtype=torch.float64)
    )
    error = terms.std(0) / n**0.5
    # fails once in 10^6
    assert ((curvature(drawn_with) - 2 * torch.eye(2, dtype=torch.float64)).abs() < 5 * error).all()
    assert (error < 0.05).all()


def test_fisher_products_equal_finite_differences_of_the_divergences_gradient():
    # What the authors did: a symmetric difference along the direction.
    params, before, after = problem()
    fixed = sampled(params, before)
    batch = maml_rl.MetaBatch(SMALL, params, before, after, ALPHA)
    theta = batch.vector(params)
    direction = torch.randn(len(theta), generator=torch.Generator().manual_seed(5), dtype=theta.dtype)
    slope = grad(lambda v: mean_over_tasks(meta_divergence, batch.unflatten(v), before, after, fixed))
    epsilon = 1e-5
    wanted = (slope(theta + epsilon * direction) - slope(theta - epsilon * direction)) / (2 * epsilon)
    assert torch.allclose(batch.fisher(direction), wanted, rtol=1e-5, atol=1e-8)


@SECOND_ORDER
def test_loss_and_divergence_elsewhere_are_those_of_the_plain_functions(chunked, curvature):
    params, before, after = problem()
    fixed = sampled(params, before)
    batch = maml_rl.MetaBatch(SMALL, params, before, after, ALPHA, curvature)
    elsewhere = {k: v + 0.05 for k, v in params.items()}
    loss, apart = batch.judge(batch.vector(elsewhere))
    plain = lambda function: float(
        mean_over_tasks(function, elsewhere, before, after, fixed, params if curvature == "ratios" else None)
    )
    assert loss == pytest.approx(plain(meta_surrogate), rel=1e-10)
    assert apart == pytest.approx(plain(meta_divergence), rel=1e-10)
    assert batch.judge(batch.vector(params))[1] == pytest.approx(0, abs=1e-15)


def test_without_an_inner_step_it_is_ordinary_trpo(chunked):
    params, _, after = problem()
    batch = maml_rl.MetaBatch(SMALL, params, None, after)
    theta = batch.vector(params)
    per_task = lambda function: lambda p: sum(function(SMALL, p, params, one(after, t)) for t in range(3)) / 3
    wanted = grad(per_task(maml_rl.surrogate))(params)
    assert relative_error(batch.unflatten(batch.gradient()), wanted) < 1e-12
    dense = hessian(lambda v: per_task(maml_rl.divergence)(batch.unflatten(v)))(theta)
    found = torch.stack([batch.fisher(e) for e in torch.eye(len(theta), dtype=theta.dtype)])
    assert torch.allclose(found, dense, atol=1e-11)


def test_every_task_is_adapted_with_its_own_steps():
    params, before, _ = problem()
    spread = {k: v.expand(3, *v.shape) for k, v in params.items()}
    found = maml_rl.adapt_each(SMALL, spread, before, ALPHA)
    batch = maml_rl.MetaBatch(SMALL, params, before, before, ALPHA)
    for t, wanted in enumerate(sampled(params, before)):
        assert relative_error({k: v[t] for k, v in found.items()}, wanted) < 1e-12
        assert relative_error({k: v[t] for k, v in batch.parts[0].sampled.items()}, wanted) < 1e-12


def test_padding_changes_nothing():
    params, before, after = problem()
    longer = lambda steps: Steps(
        *(torch.cat([each, 7 * torch.ones_like(each[:, :2])], 1) for each in steps[:3]),
        torch.cat([steps.weights, torch.zeros(3, 2)], 1),
    )
    short, long = (
        maml_rl.MetaBatch(SMALL, params, *pair, ALPHA)
        for pair in ((before, after), (longer(before), longer(after)))
    )
    assert torch.allclose(short.gradient(), long.gradient(), rtol=1e-12)


def test_a_meta_update_lowers_the_loss_within_its_bound():
    params, before, after = problem(tasks=4, points=30)
    new, step = maml_rl.meta_update(SMALL, params, before, after, inner_lr=ALPHA, max_kl=0.01)
    assert not step.refused and step.loss < step.loss_before and 0.002 < step.kl <= 0.01
    fixed = sampled(params, before)
    assert step.loss == pytest.approx(
        float(mean_over_tasks(meta_surrogate, new, before, after, fixed)), rel=1e-9
    )
    assert step.kl == pytest.approx(
        float(mean_over_tasks(meta_divergence, new, before, after, fixed)), rel=1e-9
    )


def test_an_impossible_update_returns_the_same_parameters_and_says_so():
    params, before, after = problem()
    without = after._replace(advantages=torch.zeros_like(after.advantages))
    new, step = maml_rl.meta_update(SMALL, params, before, without, inner_lr=ALPHA, max_kl=0.01)
    assert new is params and step.refused == "the gradient is zero"


def test_means_are_those_of_each_tasks_own_network():
    params, before, _ = problem()
    own = {k: torch.stack([v, 2 * v, v - 1]) for k, v in params.items()}
    for network in (SMALL, policy.gaussian_mlp(3, 2, (5, 4), "tanh")):
        wanted = vmap(network.mean)(own, before.observations)
        assert torch.allclose(policy.means(network, own, before.observations), wanted, rtol=1e-12)
