"""One run over several processes: the bits of one process, and a state that any number go on from."""

import dataclasses
import signal

import pytest
import torch
import torch.distributed as dist

import processes
from mamlkit.engine import meta_batch, ranks
from mamlkit.experiments import paper
from mamlkit.runs import folders, supervised_training, train

# Seven tasks in chunks of two: four chunks, the last of which is smaller.
CHUNK = 2 * (5 * 14 * 14 * 4) * 4  # bytes of the widest layer of two tasks
GLYPHS = paper.get("glyphs-5way-1shot")
ROW = dataclasses.replace(
    GLYPHS,
    name="glyphs-ranks",
    iterations=6,
    meta_batch_size=7,
    network=("conv4", {"ways": 5, "filters": 4}),
    quick={},
    evaluations=(dataclasses.replace(GLYPHS.evaluations[0], tasks=4),),
)


@pytest.fixture(scope="module")
def straight():
    """A run that one process has trained, never cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meta_batch, "CHUNK_BYTES", CHUNK)
        patch.setattr(supervised_training, "LOG_EVERY", 4)
        yield train.fit(ROW)


def launched(tmp_path, count, of_rank="", number=0, *words):
    """See :func:`processes.launched`."""
    before = f"meta_batch.CHUNK_BYTES, supervised_training.LOG_EVERY = {CHUNK}, 4"
    return processes.launched(tmp_path, ROW, count, of_rank, number, *words, before=before)


def test_a_run_that_one_process_began_is_finished_by_four_bit_for_bit(straight, tmp_path, monkeypatch):
    processes.by_one(monkeypatch, tmp_path, ROW, "--until", "3")
    done, folder = launched(tmp_path, 4, "", 0, "--threads", "2")  # threads of each change nothing
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("result in") == 1 and processes.same_as(straight, folder)
    assert '"cpu, 2 threads, 4 processes"' in (folder / "run.json").read_text()


def test_a_process_that_dies_ends_all_and_one_goes_on_from_the_last_iteration(
    straight, tmp_path, monkeypatch
):
    done, folder = launched(tmp_path, 2, "1", signal.SIGKILL)
    processes.check_that_one_died(done, folder)
    processes.by_one(monkeypatch, tmp_path, ROW)
    assert processes.same_as(straight, folder)


def test_a_signal_to_one_process_stops_all_after_the_same_iteration(tmp_path):
    done, folder = launched(tmp_path, 2, "1", signal.SIGTERM)
    assert done.returncode != 0
    assert done.stderr.count("stopped after iteration 4; ") == 2 and folders.iterations_done(folder) == 4
    assert "the same command resumes it" in done.stderr


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_any_number_of_processes_gives_the_bits_of_one(count, straight, monkeypatch):
    """Four chunks: dealt evenly, unevenly, one to each, and with a process to spare."""
    monkeypatch.setattr(meta_batch, "CHUNK_BYTES", CHUNK)

    def trained(of):
        training = supervised_training.SupervisedTraining(ROW, 0, torch.device("cpu"), False, of)
        for iteration in range(2):
            training.step(iteration)
        return training.params

    wanted = trained(ranks.ALONE)
    for found in processes.side_by_side(count, trained, monkeypatch):
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("name", ["2d-navigation-rl2", "chain-parameter-noise"])
def test_what_is_not_dealt_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} is not dealt to 2 processes, since .*; run it without"):
        train.fit(paper.get(name), ranks=ranks.Ranks(0, 2))


def test_what_others_report_of_a_lost_process_is_one_line(monkeypatch):
    def closed(*_):
        raise RuntimeError(
            "[/gloo/tcp/pair.cc:5] Connection closed by peer [::1]:2. Good luck!\n  at pair.cc:5"
        )

    monkeypatch.setattr(dist, "all_reduce", closed)
    with pytest.raises(ranks.Lost, match=r"does not answer \(Connection closed by peer \[::1\]:2\)$"):
        ranks.Ranks(0, 2).most(1)
    assert ranks.ALONE.most(2) == 2 and ranks.ALONE.of_first("x") == "x"


def test_without_torchrun_a_process_is_alone(monkeypatch):
    with ranks.joined(torch.device("cpu")) as found:
        assert found is ranks.ALONE
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("WORLD_SIZE", "1")
    with ranks.joined(torch.device("cpu")) as found:
        assert found is ranks.ALONE
