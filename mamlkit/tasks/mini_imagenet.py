"""Mini-ImageNet: 100 classes of ImageNet, 600 pictures of each, 84 x 84 in colour.

Paper: Section 5.2; Ravi & Larochelle, "Optimization as a model for few-shot learning" (2017).

The data set is looked for in ``MAMLKIT_DATA/mini_imagenet``, then in the cache's ``mini_imagenet``, in the
forms that ``mini_imagenet_files`` names. ImageNet's terms (non-commercial research, no
redistribution) forbid to give it on, so nothing here downloads it. It is decoded once, into one
file of bytes in the cache (1.27 GB), which is then mapped: a bank takes no time to load, no memory
that is not looked at, and shares that with other processes.
"""

from __future__ import annotations

__all__ = ["LISTS", "SPLITS", "Report", "available", "check", "load", "prepare"]

import csv
import hashlib
import io
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import NoReturn

import filelock
import numpy as np
import torch

from mamlkit.files import remove_leftovers, replacing
from mamlkit.places import cache_dir, data_folders
from mamlkit.tasks import mini_imagenet_files as files
from mamlkit.tasks import mini_imagenet_record as recorded
from mamlkit.tasks.bank import ClassBank

LISTS = ("64/16/20", "64/12/24")
SPLITS = files.SPLITS

_PER_CLASS = 600
_VERSION = 1  # of the processing: images decoded by another version are decoded anew


def available() -> bool:
    """Whether the data set is there to ``load``; its content is not looked at.

    Raises:
        FileNotFoundError: If ``MAMLKIT_DATA`` names something that is not a folder.
        ValueError: If a folder has several archives, or nothing but pickles.
    """
    source = _find()
    return source is not None and not files.lacking(source)


def load(split: str, classes: str = LISTS[0]) -> ClassBank:
    """The classes of one split, 84 x 84 in colour. The first call decodes all pictures: about a minute.

    Paper: Section 5.2 ("64 training classes, 12 validation classes, and 24 test classes").
    Deviation: the list by Ravi & Larochelle, which everybody uses, has 64, 16 and 20. Nobody has
    published one of 64, 12 and 24. ``"64/12/24"`` here takes four of the 16 validation classes
    into the test split: of the sorted names, those that ``numpy.random.RandomState(0).permutation(16)``
    has first. The lists are ``mini_imagenet_classes.csv`` beside this file.

    Args:
        split: ``"train"``, ``"val"`` or ``"test"``.
        classes: the list, ``"64/16/20"`` or ``"64/12/24"``.

    Returns:
        Images uint8 ``[classes, 600, 3, 84, 84]``, mapped from a file; names such as ``"n01532829"``, sorted
        but for the four classes that move, which are last in ``"val"`` and first in ``"test"``.

    Raises:
        FileNotFoundError: If the data set is not there, or a part of it.
        ValueError: If ``split`` or ``classes`` is another word, or the files are not the whole of
            Mini-ImageNet: a damaged archive, a missing picture, an unreadable one, another size or label.
        OSError: If the cache cannot be written.
    """
    if split not in SPLITS:
        raise ValueError(f"split={split!r} is not a split of Mini-ImageNet; use one of {', '.join(SPLITS)}")
    if classes not in LISTS:
        raise ValueError(
            f"classes={classes!r} is no list of Mini-ImageNet's classes; use {' or '.join(LISTS)}"
        )
    path = prepare()
    split_of = _split_of(classes)
    names = tuple(name for name, its in split_of.items() if its == split)
    first = list(split_of).index(names[0])  # the classes of a split follow each other in both lists
    shape = (len(names), _PER_CLASS, *files.SHAPE)
    # "c": a write would change a copy of its page, and never the file
    pixels = np.memmap(path, np.uint8, "c", offset=first * _PER_CLASS * files.BYTES, shape=shape)
    return ClassBank(torch.from_numpy(pixels), names)


def prepare() -> Path:
    """The file of decoded images in the cache, made now if it is not there.

    It holds uint8 ``[100, 600, 3, 84, 84]``, classes in the order of ``mini_imagenet_classes.csv``. Its
    name has the identity of the source (of an archive its name, size and time; of a folder the tables, and
    those of each picture), and it has that name only when it is whole. Beside it lies its SHA-256, which
    :func:`check` compares, and that of a sample, which is compared here: a file that differs there, or in its
    size, is made anew. Processes that want it at once wait for the first.

    Raises:
        FileNotFoundError, ValueError, OSError: as :func:`load`.
    """
    source = _find()
    if source is None or (missing := files.lacking(source)):
        raise FileNotFoundError(_absence(None if source is None else f"{', '.join(missing)} in {source}"))
    if _usable(path := _decoded(files.remembered_identity(source))):
        return path
    path = _decoded(files.identity(source))  # what is decoded now has the name of what is there now
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.parent / "lock"):
            if not _usable(path):  # nobody was quicker
                _decode(source, path)
    except OSError as error:
        raise OSError(
            error.errno,
            f"{error.strerror or error}: the decoded Mini-ImageNet takes {_size() / 1e9:.2f} GB; make room, "
            "or set MAMLKIT_CACHE to a folder that has it and can be written",
            str(path),
        ) from error
    return path


