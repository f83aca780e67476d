"""Errors and returns of test tasks over inner steps: means, and which tasks have diverged. No torch here."""

__all__ = [
    "DIVERGED_MSE",
    "EXPLODED_MSE",
    "SEEDS_KEPT",
    "STEPS_KEPT",
    "Z95",
    "diverged",
    "interval",
    "statistics",
]

import math
from typing import Any

import numpy as np

Z95 = 1.96  # the paper's interval over 600 tasks
DECIMALS = 6  # of a committed mean: far below its standard error
DIVERGED_MSE = 25.0  # A^2 at most, which predicting zero never exceeds: see diverged()
EXPLODED_MSE = 1000.0  # no overshoot but an explosion, even if it lands well in the end
STEPS_KEPT = (0, 1, 3, 5, 10, 12, 16, 50)  # of a task's curve; means are kept for all
SEEDS_KEPT = 3  # of a row, whose errors task by task are committed; further ones follow from their parameters


def interval(values: Any) -> tuple[float, float]:
    """Mean over tasks, and half of its 95 % interval as the paper has it.

    Args:
        values: errors, accuracies or returns ``[tasks]``, an array or a tensor.

    Example:
        >>> interval(np.array([40.0, 60.0]))
        (50.0, 19.6)
    """
    values = np.asarray(values, dtype=float)
    half = Z95 * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean()), round(float(half), DECIMALS)


def diverged(errors: np.ndarray) -> np.ndarray:
    """Where gradient descent on a regression task has diverged: a mask of the shape of ``errors``.

    It diverges on up to a few tasks in a thousand, to errors that swamp any mean: whether a sample holds such
    a task would decide the number. A task has diverged at a step if its error there is above
    :data:`EXPLODED_MSE`, or above :data:`DIVERGED_MSE` there and at the last step as well. One that
    overshoots and comes back has not.

    Args:
        errors: mean squared errors ``[..., steps]``.
    """
    above = ~(errors <= DIVERGED_MSE)  # written so that NaN counts
    return above & above[..., -1:] | ~(errors <= EXPLODED_MSE)


def statistics(metric: str, values: np.ndarray) -> dict[str, Any]:
    """Mean and standard deviation over tasks at each step, diverged tasks counted apart.

    ``mean`` and ``sd`` leave the diverged out (see :func:`diverged`), ``diverged`` counts them, and
    ``mean_of_all`` leaves nothing out (None where it is not finite). Accuracies have no such tasks, returns
    where they are NaN.

    Args:
        metric: ``"mse"``, or another, of which a task is left out only where it is not finite.
        values: error or accuracy ``[tasks, steps]``.

    Example:
        >>> statistics("mse", np.array([[1.0, 30.0, 2.0], [3.0, 30.0, 1e9]]))["mean"]
        [2.0, 30.0, 2.0]
    """
    out = diverged(values) if metric == "mse" else ~np.isfinite(values)
    kept: np.ma.MaskedArray[Any, Any] = np.ma.array(values, mask=out, dtype=float)
    rounded = lambda of_steps: np.ma.filled(of_steps, np.nan).round(DECIMALS).tolist()
    of_all = values.mean(0, dtype=float).tolist()
    return {
        "mean": rounded(kept.mean(0)),
        "sd": rounded(kept.std(0)),
        "tasks": len(values),
        "diverged": out.sum(0).tolist(),
        "mean_of_all": [round(v, DECIMALS) if np.isfinite(v) else None for v in of_all],
    }
