"""The adjoint recursion where rates are meta-learned, and where the loss counts every step.

With phi_k+1 = phi_k - a_k g(phi_k), where a_k has a rate for each coordinate, and q_k the query gradient at
phi_k times its weight in the loss: v_K = q_K, then v_k = v_k+1 - H(phi_k) (a_k v_k+1) + q_k. The gradient in
a_k is -g(phi_k) v_k+1, coordinate by coordinate.
"""

__all__ = ["gradient", "is_for", "layers", "predictions"]

from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeGuard

import torch
from torch import Tensor

from mamlkit.engine import passes, queries
from mamlkit.maml import Params, Task
from mamlkit.methods.base import Method
from mamlkit.methods.steps import RATE, StepwiseMethod
from mamlkit.models import Layer


def is_for(method: Method, tasks: Task) -> TypeGuard[StepwiseMethod]:
    """Whether this is the method as it is written, with a step or more, of a learner with passes."""
    steps = type(method) is StepwiseMethod and method.learner.inner_steps
    return bool(steps) and passes.are_for(method.learner)


def layers(method: StepwiseMethod) -> tuple[Layer, ...]:
    """Of the network whose passes are made."""
    return method.learner.model.layers


class _Path:
    """The inner updates of some tasks, with what the way back needs."""

    def __init__(
        self,
        method: StepwiseMethod,
        kernels: ModuleType,
        params: Params,
        tasks: Task,
        keep: bool,
    ) -> None:
        self.method, self.kernels, self.keep = method, kernels, keep
        self.plan, self.tasks = layers(method), tasks
        self.network = {name: value for name, value in params.items() if not name.startswith(RATE)}
        self.rates = [self._of_step(params, step) for step in range(method.learner.inner_steps)]
        self.weights = [passes.to_matrices(self.plan, self.network)]
        self.runs: list[tuple[passes.Pass, Params, Callable[[Tensor], Tensor]]] = []
        support = passes.to_images(self.plan, tasks.support[0])
        for rates in self.rates:
            run = passes.Pass(self.plan, kernels, self.weights[-1], support, keep=keep)
            _, d, d_dot = passes.loss_gradient(method.learner, run.outputs, tasks.support[1])
            found = run.gradient(d)
            moved = {
                name: torch.addcmul(value, rates[name], found[name], value=-1) if name in rates else value
                for name, value in self.weights[-1].items()
            }
            self.weights.append(moved)
            if keep:
                self.runs.append((run, found, d_dot))

    def _of_step(self, params: Params, step: int) -> Params:
        """The rate of each matrix that moves: a number, or a matrix of the same layout."""
        method = self.method
        if method.rates is None:
            every = self.network[self.plan[0].weight].new_full((), method.learner.inner_lr)
            return {name: every for name in self._names() if name not in method.learner.model.frozen}
        if method.rates == "tensor and step":
            return {name: params[RATE + name][step] for name in self._names() if RATE + name in params}
        own = {name: params.get(RATE + name, value) for name, value in self.network.items()}
        matrices = passes.to_matrices(self.plan, own)
        return {name: matrices[name] for name in matrices if RATE + name in params}

    def _names(self) -> list[str]:
        """Of the matrices; a bias before a normalisation has none."""
        return [name for layer in self.plan for name in (layer.weight, layer.shift or layer.bias)]

    def gradient(self) -> tuple[Params, list[Params], Tensor]:
        """The gradient in the matrices, task by task; those in the rates of each step; and the losses."""
        steps, learner = len(self.rates), self.method.learner
        query_images = passes.to_images(self.plan, self.tasks.query[0])
        counted = range(1, steps + 1) if self.method.every_step else [steps]
        losses: Any = 0
        v: Params = {}
        of_rates: list[Params] = []
        for step in range(steps, -1, -1):
            if step in counted:
                run = passes.Pass(self.plan, self.kernels, self.weights[step], query_images, keep=False)
                of_step, d, _ = passes.loss_gradient(learner, run.outputs, self.tasks.query[1])
                losses = losses + of_step / len(counted)
                query = run.gradient(d / len(counted))
                v = {name: v[name].add_(query[name]) for name in query} if v else query
                del run
            if step:
                inner, found, d_dot = self.runs.pop()
                rates = self.rates[step - 1]
                of_rates.insert(0, {name: found[name] * v[name] for name in rates})
                along = {
                    name: rates[name] * value if name in rates else torch.zeros_like(value)
                    for name, value in v.items()
                }
                back = inner.gradient_tangent(along, d_dot(inner.tangent(along)))
                v = {name: v[name].sub_(back[name]) for name in v}
                del inner
        return v, of_rates, losses


@torch.no_grad()
def gradient(
    method: StepwiseMethod, kernels: ModuleType, params: Params, tasks: Task
) -> tuple[Params, Tensor]:
    """Sum of the gradients of some tasks in all of params, and their losses.

    Args:
        method: one that :func:`is_for` has taken.
        kernels: as for :class:`mamlkit.engine.passes.Pass`.
        params: theta.
        tasks: a meta-batch, or a part of one.
    """
    path = _Path(method, kernels, params, tasks, keep=True)
    v, of_rates, losses = path.gradient()
    total = lambda values: {name: value.sum(0) for name, value in values.items()}
    whole = passes.from_matrices(path.plan, total(v), path.network)
    if method.rates == "tensor and step":
        for name in path.network:
            if RATE + name in params:
                sums = [
                    -of_step[name].sum() if name in of_step else losses.new_zeros(()) for of_step in of_rates
                ]
                whole[RATE + name] = torch.stack(sums)
    elif method.rates:
        summed = {name: -sum(total(of_step)[name] for of_step in of_rates) for name in of_rates[0]}
        still = {
            name: torch.zeros_like(path.weights[0][name]) for name in path.weights[0].keys() - summed.keys()
        }
        back = passes.from_matrices(path.plan, summed | still, path.network)
        whole |= {RATE + name: back[name] for name in path.network if RATE + name in params}
    return {name: whole[name] for name in params}, losses


@torch.no_grad()
def predictions(method: StepwiseMethod, kernels: ModuleType, params: Params, tasks: Task) -> Tensor:
    """Outputs ``[inner_steps + 1, tasks, points, outputs]``; arguments as for :func:`gradient`."""
    path = _Path(method, kernels, params, tasks, keep=False)
    of_queries = queries.outputs(method.learner, kernels, tasks)
    outputs = [of_queries(weights) for weights in path.weights]
    return torch.stack([part.expand(len(tasks.query[1]), -1, -1) for part in outputs])
