"""The queue: brings the paper nearer to its end, run after run, for as long as it is given.

A run is a row and a seed. Their order is :data:`mamlkit.experiments.paper.QUEUE`, seed by seed, so every row
has one run before any has two. A run goes on from its folder or from the state in ``data/partial``; what it
reaches is put back there, and its number is put into ``data/results`` at every tenth of its iterations and at
its end.
"""

__all__ = ["KEEP_SECONDS", "MILESTONES", "Advance", "advance", "attempt", "evaluate_run", "say", "work"]

import datetime
import functools
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from mamlkit import measures
from mamlkit.experiments.rows import Experiment
from mamlkit.runs import checkpoints, devices, folders, keeping, plan, records, train, trainings
from mamlkit.runs.plan import Job
from mamlkit.runs.terminal import Interrupted, deferred_interrupt, noted_interrupt

MILESTONES = 10  # a run is tested, and its number kept, after so many parts of its iterations
KEEP_SECONDS = 1800.0  # after which its state is put into data/partial all the same: a machine may vanish

Evaluations = dict[str, dict[str, np.ndarray]]


class Advance(Protocol):
    """What brings the run in a folder to a goal, and tests it there.

    Returns:
        The iteration it came to, and the tests; None if ``stop`` said True before the goal.
    """

    def __call__(
        self, row: Experiment, seed: int, folder: Path, goal: int, stop: Callable[[], bool]
    ) -> tuple[int, Evaluations | None]: ...


def advance(
    row: Experiment,
    seed: int,
    folder: Path,
    goal: int,
    stop: Callable[[], bool],
    *,
    device: torch.device,
    threads: int | None,
    progress: bool = True,
    recorded: bool = False,
) -> tuple[int, Evaluations | None]:
    """:class:`Advance` in this process; arguments as for :func:`mamlkit.runs.train.fit`.

    What cannot be recorded, such as policies, goes the plain way.
    """
    fit = train.fit(
        row,
        seed=seed,
        device=device,
        folder=folder,
        until=goal,
        progress=progress,
        threads=threads,
        stop=stop,
        recorded=recorded and trainings.can_record(row),
    )
    if fit.iteration < goal:
        return fit.iteration, None
    return fit.iteration, evaluate_run(row, folder, fit, device=device, threads=threads)


def evaluate_run(row: Experiment, folder: Path, fit: train.Fit, **where: Any) -> Evaluations:
    """Test what a run has come to, and write its parameters and result into its folder.

    Raises:
        OSError: they cannot be written; those of before are still there, and the message says what is kept.
    """
    evaluations = trainings.evaluate_row(row, fit.params, **where)
    # first all of it elsewhere: a disk that is full meanwhile leaves what was there, as it belonged together
    with (
        records.what_is_kept(folder),
        tempfile.TemporaryDirectory(dir=folder, prefix=folders.UNDER_WAY) as place,
    ):
        checkpoints.save_params(fit.params, Path(place) / "params.safetensors")
        folders.write_result(folder, row, fit.iteration, fit.seconds, evaluations, into=Path(place))
        for name in folders.RESULT:
            os.replace(Path(place) / name, folder / name)
    return evaluations


def say(line: str) -> None:
    """Print a line with the time of day to standard error."""
    print(f"{datetime.datetime.now():%H:%M} {line}", file=sys.stderr, flush=True)


def work(
    found: Sequence[Job],
    device: torch.device,
    threads: int | None = None,
    *,
    hours: float = math.inf,
    base: Path = Path("runs"),
    tell: Callable[[str], None] = say,
    recorded: bool = False,
) -> list[str]:
    """Bring one run after the other to its end, until the time is over.

    A run that fails is noted, and the next one begins. One that another process is at work on is left to it.

    Args:
        found: see :func:`mamlkit.runs.plan.jobs`.
        device, threads: where to compute.
        hours: after which the run under way is saved and the queue ends.
        base: where run folders lie.
        tell: takes a line of progress.
        recorded: as for :func:`advance`.

    Returns:
        What failed, a line each.

    Raises:
        KeyboardInterrupt: on Ctrl-C or SIGTERM, after the state of the run under way is saved and put into
            ``data/partial``.
    """
    end = time.monotonic() + 3600 * hours
    failed: list[str] = []
    here = functools.partial(advance, device=device, threads=threads, recorded=recorded)
    with noted_interrupt("stopped between two trainings; the same command goes on") as asked:
        over = lambda: bool(asked) or time.monotonic() >= end
        try:
            for planned in found:
                if over():
                    break
                attempt(planned, here, devices.described(device), over, base, tell, failed)
                if asked:
                    raise Interrupted("stopped; the same command goes on", asked[0])
        finally:
            if failed:
                tell("\n  ".join(["failed:", *failed]))
    return failed


