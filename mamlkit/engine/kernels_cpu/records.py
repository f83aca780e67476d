"""What the loops over networks of plain layers know of a network, and where its matrices lie in memory."""

__all__ = [
    "KINDS",
    "MORE",
    "ND",
    "ROWS",
    "START",
    "X_THETA",
    "X_TURNED",
    "X_X",
    "B",
    "D",
    "N",
    "Network",
    "P",
    "Places",
    "R",
    "Record",
    "W",
    "X",
    "Y",
    "at",
    "memory_of",
    "numbers",
    "pack",
    "rows_at",
    "turn_weights",
    "uncounted_network",
    "unpack",
]

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mamlkit.engine.kernels_cpu.loops import loop
from mamlkit.engine.kernels_cpu.matrices import clear, fill, turn
from mamlkit.engine.kernels_cpu.views import line, matrix, uncounted

Flags = NDArray[np.bool_]
Places = NDArray[np.int64]

# What a record of the working weights has of each layer: weights ``[inputs, outputs]``; biases or shifts
# ``[1, outputs]``. Another has the weights turned, ``[outputs, inputs]``, which the first layer never needs.
W, B = range(2)
# What a record of a pass has of each layer, ``[points, outputs]`` or one row of them, for those that follow:
# outputs, before which the first layer's inputs stand; the gradient of the loss in what the layer's product
# gives; the products, normalised; one over a standard deviation; the mean of N times the gradient in it;
# memory; the classes' probabilities, of the last layer only; and X theta, of the first.
KINDS = Y, D, N, R, ND, MORE, P, START = range(8)
ROWS = R, ND, MORE
# What a record of a task's products has, in place of layers: its inputs, they turned, X X^T and X theta.
X, X_TURNED, X_X, X_THETA = range(4)
# Where tasks make their one step together, of each layer, with a row for each point of the query and a column
# for each of its task's support: products of its inputs, and of the gradient in what its product gives.
THERE, BACK = range(2)


class Network(NamedTuple):
    """What the loops know of a network, layer by layer, of its loss and its update, and of their memory.

    Args:
        widths: of the inputs and of each layer's outputs, ``[layers + 1]``; where the first layer's weights
            are combinations of inputs, the points of a task stand for the inputs.
        inputs: how many, if they are, else 0.
        shifts: whether a layer normalises and adds a shift; else it adds a bias.
        relus: whether a ReLU follows.
        weights_move, biases_move: whether the inner update moves weights, and biases.
        together: how many tasks make their one step together: a record of a pass has rows for all of them; 0
            where tasks make steps one after the other.
        labels: whether the loss is a cross-entropy, whose targets are class numbers; else squares are added.
        inner_lr: alpha.
        eps: what normalisation adds to a variance.
        flat: where weights, here ``[outputs, inputs]``, and biases lie in a row of all parameters, as PyTorch
            has them.
        whole, parameters, turned, support, query, products: where a matrix lies in a record of theta, of
            working weights, of turned ones, of passes over a support and over a query, and of what a task's
            inputs give: ``[kinds, layers + 1, 3]``, its start, rows and columns.
        sizes: of those six records.
    """

    widths: NDArray[np.int64]
    inputs: int
    shifts: Flags
    relus: Flags
    weights_move: Flags
    biases_move: Flags
    together: int
    labels: bool
    inner_lr: float
    eps: float
    flat: Places
    whole: Places
    parameters: Places
    turned: Places
    support: Places
    query: Places
    products: Places
    sizes: tuple[int, int, int, int, int, int]


class Record(NamedTuple):
    """Numbers, and where the matrices lie among them."""

    numbers: Any
    places: Any


@loop
def at(record, kind, layer):
    """A matrix of a record."""
    places = record.places
    return matrix(record.numbers, places[kind, layer, 0], places[kind, layer, 1], places[kind, layer, 2])


@loop
def rows_at(record, kind, layer, first, count):
    """Some rows of a matrix of a record."""
    places = record.places
    wide = places[kind, layer, 2]
    return matrix(record.numbers, places[kind, layer, 0] + first * wide, count, wide)


@loop
def turn_weights(net, weights, turned):
    for layer in range(1, len(net.relus)):
        turn(at(weights, W, layer), at(turned, W, layer))


@loop
def unpack(net, theta, whole):
    """A record of parameters that came in a row; what stands behind the numbers of its rows is zero."""
    clear(whole.numbers)
    for layer in range(len(net.relus)):
        given = Record(theta, net.flat)
        turn(at(given, W, layer), at(whole, W, layer))
        fill(at(given, B, layer), at(whole, B, layer))


@loop
def pack(net, whole, out):
    """The inverse of :func:`unpack`; zeros for parameters that no layer has a use for."""
    clear(out)
    for layer in range(len(net.relus)):
        turn(at(whole, W, layer), at(Record(out, net.flat), W, layer))
        fill(at(whole, B, layer), at(Record(out, net.flat), B, layer))


def numbers(net: Network, steps: int) -> int:
    """What a call needs of memory."""
    whole, parameters, turned, support, query, products = net.sizes
    return 2 * whole + (steps + 2) * (parameters + turned) + (steps + 1) * support + query + products


@loop
def uncounted_network(net):
    """The same, for whose arrays nothing is counted."""
    return Network(
        uncounted(net.widths),
        net.inputs,
        uncounted(net.shifts),
        uncounted(net.relus),
        uncounted(net.weights_move),
        uncounted(net.biases_move),
        net.together,
        net.labels,
        net.inner_lr,
        net.eps,
        uncounted(net.flat),
        uncounted(net.whole),
        uncounted(net.parameters),
        uncounted(net.turned),
        uncounted(net.support),
        uncounted(net.query),
        uncounted(net.products),
        net.sizes,
    )


@loop
def memory_of(net, memory, steps):
    """Records of theta and of a sum of gradients; of working weights and turned ones for each step, and of
    passes over the support; v, its turned weights and the derivatives of a pass; a pass over the query; what
    a task's inputs give, or tasks' products where they step together."""
    whole, start = line(memory), 0
    size, parameters, turned, support, query, products = net.sizes
    theta, sum_ = Record(whole[:size], net.whole), Record(whole[size : 2 * size], net.whole)
    start += 2 * size
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
    start += support
    end = Record(whole[start : start + query], net.query)
    start += query
    given = Record(whole[start : start + products], net.products)
    return theta, sum_, weights, back, run, v, v_turned, dot, end, given
