"""What a network is: pure functions of a parameter dictionary, and the parts they share."""

__all__ = [
    "BATCH_NORM_EPS",
    "Layer",
    "Model",
    "Window",
    "batch_norm",
    "check_features",
    "check_images",
    "check_sizes",
    "head_of",
    "truncated_normal",
    "ways_of",
    "without_head",
    "xavier_uniform",
]

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import lru_cache
from numbers import Integral
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from mamlkit.maml import Params

BATCH_NORM_EPS = 1e-3  # TensorFlow's default, the authors' value; PyTorch's own is 1e-5


class Window(NamedTuple):
    """A 3x3 convolution over square images of ``size`` pixels, ``channels`` deep, giving ``out`` pixels."""

    size: int
    channels: int
    stride: int
    before: int
    after: int
    out: int


class Layer(NamedTuple):
    """One layer in words that :mod:`mamlkit.engine.passes` has derivatives for.

    A normalisation is followed by a ReLU, and only after one can there be pooling. Convolutions come first.

    Args:
        weight, bias: names of parameters; without ``window`` the product is an ordinary one.
        shift: name of batch normalisation's shift, None without normalisation. A bias before a
            normalisation changes nothing and has no gradient.
        window: of a convolution.
        relu: whether a ReLU follows.
        pool: side of the windows whose maximum is taken.
        mean: whether the mean over all pixels ends the layer.
    """

    weight: str
    bias: str
    shift: str | None = None
    window: Window | None = None
    relu: bool = True
    pool: int = 1
    mean: bool = False


class Model(NamedTuple):
    """A network: how to draw its parameters, how to run it, and what the inner update leaves alone.

    Args:
        init: ``(generator) -> params``, float32 on the CPU whatever the device of the run.
        apply: ``(params, inputs) -> outputs``; inputs ``[points, ...]``, outputs ``[points, outputs]``. One
            that also takes ``reference``, a number of points, normalises by the statistics of so many first
            ones.
        frozen: names of parameters that are meta-learned but not adapted.
        layers: the same network for :mod:`mamlkit.engine.meta_batch`; without them it takes the general way.
    """

    init: Callable[[Generator], Params]
    apply: Callable[..., Tensor]
    frozen: frozenset[str] = frozenset()
    layers: tuple[Layer, ...] = ()

    @property
    def shapes(self) -> Mapping[str, torch.Size]:
        """Name to shape of each parameter."""
        return shapes(self.init) if isinstance(self.init, Hashable) else shapes.__wrapped__(self.init)


@lru_cache
def shapes(init: Callable[[Generator], Params]) -> Mapping[str, torch.Size]:
    """Name to shape of what ``init`` draws; found out once, since drawing takes its time."""
    return MappingProxyType({name: value.shape for name, value in init(Generator()).items()})


def without_head(model: Model) -> Model:
    """The same network up to its last layer: outputs are the features ``[points, features]``.

    It has no layers for the engine, whose recursion ends with a head.

    Raises:
        ValueError: as for :func:`head_of`.
    """
    weight, bias = head_of(model)[:2]
    features = model.shapes[weight][1]

    def init(generator: Generator) -> Params:
        return {name: value for name, value in model.init(generator).items() if name not in (weight, bias)}

    def apply(params: Params, x: Tensor, *reference: int, **named: int) -> Tensor:
        head = {weight: torch.eye(features, dtype=x.dtype, device=x.device), bias: x.new_zeros(features)}
        return model.apply(params | head, x, *reference, **named)

    return Model(init, apply, frozenset(model.frozen) - {weight, bias})


def ways_of(model: Model) -> int:
    """How many classes a network tells apart; ``ValueError`` as for :func:`head_of`."""
    return model.shapes[head_of(model).bias][0]


def head_of(model: Model) -> Layer:
    """The last layer; ``ValueError`` for a network that does not say its layers."""
    if not model.layers:
        raise ValueError("this network has no layers, so its head is not known; give the model its layers")
    return model.layers[-1]


def truncated_normal(shape: Sequence[int], std: float, generator: Generator) -> Tensor:
    """Normal values, redrawn until within two standard deviations (the authors' initialiser)."""
    return torch.nn.init.trunc_normal_(
        torch.empty(*shape), std=std, a=-2 * std, b=2 * std, generator=generator
    )


def xavier_uniform(shape: Sequence[int], generator: Generator) -> Tensor:
    """Uniform in +-sqrt(6 / (fan_in + fan_out)), receptive field counted in both fans."""
    return torch.nn.init.xavier_uniform_(torch.empty(*shape), generator=generator)


def batch_norm(inputs: Tensor, shift: Tensor, reference: int | None = None) -> Tensor:
    """Normalise each feature by the mean and the biased variance of this very batch, then shift.

    No scale and no running averages: the batch's own statistics serve training and testing alike,
    which makes the classifier transductive. Paper: section 5.2 names batch normalisation; the rest is
    the authors' code.

    Args:
        inputs: ``[points, features]`` or ``[points, channels, height, width]``.
        shift: beta, ``[features]``.
        reference: if given, the mean and the variance are those of so many first points.
    """
    if reference is not None:
        axes = (0, *range(2, inputs.dim()))
        variance, mean = torch.var_mean(inputs[:reference], axes, correction=0, keepdim=True)
        beta = shift.view(-1, *[1] * (inputs.dim() - 2))
        return (inputs - mean) * (variance + BATCH_NORM_EPS).rsqrt() + beta
    return F.batch_norm(inputs, None, None, weight=None, bias=shift, training=True, eps=BATCH_NORM_EPS)


def check_features(came: int, wanted: int) -> None:
    """``ValueError`` for inputs of another size than a network takes."""
    if came != wanted:
        raise ValueError(
            f"inputs have {came} features, but this network takes {wanted}; check the task family"
        )


def check_sizes(**sizes: Any) -> None:
    """``ValueError`` for a size of a network that is no whole number, at least 1; of several, name by name.

    >>> check_sizes(inputs=1, hidden=(40, 40))
    >>> check_sizes(ways=0)
    Traceback (most recent call last):
        ...
    ValueError: ways=0, but it must be a whole number, at least 1
    """
    for name, value in sizes.items():
        several = isinstance(value, Sequence)
        for size in value if several else [value]:
            if not isinstance(size, Integral) or isinstance(size, bool) or size < 1:
                words = "each must" if several else "it must"
                raise ValueError(f"{name}={value!r}, but {words} be a whole number, at least 1")


def check_widths(hidden: Any) -> None:
    """``ValueError`` for what is no list of widths, such as a single number."""
    if isinstance(hidden, str) or not isinstance(hidden, Iterable):
        raise ValueError(f"hidden={hidden!r}, but it must be the widths of the layers, such as (40, 40)")


def check_images(came: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """``ValueError`` for images of other ``(channels, height, width)`` than a network takes."""
    if came != wanted:
        raise ValueError(f"images are {came}, but this network takes {wanted}")
