"""The optimiser that is an LSTM, trained, and tested beside rules with tuned rates.

Andrychowicz et al. (2016). All rules meet the same test problems, and none is chosen on them.
"""

__all__ = [
    "RATES",
    "RULES",
    "SETTINGS",
    "STEPS",
    "TUNING",
    "Setting",
    "best_rates",
    "folder",
    "log_losses",
    "median",
    "tests_of",
    "train",
    "tune",
]

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator

from mamlkit import places
from mamlkit.engine.threads import one_thread
from mamlkit.maml import Params
from mamlkit.measures import Z95
from mamlkit.methods import learned_optimiser
from mamlkit.methods.learned_optimiser import RULES, Rule, descend
from mamlkit.runs.seeds import generator
from mamlkit.tasks.objectives import Objectives, glyph_networks, quadratics

STEPS, SEGMENT = 100, 20  # of a problem in training; through which one gradient goes
OUTER_LR = 1e-3
RATES = tuple(10 ** (k / 4) for k in range(-16, 5))  # 0.0001 to 10
TUNING = 64  # validation problems


@dataclass(frozen=True)
class Setting:
    """What is optimised, and how the LSTM sees it.

    Args:
        draw: ``(generator, problems, split, **options) -> Objectives``.
        together: problems in one gradient of the LSTM.
        tests: test problems.
        scale, p: see :func:`mamlkit.methods.learned_optimiser.learned`.
        others: problems that nothing was trained or tuned for, by their name: options of ``draw``.
    """

    draw: Callable[..., Objectives]
    together: int
    tests: int
    scale: float = 1.0
    p: float | None = None
    others: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    def rule(self, phi: Params) -> Rule:
        """The rule with these parameters."""
        return learned_optimiser.learned(phi, scale=self.scale, p=self.p)


def _quadratics(seeded: Generator, problems: int, split: str, **options: Any) -> Objectives:
    return quadratics(seeded, problems, **options)  # the splits share one distribution


def _networks(seeded: Generator, problems: int, split: str, **options: Any) -> Objectives:
    return glyph_networks(seeded, problems, split=split, **options)


SETTINGS: dict[str, Setting] = {
    "quadratics": Setting(
        _quadratics, together=128, tests=1000, others={"W and y between 0 and 1": {"uniform": True}}
    ),
    "networks": Setting(
        _networks,
        together=1,
        tests=20,
        scale=0.1,
        p=10.0,
        others={"40 hidden units": {"hidden": 40}, "ReLU": {"activation": torch.relu}},
    ),
}


def train(
    setting: Setting, seed: int, epochs: int, after: Callable[[], Any] = lambda: None
) -> tuple[Params, list[float]]:
    """The LSTM after some epochs, each on fresh problems: five updates by Adam, each through 20 steps.

    Nothing is chosen on validation problems: the last parameters are taken.

    Args:
        setting: what is optimised.
        seed: of the first parameters and of the problems.
        epochs: how many; the authors' code has 10,000.
        after: called after each.

    Returns:
        phi, and for each epoch the mean loss of its problems after their last step.
    """
    phi = learned_optimiser.init(generator(seed, "init"), inputs=1 if setting.p is None else 2)
    phi = {name: value.requires_grad_() for name, value in phi.items()}
    optimiser = torch.optim.Adam(phi.values(), lr=OUTER_LR)
    rule, log = setting.rule(phi), []
    for epoch in range(epochs):
        objectives = setting.draw(generator(seed, "train", epoch), setting.together, "train")
        theta, state = objectives.start, rule.begin(objectives.start)
        for first in range(0, STEPS, SEGMENT):
            losses, (theta, state) = learned_optimiser.unroll(
                rule, objectives.loss, theta, state, range(first, first + SEGMENT)
            )
            optimiser.zero_grad()
            losses.mean(1).sum().backward()
            optimiser.step()
            theta, state = theta.detach(), tuple(part.detach() for part in state)
        log.append(float(losses[-1].detach().mean()))
        after()
    return {name: value.detach() for name, value in phi.items()}, log


def log_losses(rule: Rule, objectives: Objectives, steps: int = STEPS) -> np.ndarray:
    """log10 of the true losses along a descent ``[steps + 1, problems]``; infinite where it diverged."""
    with one_thread():
        losses = descend(rule, objectives, steps).numpy().astype(float)
    return np.log10(np.where(np.isfinite(losses), losses, np.inf))


def tune(setting: Setting) -> dict[str, list[float]]:
    """For each usual rule the mean log10 loss of validation problems after 100 steps, at each of RATES."""
    objectives = setting.draw(generator(0, "validate"), TUNING, "val")
    return {
        name: [float(log_losses(make(rate), objectives)[-1].mean()) for rate in RATES]
        for name, make in RULES.items()
    }


def best_rates(scores: dict[str, list[float]]) -> dict[str, float]:
    """The rate of each rule with the least score."""
    return {name: RATES[int(np.argmin(values))] for name, values in scores.items()}


def tests_of(setting: Setting, problems: int, **options: Any) -> Objectives:
    """So many test problems, the same for all rules; options say which others."""
    return setting.draw(generator(0, "test"), problems, "test", **options)


def median(values: np.ndarray) -> tuple[float, float, float]:
    """The median over problems and its 95 % interval, from ranks; what diverged counts as infinite.

    A mean would hang on the few problems that a rule by hand does not survive.

    >>> median(np.arange(100.0))
    (49.5, 39.0, 60.0)
    """
    ranked, half = np.sort(values), Z95 * math.sqrt(len(values)) / 2
    low, high = math.floor(len(values) / 2 - half), math.ceil(len(values) / 2 + half)
    return float(np.median(ranked)), float(ranked[max(low - 1, 0)]), float(ranked[min(high, len(ranked) - 1)])


def folder(name: str) -> Path:
    """Where the committed results of a setting lie."""
    return places.repository() / "data" / "learned-optimiser" / name
