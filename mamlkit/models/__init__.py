"""The networks: pure functions of a parameter dictionary. A newcomer is one line in ``NETWORKS``."""

__all__ = [
    "BATCH_NORM_EPS",
    "NETWORKS",
    "Layer",
    "Model",
    "Window",
    "batch_norm",
    "check_features",
    "check_images",
    "conv4",
    "conv4_context",
    "head_of",
    "lstm_network",
    "mann",
    "mlp",
    "mlp_context",
    "released_conv4",
    "released_weights",
    "same_padding",
    "ways_of",
    "without_head",
    "xavier_uniform",
]

from collections.abc import Callable

from mamlkit.models.context import conv4_context, mlp_context
from mamlkit.models.convolutional import conv4, same_padding
from mamlkit.models.dense import mlp
from mamlkit.models.parts import (
    BATCH_NORM_EPS,
    Layer,
    Model,
    Window,
    batch_norm,
    check_features,
    check_images,
    head_of,
    ways_of,
    without_head,
    xavier_uniform,
)
from mamlkit.models.recurrent import lstm_network, mann
from mamlkit.models.released import released_conv4, released_weights

NETWORKS: dict[str, Callable[..., Model]] = {
    "mlp": mlp,
    "conv4": conv4,
    "mlp, context": mlp_context,
    "conv4, context": conv4_context,
    "conv4, released weights": released_conv4,
    "lstm": lstm_network,
    "mann": mann,
}
