"""Whether the layers that a network says are the network: for the engine they are all that there is.

Each question is asked once for each network, and its answer kept.
"""

__all__ = ["check_layers", "check_same"]

import math
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache, partial

import torch
from torch import Generator, Tensor

from mamlkit import models
from mamlkit.engine import kernels_torch
from mamlkit.engine.passes import Pass, from_matrices, in_order, to_images, to_matrices
from mamlkit.engine.queries import with_support
from mamlkit.maml import Params, Task
from mamlkit.models import Layer, Model

TRIED = 4  # points, on which layers and apply must agree
# Of inputs and of weights, in units in which a layer changes no variance. So another number that is added to
# variances shows in the first case; the second has numbers far out, where something may be cut off.
SCALES = ((1.0, 1.0), (30.0, 30.0))
MOST_POOLED = 15  # side of a pooling window, whose pixels a byte must be able to number

Shapes = tuple[tuple[str, torch.Size], ...]  # of the parameters, by name; a cache can look it up


def check_layers(model: Model) -> None:
    """Whether a network's layers can have parameters of its shapes, and the engine has derivatives for them.

    Raises:
        ValueError: the layer that it has none for, or what names differ.
    """
    _check_layers(tuple(model.shapes.items()), tuple(model.layers))


def check_same(model: Model, layers: Sequence[Layer], apart: bool = False) -> None:
    """Whether layers and the ``apply`` of a network agree; asked once for each apply that a cache can hold.

    Args:
        model: the network, which may end with features.
        layers: of it, with a head or without.
        apart: normalise all by the statistics of some first points.

    Raises:
        ValueError: they do not.
        TypeError: its ``apply`` takes no ``reference``.
    """
    reference = TRIED // 2 if apart else None
    check = _check_apply if isinstance(model.apply, Hashable) else _check_apply.__wrapped__
    check(tuple(model.shapes.items()), tuple(layers), model.apply, reference)


@lru_cache
def _check_layers(network: Shapes, layers: tuple[Layer, ...]) -> None:
    shapes = dict(network)
    names = [name for layer in layers for name in (layer.weight, layer.bias, layer.shift) if name is not None]
    if sorted(names) != sorted(shapes):
        raise ValueError(
            f"layers name {', '.join(names)}, but the network's parameters are {', '.join(shapes)}"
        )
    images = layers[0].window
    size, channels = images[:2] if images else (1, shapes[layers[0].weight][1])
    for layer in layers:
        outputs, window = shapes[layer.bias][0], layer.window
        fits = shapes[layer.bias] == shapes[layer.shift or layer.bias] == (outputs,)
        fits &= outputs * channels > 0
        fits &= shapes[layer.weight] == (
            (outputs, channels, 3, 3) if window else (outputs, channels * size**2)
        )
        fits &= layer.relu or layer.shift is None
        fits &= window is None or images is not None  # convolutions come first
        images = window
        if window:
            padded = (*models.same_padding(size, window.stride), math.ceil(size / window.stride))
            fits &= window == (size, channels, window.stride, *padded) and window.stride in (1, 2)
        fits &= layer.pool in range(1, min(MOST_POOLED, window.out) + 1 if window and layer.shift else 2)
        if not fits:
            raise ValueError(
                f"{layer} after {channels} channels of {size} x {size} pixels is not what the engine has "
                "derivatives for; see mamlkit.models.Layer, or leave out the model's layers"
            )
        size, channels = window.out // layer.pool if window and not layer.mean else 1, outputs
    if size != 1:
        raise ValueError(
            f"the last layer leaves {size} x {size} pixels, but an output is one number; end with a head"
        )


@lru_cache
def _check_apply(
    shapes: Shapes, layers: tuple[Layer, ...], apply: Callable[..., Tensor], reference: int | None
) -> None:
    """Whether ``layers`` and ``apply``, a pure function, are one network: both are run on random numbers, and
    both have their derivatives taken.

    With ``reference`` they are normalised by the statistics of so many first points; there are no derivatives
    then.
    """
    generator = Generator().manual_seed(0)
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    window = layers[0].window
    point = (window.channels, window.size, window.size) if window else (dict(shapes)[layers[0].weight][1],)
    for of_inputs, of_weights in SCALES:
        params = {name: draw(shape) for name, shape in shapes}
        for name in (layer.weight for layer in layers):
            params[name] *= of_weights / math.sqrt(params[name][0].numel())
        for name in (name for layer in layers for name in (layer.bias, layer.shift) if name):
            params[name].abs_().mul_(of_weights)  # or too few units are active to tell two networks apart
        inputs = of_inputs * draw((TRIED, *point))
        if reference is None:
            _compare(layers, apply, params, inputs, draw)
        else:
            parts = Task(*((part[None], part) for part in (inputs[:reference], inputs[reference:])))
            of_parts = with_support(layers, kernels_torch, parts)(to_matrices(layers, params))
            found = in_order(layers, dict(shapes), torch.cat(of_parts, 1)[0])
            _check_alike(found, apply(params, inputs, reference=reference))


def _compare(
    layers: tuple[Layer, ...],
    apply: Callable[..., Tensor],
    params: Params,
    inputs: Tensor,
    draw: Callable[..., Tensor],
) -> None:
    """Outputs, and the gradient in all parameters of a random sum of them."""
    shapes = {name: value.shape for name, value in params.items()}
    weights, images = to_matrices(layers, params), to_images(layers, inputs[None])
    run = Pass(layers, kernels_torch, weights, images, keep=False)
    with torch.enable_grad():
        leaf = run.outputs[0].detach().requires_grad_()
        found = in_order(layers, shapes, leaf)
        leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
        wanted = apply(leaves, inputs)
        _check_alike(found, wanted)
        along = draw(found.shape)
        (d,) = torch.autograd.grad((found * along).sum(), leaf)
        # plus nothing, so that what apply holds still has a gradient as well: zeros
        of_all = (wanted * along).sum() + sum(0 * value.sum() for value in leaves.values())
        slopes = torch.autograd.grad(of_all, list(leaves.values()))
    matrices = {name: value[0] for name, value in run.gradient(d[None]).items()}
    of_layers = from_matrices(layers, matrices, params)
    of_apply = dict(zip(leaves, slopes))
    whole = math.sqrt(sum(float(slope.square().sum()) for slope in of_apply.values()))
    for name, slope in of_apply.items():  # of a bias before a normalisation it is nothing but rounding
        if not (of_layers[name] - slope).norm() <= 1e-6 * slope.norm() + 1e-9 * whole:
            raise ValueError(
                f"the model's layers have another derivative in {name!r} than its apply, for all that their "
                "outputs are alike; take what stops or changes gradients out of apply (to keep parameters "
                "still, use the model's frozen), or leave out the layers"
            )


def _check_alike(found: Tensor, wanted: Tensor) -> None:
    if found.shape != wanted.shape or not (found - wanted).norm() <= 1e-6 * wanted.norm():
        raise ValueError(
            "the model's layers give other outputs than its apply; change both alike, or leave out the layers"
        )
