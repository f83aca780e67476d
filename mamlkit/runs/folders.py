"""Run folders: what was run, with what, how it went, and what of it is committed. No torch here.

A folder ``runs/<name>/seed<k>/`` holds ``run.json`` (row and provenance), ``metrics.csv`` (see
:mod:`mamlkit.runs.logs`), ``state.safetensors`` (to go on from), and, once evaluated, ``params.safetensors``,
``tasks.npz`` (error of every test task) and ``result.json``, written last.
"""

__all__ = [
    "RECORD",
    "RESULT",
    "STATE",
    "Busy",
    "iterations_done",
    "keeping_alone",
    "open_run",
    "write_result",
]

import io
import itertools
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from mamlkit import files, places
from mamlkit.experiments.rows import SCALES, Experiment, PolicyRow, as_stored
from mamlkit.measures import STEPS_KEPT, statistics
from mamlkit.runs.provenance import named, other_code, provenance, version
from mamlkit.runs.records import (
    STATE,
    check_seed,
    earlier_origins,
    iterations_done,
    read,
    refuse_another,
    what_is_kept,
)

RESULT = ("params.safetensors", "tasks.npz", "result.json")
UNDER_WAY = "tested-"  # begins the name of a folder for a result until it is whole
RECORD = ("name", "scale", "seed", "settings", "origin")  # entries of run.json


class Busy(ValueError):
    """Another process is at work on a run."""


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def open_run(
    row: Experiment,
    seed: int,
    device: str | None,
    *,
    scale: str = "paper",
    base: Path = Path("runs"),
    tell: Callable[[str], None] = _print,
) -> Iterator[Path]:
    """The folder of a run, made if need be, with other processes kept out within the ``with`` block.

    A run found there, or committed unfinished, is one to go on with. Before other processes are kept out,
    nothing is read or written but the lock itself.

    Args:
        row: the experiment at the scale it runs at.
        seed: of the run.
        device: for the record; None if it is only kept here, and others compute.
        scale: ``"quick"`` runs have folders of their own.
        base: where the run folders lie.
        tell: takes a line if the run goes on with other code than it was last worked on with.

    Raises:
        Busy: another process is at work in the folder.
        ValueError: it holds a run of another row, and the message names the fields that differ; or there is
            no such scale or seed.
    """
    if scale not in SCALES:
        raise ValueError(f"scale={scale!r}, but the scales are {', '.join(map(repr, SCALES))}")
    check_seed(seed)
    if isinstance(row, PolicyRow):
        places.repository()  # its tests need the goals there: better missed before the training than after it
    name = row.name if scale == "paper" else f"{row.name}-{scale}"
    folder = Path(base) / name / f"seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    others = f"another process is at work in {folder}; wait for it, or choose another place with --runs"
    with _locked(folder / "lock", others):
        files.remove_leftovers(folder, STATE + RESULT)
        for left in folder.glob(f"{UNDER_WAY}*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        record = {
            "name": row.name,
            "scale": scale,
            "seed": seed,
            "settings": row.settings,
            "origin": [] if device is None else [provenance(device)],
        }
        _take_up(folder, row, record, _unfinished(name, seed) if scale == "paper" else None, tell)
        try:
            yield folder
        except BaseException:
            if not any((folder / each).exists() for each in ("state.safetensors", "result.json")):
                (folder / "run.json").unlink(missing_ok=True)  # it was refused before it began: it is no run
            raise


@contextmanager
def keeping_alone(row: Experiment, seed: int) -> Iterator[None]:
    """Within the ``with`` block no other queue puts states and results of the run into the repository.

    Raises:
        Busy: another one does.
    """
    place = places.repository() / "data" / "cache" / "locks"
    place.mkdir(parents=True, exist_ok=True)
    others = "another queue of this repository is at work on it, and is left alone"
    with _locked(place / f"{row.name}-seed{seed}", others):
        yield


@contextmanager
def _locked(path: Path, others: str) -> Iterator[None]:
    try:
        held = filelock.FileLock(path).acquire(timeout=0)
    except filelock.Timeout as error:
        raise Busy(others) from error
    with held:
        yield


