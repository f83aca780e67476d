"""The one training loop: step, log, save, stop."""

__all__ = ["Fit", "fit"]

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from numbers import Integral
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch

from mamlkit.engine.ranks import ALONE, Lost, Ranks
from mamlkit.experiments.rows import Experiment
from mamlkit.maml import Params
from mamlkit.runs import checkpoints, records
from mamlkit.runs.terminal import Interrupted, deferred_interrupt, progress_bar
from mamlkit.runs.trainings import Training, begin

CHECKPOINT_SECONDS = 60.0


class Fit(NamedTuple):
    """What training gives.

    Args:
        params: theta after the last iteration, or what is made of it
            (see :meth:`mamlkit.runs.trainings.Training.result`).
        log: a line for every iteration of a policy, else for 100: iteration, seconds, and the columns of its
            training.
        iteration: outer updates done.
        seconds: of training, all parts of a run that was resumed together; 0 where no update was ever made.
    """

    params: Params
    log: pd.DataFrame
    iteration: int
    seconds: float


def fit(
    row: Experiment,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    folder: Path | None = None,
    until: int | None = None,
    progress: bool = False,
    threads: int | None = None,
    validate: bool = True,
    stop: Callable[[], bool] | None = None,
    ranks: Ranks = ALONE,
    recorded: bool = False,
) -> Fit:
    """Meta-train a row. Paper: Algorithms 1 and 2 with Adam as the outer optimiser; Algorithm 3 with TRPO.

    Args:
        row: the experiment, at either scale.
        seed: of the initialisation, the tasks and the episodes.
        device: where to compute, ``"auto"`` or a name torch knows; simulations use the CPU's cores in any
            case.
        folder: a run folder (see :func:`mamlkit.runs.folders.open_run`); a run found there is resumed
            exactly. None keeps nothing.
        until: stop after this many iterations; the row's own number if None.
        progress: show a progress bar, or, where standard error is no terminal, a line about every minute.
        threads: of simulations; None takes all cores. Results do not depend on it.
        validate: follow the error or accuracy on validation tasks, where there are some.
        stop: asked before each iteration, or before those that are made in one call; once it says True, the
            state is saved and ``Fit.iteration`` tells how far it came.
        ranks: the processes that train it together, of which the first one has the folder. Each calls this
            with the same row, seed and ``until``.
        recorded: let a GPU repeat a recording of the first iteration (see :mod:`mamlkit.engine.recorded`), of
            supervised tasks; never run on a GPU so far.

    Raises:
        ValueError: an argument cannot be meant; state or log in the folder are damaged, or of another run.
        OSError: state or log cannot be written, or somebody has removed the folder; the message says what is
            left.
        FloatingPointError: a loss, the parameters or the moments of the optimiser are not finite; the last
            saved state is from before, and the message says of which iteration.
        KeyboardInterrupt: on Ctrl-C or SIGTERM, after the current update is whole and the state is saved; on
            the second one at once, and the last saved state stays.
        Lost: another rank has ended; the state of the last iteration is saved.
    """
    if until is not None and not (isinstance(until, Integral) and until >= 0):
        raise ValueError(f"until={until!r}, but a whole number of iterations, at least 0, is needed, or None")
    with closing(
        begin(row, seed, device, threads=threads, validate=validate, ranks=ranks, recorded=recorded)
    ) as training:
        store = checkpoints.Store(folder, row, seed, training.every, training.columns)
        first, training.window, log = store.load(training.params, training.optimiser)
        first = _as_the_first(ranks, training, store, first)
        last = row.iterations if until is None else min(until, row.iterations)
        halt = 0  # why all ranks end: 1 if ``stop`` says so, else the number of a signal
        iteration, before, seconds = first, store.seconds, store.seconds
        start = saved = time.perf_counter()
        elapsed = lambda: time.perf_counter() - start

        def save() -> None:
            nonlocal seconds
            _check(training, iteration, store, ranks)  # what is not finite never replaces what was good
            if iteration > first:  # what only looks at a run takes no time of its training
                seconds = before + elapsed()
            with records.what_is_kept(folder):
                store.save(iteration, training.params, training.optimiser, training.window, log, seconds)

        def halted() -> int:
            nonlocal halt
            halt = ranks.most(asked_to_stop[0] if asked_to_stop else int(bool(stop and stop())))
            return halt

        bar = progress_bar(row, first, progress)
        saved_to = folder or not ranks.first  # which it is, if there is one, by the first process
        left = "resumes from the last saved state" if saved_to else "begins again, since there is no folder"
        with deferred_interrupt(bar.set_postfix_str, left) as asked_to_stop, bar, _saved_if_lost(save):
            if not store.begun:
                save()  # so that a first save that is cut in two leaves a state with its log ahead
            while iteration < last and not halted():
                with _located(iteration + 1, store, ranks):
                    done = training.advance(iteration, last)
                bar.update(done - iteration)
                iteration = done
                if iteration % training.every == 0 or iteration == row.iterations:
                    # One look per window, so that a GPU is not made to wait at every iteration.
                    _check(training, iteration, store, ranks)
                    line = {"iteration": iteration, "seconds": before + elapsed()} | training.line(iteration)
                    log.append(line)
                    rate = (iteration - first) * row.meta_batch_size / elapsed()
                    shown = {name: f"{line[name]:.4g}" for name in training.shown if name in line}
                    bar.set_postfix({"tasks/s": f"{rate:.0f}", **shown}, refresh=False)
                if time.perf_counter() - saved > CHECKPOINT_SECONDS:
                    save()
                    saved = time.perf_counter()
            save()
        if (signum := asked_to_stop[0] if asked_to_stop else halt) > 1:
            left = (
                "the same command resumes it" if saved_to else "nothing was saved, since there is no folder"
            )
            raise Interrupted(f"stopped after iteration {iteration}; {left}", signum)
        return Fit(training.result(), pd.DataFrame(log, columns=training.columns), iteration, seconds)


