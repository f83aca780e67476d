"""The classical ways to play small Markov decision processes, many at a time.

Each plans at the beginning of an episode, by value iteration over what is believed of the process: of what an
action pays a normal distribution, of where it leads a Dirichlet, both with the tasks' own distribution as
the prior. Source: Duan et al. 2016, section 3.2, who name them and do not print their settings.
"""

__all__ = ["Known", "Strategy", "bonus", "epsilon_greedy", "greedy", "play", "posterior", "random"]

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from mamlkit.rl.bandits import check_share
from mamlkit.rl.memory import Trials, done_by_hand
from mamlkit.rl.tabular import Processes, Tabular, plan

Array = NDArray[np.float64]
CHOICES = 5  # a purpose of random numbers


class Known(NamedTuple):
    """What was seen of some processes so far.

    Args:
        moves: how often an action in a state led to which, ``[tasks, states, actions, states]``.
        times: how often it was taken, at the last step of an episode too, whose move nobody sees,
            ``[tasks, states, actions]``.
        earned: the sum of what it paid, ``[tasks, states, actions]``.
        horizon: steps of an episode.
    """

    moves: Array
    times: Array
    earned: Array
    horizon: int

    @property
    def mean(self) -> Processes:
        """The process that is expected: the means of what is believed."""
        seen = 1 + self.moves
        return Processes(seen / seen.sum(-1, keepdims=True), (1 + self.earned) / (1 + self.times))


Strategy = Callable[[Known, Generator], NDArray[np.int64]]
"""From what is known before an episode, the action by step and state, ``[tasks, horizon, states]``."""


def play(strategy: Strategy, some: Tabular, seed: int) -> Trials:
    """Play a trial of each process.

    Args:
        strategy: see :data:`Strategy`.
        some: processes with their luck.
        seed: of what the strategy draws.

    Returns:
        The trials; their log-probabilities are zero.
    """
    draw, seen, found = np.random.default_rng((seed, CHOICES)), some.begin(), []
    shape = some.processes.transitions.shape
    known = Known(np.zeros(shape), np.zeros(shape[:3]), np.zeros(shape[:3]), some.horizon)
    everyone, state = np.arange(len(seen)), seen.argmax(-1).numpy()
    for time in range(some.time):
        if time % some.horizon == 0:
            table = strategy(known, draw)
        action = table[everyone, time % some.horizon, state]
        after = some.step(torch.from_numpy(action))
        known.times[everyone, state, action] += 1
        known.earned[everyone, state, action] += after.rewards.numpy()
        came = after.observations.argmax(-1).numpy()
        if not after.ended[0]:  # else it is where the next episode begins
            known.moves[everyone, state, action, came] += 1
        found.append((seen, torch.from_numpy(action), after))
        seen, state = after.observations, came
    return done_by_hand(found)


def random(known: Known, draw: Generator) -> NDArray[np.int64]:
    """Any action."""
    tasks, states, actions = known.earned.shape
    return draw.integers(0, actions, (tasks, known.horizon, states))


def greedy(known: Known, draw: Generator) -> NDArray[np.int64]:
    """The best in the process that is expected."""
    return plan(known.mean, known.horizon)[1]


def epsilon_greedy(share: float) -> Strategy:
    """:func:`greedy`, but any action in a share of the steps; ``ValueError`` for what is no share."""
    check_share(share)

    def table(known: Known, draw: Generator) -> NDArray[np.int64]:
        best, other = greedy(known, draw), random(known, draw)
        return np.where(draw.random(best.shape) < share, other, best)

    return table


def posterior(known: Known, draw: Generator) -> NDArray[np.int64]:
    """PSRL: the best in a process that is drawn from what is believed, anew for each episode.

    Source: Strens 2000; Osband, Russo and Van Roy 2013.
    """
    moves = draw.standard_gamma(1 + known.moves)
    spread = 1 / np.sqrt(1 + known.times)
    rewards = known.mean.rewards + spread * draw.standard_normal(spread.shape)
    return plan(Processes(moves / moves.sum(-1, keepdims=True), rewards), known.horizon)[1]


def bonus(size: float) -> Strategy:
    """BEB: the best in the process that is expected, where an action pays ``size / (1 + times)`` more.

    Source: Kolter and Ng 2009, who count the prior too: ``size / (1 + states + times)``.

    Args:
        size: beta of the bonus.

    Raises:
        ValueError: it is negative, or not finite.
    """
    if not 0 <= size < math.inf:
        raise ValueError(f"size={size}, but it must be finite, at least 0")

    def table(known: Known, draw: Generator) -> NDArray[np.int64]:
        expected = known.mean
        return plan(expected._replace(rewards=expected.rewards + size / (1 + known.times)), known.horizon)[1]

    return table
