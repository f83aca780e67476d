"""MAML++: what changes in training, and normalisations of each step, against slow twins and differences."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from conftest import finite_difference, loop_gradient, relative_error, small_problem
from mamlkit import maml, methods, models
from mamlkit.engine import meta_batch
from mamlkit.maml import Task
from mamlkit.methods import norms, steps
from mamlkit.methods.steps import FIRST_ORDER, LEAST, MOVING
from mamlkit.models import BATCH_NORM_EPS

MOVING_LOSS, ORDER, NORMS = (
    "maml, moving multi-step loss",
    "maml, first order first",
    "maml, normalisation of each step",
)
NORMALISED = ["mlp", "conv-stride", "conv-max"]


def problem(kind, **changes):
    """As :func:`small_problem`, but points have a network with normalisations, too."""
    learner, params, batch = small_problem(kind, **changes)
    if kind == "mlp":
        learner = dataclasses.replace(
            learner, model=models.mlp(1, (5, 4), 1, batch_norm_shifts=True, std=0.5)
        )
        generator = torch.Generator().manual_seed(1)
        params = {name: value.double() for name, value in learner.model.init(generator).items()}
        params = {n: v + 0.1 * torch.randn(v.shape, generator=generator).double() for n, v in params.items()}
    return learner, params, batch


def made(name, kind, **changes):
    """A method, its parameters in float64, where all that is added is uneven, and a meta-batch."""
    learner, params, batch = problem(kind, **changes)
    method = methods.METHODS[name](learner)
    generator = torch.Generator().manual_seed(3)
    begun = {key: value.double() for key, value in method.init(generator).items()}
    shaken = {k: v + 0.3 * torch.randn(v.shape, generator=generator).double() for k, v in begun.items()}
    return method, {key: params.get(key, shaken[key]) for key in begun}, batch


def both_ways(method, params, batch):
    """The gradient by the engine and by the general way, which must agree, and the losses."""
    gradient, losses = meta_batch.meta_gradient(method, params, batch)
    wanted, wanted_losses = maml.meta_gradient(method.loss, params, batch)
    assert relative_error(gradient, wanted) < 1e-9 and torch.allclose(losses, wanted_losses, rtol=1e-9)
    return gradient, losses


def same(one, other):
    return relative_error(one[0], other[0]) < 1e-9 and torch.allclose(one[1], other[1], rtol=1e-9)


def weights_of_the_code(epoch, count, epochs=10):
    """Each step's weight in an epoch of MAML++'s code: all begin alike, lose evenly, keep 3 %."""
    lost = min(epoch / epochs, 0.97) / count
    return np.array([1 / count - lost] * (count - 1) + [1 / count + (count - 1) * lost])


@pytest.mark.parametrize("epoch", range(10))
def test_weights_move_as_in_the_code_of_maml_plus_plus(epoch):
    learner, _, _ = problem("mlp", steps=5)
    counted = methods.moving_loss(learner).at(epoch / 100).counted
    assert list(counted) == [1, 2, 3, 4, 5] and (MOVING, LEAST) == (0.1, 0.03)
    np.testing.assert_allclose(
        np.array(list(counted.values())) / 5, weights_of_the_code(epoch, 5), atol=1e-12
    )


def test_weights_keep_three_hundredths_until_the_last_step_counts_alone():
    learner, _, _ = problem("mlp", steps=5)
    at = lambda progress: methods.moving_loss(learner).at(progress).counted
    assert at(0.099) == pytest.approx({1: 0.03, 2: 0.03, 3: 0.03, 4: 0.03, 5: 4.88}) and at(0.1) == {5: 1.0}


@given(
    progress=st.floats(0, 0.2) | st.floats(0, 1),
    count=st.integers(0, 9),
    counts=st.sampled_from(["last", "every", "moving"]),
)
def test_weights_are_positive_of_sum_one_and_the_last_step_has_the_most(progress, count, counts):
    learner, _, _ = problem("mlp", steps=count)
    counted = methods.StepwiseMethod(learner, counts=counts, progress=progress).counted
    shares = np.array(list(counted.values())) / len(counted)
    assert shares.sum() == pytest.approx(1) and (shares > 0).all() and shares[-1] == shares.max()
    assert max(counted) == count and (len(counted) == 1 or counts != "last")


def test_moving_weights_begin_as_equal_ones_and_end_as_maml(kind):
    method, params, batch = made(MOVING_LOSS, kind, steps=3)
    equal, plain = methods.multi_step_loss(method.learner), methods.maml(method.learner)
    begun, later = meta_batch.meta_gradient(method, params, batch), both_ways(method.at(0.05), params, batch)
    wanted = meta_batch.meta_gradient(equal, params, batch)
    assert torch.equal(begun[1], wanted[1]) and all(torch.equal(begun[0][k], wanted[0][k]) for k in params)
    for progress in (MOVING, 0.5, 1.0):
        assert same(
            both_ways(method.at(progress), params, batch), meta_batch.meta_gradient(plain, params, batch)
        )
    some = [methods.maml(dataclasses.replace(method.learner, inner_steps=k)) for k in (1, 2, 3)]
    parts = [meta_batch.meta_gradient(each, params, batch) for each in some]
    shares = weights_of_the_code(5, 3)
    sums = {k: sum(share * part[0][k] for share, part in zip(shares, parts)) for k in params}
    assert same(later, (sums, sum(share * part[1] for share, part in zip(shares, parts))))


def test_the_order_is_the_first_and_then_the_second(kind):
    method, params, batch = made(ORDER, kind)
    first, whole = methods.first_order_maml(method.learner), methods.maml(method.learner)
    for progress in (0.0, 0.3, np.nextafter(FIRST_ORDER, 0)):
        found = both_ways(method.at(progress), params, batch)
        assert same(found, meta_batch.meta_gradient(first, params, batch))
    for progress in (FIRST_ORDER, 1.0):
        found = both_ways(method.at(progress), params, batch)
        assert same(found, meta_batch.meta_gradient(whole, params, batch))
        wanted = finite_difference(lambda p: maml.meta_loss(method.at(1.0).loss, p, batch)[0], params)
        assert relative_error(found[0], wanted) < 1e-6
    assert relative_error(meta_batch.meta_gradient(first, params, batch)[0], found[0]) > 1e-3


@pytest.mark.parametrize("kind", NORMALISED)
@pytest.mark.parametrize("name", [NORMS, "maml++"])
def test_the_gradient_is_that_of_finite_differences_through_all_steps(name, kind):
    method, params, batch = made(name, kind, steps=3)
    method = dataclasses.replace(method.at(0.6), counts="every")  # of second order
    gradient, _ = both_ways(method, params, batch)
    wanted = finite_difference(lambda p: maml.meta_loss(method.loss, p, batch)[0], params)
    added = {key: value for key, value in wanted.items() if key.startswith((norms.SHIFT, norms.SCALE))}
    assert added and relative_error(gradient, added) < 1e-6 and relative_error(gradient, wanted) < 1e-5


def test_in_the_first_order_phase_of_maml_plus_plus_inner_gradients_are_constants():
    method, params, batch = made("maml++", "conv-stride", steps=2)
    method, learner = method.at(0.05), method.learner

    def detached(theta, task):
        """Written out: the steps' gradients from copies that know of no theta."""
        fast = {k: v for k, v in theta.items() if k in learner.model.shapes}
        losses = []
        for step in range(2):
            at = lambda p, step=step: norms.with_step(learner.model.layers, p, theta, step)
            copies = {k: v.detach().requires_grad_() for k, v in fast.items()}
            inner = learner.loss_fn(at(copies), task.support)
            slopes = torch.autograd.grad(inner, list(copies.values()), allow_unused=True)
            fast = {
                k: fast[k] if f"rate of {k}" not in theta else fast[k] - theta[f"rate of {k}"][step] * slope
                for k, slope in zip(copies, slopes)
            }
            losses.append(learner.loss_fn(at(fast), task.query))
        return 0.25 * losses[0] + 0.75 * losses[1]  # half of the way to the last

    wanted = loop_gradient(detached, params, batch)
    assert same(both_ways(method, params, batch), wanted)


