"""Glyphs: characters of a few pen strokes, drawn by procedure, where Omniglot is not at hand.

A character is one to four strokes (lines, arcs, hooks, loops, ...), most of them attached to one
another. Each of 20 drawers writes it in his own way: other proportions, slant, place and pen, every
stroke a little displaced and bent. Nothing is read or downloaded.

Arithmetic is uniform numbers of a fixed generator, sums and products in a fixed order, and no
function whose last digit differs between machines: a seed gives the same pixels everywhere.
"""

from __future__ import annotations

__all__ = ["SPLITS", "load"]

import numpy as np
import torch

from mamlkit.tasks.bank import ClassBank, cached, select
from mamlkit.tasks.checks import at_least

SPLITS = ("train", "val", "test", "all")

_ROWS = {"train": range(1100), "val": range(1100, 1200), "test": range(1200, 1623), "all": range(1623)}
_CLASSES, _DRAWERS, _SIZE = 1623, 20, 28
_STROKES, _KNOTS, _POINTS = 4, 5, 64  # at most; that bend one stroke; of ink along one stroke
_VERSION = 1  # of the procedure below: a cached bank of another version is drawn again

# The five knots of each kind of stroke in a frame of its own (along, across), and how often it comes.
_KINDS = {
    "line": (0.34, [(0.0, 0.0), (0.25, 0.0), (0.5, 0.0), (0.75, 0.0), (1.0, 0.0)]),
    "arc": (0.22, [(0.0, 0.0), (0.2, 0.3), (0.5, 0.42), (0.8, 0.3), (1.0, 0.0)]),
    "hook": (0.10, [(0.0, 0.0), (0.4, 0.0), (0.75, 0.02), (0.95, 0.15), (0.85, 0.4)]),
    "wave": (0.08, [(0.0, 0.0), (0.25, 0.25), (0.5, 0.0), (0.75, -0.25), (1.0, 0.0)]),
    "loop": (0.08, [(0.0, 0.0), (0.4, 0.4), (0.8, 0.0), (0.4, -0.4), (0.0, 0.0)]),
    "corner": (0.10, [(0.0, 0.0), (0.4, 0.0), (0.8, 0.0), (0.8, 0.3), (0.8, 0.6)]),
    "roof": (0.08, [(0.0, 0.0), (0.25, 0.3), (0.5, 0.6), (0.75, 0.3), (1.0, 0.0)]),
}
_ANGULAR = ("corner", "roof")  # knots joined by straight lines, not by a smooth curve
_STROKE_SHARES = (0.05, 0.3, 0.38, 0.27)  # of characters with 1, 2, 3, 4 strokes
_DIRECTIONS = np.array([(1.0, 0.0), (0.0, 1.0), (0.7, 0.7), (-0.7, 0.7)])  # (right, down)
_DIRECTION_SHARES = (0.38, 0.38, 0.12, 0.12)


def load(split: str, seed: int = 0) -> ClassBank:
    """The characters of one split, 28 x 28, ink 255 and paper 0; drawn in seconds, then cached.

    Deviation: stands in for Omniglot (Section 5.2), with the same numbers of characters and
    drawings, and about as hard for a nearest neighbour on pixels. Its results are not the paper's.

    Args:
        split: ``"train"`` (1,100 characters), ``"val"`` (100), ``"test"`` (423), or ``"all"``.
        seed: of the whole set, 0 or more; another seed gives other characters.

    Returns:
        Images uint8 ``[characters, 20, 1, 28, 28]``, names ``"glyph0000"`` and so on.

    Raises:
        ValueError: If ``split`` is another word, or ``seed`` is not a whole number of at least 0.
    """
    if split not in SPLITS:
        raise ValueError(f"split={split!r} is not a split of Glyphs; use one of {', '.join(SPLITS)}")
    at_least(0, seed=seed)
    names, shape = tuple(map(_name, range(_CLASSES))), (_DRAWERS, 1, _SIZE, _SIZE)
    bank = cached("glyphs", f"version {_VERSION}, seed {seed}", names, shape, lambda: _draw(seed))
    return select(bank, {_name(row) for row in _ROWS[split]})


def _name(row: int) -> str:
    return f"glyph{row:04d}"


def _draw(seed: int, chunk: int = 100) -> ClassBank:
    """All characters by all drawers; ``chunk`` characters at a time bounds the memory, no more."""
    knots, used, angular = _characters(np.random.RandomState([seed, 0]))
    knots, radius = _hands(knots, np.random.RandomState([seed, 1]))
    parts = [slice(start, start + chunk) for start in range(0, _CLASSES, chunk)]
    images = np.concatenate([_ink(knots[part], used[part], angular[part], radius[part]) for part in parts])
    return ClassBank(torch.from_numpy(images).unsqueeze(2), tuple(map(_name, range(_CLASSES))))


