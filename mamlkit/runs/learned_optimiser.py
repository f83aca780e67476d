"""The optimiser that is an LSTM, trained, and tested beside rules with tuned rates.

Andrychowicz et al. (2016). All rules meet the same test problems, and none is chosen on them.
"""

__all__ = [
    "RATES",
    "RULES",
    "SCORES",
    "SETTINGS",
    "STEPS",
    "TUNING",
    "Setting",
    "best_rates",
    "folder",
    "log_losses",
    "median",
    "over_steps",
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
from mamlkit.tasks.checks import at_least
from mamlkit.tasks.objectives import Objectives, glyph_networks, quadratics

STEPS, SEGMENT = 100, 20  # of a problem in training; through which one gradient goes
OUTER_LR = 1e-3
RATES = tuple(10 ** (k / 4) for k in range(-16, 5))  # 0.0001 to 10
TUNING = 64  # validation problems
FEWEST = 6  # values, of whose median all together are a 95 % interval


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

    Raises:
        ValueError: fewer epochs than none.
    """
    at_least(0, epochs=epochs)
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


def over_steps(logs: np.ndarray) -> np.ndarray:
    """The mean loss over the steps after the first ``[problems]``: what the LSTM is trained to make small.

    Args:
        logs: what :func:`log_losses` gives, of which :data:`STEPS` steps count.
    """
    with np.errstate(over="ignore"):
        return (10 ** logs[1 : STEPS + 1]).mean(0)


# what a rate can be tuned for, by what log_losses gives: its logarithm is to be small
SCORES: dict[str, Callable[[np.ndarray], float]] = {
    "log loss at the end": lambda logs: float(logs[STEPS].mean()),
    "mean loss over the steps": lambda logs: float(np.log10(over_steps(logs).mean())),
}


def tune(
    setting: Setting, score: str = "log loss at the end", problems: int = TUNING
) -> dict[str, list[float]]:
    """For each usual rule the score of validation problems at each of RATES.

    Args:
        setting: what is optimised.
        score: one of :data:`SCORES`.
        problems: how many.

    Raises:
        ValueError: there is no such score, or no problem.
    """
    if score not in SCORES:
        raise ValueError(f"score={score!r}, but it must be one of {', '.join(map(repr, SCORES))}")
    objectives = setting.draw(generator(0, "validate"), problems, "val")
    return {
        name: [SCORES[score](log_losses(make(rate), objectives)) for rate in RATES]
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

    It says how a rule does on most problems, and nothing of the worst, on which a mean hangs.

    Raises:
        ValueError: fewer values than an interval needs.

    >>> median(np.arange(100.0))
    (49.5, 39.0, 60.0)
    """
    if len(values) < FEWEST:
        raise ValueError(f"{len(values)} values came, but a 95 % interval of a median needs {FEWEST}")
    ranked, half = np.sort(values), Z95 * math.sqrt(len(values)) / 2
    low, high = math.floor(len(values) / 2 - half), math.ceil(len(values) / 2 + half)
    return float(np.median(ranked)), float(ranked[max(low - 1, 0)]), float(ranked[min(high, len(ranked) - 1)])


def folder(name: str) -> Path:
    """Where the committed results of a setting lie."""
    return places.repository() / "data" / "learned-optimiser" / name
