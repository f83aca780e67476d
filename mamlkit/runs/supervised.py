"""Supervised tasks: what a row names, and the evaluation of what its training gives."""

__all__ = ["build", "check_tasks", "evaluate", "method", "tasks_of", "tested"]

import math
import warnings
from collections.abc import Iterator
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from mamlkit import methods, models, tasks
from mamlkit.engine import meta_batch
from mamlkit.experiments.rows import Evaluation, Row
from mamlkit.maml import Params, Task
from mamlkit.methods import Learner, Method, contract, losses
from mamlkit.runs.seeds import generator
from mamlkit.tasks import Family
from mamlkit.tasks.images import ImageTasks

# Tasks drawn at once; statistics are per task, so results do not change.
EVALUATION_CHUNK = 100
PIECE_BYTES = 700_000_000  # of images that are there at once


def build(row: Row, evaluation: Evaluation | None = None) -> Learner:
    """The learner of a row, with the step size and shots of an evaluation if one is given."""
    settings = evaluation or row
    try:
        network = models.make(*row.network)
    except ValueError as error:
        raise ValueError(f"{row.name}: {error}") from error
    transductive = evaluation is None or evaluation.transductive
    return Learner(network, row.loss, settings.inner_lr, settings.inner_steps, settings.shots, transductive)


def method(row: Row, evaluation: Evaluation | None = None) -> Method:
    """The method of a row; arguments as for :func:`build`."""
    if row.method not in methods.METHODS:
        known = ", ".join(map(repr, methods.METHODS))
        raise ValueError(f"{row.name}: method={row.method!r}, but it must be one of {known}")
    make = methods.METHODS[row.method]
    made = contract.check_made(row.method, make(build(row, evaluation)))
    if evaluation and evaluation.inner_steps != row.inner_steps and made.shapes != make(build(row)).shapes:
        raise ValueError(
            f"{row.name}: method {row.method!r} learns something for each inner step, so a test takes as "
            f"many as the training; but the row has inner_steps={row.inner_steps}, and {evaluation.name!r} "
            f"has {evaluation.inner_steps}; give both the same"
        )
    return made


def tasks_of(
    row: Row, split: str, device: str | torch.device, evaluation: Evaluation | None = None
) -> Family:
    """The tasks of a row, of the size that an evaluation has if one is given."""
    sizes = evaluation or row
    return tasks.make(
        row.family, split, ways=row.ways, shots=sizes.shots, queries=sizes.queries, device=device
    )


def check_tasks(n_tasks: Any) -> int:
    """So many tasks; ``ValueError`` for what is no such number."""
    if not isinstance(n_tasks, Integral) or int(n_tasks) < 1:
        raise ValueError(f"n_tasks={n_tasks!r}, but it must be a whole number, at least 1")
    return int(n_tasks)


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
        ValueError: parameters of another network, no tasks, or a method whose predictions are of another
            shape, or after more or fewer steps, than the evaluation asks for.

    Warns:
        RuntimeWarning: the network is dead.
    """
    n_tasks = check_tasks(evaluation.tasks if n_tasks is None else n_tasks)
    family, made = tasks_of(row, split, device, evaluation), method(row, evaluation)
    params = {k: torch.as_tensor(v, device=device) for k, v in params.items()}

    chunks = []
    for start in range(0, n_tasks, EVALUATION_CHUNK):
        # A generator and a whole chunk each time: the first tasks do not depend on how many follow.
        for batch in _pieces(family, generator(seed, f"evaluate {split}", start)):
            errors = tested(row, evaluation, made, params, batch)
            chunks.append({k: v.T.cpu().numpy() for k, v in errors.items()})
            del batch  # before the next one is there
    return {name: np.concatenate([chunk[name] for chunk in chunks])[:n_tasks] for name in chunks[0]}


def _pieces(family: Family, generator: Generator) -> Iterator[Task]:
    """A chunk of tasks; of large images some at a time, each the one that it is among all."""
    if not isinstance(family, ImageTasks):
        yield family.sample(generator, EVALUATION_CHUNK)
        return
    choices = [choice.to(family.bank.device) for choice in family.draw(generator, EVALUATION_CHUNK)]
    numbers = choices[1][0].numel() * math.prod(family.bank.shape[2:])  # of a task
    size = max(1, PIECE_BYTES // (4 * numbers))
    for begin in range(0, EVALUATION_CHUNK, size):
        yield family.gather(*(choice[begin : begin + size] for choice in choices))


def tested(row: Row, evaluation: Evaluation, made: Method, params: Params, batch: Task) -> dict[str, Tensor]:
    """What is reported of each task of a batch, ``[inner_steps + 1, tasks]``, with the row's method made."""
    outputs, targets = meta_batch.predictions(made, params, batch), batch.query[1]
    several = not isinstance(outputs, Tensor)  # vmap takes lists too
    if several or outputs.dim() != 4 or outputs.shape[1:3] != targets.shape[:2]:
        came = type(outputs).__name__ if several else (*outputs.shape[:1], *outputs.shape[2:])
        raise ValueError(
            f"{row.name}: method {row.method!r} predicts {came} for a task, but it must be a tensor "
            f"[inner_steps + 1, points, outputs], here of {targets.shape[1]} points"
        )
    if row.loss != "mse" and outputs.shape[3] != row.ways:
        raise ValueError(
            f"{row.name}: method {row.method!r} predicts {outputs.shape[3]} outputs for a query, but "
            f"ways={row.ways} classes are to be told apart; give the network, or predict, one for each"
        )
    if len(outputs) != evaluation.inner_steps + 1:
        raise ValueError(
            f"{row.name}: method {row.method!r} predicts after {len(outputs) - 1} steps, but the evaluation "
            f"{evaluation.name!r} has inner_steps={evaluation.inner_steps}; let predict take "
            f"self.learner.inner_steps of them, or give the evaluation inner_steps={len(outputs) - 1}"
        )
    if outputs.shape[2] > 1 and bool((outputs == outputs[:, :, :1]).all()):
        warnings.warn(
            f"{row.name}: after every step the outputs are the same for all queries of a task; the network "
            "may be dead, with ReLUs that are zero for every input: try a smaller outer_lr or inner_lr",
            RuntimeWarning,
            stacklevel=3,
        )
    return _errors(row.loss, outputs, targets.expand(len(outputs), *targets.shape))


def _errors(loss: str, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """What is reported of outputs ``[..., points, outputs]``: means over the points."""
    if loss == "mse":
        return {"mse": losses.mse(outputs, targets)}
    right = (outputs.argmax(-1) == targets) & outputs.isfinite().all(-1)  # what is no number is not right
    accuracy = right.float().mean(-1)
    return {"cross_entropy": losses.cross_entropy_mean(outputs, targets), "accuracy": 100 * accuracy}