def _take_up(
    folder: Path,
    row: Experiment,
    record: dict[str, Any],
    unfinished: Path | None,
    tell: Callable[[str], None],
) -> None:
    """Make a locked folder ready: what was done before, if anything, and the record of who goes on."""
    state, recorded = folder / "state.safetensors", (folder / "run.json").exists()
    begun = recorded or state.exists()
    if begun and not recorded and unfinished and state.read_bytes() == (unfinished / state.name).read_bytes():
        begun = False  # somebody was cut short in the copying below
    origins = _origins(folder, row, record) if begun else []
    if begun and unfinished and (here := iterations_done(folder)) < iterations_done(unfinished):
        _set_aside(folder, here)  # another machine has brought it further
        begun = False
    if unfinished and not begun:
        origins = _origins(unfinished, row, record)
        for name in ("metrics.csv", "state.safetensors"):
            files.copy(unfinished / name, folder / name)
    if origins:
        now = record["origin"][0] if record["origin"] else version()
        if other_code(origins[-1], now):
            of_run = " and ".join(str(place) for place in (folder, unfinished) if place)
            tell(
                f"{row.name}, seed {record['seed']}: the code has changed since this run was last worked on, "
                f"at {named(origins[-1])}; it goes on at {named(now)}. To begin anew, move {of_run} away"
            )
    if origins[-1:] != record["origin"]:
        origins = origins + record["origin"]
    if origins:  # else others compute, and have not begun
        # last: without it the copying is done again
        with what_is_kept(folder):
            files.write_json(folder / "run.json", record | {"origin": origins})


def _origins(source: Path, row: Experiment, record: dict[str, Any]) -> list[dict[str, Any]]:
    """The machines that have worked on a run; ``ValueError`` if it is another one than that of ``record``."""
    if (source / "state.safetensors").exists():
        refuse_another(source / "state.safetensors", row, record["seed"])
    if not (source / "run.json").exists():
        raise ValueError(
            f"{source} has a state, but no run.json, which says where it was trained; restore that, or move "
            f"{source} away"
        )
    return earlier_origins(source / "run.json", record)


def _set_aside(folder: Path, iteration: int) -> None:
    """Move what a run folder holds into one beside it, so that nothing of it is lost."""
    name = f"{folder.name}-behind-{iteration}"
    candidates = (folder.with_name(name + (f"-{n}" if n else "")) for n in itertools.count())
    aside = next(candidate for candidate in candidates if not candidate.exists())
    aside.mkdir()
    for name in (*RESULT, *STATE):
        if (folder / name).exists():
            (folder / name).rename(aside / name)


def _unfinished(name: str, seed: int) -> Path | None:
    """The committed state of an unfinished run, if there is one."""
    try:
        folder = places.repository() / "data" / "partial" / name / f"seed{seed}"
    except FileNotFoundError:
        return None
    return folder if folder.exists() else None


def write_result(
    folder: Path,
    row: Experiment,
    iteration: int,
    seconds: float,
    evaluations: dict[str, dict[str, np.ndarray]],
    into: Path | None = None,
) -> Path:
    """Write ``tasks.npz`` and ``result.json``.

    Args:
        folder: a run folder.
        row: its experiment.
        iteration: outer updates done.
        seconds: training time.
        evaluations: name to metric to error ``[tasks, inner_steps + 1]``.
        into: where the files go, if not into the run folder.
    """
    into = into or folder
    arrays = {f"{name}/{metric}": values for name, e in evaluations.items() for metric, values in e.items()}
    # Half precision: its rounding is a thousandth of the spread over tasks, and the file stays small. Returns
    # are few, so all are kept. Of classes the accuracies alone are: tasks are compared by those.
    few = lambda values: values[:, [s for s in STEPS_KEPT if s < values.shape[1]]].astype(np.float16)
    with np.errstate(over="ignore"):  # beyond 65504 it is infinite, and a task there has diverged in any case
        kept: dict[str, Any] = {
            key: values.astype(np.float32) if key.endswith("/return") else few(values)
            for key, values in arrays.items()
            if not key.endswith("/cross_entropy")
        }
    content = io.BytesIO()
    np.savez_compressed(content, **kept)
    files.write_bytes(into / "tasks.npz", content.getvalue())
    run = read(folder / "run.json", *RECORD)
    settings = {e.name: as_stored(e) for e in row.evaluations}
    family = getattr(row, "family", None)
    result = run | {
        "fingerprint": row.fingerprint,
        "iterations_done": iteration,
        "seconds": round(seconds, 1),
        "evaluations": {
            name: {"settings": settings[name]}
            | {metric: statistics(metric, values, family) for metric, values in metrics.items()}
            for name, metrics in evaluations.items()
        },
    }
    files.write_json(into / "result.json", result)
    return into / "result.json"
