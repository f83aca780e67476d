"""The paper's networks as pure functions of a parameter dictionary."""

__all__ = ["NETWORKS", "Layer", "Model", "Window", "conv4", "mlp"]

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from types import MappingProxyType
from typing import NamedTuple

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
        apply: ``(params, inputs) -> outputs``; inputs ``[points, ...]``, outputs ``[points, outputs]``.
        frozen: names of parameters that are meta-learned but not adapted.
        layers: the same network for :mod:`mamlkit.engine.meta_batch`; without them it takes the general way.
    """

    init: Callable[[Generator], Params]
    apply: Callable[[Params, Tensor], Tensor]
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


def truncated_normal(shape: Sequence[int], std: float, generator: Generator) -> Tensor:
    """Normal values, redrawn until within two standard deviations (the authors' initialiser)."""
    return torch.nn.init.trunc_normal_(
        torch.empty(*shape), std=std, a=-2 * std, b=2 * std, generator=generator
    )


def xavier_uniform(shape: Sequence[int], generator: Generator) -> Tensor:
    """Uniform in +-sqrt(6 / (fan_in + fan_out)), receptive field counted in both fans."""
    return torch.nn.init.xavier_uniform_(torch.empty(*shape), generator=generator)


def batch_norm(inputs: Tensor, shift: Tensor) -> Tensor:
    """Normalise each feature by the mean and the biased variance of this very batch, then shift.

    No scale and no running averages: the batch's own statistics serve training and testing alike,
    which makes the classifier transductive. Paper: section 5.2 names batch normalisation; the rest is
    the authors' code.

    Args:
        inputs: ``[points, features]`` or ``[points, channels, height, width]``.
        shift: beta, ``[features]``.
    """
    return F.batch_norm(inputs, None, None, weight=None, bias=shift, training=True, eps=BATCH_NORM_EPS)


def check_features(came: int, wanted: int) -> None:
    """``ValueError`` for inputs of another size than a network takes."""
    if came != wanted:
        raise ValueError(
            f"inputs have {came} features, but this network takes {wanted}; check the task family"
        )


def check_images(came: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """``ValueError`` for images of other ``(channels, height, width)`` than a network takes."""
    if came != wanted:
        raise ValueError(f"images are {came}, but this network takes {wanted}")


def mlp(
    inputs: int, hidden: Sequence[int], outputs: int, *, batch_norm_shifts: bool = False, std: float = 0.01
) -> Model:
    """A fully connected ReLU network; the paper's sinusoid net is ``mlp(1, (40, 40), 1)``.

    Paper: section 5.1 (sizes); section 5.2 for the non-convolutional Omniglot net
    ``mlp(784, (256, 128, 64, 64), ways, batch_norm_shifts=True)``. Truncated normal
    initialisation of every weight with ``std``, zero biases: authors' code.

    Args:
        inputs: features of a point; inputs of more dimensions are flattened.
        hidden: widths of the hidden layers.
        outputs: outputs (classes, or regression targets).
        batch_norm_shifts: normalise before each ReLU, with a shift that is meta-learned only.
        std: standard deviation of the initial weights.
    """
    widths = [inputs, *hidden, outputs]
    last = len(widths) - 2
    normalised = range(last) if batch_norm_shifts else range(0)

    def init(generator: Generator) -> Params:
        params = {}
        for layer, (fan_in, fan_out) in enumerate(pairwise(widths)):
            params[f"weight{layer}"] = truncated_normal((fan_out, fan_in), std, generator)
            params[f"bias{layer}"] = torch.zeros(fan_out)
            if layer in normalised:
                params[f"shift{layer}"] = torch.zeros(fan_out)
        return params

    def apply(params: Params, x: Tensor) -> Tensor:
        x = x.flatten(1)
        check_features(x.shape[-1], inputs)
        for layer in range(last + 1):
            x = F.linear(x, params[f"weight{layer}"], params[f"bias{layer}"])
            if layer in normalised:
                x = batch_norm(x, params[f"shift{layer}"])
            if layer < last:
                x = F.relu(x)
        return x

    layers = tuple(
        Layer(f"weight{i}", f"bias{i}", f"shift{i}" if i in normalised else None, relu=i < last)
        for i in range(last + 1)
    )
    return Model(init, apply, frozenset(f"shift{layer}" for layer in normalised), layers)


def same_padding(size: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME padding of a 3-wide window: the odd pixel goes after, not before.

    >>> same_padding(28, 2), same_padding(7, 2), same_padding(84, 1)
    ((0, 1), (1, 1), (1, 1))
    """
    total = max((math.ceil(size / stride) - 1) * stride + 3 - size, 0)
    return total // 2, total - total // 2


def conv4(
    ways: int, *, filters: int = 64, size: int = 28, channels: int = 1, pooling: str = "stride"
) -> Model:
    """Four 3x3 convolutions, each batch-normalised and rectified, and a linear head.

    Paper: section 5.2. Two variants:

    * ``pooling="stride"`` (Omniglot): stride 2, then the mean over the remaining pixels; head drawn from N(0,
    1). * ``pooling="max"`` (Mini-ImageNet): stride 1 and 2x2 max-pooling, then all pixels; Xavier head.

    Args:
        ways: classes.
        filters: channels of each block (64, or 32 for Mini-ImageNet).
        size: height and width of the images in pixels.
        channels: channels of the images.
        pooling: ``"stride"`` or ``"max"``.

    Deviation: none known; asymmetric padding at stride 2 and the initialisers follow the authors' code.
    """
    if pooling not in ("stride", "max"):
        raise ValueError(
            f"pooling={pooling!r}, but conv4 knows 'stride' (Omniglot) and 'max' (Mini-ImageNet)"
        )
    stride = 2 if pooling == "stride" else 1
    sizes = [size]
    for _ in range(4):
        sizes.append(math.ceil(sizes[-1] / 2) if stride == 2 else sizes[-1] // 2)
    if sizes[-1] < 1:
        raise ValueError(
            f"size={size}, but four poolings need at least 16 pixels; use larger images or pooling='stride'"
        )
    features = filters if pooling == "stride" else filters * sizes[-1] ** 2

    def init(generator: Generator) -> Params:
        params = {}
        for block, fan_in in enumerate([channels, filters, filters, filters]):
            params[f"conv{block}"] = xavier_uniform((filters, fan_in, 3, 3), generator)
            params[f"bias{block}"] = torch.zeros(filters)
            params[f"shift{block}"] = torch.zeros(filters)
        if pooling == "stride":
            params["head"] = torch.randn(ways, features, generator=generator)
        else:
            params["head"] = xavier_uniform((ways, features), generator)
        params["head_bias"] = torch.zeros(ways)
        return params

    def apply(params: Params, x: Tensor) -> Tensor:
        check_images(tuple(x.shape[-3:]), (channels, size, size))
        for block in range(4):
            before, after = same_padding(sizes[block], stride)
            if before != after:
                x = F.pad(x, (before, after, before, after))
            padding = before if before == after else 0
            x = F.conv2d(x, params[f"conv{block}"], params[f"bias{block}"], stride=stride, padding=padding)
            x = F.relu(batch_norm(x, params[f"shift{block}"]))
            if pooling == "max":
                x = F.max_pool2d(x, 2)
        x = x.mean((-2, -1)) if pooling == "stride" else x.flatten(-3)
        return F.linear(x, params["head"], params["head_bias"])

    layers = []
    for block, depth in enumerate([channels, filters, filters, filters]):
        window = Window(
            sizes[block], depth, stride, *same_padding(sizes[block], stride), math.ceil(sizes[block] / stride)
        )
        pool, mean = (2, False) if pooling == "max" else (1, block == 3)
        layers.append(Layer(f"conv{block}", f"bias{block}", f"shift{block}", window, pool=pool, mean=mean))
    layers.append(Layer("head", "head_bias", relu=False))
    return Model(init, apply, frozenset(f"shift{block}" for block in range(4)), tuple(layers))


NETWORKS: dict[str, Callable[..., Model]] = {"mlp": mlp, "conv4": conv4}
