"""The compiled recursion for plain layers gives the numbers of a loop over tasks, whatever the threads."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import GRADIENT, General, loop_gradient, small_problem
from mamlkit import methods, models
from mamlkit.engine import dense, kernels_cpu, kernels_torch, meta_batch
from mamlkit.maml import Task


@st.composite
def problems(draw):
    """Whatever a network of plain layers can be, with its parameters and a meta-batch."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    random = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)
    loss, tasks = draw(st.sampled_from(list(methods.LOSSES))), draw(st.integers(1, 7))
    outputs = draw(st.integers(1 if loss == "mse" else 2, 6))
    widths = st.integers(1, 11) | st.integers(18, 24)  # these leave room for a step without moved weights
    features, hidden = draw(st.integers(1, 30)), draw(st.lists(widths, max_size=4))
    shifts = draw(st.booleans())
    model = models.mlp(features, hidden, outputs, batch_norm_shifts=shifts, std=0.7)
    params = {name: value + 0.2 * random(*value.shape) for name, value in model.init(generator).items()}
    frozen = model.frozen | draw(st.sets(st.sampled_from(list(params))))

    def part():
        points = draw(st.integers(2, 9))
        labels = torch.randint(outputs, (tasks, points), generator=generator)
        return random(tasks, points, features), random(tasks, points, outputs) if loss == "mse" else labels

    numbers = draw(st.sampled_from([0.01, 0.1])), draw(st.integers(0, 4)), draw(st.integers(1, 3))
    learner = methods.Learner(model._replace(frozen=frozen), loss, *numbers)
    return methods.METHODS[draw(st.sampled_from(GRADIENT))](learner), params, Task(part(), part())


@settings(max_examples=60, deadline=None)
@given(problem=problems(), sums_bytes=st.sampled_from([1, 1000, dense.SUMS_BYTES]))
def test_it_is_a_loop_over_tasks_whatever_the_network(problem, sums_bytes):
    same_as_the_loop(problem, sums_bytes)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(problem=problems(), sums_bytes=st.sampled_from([1, 1000, dense.SUMS_BYTES]))
def test_it_is_a_loop_over_tasks_in_many_more_cases(problem, sums_bytes):
    same_as_the_loop(problem, sums_bytes)


def same_as_the_loop(problem, sums_bytes):
    method, params, tasks = problem
    wanted, wanted_losses = loop_gradient(method.loss, params, tasks)
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense, "SUMS_BYTES", sums_bytes)
        patch.setattr(dense, "SMALL", 0)  # else one thread takes it all
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            gradient, losses = meta_batch.meta_gradient(method, params, tasks)
            outputs = meta_batch.predictions(method, params, tasks)
            found.append([*gradient.values(), losses, outputs])
    torch.set_num_threads(1)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other))
    assert list(gradient) == list(params)
    largest = max(float(value.norm()) for value in wanted.values())
    # what the last bit of theta does to the loop: in a few cases of three steps more than the bound below
    last_bit = {name: value * (1 + 2e-16 * torch.randn_like(value).sign()) for name, value in params.items()}
    moved, _ = loop_gradient(method.loss, last_bit, tasks)
    for name, value in wanted.items():  # each by itself, so that no large one hides a small one
        bound = 1e-9 * value.norm() + 1e-10 * largest + 10 * (moved[name] - value).norm()
        assert (gradient[name] - value).norm() <= bound
    assert torch.allclose(losses, wanted_losses, rtol=1e-9, atol=1e-11)
    plain, shaken = (meta_batch.predictions(General(method.learner), p, tasks) for p in (params, last_bit))
    bound = 1e-9 * (1 + plain.abs()) + 10 * (shaken - plain).abs().max()
    assert ((outputs - plain).abs() <= bound).all()


@settings(max_examples=40, deadline=None)
@given(problem=problems(), together=st.integers(1, 8))
def test_a_step_without_moved_weights_is_that_with_them(problem, together):
    """However many tasks make it together, and however many points they have."""
    method, params, tasks = problem
    method = dataclasses.replace(method, learner=dataclasses.replace(method.learner, inner_steps=1))
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense, "have_few_points", lambda *_: True)
        for count in (0, together):
            patch.setattr(dense, "TOGETHER", count)
            found.append(meta_batch.meta_gradient(method, params, tasks))
    (wanted, wanted_losses), (gradient, losses) = found
    largest = max(float(value.norm()) for value in wanted.values())
    assert all((gradient[k] - wanted[k]).norm() <= 1e-8 * largest + 1e-12 for k in wanted)
    assert torch.allclose(losses, wanted_losses, rtol=1e-9, atol=1e-11)


def test_all_inner_rates_have_one_plan_and_each_its_own_gradient():
    learner, params, tasks = small_problem("mlp")
    kernels_cpu.plans.network.cache_clear()
    found = []
    for rate in (0.0, 0.01, 0.1):
        its = methods.METHODS["maml"](dataclasses.replace(learner, inner_lr=rate))
        gradient, _ = meta_batch.meta_gradient(its, params, tasks)
        wanted, _ = loop_gradient(its.loss, params, tasks)
        assert all(torch.allclose(gradient[name], wanted[name], atol=1e-10) for name in params)
        found.append(gradient)
    assert kernels_cpu.plans.network.cache_info().currsize == 1
    assert not torch.allclose(found[0]["weight0"], found[2]["weight0"], rtol=1e-4)


@pytest.mark.parametrize("shifts", [False, True])
def test_what_layers_may_be_beyond_our_own_networks(shifts):
    """A ReLU at the end, none between, and inputs of more axes."""
    learner, _, tasks = small_problem("mlp")
    model = models.mlp(1, (5, 4), 1, batch_norm_shifts=shifts, std=0.5)
    params = {k: v.double() for k, v in model.init(torch.Generator().manual_seed(0)).items()}
    last = model.layers[-1]
    ends = model._replace(
        apply=lambda params, x: model.apply(params, x).relu(),
        layers=(*model.layers[:-1], last._replace(relu=True)),
    )
    for each in (model, ends):
        method = methods.maml(dataclasses.replace(learner, model=each))
        more = Task(*((inputs[..., None], targets) for inputs, targets in tasks))
        wanted, _ = loop_gradient(method.loss, params, tasks)
        gradient, _ = meta_batch.meta_gradient(method, params, more)
        assert all(torch.allclose(gradient[k], wanted[k], rtol=1e-9, atol=1e-12) for k in wanted)


def test_images_and_other_devices_go_through_the_passes():
    plain, images = (small_problem(kind)[0].model.layers for kind in ("mlp", "conv-stride"))
    assert meta_batch._is_plain(plain, kernels_cpu)
    assert not meta_batch._is_plain(images, kernels_cpu) and not meta_batch._is_plain(plain, kernels_torch)
