"""Supervised tasks: what the training loop trains."""

__all__ = ["LOG_EVERY", "VALIDATE_EVERY", "VALIDATION_TASKS", "SupervisedTraining"]

import dataclasses
import functools
import math

import numpy as np
import torch
from torch import Tensor

from mamlkit import measures
from mamlkit.engine import checks, meta_batch
from mamlkit.engine.ranks import ALONE, Ranks
from mamlkit.engine.threads import one_thread
from mamlkit.experiments.rows import Row
from mamlkit.maml import Task
from mamlkit.methods import GradientMethod, contract
from mamlkit.runs import logs, supervised
from mamlkit.runs.rates import outer_rate
from mamlkit.runs.seeds import generator
from mamlkit.runs.steps import OneByOne
from mamlkit.tasks import Family
from mamlkit.tasks import contract as tasks_contract

LOG_EVERY = 100  # iterations averaged into one line of metrics.csv
AT_ONCE = 100  # iterations of a small network in one call, in which a run cannot be stopped; some 50 ms
VALIDATE_EVERY = 1000
VALIDATION_TASKS = 200


class SupervisedTraining(OneByOne):
    """A :class:`mamlkit.runs.trainings.Training` by gradients of the meta-loss. Paper: Algorithm 2, Adam
    outside (or what the row's ``outer`` says).

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

    def __init__(
        self, row: Row, seed: int, device: str | torch.device, validate: bool = True, ranks: Ranks = ALONE
    ) -> None:
        self.row, self.seed, self.device, self.ranks = row, seed, torch.device(device), ranks
        self.every = LOG_EVERY
        self.family = supervised.tasks_of(row, "train", self.device)
        self.method = supervised.method(row)
        begun = contract.check_parameters(row.method, self.method.init, lambda: generator(seed, "init"))
        # a copy: training writes into them, and a method may keep what it begins with
        self.params = {name: value.detach().to(self.device, copy=True) for name, value in begun.items()}
        self._check_family()
        self.optimiser: torch.optim.Adam | None = None
        if row.outer.startswith("adam"):
            self.optimiser = torch.optim.Adam(
                list(self.params.values()), lr=row.outer_lr, fused=self.device.type in ("cpu", "cuda")
            )
        self.window = []
        points = row.meta_batch_size * row.ways * (row.shots + row.queries)
        self.small = row.outer == "adam" and meta_batch.are_small(
            self.method, self.params, self.optimiser, points
        )
        self.validated = validate and bool(row.evaluations)
        if row.iterations:
            self._try_tests(validate)
            if type(self.method) is not GradientMethod:
                self._try()

    def _check_family(self) -> None:
        """What is wrong with the tasks; generators of their own, so the run's tasks stay what they are."""
        row = self.row
        check = lambda family, tasks, queries: self._draw_twice(
            family, tasks, row.ways * row.shots, row.ways * queries
        )
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
                family = supervised.tasks_of(fewer, "train", "cpu")
            except ValueError:  # a family may ask for as many queries as shots
                return
            check(family, 1, fewer.queries)

    def _draw_twice(self, family: Family, tasks: int, support: int, query: int) -> Task:
        """Tasks that were looked at; of so many points unless the family says otherwise."""
        draw, points = lambda: generator(self.seed, "try family"), getattr(family, "points", (support, query))
        with one_thread():
            return tasks_contract.check(self.row.family, family.sample, draw, tasks=tasks, points=points)

    def _try_tests(self, validate: bool) -> None:
        """Whether the tests' tasks can be drawn, before hours of training and not after."""
        row = self.row
        of_split = {"test": row.evaluations, "val": row.evaluations[: int(validate)]}
        for split, evaluations in of_split.items():
            for evaluation in evaluations:
                try:
                    family = supervised.tasks_of(row, split, self.device, evaluation)
                    self._draw_twice(family, 2, row.ways * evaluation.shots, row.ways * evaluation.queries)
                except OSError:  # a data set that is not there says so itself
                    raise
                except Exception as error:  # of a family of one's own
                    raise ValueError(
                        f"{row.name}: its tests {evaluation.name!r} cannot be drawn from split {split!r} of "
                        f"family {row.family!r} ({error})"
                    ) from error

    def _try(self) -> None:
        """What is wrong with a method's own loss and predictions, before hours of training and not after."""
        row, draw = self.row, generator(self.seed, "try")
        begun = contract.check_at(row.method, self.method)
        batch = self.family.sample(draw, 1)
        with contract.explained(row.method, "loss", begun, self.params, batch):
            gradient, values = meta_batch.meta_gradient(begun, self.params, batch)
        again, _ = meta_batch.meta_gradient(begun, self.params, batch)
        contract.check_repeated(row.method, "loss", gradient, again)
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
            batch = supervised.tasks_of(row, "val", self.device, evaluation).sample(draw, 1)
            made = supervised.method(row, evaluation)
            with contract.explained(row.method, "predict", made, self.params, batch):
                supervised.tested(row, evaluation, made, self.params, batch)
                predict = functools.partial(meta_batch.predictions, made, self.params)
                contract.check_predictions(row.method, predict, batch)

    def advance(self, iteration: int, last: int) -> int:
        """One outer update, or several of a small network in one call, up to the next line of the log."""
        if not self.small or self.optimiser is None:
            return super().advance(iteration, last)
        last = min(last, iteration - iteration % self.every + self.every, iteration + AT_ONCE)
        batches = [self._batch(each) for each in range(iteration, last)]
        losses = meta_batch.updates(self.method, self.params, self.optimiser, batches, self.row.clip)
        self.window += losses.mean(1)
        return last

    def step(self, iteration: int) -> None:
        """One outer update."""
        progress = iteration / self.row.iterations
        self.window.append(self.update(self._batch(iteration), progress))

    def _batch(self, iteration: int) -> Task:
        with one_thread():
            return self.family.sample(generator(self.seed, "train", iteration), self.row.meta_batch_size)

    def update(self, batch: Task, progress: float = 0.0) -> Tensor:
        """Gradient, clip and the outer step after a part of the training; the mean loss."""
        method = self.method.at(progress)
        gradient, values = meta_batch.meta_gradient(method, self.params, batch, self.ranks)
        clip, rate = self.row.clip, outer_rate(self.row.outer, self.row.outer_lr, progress)
        with one_thread():
            for name, value in self.params.items():
                value.grad = gradient[name] if clip is None else gradient[name].clamp(-clip, clip)
                if self.optimiser is None:
                    value -= rate * value.grad
            if self.optimiser is not None:
                self.optimiser.param_groups[0]["lr"] = rate
                self.optimiser.step()
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
        if self.validated and (iteration % VALIDATE_EVERY == 0 or iteration == self.row.iterations):
            found["validation"] = self._validation()
        return found

    def _losses(self) -> list[float]:
        return torch.stack(self.window).tolist() if self.window else []

    def _validation(self) -> float:
        """The number followed in training: the first evaluation's headline, on fixed validation tasks."""
        row, test = self.row, self.row.evaluations[0]
        # Whether a regression task has diverged is seen at the last step: there all are taken.
        last = test.inner_steps if row.metric == "mse" else test.headline_step
        curves = supervised.evaluate(
            row,
            self.params,
            dataclasses.replace(test, inner_steps=last),
            split="val",
            n_tasks=VALIDATION_TASKS,
            seed=self.seed,
            device=self.device,
        )
        found = measures.statistics(row.metric, curves[row.metric], row.family)
        return float(found["mean"][test.headline_step])
