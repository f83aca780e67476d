"""Networks on chains: reproducible whatever the threads, resumed exactly, each for itself; chains solved."""

import dataclasses

import numpy as np
import pytest
import torch

from made_chains import ROW, SMALL, TEST, always
from made_runs import same
from mamlkit.engine.ranks import Ranks
from mamlkit.experiments import paper
from mamlkit.experiments.chains import MIXED_WAYS, WAYS, ChainRow, name_of
from mamlkit.rl import chain
from mamlkit.runs import chains, folders, keeping, queue, rederive, train, trainings

ROWS = [row for row in paper.ROWS.values() if isinstance(row, ChainRow)]


def trained(row, episodes, seed=0):
    """All that a training holds after so many episodes."""
    training = chains.ChainTraining(row, seed, "cpu")
    for number in range(episodes):
        training.step(number)
    return {name: value.detach().clone() for name, value in training.params.items()}


def test_a_row_for_each_way_with_the_same_settings():
    plain, mixed = ([row for row in ROWS if row.mixed == is_mixed] for is_mixed in (False, True))
    assert [row.name for row in plain] == [name_of(way) for way in WAYS]
    assert [row.name for row in mixed] == [name_of(way, mixed=True) for way in MIXED_WAYS]
    for rows, ways in ((plain, WAYS), (mixed, MIXED_WAYS)):
        first = rows[0].settings
        for row, way in zip(rows, ways, strict=True):
            changed = {key for key in first if first[key] != row.settings[key]}
            assert changed == WAYS[way][1].keys() and first.keys() == row.settings.keys()
            assert {test.length for test in row.evaluations} == set(row.lengths)
    one, other = plain[0].settings, mixed[0].settings
    assert {key for key in other if one.get(key) != other[key]} == {"mixed", "lengths"}
    assert ROWS[0].epsilon(0) == 1 and ROWS[0].epsilon(50) == pytest.approx(0.55)
    assert ROWS[0].epsilon(100) == ROWS[0].epsilon(5000) == pytest.approx(0.1)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_can_be_trained_and_tested(row):
    few = {"lengths": (3,), "meta_batch_size": 2, "iterations": 7, "batch": 4, "quick": {}}
    small = dataclasses.replace(row, evaluations=(TEST,), **few)
    found = trainings.evaluate_row(small, train.fit(small).params)["N=3"]["episodes"]
    assert found.shape == (2, 1) and (found == 7).all()  # too few to have solved it
    assert row.at("quick").iterations < row.iterations


@pytest.mark.parametrize("until", [3, 10])
def test_a_run_that_is_cut_goes_on_exactly(until, tmp_path, monkeypatch):
    monkeypatch.setattr(chains.ChainTraining, "every", 4)
    whole = train.fit(ROW)
    with folders.open_run(ROW, 0, "cpu", base=tmp_path) as folder:
        train.fit(ROW, folder=folder, until=until)
        rest = train.fit(ROW, folder=folder)
    assert same(whole.params, rest.params) and rest.iteration == 14
    columns = [column for column in whole.log if column != "seconds"]
    assert whole.log[columns].equals(rest.log[columns]) and list(whole.log.iteration) == [4, 8, 12, 14]
    sigma = whole.log["sigma 4"].to_numpy()
    assert (sigma[2:] != sigma[1]).all()  # so what was compared is not idle


def test_the_number_of_threads_changes_nothing_but_the_seed_does():
    threads, found = torch.get_num_threads(), []
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            found.append(trained(ROW, 8))
    finally:
        torch.set_num_threads(threads)
    assert same(*found) and not same(found[0], trained(ROW, 8, seed=1))


def test_a_network_alone_does_what_it_does_among_others():
    """To rounding; the first member of more has the same random numbers, whatever the other chains are."""
    alone = trained(dataclasses.replace(ROW, lengths=(4,), meta_batch_size=1, evaluations=()), 8)
    among = trained(dataclasses.replace(ROW, meta_batch_size=5, evaluations=()), 8)
    for name, value in alone.items():
        if not name.endswith("step"):
            torch.testing.assert_close(among[name][:1], value, rtol=1e-4, atol=1e-5)


