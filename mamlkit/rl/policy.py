"""Gaussian policies: a network for the mean, and a standard deviation that does not depend on the state."""

__all__ = ["Policy", "gaussian_mlp", "kl", "log_prob", "means", "without_context"]

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from numbers import Integral
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.func import vmap

from mamlkit.engine import kernels_torch
from mamlkit.engine.passes import Pass
from mamlkit.maml import Params
from mamlkit.models import Layer, check_features, check_sizes, check_widths, xavier_uniform
from mamlkit.models.context import CONTEXT

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "tanh": torch.tanh}


class Policy(NamedTuple):
    """A Gaussian policy over actions.

    Args:
        init: ``(generator) -> params``, float32 on the CPU; ``params["log_std"]`` is the logarithm of the
            deviations.
        mean: ``(params, observations [points, obs]) -> [points, act]``.
        layers: the same network for :mod:`mamlkit.engine.passes`, with what :func:`without_context` gives;
            empty if that has no derivatives for it.
        frozen: names of parameters that the inner step leaves alone.
        context: numbers of the vector that it sees behind every observation, and that is all it adapts.
    """

    init: Callable[[Generator], Params]
    mean: Callable[[Params, Tensor], Tensor]
    layers: tuple[Layer, ...] = ()
    frozen: frozenset[str] = frozenset()
    context: int = 0


def gaussian_mlp(
    obs: int,
    act: int,
    hidden: Sequence[int] = (100, 100),
    activation: str = "relu",
    context: int = 0,
) -> Policy:
    """The paper's policy: two hidden layers of 100, a linear mean, standard deviations of 1 to begin with.

    Paper: section 5.3 ("two hidden layers of size 100, with ReLU nonlinearities"); Xavier initialisation and
    the state-independent deviation are the authors' code.

    Args:
        obs: numbers in an observation.
        act: numbers in an action.
        hidden: widths of the hidden layers.
        activation: ``"relu"``, or ``"tanh"`` (the authors' random baseline in 2D navigation).
        context: numbers of a vector z, ``params["context"]``, that the network sees behind every observation
            and that is all the inner step moves; 0 for none. Paper: Appendix, Tables 4 and 5. Of its length
            and first values nothing is known; Xavier's are those of the baseline's code for other tasks (see
            :mod:`mamlkit.models.context`).
    """
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"activation={activation!r}, but the activations are {', '.join(map(repr, ACTIVATIONS))}"
        )
    check_widths(hidden)
    check_sizes(obs=obs, hidden=tuple(hidden), act=act)
    if not isinstance(context, Integral) or context < 0:
        raise ValueError(f"context={context!r}, but it must be a whole number, at least 0")
    widths = [obs + context, *hidden, act]
    last = len(widths) - 2
    nonlinearity = ACTIVATIONS[activation]

    def init(generator: Generator) -> Params:
        params = {}
        for layer, (fan_in, fan_out) in enumerate(pairwise(widths)):
            params[f"weight{layer}"] = xavier_uniform((fan_out, fan_in), generator)
            params[f"bias{layer}"] = torch.zeros(fan_out)
        params["log_std"] = torch.zeros(act)
        return params | ({CONTEXT: xavier_uniform((1, context), generator)[0]} if context else {})

    def mean(params: Params, x: Tensor) -> Tensor:
        check_features(x.shape[-1], obs)
        if context:
            x = torch.cat([x, params[CONTEXT].expand(*x.shape[:-1], context)], -1)
        for layer in range(last + 1):
            x = F.linear(x, params[f"weight{layer}"], params[f"bias{layer}"])
            x = nonlinearity(x) if layer < last else x
        return x

    layers = tuple(Layer(f"weight{i}", f"bias{i}", relu=i < last) for i in range(last + 1))
    names = [f"{kind}{i}" for kind in ("weight", "bias") for i in range(last + 1)]
    frozen = frozenset([*names, "log_std"] if context else [])
    return Policy(init, mean, layers if activation == "relu" else (), frozen, context)


def without_context(policy: Policy, params: Params) -> Params:
    """Parameters of the same network that sees no vector: what the vector does is part of the first bias.

    Args:
        policy: see above.
        params: with or without a leading ``tasks`` axis, each.
    """
    if not policy.context:
        return params
    own = {name: value for name, value in params.items() if name != CONTEXT}
    seen, of_context = params["weight0"].tensor_split([-policy.context], -1)
    added = (of_context @ params[CONTEXT][..., None])[..., 0]
    return own | {"weight0": seen, "bias0": params["bias0"] + added}


def means(policy: Policy, params: Params, observations: Tensor) -> Tensor:
    """Mean actions ``[tasks, points, act]`` of observations ``[tasks, points, obs]``.

    Each task has parameters of its own. What it gives does not depend on the tasks beside it.
    """
    observations = _aligned(observations)
    if policy.layers:
        params = without_context(policy, params)
        return Pass(policy.layers, kernels_torch, params, observations[:, :, None, None], keep=False).outputs
    return vmap(policy.mean)(params, observations)


def _aligned(observations: Tensor) -> Tensor:
    """The same, with every row at a multiple of 16 bytes: where a matrix begins decides how a CPU's product
    is rounded, and a task should not begin elsewhere beside others."""
    size, whole = observations.shape[-1], 16 // observations.element_size()
    if not size % whole:
        return observations.contiguous()
    return F.pad(observations, (0, -size % whole))[..., :size]


def log_prob(mean: Tensor, log_std: Tensor, actions: Tensor) -> Tensor:
    """Log-density of actions, summed over their components.

    Args:
        mean: ``[..., points, act]``.
        log_std: ``[..., act]``.
        actions: ``[..., points, act]``, before any clipping.

    Returns:
        ``[..., points]``.
    """
    log_std = log_std[..., None, :]
    z = (actions - mean) * torch.exp(-log_std)
    return -(0.5 * z**2 + log_std).sum(-1) - 0.5 * math.log(2 * math.pi) * actions.shape[-1]


def kl(mean: Tensor, log_std: Tensor, new_mean: Tensor, new_log_std: Tensor) -> Tensor:
    """KL divergence of the new Gaussian from the old, KL(old || new), summed over components.

    Returns ``[..., points]``.
    """
    log_std, new_log_std = log_std[..., None, :], new_log_std[..., None, :]
    ratio = torch.exp(2 * (log_std - new_log_std))
    shift = (mean - new_mean) ** 2 * torch.exp(-2 * new_log_std)
    return (0.5 * (ratio + shift - 1) + new_log_std - log_std).sum(-1)
