"""Committed numbers derived again: the committed parameters, tested anew."""

__all__ = ["standard_errors"]

import dataclasses
import math
from collections.abc import Sequence

from mamlkit import measures
from mamlkit.experiments import paper
from mamlkit.experiments.rows import PolicyRow
from mamlkit.report import results
from mamlkit.runs import checkpoints, supervised


def standard_errors(
    name: str,
    evaluation: str | None = None,
    *,
    steps: Sequence[int] = (0, 1),
    tasks: int = 200,
    seed: int = 1,
    device: str = "cpu",
) -> dict[int, float]:
    """How far new tests of committed parameters are from the committed number, in standard errors of the difference.

    Supervised tasks are fresh ones. Of policies the goals are the first ones of the paper's, as in the committed
    test, and the episodes are new: so the differences of each goal are compared.

    Args:
        name: of a row with a committed result of seed 0.
        evaluation: one of the row's, the first if None.
        steps: inner steps after which to compare; those that the evaluation has not are left out.
        tasks: so many tasks, or goals.
        seed: of the new tasks, or episodes.
        device: where to compute.

    Returns:
        The distance after each of the steps.

    Raises:
        ValueError: the row has no such evaluation.
        FileNotFoundError: there is no committed result.
    """
    row = paper.get(name)
    found = {test.name: test for test in row.evaluations}
    test = found.get(evaluation or next(iter(found)))
    if test is None:
        raise ValueError(f"evaluation={evaluation!r}, but {name} has {', '.join(map(repr, found))}")
    steps = [step for step in steps if step <= test.inner_steps]
    params = checkpoints.load_params(results.checkpoint(name))
    metric = row.metric
    if isinstance(row, PolicyRow):
        from mamlkit.runs import policies  # imports MuJoCo, which takes its time

        few = dataclasses.replace(test, inner_lrs=test.inner_lrs[: max(steps)])
        goals = policies.test_goals(row.environment)[:tasks]
        new = policies.evaluate(row, params, few, goals=goals, seed=seed, device=device)[metric]
        change = (new - results.per_task_errors(name, 0, test.name, metric)[: len(new), : max(steps) + 1])[
            :, steps
        ]
        return dict(zip(steps, abs(change.mean(0)) / (change.std(0, ddof=1) / math.sqrt(len(change)))))
    # Whether a regression task has diverged is seen at the last step: there all are taken.
    few = test if metric == "mse" else dataclasses.replace(test, inner_steps=max(steps))
    curves = supervised.evaluate(row, params, few, n_tasks=tasks, seed=seed, device=device)[metric]
    new, old = measures.statistics(metric, curves), results.load(name)[0]["evaluations"][test.name][metric]
    variance = lambda of, count, step: of["sd"][step] ** 2 / count
    return {
        step: abs(new["mean"][step] - old["mean"][step])
        / math.sqrt(variance(new, tasks, step) + variance(old, old["tasks"], step))
        for step in steps
    }
