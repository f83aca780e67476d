"""Omniglot: 1,623 handwritten characters, each drawn once by 20 people.

Paper: Section 5.2; Lake et al., "One shot learning of simple visual concepts" (2011).

The data set is two archives, ``images_background.zip`` and ``images_evaluation.zip``, or the folders
they unpack to (see ``omniglot_files``). They are accepted on their content, from
``MAMLKIT_DATA/omniglot`` or, after ``python -m mamlkit data omniglot``, from the cache; nothing here
downloads except ``fetch``.
"""

from __future__ import annotations

__all__ = ["DIVISIONS", "SPLITS", "available", "fetch", "load"]

import csv
import hashlib
import io
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib import resources
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from mamlkit.places import cache_dir, data_folders
from mamlkit.tasks import omniglot_files as files
from mamlkit.tasks.bank import ClassBank, cached, select
from mamlkit.tasks.checks import few

SPLITS = ("train", "val", "test", "all")

_PARTS = ("images_background", "images_evaluation")
_URL = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
_HASHES = {
    "images_background": "md5:68d2efa1b9178cc56df9314c21c6e718",
    "images_evaluation": "md5:6b91aef0f799c5bb55b94e3f2daec811",
}
_DRAWINGS = 20
_VERSION = 1  # of the processing below: a cached bank of another version is built anew


def available() -> bool:
    """Whether both halves of the data set are there to ``load``; their content is not looked at.

    Raises:
        FileNotFoundError: If ``MAMLKIT_DATA`` names something that is not a folder.
    """
    return len(_find()) == len(_PARTS)


def load(split: str, division: str = "characters") -> ClassBank:
    """The characters of one split, 28 x 28, ink 255 and paper 0.

    Paper: Section 5.2 ("1200 characters for training", "downsampled to 28 x 28"). As the authors'
    code has it: 1,100 characters to train, 100 to validate, 423 to test, alphabets ignored, and
    strictly binary images (see ``omniglot_files.decode``).
    Deviation: the authors shuffled an unsorted folder listing, which cannot be repeated. Here the
    sorted names are shuffled by ``numpy.random.RandomState(1).permutation``; the list is
    ``omniglot_split.csv`` beside this file.

    Args:
        split: ``"train"``, ``"val"``, ``"test"``, or ``"all"`` for the three together.
        division: one of :data:`DIVISIONS`: ``"characters"`` ignores alphabets, ``"alphabets"`` puts every
            alphabet into one split as a whole, as other papers do, with about as many characters in each. To
            measure what mixing alphabets is worth, two more have the same test characters, half of those of
            each of the latter's test alphabets, and as many to train: ``"test alphabets unseen"`` trains on
            other alphabets, ``"test alphabets seen"`` on the other halves, too.

    Returns:
        Images uint8 ``[characters, 20, 1, 28, 28]``, names ``"Alphabet/characterNN"`` in sorted
        order, drawings in the order of the 20 people.

    Raises:
        FileNotFoundError: If the data set, or one of its two halves, is not there.
        ValueError: If ``split`` or ``division`` is another word, or the files are not the whole of Omniglot:
            a damaged archive, a missing character or drawing, an unreadable image, another size.
    """
    if split not in SPLITS:
        raise ValueError(f"split={split!r} is not a split of Omniglot; use one of {', '.join(SPLITS)}")
    if division not in DIVISIONS:
        raise ValueError(
            f"division={division!r} is not one of Omniglot; use one of {', '.join(map(repr, DIVISIONS))}"
        )
    sources = _find()
    missing = [part for part in _PARTS if part not in sources]
    if missing:
        raise FileNotFoundError(_absence(sources, missing))
    split_of = DIVISIONS[division]()
    paths = [sources[part] for part in _PARTS]
    names, shape = tuple(sorted(split_of)), (_DRAWINGS, 1, *files.SIZE)
    bank = cached("omniglot", _identity(paths), names, shape, lambda: _read(paths, names, _DRAWINGS))
    return bank if split == "all" else select(bank, {n for n in bank.names if split_of[n] == split})


def fetch(progress: bool = True) -> Path:
    """Download the two official archives into the cache, unless they are there already.

    Each is checked against its published MD5 and appears under its name only when it is whole.

    Args:
        progress: show a progress bar for each archive.

    Returns:
        The folder that holds them.

    Raises:
        ConnectionError: If an archive cannot be downloaded.
        ValueError: If what came has another checksum; it is not kept.
    """
    import pooch  # here, since it imports tqdm.auto, which warns in a notebook without widgets
    import requests  # pooch's own way to the network; slow to import and needed nowhere else

    folder = cache_dir() / "omniglot"
    pooch.get_logger().setLevel("WARNING")  # the progress bar says the same
    for part in _PARTS:
        name = f"{part}.zip"
        try:
            pooch.retrieve(f"{_URL}{name}", _HASHES[part], name, folder, progressbar=progress)
        except requests.RequestException as error:
            raise ConnectionError(
                f"cannot download {_URL}{name} ({error}); try again with a network, or put the "
                f"archive from elsewhere into {folder}"
            ) from error
        except ValueError as error:  # pooch has deleted the file
            raise ValueError(
                f"{_URL}{name} is not the official archive, and was not kept: {error} Try again; if "
                f"it stays so, put a copy you trust into {folder}"
            ) from error
    return folder


