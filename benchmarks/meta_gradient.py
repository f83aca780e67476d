"""Time and memory of one meta-gradient: ours beside what else there is, in one run, and beside the hardware's limit.

    python benchmarks/meta_gradient.py              # time, a table per shape
    python benchmarks/meta_gradient.py --save       # the same, memory and scaling too, kept under data/benchmarks/cpu (or cuda)
    python benchmarks/meta_gradient.py --save NAME  # the same under another name, for one more machine

Every way gets the same tensors, threads and process, a turn each, again and again; medians are reported. No table
is printed unless all ways agree in losses and in the norm of the gradient; the first turn counts for nothing. The limit is the time of the matrix
products alone at the rate of a large batched product measured in the same run.
"""

import argparse
import dataclasses
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm
from ways import WAYS, Way

from mamlkit import methods, models, runs, tasks, train
from mamlkit.experiments import get
from mamlkit.maml import Params, Task
from mamlkit.methods import Learner

TOLERANCE = 1e-4  # relative, in float64
LOSS = "cross-entropy, sum over examples / shots"
MINI = "Mini-ImageNet 5-way 1-shot"
SHAPES = {  # and their rows in mamlkit.experiments
    "sinusoid": "sinusoid-maml",
    "Omniglot 5-way 1-shot": "omniglot-5way-1shot",
    "Omniglot 20-way 1-shot": "omniglot-20way-1shot",
    MINI: None,
}
BASE = {"shots": 1, "queries": 1, "tasks": 32, "steps": 1, "filters": 64}  # what the scaling varies
SCALING = {"tasks": (4, 8, 16, 32, 64), "shots": (1, 2, 5, 10), "steps": (1, 2, 5, 10), "filters": (16, 32, 64, 128)}

Problem = tuple[Learner, Params, Task]


def problem(shape: str, device: torch.device) -> Problem:
    """A learner with the paper's settings at its initialisation, and a meta-batch."""
    if SHAPES[shape]:
        row = get(SHAPES[shape])
        family = "sinusoid" if row.family == "sinusoid" else "glyphs"
        return _problem(train.build(row), family, row.ways, row.queries, row.meta_batch_size, device)
    # Settings of the paper's section 5.2, whose chapter is still to come; noise stands in for the images.
    learner = methods.Learner(models.conv4(5, filters=32, size=84, channels=3, pooling="max"), LOSS, 0.01, 5, 1)
    return _problem(learner, "noise", 5, 15, 4, device)


def scaled(device: torch.device, **changes: int) -> Problem:
    """The Omniglot problem with another number of tasks, shots, steps or filters."""
    s = BASE | changes
    learner = methods.Learner(models.conv4(5, filters=s["filters"]), LOSS, 0.4, s["steps"], s["shots"])
    return _problem(learner, "glyphs", 5, s["queries"], s["tasks"], device)


def _problem(learner: Learner, family: str, ways: int, queries: int, count: int, device: torch.device) -> Problem:
    generator = train.generator(0, "benchmark")
    params = {k: v.to(device) for k, v in learner.model.init(generator).items()}
    if family != "noise":
        sampler = tasks.make(family, "train", ways=ways, shots=learner.shots, queries=queries, device=device)
        return learner, params, sampler.sample(generator, count)

    def part(n: int) -> tuple[Tensor, Tensor]:
        images = torch.randn(count, ways * n, 3, 84, 84, generator=generator)
        return images.to(device), torch.arange(ways).repeat_interleave(n).repeat(count, 1).to(device)

    return learner, params, Task(part(learner.shots), part(queries))


def flops(learner: Learner, params: Params, batch: Task) -> float:
    """Floating-point operations of the matrix products: 9 forward passes per support example and step, 3 per query.

    The first layer has no gradient and no tangent of its inputs, which leaves 4 and 2.
    """
    per_image = [2 * params[layer.weight].numel() * (layer.window.out**2 if layer.window else 1) for layer in learner.model.layers]
    first, others = per_image[0], sum(per_image[1:])
    support, query = (targets.shape[1] for _, targets in batch)
    steps = support * learner.inner_steps
    return len(batch.query[1]) * ((4 * first + 9 * others) * steps + (2 * first + 3 * others) * query)


def product_rate(device: torch.device) -> float:
    """FLOP/s of a large batched float32 product, the best of several."""
    a = torch.randn(16, 1024, 1024, device=device)
    times = [timed(lambda: torch.bmm(a, a), device)[0] for _ in range(6)]
    return 2 * 16 * 1024**3 / min(times)


