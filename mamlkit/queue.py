"""The queue: brings the paper nearer to its end, run after run, for as long as it is given.

A run is a row and a seed. Their order is :data:`mamlkit.experiments.QUEUE`, seed by seed, so every row has one run before
any has two. A run goes on from its folder or from the state in ``data/partial``; what it reaches is put back there,
and its number is put into ``data/results`` at every tenth of its iterations and at its end.
"""

__all__ = ["MILESTONES", "Job", "evaluate_run", "jobs", "place", "plan", "seconds_per_iteration", "trainer", "work"]

import datetime
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from mamlkit import checkpoints, experiments, measures, results, runs, train
from mamlkit.rows import Experiment, PolicyRow
from mamlkit.terminal import Interrupted, deferred_interrupt

MILESTONES = 10  # a run is tested, and its number kept, after so many parts of its iterations
PROBE_ITERATIONS = 10
PROBE_SECONDS = 30.0  # of a probe, after which it ends with fewer iterations, but at least one
RATE_LINES = 20  # of a log, the last ones, that say how fast a run is


class Job(NamedTuple):
    """A run that is not finished.

    Args:
        row: the experiment.
        seed: of the run.
        done: iterations that its state has.
        tested: iterations that its committed result has.
        seconds: per iteration as its own log has it, or the log of another seed; None where neither says.
        measured: whose log that is.
    """

    row: Experiment
    seed: int
    done: int
    tested: int
    seconds: float | None
    measured: str

    @property
    def name(self) -> str:
        return f"{self.row.name}, seed {self.seed}"

    @property
    def hours(self) -> float:
        """What is left at that speed; NaN where it is not known."""
        left = self.row.iterations - self.done
        return left * self.seconds / 3600 if self.seconds is not None else 0.0 if left == 0 else math.nan


def trainer(row: Experiment) -> ModuleType:
    """The module whose ``fit`` and ``evaluate_row`` are for this kind of row."""
    if isinstance(row, PolicyRow):
        from mamlkit.rl import train as policies  # imports MuJoCo, which takes its time

        return policies
    return train


def place(row: Experiment, device: torch.device, threads: int | None) -> dict[str, Any]:
    """Where a row is computed, as its ``fit`` and ``evaluate_row`` take it: simulations have threads of their own."""
    return {"device": device} | ({"threads": threads} if isinstance(row, PolicyRow) else {})


def jobs(only: str = "*", seeds: Sequence[int] = (0, 1, 2), *, base: Path = Path("runs")) -> list[Job]:
    """The runs that are not finished, in the order in which the queue takes them.

    Args:
        only: pattern of the rows' names, as for files: ``"omniglot-*"``.
        seeds: of the runs.
        base: where run folders lie.

    Raises:
        ValueError: no row of the queue has such a name.
    """
    names = [name for name in experiments.QUEUE if fnmatch(name, only)]
    if not names:
        raise ValueError(f"only={only!r}, but no experiment of the queue has such a name; they are {', '.join(experiments.QUEUE)}")
    found = (_planned(experiments.get(name), seed, base) for seed in seeds for name in names)
    return [job for job in found if job is not None]


def _planned(row: Experiment, seed: int, base: Path) -> Job | None:
    """As :func:`_job`; what is damaged counts as not begun, and :func:`work` says what it is when its turn comes."""
    try:
        return _job(row, seed, base)
    except Exception:
        return Job(row, seed, 0, 0, None, "")


def _job(row: Experiment, seed: int, base: Path) -> Job | None:
    """How far a run has come; None if its result is committed and whole."""
    committed = {result["seed"]: result for result in results.load(row.name) if not results.stale(result)}
    if seed in committed and committed[seed]["iterations_done"] >= row.iterations:
        return None
    data = runs.repository() / "data"
    folders = [place / row.name / f"seed{seed}" for place in (base, data / "partial")]
    furthest = max(folders, key=_iterations_done)
    seconds, measured = _speed(_log(furthest / "metrics.csv")), "this run"
    if seconds is None:
        others = [_log(data / "results" / row.name / f"seed{other}.metrics.csv") for other in committed]
        seconds, measured = next(((s, "another seed") for s in map(_speed, others) if s is not None), (None, ""))
    tested = committed[seed]["iterations_done"] if seed in committed else 0
    return Job(row, seed, _iterations_done(furthest), tested, seconds, measured)


