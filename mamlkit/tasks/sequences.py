"""Sequences of labelled images: the classes of a task in random order, each image to be named first."""

__all__ = ["Sequences"]

from dataclasses import dataclass

import torch
from torch import Generator

from mamlkit.maml import Task
from mamlkit.tasks.images import ImageTasks


@dataclass(frozen=True)
class Sequences:
    """Draws sequences of images with their labels. Source: Santoro et al. 2016, "omniglot".

    The k-th drawing of a class is its k-th *instance*. When it is to be named, k - 1 labelled drawings of its
    class have been seen, and any number of the others.

    Deviation: images and their rotation are those of :class:`mamlkit.tasks.images.ImageTasks`, 28 x 28 where
    the paper has 20 x 20; there are no small shifts and rotations.

    Args:
        images: whose support and query images together make a sequence.
    """

    images: ImageTasks

    @property
    def points(self) -> tuple[int, int]:
        """Support and query points of a task: the length of the sequence, and the classes asked for."""
        return self.images.ways * (self.images.shots + self.images.queries), self.images.ways

    def sample(self, generator: Generator, tasks: int) -> Task:
        """Sequences, and where to look in them.

        The support is a sequence in its order: images ``[tasks, time, channels, height, width]`` and labels
        ``[tasks, time]``. The query asks for each class in turn: its inputs are the places in time of the
        first, second, ... drawing of the class, ``[tasks, ways, drawings]``, its labels the class.
        """
        parts = self.images.sample(generator, tasks)
        images, labels = (torch.cat(part, dim=1) for part in zip(*parts))
        order = torch.rand(labels.shape, generator=generator).argsort(1).to(labels.device)
        labels = labels.gather(1, order)
        ways = self.images.ways
        places = labels.argsort(stable=True).view(tasks, ways, -1)
        classes = torch.arange(ways, device=labels.device).expand(tasks, ways)
        return Task((images[torch.arange(tasks)[:, None], order], labels), (places, classes))