def test_actions_are_random_as_often_as_epsilon_says():
    """3,900 actions of which a half would be the greedy one anyway: five standard errors."""
    row = dataclasses.replace(
        paper.get(name_of("epsilon-greedy")),
        evaluations=(),
        **SMALL | {"lengths": (30,), "meta_batch_size": 10, "iterations": 10},
        epsilons=(0.4, 0.4),
        idle=10,
    )
    training = chains.ChainTraining(row, 0, "cpu")
    one = training.chains[0]
    with torch.no_grad():
        best = one.networks.outputs(one.q, one.table.expand(10, -1, -1)).argmax(-1)
    for number in range(10):
        training.step(number)
    wanted = best.gather(1, one.states.long())
    other = float((wanted != one.actions).float().mean())
    assert abs(other - 0.2) < 5 * (0.2 * 0.8 / one.actions.numel()) ** 0.5


def test_each_step_of_each_network_has_its_own_luck():
    """Numbers of 24 bits: by chance two of 78 are alike once in 5,600 seeds, and the seed is fixed."""
    one = chains.ChainTraining(dataclasses.replace(ROW, meta_batch_size=3, evaluations=()), 0, "cpu").chains[
        1
    ]
    found = [one._draws(number) for number in (0, 1)]
    luck = torch.stack([draws.luck for draws in found])
    assert luck.shape == (2, one.time, 3) and len(luck.unique()) == luck.numel()
    memory = torch.stack([draws.memory for draws in found]).flatten(0, 2)
    assert len(memory.unique(dim=0)) == len(memory)


@pytest.mark.parametrize("discount", [0.0, 0.5, 0.99])
def test_what_is_learned_is_discounted_as_the_row_says(discount):
    one = chains.ChainTraining(dataclasses.replace(ROW, discount=discount), 0, "cpu").chains[0]
    for number in range(2):
        one.episode(number)
    batch = one._remembered(torch.rand(2, 40, generator=torch.Generator().manual_seed(0)), 2 * one.time)
    with torch.no_grad():
        ahead = one.networks.outputs(one.lagging, batch.after).amax(-1)
    wanted = batch.rewards + torch.where(batch.ended, 0.0, discount * ahead)
    values = one.networks.outputs(one.q, batch.seen).gather(-1, batch.actions[..., None])[..., 0]
    loss = torch.nn.functional.huber_loss(values, wanted, reduction="none").mean(1).sum()
    (gradient,) = torch.autograd.grad(loss, one.q)
    one._learn(batch)
    torch.testing.assert_close(one.q.grad, gradient, rtol=1e-4, atol=1e-6)


def test_the_lagging_network_is_the_other_at_its_turn_and_stays_meanwhile():
    training = chains.ChainTraining(ROW, 0, "cpu")  # lag 7
    one, seen = training.chains[0], []
    learn = one._learn

    def watched(batch):
        learn(batch)
        seen.append((one.lagging.clone(), one.q.detach().clone()))

    one._learn = watched
    for number in range(ROW.idle + 4):
        one.episode(number)
    first = ROW.idle * one.time  # steps before the first that learns
    copied = None
    for step, (lagging, q) in enumerate(seen, start=first + 1):
        if copied is not None:
            assert torch.equal(lagging, copied)
        if step % ROW.lag == 0:
            copied = q
    assert copied is not None and not torch.equal(copied, chains.ChainTraining(ROW, 0, "cpu").chains[0].q)


def test_memory_gives_back_what_was_done():
    training = chains.ChainTraining(dataclasses.replace(ROW, memory=20), 0, "cpu")
    one = training.chains[1]
    for number in range(4):
        one.episode(number)
    count = 4 * one.time  # 52 steps, of which the last 20 are remembered
    everything = (torch.arange(20) / 20 + 1e-4).expand(2, -1)
    batch = one._remembered(everything, count)
    assert torch.equal(batch.actions, one.actions[:, count - 20 : count].long())
    assert torch.equal(batch.seen, one.table[one.states[:, count - 20 : count].long()])
    ended = [(count - 20 + i) % one.time == one.time - 1 for i in range(20)]
    assert batch.ended[0].tolist() == ended and sum(ended) == 2
    goes_on = ~batch.ended[:, :-1]
    assert (batch.after[:, :-1] == batch.seen[:, 1:])[goes_on].all()


