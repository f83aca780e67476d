"""The loops over small matrices: products of every shape, and memory that ends where it should."""

from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mamlkit import methods, models
from mamlkit.engine import dense
from mamlkit.engine.kernels_cpu import matrices, recursion
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


@pytest.mark.parametrize("shifts", [False, True])
def test_a_call_uses_its_memory_to_the_last_number_and_no_more(shifts):
    draw = torch.Generator().manual_seed(0)
    model = models.mlp(3, (5, 4), LANES[np.dtype("float64")], batch_norm_shifts=shifts, std=0.5)
    learner = methods.Learner(model, "cross-entropy, mean", 0.1, 2, 1)
    params = {name: value.double() for name, value in model.init(draw).items()}
    part = lambda points: (
        torch.randn(2, points, 3, generator=draw, dtype=torch.float64),
        torch.randint(4, (2, points), generator=draw),
    )
    tasks, seen = Task(part(6), part(7)), []

    def guarded(loops, place):
        def call(*given):
            given[place][-TAIL:] = SENTINEL
            loops(*given)
            seen.append(given[place])

        return call

    watched = ModuleType("watched")
    vars(watched).update(vars(recursion))
    watched.numbers = lambda net, steps: recursion.numbers(net, steps) + TAIL
    watched.meta_gradients = guarded(recursion.meta_gradients, -3)
    watched.predictions = guarded(recursion.predictions, -2)
    dense.meta_gradient(watched, methods.maml(learner), params, tasks)
    dense.predictions(watched, learner, params, tasks)
    for memory in seen:
        assert (memory[-TAIL:] == SENTINEL).all() and np.isfinite(memory).all()
    # last lie the probabilities of the query's last example, of which each is above zero
    assert (seen[0][-TAIL - LANES[np.dtype("float64")] : -TAIL] > 0).all() and len(seen) == 2