def _find() -> dict[str, Path]:
    """The halves of the data set in one folder: the first that has both, else the first that has one."""
    return max(map(_halves, data_folders("omniglot")), key=len, default={})


def _halves(folder: Path) -> dict[str, Path]:
    found = {}
    for part in _PARTS:
        if (folder / f"{part}.zip").is_file():  # before the folder, which may be half unpacked
            found[part] = folder / f"{part}.zip"
        elif (folder / part).is_dir():
            found[part] = folder / part
    return found


def _absence(found: Mapping[str, Path], missing: list[str]) -> str:
    folders = [path.parent for path in found.values()][:1] or data_folders("omniglot")
    if not folders:
        return "MAMLKIT_DATA says that there is no data set; unset it, and " + files.HOW_TO_GET
    halves = " and ".join(f"{part}.zip (or folder {part})" for part in missing)
    return f"Omniglot: no {halves} in {' or '.join(map(str, folders))}; {files.HOW_TO_GET}"


def _split_of() -> dict[str, str]:
    """Character -> split, from the committed list, in sorted order of the characters."""
    text = resources.files("mamlkit.tasks").joinpath("omniglot_split.csv").read_text("utf-8")
    return {row["character"]: row["split"] for row in csv.DictReader(io.StringIO(text))}


def _split_by_alphabet() -> dict[str, str]:
    """Character -> split: alphabets in a shuffled order, each into the first split that has room for it."""
    alphabets: dict[str, list[str]] = {}
    for character in _split_of():
        alphabets.setdefault(character.partition("/")[0], []).append(character)
    order = np.random.RandomState(1).permutation(sorted(alphabets))
    room = {"train": 1100, "val": 100, "test": len(_split_of())}  # the last takes what is left
    split_of: dict[str, str] = {}
    for characters in map(alphabets.__getitem__, order):
        split = next(name for name, left in room.items() if left >= len(characters))
        room[split] -= len(characters)
        split_of |= dict.fromkeys(characters, split)
    return split_of


def _same_test(seen: bool) -> dict[str, str]:
    """Character -> split: half the characters of each test alphabet are tested.

    The other halves are trained on in place of as many others if they are ``seen``, else left out.
    """
    random, split_of = np.random.RandomState(1), _split_by_alphabet()
    halves: list[str] = []
    tested = [name for name, split in split_of.items() if split == "test"]
    for alphabet in sorted({name.partition("/")[0] for name in tested}):
        own = [name for name in sorted(tested) if name.partition("/")[0] == alphabet]
        halves += random.permutation(own)[len(own) // 2 :].tolist()
    trained = sorted(name for name, split in split_of.items() if split == "train")
    replaced = random.permutation(trained)[: len(halves)].tolist()
    moved = {"train": halves, "left out": replaced} if seen else {"left out": halves}
    return split_of | {name: split for split, names in moved.items() for name in names}


DIVISIONS: dict[str, Callable[[], dict[str, str]]] = {
    "characters": lambda: _split_of(),  # looked up when it is called
    "alphabets": _split_by_alphabet,
    "test alphabets unseen": partial(_same_test, seen=False),
    "test alphabets seen": partial(_same_test, seen=True),
}


def _identity(sources: list[Path]) -> str:
    """A digest that changes when a source does, or the way it is read."""
    digest = hashlib.sha256(f"version {_VERSION}".encode())
    for source in sources:
        digest.update(files.identity(source).encode())
    return digest.hexdigest()


def _read(sources: list[Path], characters: tuple[str, ...], drawings: int) -> ClassBank:
    """Decode every drawing in ``sources``, which must hold exactly ``characters`` (sorted) x ``drawings``."""
    places = {source: files.members(source) for source in sources}
    _check_complete(chain(*places.values()), characters, drawings, " and ".join(map(str, sources)))
    images = {}
    for source, found in places.items():
        for (drawing, name), data in zip(found.items(), files.contents(source, found.values()), strict=True):
            images[drawing] = files.decode(data, f"{source}: {name}")
    stack = np.stack([images[drawing] for drawing in sorted(images)])
    return ClassBank(torch.from_numpy(stack.reshape(-1, drawings, 1, *files.SIZE)), characters)


def _check_complete(
    found: Iterable[tuple[str, int]], characters: tuple[str, ...], drawings: int, where: str
) -> None:
    """Refuse drawings that are not, for each of ``characters``, one of each person from 1 to ``drawings``."""
    people: dict[str, list[int]] = {}
    for character, person in found:
        people.setdefault(character, []).append(person)
    if set(people) != set(characters):
        lost, odd = sorted(set(characters) - set(people)), sorted(set(people) - set(characters))
        raise ValueError(
            f"{len(people):,} characters in {where}, but Omniglot has {len(characters):,}; "
            f"missing: {few(lost)}; unknown: {few(odd)}; {files.HOW_TO_GET}"
        )
    uneven = [name for name in sorted(people) if sorted(people[name]) != list(range(1, drawings + 1))]
    if uneven:
        counts = [f"{name} ({len(people[name])})" for name in uneven]
        raise ValueError(
            f"every Omniglot character has {drawings} drawings, numbered from 1, but in {where} others for: "
            f"{few(counts)}; {files.HOW_TO_GET}"
        )
