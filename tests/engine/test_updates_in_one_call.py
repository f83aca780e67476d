"""Outer updates of a small network in one call are meta-gradient, clip and Adam, one after the other."""

import dataclasses

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from conftest import loop_gradient
from mamlkit import methods, models
from mamlkit.engine import dense, meta_batch
from mamlkit.maml import Task
from mamlkit.methods import GradientMethod
from test_dense import problems

LR = 0.01


def parts(tasks, count):
    """A meta-batch as several, of as many tasks each."""
    size = len(tasks.query[0]) // count
    cut = lambda start: Task(*(tuple(t[start : start + size] for t in pair) for pair in tasks))
    return [cut(start) for start in range(0, size * count, size)]


def by_loops(method, params, batches, clip, before):
    """PyTorch's own Adam on gradients of a loop over tasks; parameters, moments, losses."""
    leaves = {name: value.clone() for name, value in params.items()}
    optimiser, found = torch.optim.Adam(list(leaves.values()), lr=LR), []
    for batch in [*before, *batches]:
        gradient, losses = loop_gradient(method.loss, leaves, batch)
        for name, value in leaves.items():
            value.grad = gradient[name] if clip is None else gradient[name].clamp(-clip, clip)
        optimiser.step()
        found.append(losses)
    return leaves, optimiser, torch.stack(found[len(before) :])


@settings(max_examples=25, deadline=None)
@given(
    problem=problems(),
    count=st.integers(1, 3),
    clip=st.sampled_from([None, 0.02]),
    again=st.booleans(),
    sums_bytes=st.sampled_from([1000, dense.SUMS_BYTES]),
)
def test_they_are_what_loops_over_tasks_and_adam_give(problem, count, clip, again, sums_bytes):
    method, params, tasks = problem
    adam, points = torch.optim.Adam(list(params.values())), tasks.query[1][..., :1].numel()
    assume(meta_batch.are_small(method, params, adam, points))  # not those that normalise
    count = min(count, len(tasks.query[0]))
    batches = parts(tasks, count)
    before = batches[:1] if again else []  # so that there are moments to go on from
    wanted, theirs, wanted_losses = by_loops(method, params, batches, clip, before)
    found = {name: value.clone() for name, value in params.items()}
    ours = torch.optim.Adam(list(found.values()), lr=LR)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense, "SUMS_BYTES", sums_bytes)
        if before:
            meta_batch.updates(method, found, ours, before, clip)
        losses = meta_batch.updates(method, found, ours, batches, clip)
    assert torch.allclose(losses, wanted_losses, rtol=1e-7, atol=1e-9)
    for name, value in wanted.items():
        state, other = ours.state[found[name]], theirs.state[value]
        # Adam takes a step of LR whatever the size of a derivative: one that is nothing but rounding moves
        clear = (other["exp_avg"].abs() > 1e-7) | (other["exp_avg"] == 0)
        assert torch.allclose(found[name][clear], value[clear], rtol=1e-6, atol=1e-6 * LR)
        assert torch.allclose(state["exp_avg"], other["exp_avg"], rtol=1e-6, atol=1e-9)
        assert torch.allclose(state["exp_avg_sq"], other["exp_avg_sq"], rtol=1e-6, atol=1e-12)
        assert state["step"] == other["step"] == len(batches) + len(before)


def small(tasks=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    model = models.mlp(1, [9, 5], 1)
    pair = lambda: (
        torch.randn(tasks, 4, 1, generator=generator),
        torch.randn(tasks, 4, 1, generator=generator),
    )
    method = methods.maml(methods.Learner(model, "mse", 0.1, 2, 1))
    return method, model.init(generator), Task(pair(), pair())


def test_the_bits_do_not_depend_on_how_many_are_made_in_a_call():
    method, params, tasks = small()
    found = []
    for cuts in ([6], [1] * 6, [2, 3, 1]):
        theta = {name: value.clone() for name, value in params.items()}
        optimiser, batches, losses = torch.optim.Adam(list(theta.values()), lr=LR), parts(tasks, 6), []
        for cut in cuts:
            losses.append(meta_batch.updates(method, theta, optimiser, batches[:cut], None))
            batches = batches[cut:]
        moments = [state[name] for state in optimiser.state.values() for name in dense.MOMENTS]
        found.append([*theta.values(), *moments, torch.cat(losses)])
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other))


