"""Loops over the small matrices of :mod:`mamlkit.engine.kernels_cpu.recursion`.

A row has room for whole vectors of the processor (see :func:`room`), with zeros behind its numbers. So no
loop has a remainder, and a matrix is one line for whatever goes number by number. What stands behind the
numbers stays zero, or is never read.
"""

__all__ = [
    "add",
    "add_number",
    "add_product",
    "add_rows",
    "add_sum",
    "clear",
    "copy",
    "dots",
    "fill",
    "mean_product",
    "normalise",
    "project",
    "relu",
    "room",
    "subtract_turned",
    "turn",
    "where_active",
]

import math

import numpy as np

from mamlkit.engine.kernels_cpu.loops import loop
from mamlkit.engine.kernels_cpu.vectors import (
    BYTES,
    SQUARE,
    add_scaled,
    load,
    load_half,
    store,
    sums_of,
    turn_square,
    zero,
    zero_half,
)
from mamlkit.engine.kernels_cpu.views import line

ROWS = 5  # of a product at a time: as many sums of a vector as hide the time of an addition


def room(width: int, itemsize: int) -> int:
    """The numbers that a row has room for: whole halves of a vector; itemsize in bytes."""
    half = BYTES // 2 // itemsize
    return -(-width // half) * half


@loop
def add_product(a, b, inner, scale, out):
    """out + scale a b, in the memory of out, of the first ``inner`` columns of a.

    Sums of five rows by one vector, or one and a half, stay in registers until they are whole; the last
    columns may be half a vector.
    """
    rows, wide, lanes = len(out), np.uint64(out.shape[1]), np.uint64(BYTES // out.itemsize)
    last, values, target, half = rows - 1, line(b), line(out), lanes // np.uint64(2)
    for m in range(0, rows, ROWS):
        r1, r2, r3, r4 = min(m + 1, last), min(m + 2, last), min(m + 3, last), min(m + 4, last)
        column = np.uint64(0)
        while column < wide:
            at, first, left = column, np.uint64(m) * wide + column, wide - column
            if left == lanes + half:
                s0 = s1 = s2 = s3 = s4 = zero(out)
                h0 = h1 = h2 = h3 = h4 = zero_half(out)
                for k in range(inner):
                    row, part = load(values, at), load_half(values, at + lanes)
                    s0, h0 = add_scaled(s0, a[m, k], row), add_scaled(h0, a[m, k], part)
                    s1, h1 = add_scaled(s1, a[r1, k], row), add_scaled(h1, a[r1, k], part)
                    s2, h2 = add_scaled(s2, a[r2, k], row), add_scaled(h2, a[r2, k], part)
                    s3, h3 = add_scaled(s3, a[r3, k], row), add_scaled(h3, a[r3, k], part)
                    s4, h4 = add_scaled(s4, a[r4, k], row), add_scaled(h4, a[r4, k], part)
                    at += wide
                sums, halves = (s0, s1, s2, s3, s4), (h0, h1, h2, h3, h4)
                for i in range(min(ROWS, rows - m)):
                    place = first + np.uint64(i) * wide
                    store(target, place, add_scaled(load(target, place), scale, sums[i]))
                    place += lanes
                    store(target, place, add_scaled(load_half(target, place), scale, halves[i]))
                column = wide
            elif left >= lanes:
                s0 = s1 = s2 = s3 = s4 = zero(out)
                for k in range(inner):
                    row = load(values, at)
                    s0, s1 = add_scaled(s0, a[m, k], row), add_scaled(s1, a[r1, k], row)
                    s2, s3 = add_scaled(s2, a[r2, k], row), add_scaled(s3, a[r3, k], row)
                    s4 = add_scaled(s4, a[r4, k], row)
                    at += wide
                sums = (s0, s1, s2, s3, s4)
                for i in range(min(ROWS, rows - m)):
                    place = first + np.uint64(i) * wide
                    store(target, place, add_scaled(load(target, place), scale, sums[i]))
                column += lanes
            else:
                h0 = h1 = h2 = h3 = h4 = zero_half(out)
                for k in range(inner):
                    part = load_half(values, at)
                    h0, h1 = add_scaled(h0, a[m, k], part), add_scaled(h1, a[r1, k], part)
                    h2, h3 = add_scaled(h2, a[r2, k], part), add_scaled(h3, a[r3, k], part)
                    h4 = add_scaled(h4, a[r4, k], part)
                    at += wide
                halves = (h0, h1, h2, h3, h4)
                for i in range(min(ROWS, rows - m)):
                    place = first + np.uint64(i) * wide
                    store(target, place, add_scaled(load_half(target, place), scale, halves[i]))
                column += half


@loop
def dots(a, b, out):
    """In out the products of each row of a with each row of b, of whole rows: they end with zeros.

    Two rows by four at a time; what stands in out behind their numbers is anything.
    """
    wide, half = np.uint64(a.shape[1]), np.uint64(BYTES // 2 // a.itemsize)
    rows, others, target, end = line(a), line(b), line(out), len(b) - 1
    for i in range(0, len(a), 2):
        i1 = min(i + 1, len(a) - 1)
        for j in range(0, len(b), 4):
            b0, b1 = np.uint64(j) * wide, np.uint64(min(j + 1, end)) * wide
            b2, b3 = np.uint64(min(j + 2, end)) * wide, np.uint64(min(j + 3, end)) * wide
            h0 = h1 = h2 = h3 = g0 = g1 = g2 = g3 = zero_half(a)
            a0, a1, column = np.uint64(i) * wide, np.uint64(i1) * wide, np.uint64(0)
            while column < wide:
                p, q = load_half(rows, a0 + column), load_half(rows, a1 + column)
                r, s = load_half(others, b0 + column), load_half(others, b1 + column)
                h0, h1, g0, g1 = h0 + p * r, h1 + p * s, g0 + q * r, g1 + q * s
                r, s = load_half(others, b2 + column), load_half(others, b3 + column)
                h2, h3, g2, g3 = h2 + p * r, h3 + p * s, g2 + q * r, g3 + q * s
                column += half
            store(target, np.uint64(i * out.shape[1] + j), sums_of(h0, h1, h2, h3))
            store(target, np.uint64(i1 * out.shape[1] + j), sums_of(g0, g1, g2, g3))


@loop
def fill(rows, out):
    """Each row of out gets the numbers of one of rows, or of their only one, as far as both have room."""
    more, width = len(rows) > 1, min(rows.shape[1], out.shape[1])
    for i in range(out.shape[0]):
        j = i if more else 0
        for o in range(width):
            out[i, o] = rows[j, o]


@loop
def copy(values, out):
    """One row, as long as both are."""
    for o in range(len(out)):
        out[o] = values[o]


@loop
def clear(out):
    row = line(out)
    for o in range(len(row)):
        row[o] = 0


@loop
def add(a, out):
    """Number by number, of a matrix of the same shape."""
    row, sums = line(a), line(out)
    for o in range(len(row)):
        sums[o] += row[o]


@loop
def add_number(number, out):
    row = line(out)
    for o in range(len(row)):
        row[o] += number


@loop
def add_rows(d, scale, first, out):
    """To the rows of out from the first on."""
    for i in range(d.shape[0]):
        for o in range(d.shape[1]):
            out[first + i, o] += scale * d[i, o]


@loop
def add_sum(d, scale, out):
    for i in range(d.shape[0]):
        for o in range(d.shape[1]):
            out[0, o] += scale * d[i, o]


@loop
def turn(w, turned):
    """Rows become columns, as many as turned has rows: squares in registers, and what is left number by
    number."""
    side = SQUARE // w.itemsize
    rows, columns = len(w) // side * side, len(turned) // side * side
    for i in range(0, rows, side):
        for o in range(0, columns, side):
            turn_square(w, np.uint64(i * w.shape[1] + o), turned, np.uint64(o * turned.shape[1] + i))
    for i in range(len(w)):
        for o in range(columns if i < rows else 0, len(turned)):
            turned[o, i] = w[i, o]


@loop
def relu(y):
    row, none = line(y), y.dtype.type(0)
    for o in range(len(row)):
        row[o] = none if row[o] <= none else row[o]  # so that NaN stays NaN


@loop
def where_active(y, d):
    """The derivative of a ReLU with output y, in the memory of d."""
    outputs, row, none = line(y), line(d), d.dtype.type(0)
    for o in range(len(row)):
        row[o] = none if outputs[o] <= none else row[o]


@loop
def mean_product(a, b, out):
    share = out.dtype.type(1 / len(a))
    clear(out)
    for i in range(a.shape[0]):
        for o in range(a.shape[1]):
            out[0, o] += share * a[i, o] * b[i, o]


@loop
def subtract_mean(a, mean):
    clear(mean)
    add_sum(a, mean.dtype.type(1 / len(a)), mean)
    for i in range(a.shape[0]):
        for o in range(a.shape[1]):
            a[i, o] -= mean[0, o]


@loop
def normalise(z, shift, eps, n, r):
    """Batch normalisation: n, r = 1 / sqrt(variance + eps), and in the memory of z n and a shift."""
    subtract_mean(z, r)
    mean_product(z, z, r)
    for o in range(z.shape[1]):
        r[0, o] = 1 / math.sqrt(r[0, o] + eps)
    for i in range(z.shape[0]):
        for o in range(z.shape[1]):
            n[i, o] = r[0, o] * z[i, o]
            z[i, o] = n[i, o] + shift[0, o]


@loop
def project(d, n, r, nd):
    """What normalisation makes of a derivative, backward or forward alike, in the memory of d."""
    subtract_mean(d, nd)
    mean_product(n, d, nd)
    for i in range(d.shape[0]):
        for o in range(d.shape[1]):
            d[i, o] = r[0, o] * (d[i, o] - n[i, o] * nd[0, o])


@loop
def subtract_turned(r, n_dot, nd, n, dzz, dz, nz, d_dot):
    for i in range(d_dot.shape[0]):
        for o in range(d_dot.shape[1]):
            d_dot[i, o] -= r[0, o] * (n_dot[i, o] * nd[0, o] + n[i, o] * dzz[0, o] + dz[i, o] * nz[0, o])
