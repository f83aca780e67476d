"""Bernoulli bandits, many at a time, and the classical ways to play them. No torch here.

A bandit has arms that pay 1 with a probability of their own, else 0. Who plays it does not know these, and
has so many pulls. Source of the tasks: Duan et al. 2016 (RL^2), section 3.1; Wang et al. 2016, section 3.1.
"""

__all__ = [
    "KINDS",
    "Played",
    "Seen",
    "Strategy",
    "check_share",
    "epsilon_greedy",
    "gittins",
    "greedy",
    "luck",
    "play",
    "random",
    "regret",
    "sample_arms",
    "thompson",
    "ucb1",
]

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mamlkit.rl.bandit_values import gittins_indices

Array = NDArray[np.float64]
ARMS, LUCK, CHOICES = 0, 1, 2  # purposes of random numbers

# What the better of two arms that tell of each other may pay: Wang et al. 2016, p2 = 1 - p1. None of it
# is known of arms of the first kind, which are independent; of the second p1 is uniform.
KINDS: dict[str, tuple[float, float] | None] = {
    "independent": None,
    "dependent": None,
    "easy": (0.1, 0.9),
    "medium": (0.25, 0.75),
    "hard": (0.4, 0.6),
}


class Seen(NamedTuple):
    """What is known of the bandits at a pull.

    Args:
        wins, losses: of each arm so far, ``[tasks, arms]``.
        time: pulls so far.
    """

    wins: Array
    losses: Array
    time: int

    @property
    def mean(self) -> Array:
        """Of each arm, as if it had won once and lost once before: the mean of Beta(1 + wins, 1 + losses)."""
        return (1 + self.wins) / self.trials

    @property
    def trials(self) -> Array:
        """Pulls of each arm, with these two."""
        return 2 + self.wins + self.losses


class Played(NamedTuple):
    """What was done with bandits.

    Args:
        actions: arms that were pulled, ``[tasks, pulls]``.
        rewards: what they paid, 0 or 1, ``[tasks, pulls]``.
    """

    actions: NDArray[np.int64]
    rewards: Array


Strategy = Callable[[Seen, Generator], Array]
"""From what is seen, a score for each arm, ``[tasks, arms]``: the highest is pulled, any among equals."""


