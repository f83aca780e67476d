"""Iterations of Algorithm 3 in one process and in two, and the bytes that two exchange.

    python benchmarks/policy_ranks.py             # printed
    python benchmarks/policy_ranks.py --save      # and kept under data/benchmarks/cluster

Every process computes with one thread. ``mamlkit.report.scaling`` shows what is kept.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from meta_gradient import keep

from mamlkit.engine.ranks import ALONE, Ranks, joined
from mamlkit.experiments.paper import get
from mamlkit.runs import devices, folders, policies
from mamlkit.runs.policy_training import PolicyTraining

CPU = torch.device("cpu")
ROWS = ("2d-navigation-maml", "half-cheetah-velocity-maml")
TURNS = 2  # iterations, after a first one that counts for nothing


class Counting(Ranks):
    """Counts the bytes of what all have: episodes, and sums of the update, as long as the parameters."""

    def __init__(self, ranks: Ranks, parameters: int) -> None:
        super().__init__(ranks.rank, ranks.count, ranks.device)
        self.lengths = (parameters, 2)  # gradients and products; loss and divergence
        self.bytes = {"episodes": 0, "sums": 0}

    def gathered(self, own: torch.Tensor, count: int) -> torch.Tensor:
        found = super().gathered(own, count)
        self.bytes["sums" if own.shape[1] in self.lengths else "episodes"] += found.nbytes
        return found


def median_ms(name: str, ranks: Ranks) -> float:
    """Median processor time of an iteration; waiting for other processes or programs does not count."""
    training, times = PolicyTraining(get(name), 0, CPU, 1, ranks), []
    for iteration in range(1 + TURNS):
        start = time.process_time()
        training.step(iteration)
        times.append(time.process_time() - start)
    training.close()
    return 1e3 * statistics.median(times[1:])


def of_two(out: Path) -> None:
    """What two processes measure together; the first writes it. Run by torchrun."""
    with joined(CPU) as ranks:
        lines = []
        for name in ROWS:
            alone = median_ms(name, ALONE) if ranks.first else 0.0  # the other waits
            dist.barrier()
            _, policy = policies.build(get(name), 1, 1)
            begun = policy.init(torch.Generator())
            counting = Counting(ranks, sum(value.numel() for value in begun.values()))
            busy = torch.tensor(median_ms(name, counting))
            dist.all_reduce(busy, dist.ReduceOp.MAX)  # of the rank that is busy longest
            sent = {what: number // (1 + TURNS) for what, number in counting.bytes.items()}
            lines.append({"row": name, "alone_ms": alone, "two_ms": float(busy), **sent})
        if ranks.first:
            out.write_text(json.dumps(lines))


def launched() -> list[dict[str, Any]]:
    """:func:`of_two`, in two processes of their own."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "lines.json"
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
        command += [__file__, "--out", str(out)]
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        return json.loads(out.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--save", action="store_true", help="keep the table under data/benchmarks/cluster")
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)  # in a process of torchrun
    options = parser.parse_args()
    devices.set_up("cpu", threads=1)
    if options.out:
        of_two(options.out)
        return
    origin = folders.provenance("1 thread of each process")
    keep("cluster" if options.save else None, CPU, "policies", launched(), origin)


if __name__ == "__main__":
    main()
