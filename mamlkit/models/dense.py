"""Fully connected networks."""

__all__ = ["mlp"]

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from mamlkit.maml import Params
from mamlkit.models.parts import (
    Layer,
    Model,
    batch_norm,
    check_features,
    check_sizes,
    check_widths,
    truncated_normal,
)


def mlp(
    inputs: int, hidden: Sequence[int], outputs: int, *, batch_norm_shifts: bool = False, std: float = 0.01
) -> Model:
    """A fully connected ReLU network; the paper's sinusoid net is ``mlp(1, (40, 40), 1)``.

    Paper: section 5.1 (sizes); section 5.2 for the non-convolutional Omniglot net
    ``mlp(784, (256, 128, 64, 64), ways, batch_norm_shifts=True)``. Truncated normal
    initialisation of every weight with ``std``, zero biases: authors' code.

    Args:
        inputs: features of a point; inputs of more dimensions are flattened.
        hidden: widths of the hidden layers.
        outputs: outputs (classes, or regression targets).
        batch_norm_shifts: normalise before each ReLU, with a shift that is meta-learned only.
        std: standard deviation of the initial weights.

    Raises:
        ValueError: a size that is no whole number, at least 1.
    """
    check_widths(hidden)
    check_sizes(inputs=inputs, hidden=tuple(hidden), outputs=outputs)
    widths = [inputs, *hidden, outputs]
    last = len(widths) - 2
    normalised = range(last) if batch_norm_shifts else range(0)

    def init(generator: Generator) -> Params:
        params = {}
        for layer, (fan_in, fan_out) in enumerate(pairwise(widths)):
            params[f"weight{layer}"] = truncated_normal((fan_out, fan_in), std, generator)
            params[f"bias{layer}"] = torch.zeros(fan_out)
            if layer in normalised:
                params[f"shift{layer}"] = torch.zeros(fan_out)
        return params

    def apply(params: Params, x: Tensor, reference: int | None = None) -> Tensor:
        x = x.flatten(1)
        check_features(x.shape[-1], inputs)
        for layer in range(last + 1):
            x = F.linear(x, params[f"weight{layer}"], params[f"bias{layer}"])
            if layer in normalised:
                x = batch_norm(x, params[f"shift{layer}"], reference)
            if layer < last:
                x = F.relu(x)
        return x

    layers = tuple(
        Layer(f"weight{i}", f"bias{i}", f"shift{i}" if i in normalised else None, relu=i < last)
        for i in range(last + 1)
    )
    return Model(init, apply, frozenset(f"shift{layer}" for layer in normalised), layers)
