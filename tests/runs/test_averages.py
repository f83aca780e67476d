"""Table 2's averages: many networks side by side are what each is alone; yardsticks for their error."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import torch

from mamlkit import places
from mamlkit.experiments import paper
from mamlkit.experiments.averages import AverageRow
from mamlkit.runs import averages, seeds, supervised, train, trainings
from mamlkit.tasks.sinusoid import Sinusoid, task_blind_mse

SMALL = ("mlp", {"inputs": 1, "hidden": [8, 8], "outputs": 1, "std": 0.5})
FEW = {"network": SMALL, "meta_batch_size": 4, "iterations": 12}


def few(name="sinusoid-average", **changes):
    return dataclasses.replace(paper.get(name), **FEW | changes)


@pytest.mark.parametrize("pull", ["nothing", "zero", "mean"])
@pytest.mark.parametrize("same_start", [False, True])
def test_networks_side_by_side_are_trained_as_by_a_loop(pull, same_start):
    row = few(pull=pull, strength=0.1, same_start=same_start)
    training = averages.AverageTraining(row, 3, "cpu")
    networks = [{n: training.params[n][i].clone().requires_grad_() for n in training.names} for i in range(4)]
    assert all(torch.equal(networks[0][n], networks[1][n]) for n in training.names) == same_start
    optimisers = [torch.optim.Adam(network.values(), lr=row.outer_lr) for network in networks]
    apply = supervised.build(row).model.apply
    for iteration in range(row.iterations):
        training.step(iteration)
        draw = seeds.generator(3, "train", iteration)
        x = 10 * torch.rand(4, row.shots + row.queries, 1, generator=draw) - 5
        mean = {n: sum(network[n].detach() for network in networks) / 4 for n in training.names}
        goal = {n: value if pull == "mean" else torch.zeros_like(value) for n, value in mean.items()}
        for i, (network, optimiser) in enumerate(zip(networks, optimisers)):
            amplitude, phase = (part[i, 0, 0] for part in training.sinusoids)
            loss = ((apply(network, x[i]) - amplitude * torch.sin(x[i] - phase)) ** 2).mean()
            if pull != "nothing":
                loss = loss + 0.1 * sum(((network[n] - goal[n]) ** 2).sum() for n in goal)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    for name, value in training.result().items():
        each = torch.stack([network[name] for network in networks])
        assert torch.allclose(training.params[name], each, atol=2e-4)
        assert torch.allclose(value, each.mean(0), atol=2e-4)


def test_a_network_that_has_reached_its_sinusoid_stays_as_it_is():
    training = averages.AverageTraining(few(enough=1.0), 0, "cpu")
    training.params["reached"][1] = 1
    begun = {name: training.params[name].clone() for name in training.names}
    for iteration in range(5):
        training.step(iteration)
    moved = [any(bool((training.params[n][i] != begun[n][i]).any()) for n in begun) for i in range(4)]
    assert moved == [True, False, True, True]
    training.params["reached"][:] = 1
    begun = {name: value.clone() for name, value in training.params.items()}
    training.step(5)
    assert all(torch.equal(training.params[name], begun[name]) for name in begun)
    training.check(6)
    assert training.line(6)["reached"] == 1


def test_networks_stop_at_the_error_that_is_enough():
    row = few(iterations=400, enough=0.5)
    training = averages.AverageTraining(row, 0, "cpu")
    for iteration in range(row.iterations):
        training.step(iteration)
    grid = torch.linspace(-5, 5, 101)[:, None]
    apply = supervised.build(row).model.apply
    for i, reached in enumerate(training.params["reached"]):
        amplitude, phase = (part[i] for part in training.sinusoids)
        network = {name: training.params[name][i] for name in training.names}
        error = ((apply(network, grid) - amplitude * torch.sin(grid - phase)) ** 2).mean()
        assert (error < row.enough) == bool(reached)
    assert 0 < training.params["reached"].sum() < 4 or training.params["reached"].all()


def test_each_seed_has_sinusoids_and_initial_values_of_its_own():
    one, again, other = (averages.AverageTraining(few(), seed, "cpu") for seed in (0, 0, 1))
    for mine, same, theirs in zip(one.sinusoids, again.sinusoids, other.sinusoids, strict=True):
        assert torch.equal(mine, same) and len(torch.cat([mine, theirs]).unique()) == 8
    assert torch.equal(one.params["weight0"], again.params["weight0"])
    assert not torch.equal(one.params["weight0"], other.params["weight0"])


def test_a_resumed_run_is_the_straight_one(tmp_path):
    row = few(iterations=130, enough=3.0)
    straight = train.fit(row)
    train.fit(row, folder=tmp_path, until=70)
    resumed = train.fit(row, folder=tmp_path)
    assert straight.params.keys() == supervised.build(row).model.shapes.keys()
    assert all(torch.equal(straight.params[name], resumed.params[name]) for name in straight.params)
    assert straight.log.reached.tolist() == resumed.log.reached.tolist() and straight.log.reached.max() > 0
    found = trainings.evaluate_row(row, straight.params)
    assert found["K=5"]["mse"].shape == (6000, 11)


def test_the_rows_differ_in_start_and_pull_alone():
    found = {name: row for name, row in paper.ROWS.items() if isinstance(row, AverageRow)}
    assert len(found) == 6 and {row.meta_batch_size for row in found.values()} == {500}
    base = paper.get("sinusoid-average").settings
    for row in found.values():
        other = {key for key, value in row.settings.items() if value != base[key]}
        assert other <= {"same_start", "pull", "strength"}
        assert [test.inner_lr for test in row.evaluations] == [0.01, 0.02]
    with pytest.raises(ValueError, match="pull='up', but it must be one of 'nothing', 'zero', 'mean'"):
        few(pull="up")
    with pytest.raises(ValueError, match="family='glyphs', but only sinusoids"):
        averages.AverageTraining(few(family="glyphs", ways=5), 0, "cpu")


def test_the_yardsticks_are_4_25_for_zero_and_3_01_for_what_is_blind_to_the_task():
    # E[A^2] / 2, since over phases in [0, pi] the mean of sin^2(x - phi) is a half at every x
    assert pytest.approx(4.2517, abs=1e-4) == (0.1**2 + 0.1 * 5 + 5**2) / 3 / 2
    assert task_blind_mse() == pytest.approx(3.006, abs=1e-3)
    _, (x, y) = Sinusoid(shots=1, queries=10).sample(torch.Generator().manual_seed(0), 40_000)
    blind = -2 / math.pi * 2.55 * torch.cos(x)
    for predicted, exact in ((0, 4.2517), (blind, 3.006)):
        errors = ((predicted - y) ** 2).mean((1, 2)).double().numpy()
        assert abs(errors.mean() - exact) < 4 * errors.std() / np.sqrt(len(errors))


def test_each_strength_is_the_largest_that_costs_no_network():
    path = places.repository() / "data" / "benchmarks" / "averages" / "strength.csv"
    found = pd.read_csv(path).set_index(["same_start", "pull"])
    for row in (row for row in paper.ROWS.values() if isinstance(row, AverageRow)):
        if row.pull != "nothing":
            tried = found.loc[[(row.same_start, row.pull)]]
            enough = tried[tried.reached >= found.loc[(row.same_start, "nothing"), "reached"].item()]
            assert row.strength == enough.strength.max(), row.name
