"""RL^2: a recurrent policy whose state is all that it learns with, trained over whole trials.

Source: Duan et al. 2016, "RL^2: fast reinforcement learning via slow reinforcement learning". What a trial is
and what the policy gets at each step: see :mod:`mamlkit.rl.memory`. What is maximised is the discounted
reward of the whole trial: returns and advantages run across the ends of episodes.

Deviation: the outer learner is PPO's clipped loss with Adam (Schulman et al. 2017), where they have TRPO. A
trust-region step takes ten products with the Fisher information, each of which goes through all steps of the
network and back; in the same time PPO takes several steps. The entropy of the policy is rewarded, less and
less, and Adam's step falls to zero; both are ours. As theirs, the baseline is another GRU.
"""

__all__ = ["advantages", "loss", "update"]

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from mamlkit.maml import Params
from mamlkit.rl.actions import Actions
from mamlkit.rl.memory import Trials, inputs_of, outputs_of, values

STANDARD_EPS = 1e-8
MOST_NORM = 0.5  # of a gradient, as is usual with PPO


def advantages(rewards: Tensor, expected: Tensor, discount: float, decay: float) -> tuple[Tensor, Tensor]:
    """Generalised advantages of each step, and the returns that the baseline is to expect.

    An episode's end within the trial cuts nothing; after the last step nothing is expected. Where a trial was
    over earlier, rewards and expectations after it are 0, and so is all that is found there.

    Args:
        rewards: ``[tasks, time]``.
        expected: by the baseline before each step, ``[tasks, time]``.
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
    actions: Actions,
    clip: float,
    entropy: float,
    scale: float,
    tell_reward: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """PPO's clipped loss, with that of the baseline: means over the steps that were lived.

    Args:
        params: of :func:`mamlkit.rl.memory.init`.
        trials: as they were sampled.
        gains: advantages, ``[tasks, time]``.
        returns: for the baseline, ``[tasks, time]``.
        actions: what could be done.
        clip: how far from 1 the ratio of probabilities still matters.
        entropy: what the policy's entropy (in nats, mean over steps) counts.
        scale: see :func:`mamlkit.rl.memory.values`.
        tell_reward: see :func:`mamlkit.rl.memory.inputs_of`; as the trials were sampled.

    Returns:
        The loss; the mean entropy; and an estimate of the divergence from the policy that sampled.
    """
    inputs = inputs_of(trials, actions, tell_reward)
    outputs = outputs_of(params, inputs, actions)
    mean = lambda values: _of_lived(values, trials.lived).mean()
    now = actions.log_probs(params, outputs, trials.actions)
    ratio = (now - trials.log_probs).exp()
    surrogate = mean(torch.minimum(ratio * gains, ratio.clamp(1 - clip, 1 + clip) * gains))
    spread = mean(actions.entropy(params, outputs))
    fit = mean(((values(params, inputs, scale) - returns) / scale).square())
    divergence = mean(trials.log_probs - now + ratio - 1)
    return fit - surrogate - entropy * spread, spread.detach(), divergence.detach()


def update(
    params: Params,
    optimiser: torch.optim.Optimizer,
    trials: Trials,
    generator: Generator,
    *,
    actions: Actions,
    discount: float,
    decay: float,
    epochs: int,
    minibatches: int,
    clip: float,
    entropy: float,
    tell_reward: bool = True,
) -> tuple[Tensor, Tensor]:
    """Some epochs of PPO on the same trials, whole trials to a minibatch.

    Args:
        params: of :func:`mamlkit.rl.memory.init`, changed in place.
        optimiser: of them.
        trials: sampled with them.
        generator: of the minibatches, on the CPU.
        actions, clip, entropy, tell_reward: as for :func:`loss`.
        discount, decay: as for :func:`advantages`.
        epochs: passes over the trials.
        minibatches: into which they are split, anew in each pass.

    Returns:
        Entropy and divergence (see :func:`loss`) in the last minibatch.

    Raises:
        FloatingPointError: a loss or its gradient is not finite.
    """
    scale = sum(discount**t for t in range(trials.rewards.shape[1]))  # the return of rewards of 1
    with torch.no_grad():
        expected = values(params, inputs_of(trials, actions, tell_reward), scale) * trials.lived
        gains, returns = advantages(trials.rewards, expected, discount, decay)
        lived = _of_lived(gains, trials.lived)
        deviation = lived.std() if lived.numel() > 1 else 0.0  # of one number there is none
        gains = (gains - lived.mean()) / (deviation + STANDARD_EPS)
    leaves = list(params.values())
    for value in leaves:
        value.requires_grad_(True)
    for _ in range(epochs):
        for some in (
            torch.randperm(len(gains), generator=generator).to(gains.device).tensor_split(minibatches)
        ):
            few = Trials(*(part[some] for part in trials))
            found, spread, divergence = loss(
                params,
                few,
                gains[some],
                returns[some],
                actions=actions,
                clip=clip,
                entropy=entropy,
                scale=scale,
                tell_reward=tell_reward,
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


def _of_lived(values: Tensor, lived: Tensor) -> Tensor:
    """The values of the steps that were lived; as they are where all were."""
    return values if lived.all() else values[lived]
