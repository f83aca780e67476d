"""The losses of a task and their derivatives."""

__all__ = ["loss", "loss_tangent"]

import math

from mamlkit.engine.kernels_cpu.loops import loop


@loop
def loss(net, targets, scale, z, p, d):
    """The loss of a task's outputs z; in d its gradient in them, in p the probabilities of classes.

    Args:
        net: a :class:`mamlkit.engine.kernels_cpu.records.Network`.
        targets: ``[points, numbers]``.
        scale: what a sum over points is multiplied by.
        z, p, d: ``[points, room]``.
    """
    total, two, wide = 0.0, z.dtype.type(2), net.widths[-1]
    for i in range(len(z)):
        if net.labels:
            top, label, mass = z[i, 0], int(targets[i, 0]), 0.0
            for o in range(wide):
                top = max(top, z[i, o])
            for o in range(wide):
                p[i, o] = math.exp(z[i, o] - top)
                mass += p[i, o]
            total += math.log(mass) + top - z[i, label]
            for o in range(wide):
                p[i, o] /= mass
                d[i, o] = scale * p[i, o]
            d[i, label] -= scale
        else:
            for o in range(wide):
                error = z[i, o] - targets[i, o]
                total += error * error
                d[i, o] = two * scale * error
    return scale * total


@loop
def loss_tangent(net, scale, z_dot, p, d_dot):
    """In d_dot the derivative of the loss's gradient, where z_dot is that of the outputs."""
    two, wide = z_dot.dtype.type(2), net.widths[-1]
    for i in range(len(z_dot)):
        mean = z_dot.dtype.type(0)
        if net.labels:
            for o in range(wide):
                mean += p[i, o] * z_dot[i, o]
            for o in range(wide):
                d_dot[i, o] = scale * p[i, o] * (z_dot[i, o] - mean)
        else:
            for o in range(wide):
                d_dot[i, o] = two * scale * z_dot[i, o]
