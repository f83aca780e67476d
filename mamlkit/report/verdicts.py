"""What a difference from the paper says: margins that matter, and verdicts. No torch here."""

__all__ = ["ACCURACY_MARGIN", "MSE_MARGIN", "RETURN_MARGIN", "margin", "verdict"]

import math

import pandas as pd

ACCURACY_MARGIN = 1.0  # percentage points
MSE_MARGIN = 0.10  # of the published error
RETURN_MARGIN = 0.10  # of what the paper gains in its first step


def verdict(difference: float, ci95: float, margin: float) -> str:
    """What an interval of the difference (ours less the paper's) says, given the margin that matters.

    *reproduced*: it lies inside the margin. *consistent*: it contains zero but reaches beyond the margin.
    *differs*: neither.

    >>> verdict(0.2, 0.5, 1.0), verdict(0.2, 1.5, 1.0), verdict(2.0, 0.5, 1.0)
    ('reproduced', 'consistent', 'differs')
    """
    if not (math.isfinite(difference) and ci95 >= 0 and margin > 0):
        raise ValueError(
            f"difference={difference}, ci95={ci95}, margin={margin}: they must be finite, >= 0 and > 0"
        )
    low, high = difference - ci95, difference + ci95
    if -margin <= low and high <= margin:
        return "reproduced"
    return "consistent" if low <= 0 <= high else "differs"


def margin(line: pd.Series, paper: pd.DataFrame) -> float:
    """The difference that matters for a published number.

    One point of accuracy, a tenth of an MSE; of a return a tenth of what MAML gains in its first step there,
    or of what the method's own curve spans, if that is less.
    """
    if line.metric == "accuracy":
        return ACCURACY_MARGIN
    if line.metric == "mse":
        return MSE_MARGIN * line.value
    drawn = paper[(paper.setting == line.setting) & paper.place.str.startswith("Fig.")].set_index("step")
    curve = lambda method: drawn[drawn.method == method].value
    gain, own = abs(curve("MAML")[1] - curve("MAML")[0]), curve(line.method)
    return RETURN_MARGIN * (min(gain, own.max() - own.min()) if own.nunique() > 1 else gain)
