"""RL^2 beyond bandits: every row runs, resumes exactly, is the same with any threads, and stays in bounds."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from made_runs import same
from mamlkit.experiments import paper
from mamlkit.experiments.trials import EPISODES, LARGER, TrialRow, tabular_name
from mamlkit.report import results
from mamlkit.rl import envs, goal_trials, tabular_play
from mamlkit.runs import folders, keeping, memory, policies, queue, rederive, train, trainings

ROWS = [row for row in paper.ROWS.values() if isinstance(row, TrialRow) and row.name != LARGER]
SMALL = {"meta_batch_size": 6, "iterations": 4, "units": 6, "minibatches": 2, "episodes": 2}


def small(row, **changes):
    few = [(test, min(test.entries, SMALL["episodes"])) for test in row.evaluations]
    tests = tuple(dataclasses.replace(test, tasks=5, entries=entries) for test, entries in few)
    return dataclasses.replace(row, name=f"small-{row.name}", evaluations=tests, quick={}, **SMALL | changes)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_can_be_trained_and_tested(row):
    some = small(row, iterations=1)
    fit = train.fit(some)
    found = trainings.evaluate_row(some, fit.params)
    for test in some.evaluations:
        assert "return" in found[test.name]
        for values in found[test.name].values():
            assert values.shape == (5, test.inner_steps + 1) and np.isfinite(values).all()
    quick = row.at("quick")
    assert quick.meta_batch_size >= quick.minibatches and quick.episodes <= row.episodes


FAMILIES = list({row.family: row for row in ROWS}.values())
each_family = pytest.mark.parametrize("row", FAMILIES, ids=lambda row: row.family)


@each_family
def test_a_run_that_is_cut_goes_on_exactly(row, tmp_path):
    some = small(row)
    whole = train.fit(some)
    with folders.open_run(some, 0, "cpu", base=tmp_path) as folder:
        train.fit(some, folder=folder, until=2)
        rest = train.fit(some, folder=folder)
    assert same(whole.params, rest.params) and rest.iteration == 4
    columns = [column for column in whole.log if column != "seconds"]
    assert whole.log[columns].equals(rest.log[columns])
    assert not same(whole.params, train.fit(some, seed=1, until=1).params)


@each_family
def test_the_number_of_threads_changes_nothing(row):
    some, threads, found = small(row), torch.get_num_threads(), []
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            params = train.fit(some, until=2).params
            found.append((params, trainings.evaluate_row(some, params)[some.evaluations[0].name]["return"]))
    finally:
        torch.set_num_threads(threads)
    assert same(found[0][0], found[1][0]) and (found[0][1] == found[1][1]).all()


@each_family
def test_a_run_is_written_and_its_number_found_again(row, tmp_path, repository, monkeypatch):
    some = dataclasses.replace(small(row), name=row.name)
    monkeypatch.setitem(paper.ROWS, row.name, some)
    with folders.open_run(some, 0, "cpu", base=tmp_path) as folder:
        fit = train.fit(some, folder=folder, until=1)
        found = queue.evaluate_run(some, folder, fit)
        keeping.keep(folder)
    assert all(value.dtype == torch.float16 for value in fit.params.values())
    from mamlkit.report import results

    test = some.evaluations[0]
    ours = results.summary(row.name, test.name, test.headline_step, "return")
    assert ours.value == pytest.approx(found[test.name]["return"][:, -1].mean(), abs=1e-4)
    # fresh tasks; a test of five has wide tails, so this is about finding the number at all
    assert (
        max(rederive.standard_errors(row.name, steps=range(test.inner_steps + 1), tasks=20, seed=5).values())
        < 12
    )


def test_the_rows_are_those_of_the_source():
    assert [row.episodes for row in ROWS if row.family == "tabular"] == list(EPISODES)
    assert all((row.discount, row.decay) == (0.99, 0.3) for row in ROWS if row.family == "tabular")
    with pytest.raises(
        ValueError, match="family='maze', but it must be one of 'tabular', 'two-step', '2d-navigation'"
    ):
        dataclasses.replace(ROWS[0], family="maze")
    with pytest.raises(ValueError, match="entries=4 of '40 goals'"):
        dataclasses.replace(paper.get("2d-navigation-rl2"), episodes=3)
    with pytest.raises(ValueError, match="show_goal, but tasks of family 'tabular' have no goal"):
        dataclasses.replace(ROWS[0], show_goal=True)
    with pytest.raises(ValueError, match="episodes=0"):
        dataclasses.replace(ROWS[0], episodes=0)


def test_the_trial_of_other_settings_has_the_same_tasks_and_no_committed_parameters():
    small, larger = paper.get(tabular_name(10)), paper.get(LARGER)
    changed = {key for key, value in larger.settings.items() if small.settings.get(key) != value}
    assert changed == {"units", "epochs", "clip", "entropy", "outer_lr", "falling", "iterations"}
    assert larger.evaluations == small.evaluations
    assert keeping.has_parameters(small.name, 0) and not keeping.has_parameters(LARGER, 0)


def test_processes_and_luck_are_shared_by_all_who_are_tested():
    row = dataclasses.replace(paper.get(tabular_name(10)), name="small", episodes=3)
    test = dataclasses.replace(row.evaluations[0], tasks=200)
    params = memory.init(row)
    ours = memory.evaluate(row, params, test)
    theirs = memory.of_play(row, tabular_play.random, test)
    # A new policy plays at random in the same processes, whose best is the same: so regrets go together.
    # Without that the correlation of 200 would have a deviation of 0.07.
    assert np.corrcoef(ours["regret"][:, 0], theirs["regret"][:, 0])[0, 1] > 0.35
    assert (memory.of_play(row, tabular_play.random, test)["return"] == theirs["return"]).all()
    assert (memory.evaluate(row, params, test, seed=1)["return"] != ours["return"]).any()


def test_no_start_state_is_drawn_as_the_goals_are():
    """Of two keys that NumPy takes for one, such as (3, 5) and (3, 5, 0), the random numbers are the same."""
    first = lambda *key: float(np.random.default_rng(key).random())
    starts = {first(3, trial, episode) for trial in range(200) for episode in range(8)}
    assert first(3, 5) in starts and len(starts) == 1600
    (goals,) = memory.tasks_of(paper.get("half-cheetah-direction-rl2"), 3, 50)
    drawn = envs.sample_goals("half-cheetah-direction", np.random.default_rng((3, *memory.GOALS)), 50)
    assert (goals.env.goals == drawn).all() and first(3, *memory.GOALS) not in starts


def test_the_row_that_is_told_the_goal_differs_in_that_alone():
    untold, told = (paper.get(f"half-cheetah-direction-{name}") for name in ("rl2", "told-rl2"))
    assert told.settings == untold.settings | {"show_goal": True}
    sizes = [memory.init(row)["policy_inputs"].shape[1] for row in (untold, told)]
    assert sizes[1] == sizes[0] + 1


def test_half_cheetah_has_an_eighth_of_mamls_steps_and_its_goals():
    row, maml = paper.get("half-cheetah-direction-rl2"), paper.get("half-cheetah-direction-maml")
    ours = row.iterations * row.meta_batch_size * row.episodes
    assert 8 * ours == maml.iterations * maml.meta_batch_size * maml.rollouts * 2  # of 200 steps each
    assert row.evaluations[0].tasks == maml.evaluations[0].tasks == 40
    test = dataclasses.replace(row.evaluations[0], tasks=2, repeats=2)
    found = memory.evaluate(row, memory.init(row), test)["return"]
    assert found.shape == (2, 2) and np.isfinite(found).all()
    small = dataclasses.replace(row, meta_batch_size=4, minibatches=2, iterations=2, units=4, evaluations=())
    assert train.fit(small).iteration == 2


def test_navigation_has_as_many_steps_as_maml_and_its_goals():
    row, maml = paper.get("2d-navigation-rl2"), paper.get("2d-navigation-maml")
    ours = row.iterations * row.meta_batch_size * row.episodes
    assert ours == maml.iterations * maml.meta_batch_size * maml.rollouts * 2  # episodes of 100 steps each
    assert row.evaluations[0].tasks == maml.evaluations[0].tasks == 40
    test = dataclasses.replace(row.evaluations[0], tasks=3, repeats=2)
    found = memory.evaluate(row, memory.init(row), test)["return"]
    assert found.shape == (3, 4) and (found < 0).all()  # minus distances
    with pytest.raises(ValueError, match="the strategy is for 'tabular'"):
        memory.of_play(row, tabular_play.random, test)


@pytest.mark.parametrize("name", ["2d-navigation-rl2", "half-cheetah-direction-rl2"])
def test_a_return_is_that_of_its_own_goal(name, monkeypatch):
    row = dataclasses.replace(paper.get(name), units=4)
    test = dataclasses.replace(row.evaluations[0], tasks=5, repeats=3)
    goals = policies.test_goals(row.family)[:5].reshape(5, -1)
    first = lambda part, trials: {"return": part.env.goals.reshape(15, -1)[:, :1]}
    monkeypatch.setattr(goal_trials.GoalTrials, "measured", first)
    monkeypatch.setattr(memory, "played", lambda params, some, *_, **__: [None] * len(some))
    assert np.allclose(memory.evaluate(row, memory.init(row), test)["return"], goals[:, :1], rtol=1e-12)


@pytest.mark.parametrize("name", ["2d-navigation-rl2", "half-cheetah-direction-rl2"])
def test_more_goals_than_there_are_are_refused_before_training(name):
    row = paper.get(name)
    more = dataclasses.replace(row, evaluations=(dataclasses.replace(row.evaluations[0], tasks=41),))
    with pytest.raises(ValueError, match=f"tasks=41, but .* has 40 of {row.family}; add some"):
        trainings.begin(more)


def test_tests_have_keys_that_no_training_has():
    tests = {memory.number(seed, memory.TEST) for seed in range(10)}
    trained = {memory.number(seed, memory.TRAIN, i) for seed in range(10) for i in range(1000)}
    assert len(tests) == 10 and len(trained) == 10_000 and not tests & trained


def test_rates_and_entropy_fall_to_zero_and_tasks_are_new(monkeypatch):
    row = dataclasses.replace(paper.get("tabular-10-episodes-rl2"), units=4, meta_batch_size=4, minibatches=1)
    row, seen, keys, plain = dataclasses.replace(row, iterations=4, evaluations=()), [], [], memory.tasks_of

    def spied(params, optimiser, *_, **how):
        seen.append((optimiser.param_groups[0]["lr"], how["entropy"]))
        return torch.zeros(()), torch.zeros(())

    def drawn(row, key, *given):
        keys.append(key)
        return plain(row, key, *given)

    monkeypatch.setattr(memory.rl2, "update", spied)
    monkeypatch.setattr(memory, "tasks_of", drawn)
    train.fit(row)
    shares = [1, 3 / 4, 2 / 4, 1 / 4]
    assert [lr for lr, _ in seen] == pytest.approx([row.outer_lr * share for share in shares])
    assert [entropy for _, entropy in seen] == pytest.approx([row.entropy * share for share in shares])
    assert len(set(keys[-4:])) == 4  # the first asks for sizes


def test_of_goals_the_difference_is_taken_goal_by_goal(monkeypatch):
    row, noise = paper.get("2d-navigation-rl2"), np.random.default_rng(0)
    kept = 100 * noise.normal(size=(40, 4))
    new = kept[:15] + 1 + noise.normal(size=(15, 4))
    monkeypatch.setattr(results, "per_task_errors", lambda *_: kept)
    asked = []

    def evaluated(row, params, test, **_):
        asked.append(test.tasks)
        return {"return": new}

    monkeypatch.setattr(rederive.memory, "evaluate", evaluated)
    test = row.evaluations[0]
    found = rederive.of_memory(row, {}, test, [0, 3], 15, seed=1, device="cpu")
    change = (new - kept[:15])[:, [0, 3]]
    assert list(found.values()) == pytest.approx(change.mean(0) / change.std(0, ddof=1) * 15**0.5)
    rederive.of_memory(row, {}, test, [0], 200, seed=1, device="cpu")
    assert asked == [15, 40]


def test_the_update_gets_the_settings_of_the_row_and_the_log_the_trials_total(monkeypatch):
    """Settings that no two of are alike, so that none is taken for another."""
    row = small(
        paper.get("tabular-10-episodes-rl2"), discount=0.7, decay=0.6, clip=0.5, entropy=0.4, epochs=3
    )
    row, seen = dataclasses.replace(row, evaluations=(), falling=False), []

    def spied(params, optimiser, trials, draw, **how):
        seen.append((trials, how))
        return torch.zeros(()), torch.zeros(())

    monkeypatch.setattr(memory.rl2, "update", spied)
    training = trainings.begin(row)
    training.step(0)
    ((trials, how),) = seen
    settings = {name: how[name] for name in ("discount", "decay", "clip", "entropy", "epochs", "minibatches")}
    assert settings == {
        "discount": 0.7,
        "decay": 0.6,
        "clip": 0.5,
        "entropy": 0.4,
        "epochs": 3,
        "minibatches": 2,
    }
    total = trials.rewards.sum(1)
    assert training.window[0] == total.mean() and trials.rewards.shape == (6, 20)


@pytest.mark.parametrize("name", ["tabular-10-episodes-rl2", "bandit-5-arms-10-pulls-rl2"])
def test_every_iteration_draws_actions_and_luck_of_its_own_and_so_does_every_seed(name, monkeypatch):
    row = dataclasses.replace(paper.get(name), units=4, meta_batch_size=4, minibatches=1, evaluations=())
    test = dataclasses.replace(paper.get(name).evaluations[0], tasks=4)
    noise, play = [], memory.memory.sample
    monkeypatch.setattr(memory.rl2, "update", lambda *_, **__: (torch.zeros(()), torch.zeros(())))
    spied = lambda params, tasks, drawn, **how: (noise.append(drawn), play(params, tasks, drawn, **how))[1]
    monkeypatch.setattr(memory.memory, "sample", spied)
    for seed in (0, 1):
        training = trainings.begin(row, seed)
        for iteration in (0, 1):
            training.step(iteration)
        memory.evaluate(row, training.result(), test, seed=seed)
    assert len(noise) == 6
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(noise, 2))
    one, other = (vars(memory.tasks_of(row, key, 4)[0]) for key in (1, 2))
    luck = {"_luck", "_chance", "_noise"} & one.keys()
    assert luck and not any(torch.equal(one[each], other[each]) for each in luck)
