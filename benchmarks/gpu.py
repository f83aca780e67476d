"""All that a GPU is asked for, in one call, on a machine that is lent for minutes and has no network.

    python benchmarks/gpu.py --out found --seconds 500
    python benchmarks/gpu.py --out found --seconds 500 --part checks --part train   # in a later call
    python benchmarks/gpu.py --out found --seconds 60 --dry-run   # small shapes, on the CPU

It checks the meta-gradients, finds the form of convolutions that is fastest on each shape (``tune``), times
meta-gradients beside other libraries', times recorded iterations beside plain ones, takes a profile of both,
and trains the paper's rows, cheap before dear, in the time that is left. All but ``tune`` uses the forms that
won there, in this call or an earlier one, by the table in ``data/benchmarks/cuda``. What fails, a shape or a
row, is noted, and the next one begins; what would begin after the time is over is left out. New files of
``data/`` are packed into OUT/found.tar.gz after each part and each row, with what has failed: take it home,
unpack it in the clone, and commit.

It needs PyTorch, the packages that ``mamlkit`` names and no network; MuJoCo may be missing, since no robot
is trained here. MAMLKIT_COMMIT names the commit of a copy without .git. Nothing but the dry run was ever run,
which has a GPU's loops on the CPU. The parts are in ``gpu_parts.py`` and ``gpu_profile.py``.
"""

import argparse
import dataclasses
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import gpu_parts
import gpu_profile
import torch
from gpu_parts import Failures, Lines
from meta_gradient import compare, keep
from problems import STAND_INS

from mamlkit import files, places
from mamlkit.engine import convolutions, kernels_torch, meta_batch
from mamlkit.experiments import paper
from mamlkit.runs import devices, folders, plan, queue

TRAINED = "*-*way-*shot"  # rows that are trained: Table 1, in the order of the queue
PARTS = ("checks", "tune", "time", "iterations", "profile", "train")
WINDOW = 100  # iterations between two looks


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
            gpu_parts.use_best(job.row.name, device)
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
        stack.callback(convolutions.use, convolutions.DEFAULT)
        if options.dry_run:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            stack.callback(setattr, places, "repository", places.repository)
            stack.callback(paper.ROWS.update, dict(paper.ROWS))
            places.repository = lambda: place
            small_rows()
            stack.enter_context(patch.object(meta_batch, "_kernels", lambda device: kernels_torch))
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
                    forms = {"convolutions": gpu_parts.winners(device)}
                    keep("", device, name, lines, origin | forms)
            pack()
            return lines

        try:
            recorded = gpu_parts.holds(part("checks", lambda: gpu_parts.checks(device, failed)))
            part("tune", lambda: gpu_parts.tune(device, window, recorded, failed))
            for shape, row in gpu_parts.SHAPES.items():
                gpu_parts.use_best(row, device)
                part("time", lambda shape=shape: compare(shape, device, repeats))
            part("iterations", lambda: gpu_parts.iterations(device, window, recorded, failed))
            part("profile", lambda: gpu_profile.profiles(device, recorded, failed))
            if "train" in wanted:
                train_rows(device, left(), options.out / "runs", recorded, failed, pack)
        finally:
            print(*pack(), sep="\n")


if __name__ == "__main__":
    main()
