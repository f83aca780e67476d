"""A network of plain layers on a CPU: the whole meta-gradient in compiled loops, which Python calls once.

Tasks are small there, and a call of PyTorch takes longer than what it computes.
"""

__all__ = ["are_small", "meta_gradient", "predictions", "updates"]

import math
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mamlkit.engine.threads import spread
from mamlkit.maml import Params, Task
from mamlkit.methods.base import Learner
from mamlkit.methods.gradient import GradientMethod
from mamlkit.methods.losses import LOSSES, cross_entropy_per_shot, mse

SUMS_BYTES = 4 << 20  # of gradients before they are added up: tasks are put in groups until this holds them
MOMENTS = ("exp_avg", "exp_avg_sq")  # what PyTorch calls Adam's
TOGETHER = 8  # tasks that make their one step together: activations still suit the cache
SMALL = 4 << 20  # points of a meta-batch times parameters, up to which a second thread gains nothing

Array = NDArray[Any]
DTYPES = {np.dtype(np.float32): torch.float32, np.dtype(np.float64): torch.float64}


def meta_gradient(
    kernels: ModuleType, method: GradientMethod, params: Params, tasks: Task
) -> tuple[Params, Tensor]:
    """What :func:`mamlkit.engine.meta_batch.meta_gradient` gives; it has checked everything.

    Args:
        kernels: the loops, :mod:`mamlkit.engine.kernels_cpu`.
        method, params, tasks: as there.
    """
    count = len(tasks.query[0])
    net, theta, support, query, scales, steps = _given(kernels, method, params, tasks)
    products = sum(inputs.shape[0] * inputs.shape[1] for inputs, _ in (support, query)) * len(theta)
    size, groups = _groups(count, theta, products)
    sums, losses = _empty(kernels, theta, groups, len(theta)), np.empty(count, theta.dtype)
    given = net, theta, support, query, scales

    def work(part: tuple[int, int]) -> None:
        memory = _memory(kernels, net, steps, theta)
        rest = method.first_order, part, size, memory, sums, losses
        if net.together:
            kernels.one_step.meta_gradients(*given, *rest)
        else:
            kernels.recursion.meta_gradients(*given, steps, *rest)

    spread(work, _parts(groups, products))
    total = sums[0]
    for other in sums[1:]:
        total += other
    return _dictionary(total / count, params), torch.from_numpy(losses)


def are_small(learner: Learner, params: Params, points: int) -> bool:
    """Whether updates are best made by :func:`updates`, of a network of plain layers.

    That depends on sizes alone, since the rounding of Adam's step does on this. Biases before a normalisation
    have no derivative, and no place in the loops.

    Args:
        learner, params: network and theta.
        points: of a meta-batch, in all its tasks.
    """
    few = points * sum(value.numel() for value in params.values()) <= SMALL
    return few and all(layer.shift is None for layer in learner.model.layers)


def updates(
    kernels: ModuleType,
    method: GradientMethod,
    params: Params,
    optimiser: torch.optim.Adam,
    tasks: Task,
    count: int,
    clip: float | None,
) -> Tensor:
    """Outer updates one after another, in one call: theta and the moments of the optimiser are moved.

    They are what :func:`meta_gradient` and the optimiser's own step give, up to rounding.

    Args:
        kernels: :mod:`mamlkit.engine.kernels_cpu`.
        method, params: as for :func:`meta_gradient`.
        optimiser: of the parameters, with its options as they are by default but for the rate.
        tasks: of all meta-batches, one batch after the other.
        count: of the meta-batches, all of one size: of the updates.
        clip: bound of a derivative, or None.

    Returns:
        The losses, ``[updates, tasks]``.
    """
    net, theta, support, query, scales, steps = _given(kernels, method, params, tasks)
    support, query = (tuple(a.reshape(count, -1, *a.shape[1:]) for a in pair) for pair in (support, query))
    of_batch = query[0].shape[1]
    size, groups = _groups(of_batch, theta, products=0)
    states = [optimiser.state[value] for value in params.values()]
    moments = np.zeros((2, len(theta)), theta.dtype)
    for i, name in enumerate(MOMENTS):
        if states[0]:
            moments[i] = torch.cat([state[name].flatten() for state in states]).numpy()
    (group,) = optimiser.param_groups
    done = int(states[0]["step"]) if states[0] else 0
    adam = done, group["lr"], *group["betas"], group["eps"], math.inf if clip is None else float(clip)
    memory = _memory(kernels, net, steps, theta)
    sums, losses = np.empty((groups, len(theta)), theta.dtype), np.empty((count, of_batch), theta.dtype)
    of_loops = None if net.together else steps
    given = moments, support, query, scales, of_loops, method.first_order, size, adam
    kernels.updates.updates(net, theta, *given, memory, sums, losses)
    sizes = [value.numel() for value in params.values()]
    parts = zip(params.values(), states, *(torch.from_numpy(a).split(sizes) for a in (theta, *moments)))
    for value, state, moved, *changed in parts:
        value.copy_(moved.view_as(value))
        if not state:
            state["step"] = torch.zeros(())
            state |= {name: torch.empty_like(value) for name in MOMENTS}
        state["step"] += count
        for name, moment in zip(MOMENTS, changed):
            state[name].copy_(moment.view_as(value))
    return torch.from_numpy(losses)


