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
    "check_sizes",
    "check_widths",
    "conv4",
    "conv4_context",
    "head_of",
    "lstm_network",
    "make",
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

import inspect
from collections.abc import Callable, Mapping
from typing import Any

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
    check_sizes,
    check_widths,
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


def make(network: str, options: Mapping[str, Any]) -> Model:
    """A network by name.

    Args:
        network: a key of :data:`NETWORKS`.
        options: what its entry is called with.

    Raises:
        ValueError: an unknown name, options that the entry does not take or cannot use, and an entry that
            makes no :class:`Model`.
    """
    if network not in NETWORKS:
        raise ValueError(f"network={network!r}, but it must be one of {', '.join(map(repr, NETWORKS))}")
    entry, of = NETWORKS[network], f"network {network!r} with {dict(options)}"
    try:
        inspect.signature(entry).bind(**options)
    except TypeError as error:
        takes = ", ".join(map(str, inspect.signature(entry).parameters.values()))
        raise ValueError(f"{of}: {error}; it takes ({takes})") from None
    try:
        made = entry(**options)
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"{of} cannot be made: {error}") from error
    if not isinstance(made, Model):
        raise ValueError(
            f"{of} is {made!r}, but a network is a mamlkit.models.Model, two functions: Model(init, apply)"
        )
    return made
