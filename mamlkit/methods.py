"""What is compared. Each method turns a learner into an objective ``(params, task) -> loss``."""

__all__ = ["LOSSES", "METHODS", "Learner", "Objective", "first_order_maml", "log_likelihood", "maml", "pretraining"]

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mamlkit import maml as core
from mamlkit.maml import LossFn, Params, Task
from mamlkit.models import Model


def mse(outputs: Tensor, targets: Tensor, shots: int = 1) -> Tensor:
    """Mean squared error over the points. Paper: equation 2 (a sum there; the authors' code takes the mean)."""
    return ((outputs - targets) ** 2).mean((-2, -1))


def log_likelihood(outputs: Tensor, labels: Tensor) -> Tensor:
    """Log-probability that a softmax over the outputs gives to each label ``[..., points]``."""
    return outputs.log_softmax(-1).gather(-1, labels[..., None])[..., 0]


def cross_entropy_mean(outputs: Tensor, targets: Tensor, shots: int = 1) -> Tensor:
    """Cross-entropy averaged over the examples: how most reimplementations read equation 3."""
    return -log_likelihood(outputs, targets).mean(-1)


def cross_entropy_per_shot(outputs: Tensor, targets: Tensor, shots: int) -> Tensor:
    """Cross-entropy summed over the examples and divided by the shots K: the authors' reading.

    On the N K support examples it is N times the mean, so the paper's alpha is an N times larger
    step than on :func:`cross_entropy_mean`. Paper: equation 3 (a sum); the division is the authors' code.
    """
    return -log_likelihood(outputs, targets).sum(-1) / shots


LOSSES: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "mse": mse,
    "cross-entropy, mean": cross_entropy_mean,
    "cross-entropy, sum over examples / shots": cross_entropy_per_shot,
}


@dataclass(frozen=True)
class Learner:
    """A network with its loss and its way to adapt: all that a method needs to know.

    Args:
        model: network (see :mod:`mamlkit.models`).
        loss: a name in :data:`LOSSES`.
        inner_lr: alpha.
        inner_steps: gradient steps of the inner update in meta-training.
        shots: K, support examples per class (or points of a regression task).
    """

    model: Model
    loss: str
    inner_lr: float
    inner_steps: int
    shots: int

    def loss_fn(self, params: Params, examples: tuple[Tensor, Tensor]) -> Tensor:
        """The loss L_T(f_params) on inputs and targets: a scalar."""
        inputs, targets = examples
        return LOSSES[self.loss](self.model.apply(params, inputs), targets, self.shots)

    def adapt(self, params: Params, support: Any, first_order: bool = False) -> Params:
        """:func:`mamlkit.maml.adapt` with this learner's settings."""
        return core.adapt(
            self.loss_fn,
            params,
            support,
            inner_lr=self.inner_lr,
            inner_steps=self.inner_steps,
            first_order=first_order,
            frozen=self.model.frozen,
        )


@dataclass(frozen=True)
class Objective:
    """What is minimised: a function of the parameters and one task.

    The fields say in data what the function says in code, so that :mod:`mamlkit.engine` can find a
    faster way to the gradient of the same function.

    Args:
        learner: network, loss and inner update.
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


METHODS: dict[str, Callable[[Learner], LossFn]] = {
    "maml": maml,
    "first-order maml": first_order_maml,
    "pretraining": pretraining,
}
