"""Methods whose inner update moves the head alone: the body is run once, however many steps there are.

Its features of support and query are then inputs of a linear network, and the loss has a gradient in them
too, which goes back through the body.
"""

__all__ = ["gradient", "is_for", "predictions"]

import dataclasses
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad_and_value, vmap

from mamlkit.engine.passes import Pass, to_images
from mamlkit.engine.queries import with_support
from mamlkit.maml import Params, Task
from mamlkit.methods.base import Learner
from mamlkit.methods.gradient import GradientMethod


def is_for(learner: Learner) -> bool:
    """Whether the inner update moves something of a linear head, and nothing else."""
    head, moved = learner.model.layers[-1], learner.model.shapes.keys() - learner.model.frozen
    linear = head.window is None and head.shift is None and not head.relu
    return linear and bool(moved) and moved <= {head.weight, head.bias}


@torch.no_grad()
def gradient(
    method: GradientMethod, kernels: ModuleType, theta: Params, tasks: Task
) -> tuple[Params, Tensor]:
    """Sum of the gradients of some tasks, and their losses, for a method that adapts.

    Args:
        method: whose learner :func:`is_for` has taken.
        kernels, theta: as for :class:`mamlkit.engine.passes.Pass`.
        tasks: a meta-batch, or a part of one.
    """
    of_head, weights = _of_head(method, theta)
    layers = method.learner.model.layers
    images = (to_images(layers, inputs) for inputs, _ in tasks)
    runs = [Pass(layers[:-1], kernels, theta, x, keep=False) for x in images]

    def loss(weights: Params, support: Tensor, query: Tensor, targets: tuple[Tensor, Tensor]) -> Tensor:
        return of_head.loss(weights, Task((support, targets[0]), (query, targets[1])))

    each = vmap(grad_and_value(loss, argnums=(0, 1, 2)), in_dims=(None, 0, 0, 0))
    targets = tasks.support[1], tasks.query[1]
    (found, *d), losses = each(weights, runs[0].outputs, runs[1].outputs, targets)
    support, query = (run.gradient(of_outputs) for run, of_outputs in zip(runs, d))
    found |= {name: value + query[name] for name, value in support.items()}
    return {name: found[name].sum(0) for name in theta}, losses


@torch.no_grad()
def predictions(learner: Learner, kernels: ModuleType, theta: Params, tasks: Task) -> Tensor:
    """Outputs ``[inner_steps + 1, tasks, points, outputs]``; arguments as for :func:`gradient`."""
    of_head, weights = _of_head(GradientMethod(learner), theta)
    layers = learner.model.layers
    if learner.transductive or len(layers) == 1:  # nothing is normalised without a body
        images = (to_images(layers, inputs) for inputs, _ in tasks)
        both = tuple(Pass(layers[:-1], kernels, theta, x, keep=False).outputs for x in images)
    else:
        both = with_support(layers[:-1], kernels, tasks)(theta)
    pairs = ((features, targets) for features, (_, targets) in zip(both, tasks))
    return vmap(of_head.predict, in_dims=(None, 0), out_dims=1)(weights, Task(*pairs))


def _of_head(method: GradientMethod, theta: Params) -> tuple[GradientMethod, Params]:
    """The method for the head alone, of features that are normalised already, and its parameters."""
    head = method.learner.model.layers[-1]
    apply = lambda weights, x: F.linear(x, weights[head.weight], weights[head.bias])
    model = method.learner.model._replace(apply=apply, layers=())
    learner = dataclasses.replace(method.learner, model=model, transductive=True)
    weights = {name: theta[name] for name in (head.weight, head.bias)}
    return dataclasses.replace(method, learner=learner), weights