def attempt(
    planned: Job,
    bring: Advance,
    device: str | None,
    over: Callable[[], bool],
    base: Path,
    tell: Callable[[str], None],
    failed: list[str],
) -> None:
    """One run, until it is finished or the time is over; what it fails of is noted.

    Args:
        planned: the run.
        bring: it to its goals.
        device: of this machine, for the record; None where others compute.
        over: says whether the time is.
        base: where run folders lie.
        tell: takes a line of progress.
        failed: gets a line if it fails.
    """
    try:
        job = plan.find(planned.row, planned.seed, base)
        if job is not None:  # else another process has finished it meanwhile
            _go_on(job, bring, device, over, base, tell)
    except folders.Busy as busy:
        tell(f"{planned.name}: left out, {busy}")
    except Exception as error:  # whatever it is, it is no reason to leave the cores idle
        behind = error.__context__
        said = str(error)
        if isinstance(error, RuntimeError) and behind and not isinstance(behind, KeyboardInterrupt):
            said += f" (after {behind!r})"  # as of a recording, whose end fails of what failed in it
        failed.append(f"{planned.name}: {said}")
        tell(f"{planned.name}: failed, {said}")
        while behind:  # a signal, and then a full disk: the state cannot be kept
            if isinstance(behind, KeyboardInterrupt):
                raise behind from None
            behind = behind.__context__


def _go_on(
    job: Job,
    bring: Advance,
    device: str | None,
    over: Callable[[], bool],
    base: Path,
    tell: Callable[[str], None],
) -> None:
    row = job.row
    left = "" if math.isnan(job.hours) else f", {job.hours:.1f} hours left by {job.measured or 'its log'}"
    tell(f"{job.name}: from {job.done:,} of {row.iterations:,}{left}")
    with (
        folders.keeping_alone(row, job.seed),
        folders.open_run(row, job.seed, device, base=base, tell=tell) as folder,
    ):
        try:
            for goal in _milestones(row.iterations, job.done, job.tested):
                done, evaluations = _reach(
                    goal, over, functools.partial(bring, row, job.seed, folder), folder
                )
                if evaluations is None:
                    tell(f"{job.name}: time is over at {done:,} of {row.iterations:,}")
                    return
                with _uncut():
                    keeping.keep(folder)
                tell(f"{job.name}: {done:,} of {row.iterations:,}; {_headlines(row, evaluations)}")
        finally:
            if 0 < folders.iterations_done(folder) < row.iterations:
                with _uncut():
                    keeping.keep_state(folder)


def _reach(
    goal: int,
    over: Callable[[], bool],
    bring: Callable[[int, Callable[[], bool]], tuple[int, Evaluations | None]],
    folder: Path,
) -> tuple[int, Evaluations | None]:
    """Train up to a goal or until the time is over; now and then put the state where another machine finds
    it."""
    while True:
        due = time.monotonic() + KEEP_SECONDS
        stop = lambda due=due: over() or time.monotonic() >= due
        done, evaluations = bring(goal, stop)
        if evaluations is not None or over():
            return done, evaluations
        with _uncut():
            keeping.keep_state(folder)


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


def _headlines(row: Experiment, evaluations: Evaluations) -> str:
    """The numbers that the paper speaks of, in a line."""
    family = getattr(row, "family", None)
    means = {
        name: measures.statistics(row.metric, of[row.metric], family)["mean"]
        for name, of in evaluations.items()
    }
    return ", ".join(
        f"{row.metric} {means[test.name][test.headline_step]:.3f} ({test.name}, step {test.headline_step})"
        for test in row.evaluations
    )
