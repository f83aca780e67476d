"""The meta-gradient of a network of plain layers: the whole adjoint recursion of a task in compiled loops.

The passes are those of :mod:`mamlkit.engine.passes`, the recursion is that of
:mod:`mamlkit.engine.adjoint`. Here one call does them all for many tasks, and in memory that every task
uses again. Weights are ``[inputs, outputs]``, so that a product adds up whole rows of them.
"""

__all__ = ["meta_gradients", "predictions"]

from mamlkit.engine.kernels_cpu.first_layer import add_gradient, give, multiply, shared
from mamlkit.engine.kernels_cpu.loops import loop
from mamlkit.engine.kernels_cpu.losses import loss, loss_tangent
from mamlkit.engine.kernels_cpu.matrices import (
    add,
    add_product,
    add_rows,
    add_sum,
    clear,
    copy,
    fill,
    mean_product,
    normalise,
    project,
    relu,
    subtract_turned,
    turn,
    where_active,
)
from mamlkit.engine.kernels_cpu.records import (
    MORE,
    ND,
    START,
    B,
    D,
    N,
    P,
    R,
    Record,
    W,
    Y,
    at,
    memory_of,
    pack,
    turn_weights,
    uncounted_network,
    unpack,
)
from mamlkit.engine.kernels_cpu.views import line


@loop
def _forward(net, weights, run):
    """The outputs of a pass."""
    for layer in range(len(net.relus)):
        y, b = at(run, Y, layer + 1), at(weights, B, layer)
        if net.shifts[layer]:
            clear(y)
        else:
            fill(b, y)
        if net.inputs and layer == 0:
            add(at(run, START, 0), y)
        add_product(at(run, Y, layer), at(weights, W, layer), net.widths[layer], y.dtype.type(1), y)
        if net.shifts[layer]:
            normalise(y, b, net.eps, at(run, N, layer), at(run, R, layer))
        if net.relus[layer]:
            relu(y)


@loop
def _backward(net, turned, run, scale, everything, out):
    """Add the scaled gradient to out: in everything, or in what the inner update moves."""
    for layer in range(len(net.relus) - 1, -1, -1):
        d = at(run, D, layer)
        if net.relus[layer]:
            where_active(at(run, Y, layer + 1), d)
        if everything or net.biases_move[layer]:
            add_sum(d, scale, at(out, B, layer))
        if net.shifts[layer]:
            project(d, at(run, N, layer), at(run, R, layer), at(run, ND, layer))
        if layer:
            before, back = at(run, D, layer - 1), at(turned, W, layer)
            clear(before)
            add_product(d, back, net.widths[layer + 1], d.dtype.type(1), before)
        if everything or net.weights_move[layer]:
            w = at(out, W, layer)
            if net.inputs and layer == 0:
                add_rows(d, scale, len(w) - len(d) if everything else 0, w)  # those of the query come last
            else:
                add_product(at(run, Y, layer).T, d, len(d), scale, w)


@loop
def _tangent(net, weights, run, v, dot):
    """The derivative of a pass along v, with zeros for what does not move."""
    for layer in range(len(net.relus)):
        z, one = at(dot, Y, layer + 1), v.numbers.dtype.type(1)
        if net.biases_move[layer]:
            fill(at(v, B, layer), z)
        else:
            clear(z)
        if net.weights_move[layer]:
            add_product(at(run, Y, layer), at(v, W, layer), net.widths[layer], one, z)
        if layer:
            add_product(at(dot, Y, layer), at(weights, W, layer), net.widths[layer], one, z)
        if net.shifts[layer]:
            mean_product(at(run, D, layer), z, at(dot, MORE, layer))
            project(z, at(run, N, layer), at(run, R, layer), at(dot, ND, layer))
            fill(z, at(dot, N, layer))
        if net.relus[layer]:
            where_active(at(run, Y, layer + 1), z)


@loop
def _tangent_backward(net, turned, run, v, v_turned, dot, scale):
    """Add to v its scaled product with the Hessian of a pass: the derivative of :func:`_backward`."""
    for layer in range(len(net.relus) - 1, -1, -1):
        d, d_dot, one = at(run, D, layer), at(dot, D, layer), v.numbers.dtype.type(1)
        w = at(v, W, layer)
        if net.relus[layer]:
            where_active(at(run, Y, layer + 1), d_dot)
        add_sum(d_dot, scale, at(v, B, layer))
        if net.shifts[layer]:
            n, r = at(run, N, layer), at(run, R, layer)
            nd, n_dot, nz, dz = (
                at(run, ND, layer),
                at(dot, N, layer),
                at(dot, ND, layer),
                at(dot, MORE, layer),
            )
            project(d_dot, n, r, at(dot, R, layer))
            subtract_turned(r, n_dot, nd, n, dz, d, nz, d_dot)
        if layer:
            before = at(dot, D, layer - 1)
            clear(before)
            add_product(d_dot, at(turned, W, layer), net.widths[layer + 1], one, before)
            if net.weights_move[layer]:
                back = at(v_turned, W, layer)
                turn(w, back)
                add_product(d, back, net.widths[layer + 1], one, before)
            add_product(at(dot, Y, layer).T, d, len(d), scale, w)
        if net.inputs and layer == 0:
            add_rows(d_dot, scale, 0, w)
        else:
            add_product(at(run, Y, layer).T, d_dot, len(d), scale, w)


