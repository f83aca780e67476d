"""RL^2's runs: reproducible whatever the threads, resumed exactly, within what is possible, and learning."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from made_runs import same
from mamlkit.engine.ranks import Ranks
from mamlkit.experiments import paper
from mamlkit.experiments.bandits import BanditEvaluation, BanditRow, name_of
from mamlkit.rl import bandit_values, bandits
from mamlkit.runs import bandits as runs
from mamlkit.runs import folders, keeping, memory, queue, rederive, train, trainings

ROWS = [row for row in paper.ROWS.values() if isinstance(row, BanditRow)]
SMALL = {"meta_batch_size": 12, "iterations": 14, "units": 6, "minibatches": 3}
TEST = BanditEvaluation("bandits", 40)
ROW = dataclasses.replace(paper.get(name_of(5, 10)), name="small-bandits", evaluations=(TEST,), **SMALL)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_can_be_trained_and_tested(row):
    few = {"meta_batch_size": 4, "iterations": 1, "pulls": min(row.pulls, 12), "epochs": 1, "quick": {}}
    small = dataclasses.replace(row, evaluations=(TEST,), **few)
    fit = train.fit(small)
    found = trainings.evaluate_row(small, fit.params)["bandits"]
    assert found.keys() == {"return", "regret"}
    assert all(values.shape == (40, 1) and np.isfinite(values).all() for values in found.values())
    assert row.at("quick").meta_batch_size >= row.at("quick").minibatches


def test_the_cells_are_those_of_the_sources():
    cells = {(row.arms, row.pulls) for row in ROWS if row.arms > 2}
    assert cells == {(arms, pulls) for arms in (5, 10, 50) for pulls in (10, 100, 500)}
    assert {row.kind for row in ROWS if row.arms == 2} == bandits.KINDS.keys()
    assert {row.pulls for row in ROWS if row.arms == 2} == {100}
    assert all((row.discount, row.decay) == (0.99, 0.3) for row in ROWS)
    assert all(name == row.name for name, row in paper.ROWS.items() if isinstance(row, BanditRow))


@pytest.mark.parametrize("until", [3, 10])
def test_a_run_that_is_cut_goes_on_exactly(until, tmp_path):
    whole = train.fit(ROW)
    with folders.open_run(ROW, 0, "cpu", base=tmp_path) as folder:
        train.fit(ROW, folder=folder, until=until)
        rest = train.fit(ROW, folder=folder)
    assert same(whole.params, rest.params) and rest.iteration == 14
    columns = [column for column in whole.log if column != "seconds"]
    assert whole.log[columns].equals(rest.log[columns]) and list(whole.log.iteration) == [10, 14]
    assert not same(whole.params, train.fit(ROW, seed=1).params)


def test_the_number_of_threads_changes_nothing():
    threads, found = torch.get_num_threads(), []
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            params = train.fit(ROW, until=3).params
            found.append((params, memory.evaluate(ROW, params, TEST)["return"]))
    finally:
        torch.set_num_threads(threads)
    assert same(found[0][0], found[1][0]) and (found[0][1] == found[1][1]).all()


def test_a_run_is_written_and_its_number_found_again(tmp_path, repository, monkeypatch):
    row = dataclasses.replace(ROW, name=name_of(5, 10))
    monkeypatch.setitem(paper.ROWS, row.name, row)
    with folders.open_run(row, 0, "cpu", base=tmp_path) as folder:
        fit = train.fit(row, folder=folder)
        found = queue.evaluate_run(row, folder, fit)["bandits"]
        written = keeping.keep(folder)
    assert all(value.dtype == torch.float16 for value in fit.params.values())
    assert {path.name for path in written} == {
        f"seed0.{s}" for s in ("json", "tasks.npz", "metrics.csv", "safetensors")
    }
    from mamlkit.report import results

    ours = results.summary(row.name, "bandits", 0, "return")
    assert ours.value == pytest.approx(found["return"].mean(), abs=1e-5) and ours.tasks == 40
    # fresh bandits: five standard errors of the difference, wrong in one of 1.7 million seeds
    assert rederive.standard_errors(row.name, tasks=60, seed=5)[0] < 5
    assert keeping.has_parameters(row.name, 0) and not keeping.has_parameters(row.name, 1)


def test_a_number_is_found_again_by_the_test_that_is_asked_for(monkeypatch):
    row = dataclasses.replace(ROW, evaluations=(TEST, BanditEvaluation("more bandits", 50)))
    committed = {"more bandits": {"regret": {"mean": [1e6], "sd": [1.0], "tasks": 50}}}
    monkeypatch.setitem(paper.ROWS, row.name, row)
    monkeypatch.setattr(rederive.results, "load", lambda name: [{"evaluations": committed}])
    monkeypatch.setattr(rederive.checkpoints, "load_params", lambda path: memory.init(row))
    assert rederive.standard_errors(row.name, "more bandits", tasks=20)[0] > 1000


def test_all_who_are_tested_have_the_same_bandits_and_the_same_luck():
    params = train.fit(ROW, until=1).params
    arms = runs.bandits_of(ROW, TEST)
    assert (arms == runs.bandits_of(ROW, TEST)).all() and (arms != runs.bandits_of(ROW, TEST, 1)).any()
    ours = memory.evaluate(ROW, params, TEST)
    theirs = runs.of_strategy(ROW, bandits.random, TEST)
    # a new policy pulls at random: with another choice of arms, but as lucky
    assert np.corrcoef(ours["return"][:, 0], theirs["return"][:, 0])[0, 1] > 0.5
    assert (memory.evaluate(ROW, params, TEST, seed=3)["return"] != ours["return"]).any()
    assert (ours["regret"] >= 0).all()


def pair(**changes):
    """Two arms of which one pays with 0.9, ten pulls."""
    sizes = {
        "meta_batch_size": 100,
        "iterations": 30,
        "pulls": 10,
        "units": 16,
        "outer_lr": 0.02,
        "minibatches": 2,
        "quick": {},
    }
    return dataclasses.replace(paper.get(name_of(2, 100, "easy")), name="small-pair", **sizes | changes)


def test_a_policy_learns_and_does_not_pass_the_best_possible():
    """Within five standard errors, wrong in one of 1.7 million seeds."""
    row, test = pair(), BanditEvaluation("bandits", 2000)
    found = memory.evaluate(row, train.fit(row).params, test)["regret"][:, 0]
    least = 9 - bandit_values.optimal_known_pair(10, 0.9)
    assert found.mean() > least - 5 * found.std(ddof=1) / math.sqrt(len(found))
    assert found.mean() < 2.5  # at random it is 4


def test_a_policy_that_is_not_told_its_reward_learns_nothing():
    """Regret of random play: 4, within five standard errors; the row alone says what it is told in a test."""
    row, test = pair(tell_reward=False), BanditEvaluation("bandits", 2000)
    params = train.fit(row).params
    found = memory.evaluate(row, params, test)["regret"][:, 0]
    assert abs(found.mean() - 4) < 5 * found.std(ddof=1) / math.sqrt(len(found))
    draw = torch.Generator().manual_seed(0)  # one that listens to everything: some 90 of 2,000 trials differ
    some = {name: torch.randn(value.shape, generator=draw) for name, value in memory.init(row).items()}
    told, untold = (memory.evaluate(each, some, test)["regret"] for each in (pair(), row))
    assert (told != untold).sum() > 20
    assert row.fingerprint != pair().fingerprint and "tell_reward" not in pair().settings


def test_rates_fall_to_zero_unless_the_row_says_that_they_stay(monkeypatch):
    counted, update = [], memory.rl2.update
    keep = lambda *given, **how: counted.append(how["entropy"]) or update(*given, **how)
    monkeypatch.setattr(memory.rl2, "update", keep)
    for falling, shares in ((True, [1.0, 0.75, 0.5, 0.25]), (False, [1.0] * 4)):
        row = pair(iterations=4, meta_batch_size=4, falling=falling)
        training, rates = memory.MemoryTraining(row, 0, "cpu"), []
        for iteration in range(4):
            training.step(iteration)
            rates.append(training.optimiser.param_groups[0]["lr"] / row.outer_lr)
        assert rates == pytest.approx(shares)
        assert counted == pytest.approx([row.entropy * share for share in shares])
        counted.clear()


def test_parameters_that_are_not_finite_are_refused(tmp_path):
    params = train.fit(ROW, until=1).params
    params["policy_head"][0, 0] = torch.inf
    with pytest.raises(
        FloatingPointError, match="small-bandits: the parameters of the policy are not finite"
    ):
        memory.evaluate(ROW, params, TEST)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "simple"}, "kind='simple', but it must be one of"),
        ({"kind": "easy"}, "arms=5, but 'easy' bandits have two"),
        ({"arms": 1}, "arms=1, but it must be a whole number, at least 2"),
        ({"discount": 1.5}, "discount=1.5, but it must lie between 0 and 1"),
        ({"minibatches": 13}, "minibatches=13, but there are 12 trials"),
        ({"clip": 0.0}, "clip=0.0, but it must be positive"),
        ({"pulls": 0}, "pulls=0"),
    ],
)
def test_settings_that_no_run_can_have_are_refused(changes, said):
    with pytest.raises(ValueError, match=f"small-bandits: {said}"):
        dataclasses.replace(ROW, **changes)


def test_it_is_neither_recorded_nor_dealt_to_processes():
    with pytest.raises(ValueError, match="leave recorded out"):
        trainings.begin(ROW, recorded=True)
    with pytest.raises(ValueError, match="without torchrun"):
        trainings.begin(ROW, ranks=Ranks(0, 2))
