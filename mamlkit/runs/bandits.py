"""The bandits of a test, and the classical ways to play them; of policies, see :mod:`mamlkit.runs.memory`."""

__all__ = ["bandits_of", "of_strategy"]

import numpy as np
from numpy.typing import NDArray

from mamlkit.experiments.bandits import BanditEvaluation, BanditRow
from mamlkit.rl import bandits
from mamlkit.runs.memory import TEST, number


def bandits_of(row: BanditRow, evaluation: BanditEvaluation, seed: int = 0) -> NDArray[np.float64]:
    """The bandits of a test, ``[tasks, arms]``: all who play with this seed have the same."""
    return bandits.sample_arms(number(seed, TEST), evaluation.tasks, row.arms, row.kind)


def of_strategy(
    row: BanditRow, strategy: bandits.Strategy, evaluation: BanditEvaluation, seed: int = 0
) -> dict[str, NDArray[np.float64]]:
    """As :func:`mamlkit.runs.memory.evaluate`, of a strategy of :mod:`mamlkit.rl.bandits`: the same bandits,
    the same luck.
    """
    arms = bandits_of(row, evaluation, seed)
    actions, rewards = bandits.play(strategy, arms, row.pulls, number(seed, TEST))
    missed = bandits.regret(arms, actions)
    return {"return": rewards.sum(1, keepdims=True).astype(float), "regret": missed.sum(1, keepdims=True)}