def predictions(kernels: ModuleType, learner: Learner, params: Params, tasks: Task) -> Tensor:
    """What :func:`mamlkit.engine.meta_batch.predictions` gives; arguments as for :func:`meta_gradient`."""
    (support, (inputs, _)), steps = tasks, learner.inner_steps
    net = _network(kernels, learner, params, support[0].shape[1], inputs.shape[1])
    theta, x = _row(params), _array(inputs.flatten(2))
    outputs = np.empty((steps + 1, *x.shape[:2], _sizes(learner, params)[-1]), theta.dtype)
    given = net, theta, _arrays(support, theta), x, _scale(learner, support[1]), steps
    spread(
        lambda part: kernels.recursion.predictions(*given, part, _memory(kernels, net, 1, theta), outputs),
        _parts(len(x), x.shape[0] * x.shape[1] * len(theta)),
    )
    return torch.from_numpy(outputs)


def _given(kernels: ModuleType, method: GradientMethod, params: Params, tasks: Task) -> tuple[Any, ...]:
    """What the loops of a meta-gradient begin with: the net, theta, the examples, scales and steps."""
    learner = method.learner
    pairs = (tasks.support, tasks.query) if method.adapts else (tasks.support, tasks.support)
    steps = learner.inner_steps if method.adapts else 0
    support, query = (pair[0].shape[1] for pair in pairs)
    net = _network(kernels, learner, params, support, query, steps)
    theta = _row(params)
    scales = _scale(learner, pairs[0][1]), _scale(learner, pairs[1][1])
    return net, theta, *(_arrays(pair, theta) for pair in pairs), scales, steps


def have_few_points(points: int, sizes: tuple[int, ...]) -> bool:
    """Whether the moved weights of a task, with so many points in all, are more to multiply by than theta
    twice."""
    features, *hidden, _ = sizes
    return points <= min(hidden, default=features)


def _memory(kernels: ModuleType, net: Any, steps: int, theta: Array) -> Array:
    """For one thread's call; zeros, unless the loops clear what they need."""
    memory = _empty(kernels, theta, kernels.records.numbers(net, steps))
    if not net.together:
        memory[:] = 0
    return memory


def _empty(kernels: ModuleType, like: Array, *shape: int) -> Array:
    memory: Tensor = kernels.memory.empty(DTYPES[like.dtype], *shape)
    return memory.numpy()


def _groups(tasks: int, theta: Array, products: int) -> tuple[int, int]:
    """Tasks of a group, and groups; whatever the number of threads, so that sums stay the same. One thread's
    tasks are one group."""
    size = math.ceil(tasks * theta.nbytes / SUMS_BYTES) if products > SMALL else tasks
    return size, math.ceil(tasks / size)


def _parts(count: int, products: int) -> list[tuple[int, int]]:
    """A range of so many for each thread; one where a pass has too few products for a second to gain."""
    parts = min(count, torch.get_num_threads()) if products > SMALL else 1
    ends = [count * part // parts for part in range(parts + 1)]
    return list(pairwise(ends))


def _sizes(learner: Learner, params: Params) -> tuple[int, ...]:
    layers = learner.model.layers
    return params[layers[0].weight].shape[1], *(len(params[layer.weight]) for layer in layers)


def _network(
    kernels: ModuleType, learner: Learner, params: Params, support: int, query: int, steps: int = 0
) -> Any:
    """Of passes over so many points, with so many steps of a meta-gradient between them."""
    sizes = _sizes(learner, params)
    together = TOGETHER if steps == 1 and have_few_points(support + query, sizes) else 0
    layers, frozen = tuple(learner.model.layers), frozenset(learner.model.frozen)
    given = layers, frozen, LOSSES[learner.loss] is not mse
    itemsize = params[layers[0].weight].itemsize
    counts = tuple((name, value.numel()) for name, value in params.items())
    net = kernels.plans.network(*given, counts, sizes, support, query, together, itemsize)
    return net._replace(inner_lr=float(learner.inner_lr))


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


def _row(params: Params) -> Array:
    """All parameters in a row."""
    return np.concatenate([value.detach().resolve_neg().numpy().ravel() for value in params.values()])


def _dictionary(row: Array, params: Params) -> Params:
    """The inverse of :func:`_row`."""
    parts = torch.split_with_sizes(torch.from_numpy(row), [value.numel() for value in params.values()])
    return {name: part.view(value.shape) for part, (name, value) in zip(parts, params.items())}
