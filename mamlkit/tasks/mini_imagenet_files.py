"""Mini-ImageNet as it lies on a disk: found by name, read once from end to end, decoded to pixels.

A source is a folder with ``train.csv``, ``val.csv``, ``test.csv`` (``filename,label``) and ``images/``, or
one archive (``.tar.xz``, ``.tar``, ``.zip``) that holds the same, at whatever depth.

What is wrong is told to a function that the caller gives: one that raises ends the reading at the
first finding, one that collects hears them all.
"""

from __future__ import annotations

__all__ = [
    "BYTES",
    "HOW_TO_GET",
    "SHAPE",
    "SPLITS",
    "WHAT_TO_PUT",
    "decode",
    "find",
    "identity",
    "images",
    "lacking",
    "places",
    "remembered_identity",
]

import csv
import hashlib
import io
import os
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.std import tqdm

from mamlkit.tasks.checks import few
from mamlkit.tasks.mini_imagenet_source import TABLES, Tell, contents

WHAT_TO_PUT = (
    "put into MAMLKIT_DATA/mini_imagenet the files train.csv, val.csv and test.csv of Ravi & Larochelle "
    "(github.com/twitter/meta-learning-lstm, data/miniImagenet) and, in images/, the pictures that they "
    "name, cut from any copy of ILSVRC-2012 and shrunk to 84 x 84; or one .tar.xz, .tar or .zip of that. "
    "ImageNet's terms allow non-commercial research and no redistribution, so nothing here downloads it"
)
HOW_TO_GET = (
    f"{WHAT_TO_PUT}. `python -m mamlkit data mini-imagenet --check FOLDER` says what is wrong with a copy"
)
SPLITS = ("train", "val", "test")
SHAPE = (3, 84, 84)  # of an image
BYTES = 3 * 84 * 84

_ARCHIVES = (".tar.xz", ".tar", ".zip")
_THREADS = 2  # that decode, beside the one that unpacks
_GRAIN = 2 * 10**9  # nanoseconds, the coarsest times of a file system
_AHEAD = 512  # pictures read and not yet decoded: the memory that reading may take


def find(folder: Path) -> Path | None:
    """The source in a folder: its archive, else the folder itself where it holds a table or ``images/``.

    Raises:
        ValueError: If there is more than one archive, or nothing but pickles.
    """
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    archives = [name for name in names if name.endswith(_ARCHIVES) and (folder / name).is_file()]
    if len(archives) > 1:
        raise ValueError(
            f"{folder} has {len(archives)} archives ({few(archives)}); leave the right one there"
        )
    if archives:  # before the folder, which may be half unpacked
        return folder / archives[0]
    if len(lacking(folder)) <= len(SPLITS):
        return folder
    if pickles := [name for name in names if name.endswith((".pkl", ".pickle"))]:
        raise ValueError(
            f"{folder} has {few(pickles)}, and pickles are not read: unpickling runs whatever code is in "
            f"them; {HOW_TO_GET}"
        )
    return None


def lacking(source: Path) -> list[str]:
    """What a folder should hold and does not; nothing for an archive, which is not looked into."""
    if source.is_file():
        return []
    tables = [name for name in TABLES if not (source / name).is_file()]
    return tables + ([] if (source / "images").is_dir() else ["images/"])


def identity(source: Path) -> str:
    """What changes when the source does: name, size and time of files, and the tables themselves."""

    def line(name: str, found: os.stat_result) -> str:
        return f"{name} {found.st_size} {found.st_mtime_ns}\n"

    if source.is_file():
        tables, lines = [], [line(source.name, source.stat())]
    else:
        tables = [(source / table).read_bytes() for table in TABLES]
        with os.scandir(source / "images") as entries:
            lines = sorted(line(entry.name, entry.stat()) for entry in entries if entry.is_file())
    listing = "".join(lines).encode(errors="surrogateescape")
    return hashlib.sha256(b"".join([*tables, listing])).hexdigest()


def remembered_identity(source: Path) -> str:
    """:func:`identity`, for which a process looks at the 60,000 pictures of a folder once.

    It looks again when a table or the folder ``images`` has other times. The folder has when a picture comes,
    goes or is replaced. One that is written over in place shows in its own time alone: the next process sees
    that, or this one when it decodes. Until then it goes on with the images that it has.
    """
    if source.is_file():
        return identity(source)
    found = [(source / name).stat() for name in (*TABLES, "images")]
    times = tuple(each for at in found for each in (at.st_mtime_ns, at.st_ctime_ns, at.st_ino, at.st_size))
    newest = max(max(at.st_mtime_ns, at.st_ctime_ns) for at in found)
    if time.time_ns() - newest < _GRAIN:  # another change could give the same times
        return identity(source)
    return _identity(source, times)


@lru_cache(maxsize=8)
def _identity(source: Path, times: tuple[int, ...]) -> str:
    """:func:`identity` of a folder; ``times`` tell it from what it was or will be."""
    return identity(source)


