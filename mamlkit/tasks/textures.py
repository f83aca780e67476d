"""Textures: coloured, patterned shapes, drawn by procedure, where Mini-ImageNet is not at hand.

A class is a pattern (gratings, checks, clouds, cells, ...) cut out in a shape (disc, star, cross, ...),
in two hues; each of the 100 pairs of pattern and shape is one class. From image to image place, size,
rotation, hues, light, ground and noise differ. Nothing is read or downloaded, and an image is drawn
when it is asked for: 60,000 of them would fill 1.3 GB.

Patterns and shapes are bytes on a square tile, made once. An image looks its pixels up there and mixes
colours by sums and products alone, so it is the same whatever else is drawn with it.
"""

from __future__ import annotations

__all__ = ["SPLITS", "Textures", "load"]

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from mamlkit.tasks.checks import at_least

SPLITS = ("train", "val", "test")

_PLACES = {"train": range(64), "val": range(64, 80), "test": range(80, 100)}
_DRAWINGS, _SIZE = 600, 84
_TILE = 128  # pixels of a tile's side; a pattern goes on beyond it
_REACH = 56  # tile pixels from the middle to the tip of a shape of radius 1
_STEP = np.arange(_TILE) - _TILE // 2
_RIGHT, _DOWN = np.meshgrid(_STEP, _STEP)
_PIXEL = np.arange(_SIZE, dtype=np.float32) - (_SIZE - 1) / 2
_ANGLE = np.arange(360) * (2 * np.pi / 360)
# Rounded, as the tiles are: the last digit of a cosine differs between machines, and shall have no say.
_DIRECTIONS = np.stack([np.cos(_ANGLE), np.sin(_ANGLE)], -1).round(6).astype(np.float32)


@dataclass(frozen=True)
class Textures:
    """The bank of one split: see :func:`load`."""

    rows: tuple[int, ...]
    seed: int
    device: torch.device

    @property
    def names(self) -> tuple[str, ...]:
        """Pattern and shape of each class."""
        kinds = [divmod(row, len(_SHAPES)) for row in self.rows]
        return tuple(f"{list(_PATTERNS)[pattern]} {list(_SHAPES)[shape]}" for pattern, shape in kinds)

    @property
    def shape(self) -> torch.Size:
        """``[classes, 600, 3, 84, 84]``."""
        return torch.Size((len(self.rows), _DRAWINGS, 3, _SIZE, _SIZE))

    def take(self, classes: torch.Tensor, drawings: torch.Tensor) -> torch.Tensor:
        """Images by their class and their number in it, drawn on the CPU and put on the bank's device.

        Args:
            classes, drawings: indices of one shape, ``[...]``.

        Returns:
            uint8 ``[..., 3, 84, 84]``.

        Raises:
            IndexError: If there is no such class or drawing.
            ValueError: If the indices have two shapes.
        """
        if classes.shape != drawings.shape:
            raise ValueError(
                f"classes has shape {tuple(classes.shape)} and drawings {tuple(drawings.shape)}; "
                "give one class and one drawing per image"
            )
        for name, asked, end in (("classes", classes, len(self.rows)), ("drawings", drawings, _DRAWINGS)):
            if asked.numel() and not 0 <= asked.min() <= asked.max() < end:
                raise IndexError(
                    f"{name} from {asked.min()} to {asked.max()}, but there are {end}; use 0 to {end - 1}"
                )
        images = np.empty((classes.numel(), 3, _SIZE, _SIZE), np.uint8)
        which = zip(classes.flatten().tolist(), drawings.flatten().tolist(), strict=True)
        random = np.random.RandomState()  # made once: to seed it anew is ten times cheaper
        for image, (row, drawing) in zip(images, which, strict=True):
            random.seed([self.seed, self.rows[row], drawing])
            image[:] = _image(self.seed, self.rows[row], random.random_sample(21))
        return torch.from_numpy(images).view(*classes.shape, 3, _SIZE, _SIZE).to(self.device)

    def to(self, device: torch.device | str) -> Textures:
        """The same bank with its images on ``device``."""
        return Textures(self.rows, self.seed, torch.device(device))


