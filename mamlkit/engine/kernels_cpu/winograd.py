"""Convolutions of stride one by Winograd's F(4x4, 3x3), with a quarter of the direct form's products.

Four by four pixels of a result are read from a tile of six by six. With three matrices, a tile d and a kernel
g give A' [(G g G') * (B' d B)] A, in which * is number by number: 36 products where the direct form has 144
(Lavin and Gray, 2016, arXiv:1509.09308). Summed over channels, each of the 36 positions is a product of
matrices, ``[tiles, channels]`` by ``[channels, filters]``. The gradient in the kernel is
G' [sum over tiles of (B' d B) * (A y A')] G, where y are four by four pixels of the result's gradient.

It is exact. Rounding errors are four to six times those of the direct form on random numbers, and up to ten
times where few numbers are large; what is not finite spreads over a tile, and stays within its image. Sides
are rounded up to whole tiles, so that of the products a quarter or a little more is left.

Tiles go through all three steps in blocks that stay in the cache, six of them together for each position:
``[block / 6, 36, 6, channels]``. So the products have the six rows of
:mod:`mamlkit.engine.kernels_cpu.convolution`, and while they run, what the next block needs is on its way.
"""

__all__ = ["convolve", "correlate", "is_for"]

import numpy as np
from torch import Tensor

from mamlkit.engine.kernels_cpu.loops import loop
from mamlkit.engine.kernels_cpu.memory import LINE_BYTES, SMALL_BYTES, empty
from mamlkit.engine.kernels_cpu.stripes import stripes, turned_stripes
from mamlkit.engine.kernels_cpu.tiles import (
    SEEN,
    SIDE,
    TOGETHER,
    of_gradient,
    of_images,
    of_kernel,
    places,
    to_images,
    to_kernel,
)
from mamlkit.engine.kernels_cpu.vectors import LANES, add_scaled, fetch, load, store, zero
from mamlkit.models import Window

LEAST = 10  # pixels of a side: with few smaller images the transforms take what the products save
BLOCK = 4 * TOGETHER  # tiles
POSITIONS = SEEN * SEEN


def is_for(window: Window, channels: int, filters: int, lanes: int) -> bool:
    """Whether a convolution is best done so: stride one, whole vectors of inputs and of results.

    Layers of hundreds of channels lose up to a quarter of their time by it if a task has but an image or two.
    """
    whole = channels % lanes == filters % lanes == 0
    return whole and window.stride == window.before == window.after == 1 and window.size >= LEAST


def convolve(x: Tensor, kernel: Tensor, turned: bool, out: Tensor, add: bool) -> None:
    """Convolution of x, or with a turned kernel its adjoint, written to ``out`` or added."""
    channels, filters, lanes = x.shape[-1], out.shape[-1], LANES[x.numpy().dtype]
    in_place = channels == filters == lanes  # each sum can go where its row was: more room in the cache
    sizes = 9 * channels * filters, POSITIONS * channels * filters
    own, u, v, m, aside = _scratch(x, *sizes, *_blocks(channels, 0 if in_place else filters), lanes)
    aside[:] = 0
    m = v if in_place else m
    kernels = (kernel if kernel.dim() == 3 else kernel[None]).contiguous().numpy()
    flat = out.view(len(out), -1, filters).numpy()
    tiles = places(x.shape[2], x.shape[1])
    _convolved(x.numpy(), kernels, turned, *tiles, lanes, own, u, v, m, aside, flat, add)


def correlate(x: Tensor, d: Tensor, out: Tensor, add: bool) -> None:
    """The gradient in the kernel, given that of the result: written to ``out`` or added."""
    channels, filters, lanes = x.shape[-1], d.shape[-1], LANES[x.numpy().dtype]
    v, w, s, aside = _scratch(x, *_blocks(channels, filters), POSITIONS * channels * filters, lanes)
    aside[:] = 0
    flat, tiles = d.flatten(1, 3).numpy(), places(x.shape[2], x.shape[1])
    _correlated(x.numpy(), flat, *tiles, lanes, v, w, s, aside, out.numpy(), add)


def _blocks(*channels: int) -> list[int]:
    """Numbers of a block of tiles."""
    return [POSITIONS * BLOCK * each for each in channels]


