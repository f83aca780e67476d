"""Batch normalisation, pooling and ReLU in one loop for each pass, which reads memory as seldom as it can."""

__all__ = ["OFF", "normalise", "normalise_backward", "normalise_tangent", "normalise_tangent_backward"]

import math

import numpy as np
import torch
from torch import Tensor

from mamlkit.engine.kernels_cpu.loops import loop
from mamlkit.engine.kernels_cpu.memory import empty
from mamlkit.models import BATCH_NORM_EPS

OFF = 255  # in ``where``: this unit is not active


def normalise(z: Tensor, shift: Tensor, pool: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Batch normalisation (of each task alone, in place), maximum over windows, shift and ReLU.

    Returns:
        y, the output; n, the normalised z; r, one over the standard deviation ``[tasks, channels]``; and
        where in its window each output has its maximum, or ``OFF`` where the ReLU is not active.
    """
    tasks, points, height, width, channels = z.shape
    y = empty(z.dtype, tasks, points, height // pool, width // pool, channels)
    r, where = z.new_empty(tasks, channels), empty(torch.uint8, *y.shape)
    _normalise(z.numpy(), shift.numpy(), BATCH_NORM_EPS, pool, r.numpy(), where.numpy(), y.numpy())
    return y, z, r, where


def normalise_backward(
    d: Tensor, y: Tensor, n: Tensor, r: Tensor, where: Tensor, shift: Tensor, pool: int, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Adjoint of :func:`normalise`: the gradient of z, and sums over points.

    The sums are those of d and of n d, ``[tasks, channels]``. Without ``keep`` the gradient takes n's place.
    """
    dz = empty(n.dtype, *n.shape) if keep else n
    sum_d, sum_nd = torch.empty_like(r), torch.empty_like(r)
    arrays = (t.numpy() for t in (d, y, n, r, where, shift))
    _normalise_backward(*arrays, pool, not keep, dz.numpy(), sum_d.numpy(), sum_nd.numpy())
    return dz, sum_d, sum_nd


def normalise_tangent(
    z_dot: Tensor, dz: Tensor, n: Tensor, r: Tensor, where: Tensor, pool: int
) -> tuple[Tensor, ...]:
    """Derivative of :func:`normalise` along z_dot.

    Returns those of y and of n (in place), the mean of n z_dot, and the sum of dz z_dot.
    """
    y_dot, mean_nz, sum_dzz = empty(n.dtype, *where.shape), torch.empty_like(r), torch.empty_like(r)
    arrays = (t.numpy() for t in (z_dot, dz, n, r, where))
    _normalise_tangent(*arrays, pool, mean_nz.numpy(), sum_dzz.numpy(), y_dot.numpy())
    return y_dot, z_dot, mean_nz, sum_dzz


def normalise_tangent_backward(
    d_dot: Tensor,
    y: Tensor,
    n: Tensor,
    n_dot: Tensor,
    dz: Tensor,
    r: Tensor,
    sum_nd: Tensor,
    mean_nz: Tensor,
    sum_dzz: Tensor,
    where: Tensor,
    shift: Tensor,
    pool: int,
) -> tuple[Tensor, Tensor]:
    """Derivative of :func:`normalise_backward`: that of the gradient of z, and that of the sum of d."""
    dz_dot, sum_d_dot = empty(n.dtype, *n.shape), torch.empty_like(r)
    arrays = (t.numpy() for t in (d_dot, y, n, n_dot, dz, r, sum_nd, mean_nz, sum_dzz, where, shift))
    _normalise_tangent_backward(*arrays, pool, dz_dot.numpy(), sum_d_dot.numpy())
    return dz_dot, sum_d_dot


# Sums run over a row of pixels in the tensors' own precision and over rows in float64: half a million pixels
# of a Mini-ImageNet query set would cost float32 three digits. Mean and variance are taken image by image,
# while the image is in the cache, and combined (Chan, Golub and LeVeque, 1983). ``k`` counts the p * p pixels
# of a pooling window; without pooling p = 1, and every pixel is a window of its own.


@loop
def _normalise(z, shift, eps, p, r, where, y):
    tasks, points, height, width, channels = z.shape
    zero, row, pixels = z.dtype.type(0), np.empty(channels, z.dtype), height * width
    place = np.empty(channels, np.uint32)  # as wide as row, so that both are chosen with one mask
    for t in range(tasks):
        means, squares = np.zeros((points, channels)), np.zeros(channels)
        for i in range(points):
            for a in range(height):
                row[:] = 0
                for b in range(width):
                    for c in range(channels):
                        row[c] += z[t, i, a, b, c]
                means[i] += row
            means[i] /= pixels
            centre = means[i].astype(z.dtype)
            means[i] = centre
            for a in range(height):
                row[:] = 0
                for b in range(width):
                    for c in range(channels):
                        value = z[t, i, a, b, c] - centre[c]
                        row[c] += value * value
                squares += row
        mean = np.zeros(channels)
        for i in range(points):
            mean += means[i] / points
        for i in range(points):
            squares += pixels * (means[i] - mean) ** 2
        centre = mean.astype(z.dtype)
        for c in range(channels):
            r[t, c] = 1 / math.sqrt(squares[c] / (points * pixels) + eps)
        scale = r[t]
        for i in range(points):
            for a in range(height):
                for b in range(width):
                    for c in range(channels):
                        z[t, i, a, b, c] = (z[t, i, a, b, c] - centre[c]) * scale[c]
            for a in range(height // p):
                for b in range(width // p):
                    for c in range(channels):
                        row[c] = z[t, i, p * a, p * b, c]
                        place[c] = 0
                    for k in range(1, p * p):
                        for c in range(channels):
                            value = z[t, i, p * a + k // p, p * b + k % p, c]
                            better = value > row[c]
                            row[c] = value if better else row[c]
                            place[c] = k if better else place[c]
                    for c in range(channels):
                        value = row[c] + shift[c]
                        off = value <= 0  # so that NaN stays NaN
                        y[t, i, a, b, c] = zero if off else value
                        place[c] = OFF if off else place[c]
                    for c in range(channels):
                        where[t, i, a, b, c] = place[c]


# An active output y is n at the maximum of its window, plus the shift: sums over the windows need no look at
# n.


@loop
def _normalise_backward(d, y, n, r, where, shift, p, in_place, dz, sum_d, sum_nd):
    tasks, points, height, width, channels = n.shape
    zero, rows = n.dtype.type(0), np.empty((2, channels), n.dtype)
    for t in range(tasks):
        total = np.zeros((2, channels))
        for i in range(points):
            for a in range(height // p):
                rows[:] = 0
                for b in range(width // p):
                    for c in range(channels):
                        value = d[t, i, a, b, c]
                        value = value if where[t, i, a, b, c] != OFF else zero
                        rows[0, c] += value
                        rows[1, c] += value * (y[t, i, a, b, c] - shift[c])
                total += rows
        sum_d[t], sum_nd[t] = total[0], total[1]
        scale = r[t]
        c0 = (-scale * total[0] / (points * height * width)).astype(n.dtype)
        c1 = (-scale * total[1] / (points * height * width)).astype(n.dtype)
        for i in range(points):
            for a in range(height):
                for b in range(width):
                    if in_place:  # the compiler must see that only one array is in play
                        for c in range(channels):
                            dz[t, i, a, b, c] = c0[c] + c1[c] * dz[t, i, a, b, c]
                    else:
                        for c in range(channels):
                            dz[t, i, a, b, c] = c0[c] + c1[c] * n[t, i, a, b, c]
            for a in range(height // p):
                for b in range(width // p):
                    for k in range(p * p):
                        for c in range(channels):
                            value = d[t, i, a, b, c] if where[t, i, a, b, c] == k else zero
                            dz[t, i, p * a + k // p, p * b + k % p, c] += scale[c] * value


@loop
def _normalise_tangent(z, dz, n, r, where, p, mean_nz, sum_dzz, y):
    tasks, points, height, width, channels = n.shape
    zero, rows = n.dtype.type(0), np.empty((3, channels), n.dtype)
    for t in range(tasks):
        total = np.zeros((3, channels))
        for i in range(points):
            for a in range(height):
                rows[:] = 0
                for b in range(width):
                    for c in range(channels):
                        rows[0, c] += z[t, i, a, b, c]
                        rows[1, c] += z[t, i, a, b, c] * n[t, i, a, b, c]
                        rows[2, c] += z[t, i, a, b, c] * dz[t, i, a, b, c]
                total += rows
        sum_dzz[t] = total[2]
        total /= points * height * width
        mean_nz[t] = total[1]
        scale = r[t]
        c0, c1 = (-scale * total[0]).astype(n.dtype), (-scale * total[1]).astype(n.dtype)
        for i in range(points):
            for a in range(height):
                for b in range(width):
                    for c in range(channels):
                        z[t, i, a, b, c] = scale[c] * z[t, i, a, b, c] + c0[c] + c1[c] * n[t, i, a, b, c]
            for a in range(height // p):
                for b in range(width // p):
                    rows[0] = 0
                    for k in range(p * p):
                        for c in range(channels):
                            value = z[t, i, p * a + k // p, p * b + k % p, c]
                            rows[0, c] += value if where[t, i, a, b, c] == k else zero
                    for c in range(channels):
                        y[t, i, a, b, c] = rows[0, c]


@loop
def _normalise_tangent_backward(
    d_dot, y, n, n_dot, dz, r, sum_nd, mean_nz, sum_dzz, where, shift, p, dz_dot, sum_d_dot
):
    tasks, points, height, width, channels = n.shape
    zero, rows, pixels = n.dtype.type(0), np.empty((2, channels), n.dtype), points * height * width
    for t in range(tasks):
        total = np.zeros((2, channels))
        for i in range(points):
            for a in range(height // p):
                rows[:] = 0
                for b in range(width // p):
                    for c in range(channels):
                        value = d_dot[t, i, a, b, c]
                        value = value if where[t, i, a, b, c] != OFF else zero
                        rows[0, c] += value
                        rows[1, c] += value * (y[t, i, a, b, c] - shift[c])
                total += rows
        sum_d_dot[t] = total[0]
        scale = r[t]
        c0 = (-scale * total[0] / pixels).astype(n.dtype)
        # The sum of d n_dot is that of dz z_dot, since n_dot and dz are one symmetric map of z_dot and d.
        c1 = (-scale * (total[1] + sum_dzz[t]) / pixels).astype(n.dtype)
        c2 = (-scale * mean_nz[t]).astype(n.dtype)
        c3 = (-scale * sum_nd[t] / pixels).astype(n.dtype)
        for i in range(points):
            for a in range(height):
                for b in range(width):
                    for c in range(channels):
                        value = c0[c] + c1[c] * n[t, i, a, b, c]
                        dz_dot[t, i, a, b, c] = (
                            value + c2[c] * dz[t, i, a, b, c] + c3[c] * n_dot[t, i, a, b, c]
                        )
            for a in range(height // p):
                for b in range(width // p):
                    for k in range(p * p):
                        for c in range(channels):
                            value = d_dot[t, i, a, b, c] if where[t, i, a, b, c] == k else zero
                            dz_dot[t, i, p * a + k // p, p * b + k % p, c] += scale[c] * value
