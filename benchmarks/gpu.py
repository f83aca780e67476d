"""All that a GPU is asked for, in one call, on a machine that is lent for minutes and has no network.

    python benchmarks/gpu.py --out found --seconds 500
    python benchmarks/gpu.py --out found --seconds 500 --part checks --part train   # in a later call
    python benchmarks/gpu.py --out found --seconds 60 --dry-run   # small shapes, on the CPU

It checks the meta-gradients, times them beside other libraries', times recorded iterations beside plain ones,
takes a profile, and trains the paper's rows, cheap before dear, in the time that is left. What fails, a shape
or a row, is noted, and the next one begins; what would begin after the time is over is left out. New files of
``data/`` are packed into OUT/found.tar.gz after each part and each row, with what has failed: take it home,
unpack it in the clone, and commit.

It needs PyTorch, the packages that ``mamlkit`` names and no network; MuJoCo may be missing, since no robot
is trained here. MAMLKIT_COMMIT names the commit of a copy without .git. Nothing but the dry run was ever run.
"""

import argparse
import dataclasses
import math
import re
import sys
import tarfile
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from meta_gradient import compare, keep
from problems import SHAPES, STAND_INS, problem, timed
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from mamlkit import files, methods, places
from mamlkit.engine import meta_batch
from mamlkit.experiments import paper
from mamlkit.maml import Params, Task
from mamlkit.runs import devices, folders, plan, queue, train
from mamlkit.tasks.bank import ClassBank
from mamlkit.tasks.images import ImageTasks

TIMED = tuple(SHAPES.values())  # rows whose iterations are timed and profiled
TRAINED = "*-*way-*shot"  # rows that are trained: Table 1, in the order of the queue
EXACT = 1e-9  # largest relative difference in float64
# Of what three iterations move, the largest part by which recorded ones may go elsewhere in float32. Adam's
# first steps are of one size whatever the gradient: rounding gives some per cent, a wrong batch all of it.
CLOSE = 0.3
PARTS = ("checks", "time", "iterations", "profile", "train")
WINDOW = 100  # iterations between two looks
DRAWINGS = 20  # of a class of noise
PRODUCTS = re.compile(r"gemm|cutlass|bmm|conv", re.I)  # kernels that are matrix products, by their names

Lines = list[dict[str, Any]]


class Failures(list[str]):
    """What did not go through, in words, with its traceback."""

    @contextmanager
    def noted(self, what: str) -> Iterator[None]:
        """The time is lent: whatever happens within, the next thing comes."""
        try:
            yield
        except (Exception, SystemExit):
            self.append(f"{what}: {traceback.format_exc()}")
            print(self[-1], file=sys.stderr)
            if torch.cuda.is_available():  # a recording that fails leaves its own stream behind
                torch.cuda.set_stream(torch.cuda.default_stream())


def distance(found: Params, wanted: Params) -> float:
    flat = lambda params: torch.cat([params[name].double().cpu().flatten() for name in wanted])
    return float((flat(found) - flat(wanted)).norm() / flat(wanted).norm())


def checks(device: torch.device, failed: Failures) -> Lines:
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
        lines.append(
            {"shape": shape} | apart | {"recorded, from plain": recorded_from_plain(name, device, failed)}
        )
    return lines


def recorded_from_plain(name: str, device: torch.device, failed: Failures) -> float:
    """Distance of parameters after three iterations, as a part of the way; NaN where none can be recorded."""
    with failed.noted(f"a recording of {name}"):
        plain, recorded = (begun(name, device, kind) for kind in (False, True))
        start = {key: value.detach().clone() for key, value in plain.params.items()}
        for iteration in range(3):
            plain.step(iteration)
            recorded.step(iteration)
        way = lambda of: {key: of.params[key].detach() - value for key, value in start.items()}
        return distance(way(recorded), way(plain))
    return math.nan


def holds(lines: Lines) -> bool:
    """Whether recorded iterations can be trusted; a wrong gradient ends everything."""
    if any(not line["float64, from the CPU"] < EXACT for line in lines):
        raise SystemExit(f"meta-gradients are wrong here, so nothing is trained: {lines}")
    return bool(lines) and all(line["recorded, from plain"] < CLOSE for line in lines)


def begun(name: str, device: torch.device, recorded: bool) -> train.Training:
    """The training of a row on stand-ins of its images, so that no data is needed.

    Pictures that are drawn as they are asked for give way to noise of the same size on the device, or their
    drawing would be what is timed.
    """
    row = paper.get(name)
    row = dataclasses.replace(row, family=STAND_INS.get(row.family, row.family), evaluations=())
    training = train.begin(row, 0, device, validate=False, recorded=recorded)
    family = getattr(training, "family", None)
    if isinstance(family, ImageTasks) and not isinstance(family.bank, ClassBank):
        classes, _, *picture = family.bank.shape
        draw = torch.Generator().manual_seed(0)
        noise = torch.randint(256, (classes, DRAWINGS, *picture), generator=draw, dtype=torch.uint8)
        bank = ClassBank(noise, tuple(map(str, range(classes)))).to(device)
        training.family = dataclasses.replace(family, bank=bank)
        if recorded:
            training.images = training.family
    return training


