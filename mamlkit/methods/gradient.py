"""Methods that adapt by gradient steps: MAML, its first-order form, and pretraining with fine-tuning."""

__all__ = ["Learner", "Objective", "first_order_maml", "maml", "predictor", "pretraining"]

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from mamlkit import maml as core
from mamlkit.maml import LossFn, Params, Task
from mamlkit.methods.losses import LOSSES
from mamlkit.models import Model


@dataclass(frozen=True)
class Learner:
    """A network with its loss and its way to adapt: all that a method needs to know.

    A class made from this one may change the loss or the update, and goes the general way.

    Args:
        model: network (see :mod:`mamlkit.models`).
        loss: a name in :data:`LOSSES`.
        inner_lr: alpha.
        inner_steps: gradient steps of the inner update in meta-training.
        shots: K, support examples per class (or points of a regression task).

    Raises:
        ValueError: an unknown loss, or a number that no learner can have.
    """

    model: Model
    loss: str
    inner_lr: float
    inner_steps: int
    shots: int

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ValueError(f"loss={self.loss!r}, but it must be one of {', '.join(map(repr, LOSSES))}")
        if not 0 <= self.inner_lr < math.inf:
            raise ValueError(f"inner_lr={self.inner_lr}, but it must be finite, at least 0")
        for name, least in (("inner_steps", 0), ("shots", 1)):
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < least:
                raise ValueError(f"{name}={value!r}, but it must be a whole number, at least {least}")

    def adapting(self, *names: str) -> "Learner":
        """A learner whose inner update moves these parameters and no others; all are meta-learned.

        Raises:
            ValueError: a name that is none of the network's.
        """
        own = self.model.shapes.keys()
        if unknown := set(names) - own:
            raise ValueError(f"{sorted(unknown)} are no parameters of this network: it has {', '.join(own)}")
        return dataclasses.replace(self, model=self.model._replace(frozen=frozenset(own - set(names))))

    def loss_fn(self, params: Params, examples: tuple[Tensor, Tensor]) -> Tensor:
        """The loss L_T(f_params) on inputs and targets: a scalar."""
        inputs, targets = examples
        return LOSSES[self.loss](self.model.apply(params, inputs), targets, self.shots)

    def adapt(self, params: Params, support: Any, first_order: bool = False) -> Params:
        """:func:`mamlkit.maml.adapt` with this learner's settings."""
        return core.adapt(self.loss_fn, params, support, first_order=first_order, **self._update)

    def adaptation_path(self, params: Params, support: Any) -> list[Params]:
        """:func:`mamlkit.maml.adaptation_path` with this learner's settings."""
        return core.adaptation_path(self.loss_fn, params, support, **self._update)

    @property
    def _update(self) -> dict[str, Any]:
        return {"inner_lr": self.inner_lr, "inner_steps": self.inner_steps, "frozen": self.model.frozen}


@dataclass(frozen=True)
class Objective:
    """What is minimised: a function of the parameters and one task; it also says how they are tested.

    The fields say in data what the function says in code, so that :mod:`mamlkit.engine.meta_batch` can find a
    faster way to the gradient of the same function. A class made from this one goes the general way.

    Args:
        learner: network, loss and inner update, in training and in tests.
        adapts: whether the loss is that of the query examples after adaptation, or of the support
            examples before it.
        first_order: whether the inner gradient counts as a constant.
    """

    learner: Learner
    adapts: bool = True
    first_order: bool = False

    def __call__(self, params: Params, task: Task) -> Tensor:
        if not self.adapts:
            return self.learner.loss_fn(params, task.support)
        fast = self.learner.adapt(params, task.support, self.first_order)
        return self.learner.loss_fn(fast, task.query)

    def predict(self, params: Params, task: Task) -> Tensor:
        """Outputs for the query inputs after 0, 1, ... steps: ``[inner_steps + 1, points, outputs]``."""
        path = self.learner.adaptation_path(params, task.support)
        return torch.stack([self.learner.model.apply(fast, task.query[0]) for fast in path])


def predictor(objective: LossFn) -> Callable[[Params, Task], Tensor]:
    """How an objective predicts, as said where its loss is said.

    A class that inherits a ``predict`` but has a loss of its own may adapt in another way, so it must say
    again how it predicts.

    Raises:
        ValueError: it does not say.
    """
    for place in (objective, *type(objective).__mro__):
        own = getattr(place, "__dict__", {})
        if "predict" in own:
            return objective.predict
        if "__call__" in own:
            break
    name = getattr(objective, "__name__", type(objective).__name__)
    raise ValueError(
        f"{name} can be trained but not tested, since it does not say how it predicts; beside its loss "
        "define predict(params, task), which returns the query outputs [inner_steps + 1, "
        "points, outputs], or make "
        "the method return a mamlkit.methods.Objective"
    )


def maml(learner: Learner) -> Objective:
    """Query loss after adaptation, differentiated through it. Paper: Algorithm 2."""
    return Objective(learner)


def first_order_maml(learner: Learner) -> Objective:
    """MAML whose inner gradients count as constants. Paper: section 5.2, "first order approximation"."""
    return Objective(learner, first_order=True)


def pretraining(learner: Learner) -> Objective:
    """Loss on the pooled support examples without adaptation; fine-tuning happens at test time only.

    Paper: section 5.1, "pretraining on all of the tasks". The oracle is the same method on a
    task family whose inputs hold the task's parameters.
    """
    return Objective(learner, adapts=False)
