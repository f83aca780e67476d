"""Convolutions: a few images at a time are unfolded, so that the matrix is still in the cache when the product reads it.

Matrix products are PyTorch's. Images are ``[tasks, points, height, width, channels]``, kernels ``[tasks, filters, 9 * channels]``.
"""

__all__ = ["input_gradient", "loop", "product", "weight_gradient"]

import math
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numba import njit
from torch import Tensor

from mamlkit.models import Window

BLOCK_BYTES = 4 << 20  # of unfolded images: enough to hide Python, few enough for the cache

loop = njit(nogil=True, cache=True, fastmath={"contract", "nsz"})
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
    if out is None:
        out = x.new_zeros(len(x), d.shape[-1], 9 * window.channels)
    for tasks, points, matrix in _blocks(*x.shape[:2], window, x):
        _unfold(x[tasks, points].flatten(3).numpy(), window.channels, window.stride, window.before, window.out, matrix.numpy())
        rows = d[tasks, points].flatten(1, 3)
        if matrix.shape[-1] < rows.shape[-1]:  # a product whose result is wide is several times faster than a tall one
            out[tasks] += (matrix.mT @ rows).mT
        else:
            out[tasks].baddbmm_(rows.mT, matrix)
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


# The three neighbours in a row of pixels are one run of 3 * channels numbers, in the image as in the matrix; the
# part of it that lies outside the image is cut off. Positions in a run are unsigned, since a signed index may count
# from the end of an array, and the question whether it does would keep the loop from being vectorised.


@loop
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


@loop
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
