"""Outer updates of a network of plain layers, one after another in one call: meta-gradient, clip and Adam.

Of a small network the calls of an update take longer than what they compute.
"""

__all__ = ["updates"]

import math

from mamlkit.engine.kernels_cpu import one_step, recursion
from mamlkit.engine.kernels_cpu.loops import loop


@loop
def updates(
    net, theta, moments, support, query, scales, steps, first_order, size, adam, memory, sums, losses
):
    """Move theta and the moments by as many updates as there are losses.

    Args:
        net, scales, steps, first_order, size, memory: as for
            :func:`mamlkit.engine.kernels_cpu.recursion.meta_gradients`; no steps where tasks make one
            together.
        theta: all parameters in a row, written.
        moments: the first and the second, ``[2, parameters]``, written.
        support, query: inputs ``[updates, tasks, points, features]`` and targets.
        adam: updates done before, beta, beta1, beta2, epsilon, and the bound of a derivative (infinite for
            none).
        sums: ``[groups, parameters]``, memory.
        losses: ``[updates, tasks]``, written.
    """
    (x, targets), (query_x, query_targets) = support, query
    done, lr, beta1, beta2, eps, bound = adam
    type, (first, second) = theta.dtype.type, moments
    clip, decay, rest, fresh = type(bound), type(beta2), type(1 - beta1), type(1 - beta2)
    for i in range(len(losses)):
        given = (x[i], targets[i]), (query_x[i], query_targets[i]), scales
        where = (0, len(sums)), size, memory, sums, losses[i]
        if steps is None:  # known when this is compiled, so that the other one is not
            one_step.meta_gradients(net, theta, *given, first_order, *where)
        else:
            recursion.meta_gradients(net, theta, *given, steps, first_order, *where)
        done += 1
        step = type(-lr / (1 - beta1**done))
        root, count = type(math.sqrt(1 - beta2**done)), type(losses.shape[1])
        for k in range(len(theta)):
            gradient = type(0)
            for group in range(len(sums)):
                gradient += sums[group, k]
            gradient /= count
            gradient = max(min(gradient, clip), -clip) if gradient == gradient else gradient  # NaN stays
            first[k] += rest * (gradient - first[k])
            second[k] = decay * second[k] + fresh * gradient * gradient
            theta[k] += step * first[k] / (math.sqrt(second[k]) / root + type(eps))
