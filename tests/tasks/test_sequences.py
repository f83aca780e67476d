"""Sequences of labelled images: what they hold, in which order, and where their instances are."""

import pytest
import torch
from scipy.stats import chi2

from mamlkit import tasks
from mamlkit.tasks.bank import ClassBank
from mamlkit.tasks.images import ImageTasks
from mamlkit.tasks.sequences import Sequences


def numbered(classes=6, drawings=5):
    """A bank whose images say their class and their drawing in their two pixels."""
    images = torch.empty(classes, drawings, 1, 1, 2, dtype=torch.uint8)
    images[..., 0] = torch.arange(classes)[:, None, None, None]
    images[..., 1] = torch.arange(drawings)[:, None, None]
    return ClassBank(images, tuple(map(str, range(classes))))


@pytest.fixture(scope="module")
def batch():
    """20,000 sequences of 3 classes with 4 drawings each."""
    return Sequences(ImageTasks(numbered(), 3, 3, 1)).sample(torch.Generator().manual_seed(0), 20_000)


def test_a_sequence_has_each_class_as_often_and_each_drawing_once(batch):
    images, labels = batch.support
    assert images.shape == (20_000, 12, 1, 1, 2) and labels.shape == (20_000, 12)
    assert all(((labels == way).sum(1) == 4).all() for way in range(3))
    classes, drawings = (images * 255).round().long().flatten(2).unbind(-1)
    assert all(len(set(line)) == 12 for line in (10 * classes + drawings)[:200].tolist())
    # within a sequence a label is one class, and another class has another label
    for way in range(3):
        of_way = classes[labels == way].view(-1, 4)
        assert (of_way == of_way[:, :1]).all()
    assert all(len(set(line)) == 3 for line in classes[:200].tolist())


def test_the_order_is_random(batch):
    first = torch.bincount(batch.support[1][:, 0], minlength=3).double()
    again = (batch.support[1][:, 1:] == batch.support[1][:, :-1]).double().mean()
    assert ((first - 20_000 / 3) ** 2 / (20_000 / 3)).sum() < chi2.isf(1e-6, 2)
    assert abs(again - 3 / 11) < 5 * (3 / 11 * 8 / 11 / 20_000) ** 0.5  # of the next image, 3 of 11 are alike


def test_the_query_tells_where_the_instances_of_a_class_are(batch):
    places, classes = batch.query
    assert places.shape == (20_000, 3, 4) and torch.equal(classes[7], torch.arange(3))
    assert (places[..., 1:] > places[..., :-1]).all()  # in time
    labels = batch.support[1].gather(1, places.flatten(1)).view(places.shape)
    assert (labels == classes[..., None]).all()
    assert torch.equal(places.flatten(1).sort().values[0], torch.arange(12))


def test_a_class_is_turned_as_a_whole():
    family = tasks.make("glyphs, sequences", "test", ways=2, shots=3, queries=3)
    assert family.images.rotations
    assert family.sample(torch.Generator().manual_seed(0), 2).support[0].shape == (2, 6, 1, 28, 28)


@pytest.mark.parametrize(("shots", "queries"), [(3, 2), (1, 1)])
def test_sequences_that_cannot_be_are_refused(shots, queries):
    with pytest.raises(ValueError, match=f"shots={shots} and queries={queries}, .* give the same number"):
        tasks.make("glyphs, sequences", "test", ways=2, shots=shots, queries=queries)
