"""What a family gives, looked at once, before anything is trained on it."""

__all__ = ["check"]

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from mamlkit.maml import Task

PARTS = ("support", "query")


def check(
    family: str,
    sample: Callable[[Generator, int], Any],
    draw: Callable[[], Generator],
    *,
    tasks: int,
    points: tuple[int, int],
) -> Task:
    """Draw a meta-batch twice, and refuse what training would take without a word.

    Args:
        family: its name, for messages.
        sample: of the family.
        draw: a new generator of the same seed at each call.
        tasks: how many are asked for.
        points: of the support and of the query of a task.

    Returns:
        The meta-batch.

    Raises:
        ValueError: no :class:`mamlkit.maml.Task` of tensors, another number of tasks or points, inputs
            without targets, numbers that are not finite, the support as the query, or another meta-batch
            from a generator of the same seed.
    """
    first, again = sample(draw(), tasks), sample(draw(), tasks)
    _look(family, first, tasks, points)
    _look(family, again, tasks, points)
    pairs = zip((*first.support, *first.query), (*again.support, *again.query))
    if not all(torch.equal(a, b) for a, b in pairs):
        raise ValueError(
            f"family {family!r} gave other tasks with a generator of the same seed; draw all that is random "
            "with the generator that sample() is given"
        )
    return first


def _look(family: str, batch: Any, tasks: int, points: tuple[int, int]) -> None:
    if not isinstance(batch, Task):
        raise ValueError(f"family {family!r}: sample() returned {_named(batch)}; return Task((x, y), (x, y))")
    for part, pair, count in zip(PARTS, batch, points):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ValueError(
                f"family {family!r}: the {part} is {_named(pair)}, but it must be a pair of inputs and "
                "targets; return Task((x, y), (x, y))"
            )
        for name, value in zip((f"{part} inputs", f"{part} targets"), pair):
            _look_at(family, name, value, tasks)
        inputs, targets = (value.shape[1] for value in pair)
        if inputs != targets:
            raise ValueError(
                f"family {family!r} gave {inputs} {part} inputs and {targets} {part} targets for a task; "
                "give each input its target, as in Task((x, y), (x, y))"
            )
        if inputs != count:
            raise ValueError(
                f"family {family!r} gave {inputs} {part} points for a task where {count} were asked for"
            )
    if _all_told(*(pair[0] for pair in batch)):
        raise ValueError(
            f"family {family!r} gave queries all of whose inputs are in the support, so a test would ask for "
            "what it was told; draw other points"
        )


def _all_told(support: Tensor, query: Tensor) -> bool:
    """Whether each input of each query stands in its support; most often the first one says no."""
    return support.shape[2:] == query.shape[2:] and all(
        bool((known == asked).flatten(1).all(1).any())
        for known, of_task in zip(support, query)
        for asked in of_task
    )


def _look_at(family: str, name: str, value: Any, tasks: int) -> None:
    if not isinstance(value, Tensor):
        raise ValueError(f"family {family!r}: the {name} are {_named(value)}, but they must be a tensor")
    if value.dim() < 2:
        raise ValueError(
            f"family {family!r}: the {name} are {tuple(value.shape)}, but two axes lead, [tasks, points, ...]"
        )
    if len(value) != tasks:
        raise ValueError(f"family {family!r} gave {len(value)} tasks where {tasks} were asked for")
    if value.is_floating_point() and not bool(value.isfinite().all()):
        raise ValueError(f"family {family!r}: some {name} are not finite; look at what sample() computes")


def _named(value: Any) -> str:
    """What came, in a word or two."""
    if value is None:
        return "None"
    return f"a {type(value).__name__}" + (f" of {len(value)}" if isinstance(value, tuple | list) else "")
