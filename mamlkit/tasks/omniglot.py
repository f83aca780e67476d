"""Omniglot: 1,623 handwritten characters, each drawn once by 20 people.

Paper: Section 5.2; Lake et al., "One shot learning of simple visual concepts" (2011).

The data set is two archives, ``images_background.zip`` and ``images_evaluation.zip``, or the folders
they unpack to. They are accepted on their content, from ``MAMLKIT_DATA/omniglot`` or, after
``python -m mamlkit data omniglot``, from the cache; nothing here downloads except ``fetch``.
"""

from __future__ import annotations

__all__ = ["SPLITS", "available", "fetch", "load"]

import csv
import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mamlkit.folders import cache_dir, data_folders
from mamlkit.tasks.bank import ClassBank, cached, select

SPLITS = ("train", "val", "test", "all")

_PARTS = ("images_background", "images_evaluation")
_URL = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
_HASHES = {
    "images_background": "md5:68d2efa1b9178cc56df9314c21c6e718",
    "images_evaluation": "md5:6b91aef0f799c5bb55b94e3f2daec811",
}
_DRAWINGS = 20
_FILE_SIZE = (105, 105)
_SIZE = (28, 28)
_VERSION = 1  # of the processing below: a cached bank of another version is built anew
_HOW_TO_GET = (
    "get it with `python -m mamlkit data omniglot`, or set MAMLKIT_DATA to a folder that holds "
    "omniglot/images_background.zip and omniglot/images_evaluation.zip (or the unpacked folders)"
)


def available() -> bool:
    """Whether both halves of the data set are there to ``load``; their content is not looked at.

    Raises:
        FileNotFoundError: If ``MAMLKIT_DATA`` names something that is not a folder.
    """
    return len(_find()) == len(_PARTS)


def load(split: str) -> ClassBank:
    """The characters of one split, 28 x 28, ink 255 and paper 0.

    Paper: Section 5.2 ("1200 characters for training", "downsampled to 28 x 28"). As the authors'
    code has it: 1,100 characters to train, 100 to validate, 423 to test, alphabets ignored, and
    strictly binary images (see ``_decode``).
    Deviation: the authors shuffled an unsorted folder listing, which cannot be repeated. Here the
    sorted names are shuffled by ``numpy.random.RandomState(1).permutation``; the list is
    ``omniglot_split.csv`` beside this file.

    Args:
        split: ``"train"``, ``"val"``, ``"test"``, or ``"all"`` for the three together.

    Returns:
        Images uint8 ``[characters, 20, 1, 28, 28]``, names ``"Alphabet/characterNN"`` in sorted
        order, drawings in the order of the 20 people.

    Raises:
        FileNotFoundError: If the data set, or one of its two halves, is not there.
        ValueError: If ``split`` is another word, or the files are not the whole of Omniglot: a
            damaged archive, a missing character or drawing, an unreadable image, another size.
    """
    if split not in SPLITS:
        raise ValueError(f"split={split!r} is not a split of Omniglot; use one of {', '.join(SPLITS)}")
    sources = _find()
    missing = [part for part in _PARTS if part not in sources]
    if missing:
        raise FileNotFoundError(_absence(sources, missing))
    split_of = _split_of()
    paths = [sources[part] for part in _PARTS]
    bank = cached("omniglot", _identity(paths), lambda: _read(paths, list(split_of), _DRAWINGS))
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
        return "MAMLKIT_DATA says that there is no data set; unset it, and " + _HOW_TO_GET
    files = " and ".join(f"{part}.zip (or folder {part})" for part in missing)
    return f"Omniglot: no {files} in {' or '.join(map(str, folders))}; {_HOW_TO_GET}"


def _split_of() -> dict[str, str]:
    """Character -> split, from the committed list, in sorted order of the characters."""
    text = resources.files("mamlkit.tasks").joinpath("omniglot_split.csv").read_text("utf-8")
    return {row["character"]: row["split"] for row in csv.DictReader(io.StringIO(text))}


def _identity(paths: list[Path]) -> str:
    """A digest that changes when the sources do: of an archive's bytes, of a folder's listing."""
    digest = hashlib.sha256(f"version {_VERSION}".encode())
    for path in paths:
        if path.is_file():
            digest.update(path.read_bytes())
            continue
        for folder, _, names in sorted(os.walk(path)):
            for name in sorted(names):
                stat = os.stat(os.path.join(folder, name))
                digest.update(f"{folder}/{name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _read(paths: list[Path], characters: list[str], drawings: int) -> ClassBank:
    """Decode every drawing in ``paths``, which must hold exactly ``characters`` x ``drawings``."""
    images: dict[str, dict[str, np.ndarray]] = {}
    for path in paths:
        for character, file_name, data in _files(path):
            drawing = _decode(data, f"{path}: {character}/{file_name}")
            images.setdefault(character, {})[file_name] = drawing
    where = " and ".join(map(str, paths))
    if set(images) != set(characters):
        lost, odd = sorted(set(characters) - set(images)), sorted(set(images) - set(characters))
        raise ValueError(
            f"{len(images):,} characters in {where}, but Omniglot has {len(characters):,}; "
            f"missing: {_few(lost)}; unknown: {_few(odd)}; {_HOW_TO_GET}"
        )
    uneven = [f"{name} ({len(images[name])})" for name in sorted(images) if len(images[name]) != drawings]
    if uneven:
        raise ValueError(
            f"every Omniglot character has {drawings} drawings, but in {where} another number for: "
            f"{_few(uneven)}; {_HOW_TO_GET}"
        )
    names = tuple(sorted(images))
    stack = np.stack([[images[name][file] for file in sorted(images[name])] for name in names])
    return ClassBank(torch.from_numpy(stack).unsqueeze(2), names)


def _few(words: list[str]) -> str:
    return ", ".join(words[:3]) + (f" and {len(words) - 3} more" if words[3:] else "") if words else "none"


def _files(path: Path) -> Iterator[tuple[str, str, bytes]]:
    """(alphabet/character, file name, bytes) of every drawing in an archive or unpacked folder."""
    if path.is_dir():
        for file in path.glob("*/*/*.png"):
            if not file.name.startswith("."):
                yield f"{file.parts[-3]}/{file.parts[-2]}", file.name, file.read_bytes()
        return
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                parts = member.split("/")  # a Mac adds __MACOSX/ and ._ files
                if len(parts) > 3 and member.endswith(".png") and not parts[-1].startswith("."):
                    yield f"{parts[-3]}/{parts[-2]}", parts[-1], archive.read(member)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise ValueError(f"{path} is truncated or damaged ({error}); {_HOW_TO_GET}") from error


def _decode(data: bytes, where: str) -> np.ndarray:
    """One drawing as uint8 [28, 28], ink 255 and paper 0.

    The authors' script asks Pillow for Lanczos, but the files have one bit per pixel, and for these
    Pillow takes the nearest neighbour. That is asked for here by its name.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            size = image.size
            bits = image.convert("1", dither=Image.Dither.NONE) if size == _FILE_SIZE else None
    except (OSError, SyntaxError, ValueError, zlib.error) as error:
        raise ValueError(f"{where} is not a readable image ({error}); {_HOW_TO_GET}") from error
    if bits is None:
        raise ValueError(f"{where} is {size[0]} x {size[1]} pixels; Omniglot's are 105 x 105; {_HOW_TO_GET}")
    paper = np.asarray(bits.resize(_SIZE, Image.Resampling.NEAREST), dtype=bool)
    return np.where(paper, 0, 255).astype(np.uint8)
