"""The four passes through a network that a meta-gradient needs, for many tasks at once.

For one layer, y = f(x, w), with d the gradient of the loss with respect to y:

* ``forward``: y;
* ``backward``: the gradients with respect to x and w;
* ``tangent``: the derivative of y when x and w move along (x_dot, v);
* ``tangent_backward``: the derivative of what ``backward`` gives, so of a gradient: a Hessian-vector product.

Every pass costs about one or two products per weight, and none keeps a graph. Activations are ``[tasks,
points, height, width, channels]``, with one pixel where there are no images. Weights are matrices ``[outputs,
inputs]``, those of convolutions ``[inputs, outputs]``, shared by all tasks or with a leading axis of tasks;
:func:`to_matrices` gives them.
"""

__all__ = [
    "Pass",
    "are_for",
    "from_matrices",
    "in_order",
    "kernels_of",
    "loss_gradient",
    "names",
    "to_images",
    "to_matrices",
]

from collections.abc import Callable, Mapping
from types import ModuleType, SimpleNamespace

import torch
from torch import Tensor

from mamlkit.maml import Params
from mamlkit.methods.base import Learner
from mamlkit.methods.losses import LOSSES, cross_entropy_mean, cross_entropy_per_shot, mse
from mamlkit.models import Layer

LOSSES_OF_MANY = {mse, cross_entropy_mean, cross_entropy_per_shot}  # tasks at once


def kernels_of(device: torch.device) -> ModuleType:
    """The loops for a device; imported late, since Numba takes its time."""
    if device.type == "cpu":
        from mamlkit.engine import kernels_cpu

        return kernels_cpu
    from mamlkit.engine import kernels_torch

    return kernels_torch


def names(layers: tuple[Layer, ...]) -> list[str]:
    """Of the matrices; a bias before a normalisation has none, and moves without any effect."""
    return [name for layer in layers for name in (layer.weight, layer.shift or layer.bias)]


def to_matrices(layers: tuple[Layer, ...], params: Params) -> Params:
    """Parameters as the passes take them: channels last, no bias before a normalisation."""
    matrices = {}
    params = {name: value.resolve_neg() for name, value in params.items()}  # NumPy knows no lazy minus sign
    for layer, weight, channels in _weights(layers, params):
        if layer.window:
            weight = weight.permute(2, 3, 1, 0).flatten(0, 2)
        elif channels:
            weight = weight.unflatten(1, (channels, -1)).mT.flatten(1)
        matrices[layer.weight] = weight.contiguous()
        matrices[layer.shift or layer.bias] = params[layer.shift or layer.bias].contiguous()
    return matrices


def from_matrices(layers: tuple[Layer, ...], matrices: Params, params: Params) -> Params:
    """The inverse of :func:`to_matrices`, for gradients: same names and shapes as ``params``."""
    out = {name: torch.zeros_like(value) for name, value in params.items()}
    for layer, _, channels in _weights(layers, params):
        matrix = matrices[layer.weight]
        if layer.window:
            matrix = matrix.unflatten(0, (3, 3, -1)).permute(3, 2, 0, 1)
        elif channels:
            matrix = matrix.unflatten(1, (-1, channels)).mT.flatten(1)
        out[layer.weight] = matrix.contiguous()
        out[layer.shift or layer.bias] = matrices[layer.shift or layer.bias]
    return out


def are_for(learner: Learner) -> bool:
    """Whether the passes know a learner's network, loss and update; others go the general way."""
    shifts = {layer.shift for layer in learner.model.layers} - {None}  # of which no pass has a tangent
    # Another class may have another update, and a loss of one's own may know one task only.
    same = type(learner) is Learner and LOSSES[learner.loss] in LOSSES_OF_MANY
    return same and bool(learner.model.layers) and shifts <= set(learner.model.frozen)


