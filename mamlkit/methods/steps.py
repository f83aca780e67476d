"""MAML with more of its inner loop meta-learned: rates, normalisations of each step, a loss at every step."""

__all__ = [
    "StepwiseMethod",
    "first_order_first",
    "learned_rates",
    "maml_plus_plus",
    "meta_sgd",
    "moving_loss",
    "multi_step_loss",
    "norms_of_steps",
    "rates_and_steps",
]

import dataclasses
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from mamlkit import maml
from mamlkit.maml import Params, Task
from mamlkit.methods import norms
from mamlkit.methods.base import Learner, Method

RATE = "rate of "  # before the name of what moves at that rate
ADDED = (RATE, norms.SHIFT, norms.SCALE)

# Of MAML++'s code (AntreasAntoniou/HowToTrainYourMAMLPytorch), as parts of a training.
MOVING = 0.1  # in which weights move to the last step: 10 of 100 epochs on Omniglot (15 on Mini-ImageNet)
LEAST = 0.03  # that the weight of another step than the last falls to, of what it begins with
FIRST_ORDER = 81 / 150  # before the second order: epochs 0 to 80 of 150, as its older files say


@dataclass(frozen=True)
class StepwiseMethod(Method):
    """MAML whose inner rates may be meta-learned, and whose loss may count all steps, and change in training.

    Args:
        learner: network, loss and inner update; ``inner_lr`` is the value with which learned rates begin.
        rates: what has a rate of its own, learned with theta and free in its sign: every ``"coordinate"``, in
            all steps the same; or every ``"tensor and step"``, so that tests must take as many steps as the
            training. None is MAML's one fixed rate.
        counts: of which steps' query losses the loss is a mean: the ``"last"``; ``"every"`` step alike; or
            every step at first, and ``"moving"`` to the last one (see :attr:`counted`).
        first_order_first: whether inner gradients count as constants up to ``FIRST_ORDER``.
        own_norms: whether each step has scales and shifts of batch normalisation of its own, learned with
            theta (see :mod:`mamlkit.methods.norms`). The inner update moves none of them. The first are
            those of the support before the first step and of the queries after it, and of queries before any.
        progress: the part of the training that is done, from 0 to 1. Predictions do not depend on it.

    Raises:
        ValueError: a progress outside of 0 to 1, or a network whose normalisations are not known.
    """

    rates: Literal["coordinate", "tensor and step"] | None = None
    counts: Literal["last", "every", "moving"] = "last"
    first_order_first: bool = False
    own_norms: bool = False
    progress: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.progress <= 1:
            raise ValueError(f"progress={self.progress}, but the part of a training lies between 0 and 1")
        if self.own_norms:
            norms.check(self.learner.model)

    def init(self, generator: Generator) -> Params:
        """The network's parameters, and what is added to them."""
        params, steps = super().init(generator), self.learner.inner_steps
        shapes = {
            name: (steps,) if self.rates == "tensor and step" else params[name].shape for name in self._moved
        }
        start = self.learner.inner_lr
        rates = {RATE + name: torch.full(shape, start) for name, shape in shapes.items()}
        if self.own_norms:
            params = norms.init(self.learner.model.layers, params, steps)
        return params | rates

    @property
    def scheduled(self) -> bool:
        """Whether the loss changes in training."""
        return self.counts == "moving" or self.first_order_first

    def at(self, progress: float) -> "StepwiseMethod":
        """The method after this part of the training."""
        return dataclasses.replace(self, progress=progress) if self.scheduled else self

    @property
    def counted(self) -> dict[int, float]:
        """The steps after which the query loss counts, with factors: the loss is the mean of the products.

        Moving weights are those of MAML++'s code. All begin at 1 / ``inner_steps``; those of other steps than
        the last fall in proportion to the progress, to 0.03 of that, and are 0 from ``MOVING`` on.
        """
        steps = self.learner.inner_steps
        if self.counts == "last" or not steps or (self.counts == "moving" and self.progress >= MOVING):
            return {steps: 1.0}
        others = 1.0 if self.counts == "every" else max(1 - self.progress / MOVING, LEAST)
        return dict.fromkeys(range(1, steps), others) | {steps: steps - (steps - 1) * others}

    @property
    def first_order(self) -> bool:
        """Whether inner gradients count as constants at this progress."""
        return self.first_order_first and self.progress < FIRST_ORDER

    def loss(self, params: Params, task: Task) -> Tensor:
        """The mean of the query losses that count, by their factors."""
        path, targets = self._path(params, task), task.query[1]
        outputs = {step: self._outputs(params, path, step, task) for step in self.counted}
        losses = [factor * self.learner.loss_of(outputs[k], targets) for k, factor in self.counted.items()]
        return torch.stack(losses).mean()

    def predict(self, params: Params, task: Task) -> Tensor:
        """Outputs for the query inputs after 0, 1, ... steps: ``[inner_steps + 1, points, outputs]``."""
        path = self._path(params, task)
        return torch.stack([self._outputs(params, path, step, task) for step in range(len(path))])

    @property
    def _moved(self) -> list[str]:
        """Names of what has rates."""
        model = self.learner.model
        moved = [name for name in model.shapes if name not in model.frozen] if self.rates else []
        shifts = {layer.shift for layer in model.layers} if self.own_norms else set()
        return [name for name in moved if name not in shifts]

    def _path(self, params: Params, task: Task) -> list[Params]:
        """The network's parameters after 0, 1, ... steps."""
        learner = self.learner
        path = [{name: value for name, value in params.items() if not name.startswith(ADDED)}]
        for step in range(learner.inner_steps):
            rates = {name: params[RATE + name] for name in self._moved}
            if self.rates == "tensor and step":
                rates = {name: of_steps[step] for name, of_steps in rates.items()}

            def loss(fast: Params, support: tuple[Tensor, Tensor], step: int = step) -> Tensor:
                return learner.loss_fn(self._network(params, fast, step), support)

            alpha, frozen = rates or learner.inner_lr, learner.model.frozen
            path.append(maml.inner_step(loss, path[-1], task.support, alpha, self.first_order, frozen))
        return path

    def _network(self, params: Params, fast: Params, step: int) -> Params:
        """What the network is run with at a step, from 0."""
        return norms.with_step(self.learner.model.layers, fast, params, step) if self.own_norms else fast

    def _outputs(self, params: Params, path: list[Params], step: int, task: Task) -> Tensor:
        """Of the queries after so many steps."""
        return self.learner.outputs(self._network(params, path[step], max(step - 1, 0)), task)


