"""The meta-gradient of a network of plain layers: the whole adjoint recursion of a task in compiled loops.

The passes are those of :mod:`mamlkit.engine.passes`, the recursion is that of
:mod:`mamlkit.engine.meta_batch`. Here one call does them all for many tasks, and in memory that every task
uses again. Weights are ``[inputs, outputs]``, so that a product adds up whole rows of them.
"""

__all__ = ["Network", "meta_gradients", "predictions"]

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mamlkit.engine.kernels_cpu.loops import loop

Flags = NDArray[np.bool_]


class Network(NamedTuple):
    """What the loops know of a network, layer by layer, and of its loss and its update.

    Args:
        widths: of the inputs and of each layer's outputs, ``[layers + 1]``.
        shifts: whether a layer normalises and adds a shift; else it adds a bias.
        relus: whether a ReLU follows.
        weights_move, biases_move: whether the inner update moves weights, and biases.
        labels: whether the loss is a cross-entropy, whose targets are class numbers; else squares are added.
        inner_lr: alpha.
        eps: what normalisation adds to a variance.
    """

    widths: NDArray[np.int64]
    shifts: Flags
    relus: Flags
    weights_move: Flags
    biases_move: Flags
    labels: bool
    inner_lr: float
    eps: float


class Weights(NamedTuple):
    """By layer, each with a leading axis of inner steps.

    Args:
        w, b: weights ``[inputs, outputs]``; biases or shifts ``[1, outputs]``.
        turned: weights ``[outputs, inputs]``, which the first layer never needs.
    """

    w: Any
    b: Any
    turned: Any


class Pass(NamedTuple):
    """What a pass leaves to those that follow: by layer, each with leading axes of inner steps and points.

    Args:
        y: the examples, and each layer's outputs.
        d: the gradient of the loss in what a layer's product gives.
        n: the products, normalised.
        r, nd, more: one row each: one over a standard deviation, the mean of n times the gradient in it, and
            memory.
        p: the last layer's probabilities of the classes.
    """

    y: Any
    d: Any
    n: Any
    r: Any
    nd: Any
    more: Any
    p: Any


@loop
def _weights(net, steps, like):
    layers, widths = range(len(net.relus)), net.widths
    return Weights(
        [np.empty((steps, widths[layer], widths[layer + 1]), like.dtype) for layer in layers],
        [np.empty((steps, 1, widths[layer + 1]), like.dtype) for layer in layers],
        [np.empty((steps, widths[layer + 1], widths[layer] if layer else 0), like.dtype) for layer in layers],
    )


@loop
def _by_layer(widths, steps, rows, like):
    return [np.empty((steps, rows, width), like.dtype) for width in widths]


@loop
def _pass(net, steps, points, like):
    outputs = net.widths[1:]
    return Pass(
        _by_layer(net.widths, steps, points, like),
        _by_layer(outputs, steps, points, like),
        _by_layer(outputs, steps, points, like),
        _by_layer(outputs, steps, 1, like),
        _by_layer(outputs, steps, 1, like),
        _by_layer(outputs, steps, 1, like),
        np.empty((steps, points, outputs[-1]), like.dtype),
    )


@loop
def _add_product(a, b, scale, out):
    """out + scale a b, in the memory of out, with four columns of a at a time."""
    rows, inner = a.shape
    if out.shape[1] < 4:  # too short for loops along it
        for i in range(rows):
            for o in range(out.shape[1]):
                total = out.dtype.type(0)
                for k in range(inner):
                    total += a[i, k] * b[k, o]
                out[i, o] += scale * total
        return
    for k in range(0, inner - 3, 4):
        for i in range(rows):
            a0, a1, a2, a3 = scale * a[i, k], scale * a[i, k + 1], scale * a[i, k + 2], scale * a[i, k + 3]
            for o in range(out.shape[1]):
                out[i, o] += a0 * b[k, o] + a1 * b[k + 1, o] + a2 * b[k + 2, o] + a3 * b[k + 3, o]
    for k in range(inner - inner % 4, inner):
        for i in range(rows):
            a0 = scale * a[i, k]
            for o in range(out.shape[1]):
                out[i, o] += a0 * b[k, o]