def load(split: str, seed: int = 0) -> Textures:
    """The classes of one split, 600 colour images of 84 x 84 each; nothing is drawn yet.

    Deviation: stands in for Mini-ImageNet (Section 5.2), with the same numbers of classes and
    images. Its results are not the paper's.

    Args:
        split: ``"train"`` (64 classes), ``"val"`` (16) or ``"test"`` (20).
        seed: of the whole set, from 0 to 2**32 - 1; another seed gives other patterns, hues and splits.

    Raises:
        ValueError: If ``split`` is another word, or ``seed`` is not such a number.
    """
    if split not in SPLITS:
        raise ValueError(f"split={split!r} is not a split of Textures; use one of {', '.join(SPLITS)}")
    at_least(0, seed=seed)
    if seed >= 2**32:
        raise ValueError(f"seed={seed}, but it must be below 2**32; use a smaller one")
    order = np.random.RandomState([seed]).permutation(len(_PATTERNS) * len(_SHAPES))
    return Textures(tuple(order[list(_PLACES[split])].tolist()), seed, torch.device("cpu"))


def _image(seed: int, row: int, number: np.ndarray) -> np.ndarray:
    """One image, uint8 [3, 84, 84]; ``number``, [21] in [0, 1), is what differs within a class."""
    between = lambda k, low, high: low + (high - low) * number[k]
    pattern, hues = _class(seed, row)
    turn, ground_turn, light_turn = _DIRECTIONS[(number[:3] * len(_DIRECTIONS)).astype(int)]

    zoom = _REACH / between(3, 24, 40)  # tile pixels for a pixel
    right, down = _looked_up(turn, zoom, number[4:6] * 30 - 15)
    on_mask = (step.clip(-_TILE // 2, _TILE // 2 - 1) + _TILE // 2 for step in (right, down))
    inside = _masks()[row % len(_SHAPES)].take(_index(*on_mask))
    slide = (number[6:8] * _TILE).astype(np.int32)
    value = pattern.take(_index(right + slide[0], down + slide[1]))
    right, down = _looked_up(ground_turn, between(8, 0.5, 1.5), number[9:11] * 100)
    ground = _ground().take(_index(right, down))

    dark, bright, first, second = _colours(
        np.array([*(hues + between(11, -0.06, 0.06)), *number[12:14]]),
        np.array([0.75, 0.65, *number[14:16] * 0.5]),
        np.array([0.45, 1.0, *between(slice(16, 18), 0.2, 0.9)]),
    )
    image = first + ground * (second - first)
    image += inside * (dark + value * (bright - dark) - image)
    slope = light_turn * np.float32(between(18, 0, 2.0))
    image *= between(19, 165, 265).astype(np.float32) + slope[0] * _PIXEL + slope[1] * _PIXEL[:, None]
    start = int(number[20] * (_noise().size - image.size))
    image += _noise()[start : start + image.size].reshape(image.shape)
    return image.clip(0, 255, out=image).astype(np.uint8)


def _looked_up(turn: np.ndarray, zoom: float, middle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel looks, in whole tile pixels (right, down) from the middle; [84, 84] each."""
    along, across = ((_PIXEL - np.float32(place)) * np.float32(zoom) for place in middle)
    looks = turn[0] * along + turn[1] * across[:, None], turn[0] * across[:, None] - turn[1] * along
    right, down = (np.floor(look, out=look).astype(np.int32) for look in looks)
    return right, down


def _index(right: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Index on a tile that goes on beyond its edge; its side is a power of two."""
    return (down & _TILE - 1) * _TILE + (right & _TILE - 1)


def _colours(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Red, green and blue in [0, 1] of hues in turns, [colours, 3, 1, 1]."""
    turns = (hue[:, None] + np.array([0, 2 / 3, 1 / 3])) % 1  # from where a channel is strongest
    full = (np.abs(turns * 6 - 3) - 1).clip(0, 1)
    colours = value[:, None] * (1 - saturation[:, None] * (1 - full))
    return colours.astype(np.float32)[..., None, None]


def _in_bytes(values: np.ndarray) -> np.ndarray:
    """Cut to [0, 1] and rounded to what a byte can hold."""
    return (values.clip(0, 1) * 255).round().astype(np.float32) / 255


@functools.cache
def _class(seed: int, row: int) -> tuple[np.ndarray, np.ndarray]:
    """The pattern of a class, [down, right] in [0, 1], and its two hues, in turns."""
    random = np.random.RandomState([seed, row])
    hue = random.random_sample()
    hues = np.array([hue, hue + 0.15 + 0.5 * random.random_sample()])
    return _in_bytes(list(_PATTERNS.values())[row // len(_SHAPES)](random)), hues


@functools.cache
def _masks() -> np.ndarray:
    """Where each shape is, [shapes, down, right], from 0 outside to 1 inside."""
    right, down = _RIGHT / _REACH, _DOWN / _REACH
    radius, angle = np.hypot(right, down), np.arctan2(down, right)
    return np.stack([_in_bytes(20 * shape(right, down, radius, angle)) for shape in _SHAPES.values()])


@functools.cache
def _ground() -> np.ndarray:
    return _in_bytes(_clouds(np.random.RandomState([0, 0, 0, 1]), 2, 6))


@functools.cache
def _noise() -> np.ndarray:
    """Noise of the pixels, of 255; each image takes a stretch of it."""
    noise = np.random.RandomState([0, 0, 0, 2]).random_sample((4, 2**17)).sum(0) - 2
    return (16 * noise).astype(np.float32)


def _waves(random: np.random.RandomState) -> np.ndarray:
    """Two waves of 5 to 12 periods on the tile, at right angles, in [-1, 1]; [2, down, right]."""
    periods = random.randint(-12, 13, 2)
    while not 5 <= np.hypot(*periods) <= 12:
        periods = random.randint(-12, 13, 2)
    here, there = periods * (2 * np.pi / _TILE)
    return np.cos([here * _RIGHT + there * _DOWN, there * _RIGHT - here * _DOWN])


def _clouds(random: np.random.RandomState, low: float, high: float) -> np.ndarray:
    """Noise of ``low`` to ``high`` periods on the tile."""
    frequency = np.fft.fftfreq(_TILE, 1 / _TILE)
    radius = np.hypot(frequency, frequency[:, None])
    noise = np.fft.fft2(random.random_sample((_TILE, _TILE))) * ((low <= radius) & (radius <= high))
    noise = np.fft.ifft2(noise).real
    return 0.5 + noise / (4 * noise.std())


def _distances(random: np.random.RandomState) -> np.ndarray:
    """To the nearest and the next of some scattered points, in tile pixels; [2, down, right]."""
    points = random.random_sample((random.randint(30, 90), 2, 1, 1)) * _TILE
    off = np.abs(np.stack([_RIGHT, _DOWN]) + _TILE / 2 - points)
    off = np.minimum(off, _TILE - off)  # the pattern goes on beyond the tile
    return np.sqrt(np.partition((off**2).sum(1), 1, 0)[:2])


def _zigzag(random: np.random.RandomState) -> np.ndarray:
    teeth, lines = 2 ** random.randint(2, 4), random.randint(6, 12)
    tooth = np.abs(_RIGHT * teeth / _TILE % 1 - 0.5)
    return 0.5 + 2 * np.cos(2 * np.pi * (lines * _DOWN / _TILE + 2 * tooth))


_PATTERNS: dict[str, Callable[[np.random.RandomState], np.ndarray]] = {
    "gratings": lambda random: 0.5 + 0.5 * _waves(random)[0],
    "stripes": lambda random: 4 * (_waves(random)[0] - 0.4),
    "checks": lambda random: 0.5 + 4 * _waves(random).prod(0),
    "dots": lambda random: 3 * (_waves(random).sum(0) - 0.5),
    "rings": lambda random: 0.5 + 1.5 * np.cos(np.hypot(_RIGHT, _DOWN) * (2 * np.pi / random.randint(9, 24))),
    "zigzag": _zigzag,
    "clouds": lambda random: _clouds(random, 2, 10),
    "grain": lambda random: 2 * _clouds(random, 14, 24) - 0.5,
    "bubbles": lambda random: _distances(random)[0] / 12,
    "cracks": lambda random: np.diff(_distances(random), axis=0)[0] / 5,
}
# Positive inside; right and down from the middle, and the same as radius and angle in radians.
_SHAPES: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "disc": lambda right, down, radius, angle: 0.85 - radius,
    "ring": lambda right, down, radius, angle: 0.28 - abs(radius - 0.68),
    "half-disc": lambda right, down, radius, angle: np.minimum(0.95 - radius, down + 0.3),
    "crescent": lambda right, down, radius, angle: np.minimum(
        0.95 - radius, np.hypot(right - 0.5, down) - 0.6
    ),
    "square": lambda right, down, radius, angle: 0.68 - np.maximum(abs(right), abs(down)),
    "bar": lambda right, down, radius, angle: np.minimum(0.95 - abs(right), 0.38 - abs(down)),
    "triangle": lambda right, down, radius, angle: 0.5 - radius * np.cos(angle % (np.pi / 1.5) - np.pi / 3),
    "cross": lambda right, down, radius, angle: np.minimum(
        0.9 - np.maximum(abs(right), abs(down)), 0.3 - np.minimum(abs(right), abs(down))
    ),
    "star": lambda right, down, radius, angle: 0.65 + 0.3 * np.cos(5 * angle) - radius,
    "flower": lambda right, down, radius, angle: 0.75 + 0.18 * np.cos(8 * angle) - radius,
}
