"""A network of plain layers on a CPU: the whole meta-gradient in compiled loops, which Python calls once.

Tasks are small there, and a call of PyTorch takes longer than what it computes.
"""

__all__ = ["meta_gradient", "predictions"]

import math
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mamlkit.engine.threads import each
from mamlkit.maml import Params, Task
from mamlkit.methods.base import Learner
from mamlkit.methods.gradient import GradientMethod
from mamlkit.methods.losses import LOSSES, cross_entropy_per_shot, mse
from mamlkit.models import BATCH_NORM_EPS

SUMS_BYTES = 8 << 20  # of gradients before they are added up: tasks are put in groups until this holds them

Array = NDArray[Any]


def meta_gradient(
    recursion: ModuleType, method: GradientMethod, params: Params, tasks: Task
) -> tuple[Params, Tensor]:
    """What :func:`mamlkit.engine.meta_batch.meta_gradient` gives; it has checked everything.

    Args:
        recursion: the loops, :mod:`mamlkit.engine.kernels_cpu.recursion`.
        method, params, tasks: as there.
    """
    learner, theta = method.learner, _vector(method.learner, params)
    pairs = (tasks.support, tasks.query) if method.adapts else (tasks.support, tasks.support)
    support, query = (_arrays(pair, theta) for pair in pairs)
    scales = _scale(learner, pairs[0][1]), _scale(learner, pairs[1][1])
    count = len(query[0])
    size = math.ceil(count * theta.nbytes / SUMS_BYTES)  # whatever the number of threads: sums stay the same
    groups = math.ceil(count / size)
    sums, losses = np.empty((groups, len(theta)), theta.dtype), np.empty(count, theta.dtype)
    steps = learner.inner_steps if method.adapts else 0
    update = steps, method.first_order
    given = _network(recursion, learner, params), theta, support, query, scales, *update
    each(lambda part: recursion.meta_gradients(*given, part, size, sums, losses), _parts(groups))
    return _dictionary(learner, sums.sum(0) / count, params), torch.from_numpy(losses)


def predictions(recursion: ModuleType, learner: Learner, params: Params, tasks: Task) -> Tensor:
    """What :func:`mamlkit.engine.meta_batch.predictions` gives; arguments as for :func:`meta_gradient`."""
    theta, (support, (inputs, _)) = _vector(learner, params), tasks
    x, steps = _array(inputs.flatten(2)), learner.inner_steps
    outputs = np.empty((steps + 1, *x.shape[:2], _sizes(learner, params)[-1]), theta.dtype)
    net, scale = _network(recursion, learner, params), _scale(learner, support[1])
    given = net, theta, _arrays(support, theta), x, scale, steps
    each(lambda part: recursion.predictions(*given, part, outputs), _parts(len(x)))
    return torch.from_numpy(outputs)


def _parts(count: int) -> list[tuple[int, int]]:
    """A range of so many for each thread."""
    parts = min(count, torch.get_num_threads())
    ends = [count * part // parts for part in range(parts + 1)]
    return list(pairwise(ends))


def _sizes(learner: Learner, params: Params) -> list[int]:
    layers = learner.model.layers
    return [params[layers[0].weight].shape[1], *(len(params[layer.weight]) for layer in layers)]


def _network(recursion: ModuleType, learner: Learner, params: Params) -> Any:
    layers, frozen = learner.model.layers, learner.model.frozen
    names = lambda layer: (layer.weight, layer.shift or layer.bias)
    flags = (
        [layer.shift is not None for layer in layers],
        [layer.relu for layer in layers],
        *([names(layer)[part] not in frozen for layer in layers] for part in range(2)),
    )
    return recursion.Network(
        np.array(_sizes(learner, params)),
        *(np.array(flag) for flag in flags),
        labels=LOSSES[learner.loss] is not mse,
        inner_lr=float(learner.inner_lr),
        eps=BATCH_NORM_EPS,
    )


def _scale(learner: Learner, targets: Tensor) -> float:
    """What the loss of a task multiplies its sum by; targets are ``[tasks, points, outputs]``, or labels."""
    return 1 / (learner.shots if LOSSES[learner.loss] is cross_entropy_per_shot else targets[0].numel())


def _array(tensor: Tensor) -> Array:
    return np.ascontiguousarray(tensor.detach().resolve_neg().numpy())


def _arrays(pair: tuple[Tensor, Tensor], theta: Array) -> tuple[Array, Array]:
    """Inputs ``[tasks, points, features]``, and targets or the numbers of classes in their type."""
    inputs, targets = pair
    targets = targets if targets.is_floating_point() else targets[..., None]
    return _array(inputs.flatten(2)), _array(targets).astype(theta.dtype, copy=False)


def _vector(learner: Learner, params: Params) -> Array:
    parts = []
    for layer in learner.model.layers:
        parts += [_array(params[layer.weight]).T, _array(params[layer.shift or layer.bias])]
    return np.concatenate([part.ravel() for part in parts])


def _dictionary(learner: Learner, vector: Array, params: Params) -> Params:
    """The inverse of :func:`_vector`, for gradients."""
    out, start = {}, 0
    for layer in learner.model.layers:
        for name in (layer.weight, layer.shift or layer.bias):
            size, turned = params[name].numel(), params[name].shape[::-1]
            part = vector[start : start + size].reshape(turned).T
            out[name] = torch.from_numpy(np.ascontiguousarray(part))
            start += size
    return {name: out[name] if name in out else torch.zeros_like(value) for name, value in params.items()}