def meta_sgd(learner: Learner) -> StepwiseMethod:
    """Meta-SGD (Li et al. 2017): a vector of rates as long as theta, learned with it.

    Deviation: all rates begin at the row's alpha, where theirs are drawn from [0.005, 0.1].
    """
    return StepwiseMethod(learner, rates="coordinate")


def learned_rates(learner: Learner) -> StepwiseMethod:
    """MAML with a learned rate for each weight, each bias and each step, as in MAML++."""
    return StepwiseMethod(learner, rates="tensor and step")


def multi_step_loss(learner: Learner) -> StepwiseMethod:
    """MAML with the mean of the query losses after every step.

    Deviation: MAML++ begins so, and moves the weights to the last step: :func:`moving_loss`.
    """
    return StepwiseMethod(learner, counts="every")


def moving_loss(learner: Learner) -> StepwiseMethod:
    """MAML with the query loss after every step at first, whose weights move to the last, as in MAML++.

    Deviation: weights move at each iteration, in MAML++'s code once in each of 100 epochs.
    """
    return StepwiseMethod(learner, counts="moving")


def first_order_first(learner: Learner) -> StepwiseMethod:
    """First-order MAML up to ``FIRST_ORDER`` of the training, MAML after it, as in MAML++.

    Deviation: none from its older files; its later ones have the second order from the beginning.
    """
    return StepwiseMethod(learner, first_order_first=True)


def norms_of_steps(learner: Learner) -> StepwiseMethod:
    """MAML with scales and shifts of batch normalisation for each step, as in MAML++.

    Deviation: what is learned of a scale is its logarithm, so that it stays positive; at 1, where both begin,
    the derivatives are the same. There are no running statistics of each step beside them: MAML++'s code
    records some, but normalises by the batch's own in training and tests alike, as all of this package does.
    """
    return StepwiseMethod(learner, own_norms=True)


def rates_and_steps(learner: Learner) -> StepwiseMethod:
    """Learned rates and the mean loss of every step: what MAML++ adds to a task's loss that never changes."""
    return StepwiseMethod(learner, rates="tensor and step", counts="every")


def maml_plus_plus(learner: Learner) -> StepwiseMethod:
    """All that MAML++ (Antoniou et al. 2019) changes of the loss; its outer rate is a row's ``outer``.

    Deviation: those of its parts, which are :func:`learned_rates`, :func:`moving_loss`,
    :func:`first_order_first` and :func:`norms_of_steps`. Its test is of an ensemble of its five best networks
    in validation, ours of the last one.
    """
    return StepwiseMethod(learner, "tensor and step", "moving", first_order_first=True, own_norms=True)
