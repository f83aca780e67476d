"""The authors' weights: the network gives the outputs that an independent NumPy program found for them."""

import numpy as np
import pytest
import torch

from mamlkit import models
from mamlkit.models import released

# Of that program, in float64, for the images below.
LOGITS = [
    [6.234938, 6.533214, 5.576506, 7.748586, 6.946607],
    [6.260415, 6.408923, 5.786722, 7.851264, 6.994809],
    [6.518507, 6.782136, 6.081334, 8.199148, 7.330647],
    [6.340945, 6.662772, 5.543935, 7.738830, 7.227314],
    [6.793059, 6.820303, 5.976034, 8.169520, 7.532606],
]


def images():
    """Five images by a formula, ``[5, 3, 84, 84]``, float64."""
    n, h, w, c = np.ogrid[:5, :84, :84, :3]
    pixels = (17 * n + 31 * h + 7 * w + 101 * c + 13 * h * w) % 256 / 255
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-4), (torch.float64, 1e-6)])
def test_the_released_weights_give_the_outputs_that_were_found_for_them(dtype, error):
    model = models.NETWORKS["conv4, released weights"]()
    params = {name: value.to(dtype) for name, value in model.init(torch.Generator()).items()}
    outputs = model.apply(params, images().to(dtype)).double()
    assert (outputs - torch.tensor(LOGITS, dtype=torch.float64)).abs().max() < error


def test_they_are_those_of_the_paper_s_network_and_no_generator_changes_them():
    made = models.conv4(5, filters=32, size=84, channels=3, pooling="max")
    one, other = (models.released_conv4().init(torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert {name: value.shape for name, value in one.items()} == dict(made.shapes)
    assert all(torch.equal(one[name], other[name]) and one[name].dtype == torch.float32 for name in one)
    assert sum(value.numel() for value in one.values()) == 32_773
    assert models.released_conv4().frozen == made.frozen


def test_the_file_needs_no_pickle_and_has_its_licence_beside_it():
    with np.load(released.FILE, allow_pickle=False) as arrays:
        assert all(arrays[name].dtype.kind in "fU" for name in arrays.files)
    licence = released.FILE.with_suffix(".LICENSE").read_text(encoding="utf-8")
    assert "Copyright (c) 2017 Chelsea Finn" in licence and "github.com/cbfinn/maml" in licence
