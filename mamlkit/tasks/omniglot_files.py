"""The drawings of Omniglot as they lie on a disk: found by name, read with bounds, decoded to pixels.

A source is an archive or a folder. Both follow one rule: a drawing is a file whose path ends in
``Alphabet/characterNN/NNNN_DD.png`` (DD is the person who drew it), at whatever depth, in capitals or
not, with the slashes of any system. Other files are passed over, and so is what a Mac adds (``__MACOSX``,
names with a leading dot). Files come from anywhere: nothing is unpacked, and sizes and formats are
checked before use.
"""

from __future__ import annotations

__all__ = ["HOW_TO_GET", "SIZE", "contents", "decode", "identity", "members"]

import hashlib
import io
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

HOW_TO_GET = (
    "get it with `python -m mamlkit data omniglot`, or set MAMLKIT_DATA to a folder that holds "
    "omniglot/images_background.zip and omniglot/images_evaluation.zip (or the unpacked folders)"
)
SIZE = (28, 28)

_FILE_SIZE = (105, 105)
_MOST_BYTES = 2**16  # of one file, packed or not; Omniglot's have about 250, and 105 x 105 x 4 are 44,100
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # of the other methods a few bytes can become gigabytes


def members(source: Path) -> dict[tuple[str, int], str]:
    """Where each drawing lies: (``"Alphabet/characterNN"``, person) -> path inside the source.

    Raises:
        ValueError: If an archive is damaged, or a drawing is there twice.
    """
    found: dict[tuple[str, int], str] = {}
    for name in _folder_names(source) if source.is_dir() else _archive_names(source):
        drawing = _drawing(name)
        if drawing in found:
            raise ValueError(
                f"{source} has drawing {drawing[1]} of {drawing[0]} twice, as {found[drawing]!a} and "
                f"as {name!a}; remove the wrong one, or {HOW_TO_GET}"
            )
        if drawing:
            found[drawing] = name
    return found


def contents(source: Path, names: Iterable[str]) -> Iterator[bytes]:
    """The bytes of each of these files of a source.

    Raises:
        ValueError: If an archive is damaged, or a file is too large, or no regular file.
    """
    if source.is_dir():
        for name in names:
            _regular(source / name)
            yield (source / name).read_bytes()
        return
    with _damage_named(source):
        archive = zipfile.ZipFile(source)
    with archive:
        for name in names:
            with _damage_named(source):
                data = _unpacked(archive, name)
            yield data


def identity(source: Path) -> str:
    """What changes when the source does: the digest of an archive's bytes, of a folder's listing."""
    digest = hashlib.sha256()
    if source.is_dir():
        for name in sorted(members(source).values()):
            found = _regular(source / name)
            digest.update(f"{name} {found.st_size} {found.st_mtime_ns}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()
    with source.open("rb") as file:
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()


def decode(data: bytes, where: str) -> np.ndarray:
    """One drawing as uint8 [28, 28], ink 255 and paper 0.

    The authors' script asks Pillow for Lanczos, but the files have one bit per pixel, and for these
    Pillow takes the nearest neighbour. That is asked for here by its name.

    Args:
        data: the bytes of a PNG file.
        where: its place, for messages.

    Raises:
        ValueError: If it is no PNG image, a damaged one, or not 105 x 105.
    """
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR":  # another format may start another program
        raise ValueError(f"{where} is not a readable image (no PNG file by its bytes); {HOW_TO_GET}")
    size = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    if size != _FILE_SIZE:  # before decoding, which would take the memory of all its pixels
        raise ValueError(f"{where} is {size[0]} x {size[1]} pixels; Omniglot's are 105 x 105; {HOW_TO_GET}")
    try:
        _check_sums(data)
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if image.size != _FILE_SIZE:
                raise ValueError("it states two sizes")
            bits = image.convert("1", dither=Image.Dither.NONE)
    except Exception as error:  # Pillow tells of damage by many classes; the cure is one
        raise ValueError(f"{where} is not a readable image ({error}); {HOW_TO_GET}") from error
    paper = np.asarray(bits.resize(SIZE, Image.Resampling.NEAREST), dtype=bool)
    return np.where(paper, 0, 255).astype(np.uint8)


def _check_sums(data: bytes) -> None:
    """Compare each chunk of a PNG file with its CRC, which Pillow does not do for pixels."""
    start, kind = 8, b""
    while kind != b"IEND":
        if start + 12 > len(data):
            raise ValueError("it ends too early")
        end = start + 8 + int.from_bytes(data[start : start + 4])  # length, kind and content; then the CRC
        kind = data[start + 4 : start + 8]
        if zlib.crc32(data[start + 4 : end]) != int.from_bytes(data[end : end + 4]):
            raise ValueError(f"its chunk {kind!a} does not match its CRC")
        start = end + 4


def _drawing(name: str) -> tuple[str, int] | None:
    """The character and the person of a file, by its path in the source; None if it is no drawing."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    if len(parts) < 3 or any(part.startswith(".") or part == "__MACOSX" for part in parts):
        return None
    person = re.fullmatch(r"(?:.*_)?([0-9]{1,4})\.png", parts[-1], re.IGNORECASE | re.DOTALL)
    character = f"{parts[-3]}/{parts[-2]}".encode(errors="backslashreplace").decode()  # can be printed
    return (character, int(person[1])) if person else None


def _folder_names(folder: Path) -> Iterator[str]:
    """Paths of all files in a folder, relative to it. Links are followed, but no folder is entered twice."""

    def fail(error: OSError) -> None:
        raise error

    entered = set()
    for here, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        if (place := os.path.realpath(here)) in entered:
            folders.clear()
            continue
        entered.add(place)
        folders.sort()
        yield from (os.path.relpath(os.path.join(here, name), folder) for name in sorted(names))


def _archive_names(path: Path) -> Iterator[str]:
    with _damage_named(path), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    yield from names


def _regular(file: Path) -> os.stat_result:
    """The size and time of a regular file; reading from a pipe would wait for ever."""
    found = os.stat(file)
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{file} is not a regular file; remove it, or {HOW_TO_GET}")
    if found.st_size > _MOST_BYTES:
        too_large = f"{found.st_size:,} bytes, but a drawing has at most {_MOST_BYTES:,}"
        raise ValueError(f"{file} has {too_large}; {HOW_TO_GET}")
    return found


def _unpacked(archive: zipfile.ZipFile, name: str) -> bytes:
    info = archive.getinfo(name)
    if info.compress_type not in _PACKED:
        raise ValueError(f"{name!a} is packed by method {info.compress_type}; use 'stored' or 'deflated'")
    if max(info.file_size, info.compress_size) > _MOST_BYTES:
        raise ValueError(f"{name!a} has {info.file_size:,} bytes, but a drawing has at most {_MOST_BYTES:,}")
    with archive.open(info) as file:
        return file.read(_MOST_BYTES + 1)  # sizes may be false: never more than this at once


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Whatever the reading of an archive raises becomes a ValueError with the archive's name."""
    try:
        yield
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # damage shows in many ways (zip, zlib, struct, ...); the cure is one
        raise ValueError(f"{path} is truncated or damaged ({error}); {HOW_TO_GET}") from error
