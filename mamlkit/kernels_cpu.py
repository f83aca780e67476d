"""The engine's inner loops on a CPU, compiled by Numba: each reads memory once and does all it can there.

Matrix products are PyTorch's. A convolution unfolds a few images at a time, so that the unfolded matrix
is still in the cache when the product reads it. Same functions as :mod:`mamlkit.kernels_torch`.
Images are ``[tasks, points, height, width, channels]``, kernels ``[tasks, filters, 9 * channels]``.
"""

__all__ = ["input_gradient", "normalise", "normalise_backward", "normalise_tangent", "normalise_tangent_backward", "product", "weight_gradient"]

import math
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numba import njit
from torch import Tensor

from mamlkit.models import BATCH_NORM_EPS, Window

BLOCK_BYTES = 4 << 20  # of unfolded images: enough to hide Python, few enough for the cache
OFF = 255  # in ``where``: this unit is not active

_loop = njit(nogil=True, cache=True, fastmath={"contract", "nsz"})
_local = threading.local()


def _scratch(like: Tensor, *shape: int) -> Tensor:
    """Memory of this thread that every block uses again, and which so stays in the cache."""
    buffers, size = _local.__dict__, math.prod(shape)
    if like.dtype not in buffers or buffers[like.dtype].numel() < size:
        buffers[like.dtype] = like.new_empty(size)
    return buffers[like.dtype][:size].view(shape)


