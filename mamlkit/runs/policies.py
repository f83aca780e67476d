"""Meta-training of policies: sample, adapt, sample, update; and the evaluation of what it gives."""

__all__ = ["build", "evaluate", "evaluate_row", "fit", "spread", "standard_errors", "test_goals"]

import dataclasses
import math
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from mamlkit import places
from mamlkit.experiments import paper
from mamlkit.report import results
from mamlkit.runs import checkpoints, folders
from mamlkit.rl import envs, maml_rl
from mamlkit.rl.batched import Batched
from mamlkit.rl.policy import Policy, gaussian_mlp
from mamlkit.rl.sampling import mean_returns, sample, to_steps
from mamlkit.experiments.rows import PolicyEvaluation, PolicyRow
from mamlkit.runs.terminal import Interrupted, deferred_interrupt, progress_bar
from mamlkit.engine.threads import one_blas_thread
from mamlkit.runs.supervised import CHECKPOINT_SECONDS, Fit, generator

Params = dict[str, Tensor]
LOG_COLUMNS = ["iteration", "seconds", "sampling_seconds", "return_before", "return_after", "kl", "tries", "refused"]
# of each method that adapts
CURVATURE = {"maml": "log-densities", "maml, ratios": "ratios", "maml, first order": "none"}
TRAIN, TEST = 0, 1  # purposes of random numbers
BEFORE, AFTER, GOALS = 0, 1, 2  # parts of an iteration


def build(row: PolicyRow, num_tasks: int, rollouts: int, *, threads: int | None = None) -> tuple[Batched, Policy]:
    """The environments of so many tasks, and the policy of a row.

    Args:
        row: the experiment.
        num_tasks: tasks that run at the same time.
        rollouts: environments of each.
        threads: simulation threads; None takes all cores. Results do not depend on it.
    """
    any_goals = envs.sample_goals(row.environment, np.random.default_rng(0), num_tasks * rollouts)
    env = envs.make(row.environment, any_goals, show_goal=row.show_goal, threads=threads)
    sizes = env.single_observation_space.shape[0], env.single_action_space.shape[0]
    return env, gaussian_mlp(*sizes, activation=row.activation)


def spread(params: Params, tasks: int) -> Params:
    """The same parameters for every task."""
    return {name: value.expand(tasks, *value.shape) for name, value in params.items()}


