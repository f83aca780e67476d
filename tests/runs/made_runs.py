"""What the tests of runs share: parameters that are the same, and a folder that a process has been in."""

import torch

from mamlkit.runs import folders


def same(one, other):
    """Whether parameters are the same, bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def opened(row, seed=0, device="cpu", **options):
    """The folder of a run after a process has been in it."""
    with folders.open_run(row, seed, device, **options) as folder:
        return folder
