"""Noise on the parameters of a policy, so that it explores by acting consistently otherwise.

Source: Plappert et al. 2018, "Parameter space noise for exploration" (arXiv 1706.01905). The policy that acts
has the parameters theta + sigma N(0, I), drawn once per episode. What sigma means in actions changes as theta
is trained, so sigma is adapted: it grows by a factor while the noise moves the policy by less than is wanted,
and else it shrinks. Layer normalisation keeps the layers' scales; its own parameters have no noise.

All tensors begin with an axis of ``members``: networks that are trained side by side and know nothing of each
other.
"""

__all__ = ["FACTOR", "kl", "noisy", "perturbed", "rescaled", "threshold"]

import math

from torch import Tensor

from mamlkit.rl.side_by_side import Networks

FACTOR = 1.01  # of sigma; source: the authors' code, openai/baselines


def noisy(networks: Networks) -> Tensor:
    """Which numbers of theta are perturbed, 1 or 0: weights and biases, not those of layer normalisation.

    >>> noisy(Networks((1, 2, 1)))
    tensor([1., 1., 1., 1., 0., 0., 0., 0., 1., 1., 1.])
    """
    return networks.of_parts("weight", "bias")


def perturbed(theta: Tensor, noise: Tensor, sigma: Tensor, where: Tensor) -> Tensor:
    """Parameters with noise.

    Args:
        theta: ``[members, numbers]``.
        noise: standard normal, as theta.
        sigma: its standard deviation, ``[members]``.
        where: see :func:`noisy`.

    Raises:
        ValueError: noise of another shape.
    """
    if noise.shape != theta.shape:
        raise ValueError(f"noise is {list(noise.shape)}, but theta {list(theta.shape)}; they must be alike")
    return theta + sigma[:, None] * where * noise


def threshold(epsilon: float, actions: int) -> float:
    """The divergence between a greedy policy and an epsilon-greedy one: what noise shall bring about.

    So noise on parameters changes as much as epsilon-greedy play would. Source: appendix C of Plappert et al.

    Args:
        epsilon: share of random actions, below or at 1.
        actions: to choose from.

    Raises:
        ValueError: epsilon is no share.

    Example:
        >>> round(threshold(0.1, 2), 4), round(threshold(1.0, 2) / math.log(2), 4)
        (0.0513, 1.0)
    """
    if not 0 <= epsilon <= 1:
        raise ValueError(f"epsilon={epsilon}, but it must lie between 0 and 1")
    return -math.log(1 - epsilon + epsilon / actions)


def kl(logits: Tensor, others: Tensor) -> Tensor:
    """KL divergence of the policies softmax(logits) from softmax(others), mean over points, ``[members]``.

    Args:
        logits, others: ``[members, points, actions]``.
    """
    logs = logits.log_softmax(-1)
    return (logs.exp() * (logs - others.log_softmax(-1))).sum(-1).mean(-1)


def rescaled(sigma: Tensor, distance: Tensor, wanted: float | Tensor, factor: float = FACTOR) -> Tensor:
    """Sigma times the factor where the distance is not above the wanted one, else divided by it.

    Args:
        sigma: ``[members]``.
        distance: between the policies with and without noise, ``[members]``.
        wanted: that distance as it should be.
        factor: alpha.
    """
    return sigma * (factor ** (1 - 2.0 * (distance > wanted).to(sigma)))
