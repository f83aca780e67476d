"""Bandits and the classical ways to play them; what is known exactly is held against brute force.

Statistical checks take bounds of 5 standard errors: by the normal tail each is wrong in one of 1.7 million
seeds, and the seeds are fixed.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from mamlkit.rl import bandit_values, bandits, memory, tabular_play
from mamlkit.rl.trials import Bandits

ERRORS = 5.0


def far(values, wanted):
    """Standard errors between the mean of independent values and what it should be."""
    return abs(values.mean() - wanted) / (values.std(ddof=1) / math.sqrt(len(values)))


def test_regret_is_what_the_best_arm_pays_on_average_more_than_the_pulled_ones():
    arms, luck = np.array([[0.2, 0.9, 0.5], [0.3, 0.3, 0.1]]), np.full((2, 4), 0.4)
    some, found = Bandits(arms, luck), []
    seen = some.begin()
    for actions in ([0, 0], [1, 1], [2, 2], [2, 0]):
        action = torch.tensor(actions)
        found.append((seen, action, some.step(action)))
    measured = some.measured(memory.done_by_hand(found))
    assert np.allclose(measured["regret"], [[0.7 + 0 + 0.4 + 0.4], [0 + 0 + 0.2 + 0]])
    assert measured["return"].tolist() == [[3.0], [0.0]]


def test_arms_are_as_the_sources_have_them():
    arms = bandits.sample_arms(0, 20_000, 5)
    assert arms.shape == (20_000, 5) and far(arms[:, 0], 0.5) < ERRORS
    assert far(arms.max(1), bandit_values.best_arm(5)) < ERRORS
    for kind, pair in bandits.KINDS.items():
        two = bandits.sample_arms(0, 4000, 2, kind)
        if kind != "independent":
            assert np.allclose(two.sum(1), 1)
        if pair:
            assert np.allclose(two.max(1), pair[1]) and far(two[:, 0] > 0.5, 0.5) < ERRORS
        else:
            assert far(two[:, 0], 0.5) < ERRORS


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: bandits.sample_arms(0, 3, 2, "simple"), "kind='simple', but the kinds are 'independent'"),
        (lambda: bandits.sample_arms(0, 3, 3, "easy"), "arms=3, but 'easy' bandits have two"),
        (lambda: bandits.sample_arms(0, 3, 1), "arms=1, but there must be at least"),
        (lambda: bandits.play(bandits.greedy, np.array([[0.5, 1.2]]), 3, 0), "between 0 and 1"),
        (lambda: bandits.play(bandits.greedy, np.array([[0.5, 0.2]]), 0, 0), "pulls=0"),
        (lambda: bandit_values.gittins_indices(0, 0.9), "pulls=0"),
        (
            lambda: bandit_values.gittins_indices(3, 1.0),
            "discount=1.0, but it must be at least 0, and below 1",
        ),
        (lambda: bandit_values.optimal_independent(151), "pulls=151"),
        (lambda: bandit_values.optimal_dependent(0), "pulls=0"),
        (lambda: bandit_values.optimal_known_pair(3, 0.4), "better=0.4"),
    ],
)
def test_what_no_bandit_can_be_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_an_arm_pays_with_its_probability_whoever_pulls_it():
    arms = np.tile([0.2, 0.9], (30_000, 1))
    found = bandits.play(bandits.random, arms, 2, 0)
    for arm, chance in enumerate(arms[0]):
        assert far(found.rewards[:, 0][found.actions[:, 0] == arm], chance) < ERRORS
    assert far(found.actions[:, 1], 0.5) < ERRORS
    # the same luck, so the same reward of the same arm
    other = bandits.play(bandits.greedy, arms, 2, 0)
    same = found.actions[:, 1] == other.actions[:, 1]
    assert 0 < same.sum() < len(same)
    assert (found.rewards[same, 1] == other.rewards[same, 1]).all()


@pytest.mark.parametrize("name", ["random", "greedy", "thompson", "ucb1", "epsilon", "gittins"])
def test_a_play_repeats_and_the_batch_is_what_single_bandits_sum_to(name):
    made = {
        "random": bandits.random,
        "greedy": bandits.greedy,
        "thompson": bandits.thompson,
        "ucb1": bandits.ucb1(0.2),
        "epsilon": bandits.epsilon_greedy(0.1),
        "gittins": bandits.gittins(12, 0.9),
    }[name]
    arms = bandits.sample_arms(3, 50, 4)
    one, two = (bandits.play(made, arms, 12, 7) for _ in range(2))
    assert (one.actions == two.actions).all() and (one.rewards == two.rewards).all()
    other = bandits.play(made, arms, 12, 8)
    assert (one.rewards != other.rewards).any()
    paid = bandits.luck(7, 50, 12) < np.take_along_axis(arms, one.actions, 1)
    assert (one.rewards == paid).all()


def by_hand(scores, actions, rewards, pulls):
    """Whether each action is one of the best by the scores of what was seen before it, counted anew."""
    for action, reward in zip(actions, rewards, strict=True):
        wins, losses = [0, 0, 0], [0, 0, 0]
        for time in range(pulls):
            of_arms = [scores(w, lost, time) for w, lost in zip(wins, losses, strict=True)]
            if of_arms[action[time]] < max(of_arms) - 1e-12:
                return False
            (wins if reward[time] else losses)[action[time]] += 1
    return True


def test_deterministic_ways_pull_the_arm_that_their_formula_has_highest():
    arms, table = bandits.sample_arms(0, 20, 3), bandit_values.gittins_indices(15, 0.9)
    mean = lambda w, lost: (1 + w) / (2 + w + lost)
    ways = {
        "greedy": (bandits.greedy, lambda w, lost, t: mean(w, lost)),
        "ucb1": (
            bandits.ucb1(0.3),
            lambda w, lost, t: mean(w, lost) + 0.3 * math.sqrt(2 * math.log(t + 1) / (2 + w + lost)),
        ),
        "gittins": (bandits.gittins(15, 0.9), lambda w, lost, t: table[w, lost]),
    }
    for name, (way, scores) in ways.items():
        found = bandits.play(way, arms, 15, 0)
        assert by_hand(scores, found.actions, found.rewards, 15), name
        if name != "greedy":
            assert not by_hand(ways["greedy"][1], found.actions, found.rewards, 15)


def test_epsilon_greedy_takes_any_arm_in_its_share_of_the_pulls():
    arms = np.tile([1.0, 0.0], (4000, 1))
    found = bandits.play(bandits.epsilon_greedy(0.2), arms, 30, 0).actions[:, -1]
    assert far(found, 0.1) < ERRORS  # half of the share is the better arm


def test_gittins_indices_are_those_of_the_published_table():
    # Gittins 1979 and 1989, uniform prior: discounts 0.9 and 0.99
    low, high = bandit_values.gittins_indices(4, 0.9), bandit_values.gittins_indices(3, 0.99)
    assert np.allclose(low[:3, 0], [0.7029, 0.8001, 0.8452], atol=5e-4)
    assert np.allclose(low[0, 1:3], [0.5001, 0.3796], atol=5e-4) and abs(low[1, 1] - 0.6346) < 5e-4
    assert abs(high[0, 0] - 0.8699) < 1e-3
    assert np.isnan(low[2, 2]) and not np.isnan(low[2, 1])


@pytest.mark.parametrize(("discount", "bound"), [(0.7, 1e-3), (0.95, 2e-3)])
def test_a_finer_grid_lowers_an_index_a_little_and_a_longer_look_hardly_raises_it(
    discount, bound, monkeypatch
):
    found = bandit_values.gittins_indices(30, discount)
    there = ~np.isnan(found)
    monkeypatch.setattr(bandit_values, "AHEAD", 1e-6)
    further = bandit_values.gittins_indices(30, discount) - found
    assert further[there].min() >= 0 and 0 < further[there].max() < 1e-6
    monkeypatch.setattr(bandit_values, "GRID", 2001)
    finer = bandit_values.gittins_indices(30, discount) - found
    assert -bound < finer[there].min() < -bound / 2 and finer[there].max() < 1e-6


def test_without_a_future_the_index_is_the_mean():
    found = bandit_values.gittins_indices(4, 0.0)
    for wins, losses in itertools.product(range(4), repeat=2):
        if wins + losses < 4:
            assert found[wins, losses] == pytest.approx((1 + wins) / (2 + wins + losses), abs=1e-9)


def test_a_gittins_index_makes_one_indifferent():
    """The value of the best stopping time, by another recursion, with the index as the known arm."""
    discount, depth = 0.8, 60
    index = bandit_values.gittins_indices(2, discount)[0, 0]

    def gain(known):
        value = np.zeros(depth + 2)  # of going on or stopping, less that of stopping at once
        for seen in reversed(range(depth)):
            mean = (1 + np.arange(seen + 1)) / (seen + 2)
            go_on = mean - known + discount * (mean * value[1 : seen + 2] + (1 - mean) * value[: seen + 1])
            value = np.maximum(go_on, 0) if seen else go_on
        return value[0]

    assert gain(index - 2e-3) > 0 > gain(index + 2e-3)


def of_histories(pulls, prior):
    """The best expected total reward by trying every way to go on after every history.

    ``prior``: weights and the two arms' probabilities.
    """

    def best(weights, left):
        if left == 0:
            return 0.0
        found = []
        for arm in (0, 1):
            total = 0.0
            for reward in (0, 1):
                of_arm = prior[:, 1 + arm]
                new = weights * (of_arm if reward else 1 - of_arm)
                if (mass := new.sum()) > 0:
                    total += mass * reward + best(new, left - 1)
            found.append(total)
        return max(found)

    return best(prior[:, 0], pulls)


def test_the_best_possible_play_is_that_of_brute_force():
    """Over a grid of probabilities, whose sums of powers this low Gauss-Legendre points give exactly."""
    nodes, weights = np.polynomial.legendre.leggauss(8)
    nodes, weights = (1 + nodes) / 2, weights / 2
    square = [
        (w1 * w2, p1, p2)
        for (p1, w1), (p2, w2) in itertools.product(zip(nodes, weights, strict=True), repeat=2)
    ]
    line = [(w, p, 1 - p) for p, w in zip(nodes, weights, strict=True)]
    for pulls in (1, 2, 5):
        assert bandit_values.optimal_independent(pulls) == pytest.approx(
            of_histories(pulls, np.array(square))
        )
        assert bandit_values.optimal_dependent(pulls) == pytest.approx(of_histories(pulls, np.array(line)))
        pair = np.array([(0.5, 0.9, 0.1), (0.5, 0.1, 0.9)])
        assert bandit_values.optimal_known_pair(pulls, 0.9) == pytest.approx(of_histories(pulls, pair))


def test_the_best_possible_regrets_of_100_pulls():
    """Beside those that another recursion gave: 1.75, 1.22; 0.62, 1.00, 2.31 for a known pair."""
    assert 75 - bandit_values.optimal_dependent(100) == pytest.approx(1.2214, abs=1e-3)
    for better, wanted in ((0.9, 0.625), (0.75, 1.0), (0.6, 2.312)):
        assert 100 * better - bandit_values.optimal_known_pair(100, better) == pytest.approx(wanted, abs=1e-3)
    assert 100 * bandit_values.best_arm(2) - bandit_values.optimal_independent(100) == pytest.approx(
        1.748, abs=1e-3
    )


def test_no_classical_way_passes_the_best_possible_and_gittins_comes_near():
    pulls, count = 30, 4000
    ways = (bandits.random, bandits.greedy, bandits.thompson, bandits.ucb1(0.2), bandits.epsilon_greedy(0.05))
    for kind, best in (
        ("independent", bandit_values.optimal_independent(pulls)),
        ("dependent", bandit_values.optimal_dependent(pulls)),
        ("easy", bandit_values.optimal_known_pair(pulls, 0.9)),
    ):
        arms = bandits.sample_arms(5, count, 2, kind)
        most = {"independent": 2 / 3, "dependent": 0.75, "easy": 0.9}[kind] * pulls
        for way in (*ways, bandits.gittins(pulls, 0.95)):
            missed = bandits.regret(arms, bandits.play(way, arms, pulls, 6).actions).sum(1)
            error = missed.std(ddof=1) / math.sqrt(count)
            assert missed.mean() > most - best - ERRORS * error
        if kind == "independent":  # the last way
            assert missed.mean() < most - best + 0.15 + ERRORS * error


def test_thompson_takes_an_arm_as_often_as_it_is_likely_to_be_the_best():
    """Beta(1 + wins, 1 + losses) of each arm, from 100,000 draws: five standard errors."""
    wins, losses = np.tile([3.0, 1.0], (100_000, 1)), np.tile([1.0, 2.0], (100_000, 1))
    first, second = stats.beta(4, 2), stats.beta(2, 3)
    wanted = integrate.quad(lambda x: first.pdf(x) * second.cdf(x), 0, 1)[0]
    scores = bandits.thompson(bandits.Seen(wins, losses, 7), np.random.default_rng(0))
    assert far(scores[:, 0] > scores[:, 1], wanted) < ERRORS and 0.6 < wanted < 0.95


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: bandits.ucb1(math.nan), "width=nan, but it must be finite, at least 0"),
        (lambda: bandits.epsilon_greedy(-1), "share=-1, but it must lie between 0 and 1"),
        (lambda: bandits.epsilon_greedy(math.nan), "share=nan"),
        (lambda: tabular_play.epsilon_greedy(5), "share=5"),
        (lambda: tabular_play.bonus(math.nan), "size=nan, but it must be finite"),
        (lambda: Bandits([[2.0, -1.0]], [[0.5]]), "probabilities between 0 and 1"),
        (
            lambda: bandits.play(bandits.gittins(3, 0.9), np.array([[0.2, 0.4]]), 10, 0),
            "pull 4, but indices are of 3",
        ),
    ],
)
def test_ways_to_play_that_cannot_be_meant_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()
