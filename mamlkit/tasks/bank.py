"""A bank of images, and the cache of banks that were built.

The sampler of N-way K-shot tasks asks a data set for one thing: all its images, by class, in one
tensor that can sit on the device. ``ClassBank`` is that tensor with the names of its classes.
"""

from __future__ import annotations

__all__ = ["Bank", "ClassBank", "cached", "select"]

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from mamlkit.files import replacing
from mamlkit.places import cache_dir

_log = logging.getLogger(__name__)


class Bank(Protocol):
    """What the sampler asks of a bank; :class:`ClassBank` holds its images, another may draw them."""

    @property
    def names(self) -> tuple[str, ...]:
        """One name per class, all different."""

    @property
    def shape(self) -> torch.Size:
        """``[classes, drawings, channels, height, width]``."""

    @property
    def device(self) -> torch.device:
        """Where :meth:`take` puts images."""

    def take(self, classes: torch.Tensor, drawings: torch.Tensor) -> torch.Tensor:
        """As :meth:`ClassBank.take`."""

    def to(self, device: torch.device | str) -> Bank:
        """The same bank on another device."""


@dataclass(frozen=True, eq=False)
class ClassBank:
    """Images of many classes, as the sampler wants them.

    Args:
        images: uint8 [classes, drawings, channels, height, width]; for drawn characters ink is 255
            and paper 0. Drawings are examples of one class.
        names: one name per class, all different.

    Raises:
        TypeError: If ``images`` is not a tensor.
        ValueError: If the dtype, the number of axes or the number of names is another.

    Example:
        >>> bank = ClassBank(torch.zeros(2, 20, 1, 28, 28, dtype=torch.uint8), ("a", "b"))
        >>> bank.images.shape[0] == len(bank.names)
        True
    """

    images: torch.Tensor
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        images, names = self.images, self.names
        if not isinstance(images, torch.Tensor):
            raise TypeError(f"images is a {type(images).__name__}; give a torch.Tensor of uint8")
        if images.dtype != torch.uint8:
            raise ValueError(f"images has dtype {images.dtype}; a bank holds torch.uint8, 0 to 255")
        if images.ndim != 5 or 0 in images.shape:
            raise ValueError(
                f"images has shape {tuple(images.shape)}; it must be "
                "[classes, drawings, channels, height, width] with no empty axis"
            )
        if len(names) != images.shape[0]:
            raise ValueError(f"{len(names)} names for {images.shape[0]} classes; give one name per class")
        if len(set(names)) != len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ValueError(f"class names must differ; more than once: {', '.join(twice[:3])}")

    @property
    def shape(self) -> torch.Size:
        """``[classes, drawings, channels, height, width]``."""
        return self.images.shape

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self.images.device

    def take(self, classes: torch.Tensor, drawings: torch.Tensor) -> torch.Tensor:
        """Images by their class and their number in it, on the bank's device.

        Args:
            classes, drawings: indices of one shape, ``[...]``.

        Returns:
            uint8 ``[..., channels, height, width]``.

        Raises:
            IndexError: A class or a drawing that the bank does not have; on a GPU it is PyTorch that refuses,
                in its own words.
        """
        if self.device.type != "cpu":
            return self.images[classes, drawings]
        for name, index, count in (("class", classes, self.shape[0]), ("drawing", drawings, self.shape[1])):
            if index.numel() and not 0 <= index.min() <= index.max() < count:
                least, most = int(index.min()), int(index.max())
                raise IndexError(f"{name} {least} to {most} came, but this bank has 0 to {count - 1}")
        # Whole images are copied ten times as fast by one index as by two.
        flat = (classes * self.shape[1] + drawings).flatten()
        found = self.images.flatten(0, 1).index_select(0, flat)
        return found.view(*classes.shape, *self.shape[2:])

    def to(self, device: torch.device | str) -> ClassBank:
        """The same bank with its images on ``device``."""
        return ClassBank(self.images.to(device), self.names)


def select(bank: ClassBank, names: set[str]) -> ClassBank:
    """The classes of ``bank`` that are called ``names``, in the bank's order."""
    rows = [row for row, name in enumerate(bank.names) if name in names]
    return ClassBank(bank.images[rows], tuple(bank.names[row] for row in rows))


def cached(
    name: str, key: str, names: tuple[str, ...], shape: tuple[int, ...], build: Callable[[], ClassBank]
) -> ClassBank:
    """``build()``, remembered in ``cache_dir()/<name>.npz`` for as long as ``key`` stays the same.

    A cache only saves time: a file that is missing, damaged, of another key or of another size is
    built anew, and a folder that cannot be written means that it is built each time.

    Args:
        name: name of the file, without its ending.
        key: identity of everything that ``build`` depends on.
        names: those of the classes of the bank.
        shape: of one class of the bank, ``(drawings, channels, height, width)``.
        build: makes the bank.
    """
    path = cache_dir() / f"{name}.npz"
    try:
        if bank := _read(path, key, names, (len(names), *shape)):
            return bank
    except Exception as error:  # damage shows in many ways (zip, zlib, header, shape); the cure is one
        _log.info("cannot read %s (%s); building it anew", path, error)
    bank = build()
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, key=np.array(key), images=bank.images.numpy(), names=np.array(bank.names))
    except OSError as error:
        _log.info("cannot write %s (%s); it will be built again next time", path, error)
    return bank


def _read(path: Path, key: str, names: tuple[str, ...], shape: tuple[int, ...]) -> ClassBank | None:
    """The bank in a file; None if there is no such file, or one of another key or size."""
    if not path.is_file():  # reading from a pipe would wait for ever
        return None
    with np.load(path, allow_pickle=False) as stored:  # the format checks a CRC of each part
        unpacked = sum(part.file_size for part in stored.zip.infolist())
        if unpacked > 2 * math.prod(shape) + 2**20:  # the pixels, and room for the names
            return None
        if str(stored["key"]) != key or tuple(stored["names"].tolist()) != names:
            return None
        bank = ClassBank(torch.from_numpy(stored["images"]), names)
        return bank if tuple(bank.images.shape) == shape else None
