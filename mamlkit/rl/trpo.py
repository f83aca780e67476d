"""Trust-region policy optimisation as functions of vectors: conjugate gradient, step length, backtracking.

Paper: Algorithm 3, line 10, and section 5.3: "trust-region policy optimization (TRPO) (Schulman et al.,
2015)".
"""

__all__ = ["Step", "conjugate_gradient", "trust_region_step"]

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from mamlkit.engine.threads import one_thread

CG_ITERATIONS = 10
CG_RESIDUAL = 1e-10
DAMPING = 1e-5
BACKTRACK_RATIO = 0.8
BACKTRACKS = 15


class Step(NamedTuple):
    """What a trust-region step did.

    Args:
        loss_before, loss: surrogate loss at the old and at the returned parameters.
        kl: mean divergence of the returned parameters from the old.
        tries: step lengths that were evaluated.
        refused: why the parameters stayed as they were; empty if they moved.
    """

    loss_before: float
    loss: float
    kl: float
    tries: int
    refused: str = ""


def conjugate_gradient(
    product: Callable[[Tensor], Tensor], b: Tensor, iterations: int = CG_ITERATIONS
) -> tuple[Tensor, Tensor]:
    """x with ``product(x)`` = b, for a symmetric positive definite product; after at most so many iterations.

    Args:
        product: ``[n] -> [n]``.
        b: ``[n]``.
        iterations: stop after so many, or at a squared residual of 1e-10.

    Returns:
        x, and ``product(x)``, which the residual knows without another product.

    Example:
        >>> conjugate_gradient(lambda v: torch.tensor([2.0, 4.0]) * v, torch.tensor([2.0, 2.0]))[0]
        tensor([1.0000, 0.5000])
    """
    x, residual = torch.zeros_like(b), b.clone()
    direction, size = b.clone(), _dot(b, b)
    for _ in range(iterations if size else 0):  # however small b is, it has a direction
        image = product(direction)
        length = size / _dot(direction, image)
        x = x + length * direction
        residual = residual - length * image
        smaller = _dot(residual, residual)
        if smaller < CG_RESIDUAL:
            break
        direction = residual + smaller / size * direction
        size = smaller
    return x, b - residual


def trust_region_step(
    params: Tensor,
    loss: float,
    gradient: Tensor,
    fisher: Callable[[Tensor], Tensor],
    evaluate: Callable[[Tensor], tuple[float, float]],
    max_kl: float,
) -> tuple[Tensor, Step]:
    """The longest step along the natural gradient that lowers the loss within the divergence's bound.

    Args:
        params: theta as a vector ``[n]``.
        loss: surrogate loss at theta.
        gradient: of the loss at theta, ``[n]``.
        fisher: the Hessian of the divergence at theta times a vector, ``[n] -> [n]``.
        evaluate: ``theta -> (loss, divergence from the old theta)``.
        max_kl: bound of the divergence.

    Returns:
        The new theta, or the very same tensor if no step would do, and what happened.

    Raises:
        ValueError: a bound that is not positive and finite.
        FloatingPointError: the loss, its gradient or the curvature along the step is not finite.
    """
    if not 0 < max_kl < math.inf:
        raise ValueError(f"max_kl={max_kl}, but it must be positive and finite")
    refuse = lambda why, tries=0: (params, Step(loss, loss, 0.0, tries, why))
    if not (math.isfinite(loss) and bool(gradient.isfinite().all())):
        raise FloatingPointError(f"the surrogate loss ({loss}) or its gradient is not finite")
    if not bool(gradient.any()):
        return refuse("the gradient is zero")
    direction, image = conjugate_gradient(lambda v: fisher(v) + DAMPING * v, gradient)
    curvature = float(_dot(direction, image))
    if not math.isfinite(curvature):
        raise FloatingPointError(f"the curvature along the step is {curvature}")
    if curvature <= 0:
        return refuse(f"the curvature along the step is {curvature}, which must be positive")
    step = math.sqrt(2 * max_kl / (curvature + 1e-8)) * direction
    for power in range(BACKTRACKS):
        new = params - BACKTRACK_RATIO**power * step
        new_loss, kl = evaluate(new)
        if new_loss < loss and kl <= max_kl:
            return new, Step(loss, new_loss, kl, power + 1)
    return refuse(
        f"none of {BACKTRACKS} step lengths lowers the loss within the divergence of {max_kl}", BACKTRACKS
    )


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """The sum of products; on one CPU thread, since their number decides how it is split."""
    with one_thread():
        return a @ b
