"""The training of a policy: Algorithm 3, in one process or in several."""

__all__ = ["PolicyTraining", "beyond"]

import os
import time

import numpy as np
import torch
from numpy.typing import NDArray

from mamlkit.engine.ranks import ALONE, Ranks
from mamlkit.engine.threads import one_blas_thread
from mamlkit.experiments.rows import PolicyRow
from mamlkit.maml import Params
from mamlkit.rl import maml_rl
from mamlkit.rl.returns import CLIP
from mamlkit.rl.sampling import Rollouts, Steps, gathered, mean_returns, sample, to_steps
from mamlkit.runs.policies import TRAIN, goals_of, lanes, spread
from mamlkit.runs.seeds import generator
from mamlkit.runs.steps import OneByOne

LOG_COLUMNS = ["iteration", "seconds", "sampling_seconds", "return_before", "return_after"]
LOG_COLUMNS += ["beyond_clip", "kl", "tries", "refused"]
# of each method that adapts
CURVATURE = {"maml": "log-densities", "maml, ratios": "ratios", "maml, first order": "none"}
BEFORE, AFTER, GOALS = 0, 1, 2  # parts of an iteration


def beyond(rollouts: Rollouts, bound: float) -> float:
    """Share of the steps that count whose observation has a number beyond a bound.

    Args:
        rollouts: see :func:`mamlkit.rl.sampling.sample`.
        bound: of the magnitude, such as that of the baseline's clip.
    """
    out = np.abs(rollouts.observations).max(-1) > bound
    return float(out[rollouts.valid].mean())


class PolicyTraining(OneByOne):
    """A :class:`mamlkit.runs.trainings.Training` of a policy. Paper: Algorithm 3, with TRPO as the
    meta-optimiser.

    A line of its log is an iteration: mean return over tasks before and after the inner step, the share of
    the steps before it whose observation lies beyond the baseline's clip (or the authors', where it has
    none), the divergence of the outer step, the step lengths tried, and whether all were refused (1) so that
    nothing moved.

    Args:
        row: the experiment, at either scale.
        seed: of the initialisation, the goals and the episodes.
        device: of the policy and its update; the physics uses the CPU's cores in any case.
        threads: simulation threads of each process; None takes all cores, which the processes of a machine
            share.
        ranks: the processes that train it together. Each simulates some tasks of the meta-batch and is given
            the episodes of all; then each computes some parts of the update.
    """

    every, columns = 1, LOG_COLUMNS
    shown: tuple[str, ...] = ("return_before", "return_after")

    def __init__(
        self,
        row: PolicyRow,
        seed: int,
        device: str | torch.device,
        threads: int | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.row, self.seed, self.ranks = row, seed, ranks
        for test in row.evaluations:  # what is wrong there, before hours of training
            goals_of(row.environment, test)
        if threads is None and ranks.here > 1:
            threads = max(1, (os.cpu_count() or 1) // ranks.here)
        self.own = ranks.dealt(range(row.meta_batch_size))
        self.lanes, self.policy = lanes(row, len(self.own), row.rollouts, threads=threads)
        begun = self.policy.init(generator(seed, "init"))
        self.params = {name: value.to(device) for name, value in begun.items()}
        self.optimiser: torch.optim.Optimizer | None = None
        if row.method == "policy gradient":
            self.optimiser = torch.optim.Adam(list(self.params.values()), lr=row.outer_lr)
        self.window = []  # a line of the log takes all

    @one_blas_thread()
    def step(self, iteration: int) -> None:
        """One outer update: sample, adapt, sample again, update."""
        key = (self.seed, TRAIN, iteration)
        row, goals = self.row, None
        if row.method != "trpo":
            goals = self.lanes[0].task.sample(np.random.default_rng((*key, GOALS)), row.meta_batch_size)
        self.found = {"sampling_seconds": 0.0}
        same = spread(self.params, len(self.own))
        before, steps = None, self._sample("return_before", same, (*key, BEFORE), goals)
        if row.method in CURVATURE:
            before, everyone = steps, spread(self.params, row.meta_batch_size)
            adapted = maml_rl.adapt_each(self.policy, everyone, before, row.inner_lr, self.own)
            steps = self._sample("return_after", adapted, (*key, AFTER), goals)
        if self.optimiser is None:
            curvature = CURVATURE.get(row.method, "none")
            self.params, step = maml_rl.meta_update(
                self.policy,
                self.params,
                before,
                steps,
                inner_lr=row.inner_lr,
                max_kl=row.max_kl,
                curvature=curvature,
                ranks=self.ranks,
            )
            self.found |= {"kl": step.kl, "tries": step.tries, "refused": int(bool(step.refused))}
        else:
            self._follow_gradient(self.optimiser, steps)

    def _sample(
        self, name: str, params: Params, key: tuple[int, ...], goals: NDArray[np.float64] | None
    ) -> Steps:
        """The steps of new episodes, which the parameters of this process's tasks begin; their mean return
        and the time they took go into the log."""
        begin, row, own = time.perf_counter(), self.row, list(self.own)
        theirs = None if goals is None else goals[own]
        found = sample(self.lanes, self.policy, params, row.rollouts, key, theirs, numbers=own)
        rollouts = gathered(self.ranks, found, row.meta_batch_size)
        self.found["sampling_seconds"] += time.perf_counter() - begin
        self.found[name] = float(mean_returns(rollouts).mean())
        if "beyond_clip" not in self.found:  # of the first episodes, before the inner step
            self.found["beyond_clip"] = beyond(rollouts, row.baseline_clip or CLIP)
        device = self.params["log_std"].device
        return to_steps(rollouts, row.discount, device, row.baseline_clip, self.ranks)

    def _follow_gradient(self, optimiser: torch.optim.Optimizer, steps: Steps) -> None:
        """A step of the optimiser along the policy gradient."""
        batch = maml_rl.MetaBatch(self.policy, self.params, None, steps, ranks=self.ranks)
        vector = batch.gradient()
        if not vector.isfinite().all():
            raise FloatingPointError("the policy gradient is not finite")
        for name, gradient in batch.unflatten(vector).items():
            self.params[name].grad = gradient
        optimiser.step()

    def line(self, iteration: int) -> dict[str, float]:
        """What the last step has found."""
        return self.found

    def close(self) -> None:
        """End the threads of the simulation."""
        for env in self.lanes:
            env.close()
