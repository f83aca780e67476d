"""What a network can be given, checked once, in the words of the network, before any loop sees it.

The compiled loops read and write where the shapes of a network tell them, without asking. So nothing comes to
them that was not looked at here. That takes some microseconds for each tensor.
"""

__all__ = ["check", "check_images", "check_untransformed"]

import math
from collections.abc import Mapping
from itertools import chain

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor

from mamlkit import models
from mamlkit.engine.network import check_layers, check_same
from mamlkit.maml import Params, Task
from mamlkit.methods import losses
from mamlkit.methods.base import Learner
from mamlkit.models import Layer, Model

FLOATS = (torch.float32, torch.float64)  # on a CPU, PyTorch's own convolutions in bfloat16 at times give NaN
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
        check_layers(model)
        check_same(model, model.layers)
        outputs = model.shapes[model.layers[-1].bias][0]
        check_images(model.layers, model.shapes, tasks, learner.transductive)
    dtype = (*params.values(), tasks.support[0])[0].dtype
    for name, (inputs, targets) in zip(Task._fields, tasks):
        _check_targets(learner.loss, (*inputs.shape[:2], outputs), dtype, name, targets)


def check_untransformed(params: Params, tasks: Task) -> None:
    """Whether no tensor comes out of a transform of ``torch.func``, whose derivatives would be zeros.

    What is no tensor, or no meta-batch, is left to :func:`check`.

    Raises:
        ValueError: one does.
    """
    own = params.values() if isinstance(params, Mapping) else ()
    pairs = [pair for pair in tasks if isinstance(pair, tuple | list)] if isinstance(tasks, Task) else ()
    for value in chain(own, *pairs):
        if isinstance(value, Tensor) and is_functorch_wrapped_tensor(value):
            raise ValueError(
                "a tensor came out of a transform of torch.func (grad, jvp, vmap, ...), but what is computed "
                "here has no derivative; transform the method's own loss or predict instead"
            )


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
    if unknown := set(model.frozen) - wanted.keys() - model.shapes.keys():  # a method may replace some
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
                most = "the number of classes less 1" if outputs is None else outputs - 1
                raise ValueError(
                    f"{name} labels lie between {least} and {largest}, but must lie from 0 to {most}; give "
                    "the network an output for each class"
                )
