"""What a method gives, looked at once, before anything is trained by it."""

__all__ = [
    "check_at",
    "check_made",
    "check_parameters",
    "check_predictions",
    "check_repeated",
    "explained",
]

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Generator, Tensor

from mamlkit.maml import Params, Task
from mamlkit.methods.base import Method


def check_made(name: str, made: Any) -> Method:
    """What an entry of :data:`mamlkit.methods.METHODS` makes of a learner.

    Raises:
        ValueError: it is no :class:`mamlkit.methods.Method`, or one without its learner.
    """
    if not isinstance(made, Method):
        raise ValueError(f"method {name!r} makes {made!r}, but a mamlkit.methods.Method is due")
    if not hasattr(made, "learner"):
        raise ValueError(
            f"method {name!r} makes a {type(made).__name__} without a learner; begin its __init__ with "
            "super().__init__(learner), or make it a dataclass, which needs no __init__"
        )
    return made


def check_at(name: str, method: Method) -> Method:
    """The method as training begins, of one that may have a schedule.

    Raises:
        ValueError: its ``at`` returns no :class:`mamlkit.methods.Method`, or one of other parameters.
    """
    for progress in (0.5, 0.0):
        made = method.at(progress)
        if not isinstance(made, Method):
            raise ValueError(
                f"at of method {name!r} must return a mamlkit.methods.Method, but at({progress}) returned "
                f"{_named(made)}"
            )
        if made.shapes != method.shapes:
            raise ValueError(
                f"at of method {name!r} must return a method of the same parameters, but at({progress}) has "
                f"{', '.join(made.shapes)}, and the method itself {', '.join(method.shapes)}"
            )
    return made


def check_parameters(name: str, init: Callable[[Generator], Any], draw: Callable[[], Generator]) -> Params:
    """What ``init`` of a method returns, which may be that of its network.

    Args:
        name: of the method, for messages.
        init: looked at twice.
        draw: a new generator of the same seed at each call.

    Raises:
        ValueError: it is no mapping of names to float32 tensors, or another one from a generator of the same
            seed.
    """
    begun, again = init(draw()), init(draw())
    if not isinstance(begun, Mapping) or not all(isinstance(value, Tensor) for value in begun.values()):
        raise ValueError(
            f"init of method {name!r} must return a dict of names to tensors, but it returned {_named(begun)}"
        )
    wrong = [f"{key}: {value.dtype}" for key, value in begun.items() if value.dtype != torch.float32]
    if wrong:
        raise ValueError(
            f"init of method {name!r} returned {', '.join(wrong)}, but parameters begin as torch.float32; "
            "use .float()"
        )
    if begun.keys() != again.keys() or not all(torch.equal(begun[key], again[key]) for key in begun):
        raise ValueError(
            f"init of method {name!r} gave other parameters with a generator of the same seed; draw all that "
            "is random with the generator that init (of a network too) is given"
        )
    return dict(begun)


def _same(one: Tensor, other: Tensor) -> bool:
    """Bit for bit; what is not finite is said elsewhere, and is not equal to itself."""
    return torch.equal(one.nan_to_num(), other.nan_to_num())


def check_repeated(name: str, part: str, first: Mapping[str, Tensor], again: Mapping[str, Tensor]) -> None:
    """``ValueError`` where a part of a method, computed twice, gives another result the second time."""
    if not all(_same(first[key], again[key]) for key in first):
        raise ValueError(
            f"{part} of method {name!r} gives something else the second time, for the same parameters and "
            "tasks; it can draw nothing (of NumPy or Python either), and remember nothing"
        )


def check_predictions(name: str, predict: Callable[[Task], Tensor], batch: Task) -> None:
    """Look at what a method predicts, of a network that was not trained.

    Args:
        name: of the method, for messages.
        predict: outputs of a meta-batch ``[inner_steps + 1, tasks, points, outputs]``.
        batch: of which the targets of the query are known, and must not matter.

    Raises:
        ValueError: another prediction the second time, or with other targets of the query; or one that is
            not finite.
    """
    x, targets = batch.query
    others = targets.roll(1, 1) if bool((targets != targets.roll(1, 1)).any()) else targets + 1
    found, told = predict(batch), predict(Task(batch.support, (x, others)))
    if not _same(found, told):
        check_repeated(name, "predict", {"": found}, {"": predict(batch)})  # which of the two it is
        raise ValueError(
            f"predict of method {name!r} gives something else where the targets of the query are others, so "
            "it looks at what it should predict; use task.query[0] alone"
        )
    if not bool(found.isfinite().all()):
        raise ValueError(
            f"predict of method {name!r} gives what is not finite before any training; look for a division "
            "by zero, or for steps that are too long"
        )


@contextmanager
def explained(
    name: str, part: Literal["loss", "predict"], method: Method, params: Params, batch: Task
) -> Iterator[None]:
    """Within it the engine calls the loss or the predictions of a method, for many tasks at a time.

    Where that ends with an error, the part is called for the first task as it is written, which says more.

    Raises:
        ValueError: it returns no tensor, changes what it was given, differentiates in a way that no engine
            can follow, or asks for a tensor's value.
    """
    try:
        yield
    except Exception as error:
        if re.search("in-?place", str(error)):
            raise ValueError(
                f"{part} of method {name!r} changes a tensor in place, but all tasks begin with the same "
                "parameters; make new ones, such as {k: v - step[k] for k, v in params.items()}"
            ) from error
        if str(error).startswith("vmap: "):
            raise ValueError(
                f"{part} of method {name!r} is called for all tasks at once, so it can have no .item(), no "
                "if or while on the value of a tensor (use torch.where), and nothing random "
                f"({str(error).removeprefix('vmap: ').split('. ')[0]})"
            ) from error
        _check(name, part, method, params, batch)
        raise


@torch.no_grad()
def _check(name: str, part: str, method: Method, params: Params, batch: Task) -> None:
    support, query = (tuple(value[0] for value in pair) for pair in batch)
    try:
        given = getattr(method, part)(params, Task(support, query))
    except Exception as error:
        if "does not require grad" not in str(error):
            return  # the engine's words are as good
        raise ValueError(
            f"{part} of method {name!r} calls torch.autograd.grad or backward() ({error}); take "
            "torch.func.grad, or learner.adapt for steps of gradient descent"
        ) from error
    if not isinstance(given, Tensor):
        raise ValueError(f"{part} of method {name!r} must return a tensor, but it returned {_named(given)}")


def _named(value: Any) -> str:
    """What came, in a word or two."""
    return "None; does it lack a return?" if value is None else f"a {type(value).__name__}"
