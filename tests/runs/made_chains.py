"""A small experiment on chains, and networks that go where they are told to."""

import dataclasses

import torch

from mamlkit.experiments import paper
from mamlkit.experiments.chains import ChainEvaluation, name_of

TEST = ChainEvaluation("N=3", 3, 2)
SMALL = {"lengths": (3, 4), "meta_batch_size": 2, "iterations": 14, "batch": 4, "lag": 7, "quick": {}}
ROW = dataclasses.replace(
    paper.get(name_of("parameter-noise")), name="small-chains", evaluations=(TEST,), in_a_row=30, **SMALL
)


@torch.no_grad()
def always(one, right):
    """Make the heads of two members go always right, or never."""
    for name, part in one.networks.split(one.policy).items():
        if name == "weight2":
            part.zero_()
        if name == "bias2":
            part.copy_(torch.tensor([[[0.0, 1.0] if goes else [1.0, 0.0]] for goes in right]))
