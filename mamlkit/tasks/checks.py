"""Numbers that a task family is asked for, checked at its door, and words for what is found wrong."""

__all__ = ["at_least", "few", "whole"]

from numbers import Integral
from typing import Any


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


def few(words: list[str]) -> str:
    """The first three of a list, and how many there are besides.

    >>> few(["a", "b", "c", "d", "e"]), few([])
    ('a, b, c and 2 more', 'none')
    """
    return ", ".join(words[:3]) + (f" and {len(words) - 3:,} more" if words[3:] else "") if words else "none"
