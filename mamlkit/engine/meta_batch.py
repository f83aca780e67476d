"""How a meta-batch is executed: the meta-gradient of many tasks, fast and in little memory.

A network that says what its layers are (see :class:`mamlkit.models.Layer`) is differentiated by the adjoint
recursion of :mod:`mamlkit.engine.adjoint`, or by the ways of :mod:`mamlkit.engine.features`,
:mod:`mamlkit.engine.stepwise`, :mod:`mamlkit.engine.learned_steps` and :mod:`mamlkit.engine.classifier`;
anything else by :func:`mamlkit.maml.meta_gradient`. All are exact and give the same numbers. They ask
:mod:`mamlkit.engine.checks` first, and for all it is the same whether a caller is in autocast or in inference
mode.
"""

__all__ = ["are_small", "meta_gradient", "predictions", "updates"]

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.func import vmap
from torch.optim import Adam, Optimizer

from mamlkit import maml
from mamlkit.engine import (
    adjoint,
    checks,
    classifier,
    dense,
    features,
    head,
    learned_steps,
    network,
    passes,
    stepwise,
)
from mamlkit.engine.ranks import ALONE, Ranks
from mamlkit.engine.threads import each
from mamlkit.maml import Params, Task
from mamlkit.methods.base import Method
from mamlkit.methods.gradient import GradientMethod
from mamlkit.models import Layer

# of a layer's activations that a CPU thread takes on at once: hides Python, suits the cache
CHUNK_BYTES = 4 << 20
# of the inputs of tasks that the general way predicts for at once; activations take many times as much
GENERAL_BYTES = 8 << 20


def meta_gradient(method: Method, params: Params, tasks: Task, ranks: Ranks = ALONE) -> tuple[Params, Tensor]:
    """What :func:`mamlkit.maml.meta_gradient` gives, as fast as this device and this network allow.

    Args:
        method: what is compared; the fast way is for a :class:`mamlkit.methods.gradient.GradientMethod`.
        params: theta.
        tasks: a meta-batch, every tensor with a leading ``tasks`` axis.
        ranks: the processes that compute it together; each calls this with the same arguments. Plain layers
            are so fast, and other methods so general, that each computes all of them.

    Returns:
        The gradient of the mean loss, and the losses ``[tasks]``.

    Raises:
        ValueError: parameters or a meta-batch that do not fit the network (see
            :func:`mamlkit.engine.checks.check`), and something that is no method.
    """
    with _undisturbed():
        # the passes have no derivative through another set's statistics
        if not _is_fast(method, params, tasks) or not method.learner.transductive:
            if method.learner.transductive and (other := _other_way(method, tasks)) is not None:
                return _mean(_in_parts(other.gradient, other, method, params, tasks))
            return maml.meta_gradient(method.loss, dict(params), tasks)
        plan, kernels = method.learner.model.layers, passes.kernels_of(tasks.query[0].device)
        if _is_plain(plan, kernels):
            return dense.meta_gradient(kernels, method, params, tasks)
        weights = passes.to_matrices(plan, params)
        way = head.gradient if method.adapts and head.is_for(method.learner) else adjoint.gradient
        work = functools.partial(way, method, kernels, weights)
        parts = _parts(tasks, _chunk(plan, weights, tasks), ranks.count)
        mean, losses = _mean(ranks.each(functools.partial(each, work), parts, weights))
        return passes.from_matrices(plan, mean, params), losses


def are_small(method: Method, params: Params, optimiser: Optimizer | None, points: int) -> bool:
    """Whether :func:`updates` can be asked for: Adam as it is, on a small network of plain layers on a CPU.

    Args:
        method, params, optimiser: as there.
        points: of a meta-batch, in all its tasks.
    """
    if (
        type(method) is not GradientMethod
        or type(optimiser) is not Adam
        or not (method.learner.transductive and passes.are_for(method.learner))
    ):
        return False
    device = next(iter(params.values())).device
    if any(value.is_inference() for value in params.values()):  # which are not moved outside that mode
        return False
    plain = device.type == "cpu" and _is_plain(method.learner.model.layers, passes.kernels_of(device))
    return plain and dense.are_small(method.learner, params, points) and _is_as_it_is(optimiser, params)


