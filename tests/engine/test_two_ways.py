"""The fast way and the general way give the same, over everything that a learner can be."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import GRADIENT, General, small_problem, ways
from mamlkit import maml, methods, models
from mamlkit.engine import kernels_cpu, kernels_torch, meta_batch, passes
from mamlkit.maml import Task


@st.composite
def problems(draw):
    """A learner, its parameters and a meta-batch in float64: random in all that they are made of."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    random = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)
    tasks, outputs = draw(st.integers(1, 3)), draw(st.integers(2, 4))
    loss = draw(st.sampled_from(list(methods.LOSSES)))
    if draw(st.booleans()):
        features, hidden = draw(st.integers(1, 3)), draw(st.lists(st.integers(1, 6), max_size=3))
        outputs = draw(st.integers(1, 3)) if loss == "mse" else outputs
        model = models.mlp(features, hidden, outputs, batch_norm_shifts=draw(st.booleans()), std=0.7)
        shape = features, *draw(st.sampled_from([(), (1,)]))
    else:
        pooling, channels = draw(st.sampled_from(["stride", "max"])), draw(st.integers(1, 2))
        size = draw(st.integers(16, 18) if pooling == "max" else st.integers(3, 9))
        filters = draw(st.integers(1, 4))
        model = models.conv4(outputs, filters=filters, size=size, channels=channels, pooling=pooling)
        shape = channels, size, size
    params = {name: value + 0.2 * random(*value.shape) for name, value in model.init(generator).items()}
    body = set(params) - set(model.layers[-1][:2])
    frozen = draw(st.sets(st.sampled_from(list(params))) | st.just(body))
    if draw(st.booleans()):
        frozen |= model.frozen

    def part():
        points = draw(st.integers(2, 5))
        labels = torch.randint(outputs, (tasks, points), generator=generator)
        return random(tasks, points, *shape), random(tasks, points, outputs) if loss == "mse" else labels

    numbers = draw(st.sampled_from([0.01, 0.1])), draw(st.integers(0, 3)), draw(st.integers(1, 3))
    learner = methods.Learner(model._replace(frozen=frozenset(frozen)), loss, *numbers)
    return learner, params, Task(part(), part())


anything = given(
    problem=problems(),
    method=st.sampled_from(GRADIENT),
    kernels=st.sampled_from([kernels_cpu, kernels_torch]),
)


@settings(max_examples=50)
@anything
def test_the_engine_is_the_general_way_whatever_the_learner(problem, method, kernels):
    same_both_ways(problem, method, kernels)


@pytest.mark.slow
@settings(max_examples=500)
@anything
def test_the_engine_is_the_general_way_in_many_more_cases(problem, method, kernels):
    same_both_ways(problem, method, kernels)


