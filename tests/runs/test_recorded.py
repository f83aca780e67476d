"""Recorded steps: the bits of plain ones, whatever a recording does to memory before it is repeated."""

import dataclasses

import pytest
import torch

from conftest import relative_error
from made_runs import same
from mamlkit.engine import convolutions, kernels_cpu, kernels_torch, passes, recorded
from mamlkit.engine.ranks import Ranks
from mamlkit.engine.recorded import Recorded
from mamlkit.experiments import paper
from mamlkit.runs import checkpoints, folders, queue, supervised, supervised_training, train
from mamlkit.runs import recorded as trainings
from mamlkit.tasks import images

pytestmark = pytest.mark.usefixtures("one_by_one")

CPU = torch.device("cpu")
SINUSOID = dataclasses.replace(paper.get("sinusoid-maml"), iterations=7, meta_batch_size=4, evaluations=())
GLYPHS = dataclasses.replace(
    paper.get("glyphs-5way-1shot").at("quick"),
    iterations=5,
    meta_batch_size=3,
    clip=0.01,
    evaluations=(),
    network=("conv4", {"ways": 5, "filters": 4}),
)
TEXTURES = dataclasses.replace(
    paper.get("textures-5way-1shot").at("quick"), iterations=2, meta_batch_size=2, evaluations=()
)


@pytest.fixture(params=[kernels_cpu, kernels_torch], ids=["loops of a CPU", "loops of a GPU"])
def kernels(request, monkeypatch):
    """Both sets of loops run on a CPU, so that a recorded step is tested over those that a GPU has."""
    monkeypatch.setattr(passes, "kernels_of", lambda device: request.param)
    return request.param


def as_a_gpu(call):
    """A recording that is made as a GPU makes it: its result lies where the next repetition writes."""
    result = torch.empty(())

    def repeat():
        return result.copy_(call())

    return repeat


def whole_calls(call):
    call()


@pytest.fixture
def like_a_gpu(monkeypatch):
    """Recordings with calls before them, and one place for all results."""
    of_gpu = lambda *args: Recorded(*args, record=as_a_gpu, warm_up=whole_calls)
    monkeypatch.setattr(trainings, "Recorded", of_gpu)


@pytest.mark.parametrize("row", [SINUSOID, GLYPHS, TEXTURES], ids=["sinusoid", "glyphs", "textures"])
@pytest.mark.parametrize("kind", ["plain call", "like a GPU"])
def test_a_recorded_training_is_the_plain_one_bit_for_bit(row, kind, kernels, request):
    plain = train.fit(row, seed=1)
    if kind == "like a GPU":
        request.getfixturevalue("like_a_gpu")
    found = train.fit(row, seed=1, recorded=True)
    assert same(found.params, plain.params)
    assert found.log.drop(columns="seconds").equals(plain.log.drop(columns="seconds"))


def test_a_plain_run_goes_on_recorded_and_the_other_way_round(tmp_path, kernels, like_a_gpu, monkeypatch):
    monkeypatch.setattr(supervised_training, "LOG_EVERY", 3)  # halves end inside a window of the log
    whole = train.fit(GLYPHS)
    for first in (True, False):
        base = tmp_path / str(first)
        for until, how in ((2, first), (None, not first)):
            with folders.open_run(GLYPHS, 0, "cpu", scale="quick", base=base) as folder:
                found = train.fit(GLYPHS, folder=folder, until=until, recorded=how)
        assert same(found.params, whole.params)
        assert found.log.drop(columns="seconds").equals(whole.log.drop(columns="seconds"))


def test_a_recorded_step_goes_through_the_loops_of_a_gpu(monkeypatch):
    given = []
    product = kernels_torch.product
    monkeypatch.setattr(kernels_torch, "product", lambda x, *more: (given.append(x), product(x, *more))[1])
    monkeypatch.setattr(passes, "kernels_of", lambda device: kernels_torch)
    train.fit(GLYPHS, until=1, recorded=True)
    # what asks whether layers are the network has one task, in float64
    assert {len(x) for x in given if x.dtype == torch.float32} == {GLYPHS.meta_batch_size}


