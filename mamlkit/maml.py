"""Algorithms 1 and 2 of the paper: the inner update, the meta-objective and its gradient."""

__all__ = ["Task", "adapt", "adaptation_path", "inner_step", "meta_gradient", "meta_loss"]

from collections.abc import Callable, Collection, Mapping
from numbers import Integral
from typing import Any, NamedTuple

from torch import Tensor
from torch.func import grad, grad_and_value, vmap

Params = dict[str, Tensor]
LossFn = Callable[[Params, Any], Tensor]


class Task(NamedTuple):
    """One task, or a meta-batch of them when every tensor has a leading ``tasks`` axis.

    Paper: Algorithm 2, lines 5 and 8: D (support) and D' (query).

    Args:
        support: examples of the inner update; for supervised tasks a pair of inputs
            ``[points, ...]`` and targets ``[points, ...]``.
        query: examples of the outer loss, in the same form.
    """

    support: Any
    query: Any


def inner_step(
    loss_fn: LossFn,
    params: Params,
    support: Any,
    inner_lr: float | Params,
    first_order: bool = False,
    frozen: Collection[str] = (),
) -> Params:
    """One step of gradient descent on the support loss, returned as new parameters.

    Paper: equation in section 2.2; Algorithm 2, line 7.

    Args:
        loss_fn: ``(params, examples) -> scalar``.
        params: theta, name to tensor.
        support: what ``loss_fn`` takes as examples.
        inner_lr: alpha; or one for each parameter, by name, that is broadcast over its coordinates.
        first_order: treat the inner gradient as a constant of the outer one (section 5.2).
        frozen: names that keep their value (the shifts of batch normalisation).

    Example:
        >>> import torch
        >>> theta = {"w": torch.tensor(3.0)}
        >>> inner_step(lambda p, x: (p["w"] - x) ** 2, theta, torch.tensor(1.0), inner_lr=0.25)
        {'w': tensor(2.)}
    """
    adapted = {name: value for name, value in params.items() if name not in frozen}
    fixed = {name: value for name, value in params.items() if name in frozen}
    gradient = grad(lambda free: loss_fn({**fixed, **free}, support))(adapted)
    if first_order:
        gradient = {name: g.detach() for name, g in gradient.items()}
    rates = inner_lr if isinstance(inner_lr, dict) else dict.fromkeys(adapted, inner_lr)
    return {**params, **{name: value - rates[name] * gradient[name] for name, value in adapted.items()}}


def adapt(
    loss_fn: LossFn,
    params: Params,
    support: Any,
    *,
    inner_lr: float,
    inner_steps: int,
    first_order: bool = False,
    frozen: Collection[str] = (),
) -> Params:
    """The adapted parameters theta' after ``inner_steps`` steps on the support examples.

    Paper: Algorithm 2, lines 6-7. The same function serves meta-training and meta-testing.
    Arguments as for :func:`inner_step`.
    """
    for _ in range(_checked(inner_steps, params)):
        params = inner_step(loss_fn, params, support, inner_lr, first_order, frozen)
    return params


def adaptation_path(
    loss_fn: LossFn,
    params: Params,
    support: Any,
    *,
    inner_lr: float,
    inner_steps: int,
    frozen: Collection[str] = (),
) -> list[Params]:
    """theta and the parameters after 1, 2, ... ``inner_steps`` steps: ``inner_steps + 1`` entries."""
    path = [params]
    for _ in range(_checked(inner_steps, params)):
        path.append(inner_step(loss_fn, path[-1], support, inner_lr, frozen=frozen))
    return path


def _checked(inner_steps: int, params: Params) -> int:
    if not isinstance(params, Mapping):
        raise ValueError(f"params are a {type(params).__name__}, but must be a dict, name to tensor")
    if not isinstance(inner_steps, Integral) or inner_steps < 0:
        raise ValueError(f"inner_steps={inner_steps}, but it must be a whole number, at least 0")
    return int(inner_steps)


def meta_loss(objective: LossFn, params: Params, tasks: Task) -> tuple[Tensor, Tensor]:
    """Mean over the meta-batch of a one-task objective, and its value on each task.

    Paper: equation 1 (a sum there; the mean only rescales it, and is what the authors' code takes).

    Args:
        objective: ``(params, task) -> scalar``, written for one task (see :mod:`mamlkit.methods`).
        params: theta.
        tasks: a meta-batch, every tensor with a leading ``tasks`` axis.

    Returns:
        The mean (scalar) and the losses ``[tasks]``.
    """
    losses = vmap(objective, in_dims=(None, 0))(params, tasks)
    return losses.mean(), losses


def meta_gradient(objective: LossFn, params: Params, tasks: Task) -> tuple[Params, Tensor]:
    """Gradient of :func:`meta_loss` with respect to theta, and the losses ``[tasks]``.

    Paper: Algorithm 2, line 10. Whether it holds the second-order term is decided by the
    objective (``first_order``), not here.
    """
    gradient, (_, losses) = grad_and_value(lambda p: meta_loss(objective, p, tasks), has_aux=True)(params)
    return gradient, losses.detach()
