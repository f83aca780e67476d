"""Numbers, verdicts and captioned tables as the text that pages and notebooks show. No torch here."""

__all__ = ["badge", "decimals", "measured_effect", "number", "numbered", "step_words"]

import math
from collections.abc import Iterable

import pandas as pd

from mamlkit.report.notebook import captioned, fixed, markdown_table
from mamlkit.report.verdicts import css_class

# columns that are set to the right
NUMBERS = ("steps", "paper", "ours", "median", "difference", "diverged")


def badge(verdict: str) -> str:
    """A verdict as a badge, in the one form that the site and JupyterLab both show; what stands in brackets
    follows it.

    >>> badge("partial (5,000 of 60,000)")
    '<span class="verdict-partial">partial</span> 5,000 of 60,000'
    """
    word, _, detail = verdict.rstrip(")").partition(" (")
    return f'<span class="{css_class(word)}">{word}</span> {detail}'.rstrip()


def number(value: float, ci95: float = math.nan, signed: bool = False, digits: int | None = None) -> str:
    """A number with its interval.

    The interval has one significant digit (two after a 1 or a 2) and at least one decimal, or both numbers
    have ``digits`` decimals.

    >>> number(0.35321, 0.01234), number(-40.4, 4.06), number(98.7), number(1.5, 0.25, signed=True)
    ('0.353 ± 0.012', '−40.4 ± 4.1', '98.70', '+1.50 ± 0.25')
    >>> number(-0.04, 5.7, signed=True)
    '0.0 ± 5.7'
    """
    if math.isnan(value):
        return ""
    digits = decimals(ci95) if digits is None else digits
    text = fixed(value, digits, signed)
    return text if math.isnan(ci95) else f"{text} ± {ci95:.{digits}f}"


def decimals(ci95: float) -> int:
    """How many decimals suit an interval: between 1 and 5; 2 where there is none."""
    if math.isnan(ci95) or ci95 <= 0:
        return 2
    place = math.floor(math.log10(ci95))
    return min(max((1 if ci95 < 3 * 10**place else 0) - place, 1), 5)


def measured_effect(parts: Iterable[str | None]) -> str:
    """The paragraph about what a deviation does to the numbers, from those sentences that there are."""
    sentences = [part for part in parts if part]
    return (
        " ".join(["**Measured effect.**", *sentences]) if sentences else "The effect was not measured."
    ) + "\n"


def step_words(step: int) -> str:
    """A number of gradient steps.

    >>> step_words(1), step_words(10)
    ('1 step', '10 steps')
    """
    return f"{step} step" + ("" if step == 1 else "s")


def numbered(lines: list[dict[str, str]], caption: str, name: str, right: Iterable[str] = NUMBERS) -> str:
    """A captioned table that pages can refer to.

    Args:
        lines: column to cell, line by line; columns without any content are left out, and a ``state`` that is
            complete throughout.
        caption: of the table.
        name: its label.
        right: columns that are set to the right beside those of plain numbers.
    """
    frame = pd.DataFrame(lines).replace("", None).dropna(axis="columns", how="all")
    if "state" in frame and (frame.state == badge("complete")).all():
        frame = frame.drop(columns="state")
    return captioned(markdown_table(frame, set(right)), caption, name) + "\n"
