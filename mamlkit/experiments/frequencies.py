"""Sinusoids whose frequency is drawn too: Meta-SGD's own setting (Li et al. 2017), as far as it is known.

Known from a summary of that paper: y = A sin(omega x + b) with all three drawn uniformly, x in [-5, 5], one
step, 10 query points, 60,000 iterations, tests of 100 points. From memory, and so to be checked: omega in
[0.8, 1.2], 4 tasks an iteration. (The sign of b only mirrors a task: its points and its values.)
"""

__all__ = ["is_control", "rows", "with_frequency"]

import dataclasses
from typing import Any

from mamlkit.experiments.rows import Row

_NAME = "sinusoid-frequency-"


def with_frequency(name: str) -> bool:
    """Whether a row of that name is of this kind, or one of the two that differ in one thing."""
    return name.startswith(_NAME)


def is_control(name: str) -> bool:
    """Whether a row of that name is one of those two."""
    return name in (f"{_NAME}maml-fixed", f"{_NAME}maml-25-tasks")


def rows(base: Row) -> list[Row]:
    """MAML and Meta-SGD, and MAML with one frequency, or with more tasks in an iteration.

    Args:
        base: MAML's row of the sinusoids.
    """
    tests = tuple(
        dataclasses.replace(test, queries=100, inner_steps=1, headline_step=1) for test in base.evaluations
    )
    common: dict[str, Any] = {"shots": 5, "queries": 10, "meta_batch_size": 4, "iterations": 60_000}
    common |= {"family": "sinusoid, frequency too", "evaluations": tests}
    own = "not in the paper: Li et al. 2017"
    control = "not in the paper: Li et al. 2017, but for one thing"
    row = lambda name, title, place, **changes: dataclasses.replace(
        base, name=_NAME + name, title=title, place=place, **common | changes
    )
    return [
        row("maml", "MAML, frequency drawn too", own),
        row("meta-sgd", "Meta-SGD, frequency drawn too", own, method="meta-sgd"),
        row("maml-fixed", "MAML, the same with one frequency", control, family="sinusoid"),
        row("maml-25-tasks", "MAML, frequency drawn too, 25 tasks", control, meta_batch_size=25),
    ]