@pytest.mark.parametrize("kind", NORMALISED)
def test_equal_normalisations_at_all_steps_are_maml(kind):
    learner, params, batch = problem(kind, steps=3)
    method, plain = methods.norms_of_steps(learner), methods.maml(learner)
    theta = norms.init(learner.model.layers, params, 3)
    assert theta.keys() == method.shapes.keys() and all(v.shape == method.shapes[k] for k, v in theta.items())
    gradient, losses = both_ways(method, theta, batch)
    wanted, wanted_losses = meta_batch.meta_gradient(plain, params, batch)
    shifts = {name: gradient[norms.SHIFT + name].sum(0) for name in params if norms.SHIFT + name in theta}
    assert shifts and same(({**gradient, **shifts}, losses), (wanted, wanted_losses))
    outputs, plainly = (meta_batch.predictions(*pair, batch) for pair in ((method, theta), (plain, params)))
    assert torch.allclose(outputs, plainly, rtol=1e-9)
    drawn = method.init(torch.Generator().manual_seed(5))
    network = learner.model.init(torch.Generator().manual_seed(5))
    wanted = norms.init(learner.model.layers, network, 3)
    assert drawn.keys() == wanted.keys() and all(torch.equal(drawn[k], wanted[k]) for k in drawn)


def scaled_network(fast, theta, x, step, pooling):
    """The network of ``conv4`` with a scale and a shift of a step, written out."""
    for block in range(4):
        size, stride = x.shape[-1], 2 if pooling == "stride" else 1
        before, after = models.same_padding(size, stride)
        x = F.pad(x, (before, after, before, after))
        x = F.conv2d(x, fast[f"conv{block}"], fast[f"bias{block}"], stride=stride)
        mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
        gamma, beta = (
            theta[part + f"shift{block}"][step].view(1, -1, 1, 1) for part in (norms.SCALE, norms.SHIFT)
        )
        x = F.relu(gamma.exp() * (x - mean) / (variance + BATCH_NORM_EPS).sqrt() + beta)
        x = F.max_pool2d(x, 2) if pooling == "max" else x
    x = x.mean((2, 3)) if pooling == "stride" else x.flatten(1)
    return F.linear(x, fast["head"], fast["head_bias"])


