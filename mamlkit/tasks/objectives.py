"""Problems of optimisation, on which update rules are learned and compared (Andrychowicz et al., 2016)."""

__all__ = ["Objectives", "glyph_networks", "quadratics"]

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from mamlkit.tasks import glyphs
from mamlkit.tasks.checks import at_least

PIXELS = 49  # of a character, 7 x 7
WAYS, DRAWINGS = 10, 20  # characters of a problem; images of each
START = 0.01  # standard deviation of the first parameters (the authors' code)


class Objectives(NamedTuple):
    """Several problems at once.

    Args:
        start: the first parameters, ``[problems, coordinates]``.
        loss: ``(parameters, step) -> [problems]``, on the examples of that step.
        true_loss: ``parameters -> [problems]``, on all examples.
    """

    start: Tensor
    loss: Callable[[Tensor, int], Tensor]
    true_loss: Callable[[Tensor], Tensor]


def quadratics(generator: Generator, problems: int, *, size: int = 10, uniform: bool = False) -> Objectives:
    """``f(theta) = |W theta - y|^2``, with W and y drawn for each problem. Its minimum is 0.

    Args:
        generator: of W, y and the first parameters.
        problems: how many.
        size: of theta and y.
        uniform: W and y between 0 and 1, as in the authors' code, where the paper has normal ones.

    Deviation: the authors' code takes the mean over 128 problems before the gradient, which a rule so sees
    128 times smaller; here each problem has its own gradient.
    """
    at_least(1, problems=problems, size=size)
    draw = torch.rand if uniform else torch.randn
    w = draw(problems, size, size, generator=generator)
    y = draw(problems, size, generator=generator)
    start = START * torch.randn(problems, size, generator=generator)

    def true_loss(theta: Tensor) -> Tensor:
        return (((w.to(theta) @ theta[..., None])[..., 0] - y.to(theta)) ** 2).sum(-1)

    return Objectives(start, lambda theta, step: true_loss(theta), true_loss)


def glyph_networks(
    generator: Generator,
    problems: int,
    *,
    split: str = "train",
    hidden: int = 20,
    activation: Callable[[Tensor], Tensor] = torch.sigmoid,
    batch: int = 128,
    steps: int = 200,
) -> Objectives:
    """Networks 49-20-10 that learn to tell ten characters apart: mean cross-entropy on a batch per step.

    Each problem has other characters, first parameters and batches.

    Deviation: the paper's network, 784-20-10 with sigmoids, learns MNIST; Glyphs need no download, and images
    of 7 x 7 pixels make it small.

    Args:
        generator: of all that is drawn.
        problems: how many networks.
        split: of Glyphs, from which characters are drawn.
        hidden: units of the hidden layer.
        activation: of the hidden layer.
        batch: images of a step, drawn with replacement from 200, twenty of each character.
        steps: how many steps have a batch.
    """
    at_least(1, problems=problems, hidden=hidden, batch=batch, steps=steps)
    drawings = _small(split)
    classes = torch.rand(problems, len(drawings), generator=generator).topk(WAYS).indices
    images = drawings[classes].flatten(1, 2)
    labels = torch.arange(WAYS).repeat_interleave(DRAWINGS)
    sizes = [hidden * PIXELS, hidden, WAYS * hidden, WAYS]
    start = START * torch.randn(problems, sum(sizes), generator=generator)
    chosen = torch.randint(len(labels), (steps + 1, problems, batch), generator=generator)
    rows = torch.arange(problems)[:, None]

    def of_batch(theta: Tensor, step: int) -> Tensor:
        if not 0 <= step <= steps:
            raise ValueError(
                f"step={step}, but batches were drawn for steps 0 to {steps}; ask for more with steps="
            )
        return of_images(theta, images[rows, chosen[step]], labels[chosen[step]])

    def of_images(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        first, first_bias, last, last_bias = theta.split(sizes, -1)
        z = x.to(theta) @ first.unflatten(-1, (hidden, PIXELS)).mT + first_bias[:, None]
        outputs = activation(z) @ last.unflatten(-1, (WAYS, hidden)).mT + last_bias[:, None]
        return F.cross_entropy(outputs.mT, y.to(theta.device), reduction="none").mean(-1)

    return Objectives(
        start,
        of_batch,
        lambda theta: of_images(theta, images, labels.expand(problems, -1)),
    )


@lru_cache
def _small(split: str) -> Tensor:
    """The characters of a split in 7 x 7 pixels between 0 and 1, ``[classes, drawings, pixels]``."""
    images = glyphs.load(split).images
    return F.avg_pool2d(images.flatten(0, 1) / 255, 4).view(*images.shape[:2], PIXELS)
