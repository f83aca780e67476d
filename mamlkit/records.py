"""Of which run a folder and its state are: read and compared, never written. No torch here."""

__all__ = ["earlier_origins", "identity", "iteration_of", "iterations_done", "metadata", "refuse_another"]

import json
from pathlib import Path
from typing import Any

from mamlkit.rows import Experiment


def metadata(content: bytes) -> dict[str, str]:
    """What a safetensors file says beside its tensors; an empty dictionary if that is nothing.

    Args:
        content: of the file. It begins with the length of its header, which is JSON.

    Raises:
        ValueError: it is not such a file.
    """
    try:
        found = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__", {})
        return {key: str(value) for key, value in (json.loads(found["record"]) if "record" in found else found).items()}
    except (AttributeError, TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error


def iteration_of(path: Path, found: dict[str, str]) -> int:
    """The iteration of a training state, by its metadata; ``ValueError`` if that is none."""
    number = found.get("iteration", "missing")
    if not (number.isascii() and number.isdigit()):
        raise ValueError(f"{path} is not a training state: its iteration is {number}; restore it, or move it away to start again")
    return int(number)


def _metadata_of(path: Path) -> dict[str, str]:
    try:
        return metadata(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}); restore it, or move it away to start again") from error


def iterations_done(folder: Path) -> int:
    """How far the state in a run folder, or in one under ``data/partial``, has come; 0 without one.

    Raises:
        ValueError: the state is damaged.
    """
    path = folder / "state.safetensors"
    return iteration_of(path, _metadata_of(path)) if path.exists() else 0


def identity(row: Experiment, seed: int) -> dict[str, str]:
    """What a state says of the run that it is of. Scales differ in their settings, and so in the fingerprint."""
    return {"name": row.name, "seed": str(seed), "fingerprint": row.fingerprint}


def refuse_another(path: Path, row: Experiment, seed: int) -> None:
    """``ValueError`` if a state is not one of this run. One from before states knew it must have a ``run.json`` beside it that says so."""
    found, wanted = _metadata_of(path), identity(row, seed)
    if (iteration := iteration_of(path, found)) > row.iterations:
        raise ValueError(f"{path} is of iteration {iteration:,}, but {row.name} has {row.iterations:,}; restore it, or move it away to start again")
    if found.keys() & wanted.keys():
        if changes := ", ".join(f"{key} was {found.get(key)}, is {wanted[key]}" for key in wanted if found.get(key) != wanted[key]):
            raise ValueError(f"{path} is the state of another run ({changes}); move {path.parent} away, or choose another place")
        return
    if not path.with_name("run.json").exists():
        raise ValueError(f"{path} does not say of which run it is, and there is no run.json beside it; restore that, or move {path.parent} away")
    earlier_origins(path.with_name("run.json"), {"name": row.name, "seed": seed, "settings": row.settings})


def earlier_origins(path: Path, record: dict[str, Any]) -> list[dict[str, Any]]:
    """The machines that have worked on a run; ``ValueError`` if its record is damaged or of another run than ``record``."""
    keys = [key for key in ("name", "scale", "seed") if key in record]
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
        was, now = ({key: run[key] for key in keys} | dict(run["settings"]) for run in (earlier, record))
        origins = list(earlier["origin"])
        origins[-1]
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{path} is not a whole record of a run ({error}); restore it, or move {path.parent} away to start again") from error
    fields = [key for key in now | was if now.get(key) != was.get(key)]
    if fields:
        changes = ", ".join(f"{key} was {was.get(key)!r}, is {now.get(key)!r}" for key in fields)
        raise ValueError(f"{path.parent} holds a run of other settings ({changes}); move it away, or undo the change")
    return origins
