"""Methods that compare features: the body's passes over support and query, and what follows by PyTorch.

What follows is small; its gradient in the features goes back through the body.
"""

__all__ = ["check", "gradient", "is_for", "predictions"]

from functools import partial
from types import ModuleType
from typing import TypeGuard

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap

from mamlkit.engine import checks, network
from mamlkit.engine.passes import Pass, from_matrices, in_order, to_images, to_matrices
from mamlkit.engine.queries import with_support
from mamlkit.maml import Params, Task
from mamlkit.methods.base import Learner, Method
from mamlkit.methods.metric import Metric
from mamlkit.models import Layer


def is_for(method: Method, tasks: Task) -> TypeGuard[Metric]:
    """Whether a method's loss and predictions are of features alone, and its network says its layers.

    Raises:
        ValueError: examples that these layers cannot take.
    """
    if not (isinstance(method, Metric) and method.layers and type(method.learner) is Learner):
        return False
    own = type(method).loss is Metric.loss and type(method).predict is Metric.predict
    if not own:
        return False
    check(method.learner, method.layers, tasks)
    return True


def check(learner: Learner, layers: tuple[Layer, ...], tasks: Task) -> None:
    """``ValueError`` for layers that are not the learner's network, or cannot take these examples."""
    checks.check_images(layers, learner.model.shapes, tasks, learner.transductive)
    network.check_same(learner.model, layers)
    if not learner.transductive:
        network.check_same(learner.model, layers, apart=True)


@torch.no_grad()
def gradient(method: Metric, kernels: ModuleType, params: Params, tasks: Task) -> tuple[Params, Tensor]:
    """Sum of the gradients of some tasks in all of params, and their losses.

    Args:
        method: one that :func:`is_for` has taken.
        kernels: as for :class:`mamlkit.engine.passes.Pass`.
        params: theta.
        tasks: a meta-batch, or a part of one.
    """
    runs, more = _runs(method, kernels, params, tasks), _others(method, params)
    ordered = partial(in_order, method.layers, method.learner.model.shapes)

    def loss(more: Params, near: Tensor, far: Tensor, labels: tuple[Tensor, Tensor]) -> Tensor:
        return method.loss_of_features(more, ordered(near), ordered(far), labels)

    each = vmap(grad_and_value(loss, argnums=(0, 1, 2)), in_dims=(None, 0, 0, 0))
    labels = tasks.support[1], tasks.query[1]
    (found, *d), losses = each(more, runs[0].outputs, runs[1].outputs, labels)
    support, query = (run.gradient(of_outputs) for run, of_outputs in zip(runs, d))
    body = {name: (value + query[name]).sum(0) for name, value in support.items()}
    whole = from_matrices(method.layers, body, params)
    return whole | {name: value.sum(0) for name, value in found.items()}, losses


@torch.no_grad()
def predictions(method: Metric, kernels: ModuleType, params: Params, tasks: Task) -> Tensor:
    """Outputs ``[1, tasks, points, ways]``; arguments as for :func:`gradient`."""
    if method.learner.transductive:
        found = tuple(run.outputs for run in _runs(method, kernels, params, tasks))
    else:
        found = with_support(method.layers, kernels, tasks)(to_matrices(method.layers, params))
    near, far = (in_order(method.layers, method.learner.model.shapes, outputs) for outputs in found)
    compare = vmap(method.outputs_of_features, in_dims=(None, 0, 0, 0))
    return compare(_others(method, params), near, far, tasks.support[1])[None]


def _runs(method: Metric, kernels: ModuleType, params: Params, tasks: Task) -> tuple[Pass, ...]:
    """The body's passes over support and query."""
    weights = to_matrices(method.layers, params)
    images = (to_images(method.layers, inputs) for inputs, _ in tasks)
    return tuple(Pass(method.layers, kernels, weights, x, keep=False) for x in images)


def _others(method: Metric, params: Params) -> Params:
    """The parameters that are not the body's."""
    body = {name for layer in method.layers for name in (layer.weight, layer.bias, layer.shift)}
    return {name: value for name, value in params.items() if name not in body}
