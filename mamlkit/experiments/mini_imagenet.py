"""The experiments on Mini-ImageNet: MAML, the authors' released weights, and the baselines of Table 1."""

__all__ = ["TUNED", "rows"]

import dataclasses
from typing import Any

from mamlkit.experiments.rows import Evaluation, Row

NETWORK: dict[str, Any] = {"ways": 5, "filters": 32, "size": 84, "channels": 3, "pooling": "max"}
SMALL: tuple[str, dict[str, Any]] = ("conv4", NETWORK | {"filters": 8})  # of the quick scale
# of fine-tuning, by shots: what was best on validation tasks; see benchmarks/fine_tuning.py
TUNED = {1: 0.02, 5: 0.02}


def _row(shots: int, **changes: Any) -> Row:
    """MAML with ``shots`` shots, but for the changes.

    Paper: section 5.2 and Table 1, with the authors' code where the text is silent.

    The clip is the code's. For 5 shots the paper takes meta-batches of 2, the usage note of the code 4.
    """
    test = Evaluation("Q=K", shots, shots, 0.01)
    row = Row(
        name=f"mini-imagenet-5way-{shots}shot",
        title=f"Mini-ImageNet 5-way {shots}-shot",
        place="Section 5.2; Table 1",
        family="mini-imagenet",
        network=("conv4", NETWORK),
        method="maml",
        loss="cross-entropy, sum over examples / shots",
        inner_lr=0.01,
        inner_steps=5,
        ways=5,
        shots=shots,
        queries=15,
        meta_batch_size={1: 4, 5: 2}[shots],
        iterations=60_000,
        clip=10.0,
        evaluations=(test, dataclasses.replace(test, name="Q=15", queries=15)),
        # so few updates must be larger
        quick={
            "iterations": 150,
            "meta_batch_size": 2,
            "queries": 1,
            "inner_steps": 1,
            "outer_lr": 0.003,
            "network": SMALL,
        },
    )
    return dataclasses.replace(row, **changes)


def _released(name: str = "", title: str = "", **changes: Any) -> Row:
    """The authors' weights of 5-way 1-shot, which are tested and not trained.

    Three numbers of queries per class; two of them once more with the statistics of the support, for which
    no query matters to another; and the other reading of alpha: 0.01 as a step on the mean of the loss over
    the 5 support images is 0.002 on their sum.
    """
    tests = [Evaluation(f"Q={queries}", 1, queries, 0.01) for queries in (1, 5, 15)]
    tests += [
        Evaluation(f"Q={queries}, support statistics", 1, queries, 0.01, transductive=False)
        for queries in (1, 15)
    ]
    settings: dict[str, Any] = {
        "name": f"mini-imagenet-released{name}",
        "title": f"Mini-ImageNet 5-way 1-shot, the authors' weights{title}",
        "place": "not in the paper: weights that its authors published",
        "network": ("conv4, released weights", {}),
        "iterations": 0,
        "evaluations": (*tests, Evaluation("Q=1, alpha on the mean", 1, 1, 0.002)),
        "quick": {},
    }
    return _row(1, **settings | changes)


def rows() -> list[Row]:
    """MAML in both orders, random and released weights, and two baselines."""
    # 15 queries per class, as Ravi & Larochelle test
    tests = tuple(Evaluation(f"{k}-shot", k, 15, 0.01, headline_step=0) for k in (1, 5))
    shots = (1, 5)
    return [
        *(_row(k) for k in shots),
        *(
            _row(
                k,
                name=f"mini-imagenet-first-order-5way-{k}shot",
                title=f"Mini-ImageNet 5-way {k}-shot, first order",
                method="first-order maml",
            )
            for k in shots
        ),
        *(
            _row(
                k,
                name=f"mini-imagenet-random-5way-{k}shot",
                title=f"Mini-ImageNet 5-way {k}-shot, random initialisation",
                place="not in the paper: a floor for Table 1",
                iterations=0,
                quick={},
            )
            for k in shots
        ),
        _row(
            1,
            name="textures-5way-1shot",
            title="Textures 5-way 1-shot",
            place="not in the paper: the stand-in without data",
            family="textures",
        ),
        _released(),
        _released(
            "-3000-tasks", ", 3,000 test tasks", evaluations=(Evaluation("Q=1", 1, 1, 0.01, tasks=3000),)
        ),
        _released(
            "-64-12-24",
            ", 24 test classes",
            family="mini-imagenet, 64/12/24",
            evaluations=(Evaluation("Q=1", 1, 1, 0.01),),
        ),
        _row(
            1,
            name="mini-imagenet-pretrained",
            title="Mini-ImageNet, pretrained classifier",
            place="Table 1, after Ravi & Larochelle (2017)",
            family="mini-imagenet, all classes",
            method="pretrained classifier",
            queries=1,
            meta_batch_size=1,
            iterations=30_000,
            clip=None,
            evaluations=tuple(dataclasses.replace(test, inner_lr=TUNED[test.shots]) for test in tests),
            quick={"iterations": 150, "outer_lr": 0.005, "network": SMALL},
        ),
        _row(
            1,
            name="mini-imagenet-pixels",
            title="Mini-ImageNet, nearest neighbour on pixels",
            place="not in the paper: a floor for Table 1",
            method="nearest neighbour on pixels",
            inner_steps=0,
            iterations=0,
            clip=None,
            evaluations=tuple(dataclasses.replace(test, inner_lr=0.0, inner_steps=0) for test in tests),
            quick={},
        ),
    ]
