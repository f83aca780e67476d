"""The mathematics of maml.py: exact gradients, closed forms, and the faults this field's packages had."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from conftest import GRADIENT, finite_difference, loop_gradient, relative_error, small_problem
from mamlkit import maml, methods


def quadratic(params, target):
    """L(w) = sum_i c_i (w_i - t_i)^2 / 2 with curvatures (1, 2, 3)."""
    curvature = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    return 0.5 * (curvature * (params["w"] - target) ** 2).sum()


@pytest.mark.parametrize("method", ["maml", "pretraining"])
@pytest.mark.parametrize("steps", [1, 3])
def test_meta_gradient_equals_finite_differences(kind, steps, method):
    learner, params, tasks = small_problem(kind, steps=steps)
    objective = methods.METHODS[method](learner)
    gradient, _ = maml.meta_gradient(objective.loss, params, tasks)
    wanted = finite_difference(lambda p: maml.meta_loss(objective.loss, p, tasks)[0], params)
    assert relative_error(gradient, wanted) < 1e-6


@pytest.mark.parametrize("steps", [1, 3])
def test_meta_gradient_on_quadratics_has_the_closed_form(steps):
    alpha, curvature = 0.1, torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    theta = {"w": torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)}
    support = torch.tensor([[1.0, 0.0, -1.0], [2.0, 1.0, 0.0]], dtype=torch.float64)
    query = support + torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
    step = {"inner_lr": alpha, "inner_steps": steps}
    exact = lambda p, task: quadratic(maml.adapt(quadratic, p, task.support, **step), task.query)
    first = lambda p, task: quadratic(
        maml.adapt(quadratic, p, task.support, first_order=True, **step), task.query
    )

    shrink = (1 - alpha * curvature) ** steps  # theta' - s = (1 - alpha c)^steps (theta - s)
    adapted = support + shrink * (theta["w"] - support)
    query_gradient = curvature * (adapted - query)
    gradient, losses = maml.meta_gradient(exact, theta, maml.Task(support, query))
    assert torch.allclose(gradient["w"], (shrink * query_gradient).mean(0), rtol=1e-9, atol=0)
    assert torch.allclose(losses, 0.5 * (curvature * (adapted - query) ** 2).sum(1), rtol=1e-9, atol=0)
    gradient, _ = maml.meta_gradient(first, theta, maml.Task(support, query))
    assert torch.allclose(gradient["w"], query_gradient.mean(0), rtol=1e-9, atol=0)


@pytest.mark.parametrize("method", GRADIENT)
def test_batched_equals_a_loop_over_tasks(kind, method):
    learner, params, tasks = small_problem(kind)
    objective = methods.METHODS[method](learner)
    gradient, losses = maml.meta_gradient(objective.loss, params, tasks)
    wanted, wanted_losses = loop_gradient(objective.loss, params, tasks)
    assert relative_error(gradient, wanted) < 1e-11
    assert torch.allclose(losses, wanted_losses, rtol=1e-12)


@given(tasks=st.integers(1, 4), steps=st.integers(0, 3), seed=st.integers(0, 100))
def test_batched_equals_a_loop_whatever_the_shapes(tasks, steps, seed):
    learner, params, batch = small_problem("mlp", tasks=tasks, steps=steps, seed=seed)
    objective = methods.maml(learner)
    gradient, _ = maml.meta_gradient(objective.loss, params, batch)
    assert relative_error(gradient, loop_gradient(objective.loss, params, batch)[0]) < 1e-11


def test_first_order_is_the_query_gradient_at_the_adapted_parameters(kind):
    learner, params, tasks = small_problem(kind, tasks=1)
    task = maml.Task(*(tuple(t[0] for t in part) for part in tasks))
    fast = {k: v.detach().requires_grad_() for k, v in learner.adapt(params, task.support).items()}
    gradient = torch.autograd.grad(learner.loss_fn(fast, task.query), list(fast.values()))
    wanted = dict(zip(fast, gradient, strict=True))
    gradient, _ = maml.meta_gradient(methods.first_order_maml(learner).loss, params, tasks)
    assert relative_error(gradient, wanted) < 1e-12


def test_first_order_differs_from_second_order(kind):
    learner, params, tasks = small_problem(kind)
    exact, _ = maml.meta_gradient(methods.maml(learner).loss, params, tasks)
    first, _ = maml.meta_gradient(methods.first_order_maml(learner).loss, params, tasks)
    assert relative_error(first, exact) > 1e-3


def test_the_meta_gradient_is_the_mean_over_all_tasks():
    learner, params, tasks = small_problem("mlp", tasks=3)
    objective = methods.maml(learner)
    alone = [
        maml.meta_gradient(
            objective.loss, params, maml.Task(*(tuple(t[i : i + 1] for t in part) for part in tasks))
        )[0]
        for i in range(3)
    ]
    mean = {k: sum(g[k] for g in alone) / 3 for k in params}
    gradient, _ = maml.meta_gradient(objective.loss, params, tasks)
    assert relative_error(gradient, mean) < 1e-12
    assert all(relative_error(gradient, g) > 1e-3 for g in alone)


def test_adapt_takes_every_step_and_no_step_is_the_identity():
    learner, params, tasks = small_problem("mlp", tasks=1)
    support = tuple(t[0] for t in tasks.support)
    path = maml.adaptation_path(learner.loss_fn, params, support, inner_lr=0.1, inner_steps=3)
    assert path[0] is params and len(path) == 4
    for steps, wanted in enumerate(path):
        got = maml.adapt(learner.loss_fn, params, support, inner_lr=0.1, inner_steps=steps)
        assert all(torch.equal(got[k], wanted[k]) for k in params)
    for walk in (maml.adapt, maml.adaptation_path):
        for wrong in (-1, 1.5):
            with pytest.raises(
                ValueError, match=f"inner_steps={wrong}, but it must be a whole number, at least"
            ):
                walk(learner.loss_fn, params, support, inner_lr=0.1, inner_steps=wrong)
        with pytest.raises(ValueError, match="params are a list, but must be a dict, name to tensor"):
            walk(learner.loss_fn, list(params.values()), support, inner_lr=0.1, inner_steps=1)
    by_hand = {k: v.detach().clone().requires_grad_() for k, v in params.items()}
    gradient = torch.autograd.grad(learner.loss_fn(by_hand, support), list(by_hand.values()))
    assert all(
        torch.allclose(path[1][k], v - 0.1 * g, rtol=1e-12)
        for (k, v), g in zip(by_hand.items(), gradient, strict=True)
    )


def test_frozen_parameters_keep_their_value_but_have_a_meta_gradient():
    learner, params, tasks = small_problem("conv-stride")
    support = tuple(t[0] for t in tasks.support)
    fast = learner.adapt(params, support)
    assert learner.model.frozen == {f"shift{i}" for i in range(4)}
    assert all(torch.equal(fast[name], params[name]) for name in learner.model.frozen)
    # a bias before the normalisation has no effect
    adapted = [name for name in params if name.startswith(("conv", "head"))]
    assert not any(torch.equal(fast[name], params[name]) for name in adapted)
    gradient, _ = maml.meta_gradient(methods.maml(learner).loss, params, tasks)
    assert all(gradient[name].abs().max() > 0 for name in learner.model.frozen)


def test_inputs_are_not_changed_and_nothing_of_the_tape_is_left():
    learner, params, tasks = small_problem("conv-max")
    before = {k: v.clone() for k, v in params.items()}
    gradient, losses = maml.meta_gradient(methods.maml(learner).loss, params, tasks)
    assert all(torch.equal(params[k], before[k]) for k in params)
    assert not losses.requires_grad and not any(g.requires_grad for g in gradient.values())