def _is_as_it_is(optimiser: Adam, params: Params) -> bool:
    """Whether an optimiser moves these parameters, all alike and as Adam does by default."""
    wanted = {"weight_decay": 0, "amsgrad": False, "maximize": False}
    if optimiser._optimizer_step_pre_hooks or optimiser._optimizer_step_post_hooks:
        return False  # which nobody would call
    first, *others = optimiser.param_groups
    moved, given = first["params"], list(params.values())
    alike = not others and wanted.items() <= first.items() and list(map(id, moved)) == list(map(id, given))
    alike &= first["eps"] > 0
    if not alike or any(isinstance(option, Tensor) for option in (first["lr"], *first["betas"])):
        return False
    states = [optimiser.state.get(value, {}) for value in given]
    return len({int(state["step"]) if state else None for state in states}) == 1


def updates(
    method: Method, params: Params, optimiser: Adam, batches: Sequence[Task], clip: float | None
) -> Tensor:
    """Outer updates, one after another in one call: for what :func:`are_small` says.

    They are :func:`meta_gradient`, the clip and the step of the optimiser, up to rounding; however many are
    made in a call, the bits are the same.

    Args:
        method: as for :func:`meta_gradient`.
        params: theta, which is moved.
        optimiser: of these parameters, in this order, whose moments are moved.
        batches: a meta-batch for each update, of one size.
        clip: bound of each derivative, above 0, or None.

    Returns:
        The losses, ``[updates, tasks]``.

    Raises:
        ValueError: as for :func:`meta_gradient`, or no method of the kind; nothing was moved.
    """
    if not isinstance(method, GradientMethod):
        raise ValueError(f"{method!r} came, but only gradients of a GradientMethod are taken in one call")
    if clip is not None and not clip > 0:
        raise ValueError(f"clip={clip}, but a bound of derivatives is above 0; use None for no bound")
    sizes = [[tuple(tensor.shape) for pair in batch for tensor in pair] for batch in batches]
    if not sizes or any(each != sizes[0] for each in sizes):
        raise ValueError(f"meta-batches of shapes {sizes} came, but updates take one or more, of one size")
    if not are_small(method, params, optimiser, math.prod(sizes[0][1][:2])):
        raise ValueError(
            f"{type(optimiser).__name__} came, but updates are for Adam as it is by default, of these "
            "parameters alone, on a small network of plain layers on a CPU (see are_small)"
        )
    with _undisturbed():
        together = Task(*((torch.cat(i), torch.cat(t)) for i, t in (zip(*pair) for pair in zip(*batches))))
        checks.check(method.learner, params, together, method.shapes)
        kernels = passes.kernels_of(torch.device("cpu"))
        return dense.updates(kernels, method, params, optimiser, together, len(batches), clip)


