"""A family that gives other tasks than it was asked for is refused before anything is trained on it."""

import dataclasses
import types

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mamlkit import tasks
from mamlkit.experiments import paper
from mamlkit.maml import Task
from mamlkit.runs import supervised_training, train, trainings
from mamlkit.tasks import contract
from mamlkit.tasks.sinusoid import Sinusoid

ROW = dataclasses.replace(paper.get("sinusoid-maml"), family="square", iterations=3)
RIGHT = Sinusoid.sample


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pairs(family, draw, count, **changes):
    return RIGHT(dataclasses.replace(family, **changes), draw, count)


def crossed(family, draw, count):
    """Inputs with inputs, targets with targets."""
    return Task(*zip(*RIGHT(family, draw, count)))


WRONG = {
    "nothing": (lambda *a: None, r"sample\(\) returned None; return Task\(\(x, y\), \(x, y\)\)"),
    "four tensors": (lambda *a: (*RIGHT(*a)[0], *RIGHT(*a)[1]), r"sample\(\) returned a tuple of 4; return"),
    "a plain tuple": (lambda *a: tuple(RIGHT(*a)), r"sample\(\) returned a tuple of 2; return Task"),
    "a dictionary": (lambda *a: RIGHT(*a)._asdict(), r"sample\(\) returned a dict; return Task"),
    "inputs alone": (
        lambda *a: Task(RIGHT(*a).support[0], None),
        "the support is a Tensor, but it must be a",
    ),
    "no query": (lambda *a: RIGHT(*a)._replace(query=None), "the query is None, but it must be a pair"),
    "arrays": (
        lambda *a: Task(*([t.numpy() for t in pair] for pair in RIGHT(*a))),
        "the support inputs are a ndarray, but they must be a tensor",
    ),
    "one task alone": (
        lambda *a: Task(*(tuple(t[0, :, 0] for t in pair) for pair in RIGHT(*a))),
        r"the support inputs are \(10,\), but two axes lead",
    ),
    "fewer tasks": (lambda f, d, n: pairs(f, d, (n + 1) // 2), "gave 13 tasks where 25 were asked for"),
    "more tasks": (lambda f, d, n: pairs(f, d, n + 1), "gave 26 tasks where 25 were asked for"),
    "always ten tasks": (lambda f, d, n: pairs(f, d, 10), "gave 10 tasks where 25 were asked for"),
    "shots ignored": (
        lambda *a: pairs(*a, shots=7),
        "gave 7 support points for a task where 10 were asked for",
    ),
    "queries ignored": (
        lambda *a: pairs(*a, queries=10),
        "gave 10 query points for a task where 9 were asked for",
    ),
    "the support again": (
        lambda *a: Task(*[RIGHT(*a).support] * 2),
        "gave queries all of whose inputs are in the support, so a test would ask for what it was told",
    ),
    "generator ignored": (
        lambda f, d, n: pairs(f, torch.default_generator, n),
        "gave other tasks with a generator of the same",
    ),
    "x with x, y with y": (crossed, "gave 10 support inputs and 9 support targets for a task; give each"),
}


@pytest.fixture
def family(monkeypatch, request):
    """A family that is wrong in a way of its own, in the table."""

    def make(split, device, *, ways, shots, queries):
        made = Sinusoid(shots, queries, device=device)
        return types.SimpleNamespace(sample=lambda draw, count: sample(made, draw, count))

    sample, words = WRONG.get(request.param, request.param)
    monkeypatch.setitem(tasks.FAMILIES, "square", make)
    return words


@pytest.mark.parametrize("family", WRONG, indirect=True)
def test_a_run_refuses_a_family_that_gives_something_else(family):
    with pytest.raises(ValueError, match=f"^family 'square'.* ?{family}"):
        trainings.begin(ROW, validate=False)


FLAT = (lambda *a: Task(*((x, y[..., 0]) for x, y in RIGHT(*a))), "")


@pytest.mark.parametrize("family", [FLAT], indirect=True, ids=["no last axis"])
def test_targets_of_another_shape_are_named_as_one_meta_batch_has_them(family):
    with pytest.raises(ValueError, match=r"\(25, 10") as refused:
        trainings.begin(ROW, validate=False)
    assert "2500" not in str(refused.value)


@given(
    shots=st.integers(1, 4),
    queries=st.integers(1, 4),
    count=st.integers(1, 4),
    asked=st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)),
)
def test_a_meta_batch_passes_if_it_has_the_numbers_that_were_asked_for(shots, queries, count, asked):
    sample = lambda draw, _: RIGHT(Sinusoid(shots, queries), draw, count)
    ask = lambda: contract.check("square", sample, generator, tasks=asked[0], points=asked[1:])
    if asked == (count, shots, queries):
        batch, wanted = ask(), sample(generator(), count)
        assert all(torch.equal(a, b) for one, other in zip(batch, wanted) for a, b in zip(one, other))
    else:
        with pytest.raises(ValueError, match="where . were asked for"):
            ask()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_values_that_are_no_numbers_are_named(value):
    wrong = lambda draw, count: Task(*((x, y + value) for x, y in RIGHT(Sinusoid(2, 3), draw, count)))
    with pytest.raises(ValueError, match="^family 'square': some support targets are not finite"):
        contract.check("square", wrong, generator, tasks=2, points=(2, 3))


def test_the_look_at_a_family_changes_no_task_of_the_run(monkeypatch):
    row, seen = dataclasses.replace(ROW, family="sinusoid"), []
    one = train.fit(row, validate=False)
    monkeypatch.setattr(supervised_training.SupervisedTraining, "_check_family", lambda run: seen.append(run))
    other = train.fit(row, validate=False)
    assert len(seen) == 1 and all(torch.equal(one.params[name], other.params[name]) for name in one.params)


@pytest.mark.parametrize(
    "entry",
    [
        Sinusoid,
        lambda split, device, shots, queries: Sinusoid(shots, queries),
        lambda: Sinusoid(),
        lambda split, *, ways, shots, queries: Sinusoid(shots, queries),
    ],
    ids=["class", "no ways", "nothing", "no device"],
)
def test_an_entry_that_takes_something_else_is_refused_with_what_it_must_take(entry, monkeypatch):
    monkeypatch.setitem(tasks.FAMILIES, "square", entry)
    with pytest.raises(
        ValueError, match=r"for 'square' cannot be called .*\(split, device, \*, ways, shots, q"
    ):
        tasks.make("square", "train", shots=1, queries=1)


@pytest.mark.parametrize("made", [None, Sinusoid.examples])
def test_an_entry_that_makes_no_family_is_refused(made, monkeypatch):
    monkeypatch.setitem(tasks.FAMILIES, "square", lambda *args, **sizes: made)
    with pytest.raises(
        ValueError, match=r"'square' makes .*, but a family must have sample\(generator, tasks\)"
    ):
        tasks.make("square", "train", shots=1, queries=1)
