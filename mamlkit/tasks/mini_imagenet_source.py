"""The files of a source of Mini-ImageNet, one after the other: of a folder or of an archive.

An archive is read in one pass: ``.tar.xz`` has no other way that is fast. Files come from anywhere: nothing
is unpacked to the disk or unpickled, and sizes and formats are checked before use.
"""

from __future__ import annotations

__all__ = ["TABLES", "Tell", "contents"]

import lzma
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

TABLES = ("train.csv", "val.csv", "test.csv")

_MOST_IMAGE = 2**17  # bytes of a picture; 84 x 84 are about 4,000, and 21,168 uncompressed
_MOST_TABLE = 2**23  # bytes of a table; train.csv has 1,228,815
_MOST_TOTAL = 2**32  # bytes of an unpacked archive; a few kilobytes can become far more
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

Tell = Callable[[str], None]


def contents(source: Path, wanted: Callable[[str], bool], tell: Tell) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of the tables and pictures of a source, in the order in which they lie there."""
    entries = (_folder if source.is_dir() else _zip if source.name.endswith(".zip") else _tar)(source)
    while True:
        path = "it"
        try:
            path, size, content = next(entries)
            if not (name := _name(path)) or not wanted(name):
                continue
            most = _MOST_TABLE if name in TABLES else _MOST_IMAGE
            data = content() if 0 <= size <= most else None
        except StopIteration:
            return
        except Exception as error:  # damage shows in many ways (zip, zlib, lzma, tar, struct, ...)
            where = str(source) if path == "it" else f"{source}: {path!a}"
            tell(f"{where} cannot be read: it is truncated or damaged ({error})")
            if path == "it":  # nothing can be read after it
                return
            continue
        if data is None:
            tell(f"{source}: {path!a} has {size:,} bytes; it may have at most {most:,}")
        else:
            yield name, data


# Each reader gives path, size and a function that reads the bytes, file by file.
_Entries = Iterator[tuple[str, int, Callable[[], bytes]]]


def _folder(source: Path) -> _Entries:
    for table in filter(lambda name: (source / name).is_file(), TABLES):
        yield table, (source / table).stat().st_size, (source / table).read_bytes
    for name in sorted(os.listdir(source / "images") if (source / "images").is_dir() else []):
        path = source / "images" / name
        if path.is_file():  # reading from a pipe would wait for ever
            yield f"images/{name}", path.stat().st_size, path.read_bytes


def _zip(source: Path) -> _Entries:
    with zipfile.ZipFile(source) as archive:
        for member in archive.infolist():
            if member.compress_type not in _PACKED:  # of the other methods a few bytes can become gigabytes
                raise ValueError(f"it is packed by method {member.compress_type}; use 'stored' or 'deflated'")

            def content(member: zipfile.ZipInfo = member) -> bytes:
                with archive.open(member) as file:
                    return file.read(member.file_size)  # the size that was checked, true or false

            yield member.filename, member.file_size, content


def _tar(source: Path) -> _Entries:
    with (
        cast(BinaryIO, lzma.open(source) if source.name.endswith(".xz") else source.open("rb")) as file,
        tarfile.open(fileobj=cast(BinaryIO, _Bounded(file)), mode="r:") as archive,
    ):
        for member in archive:
            if member.isreg():  # neither a link nor a pipe
                yield member.name, member.size, cast(BinaryIO, archive.extractfile(member)).read


class _Bounded:
    """The bytes of an unpacked archive, of which a header cannot ask for more than there may be."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.tell = file.tell

    def seek(self, position: int) -> int:
        if position > _MOST_TOTAL:
            raise ValueError(f"it has more than {_MOST_TOTAL:,} bytes")
        return self._file.seek(position)

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MOST_TABLE:
            raise ValueError(f"a part of it has {size:,} bytes")
        return self._file.read(size)


def _name(path: str) -> str | None:
    """What a file is, by its path in the source: a table, or a picture in ``images/``; None if neither."""
    parts = path.replace("\\", "/").split("/")
    if parts[-1].startswith(".") or "__MACOSX" in parts:  # what a Mac leaves
        return None
    return parts[-1] if parts[-1] in TABLES or parts[-2:-1] == ["images"] else None
