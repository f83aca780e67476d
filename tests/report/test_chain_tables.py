"""The chains' tables: intervals of medians that hold what they say, and ranks by the rule."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from made_results import commit
from mamlkit import places
from mamlkit.experiments import chains as ways
from mamlkit.report import chains


def test_an_interval_of_ranks_holds_the_median_as_often_as_it_says():
    """Of 4,000 samples: within six standard errors of what the binomial distribution gives."""
    draws = np.random.default_rng(0).random((4000, 10))
    held = np.mean([low <= 0.5 <= high for _, low, high in map(chains.median_interval, draws)])
    exact = 1 - 2 * (1 + 10) / 2**10  # at most one value on a side
    assert abs(held - exact) < 6 * math.sqrt(exact * (1 - exact) / 4000)


@given(st.lists(st.integers(0, 2000), min_size=1, max_size=40))
def test_an_interval_of_ranks_holds_the_sample_median_and_is_the_narrowest(values):
    median, low, high = chains.median_interval(values)
    assert min(values) <= low <= median <= high <= max(values) and median == np.median(values)
    count, ranked = len(values), sorted(values)
    left_out = [2 * sum(math.comb(count, j) for j in range(k + 1)) / 2**count for k in range(count)]
    allowed = [k for k in range(count) if left_out[k] <= 0.05]  # k values and one more may lie on a side
    assert (low, high) == (ranked[max(allowed, default=0)], ranked[-1 - max(allowed, default=0)])


def made(way, values, mixed=False, **changes):
    """Commit a row whose networks need these numbers of episodes on every length."""
    commit(places.repository(), ways.name_of(way, mixed), errors=np.array(values, float)[:, None], **changes)


pytestmark = pytest.mark.usefixtures("repository")


def test_without_results_the_tables_say_so():
    assert chains.episodes().empty and "not run yet" in chains.ranks()
    text = chains.solved()
    assert text.count(">not run<") == len(ways.WAYS) and "`chain-greedy`" in text
    text = chains.mixed_solved()
    assert text.count(">not run<") == len(ways.MIXED_WAYS) and "`chain-mixed-greedy`" in text


def test_medians_and_failures_are_those_of_the_networks():
    made("parameter-noise", [*range(201, 210), 2000])
    made("epsilon-greedy", [300] * 4 + [2000] * 6)
    text = chains.solved()
    assert text.count("206 (202\u00a0to\u00a0209); 1 of 10 failed") == len(ways.LENGTHS)
    found = chains.episodes()
    assert len(found) == 2 * 10 * len(ways.LENGTHS)
    assert set(found[found.way == "parameter-noise"].groupby("length").episodes.median()) == {205.5}
    assert "failed; 6 of 10 failed" in text


@pytest.mark.parametrize(
    ("values", "word"),
    [([200] * 10, "fewer"), ([900] * 10, "more"), ([200] * 3 + [900] * 7, "not told apart")],
)
def test_ranks_go_by_intervals_that_do_not_meet(values, word):
    made("epsilon-greedy", [500] * 10)
    made("greedy", values)
    lines = [line for line in chains.ranks().splitlines() if line.startswith("| no exploration")]
    header = next(line for line in chains.ranks().splitlines() if line.startswith("| exploration"))
    cells = dict(zip(*([c.strip() for c in line.strip("|").split("|")] for line in (header, *lines))))
    assert cells[word] == ", ".join(map(str, ways.LENGTHS))


def test_plain_and_mixed_chains_have_tables_of_their_own():
    made("epsilon-greedy", [500] * 10)
    made("epsilon-greedy", [700] * 10, mixed=True)
    made("parameter-noise", [300] * 10)
    made("parameter-noise", [900] * 10, mixed=True)
    (plain,), (mixed,) = (
        [line for line in text.splitlines() if line.startswith("| parameter noise, adapted")]
        for text in (chains.ranks(), chains.mixed_ranks())
    )
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (plain, mixed)]
    assert cells[0][1:] == [", ".join(map(str, ways.LENGTHS)), "–", "–"]
    assert cells[1][1:] == ["–", ", ".join(map(str, ways.MIXED_LENGTHS)), "–"]
    assert chains.solved().count("500 (500") == len(ways.LENGTHS)
    assert chains.mixed_solved().count("900 (900") == len(ways.MIXED_LENGTHS)


def test_a_run_that_has_not_ended_is_not_judged():
    made("epsilon-greedy", [500] * 10)
    made("greedy", [200] * 10, done=10)
    assert "no exploration" not in chains.ranks() and ">partial<" in chains.solved()
