"""RL^2's tables beyond bandits: published numbers as the source has them, ours beside them."""

import numpy as np
import pandas as pd
import pytest

from made_results import commit
from mamlkit.experiments.trials import EPISODES, tabular_name
from mamlkit.report import trials


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
    assert f"`{tabular_name(10)}`" in trials.tabular()
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
    assert len(trials.navigation_curves()) == 0 and "`2d-navigation-rl2`" in trials.navigation()
    for name, first in (("2d-navigation-rl2", -14.0), ("2d-navigation-maml", -40.0)):
        errors = first / np.arange(1, 5) + np.random.default_rng(0).normal(0, 1, (40, 1))
        commit(repository, name, errors=errors, tasks=40)
    found = trials.navigation_curves()
    assert found.seen.tolist() == [0, 100, 200, 300, 0, 4000, 8000, 12000]
    assert found.value.iloc[3] == pytest.approx(-3.5, abs=1) and (found.ci95 > 0).all()
    text = trials.navigation()
    assert "(300)" in text and "(12,000)" in text and "not run" not in text


def test_the_two_step_task_stands_beside_the_best_possible(repository):
    assert "`two-step-rl2`" in trials.two_step() and "best possible |" not in trials.two_step()
    folder = repository / "data" / "benchmarks" / "two-step"
    folder.mkdir(parents=True)
    lines = [{"strategy": "random", "value": 50.0}, {"strategy": "best possible", "value": 69.1}]
    pd.DataFrame(lines).reindex(columns=trials.COLUMNS).to_csv(folder / "references.csv", index=False)
    commit(repository, "two-step-rl2", errors=np.full((2000, 1), 68.0) + np.eye(2000, 1), tasks=2000)
    text = trials.two_step()
    assert "best possible |" in text and "69.10" in text and "68.0" in text and "not run" not in text
