"""The meta-gradient of a single inner step in a network of plain layers, without the moved weights.

After one step from theta the weights of a layer are W - alpha X^T D: X holds the inputs of the layer, a row
for each point of the support, and D the gradient in what the layer's product gives. Inputs Q of the query
give

    Q (W - alpha X^T D) = Q W - alpha (Q X^T) D,

and where a task has few points Q X^T is small. The way back, and the derivative along the query's gradient,
have the same two products, turned. So no task has weights of its own: those of theta multiply the points of
several tasks together.

Here n and q are the points of a task in the support and in the query.
"""

__all__ = ["meta_gradients"]

from mamlkit.engine.kernels_cpu.loops import loop
from mamlkit.engine.kernels_cpu.losses import loss, loss_tangent
from mamlkit.engine.kernels_cpu.matrices import (
    add_number,
    add_product,
    add_sum,
    clear,
    dots,
    fill,
    mean_product,
    normalise,
    project,
    relu,
    subtract_turned,
    where_active,
)
from mamlkit.engine.kernels_cpu.records import (
    BACK,
    MORE,
    ND,
    THERE,
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
    rows_at,
    turn_weights,
    uncounted_network,
    unpack,
)
from mamlkit.engine.kernels_cpu.views import line


@loop
def _product(net, theta, run, layer, count):
    """What theta makes of a layer's inputs."""
    y = rows_at(run, Y, layer + 1, 0, count)
    if net.shifts[layer]:
        clear(y)
    else:
        fill(at(theta, B, layer), y)
    add_product(rows_at(run, Y, layer, 0, count), at(theta, W, layer), net.widths[layer], y.dtype.type(1), y)


@loop
def _activate(net, theta, run, layer, points, tasks):
    for t in range(tasks if net.shifts[layer] else 0):
        y, n = rows_at(run, Y, layer + 1, t * points, points), rows_at(run, N, layer, t * points, points)
        normalise(y, at(theta, B, layer), net.eps, n, rows_at(run, R, layer, t, 1))
    if net.relus[layer]:
        relu(rows_at(run, Y, layer + 1, 0, tasks * points))


@loop
def _losses(net, targets, scale, run, points, losses):
    """The losses of tasks, and their gradients in the outputs of a pass."""
    last = len(net.relus)
    for t in range(len(losses)):
        z, p = rows_at(run, Y, last, t * points, points), rows_at(run, P, last - 1, t * points, points)
        losses[t] = loss(net, targets[t], scale, z, p, rows_at(run, D, last - 1, t * points, points))


@loop
def _project(net, run, layer, points, tasks):
    """The gradient in what a layer's product gives, from that in its normalised values."""
    for t in range(tasks if net.shifts[layer] else 0):
        d, n = rows_at(run, D, layer, t * points, points), rows_at(run, N, layer, t * points, points)
        project(d, n, rows_at(run, R, layer, t, 1), rows_at(run, ND, layer, t, 1))


@loop
def _product_back(net, turned, run, layer, count):
    """The gradient in a layer's inputs, as far as theta makes it."""
    d, before = rows_at(run, D, layer, 0, count), rows_at(run, D, layer - 1, 0, count)
    clear(before)
    add_product(d, at(turned, W, layer), net.widths[layer + 1], d.dtype.type(1), before)


@loop
def _support(net, theta, turned, targets, scale, run, n, losses):
    """A pass over the support and back."""
    tasks = len(losses)
    for layer in range(len(net.relus)):
        _product(net, theta, run, layer, tasks * n)
        _activate(net, theta, run, layer, n, tasks)
    _losses(net, targets, scale, run, n, losses)
    for layer in range(len(net.relus) - 1, -1, -1):
        if net.relus[layer]:
            where_active(rows_at(run, Y, layer + 1, 0, tasks * n), rows_at(run, D, layer, 0, tasks * n))
        _project(net, run, layer, n, tasks)
        if layer:
            _product_back(net, turned, run, layer, tasks * n)


@loop
def _query(net, theta, turned, targets, scale, run, n, end, q, small, losses, out):
    """A pass over the query by the moved weights and back, and its gradient added to out."""
    tasks, one, step = len(losses), out.numbers.dtype.type(1), out.numbers.dtype.type(-net.inner_lr)
    for layer in range(len(net.relus)):
        _product(net, theta, end, layer, tasks * q)
        for t in range(tasks if net.weights_move[layer] or net.biases_move[layer] else 0):
            there, y = rows_at(small, THERE, layer, t * q, q), rows_at(end, Y, layer + 1, t * q, q)
            if net.weights_move[layer]:
                dots(rows_at(end, Y, layer, t * q, q), rows_at(run, Y, layer, t * n, n), there)
            else:
                clear(there)
            if net.biases_move[layer]:
                add_number(one, there)  # a bias is the weight of an input that is one
            add_product(there, rows_at(run, D, layer, t * n, n), n, step, y)
        _activate(net, theta, end, layer, q, tasks)
    _losses(net, targets, scale, end, q, losses)
    for layer in range(len(net.relus) - 1, -1, -1):
        d = rows_at(end, D, layer, 0, tasks * q)
        if net.relus[layer]:
            where_active(rows_at(end, Y, layer + 1, 0, tasks * q), d)
        add_sum(d, one, at(out, B, layer))
        _project(net, end, layer, q, tasks)
        add_product(rows_at(end, Y, layer, 0, tasks * q).T, d, tasks * q, one, at(out, W, layer))
        if layer:
            _product_back(net, turned, end, layer, tasks * q)
            for t in range(tasks if net.weights_move[layer] else 0):
                back, before = rows_at(small, BACK, layer, t * q, q), rows_at(end, D, layer - 1, t * q, q)
                dots(rows_at(end, D, layer, t * q, q), rows_at(run, D, layer, t * n, n), back)
                add_product(back, rows_at(run, Y, layer, t * n, n), n, step, before)


