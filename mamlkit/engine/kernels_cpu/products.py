"""Products of plain matrices, task by task, for networks whose layers see many points.

On AMD's processors they take half to two thirds of the time of PyTorch's own products, whose library does not
use all of a vector there. On Intel's it is the faster one, by a fifth.
"""

__all__ = ["add_product"]

import llvmlite.binding as llvm
import numpy as np
import torch
from torch import Tensor

from mamlkit.engine.kernels_cpu.loops import loop
from mamlkit.engine.kernels_cpu.memory import empty
from mamlkit.engine.kernels_cpu.vectors import (
    BYTES,
    add_scaled,
    load,
    load_some,
    store,
    store_some,
    zero,
    zero_half,
)
from mamlkit.engine.kernels_cpu.views import line

ROWS = 5  # of a product at a time: as many sums of a vector as hide the time of an addition
FASTER = llvm.get_host_cpu_name().startswith("znver")  # than PyTorch's; as LLVM calls AMD's with such vectors
SMALL = 1 << 19  # products of numbers for a task, up to which PyTorch's are faster to call
SLICE = 128  # of what a product sums over at once, so that both matrices' are still in the cache


def add_product(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """out + a b, in the memory of ``out`` if there is one: ``[tasks, m, n]``.

    Args:
        a: ``[tasks, m, k]``.
        b: ``[tasks, k, n]``, or ``[k, n]`` for all tasks.
        out: contiguous.
    """
    if not FASTER or a.shape[1] * a.shape[2] * b.shape[-1] <= SMALL:
        return a @ b if out is None else out.baddbmm_(a, b.expand(len(a), *b.shape[-2:]))
    total = empty(a.dtype, *a.shape[:2], b.shape[-1]) if out is None else out
    b = b.expand(len(a), *b.shape[-2:])
    b = b if b.stride(-1) == 1 else b.contiguous()
    _add_products(*_line(a), *_line(b), a.shape[-1], total.numpy(), out is not None)
    return total


def _line(matrices: Tensor) -> tuple[np.ndarray, tuple[int, ...]]:
    """Memory as one row, and how far apart matrices, rows and columns are there."""
    matrices = matrices.detach().resolve_neg()
    steps = matrices.stride()
    long = 1 + sum((size - 1) * step for size, step in zip(matrices.shape, steps))
    return torch.as_strided(matrices, (long,), (1,)).numpy(), steps


@loop
def _add_products(a, a_steps, b, b_steps, inner, out, add):
    tasks, rows, wide = out.shape
    for t in range(tasks):
        target = line(out[t])
        for first in range(0, inner, SLICE):
            some = t * a_steps[0] + first * a_steps[2], t * b_steps[0] + first * b_steps[1]
            steps = a_steps[1], a_steps[2], b_steps[1]
            _add_slice(a, b, some, steps, min(SLICE, inner - first), rows, wide, target, add or first > 0)


@loop
def _add_slice(a, b, starts, steps, inner, rows, wide, out, add):
    """A product that sums over a slice, five rows by one vector at a time.

    Their sums stay in registers until they are whole. Where rows run out the last one is done again. The last
    columns may be a part of a vector. ``steps`` are from row to row and column to column of a, and from row
    to row of b.
    """
    start, first, last, columns = np.uint64(starts[0]), np.uint64(starts[1]), rows - 1, np.uint64(wide)
    down, along, down_b = np.uint64(steps[0]), np.uint64(steps[1]), np.uint64(steps[2])
    lanes, one = np.uint64(BYTES // out.itemsize), out.dtype.type(1)
    for m in range(0, rows, ROWS):
        m0, m1, m2 = np.uint64(m), np.uint64(min(m + 1, last)), np.uint64(min(m + 2, last))
        m3, m4 = np.uint64(min(m + 3, last)), np.uint64(min(m + 4, last))
        column = np.uint64(0)
        while column < columns:
            a0, a1, a2 = start + m0 * down, start + m1 * down, start + m2 * down
            a3, a4, place = start + m3 * down, start + m4 * down, first + column
            o0, o1, o2 = m0 * columns + column, m1 * columns + column, m2 * columns + column
            o3, o4, count = m3 * columns + column, m4 * columns + column, columns - column
            if count >= lanes:
                s0 = s1 = s2 = s3 = s4 = zero(out)
                for _ in range(inner):
                    row = load(b, place)
                    s0, s1 = add_scaled(s0, a[a0], row), add_scaled(s1, a[a1], row)
                    s2, s3 = add_scaled(s2, a[a2], row), add_scaled(s3, a[a3], row)
                    s4 = add_scaled(s4, a[a4], row)
                    a0, a1, a2, a3, a4 = a0 + along, a1 + along, a2 + along, a3 + along, a4 + along
                    place += down_b
                if add:  # all before the first is stored, since rows may be the same
                    s0, s1 = add_scaled(s0, one, load(out, o0)), add_scaled(s1, one, load(out, o1))
                    s2, s3 = add_scaled(s2, one, load(out, o2)), add_scaled(s3, one, load(out, o3))
                    s4 = add_scaled(s4, one, load(out, o4))
                store(out, o0, s0)
                store(out, o1, s1)
                store(out, o2, s2)
                store(out, o3, s3)
                store(out, o4, s4)
                column += lanes
            else:
                count = min(count, lanes // np.uint64(2))
                h0 = h1 = h2 = h3 = h4 = zero_half(out)
                for _ in range(inner):
                    part = load_some(b, place, count)
                    h0, h1 = add_scaled(h0, a[a0], part), add_scaled(h1, a[a1], part)
                    h2, h3 = add_scaled(h2, a[a2], part), add_scaled(h3, a[a3], part)
                    h4 = add_scaled(h4, a[a4], part)
                    a0, a1, a2, a3, a4 = a0 + along, a1 + along, a2 + along, a3 + along, a4 + along
                    place += down_b
                if add:
                    h0 = add_scaled(h0, one, load_some(out, o0, count))
                    h1 = add_scaled(h1, one, load_some(out, o1, count))
                    h2 = add_scaled(h2, one, load_some(out, o2, count))
                    h3 = add_scaled(h3, one, load_some(out, o3, count))
                    h4 = add_scaled(h4, one, load_some(out, o4, count))
                store_some(out, o0, count, h0)
                store_some(out, o1, count, h1)
                store_some(out, o2, count, h2)
                store_some(out, o3, count, h3)
                store_some(out, o4, count, h4)
                column += count
