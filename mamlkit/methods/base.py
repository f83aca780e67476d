"""What every method is made from, and what it says of itself."""

__all__ = ["Learner", "Method"]

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from typing import Any

import torch
from torch import Generator, Tensor

from mamlkit import maml
from mamlkit.maml import Params, Task
from mamlkit.methods.losses import LOSSES
from mamlkit.models import Model


@dataclass(frozen=True)
class Learner:
    """A network with its loss and its inner update: all that a method is made from.

    A class made from this one may change the loss or the update, and goes the general way.

    Args:
        model: network (see :mod:`mamlkit.models`).
        loss: a name in :data:`LOSSES`.
        inner_lr: alpha.
        inner_steps: gradient steps of the inner update in meta-training.
        shots: K, support examples per class (or points of a regression task).
        transductive: whether query examples are normalised by the statistics of all queries of their task, as
            in the authors' code, or by those of its support examples, so that no query matters to another.

    Raises:
        ValueError: an unknown loss, or a number that no learner can have.
    """

    model: Model
    loss: str
    inner_lr: float
    inner_steps: int
    shots: int
    transductive: bool = True

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ValueError(f"loss={self.loss!r}, but it must be one of {', '.join(map(repr, LOSSES))}")
        if not 0 <= self.inner_lr < math.inf:
            raise ValueError(f"inner_lr={self.inner_lr}, but it must be finite, at least 0")
        for name, least in (("inner_steps", 0), ("shots", 1)):
            value = getattr(self, name)
            if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name}={value!r}, but it must be a whole number, at least {least}")

    def adapting(self, *names: str) -> "Learner":
        """A learner whose inner update moves these parameters and no others; all are meta-learned.

        Raises:
            ValueError: a name that is none of the network's.
        """
        own = self.model.shapes.keys()
        if not all(isinstance(name, str) for name in names):
            came, known = (", ".join(map(repr, given)) for given in (names, own))
            raise ValueError(f"adapting({came}) came, but it takes names, one by one: adapting({known})")
        if unknown := set(names) - own:
            raise ValueError(f"{sorted(unknown)} are no parameters of this network: it has {', '.join(own)}")
        return dataclasses.replace(self, model=self.model._replace(frozen=frozenset(own - set(names))))

    def loss_fn(self, params: Params, examples: tuple[Tensor, Tensor]) -> Tensor:
        """The loss L_T(f_params) on inputs and targets: a scalar."""
        inputs, targets = examples
        return self.loss_of(self.model.apply(params, inputs), targets)

    def loss_of(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of outputs that are there already: a scalar."""
        return LOSSES[self.loss](outputs, targets, self.shots)

    def outputs(self, params: Params, task: Task) -> Tensor:
        """The network's outputs for the query examples of a task, ``[points, outputs]``.

        The parameters may be adapted or not. Unless ``transductive``, batch statistics are those of the
        support examples.
        """
        (support, _), (query, _) = task
        if self.transductive:
            return self.model.apply(params, query)
        count = len(support)
        return self.model.apply(params, torch.cat([support, query]), reference=count)[count:]

    def adapt(self, params: Params, support: Any, first_order: bool = False) -> Params:
        """:func:`mamlkit.maml.adapt` with this learner's settings."""
        return maml.adapt(self.loss_fn, params, support, first_order=first_order, **self._update)

    def adaptation_path(self, params: Params, support: Any) -> list[Params]:
        """:func:`mamlkit.maml.adaptation_path` with this learner's settings."""
        return maml.adaptation_path(self.loss_fn, params, support, **self._update)

    @property
    def _update(self) -> dict[str, Any]:
        return {"inner_lr": self.inner_lr, "inner_steps": self.inner_steps, "frozen": self.model.frozen}


@dataclass(frozen=True)
class Method(ABC):
    """What is compared: its parameters, its loss of one task, and its predictions.

    All three are written for one task; :mod:`mamlkit.engine` batches them. Training goes by the loss;
    validation, tests and figures go by the predictions.

    Args:
        learner: network, loss and inner update.

    Raises:
        TypeError: a class has a loss of its own, or takes it from a mixin, but inherits its predictions. It
            may adapt in another way than they do, so it must say them again.
    """

    learner: Learner

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        loss, predict = (
            next(place for place, kind in enumerate(cls.__mro__) if name in vars(kind))
            for name in ("loss", "predict")
        )
        if loss < predict:  # it comes from a class that does not know these predictions
            raise TypeError(
                f"{cls.__name__} has a loss of its own, but not its own predictions; beside the loss define "
                "predict(self, params, task), which returns the query outputs "
                "[inner_steps + 1, points, outputs]"
            )

    def __post_init__(self) -> None:
        """``TypeError`` for a class that changes a field in a way that the field does not see."""
        for field in dataclasses.fields(self):
            if getattr(type(self), field.name, field.default) is not field.default:
                raise TypeError(
                    f"{type(self).__name__}.{field.name} is set, but the method would have "
                    f"{field.name}={field.default!r}; make the class a dataclass, or give the value "
                    "when it is made"
                )

    def init(self, generator: Generator) -> Params:
        """All that is meta-learned, theta: the network's parameters, and what the method adds to them."""
        return self.learner.model.init(generator)

    @abstractmethod
    def loss(self, params: Params, task: Task) -> Tensor:
        """What one task adds to the meta-loss: a scalar."""

    @abstractmethod
    def predict(self, params: Params, task: Task) -> Tensor:
        """Query outputs after 0, 1, ... inner steps: ``[inner_steps + 1, points, outputs]``."""

    @property
    def scheduled(self) -> bool:
        """Whether the loss changes in training: whether the class says :meth:`at`."""
        return type(self).at is not Method.at

    def at(self, progress: float) -> "Method":
        """The method whose loss is trained by after a part of the training: this one, if it has no schedule.

        It depends on nothing else, so a run that goes on from a saved state does what it would have done.

        Args:
            progress: outer updates done over those of the whole training, from 0, below 1.
        """
        return self

    @cached_property
    def shapes(self) -> Mapping[str, torch.Size]:
        """The shape of each parameter of :meth:`init`, by name."""
        if type(self).init is Method.init:
            return self.learner.model.shapes
        return {name: value.shape for name, value in self.init(Generator().manual_seed(0)).items()}
