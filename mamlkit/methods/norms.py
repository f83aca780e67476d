"""Batch normalisation with a scale and a shift of each inner step, as other weights of the same network.

A positive scale goes through a ReLU, a maximum and a mean, so ``relu(e^s n + b) = e^s relu(n + b e^-s)``: the
network with scale and shift is the network without scales whose shift is ``b e^-s`` and whose next layer has
its weights times ``e^s``, input by input. So no network and no pass needs to know of scales.
"""

__all__ = ["SCALE", "SHIFT", "check", "init", "with_step"]

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from mamlkit.maml import Params
from mamlkit.models import Layer, Model

SHIFT, SCALE = "each step's ", "log scales beside "  # before the name of the shift that they replace


def check(model: Model) -> None:
    """``ValueError`` for a network of which it is not known where its normalisations are, or what follows."""
    if not model.layers:
        raise ValueError(
            "this network has no layers, so its normalisations are not known; give the model its layers"
        )
    if model.layers[-1].shift:
        raise ValueError(
            f"nothing follows the normalisation of {model.layers[-1].shift!r}, but its scale is taken on by "
            "the next layer; end the network with a head"
        )


def init(layers: tuple[Layer, ...], params: Params, steps: int) -> Params:
    """Parameters with, in place of each shift, as many as there are steps, and logarithms of scales, all 0.

    Args:
        layers: of the network.
        params: of the network.
        steps: of the inner update; 0 takes one of each for the network as it is.
    """
    whole = dict(params)
    for name in (layer.shift for layer in layers if layer.shift):
        shift = whole.pop(name).expand(max(steps, 1), -1)
        whole |= {SHIFT + name: shift.clone(), SCALE + name: torch.zeros_like(shift)}
    return whole


def _scaled(layer: Layer, weight: Tensor, scale: Tensor) -> Tensor:
    """A weight ``[outputs, inputs, ...]`` times the scale of each input channel."""
    channels = weight.unflatten(1, (len(scale), -1))  # behind images a head has all pixels of each
    return (channels * scale.view(-1, *[1] * (weight.dim() - 1))).flatten(1, 2)


def with_step(
    layers: tuple[Layer, ...],
    network: Params,
    values: Params,
    step: int,
    scaled: Callable[[Layer, Tensor, Tensor], Tensor] = _scaled,
) -> Params:
    """The network's parameters that give what it gives with the scales and shifts of a step.

    Args:
        layers: of the network.
        network: its weights and biases, adapted or not.
        values: what :func:`init` has put in place of the shifts.
        step: whose, from 0.
        scaled: ``(layer, weight, scale) -> weight``, for weights in another layout.
    """
    changed = {}
    for layer, following in pairwise(layers):
        if layer.shift:
            scale = values[SCALE + layer.shift][step].exp()
            changed[layer.shift] = values[SHIFT + layer.shift][step] / scale
            changed[following.weight] = scaled(following, network[following.weight], scale)
    return {**network, **changed}
