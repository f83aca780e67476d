"""RL^2 on bandits: a recurrent policy whose state is all that it learns with, trained over whole trials.

Source: Duan et al. 2016, "RL^2: fast reinforcement learning via slow reinforcement learning". A *trial* is
one bandit; each pull is an episode of one step. At each pull the policy gets the arm that it pulled before,
what that paid, and a flag that an episode has ended, all zero at the first pull. Its state goes on from
episode to episode, and begins at zero with each trial. What is maximised is the discounted reward of the
whole trial: returns and advantages run across the ends of episodes.

Deviation: the outer learner is PPO's clipped loss with Adam (Schulman et al. 2017), where they have TRPO. A
trust-region step takes ten products with the Fisher information, each of which goes through all steps of the
network and back; in the same time PPO takes several steps. The entropy of the policy is rewarded, less and
less, and Adam's step falls to zero; both are ours. As theirs, the baseline is another GRU.
"""

__all__ = [
    "Trials",
    "advantages",
    "chances",
    "init",
    "inputs_of",
    "loss",
    "policy_of",
    "sample",
    "states",
    "update",
    "values",
]

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from mamlkit.maml import Params
from mamlkit.models.recurrent import gru, gru_states, init_gru

POLICY, BASELINE = "policy", "baseline"
STANDARD_EPS = 1e-8
MOST_NORM = 0.5  # of a gradient, as is usual with PPO


class Trials(NamedTuple):
    """What was done in some trials.

    Args:
        actions: arms that were pulled, ``[tasks, time]``, int64.
        rewards: what they paid, ``[tasks, time]``.
        log_probs: of these arms when they were pulled, ``[tasks, time]``.
    """

    actions: Tensor
    rewards: Tensor
    log_probs: Tensor


def init(arms: int, units: int, generator: Generator) -> Params:
    """The policy and its baseline: a GRU with a linear head each, whose head begins at zero.

    So each arm is equally likely at first, and the baseline is zero.

    Args:
        arms: of a bandit.
        units: of each GRU.
        generator: of the weights.
    """
    params: Params = {}
    for name, outputs in ((POLICY, arms), (BASELINE, 1)):
        params |= init_gru(name, arms + 2, units, generator)
        params |= {f"{name}_head": torch.zeros(outputs, units), f"{name}_head_bias": torch.zeros(outputs)}
    return params


def policy_of(params: Params) -> Params:
    """What of the parameters is the policy's: all that is needed to play."""
    return {name: value for name, value in params.items() if name.startswith(POLICY)}


def inputs_of(actions: Tensor, rewards: Tensor, arms: int) -> Tensor:
    """What the networks get before each pull: the last arm one-hot, the last reward, 1 if there was one.

    Args:
        actions, rewards: ``[tasks, time]``.
        arms: of a bandit.

    Returns:
        ``[tasks, time, arms + 2]``; nothing in it is of the pull itself, or of a later one.

    Example:
        >>> inputs_of(torch.tensor([[1, 0]]), torch.tensor([[1.0, 0.0]]), 2)
        tensor([[[0., 0., 0., 0.],
                 [0., 1., 1., 1.]]])
    """
    if actions.shape != rewards.shape or actions.dim() != 2:
        came = f"actions are {list(actions.shape)}, rewards {list(rewards.shape)}"
        raise ValueError(f"{came}; both must be [tasks, time]")
    ended = torch.ones_like(rewards)[..., None]
    after = torch.cat([F.one_hot(actions, arms).to(rewards), rewards[..., None], ended], -1)
    return F.pad(after[:, :-1], (0, 0, 1, 0))


def states(params: Params, name: str, inputs: Tensor) -> Tensor:
    """States of a network after each input of a trial, from zero on.

    Args:
        params: of :func:`init`.
        name: ``"policy"`` or ``"baseline"``.
        inputs: ``[tasks, time, inputs]``.

    Returns:
        ``[tasks, time, units]``.
    """
    begin = inputs.new_zeros(len(inputs), params[f"{name}_state"].shape[1])
    return gru_states(params, name, inputs.transpose(0, 1), begin).transpose(0, 1)


def chances(params: Params, inputs: Tensor) -> Tensor:
    """Log-probability of each arm before each pull, ``[tasks, time, arms]``, for inputs of that length."""
    return _head(params, POLICY, states(params, POLICY, inputs)).log_softmax(-1)


def values(params: Params, inputs: Tensor, most: float) -> Tensor:
    """What the baseline expects of the rest of each trial, ``[tasks, time]``.

    Args:
        params: of :func:`init`.
        inputs: ``[tasks, time, inputs]``.
        most: the largest return, in which the network counts.
    """
    return most * _head(params, BASELINE, states(params, BASELINE, inputs))[..., 0]


