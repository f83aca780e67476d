"""Table 2's averages of networks, from both choices of initial values. No torch here.

A page shows what a function returns with the directive ``{from-package} mamlkit.report.averages:NAME``.
"""

__all__ = ["by_start", "starts", "strengths"]

import numpy as np
import pandas as pd

from mamlkit.report import beside, results
from mamlkit.report.committed import benchmark, benchmark_origin
from mamlkit.report.texts import badge, number, numbered, step_words

STARTS = {"": "own initial values", "-same-start": "the same initial values"}


def _published() -> pd.DataFrame:
    paper = results.published()
    return paper[paper.row.str.startswith("sinusoid-average")].reset_index(drop=True)


def by_start() -> dict[str, pd.DataFrame]:
    """Table 2's averages beside ours (:func:`mamlkit.report.beside.table`), by ours' initial values."""
    paper = _published()
    return {words: beside.table(paper.assign(row=paper.row + end)) for end, words in STARTS.items()}


def starts() -> str:
    """Both readings of Table 2's averages beside the paper's numbers, each with its verdict."""
    paper, found = _published(), by_start()
    lines = []
    for place, published in paper.iterrows():
        line = {
            "penalty": published.method.removeprefix("multi-task, "),
            "after": step_words(int(published.step)),
            "paper": number(published.value),
        }
        for words, table in found.items():
            ours = table.loc[place]
            value = number(ours.ours, ours.deciding_ci95)
            line[words] = f"{value} {badge(ours.verdict)}".strip()
        lines.append(line)
    caption = (
        "Mean squared error of the average of 500 networks, each trained on a sinusoid of its own, after "
        "steps of α = 0.01 on 5 points. The paper does not say whether its networks had the same initial "
        "values; each column is one reading. The prediction zero has 4.252, and the best one that is blind "
        "to the task 3.006."
    )
    counts = " and ".join(
        f"{table.verdict.isin(['reproduced', 'consistent']).sum()} of {len(table)} with {words}"
        for words, table in found.items()
    )
    return numbered(lines, caption, "tab-results-averages", ["paper", *STARTS.values()]) + (
        f"\nReproduced, or consistent with the paper, are {counts}.\n"
    )


def strengths() -> str:
    """How many networks come to their sinusoids with penalties of each strength: how ours were chosen."""
    found = benchmark("averages/strength")
    if found.empty:
        return "Not measured yet; `python benchmarks/averages.py --save` does it.\n"
    words = {False: "own initial values", True: "the same"}
    pulls = {"nothing": "none", "zero": "weight decay", "mean": "pull to the mean"}
    lines = []
    for (same, pull), of in found.groupby(["same_start", "pull"], sort=False):
        line = {"initial values": words[same], "penalty": pulls[pull]}
        lines.append(line | {_plain(s): str(n) for s, n in zip(of.strength, of.reached)})
    caption = (
        f"Of {found.networks[0]} networks, how many come to their sinusoids in {found.steps[0]} steps, by "
        f"the strength of the penalty. {benchmark_origin('averages')}."
    )
    return numbered(lines, caption, "tab-averages-strength", map(_plain, found.strength))


def _plain(strength: float) -> str:
    """
    >>> _plain(0.0), _plain(1e-5), _plain(0.1)
    ('0', '0.00001', '0.1')
    """
    return np.format_float_positional(strength, trim="-")
