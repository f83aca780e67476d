"""The first layer of networks of plain layers, whose weights need not be moved where they are many.

A first layer with more inputs than a task has points is large, and moves in few directions: an inner step
adds a combination of inputs X, the rows of the support and of the query. So its weights are theta + X^T C,
and a product with them is X theta + (X X^T) C. C has a row for each point; X X^T and X theta are made once
for each task, whatever the number of steps. Here C stands in the place of the weights and X X^T in that of
the inputs, and nobody writes the moved weights down.
"""

__all__ = ["add_gradient", "give", "multiply", "shared"]

from mamlkit.engine.kernels_cpu.loops import loop
from mamlkit.engine.kernels_cpu.matrices import add, add_product, clear, fill, turn
from mamlkit.engine.kernels_cpu.records import START, X_THETA, X_TURNED, X_X, W, X, Y, at


@loop
def multiply(net, theta, support, query, products):
    """What is made of a task's inputs, once."""
    x, turned = at(products, 0, X), at(products, 0, X_TURNED)
    square, start = at(products, 0, X_X), at(products, 0, X_THETA)
    fill(support, x)
    fill(query, x[len(support) :])
    turn(x, turned)
    clear(square)
    clear(start)
    add_product(x, turned, net.inputs, x.dtype.type(1), square)
    add_product(x, at(theta, W, 0), net.inputs, x.dtype.type(1), start)


@loop
def give(net, x, products, first, run):
    """What a pass over examples x begins with; the first of them among a task's."""
    if net.inputs:
        fill(at(products, 0, X_X)[first:], at(run, Y, 0))
        fill(at(products, 0, X_THETA)[first:], at(run, START, 0))
    else:
        fill(x, at(run, Y, 0))


@loop
def shared(net, theta, working):
    """What a record as theta and working weights share: all but combined weights, which come first."""
    first = at(working, W, 0).size if net.inputs else 0
    return theta[net.sizes[0] - net.sizes[1] + first :], working.numbers[first:]


@loop
def add_gradient(net, products, v, out):
    """Add v, a gradient of the working weights, to a record as long as theta."""
    sums, values = shared(net, out.numbers, v)
    add(values, sums)
    if net.inputs:
        c = at(v, W, 0)
        add_product(at(products, 0, X).T, c, len(c), c.dtype.type(1), at(out, W, 0))
