"""What the queue has to do: which runs are not finished, how far they are, and how long they take."""

__all__ = ["NOTHING_LEFT", "Job", "find", "jobs", "seconds_per_iteration", "table", "trials"]

import difflib
import math
import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from mamlkit import places
from mamlkit.experiments import paper
from mamlkit.experiments.rows import Experiment
from mamlkit.report import results
from mamlkit.runs import folders, trainings

NOTHING_LEFT = "nothing is left to do"
PROBE_ITERATIONS = 10
PROBE_SECONDS = 30.0  # of a trial, after which it ends with fewer iterations, but at least one
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


def jobs(only: str = "*", seeds: Sequence[int] = (0, 1, 2), *, base: Path = Path("runs")) -> list[Job]:
    """The runs that are not finished, in the order in which the queue takes them.

    Args:
        only: pattern of the rows' names, as for files: ``"omniglot-*"``.
        seeds: of the runs.
        base: where run folders lie.

    Raises:
        ValueError: no row of the queue has such a name, and perhaps one that is not in the queue.
    """
    names = [name for name in paper.QUEUE if fnmatch(name, only)]
    if not names and (others := [name for name in paper.ROWS if fnmatch(name, only)]):
        which = f"{others[0]} is" if len(others) == 1 else f"{others[0]} and {len(others) - 1} more are"
        raise ValueError(
            f"only={only!r}, but {which} not in the queue, since stand-ins are no results; train one with "
            f"python -m mamlkit run {others[0]}"
        )
    if not names:
        found = ", ".join(difflib.get_close_matches(only.strip("*"), paper.QUEUE, 3, cutoff=0.4))
        near = f"do you mean {found}? " if found else ""
        raise ValueError(
            f"only={only!r}, but no experiment of the queue has such a name; {near}All are listed by "
            "python -m mamlkit list, and a pattern such as 'omniglot-*' takes several"
        )
    planned = (_planned(paper.get(name), seed, base) for seed in seeds for name in names)
    return [job for job in planned if job is not None]


def _planned(row: Experiment, seed: int, base: Path) -> Job | None:
    """As :func:`find`; what is damaged counts as not begun: the queue says what it is when its turn comes."""
    try:
        return find(row, seed, base)
    except Exception:
        return Job(row, seed, 0, 0, None, "")


def find(row: Experiment, seed: int, base: Path) -> Job | None:
    """How far a run has come; None if its result is committed and whole.

    Raises:
        ValueError: it is trained to its end, but its tests have changed since; or its result is damaged.
    """
    trained = {r["seed"]: r for r in results.load(row.name) if r["fingerprint"] == row.fingerprint}
    tested = trained[seed]["iterations_done"] if seed in trained else 0
    if tested >= row.iterations and seed in trained:
        if changed := results.stale(trained[seed]):
            raise ValueError(
                f"the result of {row.name}, seed {seed}, is of other tests ({', '.join(changed)}); "
                "undo the change, or move the result away to train it again"
            )
        return None
    data = places.repository() / "data"
    found = [place / row.name / f"seed{seed}" for place in (base, data / "partial")]
    furthest = max(found, key=_iterations_done)
    seconds, measured = _speed(_log(furthest / "metrics.csv")), "this run"
    if seconds is None:
        others = [_log(data / "results" / row.name / f"seed{other}.metrics.csv") for other in trained]
        known = [speed for speed in map(_speed, others) if speed is not None]
        seconds, measured = (known[0], "another seed") if known else (None, "")
    return Job(row, seed, _iterations_done(furthest), tested, seconds, measured)


def _iterations_done(folder: Path) -> int:
    """How far a state has come; 0 for one that is damaged, which is refused when its run begins."""
    try:
        return folders.iterations_done(folder)
    except (OSError, ValueError):
        return 0


def _log(path: Path) -> pd.DataFrame:
    """Iterations and seconds of a log, as far as they can be read: a damaged one is refused when its run
    begins."""
    try:
        found = pd.read_csv(path, usecols=["iteration", "seconds"])
    except (OSError, ValueError):
        found = pd.DataFrame({"iteration": [], "seconds": []})
    return found.apply(pd.to_numeric, errors="coerce").dropna()


def _speed(log: pd.DataFrame) -> float | None:
    """Seconds per iteration at the end of a log: a median, since a machine is sometimes busy with other
    things."""
    last = log.tail(RATE_LINES + 1).diff().dropna()
    return float((last.seconds / last.iteration).median()) if len(last) else None


def seconds_per_iteration(row: Experiment, **where: Any) -> float:
    """A short trial: :data:`PROBE_ITERATIONS` iterations after a first call, or as many as
    :data:`PROBE_SECONDS` allow; a call may be of many iterations.

    Args:
        row: the experiment.
        where: ``device`` and ``threads``, as :func:`mamlkit.runs.train.fit` takes them.
    """
    begun = time.perf_counter()
    with closing(trainings.begin(row, **where)) as training:
        done = first = training.advance(0, row.iterations)
        start = now = time.perf_counter()
        while done < min(first + PROBE_ITERATIONS, row.iterations) and now - begun < PROBE_SECONDS:
            if done % training.every == 0:
                training.line(done)  # which empties the window
            done, now = training.advance(done, row.iterations), time.perf_counter()
    return (now - start) / (done - first) if done > first else (start - begun) / first


def trials(
    found: Sequence[Job],
    device: torch.device,
    threads: int | None = None,
    *,
    say: Callable[[str], None] = print,
) -> dict[str, float | Exception]:
    """How fast the experiments are whose speed no log tells: a short trial of each.

    A trial has a process of its own, which ends with it. So its memory is free before the next one begins,
    and one that runs out of memory ends nothing else.

    Args:
        found: see :func:`jobs`.
        device, threads: where the trials run.
        say: takes a line of progress.

    Returns:
        Seconds per iteration by the experiment's name; in place of them the error, where it cannot run here.
    """
    unknown = {job.row.name: job.row for job in found if job.seconds is None and job.row.iterations}
    speeds: dict[str, float | Exception] = {}
    fresh = multiprocessing.get_context("spawn")
    for place, (name, row) in enumerate(unknown.items(), start=1):
        say(f"{name}: trying some iterations ({place} of {len(unknown)})")
        with ProcessPoolExecutor(1, mp_context=fresh) as process:
            trial = process.submit(seconds_per_iteration, row, device=device, threads=threads)
            # no data, or too little memory: this row cannot be run here, the others can
            speeds[name] = error if isinstance(error := trial.exception(), Exception) else trial.result()
    return speeds


def table(found: Sequence[Job], tried: Mapping[str, float | Exception] | None = None) -> str:
    """The jobs as a table: how far, how fast, how long still; :data:`NOTHING_LEFT` without any. Nothing is
    run for it.

    Args:
        found: see :func:`jobs`.
        tried: see :func:`trials`.
    """
    if not found:
        return NOTHING_LEFT
    tried = tried or {}
    missing = {name: error for name, error in tried.items() if isinstance(error, Exception)}
    lines = []
    for job in found:
        speed = tried.get(job.row.name)
        if job.seconds is None and isinstance(speed, float):
            job = job._replace(seconds=speed, measured="a trial")
        lines.append((job, "cannot run" if isinstance(speed, Exception) else job.measured))
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
    text = [shown.to_string(index=False), "", total]
    text += [f"without the {unknown} whose speed is not known"] * bool(unknown)
    text += ["no log tells it; --trials runs a few iterations of each"] * bool(unknown and not tried)
    return "\n".join([*text, *(f"{name} cannot run here: {error}" for name, error in missing.items())])
