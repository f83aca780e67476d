"""What the settings of an experiment must be, whatever it trains."""

__all__ = ["check", "check_headline", "check_quick", "check_tests"]

import dataclasses
import difflib
import math
from collections.abc import Callable
from typing import Any, get_args


def check(
    settings: Any,
    *,
    at_least: dict[str, int],
    positive: tuple[str, ...] = (),
    shares: tuple[str, ...] = (),
    names: dict[str, tuple[str, ...]] | None = None,
) -> None:
    """``ValueError`` for a number that no run can have; None is one that is not set, where that may be.

    A number of NumPy or torch becomes one of Python, as a loop over ``np.arange`` or a tensor gives it.
    """
    for name in (*at_least, *positive, *shares):
        value = getattr(settings, name)
        if getattr(value, "shape", None) == ():
            object.__setattr__(settings, name, value.item())
    integers = {f.name for f in dataclasses.fields(settings) if f.type is int}
    optional = {f.name for f in dataclasses.fields(settings) if type(None) in get_args(f.type)}

    def refuse_unless(holds: Callable[[Any], bool], name: str, allowed: str) -> None:
        value = getattr(settings, name)
        if value is None and name in optional:
            return
        try:
            fits = all(map(holds, value if isinstance(value, tuple) else (value,)))
        except TypeError:  # it is no number
            fits = False
        if not fits:
            raise ValueError(f"{settings.name}: {name}={value!r}, but it must {allowed}")

    def check_bound(name: str, bound: int) -> None:
        whole = name in integers
        holds = lambda v: bound <= v < math.inf and (isinstance(v, int) or not whole)
        refuse_unless(holds, name, f"be {'a whole number, ' if whole else ''}at least {bound}")

    for name, bound in at_least.items():
        check_bound(name, bound)
    for name in positive:
        refuse_unless(lambda v: 0 < v < math.inf, name, "be positive and finite")
    for name in shares:
        refuse_unless(lambda v: 0 <= v <= 1, name, "lie between 0 and 1")
    for name, known in (names or {}).items():
        refuse_unless(known.__contains__, name, f"be one of {', '.join(map(repr, known))}")


def check_headline(test: Any, steps: str) -> None:
    if test.headline_step > test.inner_steps:
        raise ValueError(
            f"{test.name}: headline_step={test.headline_step}, but only {test.inner_steps} steps are taken "
            f"({steps})"
        )


def check_tests(row: Any) -> None:
    names = [test.name for test in row.evaluations]
    if len(set(names)) < len(names):
        raise ValueError(
            f"{row.name}: evaluations have the names {', '.join(names)}, but each needs one of its own"
        )


def check_quick(row: Any) -> None:
    """``ValueError`` for a change of the quick scale that is no field of the row."""
    allowed = [each.name for each in dataclasses.fields(row) if each.init and each.name != "quick"]
    for key in row.quick:
        if key not in allowed:
            near = difflib.get_close_matches(str(key), allowed, 1)
            meant = f"; do you mean {near[0]!r}?" if near else "."
            raise ValueError(
                f"{row.name}: quick has {key!r}, which is no field that a scale can change{meant} Allowed "
                f"are {', '.join(allowed)}"
            )
