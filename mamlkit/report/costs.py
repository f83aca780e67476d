"""What an iteration costs on many processes, and a table on many machines: a model. No torch here.

:mod:`mamlkit.report.scaling` holds it against measurements.
"""

__all__ = ["Link", "Work", "best_ranks", "makespan", "seconds"]

import heapq
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Link(NamedTuple):
    """What joins the processes: seconds until a message arrives, and bytes per second after that."""

    latency: float
    rate: float


class Work(NamedTuple):
    """An iteration of a row.

    Args:
        seconds: in one process.
        tasks: of its meta-batch.
        chunk: tasks that are computed at once, and dealt together.
        bytes: that each chunk gives to all: gradient and losses.
    """

    seconds: float
    tasks: int
    chunk: int
    bytes: float

    @property
    def chunks(self) -> int:
        """That the meta-batch is cut into."""
        return math.ceil(self.tasks / self.chunk)


def seconds(work: Work, ranks: int, link: Link) -> float:
    """The model: seconds of an iteration on so many ranks.

    >>> seconds(Work(1.0, 8, 2, 1e6), 1, Link(0.001, 1e9))  # four chunks of two tasks
    1.0
    >>> round(seconds(Work(1.0, 8, 2, 1e6), 3, Link(0.001, 1e9)), 6)  # the first has two of them
    0.506
    """
    chunks = math.ceil(work.chunks / ranks)  # of the rank that has most
    share = min(work.tasks, chunks * work.chunk) / work.tasks
    return share * work.seconds + (ranks - 1) * (link.latency + chunks * work.bytes / link.rate)


def makespan(runs: Sequence[Callable[[int], float]], workers: int) -> float:
    """Hours until the last run ends, where each gives its hours on 1, 2, ... workers.

    With no more workers than runs, each takes one, the longest first. With more, the longest run takes some
    of those that are left, for as long as that helps.

    >>> halves = [lambda ranks: 6.0 / min(ranks, 2), lambda ranks: 4.0]
    >>> makespan(halves, 1), makespan(halves, 2), makespan(halves, 3)
    (10.0, 6.0, 4.0)
    """
    if workers <= len(runs):
        ends = [0.0] * workers
        for hours in sorted((run(1) for run in runs), reverse=True):
            heapq.heapreplace(ends, ends[0] + hours)
        return max(ends)
    ranks, left = [1] * len(runs), workers - len(runs)
    while True:
        longest = max(range(len(runs)), key=lambda i: runs[i](ranks[i]))
        now = ranks[longest]
        more = range(now + 1, now + left + 1)
        better = next((r for r in more if runs[longest](r) < runs[longest](now)), None)
        if better is None:
            return runs[longest](now)
        ranks[longest], left = better, left - (better - now)


def best_ranks(work: Work, link: Link) -> int:
    """The least number of ranks with which :func:`seconds` is least; more than tasks never help."""
    return min(range(1, work.tasks + 1), key=lambda ranks: (seconds(work, ranks, link), ranks))
