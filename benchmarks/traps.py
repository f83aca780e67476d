"""Chapter 8's traps in testing, on Omniglot: the committed 5-way 1-shot network in tests that go wrong.

    python benchmarks/traps.py [--save]

The tasks are those of the committed tests, and more of them where a test is quick. It needs Omniglot and
takes some minutes.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from kept import begun, keep
from torch import Tensor
from tqdm import tqdm

from mamlkit.experiments.paper import get
from mamlkit.experiments.rows import Row
from mamlkit.maml import Params, Task
from mamlkit.measures import interval
from mamlkit.models import same_padding
from mamlkit.report import results
from mamlkit.runs import checkpoints, seeds, supervised
from mamlkit.runs.supervised import EVALUATION_CHUNK

ROW = "omniglot-5way-1shot"
TASKS, MANY, QUERIES = 600, 6000, 15  # the paper's tasks; where a test is quick; queries per class
RECORDED = 200  # training tasks that the running averages are of
Statistics = list[tuple[Tensor, Tensor]]  # mean and variance of each block, [channels]


def outputs(params: Params, images: Tensor, given: Statistics | None = None) -> tuple[Tensor, Statistics]:
    """The network's outputs with the statistics of these images or with given ones, and those it used."""
    x, used = images, []
    for block in range(4):
        pads = same_padding(x.shape[-1], 2)
        x = F.conv2d(F.pad(x, pads * 2), params[f"conv{block}"], params[f"bias{block}"], stride=2)
        used.append(given[block] if given else (x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)))
        x = F.relu(F.batch_norm(x, *used[-1], None, params[f"shift{block}"], eps=0.001))
    return F.linear(x.mean((-2, -1)), params["head"], params["head_bias"]), used


def tasks_of(row: Row, split: str, queries: int, count: int) -> Iterator[Task]:
    """The first tasks of a split, one by one, as the committed tests draw them."""
    test = dataclasses.replace(row.evaluations[0], queries=queries)
    family = supervised.tasks_of(row, split, "cpu", test)
    for start in range(0, count, EVALUATION_CHUNK):
        batch = family.sample(seeds.generator(0, f"evaluate {split}", start), EVALUATION_CHUNK)
        for i in range(min(EVALUATION_CHUNK, count - start)):
            yield Task(*(tuple(part[i] for part in pair) for pair in batch))


@torch.no_grad()
def running_averages(row: Row, params: Params, count: int = RECORDED) -> Statistics:
    """Mean statistics of training tasks: of what each adapted network sees with one query per class."""
    learner = supervised.build(row, at_headline(row))
    found = []
    for task in tqdm(tasks_of(row, "train", 1, count), desc="running averages", total=count):
        found.append(outputs(learner.adapt(params, task.support), task.query[0])[1])
    return [tuple(torch.stack(values).mean(0) for values in zip(*block)) for block in zip(*found)]


def share_right(
    fast: Params, query: tuple[Tensor, Tensor], ways: int, together: int, given: Statistics | None
) -> float:
    """Of all queries of a task, when so many of each class are classified together."""
    images, labels = (part.unflatten(0, (ways, QUERIES)) for part in query)  # they lie class by class
    right = []
    for start in range(0, QUERIES, together):
        part = slice(start, start + together)
        found = outputs(fast, images[:, part].flatten(0, 1), given)[0].argmax(-1)
        right.append((found == labels[:, part].flatten()).float().mean())
    return float(torch.stack(right).mean())


@torch.no_grad()
def by_statistics(
    row: Row, params: Params, recorded: Statistics, count: int = TASKS
) -> dict[str, np.ndarray]:
    """Accuracy in percent of each task, of the same queries, by whose mean and variance they get."""
    learner = supervised.build(row, at_headline(row))
    found = []
    for task in tqdm(tasks_of(row, "test", QUERIES, count), desc="statistics", total=count):
        fast = learner.adapt(params, task.support)
        of_support = outputs(fast, task.support[0])[1]
        right = {}
        for test, together, given in (
            ("1 query", 1, None),
            ("5 queries", 5, None),
            ("15 queries", 15, None),
            ("support", 15, of_support),
            ("running averages", 15, recorded),
        ):
            right[test] = share_right(fast, task.query, row.ways, together, given)
        found.append(right)
    return {test: 100 * np.array([right[test] for right in found]) for test in found[0]}


def at_headline(row: Row, **changes: Any) -> Any:
    """The paper's test of a row, with as many steps as its number has."""
    test = row.evaluations[0]
    return dataclasses.replace(test, inner_steps=test.headline_step, **changes)


def line(test: str, values: np.ndarray, base: str = "", other: np.ndarray | None = None) -> dict[str, Any]:
    """A test, and its difference from another one: by task or, of other classes, with both variances."""
    mean, ci95 = interval(values)
    found = {"test": test, "accuracy": mean, "ci95": ci95, "tasks": len(values), "base": base}
    if other is not None:
        paired = test != "validation characters"
        change, change_ci95 = (
            interval(values - other)
            if paired
            else (mean - other.mean(), math.hypot(ci95, interval(other)[1]))
        )
        found |= {"paired": paired, "effect": change, "effect_ci95": change_ci95}
    return found


def measured(row: Row, params: Params, few: int = TASKS, many: int = MANY) -> list[dict[str, Any]]:
    """All lines of the table."""
    statistics = by_statistics(row, params, running_averages(row, params), few)
    base = "1 query"
    lines = [line(base, statistics[base])]
    lines += [line(test, v, base, statistics[base]) for test, v in statistics.items() if test != base]

    def after_steps(split: str = "test", **changes: Any) -> np.ndarray:
        test = at_headline(row, **changes)
        curves = supervised.evaluate(row, params, test, split=split, n_tasks=many)
        return curves["accuracy"][:, test.headline_step]

    whole, base = after_steps(), "as the paper"
    lines.append(line(base, whole))
    short = after_steps(inner_lr=row.evaluations[0].inner_lr / row.ways)
    lines.append(line("alpha on the mean", short, base, whole))
    lines.append(line("validation characters", after_steps("val"), base, whole))
    draws: Sequence[np.ndarray] = np.split(whole, 10)
    return lines + [line(f"draw {i}", each) for i, each in enumerate(draws, 1)]


def main() -> None:
    save, origin = begun(__doc__)
    row = get(ROW)
    assert isinstance(row, Row)
    lines = measured(row, checkpoints.load_params(results.checkpoint(ROW)))
    of_row = results.load(ROW)[0]  # of seed 0, as the parameters
    table = pd.DataFrame(lines).assign(**{key: of_row[key] for key in ("iterations_done", "fingerprint")})
    print(table.to_string(index=False, float_format="%.2f"))
    if save:
        keep("traps", "tests", table, origin, "%.3f")


if __name__ == "__main__":
    main()
