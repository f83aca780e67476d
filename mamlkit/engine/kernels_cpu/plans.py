"""How the loops see a network of plain layers: flags, and where each matrix and each parameter lies."""

__all__ = ["network"]

import functools
import math
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from mamlkit.engine.kernels_cpu.matrices import room
from mamlkit.engine.kernels_cpu.records import KINDS, ROWS, START, B, D, N, Network, P, Places, W, Y
from mamlkit.models import BATCH_NORM_EPS, Layer


@functools.lru_cache(64)
def network(
    layers: tuple[Layer, ...],
    frozen: frozenset[str],
    labels: bool,
    counts: tuple[tuple[str, int], ...],
    widths: tuple[int, ...],
    support: int,
    query: int,
    together: int,
    itemsize: int,
) -> Network:
    """How the loops see a network, whatever its inner rate, which is still to be put in.

    Args:
        layers: without convolutions.
        frozen: names that no inner step moves.
        labels: as in :class:`mamlkit.engine.kernels_cpu.records.Network`.
        counts: names of the parameters, and how many numbers each has.
        widths: of the inputs and of each layer's outputs.
        support, query: points of a task.
        together: as in :class:`mamlkit.engine.kernels_cpu.records.Network`.
        itemsize: of a number, in bytes.
    """
    kinds = [(layer.weight, layer.shift or layer.bias) for layer in layers]
    combined = not together and widths[0] > support + query  # inputs than points
    working = (support + query, *widths[1:]) if combined else widths
    starts = dict(zip((name for name, _ in counts), accumulate((n for _, n in counts), initial=0)))
    return Network(
        widths=np.array(working),
        inputs=widths[0] if combined else 0,
        shifts=np.array([layer.shift is not None for layer in layers]),
        relus=np.array([layer.relu for layer in layers]),
        weights_move=np.array([weight not in frozen for weight, _ in kinds]),
        biases_move=np.array([bias not in frozen for _, bias in kinds]),
        together=together,
        labels=labels,
        inner_lr=math.nan,
        eps=BATCH_NORM_EPS,
        flat=_flat(kinds, starts, widths),
        **_layout(
            widths, working, combined, [layer.shift for layer in layers], support, query, together, itemsize
        ),
    )


def _flat(kinds: list[tuple[str, str]], starts: dict[str, int], widths: tuple[int, ...]) -> Places:
    """Where weights ``[outputs, inputs]`` and biases lie in a row of all parameters, one after the other."""
    places = np.zeros((2, len(kinds), 3), np.int64)
    for layer, (weight, bias) in enumerate(kinds):
        places[W, layer] = starts[weight], widths[layer + 1], widths[layer]
        places[B, layer] = starts[bias], 1, widths[layer + 1]
    return places


def _layout(
    widths: tuple[int, ...],
    working: tuple[int, ...],
    combined: bool,
    shifts: list[str | None],
    support: int,
    query: int,
    tasks: int,
    itemsize: int,
) -> dict[str, Any]:
    """Where the matrices of each kind lie in a record, and how long a record is; rows have some room."""
    parameters = lambda pairs: [pairs, [(1, outputs) for _, outputs in pairs]]
    pairs, inputs, together = list(pairwise(working)), widths[0], support + query
    products = [
        [(together, inputs), (inputs, together), (together, together), (together, widths[1])]
        if combined
        else [(0, 0)] * 4
    ]
    shapes = {
        "whole": parameters(list(pairwise(widths))),
        "parameters": parameters(pairs),
        "turned": [[(outputs, before if layer else 0) for layer, (before, outputs) in enumerate(pairs)]],
        "products": [[(tasks * query, support)] * len(pairs)] * 2 if tasks else products,
    }
    for name, points in (("support", support), ("query", query)):
        rows = dict.fromkeys(KINDS, points * (tasks or 1)) | dict.fromkeys(ROWS, tasks or 1)
        shapes[name] = [[(rows[kind], width) for width in working[kind != Y :]] for kind in rows]
        for kind in (N, *ROWS):
            shapes[name][kind] = [
                size if shift else (0, 0) for size, shift in zip(shapes[name][kind], shifts)
            ]
        shapes[name][P][:-1] = [(0, 0)] * (len(pairs) - 1)
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
