"""Update rules: the usual ones, and one that is an LSTM (Andrychowicz et al., 2016).

All of them are theta_{t+1} = theta_t + update(gradient), coordinate by coordinate. A rule is a pure function;
what it remembers is handed from step to step. Parameters of an objective are one tensor
``[problems, coordinates]``, so that many problems go together.
"""

__all__ = [
    "RULES",
    "Rule",
    "State",
    "adam",
    "descend",
    "init",
    "learned",
    "momentum",
    "rmsprop",
    "sgd",
    "unroll",
]

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from mamlkit.maml import Params
from mamlkit.methods.coordinates import lstm_step, preprocess
from mamlkit.models.parts import truncated_normal

State = tuple[Tensor, ...]
Loss = Callable[[Tensor, int], Tensor]  # (theta [problems, coordinates], step) -> [problems]
UNITS, LAYERS = 20, 2


class Rule(NamedTuple):
    """An update rule.

    Args:
        begin: ``theta -> state`` before the first step.
        step: ``(gradient, state) -> (update, state)``; the update is added to theta.
    """

    begin: Callable[[Tensor], State]
    step: Callable[[Tensor, State], tuple[Tensor, State]]


def sgd(rate: float) -> Rule:
    """Plain gradient descent."""
    return Rule(lambda theta: (), lambda gradient, state: (-rate * gradient, state))


def momentum(rate: float, decay: float = 0.9) -> Rule:
    """Gradient descent with momentum, as in ``torch.optim.SGD``."""

    def step(gradient: Tensor, state: State) -> tuple[Tensor, State]:
        velocity = decay * state[0] + gradient
        return -rate * velocity, (velocity,)

    return Rule(lambda theta: (torch.zeros_like(theta),), step)


def rmsprop(rate: float, decay: float = 0.99, eps: float = 1e-8) -> Rule:
    """RMSProp with the other settings of ``torch.optim.RMSprop``."""

    def step(gradient: Tensor, state: State) -> tuple[Tensor, State]:
        square = decay * state[0] + (1 - decay) * gradient**2
        return -rate * gradient / (square.sqrt() + eps), (square,)

    return Rule(lambda theta: (torch.zeros_like(theta),), step)


def adam(rate: float, decay: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> Rule:
    """Adam with the other settings of ``torch.optim.Adam``."""

    def begin(theta: Tensor) -> State:
        return torch.zeros_like(theta), torch.zeros_like(theta), torch.zeros((), dtype=torch.float64)

    def step(gradient: Tensor, state: State) -> tuple[Tensor, State]:
        mean, square, count = state
        count = count + 1
        mean = decay[0] * mean + (1 - decay[0]) * gradient
        square = decay[1] * square + (1 - decay[1]) * gradient**2
        large, small = (float(1 - d**count) for d in decay)
        return -rate * (mean / large) / ((square / small).sqrt() + eps), (mean, square, count)

    return Rule(begin, step)


RULES: dict[str, Callable[[float], Rule]] = {
    "SGD": sgd,
    "momentum": momentum,
    "RMSProp": rmsprop,
    "Adam": adam,
}


def init(generator: Generator, inputs: int = 1) -> Params:
    """The first parameters phi of the LSTM: 5,061 numbers, or 5,141 if it has two inputs.

    Truncated normal weights with standard deviation 1 / sqrt(inputs of the layer) and zero biases, but 1 for
    forget gates (the authors' code).

    Args:
        generator: of the weights.
        inputs: of a coordinate: 1, the gradient, or 2, the gradient preprocessed.
    """
    phi = {}
    for layer in range(LAYERS):
        fan_in = (UNITS if layer else inputs) + UNITS
        phi[f"lstm{layer}"] = truncated_normal((4 * UNITS, fan_in), 1 / math.sqrt(fan_in), generator)
        phi[f"lstm{layer}_bias"] = torch.zeros(4 * UNITS)
        phi[f"lstm{layer}_bias"][UNITS : 2 * UNITS] = 1
    output = truncated_normal((1, UNITS), 1 / math.sqrt(UNITS), generator)
    return phi | {"output": output, "output_bias": torch.zeros(1)}


def learned(phi: Params, *, scale: float = 1.0, p: float | None = None) -> Rule:
    """The rule that is an LSTM of two layers, the same for every coordinate; each has its own state.

    Args:
        phi: its parameters, see :func:`init`.
        scale: what its output is multiplied by.
        p: of :func:`mamlkit.methods.coordinates.preprocess`; None gives it the gradient as it is.

    Raises:
        ValueError: phi is of an LSTM with another number of inputs.
    """
    inputs = phi["lstm0"].shape[1] - UNITS
    if inputs != (wanted := 1 if p is None else 2):
        raise ValueError(f"p={p} gives the LSTM {wanted} inputs, but phi has weights for {inputs}")

    def begin(theta: Tensor) -> State:
        return tuple(theta.new_zeros(*theta.shape, UNITS) for _ in range(2 * LAYERS))

    def step(gradient: Tensor, state: State) -> tuple[Tensor, State]:
        x = gradient[..., None] if p is None else preprocess(gradient, p)
        after: list[Tensor] = []
        for layer in range(LAYERS):
            of_layer = state[2 * layer : 2 * layer + 2]
            after += lstm_step(phi[f"lstm{layer}"], phi[f"lstm{layer}_bias"], x, *of_layer)
            x = after[-2]
        return scale * F.linear(x, phi["output"], phi["output_bias"])[..., 0], tuple(after)

    return Rule(begin, step)


def unroll(
    rule: Rule, loss: Loss, theta: Tensor, state: State, steps: range
) -> tuple[Tensor, tuple[Tensor, State]]:
    """Some steps of a rule, through which the losses can be differentiated by what the rule is made of.

    The gradient that the rule sees counts as a constant, as in the paper: no second derivatives of f.

    Args:
        rule: the update.
        loss: f, ``(theta, step) -> [problems]``; the step says which examples, where f is of examples.
        theta: ``[problems, coordinates]``.
        state: of the rule.
        steps: numbers of the steps.

    Returns:
        The losses after each step ``[steps, problems]``, and the parameters and the state after the last.
    """
    losses = []
    for number in steps:
        update, state = rule.step(_gradient(loss, theta, number), state)
        theta = theta + update
        losses.append(loss(theta, number + 1))
    return torch.stack(losses), (theta, state)


@torch.no_grad()
def descend(rule: Rule, objectives: Any, steps: int) -> Tensor:
    """The true losses along a descent, without derivatives: ``[steps + 1, problems]``.

    Args:
        rule: the update.
        objectives: problems, see :class:`mamlkit.tasks.objectives.Objectives`.
        steps: how many.

    Raises:
        ValueError: fewer than none.
    """
    if steps < 0:
        raise ValueError(f"steps={steps}, but it must be at least 0")
    theta, state = objectives.start, rule.begin(objectives.start)
    losses = [objectives.true_loss(theta)]
    for number in range(steps):
        update, state = rule.step(_gradient(objectives.loss, theta, number), state)
        theta = theta + update
        losses.append(objectives.true_loss(theta))
    return torch.stack(losses)


@torch.enable_grad()
def _gradient(loss: Loss, theta: Tensor, step: int) -> Tensor:
    """The gradient of each problem's loss, which hangs on nothing."""
    leaf = theta.detach().requires_grad_()
    return torch.autograd.grad(loss(leaf, step).sum(), leaf)[0]
