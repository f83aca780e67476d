"""Winograd's convolutions give the numbers of the direct form, wherever the engine takes them."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import relative_error
from mamlkit import maml, methods, models
from mamlkit.engine import kernels_cpu, meta_batch
from mamlkit.engine.kernels_cpu import tiles, winograd
from mamlkit.engine.kernels_cpu.vectors import LANES
from mamlkit.models import Window

WIDE = LANES[np.dtype(np.float64)]
B_TURNED, G, A = (np.array(tiles.PAIRS) @ np.array(each) for each in (tiles.B_TURNED, tiles.G, tiles.A))


def window_of(size, channels):
    return Window(size=size, channels=channels, stride=1, before=1, after=1, out=size)


def scratch_of_nan(*arguments, own=winograd._scratch):
    parts = own(*arguments)
    for part in parts:
        part[:] = np.nan
    return parts


def directly(way):
    with patch.object(winograd, "is_for", lambda *_: False):
        return way()


def test_the_matrices_are_the_published_ones_and_make_a_convolution():
    assert B_TURNED.tolist() == [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
    assert A.T.tolist() == [
        [1, 1, 1, 1, 1, 0],
        [0, 1, -1, 2, -2, 0],
        [0, 1, 1, 4, 4, 0],
        [0, 1, -1, 8, -8, 1],
    ]
    assert np.allclose(24 * G, [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]])
    numbers = np.random.default_rng(0)
    d, g = numbers.normal(size=(6, 6)), numbers.normal(size=(3, 3))
    wanted = [[(d[y : y + 3, x : x + 3] * g).sum() for x in range(4)] for y in range(4)]
    assert np.allclose(A.T @ ((G @ g @ G.T) * (B_TURNED @ d @ B_TURNED.T)) @ A, wanted)


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 14),
    channels=st.sampled_from([1, 2, 3]),
    filters=st.sampled_from([1, 2]),
    points=st.integers(1, 9),
    shared=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 1000),
)
def test_the_convolution_and_its_adjoints_are_the_direct_ones(
    size, channels, filters, points, shared, dtype, seed
):
    lanes = LANES[torch.empty(0, dtype=dtype).numpy().dtype]
    channels, filters = channels * lanes, filters * lanes
    generator = torch.Generator().manual_seed(seed)
    random = lambda *shape: torch.randn(*shape, generator=generator, dtype=dtype)
    window = window_of(size, channels)
    x, d, z = (random(2, points, size, size, n) for n in (channels, filters, filters))
    kernel, other = random(*([] if shared else [2]), 9 * channels, filters), random(2, 9 * channels, filters)

    def close(name, *arguments, out=None):
        way = lambda: getattr(kernels_cpu, name)(*arguments, *(() if out is None else (out.clone(),)))
        with patch.object(winograd, "_scratch", scratch_of_nan):  # memory that is used again holds anything
            ours = way()
        wanted = directly(way)
        assert ours.shape == wanted.shape and ours.is_contiguous()
        assert (ours - wanted).norm() <= (1e-5 if dtype == torch.float32 else 1e-13) * wanted.norm()

    with patch.object(winograd, "LEAST", 1):
        assert winograd.is_for(window, channels, filters, lanes)
        close("product", x, kernel, window)
        close("product", x, kernel, window, out=z)
        close("weight_gradient", d, x, window)
        close("weight_gradient", d, x, window, out=other)
        close("input_gradient", [(d, kernel)], window)
        close("input_gradient", [(d, kernel), (z, other)], window)


def test_nothing_beside_the_result_is_written():
    lanes, size = LANES[np.dtype(np.float32)], 11
    window, x = window_of(size, lanes), torch.randn(1, 2, size, size, lanes)
    assert winograd.is_for(window, lanes, lanes, lanes)
    for name, arguments, shape in (
        ("product", (x, torch.randn(9 * lanes, lanes), window), x.shape[1:]),
        ("weight_gradient", (x, x, window), (9 * lanes, lanes)),
    ):
        whole = torch.full((3, *shape), 7.0)
        getattr(kernels_cpu, name)(*arguments, whole[1:2])
        assert (whole[0] == 7).all() and (whole[2] == 7).all() and not (whole[1] == 7).any()


def test_two_threads_do_not_share_what_they_work_with():
    lanes, size = LANES[np.dtype(np.float64)], 12
    window, generator = window_of(size, lanes), torch.Generator().manual_seed(0)
    images = [torch.randn(1, 9, size, size, lanes, generator=generator).double() for _ in range(8)]
    kernel = torch.randn(9 * lanes, lanes, generator=generator).double()
    work = lambda x: (kernels_cpu.product(x, kernel, window), kernels_cpu.weight_gradient(x, x, window))
    alone = [work(x) for x in images]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(work, images))
    for pair in zip(alone, together):
        assert all(torch.equal(*parts) for parts in zip(*pair))


def test_other_convolutions_are_direct():
    lanes = LANES[np.dtype(np.float32)]
    strided = Window(size=21, channels=lanes, stride=2, before=1, after=1, out=11)
    bare = Window(size=18, channels=lanes, stride=1, before=0, after=0, out=16)
    assert winograd.is_for(window_of(18, lanes), lanes, lanes, lanes)
    for window, channels, filters in (
        (strided, lanes, lanes),
        (bare, lanes, lanes),
        (window_of(18, 3), 3, lanes),
        (window_of(18, lanes), lanes, lanes + 1),
        (window_of(winograd.LEAST - 1, lanes), lanes, lanes),
    ):
        assert not winograd.is_for(window, channels, filters, lanes)


@pytest.mark.parametrize("first_order", [False, True])
def test_a_meta_gradient_is_the_same(first_order):
    generator = torch.Generator().manual_seed(0)
    random = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)
    model = models.conv4(2, filters=WIDE, size=22, channels=3, pooling="max")
    params = {name: value.double() for name, value in model.init(generator).items()}
    labels = torch.arange(2).repeat(2, 2)
    batch = maml.Task(*((random(2, 4, 3, 22, 22), labels) for _ in range(2)))
    learner = methods.Learner(model, "cross-entropy, sum over examples / shots", 0.1, 2, shots=2)
    method = dataclasses.replace(methods.maml(learner), first_order=first_order)
    with (
        patch.object(winograd, "_convolved", side_effect=winograd._convolved) as convolved,
        patch.object(winograd, "_correlated", side_effect=winograd._correlated) as correlated,
    ):
        found, _ = meta_batch.meta_gradient(method, params, batch)
    assert convolved.called and correlated.called
    assert relative_error(found, maml.meta_gradient(method.loss, params, batch)[0]) < 1e-9
    assert relative_error(found, directly(lambda: meta_batch.meta_gradient(method, params, batch)[0])) < 1e-9
