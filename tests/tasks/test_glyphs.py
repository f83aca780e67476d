"""Glyphs: the same everywhere, sound as images, and as hard as Omniglot."""

import hashlib

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from mamlkit.tasks import glyphs, omniglot
from mamlkit.tasks.bank import ClassBank


@pytest.fixture(scope="module")
def bank() -> ClassBank:
    """Drawn here, not read from a cache."""
    return glyphs._draw(0)


def test_a_seed_gives_the_same_pixels_everywhere(bank):
    """The hash was taken on one machine; no step of the drawing may round otherwise on another."""
    bits = np.packbits(bank.images.numpy() > 0)
    assert (
        hashlib.sha256(bits).hexdigest() == "ddf31a3d7d8e6b1b0e6ba15c5b83571a308510567e76b457d175c7768244e036"
    )


def test_pixels_depend_on_the_seed_and_not_on_the_chunks(monkeypatch):
    monkeypatch.setattr(glyphs, "_CLASSES", 50)
    once = glyphs._draw(0).images
    assert torch.equal(glyphs._draw(0, chunk=7).images, once)
    assert (glyphs._draw(1).images != once).flatten(1).any(1).all()


def test_counts_names_and_splits_are_those_of_omniglot(bank, monkeypatch, tmp_path):
    monkeypatch.setenv("MAMLKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(glyphs, "_draw", lambda seed: bank)
    assert bank.images.shape == (1623, 20, 1, 28, 28) and bank.images.dtype == torch.uint8
    parts = [glyphs.load(split) for split in ("train", "val", "test")]
    assert [len(part.names) for part in parts] == [1100, 100, 423]
    assert sum((part.names for part in parts), ()) == bank.names == tuple(sorted(bank.names))
    assert torch.equal(torch.cat([part.images for part in parts]), glyphs.load("all").images)


def test_the_cache_knows_which_seed_it_holds(monkeypatch, tmp_path):
    monkeypatch.setenv("MAMLKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(glyphs, "_CLASSES", 3)
    first, other = glyphs.load("all"), glyphs.load("all", seed=1)
    assert not torch.equal(first.images, other.images)
    assert torch.equal(glyphs.load("all").images, first.images)


@pytest.mark.parametrize(
    ("arguments", "says"), [(("training",), "train, val, test, all"), (("train", -1), "seed=-1")]
)
def test_wrong_arguments_are_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        glyphs.load(*arguments)


def test_images_are_binary_and_none_is_blank_or_a_blot(bank):
    assert bank.images.unique().tolist() == [0, 255]
    ink = (bank.images > 0).float().mean((2, 3, 4))
    assert 0.06 < ink.mean() < 0.10  # Omniglot: 0.08
    assert ink.min() > 0.01 and ink.max() < 0.35


def test_characters_keep_to_the_paper(bank):
    """A character is cut at the edge seldom: little ink lies on the outermost pixels."""
    ink = (bank.images > 0).float()
    assert 1 - ink[..., 1:-1, 1:-1].sum() / ink.sum() < 0.02


def test_classes_and_drawings_are_distinct(bank):
    drawings = np.packbits(bank.images.numpy() > 0, axis=None).reshape(-1, 98)
    assert len(np.unique(drawings, axis=0)) > 0.999 * len(drawings)
    typical = bank.images.float().mean(1).flatten(1)  # over the drawers
    apart = torch.cdist(typical, typical).fill_diagonal_(torch.inf).min(1).values
    assert apart.min() > 255  # by at least one whole pixel


# ---- hardness


def one_shot_accuracy(images: torch.Tensor, see, tasks: int = 600) -> tuple[float, float]:
    """Nearest neighbour at 5-way 1-shot, rotated by class, one query per class; mean and standard error."""
    random = np.random.RandomState(0)
    accuracy = []
    for _ in range(tasks):
        pairs = []
        for row in random.permutation(len(images))[:5]:
            pair = images[row, random.permutation(20)[:2], 0].numpy() > 0
            pairs.append([see(drawing) for drawing in np.rot90(pair, random.randint(4), axes=(1, 2))])
        support, query = np.array(pairs).reshape(5, 2, -1).swapaxes(0, 1)
        distance = ((query[:, None] - support) ** 2).sum(-1)
        accuracy.append((distance.argmin(1) == np.arange(5)).mean())
    return float(np.mean(accuracy)), float(np.std(accuracy) / np.sqrt(tasks))


def pixels(drawing: np.ndarray) -> np.ndarray:
    return drawing.astype(float)


def centred_and_blurred(drawing: np.ndarray) -> np.ndarray:
    down, right = (round(13.5 - place.mean()) for place in np.nonzero(drawing))
    image = gaussian_filter(np.roll(drawing, (down, right), (0, 1)).astype(float), 1.5)
    return image / np.linalg.norm(image)


def test_pixels_alone_do_not_solve_it(bank):
    """Nearest neighbour below 80 %, by five standard errors (were it 80 %, this would pass with p < 1e-6)."""
    mean, error = one_shot_accuracy(bank.images[1200:], pixels)
    assert mean + 5 * error < 0.8
    assert mean - 5 * error > 0.2  # and above chance


def test_the_classes_are_there_to_be_found(bank):
    """Without the place and the exact course of the strokes, no learning: far better than pixels."""
    images = bank.images[1200:]
    (plain, plain_error), (seen, seen_error) = (
        one_shot_accuracy(images, see) for see in (pixels, centred_and_blurred)
    )
    assert seen - plain > 0.2 + 5 * np.hypot(plain_error, seen_error)


def test_it_is_as_hard_as_omniglot(bank):
    """On pixels within 10 points, so that a wrong failure is a matter of more than five standard errors."""
    if not omniglot.available():
        pytest.skip("no Omniglot here; set MAMLKIT_DATA or `python -m mamlkit data omniglot`")
    ours, _ = one_shot_accuracy(bank.images, pixels)
    theirs, _ = one_shot_accuracy(omniglot.load("all").images, pixels)
    assert abs(ours - theirs) < 0.1
