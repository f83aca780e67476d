"""Run folders: what was run, with what, how it went, and what of it is committed. No torch here.

A folder ``runs/<name>/seed<k>/`` holds ``run.json`` (row and provenance), ``metrics.csv``,
``state.safetensors`` (to go on from), and, once evaluated, ``params.safetensors``, ``tasks.npz`` (error of
every test task) and ``result.json``, written last.
"""

__all__ = [
    "Busy",
    "LOG_COLUMNS",
    "iterations_done",
    "keep",
    "keep_state",
    "open_run",
    "read_log",
    "replacing",
    "repository",
    "write_log",
    "write_result",
]

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pandas as pd

from mamlkit.measures import STEPS_KEPT, statistics
from mamlkit.provenance import provenance
from mamlkit.rows import Experiment, as_stored

LOG_COLUMNS = ["iteration", "seconds", "meta_loss", "validation"]
LOG_ROWS_KEPT = 1000  # a committed log is thinned to this


def repository() -> Path:
    """The clone this package runs from, where ``data/`` lies.

    Raises:
        FileNotFoundError: the package was installed without its repository.
    """
    root = Path(__file__).resolve().parents[1]
    if not (root / "pyproject.toml").exists():
        raise FileNotFoundError(
            "the committed results lie in the repository's data/ folder, and this mamlkit was installed without it; "
            "clone the repository and run from there: pip install -e ."
        )
    return root


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside ``path`` to write to: once whole it takes the place of ``path``, after an error it is gone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    os.close(handle)
    try:
        yield Path(temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_log(path: Path, log: list[dict[str, float]]) -> None:
    """Write the lines of ``metrics.csv``; of policies they have other columns (see :mod:`mamlkit.rl.train`)."""
    columns = list(dict.fromkeys(key for line in log for key in line)) or LOG_COLUMNS
    write_text(path, pd.DataFrame(log, columns=columns).to_csv(index=False))


def read_log(folder: Path, until: int, every: int) -> list[dict[str, float]]:
    """The lines of a run's ``metrics.csv`` up to an iteration: what a resumed run had logged by then.

    Args:
        folder: of the run.
        until: the iteration of its state; 0 if it has none.
        every: iterations between two lines.

    Raises:
        ValueError: lines are missing or there twice, or there are some and no state.
    """
    path, advice = folder / "metrics.csv", f"restore the file, or move {folder} away to start again"
    try:
        log = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["iteration"])
        logged = log.iteration
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path} is not the log of a run ({error}); {advice}") from error
    if until == 0 and len(log) and not (folder / "state.safetensors").exists():
        raise ValueError(f"{path} has lines up to iteration {logged.max()}, but {folder / 'state.safetensors'}, to go on from, is missing; {advice}")
    log = log[logged <= until]
    if missing := sorted(set(range(every, until + 1, every)) - set(log.iteration)):
        raise ValueError(f"{path} has no line of iteration {missing[0]}, although the run's state is of iteration {until}; {advice}")
    if log.iteration.duplicated().any():
        raise ValueError(f"{path} has two lines of iteration {log.iteration[log.iteration.duplicated()].iloc[0]}; {advice}")
    return [{k: v for k, v in line.items() if not (isinstance(v, float) and np.isnan(v))} for line in log.to_dict("records")]


class Busy(ValueError):
    """Another process is at work on a run."""


@contextmanager
def open_run(row: Experiment, seed: int, device: str, *, scale: str = "paper", base: Path = Path("runs")) -> Iterator[Path]:
    """The folder of a run, made if need be, with other processes kept out of it while the ``with`` block lasts.

    A run found there, or committed unfinished, is one to go on with. Before other processes are kept out, nothing is
    read or written but the lock itself.

    Args:
        row: the experiment at the scale it runs at.
        seed: of the run.
        device: for the record.
        scale: ``"quick"`` runs have folders of their own.
        base: where the run folders lie.

    Raises:
        Busy: another process is at work in the folder.
        ValueError: it holds a run of another row; the message names the fields that differ.
    """
    name = row.name if scale == "paper" else f"{row.name}-{scale}"
    folder = Path(base) / name / f"seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        held = filelock.FileLock(folder / "lock").acquire(timeout=0)
    except filelock.Timeout as error:
        raise Busy(f"another process is at work in {folder}; wait for it, or choose another place with --runs") from error
    with held:
        record = {"name": row.name, "scale": scale, "seed": seed, "settings": row.settings, "origin": [provenance(device)]}
        _take_up(folder, record, _unfinished(name, seed) if scale == "paper" else None)
        yield folder