def places(
    source: Path, classes: Mapping[str, str], per_class: int, tell: Tell
) -> dict[str, tuple[int, int]]:
    """Where each picture belongs, by the three tables: file name -> (row of its class, number in it).

    Args:
        source: as :func:`find` gives it.
        classes: class -> its split, in the order of the rows.
        per_class: pictures of a class; they are numbered in the order of their sorted names.
        tell: hears of each finding.
    """
    tables: dict[str, bytes] = {}
    for name, data in contents(source, lambda name: name in TABLES, tell):
        tables.setdefault(name, data)
        if len(tables) == len(TABLES):
            break  # before the pictures, where the tables come first
    names: dict[str, list[str]] = {}  # of the pictures of a class
    splits: dict[str, set[str]] = {}  # in whose tables a class stands
    for split, table in zip(SPLITS, TABLES):
        if table not in tables:
            tell(f"{source} has no {table}")
            continue
        for name, label in _rows(tables[table], f"{source}: {table}", tell):
            names.setdefault(label, []).append(name)
            splits.setdefault(label, set()).add(split)
    for label, where in splits.items():
        if len(where) > 1:
            tell(
                f"class {label!a} is in {' and '.join(f'{s}.csv' for s in SPLITS if s in where)}; "
                "it must be in one"
            )
    for split, table in zip(SPLITS, TABLES):
        known = {label for label, its in classes.items() if its == split}
        found = {label for label, where in splits.items() if split in where}
        if table in tables and known != found:
            lost, odd = sorted(known - found), sorted(map(ascii, found - known))
            tell(f"{table} has {len(found)} classes; missing: {few(lost)}; not of this split: {few(odd)}")
    for label in classes:
        if label in names and len(names[label]) != per_class:
            tell(f"class {label} has {len(names[label])} pictures in the tables; it must have {per_class}")
    twice = [name for name, times in Counter(chain(*names.values())).items() if times > 1]
    if twice:
        tell(f"pictures that the tables name twice: {few(sorted(map(ascii, twice)))}")
    return {
        name: (row, number)
        for row, label in enumerate(classes)
        for number, name in enumerate(sorted(names.get(label, [])))
    }


def images(
    source: Path, names: Mapping[str, tuple[int, int]], tell: Tell, progress: str
) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
    """The pictures of a source, decoded by two threads: place and pixels of each, in the order of the source.

    Args:
        source: as :func:`find` gives it.
        names: file name -> place, as :func:`places` gives it; other pictures are passed over.
        tell: hears of each finding.
        progress: what the progress bar says, which is shown in a terminal only.
    """
    left = dict(names)
    waiting: deque[tuple[tuple[int, int], Future[np.ndarray]]] = deque()
    bar = tqdm(total=len(names), desc=progress, unit=" pictures", mininterval=1, disable=None)

    def first() -> Iterator[tuple[tuple[int, int], np.ndarray]]:
        place, future = waiting.popleft()
        bar.update()
        try:
            yield place, future.result()
        except ValueError as error:
            tell(str(error))

    with bar, ThreadPoolExecutor(_THREADS) as pool:
        for name, data in contents(source, names.__contains__, tell):
            if name not in left:
                tell(f"{source} has picture {name} twice")
                continue
            waiting.append((left.pop(name), pool.submit(decode, data, f"{source}: {name}")))
            if len(waiting) > _AHEAD:
                yield from first()
        while waiting:
            yield from first()
    if left:
        tell(f"{source} lacks {len(left):,} pictures that the tables name: {few(sorted(left))}")


def decode(data: bytes, where: str) -> np.ndarray:
    """One picture as uint8 [3, 84, 84].

    Args:
        data: the bytes of a JPEG file; grey becomes red, green and blue.
        where: its place, for messages.

    Raises:
        ValueError: If it is no JPEG image, a damaged one, or not 84 x 84.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            size = image.size
            if size == SHAPE[1:]:  # before decoding, which would take the memory of all its pixels
                return np.ascontiguousarray(np.asarray(image.convert("RGB")).transpose(2, 0, 1))
    except Exception as error:  # Pillow tells of damage by many classes; the cure is one
        said = str(error).partition(" <")[0]  # without the object that Pillow names
        raise ValueError(f"{where} is not a readable JPEG image ({said})") from error
    raise ValueError(f"{where} is {size[0]} x {size[1]} pixels; Mini-ImageNet's are 84 x 84")


def _rows(data: bytes, where: str, tell: Tell) -> Iterator[tuple[str, str]]:
    """File name and label of each line of a table."""
    try:
        lines = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        return tell(f"{where} is not a readable table ({error})")
    if not lines or lines[0] != ["filename", "label"] or any(len(line) != 2 for line in lines if line):
        return tell(f"{where} is no table of two columns under the heading filename,label")
    yield from ((name, label) for name, label in filter(None, lines[1:]))