def same_both_ways(problem, method, kernels):
    learner, params, tasks = problem
    objective = methods.METHODS[method](learner)
    wanted, wanted_losses = maml.meta_gradient(objective.loss, params, tasks)
    general = General(*(getattr(objective, field.name) for field in dataclasses.fields(objective)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "kernels_of", lambda device: kernels)
        gradient, losses = meta_batch.meta_gradient(objective, params, tasks)
        outputs = meta_batch.predictions(objective, params, tasks)
    assert list(gradient) == list(params)
    for name, value in wanted.items():  # each by itself, so that no large one hides a small one
        assert (gradient[name] - value).norm() <= 1e-9 * value.norm() + 1e-10 * largest(wanted)
    assert torch.allclose(losses, wanted_losses, rtol=1e-9, atol=1e-11)
    assert torch.allclose(outputs, meta_batch.predictions(general, params, tasks), rtol=1e-9, atol=1e-9)


@settings(max_examples=50)
@given(
    problem=problems(),
    rates=st.sampled_from([None, "coordinate", "tensor and step"]),
    counts=st.sampled_from(["last", "every", "moving"]),
    own_norms=st.booleans(),
    first_order_first=st.booleans(),
    progress=st.sampled_from([0.0, 0.04, 0.3, 0.7]),
    kernels=st.sampled_from([kernels_cpu, kernels_torch]),
)
def test_learned_rates_and_a_loss_of_every_step_are_those_of_the_general_way(
    problem, rates, counts, own_norms, first_order_first, progress, kernels
):
    learner, params, tasks = problem
    method = methods.StepwiseMethod(learner, rates, counts, first_order_first, own_norms, progress)
    generator = torch.Generator().manual_seed(1)
    begun = method.init(generator)
    params = {name: value for name, value in params.items() if name in begun}  # without what steps replace
    for name, value in begun.items():
        if name not in params:  # such as a rate, of either sign
            params = params | {name: value + 0.05 * torch.randn(value.shape, generator=generator).double()}
    wanted, wanted_losses = maml.meta_gradient(method.loss, params, tasks)
    plain = torch.vmap(method.predict, in_dims=(None, 0), out_dims=1)(params, tasks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "kernels_of", lambda device: kernels)
        gradient, losses = meta_batch.meta_gradient(method, params, tasks)
        outputs = meta_batch.predictions(method, params, tasks)
    assert list(gradient) == list(params)
    for name, value in wanted.items():
        assert (gradient[name] - value).norm() <= 1e-9 * value.norm() + 1e-10 * largest(wanted), name
    assert torch.allclose(losses, wanted_losses, rtol=1e-9, atol=1e-11)
    assert torch.allclose(outputs, plain, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "name",
    ["meta-sgd", "maml, learned rates", "maml, multi-step loss", "maml++ without its schedules", "maml++"],
)
def test_the_grids_stepwise_methods_are_not_left_to_the_general_way(name, monkeypatch):
    learner, _, tasks = small_problem("conv-stride")
    method = methods.METHODS[name](learner)
    params = {key: value.double() for key, value in method.init(torch.Generator().manual_seed(0)).items()}
    monkeypatch.setattr(maml, "meta_gradient", None)
    monkeypatch.setattr(meta_batch, "vmap", None)
    meta_batch.meta_gradient(method, params, tasks)
    meta_batch.predictions(method, params, tasks)


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize(
    "options",
    [{"padding": "symmetric"}, {"adapt_shifts": True}, {"padding": "symmetric", "adapt_shifts": True}],
)
def test_what_no_fast_way_knows_goes_the_general_way(options, first_order):
    learner, params, tasks = small_problem("conv-stride")
    odd = dataclasses.replace(learner, model=models.conv4(2, filters=2, size=8, **options))
    method = "first-order maml" if first_order else "maml"
    same_both_ways((odd, params, tasks), method, kernels_cpu)
    gradients = [
        meta_batch.meta_gradient(methods.METHODS[method](each), params, tasks)[0] for each in (learner, odd)
    ]
    assert (gradients[0]["shift0"] - gradients[1]["shift0"]).norm() > 1e-3  # and it is another one


def largest(params):
    return max(float(value.norm()) for value in params.values())


@pytest.mark.parametrize("kind", ["mlp", "conv-stride", "conv-max"])
@pytest.mark.parametrize("made_inside", [False, True])
def test_the_modes_of_a_caller_change_nothing(kind, made_inside):
    learner, params, tasks = small_problem(kind, dtype=torch.float32)  # autocast leaves float64 alone
    wanted = [way() for way in ways(learner, params, tasks)]
    with torch.inference_mode(), torch.autocast("cpu"):
        if made_inside:
            params = {name: value.clone() for name, value in params.items()}
            tasks = Task(*(tuple(t.clone() for t in pair) for pair in tasks))
        found = [way() for way in ways(learner, params, tasks)]
        assert torch.is_inference_mode_enabled() and torch.is_autocast_enabled("cpu")  # the caller's again
    for one, other in zip(found, wanted):
        if isinstance(one, torch.Tensor):
            assert torch.equal(one, other)
        else:
            assert torch.equal(one[1], other[1]) and all(torch.equal(one[0][k], other[0][k]) for k in params)


def test_leaves_of_a_graph_give_what_plain_tensors_give():
    learner, params, tasks = small_problem("conv-stride")
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    for one, other in zip(ways(learner, leaves, tasks), ways(learner, params, tasks)):
        one, other = (
            [r] if isinstance(r, torch.Tensor) else [*r[0].values(), r[1]] for r in (one(), other())
        )
        assert all(torch.equal(a, b) and not a.requires_grad for a, b in zip(one, other))


OF_MANY = ["maml", "head only", "meta-sgd", "maml, learned rates", "maml, multi-step loss"]
OF_MANY += ["prototypical networks", "siamese"]


@pytest.mark.parametrize("transductive", [True, False])
@pytest.mark.parametrize("name", OF_MANY)
def test_leaves_in_several_chunks_on_several_threads_too(name, transductive, monkeypatch):
    learner, _, tasks = small_problem("conv-stride")
    made = methods.METHODS[name](dataclasses.replace(learner, transductive=transductive))
    params = {k: v.double() for k, v in made.init(torch.Generator().manual_seed(0)).items()}
    leaves = {k: v.clone().requires_grad_() for k, v in params.items()}
    wanted, before = meta_batch.predictions(made, params, tasks), torch.get_num_threads()
    monkeypatch.setattr(meta_batch, "CHUNK_BYTES", 1)
    torch.set_num_threads(2)
    try:
        found = meta_batch.predictions(made, leaves, tasks)
        gradient, _ = meta_batch.meta_gradient(made, leaves, tasks)
    finally:
        torch.set_num_threads(before)
    assert torch.allclose(found, wanted, rtol=1e-12) and not found.requires_grad
    assert not any(value.requires_grad for value in gradient.values())


@pytest.mark.parametrize("transductive", [True, False])
@pytest.mark.parametrize("name", [*OF_MANY, "body only"])
def test_parameters_are_read_as_they_are_whatever_their_strides(name, transductive):
    lanes, made_of = kernels_cpu.vectors.LANES[np.dtype(np.float64)], methods.METHODS[name]
    learner, _, tasks = small_problem(
        "conv-stride"
    )  # filters that fill a vector: nothing is padded, so copied
    model = models.conv4(2, filters=lanes, size=8)
    made = made_of(dataclasses.replace(learner, model=model, transductive=transductive))
    generator = torch.Generator().manual_seed(0)
    params = {k: v.double() + 0.1 for k, v in made.init(generator).items()}
    params["shift3"] = torch.full((1,), 0.5, dtype=torch.float64).expand(lanes)
    apart = {k: torch.stack([v, v + 1, v - 1], -1)[..., 0] for k, v in params.items() if k != "shift3"}
    apart["shift3"] = params["shift3"]
    whole = {k: v.contiguous() for k, v in params.items()}
    for way in (meta_batch.predictions, lambda *given: meta_batch.meta_gradient(*given)[1]):
        assert torch.allclose(way(made, apart, tasks), way(made, whole, tasks), rtol=1e-12)
    found = torch.func.vmap(made.predict, in_dims=(None, 0), out_dims=1)(whole, tasks)
    assert torch.allclose(meta_batch.predictions(made, apart, tasks), found, rtol=1e-8)


class Decayed(methods.Learner):
    """A learner with a loss of its own."""

    def loss_fn(self, params, examples):
        return super().loss_fn(params, examples) + sum((value**2).sum() for value in params.values())


@pytest.mark.parametrize("method", GRADIENT)
def test_a_learner_with_a_loss_of_its_own_is_asked_for_it(method):
    learner, params, tasks = small_problem("mlp")
    objective = methods.METHODS[method](Decayed(**vars(learner)))
    assert torch.equal(
        meta_batch.meta_gradient(objective, params, tasks)[1],
        maml.meta_gradient(objective.loss, params, tasks)[1],
    )
    own = meta_batch.predictions(objective, params, tasks)
    plain = meta_batch.predictions(General(learner), params, tasks)
    assert torch.equal(own[0], plain[0]) and not torch.allclose(own[1], plain[1])


@pytest.mark.parametrize(
    "loss",
    [
        lambda outputs, targets, shots: (outputs - targets).abs().mean(),  # of one task, not of each of many
        lambda outputs, targets, shots: (outputs * targets).mean(),  # linear: its gradient has no derivative
    ],
)
def test_a_loss_of_ones_own_may_know_one_task_only(loss, monkeypatch):
    monkeypatch.setitem(methods.LOSSES, "own", loss)
    learner, params, tasks = small_problem("mlp", loss="own")
    fast, outputs, general, wanted = (way() for way in ways(learner, params, tasks))
    assert torch.allclose(fast[1], general[1]) and torch.allclose(outputs, wanted)


def test_a_minus_sign_that_is_still_to_come_counts(kind):
    learner, params, tasks = small_problem(kind)
    late = lambda t: torch._neg_view(-t)  # as the imaginary part of a conjugate has it
    same = {name: late(value) for name, value in params.items()}, Task(*(tuple(map(late, p)) for p in tasks))
    for one, other in zip(ways(learner, *same), ways(learner, params, tasks)):
        one, other = (r if isinstance(r, torch.Tensor) else r[1] for r in (one(), other()))
        assert torch.allclose(one, other, rtol=1e-9)