def _blocks(tasks: int, points: int, window: Window, like: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """Some tasks whole, or some points of one task, and room for their unfolded matrices ``[tasks, rows, 9 * channels]``."""
    pixels, columns = window.out**2, 9 * window.channels
    images = max(1, BLOCK_BYTES // (pixels * columns * like.element_size()))
    together, step = (images // points, points) if images > points else (1, images)
    for task in range(0, tasks, together):
        for point in range(0, points, step):
            some, part = slice(task, min(task + together, tasks)), slice(point, min(point + step, points))
            yield some, part, _scratch(like, some.stop - task, (part.stop - point) * pixels, columns)


def _add_product(out: Tensor, a: Tensor, b: Tensor, beta: int) -> None:
    """out = beta out + a b, where b is one matrix for all tasks or one for each."""
    if b.dim() == 3:
        out.baddbmm_(a, b, beta=beta)
    elif len(out) == 1:
        out[0].addmm_(a[0], b, beta=beta)
    else:
        out.view(-1, out.shape[-1]).addmm_(a.flatten(0, 1), b, beta=beta)


def _channels_first(x: Tensor) -> Tensor:
    """``[n, height, width, channels]`` as PyTorch's convolutions take it, in the same memory."""
    return x.permute(0, 3, 1, 2)


def _adjoint(d: Tensor, x: Tensor, kernel: Tensor, which: int) -> Tensor:
    """PyTorch's gradient of a convolution of stride 1 in the images (``which`` = 0) or in the kernel (1), channels last."""
    wanted = [which == 0, which == 1, False]
    ones = [1, 1]
    arguments = (_channels_first(d), _channels_first(x), _channels_first(kernel), None, ones, ones, ones, False, [0, 0], 1, wanted)
    return torch.ops.aten.convolution_backward(*arguments)[which].permute(0, 2, 3, 1).contiguous()


def _kernels(kernel: Tensor, window: Window, tasks: int) -> Tensor:
    """``[tasks, filters, 3, 3, channels]``."""
    return kernel.view(-1, kernel.shape[-2], 3, 3, window.channels).expand(tasks, -1, -1, -1, -1)


def product(x: Tensor, kernel: Tensor, window: Window, out: Tensor | None = None) -> Tensor:
    """Convolution ``[tasks, points, out, out, filters]``, added to ``out`` if one is given.

    Images that are not halved on the way are large, and there PyTorch's own convolution is the faster, task by task.
    """
    if window.stride == 1:
        pairs = zip(x, _kernels(kernel, window, len(x)))
        z = _stack([F.conv2d(_channels_first(each), _channels_first(k), padding=1).permute(0, 2, 3, 1) for each, k in pairs])
        return z if out is None else out.add_(z)
    beta = 0 if out is None else 1
    if out is None:
        out = x.new_empty(*x.shape[:2], window.out, window.out, kernel.shape[-2])
    for tasks, points, matrix in _blocks(*x.shape[:2], window, x):
        _unfold(x[tasks, points].flatten(3).numpy(), window.channels, window.stride, window.before, window.out, matrix.numpy())
        k = kernel.T if kernel.dim() == 2 else kernel[tasks].mT
        _add_product(out[tasks, points].flatten(1, 3), matrix, k, beta)
    return out


def weight_gradient(d: Tensor, x: Tensor, window: Window, out: Tensor | None = None) -> Tensor:
    """Adjoint of :func:`product` in the kernel: ``[tasks, filters, 9 * channels]``, added to ``out`` if one is given."""
    if window.stride == 1:
        k = _kernels(d.new_empty(d.shape[-1], 9 * window.channels), window, 1)[0]
        gradient = _stack([_adjoint(each, images, k, 1) for each, images in zip(d, x)]).flatten(2)
        return gradient if out is None else out.add_(gradient)
    first = out is None
    if first:
        out = x.new_empty(len(x), d.shape[-1], 9 * window.channels)
    for tasks, points, matrix in _blocks(*x.shape[:2], window, x):
        _unfold(x[tasks, points].flatten(3).numpy(), window.channels, window.stride, window.before, window.out, matrix.numpy())
        beta = 0 if first and points.start == 0 else 1
        out[tasks].baddbmm_(d[tasks, points].flatten(1, 3).mT, matrix, beta=beta)
    return out


def input_gradient(terms: Sequence[tuple[Tensor, Tensor]], window: Window) -> Tensor:
    """Adjoint of :func:`product` in the images, summed over ``(d, kernel)`` pairs."""
    d = terms[0][0]
    shape = (*d.shape[:2], window.size, window.size, window.channels)
    if window.stride == 1:
        like = d.new_empty(1).expand(shape[1:])  # its values are not read
        parts = [_stack([_adjoint(each, like, k, 0) for each, k in zip(d, _kernels(kernel, window, len(d)))]) for d, kernel in terms]
        return parts[0].add_(parts[1]) if len(parts) > 1 else parts[0]
    x = d.new_empty(shape)
    for tasks, points, matrix in _blocks(*d.shape[:2], window, d):
        for i, (d, kernel) in enumerate(terms):
            k = kernel if kernel.dim() == 2 else kernel[tasks]
            _add_product(matrix, d[tasks, points].flatten(1, 3), k, min(i, 1))
        _fold(matrix.numpy(), window.channels, window.stride, window.before, window.out, x[tasks, points].flatten(3).numpy())
    return x


def _stack(parts: list[Tensor]) -> Tensor:
    return parts[0][None] if len(parts) == 1 else torch.stack(parts)


def normalise(z: Tensor, shift: Tensor, pool: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Batch normalisation (of each task alone, in place), maximum over windows, shift and ReLU.

    Returns:
        y, the output; n, the normalised z; r, one over the standard deviation ``[tasks, channels]``; and
        where in its window each output has its maximum, or ``OFF`` where the ReLU is not active.
    """
    tasks, points, height, width, channels = z.shape
    y = z.new_empty(tasks, points, height // pool, width // pool, channels)
    r, where = z.new_empty(tasks, channels), torch.empty(y.shape, dtype=torch.uint8)
    _normalise(z.numpy(), shift.numpy(), BATCH_NORM_EPS, pool, r.numpy(), where.numpy(), y.numpy())
    return y, z, r, where


def normalise_backward(
    d: Tensor, y: Tensor, n: Tensor, r: Tensor, where: Tensor, shift: Tensor, pool: int, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Adjoint of :func:`normalise`: the gradient of z, and the sums over points of d and of n d ``[tasks, channels]``.

    Without ``keep`` the first takes the place of n.
    """
    dz = torch.empty_like(n) if keep else n
    sum_d, sum_nd = torch.empty_like(r), torch.empty_like(r)
    arrays = (t.numpy() for t in (d, y, n, r, where, shift))
    _normalise_backward(*arrays, pool, not keep, dz.numpy(), sum_d.numpy(), sum_nd.numpy())
    return dz, sum_d, sum_nd


def normalise_tangent(z_dot: Tensor, dz: Tensor, n: Tensor, r: Tensor, where: Tensor, pool: int) -> tuple[Tensor, ...]:
    """Derivative of :func:`normalise` along z_dot: those of y and of n (in place), the mean of n z_dot and the sum of dz z_dot."""
    y_dot, mean_nz, sum_dzz = n.new_empty(where.shape), torch.empty_like(r), torch.empty_like(r)
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
    dz_dot, sum_d_dot = torch.empty_like(n), torch.empty_like(r)
    arrays = (t.numpy() for t in (d_dot, y, n, n_dot, dz, r, sum_nd, mean_nz, sum_dzz, where, shift))
    _normalise_tangent_backward(*arrays, pool, dz_dot.numpy(), sum_d_dot.numpy())
    return dz_dot, sum_d_dot


# The three neighbours in a row of pixels are one run of 3 * channels numbers, in the image as in the matrix; the
# part of it that lies outside the image is cut off. Positions in a run are unsigned, since a signed index may count
# from the end of an array, and the question whether it does would keep the loop from being vectorised.


@_loop
def _unfold(x, channels, stride, before, out, matrix):
    tasks, points, height, width = x.shape
    run = 3 * channels
    for t in range(tasks):
        row = 0
        for i in range(points):
            for a in range(out):
                for b in range(out):
                    start = (b * stride - before) * channels
                    cut, end = max(0, -start), min(run, width - start)
                    source, size = np.uint64(start + cut), np.uint64(end - cut)
                    for k in range(3):
                        y = a * stride + k - before
                        if y < 0 or y >= height:
                            matrix[t, row, k * run : (k + 1) * run] = 0
                            continue
                        if cut > 0:
                            matrix[t, row, k * run : k * run + cut] = 0
                        if end < run:
                            matrix[t, row, k * run + end : (k + 1) * run] = 0
                        target = np.uint64(k * run + cut)
                        for c in range(size):
                            matrix[t, row, target + c] = x[t, i, y, source + c]
                    row += 1


@_loop
def _fold(matrix, channels, stride, before, out, x):
    tasks, points, height, width = x.shape
    run = 3 * channels
    x[:] = 0
    for t in range(tasks):
        row = 0
        for i in range(points):
            for a in range(out):
                for b in range(out):
                    start = (b * stride - before) * channels
                    cut, end = max(0, -start), min(run, width - start)
                    target, size = np.uint64(start + cut), np.uint64(end - cut)
                    for k in range(3):
                        y = a * stride + k - before
                        if 0 <= y < height:
                            source = np.uint64(k * run + cut)
                            for c in range(size):
                                x[t, i, y, target + c] += matrix[t, row, source + c]
                    row += 1


# Sums run over a row of pixels in the tensors' own precision and over rows in float64: half a million pixels of a
# Mini-ImageNet query set would cost float32 three digits. Mean and variance are taken image by image, while the image
# is in the cache, and combined (Chan, Golub and LeVeque, 1983). ``k`` counts the p * p pixels of a pooling window;
# without pooling p = 1, and every pixel is a window of its own.


@_loop
def _normalise(z, shift, eps, p, r, where, y):
    tasks, points, height, width, channels = z.shape
    zero, row, pixels = z.dtype.type(0), np.empty(channels, z.dtype), height * width
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
                        where[t, i, a, b, c] = 0
                    for k in range(1, p * p):
                        for c in range(channels):
                            value = z[t, i, p * a + k // p, p * b + k % p, c]
                            if value > row[c]:
                                row[c] = value
                                where[t, i, a, b, c] = k
                    for c in range(channels):
                        value = row[c] + shift[c]
                        if value <= 0:  # so that NaN stays NaN
                            value = zero
                            where[t, i, a, b, c] = OFF
                        y[t, i, a, b, c] = value


# An active output y is n at the maximum of its window, plus the shift: sums over the windows need no look at n.


@_loop
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


@_loop
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


@_loop
def _normalise_tangent_backward(d_dot, y, n, n_dot, dz, r, sum_nd, mean_nz, sum_dzz, where, shift, p, dz_dot, sum_d_dot):
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
                        dz_dot[t, i, a, b, c] = value + c2[c] * dz[t, i, a, b, c] + c3[c] * n_dot[t, i, a, b, c]
            for a in range(height // p):
                for b in range(width // p):
                    for k in range(p * p):
                        for c in range(channels):
                            value = d_dot[t, i, a, b, c] if where[t, i, a, b, c] == k else zero
                            dz_dot[t, i, p * a + k // p, p * b + k % p, c] += scale[c] * value
