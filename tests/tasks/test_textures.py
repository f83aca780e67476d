"""Textures: the same everywhere and in any company, sound as images, and nothing for pixels alone."""

import hashlib

import pytest
import torch

from mamlkit import tasks
from mamlkit.tasks import textures
from mamlkit.tasks.images import ImageTasks, nearest_neighbour_accuracy

SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Six drawings of each test class, ``[classes, drawings, channels, height, width]``."""
    bank = textures.load("test")
    return bank.take(*torch.meshgrid(torch.arange(20), torch.arange(6), indexing="ij"))


def test_a_seed_gives_the_same_pixels_everywhere(images):
    """The hash was taken on one machine, and held without its wider vector instructions."""
    assert hashlib.sha256(images.numpy().tobytes()).hexdigest()[:16] == "8df0db3109efd22f"


def test_an_image_does_not_depend_on_what_is_drawn_with_it(images):
    bank = textures.load("test")
    classes, drawings = torch.tensor([7, 3, 7, 19]), torch.tensor([5, 0, 2, 1])
    together = bank.take(classes, drawings)
    alone = [bank.take(*pair) for pair in zip(classes, drawings, strict=True)]
    assert torch.equal(together, torch.stack(alone))
    assert torch.equal(together, images[classes, drawings])


def test_classes_drawings_and_seeds_differ(images):
    drawings = images.flatten(0, 1).flatten(1)
    assert len(drawings.unique(dim=0)) == len(drawings)
    other = textures.load("test", seed=1).take(torch.arange(20), torch.zeros(20, dtype=torch.long))
    assert (other != images[:, 0]).flatten(1).any(1).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_splits_are_64_16_and_20_classes_and_share_none(seed):
    names = [textures.load(split, seed).names for split in SPLITS]
    assert list(map(len, names)) == [64, 16, 20]
    assert len(set(sum(names, ()))) == 100


@pytest.mark.parametrize("split", SPLITS)
def test_a_bank_says_its_shape_and_gives_images_of_it(split):
    bank = textures.load(split)
    assert bank.shape == (len(bank.names), 600, 3, 84, 84) and bank.device == torch.device("cpu")
    last = bank.take(torch.full((2, 3), len(bank.names) - 1), torch.full((2, 3), 599))
    assert last.shape == (2, 3, 3, 84, 84) and last.dtype == torch.uint8
    assert bank.to("meta").take(torch.tensor(0), torch.tensor(0)).device.type == "meta"


def test_a_family_gives_tasks_of_upright_images():
    family = tasks.make("textures", "train", ways=5, shots=1, queries=2)
    batch = family.sample(torch.Generator().manual_seed(0), 2)
    assert batch.support[0].shape == (2, 5, 3, 84, 84) and batch.query[0].shape == (2, 10, 3, 84, 84)
    assert not family.rotations


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(("training",), "train, val, test"), (("train", -1), "seed=-1"), (("train", 2**32), r"below 2\*\*32")],
)
def test_wrong_arguments_are_refused(arguments, says):
    with pytest.raises(ValueError, match=says):
        textures.load(*arguments)


@pytest.mark.parametrize(
    ("row", "drawing", "error", "says"),
    [
        ([20], [0], IndexError, "classes from 20 to 20, but there are 20; use 0 to 19"),
        ([-1], [0], IndexError, "classes from -1"),
        ([0, 0], [600, 3], IndexError, "drawings from 3 to 600"),
        ([0, 1], [0], ValueError, r"classes has shape \(2,\) and drawings \(1,\)"),
    ],
)
def test_images_that_are_not_there_are_refused(row, drawing, error, says):
    with pytest.raises(error, match=says):
        textures.load("test").take(torch.tensor(row), torch.tensor(drawing))


def test_images_are_neither_dark_nor_pale_nor_flat_nor_grey(images):
    values = images.float() / 255
    mean = values.mean((2, 3, 4))
    assert 0.3 < mean.mean() < 0.5 and mean.min() > 0.1 and mean.max() < 0.8
    assert values.std((-2, -1)).mean(2).min() > 0.05  # within an image and channel
    assert (values.amax(2) - values.amin(2)).mean() > 0.15  # between the channels of a pixel


# ---- hardness


def test_pixels_alone_do_not_solve_it():
    """5-way 1-shot below 40 % by five standard errors (were it 40 %, this would pass with p < 1e-6)."""
    family, generator = ImageTasks(textures.load("test"), ways=5, shots=1, queries=1), torch.Generator()
    generator.manual_seed(0)
    accuracy = torch.cat([nearest_neighbour_accuracy(family.sample(generator, 50)) for _ in range(12)])
    mean, error = accuracy.mean(), accuracy.std() / len(accuracy) ** 0.5
    assert mean + 5 * error < 0.4


def test_the_classes_are_there_to_be_found(images):
    """The hues of the strongest colours, wherever they lie, tell 20 classes apart far better than chance."""
    values = images.float() / 255
    low = values.amin(2, keepdim=True)
    strength = values.amax(2, keepdim=True) - low
    pure = ((values - low) / (strength + 1e-6) * 2.999).long()  # 0, 1 or 2 in each channel
    hue = torch.nn.functional.one_hot((pure[:, :, 0] * 9 + pure[:, :, 1] * 3 + pure[:, :, 2]).flatten(2), 27)
    shares = (hue * strength.flatten(2)[..., None] ** 3).sum(2)  # [classes, drawings, 27]
    shares = (shares / shares.sum(-1, keepdim=True)).sqrt()
    nearest = torch.cdist(shares[:, 1:].flatten(0, 1), shares[:, 0]).argmin(-1)
    found = (nearest == torch.arange(20).repeat_interleave(5)).float().mean()
    assert found > 0.05 + 5 * (0.05 * 0.95 / 100) ** 0.5  # 100 images, chance 5 %, five standard errors
