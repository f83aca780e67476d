"""Winograd's convolutions give the numbers of the engine's, and are in the engine only where asked for."""

import numpy as np
import pytest
import torch
import winograd
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import relative_error
from mamlkit import maml, methods, models
from mamlkit.engine import kernels_cpu, meta_batch
from mamlkit.engine.kernels_cpu.vectors import LANES
from mamlkit.models import Window

pytestmark = pytest.mark.benchmark
WIDE = LANES[np.dtype(np.float64)]


def window_of(size, channels):
    return Window(size=size, channels=channels, stride=1, before=1, after=1, out=size)


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 13),
    channels=st.sampled_from([1, 2, 3]),
    filters=st.sampled_from([1, 2]),
    points=st.integers(1, 9),
    shared=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 1000),
)
def test_the_convolution_and_its_adjoints_are_the_engines(
    size, channels, filters, points, shared, dtype, seed
):
    lanes = LANES[torch.empty(0, dtype=dtype).numpy().dtype]
    channels, filters = channels * lanes, filters * lanes
    generator = torch.Generator().manual_seed(seed)
    random = lambda *shape: torch.randn(*shape, generator=generator, dtype=dtype)
    window = window_of(size, channels)
    assert winograd.fits(window, channels, filters, lanes)
    x, d, z = (random(2, points, size, size, n) for n in (channels, filters, filters))
    kernel, other = random(*([] if shared else [2]), 9 * channels, filters), random(2, 9 * channels, filters)

    def close(name, *arguments, out=None):
        more = lambda: () if out is None else (out.clone(),)
        ours, wanted = (way(*arguments, *more()) for way in (getattr(winograd, name), winograd.DIRECT[name]))
        assert ours.shape == wanted.shape and ours.is_contiguous()
        assert (ours - wanted).norm() <= (1e-5 if dtype == torch.float32 else 1e-13) * wanted.norm()

    close("product", x, kernel, window)
    close("product", x, kernel, window, out=z)
    close("weight_gradient", d, x, window)
    close("weight_gradient", d, x, window, out=other)
    close("input_gradient", [(d, kernel)], window)
    close("input_gradient", [(d, kernel), (z, other)], window)


def test_other_convolutions_go_the_engines_way(monkeypatch):
    lanes = LANES[np.dtype(np.float32)]
    strided = Window(size=6, channels=lanes, stride=2, before=0, after=1, out=3)
    bare = Window(size=6, channels=lanes, stride=1, before=0, after=0, out=4)
    for window, channels, filters in (
        (strided, lanes, lanes),
        (bare, lanes, lanes),
        (window_of(6, 3), 3, lanes),
        (window_of(6, lanes), lanes, lanes + 1),
    ):
        assert not winograd.fits(window, channels, filters, lanes)
    monkeypatch.setattr(winograd, "_convolve", None)
    x, kernel = torch.ones(1, 1, 6, 6, 3), torch.ones(1, 27, lanes)
    assert winograd.product(x, kernel, window_of(6, 3)).max() == 27


def test_a_meta_gradient_is_the_same_and_the_engine_gets_its_own_back():
    generator = torch.Generator().manual_seed(0)
    random = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)
    model = models.conv4(2, filters=WIDE, size=22, channels=3, pooling="max")
    params = {name: value.double() for name, value in model.init(generator).items()}
    labels = torch.arange(2).repeat(2, 2)
    tasks = maml.Task(*((random(2, 4, 3, 22, 22), labels) for _ in range(2)))
    method = methods.maml(methods.Learner(model, "cross-entropy, sum over examples / shots", 0.1, 2, shots=2))
    wanted, _ = meta_batch.meta_gradient(method, params, tasks)
    calls = []
    with winograd.in_the_engine(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "convolved", lambda *a, own=winograd.convolved: (calls.append(1), own(*a)))
        found, _ = meta_batch.meta_gradient(method, params, tasks)
    assert calls
    assert relative_error(found, wanted) < 1e-9
    assert all(getattr(kernels_cpu, name) is way for name, way in winograd.DIRECT.items())


def test_the_table_of_a_layer_has_times_and_errors_of_both_ways(monkeypatch):
    monkeypatch.setattr(winograd, "in_turns", lambda calls, *_: [float(i) for i, _ in enumerate(calls)])
    lines = winograd.layer(5, images=2, repeats=1)
    assert [line["what"] for line in lines] == ["product", "input gradient", "weight gradient"]
    for line in lines:
        assert (line["pixels"], line["images"]) == (5, 2)
        assert (line["direct ms"], line["winograd ms"]) == (0, 1)
        assert 0 < line["direct error"] < 1e-5 and 0 < line["winograd error"] < 1e-5
