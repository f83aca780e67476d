"""The parts of ``gpu.py`` that measure: checks, forms of convolutions, iterations."""

import dataclasses
import json
import math
import sys
import traceback
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from unittest.mock import patch

import pandas as pd
import torch
from problems import SHAPES, STAND_INS, problem, timed

from mamlkit import methods, places
from mamlkit.engine import convolutions, kernels_cpu, meta_batch, passes
from mamlkit.experiments import paper
from mamlkit.maml import Params, Task
from mamlkit.runs import devices, folders, trainings
from mamlkit.tasks.bank import ClassBank
from mamlkit.tasks.images import ImageTasks

TIMED = tuple(SHAPES.values())  # rows whose iterations are timed and profiled
EXACT = 1e-9  # largest relative difference in float64
# Of what three iterations move, the largest part by which recorded ones may go elsewhere in float32. Adam's
# first steps are of one size whatever the gradient: rounding gives some per cent, a wrong batch all of it.
CLOSE = 0.3
ROUNDED = 1e-4  # largest relative difference in float32: TF32 would give some 1e-3
FLOAT64, FLOAT32, RECORDED = "float64, from the CPU", "float32, from float64", "recorded, from plain"
DRAWINGS = 20  # of a class of noise

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
    """Meta-gradients against the CPU's, and recorded iterations against plain ones.

    Recordings come last: after one that failed the device may make no other in this process.
    """
    lines: Lines = []
    for shape, name in SHAPES.items():
        form = use_best(name, device)
        with failed.noted(f"the meta-gradient, {shape}"):
            float64, float32 = from_the_cpu(shape, device)
            lines.append(
                {"shape": shape, "form": form, FLOAT64: float64, FLOAT32: float32, RECORDED: math.nan}
            )
    for line in lines:
        use_best(SHAPES[line["shape"]], device)
        line[RECORDED] = recorded_from_plain(SHAPES[line["shape"]], device, failed)
        if math.isnan(line[RECORDED]) and device.type == "cuda":
            break
    return lines


def from_the_cpu(shape: str, device: torch.device) -> tuple[float, float]:
    """Distance of the device's meta-gradient, in float64 and in float32, from the CPU's in float64."""
    learner, params, batch = problem(shape, torch.device("cpu"))
    method = methods.maml(learner)

    def gradient(where: str | torch.device, dtype: torch.dtype) -> Params:
        exact = lambda t: t[:2].to(where, dtype if t.is_floating_point() else t.dtype)
        theta = {key: value.to(where, dtype) for key, value in params.items()}
        tasks = Task(*(tuple(exact(t) for t in pair) for pair in batch))
        return meta_batch.meta_gradient(method, theta, tasks)[0]

    found = [gradient(device, dtype) for dtype in (torch.float64, torch.float32)]
    # a dry run has a GPU's loops on the CPU, so its own are named here
    with patch.object(passes, "kernels_of", lambda device: kernels_cpu):
        wanted = gradient("cpu", torch.float64)
    return distance(found[0], wanted), distance(found[1], wanted)


def recorded_from_plain(name: str, device: torch.device, failed: Failures) -> float:
    """Distance of parameters after three iterations, as a part of the way; NaN where none can be recorded."""
    with (
        failed.noted(f"a recording of {name}"),
        closing(begun(name, device, False)) as plain,
        closing(begun(name, device, True)) as recorded,
    ):
        start = {key: value.detach().clone() for key, value in plain.params.items()}
        for iteration in range(3):
            plain.step(iteration)
            recorded.step(iteration)
        way = lambda of: {key: of.params[key].detach() - value for key, value in start.items()}
        return distance(way(recorded), way(plain))
    return math.nan


def refuse_wrong(lines: Lines) -> None:
    """A wrong gradient ends everything, and so does one that could not be made."""
    wrong = [line for line in lines if not (line[FLOAT64] < EXACT and line[FLOAT32] < ROUNDED)]
    if wrong or len(lines) < len(SHAPES):
        raise SystemExit(f"meta-gradients are wrong here, so nothing is trained: {wrong or lines}")


def begun(name: str, device: torch.device, recorded: bool) -> trainings.Training:
    """The training of a row on stand-ins of its images, so that no data is needed.

    Pictures that are drawn as they are asked for give way to noise of the same size on the device, or their
    drawing would be what is timed.
    """
    row = paper.get(name)
    row = dataclasses.replace(row, family=STAND_INS.get(row.family, row.family), evaluations=())
    training = trainings.begin(row, 0, device, validate=False, recorded=recorded)
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


