"""Convolutions as products with a matrix that is never written down.

Its rows are read where they lie in the images. A convolution and its two adjoints are one sum,
``out[places[m] + f] = sum over k of a[rows[m] + taps[k]] b[k, f]``, in which ``a`` are images with a border
of zeros (see :mod:`mamlkit.engine.kernels_cpu.offsets`). Images are ``[tasks, points, height, width,
channels]``, kernels ``[tasks, 9 * channels, filters]``, or one for all tasks.

That is the direct form. Where :mod:`mamlkit.engine.kernels_cpu.winograd` is faster, it is asked first.
"""

__all__ = ["input_gradient", "product", "weight_gradient"]

from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from mamlkit.engine.kernels_cpu import winograd
from mamlkit.engine.kernels_cpu.loops import loop
from mamlkit.engine.kernels_cpu.memory import empty
from mamlkit.engine.kernels_cpu.offsets import Offsets, neighbours, readers
from mamlkit.engine.kernels_cpu.stripes import stripes, turned_stripes
from mamlkit.engine.kernels_cpu.vectors import LANES, add_scaled, load, store, zero
from mamlkit.models import Window

# pixels that a weight gradient sums over at once, so that they are still in the cache for the next inputs
SLICE = 128


def product(x: Tensor, kernel: Tensor, window: Window, out: Tensor | None = None) -> Tensor:
    """Convolution ``[tasks, points, out, out, filters]``, added to ``out`` if one is given."""
    filters = kernel.shape[-1]
    if winograd.is_for(window, window.channels, filters, _lanes(x)):
        z = empty(x.dtype, *x.shape[:4], filters) if out is None else out
        winograd.convolve(x, kernel, False, z, out is not None)
        return z
    kernel = _in_vectors(kernel)
    offsets = neighbours(window, x.shape[1], kernel.shape[-1], x.element_size())
    if out is not None and kernel.shape[-1] == filters:
        _convolve(x, offsets, kernel, out, add=True)
        return out
    z = empty(x.dtype, *x.shape[:2], window.out, window.out, kernel.shape[-1])
    _convolve(x, offsets, kernel, z, add=False)
    return _cut(z, filters, out)


def weight_gradient(d: Tensor, x: Tensor, window: Window, out: Tensor | None = None) -> Tensor:
    """Adjoint of :func:`product` in the kernel: ``[tasks, 9 * channels, filters]``, added to ``out``."""
    filters = d.shape[-1]
    if winograd.is_for(window, window.channels, filters, _lanes(x)):
        gradient = empty(x.dtype, len(x), 9 * window.channels, filters) if out is None else out
        winograd.correlate(x, d, gradient, out is not None)
        return gradient
    d = _in_vectors(d)
    offsets = neighbours(window, x.shape[1], d.shape[-1], x.element_size())
    if out is not None and d.shape[-1] == filters:
        _correlate(x, offsets, d, out, add=True)
        return out
    gradient = empty(x.dtype, len(x), len(offsets.taps), d.shape[-1])
    _correlate(x, offsets, d, gradient, add=False)
    return _cut(gradient, filters, out)


