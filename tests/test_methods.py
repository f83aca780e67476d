"""The losses' two readings, and that every method is a function of one task."""

import pytest
import torch
from conftest import small_problem

from mamlkit import maml, methods


def test_the_authors_loss_is_ways_times_the_mean_on_the_support():
    ways, shots = 5, 3
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(ways * shots, ways, generator=generator, dtype=torch.float64)
    labels = torch.arange(ways).repeat_interleave(shots)
    by_hand = -sum(logits.log_softmax(1)[i, label] for i, label in enumerate(labels)) / shots
    assert torch.allclose(methods.cross_entropy_per_shot(logits, labels, shots), by_hand, rtol=1e-12)
    assert torch.allclose(by_hand, ways * methods.cross_entropy_mean(logits, labels, shots), rtol=1e-12)


def test_the_two_readings_agree_when_alpha_is_rescaled():
    authors, params, tasks = small_problem("conv-stride", tasks=1)
    support = tuple(t[0] for t in tasks.support)
    mean = methods.Learner(authors.model, "cross-entropy, mean", authors.inner_lr * 2, authors.inner_steps, authors.shots)
    one, other = authors.adapt(params, support), mean.adapt(params, support)
    assert all(torch.allclose(one[k], other[k], rtol=1e-10, atol=1e-12) for k in params)


def test_mse_is_the_mean_over_points():
    outputs, targets = torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [1.0]])
    assert methods.mse(outputs, targets, shots=2) == 2.5


@pytest.mark.parametrize("method", list(methods.METHODS))
def test_every_method_gives_a_scalar_and_a_gradient(kind, method):
    learner, params, tasks = small_problem(kind)
    gradient, losses = maml.meta_gradient(methods.METHODS[method](learner), params, tasks)
    assert losses.shape == (3,) and torch.isfinite(losses).all()
    assert gradient.keys() == params.keys() and all(gradient[k].shape == params[k].shape for k in params)
    assert max(g.abs().max() for g in gradient.values()) > 0


def test_pretraining_sees_the_support_only():
    learner, params, tasks = small_problem("mlp")
    objective = methods.pretraining(learner)
    changed = tasks._replace(query=tuple(t + 1 for t in tasks.query))
    assert torch.equal(maml.meta_loss(objective, params, tasks)[1], maml.meta_loss(objective, params, changed)[1])
