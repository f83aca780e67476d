"""Work on several CPU threads, each of which computes alone, so that no result depends on their number."""

__all__ = ["each", "one_thread"]

import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier
from typing import Any

import torch


def each(work: Callable[[Any], Any], parts: Sequence[Any]) -> list[Any]:
    """``work`` of every part, in their order; on several CPU threads a thread each, which computes alone."""
    threads = torch.get_num_threads()
    if threads == 1 or len(parts) == 1:
        return [work(part) for part in parts]
    return list(_pool(threads).map(work, parts))


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch's small operations on one CPU thread, since several would wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads that each compute alone: PyTorch's own would wait for each other at every operation."""
    started = Barrier(threads)

    def start(_: int) -> None:
        torch.get_num_threads()  # a thread takes the common number at its first question
        torch.set_num_threads(1)
        started.wait()

    pool = ThreadPoolExecutor(threads, thread_name_prefix="mamlkit")
    list(pool.map(start, range(threads)))
    torch.set_num_threads(threads)  # it was the common number that a thread set
    return pool
