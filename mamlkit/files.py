"""Files that appear whole or not at all; what a file of tensors says of itself. No torch here."""

__all__ = ["copy", "metadata", "remove_leftovers", "replacing", "write_bytes", "write_json", "write_text"]

import json
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

LEFT_OVER = 24 * 3600.0  # seconds after which a temporary file is taken for that of a process that was killed


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside ``path`` to write to: once whole it takes the place of ``path``, else it is gone.

    A process that is killed leaves its temporary file behind; one older than a day is removed when ``path``
    is next written.

    Raises:
        OSError: it cannot be written, for example because the disk is full; what was at ``path`` is still
            there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent, [path.name], LEFT_OVER)
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
        # A name that nobody can guess, and only a file that was not there: a planted link is not followed.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        try:
            yield temporary
            with temporary.open("rb+") as file:
                # on the disk before it has the name, or a power cut leaves an empty file
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error  # a full disk does not name the file


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole or not at all."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def copy(source: Path, target: Path) -> Path:
    """Copy a file whole or not at all; returns the target."""
    write_bytes(target, source.read_bytes())
    return target


def remove_leftovers(folder: Path, names: Iterable[str], older_than: float = 0.0) -> None:
    """Remove what processes that were killed while they wrote have left.

    What cannot be removed only takes room.

    Args:
        folder: where to look.
        names: of the files that were to be written.
        older_than: seconds; 0 only where no other process can be writing now.
    """
    # also the shorter names of before
    ours = re.compile(f"({'|'.join(map(re.escape, names))})" + r"\.?[0-9a-z_]{8,16}\.tmp")
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if (
                ours.fullmatch(entry.name)
                and time.time() - entry.stat(follow_symlinks=False).st_mtime >= older_than
            ):
                with suppress(OSError):  # another process may be quicker
                    os.unlink(entry.path)


def metadata(content: bytes) -> dict[str, str]:
    """What a safetensors file says beside its tensors; an empty dictionary if that is nothing.

    Args:
        content: of the file. It begins with the length of its header, which is JSON.

    Raises:
        ValueError: it is not such a file.
    """
    try:
        found = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__", {})
        found = json.loads(found["record"]) if "record" in found else found  # see mamlkit/runs/checkpoints.py
        return {key: str(value) for key, value in found.items()}
    except (AttributeError, TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error
