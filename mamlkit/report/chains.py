"""How many episodes each way to explore takes to solve a chain, from committed results.

Pages show the functions that return text with the directive ``{from-package} mamlkit.report.chains:NAME``.
No torch here.
"""

__all__ = ["episodes", "median_interval", "mixed_ranks", "mixed_solved", "ranks", "solved"]

import math
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import pandas as pd

from mamlkit.experiments import chains
from mamlkit.measures import seeds_kept
from mamlkit.report import results
from mamlkit.report.inventory import state_cells, state_of
from mamlkit.report.texts import numbered

BASE = "epsilon-greedy"  # that others are held against


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The median, and two of the values between which that of all possible ones lies.

    By ranks alone, whatever the distribution: the interval leaves out the true median in at most 5 % of all
    samples. Of fewer than six values there is no such interval, and their ends stand for it.

    Args:
        values: at least one.

    Example:
        >>> median_interval([7, 1, 2, 9, 3, 5, 8, 4, 6, 10])
        (5.5, 2.0, 9.0)
    """
    ranked = np.sort(np.asarray(values, float))
    count = len(ranked)
    tail = accumulate(math.comb(count, k) / 2**count for k in range(count))
    outside = sum(2 * share <= 0.05 for share in tail)  # that many values on each side may be left out
    low = max(0, outside - 1)
    return float(np.median(ranked)), float(ranked[low]), float(ranked[count - 1 - low])


def episodes(mixed: bool = False) -> pd.DataFrame:
    """Episodes to solve a chain, one line for each network of the first seeds; failed ones have the most.

    Args:
        mixed: whether of mixed chains (see :mod:`mamlkit.rl.chain`).

    Returns:
        Columns: way, length, seed, network, episodes. Without lines where nothing was run to its end.
    """
    lines = []
    for way in _ways(mixed):
        name = chains.name_of(way, mixed)
        if state_of(name) != "complete":
            continue
        for result in results.counted(results.load(name)):
            if result["seed"] >= seeds_kept(name):
                continue
            for length in _lengths(mixed):
                found = results.per_task_errors(name, result["seed"], chains.label(length), "episodes")[:, 0]
                lines += [(way, length, result["seed"], k, value) for k, value in enumerate(found)]
    return pd.DataFrame(lines, columns=["way", "length", "seed", "network", "episodes"])


def _ways(mixed: bool) -> tuple[str, ...]:
    return chains.MIXED_WAYS if mixed else tuple(chains.WAYS)


def _lengths(mixed: bool) -> tuple[int, ...]:
    return chains.MIXED_LENGTHS if mixed else chains.LENGTHS


def solved() -> str:
    """Each way on each length: the median of episodes, its interval, and how many networks failed."""
    caption = (
        "Episodes until a chain of N states is solved: median over networks (95 % interval by ranks), and "
        f"how many networks had failed after {chains.FAILED:,} episodes (failed: half or more). Plappert et "
        "al. 2018 have a figure of this and no numbers."
    )
    return _solved(False, caption, "tab-chains")


def mixed_solved() -> str:
    """As :func:`solved`, of mixed chains."""
    caption = (
        "Mixed chains, in which the action that goes right is drawn anew for each state and network: "
        "episodes until one of N states is solved, as for plain chains; failed: half or more had after "
        f"{chains.FAILED:,}."
    )
    return _solved(True, caption, "tab-mixed-chains")


def _solved(mixed: bool, caption: str, label: str) -> str:
    found, lines = episodes(mixed), []
    for way in _ways(mixed):
        line = {"exploration": chains.WAYS[way][0]}
        for length in _lengths(mixed):
            part = found[(found.way == way) & (found.length == length)].episodes
            line[chains.label(length)] = _cell(part) if len(part) else ""
        lines.append(line | state_cells(chains.name_of(way, mixed)))
    return numbered(lines, caption, label, [chains.label(n) for n in _lengths(mixed)])


def _cell(values: pd.Series) -> str:
    median, low, high = median_interval(values)
    failed = int((values >= chains.FAILED).sum())
    text = "failed" if median >= chains.FAILED else f"{median:,.0f} ({low:,.0f} to {high:,.0f})"
    return text + (f"; {failed} of {len(values)} failed" if failed else "")


def ranks() -> str:
    """On which lengths each way needs fewer episodes than epsilon-greedy play, or more, where it is known."""
    return _ranks(False, "Lengths of chains", "tab-chains-ranks")


def mixed_ranks() -> str:
    """As :func:`ranks`, of mixed chains."""
    return _ranks(True, "Lengths of mixed chains", "tab-mixed-chains-ranks")


def _ranks(mixed: bool, what: str, label: str) -> str:
    found, lines = episodes(mixed), []
    for way in _ways(mixed):
        told: dict[str, list[str]] = {"fewer": [], "more": [], "not told apart": []}
        for length in _lengths(mixed) if way != BASE else ():
            parts = [found[(found.way == w) & (found.length == length)].episodes for w in (way, BASE)]
            if not all(map(len, parts)):
                continue
            (_, low, high), (_, base_low, base_high) = map(median_interval, parts)
            word = "fewer" if high < base_low else "more" if low > base_high else "not told apart"
            told[word].append(str(length))
        if any(told.values()):
            words = {"exploration": chains.WAYS[way][0]}
            lines.append(words | {word: ", ".join(n) for word, n in told.items()})
    if not lines:
        return "Epsilon-greedy play, or all that is held against it, is not run yet.\n"
    caption = (
        f"{what} for which a way to explore needs fewer or more episodes than epsilon-greedy play: where the "
        "intervals of the two medians do not meet."
    )
    columns = ["fewer", "more", "not told apart"]
    return numbered([{k: v or "–" for k, v in line.items()} for line in lines], caption, label, columns)
