"""What a network can be given, checked once, in the words of the network, before any loop sees it.

The compiled loops read and write where the shapes of a network tell them, without asking. So nothing comes to
them that was not looked at here. That takes some microseconds for each tensor.
"""

__all__ = ["check", "check_apart", "check_images", "check_same"]

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import lru_cache, partial

import torch
from torch import Generator, Tensor

from mamlkit import models
from mamlkit.engine import kernels_torch
from mamlkit.engine.passes import Pass, in_order, to_images, to_matrices
from mamlkit.engine.queries import with_support
from mamlkit.maml import Params, Task
from mamlkit.methods import losses
from mamlkit.methods.base import Learner
from mamlkit.models import Layer, Model

FLOATS = (torch.float32, torch.float64)  # on a CPU, PyTorch's own convolutions in bfloat16 at times give NaN
TRIED = 4  # points, on which layers and apply must agree
MOST_POOLED = 15  # side of a pooling window, whose pixels a byte must be able to number

Shapes = tuple[tuple[str, torch.Size], ...]  # of the parameters, by name; a cache can look it up
Examples = dict[str, Tensor]  # the four tensors of a meta-batch, by the words for them


def check(
    learner: Learner,
    params: Params,
    tasks: Task,
    shapes: Mapping[str, torch.Size] | None = None,
    ways: int | None = None,
) -> None:
    """Whether a learner can work with these parameters on this meta-batch.

    Labels are compared with the number of classes on a CPU only: a GPU would have to be waited for. The
    families of :mod:`mamlkit.tasks` give none that are out of range.

    Args:
        learner: network and loss.
        params: theta.
        tasks: a meta-batch, every tensor with leading axes ``[tasks, points]``.
        shapes: of theta, by name, where a method adds to the network's parameters; else the network's.
        ways: classes that a method tells apart, where its network does not say so.

    Raises:
        ValueError: what came, and what this network takes.
    """
    model = learner.model
    examples = _examples(tasks)
    _check_params(model, params, model.shapes if shapes is None else shapes)
    _check_tensors(params, examples, inputs_too=bool(model.layers))
    _check_counts(examples)
    outputs = ways
    if model.layers:
        _check_layers(tuple(model.shapes.items()), tuple(model.layers))
        check_same(model, model.layers)
        outputs = model.shapes[model.layers[-1].bias][0]
        check_images(model.layers, model.shapes, tasks, learner.transductive)
    dtype = (*params.values(), tasks.support[0])[0].dtype
    for name, (inputs, targets) in zip(Task._fields, tasks):
        _check_targets(learner.loss, (*inputs.shape[:2], outputs), dtype, name, targets)


def check_apart(model: Model) -> None:
    """Whether a network's layers and its ``apply`` agree where the first points normalise all.

    Raises:
        ValueError: they do not.
        TypeError: its ``apply`` takes no ``reference``.
    """
    check_same(model, model.layers, apart=True)


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


def _examples(tasks: Task) -> Examples:
    if not (
        isinstance(tasks, Task) and all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in tasks)
    ):
        raise ValueError(
            "a meta-batch is a Task of two pairs, (inputs, targets) of the support and of the query"
        )
    (support, support_targets), (query, query_targets) = tasks
    return {
        "support inputs": support,
        "support targets": support_targets,
        "query inputs": query,
        "query targets": query_targets,
    }


def _check_params(model: Model, params: Params, wanted: Mapping[str, torch.Size]) -> None:
    if not isinstance(params, Mapping):
        raise ValueError(
            f"parameters are a {type(params).__name__}, but must be a dictionary, name to tensor"
        )
    if params.keys() != wanted.keys():
        missing, more = (
            sorted(a - b, key=str)
            for a, b in ((wanted.keys(), params.keys()), (params.keys(), wanted.keys()))
        )
        raise ValueError(
            f"parameters lack {missing} and have {more} too much; this network has {', '.join(wanted)}"
        )
    if unknown := set(model.frozen) - wanted.keys():
        raise ValueError(f"frozen={sorted(unknown)}, but this network's parameters are {', '.join(wanted)}")
    for name, value in params.items():
        if isinstance(value, Tensor) and value.shape != wanted[name]:
            raise ValueError(
                f"parameter {name!r} is {tuple(value.shape)}, but this network takes {tuple(wanted[name])}; "
                "use parameters of the same network, of the same scale"
            )


def _check_tensors(params: Params, examples: Examples, inputs_too: bool) -> None:
    """Dense tensors on one device; parameters and, where layers are known, inputs of one type."""
    dtype = device = None
    for name, value in (*params.items(), *examples.items()):
        if not isinstance(value, Tensor) or value.layout is not torch.strided:
            came = value.layout if isinstance(value, Tensor) else type(value)
            raise ValueError(
                f"{name}: {came} came, but it must be a dense tensor; use torch.from_numpy or to_dense"
            )
        if dtype is None:
            dtype, device = value.dtype, value.device
            if dtype not in FLOATS or device.type == "meta":
                raise ValueError(
                    f"{name}: {dtype} on {device} came, but it must be {' or '.join(map(str, FLOATS))}, "
                    "on a CPU or a GPU"
                )
        if value.device != device:
            raise ValueError(
                f"{name}: on {value.device}, but the first parameter is on {device}; use .to('{device}')"
            )
        if value.dtype != dtype and (name in params or (inputs_too and name.endswith("inputs"))):
            raise ValueError(f"{name}: {value.dtype}, but the first parameter is {dtype}; use .to({dtype})")


