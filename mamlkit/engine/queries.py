"""A network's outputs for the queries of some tasks, normalised together or by the support's statistics."""

__all__ = ["outputs", "with_support"]

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from mamlkit.engine.passes import Pass, to_images
from mamlkit.maml import Params, Task
from mamlkit.methods.base import Learner
from mamlkit.models import Layer


def outputs(learner: Learner, kernels: ModuleType, tasks: Task) -> Callable[[Params], Tensor]:
    """Outputs for the queries, ``[tasks, points, outputs]``, as a function of the weights.

    Args:
        learner: whose ``transductive`` says whose statistics are taken.
        kernels: as for :class:`mamlkit.engine.passes.Pass`.
        tasks: some tasks.
    """
    plan = learner.model.layers
    if not learner.transductive:
        both = with_support(plan, kernels, tasks)
        return lambda weights: both(weights)[1]
    images = to_images(plan, tasks.query[0])
    return lambda weights: Pass(plan, kernels, weights, images, keep=False).outputs


def with_support(
    layers: tuple[Layer, ...], kernels: ModuleType, tasks: Task
) -> Callable[[Params], tuple[Tensor, Tensor]]:
    """A function of the weights: outputs for support and queries, all normalised by the support's statistics.

    The support goes through the network again, beside the queries.
    """
    count = tasks.support[0].shape[1]
    images = torch.cat([to_images(layers, inputs) for inputs, _ in tasks], 1)
    by_first = lambda z, shift, pool: kernels.normalise(z, shift, pool, first=count)
    product, add_product = kernels.product, kernels.add_product
    loops: Any = SimpleNamespace(product=product, add_product=add_product, normalise=by_first)

    def both(weights: Params) -> tuple[Tensor, Tensor]:
        found = Pass(layers, loops, weights, images, keep=False).outputs
        return found[:, :count], found[:, count:]

    return both
