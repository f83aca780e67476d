"""Losses of a task, by the name that an experiment has for them."""

__all__ = [
    "LOSSES",
    "check_classes",
    "check_labels",
    "check_values",
    "cross_entropy_mean",
    "cross_entropy_per_shot",
    "log_likelihood",
    "mse",
]

from collections.abc import Callable

import torch
from torch import Tensor


def check_values(shape: tuple[int | None, ...], targets: Tensor) -> None:
    """``ValueError`` for targets that would be stretched over outputs of another shape."""
    if targets.shape != shape:
        came, wanted = tuple(targets.shape), tuple(shape)
        raise ValueError(f"targets are {came}, but outputs are {wanted}; give one target for each output")


def check_labels(shape: tuple[int, ...], labels: Tensor) -> None:
    """``ValueError`` for what is not one class number for each point; shape is that of the points."""
    if labels.dtype != torch.int64:
        raise ValueError(f"labels are {labels.dtype}, but must be whole numbers, torch.int64; use .long()")
    if labels.shape != shape:
        came, wanted = tuple(labels.shape), tuple(shape)
        raise ValueError(f"labels are {came}, but points are {wanted}; give one label for each point")


def mse(outputs: Tensor, targets: Tensor, shots: int = 1) -> Tensor:
    """Mean squared error over the points. Paper: equation 2 (a sum there, in the authors' code a mean)."""
    check_values(outputs.shape, targets)
    return ((outputs - targets) ** 2).mean((-2, -1))


def log_likelihood(outputs: Tensor, labels: Tensor) -> Tensor:
    """Log-probability that a softmax over the outputs gives to each label ``[..., points]``."""
    check_labels(outputs.shape[:-1], labels)
    return outputs.log_softmax(-1).gather(-1, labels[..., None])[..., 0]


def cross_entropy_mean(outputs: Tensor, targets: Tensor, shots: int = 1) -> Tensor:
    """Cross-entropy averaged over the examples: how most reimplementations read equation 3."""
    return -log_likelihood(outputs, targets).mean(-1)


def cross_entropy_per_shot(outputs: Tensor, targets: Tensor, shots: int) -> Tensor:
    """Cross-entropy summed over the examples and divided by the shots K: the authors' reading.

    On the N K support examples it is N times the mean, so the paper's alpha is an N times larger
    step than on :func:`cross_entropy_mean`. Paper: equation 3 (a sum); the division is the authors' code.
    """
    return -log_likelihood(outputs, targets).sum(-1) / shots


LOSSES: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "mse": mse,
    "cross-entropy, mean": cross_entropy_mean,
    "cross-entropy, sum over examples / shots": cross_entropy_per_shot,
}


def check_classes(loss: str) -> None:
    """``ValueError`` for a loss whose targets are no classes."""
    if LOSSES[loss] is mse:
        raise ValueError(f"loss={loss!r}, but this method tells classes apart; use a cross-entropy")
