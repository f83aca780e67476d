"""A training and the person before it: progress, Ctrl-C, and what a log shows of it. No torch here."""

__all__ = ["Interrupted", "deferred_interrupt", "noted_interrupt", "progress_bar"]

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tqdm.std import tqdm

from mamlkit.experiments.rows import Experiment


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM in a training.

    Args:
        message: how far training came.
        signum: the number of the signal.
    """

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.signum = signum


@contextmanager
def deferred_interrupt(
    notice: Callable[[str], Any] = lambda text: None, left: str = "resumes from the last saved state"
) -> Iterator[list[int]]:
    """Turn the first Ctrl-C or SIGTERM into an entry of a list, so that no update is cut in two.

    A second one stops at once.

    Args:
        notice: told after the first one what will happen.
        left: what the same command does after the second one.

    Raises:
        Interrupted: on the second one.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # only there can signals be handled
        yield asked
        return

    def handle(signum: int, frame: object) -> None:
        asked.append(signum)
        if len(asked) > 1:
            raise Interrupted(f"stopped at once; the same command {left}", signum)
        with suppress(RuntimeError):  # the bar itself was being written
            notice("stopping after this iteration; once more stops at once")

    with _handled_by(handle):
        yield asked


@contextmanager
def noted_interrupt(message: str) -> Iterator[list[int]]:
    """Turn Ctrl-C and SIGTERM into :class:`Interrupted` with a message, and into an entry of a list: who is
    interrupted may make an exception of another kind of it, as the import of a compiled module does, or none
    at all."""
    asked: list[int] = []

    def handle(signum: int, frame: object) -> None:
        asked.append(signum)
        raise Interrupted(message, signum)

    with _handled_by(handle):
        yield asked


@contextmanager
def _handled_by(handle: Callable[[int, Any], None]) -> Iterator[None]:
    """Within the ``with`` block Ctrl-C and SIGTERM call this."""
    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None if it was not Python's


class _Lines(tqdm):
    """Progress as plain lines, for a log."""

    disable: bool

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        self.fp.write(f"{self if msg is None else msg}\n")
        self.fp.flush()

    def close(self) -> None:
        """The last line; tqdm would leave an empty one after it."""
        if not self.disable:
            self.display()
            self.disable = True


def progress_bar(row: Experiment, first: int, shown: bool) -> tqdm:
    """The progress of a training on standard error: a bar in a terminal, elsewhere a line about every minute.

    Args:
        row: gives the name and the number of iterations.
        first: iterations done before.
        shown: whether to show anything.
    """
    options = {"total": row.iterations, "initial": first, "desc": row.name, "disable": not shown}
    if sys.stderr is not None and sys.stderr.isatty():
        return tqdm(mininterval=1, **options)
    line = "{desc}: {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
    return _Lines(mininterval=60, maxinterval=3600, miniters=1, bar_format=line, **options)
