"""The loop: sample, update, log, validate, checkpoint, resume; and the evaluation of what it gives."""

__all__ = ["Fit", "build", "described", "evaluate", "evaluate_row", "fit", "generator", "set_up"]

import hashlib
import math
import time
from collections.abc import Callable
from numbers import Integral
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Generator, Tensor

from mamlkit import measures, methods, models, tasks
from mamlkit.engine import meta_batch
from mamlkit.runs import checkpoints, logs
from mamlkit.methods import Learner, losses
from mamlkit.experiments.rows import Evaluation, Row
from mamlkit.runs.terminal import Interrupted, deferred_interrupt, progress_bar
from mamlkit.engine.threads import check, one_thread

Params = dict[str, Tensor]
LOG_EVERY = 100  # iterations averaged into one line of metrics.csv
VALIDATE_EVERY = 1000
VALIDATION_TASKS = 200
CHECKPOINT_SECONDS = 60.0
# tasks adapted at once: bounds memory; statistics are per task, so results do not change
EVALUATION_CHUNK = 100


def set_up(device: str = "auto", *, tf32: bool = False, threads: int | None = None) -> torch.device:
    """Choose the device and make its arithmetic explicit.

    Args:
        device: ``"auto"`` (CUDA where there is one, else CPU), or a name torch knows (``"mps"`` is untested).
        tf32: let a GPU round the inputs of matrix products to 10 bits. Off for every reported number.
        threads: CPU threads; torch's own choice if None.

    Raises:
        ValueError: for a device that is not there, and a number of threads that cannot be meant.
    """
    if threads is not None:
        check(threads)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen).item()  # which "meta" has not
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device={device!r} cannot be used ({error}); use 'cpu', or 'auto' for what is there") from error
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    if threads is not None:
        torch.set_num_threads(threads)
    return chosen


def described(device: torch.device) -> str:
    """A device as the record of a run names it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device}, {torch.get_num_threads()} thread(s)"


def generator(seed: int, purpose: str, index: int = 0) -> Generator:
    """A random generator that depends on nothing but its arguments.

    The meta-batch of an iteration is drawn from ``generator(seed, "train", iteration)``, so a run has no
    random state to save, and a resumed one sees the tasks it would have seen.
    """
    digest = hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()
    return Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)


def build(row: Row, evaluation: Evaluation | None = None) -> Learner:
    """The learner of a row, with the step size and shots of an evaluation if one is given."""
    kind, options = row.network
    settings = evaluation or row
    for what, name, known in (("network", kind, models.NETWORKS), ("loss", row.loss, methods.LOSSES), ("method", row.method, methods.METHODS)):
        if name not in known:
            raise ValueError(f"{row.name}: {what}={name!r}, but it must be one of " f"{', '.join(map(repr, known))}")
    return Learner(models.NETWORKS[kind](**options), row.loss, settings.inner_lr, settings.inner_steps, settings.shots)


class Fit(NamedTuple):
    """What training gives.

    Args:
        params: theta after the last iteration.
        log: one line per 100 iterations: iteration, seconds, meta_loss, and at times validation.
        iteration: outer updates done.
    """

    params: Params
    log: pd.DataFrame
    iteration: int


def fit(
    row: Row,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    folder: Path | None = None,
    until: int | None = None,
    progress: bool = False,
    validate: bool = True,
    stop: Callable[[], bool] | None = None,
) -> Fit:
    """Meta-train a row. Paper: Algorithms 1 and 2, with Adam as the outer optimiser.

    Args:
        row: the experiment, at either scale.
        seed: of the initialisation and of the tasks.
        device: where to compute.
        folder: a run folder (see :func:`mamlkit.runs.folders.open_run`); a run found there is resumed
            exactly. None keeps nothing.
        until: stop after this many iterations; the row's own number if None.
        progress: show a progress bar, or, where standard error is no terminal, a line about every minute.
        validate: follow the error or accuracy on validation tasks.
        stop: asked before each iteration; once it says True, the state is saved and ``Fit.iteration`` tells
            how far it came.

    Raises:
        ValueError: state or log in the folder are damaged, or of another run.
        OSError: state or log cannot be written, or somebody has removed the folder; the message says what is
            left.
        FloatingPointError: the meta-loss, or what Adam made of its gradient, is not finite; the last
            checkpoint is from before.
        KeyboardInterrupt: on Ctrl-C or SIGTERM, after the current update is whole and the state is saved; on
            the second one at once, and the last saved state stays.
    """
    learner = build(row)
    device = torch.device(device)
    family = tasks.make(row.family, "train", ways=row.ways, shots=row.shots, queries=row.queries, device=device)
    params = {k: v.to(device) for k, v in learner.model.init(generator(seed, "init")).items()}
    optimiser = torch.optim.Adam(list(params.values()), lr=row.outer_lr)
    objective = methods.METHODS[row.method](learner)
    validation = _validation(row, seed, device) if validate else None

    store = checkpoints.Store(folder, row, seed, LOG_EVERY, logs.COLUMNS)
    first, window, log = store.load(params, optimiser)
    last = row.iterations if until is None else min(until, row.iterations)
    iteration = first
    start = saved = time.perf_counter()
    before = log[-1]["seconds"] if log else 0.0

    def check() -> list[float]:
        values = torch.stack(window).tolist() if window else []
        place = f"{row.name}, seed {seed}" + (f", run folder {folder}" if folder else "")
        for back, value in enumerate(reversed(values)):
            if not math.isfinite(value):
                raise FloatingPointError(f"the meta-loss is {value} at iteration {iteration - back} of {place}; try a " f"" f"" f"smaller inner_lr or outer_lr")
        if not checkpoints.finite(params, optimiser):
            raise FloatingPointError(f"the parameters, or Adam's moments, are not finite at iteration {iteration} of " f"" f"" f"{place}; try a smaller inner_lr")
        return values

    def save() -> None:
        check()  # what is not finite never replaces what was good
        store.save(iteration, params, optimiser, window, log)

    bar = progress_bar(row, first, progress)
    with deferred_interrupt(bar.set_postfix_str) as asked_to_stop, bar:
        while iteration < last and not asked_to_stop and not (stop and stop()):
            with one_thread():
                batch = family.sample(generator(seed, "train", iteration), row.meta_batch_size)
            gradient, values = meta_batch.meta_gradient(objective, params, batch)
            for name, value in params.items():
                value.grad = gradient[name] if row.clip is None else gradient[name].clamp(-row.clip, row.clip)
            with one_thread():
                optimiser.step()
            iteration += 1
            window.append(values.mean())
            bar.update()
            if iteration % LOG_EVERY == 0 or iteration == row.iterations:
                # One look per window, so that a GPU is not made to wait at every iteration.
                elapsed = time.perf_counter() - start
                line = {"iteration": iteration, "seconds": before + elapsed, "meta_loss": float(np.mean(check()))}
                window.clear()
                if validation and (iteration % VALIDATE_EVERY == 0 or iteration == row.iterations):
                    line["validation"] = validation(params)
                log.append(line)
                rate = (iteration - first) * row.meta_batch_size / elapsed
                shown = {k: f"{line[k]:.4g}" for k in ("meta_loss", "validation") if k in line}
                bar.set_postfix({"tasks/s": f"{rate:.0f}", **shown}, refresh=False)
            if time.perf_counter() - saved > CHECKPOINT_SECONDS:
                save()
                saved = time.perf_counter()
        save()
    if asked_to_stop:
        raise Interrupted(f"stopped after iteration {iteration}; the same command resumes it", asked_to_stop[0])
    return Fit(params, pd.DataFrame(log, columns=logs.COLUMNS), iteration)


def _validation(row: Row, seed: int, device: torch.device) -> Callable[[Params], float] | None:
    """The number followed in training: the first evaluation's headline, on fixed validation tasks."""
    if not row.evaluations:
        return None
    settings = row.evaluations[0]
    methods.predictor(methods.METHODS[row.method](build(row, settings)))  # before hours of training

    def measure(params: Params) -> float:
        curves = evaluate(row, params, settings, split="val", n_tasks=VALIDATION_TASKS, seed=seed, device=device)
        metric = "accuracy" if "accuracy" in curves else "mse"
        return measures.statistics(metric, curves[metric])["mean"][settings.headline_step]

    return measure


