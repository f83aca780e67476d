"""From rewards to advantages: returns, the linear baseline, standardisation.

These are pure functions of arrays, without torch. Rewards are ``[..., steps]``, several episodes one after
the other where an episode ended early: ``last`` marks the last step of each, ``valid`` the steps that count.
"""

__all__ = ["advantages", "baseline_features", "discounted_returns", "fit_baseline", "standardised"]

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]
RIDGE = 1e-5  # of the least squares
CLIP = 10.0  # observations in the features lie within +-CLIP, as in the authors' code
STANDARD_EPS = 1e-8


def discounted_returns(rewards: Array, last: Mask, discount: float) -> Array:
    """Sum of the rewards from each step to the end of its episode, discounted.

    Args:
        rewards: ``[..., steps]``.
        last: where an episode ends, ``[..., steps]``; the last step of all ends one in any case.
        discount: gamma, between 0 and 1.

    Example:
        >>> discounted_returns(np.array([1.0, 1.0, 1.0]), np.array([False, True, True]), 0.5)
        array([1.5, 1. , 1. ])
    """
    if rewards.shape != last.shape:
        raise ValueError(f"rewards are {rewards.shape}, but last is {last.shape}; both must be [..., steps]")
    if not 0 <= discount <= 1:
        raise ValueError(f"discount={discount}, but it must lie between 0 and 1")
    returns = np.empty(rewards.shape)
    ahead = np.zeros(rewards.shape[:-1])
    for step in reversed(range(rewards.shape[-1])):
        ahead = rewards[..., step] + discount * np.where(last[..., step], 0.0, ahead)
        returns[..., step] = ahead
    return returns


def baseline_features(observations: Array, time: NDArray[np.integer], clip: float | None = CLIP) -> Array:
    """What the baseline is linear in: the observation, its squares, three powers of time and a constant.

    Paper: section 5.3, the linear feature baseline of Duan et al. (2016).

    Args:
        observations: ``[..., obs]``.
        time: step within the episode, ``[...]``.
        clip: bound of the observations in the features; None leaves them as they are.

    Returns:
        ``[..., 2 * obs + 4]`` in float64.

    Raises:
        ValueError: the bound is not positive.
    """
    if clip is not None and not clip > 0:
        raise ValueError(
            f"clip={clip}, but the bound of the observations must be positive, or None for no bound"
        )
    clipped = np.clip(observations, *((None, None) if clip is None else (-clip, clip))).astype(float)
    t = time[..., None] / 100.0
    return np.concatenate([clipped, clipped**2, t, t**2, t**3, np.ones_like(t)], -1)


def fit_baseline(features: Array, returns: Array) -> Array:
    """Weights of the least-squares baseline, ``[features]``.

    Args:
        features: ``[points, features]``.
        returns: ``[points]``.

    Raises:
        FloatingPointError: features or returns are not finite, or too large for their products to be.
    """
    gram, moment = features.T @ features, features.T @ returns
    if not (np.isfinite(gram).all() and np.isfinite(moment).all()):
        raise FloatingPointError(
            "the observations or rewards of a task are not finite, so the baseline has no fit"
        )
    return np.linalg.lstsq(gram + RIDGE * np.eye(len(gram)), moment, rcond=None)[0]


def standardised(values: Array) -> Array:
    """Mean 0 and standard deviation 1 over all the values of one task."""
    return (values - values.mean()) / (values.std() + STANDARD_EPS)


def advantages(
    observations: Array,
    rewards: Array,
    time: NDArray[np.integer],
    last: Mask,
    valid: Mask,
    discount: float,
    clip: float | None = CLIP,
) -> Array:
    """Standardised advantages of one task's steps, zero where a step does not count.

    The discounted return less a baseline that is fitted on the very same steps: generalised advantage
    estimation with lambda = 1. Paper: section 5.3 (baseline "fitted separately at each iteration for each
    task"); the standardisation is the authors' code.

    Args:
        observations: ``[rollouts, steps, obs]``.
        rewards: ``[rollouts, steps]``.
        time: step within the episode, ``[rollouts, steps]``.
        last: where an episode ends, ``[rollouts, steps]``.
        valid: the steps that count, ``[rollouts, steps]``.
        discount: gamma.
        clip: see :func:`baseline_features`.

    Raises:
        ValueError: no step counts.
    """
    if not valid.any():
        raise ValueError(
            "no step counts, so there is no advantage to compute; sample at least one finished episode"
        )
    returns = discounted_returns(rewards, last, discount)[valid]
    features = baseline_features(observations[valid], time[valid], clip)
    result = np.zeros(rewards.shape)
    result[valid] = standardised(returns - features @ fit_baseline(features, returns))
    return result