def _characters(random: np.random.RandomState) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every character as it is meant.

    Returns:
        Knots [classes, strokes, knots, 2] as (right, down) in pixels from the middle; which strokes
        are used, and which are angular, [classes, strokes].
    """
    shape = (_CLASSES, _STROKES)
    shares, kinds = zip(*_KINDS.values(), strict=True)
    kind = _pick(shares, random.random_sample(shape))
    knots = np.array(kinds)[kind] + _between(random, -0.04, 0.04, *shape, _KNOTS, 2)

    # A direction other than the stroke's before, roughly kept; then length, breadth, and side.
    turn = 1 + (random.random_sample(shape) * (len(_DIRECTIONS) - 1)).astype(int)
    turn[:, 0] = _pick(_DIRECTION_SHARES, random.random_sample(_CLASSES))
    along = _DIRECTIONS[turn.cumsum(1) % len(_DIRECTIONS)] + _between(random, -0.12, 0.12, *shape, 2)
    along *= _between(random, 0.5, 1.1, *shape, 1)
    across = np.stack([-along[..., 1], along[..., 0]], -1) * _between(random, 0.6, 1.3, *shape, 1)
    across *= np.where(random.random_sample((*shape, 1)) < 0.5, -1, 1)
    knots = knots[..., :1] * along[:, :, None] + knots[..., 1:] * across[:, :, None]

    # Each stroke after the first meets an earlier one, knot on knot (ends and middle), or nearly so.
    other = (random.random_sample(shape) * np.arange(_STROKES)).astype(int)
    here = np.array([0, 2, 4])[_pick((0.5, 0.25, 0.25), random.random_sample(shape))]
    there = np.array([0, 2, 4])[_pick((0.25, 0.35, 0.4), random.random_sample(shape))]
    gap = np.where(random.random_sample((*shape, 1)) < 0.25, 0.45, 0.03) * _between(random, -1, 1, *shape, 2)
    rows = np.arange(_CLASSES)
    for stroke in range(1, _STROKES):
        meeting = knots[rows, other[:, stroke], there[:, stroke]] + gap[:, stroke]
        knots[:, stroke] += (meeting - knots[rows, stroke, here[:, stroke]])[:, None]

    used = np.arange(_STROKES) <= _pick(_STROKE_SHARES, random.random_sample(_CLASSES))[:, None]
    seen = np.where(used[:, :, None, None], knots, knots[:, :1])
    low, high = seen.min((1, 2)), seen.max((1, 2))
    scale = _between(random, 13, 22, _CLASSES) / (high - low).max(1)
    knots = (knots - ((low + high) / 2)[:, None, None]) * scale[:, None, None, None]
    return knots, used, np.isin(list(_KINDS), _ANGULAR)[kind]


def _hands(knots: np.ndarray, random: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """Every character as each drawer writes it.

    Returns:
        Knots [classes, drawers, strokes, knots, 2] in pixels from the top left corner, and the
        pen's radius [classes, drawers] in pixels.
    """

    def up_to(limit: float, *shape: int) -> np.ndarray:
        return _between(random, -limit, limit, _CLASSES, _DRAWERS, *shape)

    knots = knots[:, None] + up_to(1.4, _STROKES, 1, 2) + up_to(0.8, _STROKES, _KNOTS, 2)
    right, down = knots[..., 0], knots[..., 1]
    right, down = (  # proportions, slant, a slight turn
        right * (1 + up_to(0.22, 1, 1)) + down * up_to(0.2, 1, 1),
        down * (1 + up_to(0.22, 1, 1)) + right * up_to(0.2, 1, 1),
    )
    knots = np.stack([right, down], -1) + up_to(2.4, 1, 1, 2) + (_SIZE - 1) / 2
    return knots, _between(random, 0.5, 0.85, _CLASSES, _DRAWERS)


def _between(random: np.random.RandomState, low: float, high: float, *shape: int) -> np.ndarray:
    """Uniform numbers; by separate operations, since numpy's ``uniform`` may fuse them on some processors."""
    return low + (high - low) * random.random_sample(shape)


def _pick(shares: tuple[float, ...], uniform: np.ndarray) -> np.ndarray:
    """Index by share, from uniform numbers in [0, 1)."""
    return np.searchsorted(np.cumsum(shares)[:-1], uniform, side="right")


def _mix() -> np.ndarray:
    """How the points along a stroke mix its knots, [smooth or angular, points, knots].

    Smooth is the Catmull-Rom spline, its end knots repeated.
    """
    place = np.arange(_POINTS) * ((_KNOTS - 1) / (_POINTS - 1))
    knot = np.minimum(place.astype(int), _KNOTS - 2)
    t = (place - knot)[:, None]
    unit = np.eye(_KNOTS)
    before, start, stop, after = (unit[np.clip(knot + step, 0, _KNOTS - 1)] for step in (-1, 0, 1, 2))
    angular = start * (1 - t) + stop * t
    smooth = start + 0.5 * t * (
        (stop - before)
        + t * (2 * before - 5 * start + 4 * stop - after)
        + t * t * (3 * start - before - 3 * stop + after)
    )
    return np.stack([smooth, angular])


def _ink(knots: np.ndarray, used: np.ndarray, angular: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Images uint8 [classes, drawers, height, width]: a pixel is ink where the pen covers its centre."""
    classes = len(knots)
    mix = _mix()[angular.astype(int)][:, None]  # [classes, 1, strokes, points, knots]
    points = sum(mix[..., k, None] * knots[:, :, :, k, None] for k in range(_KNOTS))  # fixed order: no einsum
    images = np.zeros((classes, _DRAWERS, _SIZE, _SIZE), np.uint8)
    drawing = np.arange(classes * _DRAWERS).reshape(classes, _DRAWERS, 1, 1) * _SIZE**2
    reach = (radius * radius)[:, :, None, None]
    middle = np.floor(points + 0.5)
    for step in np.ndindex(3, 3):  # the pen reaches less than 1.5 pixels: only the 3 x 3 around a point
        right, down = (middle[..., axis] + (step[axis] - 1) for axis in (0, 1))
        off_right, off_down = right - points[..., 0], down - points[..., 1]
        inked = off_right * off_right + off_down * off_down <= reach
        inked &= (right >= 0) & (right < _SIZE) & (down >= 0) & (down < _SIZE) & used[:, None, :, None]
        index = drawing + (down * _SIZE + right).astype(int)
        images.reshape(-1)[index[inked]] = 255
    return images
