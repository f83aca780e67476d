"""Networks that learn a task by a vector among their inputs, and by nothing else.

Paper: Appendix, Tables 3 to 5, "context vector". The inner update moves the vector z. All else is frozen in
it, and all, z too, is meta-learned.

The text says no more than this. Sizes and initial values are those of the authors' code in the commits of
June and July 2017 that had the baseline (cbfinn/maml, 42bac0c). That code adapts the weights too, so it is
not the baseline that the text describes.
"""

__all__ = ["conv4_context", "mlp_context"]

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from mamlkit.maml import Params
from mamlkit.models.convolutional import conv4
from mamlkit.models.dense import mlp
from mamlkit.models.parts import Model, check_features, check_images, check_sizes, xavier_uniform

CONTEXT = "context"


def mlp_context(
    inputs: int,
    hidden: Sequence[int],
    outputs: int,
    *,
    numbers: int = 5,
    start: str = "xavier",
    **options: Any,
) -> Model:
    """A fully connected network whose inputs are a point's features and z.

    Args:
        inputs, hidden, outputs, options: as for :func:`mamlkit.models.mlp`.
        numbers: length of z.
        start: z's initial value, ``"xavier"`` or ``"zeros"``.
    """
    check_sizes(inputs=inputs, numbers=numbers)
    wide = mlp(inputs + numbers, hidden, outputs, **options)
    return _with_context(wide, (inputs,), (numbers,), start)


def conv4_context(
    ways: int,
    *,
    size: int = 28,
    channels: int = 1,
    context_channels: int = 3,
    start: str = "xavier",
    **options: Any,
) -> Model:
    """A conv4 whose images have more channels, which hold z: 3 x 28 x 28 numbers for Omniglot.

    Args:
        ways, size, channels, options: as for :func:`mamlkit.models.conv4`.
        context_channels: channels of z.
        start: z's initial value, ``"xavier"`` or ``"zeros"``.
    """
    check_sizes(channels=channels, context_channels=context_channels)
    deep = conv4(ways, size=size, channels=channels + context_channels, **options)
    return _with_context(deep, (channels, size, size), (context_channels, size, size), start)


def _with_context(model: Model, point: tuple[int, ...], context: tuple[int, ...], start: str) -> Model:
    """The network behind z, which is appended to each point along its first axis; shapes without points."""
    if start not in ("xavier", "zeros"):
        raise ValueError(f"start={start!r}, but the context begins with 'xavier' or 'zeros'")

    def init(generator: Generator) -> Params:
        params = model.init(generator)
        row = torch.zeros(1, torch.Size(context).numel())  # one long row, which is what its fans count
        return params | {CONTEXT: xavier_uniform(row.shape, generator) if start == "xavier" else row}

    def apply(params: Params, x: Tensor, *reference: int, **named: int) -> Tensor:
        if len(point) == 1:
            x = x.flatten(1)
            check_features(x.shape[1], *point)
        else:
            check_images(tuple(x.shape[1:]), point)
        z = params[CONTEXT].view(context).expand(len(x), *context)
        return model.apply(params, torch.cat([x, z], 1), *reference, **named)

    return Model(init, apply, frozenset(model.shapes))
