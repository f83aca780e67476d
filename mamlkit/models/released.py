"""Weights that the paper's authors published, as a network."""

__all__ = ["released_conv4", "released_weights"]

from pathlib import Path

import numpy as np
import torch
from torch import Generator

from mamlkit.maml import Params
from mamlkit.models.convolutional import conv4
from mamlkit.models.parts import Model

# Converted from the TensorFlow checkpoint in cbfinn/maml, commit 1882826 (snapshot 59000); its licence lies
# beside it.
FILE = Path(__file__).with_name("finn_miniimagenet_5w1s.npz")


def released_weights() -> Params:
    """The authors' MAML weights of Mini-ImageNet, 5-way 1-shot, named as by :func:`mamlkit.models.conv4`.

    TensorFlow has kernels as ``[height, width, in, out]``, and flattens pixels before channels.
    """
    with np.load(FILE, allow_pickle=False) as arrays:
        theirs = {name: torch.from_numpy(arrays[name]) for name in arrays.files if name != "tf_names"}
    params = {}
    for block in range(4):
        params[f"conv{block}"] = theirs[f"conv{block + 1}"].permute(3, 2, 0, 1).contiguous()
        params[f"bias{block}"] = theirs[f"b{block + 1}"]
        params[f"shift{block}"] = theirs[f"bn{block + 1}_beta"]
    params["head"] = theirs["w5"].view(5, 5, 32, 5).permute(3, 2, 0, 1).flatten(1)
    params["head_bias"] = theirs["b5"]
    return params


def released_conv4() -> Model:
    """The network of Mini-ImageNet, which begins with :func:`released_weights` whatever the generator.

    Paper: Table 1, where 48.70 % stands for such weights; nobody says that it was this snapshot.
    """

    def init(generator: Generator) -> Params:
        return released_weights()

    return conv4(5, filters=32, size=84, channels=3, pooling="max")._replace(init=init)
