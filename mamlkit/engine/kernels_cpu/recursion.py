"""The meta-gradient of a network of plain layers: the whole adjoint recursion of a task in compiled loops.

The passes are those of :mod:`mamlkit.engine.passes`, the recursion is that of
:mod:`mamlkit.engine.meta_batch`. Here one call does them all for many tasks, and in memory that every task
uses again. Weights are ``[inputs, outputs]``, so that a product adds up whole rows of them.
"""

__all__ = ["KINDS", "ROWS", "Network", "meta_gradients", "numbers", "predictions", "room"]

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mamlkit.engine.kernels_cpu.loops import loop
from mamlkit.engine.kernels_cpu.matrices import (
    add_product,
    add_sum,
    clear,
    copy,
    fill,
    mean_product,
    normalise,
    project,
    relu,
    room,
    subtract_turned,
    turn,
    where_active,
)
from mamlkit.engine.kernels_cpu.views import line, matrix, uncounted

Flags = NDArray[np.bool_]
Places = NDArray[np.int64]

# What a record of parameters has of each layer: weights ``[inputs, outputs]``; biases or shifts ``[1,
# outputs]``. Another has the weights turned, ``[outputs, inputs]``, which the first layer never needs.
W, B = range(2)
# What a record of a pass has of each layer, ``[points, outputs]`` or one row of them, for those that follow:
# outputs, before which the first layer's inputs stand; the gradient of the loss in what the layer's product
# gives; the products, normalised; one over a standard deviation; the mean of N times the gradient in it;
# memory; and the classes' probabilities, of the last layer only.
KINDS = Y, D, N, R, ND, MORE, P = range(7)
ROWS = R, ND, MORE


class Network(NamedTuple):
    """What the loops know of a network, layer by layer, of its loss and its update, and of their memory.

    Args:
        widths: of the inputs and of each layer's outputs, ``[layers + 1]``.
        shifts: whether a layer normalises and adds a shift; else it adds a bias.
        relus: whether a ReLU follows.
        weights_move, biases_move: whether the inner update moves weights, and biases.
        labels: whether the loss is a cross-entropy, whose targets are class numbers; else squares are added.
        inner_lr: alpha.
        eps: what normalisation adds to a variance.
        parameters, turned, support, query: where a matrix lies in a record of parameters, of turned weights,
            and of passes over a support and over a query: ``[kinds, layers + 1, 3]``, its start, rows and
            columns.
        sizes: of those four records.
    """

    widths: NDArray[np.int64]
    shifts: Flags
    relus: Flags
    weights_move: Flags
    biases_move: Flags
    labels: bool
    inner_lr: float
    eps: float
    parameters: Places
    turned: Places
    support: Places
    query: Places
    sizes: tuple[int, int, int, int]


class Record(NamedTuple):
    """Numbers, and where the matrices lie among them."""

    numbers: Any
    places: Any


@loop
def _at(record, kind, layer):
    """A matrix of a record."""
    places = record.places
    return matrix(record.numbers, places[kind, layer, 0], places[kind, layer, 1], places[kind, layer, 2])


@loop
def _forward(net, weights, x, run):
    """The outputs of examples x."""
    fill(x, _at(run, Y, 0))
    for layer in range(len(net.relus)):
        y, b = _at(run, Y, layer + 1), _at(weights, B, layer)
        if net.shifts[layer]:
            clear(y)
        else:
            fill(b, y)
        add_product(_at(run, Y, layer), _at(weights, W, layer), net.widths[layer], y.dtype.type(1), y)
        if net.shifts[layer]:
            normalise(y, b, net.eps, _at(run, N, layer), _at(run, R, layer))
        if net.relus[layer]:
            relu(y)


@loop
def _turn(net, weights, turned):
    for layer in range(1, len(net.relus)):
        turn(_at(weights, W, layer), _at(turned, W, layer))


@loop
def _backward(net, turned, run, scale, everything, out):
    """Add the scaled gradient to out: in everything, or in what the inner update moves."""
    for layer in range(len(net.relus) - 1, -1, -1):
        d = _at(run, D, layer)
        if net.relus[layer]:
            where_active(_at(run, Y, layer + 1), d)
        if everything or net.biases_move[layer]:
            add_sum(d, scale, _at(out, B, layer))
        if net.shifts[layer]:
            project(d, _at(run, N, layer), _at(run, R, layer), _at(run, ND, layer))
        if layer:
            before, back = _at(run, D, layer - 1), _at(turned, W, layer)
            clear(before)
            add_product(d, back, net.widths[layer + 1], d.dtype.type(1), before)
        if everything or net.weights_move[layer]:
            add_product(_at(run, Y, layer).T, d, len(d), scale, _at(out, W, layer))


