"""The parts of ``gpu.py`` that measure: checks, forms of convolutions, iterations."""

import dataclasses
import math
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pandas as pd
import torch
from problems import SHAPES, STAND_INS, problem, timed

from mamlkit import methods, places
from mamlkit.engine import convolutions, kernels_cpu, meta_batch
from mamlkit.experiments import paper
from mamlkit.maml import Params, Task
from mamlkit.runs import trainings
from mamlkit.tasks.bank import ClassBank
from mamlkit.tasks.images import ImageTasks

TIMED = tuple(SHAPES.values())  # rows whose iterations are timed and profiled
EXACT = 1e-9  # largest relative difference in float64
# Of what three iterations move, the largest part by which recorded ones may go elsewhere in float32. Adam's
# first steps are of one size whatever the gradient: rounding gives some per cent, a wrong batch all of it.
CLOSE = 0.3
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
    """Meta-gradients against the CPU's in float64, and recorded iterations against plain ones."""
    return [
        {
            "shape": shape,
            "form": use_best(name, device),
            "float64, from the CPU": from_the_cpu(shape, device),
            "recorded, from plain": recorded_from_plain(name, device, failed),
        }
        for shape, name in SHAPES.items()
    ]


def from_the_cpu(shape: str, device: torch.device) -> float:
    """Distance of the device's meta-gradient, in float64, from the one by the CPU's own loops."""
    learner, params, batch = problem(shape, torch.device("cpu"))
    method = methods.maml(learner)
    exact = lambda t, where: t[:2].to(where, torch.float64 if t.is_floating_point() else t.dtype)

    def gradient(where: str | torch.device) -> Params:
        theta = {key: value.to(where, torch.float64) for key, value in params.items()}
        tasks = Task(*(tuple(exact(t, where) for t in pair) for pair in batch))
        return meta_batch.meta_gradient(method, theta, tasks)[0]

    found = gradient(device)
    # a dry run has a GPU's loops on the CPU, so its own are named here
    with patch.object(meta_batch, "_kernels", lambda device: kernels_cpu):
        return distance(found, gradient("cpu"))


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
    training = begun(name, device, recorded)
    run = lambda: [training.step(i) for i in range(window)]
    run()
    return 1e3 * min(timed(run, device)[0] for _ in range(2)) / window


def iterations(device: torch.device, window: int, recorded: bool, failed: Failures) -> Lines:
    """Milliseconds of an iteration, plain and, where that can be, recorded."""
    lines = []
    for name in TIMED:
        form = use_best(name, device)
        for kind in (False, True)[: 1 + recorded]:
            with failed.noted(f"iterations of {name}, {'recorded' if kind else 'plain'}"):
                ms = iteration_ms(name, device, window, kind)
                lines.append({"row": name, "form": form, "recorded": kind, "ms": ms})
    return lines


def tune(device: torch.device, window: int, recorded: bool, failed: Failures) -> Lines:
    """Milliseconds of an iteration with each form of a convolution, and which wins on a shape.

    Iterations are those of a training: recorded, where that can be. A form whose meta-gradient is wrong here
    takes no part.
    """
    lines = []
    for shape, name in SHAPES.items():
        if problem(shape, torch.device("cpu"), 1)[0].model.layers[0].window is None:
            continue
        found: Lines = []
        for form in convolutions.FORMS:
            with failed.noted(f"{form} convolutions, {shape}"):
                convolutions.use(form)
                off = from_the_cpu(shape, device)
                if not off < EXACT:
                    raise ArithmeticError(f"the meta-gradient is {off:.1e} away from the CPU's; left out")
                ms = iteration_ms(name, device, window, recorded)
                found.append({"shape": shape, "form": form, "ms": ms, "float64, from the CPU": off})
        best = min((line["ms"] for line in found), default=None)
        lines += [line | {"recorded": recorded, "wins": line["ms"] == best} for line in found]
    convolutions.use(convolutions.DEFAULT)
    return lines


def winners(device: torch.device) -> dict[str, str]:
    """The best form of each shape, by the table that :func:`tune` has left in ``data/``."""
    table = places.repository() / "data" / "benchmarks" / device.type / "tune.csv"
    if not table.exists():
        return {}
    lines = pd.read_csv(table)
    return dict(lines.loc[lines.wins, ["shape", "form"]].drop_duplicates("shape").to_numpy().tolist())


def use_best(name: str, device: torch.device) -> str:
    """Use the form that won on the shape of a row, whatever its shots, and name it; else the default."""
    kind = lambda row: (row.family, row.ways, row.network[0])
    forms = {kind(paper.get(SHAPES[shape])): form for shape, form in winners(device).items()}
    row = paper.get(name)
    form = forms.get(kind(row), convolutions.DEFAULT) if isinstance(row, paper.Row) else convolutions.DEFAULT
    convolutions.use(form)
    return form