def input_gradient(terms: Sequence[tuple[Tensor, Tensor]], window: Window) -> Tensor:
    """Adjoint of :func:`product` in the images, summed over ``(d, kernel)`` pairs."""
    d, lanes = terms[0][0], _lanes(terms[0][0])
    if winograd.is_for(window, window.channels, d.shape[-1], lanes):
        x = empty(d.dtype, *d.shape[:4], window.channels)
        for i, (d, kernel) in enumerate(terms):
            winograd.convolve(d, kernel, True, x, i > 0)
        return x
    wide = -(-window.channels // lanes) * lanes
    x = empty(d.dtype, *d.shape[:2], window.size, window.size, wide)
    offsets = readers(window, d.shape[1], d.shape[-1], wide, d.element_size())
    for i, (d, kernel) in enumerate(terms):
        _convolve(d, offsets, kernel.contiguous(), x, i > 0)
    return _cut(x, window.channels, None)


def _lanes(x: Tensor) -> int:
    return LANES[x.numpy().dtype]


def _in_vectors(matrix: Tensor) -> Tensor:
    """With columns of zeros up to a multiple of a vector's length."""
    missing = -matrix.shape[-1] % _lanes(matrix)
    return F.pad(matrix, (0, missing)) if missing else matrix.contiguous()


def _cut(matrix: Tensor, columns: int, out: Tensor | None) -> Tensor:
    """Without what :func:`_in_vectors` has added; in ``out`` if there is one."""
    matrix = matrix[..., :columns]
    return matrix.contiguous() if out is None else out.add_(matrix)


def _scratch(x: Tensor, offsets: Offsets, matrix: int) -> tuple[np.ndarray, np.ndarray]:
    """Room for images with their borders, and for a matrix in stripes."""
    images = offsets.group * offsets.side**2 * offsets.pitch
    return empty(x.dtype, images).numpy(), empty(x.dtype, matrix).numpy()


def _convolve(x: Tensor, offsets: Offsets, kernel: Tensor, out: Tensor, add: bool) -> None:
    kernel = kernel if kernel.dim() == 3 else kernel[None]
    lanes, scratch = _lanes(x), _scratch(x, offsets, len(offsets.taps) * out.shape[-1])
    flat = out.view(len(out), -1, out.shape[-1]).numpy()
    _convolved(x.numpy(), offsets, kernel.numpy(), lanes, *scratch, flat, add)


def _correlate(x: Tensor, offsets: Offsets, d: Tensor, out: Tensor, add: bool) -> None:
    lanes, scratch = _lanes(d), _scratch(x, offsets, SLICE * d.shape[-1])
    _correlated(x.numpy(), offsets, d.flatten(1, 3).numpy(), lanes, *scratch, out.numpy(), add)


@loop
def _convolved(x, offsets, kernel, lanes, padded, memory, out, add):
    tasks, points = x.shape[:2]
    group, rows, taps, places = offsets.group, offsets.rows, offsets.taps, offsets.places
    b = memory.reshape(out.shape[2] // lanes, len(taps), lanes)
    padded[:] = 0
    memory[:] = 0  # of channels that are none
    for t in range(tasks):
        if t < len(kernel):  # else it is the one for all tasks
            if len(offsets.order) == 0:
                stripes(kernel[t], b)
            else:
                turned_stripes(kernel[t], offsets.order, b)
        for first in range(0, points, group):
            count = min(group, points - first)
            _pad(x[t, first : first + count], offsets, padded)
            target = out[t, first * (out.shape[1] // points) :].reshape(-1)
            for row, pixels, tap, depth in offsets.kinds:
                last = row + count * pixels
                some = rows[row:last], taps[tap : tap + depth], places[row:last]
                own, stripe = memory[tap * lanes :], len(taps) * lanes
                _add_products(padded, some, own, stripe, lanes, out.shape[2], lanes, target, add)


@loop
def _correlated(x, offsets, d, lanes, padded, memory, out, add):
    tasks, points = x.shape[:2]
    group, rows, taps, wide = offsets.group, offsets.rows, offsets.taps, out.shape[2]
    pixels = len(rows) // group
    size = len(memory) // wide
    b = memory.reshape(wide // lanes, size, lanes)
    places = np.arange(len(taps)).astype(np.uint64) * np.uint64(wide)
    # else a stripe is read where it lies: copying would cost more than it gains
    in_stripes = wide >= 64 and len(taps) > wide
    padded[:] = 0
    for t in range(tasks):
        values, target = d[t].reshape(-1), out[t].reshape(-1)
        for first in range(0, points, group):
            count = min(group, points - first)
            _pad(x[t, first : first + count], offsets, padded)
            for k in range(0, count * pixels, size):
                some, start = rows[k : min(k + size, count * pixels)], first * pixels + k
                read, more = (taps, some, places), add or start > 0
                if in_stripes:
                    stripes(d[t, start : start + len(some)], b)
                    _add_products(padded, read, memory, size * lanes, lanes, wide, lanes, target, more)
                else:
                    own = values[start * wide :]
                    _add_products(padded, read, own, lanes, wide, wide, lanes, target, more)


@loop
def _pad(x, offsets, padded):
    """Images into the middle of those with a border."""
    points, height, width, channels = x.shape
    border, side, pitch = offsets.border, offsets.side, offsets.pitch
    pieces = 1 if pitch == channels else width  # of a row, that lie together in both
    size = width // pieces * channels
    for i in range(points):
        for a in range(height):
            row = x[i, a].reshape(-1)
            for b in range(pieces):
                source = np.uint64(b * size)
                target = np.uint64(((i * side + a + border) * side + b + border) * pitch)
                for c in range(np.uint64(size)):
                    padded[target + c] = row[source + c]


@loop
def _add_products(a, some, b, stripe, step, wide, lanes, out, add):
    """The sum that the module begins with, six rows by one vector at a time.

    Their sums stay in registers until they are whole. ``stripe`` and ``step`` are how far apart stripes and
    rows of b are.
    """
    rows, taps, places = some
    last, one = len(rows) - 1, a.dtype.type(1)
    for f in range(0, wide, lanes):
        for m in range(0, len(rows), 6):
            r0, r1, r2 = rows[m], rows[min(m + 1, last)], rows[min(m + 2, last)]
            r3, r4, r5 = rows[min(m + 3, last)], rows[min(m + 4, last)], rows[min(m + 5, last)]
            s0, s1, s2, s3, s4, s5 = zero(a), zero(a), zero(a), zero(a), zero(a), zero(a)
            at = np.uint64(f // lanes * stripe)
            for k in range(len(taps)):
                tap, weights = taps[k], load(b, at)
                s0 = add_scaled(s0, a[r0 + tap], weights)
                s1 = add_scaled(s1, a[r1 + tap], weights)
                s2 = add_scaled(s2, a[r2 + tap], weights)
                s3 = add_scaled(s3, a[r3 + tap], weights)
                s4 = add_scaled(s4, a[r4 + tap], weights)
                s5 = add_scaled(s5, a[r5 + tap], weights)
                at += np.uint64(step)
            sums = (s0, s1, s2, s3, s4, s5)
            for i in range(min(6, len(rows) - m)):
                place = places[m + i] + np.uint64(f)
                store(out, place, add_scaled(sums[i], one, load(out, place)) if add else sums[i])
