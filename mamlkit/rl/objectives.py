"""What Algorithm 3 minimises and bounds, for one task, as functions that PyTorch differentiates."""

__all__ = ["divergence", "inner_loss", "surrogate"]

import torch
from torch import Tensor

from mamlkit.maml import Params
from mamlkit.rl.policy import Policy, kl, log_prob
from mamlkit.rl.sampling import Steps


def inner_loss(policy: Policy, params: Params, steps: Steps) -> Tensor:
    """Policy-gradient loss of one task: minus the mean of log pi(a|s) times the advantage.

    Paper: equation 4, whose gradient is estimated by REINFORCE. The mean is over time steps; log-densities
    are summed over the components of an action (the authors' code).
    """
    log_density = log_prob(policy.mean(params, steps.observations), params["log_std"], steps.actions)
    return -(steps.weights * steps.advantages * log_density).sum()


def surrogate(policy: Policy, params: Params, sampled: Params, steps: Steps) -> Tensor:
    """TRPO's loss of one task: minus the mean of the likelihood ratio times the advantage.

    Args:
        policy: see :mod:`mamlkit.rl.policy`.
        params: the parameters that are judged.
        sampled: those that the steps were sampled with.
        steps: of one task.
    """
    density = lambda p: log_prob(policy.mean(p, steps.observations), p["log_std"], steps.actions)
    ratio = torch.exp(density(params) - density(sampled))
    return -(steps.weights * steps.advantages * ratio).sum()


def divergence(policy: Policy, params: Params, sampled: Params, steps: Steps) -> Tensor:
    """Mean KL divergence of one task's policy from the one that sampled the steps."""
    parts = (part for p in (sampled, params) for part in (policy.mean(p, steps.observations), p["log_std"]))
    return (steps.weights * kl(*parts)).sum()
