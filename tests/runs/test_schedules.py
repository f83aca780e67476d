"""What changes in training depends on the iteration alone: not on stops, chunks, threads or processes."""

import dataclasses

import numpy as np
import pytest
import torch

import processes
from made_runs import same
from mamlkit import methods
from mamlkit.engine import meta_batch, ranks
from mamlkit.experiments import paper
from mamlkit.methods.gradient import GradientMethod
from mamlkit.runs import folders, rates, supervised_training, train, trainings

POINTS = dataclasses.replace(
    paper.get("sinusoid-maml"), iterations=10, meta_batch_size=4, evaluations=(), outer="adam, cosine"
)
GLYPHS = paper.get("compare-glyphs-5way-1shot-maml-plus-plus-all")
# of 20 iterations weights move in the first two, and the second order begins with the 12th
ROW = dataclasses.replace(
    GLYPHS,
    iterations=20,
    inner_steps=2,
    meta_batch_size=3,
    network=("conv4", {"ways": 5, "filters": 4}),
    evaluations=(),
    quick={},
)
CHUNK = 2 * (5 * 14 * 14 * 4) * 4  # bytes of the widest layer of two tasks: two chunks, the last one smaller
PARTS = ["maml++", "maml, moving multi-step loss", "maml, first order first"]


@pytest.fixture
def watched(monkeypatch):
    """The methods and rates of all outer updates."""
    seen, gradient = [], meta_batch.meta_gradient

    def noted(method, *given):
        seen.append(method)
        return gradient(method, *given)

    monkeypatch.setattr(meta_batch, "meta_gradient", noted)
    monkeypatch.setattr(supervised_training.SupervisedTraining, "_try", lambda self: None)
    return seen


def test_the_cosine_begins_at_the_rate_and_ends_at_a_hundredth():
    at = lambda progress: rates.outer_rate("adam, cosine", 0.001, progress)
    assert at(0) == 0.001 and at(1) == pytest.approx(0.00001) and at(0.5) == pytest.approx(0.000505)
    optimiser = torch.optim.Adam([torch.zeros(1)], lr=0.001)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=40, eta_min=1e-5)
    for iteration in range(40):
        assert at(iteration / 40) == pytest.approx(theirs.get_last_lr()[0])
        optimiser.step()
        theirs.step()
    for other, value in (("adam", 0.001), ("descent, falling", 0.00075)):
        assert rates.outer_rate(other, 0.001, 0.25) == value


def test_each_update_of_adam_has_the_rate_of_its_iteration(monkeypatch):
    taken, step = [], torch.optim.Adam.step

    def noted(self, *given):
        taken.append(self.param_groups[0]["lr"])
        return step(self, *given)

    monkeypatch.setattr(torch.optim.Adam, "step", noted)
    train.fit(POINTS, until=4)  # of a training of ten
    assert taken == [rates.outer_rate("adam, cosine", POINTS.outer_lr, part / 10) for part in range(4)]
    taken.clear()
    train.fit(dataclasses.replace(POINTS, outer="adam", method="reptile, inner adam", inner_steps=1), until=3)
    assert taken == [POINTS.outer_lr] * 3


def test_a_small_network_whose_rate_falls_is_not_trained_by_many_updates_in_a_call(monkeypatch):
    assert trainings.begin(dataclasses.replace(POINTS, outer="adam")).small
    found = train.fit(POINTS).params
    monkeypatch.setattr(meta_batch, "are_small", lambda *_: False)
    assert same(found, train.fit(POINTS).params)
    assert not same(found, train.fit(dataclasses.replace(POINTS, outer="adam")).params)


@pytest.mark.parametrize("until", [1, 7, 15])
def test_the_method_of_an_iteration_is_that_of_its_part_of_the_whole(until, watched, tmp_path):
    for end in (until, None):
        with folders.open_run(ROW, 0, "cpu", base=tmp_path) as folder:
            train.fit(ROW, folder=folder, until=end)
    assert [method.progress for method in watched] == [iteration / 20 for iteration in range(20)]
    assert [len(method.counted) for method in watched] == [2] * 2 + [1] * 18
    assert [method.first_order for method in watched] == [True] * 11 + [False] * 9


@pytest.mark.parametrize("name", PARTS)
def test_a_run_that_is_cut_goes_on_bit_for_bit(name, tmp_path, monkeypatch):
    monkeypatch.setattr(supervised_training, "LOG_EVERY", 3)
    row = dataclasses.replace(ROW, method=name)
    whole = train.fit(row)
    for end in (1, 13, None):  # within the first phase, and after the last
        with folders.open_run(row, 0, "cpu", base=tmp_path) as folder:
            found = train.fit(row, folder=folder, until=end)
    assert same(found.params, whole.params)
    assert np.array_equal(
        found.log.drop(columns="seconds"), whole.log.drop(columns="seconds"), equal_nan=True
    )


def test_the_number_of_threads_and_of_processes_changes_no_bit(monkeypatch):
    monkeypatch.setattr(meta_batch, "CHUNK_BYTES", CHUNK)

    def trained(of):
        training = supervised_training.SupervisedTraining(ROW, 0, "cpu", False, of)
        for iteration in (0, 1, 5, 12):  # one of each phase
            training.step(iteration)
        return training.params

    wanted = trained(ranks.ALONE)
    torch.set_num_threads(2)
    assert same(trained(ranks.ALONE), wanted)
    torch.set_num_threads(1)
    assert all(same(found, wanted) for found in processes.side_by_side(2, trained, monkeypatch))


def test_what_changes_in_training_is_not_recorded():
    for name in PARTS:
        row = dataclasses.replace(ROW, method=name, outer="adam")
        assert not trainings.can_record(row)
        with pytest.raises(ValueError, match="or its loss or rate changes in training; leave recorded out"):
            trainings.begin(row, recorded=True)
    assert not trainings.can_record(POINTS)
    assert trainings.can_record(dataclasses.replace(POINTS, outer="adam"))
    assert trainings.can_record(dataclasses.replace(ROW, method="maml++ without its schedules", outer="adam"))


class Doubling(GradientMethod):
    """One of a newcomer, whose loss is doubled in the second half."""

    def at(self, progress):
        return self if progress < 0.5 else Doubled(self.learner)


class Doubled(GradientMethod):
    def loss(self, params, task):
        return 2 * super().loss(params, task)

    predict = GradientMethod.predict


class Forgetful(GradientMethod):
    def at(self, progress):
        """It lacks a return."""


class Other(GradientMethod):
    def at(self, progress):
        return methods.meta_sgd(self.learner)


def test_a_new_method_may_have_a_schedule_of_its_own(monkeypatch, watched):
    monkeypatch.setitem(methods.METHODS, "new", Doubling)
    row = dataclasses.replace(POINTS, method="new", outer="adam")
    assert not trainings.can_record(row)
    train.fit(row)
    assert [type(method) for method in watched] == [Doubling] * 5 + [Doubled] * 5


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (
            Forgetful,
            r"at of method 'new' must return a .*Method, but at\(0.5\) returned None; does it lack a r",
        ),
        (Other, r"a method of the same parameters, but at\(0.5\) has weight0, .*rate of weight0"),
    ],
)
def test_a_schedule_that_gives_something_else_is_refused(kind, words, monkeypatch):
    monkeypatch.setitem(methods.METHODS, "new", kind)
    with pytest.raises(ValueError, match=words):
        trainings.begin(dataclasses.replace(POINTS, method="new", outer="adam"))
