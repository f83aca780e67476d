"""Small Markov decision processes: their distribution, exact planning, play within what is possible."""

from itertools import product

import numpy as np
import pytest
import torch

from mamlkit.rl import memory, tabular, tabular_play
from mamlkit.rl.tabular import ACTIONS, HORIZON, STATES, Processes, Tabular

ERRORS = 5  # standard errors: wrong in one of 1.7 million seeds
WAYS = {
    "random": tabular_play.random,
    "greedy": tabular_play.greedy,
    "epsilon": tabular_play.epsilon_greedy(0.1),
    "posterior": tabular_play.posterior,
    "bonus": tabular_play.bonus(0.5),
}


def made(tasks, episodes, seed=0):
    return Tabular(*tabular.sample(seed, tasks), *tabular.luck(seed, tasks, episodes * HORIZON))


def value_of(processes, actions):
    """The expected return of an episode, ``[tasks]``, of actions by step and state."""
    everyone = np.arange(len(actions))[:, None], np.arange(actions.shape[2])[None]
    value = np.zeros((len(actions), actions.shape[2]))
    for chosen in actions.swapaxes(0, 1)[::-1]:
        ahead = (processes.transitions[(*everyone, chosen)] @ value[..., None])[..., 0]
        value = processes.rewards[(*everyone, chosen)] + ahead
    return value[:, 0]


def far(values, wanted):
    return abs(values.mean() - wanted) / (values.std(ddof=1) / np.sqrt(len(values)))


def test_processes_are_those_of_the_source():
    transitions, rewards = tabular.sample(0, 2000)
    assert transitions.shape == (2000, STATES, ACTIONS, STATES) and np.allclose(transitions.sum(-1), 1)
    # a component of a flat Dirichlet of ten is Beta(1, 9)
    assert (
        far(transitions[:, 0, 0, 3], 0.1) < ERRORS
        and far((transitions > 0.3).mean((1, 2, 3)), 0.7**9) < ERRORS
    )
    assert far(rewards[:, 2, 1], 1.0) < ERRORS and far((rewards[:, 2, 1] - 1) ** 2, 1.0) < ERRORS
    assert (tabular.sample(0, 3).rewards == tabular.sample(0, 3).rewards).all()
    with pytest.raises(ValueError, match="tasks=0"):
        tabular.sample(0, 0)


def test_planning_is_the_best_of_all_ways_to_play_and_these_are_valued_by_their_paths():
    draw, states, actions, horizon = np.random.default_rng(0), 2, 2, 3
    some = Processes(
        draw.dirichlet(np.ones(states), (4, states, actions)), draw.standard_normal((4, states, actions))
    )
    best = np.full(4, -np.inf)
    for choice in product(range(actions), repeat=horizon * states):
        table = np.broadcast_to(np.reshape(choice, (horizon, states)), (4, horizon, states))
        value = np.zeros(4)
        for path in product(range(states), repeat=horizon):  # after each step
            here, chance, earned = 0, np.ones(4), np.zeros(4)
            for time, there in enumerate(path):
                action = table[0, time, here]
                earned = earned + some.rewards[:, here, action]
                chance = chance * some.transitions[:, here, action, there]
                here = there
            value += chance * earned
        assert value_of(some, table) == pytest.approx(value)
        best = np.maximum(best, value)
    values, table = tabular.plan(some, horizon)
    assert values[:, 0, 0] == pytest.approx(best) and value_of(some, table) == pytest.approx(best)


def test_a_step_goes_where_the_process_says_and_pays_what_it_says():
    count = 20_000
    one = tabular.sample(3, 1)
    some = Tabular(*(np.repeat(each, count, 0) for each in one), *tabular.luck(0, count, HORIZON))
    assert torch.equal(some.begin().argmax(-1), torch.zeros(count, dtype=torch.long))
    after = some.step(torch.full((count,), 2))
    share = after.observations.mean(0).numpy()
    chance = one.transitions[0, 0, 2]
    assert (np.abs(share - chance) < ERRORS * np.sqrt(chance * (1 - chance) / count)).all()
    rewards = after.rewards.numpy().astype(float)
    assert (
        far(rewards, one.rewards[0, 0, 2]) < ERRORS and far((rewards - one.rewards[0, 0, 2]) ** 2, 1) < ERRORS
    )
    assert not after.ended.any() and not after.over.any()


def test_episodes_begin_in_the_first_state_and_end_after_ten_steps():
    some = made(6, 2)
    trials = tabular_play.play(tabular_play.random, some, 0)
    first = trials.observations.argmax(-1)[:, [0, HORIZON]]
    assert not first.any() and trials.lived.all()
    assert trials.ended.nonzero()[:, 1].unique().tolist() == [HORIZON - 1, 2 * HORIZON - 1]
    inputs = memory.inputs_of(trials, some.actions)
    assert inputs[:, HORIZON, -1].all() and inputs[:, HORIZON, 0].all()  # the flag, and the first state
    luck = tabular.luck(0, 6, 15)
    with pytest.raises(ValueError, match="whole episodes of 10 steps"):
        Tabular(*tabular.sample(0, 6), *luck)


def test_random_play_earns_what_it_should_and_planning_with_the_process_known_its_value():
    some = made(3000, 2)
    found = some.measured(tabular_play.play(tabular_play.random, some, 0))
    assert far(found["return"][:, 0], 2 * HORIZON) < ERRORS  # 10 an episode: all means are 1
    best, table = tabular.plan(some.processes)
    known = some.measured(tabular_play.play(lambda known, draw: table, some, 0))
    assert far(known["return"][:, 0] - 2 * best[:, 0, 0], 0) < ERRORS
    assert far(known["regret"][:, 0], 0) < ERRORS