def test_what_does_not_fit_moves_nothing():
    method, params, tasks = small()
    before = {name: value.clone() for name, value in params.items()}
    optimiser = torch.optim.Adam(list(params.values()), lr=LR)
    short = Task((tasks.support[0][..., :0], tasks.support[1]), tasks.query)
    with pytest.raises(ValueError, match="features"):
        meta_batch.updates(method, params, optimiser, [short], None)
    with pytest.raises(ValueError, match="only gradients of a GradientMethod"):
        meta_batch.updates(
            methods.METHODS["reptile, inner adam"](method.learner), params, optimiser, [tasks], None
        )
    values = list(params.values())
    others = (
        torch.optim.AdamW(values),
        torch.optim.SGD(values),
        torch.optim.Adam(values, maximize=True),
        torch.optim.Adam([{"params": values, "weight_decay": 0.1}]),
        torch.optim.Adam([value.clone() for value in values]),
        torch.optim.Adam(values[::-1]),
        torch.optim.Adam([{"params": values[:1]}, {"params": values[1:]}]),
    )
    for other in others:
        with pytest.raises(ValueError, match="updates are for Adam as it is by default"):
            meta_batch.updates(method, params, other, [tasks], None)
    few = Task(*(tuple(t[:1] for t in pair) for pair in tasks))
    for batches in ([], [tasks, few]):
        with pytest.raises(ValueError, match="updates take one or more, of one size"):
            meta_batch.updates(method, params, optimiser, batches, None)
    for clip in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="a bound of derivatives is above 0"):
            meta_batch.updates(method, params, optimiser, [tasks], clip)
    assert all(torch.equal(params[name], value) for name, value in before.items()) and not optimiser.state


def test_a_loss_that_is_not_finite_is_returned_and_not_clipped_away():
    method, params, tasks = small()
    optimiser = torch.optim.Adam(list(params.values()), lr=LR)
    broken = Task(tasks.support, (tasks.query[0], tasks.query[1] * torch.nan))
    losses = meta_batch.updates(method, params, optimiser, [broken], 1.0)
    assert losses.isnan().all() and all(value.isnan().any() for value in params.values())


def test_only_small_plain_networks_and_adam_as_it_is_are_taken():
    method, params, _ = small()
    values = list(params.values())
    adam = torch.optim.Adam(values)
    small_enough = dense.SMALL // sum(value.numel() for value in values)
    assert meta_batch.are_small(method, params, adam, small_enough)
    assert not meta_batch.are_small(method, params, adam, small_enough + 1)

    class Other(GradientMethod):
        pass

    fields = {each.name: getattr(method, each.name) for each in dataclasses.fields(method)}
    for other in (Other(**fields), methods.METHODS["reptile, inner adam"](method.learner)):
        assert not meta_batch.are_small(other, params, adam, 1)
    options = {"weight_decay": 0.1}, {"amsgrad": True}, {"maximize": True}, {"eps": 0.0}
    heard, hearing = torch.optim.Adam(values), torch.optim.Adam(values)
    heard.register_step_post_hook(print)
    hearing.register_step_pre_hook(print)
    for optimiser in (
        *(torch.optim.Adam(values, **more) for more in options),
        torch.optim.AdamW(values),
        heard,
        hearing,
        None,
    ):
        assert not meta_batch.are_small(method, params, optimiser, 1)
    for other in (models.conv4(ways=2, filters=2), models.mlp(3, [4], 2, batch_norm_shifts=True)):
        theta = other.init(torch.Generator())
        its = methods.maml(methods.Learner(other, "cross-entropy, mean", 0.1, 1, 1))
        assert not meta_batch.are_small(its, theta, torch.optim.Adam(list(theta.values())), 1)


def test_adam_that_has_not_moved_all_alike_is_left_to_itself():
    method = methods.maml(methods.Learner(models.mlp(1, (4,), 1), "mse", 0.1, 1, 3))
    params = method.init(torch.Generator().manual_seed(0))
    are_small = lambda adam, given=params: meta_batch.are_small(method, given, adam, 6)
    adam = torch.optim.Adam(list(params.values()))
    assert are_small(adam)
    first, *others = params.values()
    for value in others:
        value.grad = torch.ones_like(value)
    adam.step()
    assert not are_small(adam)  # the first has no moments
    first.grad = torch.ones_like(first)
    adam.step()
    assert not are_small(adam)  # fewer steps than the others
    assert not are_small(torch.optim.Adam(list(params.values()), lr=torch.tensor(0.01)))
    with torch.inference_mode():
        fixed = {name: value.clone() for name, value in params.items()}
    assert not are_small(torch.optim.Adam(list(fixed.values())), fixed)
