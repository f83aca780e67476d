"""Numbers that a task family is asked for, checked at its door, and words for what is found wrong."""

__all__ = ["at_least", "drawn_with", "few", "interval", "whole"]

import math
from numbers import Integral
from typing import Any

from torch import Generator


def whole(**numbers: Any) -> None:
    """Refuse numbers that are not whole: 1.0 and True are refused too, numpy's integers are not.

    Args:
        numbers: by the name that the message gives them.

    Raises:
        ValueError: If one of them is no whole number.
    """
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise ValueError(f"{name}={value!r}, but it must be a whole number")


def at_least(least: int, **numbers: Any) -> None:
    """Refuse numbers that are not whole, or less than ``least``.

    Raises:
        ValueError: If one of them is.
    """
    whole(**numbers)
    for name, value in numbers.items():
        if value < least:
            raise ValueError(f"{name}={value}, but it must be at least {least}")


def interval(**ranges: Any) -> None:
    """Refuse what is no range of finite numbers, the lower one first.

    Raises:
        ValueError: If one of them is none.
    """
    for name, value in ranges.items():
        try:
            low, high = value
            holds = bool(-math.inf < low <= high < math.inf)
        except (TypeError, ValueError):  # such as a single number
            holds = False
        if not holds:
            raise ValueError(f"{name}={value!r}, but a range is (low, high) with low <= high, both finite")


def drawn_with(generator: Any) -> None:
    """Refuse what is no generator: without one PyTorch would draw from its global state.

    Raises:
        ValueError: If it is none.
    """
    if not isinstance(generator, Generator):
        raise ValueError(
            f"generator={generator!r}, but a torch.Generator is needed, such as seeds.generator(0, 'mine')"
        )


def few(words: list[str]) -> str:
    """The first three of a list, and how many there are besides.

    >>> few(["a", "b", "c", "d", "e"]), few([])
    ('a, b, c and 2 more', 'none')
    """
    return ", ".join(words[:3]) + (f" and {len(words) - 3:,} more" if words[3:] else "") if words else "none"
