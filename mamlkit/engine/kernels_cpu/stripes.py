"""Matrices in stripes as wide as a vector, ``[stripes, rows, lanes]``: a product reads each from beginning to
end."""

__all__ = ["stripes", "turned_stripes"]

import numpy as np

from mamlkit.engine.kernels_cpu.loops import loop


@loop
def stripes(matrix, b):
    """``[rows, columns]`` as stripes b."""
    for i in range(b.shape[0]):
        for k in range(matrix.shape[0]):
            row, target = matrix[k, i * b.shape[2] : (i + 1) * b.shape[2]], b[i, k]
            for c in range(np.uint64(b.shape[2])):
                target[c] = row[c]


@loop
def turned_stripes(matrix, order, b):
    """``[taps * channels, filters]`` as stripes of ``[taps * filters, channels]``, taps in another order."""
    channels, filters, lanes = matrix.shape[0] // 9, matrix.shape[1], b.shape[2]
    for k in range(len(order)):
        for c in range(channels):
            row, stripe = matrix[order[k] * channels + c], b[c // lanes].reshape(-1)
            at = np.uint64(k * filters * lanes + c % lanes)
            for f in range(np.uint64(filters)):
                stripe[at + f * np.uint64(lanes)] = row[f]
