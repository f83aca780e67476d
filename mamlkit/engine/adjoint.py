"""The adjoint recursion over passes of a network: gradients and predictions of some tasks.

:mod:`mamlkit.engine.meta_batch` cuts a meta-batch into parts, each of which comes here, and adds up.
"""

__all__ = ["gradient", "predictions"]

from collections import deque
from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor

from mamlkit.engine import passes, queries
from mamlkit.maml import Params, Task
from mamlkit.methods.base import Learner
from mamlkit.methods.gradient import GradientMethod

# Of passes that are kept for their derivatives; older ones are run again. A CPU's thread has a part of the
# tasks, a GPU has all of them.
KEPT_BYTES = 128 << 20
KEPT_BYTES_OF_GPU = 4 << 30


@torch.no_grad()
def predictions(learner: Learner, kernels: ModuleType, weights: Params, tasks: Task) -> Tensor:
    """Outputs for the queries of some tasks, ``[inner_steps + 1, tasks, points, outputs]``."""
    plan = learner.model.layers
    support, of_queries = passes.to_images(plan, tasks.support[0]), queries.outputs(learner, kernels, tasks)
    outputs = [of_queries(weights)]
    for _ in range(learner.inner_steps):
        run = passes.Pass(plan, kernels, weights, support, keep=False)
        weights = _step(
            learner, weights, run.gradient(passes.loss_gradient(learner, run.outputs, tasks.support[1])[1])
        )
        outputs.append(of_queries(weights))
    return torch.stack(outputs)


@torch.no_grad()
def gradient(
    method: GradientMethod, kernels: ModuleType, theta: Params, tasks: Task
) -> tuple[Params, Tensor]:
    """Sum of the gradients of some tasks, and their losses.

    With phi_0 = theta, phi_k+1 = phi_k - alpha g(phi_k) and v_K the query gradient at phi_K, the
    meta-gradient is v_0 of the recursion v_k = v_k+1 - alpha H(phi_k) v_k+1, where H is the Hessian of the
    support loss. No step moves what is frozen, so H is multiplied by v_k+1 with zeros there. The recursion
    needs the phi_k alone: of the passes over the support examples the last are kept, as many as a limit
    allows, and older ones are run again.
    """
    learner = method.learner
    steps = learner.inner_steps if method.adapts else 0
    plan, targets = learner.model.layers, tasks.support[1]
    limit = KEPT_BYTES if targets.device.type == "cpu" else KEPT_BYTES_OF_GPU
    if steps:
        support = passes.to_images(plan, tasks.support[0])

    def inner(weights: Params) -> tuple[passes.Pass, Params, Callable[[Tensor], Tensor]]:
        run = passes.Pass(plan, kernels, weights, support, keep=True)
        _, d, d_dot = passes.loss_gradient(learner, run.outputs, targets)
        return run, run.gradient(d), d_dot

    path = [theta]
    kept: deque[tuple[passes.Pass, Callable[[Tensor], Tensor]]] = deque()
    for _ in range(steps):
        run, gradient, d_dot = inner(path[-1])
        path.append(_step(learner, path[-1], gradient))
        kept.append((run, d_dot))
        while kept and (method.first_order or (len(kept) > 1 and sum(run.bytes for run, _ in kept) > limit)):
            kept.popleft()

    inputs, targets_of_loss = tasks.query if method.adapts else tasks.support
    final = passes.Pass(plan, kernels, path.pop(), passes.to_images(plan, inputs), keep=False)
    losses, d, _ = passes.loss_gradient(learner, final.outputs, targets_of_loss)
    v = final.gradient(d)
    del final
    for weights in [] if method.first_order else reversed(path):
        run, d_dot = kept.pop() if kept else inner(weights)[::2]
        moved = _moved(learner, v)
        hessian_v = run.gradient_tangent(moved, d_dot(run.tangent(moved)))
        v = {name: v[name].sub_(hessian_v[name], alpha=learner.inner_lr) for name in v}
        del run, d_dot
    return {name: value.sum(0) for name, value in v.items()}, losses


def _step(learner: Learner, weights: Params, gradient: Params) -> Params:
    """The inner update; what is frozen stays."""
    frozen = learner.model.frozen
    return {
        n: w if n in frozen else torch.sub(w, gradient[n], alpha=learner.inner_lr) for n, w in weights.items()
    }


def _moved(learner: Learner, v: Params) -> Params:
    """A direction with zeros for what is frozen, but for shifts, which no pass asks for."""
    still = set(learner.model.frozen) - {layer.shift for layer in learner.model.layers}
    return {n: torch.zeros_like(x) if n in still else x for n, x in v.items()}
