"""The queue: brings the paper nearer to its end, run after run, for as long as it is given.

A run is a row and a seed. Their order is :data:`mamlkit.experiments.paper.QUEUE`, seed by seed, so every row
has one run before any has two. A run goes on from its folder or from the state in ``data/partial``; what it
reaches is put back there, and its number is put into ``data/results`` at every tenth of its iterations and at
its end.
"""

__all__ = ["KEEP_SECONDS", "MILESTONES", "evaluate_run", "say", "work"]

import datetime
import functools
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mamlkit import measures
from mamlkit.experiments.rows import Experiment
from mamlkit.runs import checkpoints, devices, folders, plan, train
from mamlkit.runs.plan import Job
from mamlkit.runs.terminal import Interrupted, deferred_interrupt

MILESTONES = 10  # a run is tested, and its number kept, after so many parts of its iterations
KEEP_SECONDS = 1800.0  # after which its state is put into data/partial all the same: a machine may vanish


def evaluate_run(
    row: Experiment, folder: Path, fit: train.Fit, **where: Any
) -> dict[str, dict[str, np.ndarray]]:
    """Test what a run has come to, and write its parameters and result into its folder."""
    evaluations = train.evaluate_row(row, fit.params, **where)
    checkpoints.save_params(fit.params, folder / "params.safetensors")
    seconds = float(fit.log.seconds.iloc[-1]) if len(fit.log) else 0.0
    folders.write_result(folder, row, fit.iteration, seconds, evaluations)
    return evaluations


def work(
    found: Sequence[Job],
    device: torch.device,
    threads: int | None = None,
    *,
    hours: float = math.inf,
    base: Path = Path("runs"),
    tell: Callable[[str], None] | None = None,
) -> list[str]:
    """Bring one run after the other to its end, until the time is over.

    A run that fails is noted, and the next one begins. One that another process is at work on is left to it.

    Args:
        found: see :func:`mamlkit.runs.plan.jobs`.
        device, threads: where to compute.
        hours: after which the run under way is saved and the queue ends.
        base: where run folders lie.
        tell: takes a line of progress; :func:`say` if None.

    Returns:
        What failed, a line each.

    Raises:
        KeyboardInterrupt: on Ctrl-C or SIGTERM, after the state of the run under way is saved and put into
            ``data/partial``.
    """
    tell = tell or say
    end, failed = time.monotonic() + 3600 * hours, []
    with _interrupts() as asked:
        over = lambda: bool(asked) or time.monotonic() >= end
        try:
            for planned in found:
                if over():
                    break
                _try(planned, device, threads, over, base, tell, failed)
                if asked:
                    raise Interrupted("stopped; the same command goes on", asked[0])
        finally:
            if failed:
                tell("\n  ".join(["failed:", *failed]))
    return failed


def _try(
    planned: Job,
    device: torch.device,
    threads: int | None,
    over: Callable[[], bool],
    base: Path,
    tell: Callable[[str], None],
    failed: list[str],
) -> None:
    """One run; what it fails of is noted."""
    try:
        job = plan.find(planned.row, planned.seed, base)
        if job is not None:  # else another process has finished it meanwhile
            _go_on(job, device, threads, over, base, tell)
    except folders.Busy as busy:
        tell(f"{planned.name}: left out, {busy}")
    except Exception as error:  # whatever it is, it is no reason to leave the cores idle
        failed.append(f"{planned.name}: {error}")
        tell(f"{planned.name}: failed, {error}")
        behind: BaseException | None = error
        while behind := behind.__context__:  # a signal, and then a full disk: the state cannot be kept
            if isinstance(behind, KeyboardInterrupt):
                raise behind


def _go_on(
    job: Job,
    device: torch.device,
    threads: int | None,
    over: Callable[[], bool],
    base: Path,
    tell: Callable[[str], None],
) -> None:
    row, where = job.row, {"device": device, "threads": threads}
    left = "" if math.isnan(job.hours) else f", {job.hours:.1f} hours left by {job.measured or 'its log'}"
    tell(f"{job.name}: from {job.done:,} of {row.iterations:,}{left}")
    with folders.open_run(row, job.seed, devices.described(device), base=base) as folder:
        try:
            for goal in _milestones(row.iterations, job.done, job.tested):
                fit = _reach(goal, over, folder, functools.partial(train.fit, row, seed=job.seed, **where))
                if fit.iteration < goal:
                    tell(f"{job.name}: time is over at {fit.iteration:,} of {row.iterations:,}")
                    return
                evaluations = evaluate_run(row, folder, fit, **where)
                with _uncut():
                    folders.keep(folder)
                tell(f"{job.name}: {fit.iteration:,} of {row.iterations:,}; {_headlines(row, evaluations)}")
        finally:
            if 0 < folders.iterations_done(folder) < row.iterations:
                with _uncut():
                    folders.keep_state(folder)


def _reach(goal: int, over: Callable[[], bool], folder: Path, fit: Callable[..., train.Fit]) -> train.Fit:
    """Train up to a goal or until the time is over; now and then the state is put where another machine finds
    it."""
    while True:
        due = time.monotonic() + KEEP_SECONDS
        reached = fit(
            folder=folder, until=goal, progress=True, stop=lambda: over() or time.monotonic() >= due
        )
        if reached.iteration >= goal or over():
            return reached
        with _uncut():
            folders.keep_state(folder)


@contextmanager
def _uncut() -> Iterator[None]:
    """Several files that belong together: a signal meanwhile counts when they are written."""
    with deferred_interrupt() as asked:
        yield
    if asked:
        raise Interrupted("stopped; the same command goes on", asked[0])


def _milestones(iterations: int, done: int, tested: int) -> list[int]:
    """Where a run is tested from here on: at each tenth of its iterations, last at its end.

    At once, if it has passed a tenth since its last test: then it was cut short in the one that was due.

    >>> _milestones(60_000, 43_000, tested=42_000)
    [48000, 54000, 60000]
    >>> _milestones(60_000, 48_000, tested=42_000)
    [48000, 54000, 60000]
    """
    goals = sorted({math.ceil(iterations * part / MILESTONES) for part in range(1, MILESTONES + 1)})
    due = [done] if any(tested < goal <= done for goal in goals) else []
    return due + [goal for goal in goals if goal > done] or [iterations]


def _headlines(row: Experiment, evaluations: dict[str, dict[str, np.ndarray]]) -> str:
    """The numbers that the paper speaks of, in a line."""
    number = lambda test: measures.statistics(row.metric, evaluations[test.name][row.metric])["mean"][
        test.headline_step
    ]
    return ", ".join(
        f"{row.metric} {number(test):.3f} ({test.name}, step {test.headline_step})"
        for test in row.evaluations
    )


def say(line: str) -> None:
    """Print a line with the time of day to standard error."""
    print(f"{datetime.datetime.now():%H:%M} {line}", file=sys.stderr, flush=True)


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM between two trainings; they are also noted, since who is interrupted may make an
    exception of another kind of it, as the import of a compiled module does, or none at all."""
    asked: list[int] = []

    def interrupt(signum: int, _: object) -> None:
        asked.append(signum)
        raise Interrupted("stopped between two trainings; the same command goes on", signum)

    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