@loop
def _tangent(net, theta, run, n, end, q, small, dot, tasks):
    """The derivative of the pass over the support along the query's gradient, of what moves."""
    for layer in range(len(net.relus)):
        z, one = rows_at(dot, Y, layer + 1, 0, tasks * n), theta.numbers.dtype.type(1)
        clear(z)
        if layer:
            before = rows_at(dot, Y, layer, 0, tasks * n)
            add_product(before, at(theta, W, layer), net.widths[layer], one, z)
        for t in range(tasks):
            its, d = rows_at(dot, Y, layer + 1, t * n, n), rows_at(run, D, layer, t * n, n)
            if net.weights_move[layer] or net.biases_move[layer]:
                there = rows_at(small, THERE, layer, t * q, q).T
                add_product(there, rows_at(end, D, layer, t * q, q), q, one, its)
            if net.shifts[layer]:
                mean_product(d, its, rows_at(dot, MORE, layer, t, 1))
                r, nz = rows_at(run, R, layer, t, 1), rows_at(dot, ND, layer, t, 1)
                project(its, rows_at(run, N, layer, t * n, n), r, nz)
                fill(its, rows_at(dot, N, layer, t * n, n))
        if net.relus[layer]:
            where_active(rows_at(run, Y, layer + 1, 0, tasks * n), z)


@loop
def _tangent_backward(net, turned, run, n, end, q, small, dot, tasks, out):
    """Add to out the derivative of the step over the support, along the query's gradient."""
    one, step = out.numbers.dtype.type(1), out.numbers.dtype.type(-net.inner_lr)
    for layer in range(len(net.relus) - 1, -1, -1):
        d, d_dot = rows_at(run, D, layer, 0, tasks * n), rows_at(dot, D, layer, 0, tasks * n)
        if net.relus[layer]:
            where_active(rows_at(run, Y, layer + 1, 0, tasks * n), d_dot)
        add_sum(d_dot, step, at(out, B, layer))
        for t in range(tasks if net.shifts[layer] else 0):
            its, its_d = rows_at(dot, D, layer, t * n, n), rows_at(run, D, layer, t * n, n)
            n_run, n_dot = rows_at(run, N, layer, t * n, n), rows_at(dot, N, layer, t * n, n)
            r, nd = rows_at(run, R, layer, t, 1), rows_at(run, ND, layer, t, 1)
            dz, nz = rows_at(dot, MORE, layer, t, 1), rows_at(dot, ND, layer, t, 1)
            project(its, n_run, r, rows_at(dot, R, layer, t, 1))
            subtract_turned(r, n_dot, nd, n_run, dz, its_d, nz, its)
        w = at(out, W, layer)
        if layer:
            _product_back(net, turned, dot, layer, tasks * n)
            for t in range(tasks if net.weights_move[layer] else 0):
                back, before = rows_at(small, BACK, layer, t * q, q), rows_at(dot, D, layer - 1, t * n, n)
                add_product(back.T, rows_at(end, Y, layer, t * q, q), q, one, before)
            add_product(rows_at(dot, Y, layer, 0, tasks * n).T, d, tasks * n, step, w)
        add_product(rows_at(run, Y, layer, 0, tasks * n).T, d_dot, tasks * n, step, w)


@loop
def meta_gradients(net, theta, support, query, scales, first_order, groups, size, memory, sums, losses):
    """What :func:`mamlkit.engine.kernels_cpu.recursion.meta_gradients` gives for one step.

    Arguments as there, but memory may hold anything.
    """
    net, type, last = uncounted_network(net), theta.dtype.type, len(net.relus)
    (x, targets), (query_x, query_targets), (inner, outer) = support, query, scales
    n, q = x.shape[1], query_x.shape[1]
    whole, sum_, _, backs, runs, _, _, dot, end, small = memory_of(net, memory, 1)
    turned, run = Record(backs[0], net.turned), Record(runs[0], net.support)
    unpack(net, line(theta), whole)
    clear(turned.numbers)
    turn_weights(net, whole, turned)
    for record in (run, end, dot):  # what stands behind the numbers of these rows is read
        clear(at(record, Y, 0))
        clear(at(record, D, last - 1))
    for group in range(groups[0], groups[1]):
        stop = min((group + 1) * size, len(losses))
        clear(sum_.numbers)
        for first in range(group * size, stop, net.together):
            some = slice(first, min(first + net.together, stop))
            its, tasks = losses[some], some.stop - some.start
            for t in range(tasks):
                fill(x[first + t], rows_at(run, Y, 0, t * n, n))
                fill(query_x[first + t], rows_at(end, Y, 0, t * q, q))
            _support(net, whole, turned, targets[some], type(inner), run, n, its)
            _query(net, whole, turned, query_targets[some], type(outer), run, n, end, q, small, its, sum_)
            if not first_order:
                _tangent(net, whole, run, n, end, q, small, dot, tasks)
                for t in range(tasks):
                    z, p = rows_at(dot, Y, last, t * n, n), rows_at(run, P, last - 1, t * n, n)
                    loss_tangent(net, type(inner), z, p, rows_at(dot, D, last - 1, t * n, n))
                _tangent_backward(net, turned, run, n, end, q, small, dot, tasks, sum_)
        pack(net, sum_, sums[group])
