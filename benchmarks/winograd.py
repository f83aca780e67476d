"""Winograd's convolutions beside the direct form: time and error of each, and of a whole meta-gradient.

    python benchmarks/winograd.py          # two minutes
    python benchmarks/winograd.py --save   # kept under data/benchmarks/winograd

The shapes are those of Mini-ImageNet's network, with the images of a task: 5 to adapt, 75 queries. Its first
layer, of three channels, and all else that Winograd's form is not for is direct in both. Both ways take turns
in one process, on one thread, and what counts is its processor time. There is no table unless both give the
same meta-gradient in float64. Errors of meta-gradients in float32 are in ``accuracy.py``: what a kink of a
ReLU does to one meta-batch says nothing of either way.
"""

import argparse
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import patch

import pandas as pd
import torch
from kept import keep
from problems import CLOCK, MINI, in_turns, problem
from torch import Tensor

from mamlkit import methods
from mamlkit.engine import kernels_cpu, kernels_torch, meta_batch
from mamlkit.engine.kernels_cpu import winograd
from mamlkit.maml import Params, Task
from mamlkit.models import Window
from mamlkit.runs import devices, folders

FILTERS = 32
SIZES = (42, 21, 10)
IMAGES = (75, 5)
NAMES = ("product", "input_gradient", "weight_gradient")
TOLERANCE = 1e-9  # of meta-gradients, relative, in float64

Way = Callable[[], Any]


def directly(way: Way) -> Way:
    """The same without Winograd's convolutions."""

    def direct() -> Any:
        with patch.object(winograd, "is_for", lambda *_: False):
            return way()

    return direct


def layer(size: int, images: int, repeats: int) -> list[dict[str, Any]]:
    """A convolution and its two adjoints: milliseconds and relative errors of both ways."""
    window = Window(size=size, channels=FILTERS, stride=1, before=1, after=1, out=size)
    generator = torch.Generator().manual_seed(0)
    random = lambda *shape: torch.randn(1, *shape, generator=generator)
    x, d = (random(images, size, size, FILTERS) for _ in "xd")
    kernel = random(9 * FILTERS, FILTERS)
    arguments = (x, kernel, window), ([(d, kernel)], window), (d, x, window)
    lines = []
    for name, given in zip(NAMES, arguments):
        exact = getattr(kernels_torch, name)(*map(_double, given))
        off = lambda found, exact=exact: float((found - exact).norm() / exact.norm())
        ours = partial(getattr(kernels_cpu, name), *given)
        ways, what = _both(ours), name.replace("_", " ")
        errors = [off(way()) for way in ways]
        lines.append(_line(what, size, images, in_turns(ways, x.device, repeats, f"{what}, {size}"), errors))
    return lines


def _double(value: Any) -> Any:
    if isinstance(value, list):
        return [tuple(map(_double, pair)) for pair in value]
    return value.double() if isinstance(value, Tensor) else value


def _both(way: Way) -> list[Way]:
    return [directly(way), way]


def _line(what: str, size: int, images: int, ms: list[float], errors: list[float]) -> dict[str, Any]:
    measured = dict(zip(("direct ms", "winograd ms", "direct error", "winograd error"), [*ms, *errors]))
    return {"what": what, "pixels": size, "images": images} | measured


def whole(repeats: int) -> dict[str, Any]:
    """Milliseconds of a meta-gradient of Mini-ImageNet 5-way 1-shot, both ways."""
    learner, params, batch = problem(MINI, torch.device("cpu"))
    method = methods.maml(learner)
    exact = {name: value.double() for name, value in params.items()}
    doubles = Task(*(tuple(t.double() if t.is_floating_point() else t for t in pair) for pair in batch))
    gradient = lambda theta, tasks: meta_batch.meta_gradient(method, theta, tasks)[0]
    wanted, found = (_flat(way()) for way in _both(partial(gradient, exact, doubles)))
    off = lambda gradient: float((gradient - wanted).norm() / wanted.norm())
    if not off(found) < TOLERANCE:
        raise SystemExit(
            f"in float64 the two ways differ by {off(found):.1e}, more than {TOLERANCE}; no table"
        )
    ways = _both(partial(gradient, params, batch))
    ms = in_turns(ways, torch.device("cpu"), repeats, "meta-gradient")
    return _line("meta-gradient", 84, batch.query[1].shape[1], ms, [math.nan, math.nan])


def _flat(gradient: Params) -> Tensor:
    return torch.cat([value.double().flatten() for value in gradient.values()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--save", action="store_true", help="keep the table under data/benchmarks/winograd")
    options = parser.parse_args()
    CLOCK[0] = time.process_time
    devices.set_up("cpu", threads=1)
    origin = folders.provenance("1 thread, processor time") | {"repeats": options.repeats}
    lines = [line for size in SIZES for n in IMAGES for line in layer(size, n, options.repeats)]
    table = pd.DataFrame([*lines, whole(options.repeats)])
    print(table.to_string(index=False, float_format="%.3g"))
    if options.save:
        keep("winograd", "time", table, origin, "%.4g")


if __name__ == "__main__":
    main()