def _check_counts(examples: Examples) -> None:
    """The same tasks everywhere, and in each pair as many inputs as targets; at least one of each."""
    for name, value in examples.items():
        if value.dim() < 2:
            raise ValueError(f"{name}: {tuple(value.shape)}, but two axes lead, [tasks, points, ...]")
    counts = {name: len(value) for name, value in examples.items()}
    if len(set(counts.values())) > 1 or 0 in counts.values():
        raise ValueError(
            f"a meta-batch holds the same tasks in all its tensors, at least one, but came with {counts}"
        )
    points = {name: value.shape[1] for name, value in examples.items()}
    for part in Task._fields:
        if points[f"{part} inputs"] != points[f"{part} targets"] or not points[f"{part} inputs"]:
            raise ValueError(
                f"an input has one target, and a task at least one of both, but came with {points}"
            )


def check_images(
    layers: tuple[Layer, ...], shapes: Mapping[str, torch.Size], tasks: Task, transductive: bool
) -> None:
    """Whether layers, with a head or without, can take these examples.

    Args:
        layers: of the network.
        shapes: of its parameters, by name.
        tasks: a meta-batch whose tensors were looked at.
        transductive: of the learner.

    Raises:
        ValueError: inputs of another size, or too few for the statistics of a normalisation.
    """
    for name, (inputs, _) in zip(Task._fields, tasks):
        _check_inputs(layers, shapes, name, inputs)
        if name == "support" or transductive:
            _check_statistics(layers, name, inputs.shape[1])


def _check_inputs(
    layers: tuple[Layer, ...], shapes: Mapping[str, torch.Size], name: str, inputs: Tensor
) -> None:
    shape = tuple(inputs.shape[2:])
    window = layers[0].window
    if window:
        models.check_images(shape, (window.channels, window.size, window.size))
    elif not shape:
        raise ValueError(
            f"{name} inputs: {tuple(inputs.shape)}, but this network takes [tasks, points, features]"
        )
    else:
        models.check_features(math.prod(shape), shapes[layers[0].weight][1])


def _check_statistics(layers: tuple[Layer, ...], name: str, points: int) -> None:
    for layer in layers:
        if layer.shift and points * (layer.window.out**2 if layer.window else 1) == 1:
            raise ValueError(
                f"{name}: one point in each task, but the batch normalisation of {layer.shift!r} "
                "needs two values or more for its variance; use more points"
            )


def _check_targets(
    loss: str, shape: tuple[int, int, int | None], dtype: torch.dtype, name: str, targets: Tensor
) -> None:
    """What the losses ask of their targets, and what they cannot ask; a loss of one's own asks for itself.

    Args:
        shape: of the outputs, ``[tasks, points, outputs]``; None for a number that is not known.
        dtype: of the parameters.
    """
    *points, outputs = shape
    of = losses.LOSSES[loss]
    if of is losses.mse:
        if targets.dtype != dtype:
            raise ValueError(f"{name} targets: {targets.dtype}, but parameters are {dtype}; use .to({dtype})")
        if outputs is not None:
            losses.check_values(shape, targets)
    elif of in (losses.cross_entropy_mean, losses.cross_entropy_per_shot):
        losses.check_labels(tuple(points), targets)
        if targets.device.type == "cpu":
            least, largest = map(int, torch.aminmax(targets))
            if least < 0 or largest >= (math.inf if outputs is None else outputs):
                classes = "the number of classes" if outputs is None else outputs
                raise ValueError(
                    f"{name} labels lie between {least} and {largest}, but must lie from 0 to "
                    f"{classes} less 1"
                )


@lru_cache
def _check_layers(network: Shapes, layers: tuple[Layer, ...]) -> None:
    """Whether ``layers`` can be the network with parameters of these shapes; asked once for each network."""
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
    """Whether ``layers`` and ``apply``, a pure function, are one network: both are run on random numbers.

    With ``reference`` they are normalised by the statistics of so many first points.
    """
    generator = Generator().manual_seed(0)
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    params = {name: draw(shape) for name, shape in shapes}
    for name in (name for layer in layers for name in (layer.bias, layer.shift) if name):
        params[name].abs_()  # or too few units are active to tell two networks apart
    window = layers[0].window
    point = (window.channels, window.size, window.size) if window else params[layers[0].weight].shape[1:]
    inputs = draw((TRIED, *point))
    weights = to_matrices(layers, params)
    if reference is None:
        found = Pass(layers, kernels_torch, weights, to_images(layers, inputs[None]), keep=False).outputs[0]
        wanted = apply(params, inputs)
    else:
        parts = Task(*((part[None], part) for part in (inputs[:reference], inputs[reference:])))
        found = torch.cat(with_support(layers, kernels_torch, parts)(weights), 1)[0]
        wanted = apply(params, inputs, reference=reference)
    found = in_order(layers, dict(shapes), found)
    if found.shape != wanted.shape or not (found - wanted).norm() <= 1e-6 * wanted.norm():
        raise ValueError(
            "the model's layers give other outputs than its apply; change both alike, or leave out the layers"
        )
