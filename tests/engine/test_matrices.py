"""The loops over small matrices: products of every shape, and memory that ends where it should."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mamlkit import methods, models
from mamlkit.engine import dense, kernels_cpu
from mamlkit.engine.kernels_cpu import matrices, records, recursion
from mamlkit.engine.kernels_cpu.vectors import LANES
from mamlkit.maml import Task

SENTINEL, TAIL = -7.0, 64


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 13),
    inner=st.integers(0, 40),
    columns=st.integers(1, 3 * LANES[np.dtype("float64")] + 2),
    turned=st.booleans(),
    single=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_a_product_of_rows_with_room_is_that_of_numpy(rows, inner, columns, turned, single, seed):
    draw, kind = np.random.default_rng(seed), np.float32 if single else np.float64
    wide = matrices.room(columns, np.dtype(kind).itemsize)
    assert columns <= wide < columns + LANES[np.dtype(kind)]
    normal = lambda *shape: draw.normal(size=shape).astype(kind)
    a = normal(inner + 2, rows).T if turned else normal(rows, inner + 2)  # what it must not read: the end
    b, out, scale = normal(max(inner, 1), wide), normal(rows, wide), kind(-0.3)
    wanted = out + scale * (a[:, :inner].astype(np.float64) @ b[:inner])
    matrices.add_product(a, b, inner, scale, out)
    assert np.allclose(out, wanted, rtol=0, atol=(1e-4 if single else 1e-11))


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 40), columns=st.integers(1, 40), single=st.booleans())
def test_turning_moves_each_number_and_touches_nothing_else(rows, columns, single):
    kind = np.float32 if single else np.float64
    wide, high = (matrices.room(size, np.dtype(kind).itemsize) for size in (columns, rows))
    w = np.arange(rows * wide, dtype=kind).reshape(rows, wide)
    turned = np.full((columns, high), SENTINEL, kind)
    matrices.turn(w, turned)
    assert (turned[:, :rows] == w[:, :columns].T).all() and (turned[:, rows:] == SENTINEL).all()


@pytest.mark.parametrize("features", [3, 40])  # fewer than a task has points, and more
@pytest.mark.parametrize("shifts", [False, True])
def test_a_call_uses_its_memory_to_the_last_number_and_no_more(shifts, features, monkeypatch):
    draw = torch.Generator().manual_seed(0)
    wide = LANES[np.dtype("float64")]
    model = models.mlp(features, (wide, 4), wide, batch_norm_shifts=shifts, std=0.5)
    learner = methods.Learner(model, "cross-entropy, mean", 0.1, 2, 1)
    params = {name: value.double() for name, value in model.init(draw).items()}
    part = lambda points: (
        torch.randn(2, points, features, generator=draw, dtype=torch.float64),
        torch.randint(4, (2, points), generator=draw),
    )
    tasks, seen, numbers = Task(part(6), part(7)), [], records.numbers

    def guarded(loops, place):
        def call(*given):
            given[place][-TAIL:] = SENTINEL
            loops(*given)
            seen.append(given[place])

        return call

    monkeypatch.setattr(records, "numbers", lambda *given: numbers(*given) + TAIL)
    for name, place in (("meta_gradients", -3), ("predictions", -2)):
        monkeypatch.setattr(recursion, name, guarded(getattr(recursion, name), place))
    dense.meta_gradient(kernels_cpu, methods.maml(learner), params, tasks)
    dense.predictions(kernels_cpu, learner, params, tasks)
    for memory in seen:
        assert (memory[-TAIL:] == SENTINEL).all() and np.isfinite(memory).all()
    # last lie the probabilities of the query's last example, or what its inputs give: none is zero
    assert seen[0][-TAIL - wide : -TAIL].all() and len(seen) == 2