def _take_up(folder: Path, record: dict[str, Any], unfinished: Path | None) -> None:
    """Make a locked folder ready: what was done before, if anything, and the record of who goes on with it."""
    source = folder if (folder / "run.json").exists() else unfinished
    if source:
        origins = _earlier_origins(source / "run.json", record)
        record["origin"] = origins if origins[-1] == record["origin"][0] else origins + record["origin"]
    if source == folder and unfinished and (here := iterations_done(folder)) < (there := iterations_done(unfinished)):
        raise ValueError(f"{folder} has come to iteration {here}, but {unfinished} to {there}; move {folder} away to go on from there")
    if source and source != folder:
        for file in ("metrics.csv", "state.safetensors"):
            _copy(source / file, folder / file)
    write_json(folder / "run.json", record)  # last: without it the copying is done again


def _copy(source: Path, target: Path) -> Path:
    """Copy a file whole or not at all."""
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)
    return target


def _unfinished(name: str, seed: int) -> Path | None:
    """The committed state of an unfinished run, if there is one."""
    try:
        folder = repository() / "data" / "partial" / name / f"seed{seed}"
    except FileNotFoundError:
        return None
    return folder if folder.exists() else None


def iterations_done(folder: Path) -> int:
    """How far the state in a run folder, or in one under ``data/partial``, has come; 0 without one.

    Raises:
        ValueError: the state is damaged.
    """
    path = folder / "state.safetensors"
    if not path.exists():
        return 0
    try:  # a safetensors file begins with the length of its header, which is JSON
        with path.open("rb") as file:
            return int(json.loads(file.read(int.from_bytes(file.read(8), "little")))["__metadata__"]["iteration"])
    except (ValueError, LookupError, TypeError, OverflowError, MemoryError) as error:
        raise ValueError(f"{path} is not a training state ({error!r}); restore it, or move {folder} away to start again") from error


def _earlier_origins(path: Path, record: dict[str, Any]) -> list[dict[str, Any]]:
    """The machines that have worked on a run; ``ValueError`` if its record is damaged or of another run than ``record``."""
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
        flat = lambda run: {key: run[key] for key in ("name", "scale", "seed")} | dict(run["settings"])
        was, now, origins = flat(earlier), flat(record), list(earlier["origin"])
        origins[-1]
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{path} is not a whole record of a run ({error}); restore it, or move {path.parent} away to start again") from error
    fields = [key for key in now | was if now.get(key) != was.get(key)]
    if fields:
        changes = ", ".join(f"{key} was {was.get(key)!r}, is {now.get(key)!r}" for key in fields)
        raise ValueError(f"{path.parent} holds a run of other settings ({changes}); move or delete it, or undo the change")
    return origins


