"""The CPU's convolutions give the numbers of an unfolding and one product, and memory is used again only when
nobody holds it."""

import math
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from conftest import forget_offsets
from mamlkit.engine import kernels_cpu, kernels_torch
from mamlkit.engine.kernels_cpu import memory, vectors
from mamlkit.models import Window


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(1, 17),
    stride=st.integers(1, 2),
    channels=st.sampled_from([1, 3, 16, 33]),
    filters=st.sampled_from([1, 5, 32, 40]),
    points=st.integers(1, 4),
    group=st.sampled_from([1, 20_000, 1 << 20]),
    shared=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 1000),
)
def test_a_convolution_and_its_adjoints_whatever_the_shapes(
    size, stride, channels, filters, points, group, shared, dtype, seed
):
    out = -(-size // stride)
    border = max((out - 1) * stride + 3 - size, 0)  # TensorFlow's SAME: the odd zero comes last
    window = Window(
        size=size, channels=channels, stride=stride, before=border // 2, after=border - border // 2, out=out
    )
    generator = torch.Generator().manual_seed(seed)
    random = lambda *shape: torch.randn(*shape, generator=generator, dtype=dtype)
    x, d, z = (
        random(2, points, size, size, channels),
        random(2, points, out, out, filters),
        random(2, points, out, out, filters),
    )
    kernel, other = random(*([] if shared else [2]), 9 * channels, filters), random(2, 9 * channels, filters)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels_cpu.offsets, "GROUP_BYTES", group)
        forget_offsets()
        for terms in ([(d, kernel)], [(d, kernel), (z, other)]):
            close(*(k.input_gradient(terms, window) for k in (kernels_cpu, kernels_torch)))
        for k_out, g_out in ((None, None), (z, other)):
            given_out = lambda value: None if value is None else value.clone()
            close(*(k.product(x, kernel, window, given_out(k_out)) for k in (kernels_cpu, kernels_torch)))
            close(*(k.weight_gradient(d, x, window, given_out(g_out)) for k in (kernels_cpu, kernels_torch)))
    forget_offsets()


