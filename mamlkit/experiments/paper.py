"""The paper's experiments as data: every setting once, with its published value looked up by name."""

__all__ = ["HOURS", "QUEUE", "ROWS", "get"]

import dataclasses
import difflib
import re
from collections.abc import Iterable
from typing import Any

from mamlkit.experiments import (
    averages,
    bandits,
    candidates,
    chains,
    compare,
    frequencies,
    mini_imagenet,
    policies,
    sequences,
    traps,
    trials,
)
from mamlkit.experiments.chains import ChainRow
from mamlkit.experiments.memory import MemoryRow
from mamlkit.experiments.rows import Evaluation, PolicyRow, Row

AnyRow = Row | PolicyRow | MemoryRow | ChainRow


def _sinusoid(name: str, title: str, lr: dict[int, float], **changes: Any) -> Row:
    """Paper: section 5.1 and Appendix. A row is none of the paper's unless its changes say its place.

    There are 6,000 test tasks where the authors took 600, since the error is skewed.
    """
    row = Row(
        name=name,
        title=title,
        place="not in the paper",
        family="sinusoid",
        network=("mlp", {"inputs": 1, "hidden": [40, 40], "outputs": 1}),
        method="maml",
        loss="mse",
        inner_lr=0.01,
        inner_steps=1,
        ways=1,
        shots=10,
        queries=10,
        meta_batch_size=25,
        iterations=70_000,
        evaluations=tuple(
            Evaluation(f"K={k}", shots=k, queries=k, inner_lr=lr[k], tasks=6000) for k in (5, 10, 20)
        ),
        quick={"iterations": 2000},
    )
    return dataclasses.replace(row, **changes)


def _omniglot(ways: int, shots: int, *, convolutional: bool = True, family: str = "omniglot") -> Row:
    """Paper: section 5.2 and Table 1, with the authors' code where the text is silent."""
    inner_lr, steps, test_steps, meta_batch = (0.4, 1, 3, 32) if ways == 5 else (0.1, 5, 5, 16)
    plan: tuple[str, dict[str, Any]] = ("conv4", {"ways": ways, "filters": 64})
    if not convolutional:
        sizes = {"inputs": 784, "hidden": [256, 128, 64, 64], "outputs": ways}
        plan = ("mlp", sizes | {"batch_norm_shifts": True})
    test = Evaluation("Q=K", shots, shots, inner_lr, headline_step=test_steps)
    more = dataclasses.replace(test, name="Q=15", queries=min(15, 20 - shots))
    kind, place = "" if convolutional else "-no-conv", "Section 5.2; Table 1"
    # so few updates must be larger
    quick: dict[str, Any] = {"iterations": 400, "meta_batch_size": 8, "outer_lr": 0.01}
    if convolutional:
        quick["network"] = ("conv4", {"ways": ways, "filters": 16})
    return Row(
        name=f"{family}{kind}-{ways}way-{shots}shot",
        title=f"{family.capitalize()} {ways}-way {shots}-shot"
        + ("" if convolutional else ", no convolution"),
        place=place if family == "omniglot" else "not in the paper: the stand-in without data",
        family=family,
        network=plan,
        method="maml",
        loss="cross-entropy, sum over examples / shots",
        inner_lr=inner_lr,
        inner_steps=steps,
        ways=ways,
        shots=shots,
        queries=shots,
        meta_batch_size=meta_batch,
        iterations=60_000,
        evaluations=(test, more),
        quick=quick,
    )


def _meta_sgd(row: Row) -> Row:
    """MAML's row but for the rates, which begin with its alpha: trained for one step, so that one counts."""
    tests = tuple(dataclasses.replace(test, headline_step=1) for test in row.evaluations)
    return dataclasses.replace(row, place="not in the paper: Li et al. 2017", evaluations=tests)


def _context(row: Row) -> Row:
    """Paper: Table 3. MAML whose inner update moves a vector among the inputs, and nothing else.

    Of its rate and its steps the paper says nothing, so they are MAML's.
    """
    context = lambda options: ("conv4, context", options)
    return dataclasses.replace(
        row,
        name=f"{row.name}-context",
        title=f"{row.title}, context vector",
        place="Appendix, Table 3",
        network=context(row.network[1]),
        quick=row.quick | {"network": context(row.quick["network"][1])},
    )


