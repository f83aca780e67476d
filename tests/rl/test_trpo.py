"""Conjugate gradient and the trust-region step on problems whose answer is known."""

import math

import pytest
import torch

from mamlkit.rl.trpo import BACKTRACKS, DAMPING, conjugate_gradient, trust_region_step


def positive_definite(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(n, n, generator=generator, dtype=torch.float64)
    return root @ root.T / n + 0.1 * torch.eye(n, dtype=torch.float64), torch.randn(
        n, generator=generator, dtype=torch.float64
    )


@pytest.mark.parametrize("n", [1, 3, 9])
def test_conjugate_gradient_equals_a_direct_solve_after_n_iterations(n):
    matrix, b = positive_definite(n)
    x, image = conjugate_gradient(lambda v: matrix @ v, b, iterations=n)
    assert torch.allclose(x, torch.linalg.solve(matrix, b), rtol=1e-6) and torch.allclose(image, matrix @ x)


def test_fewer_iterations_give_another_answer():
    matrix, b = positive_definite(9)
    x, image = conjugate_gradient(lambda v: matrix @ v, b, iterations=3)
    assert not torch.allclose(x, torch.linalg.solve(matrix, b), rtol=1e-2) and torch.allclose(
        image, matrix @ x
    )


def test_a_solved_system_is_left_alone():
    assert not conjugate_gradient(lambda v: 1 / 0, torch.zeros(4))[0].any()


def test_a_short_gradient_is_followed_too():
    matrix, slope, theta, _ = quadratic(0.02)
    small = 1e-9 * slope
    evaluate = lambda new: (float(small @ (new - theta)), float((new - theta) @ matrix @ (new - theta)) / 2)
    _, step = trust_region_step(theta, 0.0, small, lambda v: matrix @ v, evaluate, 0.02)
    assert not step.refused and step.loss < 0 < step.kl  # 1e-8 is added to the curvature, so it is short


def quadratic(max_kl):
    """A linear loss and a quadratic divergence, for which the first step is exact."""
    matrix, slope = positive_definite(6)
    theta = torch.ones(6, dtype=torch.float64)
    evaluate = lambda new: (float(slope @ (new - theta)), float(0.5 * (new - theta) @ matrix @ (new - theta)))
    return matrix, slope, theta, evaluate


def test_the_step_is_the_natural_gradient_to_the_edge_of_the_region():
    matrix, slope, theta, evaluate = quadratic(0.02)
    new, step = trust_region_step(theta, 0.0, slope, lambda v: matrix @ v, evaluate, 0.02)
    direction = torch.linalg.solve(matrix, slope)
    wanted = theta - math.sqrt(2 * 0.02 / float(slope @ direction)) * direction
    assert torch.allclose(new, wanted, rtol=1e-3) and step.tries == 1 and not step.refused
    assert step.kl == pytest.approx(0.02, rel=1e-3) and step.loss < step.loss_before == 0


def test_a_step_that_is_too_long_is_shortened_until_it_keeps_its_bound():
    matrix, slope, theta, evaluate = quadratic(0.02)
    # the true divergence is four times the model's
    wider = lambda new: (evaluate(new)[0], 4 * evaluate(new)[1])
    _, step = trust_region_step(theta, 0.0, slope, lambda v: matrix @ v, wider, 0.02)
    assert step.tries == 5 and step.kl <= 0.02  # 0.8^3 > 1/2 > 0.8^4
    assert step.kl / 0.02 > 0.8**2


def test_a_loss_that_does_not_fall_leaves_the_parameters_alone():
    matrix, slope, theta, evaluate = quadratic(0.02)
    rising = lambda new: (abs(evaluate(new)[0]), 0.0)
    new, step = trust_region_step(theta, 0.0, slope, lambda v: matrix @ v, rising, 0.02)
    assert new is theta and step.tries == BACKTRACKS and "none of 15" in step.refused and step.kl == 0


@pytest.mark.parametrize(
    ("factor", "sign", "why"), [(0.0, 1.0, "gradient is zero"), (1.0, -1.0, "must be positive")]
)
def test_what_cannot_be_stepped_from_is_refused_with_a_reason(factor, sign, why):
    matrix, slope, theta, evaluate = quadratic(0.02)
    new, step = trust_region_step(theta, 0.0, factor * slope, lambda v: sign * matrix @ v, evaluate, 0.02)
    assert new is theta and why in step.refused


@pytest.mark.parametrize(
    ("loss", "factor", "scale"), [(math.nan, 1.0, 1.0), (0.0, math.nan, 1.0), (0.0, 1.0, math.nan)]
)
def test_what_is_not_finite_is_an_error(loss, factor, scale):
    matrix, slope, theta, evaluate = quadratic(0.02)
    with pytest.raises(FloatingPointError, match="not finite|is nan"):
        trust_region_step(theta, loss, factor * slope, lambda v: scale * matrix @ v, evaluate, 0.02)


def test_the_product_is_damped():
    theta, slope = torch.zeros(2, dtype=torch.float64), torch.tensor([1.0, 0.0], dtype=torch.float64)
    evaluate = lambda new: (float(slope @ new), 0.0)
    new, _ = trust_region_step(theta, 0.0, slope, torch.zeros_like, evaluate, 1e-9)
    assert new[0] == pytest.approx(-math.sqrt(2e-9 / (1 / DAMPING + 1e-8)) / DAMPING)


def test_the_number_of_threads_changes_nothing():
    found = []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        draw = torch.Generator().manual_seed(0)
        scale, b = (torch.rand(50_000, generator=draw, dtype=torch.float64) + 0.5 for _ in "ab")
        found.append(conjugate_gradient(lambda v, scale=scale: scale * v, b)[0])
    torch.set_num_threads(1)
    assert all(torch.equal(found[0], each) for each in found[1:])


@pytest.mark.parametrize("max_kl", [0.0, -1.0, math.nan, math.inf])
def test_a_bound_that_cannot_be_is_refused(max_kl):
    with pytest.raises(ValueError, match=f"max_kl={max_kl}, but it must be positive and finite"):
        trust_region_step(torch.ones(2), 0.0, torch.ones(2), lambda v: v, lambda v: (0.0, 0.0), max_kl)