@loop
def _fill(rows, out):
    """Each row of out becomes one of rows, or their only one."""
    more = len(rows) > 1
    for i in range(out.shape[0]):
        j = i if more else 0
        for o in range(out.shape[1]):
            out[i, o] = rows[j, o]


@loop
def _zero(out):
    for i in range(out.shape[0]):
        for o in range(out.shape[1]):
            out[i, o] = 0


@loop
def _add_sum(d, scale, out):
    for i in range(d.shape[0]):
        for o in range(d.shape[1]):
            out[0, o] += scale * d[i, o]


@loop
def _turn(w, turned):
    for i in range(w.shape[0]):
        for o in range(w.shape[1]):
            turned[o, i] = w[i, o]


@loop
def _relu(y):
    zero = y.dtype.type(0)
    for i in range(y.shape[0]):
        for o in range(y.shape[1]):
            y[i, o] = zero if y[i, o] <= zero else y[i, o]  # so that NaN stays NaN


@loop
def _where_active(y, d):
    """The derivative of a ReLU with output y, in the memory of d."""
    zero = d.dtype.type(0)
    for i in range(d.shape[0]):
        for o in range(d.shape[1]):
            d[i, o] = zero if y[i, o] <= zero else d[i, o]


@loop
def _mean_product(a, b, out):
    share = out.dtype.type(1 / len(a))
    _zero(out)
    for i in range(a.shape[0]):
        for o in range(a.shape[1]):
            out[0, o] += share * a[i, o] * b[i, o]


@loop
def _subtract_mean(a, mean):
    _zero(mean)
    _add_sum(a, mean.dtype.type(1 / len(a)), mean)
    for i in range(a.shape[0]):
        for o in range(a.shape[1]):
            a[i, o] -= mean[0, o]


@loop
def _normalise(z, shift, eps, n, r):
    """Batch normalisation: n, r = 1 / sqrt(variance + eps), and in the memory of z n and a shift."""
    _subtract_mean(z, r)
    _mean_product(z, z, r)
    for o in range(z.shape[1]):
        r[0, o] = 1 / math.sqrt(r[0, o] + eps)
    for i in range(z.shape[0]):
        for o in range(z.shape[1]):
            n[i, o] = r[0, o] * z[i, o]
            z[i, o] = n[i, o] + shift[0, o]


@loop
def _project(d, n, r, nd):
    """What normalisation makes of a derivative, backward or forward alike, in the memory of d."""
    _subtract_mean(d, nd)
    _mean_product(n, d, nd)
    for i in range(d.shape[0]):
        for o in range(d.shape[1]):
            d[i, o] = r[0, o] * (d[i, o] - n[i, o] * nd[0, o])


@loop
def _subtract_turned(r, n_dot, nd, n, dzz, dz, nz, d_dot):
    for i in range(d_dot.shape[0]):
        for o in range(d_dot.shape[1]):
            d_dot[i, o] -= r[0, o] * (n_dot[i, o] * nd[0, o] + n[i, o] * dzz[0, o] + dz[i, o] * nz[0, o])


@loop
def _forward(net, weights, k, x, run, j):
    """The outputs of examples x with the weights of step k: pass j of run."""
    _fill(x, run.y[0][j])
    for layer in range(len(net.relus)):
        y, b = run.y[layer + 1][j], weights.b[layer][k]
        if net.shifts[layer]:
            _zero(y)
        else:
            _fill(b, y)
        _add_product(run.y[layer][j], weights.w[layer][k], b.dtype.type(1), y)
        if net.shifts[layer]:
            _normalise(y, b, net.eps, run.n[layer][j], run.r[layer][j])
        if net.relus[layer]:
            _relu(y)


@loop
def _backward(net, weights, k, run, j, scale, everything, out, m):
    """Add the scaled gradient to step m of out: in everything, or in what the inner update moves."""
    for layer in range(len(net.relus) - 1, -1, -1):
        d = run.d[layer][j]
        if net.relus[layer]:
            _where_active(run.y[layer + 1][j], d)
        if everything or net.biases_move[layer]:
            _add_sum(d, scale, out.b[layer][m])
        if net.shifts[layer]:
            _project(d, run.n[layer][j], run.r[layer][j], run.nd[layer][j])
        if layer:
            _zero(run.d[layer - 1][j])
            _turn(weights.w[layer][k], weights.turned[layer][k])
            _add_product(d, weights.turned[layer][k], d.dtype.type(1), run.d[layer - 1][j])
        if everything or net.weights_move[layer]:
            _add_product(run.y[layer][j].T, d, scale, out.w[layer][m])


