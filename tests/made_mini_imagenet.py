"""Families of the shapes of Mini-ImageNet, of made images, so that its rows can be run without it."""

from functools import cache

import torch

from mamlkit import tasks
from mamlkit.tasks import mini_imagenet
from mamlkit.tasks.bank import ClassBank

CLASSES = {"train": 64, "val": 16, "test": 20}


def bank(split):
    """Classes that differ in brightness and colour, 20 noisy images of each."""
    generator = torch.Generator().manual_seed(CLASSES[split])
    colours = torch.randint(0, 196, (CLASSES[split], 1, 3, 1, 1), generator=generator)
    noise = torch.randint(0, 60, (CLASSES[split], 20, 3, 84, 84), generator=generator)
    return ClassBank((colours + noise).to(torch.uint8), [f"class {i}" for i in range(CLASSES[split])])


def families(monkeypatch):
    """Put them in the place of the real ones."""
    load = cache(bank)
    monkeypatch.setattr(mini_imagenet, "load", load)  # where "all classes" looks it up
    for name in ("mini-imagenet", "mini-imagenet, 64/12/24"):
        monkeypatch.setitem(tasks.FAMILIES, name, tasks._images(load, rotations=False))
