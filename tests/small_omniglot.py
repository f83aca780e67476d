"""An Omniglot of three characters and four drawings each, made here."""

import hashlib
import io
import os
import shutil
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mamlkit.places import cache_dir
from mamlkit.tasks import omniglot, omniglot_files
from mamlkit.tasks.bank import ClassBank

CHARACTERS = {
    "images_background": ("Greek/character01", "Greek/character02"),
    "images_evaluation": ("Angelic/character01",),
}
SPLIT = {"Angelic/character01": "test", "Greek/character01": "train", "Greek/character02": "val"}
DRAWINGS = 4
PART = "images_background"


def drawing(seed: int, size: tuple[int, int] = (105, 105)) -> Image.Image:
    """A 1-bit drawing, paper 1 and ink 0, as the files of Omniglot have it."""
    paper = np.random.RandomState(seed).random_sample((size[1], size[0])) < 0.8
    return Image.fromarray(paper)


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def files_of(part: str) -> dict[str, bytes]:
    """Path in the archive -> bytes."""
    return {
        f"{part}/{character}/{len(character):04d}_{drawer:02d}.png": bytes_of(character, drawer)
        for character in CHARACTERS[part]
        for drawer in range(1, DRAWINGS + 1)
    }


@cache
def bytes_of(character: str, drawer: int) -> bytes:
    return png(drawing(hash_of(character, drawer)))


def hash_of(character: str, drawer: int) -> int:
    return int(hashlib.md5(f"{character} {drawer}".encode()).hexdigest()[:6], 16)


def write(folder: Path, part: str, files: dict[str, bytes], packed: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if packed:
        with zipfile.ZipFile(folder / f"{part}.zip", "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def small(monkeypatch, tmp_path) -> Path:
    """A whole Omniglot of 3 characters x 4 drawings; its folder."""
    monkeypatch.setattr(omniglot, "_split_of", lambda: SPLIT)
    monkeypatch.setattr(omniglot, "_DRAWINGS", DRAWINGS)
    monkeypatch.setenv("MAMLKIT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MAMLKIT_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "data" / "omniglot"
    for part in CHARACTERS:
        write(folder, part, files_of(part))
    return folder


def in_cache() -> list[str]:
    return sorted(os.listdir(cache_dir())) if cache_dir().exists() else []


def put(small: Path, files: dict[str, bytes], packed: bool = True) -> None:
    """Other files in the place of the first half of the small Omniglot."""
    (small / f"{PART}.zip").unlink(missing_ok=True)
    shutil.rmtree(small / PART, ignore_errors=True)
    write(small, PART, files, packed)


def repacked(small: Path, method: int = zipfile.ZIP_DEFLATED, name: str = "", content: bytes = b"") -> Path:
    """The first half packed by another method, perhaps with one more member; its archive."""
    with zipfile.ZipFile(small / f"{PART}.zip", "w", method) as archive:
        for member, data in (files_of(PART) | ({name: content} if name else {})).items():
            archive.writestr(member, data)
    return small / f"{PART}.zip"


@cache
def right_bank() -> ClassBank:
    files = {name.partition("/")[2]: data for part in CHARACTERS for name, data in files_of(part).items()}
    images = np.stack([omniglot_files.decode(files[name], name) for name in sorted(files)])
    return ClassBank(torch.from_numpy(images).view(3, 4, 1, 28, 28), tuple(sorted(SPLIT)))


def same(one: ClassBank, other: ClassBank) -> bool:
    return one.names == other.names and torch.equal(one.images, other.images)


def refused(says: str) -> None:
    with pytest.raises(ValueError, match=f"(?s){says}.*python -m mamlkit data omniglot"):
        omniglot.load("all")
    assert in_cache() == []
