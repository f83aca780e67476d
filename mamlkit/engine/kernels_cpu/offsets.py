"""Where a convolution finds its numbers in images with a border of zeros: a sum of two offsets each."""

__all__ = ["Offsets", "neighbours", "readers"]

from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mamlkit.engine.kernels_cpu.memory import LINE_BYTES
from mamlkit.models import Window

GROUP_BYTES = 256 << 10  # of images with a border that are read again and again: what the cache has room for

# a signed index may count from the end of an array, and every use of it would ask
Unsigned = NDArray[np.uint64]


class Offsets(NamedTuple):
    """What is added up for each pixel of the result, for images in groups.

    Args:
        border: zeros before each row and column of an image.
        side: pixels of a row with its borders.
        pitch: numbers from one pixel to the next.
        group: images that are given their borders at once.
        kinds: ``[kinds, 4]``, for each kind of pixel where its rows begin, how many an image has, where its
            taps begin and how many there are.
        rows: where each pixel begins to read.
        taps: what it reads from there.
        places: where its sum goes.
        order: of the nine weights of a kernel, where they are read the other way round; else empty.
    """

    border: int
    side: int
    pitch: int
    group: int
    kinds: NDArray[np.int64]
    rows: Unsigned
    taps: Unsigned
    places: Unsigned
    order: NDArray[np.int64]


@lru_cache
def neighbours(window: Window, points: int, filters: int, itemsize: int) -> Offsets:
    """What output pixels read of input pixels: their neighbourhoods.

    Args:
        window: of the convolution.
        points: images of a task.
        filters: numbers of an output pixel.
        itemsize: bytes of a number.
    """
    side = window.before + window.size + window.after
    pitch = _pitch(window.channels, itemsize)
    group = _group(points, side**2 * pitch * itemsize)
    i, a, b = np.indices((group, window.out, window.out)).reshape(3, -1)
    ky, kx, c = np.indices((3, 3, window.channels)).reshape(3, -1)
    rows = ((i * side + a * window.stride) * side + b * window.stride) * pitch
    taps = (ky * side + kx) * pitch + c
    kinds = np.array([[0, window.out**2, 0, len(taps)]])
    whole = _unsigned(rows), _unsigned(taps), _unsigned(np.arange(len(rows)) * filters)
    return Offsets(window.before, side, pitch, group, kinds, *whole, order=np.arange(0))


@lru_cache
def readers(window: Window, points: int, filters: int, channels: int, itemsize: int) -> Offsets:
    """What input pixels read of the output pixels in whose neighbourhoods they are.

    With a stride of two there are four kinds of input pixels, in even and odd rows and columns: they read one
    to four output pixels.

    Args:
        window, points, itemsize: as for :func:`neighbours`.
        filters: numbers of an output pixel, which here is read.
        channels: numbers of an input pixel, which here is the result.
    """
    stride = window.stride
    steps = [y + window.before - k for y in range(window.size) for k in range(3)]
    read = [step // stride for step in steps if step % stride == 0]
    border = max(0, -min(read))
    side = border + window.out + max(0, max(read) - window.out + 1)
    pitch = _pitch(filters, itemsize)
    group = _group(points, side**2 * pitch * itemsize)
    kinds: list[tuple[int, ...]] = []
    rows: list[NDArray[np.int64]] = []
    taps: list[NDArray[np.int64]] = []
    places, order = [], []
    for kind in product(range(stride), repeat=2):
        ys, xs = (np.arange((r - window.before) % stride, window.size, stride) for r in kind)
        ky, kx = (np.arange(r, 3, stride) for r in kind)
        i, y, x = (each.ravel() for each in np.meshgrid(np.arange(group), ys, xs, indexing="ij"))
        read_from = ky // stride, kx // stride, np.arange(filters)
        ty, tx, f = (each.ravel() for each in np.meshgrid(*read_from, indexing="ij"))
        a, b = ((each + window.before) // stride + border for each in (y, x))
        kinds.append((sum(map(len, rows)), len(ys) * len(xs), sum(map(len, taps)), len(f)))
        rows.append(((i * side + a) * side + b) * pitch)
        taps.append(f - (ty * side + tx) * pitch)  # negative ones too: what counts is the sum
        places.append(((i * window.size + y) * window.size + x) * channels)
        order.append((3 * ky[:, None] + kx).ravel())
    together = lambda parts: _unsigned(np.concatenate(parts))
    whole = together(rows), together(taps), together(places)
    return Offsets(border, side, pitch, group, np.array(kinds), *whole, order=np.concatenate(order))


def _pitch(numbers: int, itemsize: int) -> int:
    """Numbers of a pixel, and a line's more if pixels would else lie a power of two apart.

    Then they would drive each other out of the cache, which finds a line's place by an address's last bits.
    """
    return numbers + (LINE_BYTES // itemsize if numbers * itemsize % (4 * LINE_BYTES) == 0 else 0)


def _group(points: int, image: int) -> int:
    return max(1, min(points, GROUP_BYTES // image))


def _unsigned(offsets: NDArray[np.int64]) -> Unsigned:
    return offsets.astype(np.uint64)
