"""Ways to one meta-gradient: ours, and what users of PyTorch would write or install instead.

Each entry of :data:`WAYS` turns a learner and parameters into a function ``tasks -> (gradient, losses)``.
All of them adapt the same parameters, differentiate through every inner step and are given the same tensors.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from mamlkit import maml, methods
from mamlkit.engine import meta_batch
from mamlkit.maml import Params, Task
from mamlkit.methods import Learner

Way = Callable[[Task], tuple[Params, Tensor]]


class Parameters(torch.nn.Module):
    """Parameters under their names and nothing else."""


class Net(torch.nn.Module):
    """A learner's network as a module, whose adapted parameters are a module of their own."""

    def __init__(self, learner: Learner, params: Params) -> None:
        super().__init__()
        self.network = learner.model
        self.adapted, self.fixed = Parameters(), Parameters()
        for name, value in params.items():
            part = self.fixed if name in learner.model.frozen else self.adapted
            part.register_parameter(name, torch.nn.Parameter(value.clone()))
        self.names = {
            part: [n for n in params if hasattr(getattr(self, part), n)] for part in ("adapted", "fixed")
        }

    def forward(self, inputs: Tensor) -> Tensor:
        params = {n: getattr(getattr(self, part), n) for part, names in self.names.items() for n in names}
        return self.network.apply(params, inputs)


def _each_task(net: Net, tasks: Task, query_loss: Callable[[Task], Tensor]) -> tuple[Params, Tensor]:
    """Back-propagate task by task, as all peers advise: no more than one graph is alive."""
    net.zero_grad()
    losses = []
    count = len(tasks.query[1])
    for i in range(count):
        loss = query_loss(Task(*(tuple(t[i] for t in pair) for pair in tasks)))
        (loss / count).backward()
        losses.append(loss.detach())
    gradient = {n: getattr(getattr(net, part), n).grad for part, names in net.names.items() for n in names}
    return {n: g.clone() for n, g in gradient.items()}, torch.stack(losses)


def _loss(learner: Learner, outputs: Tensor, targets: Tensor) -> Tensor:
    return methods.LOSSES[learner.loss](outputs, targets, learner.shots)


def ours(learner: Learner, params: Params) -> Way:
    return lambda tasks: meta_batch.meta_gradient(methods.maml(learner), params, tasks)


def vmap(learner: Learner, params: Params) -> Way:
    return lambda tasks: maml.meta_gradient(methods.maml(learner).loss, params, tasks)


def loop(learner: Learner, params: Params) -> Way:
    """A Python loop over tasks with ``torch.autograd.grad(..., create_graph=True)``."""
    net = Net(learner, params)

    def query_loss(task: Task) -> Tensor:
        fixed = {n: getattr(net.fixed, n) for n in net.names["fixed"]}
        fast = {n: getattr(net.adapted, n) for n in net.names["adapted"]}
        for _ in range(learner.inner_steps):
            loss = learner.loss_fn({**fast, **fixed}, task.support)
            gradient = torch.autograd.grad(loss, list(fast.values()), create_graph=True)
            fast = {n: w - learner.inner_lr * g for (n, w), g in zip(fast.items(), gradient)}
        return learner.loss_fn({**fast, **fixed}, task.query)

    return lambda tasks: _each_task(net, tasks, query_loss)


def higher(learner: Learner, params: Params) -> Way:
    """``higher.innerloop_ctx`` with its differentiable SGD."""
    import higher as library

    net = Net(learner, params)
    optimiser = torch.optim.SGD(net.adapted.parameters(), lr=learner.inner_lr)

    def query_loss(task: Task) -> Tensor:
        with library.innerloop_ctx(net, optimiser, copy_initial_weights=False) as (functional, inner):
            for _ in range(learner.inner_steps):
                inner.step(_loss(learner, functional(task.support[0]), task.support[1]))
            return _loss(learner, functional(task.query[0]), task.query[1])

    return lambda tasks: _each_task(net, tasks, query_loss)


def torchopt(learner: Learner, params: Params) -> Way:
    """``torchopt.MetaSGD``, the state of the module taken before and put back after each task."""
    import torchopt as library

    net = Net(learner, params)
    inner = library.MetaSGD(net.adapted, lr=learner.inner_lr)

    def query_loss(task: Task) -> Tensor:
        before = (
            library.extract_state_dict(net.adapted, by="reference"),
            library.extract_state_dict(inner, by="reference"),
        )
        for _ in range(learner.inner_steps):
            inner.step(_loss(learner, net(task.support[0]), task.support[1]))
        loss = _loss(learner, net(task.query[0]), task.query[1])
        library.recover_state_dict(net.adapted, before[0])
        library.recover_state_dict(inner, before[1])
        return loss

    return lambda tasks: _each_task(net, tasks, query_loss)


def learn2learn(learner: Learner, params: Params) -> Way:
    """``learn2learn.clone_module`` and ``maml_update``."""
    import learn2learn as library
    from learn2learn.algorithms.maml import maml_update

    net = Net(learner, params)

    def query_loss(task: Task) -> Tensor:
        clone = library.clone_module(net)
        for _ in range(learner.inner_steps):
            loss = _loss(learner, clone(task.support[0]), task.support[1])
            gradient = torch.autograd.grad(loss, list(clone.adapted.parameters()), create_graph=True)
            clone.adapted = maml_update(clone.adapted, learner.inner_lr, gradient)
        return _loss(learner, clone(task.query[0]), task.query[1])

    return lambda tasks: _each_task(net, tasks, query_loss)


WAYS: dict[str, Callable[[Learner, Params], Way]] = {
    "mamlkit": ours,
    "loop": loop,
    "learn2learn": learn2learn,
    "higher": higher,
    "torchopt": torchopt,
    "torch.func vmap": vmap,
}
