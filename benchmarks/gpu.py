"""All that a GPU is asked for, in one call, on a machine that is lent for minutes and has no network.

    python benchmarks/gpu.py --out found --seconds 3000
    python benchmarks/gpu.py --out found --seconds 60 --dry-run   # small shapes, on the CPU

It checks the meta-gradients, times them beside other libraries', times recorded iterations beside plain ones,
takes a profile, and trains the paper's rows, cheap before dear, in the time that is left. A part that fails
is noted, and the next one begins; one that would begin after the time is over is left out. New files of
``data/`` are copied to OUT after each part and each row: take them home into the clone, and commit.

MAMLKIT_COMMIT names the commit of a copy without .git. Nothing but the dry run was ever run.
"""

import argparse
import dataclasses
import math
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from meta_gradient import compare, keep
from problems import SHAPES, STAND_INS, problem, timed
from torch.profiler import ProfilerActivity, profile

from mamlkit import methods, places
from mamlkit.engine import meta_batch
from mamlkit.experiments import paper
from mamlkit.maml import Params, Task
from mamlkit.runs import devices, folders, plan, queue, train

TIMED = tuple(SHAPES.values())  # rows whose iterations are timed and profiled
TRAINED = "*-*way-*shot"  # rows that are trained: Table 1, in the order of the queue
EXACT, CLOSE = 1e-9, 1e-4  # largest relative difference in float64 and, of recorded iterations, in float32
WINDOW = 100  # iterations between two looks
PRODUCTS = re.compile(r"gemm|cutlass|bmm|conv", re.I)  # kernels that are matrix products, by their names

Lines = list[dict[str, Any]]


def distance(found: Params, wanted: Params) -> float:
    flat = lambda params: torch.cat([params[name].double().cpu().flatten() for name in wanted])
    return float((flat(found) - flat(wanted)).norm() / flat(wanted).norm())


def checks(device: torch.device) -> Lines:
    """Meta-gradients against the CPU's in float64, and recorded iterations against plain ones."""
    lines = []
    for shape, name in SHAPES.items():
        learner, params, batch = problem(shape, torch.device("cpu"))
        of = lambda t, where: t[:2].to(where, torch.float64 if t.is_floating_point() else t.dtype)
        gradients = [
            meta_batch.meta_gradient(
                methods.maml(learner),
                {key: value.to(where, torch.float64) for key, value in params.items()},
                Task(*(tuple(of(t, where) for t in pair) for pair in batch)),
            )[0]
            for where in ("cpu", device)
        ]
        apart = {"float64, from the CPU": distance(gradients[1], gradients[0])}
        lines.append({"shape": shape} | apart | {"recorded, from plain": recorded_from_plain(name, device)})
    return lines


def recorded_from_plain(name: str, device: torch.device) -> float:
    """Distance of parameters after three iterations; NaN where no recording can be made."""
    plain, recorded = (begun(name, device, kind) for kind in (False, True))
    try:
        for iteration in range(3):
            plain.step(iteration)
            recorded.step(iteration)
        return distance(recorded.params, plain.params)
    except RuntimeError:
        traceback.print_exc()
        return math.nan


def holds(lines: Lines) -> bool:
    """Whether recorded iterations can be trusted; a wrong gradient ends everything."""
    if any(not line["float64, from the CPU"] < EXACT for line in lines):
        raise SystemExit(f"meta-gradients are wrong here, so nothing is trained: {lines}")
    return all(line["recorded, from plain"] < CLOSE for line in lines)


def begun(name: str, device: torch.device, recorded: bool) -> train.Training:
    """The training of a row, on the stand-in of its images, so that no data is needed."""
    row = paper.get(name)
    row = dataclasses.replace(row, family=STAND_INS.get(row.family, row.family), evaluations=())
    return train.begin(row, 0, device, validate=False, recorded=recorded)


def iterations(device: torch.device, window: int) -> Lines:
    """Milliseconds of an iteration, plain and recorded, over a window without a look."""
    lines = []
    for name in TIMED:
        for recorded in (False, True):
            training = begun(name, device, recorded)
            run = lambda training=training: [training.step(i) for i in range(window)]
            run()
            seconds = min(timed(run, device)[0] for _ in range(2))
            lines.append({"row": name, "recorded": recorded, "ms": 1e3 * seconds / window})
    return lines


