"""MAML with more of its inner loop meta-learned: rates of its own for what it moves, a loss at every step."""

__all__ = [
    "StepwiseMethod",
    "learned_rates",
    "maml_plus_plus",
    "meta_sgd",
    "multi_step_loss",
]

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from mamlkit import maml
from mamlkit.maml import Params, Task
from mamlkit.methods.base import Learner, Method

RATE = "rate of "  # before the name of what moves at that rate


@dataclass(frozen=True)
class StepwiseMethod(Method):
    """MAML whose inner rates may be meta-learned, and whose loss may count all steps.

    Args:
        learner: network, loss and inner update; ``inner_lr`` is the value with which learned rates begin.
        rates: what has a rate of its own, learned with theta and free in its sign: every ``"coordinate"``, in
            all steps the same; or every ``"tensor and step"``, so that tests must take as many steps as the
            training. None is MAML's one fixed rate.
        every_step: whether the loss is the mean of the query losses after 1, 2, ... ``inner_steps`` steps, or
            the last of them.
    """

    rates: Literal["coordinate", "tensor and step"] | None = None
    every_step: bool = False

    def init(self, generator: Generator) -> Params:
        """The network's parameters, and the rates."""
        params, steps = super().init(generator), self.learner.inner_steps
        shapes = {
            name: (steps,) if self.rates == "tensor and step" else params[name].shape for name in self._moved
        }
        start = self.learner.inner_lr
        return params | {RATE + name: torch.full(shape, start) for name, shape in shapes.items()}

    def loss(self, params: Params, task: Task) -> Tensor:
        """The query loss after the last step, or its mean over the steps."""
        path = self._path(params, task)
        counted = path[1:] or path if self.every_step else path[-1:]
        losses = [self.learner.loss_of(self.learner.outputs(fast, task), task.query[1]) for fast in counted]
        return torch.stack(losses).mean()

    def predict(self, params: Params, task: Task) -> Tensor:
        """Outputs for the query inputs after 0, 1, ... steps: ``[inner_steps + 1, points, outputs]``."""
        return torch.stack([self.learner.outputs(fast, task) for fast in self._path(params, task)])

    @property
    def _moved(self) -> list[str]:
        """Names of what has rates."""
        model = self.learner.model
        return [name for name in model.shapes if name not in model.frozen] if self.rates else []

    def _path(self, params: Params, task: Task) -> list[Params]:
        learner = self.learner
        path = [{name: value for name, value in params.items() if not name.startswith(RATE)}]
        for step in range(learner.inner_steps):
            rates = {name: params[RATE + name] for name in self._moved}
            if self.rates == "tensor and step":
                rates = {name: of_steps[step] for name, of_steps in rates.items()}
            path.append(
                maml.inner_step(
                    learner.loss_fn,
                    path[-1],
                    task.support,
                    rates or learner.inner_lr,
                    frozen=learner.model.frozen,
                )
            )
        return path


def meta_sgd(learner: Learner) -> StepwiseMethod:
    """Meta-SGD (Li et al. 2017): a vector of rates as long as theta, learned with it."""
    return StepwiseMethod(learner, rates="coordinate")


def learned_rates(learner: Learner) -> StepwiseMethod:
    """MAML with a learned rate for each weight, each bias and each step, as in MAML++."""
    return StepwiseMethod(learner, rates="tensor and step")


def multi_step_loss(learner: Learner) -> StepwiseMethod:
    """MAML with the query loss after every step, as in MAML++.

    Deviation: MAML++ begins with equal weights and moves them to the last step in training. Methods know no
    iteration, so they stay equal.
    """
    return StepwiseMethod(learner, every_step=True)


def maml_plus_plus(learner: Learner) -> StepwiseMethod:
    """What MAML++ (Antoniou et al. 2019) adds to the loss of a task, without what it changes over time.

    Deviation: learned rates and the loss of every step are here. Left out are the schedules (of the weights
    of the steps, from first to second order, of beta), and batch normalisation's values of each step.
    """
    return StepwiseMethod(learner, rates="tensor and step", every_step=True)
