"""What a difference from the paper says: margins that matter, and verdicts. No torch here."""

__all__ = [
    "ACCURACY_MARGIN",
    "MSE_MARGIN",
    "NOT_JUDGED",
    "OWN_VERDICTS",
    "RETURN_MARGIN",
    "WIDE",
    "WITHOUT_RESULT",
    "WORDS",
    "css_class",
    "margin",
    "paper_curves",
    "verdict",
]

import math

import pandas as pd

ACCURACY_MARGIN = 1.0  # percentage points
MSE_MARGIN = 0.10  # of the published error
RETURN_MARGIN = 0.10  # of what the paper gains in its first step
WIDE = 3.0  # margins: an interval of a larger half-width says nothing
WORDS = ("reproduced", "consistent", "inconclusive", "differs")
NOT_JUDGED = "not judged"  # ours is shown, but is of something else, or the number says nothing of a method
WITHOUT_RESULT = ("begun", "not run")  # how the words for a row without a result begin
OWN_VERDICTS = (*WORDS, NOT_JUDGED, "partial", "stale", *WITHOUT_RESULT)  # in the order of a count


def css_class(verdict: str) -> str:
    """The style of a verdict on a page; what stands in brackets after it does not count.

    >>> css_class("not run"), css_class("partial (5,000 of 60,000)")
    ('verdict-not-run', 'verdict-partial')
    """
    return f"verdict-{verdict.partition(' (')[0].replace(' ', '-')}"


def verdict(difference: float, ci95: float, margin: float) -> str:
    """What an interval of the difference (ours less the paper's) says, given the margin that matters.

    *reproduced*: it lies inside the margin. *consistent*: it contains zero but reaches beyond the margin.
    *inconclusive*: so it does, but its half-width is more than :data:`WIDE` margins, so that it would contain
    zero beside large differences as well. *differs*: it does not contain zero, and reaches beyond the margin.

    >>> verdict(0.2, 0.5, 1.0), verdict(0.2, 1.5, 1.0), verdict(0.2, 3.5, 1.0), verdict(2.0, 0.5, 1.0)
    ('reproduced', 'consistent', 'inconclusive', 'differs')
    """
    if not (math.isfinite(difference) and ci95 >= 0 and margin > 0):
        raise ValueError(
            f"difference={difference}, ci95={ci95}, margin={margin}: they must be finite, >= 0 and > 0"
        )
    low, high = difference - ci95, difference + ci95
    if -margin <= low and high <= margin:
        return "reproduced"
    if not low <= 0 <= high:
        return "differs"
    return "consistent" if ci95 <= WIDE * margin else "inconclusive"


def paper_curves(paper: pd.DataFrame) -> dict[tuple[str, str], dict[int, float]]:
    """The curves of the paper's figures: by setting and method, the value after each step."""
    drawn = paper[paper.place.str.startswith("Fig.")]
    return {key: dict(zip(curve.step, curve.value)) for key, curve in drawn.groupby(["setting", "method"])}


def margin(line: pd.Series, drawn: dict[tuple[str, str], dict[int, float]]) -> float:
    """The difference that matters for a published number, given the paper's :func:`paper_curves`.

    One point of accuracy, a tenth of an MSE; of a return a tenth of what MAML gains in its first step there,
    or of what the method's own curve spans, if that is less.
    """
    if line.metric == "accuracy":
        return ACCURACY_MARGIN
    if line.metric == "mse":
        return MSE_MARGIN * line.value
    maml, own = drawn[line.setting, "MAML"], drawn.get((line.setting, line.method), {}).values()
    gain = abs(maml[1] - maml[0])
    return RETURN_MARGIN * (min(gain, max(own) - min(own)) if len(set(own)) > 1 else gain)
