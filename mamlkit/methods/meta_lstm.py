"""The meta-learner LSTM: how much of a parameter to keep and how far to step is learned.

Ravi & Larochelle (2017). Gradient descent read as an LSTM's cell, theta_t = f_t theta_{t-1} - i_t g_t: the
gates f and i of each coordinate come from what an LSTM has seen of its gradient and of the loss.
"""

__all__ = ["MetaLearnerLSTM", "State", "meta_learner_lstm"]

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.func import grad_and_value

from mamlkit.maml import Params, Task
from mamlkit.methods.base import Learner, Method
from mamlkit.methods.coordinates import lstm_step, preprocess

UNITS, INPUTS = 20, 4  # gradient and loss, two inputs each
WEIGHT_RANGE = 0.01
KEEP, STEP = (4.0, 5.0), (-5.0, -4.0)  # of the gates' first biases: keep .989, step .011
SHAPES = {
    "lstm": (4 * UNITS, INPUTS + UNITS),
    "lstm_bias": (4 * UNITS,),
    "forget_gate": (1, UNITS + 2),
    "forget_gate_bias": (1,),
    "input_gate": (1, UNITS + 2),
    "input_gate_bias": (1,),
}


class State(NamedTuple):
    """What a step leaves to the next, coordinate by coordinate.

    Args:
        cell: the coordinates themselves, ``[..., coordinates]``.
        hidden, memory: of the LSTM, ``[..., coordinates, UNITS]``.
        keep, step: the gates before their sigmoids, ``[..., coordinates]``.
    """

    cell: Tensor
    hidden: Tensor
    memory: Tensor
    keep: Tensor
    step: Tensor


@dataclass(frozen=True)
class MetaLearnerLSTM(Method):
    """Inner steps by an LSTM that is the same for every coordinate; the cell is the coordinate itself.

    A task starts from the network's parameters in theta, the cell's first value. Gradient and loss count as
    constants, so it is a first-order method. The learner's rate is not used: steps are learned.

    Where the paper leaves a choice, the authors' code decides: the gradient of the mean loss is divided by
    the number of support points once more, and gates see the previous gates before the sigmoid, at first 0.

    Deviation: which parameters adapt, and batch normalisation, are the project's (no scale, shifts not
    adapted, statistics of the queries or, where a learner is not transductive, of the support); the authors
    collect running statistics in each task. The inner loss is the learner's, where theirs is the mean. They
    take one task per update, and bound the norm of its gradient.

    Args:
        learner: network, loss, number of steps.
    """

    def init(self, generator: Generator) -> Params:
        """The network's parameters, and the LSTM's: 2,046 numbers, small but for the gates' biases."""
        params = super().init(generator)
        uniform = lambda shape, low, high: torch.empty(shape).uniform_(low, high, generator=generator)
        params |= {name: uniform(shape, -WEIGHT_RANGE, WEIGHT_RANGE) for name, shape in SHAPES.items()}
        return params | {"forget_gate_bias": uniform(1, *KEEP), "input_gate_bias": uniform(1, *STEP)}

    def path(self, params: Params, support: tuple[Tensor, Tensor]) -> list[Params]:
        """The network's parameters after 0, 1, ... ``inner_steps`` steps on the support examples."""
        network = {name: value for name, value in params.items() if name not in SHAPES}
        names = [name for name in network if name not in self.learner.model.frozen]
        state = self.first(torch.cat([network[name].flatten() for name in names]))
        found = [network]
        for _ in range(self.learner.inner_steps):
            held = {name: value.detach() for name, value in found[-1].items()}
            slopes, loss = grad_and_value(self.learner.loss_fn)(held, support)
            slope = torch.cat([slopes[name].flatten() for name in names]) / len(support[1])
            state = self.step(params, state, slope, loss)
            parts = state.cell.split([network[name].numel() for name in names])
            found.append(
                {**network, **{name: part.view_as(network[name]) for name, part in zip(names, parts)}}
            )
        return found

    @staticmethod
    def first(cell: Tensor) -> State:
        """The state before the first step, of coordinates ``[..., coordinates]``."""
        hidden, memory = (cell.new_zeros(*cell.shape, UNITS) for _ in range(2))
        return State(cell, hidden, memory, torch.zeros_like(cell), torch.zeros_like(cell))

    @classmethod
    def step(cls, params: Params, state: State, slope: Tensor, loss: Tensor) -> State:
        """The next state.

        Args:
            params: the LSTM's, of the names in ``SHAPES``.
            state: the one before.
            slope: gradient of each coordinate, ``[..., coordinates]``.
            loss: where it was taken, of a shape that expands to that of the slope.
        """
        seen = torch.cat([preprocess(loss).expand(*slope.shape, 2), preprocess(slope)], -1)
        hidden, memory = lstm_step(params["lstm"], params["lstm_bias"], seen, state.hidden, state.memory)
        keep = cls._gate(params, "forget_gate", hidden, state.cell, state.keep)
        step = cls._gate(params, "input_gate", hidden, state.cell, state.step)
        return State(keep.sigmoid() * state.cell - step.sigmoid() * slope, hidden, memory, keep, step)

    @staticmethod
    def _gate(params: Params, name: str, hidden: Tensor, cell: Tensor, before: Tensor) -> Tensor:
        """A gate of each coordinate before its sigmoid, from the LSTM, the coordinate and the gate before."""
        seen = torch.cat([hidden, cell[..., None], before[..., None]], -1)
        return F.linear(seen, params[name], params[f"{name}_bias"])[..., 0]

    def loss(self, params: Params, task: Task) -> Tensor:
        """The query loss after the last step."""
        fast = self.path(params, task.support)[-1]
        return self.learner.loss_of(self.learner.outputs(fast, task), task.query[1])

    def predict(self, params: Params, task: Task) -> Tensor:
        """Outputs for the query inputs after 0, 1, ... steps: ``[inner_steps + 1, points, outputs]``."""
        path = self.path(params, task.support)
        return torch.stack([self.learner.outputs(fast, task) for fast in path])


def meta_learner_lstm(learner: Learner) -> MetaLearnerLSTM:
    """The learned step of Ravi & Larochelle on this network."""
    return MetaLearnerLSTM(learner)