def timed(function: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Seconds of a call, and what it gave."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    result = function()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start, result


def importable(names: list[str], learner: Learner, params: Params) -> dict[str, Way]:
    """The ways whose library is installed; the others are named on standard error."""
    found = {}
    for name in names:
        try:
            found[name] = WAYS[name](learner, params)
        except ImportError as error:
            print(f"{name}: not run ({error})", file=sys.stderr)
    return found


def errors(names: list[str], learner: Learner, params: Params, batch: Task, shape: str) -> dict[str, float]:
    """Relative error of each way's float32 gradient; stops unless in float64 all ways give the same.

    Four tasks are enough. The ways are compared in float64, since a float32 that rounds across the kink of a ReLU
    moves the gradient of a whole task: on five steps that is the larger part of the error reported here.
    """
    batch = Task(*(tuple(t[:4] for t in pair) for pair in batch))
    double = lambda t: t.double() if t.is_floating_point() else t
    exact = {k: v.double() for k, v in params.items()}, Task(*(tuple(map(double, pair)) for pair in batch))
    norm = lambda g: float(torch.stack([v.double().square().sum() for v in g.values()]).sum().sqrt())
    wanted, wanted_losses = WAYS["loop"](learner, exact[0])(exact[1])
    found = {}
    for name in names:
        gradient, losses = WAYS[name](learner, exact[0])(exact[1])
        distance = max(abs(norm(gradient) / norm(wanted) - 1), float((losses / wanted_losses - 1).abs().max()))
        if not distance < TOLERANCE:
            raise SystemExit(f"{shape}: {name} and loop differ by {distance:.1e}, more than {TOLERANCE}; no table")
        single, _ = WAYS[name](learner, params)(batch)
        found[name] = norm({k: single[k].double() - wanted[k] for k in wanted}) / norm(wanted)
    return found


def compare(shape: str, device: torch.device, repeats: int) -> list[dict[str, Any]]:
    """Median milliseconds of every way on a shape, and the limit."""
    learner, params, batch = problem(shape, device)
    ways = importable(list(WAYS), learner, params)
    error = errors(list(ways), learner, params, batch, shape)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in tqdm(range(repeats + 1), desc=shape, leave=False):
        for name, way in ways.items():
            times[name].append(timed(lambda: way(batch), device)[0])
    lines = [
        {"shape": shape, "way": name, "ms": 1e3 * statistics.median(each[1:]), "error": error[name]} for name, each in times.items()
    ]
    return [*lines, {"shape": shape, "way": "matrix-product limit", "ms": 1e3 * flops(learner, params, batch) / product_rate(device)}]


def scaling(device: torch.device, repeats: int) -> list[dict[str, Any]]:
    """Median milliseconds against tasks, shots, steps and filters, one varied at a time."""
    lines = []
    for quantity, values in SCALING.items():
        for value in tqdm(values, desc=quantity, leave=False):
            learner, params, batch = scaled(device, **{quantity: value})
            ways = {name: WAYS[name](learner, params) for name in ("mamlkit", "loop", "torch.func vmap")}
            for name, way in ways.items():
                times = [timed(lambda: way(batch), device)[0] for _ in range(repeats + 1)][1:]
                lines.append({"quantity": quantity, "value": value, "way": name, "ms": 1e3 * statistics.median(times)})
    return lines


def memory(way: str, steps: int, device: torch.device) -> float:
    """Peak megabytes of the Mini-ImageNet meta-gradient, above what this process held before it."""
    warm_up, params, batch = problem("sinusoid", device)
    WAYS[way](warm_up, params)(batch)  # so that libraries, compiled loops and threads are there
    learner, params, batch = problem(MINI, device)
    run = WAYS[way](dataclasses.replace(learner, inner_steps=steps), params)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run(batch)
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    before = _peak()
    run(batch)
    return _peak() - before


def _peak() -> float:
    """Largest resident memory of this process so far, in megabytes."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where getrusage() of a new process begins with the peak of its parent
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def memories(names: list[str], device: str, threads: int) -> list[dict[str, Any]]:
    """:func:`memory` of every way, each in a process of its own, since a peak is never forgotten."""
    lines = []
    for steps in (1, 5, 10):
        for name in tqdm(names, desc=f"memory, {steps} step(s)", leave=False):
            words = [sys.executable, __file__, "--memory", name, str(steps), "--device", device, "--threads", str(threads)]
            answer = subprocess.run(words, capture_output=True, text=True, check=True).stdout
            lines.append({"way": name, "steps": steps, "MB": round(float(answer))})
    return lines


def tables(lines: list[dict[str, Any]]) -> pd.DataFrame:
    """One line per shape: milliseconds of every way, and how many times the fastest peer's rate ours is."""
    table = pd.DataFrame(lines).pivot(index="shape", columns="way", values="ms").loc[list(dict.fromkeys(l["shape"] for l in lines))]
    peers = [name for name in ("loop", "learn2learn", "higher", "torchopt") if name in table]
    table["fastest peer / mamlkit"] = table[peers].min(axis=1) / table["mamlkit"]
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--shape", choices=SHAPES, action="append", help="only this shape (may be given again)")
    parser.add_argument("--save", nargs="?", const="", metavar="NAME", help="measure memory and scaling too, and keep all under data/benchmarks/NAME, by default the device's")
    parser.add_argument("--memory", nargs=2, metavar=("WAY", "STEPS"), help="print the peak memory of one way")
    options = parser.parse_args()
    device = train.set_up(options.device, threads=options.threads)
    if options.memory:
        print(memory(options.memory[0], int(options.memory[1]), device))
        return
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{options.threads} threads"
    origin = runs.provenance(where) | {"repeats": options.repeats, "GFLOP/s": round(product_rate(device) / 1e9)}
    lines = []
    for shape in options.shape or SHAPES:
        lines += compare(shape, device, options.repeats)
        print(tables(lines).tail(1).round(2).T.to_string(), "\n", flush=True)
    if options.save is not None:
        folder = runs.repository() / "data" / "benchmarks" / (options.save or device.type)
        folder.mkdir(parents=True, exist_ok=True)
        ways = [name for name in WAYS if any(line["way"] == name for line in lines)]
        origin["versions"] |= {name: metadata.version(name) for name in ("higher", "torchopt", "learn2learn") if name in ways}
        for name, content in {
            "time": lines,
            "memory": memories(ways, device.type, options.threads),
            "scaling": scaling(device, options.repeats),
        }.items():
            runs.write_text(folder / f"{name}.csv", pd.DataFrame(content).round({"ms": 3}).to_csv(index=False, float_format="%.4g"))
        runs.write_json(folder / "origin.json", origin)
        print(f"kept in {folder}")


if __name__ == "__main__":
    main()