@dataclass(frozen=True)
class Report:
    """What :func:`check` has found.

    Args:
        right: what is as it should be.
        wrong: what is not, each finding with its place.
    """

    right: tuple[str, ...]
    wrong: tuple[str, ...]


def check(folder: Path) -> Report:
    """Read all of a copy of the data set; compare its decoded images, if there are any, with their SHA-256.

    Args:
        folder: holds the archive, or the tables and ``images/``; or a ``mini_imagenet`` that does.
    """
    right: list[str] = []
    wrong: list[str] = []
    if (inner := folder / "mini_imagenet").is_dir():
        folder = inner
    try:
        source = files.find(folder)
    except ValueError as error:
        return Report((), (str(error),))
    if source is None:
        what = "no tables, images/ or archive in it" if folder.is_dir() else "it is not a folder"
        return Report((), (f"{folder}: {what}; {files.WHAT_TO_PUT}",))
    missing = files.lacking(source)
    wrong += [f"{source} lacks {name}" for name in missing]
    classes = _split_of(LISTS[0])
    places = files.places(source, classes, _PER_CLASS, wrong.append)
    whole = len(classes) * _PER_CLASS
    named = f"{source}: the tables name {len(places):,} of {whole:,} pictures"
    (right if len(places) == whole else wrong).append(named)
    decoded = sum(1 for _ in files.images(source, places, wrong.append, "checking"))
    readable = f"{source}: {decoded:,} pictures are there, readable, and 84 x 84"
    (right if decoded == whole else wrong).append(readable)
    if not missing and (path := _decoded(files.identity(source))).exists():
        if _whole(path) and recorded.whole_holds(path):
            right.append(f"{path}: the decoded images are as they were written")
        else:
            wrong.append(f"{path}: the decoded images have changed since they were written; delete this file")
    return Report(tuple(right), tuple(dict.fromkeys(wrong)))


def _find() -> Path | None:
    """The source in the first folder that has one."""
    return next((source for folder in data_folders("mini_imagenet") if (source := files.find(folder))), None)


def _absence(what: str | None) -> str:
    folders = data_folders("mini_imagenet")
    if not folders:
        return f"MAMLKIT_DATA says that there is no data set; set it to a folder, and {files.HOW_TO_GET}"
    what = what or f"data set in {' or '.join(map(str, folders))}"
    return f"Mini-ImageNet: no {what}; {files.HOW_TO_GET}"


def _split_of(classes: str) -> dict[str, str]:
    """Class -> split by one of the lists, in the order in which the classes are kept."""
    text = resources.files("mamlkit.tasks").joinpath("mini_imagenet_classes.csv").read_text("utf-8")
    return {row["class"]: row[classes] for row in csv.DictReader(io.StringIO(text))}


def _decoded(identity: str) -> Path:
    """Where the decoded images of a source of this identity are kept."""
    key = f"version {_VERSION} {list(_split_of(LISTS[0]))} {_PER_CLASS} {identity}"
    return cache_dir() / "mini_imagenet" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.images"


def _size() -> int:
    return len(_split_of(LISTS[0])) * _PER_CLASS * files.BYTES


def _whole(path: Path) -> bool:
    return path.is_file() and path.stat().st_size == _size()


def _usable(path: Path) -> bool:
    return _whole(path) and recorded.sample_holds(path)


def _decode(source: Path, path: Path) -> None:
    """Decode a source into ``path``; only its own process does so now."""
    remove_leftovers(path.parent, [path.name])  # those of a process that was killed are large
    places = files.places(source, _split_of(LISTS[0]), _PER_CLASS, _refuse)
    with replacing(path) as temporary:
        # Written and not mapped: a full disk is an error here, and would end the process there.
        with temporary.open("rb+") as file:
            for (row, number), pixels in files.images(source, places, _refuse, "decoding Mini-ImageNet"):
                file.seek((row * _PER_CLASS + number) * files.BYTES)
                file.write(pixels.data)
        recorded.write(path, temporary, source.name)
    for old in set(path.parent.glob("*.images")) - {path}:  # of a source that has changed
        with suppress(OSError):  # it only takes room
            old.unlink()
            old.with_suffix(".json").unlink()


def _refuse(finding: str) -> NoReturn:
    raise ValueError(f"{finding}; {files.HOW_TO_GET}")
