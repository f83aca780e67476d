"""Verdicts as pictures: a forest plot of published numbers, and how many have which verdict. No torch here.

They are HTML that the page's style sheet draws (``book/_static/book.css``), so they have no files, follow the
dark mode and the width of a phone, and every number in them is text.
"""

__all__ = ["TICKS", "bar", "plot", "position"]

import math
from html import escape

import pandas as pd

from mamlkit.report.notebook import fixed
from mamlkit.report.verdicts import OWN_VERDICTS, css_class

TICKS = (-30, -10, -3, -1, 0, 1, 3, 10, 30)  # margins
FARTHEST = 60.0  # margins at the ends of the axis
KEY = (
    "Dot: how far our number is from the paper's. Coloured bar: the interval of that difference. "
    "Grey bar: the paper's interval. Band: the margin."
)


def position(margins: float) -> float:
    """Where on the axis, from 0 to 100, a difference of so many margins lies; beyond the ends it is an end.

    The axis is logarithmic outwards, since differences lie between a tenth of a margin and sixty.

    >>> position(0.0), position(-60.0), position(1e9)
    (50.0, 0.0, 100.0)
    """
    far = math.copysign(math.log1p(min(abs(margins), FARTHEST)) / math.log1p(FARTHEST), margins)
    return round(50 + 50 * far, 2)


def plot(found: pd.DataFrame) -> str:
    """One line per published number that we have one of: the margin, the paper's interval about zero, and the
    difference of ours with its own, by which the verdict goes.

    Args:
        found: lines of :func:`mamlkit.report.pages.printed_table` with ``ours``; empty gives no plot.
    """
    if found.empty:
        return ""
    lines = [_line(line, found.setting.nunique() > 1) for _, line in found.iterrows()]
    ticks = "".join(f'<i style="left:{position(tick)}%">{fixed(tick, 0, signed=True)}</i>' for tick in TICKS)
    axis = (
        '<li class="axis" aria-hidden="true"><span>difference in margins</span>'
        f"<b>{ticks}</b><span></span></li>"
    )
    return _raw(f'<ul class="forest">{"".join(lines)}{axis}</ul>\n<p class="forest-key">{KEY}</p>')


def bar(verdicts: pd.Series) -> str:
    """How many numbers have which verdict, as a bar with a legend.

    Args:
        verdicts: a word for each number; what stands in brackets after it does not count.
    """
    counts = verdicts.str.partition(" (")[0].value_counts()
    words = [w for w in OWN_VERDICTS if w in counts]
    parts = "".join(f'<i class="{css_class(w)}" style="flex:{counts[w]}"></i>' for w in words)
    legend = ", ".join(f'<span class="{css_class(w)}">{w}</span> {counts[w]}' for w in words)
    return _raw(
        f'<div class="counts"><div aria-hidden="true">{parts}</div>'
        f"<p>Of {counts.sum()} numbers of the paper: {legend}.</p></div>"
    )


def _line(line: pd.Series, with_setting: bool) -> str:
    scaled = lambda value: 0.0 if pd.isna(value) else value / line.margin
    difference, paper, ours = map(scaled, (line.difference, line.paper_ci95, line.difference_ci95))
    marks = (
        _span("margin", -1, 1)
        + (_span("paper", -paper, paper) if paper else "")
        + _span("ours", difference - ours, difference + ours)
        + f'<i class="point" style="left:{position(difference)}%"></i>'
    )
    setting = f"{line.setting}, " if with_setting else ""
    name = escape(f"{setting}{line.method}, step\N{NO-BREAK SPACE}{line.step}")
    far = fixed(difference, 1, signed=True)
    return (
        f'<li class="{css_class(line.verdict)}"><span>{name}</span>'
        f'<b role="img" aria-label="{far} margins, {line.verdict}">{marks}</b><span>{far}</span></li>'
    )


def _span(kind: str, low: float, high: float) -> str:
    left, right = position(low), position(high)
    return f'<i class="{kind}" style="left:{left}%;width:{right - left:.2f}%"></i>'


def _raw(html: str) -> str:
    return f"```{{raw}} html\n{html}\n```\n"
