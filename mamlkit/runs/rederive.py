"""Committed numbers derived again: the committed parameters, tested anew."""

__all__ = ["of_memory", "of_policy", "of_tasks", "standard_errors"]

import dataclasses
import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np

from mamlkit import measures
from mamlkit.experiments import paper
from mamlkit.experiments.chains import ChainRow
from mamlkit.experiments.memory import MemoryRow
from mamlkit.experiments.rows import Evaluation, PolicyEvaluation, PolicyRow, Row
from mamlkit.maml import Params
from mamlkit.report import results
from mamlkit.runs import checkpoints, keeping, memory, seeds, supervised


def standard_errors(
    name: str,
    evaluation: str | None = None,
    *,
    steps: Sequence[int] = (0, 1),
    tasks: int = 200,
    seed: int = 1,
    device: str = "cpu",
) -> dict[int, float]:
    """How far new tests of committed parameters are from the committed number, in standard errors.

    These are errors of the difference. Supervised tasks are fresh ones. Of policies the goals are the first
    ones of the paper's, as in the committed test, and the episodes are new: so each goal has a difference.

    Args:
        name: of a row with a committed result of seed 0.
        evaluation: one of the row's, the first if None.
        steps: inner steps after which to compare; those that the evaluation has not are left out.
        tasks: so many tasks, or goals; at least two, since their spread is asked for.
        seed: of the new tasks, or episodes.
        device: where to compute.

    Returns:
        The distance after each of the steps.

    Raises:
        ValueError: the row has no such evaluation, or the evaluation none of the steps; or fewer than two
            tasks; or training was the test, so that there is nothing to test anew.
        FileNotFoundError: there is no committed result, or none of its parameters.
    """
    row = paper.get(name)
    if isinstance(row, ChainRow):
        raise ValueError(f"{name} is told how long it trained, so there is no new test; train it again")
    if not (isinstance(tasks, Integral) and tasks >= 2):
        raise ValueError(f"tasks={tasks!r}, but a whole number from 2 on is needed, to see a spread")
    names = [test.name for test in row.evaluations]
    if evaluation not in (None, *names):
        raise ValueError(f"evaluation={evaluation!r}, but {name} has {', '.join(map(repr, names))}")
    test = row.evaluations[names.index(evaluation) if evaluation else 0]
    if not (kept := [step for step in steps if 0 <= step <= test.inner_steps]):
        raise ValueError(
            f"steps={tuple(steps)}, but {name} is tested after 0 to {test.inner_steps} steps; use some of "
            "these"
        )
    if not results.load(name):
        raise FileNotFoundError(f"{name} has no committed result; python -m mamlkit run {name} --keep")
    if keeping.has_parameters(name, 0):
        params = checkpoints.load_params(results.checkpoint(name))
    else:
        params = begun(row)
    if isinstance(row, PolicyRow):
        return of_policy(row, params, test, kept, tasks, seed, device)
    if isinstance(row, MemoryRow):
        return of_memory(row, params, test, kept, tasks, seed, device)
    return of_tasks(row, params, test, kept, tasks, seed, device)


def begun(row: Row | PolicyRow) -> Params:
    """What a row without training begins with, and ends with; ``FileNotFoundError`` for one that trains."""
    if row.iterations:
        raise FileNotFoundError(f"the parameters of {row.name} are not committed; train it again")
    generator = seeds.generator(0, "init")
    if isinstance(row, PolicyRow):
        from mamlkit.runs import policies  # imports MuJoCo, which takes its time

        return policies.build(row, 1, 1)[1].init(generator)
    return supervised.method(row).init(generator)


def of_policy(
    row: PolicyRow,
    params: Params,
    test: PolicyEvaluation,
    steps: Sequence[int],
    goals: int,
    seed: int,
    device: str,
) -> dict[int, float]:
    """As :func:`standard_errors`, of a policy: the same goals, other episodes, a difference for each goal."""
    from mamlkit.runs import policies  # imports MuJoCo, which takes its time

    few = dataclasses.replace(
        test, inner_lrs=test.inner_lrs[: max(steps)], headline_step=min(test.headline_step, max(steps))
    )
    first = policies.test_goals(row.environment)[:goals]
    new = policies.evaluate(row, params, few, goals=first, seed=seed, device=device)["return"]
    return _paired(new, results.per_task_errors(row.name, 0, test.name, "return"), steps)


def _paired(new: np.ndarray, kept: np.ndarray, steps: Sequence[int]) -> dict[int, float]:
    """How many standard errors the mean difference of goal to goal is from 0; ``[goals, steps]`` each."""
    change = new[:, steps] - kept[: len(new), steps]
    far = abs(change.mean(0)) / (change.std(0, ddof=1) / math.sqrt(len(change)))
    return dict(zip(steps, far.tolist(), strict=True))


def of_memory(
    row: MemoryRow, params: Params, test: Any, steps: Sequence[int], tasks: int, seed: int, device: str
) -> dict[int, float]:
    """As :func:`standard_errors`, of a policy with a memory: fresh tasks; bandits by their regret.

    Where tasks have goals, they are the same ones in other trials, with a difference for each.
    """
    goals = memory.has_goals(row)
    fresh = dataclasses.replace(test, tasks=min(tasks, test.tasks) if goals else tasks)
    found = memory.evaluate(row, params, fresh, seed=seed, device=device)
    if goals:
        kept = results.per_task_errors(row.name, 0, test.name, row.metric)
        return _paired(found[row.metric], kept, steps)
    metric = "regret" if "regret" in found else row.metric  # of which tasks differ less
    new, old = found[metric], results.load(row.name)[0]["evaluations"][test.name][metric]
    variance = new.var(0, ddof=1) / tasks + np.square(old["sd"]) / old["tasks"]
    far = abs(new.mean(0) - old["mean"]) / np.sqrt(variance)
    return {step: float(far[step]) for step in steps}


def of_tasks(
    row: Row, params: Params, test: Evaluation, steps: Sequence[int], tasks: int, seed: int, device: str
) -> dict[int, float]:
    """As :func:`standard_errors`, of supervised tasks: fresh ones, held against the committed mean."""
    metric = row.metric
    # Whether a regression task has diverged is seen at the last step: there all are taken.
    few = test if metric == "mse" else dataclasses.replace(test, inner_steps=max(steps), headline_step=0)
    curves = supervised.evaluate(row, params, few, n_tasks=tasks, seed=seed, device=device)
    new = measures.statistics(metric, curves[metric], row.family)
    old = results.load(row.name)[0]["evaluations"][test.name][metric]
    far = {}
    for step in steps:
        variance = sum(of["sd"][step] ** 2 / of["tasks"] for of in (new, old))
        far[step] = abs(new["mean"][step] - old["mean"][step]) / math.sqrt(variance)
    return far
