"""How far a gradient in float32 is from float64: the engine's beside the plain loop's, over many tasks.

``meta_gradient.py --part accuracy`` asks for it. A unit that lies within rounding of the kink of its ReLU
moves the gradient of its whole task, in any way of computing it. So one task says little, and the worst of
many less.
"""

from typing import Any

import numpy as np
import torch
from problems import MINI, problem
from tqdm import tqdm
from ways import WAYS
from winograd import directly

from mamlkit.maml import Task

TASKS = 100
COMPARED = ("mamlkit", "loop")
QUANTILES = (0.1, 0.5, 0.9, 1.0)


def errors(shape: str, device: torch.device, count: int) -> dict[str, np.ndarray]:
    """Relative errors ``[tasks]`` of each way's gradient of a single task, by way; float64 is the loop's."""
    learner, params, batch = problem(shape, device, count)
    double = lambda t: t.double() if t.is_floating_point() else t
    exact = WAYS["loop"](learner, {name: value.double() for name, value in params.items()})
    ways = {name: WAYS[name](learner, params) for name in COMPARED}
    if shape == MINI:  # the others have no convolution that another form is faster for
        ways["mamlkit, direct"] = lambda task, own=ways["mamlkit"]: directly(lambda: own(task))()
    flat = lambda gradient: torch.cat([gradient[name].double().flatten() for name in params])
    found: dict[str, list[float]] = {name: [] for name in ways}
    for i in tqdm(range(count), desc=f"accuracy, {shape}", leave=False):
        task = Task(*(tuple(t[i : i + 1] for t in pair) for pair in batch))
        wanted = flat(exact(Task(*(tuple(map(double, pair)) for pair in task)))[0])
        for name, way in ways.items():
            found[name].append(float((flat(way(task)[0]) - wanted).norm() / wanted.norm()))
    return {name: np.array(each) for name, each in found.items()}


def accuracy(device: torch.device, shapes: list[str]) -> list[dict[str, Any]]:
    """Quantiles of :func:`errors`, a line for each shape and way."""
    lines = []
    for shape in shapes:
        for name, each in errors(shape, device, TASKS).items():
            quantiles = {f"q{100 * q:g}": float(np.quantile(each, q)) for q in QUANTILES}
            lines.append({"shape": shape, "way": name, "tasks": TASKS} | quantiles)
    return lines
