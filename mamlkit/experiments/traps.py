"""Known traps of reimplementations, each as a small experiment: the paper's row but for one thing.

Networks are narrower and trainings shorter than the paper's, so that each can be run with three seeds; what
counts is the difference from the row without the trap, on the same tasks.
"""

__all__ = ["base_of", "is_trap", "rows"]

import dataclasses
from typing import Any

from mamlkit.experiments.rows import Row


def is_trap(name: str) -> bool:
    """Whether a row of that name is a training of this kind, with its trap or without."""
    return name.startswith("trap-")


def base_of(name: str) -> str:
    """The row that differs from a row with a trap in nothing but the trap."""
    return "-".join(name.split("-")[:2])


def rows(five_way: Row, twenty_way: Row) -> list[Row]:
    """The traps in training, from the paper's 5-way and 20-way 1-shot rows of Omniglot."""
    narrow: dict[str, Any] = {"ways": 5, "filters": 32}
    narrower: dict[str, Any] = {"ways": 20, "filters": 16}
    mean = {"loss": "cross-entropy, mean"}
    base = _trap(five_way, "5way", "as the paper's", network=("conv4", narrow), iterations=2000)
    base_20 = _trap(
        twenty_way, "20way", "as the paper's", network=("conv4", narrower), meta_batch_size=8, iterations=1000
    )
    option = lambda **words: {"network": ("conv4", narrow | words)}
    found = [base, base_20, _trap(base_20, "20way-mean-loss", "α on the mean loss", **mean)]
    for name, title, changes in (
        ("mean-loss", "α on the mean loss", mean),
        ("first-order", "first order by accident", {"method": "first-order maml"}),
        ("padding", "padding on both sides", option(padding="symmetric")),
        ("head", "head from Xavier's distribution", option(head="xavier")),
        ("shifts", "shifts adapted", option(adapt_shifts=True)),
        ("alphabets", "alphabets apart", {"family": "omniglot, alphabets apart"}),
    ):
        found.append(_trap(base, f"5way-{name}", title, **changes))
    # the quickest method to train, in the tasks of which others tell what a split by alphabets costs
    tests = [
        dataclasses.replace(t, inner_lr=0.0, inner_steps=0, headline_step=0) for t in base_20.evaluations
    ]
    prototypes = _trap(
        base_20,
        "prototypes",
        "prototypes",
        method="prototypical networks",
        network=("conv4", {"ways": 20, "filters": 32}),
        inner_steps=0,
        queries=5,
        meta_batch_size=4,
        outer_lr=0.001,
        iterations=2500,
        evaluations=tuple(tests),
    )
    words = "prototypes, "
    of = lambda name, title, family: _trap(prototypes, name, words + title, family=f"omniglot, {family}")
    return [
        *found,
        prototypes,
        of("prototypes-alphabets", "alphabets apart", "alphabets apart"),
        of("alphabets", "test alphabets unseen", "test alphabets unseen"),
        of("alphabets-seen", "test alphabets seen", "test alphabets seen"),
    ]


def _trap(row: Row, name: str, title: str, **changes: Any) -> Row:
    ways = f"{row.ways}-way 1-shot"
    words = {"name": f"trap-{name}", "title": f"Omniglot {ways}, short: {title}", "quick": {"iterations": 20}}
    place = "not in the paper: a known trap, measured"
    return dataclasses.replace(row, place=place, **words | changes)
