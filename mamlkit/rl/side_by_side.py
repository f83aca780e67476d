"""Small networks side by side, each with parameters of its own, so that calls do not take all the time.

A network's parameters are one vector theta. Tensors begin with an axis of ``members``: networks that know
nothing of each other.
"""

__all__ = ["Networks"]

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from mamlkit.maml import Params
from mamlkit.models.parts import xavier_uniform


class Networks(NamedTuple):
    """Fully connected ReLU networks of one shape.

    Args:
        sizes: inputs, units of the hidden layers, outputs.
        layer_norm: whether hidden layers are normalised before their ReLU, and then have a gain and a shift.
    """

    sizes: tuple[int, ...]
    layer_norm: bool = True

    def parts(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names and shapes of the parts of theta, in their order."""
        for layer, (inputs, outputs) in enumerate(pairwise(self.sizes)):
            yield f"weight{layer}", (inputs, outputs)
            yield f"bias{layer}", (1, outputs)
            if self.layer_norm and layer < len(self.sizes) - 2:
                yield f"gain{layer}", (1, outputs)
                yield f"shift{layer}", (1, outputs)

    def split(self, theta: Tensor) -> Params:
        """The parts of ``[members, numbers]`` by name, ``[members, ...]`` each.

        Raises:
            ValueError: another number of numbers.
        """
        shapes = dict(self.parts())
        sizes = [math.prod(shape) for shape in shapes.values()]
        if theta.dim() != 2 or theta.shape[1] != sum(sizes):
            raise ValueError(f"theta is {list(theta.shape)}, but must be [members, {sum(sizes)}]")
        pieces = zip(shapes.items(), theta.split(sizes, 1), strict=True)
        return {name: piece.view(-1, *shape) for (name, shape), piece in pieces}

    def init(self, generators: Sequence[Generator]) -> Tensor:
        """A network from each generator, ``[members, numbers]``: weights are uniform (Xavier), gains 1."""
        made = lambda name, shape, draw: (
            xavier_uniform(shape, draw) if "weight" in name else torch.full(shape, float("gain" in name))
        )
        return torch.stack(
            [torch.cat([made(*part, draw).flatten() for part in self.parts()]) for draw in generators]
        )

    def of_parts(self, *starts: str) -> Tensor:
        """1 for each number of theta that belongs to a part whose name begins so, else 0, ``[numbers]``."""
        return torch.cat(
            [torch.full((math.prod(s),), float(name.startswith(starts))) for name, s in self.parts()]
        )

    def outputs(self, theta: Tensor, x: Tensor) -> Tensor:
        """What each network makes of its points, ``[members, points, outputs]``.

        Args:
            theta: ``[members, numbers]``.
            x: ``[members, points, inputs]``.
        """
        parts, last = self.split(theta), len(self.sizes) - 2
        for layer in range(last + 1):
            x = torch.baddbmm(parts[f"bias{layer}"], x, parts[f"weight{layer}"])
            if layer < last:
                if self.layer_norm:
                    x = F.layer_norm(x, x.shape[-1:])
                    x = torch.addcmul(parts[f"shift{layer}"], x, parts[f"gain{layer}"])
                x = x.relu()
        return x
