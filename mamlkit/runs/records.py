"""Of which run a folder and its state are: read and compared, never written. No torch here."""

__all__ = [
    "STATE",
    "check_seed",
    "earlier_origins",
    "identity",
    "iteration_of",
    "iterations_done",
    "read",
    "refuse_another",
    "start_again",
    "to_move",
    "what_is_kept",
]

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mamlkit import files
from mamlkit.experiments.rows import Experiment

STATE = ("run.json", "metrics.csv", "state.safetensors")  # in the order in which they are copied
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # of a disk, of one's share of it, or of a file


def check_seed(seed: Any) -> None:
    """``ValueError`` if that is none."""
    if type(seed) is not int or seed < 0:
        raise ValueError(f"seed={seed!r}, but a whole number from 0 on is needed")


def start_again(path: Path) -> str:
    """What to do about a damaged file of a run, or a committed one."""
    return f"restore it, or move {to_move(path)} away to start again"


def to_move(path: Path) -> Path | str:
    """What has no use without a file: its folder if a run goes on from it, else ``"it"`` alone."""
    return path.parent if path.name in STATE else "it"


def read(path: Path, *keys: str) -> dict[str, Any]:
    """The record of a run, or a result, that must have some entries; ``ValueError`` if it has not."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError(f"it holds a {type(found).__name__}")
        if missing := [key for key in keys if key not in found]:
            raise ValueError(f"{', '.join(missing)} missing")
        if "origin" in keys and not all(isinstance(part["device"], str) for part in found["origin"]):
            raise ValueError("a device is no name")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{path} is not a whole record of a run ({error}); {start_again(path)}") from error
    return found


def iteration_of(path: Path, found: dict[str, str]) -> int:
    """The iteration of a training state, by its metadata; ``ValueError`` if that is none."""
    number = found.get("iteration", "missing")
    if not (number.isascii() and number.isdigit()):
        raise ValueError(f"{path} is not a training state: its iteration is {number}; {start_again(path)}")
    return int(number)


def _metadata_of(path: Path) -> dict[str, str]:
    try:
        return files.metadata(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}); {start_again(path)}") from error


def iterations_done(folder: Path) -> int:
    """How far the state in a run folder, or in one under ``data/partial``, has come; 0 without one.

    Raises:
        ValueError: the state is damaged.
    """
    path = folder / "state.safetensors"
    return iteration_of(path, _metadata_of(path)) if path.exists() else 0


@contextmanager
def what_is_kept(folder: Path | None) -> Iterator[None]:
    """Where a file of a run cannot be written, say what is kept of it, and that the same command goes on.

    Args:
        folder: of the run; None where nothing is written.

    Raises:
        OSError: as it was raised within the ``with`` block, with these words; one that names no file has its
            own.
    """
    try:
        yield
    except OSError as error:
        if folder is None or error.errno is None or error.filename is None:
            raise
        try:
            kept = f"the state of iteration {iterations_done(folder)} is kept"
        except (OSError, ValueError):
            kept = "the state cannot be read"
        if not (folder / "state.safetensors").exists():
            kept = "no state is kept yet"
        room = "make room, and " if error.errno in FULL else "once that is mended, "
        said = f"{error.strerror}: {error.filename!r}; {kept}; {room}the same command goes on"
        raise OSError(error.errno, said) from error


def identity(row: Experiment, seed: int) -> dict[str, str]:
    """What a state says of its run. Scales differ in their settings, and so in the fingerprint."""
    return {"name": row.name, "seed": str(seed), "fingerprint": row.fingerprint}


def refuse_another(path: Path, row: Experiment, seed: int) -> None:
    """``ValueError`` if a state is not one of this run.

    States did not always say of which run they are. One of those needs a ``run.json`` beside it that does.
    """
    found, wanted = _metadata_of(path), identity(row, seed)
    if (iteration := iteration_of(path, found)) > row.iterations:
        said = f"is of iteration {iteration:,}, but {row.name} has {row.iterations:,}"
        raise ValueError(f"{path} {said}; {start_again(path)}")
    away, record = f"move {path.parent} away", path.with_name("run.json")
    if found.keys() & wanted.keys():
        differ = [key for key in wanted if found.get(key) != wanted[key]]
        if changes := ", ".join(f"{key} was {found.get(key)}, is {wanted[key]}" for key in differ):
            raise ValueError(
                f"{path} is the state of another run ({changes}); {away}, or choose another place"
            )
    elif not record.exists():
        said = "does not say of which run it is, and there is no run.json beside it"
        raise ValueError(f"{path} {said}; restore that, or {away}")
    else:
        earlier_origins(record, {"name": row.name, "seed": seed, "settings": row.settings})


def earlier_origins(path: Path, record: dict[str, Any]) -> list[dict[str, Any]]:
    """The machines that have worked on a run, by its ``run.json``.

    Args:
        path: of that file.
        record: what it must say, but for the machines: name, seed, settings, perhaps scale.

    Raises:
        ValueError: it is damaged, or of another run; the message names the fields that differ.
    """
    advice = f"move {path.parent} away to start again"
    keys = [key for key in ("name", "scale", "seed") if key in record]
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
        was, now = ({key: run[key] for key in keys} | dict(run["settings"]) for run in (earlier, record))
        origins = list(earlier["origin"])
        origins[-1]
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(
            f"{path} is not a whole record of a run ({error}); restore it, or {advice}"
        ) from error
    fields = [key for key in now | was if now.get(key) != was.get(key)]
    if fields:
        changes = ", ".join(f"{key} was {was.get(key)!r}, is {now.get(key)!r}" for key in fields)
        said = f"holds a run of other settings ({changes})"
        raise ValueError(f"{path.parent} {said}; move it away, or undo the change")
    return origins
