"""What it takes to leave one core: iterations on one process and on two, what the two exchange, Ray's slices.

    python benchmarks/scaling.py                     # all of it, printed
    python benchmarks/scaling.py --save              # and kept under data/benchmarks/cluster
    python benchmarks/scaling.py --save --part rows  # some of it
    python benchmarks/scaling.py --part rows --row omniglot-20way-5shot

Every process computes with one thread. Images are those of the stand-ins, and one meta-batch serves all
iterations, so that drawing it costs nothing. ``mamlkit.report.scaling`` reads what is kept and predicts the
rest.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from meta_gradient import keep
from problems import STAND_INS, flops, timed

from mamlkit.engine import meta_batch, passes
from mamlkit.engine.ranks import ALONE, Ranks, joined
from mamlkit.experiments.paper import get
from mamlkit.maml import Task
from mamlkit.methods import GradientMethod
from mamlkit.runs import cluster, devices, folders, supervised_training
from mamlkit.tasks.images import AllClasses

CPU = torch.device("cpu")
ROWS = (  # of Table 1; those after the first three are timed in one process alone
    "omniglot-5way-1shot",
    "omniglot-20way-1shot",
    "mini-imagenet-5way-1shot",
    "omniglot-5way-5shot",
    "omniglot-20way-5shot",
    "omniglot-no-conv-5way-1shot",
    "omniglot-no-conv-5way-5shot",
    "mini-imagenet-5way-5shot",
    "mini-imagenet-first-order-5way-1shot",
    "mini-imagenet-first-order-5way-5shot",
    "mini-imagenet-pretrained",
)
DEALT = ROWS[:3]
SIZES = (1_000, 112_000, 448_000, 896_000, 1_792_000)  # bytes that each of two processes gives
SECONDS = 3.0  # of a row, after a first iteration that counts for nothing
TURNS = 6  # of a row in two processes
SLICED = "glyphs-5way-1shot"


class Again:
    """A family that has one meta-batch."""

    def __init__(self, batch: Task) -> None:
        self.batch = batch

    def sample(self, generator: torch.Generator, tasks: int) -> Task:
        return self.batch


def training(name: str, ranks: Ranks = ALONE) -> supervised_training.SupervisedTraining:
    """The training of a row of the paper, on one meta-batch of the stand-in."""
    family, _, kind = get(name).family.partition(", ")
    row = dataclasses.replace(get(name), family=STAND_INS[family], evaluations=())
    made = supervised_training.SupervisedTraining(row, 0, CPU, validate=False, ranks=ranks)
    drawn = AllClasses(made.family.bank, row.shots) if kind == "all classes" else made.family
    made.family = Again(drawn.sample(torch.Generator().manual_seed(0), row.meta_batch_size))
    return made


def median_ms(call: Callable[[], Any], seconds: float, least: int = 2) -> float:
    """Median processor time of calls for so long, and of so many at least, after one that counts for nothing.

    Other people's work on the machine does not lengthen it, as it does the time by the clock.
    """
    call()
    times: list[float] = []
    while len(times) < least or sum(times) < seconds:
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return 1e3 * statistics.median(times)


def of_row(name: str, seconds: float = SECONDS) -> dict[str, Any]:
    """An iteration of a row in one process, and what a model of more needs to know of it."""
    made = training(name)
    learner, batch = made.method.learner, made.family.batch
    plan, count = learner.model.layers, len(batch.query[1])
    chunk = count  # where each process computes all of it
    if plan and plan[0].window:
        chunk = min(count, meta_batch._chunk(plan, passes.to_matrices(plan, made.params), batch))
    second_order = isinstance(made.method, GradientMethod) and not made.method.first_order
    return {
        "row": name,
        "tasks": count,
        "chunk": chunk,
        "bytes": sum(value.nbytes for value in made.params.values()) + 4 * chunk,
        "ms": median_ms(lambda: made.step(0), seconds),
        "gflop": flops(learner, made.params, batch) / 1e9 if second_order else None,
    }


def of_two(names: list[str], out: Path) -> None:
    """What two processes measure together; the first writes it. Run by torchrun."""
    with joined(CPU) as ranks:
        lines: dict[str, list[dict[str, Any]]] = {"gather": [], "ranks": []}
        for size in SIZES if not names else ():
            own = torch.zeros(size // 4)
            every = [torch.empty_like(own) for _ in range(ranks.count)]
            lines["gather"].append({"bytes": size, "ms": elapsed_ms(partial(dist.all_gather, every, own))})
        for name in names:
            step = partial(training(name).step, 0)
            alone = median_ms(step, SECONDS) if ranks.first else 0.0  # the other waits
            dist.barrier()
            ms = torch.tensor(median_ms(partial(training(name, ranks).step, 0), 0.0, TURNS))
            dist.all_reduce(ms, dist.ReduceOp.MAX)  # of the rank that is busy longest
            lines["ranks"].append({"row": name, "alone_ms": alone, "two_ms": float(ms)})
        if ranks.first:
            out.write_text(json.dumps(lines))


def elapsed_ms(call: Callable[[], Any], turns: int = 300) -> float:
    """Median time by the clock of a call that all processes begin at once."""
    times = []
    for _ in range(turns):
        dist.barrier()
        times.append(timed(call, CPU)[0])
    return 1e3 * statistics.median(times)


def launched(names: list[str]) -> dict[str, list[dict[str, Any]]]:
    """:func:`of_two`, in two processes of their own."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "lines.json"
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
        command += [__file__, "--out", str(out), *(word for name in names for word in ("--row", name))]
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        return json.loads(out.read_text())


def of_ray() -> list[dict[str, Any]]:
    """Seconds that a slice takes beside its iterations: state there and back, a new training, a new log."""
    start = time.perf_counter()
    machines = cluster.Machines(threads=1)
    lines = [{"what": "start of Ray on this machine", "seconds": time.perf_counter() - start}]
    row, content = dataclasses.replace(get(SLICED), evaluations=()), {}
    seconds, cluster.SLICE_SECONDS = cluster.SLICE_SECONDS, 0.0  # one iteration
    try:
        for what in ("first slice", "a slice"):
            taken = []
            for _ in range(1 if what == "first slice" else 5):
                start = time.perf_counter()
                found = machines.slice(print, row, 0, row.iterations, content)
                content = {name: found.content[name] for name in folders.STATE if name in found.content}
                taken.append(time.perf_counter() - start)
            lines.append({"what": what, "seconds": statistics.median(taken)})
    finally:
        cluster.SLICE_SECONDS = seconds
        machines.close()
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=("rows", "gather", "ranks", "ray"), action="append")
    parser.add_argument("--row", choices=ROWS, action="append", help="only this row (may be given again)")
    parser.add_argument("--save", action="store_true", help="keep tables under data/benchmarks/cluster")
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)  # in a process of torchrun
    options = parser.parse_args()
    devices.set_up("cpu", threads=1)
    if options.out:
        of_two(options.row or [], options.out)
        return
    if options.save and options.row:
        parser.error("--save keeps tables of all rows; leave --row out")
    parts = {
        "rows": lambda: [of_row(name) for name in options.row or ROWS],
        "gather": lambda: launched([])["gather"],
        "ranks": lambda: launched(options.row or list(DEALT))["ranks"],
        "ray": of_ray,
    }
    origin = folders.provenance("1 thread of each process")
    for part in options.part or parts:
        name = "cluster" if options.save else None
        keep(name, CPU, part, parts[part](), origin)


if __name__ == "__main__":
    main()
