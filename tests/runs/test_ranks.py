"""One run over two processes: the bits of one process, and a state that one or two go on from."""

import dataclasses
import os
import pickle
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
import torch.distributed as dist

from mamlkit import __main__, places
from mamlkit.engine import meta_batch, ranks
from mamlkit.experiments import paper
from mamlkit.runs import checkpoints, folders, supervised_training, train

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
SCRIPT = """
import os, pathlib, pickle, signal, sys
from mamlkit import __main__
from mamlkit.engine import meta_batch
from mamlkit.experiments import paper
from mamlkit.runs import supervised, supervised_training
row = pickle.loads(pathlib.Path(__file__).with_name("row").read_bytes())
paper.ROWS[row.name] = row
meta_batch.CHUNK_BYTES, supervised_training.LOG_EVERY = CHUNK, 4
of_rank, number, *words = sys.argv[1:]
step = supervised_training.SupervisedTraining.step
def signalled(training, iteration):
    if iteration == 3 and os.environ["RANK"] == of_rank:
        os.kill(os.getpid(), int(number))
    step(training, iteration)
supervised_training.SupervisedTraining.step = signalled
sys.exit(__main__.main(words))
"""


@pytest.fixture(scope="module")
def straight():
    """A run that one process has trained, never cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meta_batch, "CHUNK_BYTES", CHUNK)
        patch.setattr(supervised_training, "LOG_EVERY", 4)
        yield train.fit(ROW)


def launched(tmp_path, of_rank="", number=0, *words):
    """What two processes say, and the folder of their run; one gets a signal in the fourth iteration."""
    (tmp_path / "row").write_bytes(pickle.dumps(ROW))
    (tmp_path / "script.py").write_text(SCRIPT.replace("CHUNK, 4", f"{CHUNK}, 4"))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    command += [str(tmp_path / "script.py"), of_rank, str(int(number))]
    command += ["run", ROW.name, "--device", "cpu", "--runs", str(tmp_path / "runs"), *words]
    surroundings = os.environ | {"PYTHONPATH": str(places.clone()), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=surroundings, timeout=600)
    return done, tmp_path / "runs" / ROW.name / "seed0"


def same_as(straight, folder):
    """Whether parameters and log of a run folder are those of a straight run, bit for bit."""
    params = checkpoints.load_params(folder / "params.safetensors")
    log = pd.read_csv(folder / "metrics.csv").drop(columns="seconds")
    same_log = np.array_equal(log, straight.log.drop(columns="seconds"), equal_nan=True)
    return same_log and all(torch.equal(params[name], straight.params[name]) for name in straight.params)


def by_one_process(tmp_path, *words):
    assert __main__.main(["run", ROW.name, "--device", "cpu", "--runs", str(tmp_path / "runs"), *words]) == 0


def test_a_run_that_one_process_began_is_finished_by_two_bit_for_bit(straight, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(paper.ROWS, ROW.name, ROW)
    by_one_process(tmp_path, "--until", "3")
    done, folder = launched(tmp_path, "", 0, "--threads", "2")  # threads of each change nothing
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("result in") == 1 and same_as(straight, folder)
    assert '"cpu, 2 threads, 2 processes"' in (folder / "run.json").read_text()


def test_a_process_that_dies_ends_all_and_one_goes_on_from_the_last_iteration(
    straight, tmp_path, monkeypatch, capsys
):
    done, folder = launched(tmp_path, "1", signal.SIGKILL)
    assert done.returncode != 0 and "error: another process of this run has ended" in done.stderr
    assert "resumes the run with any number of processes" in done.stderr
    assert folders.iterations_done(folder) == 3
    monkeypatch.setitem(paper.ROWS, ROW.name, ROW)
    by_one_process(tmp_path)
    assert same_as(straight, folder)


def test_a_signal_to_one_process_stops_all_after_the_same_iteration(tmp_path):
    done, folder = launched(tmp_path, "1", signal.SIGTERM)
    assert done.returncode != 0
    assert done.stderr.count("stopped after iteration 4; ") == 2 and folders.iterations_done(folder) == 4
    assert "the same command resumes it" in done.stderr


def test_a_policy_is_refused():
    with pytest.raises(ValueError, match="2d-navigation-maml is reinforcement .* not dealt to 2 processes"):
        train.fit(paper.get("2d-navigation-maml"), ranks=ranks.Ranks(0, 2))


def test_what_others_report_of_a_lost_process_is_one_line(monkeypatch):
    def closed(*_):
        raise RuntimeError("Connection closed by peer\n  at tcp/pair.cc:547")

    monkeypatch.setattr(dist, "all_reduce", closed)
    with pytest.raises(ranks.Lost, match=r"does not answer \(Connection closed by peer\)$"):
        ranks.Ranks(0, 2).most(1)
    assert ranks.ALONE.most(2) == 2 and ranks.ALONE.of_first("x") == "x"


def test_without_torchrun_a_process_is_alone(monkeypatch):
    with ranks.joined(torch.device("cpu")) as found:
        assert found is ranks.ALONE
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("WORLD_SIZE", "1")
    with ranks.joined(torch.device("cpu")) as found:
        assert found is ranks.ALONE
