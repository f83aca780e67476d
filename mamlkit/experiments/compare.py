"""The grid: the methods that MAML is compared with, each on the same network, tasks and number of episodes.

What a column claims is rank and gap between methods under one protocol, not the published numbers, whose
protocols differ. So no setting is tuned: what a method's authors give is taken, else MAML's.
"""

__all__ = [
    "COLUMNS",
    "COMPARED",
    "FILTERS",
    "MEASURED_AGAIN",
    "TASKS",
    "Column",
    "Compared",
    "column_of",
    "is_compared",
    "is_measured_again",
    "measured_again",
    "methods_of",
    "name_of",
    "rows",
]

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from mamlkit.experiments.mini_imagenet import SMALL as SMALL_COLOUR
from mamlkit.experiments.rows import Evaluation, Row

MORE_QUERIES = 5  # per class, in training
LR_OF_MANY = 0.1  # of several steps, as the paper has for 20-way Omniglot; of one step it is 0.4 there
MEASURED_AGAIN = ("maml", "prototypical", "matching-scaled")  # by the chapter, so their parameters are kept
FILTERS = 32  # of every network, so that three seeds of all methods take days and not weeks


@dataclass(frozen=True)
class Compared:
    """A method of the grid.

    Args:
        slug: the end of its rows' names.
        words: what a reader sees.
        kind: of what its learning of a new task is made: ``"gradient steps"``, ``"distances"`` or
            ``"nothing learned"``.
        method: a key of ``mamlkit.methods.METHODS``.
        test_steps: gradient steps in tests; None for as many as MAML takes.
        changes: what its rows have otherwise than MAML's.
        head: initialiser of the network's last layer, if another than MAML's.
        but_for: columns that it is left out of.
    """

    slug: str
    words: str
    kind: str
    method: str
    test_steps: int | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    head: str | None = None
    but_for: tuple[str, ...] = ()


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

# of images of 84 x 84
_MINI = ("mini-imagenet-5way-1shot", "mini-imagenet-5way-5shot", "textures-5way-1shot")
# where MAML itself takes five steps in training
_FIVE_STEPS = ("omniglot-20way-1shot", *_MINI)
# Steps of MAML++, at the paper's rate for so many; on Mini-ImageNet that is MAML's own.
_MANY: dict[str, Any] = {"test_steps": 5, "changes": {"inner_steps": 5}}
# What most code has where the authors' sums the losses and draws the last layer from N(0, 1): chapter 8
# measures each of the two. The methods by distances have no last layer, so MAML is compared with and without.
_USUAL: dict[str, Any] = {"loss": "cross-entropy, mean"}
# Rajeswaran et al.'s code for Omniglot
_IMPLICIT: dict[str, Any] = {"inner_steps": 16, "inner_lr": 0.1, "loss": "cross-entropy, mean"}
# Nichol et al.'s for Omniglot 5-way: they train on more shots than they test, and test with more steps.
# Its outer update is theirs, too: by all of theta' - theta at first.
_REPTILE: dict[str, Any] = {"inner_steps": 5, "inner_lr": 0.001, "shots": 10}
_REPTILE |= {"outer": "descent, falling", "outer_lr": 1.0}


def _gradient(slug: str, words: str, method: str, **more: Any) -> Compared:
    return Compared(slug, words, "gradient steps", method, **more)


def _metric(slug: str, words: str, method: str = "", **more: Any) -> Compared:
    return Compared(slug, words, "distances", method or words, test_steps=0, **more)


COMPARED: tuple[Compared, ...] = (
    _gradient("maml", "MAML", "maml"),
    _gradient("first-order", "MAML, first order", "first-order maml"),
    _gradient("maml-5-steps", "MAML, 5 steps", "maml", but_for=_FIVE_STEPS, **_MANY),
    _gradient("maml-usual", "MAML, usual head and loss", "maml", changes=_USUAL, head="xavier"),
    _gradient("maml-usual-head", "MAML, usual head", "maml", head="xavier"),
    _gradient("maml-usual-loss", "MAML, usual loss", "maml", changes=_USUAL),
    _gradient(
        "maml-usual-5-steps",
        "MAML, 5 steps, usual head and loss",
        "maml",
        test_steps=5,
        changes=_USUAL | {"inner_steps": 5},
        head="xavier",
        but_for=_FIVE_STEPS,
    ),
    _gradient("learned-rates", "MAML, learned rates", "maml, learned rates", **_MANY),
    _gradient("multi-step", "MAML, loss of every step", "maml, multi-step loss", **_MANY),
    _gradient("maml-plus-plus", "both of these (of MAML++)", "maml++ without its schedules", **_MANY),
    _gradient("meta-sgd", "Meta-SGD", "meta-sgd", test_steps=1, changes={"inner_steps": 1}),
    _gradient("head-only", "ANIL: head only", "head only"),
    _gradient("body-only", "BOIL: body only", "body only"),
    _gradient("implicit", "implicit MAML", "implicit maml", test_steps=16, changes=_IMPLICIT, but_for=_MINI),
    # its code's last layer is drawn as most are
    _gradient(
        "reptile",
        "Reptile",
        "reptile, inner adam",
        test_steps=50,
        changes=_REPTILE,
        head="xavier",
        but_for=_FIVE_STEPS,
    ),
    # Its gates see gradients of the mean loss in their authors' code; of the sum they would be 5 or 20 times
    # as large.
    _gradient(
        "meta-lstm",
        "meta-learner LSTM",
        "meta-learner lstm",
        test_steps=12,
        changes=_USUAL | {"inner_steps": 12},
    ),
    _metric("prototypical", "prototypical networks"),
    _metric("matching", "matching networks"),
    _metric("matching-scaled", "matching networks, learned scale"),
    _metric("matching-euclid", "matching networks, squared Euclid"),
    # on the 800 features of Mini-ImageNet its three LSTMs have 18 million weights
    _metric("matching-full-context", "matching networks, full context", but_for=_MINI),
    _metric("siamese", "Siamese networks", "siamese"),
    Compared("random", "random initialisation", "nothing learned", "maml", changes={"iterations": 0}),
    Compared(
        "pixels",
        "nearest neighbour on pixels",
        "nothing learned",
        "nearest neighbour on pixels",
        test_steps=0,
        changes={"iterations": 0},
    ),
)

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
    """Every method in every column.

    Args:
        papers: MAML's rows by name; a column takes the one of its own.
    """
    return [_row(papers[column.name], column, method) for column in COLUMNS for method in methods_of(column)]


def methods_of(column: Column) -> list[Compared]:
    """The methods of a column."""
    return [method for method in COMPARED if column.name not in method.but_for]


def _row(paper: Row, column: Column, method: Compared) -> Row:
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
