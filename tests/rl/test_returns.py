"""Returns, the linear baseline and advantages, against sums and solutions by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mamlkit.rl import returns


def by_hand(rewards, last, discount):
    """Returns of one row, each as a sum."""
    found = []
    for t in range(len(rewards)):
        end = next((k for k in range(t, len(rewards)) if last[k]), len(rewards) - 1)
        found.append(sum(discount ** (k - t) * rewards[k] for k in range(t, end + 1)))
    return np.array(found)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), steps=st.integers(1, 12), discount=st.sampled_from([0.0, 0.5, 0.99, 1.0]))
def test_discounted_returns_are_sums_to_the_end_of_the_episode(seed, steps, discount):
    rng = np.random.default_rng(seed)
    rewards, last = rng.normal(size=(2, 3, steps)), rng.random((2, 3, steps)) < 0.3
    found = returns.discounted_returns(rewards, last, discount)
    for index in np.ndindex(2, 3):
        assert found[index] == pytest.approx(by_hand(rewards[index], last[index], discount))


def test_what_returns_cannot_be_taken_of_is_refused():
    with pytest.raises(ValueError, match=r"rewards are \(3,\), but last is \(2,\)"):
        returns.discounted_returns(np.zeros(3), np.zeros(2, bool), 0.9)
    with pytest.raises(ValueError, match="between 0 and 1"):
        returns.discounted_returns(np.zeros(3), np.zeros(3, bool), 1.1)


def test_the_features_are_those_of_the_paper():
    features = returns.baseline_features(np.array([[2.0, -30.0]]), np.array([50]))
    assert features[0] == pytest.approx([2, -10, 4, 100, 0.5, 0.25, 0.125, 1])
    features = returns.baseline_features(np.array([[2.0, -30.0]]), np.array([50]), clip=None)
    assert features[0] == pytest.approx([2, -30, 4, 900, 0.5, 0.25, 0.125, 1])
    with pytest.raises(ValueError, match="must be positive"):
        returns.baseline_features(np.array([[2.0, -30.0]]), np.array([50]), clip=-10.0)


def test_the_baseline_recovers_a_value_function_that_is_linear_in_its_features():
    rng = np.random.default_rng(0)
    features = returns.baseline_features(rng.normal(size=(500, 3)), rng.integers(0, 200, 500))
    weights = rng.normal(size=features.shape[1])
    fitted = returns.fit_baseline(features, features @ weights)
    assert features @ fitted == pytest.approx(features @ weights, abs=1e-4)


def test_a_baseline_of_useless_features_is_finite():
    features = returns.baseline_features(np.zeros((50, 2)), np.zeros(50, int))
    assert features @ returns.fit_baseline(features, np.full(50, 3.0)) == pytest.approx(3.0, abs=1e-3)


def test_advantages_are_orthogonal_to_squares_of_observations_unless_they_are_clipped():
    rng = np.random.default_rng(2)
    observations, rewards = 8 * rng.normal(size=(20, 50, 2)), rng.normal(size=(20, 50))
    rewards += 0.01 * observations[..., 0] ** 2
    last = np.zeros((20, 50), bool)
    last[:, -1] = True
    rest = (rewards, np.tile(np.arange(50), (20, 1)), last, np.ones((20, 50), bool), 0.9)
    share = lambda a: (
        abs((a[..., None] * observations**2).sum((0, 1)))
        / np.linalg.norm(a)
        / np.linalg.norm(observations**2, axis=(0, 1))
    )
    assert (share(returns.advantages(observations, *rest, clip=None)) < 1e-6).all()
    assert share(returns.advantages(observations, *rest))[0] > 0.05


@pytest.mark.parametrize("discount", [0.9, 1.0])
def test_advantages_are_standardised_residuals_of_the_valid_steps(discount):
    rng = np.random.default_rng(1)
    observations, rewards = rng.normal(size=(4, 9, 2)), rng.normal(size=(4, 9))
    last = np.zeros((4, 9), bool)
    last[:, [3, 8]] = True
    time = np.tile([0, 1, 2, 3, 0, 1, 2, 3, 4], (4, 1))
    valid = np.ones((4, 9), bool)
    valid[2, 4:] = False
    found = returns.advantages(observations, rewards, time, last, valid, discount)
    assert (found[~valid] == 0).all()
    assert found[valid].mean() == pytest.approx(0, abs=1e-12) and found[valid].std() == pytest.approx(1)
    # The same by hand: each episode on its own, and a least-squares solution of the whole batch.
    value = np.stack([by_hand(r, end, discount) for r, end in zip(rewards, last, strict=True)])[valid]
    features = returns.baseline_features(observations[valid], time[valid])
    weights = np.linalg.solve(features.T @ features + 1e-5 * np.eye(features.shape[1]), features.T @ value)
    residual = value - features @ weights
    assert found[valid] == pytest.approx((residual - residual.mean()) / residual.std(), abs=1e-6)


def test_no_step_that_counts_is_an_error():
    with pytest.raises(ValueError, match="no step counts"):
        returns.advantages(
            np.zeros((1, 2, 1)),
            np.zeros((1, 2)),
            np.zeros((1, 2), int),
            np.zeros((1, 2), bool),
            np.zeros((1, 2), bool),
            0.9,
        )


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_baseline_of_numbers_that_are_not_finite_is_refused(poison):
    features = returns.baseline_features(np.ones((5, 2)), np.arange(5))
    with pytest.raises(FloatingPointError, match="not finite"):
        returns.fit_baseline(features, np.array([1.0, 2.0, poison, 0.0, 0.0]))