@torch.no_grad()
def sample(
    params: Params, arms: Tensor, luck: Tensor, draws: Tensor, *, most_probable: bool = False
) -> Trials:
    """Play trials, step by step, all at once.

    Args:
        params: of the policy at least.
        arms: probabilities of paying, ``[tasks, arms]``.
        luck: an arm pays 1 where its probability is above this, ``[tasks, time]``.
        draws: uniform numbers that choose the arms, ``[tasks, time]``.
        most_probable: pull the arm that the policy finds most probable instead.
    """
    if luck.shape != draws.shape or len(luck) != len(arms):
        came = f"arms {list(arms.shape)}, luck {list(luck.shape)}, draws {list(draws.shape)}"
        raise ValueError(f"{came}; they must be [tasks, arms], [tasks, time] and [tasks, time]")
    num_arms, everyone = arms.shape[1], torch.arange(len(arms), device=arms.device)
    state = arms.new_zeros(len(arms), params[f"{POLICY}_state"].shape[1])
    inputs = arms.new_zeros(len(arms), num_arms + 2)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for chance, draw in zip(luck.T, draws.T, strict=True):
        state = gru(params, POLICY, inputs, state)
        logs = _head(params, POLICY, state).log_softmax(-1)
        below = logs.exp().cumsum(-1) < draw[:, None]  # rounding may leave the last sum under a draw
        action = logs.argmax(-1) if most_probable else below.sum(-1).clamp(max=num_arms - 1)
        reward = (chance < arms[everyone, action]).to(arms)
        found.append((action, reward, logs[everyone, action]))
        inputs = torch.cat(
            [F.one_hot(action, num_arms).to(arms), reward[:, None], arms.new_ones(len(arms), 1)], 1
        )
    return Trials(*(torch.stack(part, 1) for part in zip(*found, strict=True)))


def advantages(rewards: Tensor, expected: Tensor, discount: float, decay: float) -> tuple[Tensor, Tensor]:
    """Generalised advantages of each pull, and the returns that the baseline is to expect.

    An episode's end within the trial cuts nothing; after the last pull nothing is expected.

    Args:
        rewards: ``[tasks, time]``.
        expected: by the baseline before each pull, ``[tasks, time]``.
        discount: gamma.
        decay: lambda; 1 gives the return less what was expected.

    Example:
        >>> advantages(torch.ones(1, 3), torch.zeros(1, 3), 0.5, 1.0)[0]
        tensor([[1.7500, 1.5000, 1.0000]])
    """
    surprise = rewards + discount * F.pad(expected[:, 1:], (0, 1)) - expected
    found, ahead = torch.empty_like(surprise), torch.zeros_like(surprise[:, 0])
    for time in reversed(range(surprise.shape[1])):
        found[:, time] = ahead = surprise[:, time] + discount * decay * ahead
    return found, found + expected


def loss(
    params: Params,
    trials: Trials,
    gains: Tensor,
    returns: Tensor,
    *,
    arms: int,
    clip: float,
    entropy: float,
    most: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """PPO's clipped loss, with that of the baseline.

    Args:
        params: of :func:`init`.
        trials: as they were sampled.
        gains: advantages, ``[tasks, time]``.
        returns: for the baseline, ``[tasks, time]``.
        arms: of a bandit.
        clip: how far from 1 the ratio of probabilities still matters.
        entropy: what the policy's entropy (in nats, mean over pulls) counts.
        most: see :func:`values`.

    Returns:
        The loss; the mean entropy; and an estimate of the divergence from the policy that sampled.
    """
    inputs = inputs_of(trials.actions, trials.rewards, arms)
    logs = chances(params, inputs)
    now = logs.gather(-1, trials.actions[..., None])[..., 0]
    ratio = (now - trials.log_probs).exp()
    surrogate = torch.minimum(ratio * gains, ratio.clamp(1 - clip, 1 + clip) * gains).mean()
    spread = -(logs.exp() * logs).sum(-1).mean()
    fit = ((values(params, inputs, most) - returns) / most).square().mean()
    divergence = (trials.log_probs - now + ratio - 1).mean()
    return fit - surrogate - entropy * spread, spread.detach(), divergence.detach()


def update(
    params: Params,
    optimiser: torch.optim.Optimizer,
    trials: Trials,
    generator: Generator,
    *,
    arms: int,
    discount: float,
    decay: float,
    epochs: int,
    minibatches: int,
    clip: float,
    entropy: float,
) -> tuple[Tensor, Tensor]:
    """Some epochs of PPO on the same trials, whole trials to a minibatch.

    Args:
        params: of :func:`init`, changed in place.
        optimiser: of them.
        trials: sampled with them.
        generator: of the minibatches, on the CPU.
        arms, clip, entropy: as for :func:`loss`.
        discount, decay: as for :func:`advantages`.
        epochs: passes over the trials.
        minibatches: into which they are split, anew in each pass.

    Returns:
        Entropy and divergence (see :func:`loss`) in the last minibatch.

    Raises:
        FloatingPointError: a loss or its gradient is not finite.
    """
    most = sum(discount**t for t in range(trials.rewards.shape[1]))
    with torch.no_grad():
        expected = values(params, inputs_of(trials.actions, trials.rewards, arms), most)
        gains, returns = advantages(trials.rewards, expected, discount, decay)
        gains = (gains - gains.mean()) / (gains.std() + STANDARD_EPS)
    leaves = list(params.values())
    for value in leaves:
        value.requires_grad_(True)
    for _ in range(epochs):
        for some in torch.randperm(len(gains), generator=generator).to(gains.device).chunk(minibatches):
            few = Trials(*(part[some] for part in trials))
            found, spread, divergence = loss(
                params, few, gains[some], returns[some], arms=arms, clip=clip, entropy=entropy, most=most
            )
            gradients = torch.autograd.grad(found, leaves)
            norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
            if not (torch.isfinite(found) and torch.isfinite(norm)):
                raise FloatingPointError("the loss of the policy, or its gradient, is not finite")
            for value, gradient in zip(leaves, gradients, strict=True):
                value.grad = gradient * (MOST_NORM / norm.clamp(min=MOST_NORM))
            optimiser.step()
    for value in leaves:
        value.requires_grad_(False)
        value.grad = None
    return spread, divergence


def _head(params: Params, name: str, hidden: Tensor) -> Tensor:
    return F.linear(hidden, params[f"{name}_head"], params[f"{name}_head_bias"])
