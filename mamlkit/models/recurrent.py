"""A recurrent cell as functions of the parameter dictionary."""

__all__ = ["init_lstm", "lstm"]

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from mamlkit.maml import Params
from mamlkit.models.parts import xavier_uniform


def init_lstm(name: str, inputs: int, units: int, generator: Generator) -> Params:
    """The parameters of a cell: Xavier weights, zero biases.

    Args:
        name: begins the names of the parameters.
        inputs: numbers that come in at each step.
        units: numbers that it keeps, and gives out.
        generator: of the weights.

    Returns:
        ``name_inputs [4 units, inputs]``, ``name_state [4 units, units]``, ``name_bias [4 units]``.
    """
    return {
        f"{name}_inputs": xavier_uniform((4 * units, inputs), generator),
        f"{name}_state": xavier_uniform((4 * units, units), generator),
        f"{name}_bias": torch.zeros(4 * units),
    }


def lstm(params: Params, name: str, inputs: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """One step of a long short-term memory: ``c' = f c + i g``, ``h' = o tanh(c')``.

    The gates i, f, g, o lie in this order along the rows of the parameters, as in PyTorch's own cell.

    Args:
        params: at least those of :func:`init_lstm`.
        name: of the cell.
        inputs: ``[..., inputs]``.
        state: output h and cell c of the step before, ``[..., units]`` each.

    Returns:
        The new output and cell.
    """
    hidden, cell = state
    gates = F.linear(inputs, params[f"{name}_inputs"], params[f"{name}_bias"])
    i, f, g, o = (gates + F.linear(hidden, params[f"{name}_state"])).chunk(4, -1)
    cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
    return o.sigmoid() * cell.tanh(), cell
