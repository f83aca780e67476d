"""Policies: their environments and networks, and the tests of what a training gives."""

__all__ = ["build", "evaluate", "goals_of", "lanes", "spread", "test_goals"]

import os
from contextlib import ExitStack
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mamlkit import places
from mamlkit.engine.threads import MOST, check, one_blas_thread
from mamlkit.experiments.rows import PolicyEvaluation, PolicyRow
from mamlkit.maml import Params
from mamlkit.rl import envs, maml_rl
from mamlkit.rl.batched import Batched
from mamlkit.rl.policy import Policy, gaussian_mlp
from mamlkit.rl.robot import Locomotion
from mamlkit.rl.sampling import mean_returns, sample, to_steps

TRAIN, TEST = 0, 1  # purposes of random numbers


def build(
    row: PolicyRow, num_tasks: int, rollouts: int, *, threads: int | None = None
) -> tuple[Batched, Policy]:
    """The environments of so many tasks, and the policy of a row.

    Args:
        row: the experiment.
        num_tasks: tasks that run at the same time.
        rollouts: environments of each.
        threads: simulation threads; None takes all cores. Results do not depend on it.
    """
    any_goals = envs.sample_goals(row.environment, np.random.default_rng(0), num_tasks * rollouts)
    env = envs.make(
        row.environment,
        any_goals,
        show_goal=row.show_goal,
        threads=threads,
        forward=row.forward,
        physics=row.physics,
    )
    sizes = env.single_observation_space.shape[0], env.single_action_space.shape[0]
    return env, gaussian_mlp(*sizes, activation=row.activation, context=row.context)


def lanes(
    row: PolicyRow, num_tasks: int, rollouts: int, *, threads: int | None = None
) -> tuple[list[Batched], Policy]:
    """As :func:`build`, for :func:`mamlkit.rl.sampling.sample`: robots of several tasks, with two
    threads or more, in two batches of half the tasks and half the threads each.

    Two are enough for one to simulate while the other one's actions are computed; more would wait for each
    other, since Python runs one of them at a time.
    """
    check(threads := min(os.cpu_count() or 1, MOST) if threads is None else threads)
    family = envs.ENVIRONMENTS[row.environment].family
    robots = isinstance(family, type) and issubclass(family, Locomotion)
    both = robots and num_tasks > 1 and min(threads, torch.get_num_threads()) > 1
    half = -(-num_tasks // 2)
    shares = [(half, -(-threads // 2)), (num_tasks - half, threads // 2)] if both else [(num_tasks, threads)]
    built = [build(row, tasks, rollouts, threads=some) for tasks, some in shares]
    return [env for env, _ in built], built[0][1]


def spread(params: Params, tasks: int) -> Params:
    """The same parameters for every task."""
    return {name: value.expand(tasks, *value.shape) for name, value in params.items()}


def test_goals(environment: str) -> NDArray[np.float64]:
    """The test goals of an environment, ``[40, ...]``: of the paper's, those of the authors' figure data.

    Raises:
        ValueError: ``data/test_goals.csv`` has none, or one that is not of the environment's set.
    """
    path = places.repository() / "data" / "test_goals.csv"
    table = pd.read_csv(path, dtype=str)
    goals = table[table.environment == environment].goal
    if goals.empty:
        raise ValueError(
            f"{path} has no goals of environment {environment!r}, only of "
            f"{', '.join(table.environment.unique())}; add some"
        )
    known, found = envs.ENVIRONMENTS[environment].goals, []
    for line, goal in goals.items():
        try:
            numbers = np.array([float(word) for word in str(goal).split()])
            value = numbers.reshape(known.shape)
        except ValueError:
            value = np.full(known.shape, np.nan)
        if not known.contains(value[None]).all():
            count = int(np.prod(known.shape))
            raise ValueError(
                f"{path}, line {int(line) + 2}: {goal!r} is no goal of {environment}; give {count} "
                f"number{'s, with spaces between' if count > 1 else ''}, of the {known}"
            )
        found.append(value)
    return np.array(found)


def goals_of(environment: str, evaluation: Any) -> NDArray[np.float64]:
    """The goals that a test takes, the first of :func:`test_goals`; ``ValueError`` if it takes more."""
    goals = test_goals(environment)
    if evaluation.tasks > len(goals):
        raise ValueError(
            f"{evaluation.name}: tasks={evaluation.tasks}, but data/test_goals.csv has {len(goals)} of "
            f"{environment}; add some, or name others as goals"
        )
    return goals[: evaluation.tasks]


@one_blas_thread()
def evaluate(
    row: PolicyRow,
    params: Params,
    evaluation: PolicyEvaluation,
    *,
    goals: NDArray[np.float64] | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    threads: int | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Returns of the policy after 0, 1, ... gradient steps on each goal, with fresh rollouts before each.

    Beside other goals, or with another number of rollouts, float32 rounds the same sums otherwise. In 2D
    navigation the returns of a goal agree to 1e-6 all the same; an Ant's motion is chaotic, so that after a
    step it has other episodes, as with another seed.

    Args:
        row: the experiment the parameters belong to.
        params: theta.
        evaluation: rollouts and step sizes.
        goals: ``[tasks, ...]``; the first ``evaluation.tasks`` of the paper's if None.
        seed: of the episodes.
        device: of the policy; the physics uses the CPU's cores in any case.
        threads: simulation threads; None takes all cores.

    Returns:
        ``"return"``: undiscounted, a mean over the episodes of a batch, ``[tasks, inner_steps + 1]``; NaN
        from the step on that has made a task's parameters non-finite.

    Raises:
        ValueError: the evaluation wants more goals than the paper has.
        FloatingPointError: parameters are finite, but what the policy does with them is not.
    """
    if goals is None:
        goals = goals_of(row.environment, evaluation)
    batches, policy = lanes(row, len(goals), evaluation.rollouts, threads=threads)
    fast = spread({name: value.to(device) for name, value in params.items()}, len(goals))
    found, diverged = [], np.zeros(len(goals), bool)
    with ExitStack() as opened:
        for env in batches:
            opened.callback(env.close)
        for step in range(evaluation.inner_steps + 1):
            rollouts = sample(
                batches, policy, fast, evaluation.rollouts, (seed, TEST, step), goals, drop_unfinished=True
            )
            found.append(np.where(diverged, np.nan, mean_returns(rollouts)))
            if step < evaluation.inner_steps:
                steps = to_steps(rollouts, row.discount, device, row.baseline_clip)
                moved = maml_rl.adapt_each(policy, fast, steps, evaluation.inner_lrs[step])
                good = torch.stack([value.flatten(1).isfinite().all(1) for value in moved.values()]).all(0)
                fast = {
                    name: torch.where(good.view(-1, *[1] * (value.dim() - 1)), value, fast[name])
                    for name, value in moved.items()
                }
                diverged |= ~good.cpu().numpy()
    return {"return": np.stack(found, 1)}
