"""An Omniglot of three characters and four drawings each, made here."""

import hashlib
import io
import os
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from mamlkit.folders import cache_dir

CHARACTERS = {
    "images_background": ("Greek/character01", "Greek/character02"),
    "images_evaluation": ("Angelic/character01",),
}
SPLIT = {"Angelic/character01": "test", "Greek/character01": "train", "Greek/character02": "val"}
DRAWINGS = 4


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


def in_cache() -> list[str]:
    return sorted(os.listdir(cache_dir())) if cache_dir().exists() else []
