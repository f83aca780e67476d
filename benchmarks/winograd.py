"""Winograd's convolutions beside the engine's: time and error of each, and of a whole meta-gradient.

    python benchmarks/winograd.py          # two minutes
    python benchmarks/winograd.py --save   # kept under data/benchmarks/winograd

The shapes are those of Mini-ImageNet's network, with the images of a task: 5 to adapt, 75 queries. Its first
layer, of three channels, and all that does not fit go the engine's way. Both ways take turns in one process,
on one thread, and what counts is its processor time. There is no table unless both give the same
meta-gradient in float64.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from kept import keep
from problems import CLOCK, MINI, in_turns, problem
from torch import Tensor
from winograd_loops import convolved, correlated
from winograd_tiles import places

from mamlkit import methods
from mamlkit.engine import kernels_cpu, kernels_torch, meta_batch
from mamlkit.engine.kernels_cpu.memory import LINE_BYTES, SMALL_BYTES, empty
from mamlkit.engine.kernels_cpu.vectors import LANES
from mamlkit.maml import Params, Task
from mamlkit.models import Window
from mamlkit.runs import devices, folders

FILTERS = 32
SIZES = (42, 21, 10)
IMAGES = (75, 5)
BLOCK = {"product": 24, "weight gradient": 42}  # tiles, what was fastest: multiples of six
DIRECT = {name: getattr(kernels_cpu, name) for name in ("product", "weight_gradient", "input_gradient")}
TOLERANCE = 1e-9  # of meta-gradients, relative, in float64


def fits(window: Window, channels: int, filters: int, lanes: int) -> bool:
    """Whether the loops know a convolution: stride one, whole vectors of inputs and of results."""
    whole = channels % lanes == filters % lanes == 0
    return whole and window.stride == window.before == window.after == 1


def product(x: Tensor, kernel: Tensor, window: Window, out: Tensor | None = None) -> Tensor:
    """As :func:`mamlkit.engine.kernels_cpu.product`."""
    if not fits(window, window.channels, kernel.shape[-1], _lanes(x)):
        return DIRECT["product"](x, kernel, window, out)
    return _convolve(x, kernel, kernel.shape[-1], False, out)


def input_gradient(terms: Sequence[tuple[Tensor, Tensor]], window: Window) -> Tensor:
    """As :func:`mamlkit.engine.kernels_cpu.input_gradient`."""
    if not fits(window, window.channels, terms[0][0].shape[-1], _lanes(terms[0][0])):
        return DIRECT["input_gradient"](terms, window)
    x = None
    for d, kernel in terms:
        x = _convolve(d, kernel, window.channels, True, x)
    return x


def weight_gradient(d: Tensor, x: Tensor, window: Window, out: Tensor | None = None) -> Tensor:
    """As :func:`mamlkit.engine.kernels_cpu.weight_gradient`."""
    channels, filters, lanes = x.shape[-1], d.shape[-1], _lanes(d)
    if not fits(window, channels, filters, lanes):
        return DIRECT["weight_gradient"](d, x, window, out)
    total = empty(x.dtype, len(x), 9 * channels, filters) if out is None else out
    block = BLOCK["weight gradient"]
    scratch = _scratch(x, 16 * block * channels, 16 * block * filters, 16 * channels * filters)
    tiles = places(window.size, x.shape[1])
    arrays = x.numpy(), d.flatten(1, 3).numpy()
    correlated(*arrays, *tiles, block, lanes, *scratch, total.numpy(), out is not None)
    return total


def _lanes(x: Tensor) -> int:
    return LANES[x.numpy().dtype]


def _scratch(x: Tensor, *sizes: int) -> list[np.ndarray]:
    """Arrays that begin at lines of the cache, in one piece of memory that is used again."""
    line = LINE_BYTES // x.element_size()
    sizes = tuple(-(-size // line) * line for size in sizes)
    memory = empty(x.dtype, max(sum(sizes), SMALL_BYTES // x.element_size())).numpy()
    return np.split(memory, np.cumsum(sizes))[: len(sizes)]


def _convolve(x: Tensor, kernel: Tensor, filters: int, turned: bool, out: Tensor | None) -> Tensor:
    channels, block, lanes = x.shape[-1], BLOCK["product"], _lanes(x)
    z = empty(x.dtype, *x.shape[:4], filters) if out is None else out
    sizes = (9 * channels * filters, 16 * channels * filters, 16 * block * channels, 16 * block * filters)
    stripes, u, v, m = _scratch(x, *sizes)
    if channels == filters == lanes:
        m = v  # each sum can go where its row was, which leaves more room in the cache
    kernels = (kernel if kernel.dim() == 3 else kernel[None]).contiguous().numpy()
    tiles = places(x.shape[2], x.shape[1])
    flat = z.view(len(z), -1, filters).numpy()
    convolved(x.numpy(), kernels, turned, *tiles, block, lanes, stripes, u, v, m, flat, out is not None)
    return z


@contextmanager
def in_the_engine() -> Iterator[None]:
    """Winograd's convolutions in place of the engine's."""
    ours = {"product": product, "weight_gradient": weight_gradient, "input_gradient": input_gradient}
    try:
        vars(kernels_cpu).update(ours)
        yield
    finally:
        vars(kernels_cpu).update(DIRECT)


def layer(size: int, images: int, repeats: int) -> list[dict[str, Any]]:
    """A convolution and its two adjoints: milliseconds and relative errors of both ways."""
    window = Window(size=size, channels=FILTERS, stride=1, before=1, after=1, out=size)
    generator = torch.Generator().manual_seed(0)
    random = lambda *shape: torch.randn(1, *shape, generator=generator)
    x, d = (random(images, size, size, FILTERS) for _ in "xd")
    kernel = random(9 * FILTERS, FILTERS)
    calls = {
        "product": (product, (x, kernel, window)),
        "input gradient": (input_gradient, ([(d, kernel)], window)),
        "weight gradient": (weight_gradient, (d, x, window)),
    }
    lines = []
    for what, (ours, arguments) in calls.items():
        name = ours.__name__
        exact = getattr(kernels_torch, name)(*map(_double, arguments))
        off = lambda found, exact=exact: float((found - exact).norm() / exact.norm())
        ways = [partial(DIRECT[name], *arguments), partial(ours, *arguments)]
        errors = [off(way()) for way in ways]
        lines.append(_line(what, size, images, in_turns(ways, x.device, repeats, f"{what}, {size}"), errors))
    return lines


def _double(value: Any) -> Any:
    if isinstance(value, list):
        return [tuple(map(_double, pair)) for pair in value]
    return value.double() if isinstance(value, Tensor) else value


def _line(what: str, size: int, images: int, ms: list[float], errors: list[float]) -> dict[str, Any]:
    measured = dict(zip(("direct ms", "winograd ms", "direct error", "winograd error"), [*ms, *errors]))
    return {"what": what, "pixels": size, "images": images} | measured


def whole(repeats: int) -> dict[str, Any]:
    """Milliseconds of a meta-gradient of Mini-ImageNet 5-way 1-shot, and errors of float32, both ways.

    The errors are of this one meta-batch: see ``accuracy.py`` for what a kink of a ReLU does to them.
    """
    learner, params, batch = problem(MINI, torch.device("cpu"))
    method = methods.maml(learner)
    exact = {name: value.double() for name, value in params.items()}
    doubles = Task(*(tuple(t.double() if t.is_floating_point() else t for t in pair) for pair in batch))
    direct = lambda theta, tasks: meta_batch.meta_gradient(method, theta, tasks)[0]

    def winograd(theta: Params, tasks: Task) -> Params:
        with in_the_engine():
            return direct(theta, tasks)

    wanted, found = (_flat(way(exact, doubles)) for way in (direct, winograd))
    off = lambda gradient: float((gradient - wanted).norm() / wanted.norm())
    if not off(found) < TOLERANCE:
        raise SystemExit(
            f"in float64 the two ways differ by {off(found):.1e}, more than {TOLERANCE}; no table"
        )
    ways: list[Callable[[], Params]] = [partial(way, params, batch) for way in (direct, winograd)]
    errors = [off(_flat(way())) for way in ways]
    ms = in_turns(ways, torch.device("cpu"), repeats, "meta-gradient")
    return _line("meta-gradient", 84, batch.query[1].shape[1], ms, errors)


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
