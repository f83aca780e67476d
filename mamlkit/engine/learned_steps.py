"""The meta-learner LSTM: gradients of each step by the passes, the LSTM's recursion by PyTorch.

Gradients and losses count as constants, so no tangent is asked for: the way back goes through the LSTM alone.
"""

__all__ = ["gradient", "is_for", "predictions"]

from types import ModuleType
from typing import TypeGuard

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mamlkit.engine import passes, queries
from mamlkit.maml import Params, Task
from mamlkit.methods.base import Method
from mamlkit.methods.meta_lstm import SHAPES, MetaLearnerLSTM, State


def is_for(method: Method, tasks: Task) -> TypeGuard[MetaLearnerLSTM]:
    """Whether this is the method as it is written, with something that moves, of a learner with passes."""
    if type(method) is not MetaLearnerLSTM or not method.learner.inner_steps:
        return False
    return passes.are_for(method.learner) and bool(_moving(method))


def gradient(
    method: MetaLearnerLSTM, kernels: ModuleType, params: Params, tasks: Task
) -> tuple[Params, Tensor]:
    """Sum of the gradients of some tasks in all of params, and their losses.

    Args:
        method: one that :func:`is_for` has taken.
        kernels: as for :class:`mamlkit.engine.passes.Pass`.
        params: theta.
        tasks: a meta-batch, or a part of one.
    """
    plan = method.learner.model.layers
    with torch.enable_grad():
        leaves = {name: params[name].detach().requires_grad_() for name in SHAPES}
        weights, begun, state = _path(method, kernels, params, leaves, tasks)
    final = passes.Pass(plan, kernels, weights[-1], passes.to_images(plan, tasks.query[0]), keep=False)
    losses, d, _ = passes.loss_gradient(method.learner, final.outputs, tasks.query[1])
    v = final.gradient(d)
    moving = _moving(method)
    of_cell = torch.cat([v[name].flatten(1) for name in moving], 1)
    found = torch.autograd.grad(state.cell, [begun, *leaves.values()], of_cell)
    moved = dict(zip(moving, found[0].split([weights[0][name].numel() for name in moving])))
    total = {
        name: moved[name].view_as(value) if name in moved else v[name].sum(0)
        for name, value in weights[0].items()
    }
    network = {name: value for name, value in params.items() if name not in SHAPES}
    return passes.from_matrices(plan, total, network) | dict(zip(leaves, found[1:])), losses


@torch.no_grad()
def predictions(method: MetaLearnerLSTM, kernels: ModuleType, params: Params, tasks: Task) -> Tensor:
    """Outputs ``[inner_steps + 1, tasks, points, outputs]``; arguments as for :func:`gradient`."""
    weights, _, _ = _path(method, kernels, params, {name: params[name] for name in SHAPES}, tasks)
    of_queries = queries.outputs(method.learner, kernels, tasks)
    outputs = [of_queries(each).expand(len(tasks.query[1]), -1, -1) for each in weights]
    return torch.stack(outputs)


def _moving(method: MetaLearnerLSTM) -> list[str]:
    model = method.learner.model
    return [name for name in passes.names(model.layers) if name not in model.frozen]


def _path(
    method: MetaLearnerLSTM, kernels: ModuleType, params: Params, lstm: Params, tasks: Task
) -> tuple[list[Params], Tensor, State]:
    """Weights after 0, 1, ... steps without a graph, the cell's first value, and the last state.

    With gradients a step's insides, some hundred numbers for each coordinate, are computed again on the way
    back.
    """
    plan, moving = method.learner.model.layers, _moving(method)
    support, targets = passes.to_images(plan, tasks.support[0]), tasks.support[1]
    network = {name: value for name, value in params.items() if name not in SHAPES}
    weights = [passes.to_matrices(plan, network)]
    sizes = [weights[0][name].numel() for name in moving]
    begun = torch.cat([weights[0][name].detach().flatten() for name in moving])
    begun.requires_grad_(torch.is_grad_enabled())
    state = method.first(begun.expand(len(targets), -1))
    for _ in range(method.learner.inner_steps):
        with torch.no_grad():
            run = passes.Pass(plan, kernels, weights[-1], support, keep=False)
            losses, d, _ = passes.loss_gradient(method.learner, run.outputs, targets)
            found = run.gradient(d)
            slope = torch.cat([found[name].flatten(1) for name in moving], 1) / targets.shape[1]
            del run
        step = method.step, lstm, state, slope, losses[:, None]
        after = checkpoint(*step, use_reentrant=False, preserve_rng_state=False)  # none is drawn in it
        state = State(*after)
        parts = state.cell.detach().split(sizes, 1)
        moved = {name: part.unflatten(1, weights[0][name].shape) for name, part in zip(moving, parts)}
        weights.append(
            {name: moved[name].contiguous() if name in moved else value for name, value in weights[0].items()}
        )
    return weights, begun, state
