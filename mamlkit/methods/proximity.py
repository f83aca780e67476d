"""Methods whose meta-gradient does not go through the inner steps: Reptile and implicit MAML.

In both every parameter moves in the inner update, shifts of batch normalisation too: what did not move would
get no gradient.
"""

__all__ = ["ImplicitMAML", "ReptileAdam", "implicit_maml", "reptile_adam"]

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import grad, grad_and_value, jvp

from mamlkit import maml
from mamlkit.maml import Params, Task
from mamlkit.methods.base import Learner, Method

ADAM_BETA2, ADAM_EPS = 0.999, 1e-8  # the usual ones
TINY = 1e-30  # of a squared residual that is zero


@dataclass(frozen=True)
class ReptileAdam(Method):
    """Reptile (Nichol et al. 2018): theta moves towards theta', found by Adam with beta_1 = 0.

    The loss is half the squared distance between them, where theta' counts as a constant: its gradient is
    theta - theta'. It needs the support examples alone.

    Deviation: every inner step takes all support examples where Reptile takes mini-batches. Adam's memory
    begins anew in each task, so its first step has the length alpha in every coordinate. The outer update is
    the row's, where Reptile adds a fraction of theta' - theta which falls to 0: ``outer="descent, falling"``.

    Args:
        learner: network, loss, and Adam's inner steps and rate.
    """

    def loss(self, params: Params, task: Task) -> Tensor:
        """Half the squared distance from theta to theta'."""
        way = _minus(params, self._path(params, task)[-1])
        return dot(way, way) / 2

    def predict(self, params: Params, task: Task) -> Tensor:
        """Outputs for the query inputs after 0, 1, ... steps: ``[inner_steps + 1, points, outputs]``."""
        return torch.stack([self.learner.outputs(fast, task) for fast in self._path(params, task)])

    def _path(self, params: Params, task: Task) -> list[Params]:
        path = [_constants(params)]
        squares = {name: torch.zeros_like(value) for name, value in params.items()}
        for step in range(1, self.learner.inner_steps + 1):
            gradient = grad(self.learner.loss_fn)(path[-1], task.support)
            squares = {n: ADAM_BETA2 * s + (1 - ADAM_BETA2) * gradient[n] ** 2 for n, s in squares.items()}
            roots = {n: (s / (1 - ADAM_BETA2**step)).sqrt() + ADAM_EPS for n, s in squares.items()}
            lr = self.learner.inner_lr
            path.append({n: value - lr * gradient[n] / roots[n] for n, value in path[-1].items()})
        return path


def reptile_adam(learner: Learner) -> ReptileAdam:
    """Reptile with all parameters of the network."""
    return ReptileAdam(learner.adapting(*learner.model.shapes))


@dataclass(frozen=True)
class ImplicitMAML(Method):
    """Implicit MAML (Rajeswaran et al. 2019): theta' is held near theta, and its derivative needs no steps.

    With L and L' the loss on support and query, theta' is where gradient descent comes to on
    ``L(phi) + lambda / 2 |phi - theta|^2``. At its minimum the meta-gradient is (I + H / lambda)^-1 times
    the gradient of L' at theta', where H is L's Hessian there. Conjugate gradients solve for it.

    As in the authors' code, the matrix is damped: (1 + damping) I + H / (lambda + stiffness). Without that,
    a few solver steps leave a residual that can be larger than none leave, since H is large and indefinite.
    In tests lambda is 0, so the steps are MAML's, as theirs.

    Deviation: lambda pulls in every inner step, as in the paper's equation. Their code takes the steps
    without it, and pulls once at the end.

    Args:
        learner: network, loss and gradient descent.
        pull: lambda.
        solver_steps: of conjugate gradients.
        damping, stiffness: of the matrix; 0 for that of the paper.
    """

    pull: float = 2.0
    solver_steps: int = 5
    damping: float = 1.0
    stiffness: float = 10.0

    def loss(self, params: Params, task: Task) -> Tensor:
        """The query loss after adaptation; its gradient is the implicit one."""
        learner, fast = self.learner, self._held(_constants(params), task)
        of_query = lambda phi: learner.loss_of(learner.outputs(phi, task), task.query[1])
        gradient, value = grad_and_value(of_query)(fast)
        of_support = lambda phi: grad(learner.loss_fn)(phi, task.support)

        def matrix(v: Params) -> Params:
            own, share = 1 + self.damping, self.pull + self.stiffness
            return {
                name: own * v[name] + hv / share for name, hv in jvp(of_support, (fast,), (v,))[1].items()
            }

        solution = _constants(conjugate_gradients(matrix, gradient, self.solver_steps))
        surrogate = dot(solution, params)  # whose gradient is the solution
        return value.detach() + surrogate - surrogate.detach()

    def _held(self, theta: Params, task: Task) -> Params:
        """theta', where gradient descent comes to while lambda pulls back to theta."""

        def loss(phi: Params, support: tuple[Tensor, Tensor]) -> Tensor:
            way = _minus(phi, theta)
            return self.learner.loss_fn(phi, support) + self.pull / 2 * dot(way, way)

        lr, steps = self.learner.inner_lr, self.learner.inner_steps
        return maml.adapt(loss, theta, task.support, inner_lr=lr, inner_steps=steps, first_order=True)

    def predict(self, params: Params, task: Task) -> Tensor:
        """Outputs for the query inputs after 0, 1, ... steps: ``[inner_steps + 1, points, outputs]``."""
        path = self.learner.adaptation_path(params, task.support)
        return torch.stack([self.learner.outputs(fast, task) for fast in path])


def implicit_maml(learner: Learner) -> ImplicitMAML:
    """Implicit MAML with all parameters of the network."""
    return ImplicitMAML(learner.adapting(*learner.model.shapes))


def conjugate_gradients(matrix: Callable[[Params], Params], wanted: Params, steps: int) -> Params:
    """x with matrix(x) = wanted, after so many steps from 0, for a symmetric matrix.

    Where it curves down along a direction they end: further ones would not be conjugate.
    """
    x = {name: torch.zeros_like(value) for name, value in wanted.items()}
    residual = direction = wanted
    size = dot(residual, residual)
    going = torch.ones_like(size, dtype=torch.bool)
    for _ in range(steps):
        image = matrix(direction)
        curvature = dot(direction, image)
        going = going & (curvature > 0)
        far = torch.where(going, size / curvature, 0)
        x = {name: value + far * direction[name] for name, value in x.items()}
        residual = {name: value - far * image[name] for name, value in residual.items()}
        before, size = size, dot(residual, residual)
        direction = {n: value + size / (before + TINY) * direction[n] for n, value in residual.items()}
    return x


def dot(a: Params, b: Params) -> Tensor:
    """The sum of products of all numbers of two parameter dictionaries: a scalar."""
    return torch.stack([(value * b[name]).sum() for name, value in a.items()]).sum()


def _minus(a: Params, b: Params) -> Params:
    return {name: value - b[name] for name, value in a.items()}


def _constants(params: Params) -> Params:
    return {name: value.detach() for name, value in params.items()}
