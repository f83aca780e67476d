"""Parameter noise on chains: drawn once per episode, as large as is wanted, and left out where it counts."""

import dataclasses
import math

import pytest
import torch

from made_chains import ROW, always
from mamlkit.rl import chain
from mamlkit.runs import chains

SOLVING = {"lengths": (4,), "meta_batch_size": 3, "iterations": 300, "in_a_row": 20, "evaluations": ()}
SOLVING |= {"batch": 16, "falling": 30, "lag": 50}


def test_the_noise_of_an_episode_is_drawn_once(monkeypatch):
    training = chains.ChainTraining(dataclasses.replace(ROW, factor=1.0), 0, "cpu")
    one, acted = training.chains[1], []
    plain = one.networks.outputs

    class Watched(type(one.networks)):
        def outputs(self, theta, x):
            if x.shape[1] == 1:
                acted.append(theta.detach().clone())
            return plain(theta, x)

    one.networks = Watched(*one.networks)
    for number in range(8):
        one.episode(number)
    episodes = torch.stack(acted).view(8, one.time, *acted[0].shape)
    assert (episodes == episodes[:, :1]).all()
    assert all(not torch.equal(a, b) for a, b in zip(episodes[:, 0], episodes[1:, 0]))


def test_sigma_follows_the_distance_of_the_head_that_acts(monkeypatch):
    training = chains.ChainTraining(ROW, 0, "cpu")
    one, asked = training.chains[0], []
    assert one.policy is not None and not torch.equal(one.policy, one.q)
    for number in range(3):
        one.episode(number)
    plain = chains.parameter_noise.kl
    monkeypatch.setattr(
        chains.parameter_noise, "kl", lambda a, b: asked.append((a.clone(), b.clone())) or plain(a, b)
    )
    batch = one._remembered(torch.rand(2, 4, generator=torch.Generator().manual_seed(0)), 3 * one.time)
    noise = torch.randn(one.policy.shape, generator=torch.Generator().manual_seed(1))
    one._adapt(batch.seen, noise, 0.1)
    ((logits, others),) = asked
    with torch.no_grad():
        assert torch.equal(logits, one.networks.outputs(one.policy, batch.seen))
    assert not torch.equal(logits, others)


def test_the_distance_is_measured_with_new_noise_at_each_step():
    """If it were that with which the episode is played, sigma would be fitted to one draw."""
    one, measured = chains.ChainTraining(dataclasses.replace(ROW, idle=1), 0, "cpu").chains[0], []
    adapt = one._adapt
    one._adapt = lambda seen, noise, epsilon: measured.append(noise.clone()) or adapt(seen, noise, epsilon)
    for number in range(3):
        one.episode(number)
    played = [one._draws(number).begin for number in range(3)]
    assert len(measured) == 2 * one.time
    rows = torch.cat([*measured, *played])  # of both members
    assert len(rows.unique(dim=0)) == len(rows) == 2 * (len(measured) + 3)


def test_what_counts_are_episodes_without_noise_however_much_of_it_there_is():
    """With a sigma of 100 the head has no say in an episode; without noise it goes right all the same."""
    row = dataclasses.replace(ROW, sigma=100.0, factor=1.0, idle=14)  # nothing is learned
    one = chains.ChainTraining(row, 0, "cpu").chains[1]
    always(one, (True, True))
    for number in range(10):
        assert one.episode(number) == 1.0
    assert one.optimal.tolist() == [10, 10]
    acted = one.actions[:, : 10 * one.time].view(2, 10, one.time)
    assert (acted != chain.RIGHT).any(2).float().mean() > 0.25  # so there was noise, in episodes


def test_the_distance_that_is_wanted_falls_with_epsilon(monkeypatch):
    """Of each episode it is what epsilon-greedy play would have in that episode."""
    row = dataclasses.replace(ROW, idle=0, epsilons=(0.9, 0.1), falling=2)
    one, wanted = chains.ChainTraining(row, 0, "cpu").chains[0], []
    plain = chains.parameter_noise.rescaled

    def watched(sigma, distance, bound, factor):
        wanted.append(float(bound))
        return plain(sigma, distance, bound, factor)

    monkeypatch.setattr(chains.parameter_noise, "rescaled", watched)
    for number, epsilon in enumerate((0.9, 0.5, 0.1, 0.1)):
        one.episode(number)
        assert wanted == pytest.approx([-math.log(1 - epsilon / 2)] * one.time)
        wanted.clear()


def test_noise_solves_a_short_chain():
    """One of three networks at least, within 300 episodes; of 30 that were looked at, 28 did."""
    row = dataclasses.replace(ROW, **SOLVING)
    training = chains.ChainTraining(row, 0, "cpu")
    for number in range(300):
        training.step(number)
        if training.chains[0].episodes.any():
            break
    assert training.chains[0].episodes.any()