@loop
def _tangent(net, weights, run, v, dot):
    """The derivative of a pass along v, with zeros for what does not move."""
    for layer in range(len(net.relus)):
        z, one = _at(dot, Y, layer + 1), v.numbers.dtype.type(1)
        if net.biases_move[layer]:
            fill(_at(v, B, layer), z)
        else:
            clear(z)
        if net.weights_move[layer]:
            add_product(_at(run, Y, layer), _at(v, W, layer), net.widths[layer], one, z)
        if layer:
            add_product(_at(dot, Y, layer), _at(weights, W, layer), net.widths[layer], one, z)
        if net.shifts[layer]:
            mean_product(_at(run, D, layer), z, _at(dot, MORE, layer))
            project(z, _at(run, N, layer), _at(run, R, layer), _at(dot, ND, layer))
            fill(z, _at(dot, N, layer))
        if net.relus[layer]:
            where_active(_at(run, Y, layer + 1), z)


@loop
def _tangent_backward(net, turned, run, v, v_turned, dot, scale):
    """Add to v its scaled product with the Hessian of a pass: the derivative of :func:`_backward`."""
    for layer in range(len(net.relus) - 1, -1, -1):
        d, d_dot, one = _at(run, D, layer), _at(dot, D, layer), v.numbers.dtype.type(1)
        w = _at(v, W, layer)
        if net.relus[layer]:
            where_active(_at(run, Y, layer + 1), d_dot)
        add_sum(d_dot, scale, _at(v, B, layer))
        if net.shifts[layer]:
            n, r = _at(run, N, layer), _at(run, R, layer)
            nd, n_dot, nz, dz = (
                _at(run, ND, layer),
                _at(dot, N, layer),
                _at(dot, ND, layer),
                _at(dot, MORE, layer),
            )
            project(d_dot, n, r, _at(dot, R, layer))
            subtract_turned(r, n_dot, nd, n, dz, d, nz, d_dot)
        if layer:
            before = _at(dot, D, layer - 1)
            clear(before)
            add_product(d_dot, _at(turned, W, layer), net.widths[layer + 1], one, before)
            if net.weights_move[layer]:
                back = _at(v_turned, W, layer)
                turn(w, back)
                add_product(d, back, net.widths[layer + 1], one, before)
            add_product(_at(dot, Y, layer).T, d, len(d), scale, w)
        add_product(_at(run, Y, layer).T, d_dot, len(d), scale, w)


@loop
def _loss(net, targets, scale, run):
    """The loss of a pass's outputs, and its gradient in them."""
    last, wide = len(net.relus), net.widths[-1]
    z, p, d = _at(run, Y, last), _at(run, P, last - 1), _at(run, D, last - 1)
    total, two = 0.0, z.dtype.type(2)
    for i in range(z.shape[0]):
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
def _loss_tangent(net, scale, run, dot):
    """The derivative of the loss's gradient."""
    last, wide = len(net.relus), net.widths[-1]
    z_dot, p, d_dot = _at(dot, Y, last), _at(run, P, last - 1), _at(dot, D, last - 1)
    two = z_dot.dtype.type(2)
    for i in range(z_dot.shape[0]):
        mean = z_dot.dtype.type(0)
        if net.labels:
            for o in range(wide):
                mean += p[i, o] * z_dot[i, o]
            for o in range(wide):
                d_dot[i, o] = scale * p[i, o] * (z_dot[i, o] - mean)
        else:
            for o in range(wide):
                d_dot[i, o] = two * scale * z_dot[i, o]


def numbers(net: Network, steps: int) -> int:
    """What a call needs of memory."""
    parameters, turned, support, query = net.sizes
    return (steps + 2) * (parameters + turned) + (steps + 1) * support + query


@loop
def _uncounted(net):
    return Network(
        uncounted(net.widths),
        uncounted(net.shifts),
        uncounted(net.relus),
        uncounted(net.weights_move),
        uncounted(net.biases_move),
        net.labels,
        net.inner_lr,
        net.eps,
        uncounted(net.parameters),
        uncounted(net.turned),
        uncounted(net.support),
        uncounted(net.query),
        net.sizes,
    )