@loop
def _tangent(net, weights, k, run, v, dot):
    """The derivative of pass k along v, with zeros for what does not move."""
    for layer in range(len(net.relus)):
        z, one = dot.y[layer + 1][0], v.b[layer].dtype.type(1)
        if net.biases_move[layer]:
            _fill(v.b[layer][0], z)
        else:
            _zero(z)
        if net.weights_move[layer]:
            _add_product(run.y[layer][k], v.w[layer][0], one, z)
        if layer:
            _add_product(dot.y[layer][0], weights.w[layer][k], one, z)
        if net.shifts[layer]:
            _mean_product(run.d[layer][k], z, dot.more[layer][0])
            _project(z, run.n[layer][k], run.r[layer][k], dot.nd[layer][0])
            _fill(z, dot.n[layer][0])
        if net.relus[layer]:
            _where_active(run.y[layer + 1][k], z)


@loop
def _tangent_backward(net, weights, k, run, v, dot, scale):
    """Add to v its scaled product with the Hessian at step k: the derivative of :func:`_backward`."""
    for layer in range(len(net.relus) - 1, -1, -1):
        d, d_dot, one = run.d[layer][k], dot.d[layer][0], v.b[layer].dtype.type(1)
        if net.relus[layer]:
            _where_active(run.y[layer + 1][k], d_dot)
        _add_sum(d_dot, scale, v.b[layer][0])
        if net.shifts[layer]:
            n, r = run.n[layer][k], run.r[layer][k]
            _project(d_dot, n, r, dot.r[layer][0])
            _subtract_turned(
                r, dot.n[layer][0], run.nd[layer][k], n, dot.more[layer][0], d, dot.nd[layer][0], d_dot
            )
        if layer:
            _zero(dot.d[layer - 1][0])
            _add_product(d_dot, weights.turned[layer][k], one, dot.d[layer - 1][0])
            if net.weights_move[layer]:
                _turn(v.w[layer][0], v.turned[layer][0])
                _add_product(d, v.turned[layer][0], one, dot.d[layer - 1][0])
            _add_product(dot.y[layer][0].T, d, scale, v.w[layer][0])
        _add_product(run.y[layer][k].T, d_dot, scale, v.w[layer][0])


@loop
def _loss(net, z, targets, scale, p, d):
    """The loss of outputs z, and its gradient in them."""
    total, two = 0.0, z.dtype.type(2)
    for i in range(z.shape[0]):
        if net.labels:
            top, label, mass = z[i, 0], int(targets[i, 0]), 0.0
            for o in range(z.shape[1]):
                top = max(top, z[i, o])
            for o in range(z.shape[1]):
                p[i, o] = math.exp(z[i, o] - top)
                mass += p[i, o]
            total += math.log(mass) + top - z[i, label]
            for o in range(z.shape[1]):
                p[i, o] /= mass
                d[i, o] = scale * p[i, o]
            d[i, label] -= scale
        else:
            for o in range(z.shape[1]):
                error = z[i, o] - targets[i, o]
                total += error * error
                d[i, o] = two * scale * error
    return scale * total


@loop
def _loss_tangent(net, z_dot, scale, p, d_dot):
    """The derivative of the loss's gradient along z_dot."""
    two = z_dot.dtype.type(2)
    for i in range(z_dot.shape[0]):
        mean = z_dot.dtype.type(0)
        if net.labels:
            for o in range(z_dot.shape[1]):
                mean += p[i, o] * z_dot[i, o]
            for o in range(z_dot.shape[1]):
                d_dot[i, o] = scale * p[i, o] * (z_dot[i, o] - mean)
        else:
            for o in range(z_dot.shape[1]):
                d_dot[i, o] = two * scale * z_dot[i, o]


@loop
def _unpack(theta, weights):
    start = 0
    for layer in range(len(weights.w)):
        for part in (weights.w[layer][0], weights.b[layer][0]):
            for i in range(part.shape[0]):
                for o in range(part.shape[1]):
                    part[i, o] = theta[start + o]
                start += part.shape[1]


