"""The loops over small matrices: products of every shape, and memory that ends where it should."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mamlkit import methods, models
from mamlkit.engine import dense, kernels_cpu
from mamlkit.engine.kernels_cpu import matrices, one_step, records, recursion
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


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 7),
    others=st.integers(1, 11),
    columns=st.integers(1, 3 * LANES[np.dtype("float64")]),
    single=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_products_of_rows_with_rows_are_those_of_numpy(rows, others, columns, single, seed):
    draw, kind = np.random.default_rng(seed), np.float32 if single else np.float64
    wide, high = (matrices.room(size, np.dtype(kind).itemsize) for size in (columns, others))
    a, b = np.zeros((rows, wide), kind), np.zeros((others, wide), kind)
    a[:, :columns], b[:, :columns] = draw.normal(size=(rows, columns)), draw.normal(size=(others, columns))
    memory = np.full(rows * high + TAIL, SENTINEL, kind)
    matrices.dots(a, b, memory[: rows * high].reshape(rows, high))
    wanted = a.astype(np.float64) @ b.T.astype(np.float64)
    found = memory[: rows * high].reshape(rows, high)[:, :others]
    assert np.allclose(found, wanted, rtol=0, atol=(1e-4 if single else 1e-11))
    assert (memory[rows * high :] == SENTINEL).all()


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


@pytest.mark.parametrize("loss", ["cross-entropy, mean", "mse"])
@pytest.mark.parametrize("shifts", [False, True])
def test_one_step_needs_no_zeros_and_no_memory_behind_its_own(shifts, loss, monkeypatch):
    draw = torch.Generator().manual_seed(0)
    model = models.mlp(3, (9, 10), 2, batch_norm_shifts=shifts, std=0.5)
    learner = methods.Learner(model, loss, 0.1, 1, 1)
    params = {name: value.double() for name, value in model.init(draw).items()}
    inputs = lambda points: torch.randn(5, points, 3, generator=draw, dtype=torch.float64)
    targets = lambda x: x[..., :2] if loss == "mse" else torch.randint(2, x.shape[:2], generator=draw)
    tasks = Task(*((x, targets(x)) for x in (inputs(4), inputs(5))))
    wanted, losses = dense.meta_gradient(kernels_cpu, methods.maml(learner), params, tasks)
    loops, numbers, seen = one_step.meta_gradients, records.numbers, []

    def poisoned(*given):
        memory = given[-3]
        memory[:-TAIL], memory[-TAIL:] = np.nan, SENTINEL
        loops(*given)
        seen.append(memory)

    monkeypatch.setattr(records, "numbers", lambda *given: numbers(*given) + TAIL)
    monkeypatch.setattr(one_step, "meta_gradients", poisoned)
    monkeypatch.setattr(dense, "TOGETHER", 2)  # so that the last are alone
    found, again = dense.meta_gradient(kernels_cpu, methods.maml(learner), params, tasks)
    assert torch.allclose(again, losses, rtol=1e-12)
    assert all(torch.allclose(found[name], wanted[name], rtol=1e-9, atol=1e-14) for name in wanted)
    (memory,) = seen
    assert (memory[-TAIL:] == SENTINEL).all()
    last = memory[-TAIL - matrices.room(4, 8) :][:4]  # the last point of the query with all of the support
    assert np.isfinite(last).all() and last.all()