def iteration_ms(name: str, device: torch.device, window: int, recorded: bool) -> float:
    """Milliseconds of an iteration over a window without a look."""
    with closing(begun(name, device, recorded)) as training:
        run = lambda: [training.step(i) for i in range(window)]
        run()
        return 1e3 * min(timed(run, device)[0] for _ in range(2)) / window


def iterations(device: torch.device, window: int, failed: Failures) -> Lines:
    """Milliseconds of an iteration, plain and, where that can be, recorded."""
    lines = []
    for name in TIMED:
        form = use_best(name, device)
        for kind in (False, True)[: 1 + can_repeat(name, device)]:
            with failed.noted(f"iterations of {name}, {'recorded' if kind else 'plain'}"):
                ms = iteration_ms(name, device, window, kind)
                lines.append({"row": name, "form": form, "recorded": kind, "ms": ms})
    return lines


def tune(device: torch.device, window: int, failed: Failures) -> Lines:
    """Milliseconds of an iteration with each form of a convolution, and which wins on a shape.

    Iterations are those of a training: recorded, where that can be. A form whose meta-gradient is wrong here
    takes no part.
    """
    lines = []
    for shape, name in SHAPES.items():
        if problem(shape, torch.device("cpu"), 1)[0].model.layers[0].window is None:
            continue
        found: Lines = []
        recorded = can_repeat(name, device)
        for form in convolutions.FORMS:
            with failed.noted(f"{form} convolutions, {shape}"):
                convolutions.use(form)
                off, rounded = from_the_cpu(shape, device)
                if not (off < EXACT and rounded < ROUNDED):
                    far = f"{off:.1e} away from the CPU's, in float32 {rounded:.1e}"
                    raise ArithmeticError(f"the meta-gradient is {far}; left out")
                ms = iteration_ms(name, device, window, recorded)
                found.append({"shape": shape, "form": form, "ms": ms, FLOAT64: off, FLOAT32: rounded})
        best = min((line["ms"] for line in found), default=None)
        lines += [line | {"recorded": recorded, "wins": line["ms"] == best} for line in found]
    convolutions.use(convolutions.DEFAULT)
    return lines


def kept_table(name: str, device: torch.device) -> Lines:
    """What an earlier part has left in ``data/``; nothing where it has not."""
    table = places.repository() / "data" / "benchmarks" / device.type / f"{name}.csv"
    return pd.read_csv(table).to_dict("records") if table.exists() else []


def unchecked(device: torch.device) -> bool:
    """Whether there are no checks of this commit on this kind of device."""
    origin = places.repository() / "data" / "benchmarks" / device.type / "origin.json"
    found = json.loads(origin.read_text(encoding="utf-8")) if origin.exists() else {}
    here = folders.provenance(devices.described(device))
    return any(found.get("checks", {}).get(key) != here[key] for key in ("commit", "device", "versions"))


def can_repeat(name: str, device: torch.device) -> bool:
    """Whether recorded iterations of a row's shape can be trusted, by the table of :func:`checks`."""
    right = {line["shape"]: line[RECORDED] < CLOSE for line in kept_table("checks", device)}
    return trainings.can_record(paper.get(name)) and bool(_of_shape(name, right, False))


def winners(device: torch.device) -> dict[str, str]:
    """The best form of each shape, by the table that :func:`tune` has left in ``data/``."""
    best = [line for line in kept_table("tune", device) if line["wins"]]
    return {line["shape"]: line["form"] for line in reversed(best)}  # of equal ones the first


def use_best(name: str, device: torch.device) -> str:
    """Use the form that won on the shape of a row, whatever its shots, and name it; else the default."""
    form = _of_shape(name, winners(device), convolutions.DEFAULT)
    convolutions.use(form)
    return form


def _of_shape(name: str, found: dict[str, Any], otherwise: Any) -> Any:
    """What was found of the shape of a row, whatever its shots."""
    kind = lambda row: (row.family, row.ways, row.network[0])
    of_kinds = {kind(paper.get(SHAPES[shape])): value for shape, value in found.items() if shape in SHAPES}
    row = paper.get(name)
    return of_kinds.get(kind(row), otherwise) if isinstance(row, paper.Row) else otherwise