def _iterations_done(folder: Path) -> int:
    """How far a state has come; 0 for one that is damaged, which is refused when its run begins."""
    try:
        return runs.iterations_done(folder)
    except (OSError, ValueError):
        return 0


def _log(path: Path) -> pd.DataFrame:
    """Iterations and seconds of a log, as far as they can be read: a damaged one is refused when its run begins."""
    try:
        found = pd.read_csv(path, usecols=["iteration", "seconds"])
    except (OSError, ValueError):
        found = pd.DataFrame({"iteration": [], "seconds": []})
    return found.apply(pd.to_numeric, errors="coerce").dropna()


def _speed(log: pd.DataFrame) -> float | None:
    """Seconds per iteration at the end of a log: a median, since a machine is sometimes busy with other things."""
    last = log.tail(RATE_LINES + 1).diff().dropna()
    return float((last.seconds / last.iteration).median()) if len(last) else None


def seconds_per_iteration(row: Experiment, **where: Any) -> float:
    """A short trial: :data:`PROBE_ITERATIONS` iterations after a first one, or as many as :data:`PROBE_SECONDS` allow.

    Args:
        row: the experiment.
        where: ``device`` and, for policies, ``threads``.
    """
    times: list[float] = []

    def enough() -> bool:
        times.append(time.perf_counter())
        return len(times) > 1 + PROBE_ITERATIONS or len(times) > 1 and times[-1] - times[0] > PROBE_SECONDS

    trainer(row).fit(row, stop=enough, **where)
    return (times[-1] - times[1]) / (len(times) - 2) if len(times) > 2 else times[-1] - times[0]


def plan(found: Sequence[Job], device: torch.device, threads: int | None = None) -> str:
    """The jobs as a table: how far, how fast, how long still; what no log tells is tried out.

    Args:
        found: see :func:`jobs`.
        device, threads: where the trials run.
    """
    lines, probes, missing = [], {}, {}
    for job in found:
        name = job.row.name
        if job.seconds is None and job.row.iterations and name not in probes:
            _say(f"{name}: trying some iterations")
            try:
                probes[name] = seconds_per_iteration(job.row, **place(job.row, device, threads))
            except Exception as error:  # no data, or too little memory: this row cannot be run here, the others can
                probes[name], missing[name] = None, error
        if job.seconds is None and probes.get(name) is not None:
            job = job._replace(seconds=probes[name], measured="a trial")
        lines.append((job, "cannot run" if name in missing else job.measured))
    shown = pd.DataFrame(
        {
            "experiment": job.row.name,
            "seed": job.seed,
            "done": f"{job.done:,}",
            "of": f"{job.row.iterations:,}",
            "s / iteration": "" if job.seconds is None else f"{job.seconds:.3g}",
            "measured in": measured,
            "hours left": "" if math.isnan(job.hours) else f"{job.hours:.1f}",
        }
        for job, measured in lines
    )
    total = f"{np.nansum([job.hours for job, _ in lines]):.1f} hours in all, for {len(lines)} runs"
    unknown = sum(math.isnan(job.hours) for job, _ in lines)
    text = [shown.to_string(index=False) if lines else "nothing is left to do", "", total]
    text += [f"without the {unknown} whose speed is not known"] * bool(unknown)
    return "\n".join([*text, *(f"{name} cannot run here: {error}" for name, error in missing.items())])


def evaluate_run(row: Experiment, folder: Path, fit: train.Fit, **where: Any) -> dict[str, dict[str, np.ndarray]]:
    """Test what a run has come to, and write its parameters and result into its folder."""
    evaluations = trainer(row).evaluate_row(row, fit.params, **where)
    checkpoints.save_params(fit.params, folder / "params.safetensors")
    seconds = float(fit.log.seconds.iloc[-1]) if len(fit.log) else 0.0
    runs.write_result(folder, row, fit.iteration, seconds, evaluations)
    return evaluations


