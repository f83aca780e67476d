"""Processes of a run for the tests: real ones of torchrun, and threads that stand for them."""

import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import torch
import torch.distributed as dist

from mamlkit import __main__, places
from mamlkit.engine.ranks import Ranks
from mamlkit.experiments import paper
from mamlkit.runs import checkpoints, folders

SCRIPT = """
import os, pathlib, pickle, sys
from mamlkit import __main__
from mamlkit.engine import meta_batch
from mamlkit.experiments import paper
from mamlkit.runs import policy_training, supervised_training
row = pickle.loads(pathlib.Path(__file__).with_name("row").read_bytes())
paper.ROWS[row.name] = row
BEFORE
of_rank, number, *words = sys.argv[1:]
for kind in (supervised_training.SupervisedTraining, policy_training.PolicyTraining):
    def signalled(training, iteration, step=kind.step):
        if iteration == 3 and os.environ["RANK"] == of_rank:
            os.kill(os.getpid(), int(number))
        step(training, iteration)
    kind.step = signalled
sys.exit(__main__.main(words))
"""


def launched(tmp_path, row, count, of_rank="", number=0, *words, before=""):
    """What so many processes say, and the folder of their run; one gets a signal in the fourth iteration."""
    (tmp_path / "row").write_bytes(pickle.dumps(row))
    (tmp_path / "script.py").write_text(SCRIPT.replace("BEFORE", before))
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={count}", "--standalone"]
    command += [str(tmp_path / "script.py"), of_rank, str(int(number))]
    command += ["run", row.name, "--device", "cpu", "--runs", str(tmp_path / "runs"), *words]
    surroundings = os.environ | {"PYTHONPATH": str(places.clone()), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=surroundings, timeout=600)
    return done, tmp_path / "runs" / row.name / "seed0"


def by_one(monkeypatch, tmp_path, row, *words):
    """One process takes the same run so far as the words say."""
    monkeypatch.setitem(paper.ROWS, row.name, row)
    assert __main__.main(["run", row.name, "--device", "cpu", "--runs", str(tmp_path / "runs"), *words]) == 0


def check_that_one_died(done, folder):
    """One of :func:`launched` was killed in the fourth iteration: all end, with the state before it."""
    assert done.returncode != 0 and "error: another process of this run has ended" in done.stderr
    assert "resumes the run with any number of processes" in done.stderr
    assert folders.iterations_done(folder) == 3


def same_as(straight, folder):
    """Whether parameters and log of a run folder are those of a straight run, bit for bit."""
    params = checkpoints.load_params(folder / "params.safetensors")
    columns = [name for name in straight.log if "seconds" not in name]
    log = pd.read_csv(folder / "metrics.csv")
    same_log = np.array_equal(log[columns], straight.log[columns], equal_nan=True)
    return same_log and all(torch.equal(params[name], straight.params[name]) for name in straight.params)


def side_by_side(count, work, monkeypatch):
    """``work(ranks)`` of every rank, each in a thread that stands for a process: what all give."""
    own, box, all_there = threading.local(), [None] * count, threading.Barrier(count, timeout=300)

    def exchanged(thing):
        box[own.rank] = thing
        all_there.wait()
        found = list(box)
        all_there.wait()
        return found

    def all_gather(every, sent):
        for place, came in zip(every, exchanged(sent.clone())):
            place.copy_(came)

    def all_reduce(number, op):
        assert op == dist.ReduceOp.MAX
        number.copy_(torch.stack(exchanged(number.clone())).max())

    monkeypatch.setattr(dist, "all_gather", all_gather)
    monkeypatch.setattr(dist, "all_reduce", all_reduce)

    def process(rank):
        own.rank = rank
        try:
            return work(Ranks(rank, count))
        except BaseException:
            all_there.abort()
            raise

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(process, range(count)))
