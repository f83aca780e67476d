"""Errors and returns of test tasks over inner steps: means, and which tasks have diverged. No torch here."""

__all__ = ["DIVERGES", "STEPS_KEPT", "Z95", "interval", "left_out", "seeds_kept", "statistics"]

import math
from typing import Any

import numpy as np

Z95 = 1.96  # the paper's interval over 600 tasks
DECIMALS = 6  # of a committed mean: far below its standard error
# Of a family of regression tasks that has such a rule, two mean squared errors: see left_out(). A sinusoid's
# amplitude is 5 at most, and predicting zero is never worse than its square; a thousand is no overshoot but
# an explosion, even if it lands well in the end.
DIVERGES: dict[str, tuple[float, float]] = dict.fromkeys(
    ("sinusoid", "sinusoid, phase to 2 pi", "sinusoid, frequency too", "sinusoid, task shown"), (25.0, 1000.0)
)
STEPS_KEPT = (0, 1, 3, 5, 10, 12, 16, 50)  # of a task's curve; means are kept for all


def seeds_kept(name: str) -> int:
    """How many seeds of a row have their errors task by task committed: the first three.

    Of a sinusoid it is the first alone. Its tests have thousands of tasks, and the parameters of each seed,
    which are small, give them again in seconds. Where the frequency is drawn, and of averages of networks, it
    is none: no page looks at single tasks of those.

    >>> seeds_kept("omniglot-5way-1shot"), seeds_kept("sinusoid-maml"), seeds_kept("sinusoid-frequency-maml")
    (3, 1, 0)
    """
    if name.startswith(("sinusoid-frequency-", "sinusoid-average")):
        return 0
    return 1 if name.startswith("sinusoid") else 3


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


def left_out(metric: str, values: np.ndarray, family: str | None = "sinusoid") -> np.ndarray:
    """Which tasks are left out of a mean at a step: a mask of the shape of ``values``.

    Where a value is not finite. Of a family in :data:`DIVERGES`, also where gradient descent has diverged:
    MAML's does so on up to a few sinusoids in a thousand, Meta-SGD's further steps on one in ten, to errors
    that swamp any mean, and whether a sample holds such a task would decide the number. A task has diverged
    at a step if its error there is above the second of the family's numbers, or above the first there and at
    the last step as well. One that overshoots and comes back has not.

    Args:
        metric: the rule is for ``"mse"`` alone.
        values: errors, accuracies or returns ``[..., steps]``.
        family: of the tasks, a key of ``mamlkit.tasks.FAMILIES``; None for policies.
    """
    if metric != "mse" or family not in DIVERGES:
        return ~np.isfinite(values)
    bound, explosion = DIVERGES[family]
    above = ~(values <= bound)  # written so that NaN counts
    return above & above[..., -1:] | ~(values <= explosion)


def statistics(metric: str, values: np.ndarray, family: str | None = "sinusoid") -> dict[str, Any]:
    """Mean and standard deviation over tasks at each step, diverged tasks counted apart.

    ``mean`` and ``sd`` leave the diverged out (see :func:`left_out`), ``diverged`` counts them, and
    ``mean_of_all`` leaves nothing out (None where it is not finite). Accuracies have no such tasks, returns
    where they are NaN.

    Args:
        metric, family: see :func:`left_out`.
        values: error or accuracy ``[tasks, steps]``.

    Example:
        >>> statistics("mse", np.array([[1.0, 30.0, 2.0], [3.0, 30.0, 1e9]]))["mean"]
        [2.0, 30.0, 2.0]
    """
    out = left_out(metric, values, family)
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
