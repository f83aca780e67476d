"""The log of a training, ``metrics.csv``: written, read again, held against its state. No torch here."""

__all__ = ["COLUMNS", "ROWS_KEPT", "digest", "read", "thinned", "write"]

import csv
import hashlib
import io
import json
import math
from pathlib import Path

import pandas as pd

from mamlkit.files import write_text

Log = list[dict[str, float]]
COLUMNS = ["iteration", "seconds", "meta_loss", "validation"]  # of supervised tasks
ROWS_KEPT = 1000  # a committed log is thinned to this


def write(path: Path, log: Log) -> None:
    """Write the lines of a log, each of which has some of the columns."""
    found = list(dict.fromkeys(key for line in log for key in line)) or ["iteration", "seconds"]
    write_text(path, pd.DataFrame(log, columns=found).to_csv(index=False))


def digest(log: Log) -> str:
    """A hash of the lines, however they are written: the state keeps it, and knows its log by it."""
    lines = [{name: repr(float(v)) for name, v in line.items() if not math.isnan(v)} for line in log]
    return hashlib.sha256(json.dumps(lines, sort_keys=True).encode()).hexdigest()


def read(
    path: Path, until: int, *, total: int, every: int, columns: list[str], wanted: str | None = None
) -> Log:
    """The lines of a log up to an iteration: what a resumed run had logged by then.

    Args:
        path: of ``metrics.csv``.
        until: the iteration of the run's state; 0 if it has none.
        total: iterations of the whole run; the last one has a line in any case.
        every: iterations between two lines.
        columns: that a line may have.
        wanted: the :func:`digest` that the state has of these lines; None if it is from before there was one.

    Raises:
        ValueError: the file is damaged, or not the log of this state.
    """
    advice = f"restore the file, or move {path.parent} away to start again"
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        log = _parsed(text, columns)
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} is not the log of a run ({error}); {advice}") from error
    state = path.with_name("state.safetensors")
    if until == 0 and log and not state.exists():
        last = log[-1]["iteration"]
        raise ValueError(
            f"{path} has lines up to iteration {last}, but {state.name}, to go on from, is missing; {advice}"
        )
    log = [line for line in log if line["iteration"] <= until]
    there = [line["iteration"] for line in log]
    due = [*range(every, until + 1, every), *([total] if until == total and total % every else [])]
    if missing := sorted(set(due) - set(there)):
        said = f"no line of iteration {missing[0]}, although the run's state is of iteration {until}"
        raise ValueError(f"{path} has {said}; {advice}")
    if twice := [iteration for iteration in due if there.count(iteration) > 1]:
        raise ValueError(f"{path} has two lines of iteration {twice[0]}; {advice}")
    if there != due:
        raise ValueError(f"{path} has a line out of order, or of an iteration that is not logged; {advice}")
    if wanted is None and text and not text.endswith("\n"):
        raise ValueError(f"{path} ends within a line; {advice}")
    if wanted not in (None, digest(log)):
        said = "is damaged, or is not the log that the run's state was saved with (its digest is another)"
        raise ValueError(f"{path} {said}; {advice}")
    return log


def _parsed(text: str, columns: list[str]) -> Log:
    """The lines of a text, exactly as they were logged; ``ValueError`` if no run has written it."""
    header, *rows = list(csv.reader(io.StringIO(text))) or [columns]
    if {"iteration", "seconds"} - set(header) or set(header) - set(columns) or len(set(header)) < len(header):
        found = ", ".join(map(repr, header))
        raise ValueError(f"its columns are {found}, but must be some of {', '.join(columns)}")
    log = []
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise ValueError(f"line {number} has {len(row)} values, but there are {len(header)} columns")
        line = {name: _number(word) for name, word in zip(header, row) if word}
        iteration, seconds = line.get("iteration"), line.get("seconds", -1)
        if not (isinstance(iteration, int) and iteration > 0 and 0 <= seconds < math.inf):
            begins = ",".join(row[:2])
            raise ValueError(f"line {number} begins with {begins}, but needs an iteration and its seconds")
        log.append(line)
    return log


def _number(word: str) -> int | float:
    return int(word) if word.isascii() and word.isdigit() else float(word)


def thinned(path: Path, lines: int = ROWS_KEPT) -> str:
    """The text of a log of at most about so many lines; validations and the last line stay."""
    log = pd.read_csv(path)
    every = -(-len(log) // lines) or 1
    validated = log.validation.notna() if "validation" in log else False
    last = log.index == len(log) - 1
    kept = log[(log.index % every == every - 1) | validated | last] if len(log) > lines else log
    return kept.to_csv(index=False, float_format="%.6g")
