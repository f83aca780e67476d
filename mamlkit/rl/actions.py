"""What a policy with a memory can do at a step: one of some choices, or a Gaussian move."""

__all__ = ["POLICY", "Actions", "Choices", "Moves"]

import math
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from mamlkit.maml import Params
from mamlkit.rl.policy import log_prob

POLICY = "policy"  # begins the names of the policy's parameters
LOG_STD = f"{POLICY}_log_std"


class Actions(Protocol):
    """What can be done at a step, and how a policy's outputs say which of it.

    Args:
        size: outputs of the policy, and numbers that it is told of an action.
    """

    size: int

    def init(self) -> Params:
        """Parameters of the policy beside its network's."""

    def noise(self, tasks: int, time: int, generator: Generator) -> Tensor:
        """Random numbers that actions are drawn with, ``[tasks, time, ...]``."""

    def told(self, actions: Tensor) -> Tensor:
        """Actions as the network gets them, ``[..., size]``."""

    def outputs(self, head: Tensor) -> Tensor:
        """What the other functions take, from what the network's head gives, ``[..., size]``."""

    def draw(self, params: Params, outputs: Tensor, noise: Tensor, most_probable: bool) -> Tensor:
        """An action of each task, from outputs ``[tasks, size]`` and noise ``[tasks, ...]``."""

    def log_probs(self, params: Params, outputs: Tensor, actions: Tensor) -> Tensor:
        """Log-probability or log-density of actions, ``[...]`` for outputs ``[..., size]``."""

    def entropy(self, params: Params, outputs: Tensor) -> Tensor:
        """Of the policy at each step, in nats, ``[...]`` for outputs ``[..., size]``."""


class Choices(NamedTuple):
    """One of so many actions, int64; outputs are log-probabilities."""

    size: int

    def init(self) -> Params:
        return {}

    def noise(self, tasks: int, time: int, generator: Generator) -> Tensor:
        return torch.rand(tasks, time, generator=generator)

    def told(self, actions: Tensor) -> Tensor:
        return F.one_hot(actions, self.size)

    def outputs(self, head: Tensor) -> Tensor:
        return head.log_softmax(-1)

    def draw(self, params: Params, outputs: Tensor, noise: Tensor, most_probable: bool) -> Tensor:
        if most_probable:
            return outputs.argmax(-1)
        below = outputs.exp().cumsum(-1) < noise[:, None]  # rounding may leave the last sum under a draw
        return below.sum(-1).clamp(max=self.size - 1)

    def log_probs(self, params: Params, outputs: Tensor, actions: Tensor) -> Tensor:
        return outputs.gather(-1, actions[..., None])[..., 0]

    def entropy(self, params: Params, outputs: Tensor) -> Tensor:
        return -(outputs.exp() * outputs).sum(-1)


class Moves(NamedTuple):
    """So many numbers, Gaussian about the outputs, with deviations that are the same at every step.

    The policy is told what it has drawn, before the environment clips it.
    """

    size: int

    def init(self) -> Params:
        return {LOG_STD: torch.zeros(self.size)}

    def noise(self, tasks: int, time: int, generator: Generator) -> Tensor:
        return torch.randn(tasks, time, self.size, generator=generator)

    def told(self, actions: Tensor) -> Tensor:
        return actions

    def outputs(self, head: Tensor) -> Tensor:
        return head

    def draw(self, params: Params, outputs: Tensor, noise: Tensor, most_probable: bool) -> Tensor:
        return outputs if most_probable else outputs + params[LOG_STD].exp() * noise

    def log_probs(self, params: Params, outputs: Tensor, actions: Tensor) -> Tensor:
        return log_prob(outputs, params[LOG_STD], actions)

    def entropy(self, params: Params, outputs: Tensor) -> Tensor:
        of_one = params[LOG_STD].sum() + 0.5 * self.size * math.log(2 * math.pi * math.e)
        return of_one.expand(outputs.shape[:-1])