def predictions(method: Method, params: Params, tasks: Task) -> Tensor:
    """Outputs for the query examples after 0, 1, ... ``inner_steps`` steps on the support examples.

    Args:
        method: as for :func:`meta_gradient`.
        params: theta, the same for all tasks.
        tasks: as for :func:`meta_gradient`.

    Returns:
        ``[inner_steps + 1, tasks, points, outputs]``.

    Raises:
        ValueError: as for :func:`meta_gradient`.
    """
    with _undisturbed():
        if not _is_fast(method, params, tasks):
            if (other := _other_way(method, tasks)) is not None:
                _are_apart(method)
                return torch.cat(_in_parts(other.predictions, other, method, params, tasks), dim=1)
            of_task = sum(inputs[0].nbytes for inputs, _ in tasks)
            few = max(1, GENERAL_BYTES // max(1, of_task))
            return vmap(method.predict, in_dims=(None, 0), out_dims=1, chunk_size=few)(dict(params), tasks)
        plan, kernels = method.learner.model.layers, passes.kernels_of(tasks.query[0].device)
        apart = _are_apart(method)
        if not apart and _is_plain(plan, kernels):
            return dense.predictions(kernels, method.learner, params, tasks)
        weights = passes.to_matrices(plan, params)
        way = head.predictions if head.is_for(method.learner) else adjoint.predictions
        work = functools.partial(way, method.learner, kernels, weights)
        return torch.cat(each(work, _parts(tasks, _chunk(plan, weights, tasks))), dim=1)


def _are_apart(method: Method) -> bool:
    """Whether queries are normalised by the support's statistics; as layers and apply must do alike."""
    model = method.learner.model
    if not method.learner.transductive and model.layers:
        network.check_same(model, model.layers, apart=True)
    return not method.learner.transductive


def _other_way(method: Method, tasks: Task) -> ModuleType | None:
    """How the passes are used by a method that is no :class:`GradientMethod`; None if they are not."""
    return next(
        (way for way in (classifier, features, learned_steps, stepwise) if way.is_for(method, tasks)), None
    )


def _in_parts(
    work: Callable[..., Any], way: ModuleType, method: Any, params: Params, tasks: Task
) -> list[Any]:
    plan = getattr(method, "layers", method.learner.model.layers)  # of a method whose network has none
    # the steps of an LSTM take more than any activation
    parts = _parts(tasks, 1 if way is learned_steps else _chunk(plan, params, tasks))
    return each(functools.partial(work, method, passes.kernels_of(tasks.query[0].device), params), parts)


def _mean(parts: list[tuple[Params, Tensor]]) -> tuple[Params, Tensor]:
    """The gradient of the mean loss of all tasks, from the sums of parts of them, and their losses."""
    sums, losses = zip(*parts)
    count = sum(map(len, losses))
    total = {name: torch.stack([part[name] for part in sums]).sum(0) / count for name in sums[0]}
    return total, torch.cat(losses)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Without a caller's modes: autocast would round, inference mode forbid the derivative of the loss."""
    with torch.inference_mode(False), torch.no_grad(), ExitStack() as modes:
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                modes.enter_context(torch.autocast(device, enabled=False))
        yield


def _is_fast(method: Method, params: Params, tasks: Task) -> TypeGuard[GradientMethod]:
    """Whether the passes are there; ``ValueError`` for what does not fit the network."""
    if not isinstance(method, Method):
        raise ValueError(
            f"{method!r} came, but it must be a mamlkit.methods.Method, such as methods.maml(learner)"
        )
    learner = method.learner
    checks.check_untransformed(params, tasks)
    checks.check(learner, params, tasks, method.shapes, getattr(method, "ways", None))
    return type(method) is GradientMethod and passes.are_for(learner)  # other classes may have another loss


def _is_plain(plan: tuple[Layer, ...], kernels: ModuleType) -> bool:
    """Whether there are loops for the whole recursion: for networks without convolutions, on a CPU."""
    return hasattr(kernels, "recursion") and not plan[0].window


def _parts(tasks: Task, chunk: int, ranks: int = 1) -> list[Task]:
    """A meta-batch in chunks; a GPU takes its share in one piece."""
    count = len(tasks.query[1])
    if tasks.query[1].device.type != "cpu":
        chunk = -(-count // ranks)
    part = lambda start: Task(*(tuple(t[start : start + chunk] for t in pair) for pair in tasks))
    return [part(start) for start in range(0, count, chunk)]


def _chunk(plan: tuple[Layer, ...], weights: Params, tasks: Task) -> int:
    """Tasks whose largest activation takes CHUNK_BYTES, whatever the number of threads, so that sums do not
    depend on it."""
    points = max(len(pair[1][0]) for pair in tasks)
    outputs = lambda layer: len(weights[layer.shift if layer.shift in weights else layer.bias])
    values = max((layer.window.out**2 if layer.window else 1) * outputs(layer) for layer in plan)
    return max(1, CHUNK_BYTES // (points * values * weights[plan[0].weight].element_size()))
