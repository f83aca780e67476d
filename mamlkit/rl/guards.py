"""What keeps a batch of environments from going wrong unseen: one thread at a time, and steps that fit."""

__all__ = ["alone", "check_found", "undefined"]

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray


def alone(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of a batch in which one thread at a time may be: two would write into the same simulations."""

    @functools.wraps(method)
    def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not self._lock.acquire(blocking=False):
            used = "another thread uses these environments; give each thread a batch of its own"
            raise RuntimeError(f"{method.__name__}() came while {used}")
        try:
            return method(self, *args, **kwargs)
        finally:
            self._lock.release()

    return guarded


def undefined(batch: object, method: str) -> NotImplementedError:
    """The error of a family that does not give what each family must give."""
    return NotImplementedError(
        f"{type(batch).__name__} has no {method}() of its own; define it, as "
        "mamlkit.rl.navigation.Navigation does"
    )


def check_found(source: str, rows: ndarray, wanted: dict[str, tuple[int, ...]], found: Any) -> None:
    """Refuse what a family gives if it does not fit environments ``rows`` ``[n]``: nothing is broadcast.

    Args:
        source: whose it is, such as ``"Navigation._advance()"``.
        rows: numbers of the environments.
        wanted: the shape of each array, for one environment, by name.
        found: a tuple of these arrays.

    Raises:
        ValueError: for other shapes.
        FloatingPointError: for a NaN or infinite number.
    """
    n, parts = len(rows), found if isinstance(found, tuple) else (found,)
    shapes = [(n, *shape) for shape in wanted.values()]
    if (came := [np.shape(part) for part in parts]) != shapes:
        shown = ", ".join(str(list(shape)) for shape in came)
        needed = ", ".join(f"{name} {list(shape)}" for name, shape in zip(wanted, shapes))
        raise ValueError(
            f"{source} gave the shapes {shown}, but it must give {needed}: a row for each of the {n} "
            "environments that take part"
        )
    for name, part in zip(wanted, parts):
        if not (fine := np.isfinite(part)).all():
            i = int(np.argmin(fine.reshape(n, -1).all(-1)))
            raise FloatingPointError(
                f"{source} gave environment {rows[i]} the {name} {np.asarray(part)[i].tolist()}, but all "
                "must be finite; end an episode before its numbers overflow"
            )