@settings(max_examples=100, deadline=None)
@given(
    rows=st.integers(1, 12),
    inner=st.sampled_from([1, 2, 127, 128, 129, 300]),
    columns=st.sampled_from([1, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 40, 65]),
    turned=st.tuples(st.booleans(), st.booleans()),
    shared=st.booleans(),
    added=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 1000),
)
def test_a_plain_product_whatever_the_shapes(rows, inner, columns, turned, shared, added, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    random = lambda *shape: torch.randn(*shape, generator=generator, dtype=dtype)

    def given(height, width, turned):
        matrices = random(3, width, height).mT if turned else random(3, height, width)
        whole = torch.full((5, *matrices.shape[1:]), math.nan, dtype=dtype)  # whoever reads beyond finds NaN
        whole = whole.mT.contiguous().mT if turned else whole
        whole[1:4] = matrices
        return whole[1:4]

    a, b = given(rows, inner, turned[0]), given(inner, columns, turned[1])
    b = b[1] if shared else b
    whole = torch.full((5, rows, columns), 7.0, dtype=dtype)
    out = whole[1:4].copy_(random(3, rows, columns)) if added else None
    wanted = kernels_torch.add_product(a, b, None if out is None else out.clone())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels_cpu.products, "FASTER", True)
        patch.setattr(kernels_cpu.products, "SMALL", 0)
        found = kernels_cpu.add_product(a, b, out)
        of_some = kernels_cpu.add_product(a[1:, -1:], b if shared else b[1:])
        patch.setattr(kernels_cpu.products, "SMALL", rows * inner * columns)
        assert torch.equal(kernels_cpu.add_product(a, b), kernels_torch.add_product(a, b))
        patch.setattr(kernels_cpu.products, "FASTER", False)
        patch.setattr(kernels_cpu.products, "SMALL", 0)
        assert torch.equal(kernels_cpu.add_product(a, b), kernels_torch.add_product(a, b))
    close(found, wanted)
    assert (found is out) == added and bool((whole[[0, 4]] == 7).all())
    if not added:  # a row has the same bits whatever stands beside it
        assert torch.equal(of_some, found[1:, -1:])


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 9),
    pool=st.integers(1, 2),
    channels=st.sampled_from([1, 5, 32, 40, 64]),
    points=st.integers(1, 7),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 1000),
)
def test_a_normalisation_and_its_derivatives_whatever_the_shapes(size, pool, channels, points, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    random = lambda *shape: torch.randn(*shape, generator=generator, dtype=dtype)
    size, points = max(size, pool), points + 3  # of few pixels, n is all rounding
    z, z_dot = (2 * random(2, points, size, size, channels) + mean for mean in (5, 3))
    shift, d, d_dot = (
        random(channels) / 3,
        *(random(2, points, size // pool, size // pool, channels) for _ in "ab"),
    )
    found = [all_passes(k, z, z_dot, shift, d, d_dot, pool) for k in (kernels_cpu, kernels_torch)]
    for ours, wanted in zip(*found):
        close(ours, wanted)


def all_passes(kernels, z, z_dot, shift, d, d_dot, pool):
    """What the passes give, but for what each implementation keeps for itself."""
    y, *kept, where = kernels.normalise(z.clone(), shift, pool)
    known = y, *kept, where, shift
    dz, sum_d, sum_nd = kernels.normalise_backward(d, *known, pool, True)
    y_dot, moved, means, sum_dzz = kernels.normalise_tangent(z_dot.clone(), dz, *known, pool)
    kept = kept[0], moved, dz, kept[1], sum_nd, means, sum_dzz, where, shift
    dz_dot, sum_d_dot = kernels.normalise_tangent_backward(d_dot, y, *kept, pool)
    in_place = kernels.normalise_backward(d, *known, pool, False)[0]
    return y, where.double(), dz, sum_d, sum_nd, y_dot, sum_dzz, dz_dot, sum_d_dot, in_place


def close(ours, wanted):
    assert ours.shape == wanted.shape and ours.is_contiguous()
    tolerance = 1e-4 if ours.dtype == torch.float32 else 1e-12
    assert (ours - wanted).norm() <= tolerance * (1 + wanted.norm())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_vectors_do_what_they_say(dtype):
    @njit
    def into(x, y, out):
        vectors.store(
            out,
            np.uint64(1),
            vectors.add_scaled(vectors.load(y, np.uint64(0)), dtype(3), vectors.load(x, np.uint64(2))),
        )
        vectors.store(out, np.uint64(lanes + 1), vectors.zero(x))

    lanes = vectors.LANES[np.dtype(dtype)]
    x, y = np.arange(lanes + 2, dtype=dtype), np.linspace(0, 1, lanes, dtype=dtype)
    out = np.full(2 * lanes + 2, 7, dtype)
    into(x, y, out)
    assert np.allclose(out[1 : lanes + 1], y + 3 * x[2:]) and not out[lanes + 1 : -1].any()
    assert out[0] == out[-1] == 7  # nothing beside it is touched


def test_memory_is_used_again_when_nobody_holds_it():
    size = memory.SMALL_BYTES  # in numbers, so well above in bytes
    first = memory.empty(torch.float32, size)
    place, view = first.data_ptr(), first[5:].view(-1, 1)
    del first
    assert memory.empty(torch.float32, size).data_ptr() != place  # a view holds it, too
    del view
    again = memory.empty(torch.float32, size // 2, 2)
    assert again.data_ptr() == place and again.shape == (size // 2, 2)


@pytest.mark.parametrize("numbers", [100, memory.SMALL_BYTES // 4, memory.SMALL_BYTES + 1, 1_000_003])
def test_memory_begins_where_a_line_of_the_cache_does(numbers):
    held = [memory.empty(torch.float32, numbers).fill_(1) for _ in range(4)]
    assert {tensor.data_ptr() % memory.LINE_BYTES for tensor in held} == {0}


def test_tensors_in_use_never_share_memory():
    held = [memory.empty(torch.float64, 3, memory.SMALL_BYTES).fill_(i) for i in range(5)]
    elsewhere = []
    thread = threading.Thread(
        target=lambda: elsewhere.append(memory.empty(torch.float64, 3, memory.SMALL_BYTES).fill_(9))
    )
    thread.start()
    thread.join()
    assert [set(t.flatten().tolist()) for t in (*held, *elsewhere)] == [
        {0.0},
        {1.0},
        {2.0},
        {3.0},
        {4.0},
        {9.0},
    ]