@one_blas_thread()
def fit(
    row: PolicyRow,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    folder: Path | None = None,
    until: int | None = None,
    progress: bool = False,
    threads: int | None = None,
    stop: Callable[[], bool] | None = None,
) -> Fit:
    """Train the policy of a row. Paper: Algorithm 3, with TRPO as the meta-optimiser.

    Args:
        row: the experiment, at either scale.
        seed: of the initialisation, the goals and the episodes.
        device: of the policy and its update; the physics uses the CPU's cores in any case.
        folder: a run folder (see :func:`mamlkit.runs.folders.open_run`); a run found there is resumed
            exactly. None keeps nothing.
        until: stop after this many iterations; the row's own number if None.
        progress: show a progress bar, or, where standard error is no terminal, a line about every minute.
        threads: simulation threads; None takes all cores.
        stop: asked before each iteration; once it says True, the state is saved and ``Fit.iteration`` tells
            how far it came.

    Returns:
        Parameters and the log. One line per iteration: mean return over tasks before and after the inner
        step, the divergence of the outer step, the step lengths tried, and whether all were refused (1) so
        that nothing moved.

    Raises:
        ValueError: state or log in the folder are damaged, or of another run.
        OSError: state or log cannot be written, or somebody has removed the folder; the message says what is
            left.
        FloatingPointError: the loss or the policy is not finite; the last state is from before.
        KeyboardInterrupt: on Ctrl-C or SIGTERM, after the current update is whole and the state is saved; on
            the second one at once, and the last saved state stays.
    """
    env, policy = build(row, row.meta_batch_size, row.rollouts, threads=threads)
    params = {name: value.to(device) for name, value in policy.init(generator(seed, "init")).items()}
    optimiser = torch.optim.Adam(list(params.values()), lr=row.outer_lr) if row.method == "policy gradient" else None
    store = checkpoints.Store(folder, row, seed, 1, LOG_COLUMNS)
    first, _, log = store.load(params, optimiser)
    iteration, last = first, row.iterations if until is None else min(until, row.iterations)
    start = saved = time.perf_counter()
    before = log[-1]["seconds"] if log else 0.0

    def save() -> None:
        if not checkpoints.finite(params, optimiser):
            raise FloatingPointError(f"the policy, or Adam's moments, are not finite at iteration {iteration} of " f"" f"" f"{row.name}, seed {seed}; the last state is kept")
        store.save(iteration, params, optimiser, [], log)

    bar = progress_bar(row, first, progress)
    # its threads end, whatever happens
    with deferred_interrupt(bar.set_postfix_str) as asked_to_stop, bar, closing(env):
        while iteration < last and not asked_to_stop and not (stop and stop()):
            try:
                params, line = _iterate(row, env, policy, params, optimiser, seed, iteration)
            except FloatingPointError as error:
                where = f"iteration {iteration + 1} of {row.name}, seed {seed}" + (f", run folder {folder}" if folder else "")
                raise FloatingPointError(f"{error} at {where}; the last state is kept") from error
            iteration += 1
            log.append({"iteration": iteration, "seconds": before + time.perf_counter() - start} | line)
            bar.update()
            bar.set_postfix({k: f"{line[k]:.4g}" for k in ("return_before", "return_after") if k in line}, refresh=False)
            if time.perf_counter() - saved > CHECKPOINT_SECONDS:
                save()
                saved = time.perf_counter()
        save()
    if asked_to_stop:
        raise Interrupted(f"stopped after iteration {iteration}; the same command resumes it", asked_to_stop[0])
    return Fit(params, pd.DataFrame(log, columns=LOG_COLUMNS), iteration)


def _iterate(
    row: PolicyRow, env: Batched, policy: Policy, params: Params, optimiser: torch.optim.Optimizer | None, seed: int, iteration: int
) -> tuple[Params, dict[str, float]]:
    """One outer update: the new parameters and a line of the log."""
    key = (seed, TRAIN, iteration)
    goals = None
    if row.method != "trpo":
        goals = env.task.sample(np.random.default_rng((*key, GOALS)), row.meta_batch_size)
    begin = time.perf_counter()
    everyone = spread(params, row.meta_batch_size)
    rollouts = sample(env, policy, everyone, row.rollouts, (*key, BEFORE), goals)
    sampling = time.perf_counter() - begin
    line = {"return_before": float(mean_returns(rollouts).mean())}
    device = params["log_std"].device
    steps, before = to_steps(rollouts, row.discount, device, row.baseline_clip), None
    if row.method in CURVATURE:
        before = steps
        adapted = maml_rl.adapt_each(policy, everyone, before, row.inner_lr)
        begin = time.perf_counter()
        rollouts = sample(env, policy, adapted, row.rollouts, (*key, AFTER), goals)
        sampling += time.perf_counter() - begin
        line["return_after"] = float(mean_returns(rollouts).mean())
        steps = to_steps(rollouts, row.discount, device, row.baseline_clip)
    line["sampling_seconds"] = sampling
    if optimiser is None:
        how = {"inner_lr": row.inner_lr, "max_kl": row.max_kl, "curvature": CURVATURE.get(row.method, "none")}
        params, step = maml_rl.meta_update(policy, params, before, steps, **how)
        return params, line | {"kl": step.kl, "tries": step.tries, "refused": int(bool(step.refused))}
    batch = maml_rl.MetaBatch(policy, params, None, steps)
    vector = batch.gradient()
    if not vector.isfinite().all():
        raise FloatingPointError("the policy gradient is not finite")
    for name, gradient in batch.unflatten(vector).items():
        params[name].grad = gradient
    optimiser.step()
    return params, line


