"""The benchmark of the classical ways to play: a line for each, chosen and tested on different tasks."""

import dataclasses

import pytest
import references

from mamlkit.experiments.bandits import PAIRS, name_of
from mamlkit.experiments.paper import get
from mamlkit.experiments.trials import tabular_name
from mamlkit.report import bandits, trials

pytestmark = pytest.mark.benchmark


def test_every_way_has_a_line_and_the_columns_that_the_page_reads():
    row = dataclasses.replace(get(name_of(5, 10)), name="small-bandits", pulls=6)
    lines = list(references.of_bandits(row, 60))
    assert [line["strategy"] for line in lines] == list(bandits.STRATEGIES)
    for line in lines:
        assert list(line) == list(bandits.measured().columns)
        assert 0 < line["value"] < 6 and line["regret"] > 0 and line["tasks"] == 60
    chosen = {line["strategy"]: line["setting"] for line in lines}
    assert chosen["UCB1"] in references.WIDTHS and chosen["Gittins"] in references.DISCOUNTS


def test_so_has_every_way_to_play_processes():
    row = dataclasses.replace(get(tabular_name(10)), name="small-tabular", episodes=2)
    lines = list(references.of_tabular(row, 60))
    assert [line["strategy"] for line in lines] == list(trials.WAYS)
    for line in lines:
        assert list(line) == trials.COLUMNS and line["regret"] > 0 and line["episodes"] == 2


def test_the_two_step_task_has_its_exact_lines():
    lines = list(references.of_two_step(get("two-step-rl2"), 1))
    assert {line["strategy"]: line["value"] for line in lines}["random"] == 50
    assert list(references.MADE) == list(references.NAMES) and 68 < lines[1]["value"] < 70


def test_two_arms_have_the_best_possible_regret_too():
    wanted = {"independent": 1.748, "dependent": 1.221, "easy": 0.625, "medium": 1.0, "hard": 2.312}
    for kind in PAIRS:
        assert references.best_possible(kind) == pytest.approx(wanted[kind], abs=1e-3)
