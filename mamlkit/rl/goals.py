"""The goals of the environments: which there are, how tasks draw them, and what a robot earns by them."""

__all__ = ["Direction", "Goals", "Square", "Velocity"]

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy import ndarray
from numpy.random import Generator


class Goals(Protocol):
    """A set of goals and the task distribution over it."""

    shape: ClassVar[tuple[int, ...]]  # of one goal

    def sample(self, rng: Generator, n: int) -> ndarray:
        """``n`` goals of the task distribution, ``[n, *shape]``."""

    def contains(self, goals: ndarray) -> ndarray:
        """Which of the goals ``[n, *shape]`` belong to the set, ``[n]``; NaN never does."""


@dataclass(frozen=True)
class Square:
    """A point, uniform in the unit square around the start. Paper: section 5.3.1.

    >>> Square().contains(np.array([[0.5, -0.5], [0.6, 0.0]]))
    array([ True, False])
    """

    half_side: float = 0.5
    shape: ClassVar[tuple[int, ...]] = (2,)

    def __str__(self) -> str:
        return f"points with both coordinates in [{-self.half_side}, {self.half_side}]"

    def sample(self, rng: Generator, n: int) -> ndarray:
        return rng.uniform(-self.half_side, self.half_side, (n, 2))

    def contains(self, goals: ndarray) -> ndarray:
        return (np.abs(goals) <= self.half_side).all(-1)


@dataclass(frozen=True)
class Velocity:
    """A forward velocity in m/s, uniform in [0, top]. Paper: section 5.3.2.

    Args:
        top: the largest goal, m/s.
        bonus: what a step earns at the goal velocity itself (the Ant: 1).

    >>> Velocity(3.0, bonus=1.0).reward(np.array([2.5, 0.0]), np.array([2.0, 3.0]))
    array([ 0.5, -2. ])
    """

    top: float
    bonus: float = 0.0
    shape: ClassVar[tuple[int, ...]] = ()

    def __str__(self) -> str:
        return f"velocities in [0, {self.top}] m/s"

    def sample(self, rng: Generator, n: int) -> ndarray:
        return rng.uniform(0.0, self.top, n)

    def contains(self, goals: ndarray) -> ndarray:
        return (goals >= 0.0) & (goals <= self.top)

    def reward(self, velocity: ndarray, goals: ndarray) -> ndarray:
        """The part of a step's reward that depends on the task, ``[n]``."""
        return self.bonus - np.abs(velocity - goals)


@dataclass(frozen=True)
class Direction:
    """Forward (+1) or backward (-1). Paper: section 5.3.2.

    Args:
        forward: how likely forward is; in the paper as likely as backward.

    Raises:
        ValueError: that is no probability.

    >>> Direction().reward(np.array([2.0, 2.0]), np.array([1.0, -1.0]))
    array([ 2., -2.])
    """

    forward: float = 0.5
    shape: ClassVar[tuple[int, ...]] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.forward <= 1:
            raise ValueError(f"forward={self.forward}, but a probability lies between 0 and 1")

    def __str__(self) -> str:
        return "the directions -1 and 1"

    def sample(self, rng: Generator, n: int) -> ndarray:
        if self.forward == 0.5:
            return 2.0 * rng.integers(0, 2, n) - 1.0
        return np.where(rng.random(n) < self.forward, 1.0, -1.0)

    def contains(self, goals: ndarray) -> ndarray:
        return np.abs(goals) == 1.0

    def reward(self, velocity: ndarray, goals: ndarray) -> ndarray:
        """The part of a step's reward that depends on the task, ``[n]``."""
        return goals * velocity
