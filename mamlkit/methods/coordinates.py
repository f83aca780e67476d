"""What learned updates share: an LSTM that has the same weights for every coordinate, and what it sees.

A coordinate is one number of a network's parameters. Each has its own state and none sees another, so a small
LSTM serves networks of any size.
"""

__all__ = ["lstm_step", "preprocess"]

import math

import torch
import torch.nn.functional as F
from torch import Tensor

MOST_P = 80  # beyond e^88 float32 has no numbers


def preprocess(x: Tensor, p: float = 10.0) -> Tensor:
    """Numbers of any magnitude as two inputs of like size: logarithm and sign.

    ``(log|x| / p, sign x)`` where ``|x|`` is e^-p or more, else (-1, e^p x): both are continuous in x.
    Andrychowicz et al. (2016); Ravi & Larochelle (2017).

    Args:
        x: ``[...]``.
        p: how small a number can be told from zero by its logarithm.

    Returns:
        ``[..., 2]``.

    Raises:
        ValueError: p is not positive, or e^p cannot be told from infinity.

    Example:
        >>> preprocess(torch.tensor([1.0, -1.0, 0.0]), p=10)
        tensor([[ 0.,  1.],
                [ 0., -1.],
                [-1.,  0.]])
    """
    if not 0 < p <= MOST_P:
        raise ValueError(f"p={p}, but it must be positive, at most {MOST_P}")
    magnitude = x.abs().clamp(min=math.exp(-p)).log() / p
    return torch.stack([magnitude, (math.exp(p) * x).clamp(-1, 1)], -1)


def lstm_step(weight: Tensor, bias: Tensor, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """One step of a plain LSTM, without peepholes.

    Args:
        weight: ``[4 * units, inputs + units]``: input gate, forget gate, output gate, new value.
        bias: ``[4 * units]``.
        x: ``[..., inputs]``.
        hidden, cell: the state, ``[..., units]``.

    Returns:
        The next hidden state, which is the output, and the next cell.
    """
    gates, new = F.linear(torch.cat([x, hidden], -1), weight, bias).split(
        [3 * cell.shape[-1], cell.shape[-1]], -1
    )
    let_in, keep, let_out = gates.sigmoid().chunk(3, -1)
    cell = keep * cell + let_in * new.tanh()
    return let_out * cell.tanh(), cell