def test_goals(environment: str) -> NDArray[np.float64]:
    """The 40 goals that the paper tests an environment on, ``[40, ...]``: those of the authors' figure data.
    """
    path = places.repository() / "data" / "test_goals.csv"
    table = pd.read_csv(path, dtype=str)
    goals = [[float(x) for x in goal.split()] for goal in table[table.environment == environment].goal]
    if not goals:
        raise ValueError(f"{path} has no goals of environment {environment!r}, only of " f"{', '.join(table.environment.unique())}; add some")
    return np.squeeze(np.array(goals), -1) if len(goals[0]) == 1 else np.array(goals)


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
    """Returns of the policy after 0, 1, ... gradient steps on each goal, with fresh rollouts before each
    step.

    Beside other goals, or with another number of rollouts, float32 rounds the same sums otherwise. In 2D
    navigation the returns of a goal agree to 1e-6 all the same; an Ant's motion is chaotic, so that after a
    step it has other episodes, as with another seed.

    Args:
        row: the experiment the parameters belong to.
        params: theta.
        evaluation: rollouts and step sizes.
        goals: ``[tasks, ...]``; the first ``evaluation.tasks`` of the paper's if None.
        seed: of the episodes.
        device: as for :func:`fit`.
        threads: simulation threads; None takes all cores.

    Returns:
        ``"return"``: undiscounted, a mean over the episodes of a batch, ``[tasks, inner_steps + 1]``; NaN
            from the
        step on that has made a task's parameters non-finite.

    Raises:
        ValueError: the evaluation wants more goals than the paper has.
        FloatingPointError: parameters are finite, but what the policy does with them is not.
    """
    if goals is None:
        goals = test_goals(row.environment)
        if evaluation.tasks > len(goals):
            raise ValueError(f"{evaluation.name}: tasks={evaluation.tasks}, but {row.environment} has " f"{len(goals)} test goals; name others as goals")
        goals = goals[: evaluation.tasks]
    env, policy = build(row, len(goals), evaluation.rollouts, threads=threads)
    fast = spread({name: value.to(device) for name, value in params.items()}, len(goals))
    found, diverged = [], np.zeros(len(goals), bool)
    with closing(env):
        for step in range(evaluation.inner_steps + 1):
            rollouts = sample(env, policy, fast, evaluation.rollouts, (seed, TEST, step), goals, drop_unfinished=True)
            found.append(np.where(diverged, np.nan, mean_returns(rollouts)))
            if step < evaluation.inner_steps:
                steps = to_steps(rollouts, row.discount, device, row.baseline_clip)
                moved = maml_rl.adapt_each(policy, fast, steps, evaluation.inner_lrs[step])
                good = torch.stack([value.flatten(1).isfinite().all(1) for value in moved.values()]).all(0)
                fast = {name: torch.where(good.view(-1, *[1] * (value.dim() - 1)), value, fast[name]) for name, value in moved.items()}
                diverged |= ~good.cpu().numpy()
    return {"return": np.stack(found, 1)}


def evaluate_row(
    row: PolicyRow, params: Params, *, seed: int = 0, device: str | torch.device = "cpu", threads: int | None = None
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """All evaluations of a row: evaluation name to what :func:`evaluate` gives."""
    return {e.name: evaluate(row, params, e, seed=seed, device=device, threads=threads) for e in row.evaluations}


def standard_errors(name: str, goals: int = 10, seed: int = 1) -> NDArray[np.float64]:
    """How far new returns of a committed policy are from its committed ones, in standard errors of their mean
    difference.

    Args:
        name: of a row with a committed result.
        goals: the first so many of the paper's goals.
        seed: of the new episodes.

    Returns:
        Before and after one gradient step, ``[2]``, or ``[1]`` for a policy that takes none.
    """
    row = paper.get(name)
    test = row.evaluations[0]
    one_step = dataclasses.replace(test, inner_lrs=test.inner_lrs[:1])
    params = checkpoints.load_params(results.checkpoint(name))
    new = evaluate(row, params, one_step, goals=test_goals(row.environment)[:goals], seed=seed)["return"]
    change = new - results.per_task_errors(name, 0, test.name, "return")[:goals, :2]
    return abs(change.mean(0)) / (change.std(0, ddof=1) / math.sqrt(len(change)))