def iterations(device: torch.device, window: int, recorded: bool, failed: Failures) -> Lines:
    """Milliseconds of an iteration, plain and, where that can be, recorded, over a window without a look."""
    lines = []
    for name in TIMED:
        for kind in (False, True)[: 1 + recorded]:
            with failed.noted(f"iterations of {name}, {'recorded' if kind else 'plain'}"):
                training = begun(name, device, kind)
                run = lambda training=training: [training.step(i) for i in range(window)]
                run()
                seconds = min(timed(run, device)[0] for _ in range(2))
                lines.append({"row": name, "recorded": kind, "ms": 1e3 * seconds / window})
    return lines


def profiles(device: torch.device, failed: Failures) -> Lines:
    """Functions of one plain iteration of each row by their time, and what share of it are products."""
    lines = []
    of_gpu = device.type == "cuda"
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if of_gpu else [])]
    microseconds = lambda e: e.self_device_time_total if of_gpu else e.self_cpu_time_total
    for name in TIMED:
        with failed.noted(f"a profile of {name}"):
            training = begun(name, device, recorded=False)
            training.step(0)
            with profile(activities=kinds) as found:
                timed(lambda training=training: training.step(1), device)
            # what the GPU does itself: who asks for it has the same time, and so has a named part
            events = [e for e in found.key_averages() if not of_gpu or of_kernel(e)]
            total = sum(map(microseconds, events)) or 1.0
            products = sum(microseconds(e) for e in events if PRODUCTS.search(e.key))
            lines.append({"row": name, "what": "all", "calls": sum(e.count for e in events), "us": total})
            lines.append({"row": name, "what": "products", "calls": None, "us": products})
            for event in sorted(events, key=microseconds, reverse=True)[:20]:
                of_event = {"what": event.key[:100], "calls": event.count, "us": microseconds(event)}
                lines.append({"row": name} | of_event)
    return lines


def of_kernel(event: Any) -> bool:
    """Whether an event of a profile is the GPU's own work."""
    return event.device_type == DeviceType.CUDA and not event.is_user_annotation


def train_rows(
    device: torch.device,
    seconds: float,
    base: Path,
    recorded: bool,
    failed: Failures,
    after: Callable[[], Any] = lambda: None,
) -> None:
    """The rows that are not finished, one after the other; what a row does not need the next ones have.

    ``after`` is called after each.
    """
    end = time.monotonic() + seconds
    found = plan.jobs(TRAINED, (0,), base=base)
    for number, job in enumerate(found):
        share = max(0.0, end - time.monotonic()) / (len(found) - number)
        try:
            failed += queue.work([job], device, hours=share / 3600, base=base, recorded=recorded)
        finally:
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


def new_files(since: float, out: Path, failed: Failures) -> list[str]:
    """Pack what is new in ``data/``, and what has failed; returns the names."""
    data = places.repository() / "data"
    parts = ("benchmarks", "partial", "results")
    found = [p for part in parts for p in sorted((data / part).rglob("*")) if p.is_file()]
    found = [p for p in found if p.stat().st_mtime >= since]
    (out / "failed.txt").write_text("\n".join(failed), encoding="utf-8")
    with files.replacing(out / "found.tar.gz") as place, tarfile.open(place, "w:gz") as packed:
        packed.add(out / "failed.txt", "failed.txt")
        for path in found:
            packed.add(path, str(Path("data") / path.relative_to(data)))
    return [str(path.relative_to(data)) for path in found]


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for all that was found")
    parser.add_argument("--seconds", type=float, required=True, help="of all together")
    parser.add_argument(
        "--dry-run", action="store_true", help="small shapes on the CPU, into an empty repository"
    )
    parser.add_argument(
        "--part",
        choices=PARTS,
        action="append",
        help="only this (may be given again); checks are always made",
    )
    options = parser.parse_args(words)
    start, since = time.monotonic(), time.time()
    left = lambda: options.seconds - (time.monotonic() - start)
    failed, wanted = Failures(), {"checks", *(options.part or PARTS)}
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

        pack = lambda: new_files(since, options.out, failed)

        def part(name: str, measure: Callable[[], Lines]) -> Lines:
            lines: Lines = []
            if name not in wanted:
                return lines
            if left() < 0:
                failed.append(f"{name}: left out, since the {options.seconds:g} seconds are over")
                print(failed[-1], file=sys.stderr)
                return lines
            with failed.noted(name):
                if lines := measure():
                    keep("", device, name, lines, origin)
            pack()
            return lines

        try:
            recorded = holds(part("checks", lambda: checks(device, failed)))
            for shape in SHAPES:
                part("time", lambda shape=shape: compare(shape, device, repeats))
            part("iterations", lambda: iterations(device, window, recorded, failed))
            part("profile", lambda: profiles(device, failed))
            if "train" in wanted:
                train_rows(device, left(), options.out / "runs", recorded, failed, pack)
        finally:
            print(*pack(), sep="\n")


if __name__ == "__main__":
    main()
