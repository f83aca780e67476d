"""Methods that adapt by gradient steps: MAML, its first-order form, and pretraining with fine-tuning."""

__all__ = ["GradientMethod", "first_order_maml", "maml", "pretraining"]

from dataclasses import dataclass

import torch
from torch import Tensor

from mamlkit.maml import Params, Task
from mamlkit.methods.base import Learner, Method


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


def pretraining(learner: Learner) -> GradientMethod:
    """Loss on the pooled support examples without adaptation; fine-tuning happens at test time only.

    Paper: section 5.1, "pretraining on all of the tasks". The oracle is the same method on a
    task family whose inputs hold the task's parameters.
    """
    return GradientMethod(learner, adapts=False)