def test_each_network_has_a_mixed_chain_of_its_own_and_learns_from_what_happens_there():
    row = dataclasses.replace(ROW, mixed=True, lengths=(9,), meta_batch_size=3, evaluations=())
    training = chains.ChainTraining(row, 0, "cpu")
    (one,) = training.chains
    again = chains.ChainTraining(row, 0, "cpu").chains[0]
    assert torch.equal(one.right, again.right) and len(one.right.unique(dim=0)) == 3
    for number in range(7):
        one.episode(number)
    count = 7 * one.time
    batch = one._remembered((torch.arange(count) / count + 1e-5).expand(3, -1), count)
    for member in range(3):
        state = chain.START
        for step in range(count):
            seen, action = batch.seen[member, step], batch.actions[member, step]
            assert int(seen.sum()) == state + 1
            right = action == one.right[member, state]
            to = min(state + 1, 8) if right else max(state - 1, 0)
            assert float(batch.rewards[member, step]) == pytest.approx(
                (to == state) * (1 if right else 0.001)
            )
            assert int(batch.after[member, step].sum()) == to + 1
            state = chain.START if batch.ended[member, step] else to
    assert not chains.ChainTraining(ROW, 0, "cpu").chains[0].right.ne(chain.RIGHT).any()


def test_a_chain_is_solved_by_optimal_episodes_in_a_row():
    training = chains.ChainTraining(dataclasses.replace(ROW, exploration="none", in_a_row=3), 0, "cpu")
    one = training.chains[0]
    always(one, (True, False))
    for number in range(5):
        assert one._played_without_noise(number) == 0.5
    assert one.episodes.tolist() == [3, 0] and one.optimal.tolist() == [5, 0] and not one.done
    found = chains.evaluate(ROW, training.result(), TEST)["episodes"]
    assert found.tolist() == [[3.0], [14.0]]


def test_a_run_is_written_and_read(tmp_path, repository, monkeypatch):
    row = dataclasses.replace(ROW, name=name_of("greedy"))
    monkeypatch.setitem(paper.ROWS, row.name, row)
    with folders.open_run(row, 0, "cpu", base=tmp_path) as folder:
        found = queue.evaluate_run(row, folder, train.fit(row, folder=folder))["N=3"]["episodes"]
        keeping.keep(folder)
    from mamlkit.report import results

    assert np.array_equal(results.per_task_errors(row.name, 0, "N=3", "episodes"), found)
    with pytest.raises(ValueError, match="there is no new test"):
        rederive.standard_errors(row.name)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"exploration": "noise"}, "exploration='noise', but it must be one of"),
        ({"lengths": (2, 5)}, r"lengths=\(2, 5\), but it must be at least 3"),
        ({"lengths": (5, 5)}, r"lengths=\(5, 5\), but they must differ"),
        ({"epsilons": (1.0, 1.5)}, "epsilons=.*, but it must lie between 0 and 1"),
        ({"lengths": (4,)}, "N=3 is of 2 networks on 3 states, but there are 2"),
        ({"sigma": 0.0}, "sigma=0.0, but it must be positive"),
        ({"batch": 0}, "batch=0"),
    ],
)
def test_settings_that_no_run_can_have_are_refused(changes, said):
    with pytest.raises(ValueError, match=f"small-chains: {said}"):
        dataclasses.replace(ROW, **changes)


def test_it_is_neither_recorded_nor_dealt_to_processes():
    with pytest.raises(ValueError, match="leave recorded out"):
        trainings.begin(ROW, recorded=True)
    with pytest.raises(ValueError, match="without torchrun"):
        trainings.begin(ROW, ranks=Ranks(0, 2))
