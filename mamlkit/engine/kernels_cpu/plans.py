"""How the loops see a network of plain layers: flags, and where each matrix and each parameter lies."""

__all__ = ["Plan", "plan"]

import functools
import math
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mamlkit.engine.kernels_cpu.matrices import room
from mamlkit.engine.kernels_cpu.records import KINDS, ROWS, START, D, Network, Y
from mamlkit.models import BATCH_NORM_EPS, Layer


class Plan(NamedTuple):
    """What is known of a network before its numbers.

    Args:
        net: what the loops are told.
        names: of the parameters that have a place in a record, in their order.
        order: where each of their numbers lies there, one parameter after the other.
    """

    net: Network
    names: tuple[str, ...]
    order: NDArray[np.intp]


@functools.lru_cache(64)
def plan(
    layers: tuple[Layer, ...],
    frozen: frozenset[str],
    labels: bool,
    names: tuple[str, ...],
    widths: tuple[int, ...],
    support: int,
    query: int,
    itemsize: int,
) -> Plan:
    """How the loops see a network, whatever its inner rate, which is still to be put in.

    Args:
        layers: without convolutions.
        frozen: names that no inner step moves.
        labels: as in :class:`mamlkit.engine.kernels_cpu.records.Network`.
        names: of the parameters.
        widths: of the inputs and of each layer's outputs.
        support, query: points of a task.
        itemsize: of a number, in bytes.
    """
    kinds = [(layer.weight, layer.shift or layer.bias) for layer in layers]
    combined = widths[0] > support + query  # inputs than points
    working = (support + query, *widths[1:]) if combined else widths
    net = Network(
        widths=np.array(working),
        inputs=widths[0] if combined else 0,
        shifts=np.array([layer.shift is not None for layer in layers]),
        relus=np.array([layer.relu for layer in layers]),
        weights_move=np.array([weight not in frozen for weight, _ in kinds]),
        biases_move=np.array([bias not in frozen for _, bias in kinds]),
        labels=labels,
        inner_lr=math.nan,
        eps=BATCH_NORM_EPS,
        **_layout(widths, working, combined, support, query, itemsize),
    )
    record, places = np.arange(net.sizes[0]), {}
    weights, biases = net.whole.tolist()
    for layer, (weight, bias) in enumerate(kinds):
        width, (start, rows, wide), (other, *_) = widths[layer + 1], weights[layer], biases[layer]
        # as PyTorch has them, [outputs, inputs]
        places[weight] = record[start : start + rows * wide].reshape(rows, wide)[:, :width].T
        places[bias] = record[other : other + width]
    names = tuple(name for name in names if name in places)
    return Plan(net, names, np.concatenate([places[name].ravel() for name in names]))


def _layout(
    widths: tuple[int, ...],
    working: tuple[int, ...],
    combined: bool,
    support: int,
    query: int,
    itemsize: int,
) -> dict[str, Any]:
    """Where the matrices of each kind lie in a record, and how long a record is; rows have some room."""
    parameters = lambda pairs: [pairs, [(1, outputs) for _, outputs in pairs]]
    pairs, inputs, together = list(pairwise(working)), widths[0], support + query
    shapes = {
        "whole": parameters(list(pairwise(widths))),
        "parameters": parameters(pairs),
        "turned": [[(outputs, before if layer else 0) for layer, (before, outputs) in enumerate(pairs)]],
        "products": [
            [(together, inputs), (inputs, together), (together, together), (together, widths[1])]
            if combined
            else [(0, 0)] * 4
        ],
    }
    for name, points in (("support", support), ("query", query)):
        rows = dict.fromkeys(KINDS, points) | dict.fromkeys(ROWS, 1)
        shapes[name] = [[(rows[kind], width) for width in working[kind != Y :]] for kind in rows]
        shapes[name][START] = shapes[name][D][:combined]
    places, sizes = {}, {}
    for name, kinds in shapes.items():
        places[name], start = np.zeros((len(kinds), max(len(widths), 4), 3), np.int64), 0
        for kind, matrices in enumerate(kinds):
            for layer, (high, columns) in enumerate(matrices):
                wide = room(columns, itemsize)
                places[name][kind, layer] = start, high, wide
                start += high * wide
        sizes[name] = start
    order = ("whole", "parameters", "turned", "support", "query", "products")
    return places | {"sizes": tuple(sizes[name] for name in order)}
