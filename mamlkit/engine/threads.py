"""Work on several CPU threads, each of which computes alone, so that no result depends on their number.

In PyTorch a thread takes the common number of threads at its first question, and keeps it; whoever sets a
number sets his own and the common one. So what is set here is set back, and a thread that comes meanwhile
gets the right number all the same.

Threads do not survive a fork: PyTorch would wait for those that are lost. So a child computes with one
thread, and may be given more.
"""

__all__ = ["MOST", "check", "each", "one_blas_thread", "one_thread", "spread"]

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from numbers import Integral
from typing import Any

import threadpoolctl
import torch
from threadpoolctl import threadpool_limits

MOST = 1024  # threads: more than help anywhere, and few enough to be started

_own = threading.local()  # has ``asked`` in a thread that knows its number


class _Shared:
    """What the threads of a process share."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.alone = 0  # threads within one_thread
        self.common = 1  # number that a new thread should take, while there are some
        self.blas: Any = None  # what one_blas_thread has set, and for how many
        self.blas_users = 0
        self.pools: dict[int, ThreadPoolExecutor] = {}


_shared = _Shared()


def _forked() -> None:
    global _shared
    _shared = _Shared()
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_forked)


def check(threads: int) -> None:
    """Refuse a number of threads that cannot be meant.

    Raises:
        ValueError: it is no whole number from 1 to :data:`MOST`.
    """
    if not (isinstance(threads, Integral) and 1 <= threads <= MOST):
        cores = os.cpu_count()
        raise ValueError(
            f"threads={threads}, but whole numbers from 1 to {MOST} are allowed; use at most one "
            f"for each core ({cores} here)"
        )


def each(work: Callable[[Any], Any], parts: Sequence[Any]) -> list[Any]:
    """``work`` of every part, in their order; on several CPU threads a thread each, which computes alone.

    So does the caller, where there is a single part: how its sums are split must not hang on the threads.

    Raises:
        ValueError: PyTorch's number of threads is above :data:`MOST`, or more than the system can start.
    """
    pool = _pool_for(parts)
    if pool:
        return list(pool.map(work, parts))
    with one_thread():
        return [work(part) for part in parts]


def spread(work: Callable[[Any], None], parts: Sequence[Any]) -> None:
    """:func:`each` for short work that leaves PyTorch alone: the caller takes the first part itself, since to
    wake a thread takes as long as some of it.

    Raises:
        ValueError: as for :func:`each`.
    """
    pool = _pool_for(parts)
    others = [pool.submit(work, part) for part in parts[1:]] if pool else []
    try:
        for part in parts[: len(parts) - len(others)]:
            work(part)
    finally:
        wait(others)  # they write where the caller reads
    for other in others:
        other.result()


def _pool_for(parts: Sequence[Any]) -> ThreadPoolExecutor | None:
    """Threads for the parts; None where one is enough."""
    with _shared.lock:
        threads = _number()
        return _pool(threads) if threads > 1 and len(parts) > 1 else None


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch's small operations on one CPU thread, since several would wait for each other."""
    shared = _shared
    with shared.lock:
        threads = _number()
        if threads > 1:
            shared.common = threads
            shared.alone += 1
            torch.set_num_threads(1)
    try:
        yield
    finally:
        if threads > 1 and shared is _shared:  # else this is a child that was forked meanwhile
            with shared.lock:
                shared.alone -= 1
                torch.set_num_threads(threads)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """NumPy's products on one CPU thread: threads to which :func:`each` gives tasks compute alone.

    NumPy has one number for all threads, so whoever comes first sets it and whoever leaves last sets it back.
    """
    shared = _shared
    with shared.lock:
        if not shared.blas_users:
            _anyone_limits()
            shared.blas = threadpool_limits(limits=1, user_api="blas")
        shared.blas_users += 1
    try:
        yield
    finally:
        if shared is _shared:  # else this is a child that was forked meanwhile
            with shared.lock:
                shared.blas_users -= 1
                if not shared.blas_users:
                    _anyone_limits()
                    shared.blas.restore_original_limits()


def _anyone_limits() -> None:
    """Let this thread change NumPy's number: from 3.8 on threadpoolctl obeys the first alone, in silence."""
    clear = getattr(threadpoolctl.OpenBLASController, "clear_controlling_thread", None)
    if clear:
        clear(force=True)


def _number() -> int:
    """With how many threads this one computes; the lock is held."""
    threads = torch.get_num_threads()
    if not hasattr(_own, "asked"):
        _own.asked = True
        if threads == 1 and _shared.alone:  # the 1 is that of another thread
            threads = _shared.common
            torch.set_num_threads(threads)
    return threads


def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads that each compute alone: PyTorch's own would wait for each other at every operation.

    The lock is held.
    """
    if threads in _shared.pools:
        return _shared.pools[threads]
    check(threads)
    started = threading.Barrier(threads)  # so that each takes one of the starts

    def start(_: int) -> None:
        torch.get_num_threads()  # a thread takes the common number at its first question
        torch.set_num_threads(1)
        _own.asked = True
        started.wait()

    pool = ThreadPoolExecutor(threads, thread_name_prefix="mamlkit")
    try:
        list(pool.map(start, range(threads)))
    except RuntimeError as error:
        started.abort()
        pool.shutdown()
        raise ValueError(f"the system does not start {threads} threads ({error}); use fewer") from error
    finally:
        torch.set_num_threads(threads)  # it was the common number that a thread set
    _shared.pools[threads] = pool
    return pool