def profiles(device: torch.device) -> Lines:
    """Functions of one plain iteration of each row by their time, and what share of it are products."""
    lines = []
    of_gpu = device.type == "cuda"
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if of_gpu else [])]
    for name in TIMED:
        training = begun(name, device, recorded=False)
        training.step(0)
        with profile(activities=kinds) as found:
            timed(lambda training=training: training.step(1), device)
        events = found.key_averages()
        microseconds = lambda e: e.self_device_time_total if of_gpu else e.self_cpu_time_total
        total = sum(map(microseconds, events)) or 1.0
        products = sum(microseconds(e) for e in events if PRODUCTS.search(e.key))
        lines.append({"row": name, "what": "all", "calls": sum(e.count for e in events), "us": total})
        lines.append({"row": name, "what": "products", "calls": None, "us": products})
        for event in sorted(events, key=microseconds, reverse=True)[:20]:
            of_event = {"what": event.key[:100], "calls": event.count, "us": microseconds(event)}
            lines.append({"row": name} | of_event)
    return lines


def train_rows(
    device: torch.device, seconds: float, base: Path, recorded: bool, after: Callable[[], Any] = lambda: None
) -> None:
    """The rows that are not finished, one after the other; what a row does not need the next ones have.

    ``after`` is called after each.
    """
    end = time.monotonic() + seconds
    found = plan.jobs(TRAINED, (0,), base=base)
    for number, job in enumerate(found):
        share = max(0.0, end - time.monotonic()) / (len(found) - number)
        queue.work([job], device, hours=share / 3600, base=base, recorded=recorded)
        after()


def small_rows() -> None:
    """Let the paper's rows be short and narrow, and of the stand-ins."""
    for name in paper.QUEUE:
        row = paper.get(name)
        if isinstance(row, paper.Row) and row.family in (*STAND_INS, "sinusoid"):
            tests = tuple(dataclasses.replace(test, tasks=4, queries=1) for test in row.evaluations[:1])
            small = dataclasses.replace(
                row.at("quick"), family=STAND_INS.get(row.family, row.family), meta_batch_size=2, queries=1
            )
            paper.ROWS[name] = dataclasses.replace(
                small, iterations=min(2, row.iterations), evaluations=tests
            )


def new_files(since: float, out: Path) -> list[str]:
    """Copy what is new in ``data/``; returns the names."""
    data = places.repository() / "data"
    parts = ("benchmarks", "partial", "results")
    found = [p for part in parts for p in sorted((data / part).rglob("*")) if p.is_file()]
    for path in (found := [p for p in found if p.stat().st_mtime >= since]):
        target = out / "data" / path.relative_to(data)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return [str(path.relative_to(data)) for path in found]


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for all that was found")
    parser.add_argument("--seconds", type=float, required=True, help="of all together")
    parser.add_argument(
        "--dry-run", action="store_true", help="small shapes on the CPU, into an empty repository"
    )
    options = parser.parse_args(words)
    start, since = time.monotonic(), time.time()
    left = lambda: options.seconds - (time.monotonic() - start)
    failed: list[str] = []
    try:
        (options.out / "runs").mkdir(parents=True, exist_ok=True)
        device = devices.set_up("cpu" if options.dry_run else "cuda")
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error
    with ExitStack() as stack:
        if options.dry_run:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            stack.callback(setattr, places, "repository", places.repository)
            stack.callback(paper.ROWS.update, dict(paper.ROWS))
            places.repository = lambda: place
            small_rows()
        origin = folders.provenance(devices.described(device))
        repeats, window = (1, 2) if options.dry_run else (7, WINDOW)

        def part(name: str, measure: Callable[[], Lines]) -> Lines:
            if left() < 0:
                failed.append(f"{name}: left out, since the {options.seconds:g} seconds are over")
                print(failed[-1], file=sys.stderr)
                return []
            try:
                lines = measure()
                keep("", device, name, lines, origin)
                return lines
            except Exception:  # the time is lent: the next part comes
                failed.append(f"{name}: {traceback.format_exc()}")
                print(failed[-1], file=sys.stderr)
                return []
            finally:
                new_files(since, options.out)

        right = part("checks", lambda: checks(device))
        recorded = bool(right) and holds(right)
        part("time", lambda: [line for shape in SHAPES for line in compare(shape, device, repeats)])
        part("iterations", lambda: iterations(device, window))
        part("profile", lambda: profiles(device))
        train_rows(device, left(), options.out / "runs", recorded, lambda: new_files(since, options.out))
        (options.out / "failed.txt").write_text("\n".join(failed), encoding="utf-8")
        print(*new_files(since, options.out), sep="\n")


if __name__ == "__main__":
    main()
