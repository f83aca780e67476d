"""Between images and the tiles of Winograd's F(4x4, 3x3): see :mod:`mamlkit.engine.kernels_cpu.winograd`.

The matrices are those of Lavin and Gray, 2016 (arXiv:1509.09308), section 4.3::

    B' = 4  0 -5  0  1  0     G =  1/4    0     0      A' = 1  1  1  1  1  0
         0 -4 -4  1  1  0         -1/6  -1/6  -1/6          0  1 -1  2 -2  0
         0  4 -4 -1  1  0         -1/6   1/6  -1/6          0  1  1  4  4  0
         0 -2 -1  2  1  0         1/24  1/12   1/6          0  1 -1  8 -8  1
         0  2 -1 -2  1  0         1/24 -1/12   1/6
         0  4  0 -5  0  1           0     0     1

In B', G and A two rows after the first, and the two after these, differ in the sign of every other number. So
each is PAIRS times a matrix of what such rows share.
"""

__all__ = [
    "SEEN",
    "SIDE",
    "TOGETHER",
    "of_gradient",
    "of_images",
    "of_kernel",
    "places",
    "to_images",
    "to_kernel",
]

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mamlkit.engine.kernels_cpu.grids import Matrix, between, turned
from mamlkit.engine.kernels_cpu.loops import loop

Whole = NDArray[np.uint64]

SIDE = 4  # pixels of a tile's result
SEEN = SIDE + 2  # pixels that it sees
TOGETHER = 6  # tiles whose numbers of one position lie together: the rows of a product
ALL = np.uint64(0xFFFF)  # bits of rows and columns that are all there

PAIRS: Matrix = (
    (1, 0, 0, 0, 0, 0),
    (0, 1, 1, 0, 0, 0),
    (0, 1, -1, 0, 0, 0),
    (0, 0, 0, 1, 2, 0),
    (0, 0, 0, 1, -2, 0),
    (0, 0, 0, 0, 0, 1),
)
B_TURNED: Matrix = (
    (4, 0, -5, 0, 1, 0),
    (0, 0, -4, 0, 1, 0),
    (0, -4, 0, 1, 0, 0),
    (0, 0, -1, 0, 1, 0),
    (0, -1, 0, 1, 0, 0),
    (0, 4, 0, -5, 0, 1),
)
G: Matrix = (
    (1 / 4, 0, 0),
    (-1 / 6, 0, -1 / 6),
    (0, -1 / 6, 0),
    (1 / 24, 0, 1 / 6),
    (0, 1 / 24, 0),
    (0, 0, 1),
)
A: Matrix = ((1, 0, 0, 0), (1, 0, 1, 0), (0, 1, 0, 1), (1, 0, 4, 0), (0, 1, 0, 4), (0, 0, 0, 1))

_of_image = between(PAIRS, B_TURNED)
_of_gradient = between(PAIRS, A)
_of_kernel = between(PAIRS, G)
_to_image = between(turned(A), turned(PAIRS))
_to_kernel = between(turned(G), turned(PAIRS))


@lru_cache
def places(size: int, points: int) -> tuple[Whole, Whole]:
    """For each tile of square images the first pixel of its result, and which of the pixels that it sees are
    there: bits 0 to 5 for rows, 8 to 13 for columns; those of the result are the middle ones."""
    count = -(-size // SIDE)
    image, y, x = np.indices((points, count, count)).reshape(3, -1) * np.array([[1], [SIDE], [SIDE]])
    bits = np.zeros(image.shape, np.uint64)
    for first, at in ((0, y), (8, x)):
        for k in range(SEEN):
            there = (at + k > 0) & (at + k <= size)
            bits |= there.astype(np.uint64) << np.uint64(first + k)
    return ((image * size + y) * size + x).astype(np.uint64), bits


@loop
def _slot(tile, wide):
    """Where a tile of a block has its first number."""
    return np.uint64((tile // TOGETHER * SEEN * SEEN * TOGETHER + tile % TOGETHER) * wide)


@loop
def of_images(x, pixels, bits, size, channels, half, aside, v):
    """B' d B of each tile d of the images; ``aside`` as in :mod:`mamlkit.engine.kernels_cpu.grids`."""
    wide, row, step = np.uint64(channels), np.uint64(size * channels), np.uint64(TOGETHER * channels)
    for k in range(len(pixels)):
        at, to = (pixels[k] - np.uint64(size + 1)) * wide, _slot(k, channels)
        for _ in range(0, channels, half):
            _of_image(x, at, row, wide, bits[k], v, to, np.uint64(SEEN) * step, step, ALL, False, aside)
            at, to = at + np.uint64(half), to + np.uint64(half)


@loop
def of_gradient(y, pixels, bits, size, filters, half, aside, w):
    """A y A' of each four by four pixels y."""
    wide, row, step = np.uint64(filters), np.uint64(size * filters), np.uint64(TOGETHER * filters)
    for k in range(len(pixels)):
        at, to, there = pixels[k] * wide, _slot(k, filters), bits[k] >> np.uint64(1)
        for _ in range(0, filters, half):
            _of_gradient(y, at, row, wide, there, w, to, np.uint64(SEEN) * step, step, ALL, False, aside)
            at, to = at + np.uint64(half), to + np.uint64(half)


@loop
def to_images(m, pixels, bits, size, filters, half, aside, out, add):
    """A' m A of each tile's sums m, where the result has a pixel."""
    wide, row, step = np.uint64(filters), np.uint64(size * filters), np.uint64(TOGETHER * filters)
    for k in range(len(pixels)):
        at, to, there = _slot(k, filters), pixels[k] * wide, bits[k] >> np.uint64(1)
        for _ in range(0, filters, half):
            if add:
                _to_image(m, at, np.uint64(SEEN) * step, step, ALL, out, to, row, wide, there, True, aside)
            else:
                _to_image(m, at, np.uint64(SEEN) * step, step, ALL, out, to, row, wide, there, False, aside)
            at, to = at + np.uint64(half), to + np.uint64(half)


@loop
def of_kernel(g, count, half, aside, u):
    """G g G' of kernels in stripes, ``[stripes, 9, count]``, as ``[36, stripes, count]``."""
    tap, step = np.uint64(count), np.uint64(len(g) // 9)
    for start in range(0, len(g), 9 * count):
        for k in range(0, count, half):
            at, to = np.uint64(start + k), np.uint64(start // 9 + k)
            _of_kernel(
                g, at, np.uint64(3) * tap, tap, ALL, u, to, np.uint64(SEEN) * step, step, ALL, False, aside
            )


@loop
def to_kernel(s, count, half, aside, out, add):
    """G' s G of each position's sums, ``[36, count]`` as ``[9, count]``."""
    tap = np.uint64(count)
    for k in range(0, count, half):
        at = np.uint64(k)
        _to_kernel(s, at, np.uint64(SEEN) * tap, tap, ALL, out, at, np.uint64(3) * tap, tap, ALL, add, aside)
