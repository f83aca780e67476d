"""What is recorded of the decoded images of Mini-ImageNet, so that damage shows: sums of all and of a sample.

The sum of all 1.27 GB takes seconds, so it is compared when somebody asks. That of a sample takes
milliseconds and is compared at every load. It sees what damages much of a file, such as a copy that was
broken off and filled up with zeros. One bad block of a disk lies between the samples most likely.
"""

from __future__ import annotations

__all__ = ["sample_holds", "whole_holds", "write"]

import hashlib
import json
from pathlib import Path

from mamlkit.files import write_json

_BLOCKS = 64  # evenly over the file, the first and the last among them
_BLOCK = 2**14  # bytes of each


def write(path: Path, images: Path, source: str) -> None:
    """Record, beside ``path``, what images that will lie there hold.

    Args:
        path: of the decoded images, once they are whole.
        images: where they are now.
        source: the name of what they were decoded from.
    """
    record = {"source": source, "sha256": _whole(images), "sample": _sample(images)}
    write_json(path.with_suffix(".json"), record)


def whole_holds(path: Path) -> bool:
    """Whether every byte is as it was written; no, where nothing readable is recorded."""
    return _recorded(path, "sha256") == _whole(path)


def sample_holds(path: Path) -> bool:
    """Whether a sample of the bytes is as it was written.

    Yes, where none was recorded: files of before have none, and to decode all again takes a minute.
    """
    return _recorded(path, "sample") in (None, _sample(path))


def _whole(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sample(path: Path) -> str:
    found, last = hashlib.sha256(), max(path.stat().st_size - _BLOCK, 0)
    with path.open("rb") as file:
        for number in range(_BLOCKS):
            file.seek(last * number // (_BLOCKS - 1))
            found.update(file.read(_BLOCK))
    return found.hexdigest()


def _recorded(path: Path, key: str) -> str | None:
    """A sum that was recorded; None if there is none that can be read."""
    try:
        return json.loads(path.with_suffix(".json").read_text("utf-8"))[key]
    except (OSError, ValueError, KeyError, TypeError):
        return None