@pytest.mark.parametrize("way", WAYS)
def test_no_way_passes_the_best_and_each_repeats(way):
    some = made(400, 6)
    one, two = (tabular_play.play(WAYS[way], some, 1) for _ in range(2))
    assert torch.equal(one.actions, two.actions) and torch.equal(one.rewards, two.rewards)
    regret = some.measured(one)["regret"][:, 0]
    assert regret.mean() > 0 and far(regret, 0) > ERRORS
    if way != "random":  # it has learned
        returns = memory.by_episode(one, 6).numpy()
        assert (returns[:, -1] - returns[:, 0]).mean() > 0


def test_any_action_is_taken_in_a_share_of_the_steps_each_by_itself():
    """Of five actions one is the best anyway. A variance of 4,000 counts has an error of sqrt(2 / 4,000)."""
    draw, shape, tasks = np.random.default_rng(0), (4000, STATES, ACTIONS), 4000
    known = tabular_play.Known(np.zeros((*shape, STATES)), np.ones(shape), draw.normal(0, 3, shape), HORIZON)
    best = tabular_play.greedy(known, draw)
    for share in (0.1, 0.4):
        found = tabular_play.epsilon_greedy(share)(known, draw) != best
        counts, chance = found.sum((1, 2)), 0.8 * share
        assert found.shape == (tasks, HORIZON, STATES) and far(counts, 100 * chance) < ERRORS
        assert abs(counts.var() / (100 * chance * (1 - chance)) - 1) < ERRORS * np.sqrt(2 / tasks)
    assert (tabular_play.epsilon_greedy(0)(known, draw) == best).all()


def test_a_bonus_falls_with_one_over_the_times_that_an_action_was_taken(monkeypatch):
    planned = []
    monkeypatch.setattr(tabular_play, "plan", lambda *given: planned.append(given) or (None, None))
    times = np.array([[[0.0, 1.0], [4.0, 99.0]]])
    known = tabular_play.Known(np.zeros((1, 2, 2, 2)), times, np.array([[[0.0, 2.0], [6.5, 49.0]]]), 7)
    tabular_play.bonus(3.0)(known, None)
    ((process, horizon),) = planned
    assert np.allclose(process.rewards, [[[1 + 3, 1.5 + 1.5], [1.5 + 0.6, 0.5 + 0.03]]]) and horizon == 7
    assert np.allclose(process.transitions, 0.5)


def test_regret_is_what_the_best_play_earns_on_average_more_than_what_was_done():
    some, horizon = made(20, 3), HORIZON
    trials = tabular_play.play(tabular_play.random, some, 0)
    found = some.measured(trials)["regret"]
    best, table = tabular.plan(some.processes)
    assert np.allclose(best[:, 0, 0], value_of(some.processes, table)) and found.shape == (20, 1)
    for task in range(20):
        wanted = 3 * best[task, 0, 0]
        for time in range(3 * horizon):
            state = int(trials.observations[task, time].argmax())
            wanted -= some.processes.rewards[task, state, int(trials.actions[task, time])]
        assert found[task, 0] == pytest.approx(wanted)


def test_what_is_known_is_counted_without_the_move_that_nobody_sees():
    some, seen = made(5, 3), []
    trials = tabular_play.play(
        lambda known, draw: seen.append(known) or tabular_play.random(known, draw), some, 0
    )
    known = seen[-1]  # all share the same arrays: at the end, of all three episodes
    state, action = trials.observations.argmax(-1).numpy(), trials.actions.numpy()
    moves, times, earned = (np.zeros_like(each) for each in known[:3])
    for task in range(5):
        for time in range(30):
            at = task, state[task, time], action[task, time]
            times[at] += 1
            earned[at] += float(trials.rewards[task, time])
            if time % 10 < 9:
                moves[(*at, state[task, time + 1])] += 1
    assert (known.moves == moves).all() and (known.times == times).all() and np.allclose(known.earned, earned)
    assert np.allclose(known.mean.rewards, (1 + earned) / (1 + times))
    assert np.allclose(known.mean.transitions, (1 + moves) / (10 + moves.sum(-1, keepdims=True)))


def test_posterior_sampling_draws_from_what_is_believed(monkeypatch):
    """Moments of a Dirichlet and of normals, from 20,000 processes: five standard errors of each."""
    drawn = []
    monkeypatch.setattr(tabular_play, "plan", lambda process, horizon: drawn.append(process) or (None, None))
    count, moves = 20_000, np.array([3.0, 0.0, 1.0])
    known = tabular_play.Known(
        np.broadcast_to(moves, (count, 3, 2, 3)), np.full((count, 3, 2), 4.0), np.full((count, 3, 2), 6.5), 5
    )
    tabular_play.posterior(known, np.random.default_rng(0))
    ((chances, rewards),) = drawn
    believed = 1 + moves
    mean = believed / believed.sum()
    spread = np.sqrt(mean * (1 - mean) / (believed.sum() + 1))
    chances = chances.reshape(-1, 3)
    assert np.allclose(chances.sum(1), 1)
    assert (abs(chances.mean(0) - mean) < 5 * spread / np.sqrt(len(chances))).all()
    assert (abs(chances.std(0) / spread - 1) < 0.02).all()
    rewards = rewards.ravel()
    assert abs(rewards.mean() - 7.5 / 5) < 5 * np.sqrt(1 / 5 / len(rewards))
    assert abs(rewards.std() * np.sqrt(5) - 1) < 5 / np.sqrt(2 * len(rewards))
