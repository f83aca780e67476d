"""Time and memory of one meta-gradient: ours beside what else there is, and the hardware's limit.

    python benchmarks/meta_gradient.py              # time, a table per shape
    python benchmarks/meta_gradient.py --save       # growth, memory and a training too, kept
    python benchmarks/meta_gradient.py --save NAME  # the same under another name, for one more machine
    python benchmarks/meta_gradient.py --save NAME --part time --shape sinusoid  # some lines of a table anew

What is kept lies under ``data/benchmarks/cpu`` (or ``cuda``, or NAME), lines of shapes with the commit that
measured them.

Every way gets the same tensors, threads and process, a turn each, again and again; medians are reported. (A
turn is a call, or as many as a tenth of a second has room for.) No table is printed unless all ways agree in
losses and in the norm of the gradient; the first turn counts for nothing. The limit is the time of the matrix
products alone at the rate of a large batched product measured in the same run, PyTorch's or ours.
"""

import argparse
import json
import sys
import time
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import growth
import pandas as pd
import torch
from accuracy import accuracy
from problems import CLOCK, SHAPES, flops, in_turns, problem, product_rate
from ways import WAYS, Way

from mamlkit import files, places
from mamlkit.maml import Params, Task
from mamlkit.methods import Learner
from mamlkit.runs import devices, folders

TOLERANCE = 1e-4  # relative, in float64
PARTS = ("time", "accuracy", "scaling", "memory", "training")
OF_SHAPES = ("time", "accuracy")  # parts of which a single shape can be measured


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

    Four tasks are enough. The ways are compared in float64, since a float32 that rounds across the kink of a
    ReLU moves the gradient of a whole task: on five steps that is the larger part of the error reported here.
    """
    batch = Task(*(tuple(t[:4] for t in pair) for pair in batch))
    double = lambda t: t.double() if t.is_floating_point() else t
    exact = {k: v.double() for k, v in params.items()}, Task(*(tuple(map(double, pair)) for pair in batch))
    norm = lambda g: float(torch.stack([v.double().square().sum() for v in g.values()]).sum().sqrt())
    wanted, wanted_losses = WAYS["loop"](learner, exact[0])(exact[1])
    found = {}
    for name in names:
        gradient, losses = WAYS[name](learner, exact[0])(exact[1])
        apart = norm({k: gradient[k] - wanted[k] for k in wanted}) / norm(wanted)
        distance = max(apart, float((losses / wanted_losses - 1).abs().max()))
        if not distance < TOLERANCE:
            raise SystemExit(
                f"{shape}: {name} and loop differ by {distance:.1e}, more than {TOLERANCE}; no table"
            )
        single, _ = WAYS[name](learner, params)(batch)
        found[name] = norm({k: single[k].double() - wanted[k] for k in wanted}) / norm(wanted)
    return found


def compare(shape: str, device: torch.device, repeats: int) -> list[dict[str, Any]]:
    """Median milliseconds of every way on a shape, and the limit."""
    learner, params, batch = problem(shape, device)
    ways = importable(list(WAYS), learner, params)
    error = errors(list(ways), learner, params, batch, shape)
    times = in_turns([partial(way, batch) for way in ways.values()], device, repeats, shape)
    lines = [{"shape": shape, "way": name, "ms": ms, "error": error[name]} for name, ms in zip(ways, times)]
    return [
        *lines,
        {
            "shape": shape,
            "way": "matrix-product limit",
            "ms": 1e3 * flops(learner, params, batch) / product_rate(device),
        },
    ]


def tables(lines: list[dict[str, Any]]) -> pd.DataFrame:
    """One line per shape: milliseconds of every way, and how many times the fastest peer's rate ours is."""
    table = (
        pd.DataFrame(lines)
        .pivot(index="shape", columns="way", values="ms")
        .loc[list(dict.fromkeys(line["shape"] for line in lines))]
    )
    peers = [name for name in ("loop", "learn2learn", "higher", "torchopt") if name in table]
    table["fastest peer / mamlkit"] = table[peers].min(axis=1) / table["mamlkit"]
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--busy", action="store_true", help="a CPU has other work: take one thread, and its processor time"
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument(
        "--shape", choices=SHAPES, action="append", help="only this shape (may be given again)"
    )
    parser.add_argument(
        "--save",
        nargs="?",
        const="",
        metavar="NAME",
        help="keep tables under data/benchmarks/NAME, by default the device's",
    )
    parser.add_argument(
        "--part",
        choices=PARTS,
        action="append",
        help="measure only this (may be given again); all with --save, else time",
    )
    options = parser.parse_args()
    parts = options.part or (PARTS if options.save is not None else PARTS[:1])
    if options.shape and not set(parts) <= set(OF_SHAPES):
        parser.error(
            f"--shape is for the parts {', '.join(OF_SHAPES)}; name one with --part, or leave --shape out"
        )
    if options.busy:
        options.device, options.threads, CLOCK[0] = "cpu", 1, time.process_time
    device = devices.set_up(options.device, threads=options.threads)
    where = devices.described(device) + (", processor time" if options.busy else "")
    origin = folders.provenance(where) | {
        "repeats": options.repeats,
        "GFLOP/s": round(product_rate(device) / 1e9),
    }
    origin["versions"] |= {
        name: version for name in ("higher", "torchopt", "learn2learn") if (version := _version(name))
    }
    lines = []
    for part in parts:
        found: dict[str, list[dict[str, Any]]] = {}
        if part == "time":
            for shape in options.shape or SHAPES:
                lines += compare(shape, device, options.repeats)
                print(tables(lines).tail(1).round(2).T.to_string(), "\n", flush=True)
            found["time"] = lines
        elif part == "accuracy":
            found["accuracy"] = accuracy(device, options.shape or list(SHAPES))
        elif part == "scaling":
            found["scaling"] = growth.scaling(device, options.repeats)
            found["chunks"] = growth.chunks(device, options.threads, options.repeats)
        elif part == "memory":
            names = list(importable(list(WAYS), *problem("sinusoid", device)[:2]))
            found["memory"] = growth.memories(names, device.type, options.threads)
            found["memory-scaling"] = growth.memory_scaling(device.type, options.threads)
        else:
            found["training"] = growth.training(device, options.repeats)
        for name, content in found.items():
            keep(options.save, device, name, content, origin)


