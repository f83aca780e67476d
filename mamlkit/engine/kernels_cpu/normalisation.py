"""Batch normalisation, pooling and ReLU in one loop for each pass, which reads memory as seldom as it can."""

__all__ = ["normalise", "normalise_backward", "normalise_tangent", "normalise_tangent_backward"]

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mamlkit.engine.kernels_cpu import normalisation_loops as loops
from mamlkit.engine.kernels_cpu.memory import empty
from mamlkit.engine.kernels_cpu.vectors import LANES
from mamlkit.models import BATCH_NORM_EPS


def _in_vectors(function: Callable[..., tuple[Tensor, ...]]) -> Callable[..., tuple[Tensor, ...]]:
    """With channels of zeros up to a multiple of a vector's length, which are cut off again."""

    @functools.wraps(function)
    def padded(*arguments: Any, **named: Any) -> tuple[Tensor, ...]:
        channels = arguments[0].shape[-1]
        missing = -channels % LANES[arguments[0].numpy().dtype]
        if not missing:
            return function(*arguments, **named)
        wide = (F.pad(a, (0, missing)) if isinstance(a, Tensor) else a for a in arguments)
        return tuple(part[..., :channels].contiguous() for part in function(*wide, **named))

    return padded


@_in_vectors
def normalise(z: Tensor, shift: Tensor, pool: int, first: int | None = None) -> tuple[Tensor, ...]:
    """Batch normalisation (of each task alone), maximum over windows, shift and ReLU.

    Args:
        z: before it, ``[tasks, points, height, width, channels]``.
        shift: beta, ``[channels]``.
        pool: side of the windows.
        first: if given, the statistics are those of so many first points; there are no derivatives then.

    Returns:
        y, the output; z and ``known``, mean and one over the standard deviation ``[tasks, 2, channels]``,
        from which n, the normalised z, is computed anew; and where in its window each output has its
        maximum, or ``OFF`` where the ReLU is not active.
    """
    tasks, points, height, width, channels = z.shape
    y = empty(z.dtype, tasks, points, height // pool, width // pool, channels)
    known, where = z.new_empty(tasks, 2, channels), empty(torch.uint8, *y.shape)
    arrays = (t.numpy() for t in (known, where, y))
    loops.normalise(z.numpy(), shift.numpy(), BATCH_NORM_EPS, pool, first or points, _lanes(z), *arrays)
    return y, z, known, where


@_in_vectors
def normalise_backward(
    d: Tensor, y: Tensor, z: Tensor, known: Tensor, where: Tensor, shift: Tensor, pool: int, keep: bool
) -> tuple[Tensor, ...]:
    """Adjoint of :func:`normalise`: the gradient of z, and sums over points.

    The sums are those of d and of n d, ``[tasks, channels]``. Without ``keep`` the gradient takes z's place.
    """
    dz = empty(z.dtype, *z.shape) if keep else z
    sums = z.new_empty(len(z), z.shape[-1]), z.new_empty(len(z), z.shape[-1])
    arrays = (t.numpy() for t in (d, y, z, known, where, shift))
    loops.normalise_backward(*arrays, pool, _lanes(z), dz.numpy(), *(t.numpy() for t in sums))
    return dz, *sums


@_in_vectors
def normalise_tangent(
    z_dot: Tensor,
    dz: Tensor,
    y: Tensor,
    z: Tensor,
    known: Tensor,
    where: Tensor,
    shift: Tensor,
    pool: int,
) -> tuple[Tensor, ...]:
    """Derivative of :func:`normalise` along z_dot.

    Returns that of y; z_dot and ``means``, those of z_dot and n z_dot ``[tasks, 2, channels]``, from which
    that of n is computed anew; and the sum of dz z_dot.
    """
    y_dot, means = empty(z.dtype, *where.shape), torch.empty_like(known)
    sum_dzz = z.new_empty(len(z), z.shape[-1])
    arrays = (t.numpy() for t in (z_dot, dz, y, z, known, where, shift))
    loops.normalise_tangent(*arrays, pool, _lanes(z), means.numpy(), sum_dzz.numpy(), y_dot.numpy())
    return y_dot, z_dot, means, sum_dzz


@_in_vectors
def normalise_tangent_backward(
    d_dot: Tensor,
    y: Tensor,
    z: Tensor,
    z_dot: Tensor,
    dz: Tensor,
    known: Tensor,
    sum_nd: Tensor,
    means: Tensor,
    sum_dzz: Tensor,
    where: Tensor,
    shift: Tensor,
    pool: int,
) -> tuple[Tensor, ...]:
    """Derivative of :func:`normalise_backward`: that of the gradient of z, and that of the sum of d."""
    dz_dot, sum_d_dot = empty(z.dtype, *z.shape), torch.empty_like(sum_nd)
    arrays = (t.numpy() for t in (d_dot, y, z, z_dot, dz, known, sum_nd, means, sum_dzz, where, shift))
    loops.normalise_tangent_backward(*arrays, pool, _lanes(z), dz_dot.numpy(), sum_d_dot.numpy())
    return dz_dot, sum_d_dot


def _lanes(z: Tensor) -> int:
    return LANES[z.numpy().dtype]
