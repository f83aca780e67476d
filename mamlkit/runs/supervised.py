"""Supervised tasks: what the training loop trains, and the evaluation of what it gives."""

__all__ = ["SupervisedTraining", "build", "check_tasks", "evaluate", "method"]

import dataclasses
import math
import warnings
from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mamlkit import measures, methods, models, tasks
from mamlkit.engine import checks, meta_batch
from mamlkit.engine.ranks import ALONE, Ranks
from mamlkit.engine.threads import one_thread
from mamlkit.experiments.rows import Evaluation, Row
from mamlkit.maml import Params, Task
from mamlkit.methods import GradientMethod, Learner, Method, contract, losses
from mamlkit.runs import logs
from mamlkit.runs.seeds import generator
from mamlkit.runs.steps import OneByOne
from mamlkit.tasks import Family
from mamlkit.tasks import contract as tasks_contract

LOG_EVERY = 100  # iterations averaged into one line of metrics.csv
AT_ONCE = 100  # iterations of a small network in one call, in which a run cannot be stopped; some 50 ms
VALIDATE_EVERY = 1000
VALIDATION_TASKS = 200
# Tasks adapted at once: bounds memory; statistics are per task, so results do not change.
EVALUATION_CHUNK = 100


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
    return contract.check_made(row.method, methods.METHODS[row.method](build(row, evaluation)))


def _family(row: Row, split: str, device: str | torch.device, evaluation: Evaluation | None = None) -> Family:
    """The tasks of a row, of the size that an evaluation has if one is given."""
    sizes = evaluation or row
    return tasks.make(
        row.family, split, ways=row.ways, shots=sizes.shots, queries=sizes.queries, device=device
    )