def _by_name(rows: Iterable[AnyRow]) -> dict[str, AnyRow]:
    """The rows by their names, which are folders' too.

    ``ValueError`` if two have the same, of which one would be lost, or a name is not such as
    ``my-experiment``.
    """
    found: dict[str, AnyRow] = {}
    for row in rows:
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", row.name):
            raise ValueError(
                f"an experiment is called {row.name!r}, but its folders are called so too; use small "
                "letters, digits and hyphens, as in 'my-experiment'"
            )
        if row.name in found:
            raise ValueError(
                f"two experiments are called {row.name!r}, {found[row.name].title!r} and {row.title!r}; give "
                "one of them another name"
            )
        found[row.name] = row
    return found


_TUNED = {5: 0.01, 10: 0.02, 20: 0.02}  # fine-tuning steps of the pretrained net: legends of Fig. 3 and 6
_ALPHA = {5: 0.01, 10: 0.01, 20: 0.01}
_IN_PAPER = "Section 5.1; Fig. 3 and 6"  # and of some methods, with 5 points, a table
_SLIDES = "not in the paper: the slides of T. Azayev"
_SMALL = {5: 0.001, 10: 0.001, 20: 0.001}  # what the authors' code takes if nothing else is said
_NO_STEP = {5: 0.0, 10: 0.0, 20: 0.0}  # the oracle knows its task; steps of 0.01 would only unsettle it

_rows: list[AnyRow] = [
    _sinusoid("sinusoid-maml", "MAML", _ALPHA, place=f"{_IN_PAPER}; Table 2"),
    _sinusoid("sinusoid-first-order", "MAML, first order", _ALPHA, method="first-order maml"),
    _sinusoid(
        "sinusoid-pretrained",
        "pretrained on all tasks",
        _TUNED,
        place=f"{_IN_PAPER}; Table 2",
        method="pretraining",
    ),
    _sinusoid(
        "sinusoid-oracle",
        "oracle",
        _NO_STEP,
        place=_IN_PAPER,
        method="pretraining",
        family="sinusoid, task shown",
        network=("mlp", {"inputs": 3, "hidden": [40, 40], "outputs": 1}),
    ),
    _sinusoid("sinusoid-random", "random initialisation", _ALPHA, iterations=0, quick={}),
    _sinusoid(
        "sinusoid-small-alpha",
        "MAML, α of 0.001",
        _SMALL,
        inner_lr=0.001,
        place="not in the paper: the default of the authors' code",
    ),
    _sinusoid(
        "sinusoid-2pi-maml", "MAML, phase to 2 pi", _ALPHA, place=_SLIDES, family="sinusoid, phase to 2 pi"
    ),
    _sinusoid(
        "sinusoid-2pi-pretrained",
        "pretrained, phase to 2 pi",
        _TUNED,
        place=_SLIDES,
        family="sinusoid, phase to 2 pi",
        method="pretraining",
    ),
    _meta_sgd(_sinusoid("sinusoid-meta-sgd", "Meta-SGD", _ALPHA, method="meta-sgd")),
    *frequencies.rows(_sinusoid("", "", _ALPHA)),
    *averages.rows(_sinusoid("", "", _TUNED, method="pretraining")),
    *(_omniglot(ways, shots) for ways in (5, 20) for shots in (1, 5)),
    *(_omniglot(5, shots, convolutional=False) for shots in (1, 5)),
    *(_context(_omniglot(5, shots)) for shots in (1, 5)),
    *traps.rows(_omniglot(5, 1), _omniglot(20, 1)),
    _omniglot(5, 1, family="glyphs"),
    *sequences.rows(),
    *mini_imagenet.rows(),
    *(row for environment in policies.ENVIRONMENTS for row in policies.rows(environment)),
    *bandits.rows(),
    *trials.rows(),
    *chains.rows(),
]

_rows += compare.rows({row.name: row for row in _rows if isinstance(row, Row)})
_rows += candidates.rows(policies.rows("half-cheetah-direction")[0])  # last in the queue