@pytest.mark.parametrize(("pooling", "size"), [("stride", 8), ("max", 16), ("max", 32)])
def test_a_scale_is_a_scale_and_each_step_has_its_own(pooling, size):
    """Of 32 pixels four are left, each of which the head weighs."""
    learner, _, batch = problem(f"conv-{pooling}", steps=2)
    learner = dataclasses.replace(learner, model=models.conv4(2, filters=2, size=size, pooling=pooling))
    method, draw = methods.norms_of_steps(learner), torch.Generator().manual_seed(4)
    random = lambda *shape: torch.randn(*shape, generator=draw, dtype=torch.float64)
    params = {name: value + 0.3 * random(*value.shape) for name, value in method.init(draw).items()}
    batch = Task(*((random(3, 4, 1, size, size), labels) for _, labels in batch))

    def unrolled(theta, task):
        fast = {k: v for k, v in theta.items() if k in learner.model.shapes}
        outputs = [scaled_network(fast, theta, task.query[0], 0, pooling)]
        for step in range(2):
            of_support = scaled_network(fast, theta, task.support[0], step, pooling)
            inner = learner.loss_of(of_support, task.support[1])
            slopes = torch.autograd.grad(inner, list(fast.values()), create_graph=True)
            fast = {k: v - learner.inner_lr * slope for (k, v), slope in zip(fast.items(), slopes)}
            outputs.append(scaled_network(fast, theta, task.query[0], step, pooling))
        return torch.stack(outputs)

    wanted = loop_gradient(
        lambda p, task: learner.loss_of(unrolled(p, task)[-1], task.query[1]), params, batch
    )
    assert same(both_ways(method, params, batch), wanted)
    leaves = {key: value.clone().requires_grad_() for key, value in params.items()}
    found = meta_batch.predictions(method, params, batch)
    one = Task(*(tuple(t[1] for t in pair) for pair in batch))
    for outputs in (found[:, 1], method.predict(params, one)):
        assert torch.allclose(outputs, unrolled(leaves, one).detach(), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", ["maml++", MOVING_LOSS, ORDER])
def test_predictions_do_not_depend_on_the_progress(name):
    method, params, batch = made(name, "conv-stride")
    assert method.scheduled
    one = Task(*(tuple(t[0] for t in pair) for pair in batch))
    for way in (lambda at: meta_batch.predictions(at, params, batch), lambda at: at.predict(params, one)):
        outputs = [way(method.at(progress)) for progress in (0.0, 0.05, 0.6)]
        assert all(torch.equal(each, outputs[0]) for each in outputs)


def test_what_has_no_schedule_is_itself_at_any_time_and_what_cannot_be_is_refused():
    learner, _, _ = problem("conv-stride")
    still = ["maml", "meta-sgd", "maml, multi-step loss", "maml++ without its schedules", NORMS, "siamese"]
    for name in still:
        method = methods.METHODS[name](learner)
        assert method.at(0.7) is method and not method.scheduled
    with pytest.raises(ValueError, match=r"progress=1.5, but the part of a training lies between 0 and 1"):
        methods.maml_plus_plus(learner).at(1.5)
    odd = dataclasses.replace(learner, model=models.conv4(2, filters=2, size=8, padding="symmetric"))
    with pytest.raises(ValueError, match="has no layers, so its normalisations are not known; give"):
        methods.norms_of_steps(odd)
    headless = learner.model._replace(layers=learner.model.layers[:-1])
    with pytest.raises(ValueError, match="nothing follows the normalisation of 'shift3'.* end the network"):
        methods.maml_plus_plus(dataclasses.replace(learner, model=headless))


def test_a_network_without_normalisations_has_none_of_each_step():
    learner, params, batch = small_problem("mlp")
    method = methods.norms_of_steps(learner)
    assert method.shapes == learner.model.shapes
    assert same(
        both_ways(method, params, batch), meta_batch.meta_gradient(methods.maml(learner), params, batch)
    )


def test_maml_plus_plus_is_all_of_its_parts():
    learner, _, _ = problem("conv-stride")
    whole, nothing = methods.maml_plus_plus(learner), methods.StepwiseMethod(learner)
    parts = [steps.learned_rates, steps.moving_loss, steps.first_order_first, steps.norms_of_steps]
    changed = {}
    for part in parts:
        of_part = {k: v for k, v in vars(part(learner)).items() if v != getattr(nothing, k)}
        assert len(of_part) == 1  # switched one by one
        changed |= of_part
    assert len(changed) == 4 and dataclasses.replace(nothing, **changed) == whole