def loss_gradient(
    learner: Learner, outputs: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
    """Losses ``[tasks]``, their gradient with respect to the outputs, and its derivative along a direction.

    The loss is a function of few numbers, so plain automatic differentiation is fast enough here. Its Hessian
    is symmetric: the product with it, forward or backward, is the same.
    """
    with torch.enable_grad():
        leaf = outputs.detach().requires_grad_()
        targets = targets.clone() if targets.is_inference() else targets  # which no derivative may hold
        losses = LOSSES[learner.loss](leaf, targets, learner.shots)
        (d,) = torch.autograd.grad(losses.sum(), leaf, create_graph=True)
    return losses.detach(), d.detach(), lambda direction: torch.autograd.grad(d, leaf, direction)[0]


def _weights(layers: tuple[Layer, ...], params: Params) -> list[tuple[Layer, Tensor, int]]:
    """Layer, weight, and for a head over whole images the channels of those."""
    found, channels = [], 0
    for layer in layers:
        found.append((layer, params[layer.weight], channels))
        channels = len(params[layer.weight]) if layer.window and not layer.mean else 0
    return found


def to_images(layers: tuple[Layer, ...], inputs: Tensor) -> Tensor:
    """Inputs ``[tasks, points, ...]`` with channels last."""
    if layers[0].window is None:
        return inputs.flatten(2)[:, :, None, None]
    return inputs.resolve_neg().permute(0, 1, 3, 4, 2).contiguous()


def in_order(layers: tuple[Layer, ...], shapes: Mapping[str, torch.Size], outputs: Tensor) -> Tensor:
    """A pass's outputs in the order that the network itself gives them: a pass has the channels last."""
    last = layers[-1]
    if not last.window or last.mean:
        return outputs
    return outputs.unflatten(-1, (-1, shapes[last.weight][0])).mT.flatten(-2)


def _where_active(d: Tensor, y: Tensor) -> Tensor:
    """The derivative of a ReLU with output y, in the memory of d: d where y is positive, zero elsewhere."""
    return torch.ops.aten.threshold_backward.grad_input(d, y, 0, grad_input=d)


class Pass:
    """One pass of a set of examples through a network, with what the later passes need of it.

    ``outputs`` are ``[tasks, points, outputs]``, pixel by pixel where layers end in images.

    Args:
        layers: the network.
        kernels: :mod:`mamlkit.engine.kernels_cpu` or :mod:`mamlkit.engine.kernels_torch`.
        weights: matrices (see :func:`to_matrices`).
        x: examples (see :func:`to_images`).
        keep: whether the tangent passes will be asked for.
    """

    def __init__(
        self, layers: tuple[Layer, ...], kernels: ModuleType, weights: Params, x: Tensor, keep: bool
    ) -> None:
        self.layers, self.kernels, self.weights, self.keep = layers, kernels, weights, keep
        self.memory = []
        for layer in layers:
            memory, x = self._forward(layer, x)
            self.memory.append(memory)
        self.shape, self.outputs = x.shape, x.flatten(2)

    @property
    def bytes(self) -> int:
        """Memory that this pass holds; an x is the y of the layer before, or the examples."""
        return sum(t.nbytes for memory in self.memory for name, t in vars(memory).items() if name != "x")

    def gradient(self, d: Tensor) -> Params:
        """Gradient of the loss in every weight, task by task; d is the one in the outputs."""
        gradients: Params = {}
        d = d.reshape(self.shape)
        for layer, memory in zip(reversed(self.layers), reversed(self.memory)):
            d = self._backward(layer, memory, d, gradients)
        return gradients

    def tangent(self, v: Params) -> Tensor:
        """Derivative of the outputs when the weights move along v (shifts and inputs stay)."""
        x_dot = self._tangent(self.layers[0], self.memory[0], v, None)
        for layer, memory in zip(self.layers[1:], self.memory[1:]):
            x_dot = self._tangent(layer, memory, v, x_dot)
        return x_dot[:, :, 0, 0]

    def gradient_tangent(self, v: Params, d_dot: Tensor) -> Params:
        """Derivative of :meth:`gradient` along v, given that of d: the Hessian of the loss times v.

        After :meth:`gradient` and :meth:`tangent`.
        """
        gradients: Params = {}
        d_dot = d_dot[:, :, None, None]
        for layer, memory in zip(reversed(self.layers), reversed(self.memory)):
            d_dot = self._tangent_backward(layer, memory, v, d_dot, gradients)
        return gradients

    def _product(self, layer: Layer, x: Tensor, weight: Tensor, out: Tensor | None = None) -> Tensor:
        if layer.window:
            return self.kernels.product(x, weight, layer.window, out)
        out = None if out is None else out[:, :, 0, 0]
        return self.kernels.add_product(x.flatten(2), weight.mT, out)[:, :, None, None]

    def _weight_gradient(self, layer: Layer, d: Tensor, x: Tensor, out: Tensor | None = None) -> Tensor:
        if layer.window:
            return self.kernels.weight_gradient(d, x, layer.window, out)
        return self.kernels.add_product(d[:, :, 0, 0].mT, x.flatten(2), out)

    def _input_gradient(self, layer: Layer, memory: SimpleNamespace, *terms: tuple[Tensor, Tensor]) -> Tensor:
        if layer is self.layers[0]:
            return memory.x[:0]  # nobody asks for the gradient of the examples
        if layer.window:
            return self.kernels.input_gradient(terms, layer.window)
        (d, weight), *more = terms
        total = self.kernels.add_product(d[:, :, 0, 0], weight)
        for d, weight in more:
            self.kernels.add_product(d[:, :, 0, 0], weight, total)
        return total.view_as(memory.x)

    def _forward(self, layer: Layer, x: Tensor) -> tuple[SimpleNamespace, Tensor]:
        m = SimpleNamespace(x=x)
        z = self._product(layer, x, self.weights[layer.weight])
        if layer.shift:
            m.y, m.z, m.known, m.where = self.kernels.normalise(z, self.weights[layer.shift], layer.pool)
        else:
            bias = self.weights[layer.bias]
            m.y = z.add_(bias if bias.dim() == 1 else bias[:, None, None, None])
            if layer.relu:
                m.y.relu_()
        return m, m.y.mean((2, 3), keepdim=True) if layer.mean else m.y

    def _backward(self, layer: Layer, m: SimpleNamespace, d: Tensor, gradients: Params) -> Tensor:
        d = self._into(layer, m, d)
        if layer.shift:
            known = (m.y, m.z, m.known, m.where, self.weights[layer.shift])
            m.dz, gradients[layer.shift], m.sum_nd = self.kernels.normalise_backward(
                d, *known, layer.pool, self.keep
            )
        else:
            m.dz, gradients[layer.bias] = d, d.sum((1, 2, 3))
        gradients[layer.weight] = self._weight_gradient(layer, m.dz, m.x)
        return self._input_gradient(layer, m, (m.dz, self.weights[layer.weight]))

    def _tangent(self, layer: Layer, m: SimpleNamespace, v: Params, x_dot: Tensor | None) -> Tensor:
        m.x_dot = x_dot
        z_dot = self._product(layer, m.x, v[layer.weight])
        if x_dot is not None:
            z_dot = self._product(layer, x_dot, self.weights[layer.weight], z_dot)
        if layer.shift:
            known = (m.y, m.z, m.known, m.where, self.weights[layer.shift])
            y_dot, m.z_dot, m.means, m.sum_dzz = self.kernels.normalise_tangent(
                z_dot, m.dz, *known, layer.pool
            )
        else:
            y_dot = z_dot.add_(v[layer.bias][:, None, None, None])
            if layer.relu:
                _where_active(y_dot, m.y)
        return y_dot.mean((2, 3), keepdim=True) if layer.mean else y_dot

    def _tangent_backward(
        self, layer: Layer, m: SimpleNamespace, v: Params, d_dot: Tensor, gradients: Params
    ) -> Tensor:
        d_dot = self._into(layer, m, d_dot)
        if layer.shift:
            known = m.y, m.z, m.z_dot, m.dz, m.known, m.sum_nd, m.means, m.sum_dzz, m.where
            dz_dot, gradients[layer.shift] = self.kernels.normalise_tangent_backward(
                d_dot, *known, self.weights[layer.shift], layer.pool
            )
        else:
            dz_dot, gradients[layer.bias] = d_dot, d_dot.sum((1, 2, 3))
        gradients[layer.weight] = self._weight_gradient(layer, dz_dot, m.x)
        if m.x_dot is not None:
            self._weight_gradient(layer, m.dz, m.x_dot, gradients[layer.weight])
        return self._input_gradient(layer, m, (dz_dot, self.weights[layer.weight]), (m.dz, v[layer.weight]))

    def _into(self, layer: Layer, m: SimpleNamespace, d: Tensor) -> Tensor:
        """Gradient before the mean over pixels, and before a ReLU that no kernel has taken on."""
        if layer.mean:
            height, width = m.y.shape[2:4]
            d = (d / (height * width)).expand(-1, -1, height, width, -1).contiguous()
        return _where_active(d, m.y) if layer.relu and not layer.shift else d
