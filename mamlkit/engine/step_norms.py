"""Scales and shifts of each inner step, in the matrices of the passes: see :mod:`mamlkit.methods.norms`."""

__all__ = ["StepNorms"]

from itertools import pairwise

import torch
from torch import Tensor

from mamlkit.maml import Params
from mamlkit.methods import norms
from mamlkit.models import Layer


def _scaled(layer: Layer, weight: Tensor, scale: Tensor) -> Tensor:
    """A matrix ``[..., outputs, inputs]`` (``[..., inputs, outputs]`` of a convolution), channels last."""
    if layer.window:
        return (weight.unflatten(-2, (-1, len(scale))) * scale[:, None]).flatten(-3, -2)
    return (weight.unflatten(-1, (-1, len(scale))) * scale).flatten(-2)


class StepNorms:
    """Weights phi with the scales and shifts s of a step, psi = P(phi, s), and the way back.

    P is linear in the weights and multiplies each by a number, so P' is its own transpose.

    Args:
        layers: of the network; where there are none, nothing changes.
        params: theta, which has the scales and shifts of every step.
    """

    def __init__(self, layers: tuple[Layer, ...], params: Params) -> None:
        self.layers = layers
        self.values = {n: v for n, v in params.items() if n.startswith((norms.SHIFT, norms.SCALE))}
        self.weights = [next_.weight for layer, next_ in pairwise(layers) if layer.shift]
        self.shifts = [layer.shift for layer in layers if layer.shift]
        self.gradient = {name: torch.zeros_like(value) for name, value in self.values.items()}

    def at(self, phi: Params, step: int) -> Params:
        """Psi of a step, from 0."""
        return self._with(phi, self.values, step)

    def times(self, direction: Params, step: int) -> Params:
        """P' of a direction of phi, or of a gradient in psi."""
        return {**self.at(direction, step), **{name: direction[name] for name in self.shifts}}

    def back(
        self,
        phi: Params,
        step: int,
        found: Params,
        sign: int = 1,
        along: Params | None = None,
        g: Params | None = None,
    ) -> Params:
        """The gradient in phi, task by task, of a function whose gradient in psi is ``found``.

        That in the values is added to ``gradient``, summed over the tasks and times ``sign``.

        Args:
            phi: weights.
            step: from 0.
            found: gradients, ``[tasks, ...]``.
            sign: 1 or -1.
            along, g: the function is P'(along) g at that psi, where ``found`` has what g changes by.
        """
        if not self.weights:
            return found
        with torch.enable_grad():
            leaf = lambda value: value.detach().requires_grad_()
            moved = {name: leaf(phi[name].expand_as(found[name])) for name in self.weights}
            values = {name: leaf(value) for name, value in self.values.items()}
            psi = self._with(moved, values, step)
            total = torch.stack([(psi[name] * found[name]).sum() for name in psi]).sum()
            if along is not None and g is not None:
                scaled = self._with(along, values, step)
                total = total + torch.stack([(scaled[name] * g[name]).sum() for name in self.weights]).sum()
            slopes = torch.autograd.grad(total, [*moved.values(), *values.values()])
        for name, slope in zip(self.gradient, slopes[len(moved) :]):
            self.gradient[name].add_(slope, alpha=sign)
        still = {name: torch.zeros_like(found[name]) for name in self.shifts}
        return {**found, **still, **dict(zip(moved, slopes))}

    def _with(self, phi: Params, values: Params, step: int) -> Params:
        return norms.with_step(self.layers, phi, values, step, _scaled)
