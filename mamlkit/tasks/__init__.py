"""Task families. A newcomer is one file here and one line in :data:`FAMILIES`."""

__all__ = ["FAMILIES", "Family", "make"]

import inspect
import math
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import torch
from torch import Generator

from mamlkit.maml import Task
from mamlkit.tasks import glyphs, mini_imagenet, omniglot, textures
from mamlkit.tasks.bank import Bank
from mamlkit.tasks.images import AllClasses, ImageTasks
from mamlkit.tasks.sequences import Sequences
from mamlkit.tasks.sinusoid import Sinusoid

SPLITS = ("train", "val", "test")


class Family(Protocol):
    """Whatever draws tasks: p(T).

    A task has ``ways * shots`` support points and ``ways * queries`` query points. A family with other
    numbers says both: ``points``.
    """

    def sample(self, generator: Generator, tasks: int) -> Task:
        """A meta-batch of ``tasks`` tasks, drawn with ``generator`` alone.

        Raises:
            ValueError: If ``tasks`` is not a whole number of at least 1.
        """


def _sinusoid(
    split: str, device: torch.device, *, ways: int, shots: int, queries: int, **options: Any
) -> Sinusoid:
    if ways != 1:
        raise ValueError(f"ways={ways}, but the points of a sinusoid have no classes; leave ways at 1")
    # the splits share one distribution
    return Sinusoid(shots=shots, queries=queries, device=device, **options)


def _images(load: Callable[[str], Bank], rotations: bool) -> Callable[..., ImageTasks]:
    def make_family(split: str, device: torch.device, *, ways: int, shots: int, queries: int) -> ImageTasks:
        return ImageTasks(load(split).to(device), ways, shots, queries, rotations=rotations, split=split)

    return make_family


def _sequences(load: Callable[[str], Bank]) -> Callable[..., Sequences]:
    def make_family(split: str, device: torch.device, *, ways: int, shots: int, queries: int) -> Sequences:
        if queries != shots or shots < 2:
            raise ValueError(
                f"shots={shots} and queries={queries}, but each drawing of a sequence is both, and a "
                "class has two or more; give the same number twice"
            )
        return Sequences(_images(load, rotations=True)(split, device, ways=ways, shots=shots - 1, queries=1))

    return make_family


def _all_classes(split: str, device: torch.device, *, shots: int, **sizes: int) -> ImageTasks:
    if split == "train":  # of all classes, as many queries as shots: ways and queries say nothing
        return AllClasses(mini_imagenet.load(split).to(device), shots, split)
    return _images(mini_imagenet.load, rotations=False)(split, device, shots=shots, **sizes)


FAMILIES: dict[str, Callable[..., Family]] = {
    "sinusoid": _sinusoid,
    "sinusoid, phase to 2 pi": lambda *args, **kwargs: _sinusoid(*args, phase=(0.0, 2 * math.pi), **kwargs),
    "sinusoid, frequency too": lambda *args, **kwargs: _sinusoid(*args, frequency=(0.8, 1.2), **kwargs),
    "sinusoid, task shown": lambda *args, **kwargs: _sinusoid(*args, show_task=True, **kwargs),
    "omniglot": _images(omniglot.load, rotations=True),
    "omniglot, alphabets apart": _images(partial(omniglot.load, division="alphabets"), rotations=True),
    **{
        f"omniglot, {division}": _images(partial(omniglot.load, division=division), rotations=True)
        for division in ("test alphabets unseen", "test alphabets seen")
    },
    "omniglot, sequences": _sequences(omniglot.load),
    "glyphs": _images(glyphs.load, rotations=True),
    "glyphs, sequences": _sequences(glyphs.load),
    "mini-imagenet": _images(mini_imagenet.load, rotations=False),
    "mini-imagenet, 64/12/24": _images(partial(mini_imagenet.load, classes="64/12/24"), rotations=False),
    "mini-imagenet, all classes": _all_classes,
    "textures": _images(textures.load, rotations=False),
}


def make(
    family: str, split: str, *, ways: int = 1, shots: int, queries: int, device: str | torch.device = "cpu"
) -> Family:
    """A task family by name.

    Args:
        family: a key of :data:`FAMILIES`.
        split: ``"train"``, ``"val"`` or ``"test"`` classes; the sinusoids have one distribution for all.
        ways: classes of a task; 1 for regression.
        shots: support examples per class, or points.
        queries: query examples per class, or points.
        device: where the tasks are put.

    Raises:
        ValueError: for an unknown family or split, a device that is not there, and for ways or shots the
            split cannot give.
    """
    if family not in FAMILIES:
        raise ValueError(f"family={family!r}, but the families are {', '.join(map(repr, FAMILIES))}")
    if split not in SPLITS:
        raise ValueError(f"split={split!r}, but the splits are {', '.join(map(repr, SPLITS))}")
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        said = str(error).splitlines()[0]
        raise ValueError(
            f"device={device!r} cannot be used ({said}); use 'cpu', or 'cuda' where it is"
        ) from error
    entry = FAMILIES[family]
    try:
        wanted = inspect.signature(entry).bind(
            split, torch.device(device), ways=ways, shots=shots, queries=queries
        )
    except TypeError as error:
        raise ValueError(
            f"the entry of FAMILIES for {family!r} cannot be called ({error}); it must take "
            "(split, device, *, ways, shots, queries)"
        ) from None
    made = entry(*wanted.args, **wanted.kwargs)
    if not callable(getattr(made, "sample", None)):
        raise ValueError(
            f"the entry of FAMILIES for {family!r} makes {made!r}, but a family must have "
            "sample(generator, tasks)"
        )
    return made