def work(
    found: Sequence[Job],
    device: torch.device,
    threads: int | None = None,
    *,
    hours: float = math.inf,
    base: Path = Path("runs"),
    say: Callable[[str], None] | None = None,
) -> list[str]:
    """Bring one run after the other to its end, until the time is over.

    A run that fails is noted, and the next one begins. One that another process is at work on is left to it.

    Args:
        found: see :func:`jobs`.
        device, threads: where to compute.
        hours: after which the run under way is saved and the queue ends.
        base: where run folders lie.
        say: takes a line of progress; None prints it to stderr with the time of day.

    Returns:
        What failed, a line each.

    Raises:
        KeyboardInterrupt: on Ctrl-C or SIGTERM, after the state of the run under way is saved and put into ``data/partial``.
    """
    say = say or _say
    end, failed = time.monotonic() + 3600 * hours, []
    with _interrupts() as asked:
        over = lambda: bool(asked) or time.monotonic() >= end
        try:
            for planned in found:
                if over():
                    break
                _try(planned, device, threads, over, base, say, failed)
                if asked:
                    raise Interrupted("stopped; the same command goes on", asked[0])
        finally:
            if failed:
                say("\n  ".join(["failed:", *failed]))
    return failed


def _try(
    planned: Job,
    device: torch.device,
    threads: int | None,
    over: Callable[[], bool],
    base: Path,
    say: Callable[[str], None],
    failed: list[str],
) -> None:
    """One run; what it fails of is noted."""
    try:
        job = _job(planned.row, planned.seed, base)
        if job is not None:  # else another process has finished it meanwhile
            _go_on(job, device, threads, over, base, say)
    except runs.Busy as busy:
        say(f"{planned.name}: left out, {busy}")
    except Exception as error:  # whatever it is, it is no reason to leave the cores idle
        failed.append(f"{planned.name}: {error}")
        say(f"{planned.name}: failed, {error}")
        behind: BaseException | None = error
        while behind := behind.__context__:  # a signal, and then a full disk: the state cannot be kept
            if isinstance(behind, KeyboardInterrupt):
                raise behind


def _go_on(
    job: Job, device: torch.device, threads: int | None, over: Callable[[], bool], base: Path, say: Callable[[str], None]
) -> None:
    row, module, where = job.row, trainer(job.row), place(job.row, device, threads)
    left = "" if math.isnan(job.hours) else f", {job.hours:.1f} hours left by {job.measured or 'its log'}"
    say(f"{job.name}: from {job.done:,} of {row.iterations:,}{left}")
    with runs.open_run(row, job.seed, train.described(device), base=base) as folder:
        try:
            for goal in _milestones(row.iterations, job.done, job.tested):
                fit = module.fit(row, seed=job.seed, folder=folder, until=goal, progress=True, stop=over, **where)
                if fit.iteration < goal:
                    say(f"{job.name}: time is over at {fit.iteration:,} of {row.iterations:,}")
                    return
                evaluations = evaluate_run(row, folder, fit, **where)
                with _uncut():
                    runs.keep(folder)
                say(f"{job.name}: {fit.iteration:,} of {row.iterations:,}; {_headlines(row, evaluations)}")
        finally:
            if 0 < runs.iterations_done(folder) < row.iterations:
                with _uncut():
                    runs.keep_state(folder)


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
    number = lambda test: measures.statistics(row.metric, evaluations[test.name][row.metric])["mean"][test.headline_step]
    return ", ".join(f"{row.metric} {number(test):.3f} ({test.name}, step {test.headline_step})" for test in row.evaluations)


def _say(line: str) -> None:
    print(f"{datetime.datetime.now():%H:%M} {line}", file=sys.stderr, flush=True)


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM between two trainings; they are also noted, since who is interrupted may make an exception of another
    kind of it, as the import of a compiled module does, or none at all."""
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