@loop
def _memory(net, memory, steps):
    """Records of parameters and turned weights for each step, and of passes over the support; v, its turned
    weights and the derivatives of a pass; a pass over the query."""
    whole, start = line(memory), 0
    parameters, turned, support, query = net.sizes
    weights = matrix(whole, start, steps + 1, parameters)
    start += weights.size
    back = matrix(whole, start, steps + 1, turned)
    start += back.size
    run = matrix(whole, start, steps, support)
    start += run.size
    v = Record(whole[start : start + parameters], net.parameters)
    start += parameters
    v_turned = Record(whole[start : start + turned], net.turned)
    start += turned
    dot = Record(whole[start : start + support], net.support)
    end = Record(whole[start + support : start + support + query], net.query)
    return weights, back, run, v, v_turned, dot, end


@loop
def _inner_step(net, weights, turned, examples, scale, run, to, to_turned):
    """A pass over the support, and its gradient into the weights of the next step, which are turned too."""
    x, targets = examples
    _forward(net, weights, x, run)
    _loss(net, targets, scale, run)
    _backward(net, turned, run, run.numbers.dtype.type(-net.inner_lr), False, to)
    _turn(net, to, to_turned)


@loop
def meta_gradients(
    net, theta, support, query, scales, steps, first_order, groups, size, memory, sums, losses
):
    """Sums of the gradients of tasks in groups, and their losses.

    Args:
        net: a :class:`Network`.
        theta: a record of parameters.
        support, query: inputs ``[tasks, points, features]`` and targets ``[tasks, points, numbers]``.
        scales: what a sum over points is multiplied by, in the loss of the support and of the query.
        steps: of the inner update.
        first_order: whether its gradient counts as a constant.
        groups: the first and the last but one to be done.
        size: tasks of a group.
        memory: zeros, as many as :func:`numbers` says, for this call alone.
        sums: ``[groups, numbers of theta]``, written.
        losses: ``[tasks]``, written.
    """
    net, type, (x, targets), (query_x, query_targets) = _uncounted(net), theta.dtype.type, support, query
    inner, outer, step, one = type(scales[0]), type(scales[1]), type(-net.inner_lr), type(1)
    weights, turned, run, v, v_turned, dot, end = _memory(net, memory, steps)
    copy(theta, weights[0])
    _turn(net, Record(weights[0], net.parameters), Record(turned[0], net.turned))
    for group in range(groups[0], groups[1]):
        sum_ = sums[group]
        clear(sum_)
        for t in range(group * size, min((group + 1) * size, len(losses))):
            for k in range(steps):
                now, after = Record(weights[k], net.parameters), Record(weights[k + 1], net.parameters)
                back, after_back = Record(turned[k], net.turned), Record(turned[k + 1], net.turned)
                copy(now.numbers, after.numbers)
                its_run = Record(run[k], net.support)
                _inner_step(net, now, back, (x[t], targets[t]), inner, its_run, after, after_back)
            now = Record(weights[steps], net.parameters)
            _forward(net, now, query_x[t], end)
            losses[t] = _loss(net, query_targets[t], outer, end)
            clear(v.numbers)
            _backward(net, Record(turned[steps], net.turned), end, one, True, v)
            for k in range(-1 if first_order else steps - 1, -1, -1):
                now, its_run = Record(weights[k], net.parameters), Record(run[k], net.support)
                _tangent(net, now, its_run, v, dot)
                _loss_tangent(net, inner, its_run, dot)
                _tangent_backward(net, Record(turned[k], net.turned), its_run, v, v_turned, dot, step)
            for i in range(len(sum_)):
                sum_[i] += v.numbers[i]


@loop
def predictions(net, theta, support, x, scale, steps, tasks, memory, outputs):
    """Outputs for the inputs x after each inner step on the support.

    Args:
        net, theta, support, steps: as for :func:`meta_gradients`.
        x: the query's inputs.
        scale: of the support's loss.
        tasks: the first and the last but one to be done.
        memory: zeros, as many as :func:`numbers` says for one step, for this call alone.
        outputs: ``[steps + 1, tasks, points, outputs]``, written.
    """
    net, (inputs, targets), scale = _uncounted(net), support, theta.dtype.type(scale)
    weights, turned, run, _, _, _, end = _memory(net, memory, 1)
    now, back = Record(weights[0], net.parameters), Record(turned[0], net.turned)
    its_run = Record(run[0], net.support)
    for t in range(tasks[0], tasks[1]):
        copy(theta, now.numbers)
        _turn(net, now, back)
        for k in range(steps + 1):
            _forward(net, now, x[t], end)
            fill(_at(end, Y, len(net.relus)), outputs[k, t])
            if k < steps:
                _inner_step(net, now, back, (inputs[t], targets[t]), scale, its_run, now, back)
