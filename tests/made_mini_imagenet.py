"""Families of the shapes of Mini-ImageNet, of made images, so that its rows can be run without it."""

import torch

from mamlkit import tasks
from mamlkit.maml import Task
from mamlkit.tasks.bank import ClassBank
from mamlkit.tasks.images import ImageTasks

CLASSES = {"train": 64, "val": 16, "test": 20}
NAMES = ("mini-imagenet", "mini-imagenet, 64/12/24", "mini-imagenet, all classes")


def bank(split):
    """Classes that differ in brightness and colour, 20 noisy images of each."""
    generator = torch.Generator().manual_seed(CLASSES[split])
    colours = torch.randint(0, 196, (CLASSES[split], 1, 3, 1, 1), generator=generator)
    noise = torch.randint(0, 60, (CLASSES[split], 20, 3, 84, 84), generator=generator)
    return ClassBank((colours + noise).to(torch.uint8), [f"class {i}" for i in range(CLASSES[split])])


class AllClasses:
    """Batches of an ordinary classifier: images of every training class, with its own number as label."""

    def __init__(self, images, shots):
        self.images, self.shots = images, shots

    def sample(self, generator, tasks):
        drawings = torch.rand(tasks, 64, 20, generator=generator).topk(self.shots).indices
        images = self.images[torch.arange(64)[:, None], drawings].float() / 255
        labels = torch.arange(64).repeat_interleave(self.shots).expand(tasks, -1)
        return Task(*[(images.flatten(1, 2), labels)] * 2)


def families(monkeypatch):
    """Put them in the place of the real ones."""
    banks = {}

    def make(split, device, *, ways, shots, queries, all_classes=False):
        if split not in banks:
            banks[split] = bank(split)
        if all_classes and split == "train":
            return AllClasses(banks[split].images, shots)
        return ImageTasks(banks[split], ways, shots, queries, split=split)

    for name in NAMES:
        every = name.endswith("all classes")
        family = lambda *of, every=every, **sizes: make(*of, all_classes=every, **sizes)
        monkeypatch.setitem(tasks.FAMILIES, name, family)