def sample_arms(seed: int, tasks: int, arms: int, kind: str = "independent") -> Array:
    """Probabilities of paying, ``[tasks, arms]``.

    Args:
        seed: of the bandits.
        tasks: so many.
        arms: of each.
        kind: of :data:`KINDS`: independent arms, each uniform between 0 and 1, or two arms that pay in all 1.

    Raises:
        ValueError: no such kind, no arm to choose from, or not two arms where they depend on each other.

    Example:
        >>> sample_arms(0, 3, 2, "hard").sum(1)
        array([1., 1., 1.])
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r}, but the kinds are {', '.join(map(repr, KINDS))}")
    if tasks < 1 or arms < 2:
        raise ValueError(f"tasks={tasks}, arms={arms}, but there must be at least one task and two arms")
    if kind != "independent" and arms != 2:
        raise ValueError(f"arms={arms}, but {kind!r} bandits have two; use arms=2 or kind='independent'")
    draw = np.random.default_rng((seed, ARMS))
    if kind == "independent":
        return draw.random((tasks, arms))
    pair = KINDS[kind]
    first = draw.random(tasks) if pair is None else draw.choice(pair, tasks)
    return np.stack([first, 1 - first], 1)


def luck(seed: int, tasks: int, pulls: int) -> Array:
    """Numbers between 0 and 1, ``[tasks, pulls]``: an arm pays where its probability is above.

    Whoever plays with the same luck has, of the same arm at the same pull, the same reward: so differences
    between strategies are not blurred by chance that has nothing to do with them.
    """
    return np.random.default_rng((seed, LUCK)).random((tasks, pulls))


def play(strategy: Strategy, arms: Array, pulls: int, seed: int) -> Played:
    """Play all bandits at once.

    Args:
        strategy: see :data:`Strategy`.
        arms: probabilities of paying, ``[tasks, arms]``.
        pulls: of each bandit.
        seed: of the rewards (see :func:`luck`) and of what the strategy draws.

    Raises:
        ValueError: the probabilities are none, or there is no pull.
    """
    if arms.ndim != 2 or not ((arms >= 0) & (arms <= 1)).all():
        raise ValueError(f"arms are {arms.shape}, but must be probabilities [tasks, arms], between 0 and 1")
    if pulls < 1:
        raise ValueError(f"pulls={pulls}, but there must be at least one")
    chance, draw = luck(seed, len(arms), pulls), np.random.default_rng((seed, CHOICES))
    wins, losses, everyone = np.zeros(arms.shape), np.zeros(arms.shape), np.arange(len(arms))
    actions, rewards = np.empty(chance.shape, int), np.empty(chance.shape)
    for time in range(pulls):
        scores = strategy(Seen(wins, losses, time), draw)
        best = scores == scores.max(1, keepdims=True)
        actions[:, time] = chosen = np.where(best, draw.random(arms.shape), -1).argmax(1)
        rewards[:, time] = paid = chance[:, time] < arms[everyone, chosen]
        wins[everyone, chosen] += paid
        losses[everyone, chosen] += ~paid
    return Played(actions, rewards)


def regret(arms: Array, actions: NDArray[np.integer]) -> Array:
    """How much less than the best arm the pulled ones pay on average, ``[tasks, pulls]``.

    Args:
        arms: probabilities of paying, ``[tasks, arms]``.
        actions: ``[tasks, pulls]``.

    Example:
        >>> regret(np.array([[0.25, 0.75]]), np.array([[0, 1, 0]]))
        array([[0.5, 0. , 0.5]])
    """
    return arms.max(1, keepdims=True) - np.take_along_axis(arms, actions, 1)


def random(seen: Seen, draw: Generator) -> Array:
    """Any arm."""
    return np.zeros(seen.wins.shape)


def greedy(seen: Seen, draw: Generator) -> Array:
    """The arm with the best mean, which begins with one success and one failure."""
    return seen.mean


def thompson(seen: Seen, draw: Generator) -> Array:
    """An arm as often as it is likely to be the best: a draw from what is believed of each."""
    return draw.beta(1 + seen.wins, 1 + seen.losses)


def ucb1(width: float) -> Strategy:
    """The best mean plus ``width * sqrt(2 log t / trials)``, at the t-th pull.

    Args:
        width: c of the bound; Auer et al. 2002 have 1, Duan et al. tune it.

    Raises:
        ValueError: it is negative, or not finite.
    """
    if not 0 <= width < math.inf:
        raise ValueError(f"width={width}, but it must be finite, at least 0")
    bound = lambda seen: width * np.sqrt(2 * np.log(seen.time + 1) / seen.trials)
    return lambda seen, draw: seen.mean + bound(seen)


def epsilon_greedy(share: float) -> Strategy:
    """:func:`greedy`, but any arm in a share of the pulls; ``ValueError`` for what is no share."""
    check_share(share)

    def scores(seen: Seen, draw: Generator) -> Array:
        explores = draw.random((len(seen.wins), 1)) < share
        return np.where(explores, 0.0, seen.mean)

    return scores


def gittins(pulls: int, discount: float) -> Strategy:
    """The highest Gittins index, which is optimal for discounted rewards without an end.

    Args:
        pulls: that there will be.
        discount: between 0 and 1; Duan et al. take the best-performing of several approximations, and do not
            say which discounts.

    Raises:
        ValueError: no such discount; or, when played, more pulls.
    """
    indices = gittins_indices(pulls, discount)

    def scores(seen: Seen, draw: Generator) -> Array:
        if seen.time >= pulls:
            raise ValueError(f"pull {seen.time + 1}, but indices are of {pulls}; ask for more with pulls=")
        return indices[seen.wins.astype(int), seen.losses.astype(int)]

    return scores


def check_share(share: float) -> None:
    """``ValueError`` for what is not between 0 and 1."""
    if not 0 <= share <= 1:
        raise ValueError(f"share={share}, but it must lie between 0 and 1")
