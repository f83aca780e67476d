"""What is committed: results of runs, errors of single tasks, logs, unfinished states; what benchmarks have
measured. No torch here."""

__all__ = [
    "benchmark",
    "benchmark_origin",
    "checkpoint",
    "counted",
    "load",
    "per_task_errors",
    "stale",
    "training_log",
    "without_result",
]

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from mamlkit import files, places
from mamlkit.experiments.paper import ROWS, get
from mamlkit.experiments.rows import as_stored

# of a result
PARTS = {"name", "seed", "settings", "origin", "fingerprint", "iterations_done", "seconds", "evaluations"}


def load(name: str) -> list[dict[str, Any]]:
    """The committed results of a row, by seed; an empty list if it was not run.

    Raises:
        ValueError: a result file is damaged.
    """
    found = []
    for path in sorted((places.repository() / "data" / "results" / name).glob("seed*.json")):
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            if missing := PARTS - result.keys():
                raise ValueError(f"{', '.join(sorted(missing))} missing")
        except (ValueError, AttributeError) as error:
            raise ValueError(
                f"{path} is not a whole result ({error}); restore it from git or run the row again"
            ) from error
        found.append(result)
    return found


def checkpoint(name: str, seed: int = 0) -> Path:
    """Where the committed parameters of a run lie; those of some rows and seeds are not committed.

    Raises:
        ValueError: there is no such row.
    """
    get(name)
    return places.repository() / "data" / "results" / name / f"seed{seed}.safetensors"


def training_log(name: str, seed: int = 0) -> pd.DataFrame:
    """How a training went, as far as it is committed: the log of its result, or of a state that is ahead.

    Columns: iteration, seconds and what the kind of row logs; without lines where nothing was run, or with
    other settings than the row has.
    """
    result = places.repository() / "data" / "results" / name / f"seed{seed}.json"
    state = places.repository() / "data" / "partial" / name / f"seed{seed}" / "run.json"
    logs = {result.with_suffix(".metrics.csv"): result, state.with_name("metrics.csv"): state}
    found = [pd.read_csv(log) for log, of in logs.items() if log.exists() and _as_now(name, of)]
    log = max(found, key=lambda log: log.iteration.max(), default=pd.DataFrame(dtype=float))
    # a state of a few iterations has no line yet
    return log.reindex(columns=[*dict.fromkeys(["iteration", "seconds", "meta_loss", "validation", *log])])


def without_result(name: str) -> str:
    """The word for a row without a result: ``begun``, with how far its furthest state is, or ``not run``.

    A state of other settings than the row has does not count, since no run can go on from it.

    Raises:
        ValueError: there is no such row, or a state is damaged.
    """
    total, done = get(name).iterations, 0
    for record in (places.repository() / "data" / "partial" / name).glob("seed*/run.json"):
        state = record.with_name("state.safetensors")
        if state.exists() and _as_now(name, record):
            done = max(done, _iteration(state))
    return f"begun ({done:,} of {total:,})" if done else "not run"


def _iteration(state: Path) -> int:
    """How far a training state has come, by what it says of itself."""
    try:
        return int(files.metadata(state.read_bytes())["iteration"])
    except (ValueError, KeyError) as error:
        raise ValueError(f"{state} is not a whole training state ({error}); restore it from git") from error


def _as_now(name: str, description: Path) -> bool:
    """Whether a run's description is there and has the settings that its row has now."""
    if not description.exists():
        return False
    return not _changed(name, json.loads(description.read_text(encoding="utf-8"))["settings"])


def _changed(name: str, settings: dict[str, Any]) -> list[str]:
    """Names of the settings of a run that its row no longer has."""
    return [key for key, value in get(name).settings.items() if settings.get(key) != value]


def counted(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of a row's results those that its numbers are taken of: the finished runs, or else all."""
    return [
        result for result in found if result["iterations_done"] >= result["settings"]["iterations"]
    ] or found


def stale(result: dict[str, Any]) -> list[str]:
    """Names of the settings of a committed result that its row no longer has; empty if it is current."""
    if result["name"] not in ROWS:
        return ["name"]
    row = get(result["name"])
    fields = _changed(row.name, result["settings"])
    if result["fingerprint"] != row.fingerprint and not fields:
        fields = ["fingerprint"]
    for evaluation in row.evaluations:
        if result["evaluations"].get(evaluation.name, {}).get("settings") != as_stored(evaluation):
            fields.append(f"evaluation {evaluation.name}")
    return fields


def per_task_errors(name: str, seed: int, evaluation: str, metric: str) -> np.ndarray:
    """The committed error of every test task, ``[tasks, len(STEPS_KEPT)]``; returns of every step.

    Raises:
        ValueError: the file is damaged, or of another test.
        FileNotFoundError: the row was not run, or that seed's errors are not kept.
    """
    path = places.repository() / "data" / "results" / name / f"seed{seed}.tasks.npz"
    if not path.exists():
        there = sorted(int(each.name[4:-10]) for each in path.parent.glob("seed*.tasks.npz"))
        kept = f"those of seeds {', '.join(map(str, there))} are" if there else "none are"
        raise FileNotFoundError(f"task by task no errors of {name}, seed {seed}, are committed; {kept}")
    try:
        with np.load(path) as arrays:
            return arrays[f"{evaluation}/{metric}"].astype(float)
    except (BadZipFile, EOFError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path} does not hold the {metric} of test {evaluation} ({error}); restore it from git "
            f"or run the row again"
        ) from error


def benchmark(name: str, columns: Sequence[str] = ()) -> pd.DataFrame:
    """A table of ``data/benchmarks``, such as ``"rl/time"``; without lines where it was not measured."""
    path = places.repository() / "data" / "benchmarks" / f"{name}.csv"
    return pd.read_csv(path) if path.exists() else pd.DataFrame(columns=list(columns))


def benchmark_origin(folder: str, part: str = "") -> str:
    """On what and when a folder of ``data/benchmarks`` was measured, or a part of it."""
    path = places.repository() / "data" / "benchmarks" / folder / "origin.json"
    origin = json.loads(path.read_text(encoding="utf-8"))
    origin = origin[part] if part else origin
    return f"{origin['processor']}, {origin['date']}, commit {origin['commit'][:7]}"
