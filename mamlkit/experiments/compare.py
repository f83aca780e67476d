"""The grid: the methods that MAML is compared with, each on the same network, tasks and number of episodes.

What a column claims is rank and gap between methods under one protocol, not the published numbers, whose
protocols differ. No setting was searched for: rates and steps are those of a method's authors where they give
them for such images, else MAML's. Chapter 9 lists the exceptions.
"""

__all__ = [
    "COLUMNS",
    "COMPARED",
    "FILTERS",
    "MEASURED_AGAIN",
    "PARTS",
    "TASKS",
    "Column",
    "Compared",
    "column_of",
    "is_compared",
    "is_measured_again",
    "measured_again",
    "methods_of",
    "name_of",
    "parts_of",
    "rows",
]

import dataclasses
from dataclasses import dataclass
from typing import Any

from mamlkit.experiments.compared import COMPARED, PARTS, Compared
from mamlkit.experiments.mini_imagenet import SMALL as SMALL_COLOUR
from mamlkit.experiments.rows import Evaluation, Row

MORE_QUERIES = 5  # per class, in training
LR_OF_MANY = 0.1  # of several steps, as the paper has for 20-way Omniglot; of one step it is 0.4 there
MEASURED_AGAIN = ("maml", "prototypical", "matching-scaled")  # by the chapter, so their parameters are kept
FILTERS = 32  # of every network, so that three seeds of all methods take days and not weeks


@dataclass(frozen=True)
class Column:
    """A setting of the grid.

    Args:
        name: part of its rows' names.
        words: what a reader sees.
        updates: outer updates, of 4 tasks each.
        quick: what the quick scale changes.
    """

    name: str
    words: str
    updates: int
    quick: dict[str, Any]

    @property
    def episodes(self) -> int:
        """Training tasks."""
        return TASKS * self.updates


TASKS = 4  # of an outer update

_SMALL: dict[str, Any] = {
    "iterations": 100,
    "outer_lr": 0.01,
    "network": ("conv4", {"ways": 5, "filters": 16}),
}
COLUMNS: tuple[Column, ...] = (
    Column("omniglot-5way-1shot", "Omniglot 5-way 1-shot", 2500, {"iterations": 20}),
    Column("omniglot-20way-1shot", "Omniglot 20-way 1-shot", 2500, {"iterations": 5}),
    Column("mini-imagenet-5way-1shot", "Mini-ImageNet 5-way 1-shot", 1250, {"iterations": 5}),
    Column("mini-imagenet-5way-5shot", "Mini-ImageNet 5-way 5-shot", 1250, {"iterations": 5}),
    Column("glyphs-5way-1shot", "Glyphs 5-way 1-shot", 2500, _SMALL),
    Column("textures-5way-1shot", "Textures 5-way 1-shot", 1250, {"iterations": 20, "network": SMALL_COLOUR}),
)


def is_compared(name: str) -> bool:
    """Whether a row of that name belongs to the grid."""
    return name.startswith("compare-")


def is_measured_again(name: str) -> bool:
    """Whether the chapter tests a row's committed network on new tasks.

    These are some methods of the first column, and the same of the Glyphs, which are there without any data.
    """
    columns = COLUMNS[0], column_of("glyphs-5way-1shot")
    return name in [name_of(column, method) for column in columns for method in measured_again()]


def measured_again() -> list[Compared]:
    """The methods of :data:`MEASURED_AGAIN`."""
    return [method for method in COMPARED if method.slug in MEASURED_AGAIN]


def name_of(column: Column, method: Compared) -> str:
    """The name of a row of the grid."""
    return f"compare-{column.name}-{method.slug}"


def column_of(name: str) -> Column:
    """A column by its name; ``ValueError`` for one that is not there."""
    for column in COLUMNS:
        if column.name == name:
            return column
    raise ValueError(f"no column is called {name!r}; they are {', '.join(c.name for c in COLUMNS)}")


def rows(papers: dict[str, Row]) -> list[Row]:
    """Every method in every column, and parts of MAML++ beside them.

    Args:
        papers: MAML's rows by name; a column takes the one of its own.
    """
    of = lambda column: [*methods_of(column), *parts_of(column)]
    return [_row(papers[column.name], column, method) for column in COLUMNS for method in of(column)]


def methods_of(column: Column) -> list[Compared]:
    """The methods of a column."""
    return [method for method in COMPARED if column.name not in method.but_for]


def parts_of(column: Column) -> list[Compared]:
    """Single parts of MAML++ with a row in the setting of a column, but no line in it."""
    return [method for method in PARTS if column.name not in method.but_for]


def _row(paper: Row, column: Column, method: Compared) -> Row:
    method = dataclasses.replace(method, **method.elsewhere.get(column.name, {}))
    head = {"head": method.head} if method.head else {}
    # what is a method's own, such as Reptile's outer rate, stays at the quick scale
    quick = {key: value for key, value in column.quick.items() if key not in method.changes}
    if "network" in quick:
        quick["network"] = (quick["network"][0], quick["network"][1] | head)
    changes: dict[str, Any] = {
        "name": name_of(column, method),
        "title": f"{column.words}, {column.episodes:,} episodes: {method.words}",
        "place": "not in the paper: methods compared on one protocol",
        "network": (paper.network[0], paper.network[1] | {"filters": FILTERS} | head),
        "method": method.method,
        "queries": MORE_QUERIES,
        "meta_batch_size": TASKS,
        "iterations": column.updates,
        "outer_lr": 0.001,
        "quick": quick,
    }
    steps = paper.evaluations[0].headline_step if method.test_steps is None else method.test_steps
    if not steps:
        changes |= {"inner_steps": 0}
    changes |= method.changes
    if changes.get("inner_steps", paper.inner_steps) > 1 and "inner_lr" not in changes:
        changes["inner_lr"] = min(paper.inner_lr, LR_OF_MANY)
    row = dataclasses.replace(paper, **changes)
    if not row.iterations:
        quick = {name: value for name, value in quick.items() if name == "network"}
        row = dataclasses.replace(row, quick=quick)
    lr = row.inner_lr if steps else 0.0
    test = Evaluation("Q=15", paper.shots, 15, lr, inner_steps=steps, headline_step=steps)
    tests = (
        dataclasses.replace(test, name="Q=1", queries=1),
        test,
        dataclasses.replace(test, name="Q=15, support statistics", transductive=False),
    )
    return dataclasses.replace(row, evaluations=tests)
