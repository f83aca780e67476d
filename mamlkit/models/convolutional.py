"""The convolutional network of the image experiments."""

__all__ = ["conv4", "same_padding"]

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from mamlkit.maml import Params
from mamlkit.models.parts import Layer, Model, Window, batch_norm, check_images, check_sizes, xavier_uniform


def same_padding(size: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME padding of a 3-wide window: the odd pixel goes after, not before.

    >>> same_padding(28, 2), same_padding(7, 2), same_padding(84, 1)
    ((0, 1), (1, 1), (1, 1))
    """
    total = max((math.ceil(size / stride) - 1) * stride + 3 - size, 0)
    return total // 2, total - total // 2


def conv4(
    ways: int,
    *,
    filters: int = 64,
    size: int = 28,
    channels: int = 1,
    pooling: str = "stride",
    padding: str = "same",
    head: str | None = None,
    adapt_shifts: bool = False,
) -> Model:
    """Four 3x3 convolutions, each batch-normalised and rectified, and a linear head.

    Paper: section 5.2. Two variants:

    * ``pooling="stride"`` (Omniglot): stride 2, then the mean over the remaining pixels; head from N(0, 1).
    * ``pooling="max"`` (Mini-ImageNet): stride 1 and 2x2 max-pooling, then all pixels; Xavier head.

    Args:
        ways: classes.
        filters: channels of each block (64, or 32 for Mini-ImageNet).
        size: height and width of the images in pixels.
        channels: channels of the images.
        pooling: ``"stride"`` or ``"max"``.
        padding: ``"same"``, TensorFlow's; or ``"symmetric"``, one pixel on each side as in PyTorch's
            ``padding=1``, which goes the general way.
        head: initialiser of the head, ``"normal"`` or ``"xavier"``; that of the variant if None.
        adapt_shifts: whether the inner update moves the shifts too.

    The last three are there to measure what they do; the paper's rows leave them alone.

    Raises:
        ValueError: a word that is not one of these, a size that is no whole number, at least 1, or images
            too small to be pooled.

    Deviation: none known; asymmetric padding at stride 2 and the initialisers follow the authors' code.
    """
    if pooling not in ("stride", "max"):
        raise ValueError(
            f"pooling={pooling!r}, but conv4 knows 'stride' (Omniglot) and 'max' (Mini-ImageNet)"
        )
    if padding not in ("same", "symmetric"):
        raise ValueError(
            f"padding={padding!r}, but conv4 knows 'same' (TensorFlow's) and 'symmetric' (one on each side)"
        )
    if head not in (None, "normal", "xavier"):
        raise ValueError(f"head={head!r}, but conv4 knows 'normal', 'xavier', and None for the variant's own")
    check_sizes(ways=ways, filters=filters, size=size, channels=channels)
    normal_head = head == "normal" or (head is None and pooling == "stride")
    stride = 2 if pooling == "stride" else 1
    pads = lambda size: same_padding(size, stride) if padding == "same" else (1, 1)
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
        if normal_head:
            params["head"] = torch.randn(ways, features, generator=generator)
        else:
            params["head"] = xavier_uniform((ways, features), generator)
        params["head_bias"] = torch.zeros(ways)
        return params

    def apply(params: Params, x: Tensor, reference: int | None = None) -> Tensor:
        check_images(tuple(x.shape[-3:]), (channels, size, size))
        for block in range(4):
            before, after = pads(sizes[block])
            if before != after:
                x = F.pad(x, (before, after, before, after))
            padding = before if before == after else 0
            x = F.conv2d(x, params[f"conv{block}"], params[f"bias{block}"], stride=stride, padding=padding)
            x = F.relu(batch_norm(x, params[f"shift{block}"], reference))
            if pooling == "max":
                x = F.max_pool2d(x, 2)
        x = x.mean((-2, -1)) if pooling == "stride" else x.flatten(-3)
        return F.linear(x, params["head"], params["head_bias"])

    layers = []
    for block, depth in enumerate([channels, filters, filters, filters]):
        out = math.ceil(sizes[block] / stride)
        window = Window(sizes[block], depth, stride, *pads(sizes[block]), out)
        pool, mean = (2, False) if pooling == "max" else (1, block == 3)
        layers.append(Layer(f"conv{block}", f"bias{block}", f"shift{block}", window, pool=pool, mean=mean))
    layers.append(Layer("head", "head_bias", relu=False))
    frozen = frozenset() if adapt_shifts else frozenset(f"shift{block}" for block in range(4))
    return Model(init, apply, frozen, tuple(layers) if padding == "same" else ())