@loop
def _add_packed(weights, out):
    start = 0
    for layer in range(len(weights.w)):
        for part in (weights.w[layer][0], weights.b[layer][0]):
            for i in range(part.shape[0]):
                for o in range(part.shape[1]):
                    out[start + o] += part[i, o]
                start += part.shape[1]


@loop
def _inner_step(net, weights, k, examples, scale, run, j, to):
    """Pass j over the support with the weights of step k, and its gradient into those of step ``to``."""
    (x, targets), last = examples, len(net.relus)
    _forward(net, weights, k, x, run, j)
    _loss(net, run.y[last][j], targets, scale, run.p[j], run.d[last - 1][j])
    if to != k:
        for layer in range(last):
            _fill(weights.w[layer][k], weights.w[layer][to])
            _fill(weights.b[layer][k], weights.b[layer][to])
    _backward(net, weights, k, run, j, run.p.dtype.type(-net.inner_lr), False, weights, to)


@loop
def meta_gradients(net, theta, support, query, scales, steps, first_order, groups, size, sums, losses):
    """Sums of the gradients of tasks in groups, and their losses.

    Args:
        net: a :class:`Network`.
        theta: of each layer weights, then biases or shifts, in one vector.
        support, query: inputs ``[tasks, points, features]`` and targets ``[tasks, points, numbers]``.
        scales: what a sum over points is multiplied by, in the loss of the support and of the query.
        steps: of the inner update.
        first_order: whether its gradient counts as a constant.
        groups: the first and the last but one to be done.
        size: tasks of a group.
        sums: ``[groups, numbers of theta]``, written.
        losses: ``[tasks]``, written.
    """
    (x, targets), (query_x, query_targets), type = support, query, theta.dtype.type
    inner, outer, step, one = type(scales[0]), type(scales[1]), type(-net.inner_lr), type(1)
    weights, v = _weights(net, steps + 1, theta), _weights(net, 1, theta)
    run, dot = _pass(net, steps, x.shape[1], theta), _pass(net, 1, x.shape[1], theta)
    end, last = _pass(net, 1, query_x.shape[1], theta), len(net.relus)
    _unpack(theta, weights)
    for group in range(groups[0], groups[1]):
        for i in range(len(theta)):
            sums[group, i] = 0
        for t in range(group * size, min((group + 1) * size, len(losses))):
            for k in range(steps):
                _inner_step(net, weights, k, (x[t], targets[t]), inner, run, k, k + 1)
            _forward(net, weights, steps, query_x[t], end, 0)
            losses[t] = _loss(net, end.y[last][0], query_targets[t], outer, end.p[0], end.d[last - 1][0])
            for layer in range(last):
                _zero(v.w[layer][0])
                _zero(v.b[layer][0])
            _backward(net, weights, steps, end, 0, one, True, v, 0)
            for k in range(-1 if first_order else steps - 1, -1, -1):
                _tangent(net, weights, k, run, v, dot)
                _loss_tangent(net, dot.y[last][0], inner, run.p[k], dot.d[last - 1][0])
                _tangent_backward(net, weights, k, run, v, dot, step)
            _add_packed(v, sums[group])


@loop
def predictions(net, theta, support, x, scale, steps, tasks, outputs):
    """Outputs for the inputs x after each inner step on the support.

    Args:
        net, theta, support, steps: as for :func:`meta_gradients`.
        x: the query's inputs.
        scale: of the support's loss.
        tasks: the first and the last but one to be done.
        outputs: ``[steps + 1, tasks, points, outputs]``, written.
    """
    (inputs, targets), scale, last = support, theta.dtype.type(scale), len(net.relus)
    weights = _weights(net, 1, theta)
    run, end = _pass(net, 1, inputs.shape[1], theta), _pass(net, 1, x.shape[1], theta)
    for t in range(tasks[0], tasks[1]):
        _unpack(theta, weights)
        for k in range(steps + 1):
            _forward(net, weights, 0, x[t], end, 0)
            _fill(end.y[last][0], outputs[k, t])
            if k < steps:
                _inner_step(net, weights, 0, (inputs[t], targets[t]), scale, run, 0, 0)
