"""All that a GPU is asked for, in one call, on a machine that is lent for minutes and has no network.

    timeout -s INT 540 python benchmarks/gpu.py --out found --seconds 500
    python benchmarks/gpu.py --out found --seconds 500 --part train --only 'omniglot-20way-*'  # a later call
    python benchmarks/gpu.py --take found/found.tar.gz            # at home
    python benchmarks/gpu.py --out found --seconds 60 --dry-run   # small shapes, on the CPU

It checks the meta-gradients, finds the form of convolutions that is fastest on each shape (``tune``), times
meta-gradients beside other libraries', times recorded iterations beside plain ones, takes a profile of both,
and trains the paper's rows, cheap before dear, in the time that is left. All but ``tune`` uses the forms that
won there, in this call or an earlier one, by the table in ``data/benchmarks/cuda``; a shape is recorded where
its recording was right, by the table beside it. Each part, and the training of each row, has a process of its
own: what a failed recording leaves behind ends with it. What fails is noted, and the next one begins; what
would begin after the time is over is left out, and what is under way then is interrupted. New files of
``data/`` are packed into OUT/found.tar.gz after each part and each row, with what has failed. ``--take``
brings them into the clone, but for states and results that have come less far than those that are there.

It needs PyTorch, NumPy, SciPy, pandas, Numba, safetensors, tqdm and Pillow, and no network. Rows of a data
set are trained where ``MAMLKIT_DATA`` has it; all else goes by stand-ins. MAMLKIT_COMMIT names the commit of
a copy without .git. Nothing but the dry run was ever run, which has a GPU's loops on the CPU, in one process.
The parts are in ``gpu_parts.py`` and ``gpu_profile.py``, packing is in ``gpu_packed.py``.
"""

import argparse
import dataclasses
import signal
import subprocess
import sys
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
from gpu_packed import new_files, take
from gpu_parts import Failures, Lines
from meta_gradient import compare, keep
from problems import STAND_INS

from mamlkit import places
from mamlkit.engine import convolutions, kernels_torch, passes
from mamlkit.experiments import paper
from mamlkit.runs import devices, folders, plan, queue

TRAINED = "*-*way-*shot"  # rows that are trained: Table 1, in the order of the queue
PARTS = ("checks", "tune", "time", "iterations", "profile", "train")
WINDOW = 100  # iterations between two looks
GRACE = 20.0  # seconds that a part may take longer than it was given, before it is interrupted


def train_rows(
    device: torch.device,
    seconds: float,
    base: Path,
    failed: Failures,
    *,
    only: str = "",
    plain: bool = False,
    after: Callable[[], Any] = lambda: None,
) -> None:
    """The rows that are not finished, one after the other; what a row does not need the next ones have.

    ``plain`` records none; ``after`` is called after each.
    """
    end = time.monotonic() + seconds
    found = plan.jobs(only or TRAINED, (0,), base=base)
    for number, job in enumerate(found):
        share = max(0.0, end - time.monotonic()) / (len(found) - number)
        recorded = not plain and gpu_parts.can_repeat(job.row.name, device)
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


def apart(options: argparse.Namespace, wanted: set[str]) -> None:
    """Every part in a process of its own, and every row."""
    end, since = time.monotonic() + options.seconds, time.time()
    left = lambda: end - time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    def child(part: str, seconds: float, *more: str) -> int:
        given = ["--out", str(options.out), "--seconds", f"{seconds:.1f}", "--since", str(since)]
        command = [sys.executable, __file__, *given, "--part", part, *more]
        with subprocess.Popen(command, start_new_session=True) as process:
            try:
                return process.wait(seconds + GRACE)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)
                process.wait()
                return 0  # its time is over, which is no failure
            except KeyboardInterrupt:
                process.send_signal(signal.SIGINT)
                process.wait()
                raise

    for part in [name for name in PARTS if name in wanted]:
        if part != "train":
            if left() > 0 and child(part, left()) and part == "checks":
                raise SystemExit("error: the checks have not passed, so nothing else is done")
            continue
        found = plan.jobs(options.only or TRAINED, (0,), base=options.out / "runs")
        for number, job in enumerate(found):
            share = ["--only", job.row.name]
            if left() > 0 and child("train", left() / (len(found) - number), *share) and left() > 0:
                child("train", left() / (len(found) - number), *share, "--plain")


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder for all that was found")
    parser.add_argument("--seconds", type=float, help="of all together")
    parser.add_argument(
        "--take", type=Path, help="a file that was packed elsewhere: bring it into this clone"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="small shapes on the CPU, into an empty repository"
    )
    parser.add_argument(
        "--part",
        choices=PARTS,
        action="append",
        help="only this (may be given again); checks are made first where there are none",
    )
    parser.add_argument("--only", default="", help=f"rows to train, a pattern; {TRAINED} if not given")
    parser.add_argument("--plain", action="store_true", help="train without recordings")
    parser.add_argument("--since", type=float, help=argparse.SUPPRESS)  # of a call whose part this is
    options = parser.parse_args(words)
    if options.take:
        return take(options.take)
    if not options.out or options.seconds is None:
        parser.error("--out and --seconds are needed, or --take")
    try:
        (options.out / "runs").mkdir(parents=True, exist_ok=True)
        device = devices.set_up("cpu" if options.dry_run else "cuda")
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error
    wanted = set(options.part or PARTS)
    if options.dry_run or gpu_parts.unchecked(device):
        wanted.add("checks")
    if options.since is None and not options.dry_run:
        return apart(options, wanted)
    return call(options, device, wanted)


def call(options: argparse.Namespace, device: torch.device, wanted: set[str]) -> None:
    """Parts, in this process."""
    start, since = time.monotonic(), options.since or time.time()
    left = lambda: options.seconds - (time.monotonic() - start)
    failed = Failures()
    if options.since and (before := options.out / "failed.txt").exists():
        failed += filter(None, [before.read_text(encoding="utf-8")])
    with ExitStack() as stack:
        stack.callback(convolutions.use, convolutions.DEFAULT)
        if options.dry_run:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            stack.callback(setattr, places, "repository", places.repository)
            stack.callback(paper.ROWS.update, dict(paper.ROWS))
            places.repository = lambda: place
            small_rows()
            stack.enter_context(patch.object(passes, "kernels_of", lambda device: kernels_torch))
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
            made = part("checks", lambda: gpu_parts.checks(device, failed))
            gpu_parts.refuse_wrong(made if "checks" in wanted else gpu_parts.kept_table("checks", device))
            part("tune", lambda: gpu_parts.tune(device, window, failed))
            for shape, row in gpu_parts.SHAPES.items():
                gpu_parts.use_best(row, device)
                part("time", lambda shape=shape: compare(shape, device, repeats))
            part("iterations", lambda: gpu_parts.iterations(device, window, failed))
            part("profile", lambda: gpu_profile.profiles(device, failed))
            if "train" in wanted:
                before = len(failed)
                how = {"only": options.only, "plain": options.plain, "after": pack}
                train_rows(device, left(), options.out / "runs", failed, **how)
                if options.since and len(failed) > before:
                    raise SystemExit(1)
        finally:
            print(*pack(), sep="\n")


if __name__ == "__main__":
    main()