def _scratch(x: Tensor, *sizes: int) -> list[np.ndarray]:
    """Arrays that begin at lines of the cache, in one piece of memory that is used again."""
    line = LINE_BYTES // x.element_size()
    sizes = tuple(-(-size // line) * line for size in sizes)
    memory = empty(x.dtype, max(sum(sizes), SMALL_BYTES // x.element_size())).numpy()
    return np.split(memory, np.cumsum(sizes))[: len(sizes)]


@loop
def _send_for(x, pixel, y, column, size, wide):
    """Send for the lines of the cache that hold a pixel, in row and column counted from another."""
    at = (pixel + np.uint64(y * size + column)) * np.uint64(wide)
    for k in range(0, wide, LINE_BYTES // x.itemsize):
        fetch(x, at + np.uint64(k))


@loop
def _products(v, count, channels, u, filters, lanes, m, x, coming, out, pixels, size):
    """``m[p, t] = v[p, t] u[p]`` for the tiles of a block, six rows by one vector at a time.

    Meanwhile the pixels of x that the next block needs, and those of ``out`` that this one will write, are
    sent for.
    """
    row = np.uint64(channels)
    for p in range(POSITIONS):
        y, column = p // SIDE, p % SIDE
        for t in range(0, count, TOGETHER):
            for k in range(t, min(t + TOGETHER, count)):
                if y < SIDE and k < len(coming):
                    _send_for(x, coming[k], y + 1, column + 1, size, channels)
                elif SIDE <= y < 2 * SIDE:
                    _send_for(out, pixels[k], y - SIDE, column, size, filters)
            r0 = np.uint64((t * POSITIONS + p * TOGETHER) * channels)
            r1, r2, r3 = r0 + row, r0 + np.uint64(2) * row, r0 + np.uint64(3) * row
            r4, r5 = r2 + np.uint64(2) * row, r3 + np.uint64(2) * row
            for f in range(0, filters, lanes):
                s0, s1, s2, s3, s4, s5 = zero(v), zero(v), zero(v), zero(v), zero(v), zero(v)
                at = np.uint64((p * filters + f) * channels)
                for k in range(np.uint64(channels)):
                    weights = load(u, at)
                    s0 = add_scaled(s0, v[r0 + k], weights)
                    s1 = add_scaled(s1, v[r1 + k], weights)
                    s2 = add_scaled(s2, v[r2 + k], weights)
                    s3 = add_scaled(s3, v[r3 + k], weights)
                    s4 = add_scaled(s4, v[r4 + k], weights)
                    s5 = add_scaled(s5, v[r5 + k], weights)
                    at += np.uint64(lanes)
                place = np.uint64((t * POSITIONS + p * TOGETHER) * filters + f)
                for s in (s0, s1, s2, s3, s4, s5):
                    store(m, place, s)
                    place += np.uint64(filters)


@loop
def _sums(v, count, channels, w, filters, lanes, s, add, x, d, coming, size):
    """``s[p, c] = sum over the tiles of a block of v[p, t, c] w[p, t]``, added to what is there.

    Meanwhile the pixels of x and of d that the next block needs are sent for.
    """
    one, step, next_ = v.dtype.type(1), np.uint64(channels), np.uint64(filters)
    for p in range(POSITIONS):
        y, column = p // SIDE, p % SIDE
        for k in range(min(BLOCK, len(coming))):
            if y < SIDE:
                _send_for(x, coming[k], y + 1, column + 1, size, channels)
            elif y < 2 * SIDE:
                _send_for(d, coming[k], y - SIDE, column, size, filters)
        for f in range(0, filters, lanes):
            for c in range(0, channels, 4):
                s0, s1, s2, s3 = zero(v), zero(v), zero(v), zero(v)
                for first in range(0, count, TOGETHER):
                    start = first * POSITIONS + p * TOGETHER
                    r, at = np.uint64(start * channels + c), np.uint64(start * filters + f)
                    for _ in range(min(TOGETHER, count - first)):
                        y = load(w, at)
                        s0, s1 = add_scaled(s0, v[r], y), add_scaled(s1, v[r + np.uint64(1)], y)
                        s2 = add_scaled(s2, v[r + np.uint64(2)], y)
                        s3 = add_scaled(s3, v[r + np.uint64(3)], y)
                        r, at = r + step, at + next_
                place = np.uint64((p * channels + c) * filters + f)
                for each in (s0, s1, s2, s3):
                    store(s, place, add_scaled(each, one, load(s, place)) if add else each)
                    place += next_


@loop
def _convolved(x, kernel, turned, pixels, bits, lanes, own, u, v, m, aside, out, add):
    size, channels, filters = x.shape[2], x.shape[4], out.shape[2]
    backwards = np.arange(8, -1, -1)
    for t in range(len(x)):
        if t < len(kernel):  # else it is the one for all tasks
            b = own[: 9 * channels * filters].reshape(filters // lanes, 9 * channels, lanes)
            if turned:
                turned_stripes(kernel[t], backwards, b)
            else:
                stripes(kernel[t], b)
            of_kernel(own[: b.size], channels * lanes, lanes // 2, aside, u)
        source, target = x[t].reshape(-1), out[t].reshape(-1)
        for k in range(0, len(pixels), BLOCK):
            some, there, coming = pixels[k : k + BLOCK], bits[k : k + BLOCK], pixels[k + BLOCK :]
            of_images(source, some, there, size, channels, lanes // 2, aside, v)
            _products(v, len(some), channels, u, filters, lanes, m, source, coming, target, some, size)
            to_images(m, some, there, size, filters, lanes // 2, aside, target, add)


@loop
def _correlated(x, d, pixels, bits, lanes, v, w, s, aside, out, add):
    size, channels, filters = x.shape[2], x.shape[4], d.shape[2]
    for t in range(len(x)):
        source, gradient = x[t].reshape(-1), d[t].reshape(-1)
        for k in range(0, len(pixels), BLOCK):
            some, there, coming = pixels[k : k + BLOCK], bits[k : k + BLOCK], pixels[k + BLOCK :]
            of_images(source, some, there, size, channels, lanes // 2, aside, v)
            of_gradient(gradient, some, there, size, filters, lanes // 2, aside, w)
            more = k > 0
            _sums(v, len(some), channels, w, filters, lanes, s, more, source, gradient, coming, size)
        to_kernel(s, channels * filters, lanes // 2, aside, out[t].reshape(-1), add)