def _as_the_first(ranks: Ranks, training: Training, store: checkpoints.Store, iteration: int) -> int:
    """The iteration of the first rank, whose state all others take; they see no run folder."""
    if ranks.count == 1:
        return iteration
    path = None if store.folder is None else store.folder / "state.safetensors"
    run = records.identity(store.row, store.seed)
    wanted, state = ranks.of_first((run, path.read_bytes() if path and path.exists() else b""))
    if run != wanted:
        raise ValueError(
            f"this process has {run}, the first one {wanted}; bring all machines to the same commit"
        )
    if state and not ranks.first:
        with tempfile.TemporaryDirectory() as place:
            (copy := Path(place) / "state.safetensors").write_bytes(state)
            iteration, training.window, _ = checkpoints.load_state(copy, training.params, training.optimiser)
    return iteration


@contextmanager
def _saved_if_lost(save: Callable[[], None]) -> Iterator[None]:
    """Save when another rank is lost: parameters are those of the last whole iteration."""
    try:
        yield
    except Lost as lost:
        save()
        raise Lost(
            f"{lost}; the first process saves its state, if it is there, and the same command resumes the "
            "run with any number of processes"
        ) from lost


def _check(training: Training, iteration: int, store: checkpoints.Store, ranks: Ranks) -> None:
    with _located(iteration, store, ranks):
        training.check(iteration)
        if not checkpoints.finite(training.params, training.optimiser):
            raise FloatingPointError(
                "the parameters, or the optimiser's moments, are not finite; try a smaller inner_lr"
            )


@contextmanager
def _located(iteration: int, store: checkpoints.Store, ranks: Ranks) -> Iterator[None]:
    """Say in which run and iteration an error was found, and what is left of the run."""
    try:
        yield
    except FloatingPointError as error:
        run = f"{store.row.name}, seed {store.seed}" + (
            f", run folder {store.folder}" if store.folder else ""
        )
        left = f"the state of iteration {store.saved} is kept" if store.folder else "no state is kept"
        if not ranks.first:
            left = "the first process keeps a state, if it has a run folder"
        raise FloatingPointError(f"iteration {iteration} of {run}: {error}; {left}") from error