class SupervisedTraining(OneByOne):
    """A :class:`mamlkit.runs.train.Training` by gradients of the meta-loss. Paper: Algorithm 2, Adam outside
    (or what the row's ``outer`` says).

    Args:
        row: the experiment, at either scale.
        seed: of the initialisation and of the tasks.
        device: where to compute.
        validate: follow the error or accuracy on validation tasks.
        ranks: the processes that share the work.

    Raises:
        ValueError: a row that names what is not there, or a method that cannot be trained, or does not fit
            the row's tests.
    """

    columns = logs.COLUMNS
    shown: tuple[str, ...] = ("meta_loss", "validation")
    optimiser: torch.optim.Optimizer | None

    def __init__(
        self, row: Row, seed: int, device: str | torch.device, validate: bool = True, ranks: Ranks = ALONE
    ) -> None:
        self.row, self.seed, self.device, self.ranks = row, seed, torch.device(device), ranks
        self.every = LOG_EVERY
        self.family = _family(row, "train", self.device)
        self.method = method(row)
        begun = contract.check_parameters(row.method, self.method.init, lambda: generator(seed, "init"))
        # a copy: training writes into them, and a method may keep what it begins with
        self.params = {name: value.detach().to(self.device, copy=True) for name, value in begun.items()}
        self._check_family()
        self._adam: torch.optim.Adam | None = None
        if row.outer == "adam":
            self._adam = torch.optim.Adam(
                list(self.params.values()), lr=row.outer_lr, fused=self.device.type in ("cpu", "cuda")
            )
        self.optimiser = self._adam
        self._rate = row.outer_lr  # of a falling descent
        self.window: list[Tensor] = []
        points = row.meta_batch_size * row.ways * (row.shots + row.queries)
        self.small = meta_batch.are_small(self.method, self.params, self.optimiser, points)
        self.validation = self._validation() if validate and row.evaluations else None
        if row.iterations:
            self._try_tests(validate)
            if type(self.method) is not GradientMethod:
                self._try()

    def _check_family(self) -> None:
        """What is wrong with the tasks; generators of their own, so the run's tasks stay what they are."""
        row = self.row
        draw = lambda: generator(self.seed, "try family")

        def check(family: Family, tasks: int, queries: int) -> Task:
            points = getattr(family, "points", (row.ways * row.shots, row.ways * queries))
            with one_thread():
                return tasks_contract.check(row.family, family.sample, draw, tasks=tasks, points=points)

        batch = check(self.family, row.meta_batch_size, row.queries)
        classes, points = getattr(self.method, "classes", None), batch.support[1].shape[1]
        if classes and points != classes * row.shots:
            raise ValueError(
                f"{row.name}: method {row.method!r} is trained on all of {classes} classes at once, but a "
                f"task of family {row.family!r} has {points} examples; use a family such as "
                "'mini-imagenet, all classes'"
            )
        if row.iterations:  # one meta-batch, before many are joined for one call
            ways = getattr(self.method, "ways", None)
            checks.check(self.method.learner, self.params, batch, self.method.shapes, ways)
        if row.shots == row.queries > 1:  # inputs of the query taken for targets show only at another number
            fewer = dataclasses.replace(row, queries=row.queries - 1)
            try:
                family = _family(fewer, "train", "cpu")
            except ValueError:  # a family may ask for as many queries as shots
                return
            check(family, 1, fewer.queries)

    def _try_tests(self, validate: bool) -> None:
        """Whether the tests' tasks can be drawn, before hours of training and not after."""
        of_split = {"test": self.row.evaluations, "val": self.row.evaluations[: int(validate)]}
        for split, evaluations in of_split.items():
            for evaluation in evaluations:
                try:
                    _family(self.row, split, self.device, evaluation)
                except ValueError as error:
                    raise ValueError(
                        f"{self.row.name}: its tests {evaluation.name!r} cannot be drawn ({error})"
                    ) from error

    def _try(self) -> None:
        """What is wrong with a method's own loss and predictions, before hours of training and not after."""
        row, draw = self.row, generator(self.seed, "try")
        batch = self.family.sample(draw, 1)
        with contract.explained(row.method, "loss", self.method, self.params, batch):
            gradient, values = meta_batch.meta_gradient(self.method, self.params, batch)
        if values.dim() != 1:
            raise ValueError(
                f"{row.name}: the loss of method {row.method!r} is {tuple(values.shape[1:])} for a task, but "
                "it must be a scalar; take a mean or a sum"
            )
        if not any(bool(value.any()) for value in gradient.values()):
            raise ValueError(
                f"{row.name}: the loss of method {row.method!r} has gradient 0 in all parameters, so nothing "
                "would be trained; it must be differentiable, neither detached nor a count such as accuracy"
            )
        for evaluation in row.evaluations:
            batch = _family(row, "val", self.device, evaluation).sample(draw, 1)
            made = method(row, evaluation)
            with contract.explained(row.method, "predict", made, self.params, batch):
                _tested(row, evaluation, made, self.params, batch)

    def advance(self, iteration: int, last: int) -> int:
        """One outer update, or several of a small network in one call, up to the next line of the log."""
        if not self.small or self._adam is None:
            return super().advance(iteration, last)
        last = min(last, iteration - iteration % self.every + self.every, iteration + AT_ONCE)
        batches = [self._batch(each) for each in range(iteration, last)]
        losses = meta_batch.updates(self.method, self.params, self._adam, batches, self.row.clip)
        self.window += losses.mean(1)
        return last

    def step(self, iteration: int) -> None:
        """One outer update."""
        self._rate = self.row.outer_lr * (1 - iteration / self.row.iterations)
        self.window.append(self.update(self._batch(iteration)))

    def _batch(self, iteration: int) -> Task:
        with one_thread():
            return self.family.sample(generator(self.seed, "train", iteration), self.row.meta_batch_size)

    def update(self, batch: Task) -> Tensor:
        """Gradient, clip and the outer step; the mean loss."""
        gradient, values = meta_batch.meta_gradient(self.method, self.params, batch, self.ranks)
        clip = self.row.clip
        with one_thread():
            for name, value in self.params.items():
                value.grad = gradient[name] if clip is None else gradient[name].clamp(-clip, clip)
                if self._adam is None:
                    value -= self._rate * value.grad
            if self._adam is not None:
                self._adam.step()
        return values.mean()

    def check(self, iteration: int) -> None:
        """``FloatingPointError`` if a meta-loss of the window is not finite; it names the first."""
        values = self._losses()
        for which, value in enumerate(values, start=iteration - len(values) + 1):
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"the meta-loss of iteration {which} is {value}; try a smaller inner_lr or outer_lr"
                )

    def line(self, iteration: int) -> dict[str, float]:
        """The mean meta-loss of the window and, now and then, the validation."""
        found = {"meta_loss": float(np.mean(self._losses()))}
        self.window.clear()
        if self.validation and (iteration % VALIDATE_EVERY == 0 or iteration == self.row.iterations):
            found["validation"] = self.validation()
        return found

    def result(self) -> Params:
        """Theta."""
        return self.params

    def close(self) -> None:
        """Nothing has been started."""

    def _losses(self) -> list[float]:
        return torch.stack(self.window).tolist() if self.window else []

    def _validation(self) -> Callable[[], float]:
        """The number followed in training: the first evaluation's headline, on fixed validation tasks."""
        row, settings, count = self.row, self.row.evaluations[0], VALIDATION_TASKS
        # Whether a regression task has diverged is seen at the last step: there all are taken.
        last = settings.inner_steps if row.metric == "mse" else settings.headline_step
        settings = dataclasses.replace(settings, inner_steps=last)

        def measure() -> float:
            curves = evaluate(
                row, self.params, settings, split="val", n_tasks=count, seed=self.seed, device=self.device
            )
            found = measures.statistics(row.metric, curves[row.metric], row.family)
            return float(found["mean"][settings.headline_step])

        return measure


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
    family, tested = _family(row, split, device, evaluation), method(row, evaluation)
    params = {k: torch.as_tensor(v, device=device) for k, v in params.items()}

    chunks = []
    for start in range(0, n_tasks, EVALUATION_CHUNK):
        # A generator and a whole chunk each time: the first tasks do not depend on how many follow.
        batch = family.sample(generator(seed, f"evaluate {split}", start), EVALUATION_CHUNK)
        errors = _tested(row, evaluation, tested, params, batch)
        chunks.append({k: v.T.cpu().numpy() for k, v in errors.items()})
        del batch  # before the next one is drawn
    return {name: np.concatenate([chunk[name] for chunk in chunks])[:n_tasks] for name in chunks[0]}


def _tested(row: Row, evaluation: Evaluation, made: Method, params: Params, batch: Task) -> dict[str, Tensor]:
    """What is reported of each task of a batch, ``[inner_steps + 1, tasks]``, with the row's method made."""
    outputs, targets = meta_batch.predictions(made, params, batch), batch.query[1]
    several = not isinstance(outputs, Tensor)  # vmap takes lists too
    if several or outputs.dim() != 4 or outputs.shape[1:3] != targets.shape[:2]:
        came = type(outputs).__name__ if several else (*outputs.shape[:1], *outputs.shape[2:])
        raise ValueError(
            f"{row.name}: method {row.method!r} predicts {came} for a task, but it must be a tensor "
            f"[inner_steps + 1, points, outputs], here of {targets.shape[1]} points"
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
    accuracy = (outputs.argmax(-1) == targets).float().mean(-1)
    return {"cross_entropy": losses.cross_entropy_mean(outputs, targets), "accuracy": 100 * accuracy}
