"""Families of the shapes of Mini-ImageNet, of made images, so that its rows can be run without it."""

from functools import cache, partial

import torch

from mamlkit import tasks
from mamlkit.tasks.bank import ClassBank
from mamlkit.tasks.images import AllClasses, ImageTasks

CLASSES = {"train": 64, "val": 16, "test": 20}
NAMES = ("mini-imagenet", "mini-imagenet, 64/12/24", "mini-imagenet, all classes")


def bank(split):
    """Classes that differ in brightness and colour, 20 noisy images of each."""
    generator = torch.Generator().manual_seed(CLASSES[split])
    colours = torch.randint(0, 196, (CLASSES[split], 1, 3, 1, 1), generator=generator)
    noise = torch.randint(0, 60, (CLASSES[split], 20, 3, 84, 84), generator=generator)
    return ClassBank((colours + noise).to(torch.uint8), [f"class {i}" for i in range(CLASSES[split])])


def families(monkeypatch):
    """Put them in the place of the real ones."""
    load = cache(bank)

    def make(split, device, *, all_classes=False, **sizes):
        if all_classes and split == "train":
            return AllClasses(load(split), sizes["shots"], split)
        return ImageTasks(load(split), **sizes, split=split)

    for name in NAMES:
        family = partial(make, all_classes=name.endswith("all classes"))
        monkeypatch.setitem(tasks.FAMILIES, name, family)
