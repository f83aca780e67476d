"""Methods that adapt by gradient steps: MAML, in whole, first order or in part, and pretraining."""

__all__ = ["GradientMethod", "body_only", "first_order_maml", "head_only", "maml", "pretraining"]

from dataclasses import dataclass

import torch
from torch import Tensor

from mamlkit.maml import Params, Task
from mamlkit.methods.base import Learner, Method
from mamlkit.models import head_of


@dataclass(frozen=True)
class GradientMethod(Method):
    """A method whose inner update is gradient descent on the support examples.

    The fields say in data what the functions say in code, so that :mod:`mamlkit.engine` can find a faster way
    to the gradient of the same loss. A class made from this one goes the general way.

    Args:
        learner: network, loss and inner update: what adapts, in how many steps, at which rate.
        adapts: whether the loss is that of the query examples after adaptation, or of the support examples
            before it.
        first_order: whether the inner gradient counts as a constant.
    """

    adapts: bool = True
    first_order: bool = False

    def loss(self, params: Params, task: Task) -> Tensor:
        """The query loss after adaptation, or the support loss without it."""
        if not self.adapts:
            return self.learner.loss_fn(params, task.support)
        fast = self.learner.adapt(params, task.support, self.first_order)
        return self.learner.loss_of(self.learner.outputs(fast, task), task.query[1])

    def predict(self, params: Params, task: Task) -> Tensor:
        """Outputs for the query inputs after 0, 1, ... steps: ``[inner_steps + 1, points, outputs]``."""
        path = self.learner.adaptation_path(params, task.support)
        return torch.stack([self.learner.outputs(fast, task) for fast in path])


def maml(learner: Learner) -> GradientMethod:
    """Query loss after adaptation, differentiated through it. Paper: Algorithm 2."""
    return GradientMethod(learner)


def first_order_maml(learner: Learner) -> GradientMethod:
    """MAML whose inner gradients count as constants. Paper: section 5.2, "first order approximation"."""
    return GradientMethod(learner, first_order=True)


def head_only(learner: Learner) -> GradientMethod:
    """MAML whose inner update moves the last layer alone: ANIL, "almost no inner loop" (Raghu et al. 2020).

    ``ValueError`` for a network that does not say its layers, here and in :func:`body_only`.
    """
    head = head_of(learner.model)
    return maml(learner.adapting(head.weight, head.bias))


def body_only(learner: Learner) -> GradientMethod:
    """MAML whose inner update moves all but the last layer: BOIL, "body only" (Oh et al. 2021)."""
    head = head_of(learner.model)
    moved = learner.model.shapes.keys() - learner.model.frozen - {head.weight, head.bias}
    return maml(learner.adapting(*moved))


def pretraining(learner: Learner) -> GradientMethod:
    """Loss on the pooled support examples without adaptation; fine-tuning happens at test time only.

    Paper: section 5.1, "pretraining on all of the tasks". The oracle is the same method on a
    task family whose inputs hold the task's parameters.
    """
    return GradientMethod(learner, adapts=False)
