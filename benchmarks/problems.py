"""The meta-batches that are measured, their matrix products, and a clock."""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "book" / "_ext"))
import surroundings

surroundings.use_this_clone()  # before the first import of mamlkit: every benchmark imports this file first

import torch
from tqdm import tqdm

from mamlkit import methods, models, tasks
from mamlkit.engine import passes
from mamlkit.engine.threads import each
from mamlkit.experiments.paper import get
from mamlkit.maml import Params, Task
from mamlkit.methods import Learner
from mamlkit.runs import seeds, supervised

LOSS = "cross-entropy, sum over examples / shots"
MINI = "Mini-ImageNet 5-way 1-shot"
SHAPES = {  # and their rows in mamlkit.experiments.paper
    "sinusoid": "sinusoid-maml",
    "Omniglot 5-way 1-shot, no convolution": "omniglot-no-conv-5way-1shot",
    "Omniglot 5-way 1-shot": "omniglot-5way-1shot",
    "Omniglot 20-way 1-shot": "omniglot-20way-1shot",
    MINI: "mini-imagenet-5way-1shot",
}
STAND_INS = {"omniglot": "glyphs", "mini-imagenet": "textures"}  # so that nothing is needed
BASE = {"shots": 1, "queries": 1, "tasks": 32, "steps": 1, "filters": 64}  # what the scaling varies
SCALING = {
    "tasks": (4, 8, 16, 32, 64),
    "shots": (1, 2, 5, 10),
    "steps": (1, 2, 5, 10),
    "filters": (16, 32, 64, 128),
}

Problem = tuple[Learner, Params, Task]
CLOCK = [time.perf_counter]  # or time.process_time, which other people's work on a machine does not lengthen
TURN = 0.1  # seconds


def problem(shape: str, device: torch.device, count: int | None = None) -> Problem:
    """A learner with the paper's settings at its initialisation, and a meta-batch (of ``count`` tasks)."""
    row = get(SHAPES[shape])
    family = STAND_INS.get(row.family, row.family)
    count = count or row.meta_batch_size
    return _problem(supervised.build(row), family, row.ways, row.queries, count, device)


def scaled(device: torch.device, **changes: int) -> Problem:
    """The Omniglot problem with another number of tasks, shots, steps or filters."""
    s = BASE | changes
    learner = methods.Learner(models.conv4(5, filters=s["filters"]), LOSS, 0.4, s["steps"], s["shots"])
    return _problem(learner, "glyphs", 5, s["queries"], s["tasks"], device)


def _problem(
    learner: Learner, family: str, ways: int, queries: int, count: int, device: torch.device
) -> Problem:
    generator = seeds.generator(0, "benchmark")
    params = {k: v.to(device) for k, v in learner.model.init(generator).items()}
    sampler = tasks.make(family, "train", ways=ways, shots=learner.shots, queries=queries, device=device)
    return learner, params, sampler.sample(generator, count)


def flops(learner: Learner, params: Params, batch: Task) -> float:
    """Floating-point operations of the matrix products.

    They are those of 9 forward passes per support example and step, and of 3 per query.
    The first layer has no gradient and no tangent of its inputs, which leaves 4 and 2.
    """
    per_image = [
        2 * params[layer.weight].numel() * (layer.window.out**2 if layer.window else 1)
        for layer in learner.model.layers
    ]
    first, others = per_image[0], sum(per_image[1:])
    support, query = (targets.shape[1] for _, targets in batch)
    steps = support * learner.inner_steps
    return len(batch.query[1]) * ((4 * first + 9 * others) * steps + (2 * first + 3 * others) * query)


def product_rate(device: torch.device) -> float:
    """FLOP/s of a large batched float32 product, the best of several: PyTorch's, or the engine's own.

    PyTorch's library uses half of what some CPUs can do.
    """
    a, own = torch.randn(16, 1024, 1024, device=device), passes.kernels_of(device).add_product
    products = [lambda: torch.bmm(a, a), lambda: each(lambda half: own(half, half), a.split(8))]
    times = [timed(product, device)[0] for product in products for _ in range(6)]
    return 2 * 16 * 1024**3 / min(times)


def in_turns(
    calls: Sequence[Callable[[], Any]], device: torch.device, repeats: int, what: str
) -> list[float]:
    """Median milliseconds of each call; all take turns, and the first turn counts for nothing.

    A turn is one call, or as many as :data:`TURN` has room for: what is short finds in a training its own
    things in the caches, and not those of the others.
    """
    times: list[list[float]] = [[] for _ in calls]
    for _ in tqdm(range(repeats + 1), desc=what, leave=False):
        for turns, call in zip(times, calls):
            spent = [timed(call, device)[0]]
            while sum(spent) < TURN:
                spent.append(timed(call, device)[0])
            turns.append(statistics.mean(spent))
    return [1e3 * statistics.median(turns[1:]) for turns in times]


def timed(function: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Seconds of a call, and what it gave."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = CLOCK[0]()
    result = function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return CLOCK[0]() - start, result