ROWS: dict[str, AnyRow] = _by_name(_rows)


def get(name: str) -> AnyRow:
    """A row by name; an unknown one is a ``ValueError`` that names those that are like it."""
    if name not in ROWS:
        begin = [each for each in ROWS if each.startswith(f"{name}-")]
        found = ", ".join(difflib.get_close_matches(name, ROWS, 3) or begin[:3])
        meant = f"; do you mean {found}?" if found else "."
        raise ValueError(f"no experiment is called {name!r}{meant} All are listed by python -m mamlkit list")
    return ROWS[name]


# What the training of the long rows takes on a CPU such as that of data/benchmarks/cpu-avx512, by
# data/benchmarks/cluster/rows.csv: without tests and the drawing of tasks.
HOURS: dict[str, str] = {
    "omniglot-20way-1shot": "19 h on one core",
    "omniglot-20way-5shot": "90 h on one core",
    "mini-imagenet-5way-1shot": "11 h on one core",
    "mini-imagenet-5way-5shot": "18 h on one core",
    "mini-imagenet-first-order-5way-1shot": "7 h on one core",
    "mini-imagenet-first-order-5way-5shot": "7 h on one core",
    "mini-imagenet-pretrained": "1 h on one core",
    "omniglot-sequences-mann": "1.4 h on one core",
}

# What the queue takes: families that are there without data are stand-ins, and no results.
_QUEUED = [name for name, row in ROWS.items() if getattr(row, "family", "") not in ("glyphs", "textures")]


def _names(pattern: str, words: str) -> list[str]:
    return [pattern.format(word) for word in words.split()]


# The order in which `python -m mamlkit paper` takes the rows: the cheap baselines, what is missing in the
# paper's tables and figures, cheap before dear, then what is ours; hours on a core behind those that cost
# one or more.
_ORDER = (
    *_names("sinusoid-{}", "random maml pretrained oracle first-order 2pi-maml 2pi-pretrained"),
    *_names("2d-navigation-{}", "random maml pretrained oracle"),
    *(f"{robot}-random" for robot in policies.ENVIRONMENTS if robot != "2d-navigation"),
    "omniglot-no-conv-5way-1shot",  # 1
    "omniglot-no-conv-5way-5shot",  # 2
    # not trained: minutes
    *_names("mini-imagenet-{}", "released released-3000-tasks released-64-12-24 pixels"),
    *_names("mini-imagenet-random-{}", "5way-1shot 5way-5shot"),
    "omniglot-5way-1shot",  # 3
    "mini-imagenet-pretrained",  # 5
    "mini-imagenet-5way-1shot",  # 11
    "mini-imagenet-first-order-5way-1shot",  # 7
    "omniglot-5way-5shot",  # 12
    "omniglot-20way-1shot",  # 19
    "mini-imagenet-first-order-5way-5shot",  # 7
    "mini-imagenet-5way-5shot",  # 18
    *_names("omniglot-5way-{}-context", "1shot 5shot"),
    "omniglot-sequences-lstm",
    "omniglot-sequences-mann",  # 1
    *filter(compare.is_compared, _QUEUED),  # a day and a half in all
    *_names("half-cheetah-velocity-{}", "maml pretrained oracle"),  # 2 each
    *_names("half-cheetah-direction-{}", "maml pretrained oracle"),  # 2 each
    *_names("ant-velocity-{}", "pretrained oracle maml"),  # 1, 1, 4
    *_names("ant-direction-{}", "pretrained oracle maml"),  # 1, 2, 7
    *_names("2d-navigation-maml-{}", "ratios first-order as-printed"),
    *(
        f"half-cheetah-{task}-maml-{variant}"
        for variant in ("first-order", "unclipped", "ratios", "as-printed")
        for task in ("direction", "velocity")
    ),
    *(
        f"ant-{task}-maml-{variant}"
        for variant in ("first-order", "unclipped", "ratios")
        for task in ("velocity", "direction")
    ),
    "omniglot-20way-5shot",  # 100: where there is a GPU
)
QUEUE: tuple[str, ...] = (*_ORDER, *(name for name in _QUEUED if name not in _ORDER))  # others come last
