"""Between images and the tiles of Winograd's F(2x2, 3x3): see :mod:`winograd_loops`.

Each function goes through tiles or kernels once, half a vector of channels at a time, so that a tile's
sixteen numbers stay in registers. The matrices are those of Lavin and Gray, 2016, section 4.1::

    B' = 1  0 -1  0     G =  1   0   0     A' = 1  1  1  0
         0  1  1  0         .5  .5  .5          0  1 -1 -1
         0 -1  1  0         .5 -.5  .5
         0  1  0 -1          0   0   1
"""

from functools import lru_cache

import numba
import numpy as np

from mamlkit.engine.kernels_cpu.vectors import add_scaled, load_half, store, zero_half

# not the engine's loop, which keeps code that it knows by the files of its own folder
loop = numba.njit(nogil=True, fastmath={"contract", "nsz"})
BELOW, RIGHT = np.uint64(2), np.uint64(16)  # bits of what is there: see places


@lru_cache
def places(size: int, points: int) -> tuple[np.ndarray, np.ndarray]:
    """For each tile of square images its first pixel of the result, and which rows and columns are there.

    Bits 0 to 2 are for the row above the first pixel and the two below it, bits 3 to 5 for columns.
    """
    half = -(-size // 2)
    image, y, x = np.indices((points, half, half)).reshape(3, -1) * np.array([[1], [2], [2]])
    there = [y > 0, y + 1 < size, y + 2 < size, x > 0, x + 1 < size, x + 2 < size]
    bits = sum(each.astype(np.uint64) << np.uint64(k) for k, each in enumerate(there))
    return ((image * size + y) * size + x).astype(np.uint64), bits


@loop
def slot(tile, wide):
    """Where a tile of a block has its first number."""
    return np.uint64((tile // 6 * 96 + tile % 6) * wide)


@loop
def inside(x, at, there):
    return load_half(x, at) if there else zero_half(x)


@loop
def four_of(a, b, c, d):
    """B' of four numbers."""
    return a - c, b + c, c - b, b - d


@loop
def put_four(v, at, step, four):
    store(v, at, four[0])
    store(v, at + step, four[1])
    store(v, at + np.uint64(2) * step, four[2])
    store(v, at + np.uint64(3) * step, four[3])


@loop
def four_at(v, at, step):
    two, three = np.uint64(2) * step, np.uint64(3) * step
    return load_half(v, at), load_half(v, at + step), load_half(v, at + two), load_half(v, at + three)


@loop
def column(x, at, row, there, bits):
    """B' of a column of a tile; of zeros where it lies outside of the image."""
    a = inside(x, at, there and bits & np.uint64(1) > 0)
    b = inside(x, at + row, there)
    c = inside(x, at + np.uint64(2) * row, there and bits & BELOW > 0)
    d = inside(x, at + np.uint64(3) * row, there and bits & np.uint64(4) > 0)
    return four_of(a, b, c, d)


@loop
def tiles_of(x, pixels, bits, size, channels, half, v):
    """B' d B of each tile d of the images."""
    pixel, row, step = np.uint64(channels), np.uint64(size * channels), np.uint64(6 * channels)
    for k in range(len(bits)):
        at, to, b = (pixels[k] - np.uint64(size + 1)) * pixel, slot(k, channels), bits[k]
        for _ in range(0, channels, half):
            a0, b0, c0, d0 = column(x, at, row, b & np.uint64(8) > 0, b)
            a1, b1, c1, d1 = column(x, at + pixel, row, True, b)
            a2, b2, c2, d2 = column(x, at + np.uint64(2) * pixel, row, b & RIGHT > 0, b)
            a3, b3, c3, d3 = column(x, at + np.uint64(3) * pixel, row, b & np.uint64(32) > 0, b)
            put_four(v, to, step, four_of(a0, a1, a2, a3))
            put_four(v, to + np.uint64(4) * step, step, four_of(b0, b1, b2, b3))
            put_four(v, to + np.uint64(8) * step, step, four_of(c0, c1, c2, c3))
            put_four(v, to + np.uint64(12) * step, step, four_of(d0, d1, d2, d3))
            at, to = at + np.uint64(half), to + np.uint64(half)


@loop
def tiles_of_gradient(y, pixels, bits, size, filters, half, w):
    """A y A' of each two by two pixels y, but for a sign of the last row and column of A."""
    pixel, row, step = np.uint64(filters), np.uint64(size * filters), np.uint64(6 * filters)
    for k in range(len(bits)):
        at, to, below, right = pixels[k] * pixel, slot(k, filters), bits[k] & BELOW > 0, bits[k] & RIGHT > 0
        for _ in range(0, filters, half):
            a, b = load_half(y, at), inside(y, at + pixel, right)
            c, d = inside(y, at + row, below), inside(y, at + row + pixel, below and right)
            e, f, g, h = a + c, b + d, a - c, b - d
            put_four(w, to, step, (a, a + b, a - b, b))
            put_four(w, to + np.uint64(4) * step, step, (e, e + f, e - f, f))
            put_four(w, to + np.uint64(8) * step, step, (g, g + h, g - h, h))
            put_four(w, to + np.uint64(12) * step, step, (c, c + d, c - d, d))
            at, to = at + np.uint64(half), to + np.uint64(half)


@loop
def put(out, at, value, add):
    store(out, at, load_half(out, at) + value if add else value)


@loop
def two_of(a, b, c, d):
    """A' of four numbers."""
    return a + (b + c), b - c - d


@loop
def out_of_tiles(m, pixels, bits, size, filters, half, out, add):
    """A' m A of each position's sums m, where the result has a pixel."""
    pixel, row, step = np.uint64(filters), np.uint64(size * filters), np.uint64(6 * filters)
    for k in range(len(bits)):
        at, to, below, right = slot(k, filters), pixels[k] * pixel, bits[k] & BELOW > 0, bits[k] & RIGHT > 0
        for _ in range(0, filters, half):
            a0, b0 = two_of(*four_at(m, at, step))
            a1, b1 = two_of(*four_at(m, at + np.uint64(4) * step, step))
            a2, b2 = two_of(*four_at(m, at + np.uint64(8) * step, step))
            a3, b3 = two_of(*four_at(m, at + np.uint64(12) * step, step))
            (a, c), (b, d) = two_of(a0, a1, a2, a3), two_of(b0, b1, b2, b3)
            put(out, to, a, add)
            if right:
                put(out, to + pixel, b, add)
            if below:
                put(out, to + row, c, add)
                if right:
                    put(out, to + row + pixel, d, add)
            at, to = at + np.uint64(half), to + np.uint64(half)


@loop
def kernel_of(a, b, c, half):
    """G of three numbers."""
    even, odd = add_scaled(a - a, half, a + c), add_scaled(a - a, half, b)
    return a, even + odd, even - odd, c


@loop
def tiles_of_kernel(g, count, lanes, u):
    """G g G' of kernels in stripes, ``[stripes, 9, count]``, as ``[16, stripes, count]``."""
    half, tap = g.dtype.type(0.5), np.uint64(count)
    step = np.uint64(len(g) // 9)
    for start in range(0, len(g), 9 * count):
        for k in range(0, count, lanes // 2):
            at, to = np.uint64(start + k), np.uint64(start // 9 + k)
            a0, b0, c0, d0 = kernel_of(*three_at(g, at, np.uint64(3) * tap), half)
            a1, b1, c1, d1 = kernel_of(*three_at(g, at + tap, np.uint64(3) * tap), half)
            a2, b2, c2, d2 = kernel_of(*three_at(g, at + np.uint64(2) * tap, np.uint64(3) * tap), half)
            put_four(u, to, step, kernel_of(a0, a1, a2, half))
            put_four(u, to + np.uint64(4) * step, step, kernel_of(b0, b1, b2, half))
            put_four(u, to + np.uint64(8) * step, step, kernel_of(c0, c1, c2, half))
            put_four(u, to + np.uint64(12) * step, step, kernel_of(d0, d1, d2, half))


@loop
def three_at(g, at, step):
    return load_half(g, at), load_half(g, at + step), load_half(g, at + np.uint64(2) * step)


@loop
def three_of(a, b, c, d, half):
    """G' of four numbers, of which the last has the sign that :func:`tiles_of_gradient` leaves out."""
    even = add_scaled(a - a, half, b + c)
    return a + even, add_scaled(a - a, half, b - c), even - d


@loop
def put_three(out, at, step, three, add):
    put(out, at, three[0], add)
    put(out, at + step, three[1], add)
    put(out, at + np.uint64(2) * step, three[2], add)


@loop
def out_of_sums(s, count, half_lanes, out, add):
    """G' s G of each position's sums, ``[16, count]`` as ``[9, count]``."""
    half, tap, down = s.dtype.type(0.5), np.uint64(count), np.uint64(4 * count)
    for k in range(0, count, half_lanes):
        at = np.uint64(k)
        a0, b0, c0 = three_of(*four_at(s, at, down), half)
        a1, b1, c1 = three_of(*four_at(s, at + tap, down), half)
        a2, b2, c2 = three_of(*four_at(s, at + np.uint64(2) * tap, down), half)
        a3, b3, c3 = three_of(*four_at(s, at + np.uint64(3) * tap, down), half)
        put_three(out, at, tap, three_of(a0, a1, a2, a3, half), add)
        put_three(out, at + np.uint64(3) * tap, tap, three_of(b0, b1, b2, b3, half), add)
        put_three(out, at + np.uint64(6) * tap, tap, three_of(c0, c1, c2, c3, half), add)