@pytest.mark.parametrize("form", convolutions.FORMS)
def test_a_recorded_training_is_the_plain_one_with_every_form_of_a_convolution(form, like_a_gpu, monkeypatch):
    monkeypatch.setattr(passes, "kernels_of", lambda device: kernels_torch)
    usual = train.fit(GLYPHS, seed=1)
    try:
        convolutions.use(form)
        plain, found = (train.fit(GLYPHS, seed=1, recorded=kind) for kind in (False, True))
    finally:
        convolutions.use(convolutions.DEFAULT)
    assert same(found.params, plain.params)
    assert relative_error(found.params, usual.params) < 0.02
    assert same(found.params, usual.params) == (form == convolutions.DEFAULT)


def test_choices_alone_are_copied_where_the_bank_lies_on_the_device(monkeypatch):
    given = []
    plain = Recorded.__call__
    monkeypatch.setattr(Recorded, "__call__", lambda self, *xs: (given.append(xs), plain(self, *xs))[1])
    train.fit(GLYPHS, until=1, recorded=True)
    train.fit(TEXTURES, until=1, recorded=True)
    choices, batch = given
    assert [x.dtype for x in choices] == [torch.int64] * 3 and sum(x.nbytes for x in choices) < 1000
    assert len(batch) == 4 and batch[0].shape[2:] == (3, 84, 84)


def test_gathered_choices_are_the_sample():
    family = supervised.tasks_of(GLYPHS, "train", CPU)
    assert isinstance(family, images.ImageTasks)
    wanted = family.sample(torch.Generator().manual_seed(0), 3)
    found = family.gather(*family.draw(torch.Generator().manual_seed(0), 3))
    assert all(torch.equal(a, b) for one, other in zip(found, wanted) for a, b in zip(one, other))


def test_calls_before_a_recording_leave_no_trace():
    total = torch.zeros(3)
    calls = []

    def add(x):
        calls.append(x)
        return total.add_(x).sum()

    step = Recorded(add, [total], CPU, record=as_a_gpu, warm_up=whole_calls)
    first, second = step(torch.ones(3)), step(torch.full((3,), 2.0))
    assert float(first) == 3.0 and float(second) == 9.0 and total.tolist() == [3.0] * 3
    assert len(calls) == recorded.WARM_UPS + 2 and all(x is step.inputs[0] for x in calls)


def test_other_shapes_than_the_recorded_are_refused():
    step = Recorded(lambda x: x.sum(), [], CPU)
    step(torch.ones(3))
    with pytest.raises(ValueError, match=r"\(2,\) torch.float32 came, but the step was recorded for"):
        step(torch.ones(2))
    with pytest.raises(ValueError, match=r"torch.int64 came"):
        step(torch.ones(3, dtype=torch.int64))


def test_what_cannot_be_recorded_is_refused():
    others = ("2d-navigation-maml", "sinusoid-average", "compare-omniglot-5way-1shot-reptile")
    for row, ranks in [*((paper.get(name), Ranks()) for name in others), (GLYPHS, Ranks(0, 2))]:
        with pytest.raises(ValueError, match=f"{row.name}: steps of supervised experiments with Adam in one"):
            train.fit(row, ranks=ranks, recorded=True)


@pytest.mark.parametrize("recorded", [False, True])
def test_in_the_queue_what_cannot_be_recorded_goes_the_plain_way(recorded, tmp_path):
    row = dataclasses.replace(paper.get("sinusoid-average").at("quick"), iterations=2, evaluations=())
    device = torch.device("cpu")
    how = {"device": device, "threads": 1, "progress": False, "recorded": recorded}
    with folders.open_run(row, 0, "cpu", base=tmp_path) as folder:
        queue.advance(row, 0, folder, 2, lambda: False, **how)
        found = checkpoints.load_params(folder / "params.safetensors")
    wanted = train.fit(row).params
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