def keep(
    name: str | None, device: torch.device, table: str, lines: list[dict[str, Any]], origin: dict[str, Any]
) -> None:
    """Write a table and its origin; without a name print it, but for the times, which have been printed.

    Lines of shapes that were not measured now stay, with the commit that they were measured at.
    """
    frame = pd.DataFrame(lines).round({"ms": 3})
    if name is None:
        print("" if table == "time" else frame.to_string(index=False))
        return
    folder = places.repository() / "data" / "benchmarks" / (name or device.type)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "origin.json"
    origins = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if table in OF_SHAPES:
        before = origins.get(table, origin)
        frame = _renewed(frame.assign(commit=_short(origin)), folder / f"{table}.csv", _short(before))
    files.write_text(folder / f"{table}.csv", frame.to_csv(index=False, float_format="%.4g"))
    files.write_json(path, origins | {table: origin})
    print(f"kept {table} in {folder}")


def _short(origin: dict[str, Any]) -> str:
    return origin["commit"][:7] + ("+" if origin["commit"].endswith("+changes") else "")


def _renewed(frame: pd.DataFrame, path: Path, commit: str) -> pd.DataFrame:
    """The lines of a table with those of some shapes replaced, in the order of :data:`SHAPES`.

    ``commit`` is that of a table from before its lines had one.
    """
    before = pd.read_csv(path) if path.exists() else frame[:0]
    before = before if "commit" in before else before.assign(commit=commit)
    every = pd.concat([before[~before["shape"].isin(frame["shape"])], frame])
    return every.sort_values("shape", key=lambda names: names.map(list(SHAPES).index), kind="stable")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
