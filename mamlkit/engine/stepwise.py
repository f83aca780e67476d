"""The adjoint recursion where rates are meta-learned, where the loss counts every step, and where each step
has normalisations of its own.

With phi_k+1 = phi_k - a_k g(phi_k), where a_k has a rate for each coordinate, and q_k the query gradient at
phi_k times its weight in the loss: v_K = q_K, then v_k = v_k+1 - H(phi_k) (a_k v_k+1) + q_k, of first order
without the second term. The gradient in a_k is -g(phi_k) v_k+1, coordinate by coordinate.

Normalisations of step k make weights psi = P(phi, s_k) of phi and of what they learn, s_k. A pass at psi
gives the gradient G in psi, and along P'(a v) the derivative h of G. Then g(phi) = P'(G), and the derivatives
of (a v) g(phi) in phi and in s_k are those of P'(a v) G, where G stands still, and of P h, where h does.
"""

__all__ = ["gradient", "is_for", "predictions"]

from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeGuard

import torch
from torch import Tensor

from mamlkit.engine import passes, queries
from mamlkit.engine.step_norms import StepNorms
from mamlkit.maml import Params, Task
from mamlkit.methods.base import Method
from mamlkit.methods.norms import SHIFT
from mamlkit.methods.steps import ADDED, RATE, StepwiseMethod


def is_for(method: Method, tasks: Task) -> TypeGuard[StepwiseMethod]:
    """Whether this is the method as it is written, with a step or more, of a learner with passes."""
    steps = type(method) is StepwiseMethod and method.learner.inner_steps
    return bool(steps) and passes.are_for(method.learner)


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
        self.method, self.kernels = method, kernels
        self.plan, self.tasks = method.learner.model.layers, tasks
        self.norms = StepNorms(self.plan if method.own_norms else (), params)
        first = {name: self.norms.values[SHIFT + name][0] for name in self.norms.shifts}  # of the right shape
        self.network = {n: value for n, value in params.items() if not n.startswith(ADDED)} | first
        self.rates = [self._of_step(params, step) for step in range(method.learner.inner_steps)]
        self.weights = [passes.to_matrices(self.plan, self.network)]
        self.runs: list[tuple[passes.Pass | None, Params, Callable[[Tensor], Tensor]]] = []
        tangents = keep and not method.first_order
        support = passes.to_images(self.plan, tasks.support[0])
        for step, rates in enumerate(self.rates):
            now = self.norms.at(self.weights[-1], step)
            run = passes.Pass(self.plan, kernels, now, support, keep=tangents)
            _, d, d_dot = passes.loss_gradient(method.learner, run.outputs, tasks.support[1])
            of_pass = run.gradient(d)
            found = self.norms.times(of_pass, step)
            moved = {
                name: torch.addcmul(value, rates[name], found[name], value=-1) if name in rates else value
                for name, value in self.weights[-1].items()
            }
            self.weights.append(moved)
            if keep:
                self.runs.append((run if tangents else None, of_pass, d_dot))

    def _of_step(self, params: Params, step: int) -> Params:
        """The rate of each matrix that moves: a number, or a matrix of the same layout."""
        method = self.method
        if method.rates is None:
            every = self.network[self.plan[0].weight].new_full((), method.learner.inner_lr)
            return {
                name: every for name in passes.names(self.plan) if name not in method.learner.model.frozen
            }
        if method.rates == "tensor and step":
            rated = [name for name in passes.names(self.plan) if RATE + name in params]
            return {name: params[RATE + name][step] for name in rated}
        own = {name: params.get(RATE + name, value) for name, value in self.network.items()}
        matrices = passes.to_matrices(self.plan, own)
        return {name: matrices[name] for name in matrices if RATE + name in params}

    def of_queries(self, step: int) -> Params:
        """What the queries are run with after so many steps."""
        return self.norms.at(self.weights[step], max(step - 1, 0))

    def gradient(self) -> tuple[Params, list[Params], Tensor]:
        """The gradient in the matrices, task by task; those in the rates of each step; and the losses."""
        steps, learner = len(self.rates), self.method.learner
        query_images = passes.to_images(self.plan, self.tasks.query[0])
        counted = self.method.counted
        losses: Any = 0
        v: Params = {}
        of_rates: list[Params] = []
        for step in range(steps, -1, -1):
            if step in counted:
                last = passes.Pass(self.plan, self.kernels, self.of_queries(step), query_images, keep=False)
                of_step, d, _ = passes.loss_gradient(learner, last.outputs, self.tasks.query[1])
                losses = losses + counted[step] * of_step / len(counted)
                query = last.gradient(counted[step] * d / len(counted))
                query = self.norms.back(self.weights[step], max(step - 1, 0), query)
                v = {name: v[name].add_(query[name]) for name in query} if v else query
                del last
            if step:
                inner, of_pass, d_dot = self.runs.pop()
                rates, found = self.rates[step - 1], self.norms.times(of_pass, step - 1)
                of_rates.insert(0, {name: found[name] * v[name] for name in rates})
                if inner is None:  # of first order
                    continue
                along = {
                    name: rates[name] * value if name in rates else torch.zeros_like(value)
                    for name, value in v.items()
                }
                moving = self.norms.times(along, step - 1)
                back = inner.gradient_tangent(moving, d_dot(inner.tangent(moving)))
                back = self.norms.back(self.weights[step - 1], step - 1, back, -1, along, of_pass)
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
    whole = passes.from_matrices(path.plan, total(v), path.network) | path.norms.gradient
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
    outputs = [of_queries(path.of_queries(step)) for step in range(len(path.weights))]
    return torch.stack([part.expand(len(tasks.query[1]), -1, -1) for part in outputs])
