"""Many networks at once, each on a sinusoid of its own, and their average. Paper: Appendix, Table 2."""

__all__ = ["AverageTraining"]

import math

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap

from mamlkit import tasks
from mamlkit.engine.threads import one_thread
from mamlkit.experiments.averages import AverageRow
from mamlkit.maml import Params
from mamlkit.runs import supervised, supervised_training
from mamlkit.runs.seeds import generator
from mamlkit.runs.steps import OneByOne
from mamlkit.tasks.sinusoid import Sinusoid

REACHED = "reached"  # beside the weights, for each network: 1 once it is left as it is
COLUMNS = ["iteration", "seconds", "meta_loss", REACHED]
LOOK_EVERY = 100  # iterations, after which the networks are tried on
GRID = 101  # points, in equal distances over the range of x


class AverageTraining(OneByOne):
    """A :class:`mamlkit.runs.trainings.Training` of all networks in one tensor; what it gives is their mean.

    Args:
        row: the experiment, at either scale.
        seed: of the initial values, the sinusoids and their points.
        device: where to compute.

    Raises:
        ValueError: a row of another family.
    """

    columns = COLUMNS
    shown: tuple[str, ...] = ("meta_loss", REACHED)

    def __init__(self, row: AverageRow, seed: int, device: str | torch.device) -> None:
        self.row, self.seed, self.device = row, seed, torch.device(device)
        self.every = supervised_training.LOG_EVERY
        self.learner = supervised.build(row)
        family = tasks.make(row.family, "train", ways=row.ways, shots=row.shots, queries=row.queries)
        if not isinstance(family, Sinusoid):
            raise ValueError(f"{row.name}: family={row.family!r}, but only sinusoids have such averages")
        self.family = family
        count, draw = row.meta_batch_size, generator(seed, "init")
        init = self.learner.model.init
        starts = [init(draw)] * count if row.same_start else [init(draw) for _ in range(count)]
        self.params = {name: torch.stack([start[name] for start in starts]) for name in starts[0]}
        self.names = list(self.params)
        self.params[REACHED] = torch.zeros(count)
        self.params = {name: value.to(self.device) for name, value in self.params.items()}
        self.optimiser = torch.optim.Adam(
            list(self.params.values()),  # with what has no gradient, as a state has moments of all
            lr=row.outer_lr,
            fused=self.device.type in ("cpu", "cuda"),
        )
        draw = generator(seed, "sinusoids")
        bounds = self.family.amplitude, self.family.phase
        self.sinusoids = [self._uniform(part, 1, draw) for part in bounds]
        self.window = []

    def step(self, iteration: int) -> None:
        """A step of Adam for every network that has not reached its sinusoid."""
        points = self.row.shots + self.row.queries
        with one_thread():
            x = self._uniform(self.family.x, points, generator(self.seed, "train", iteration))
            at_work, done = ((self.params[REACHED] == is_done).nonzero()[:, 0] for is_done in (0, 1))
            gradient, losses = self._gradient(at_work, x[at_work])
            kept = {name: self.params[name][done] for name in self.names}
            for name in self.names:
                value = self.params[name]
                value.grad = torch.zeros_like(value).index_copy_(0, at_work, gradient[name])
            self.params[REACHED].grad = torch.zeros_like(self.params[REACHED])
            self.optimiser.step()
            for name in self.names:  # momentum moves networks that are done, too: they are put back
                self.params[name].index_copy_(0, done, kept[name])
            self.window.append(losses.sum() / max(1, len(losses)))
            if (iteration + 1) % LOOK_EVERY == 0:
                grid = torch.linspace(*self.family.x, GRID).to(self.device)[:, None].expand(len(x), -1, 1)
                weights = {name: self.params[name] for name in self.names}
                near = vmap(self._loss)(weights, grid, *self.sinusoids) < self.row.enough
                self.params[REACHED].copy_(near | (self.params[REACHED] == 1))

    def check(self, iteration: int) -> None:
        """``FloatingPointError`` if a loss of the window is not finite."""
        if self.window and not torch.stack(self.window).isfinite().all():
            raise FloatingPointError("a loss is not finite; try a smaller outer_lr")

    def line(self, iteration: int) -> dict[str, float]:
        """The mean loss of the networks at work, and the share of those that have reached their sinusoid."""
        found = {"meta_loss": float(torch.stack(self.window).mean()) if self.window else math.nan}
        self.window.clear()
        return found | {REACHED: float(self.params[REACHED].mean())}

    def result(self) -> Params:
        """The mean of the networks' weights."""
        return {name: self.params[name].mean(0) for name in self.names}

    def _loss(self, weights: Params, x: Tensor, amplitude: Tensor, phase: Tensor) -> Tensor:
        """The mean squared error of one network on points ``[points, 1]`` of its sinusoid."""
        return self.learner.loss_fn(weights, (x, amplitude * torch.sin(x - phase)))

    def _gradient(self, at_work: Tensor, x: Tensor) -> tuple[Params, Tensor]:
        """The gradients of networks ``[at work, ...]``, the pull of the penalty in them, and their losses."""
        weights = {name: self.params[name][at_work] for name in self.names}
        each = vmap(grad_and_value(self._loss))
        gradient, losses = each(weights, x, *(part[at_work] for part in self.sinusoids))
        if self.row.pull != "nothing":
            for name, value in weights.items():
                goal = self.params[name].mean(0) if self.row.pull == "mean" else 0
                gradient[name] = gradient[name] + 2 * self.row.strength * (value - goal)
        return gradient, losses

    def _uniform(self, bounds: tuple[float, float], points: int, draw: torch.Generator) -> Tensor:
        """Uniform values ``[networks, points, 1]``."""
        low, high = bounds
        return (low + (high - low) * torch.rand(self.row.meta_batch_size, points, 1, generator=draw)).to(
            self.device
        )