@loop
def _loss(net, targets, scale, run):
    """The loss of a pass's outputs, and its gradient in them."""
    last = len(net.relus)
    return loss(net, targets, scale, at(run, Y, last), at(run, P, last - 1), at(run, D, last - 1))


@loop
def _begin(net, theta, weights, turned):
    """The working weights of theta, where nothing is combined yet."""
    clear(weights.numbers)
    copy(*shared(net, theta, weights))
    turn_weights(net, weights, turned)


@loop
def _inner_step(net, weights, turned, targets, scale, run, to, to_turned):
    """A pass over the support, and its gradient into the weights of the next step, which are turned too."""
    _forward(net, weights, run)
    _loss(net, targets, scale, run)
    _backward(net, turned, run, run.numbers.dtype.type(-net.inner_lr), False, to)
    turn_weights(net, to, to_turned)


@loop
def meta_gradients(
    net, theta, support, query, scales, steps, first_order, groups, size, memory, sums, losses
):
    """Sums of the gradients of tasks in groups, and their losses.

    Args:
        net: a :class:`mamlkit.engine.kernels_cpu.records.Network`.
        theta: all parameters in a row.
        support, query: inputs ``[tasks, points, features]`` and targets ``[tasks, points, numbers]``.
        scales: what a sum over points is multiplied by, in the loss of the support and of the query.
        steps: of the inner update.
        first_order: whether its gradient counts as a constant.
        groups: the first and the last but one to be done.
        size: tasks of a group.
        memory: zeros for this call alone, as many as
            :func:`mamlkit.engine.kernels_cpu.records.numbers` says.
        sums: ``[groups, parameters]``, written.
        losses: ``[tasks]``, written.
    """
    net, type, (x, targets), (query_x, query_targets) = (
        uncounted_network(net),
        theta.dtype.type,
        support,
        query,
    )
    inner, outer, step, one = type(scales[0]), type(scales[1]), type(-net.inner_lr), type(1)
    whole, sum_, weights, turned, run, v, v_turned, dot, end, products = memory_of(net, memory, steps)
    unpack(net, line(theta), whole)
    _begin(net, whole.numbers, Record(weights[0], net.parameters), Record(turned[0], net.turned))
    for group in range(groups[0], groups[1]):
        clear(sum_.numbers)
        for t in range(group * size, min((group + 1) * size, len(losses))):
            if net.inputs:
                multiply(net, whole, x[t], query_x[t], products)
            give(net, query_x[t], products, len(x[t]), end)
            for k in range(steps):
                now, after = Record(weights[k], net.parameters), Record(weights[k + 1], net.parameters)
                back, after_back = Record(turned[k], net.turned), Record(turned[k + 1], net.turned)
                copy(now.numbers, after.numbers)
                its_run = Record(run[k], net.support)
                give(net, x[t], products, 0, its_run)
                _inner_step(net, now, back, targets[t], inner, its_run, after, after_back)
            now = Record(weights[steps], net.parameters)
            _forward(net, now, end)
            losses[t] = _loss(net, query_targets[t], outer, end)
            clear(v.numbers)
            _backward(net, Record(turned[steps], net.turned), end, one, True, v)
            for k in range(-1 if first_order else steps - 1, -1, -1):
                now, its_run = Record(weights[k], net.parameters), Record(run[k], net.support)
                _tangent(net, now, its_run, v, dot)
                last = len(net.relus)
                loss_tangent(net, inner, at(dot, Y, last), at(its_run, P, last - 1), at(dot, D, last - 1))
                _tangent_backward(net, Record(turned[k], net.turned), its_run, v, v_turned, dot, step)
            add_gradient(net, products, v, sum_)
        pack(net, sum_, sums[group])


@loop
def predictions(net, theta, support, x, scale, steps, tasks, memory, outputs):
    """Outputs for the inputs x after each inner step on the support.

    Args:
        net, theta, support, steps: as for :func:`meta_gradients`.
        x: the query's inputs.
        scale: of the support's loss.
        tasks: the first and the last but one to be done.
        memory: zeros for this call alone, as many as
            :func:`mamlkit.engine.kernels_cpu.records.numbers` says for one step.
        outputs: ``[steps + 1, tasks, points, outputs]``, written.
    """
    net, (inputs, targets), scale = uncounted_network(net), support, theta.dtype.type(scale)
    whole, _, weights, turned, run, _, _, _, end, products = memory_of(net, memory, 1)
    now, back = Record(weights[0], net.parameters), Record(turned[0], net.turned)
    its_run = Record(run[0], net.support)
    unpack(net, line(theta), whole)
    for t in range(tasks[0], tasks[1]):
        _begin(net, whole.numbers, now, back)
        if net.inputs:
            multiply(net, whole, inputs[t], x[t], products)
        give(net, inputs[t], products, 0, its_run)
        give(net, x[t], products, len(inputs[t]), end)
        for k in range(steps + 1):
            _forward(net, now, end)
            fill(at(end, Y, len(net.relus)), outputs[k, t])
            if k < steps:
                _inner_step(net, now, back, targets[t], scale, its_run, now, back)
