"""What can be known exactly of Bernoulli bandits: Gittins indices, and the best possible play of two arms.

Everything is by backward recursion over what may have been seen. No torch here.
"""

__all__ = [
    "best_arm",
    "gittins_indices",
    "optimal_dependent",
    "optimal_independent",
    "optimal_known_pair",
    "shares_right",
]

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
AHEAD = 1e-3  # pulls are looked ahead until they count less than this
GRID = 201  # calibrating arms


def gittins_indices(pulls: int, discount: float) -> Array:
    """The Gittins index of an arm with so many wins and losses, under a uniform prior.

    It is what a known arm must pay at each pull for one to be indifferent between it and this one, with
    discounted rewards and no end. Found by calibration: for each known arm on a grid, the value of the best
    moment to leave this arm for it for ever, then the zero of the gain of one more pull. Source: Gittins
    1979; Gittins, Glazebrook and Weber 2011, section 8.4.

    Looking ahead ends where the discount leaves 1e-3; there the better of the known arm and the mean is
    taken for ever, so the index is a little too low (by less than 1e-6). It lies between two points of the
    grid by linear interpolation, which makes it a little too high: by up to 0.002 at a discount of 0.99.

    Args:
        pulls: indices are there for wins + losses up to this less one.
        discount: of the next pull, at least 0, below 1.

    Returns:
        ``[pulls, pulls]``, by wins and losses; NaN beyond.

    Raises:
        ValueError: no pull, or such a discount has no index.
    """
    _check(pulls)
    if not 0 <= discount < 1:
        raise ValueError(f"discount={discount}, but it must be at least 0, and below 1")
    depth = pulls + (int(np.ceil(np.log(AHEAD) / np.log(discount))) if discount > 0 else 1)
    known = np.linspace(0, 1, GRID)
    indices = np.full((pulls, pulls), np.nan)
    value = np.maximum(known, _means(depth)[:, None])  # of one pull after another, times 1 - discount
    for seen in reversed(range(depth)):
        mean = _means(seen)[:, None]
        go_on = (1 - discount) * mean + discount * (mean * value[1:] + (1 - mean) * value[:-1])
        if seen < pulls:
            wins = np.arange(seen + 1)
            indices[wins, seen - wins] = _zeros(known, go_on - known)
        value = np.maximum(known, go_on)
    return indices


def _means(seen: int) -> Array:
    """Of an arm that has paid 0, 1, ... times in so many pulls, under a uniform prior."""
    return (1 + np.arange(seen + 1)) / (seen + 2)


def _zeros(known: Array, gains: Array) -> Array:
    """Where each line of gains, which fall, comes to zero."""
    below = np.clip((gains <= 0).argmax(1), 1, None)  # the last gain, at a known arm of 1, is at most 0
    low, high = (np.take_along_axis(gains, at[:, None], 1)[:, 0] for at in (below - 1, below))
    share = low / np.where(low > high, low - high, 1.0)
    return known[below - 1] + share * (known[below] - known[below - 1])


def best_arm(arms: int) -> float:
    """What the best of so many independent arms, each uniform between 0 and 1, pays on average.

    >>> best_arm(2)
    0.6666666666666666
    """
    return arms / (arms + 1)


def optimal_independent(pulls: int) -> float:
    """The expected total reward of the best possible play of two independent arms, each uniform.

    No play of such bandits, whatever it learns, has more on average. A state is the wins and losses of each
    arm; the value of each is found from those of one pull more. Its number grows with the fourth power of the
    pulls; 100 take some seconds.

    Args:
        pulls: of each bandit.

    Raises:
        ValueError: no pull, or more than 150.

    Example:
        >>> round(optimal_independent(2), 6)  # the first at random, then it again if it has paid
        1.083333
    """
    if not 1 <= pulls <= 150:
        raise ValueError(f"pulls={pulls}, but the recursion is for 1 to 150")
    value = np.zeros((pulls + 1,) * 3)  # by pulls and wins of the first arm, and wins of the second
    for seen in reversed(range(pulls)):
        new = np.zeros((seen + 1,) * 3)
        for first in range(seen + 1):
            a, b = _means(first)[:, None], _means(seen - first)[None]
            na, nb = first + 1, seen - first + 1  # numbers of wins possible
            of_a = a * (1 + value[first + 1, 1 : na + 1, :nb]) + (1 - a) * value[first + 1, :na, :nb]
            of_b = b * (1 + value[first, :na, 1 : nb + 1]) + (1 - b) * value[first, :na, :nb]
            new[first, :na, :nb] = np.maximum(of_a, of_b)
        value = new
    return float(value[0, 0, 0])


def optimal_dependent(pulls: int) -> float:
    """As :func:`optimal_independent`, where the second arm pays where the first would not, p1 uniform.

    Both arms tell the same, so no pull is worth more than it pays: the best play is greedy.

    Example:
        >>> round(optimal_dependent(2), 6)
        1.166667
    """
    _check(pulls)
    # A uniform p1 makes each number of hints at the first arm equally likely.
    return float(sum(np.maximum(_means(seen), 1 - _means(seen)).mean() for seen in range(pulls)))


def optimal_known_pair(pulls: int, better: float) -> float:
    """As :func:`optimal_dependent`, where one arm pays with this probability, the other with the rest.

    Which is which is all that is unknown; both are equally likely.

    Example:
        >>> round(optimal_known_pair(2, 0.9), 6)
        1.32
    """
    right = shares_right(pulls, better)
    return float((right * better + (1 - right) * (1 - better)).sum())


def shares_right(hints: int, better: float) -> Array:
    """How often the side to which more hints point is the right one, after 0, 1, ... hints, ``[hints]``.

    Each of two sides is as likely; a hint points to the right one with probability ``better``.

    Args:
        hints: so many entries.
        better: of a hint.

    Raises:
        ValueError: no entry, or hints that point the wrong way.

    Example:
        >>> shares_right(4, 0.9).round(3)
        array([0.5  , 0.9  , 0.9  , 0.972])
    """
    _check(hints)
    if not 0.5 <= better <= 1:
        raise ValueError(f"better={better}, but the better arm pays with a probability of 0.5 to 1")
    # probability of which side it is, and of so many hints at the first
    found, joint, chances = [], np.array([[0.5], [0.5]]), np.array([[better], [1 - better]])
    for _ in range(hints):
        found.append(joint.max(0).sum())
        joint = np.pad(joint * chances, ((0, 0), (1, 0))) + np.pad(joint * (1 - chances), ((0, 0), (0, 1)))
    return np.array(found)


def _check(pulls: int) -> None:
    if pulls < 1:
        raise ValueError(f"pulls={pulls}, but there must be at least one")
