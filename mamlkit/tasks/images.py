"""N-way K-shot tasks over a bank of image classes. Paper: section 5.2."""

__all__ = ["AllClasses", "ImageTasks", "nearest_neighbour_accuracy"]

from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from mamlkit.maml import Task
from mamlkit.tasks.bank import Bank
from mamlkit.tasks.checks import at_least, drawn_with, whole

TOGETHER = 32  # tasks whose pixels are there twice, as bytes and as numbers: colour images are large


@dataclass(frozen=True)
class ImageTasks:
    """Draws classification tasks: N classes, K support and Q query images of each, labels 0..N-1.

    The bank stays as bytes on the device; a meta-batch is one gather. Rotation is drawn once per class
    and task, so a character turned by 90 degrees acts as a class of its own, in every split, and two
    rotations of one character never meet in a task (authors' code).

    Args:
        bank: images of one split's classes.
        ways: N, classes of a task.
        shots: K, support images per class.
        queries: query images per class.
        rotations: turn each class by a random multiple of 90 degrees.
        split: the split's name, for messages only.

    Raises:
        ValueError: If the bank cannot give so many ways, shots and queries, or its images cannot be turned.
    """

    bank: Bank
    ways: int
    shots: int
    queries: int
    rotations: bool = False
    split: str = "this"
    _turned_pixel: Tensor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        whole(ways=self.ways, shots=self.shots, queries=self.queries)
        classes, drawings, _, height, width = self.bank.shape
        if not 2 <= self.ways <= classes:
            raise ValueError(
                f"ways={self.ways}, but the {self.split!r} split has {classes} classes; use 2 "
                f"<= ways <= {classes}"
            )
        if self.shots < 1 or self.queries < 1 or self.shots + self.queries > drawings:
            raise ValueError(
                f"shots={self.shots} and queries={self.queries}, but a class has {drawings} images; "
                f"use at least one of each and at most {drawings} together"
            )
        if self.rotations and height != width:
            raise ValueError(
                f"images are {height}x{width}, but only square ones can be rotated; use rotations=False"
            )
        grid = torch.arange(height * width).view(height, width)
        turns = torch.stack([torch.rot90(grid, turn) for turn in range(4)] if self.rotations else [grid])
        object.__setattr__(self, "_turned_pixel", turns.flatten(1).to(self.bank.device))

    def draw(self, generator: Generator, tasks: int) -> tuple[Tensor, Tensor, Tensor]:
        """The random choices of a meta-batch, drawn on the CPU, so that every device sees the same tasks.

        Returns class ``[tasks, ways]``, drawing ``[tasks, ways, shots + queries]`` and quarter turns
        ``[tasks, ways]``.
        """
        at_least(1, tasks=tasks)
        drawn_with(generator)
        classes, drawings = self.bank.shape[:2]
        chosen = torch.rand(tasks, classes, generator=generator).topk(self.ways).indices
        per_class = self.shots + self.queries
        drawn = torch.rand(tasks, self.ways, drawings, generator=generator).topk(per_class).indices
        turns = torch.randint(len(self._turned_pixel), (tasks, self.ways), generator=generator)
        return chosen, drawn, turns

    def sample(self, generator: Generator, tasks: int) -> Task:
        """A meta-batch of images and labels.

        Images are ``[tasks, ways * points, channels, height, width]`` in [0, 1], labels
        ``[tasks, ways * points]``. Points are class by class; their order has no effect on a network that
        sees a batch as a whole.
        """
        return self.gather(*(t.to(self.bank.device) for t in self.draw(generator, tasks)))

    def gather(self, chosen: Tensor, drawn: Tensor, turns: Tensor) -> Task:
        """The meta-batch of the choices of :meth:`draw`, which lie on the bank's device."""
        sizes = (self.shots, self.queries)
        parts = [
            torch.empty(*chosen.shape, size, *self.bank.shape[2:], dtype=torch.float32, device=drawn.device)
            for size in sizes
        ]
        for start in range(0, len(chosen), TOGETHER):
            few = slice(start, start + TOGETHER)
            images = self._images(chosen[few], drawn[few], turns[few])
            for part, values in zip(parts, images.split(sizes, 2)):
                part[few] = values
        labels = torch.arange(self.ways, device=drawn.device)[None, :, None].expand(drawn.shape)
        pairs = zip(parts, labels.split(sizes, 2))
        return Task(*((images.flatten(1, 2).div_(255), each.flatten(1)) for images, each in pairs))

    def _images(self, chosen: Tensor, drawn: Tensor, turns: Tensor) -> Tensor:
        """Pixels as the bank has them, ``[tasks, ways, shots + queries, channels, height, width]``."""
        images = self.bank.take(chosen[..., None].expand_as(drawn), drawn)
        if not self.rotations:
            return images
        flat = images.flatten(-2)
        pixel = self._turned_pixel[turns][:, :, None, None]  # the same for all drawings of a class
        return flat.gather(-1, pixel.expand_as(flat)).view_as(images)


class AllClasses(ImageTasks):
    """Batches for an ordinary classifier: a task has all classes, each labelled by its number in the bank.

    Args:
        bank: images of the classes.
        shots: images per class in the support, and as many others in the query.
        split: the split's name, for messages only.

    Raises:
        ValueError: If a class has too few images.
    """

    def __init__(self, bank: Bank, shots: int, split: str = "this") -> None:
        super().__init__(bank, ways=bank.shape[0], shots=shots, queries=shots, split=split)

    @property
    def points(self) -> tuple[int, int]:
        """Support and query points of a task: of all classes, whatever the ways of a row."""
        return self.ways * self.shots, self.ways * self.queries

    def draw(self, generator: Generator, tasks: int) -> tuple[Tensor, Tensor, Tensor]:
        """As :meth:`ImageTasks.draw`, with the classes in the bank's order."""
        _, drawn, turns = super().draw(generator, tasks)
        return torch.arange(self.ways).expand(tasks, -1), drawn, turns


def nearest_neighbour_accuracy(tasks: Task) -> Tensor:
    """Share of queries whose nearest support image (Euclidean, on pixels) has their label, ``[tasks]``."""
    (support, support_labels), (query, query_labels) = tasks
    nearest = torch.cdist(query.flatten(2), support.flatten(2)).argmin(-1)
    return (support_labels.gather(1, nearest) == query_labels).float().mean(-1)
