"""RL^2's tables beyond bandits: published numbers as the source has them, ours beside them."""

import json

import numpy as np
import pandas as pd
import pytest

from made_results import commit
from mamlkit.experiments import paper
from mamlkit.experiments.trials import EPISODES, tabular_name
from mamlkit.report import results, trials

EVERY = np.full(40, True)


def test_the_published_table_is_whole():
    found = trials.published()
    assert len(found) == 5 * 8
    table = found.pivot(index="episodes", columns="method", values="value")
    assert list(table.index) == list(EPISODES)
    assert (table["random"] / table.index).between(9.99, 10.02).all()  # 10 an episode
    assert (table.drop(columns="random").gt(table["random"], axis=0)).all().all()
    assert (table.loc[10, "RL²"], table.loc[100, "PSRL"], table.loc[50, "BEB"]) == (156.2, 1939.5, 917.8)


def test_ours_stand_beside_them_with_verdicts_and_what_was_played(repository):
    assert (trials.compared().verdict == "not run").all()
    assert f"To run what has no result yet: `python -m mamlkit run {tabular_name(10)}`, " in trials.tabular()
    folder = repository / "data" / "benchmarks" / "tabular"
    folder.mkdir(parents=True)
    line = {"episodes": 10, "strategy": "greedy", "value": 150.0, "ci95": 1.5}
    pd.DataFrame([line]).reindex(columns=trials.COLUMNS).to_csv(folder / "references.csv", index=False)
    totals = np.random.default_rng(0).normal(156.0, 25.0, (1000, 1))
    commit(repository, tabular_name(10), errors=totals, tasks=1000)
    found = trials.compared().set_index("episodes")
    assert found.margin[10] == pytest.approx(3.8) and found.verdict[10] in ("reproduced", "consistent")
    assert found.ours[10] == pytest.approx(totals.mean(), abs=1e-3) and found.verdict[25] == "not run"
    text = trials.tabular()
    assert "150.0" in text and "| 156.2 |" in text
    assert "134.8 / 150.0" in trials.tabular_references()


def test_navigation_is_drawn_over_the_steps_that_were_seen(repository):
    assert (
        len(trials.curves_by_seen("2d-navigation", EVERY)) == 0
        and "`2d-navigation-rl2`" in trials.navigation()
    )
    for name, first in (("2d-navigation-rl2", -14.0), ("2d-navigation-maml", -40.0)):
        errors = first / np.arange(1, 5) + np.random.default_rng(0).normal(0, 1, (40, 1))
        commit(repository, name, errors=errors, tasks=40)
    found = trials.curves_by_seen("2d-navigation", EVERY)
    assert found.seen.tolist() == [0, 100, 200, 300, 0, 4000, 8000, 12000]
    assert found.value.iloc[3] == pytest.approx(-3.5, abs=1) and (found.ci95 > 0).all()
    text = trials.navigation()
    assert "(300)" in text and "(12,000)" in text and "not run" not in text
    assert "| method | k = 0 | k = 1 | k = 2 | k = 3 |" in text


def test_half_cheetah_is_told_by_direction_beside_the_papers(repository):
    assert len(trials.curves_by_seen("half-cheetah-direction", EVERY)) == 0
    ways = results.directions("HalfCheetah direction")
    assert (ways["forward"] ^ ways["backward"]).all() and ways["forward"].sum() == 18
    for name, entries in (("rl2", 2), ("maml", 4)):
        errors = 100.0 * np.arange(1, entries + 1) + np.random.default_rng(0).normal(0, 1, (40, 1))
        errors[ways["backward"]] *= -1
        commit(repository, f"half-cheetah-direction-{name}", errors=errors, tasks=40)
    found = trials.curves_by_seen("half-cheetah-direction", ways["backward"])
    assert found.seen.tolist() == [0, 200, 0, 4000, 8000, 12000]
    assert found.value.tolist() == pytest.approx([-100, -200, -100, -200, -300, -400], abs=1)
    assert (found.ci95 < 1).all()
    lines = [line.split("|")[1:-1] for line in trials.direction().splitlines() if line.startswith("| ")]
    cells = {tuple(cell.strip() for cell in line[:2]): " ".join(line[2:]) for line in lines}
    assert "200.1" in (cell := cells["forward", "RL²"]) and "(200)" in cell
    assert "(4,000)" in cells["backward", "MAML"]
    assert "−399.8" in cells["backward", "MAML"]
    assert "not run" in cells["forward", "MAML, first order"]
    assert "320.31" in cells["forward", "MAML, published"]  # Fig. 5, mean of the forward goals
    assert "RL² 20; MAML 160." in trials.direction()


def test_trainings_are_drawn_over_the_steps_of_the_environment_that_they_took(repository):
    assert trials.trained("2d-navigation").empty
    oracle = {"return_before": [4.0, 6.0]}
    for name, columns in (
        ("half-cheetah-direction-rl2", {"return": [10.0, 30.0]}),
        ("half-cheetah-direction-maml", {"return_before": [1.0, 2.0], "return_after": [5.0, 7.0]}),
        ("half-cheetah-direction-oracle", oracle),
    ):
        folder = repository / "data" / "results" / name
        folder.mkdir(parents=True, exist_ok=True)
        log = pd.DataFrame({"iteration": [10, 20], "seconds": [1.0, 2.0]} | columns)
        log.to_csv(folder / "seed0.metrics.csv", index=False)
        (folder / "seed0.json").write_text(json.dumps({"settings": paper.get(name).settings}))
    found = trials.trained("half-cheetah-direction")
    rl2, maml = (found[found.row == f"half-cheetah-direction-{name}"] for name in ("rl2", "maml"))
    assert rl2.steps.tolist() == [400_000, 800_000] and rl2.value.tolist() == [5.0, 15.0]
    assert maml.steps.tolist() == [3_200_000, 6_400_000] and maml.value.tolist() == [5.0, 7.0]
    told = found[found.row == "half-cheetah-direction-oracle"]
    assert told.steps.tolist() == [200_000, 400_000] and told.value.tolist() == [4.0, 6.0]
    assert len(found) == 6


def test_the_two_step_task_stands_beside_the_best_possible(repository):
    assert "`two-step-rl2`" in trials.two_step() and "best possible |" not in trials.two_step()
    folder = repository / "data" / "benchmarks" / "two-step"
    folder.mkdir(parents=True)
    lines = [{"strategy": "random", "value": 50.0}, {"strategy": "best possible", "value": 69.1}]
    pd.DataFrame(lines).reindex(columns=trials.COLUMNS).to_csv(folder / "references.csv", index=False)
    commit(repository, "two-step-rl2", errors=np.full((2000, 1), 68.0) + np.eye(2000, 1), tasks=2000)
    text = trials.two_step()
    assert "best possible |" in text and "69.10" in text and "68.0" in text and "not run" not in text
    assert "| seeds |" in text and "| 1 |" in text