def write_result(folder: Path, row: Experiment, iteration: int, seconds: float, evaluations: dict[str, dict[str, np.ndarray]]) -> Path:
    """Write ``tasks.npz`` and ``result.json``.

    Args:
        folder: a run folder.
        row: its experiment.
        iteration: outer updates done.
        seconds: training time.
        evaluations: name to metric to error ``[tasks, inner_steps + 1]``.
    """
    arrays = {f"{name}/{metric}": values for name, e in evaluations.items() for metric, values in e.items()}
    # Half precision: its rounding is a thousandth of the spread over tasks, and the file stays small. Returns are few, so all are kept.
    few = lambda values: values[:, [s for s in STEPS_KEPT if s < values.shape[1]]].astype(np.float16)
    kept = {key: values.astype(np.float32) if key.endswith("/return") else few(values) for key, values in arrays.items()}
    with replacing(folder / "tasks.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **kept)
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    settings = {e.name: as_stored(e) for e in row.evaluations}
    result = run | {
        "fingerprint": row.fingerprint,
        "iterations_done": iteration,
        "seconds": round(seconds, 1),
        "evaluations": {
            name: {"settings": settings[name]} | {metric: statistics(metric, values) for metric, values in metrics.items()}
            for name, metrics in evaluations.items()
        },
    }
    write_json(folder / "result.json", result)
    return folder / "result.json"


def keep_state(folder: Path, data: Path | None = None) -> list[Path]:
    """Copy a run's record, log and state into ``data/partial``, from where any machine goes on. Returns the files written.

    Call it inside :func:`open_run`, so that nobody writes at the same time.

    Args:
        folder: of a run, which needs no result.
        data: the repository's ``data`` if None.

    Raises:
        FileNotFoundError: the run has no state yet.
        ValueError: it is none to be committed (quick, or with TF32), or a committed one of the same settings has come further.
    """
    target = _place_of_state(folder, data or repository() / "data")
    # The state comes last: a log that is ahead of it is cut, so copying may end after any file.
    return [_copy(folder / file, target / file) for file in ("run.json", "metrics.csv", "state.safetensors")]


def _place_of_state(folder: Path, data: Path) -> Path:
    """Where a run's state is kept; raises what :func:`keep_state` does."""
    if not (folder / "state.safetensors").exists():
        raise FileNotFoundError(f"{folder} has no state.safetensors; train it first: python -m mamlkit run NAME")
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    _refuse_rough(folder, run)
    target = data / "partial" / run["name"] / f"seed{run['seed']}"
    if (target / "run.json").exists():
        settings = json.loads((target / "run.json").read_text(encoding="utf-8"))["settings"]
        here, there = iterations_done(folder), iterations_done(target)
        if settings == run["settings"] and there > here:
            raise ValueError(f"the state in {target} has {there:,} iterations, {folder} {here:,}; delete {target} first if you mean to replace it")
    return target


def _refuse_rough(folder: Path, run: dict[str, Any]) -> None:
    """``ValueError`` for a run that is not to be committed."""
    if run["scale"] != "paper" or any(part["device"].endswith("TF32") for part in run["origin"]):
        raise ValueError(f"{folder} was run at the {run['scale']} scale, on {run['origin'][-1]['device']}; only runs at the paper scale, without TF32, are kept")


def keep(folder: Path, data: Path | None = None) -> list[Path]:
    """Copy a run's result into ``data/results``, and an unfinished run's state into ``data/partial``.

    The state of a finished run is removed from ``data/partial``. Returns the files written.

    Raises:
        FileNotFoundError: the run has no result yet.
        ValueError: it is none to be committed (quick, or with TF32), or a committed one of the same settings has come further.
    """
    data = data or repository() / "data"
    if not (folder / "result.json").exists():
        raise FileNotFoundError(f"{folder} has no result.json; finish it first: python -m mamlkit run NAME")
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    _refuse_rough(folder, result)
    name, seed = result["name"], f"seed{result['seed']}"
    kept = data / "results" / name
    if (kept / f"{seed}.json").exists():
        earlier = json.loads((kept / f"{seed}.json").read_text(encoding="utf-8"))
        if earlier["fingerprint"] == result["fingerprint"] and earlier["iterations_done"] > result["iterations_done"]:
            further = f"has {earlier['iterations_done']:,} iterations, {folder} {result['iterations_done']:,}"
            raise ValueError(f"the result in {kept} {further}; delete {kept / seed}.json first if you mean to replace it")
    unfinished = result["iterations_done"] < result["settings"]["iterations"]
    if unfinished:
        _place_of_state(folder, data)  # what it refuses is refused before anything is written
    written = []
    if (folder / "metrics.csv").exists():
        log = pd.read_csv(folder / "metrics.csv")
        every = -(-len(log) // LOG_ROWS_KEPT) or 1
        validated = log.validation.notna() if "validation" in log else False
        thinned = log[(log.index % every == every - 1) | validated] if len(log) > LOG_ROWS_KEPT else log
        written.append(kept / f"{seed}.metrics.csv")
        write_text(written[-1], thinned.to_csv(index=False, float_format="%.6g"))
    for source in ("params.safetensors", "tasks.npz", "result.json"):  # the result last, as in the run
        target = kept / f"{seed}{'.tasks' if source == 'tasks.npz' else ''}{Path(source).suffix}"
        written.append(_copy(folder / source, target))
    if unfinished:
        return written + keep_state(folder, data)
    shutil.rmtree(data / "partial" / name / seed, ignore_errors=True)
    return written
