"""Which training an experiment has, and which tests; :mod:`mamlkit.runs.train` is the one loop."""

__all__ = ["Training", "begin", "can_record", "evaluate_row"]

from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from mamlkit.engine import threads as cpu_threads
from mamlkit.engine.ranks import ALONE, Ranks
from mamlkit.experiments.averages import AverageRow
from mamlkit.experiments.chains import ChainRow
from mamlkit.experiments.memory import MemoryRow
from mamlkit.experiments.rows import Experiment, PolicyRow, Row
from mamlkit.maml import Params
from mamlkit.runs import averages, chains, devices, memory, records, supervised, supervised_training
from mamlkit.runs.recorded import RecordedTraining


class Training(Protocol):
    """What the loop trains: its state, its step, and a line of its log.

    All that a step changes is here, and what it draws depends on the iteration alone. So a training that goes
    on from a saved state does what it would have done.

    Args:
        params: theta.
        window: the losses that no line of the log has yet.
        every: iterations between two lines of the log.
        columns: that a line may have.
        shown: those that the progress bar has.
    """

    params: Params
    window: list[Tensor]
    every: int
    columns: list[str]
    shown: tuple[str, ...]

    @property
    def optimiser(self) -> Optimizer | None:
        """Whose moments belong to the state, if there is one."""

    def advance(self, iteration: int, last: int) -> int:
        """One outer update or several, after so many; how many are done then, at most ``last`` and not
        beyond the next line of the log. ``FloatingPointError`` if there is none to take."""

    def check(self, iteration: int) -> None:
        """``FloatingPointError`` if a loss of the window is not finite; the last one is of this iteration."""

    def line(self, iteration: int) -> dict[str, float]:
        """What the log says of the iterations since its last line; the window is empty after it."""

    def result(self) -> Params:
        """What the tests begin with: theta, if it is nothing else."""

    def close(self) -> None:
        """End what a training has started, such as threads."""


def begin(
    row: Experiment,
    seed: int = 0,
    device: str | torch.device = "cpu",
    *,
    threads: int | None = None,
    validate: bool = True,
    ranks: Ranks = ALONE,
    recorded: bool = False,
) -> Training:
    """The training of a row before its first iteration. Arguments as for :func:`mamlkit.runs.train.fit`."""
    if not isinstance(row, Experiment):
        raise ValueError(f"row={row!r}, but an experiment is needed, such as paper.get('sinusoid-maml')")
    records.check_seed(seed)
    device = devices.available(device)
    if threads is not None:
        cpu_threads.check(threads)
    if isinstance(row, MemoryRow | ChainRow) and ranks.count > 1:
        chain, trials = "its networks are computed side by side", "its trials share their random numbers"
        raise ValueError(
            f"{row.name} is not dealt to {ranks.count} processes, since "
            f"{chain if isinstance(row, ChainRow) else trials}; run it without torchrun, or many runs at a "
            "time: paper --on ray"
        )
    if recorded and (not can_record(row) or ranks.count > 1):
        raise ValueError(
            f"{row.name}: steps of supervised experiments with Adam in one process can be recorded, but this "
            "is another one, or one of several processes, or its loss or rate changes in training; leave "
            "recorded out"
        )
    if isinstance(row, PolicyRow):
        from mamlkit.runs.policy_training import PolicyTraining  # imports MuJoCo, which takes its time

        return PolicyTraining(row, seed, device, threads, ranks)
    if isinstance(row, MemoryRow):
        return memory.MemoryTraining(row, seed, device)
    if isinstance(row, ChainRow):
        return chains.ChainTraining(row, seed, device)
    if not isinstance(row, Row):
        raise ValueError(f"{row.name} is a {type(row).__name__}, but a Row or a PolicyRow can be trained")
    if recorded:
        return RecordedTraining(row, seed, device, validate)
    if isinstance(row, AverageRow):
        return averages.AverageTraining(row, seed, device)
    return supervised_training.SupervisedTraining(row, seed, device, validate and ranks.first, ranks)


def can_record(row: Experiment) -> bool:
    """Whether a GPU can repeat a recording of the row's iterations, which must all be alike."""
    return type(row) is Row and row.outer == "adam" and not supervised.method(row).scheduled


def evaluate_row(
    row: Experiment, params: Params, *, device: str | torch.device = "cpu", threads: int | None = None
) -> dict[str, dict[str, np.ndarray]]:
    """All tests of a row: the name of each to its arrays ``[tasks, inner_steps + 1]``, by metric.

    Arguments as for :func:`mamlkit.runs.train.fit`; see :func:`mamlkit.runs.supervised.evaluate`,
    :func:`mamlkit.runs.policies.evaluate`, :func:`mamlkit.runs.memory.evaluate` and
    :func:`mamlkit.runs.chains.evaluate`.
    """
    device = devices.available(device)
    test: Any  # takes an evaluation
    if isinstance(row, PolicyRow):
        from mamlkit.runs import policies  # imports MuJoCo, which takes its time

        test = partial(policies.evaluate, row, params, device=device, threads=threads)
    elif isinstance(row, MemoryRow):
        test = partial(memory.evaluate, row, params, device=device)
    elif isinstance(row, ChainRow):
        test = partial(chains.evaluate, row, params)
    elif isinstance(row, Row):
        test = partial(supervised.evaluate, row, params, device=device)
    else:
        raise ValueError(f"{row.name} is a {type(row).__name__}, but a Row or a PolicyRow can be tested")
    return {each.name: test(each) for each in row.evaluations}
