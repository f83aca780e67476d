"""How time and memory of a meta-gradient grow, and what a whole training costs beside it.

    python benchmarks/growth.py WAY DEVICE THREADS PROBLEM

prints one peak of memory; ``meta_gradient.py`` asks for them all.
"""

import dataclasses
import json
import resource
import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from problems import BASE, MINI, SCALING, SHAPES, STAND_INS, Problem, in_turns, problem, scaled, timed
from tqdm import tqdm
from ways import WAYS

from mamlkit import methods
from mamlkit.engine import meta_batch
from mamlkit.experiments.paper import get
from mamlkit.runs import devices, supervised, supervised_training, train

STEPS = (1, 5, 10)  # inner steps of the Mini-ImageNet shape whose memory is measured
GROWN = ("mamlkit", "loop", "torch.func vmap")  # ways whose growth is shown
CHUNKS = tuple(meta_batch.CHUNK_BYTES >> halved for halved in range(4))  # sizes that are tried
TRAINED = ("sinusoid", "Omniglot 5-way 1-shot")  # the trainings that are timed


def scaling(device: torch.device, repeats: int) -> list[dict[str, Any]]:
    """Median milliseconds against tasks, shots, steps and filters, one of which is varied at a time.

    Its values and all ways take turns.
    """
    lines = []
    for quantity, values in SCALING.items():
        points, calls = [], []
        for value in values:
            learner, params, batch = scaled(device, **{quantity: value})
            points += [(value, name) for name in GROWN]
            calls += [partial(WAYS[name](learner, params), batch) for name in GROWN]
        for (value, name), ms in zip(points, in_turns(calls, device, repeats, quantity)):
            lines.append({"quantity": quantity, "value": value, "way": name, "ms": ms})
    return lines


def chosen(words: dict[str, int], device: torch.device) -> Problem:
    """Mini-ImageNet's with so many ``inner_steps``, or :func:`problems.scaled` with these changes.

    With ``chunk_bytes``, tasks are taken in chunks of that size.
    """
    meta_batch.CHUNK_BYTES = words.get("chunk_bytes", meta_batch.CHUNK_BYTES)
    if "inner_steps" not in words:
        return scaled(device, **{name: value for name, value in words.items() if name != "chunk_bytes"})
    learner, params, batch = problem(MINI, device)
    return dataclasses.replace(learner, **words), params, batch


def memory(way: str, words: dict[str, int], device: torch.device) -> float:
    """Peak megabytes of a meta-gradient, above what this process held before it."""
    warm_up, params, batch = problem("sinusoid", device)
    WAYS[way](warm_up, params)(batch)  # so that libraries, compiled loops and threads are there
    learner, params, batch = chosen(words, device)
    run = WAYS[way](learner, params)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run(batch)
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    forget_peak()
    before = peak()
    run(batch)
    return peak() - before


def forget_peak() -> None:
    """Let the peak be what the process holds now, where the system can (Linux).

    Importing the libraries may have taken more.
    """
    if (switch := Path("/proc/self/clear_refs")).exists():
        switch.write_text("5")


def peak() -> float:
    """Largest resident memory of this process so far, in megabytes."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where getrusage() of a new process begins with the peak of its parent
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def _memory(way: str, words: dict[str, int], device: str, threads: int) -> int:
    """:func:`memory` in a process of its own, since a peak is never forgotten."""
    command = [sys.executable, __file__, way, device, str(threads), json.dumps(words)]
    return round(float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout))


def memories(names: list[str], device: str, threads: int) -> list[dict[str, Any]]:
    """Peak megabytes of every way on the Mini-ImageNet shape, against inner steps."""
    pairs = [(steps, name) for steps in STEPS for name in names]
    bar = tqdm(pairs, desc="memory, Mini-ImageNet", leave=False)
    return [
        {"way": name, "steps": steps, "MB": _memory(name, {"inner_steps": steps}, device, threads)}
        for steps, name in bar
    ]


def memory_scaling(device: str, threads: int) -> list[dict[str, Any]]:
    """Peak megabytes against what :func:`scaling` varies."""
    points = [
        (quantity, value, name) for quantity, values in SCALING.items() for value in values for name in GROWN
    ]
    bar = tqdm(points, desc="memory, scaling", leave=False)
    return [
        {"quantity": q, "value": v, "way": name, "MB": _memory(name, BASE | {q: v}, device, threads)}
        for q, v, name in bar
    ]


def chunks(device: torch.device, threads: int, repeats: int) -> list[dict[str, Any]]:
    """Median milliseconds and peak megabytes of :func:`scaling`'s base, with smaller and smaller chunks."""
    learner, params, batch = scaled(device, **BASE)
    run, usual = WAYS["mamlkit"](learner, params), meta_batch.CHUNK_BYTES

    def in_chunks(size: int) -> None:
        meta_batch.CHUNK_BYTES = size
        run(batch)

    try:
        times = in_turns([partial(in_chunks, size) for size in CHUNKS], device, repeats, "chunks")
    finally:
        meta_batch.CHUNK_BYTES = usual
    held = [_memory("mamlkit", BASE | {"chunk_bytes": size}, device.type, threads) for size in CHUNKS]
    return [{"bytes": size, "ms": ms, "MB": mb} for size, ms, mb in zip(CHUNKS, times, held)]


def training(device: torch.device, repeats: int) -> list[dict[str, Any]]:
    """Median milliseconds of an iteration of a training, and of its meta-gradients alone, taken in turns.

    An iteration samples, updates and logs; its share of a look at the validation tasks is added, at the rate
    of a whole run.
    """
    return [line for shape in TRAINED for line in _training(shape, device, repeats)]


def _training(shape: str, device: torch.device, repeats: int) -> list[dict[str, Any]]:
    row = get(SHAPES[shape])
    family = STAND_INS.get(row.family, row.family)
    row = dataclasses.replace(row, family=family, iterations=2 * supervised_training.LOG_EVERY)
    learner, params, batch = problem(shape, device)
    method, test = methods.maml(learner), row.evaluations[0]
    times: dict[str, list[float]] = {"training": [], "meta-gradients alone": []}
    for _ in tqdm(range(repeats), desc=f"training, {shape}", leave=False):
        # a line at half time, when all is warm
        seconds = train.fit(row, device=device, validate=False).log.seconds
        look, _ = timed(
            lambda: supervised.evaluate(
                row, params, test, split="val", n_tasks=supervised_training.VALIDATION_TASKS, device=device
            ),
            device,
        )
        times["training"].append(
            (seconds[1] - seconds[0]) / supervised_training.LOG_EVERY
            + look / supervised_training.VALIDATE_EVERY
        )
        alone, _ = timed(
            lambda: [
                meta_batch.meta_gradient(method, params, batch) for _ in range(supervised_training.LOG_EVERY)
            ],
            device,
        )
        times["meta-gradients alone"].append(alone / supervised_training.LOG_EVERY)
    medians = {name: 1e3 * statistics.median(each) for name, each in times.items()}
    return [{"shape": shape, "way": name, "ms": ms} for name, ms in medians.items()]


if __name__ == "__main__":
    way, device, threads, words = sys.argv[1:]
    print(memory(way, json.loads(words), devices.set_up(device, threads=int(threads))))
