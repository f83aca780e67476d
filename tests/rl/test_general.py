"""Meta-gradients of policies that the passes do not know; policies that adapt a vector of theirs alone."""

import pytest
import torch
from torch.func import hessian, vmap

from conftest import finite_difference, relative_error
from mamlkit.rl import maml_rl, parts, policy
from test_maml_rl import ALPHA, SMALL, one, problem

TANH = policy.gaussian_mlp(3, 2, (5, 4), "tanh")
CONTEXT = policy.gaussian_mlp(3, 2, (5, 4), context=2)
CURVATURES = pytest.mark.parametrize("curvature", maml_rl.CURVATURES)


def parameters(of, seed=3):
    """Away from their initialisation, in float64."""
    generator = torch.Generator().manual_seed(seed)
    params = {k: v.double() for k, v in of.init(generator).items()}
    return {k: v + 0.3 * torch.randn(v.shape, generator=generator, dtype=v.dtype) for k, v in params.items()}


def adapted(of, params, before):
    return [maml_rl.adapt(of, params, one(before, t), ALPHA) for t in range(len(before.weights))]


def mean(objective, of, params, before, after, fixed):
    """An objective of the adapted policies, task by task."""
    losses = [
        objective(of, fast, fixed[t], one(after, t)) for t, fast in enumerate(adapted(of, params, before))
    ]
    return sum(losses) / len(losses)


@CURVATURES
@pytest.mark.parametrize("adapts", [True, False])
@pytest.mark.parametrize("piece", [1, 1 << 22])
@pytest.mark.parametrize("of", [SMALL, CONTEXT], ids=["all", "context"])
def test_without_layers_all_numbers_are_those_of_the_passes(of, piece, adapts, curvature, monkeypatch):
    monkeypatch.setattr(parts, "PIECE_BYTES", piece)
    params, (_, before, after) = parameters(of), problem()
    before = before if adapts else None
    one, other = (
        maml_rl.MetaBatch(policy_, params, before, after, ALPHA, curvature)
        for policy_ in (of, of._replace(layers=()))
    )
    assert type(one.parts[0]) is not type(other.parts[0])
    theta = one.vector(params)
    v = torch.randn(len(theta), generator=torch.Generator().manual_seed(1), dtype=theta.dtype)
    assert torch.allclose(other.gradient(), one.gradient(), rtol=1e-10, atol=1e-13)
    assert other.judge(theta + 0.05 * v) == pytest.approx(one.judge(theta + 0.05 * v), rel=1e-10)
    assert torch.allclose(other.fisher(v), one.fisher(v), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(
    "of", [TANH, CONTEXT, CONTEXT._replace(layers=())], ids=["tanh", "context", "context, general"]
)
def test_gradient_and_fisher_equal_finite_differences_and_a_dense_hessian(of):
    params, (_, before, after) = parameters(of), problem()
    batch = maml_rl.MetaBatch(of, params, before, after, ALPHA)
    fixed = adapted(of, params, before)
    wanted = finite_difference(lambda p: mean(maml_rl.surrogate, of, p, before, after, fixed), params)
    assert relative_error(batch.unflatten(batch.gradient()), wanted) < 1e-7
    theta = batch.vector(params)
    dense = hessian(lambda v: mean(maml_rl.divergence, of, batch.unflatten(v), before, after, fixed))(theta)
    found = torch.stack([batch.fisher(e) for e in torch.eye(len(theta), dtype=theta.dtype)])
    assert torch.allclose(found, dense, atol=1e-11)


def test_a_context_is_part_of_every_observation_and_all_that_moves():
    params, (_, before, _) = parameters(CONTEXT), problem()
    wide = policy.gaussian_mlp(5, 2, (5, 4))  # the same, with z in the observations

    def loss(z):
        seen = torch.cat([before.observations[0], z.expand(6, 2)], -1)
        own = {name: value for name, value in params.items() if name != "context"}
        return maml_rl.inner_loss(wide, own, one(before, 0)._replace(observations=seen))

    slope = finite_difference(lambda p: loss(p["z"]), {"z": params["context"]})["z"]
    moved = maml_rl.adapt(CONTEXT, params, one(before, 0), ALPHA)
    assert torch.allclose(moved["context"], params["context"] - ALPHA * slope, rtol=1e-7, atol=1e-9)
    assert slope.abs().min() > 1e-4
    assert all(torch.equal(moved[name], params[name]) for name in params if name != "context")
    own = {k: torch.stack([v, 2 * v, v - 1]) for k, v in params.items()}  # of each task
    for of in (CONTEXT, CONTEXT._replace(layers=())):
        found = maml_rl.adapt_each(of, own, before, ALPHA)
        for t in range(3):
            wanted = maml_rl.adapt(CONTEXT, {k: v[t] for k, v in own.items()}, one(before, t), ALPHA)
            assert relative_error({k: v[t] for k, v in found.items()}, wanted) < 1e-12
        wanted = vmap(of.mean)(own, before.observations)
        assert torch.allclose(policy.means(of, own, before.observations), wanted, rtol=1e-12)


def test_a_context_that_is_no_length_is_refused():
    with pytest.raises(ValueError, match="context=-1, but it must be a whole number, at least 0"):
        policy.gaussian_mlp(3, 2, context=-1)
