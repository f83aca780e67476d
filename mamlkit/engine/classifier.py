"""The classifier of all classes: pretraining of the body with another head, then ordinary fine-tuning."""

__all__ = ["gradient", "is_for", "predictions"]

import dataclasses
from types import ModuleType
from typing import TypeGuard

import torch
from torch import Tensor

from mamlkit.engine import adjoint, features
from mamlkit.engine.passes import are_for, from_matrices, to_matrices
from mamlkit.maml import Params, Task
from mamlkit.methods.base import Learner, Method
from mamlkit.methods.baselines import ALL_CLASSES, ALL_CLASSES_BIAS, PretrainedClassifier
from mamlkit.methods.gradient import pretraining


def is_for(method: Method, tasks: Task) -> TypeGuard[PretrainedClassifier]:
    """Whether this is the classifier as it is written, of a network with a body that says its layers.

    Raises:
        ValueError: examples that these layers cannot take.
    """
    if type(method) is not PretrainedClassifier or len(method.layers) < 2:
        return False
    learner = _tuned(method)
    if not are_for(learner):
        return False
    features.check(learner, method.layers, tasks)
    return True


def gradient(
    method: PretrainedClassifier, kernels: ModuleType, params: Params, tasks: Task
) -> tuple[Params, Tensor]:
    """Sum of the gradients of some tasks, and their losses; zero for the network's own head.

    Args:
        method: one that :func:`is_for` has taken.
        kernels: as for :class:`mamlkit.engine.passes.Pass`.
        params: theta.
        tasks: a meta-batch, or a part of one.
    """
    head = method.layers[-1]._replace(weight=ALL_CLASSES, bias=ALL_CLASSES_BIAS)
    plan = (*method.layers[:-1], head)
    model = method.learner.model._replace(layers=plan)
    trained = pretraining(dataclasses.replace(method.learner, model=model))
    found, losses = adjoint.gradient(trained, kernels, to_matrices(plan, params), tasks)
    return from_matrices(plan, found, params), losses


def predictions(method: PretrainedClassifier, kernels: ModuleType, params: Params, tasks: Task) -> Tensor:
    """Outputs ``[inner_steps + 1, tasks, points, ways]``; arguments as for :func:`gradient`."""
    near = features.predictions(method.neighbours, kernels, params, tasks)
    weights = to_matrices(method.layers, params)
    return torch.cat([near, adjoint.predictions(_tuned(method), kernels, weights, tasks)[1:]])


def _tuned(method: PretrainedClassifier) -> Learner:
    """The learner of fine-tuning, with the network's layers."""
    return dataclasses.replace(method.learner, model=method.learner.model._replace(layers=method.layers))
