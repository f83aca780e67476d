"""Winograd's convolutions F(2x2, 3x3), as fast as we could make them (Lavin and Gray, 2016, section 4.1).

Two by two pixels of a result are read from a tile of four by four. With three matrices, a tile d and a kernel
g give A' [(G g G') * (B' d B)] A, in which * is number by number: sixteen products where the direct form has
thirty-six. Summed over channels, each of the sixteen positions is a product of matrices,
``[tiles, channels]`` by ``[channels, filters]``. The gradient in the kernel is
G' [sum over tiles of (B' d B) * (A y A')] G, where y are two by two pixels of the result's gradient.

Tiles go through all three steps in blocks that stay in the cache, six of them together for each position:
``[block / 6, 16, 6, channels]``. So the products have the six rows of
:mod:`mamlkit.engine.kernels_cpu.convolution`, and while they run, what the next block needs is on its way.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from winograd_tiles import loop, out_of_sums, out_of_tiles, tiles_of, tiles_of_gradient, tiles_of_kernel

from mamlkit.engine.kernels_cpu.convolution import _stripes, _turned_stripes
from mamlkit.engine.kernels_cpu.vectors import add_scaled, load, store, zero


@intrinsic
def fetch(_: Any, array: types.Array, start: types.Integer) -> tuple[Any, Callable[..., Any]]:
    """Send for the line of the cache at ``array[start]``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        place = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [place.type, number, number, number])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [place.type], kind)
        builder.call(prefetch, [place, number(0), number(2), number(1)])
        return context.get_dummy_value()

    return types.void(array, types.uintp), generate


@loop
def products(v, count, channels, u, filters, lanes, m, x, coming, out, pixels, size):
    """``m[p, t] = v[p, t] u[p]`` for the tiles of a block, six rows by one vector at a time.

    Meanwhile the pixels of x that the next block needs, and those of ``out`` that this one will write, are
    sent for.
    """
    row = np.uint64(channels)
    for p in range(16):
        y, z, line = p // 2 % 2, p % 2, np.uint64(p // 4 % 2 * (lanes // 2))
        for t in range(0, count, 6):
            for k in range(t, min(t + 6, count)):
                if p < 8 and k < len(coming):
                    fetch(x, (coming[k] + np.uint64((y + 1) * size + z)) * row + line)
                elif p >= 8:
                    fetch(out, (pixels[k] + np.uint64(y * size + z)) * np.uint64(filters) + line)
            r0 = np.uint64((t * 16 + p * 6) * channels)
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
                place = np.uint64((t * 16 + p * 6) * filters + f)
                for s in (s0, s1, s2, s3, s4, s5):
                    store(m, place, s)
                    place += np.uint64(filters)


@loop
def sums(v, count, channels, w, filters, lanes, s, add):
    """``s[p, c] = sum over the tiles of a block of v[p, t, c] w[p, t]``, added to what is there."""
    one = v.dtype.type(1)
    for p in range(16):
        for f in range(0, filters, lanes):
            for c in range(0, channels, 8):
                s0, s1, s2, s3, s4, s5, s6, s7 = (
                    zero(v),
                    zero(v),
                    zero(v),
                    zero(v),
                    zero(v),
                    zero(v),
                    zero(v),
                    zero(v),
                )
                for first in range(0, count, 6):
                    r = np.uint64((first * 16 + p * 6) * channels + c)
                    at = np.uint64((first * 16 + p * 6) * filters + f)
                    for _ in range(min(6, count - first)):
                        y = load(w, at)
                        s0, s1 = add_scaled(s0, v[r], y), add_scaled(s1, v[r + np.uint64(1)], y)
                        s2, s3 = (
                            add_scaled(s2, v[r + np.uint64(2)], y),
                            add_scaled(s3, v[r + np.uint64(3)], y),
                        )
                        s4, s5 = (
                            add_scaled(s4, v[r + np.uint64(4)], y),
                            add_scaled(s5, v[r + np.uint64(5)], y),
                        )
                        s6, s7 = (
                            add_scaled(s6, v[r + np.uint64(6)], y),
                            add_scaled(s7, v[r + np.uint64(7)], y),
                        )
                        r, at = r + np.uint64(channels), at + np.uint64(filters)
                place = np.uint64((p * channels + c) * filters + f)
                for each in (s0, s1, s2, s3, s4, s5, s6, s7):
                    store(s, place, add_scaled(each, one, load(s, place)) if add else each)
                    place += np.uint64(filters)


@loop
def convolved(x, kernel, turned, pixels, bits, block, lanes, stripes, u, v, m, out, add):
    size, channels, filters = x.shape[2], x.shape[4], out.shape[2]
    backwards = np.arange(8, -1, -1)
    for t in range(len(x)):
        if t < len(kernel):  # else it is the one for all tasks
            b = stripes.reshape(filters // lanes, 9 * channels, lanes)
            if turned:
                _turned_stripes(kernel[t], backwards, b)
            else:
                _stripes(kernel[t], b)
            tiles_of_kernel(stripes, channels * lanes, lanes, u)
        source, target = x[t].reshape(-1), out[t].reshape(-1)
        for k in range(0, len(bits), block):
            some, there, coming = pixels[k : k + block], bits[k : k + block], pixels[k + block :]
            tiles_of(source, some, there, size, channels, lanes // 2, v)
            products(v, len(some), channels, u, filters, lanes, m, source, coming, target, some, size)
            out_of_tiles(m, some, there, size, filters, lanes // 2, target, add)


@loop
def correlated(x, d, pixels, bits, block, lanes, v, w, s, out, add):
    size, channels, filters = x.shape[2], x.shape[4], d.shape[2]
    for t in range(len(x)):
        source, gradient = x[t].reshape(-1), d[t].reshape(-1)
        for k in range(0, len(bits), block):
            some, there = pixels[k : k + block], bits[k : k + block]
            tiles_of(source, some, there, size, channels, lanes // 2, v)
            tiles_of_gradient(gradient, some, there, size, filters, lanes // 2, w)
            sums(v, len(some), channels, w, filters, lanes, s, k > 0)
        out_of_sums(s, channels * filters, lanes // 2, out[t].reshape(-1), add)
