"""Files that are whole or not there. No torch here."""

__all__ = ["replacing"]

import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_LEFT_OVER = 24 * 3600  # seconds after which a temporary file is that of a process that was killed


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside ``path`` to write to: once whole it takes the place of ``path``, else it is gone.

    The temporary file has a name that nobody can foresee, and is made by us or not at all, so no link
    that somebody left in a shared folder is followed. Its bytes are on the disk before it gets its
    name, so that after a loss of power there is the old file or the new one. A killed process
    leaves its temporary file behind; one older than a day is removed when ``path`` is next written.

    Args:
        path: the file to write; its folder is made if need be.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_overs(path)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
    temporary.open("xb").close()  # "x": new, never through a link; the umask gives its mode
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_left_overs(path: Path) -> None:
    """Remove old temporary files of ``path``; what cannot be removed stays, since it only takes room."""
    ours = re.compile(re.escape(path.name) + r"\.?[0-9a-z_]{8,16}\.tmp")  # also as earlier versions had them
    before = time.time() - _LEFT_OVER
    with suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            if ours.fullmatch(entry.name) and entry.stat(follow_symlinks=False).st_mtime < before:
                with suppress(OSError):  # another process may be quicker
                    os.unlink(entry.path)
