"""A Mini-ImageNet of eight classes and four pictures each, made here."""

import io
import os
import tarfile
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mamlkit.places import cache_dir
from mamlkit.tasks import mini_imagenet, mini_imagenet_files
from mamlkit.tasks.bank import ClassBank

# class -> its split by the two lists; sorted within a split, the class that moves between val and test
CLASSES = {
    "n03": ("train", "train"),
    "n05": ("train", "train"),
    "n07": ("train", "train"),
    "n02": ("val", "val"),
    "n08": ("val", "val"),
    "n04": ("val", "test"),
    "n01": ("test", "test"),
    "n06": ("test", "test"),
}
PER_CLASS = 4
FORMS = ("folder", ".tar.xz", ".tar", ".zip")


def split_of(classes: str) -> dict[str, str]:
    return {name: splits[mini_imagenet.LISTS.index(classes)] for name, splits in CLASSES.items()}


@cache
def jpeg(seed: int, width: int = 84, height: int = 84, mode: str = "RGB", form: str = "JPEG") -> bytes:
    """A picture that is smooth, and so small, with another colour for each seed."""
    pixels = np.random.RandomState(seed).randint(256, size=(3, 3, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((width, height)).convert(mode).save(file, form)
    return file.getvalue()


def pictures(label: str) -> list[str]:
    return [f"{label}{number:08d}.jpg" for number in range(PER_CLASS)]


def table(split: str) -> bytes:
    """A table with its lines in an order that is not sorted, as another copy may have it."""
    labels = [name for name, splits in CLASSES.items() if splits[0] == split]
    lines = [f"{name},{label}" for label in reversed(labels) for name in reversed(pictures(label))]
    return "\n".join(["filename,label", *lines, ""]).encode()


def files() -> dict[str, bytes]:
    """Path -> bytes: the tables, then the pictures."""
    tables = {f"{split}.csv": table(split) for split in ("train", "val", "test")}
    names = [name for label in sorted(CLASSES) for name in pictures(label)]
    return tables | {f"images/{name}": jpeg(seed) for seed, name in enumerate(names)}


def put(folder: Path, content: dict[str, bytes], form: str) -> Path:
    """Write a data set in one of the ``FORMS``; its archive, or the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    if form == "folder":
        (folder / "images").mkdir(exist_ok=True)
        for name, data in content.items():
            (folder / name).write_bytes(data)
        return folder
    path = folder / f"mini_imagenet{form}"
    if form == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in content.items():
                archive.writestr(name, data)
        return path
    with tarfile.open(path, "w:xz" if form == ".tar.xz" else "w") as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def small(monkeypatch, tmp_path) -> Path:
    """The place of a small Mini-ImageNet, where nothing is yet; the cache is another folder."""
    monkeypatch.setattr(mini_imagenet, "_split_of", split_of)
    monkeypatch.setattr(mini_imagenet, "_PER_CLASS", PER_CLASS)
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("MAMLKIT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MAMLKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "data" / "mini_imagenet"


def in_cache() -> list[str]:
    """What is kept, without the lock."""
    folder = cache_dir() / "mini_imagenet"
    return sorted(set(os.listdir(folder)) - {"lock"}) if folder.exists() else []


def right(split: str, classes: str = "64/16/20") -> ClassBank:
    """What ``load`` should give, each picture decoded by itself."""
    content, names = files(), tuple(name for name, its in split_of(classes).items() if its == split)
    images = [
        np.asarray(Image.open(io.BytesIO(content[f"images/{picture}"]))).transpose(2, 0, 1)
        for name in names
        for picture in pictures(name)
    ]
    return ClassBank(
        torch.from_numpy(np.stack(images)).view(-1, PER_CLASS, *mini_imagenet_files.SHAPE), names
    )


def same(one: ClassBank, other: ClassBank) -> bool:
    return one.names == other.names and torch.equal(one.images, other.images)


def refused(says: str, how: str = "twitter/meta-learning-lstm.*non-commercial.*--check") -> None:
    """Nothing is loaded, nothing is kept, and the message says what to do."""
    with pytest.raises((ValueError, FileNotFoundError), match=f"(?s){says}.*{how}"):
        mini_imagenet.load("train")
    assert in_cache() == []
