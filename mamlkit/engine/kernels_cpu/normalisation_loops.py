"""The loops of :mod:`mamlkit.engine.kernels_cpu.normalisation`, a vector of channels at a time."""

__all__ = ["OFF", "normalise", "normalise_backward", "normalise_tangent", "normalise_tangent_backward"]

import numpy as np

from mamlkit.engine.kernels_cpu.loops import loop
from mamlkit.engine.kernels_cpu.vectors import (
    bytes_like,
    choose,
    load,
    load_bytes,
    same,
    store,
    zero,
)

OFF = 255  # in ``where``: this unit is not active

# Sums run over a row of pixels in the tensors' own precision and over rows in float64: half a million pixels
# of a Mini-ImageNet query set would cost float32 three digits. ``k`` counts the p * p pixels of a pooling
# window; without pooling p = 1, and every pixel is a window of its own. Nothing writes n or its derivative
# down: a look into memory takes longer than to compute them again from z, the mean and r.


@loop
def normalise(z, shift, eps, p, first, lanes, known, where, y):
    tasks, points, height, width, channels = z.shape
    step, count = np.uint64(channels), first * height * width
    for t in range(tasks):
        images, outputs, places = z[t].reshape(-1), y[t].reshape(-1), where[t].reshape(-1)
        # Deviations from the mean of the first image, which is at most sqrt(first) standard deviations away.
        centre = np.zeros(channels, z.dtype)
        total = _moments(images, centre, height, width, lanes)
        centre[:] = total[0] / (height * width)
        total = _moments(images, centre, first * height, width, lanes) / count
        known[t, 0] = centre + total[0]
        known[t, 1] = 1 / np.sqrt(np.maximum(total[1] - total[0] ** 2, 0) + eps)
        for i in range(points):
            for a in range(height // p):
                for f in range(0, channels, lanes):
                    mean, scale = load(known[t, 0], np.uint64(f)), load(known[t, 1], np.uint64(f))
                    up = load(shift, np.uint64(f))
                    start = np.uint64((i * height + p * a) * width * channels + f)
                    to = np.uint64((i * (height // p) + a) * (width // p) * channels + f)
                    for _ in range(width // p):
                        best, place = load(images, start), bytes_like(0, mean)
                        for u in range(p):
                            for v in range(p):
                                value = load(images, start + np.uint64(u * width + v) * step)
                                better = value > best
                                best = choose(better, value, best)
                                place = choose(better, bytes_like(u * p + v, mean), place)
                        value = (best - mean) * scale + up
                        off = value <= zero(z)  # so that NaN stays NaN
                        store(outputs, to, choose(off, zero(z), value))
                        store(places, to, choose(off, bytes_like(OFF, mean), place))
                        start += np.uint64(p) * step
                        to += step


@loop
def _moments(images, centre, height, width, lanes):
    """Sums over pixels of the deviation from ``centre`` and of its square: ``[2, channels]``."""
    channels = len(centre)
    total, rows = np.zeros((2, channels)), np.empty((2, channels), images.dtype)
    for a in range(height):
        for f in range(0, channels, lanes):
            at, middle = np.uint64(a * width * channels + f), load(centre, np.uint64(f))
            s, squares = zero(images), zero(images)
            for _ in range(width):
                value = load(images, at) - middle
                s, squares = s + value, squares + value * value
                at += np.uint64(channels)
            store(rows[0], np.uint64(f), s)
            store(rows[1], np.uint64(f), squares)
        total += rows
    return total


@loop
def _sums_of_active(d, y, where, shift, width, lanes):
    """Sums over active units of d and of n d, ``[2, channels]``.

    An active output y is n at the maximum of its window, plus the shift: no look at n is needed.
    """
    channels = len(shift)
    total, rows = np.zeros((2, channels)), np.empty((2, channels), d.dtype)
    for first in range(0, len(d), width * channels):
        for f in range(0, channels, lanes):
            at, up = np.uint64(first + f), load(shift, np.uint64(f))
            s, along = zero(d), zero(d)
            for _ in range(width):
                value = choose(same(load_bytes(where, at, up), OFF), zero(d), load(d, at))
                s, along = s + value, along + value * (load(y, at) - up)
                at += np.uint64(channels)
            store(rows[0], np.uint64(f), s)
            store(rows[1], np.uint64(f), along)
        total += rows
    return total


@loop
def _spread(d, where, first, width, p, lanes, scale, dz, start):
    """Add a row of windows' ``scale`` d to the pixels where the maxima were."""
    step, channels = np.uint64(len(scale)), len(scale)
    for f in range(0, channels, lanes):
        by, at = load(scale, np.uint64(f)), np.uint64(first * channels + f)
        to = np.uint64(start * channels + f)
        for _ in range(width // p):
            value, place = by * load(d, at), load_bytes(where, at, by)
            for u in range(p):
                for v in range(p):
                    pixel = to + np.uint64(u * width + v) * step
                    more = choose(same(place, u * p + v), value, zero(d))
                    store(dz, pixel, load(dz, pixel) + more)
            at += step
            to += np.uint64(p) * step


@loop
def normalise_backward(d, y, z, known, where, shift, p, lanes, dz, sum_d, sum_nd):
    tasks, points, height, width, channels = z.shape
    for t in range(tasks):
        images, target = z[t].reshape(-1), dz[t].reshape(-1)
        values, places, mean, scale = d[t].reshape(-1), where[t].reshape(-1), known[t, 0], known[t, 1]
        total = _sums_of_active(values, y[t].reshape(-1), places, shift, width // p, lanes)
        sum_d[t], sum_nd[t] = total[0], total[1]
        total *= -scale / (points * height * width)
        c0, c1 = total[0].astype(z.dtype), (total[1] * scale).astype(z.dtype)
        for i in range(points):
            for a in range(0, height, p):  # rows of one window, while they are in the cache
                first, rows = i * height + a, min(p, height - a)
                for f in range(0, channels, lanes):
                    at, centre = np.uint64(first * width * channels + f), load(mean, np.uint64(f))
                    k0, k1 = load(c0, np.uint64(f)), load(c1, np.uint64(f))
                    for _ in range(rows * width):
                        store(target, at, k0 + k1 * (load(images, at) - centre))
                        at += np.uint64(channels)
                if rows == p:
                    window = (i * (height // p) + a // p) * (width // p)
                    _spread(values, places, window, width, p, lanes, scale, target, first * width)


@loop
def normalise_tangent(z_dot, dz, y, z, known, where, shift, p, lanes, means, sum_dzz, y_dot):
    tasks, points, height, width, channels = z.shape
    step, rows = np.uint64(channels), np.empty((3, channels), z.dtype)
    for t in range(tasks):
        images, moved, back = z[t].reshape(-1), z_dot[t].reshape(-1), dz[t].reshape(-1)
        mean, scale, total = known[t, 0], known[t, 1], np.zeros((3, channels))
        for a in range(points * height):
            for f in range(0, channels, lanes):
                at, centre = np.uint64(a * width * channels + f), load(mean, np.uint64(f))
                s, along, with_dz = zero(z), zero(z), zero(z)
                for _ in range(width):
                    value = load(moved, at)
                    s, along = s + value, along + value * (load(images, at) - centre)
                    with_dz = with_dz + value * load(back, at)
                    at += step
                store(rows[0], np.uint64(f), s)
                store(rows[1], np.uint64(f), along)
                store(rows[2], np.uint64(f), with_dz)
            total += rows
        sum_dzz[t] = total[2]
        total /= points * height * width
        means[t, 0], means[t, 1] = total[0], total[1] * scale
        c1 = -scale * means[t, 1]
        outputs, places, out = y[t].reshape(-1), where[t].reshape(-1), y_dot[t].reshape(-1)
        for i in range(points):
            for a in range(height // p):
                for f in range(0, channels, lanes):
                    centre, by = load(means[t, 0], np.uint64(f)), load(scale, np.uint64(f))
                    k1, up = load(c1, np.uint64(f)), load(shift, np.uint64(f))
                    start = np.uint64((i * height + p * a) * width * channels + f)
                    to = np.uint64((i * (height // p) + a) * (width // p) * channels + f)
                    for _ in range(width // p):
                        value, place = load(moved, start), load_bytes(places, to, by)
                        for u in range(p):
                            for v in range(p):
                                other = load(moved, start + np.uint64(u * width + v) * step)
                                value = choose(same(place, u * p + v), other, value)
                        value = by * (value - centre) + k1 * (load(outputs, to) - up)
                        store(out, to, choose(same(place, OFF), zero(z), value))
                        start += np.uint64(p) * step
                        to += step


@loop
def normalise_tangent_backward(
    d_dot, y, z, z_dot, dz, known, sum_nd, means, sum_dzz, where, shift, p, lanes, dz_dot, sum_d_dot
):
    tasks, points, height, width, channels = z.shape
    pixels = points * height * width
    for t in range(tasks):
        images, moved, back = z[t].reshape(-1), z_dot[t].reshape(-1), dz[t].reshape(-1)
        values, places, target = d_dot[t].reshape(-1), where[t].reshape(-1), dz_dot[t].reshape(-1)
        mean, scale, mean_dot = known[t, 0], known[t, 1], means[t, 0]
        total = _sums_of_active(values, y[t].reshape(-1), places, shift, width // p, lanes)
        sum_d_dot[t] = total[0]
        # The sum of d n_dot is that of dz z_dot, since n_dot and dz are one symmetric map of z_dot and d.
        total[1] += sum_dzz[t]
        total *= -scale / pixels
        turned = -scale * scale * sum_nd[t] / pixels
        c0 = total[0].astype(z.dtype)
        c1 = (scale * (total[1] - turned * means[t, 1])).astype(z.dtype)
        c2, c3 = -scale * means[t, 1], turned.astype(z.dtype)
        for i in range(points):
            for a in range(0, height, p):
                first, rows = i * height + a, min(p, height - a)
                for f in range(0, channels, lanes):
                    at, centre = np.uint64(first * width * channels + f), load(mean, np.uint64(f))
                    k0, k1, k2 = load(c0, np.uint64(f)), load(c1, np.uint64(f)), load(c2, np.uint64(f))
                    k3, centre_dot = load(c3, np.uint64(f)), load(mean_dot, np.uint64(f))
                    for _ in range(rows * width):
                        value = k0 + k1 * (load(images, at) - centre)
                        value = value + k2 * load(back, at) + k3 * (load(moved, at) - centre_dot)
                        store(target, at, value)
                        at += np.uint64(channels)
                if rows == p:
                    window = (i * (height // p) + a // p) * (width // p)
                    _spread(values, places, window, width, p, lanes, scale, target, first * width)
