"""Queries normalised by the support's statistics: the engine gives the numbers of the general way."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import vmap

from conftest import loop_gradient, relative_error
from mamlkit import methods, models
from mamlkit.engine import kernels_torch, meta_batch, passes, queries
from mamlkit.maml import Task
from test_meta_batch import KERNELS, SHAPES, image_problem

METHODS = ["maml", "head only", "body only", "meta-sgd", "maml, learned rates", "maml, multi-step loss"]
METHODS += ["prototypical networks", "matching networks, learned scale", "siamese"]


def apart(learner, method):
    """A method whose queries go by the support's statistics, with parameters of its own."""
    made = methods.METHODS[method](dataclasses.replace(learner, transductive=False))
    return made, {k: v.double() for k, v in made.init(torch.Generator().manual_seed(1)).items()}


def one_by_one(made, params, tasks):
    return vmap(made.predict, in_dims=(None, 0), out_dims=1)(params, tasks)


@pytest.fixture
def fast_only(monkeypatch):
    """The general way may not be gone."""
    monkeypatch.setattr(meta_batch, "vmap", None)


@settings(max_examples=40, deadline=None)
@given(
    **SHAPES,
    shots=st.integers(1, 2),
    steps=st.integers(1, 3),
    method=st.sampled_from(METHODS),
    chunk=st.sampled_from([1, 4 << 20]),
)
def test_predictions_equal_the_general_way(method, chunk, **shape):
    learner, _, batch = image_problem(**shape)
    made, params = apart(learner, method)
    wanted = one_by_one(made, params, batch)
    for kernels in KERNELS.values():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(passes, "kernels_of", lambda device, kernels=kernels: kernels)
            patch.setattr(meta_batch, "CHUNK_BYTES", chunk)
            patch.setattr(meta_batch, "vmap", None)
            found = meta_batch.predictions(made, params, batch)
        assert torch.allclose(found, wanted, rtol=1e-8, atol=1e-8)


def test_the_network_without_convolution_too(fast_only):
    learner, _, tasks = image_problem("stride", size=8, ways=3, tasks=2, steps=2, queries=2)
    model = models.mlp(64, (6, 5), 3, batch_norm_shifts=True, std=0.5)
    made, params = apart(dataclasses.replace(learner, model=model), "maml")
    wanted = one_by_one(made, params, tasks)
    assert torch.allclose(meta_batch.predictions(made, params, tasks), wanted, rtol=1e-9)
    together = methods.maml(dataclasses.replace(learner, model=model))
    assert not torch.allclose(meta_batch.predictions(together, params, tasks), wanted, rtol=1e-2)


@pytest.mark.parametrize("method", METHODS)
def test_no_query_matters_to_another(method, fast_only):
    learner, _, tasks = image_problem("stride", size=19, ways=3, tasks=2, steps=2, queries=3)
    made, params = apart(learner, method)
    inputs, targets = tasks.query
    fewer = Task(tasks.support, (inputs[:, :2], targets[:, :2]))
    both = [meta_batch.predictions(made, params, given) for given in (tasks, fewer)]
    assert torch.allclose(both[0][:, :, :2], both[1], rtol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_a_single_query_is_enough(method, fast_only):
    learner, _, tasks = image_problem("stride", size=8, ways=3, tasks=2, steps=1)
    made, params = apart(learner, method)
    one = Task(tasks.support, tuple(part[:, :1] for part in tasks.query))
    assert torch.allclose(meta_batch.predictions(made, params, one), one_by_one(made, params, one))


@pytest.mark.parametrize("method", ["maml", "maml, multi-step loss", "prototypical networks"])
def test_gradients_go_the_general_way(method):
    learner, _, tasks = image_problem("stride", size=17, ways=2, tasks=2, steps=2, queries=2)
    made, params = apart(learner, method)
    found, losses = meta_batch.meta_gradient(made, params, tasks)
    wanted, wanted_losses = loop_gradient(made.loss, params, tasks)
    assert relative_error(found, wanted) < 1e-9 and torch.allclose(losses, wanted_losses, rtol=1e-9)
    assert not meta_batch.are_small(made, params, torch.optim.Adam(params.values()), 4)


@pytest.mark.parametrize("method", ["maml", "maml, multi-step loss"])
def test_layers_and_apply_that_differ_there_are_refused(method):
    learner, _, tasks = image_problem("stride", size=17, ways=2, tasks=2, steps=1, queries=2)
    own = learner.model.apply
    wrong = learner.model._replace(apply=lambda params, inputs, reference=None: own(params, inputs))
    made, params = apart(dataclasses.replace(learner, model=wrong), method)
    with pytest.raises(ValueError, match="layers give other outputs than its apply"):
        meta_batch.predictions(made, params, tasks)


def test_support_and_queries_both_come_back():
    learner, _, tasks = image_problem("stride", size=17, ways=2, tasks=2, steps=1, queries=3)
    made, params = apart(learner, "maml")
    layers = learner.model.layers
    weights = meta_batch.passes.to_matrices(layers, params)
    near, far = queries.with_support(layers, kernels_torch, tasks)(weights)
    apply = vmap(learner.model.apply, in_dims=(None, 0))
    assert torch.allclose(near, apply(params, tasks.support[0]), rtol=1e-9)
    assert torch.allclose(far, one_by_one(made, params, tasks)[0], rtol=1e-9)
