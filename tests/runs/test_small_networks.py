"""Several updates of a small network in one call: log, states and stops are those of single ones."""

import dataclasses
import os
import signal

import pytest
import torch

from mamlkit.engine import dense
from mamlkit.experiments import paper
from mamlkit.runs import folders, supervised, supervised_training, terminal, train

ROW = dataclasses.replace(paper.get("sinusoid-maml"), iterations=230, meta_batch_size=3, evaluations=())


def opened(base):
    return folders.open_run(ROW, 0, "cpu", scale="quick", base=base)


def same(one, other):
    return all(torch.equal(one.params[name], other.params[name]) for name in one.params) and one.log.drop(
        columns="seconds"
    ).equals(other.log.drop(columns="seconds"))


def test_log_and_parameters_are_those_of_single_updates_up_to_rounding(monkeypatch):
    many = train.fit(ROW)
    monkeypatch.setattr(dense, "SMALL", 0)
    single = train.fit(ROW)
    assert list(many.log.iteration) == list(single.log.iteration) == [100, 200, 230]
    for name, value in single.params.items():
        torch.testing.assert_close(many.params[name], value, rtol=1e-3, atol=1e-5)
    assert many.log.meta_loss.to_numpy() == pytest.approx(single.log.meta_loss.to_numpy(), rel=1e-4)


@pytest.mark.parametrize("cuts", [(1, 2, 150), (99, 100, 101), (200,)])
def test_a_run_that_is_cut_anywhere_goes_on_exactly(cuts, tmp_path):
    with opened(tmp_path) as folder:
        for cut in (*cuts, None):
            found = train.fit(ROW, folder=folder, until=cut)
            assert found.iteration == (cut or ROW.iterations)
    assert same(found, train.fit(ROW))


def test_a_call_holds_so_many_updates_and_their_number_changes_nothing(monkeypatch):
    whole, counts, updates = train.fit(ROW), [], supervised.meta_batch.updates
    counted = lambda *args: (counts.append(len(args[3])), updates(*args))[1]
    monkeypatch.setattr(supervised.meta_batch, "updates", counted)
    monkeypatch.setattr(supervised_training, "AT_ONCE", 70)
    assert same(train.fit(ROW), whole) and counts == [70, 30, 70, 30, 30]


def test_a_signal_stops_after_the_call_and_the_run_goes_on_exactly(tmp_path, monkeypatch):
    updates = supervised.meta_batch.updates
    with opened(tmp_path) as folder:
        with monkeypatch.context() as patch:
            hit = lambda *args: (os.kill(os.getpid(), signal.SIGTERM), updates(*args))[1]
            patch.setattr(supervised.meta_batch, "updates", hit)
            with pytest.raises(terminal.Interrupted, match="stopped after iteration 100;"):
                train.fit(ROW, folder=folder)
        assert folders.iterations_done(folder) == 100
        assert same(train.fit(ROW, folder=folder), train.fit(ROW))


def test_a_loss_that_is_not_finite_is_found_with_its_iteration(tmp_path, monkeypatch):
    updates = supervised.meta_batch.updates

    def poisoned(*args):
        losses = updates(*args)
        losses[7:] = torch.nan
        return losses

    with opened(tmp_path) as folder:
        train.fit(ROW, folder=folder, until=100)
        monkeypatch.setattr(supervised.meta_batch, "updates", poisoned)
        told = "the meta-loss of iteration 108 is nan.*; the state of iteration 100 is kept"
        with pytest.raises(FloatingPointError, match=told):  # the first of them
            train.fit(ROW, folder=folder)
        assert folders.iterations_done(folder) == 100


def test_a_state_of_single_updates_is_gone_on_from(tmp_path, monkeypatch):
    with opened(tmp_path) as folder:
        with monkeypatch.context() as patch:
            patch.setattr(dense, "SMALL", 0)
            train.fit(ROW, folder=folder, until=50)
        found = train.fit(ROW, folder=folder)
    whole = train.fit(ROW)
    for name, value in whole.params.items():
        torch.testing.assert_close(found.params[name], value, rtol=1e-3, atol=1e-5)