@torch.no_grad()
def evaluate(
    row: Row,
    params: Params,
    evaluation: Evaluation,
    *,
    split: str = "test",
    n_tasks: int | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> dict[str, np.ndarray]:
    """Query error of the parameters after 0, 1, ... inner steps on fresh tasks.

    Every task starts from the same ``params``; nothing is carried from one to the next. What is adapted, and
    how the adapted parameters predict, the row's method says, as in training.

    Args:
        row: the experiment the parameters belong to.
        params: theta.
        evaluation: shots, queries, step size and number of steps.
        split: classes to draw from.
        n_tasks: tasks, the evaluation's own number if None.
        seed: of the tasks; the same seed gives every initialisation the same tasks.
        device: where to compute.

    Returns:
        ``"mse"``, or ``"cross_entropy"`` and ``"accuracy"`` (in percent): arrays ``[tasks, inner_steps +
        1]``, to be averaged by :func:`mamlkit.measures.statistics`.

    Raises:
        ValueError: parameters of another network, no tasks, or a method that does not say how it predicts
            (see :func:`mamlkit.methods.predictor`).
    """
    n_tasks = evaluation.tasks if n_tasks is None else n_tasks
    if not isinstance(n_tasks, Integral) or n_tasks < 1:
        raise ValueError(f"n_tasks={n_tasks!r}, but it must be a whole number, at least 1")
    objective = methods.METHODS[row.method](build(row, evaluation))
    family = tasks.make(row.family, split, ways=row.ways, shots=evaluation.shots, queries=evaluation.queries, device=device)
    params = {k: torch.as_tensor(v, device=device) for k, v in params.items()}

    chunks = []
    for start in range(0, n_tasks, EVALUATION_CHUNK):
        # A generator and a whole chunk each time: the first tasks do not depend on how many follow.
        batch = family.sample(generator(seed, f"evaluate {split}", start), EVALUATION_CHUNK)
        outputs = meta_batch.predictions(objective, params, batch)
        errors = _errors(row.loss, outputs, batch.query[1].expand(len(outputs), *batch.query[1].shape))
        chunks.append({k: v.T.cpu().numpy() for k, v in errors.items()})
    return {name: np.concatenate([chunk[name] for chunk in chunks])[:n_tasks] for name in chunks[0]}


def _errors(loss: str, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """What is reported of outputs ``[..., points, outputs]``: means over the points."""
    if loss == "mse":
        return {"mse": losses.mse(outputs, targets)}
    accuracy = (outputs.argmax(-1) == targets).float().mean(-1)
    return {"cross_entropy": losses.cross_entropy_mean(outputs, targets), "accuracy": 100 * accuracy}


def evaluate_row(row: Row, params: Params, *, device: str | torch.device = "cpu", seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
    """All evaluations of a row on its test tasks: evaluation name to the arrays of :func:`evaluate`."""
    return {e.name: evaluate(row, params, e, device=device, seed=seed) for e in row.evaluations}
