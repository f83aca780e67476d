"""Algorithm 3: the inner loss, the meta-objective, and one meta-update of a batch of tasks.

The functions of the first half are written for one task and differentiated by PyTorch. :class:`MetaBatch`
gives the same numbers for all tasks at once, without a graph, by the passes of :mod:`mamlkit.engine.passes`.
With H the Hessian of a task's inner loss at theta and F the Fisher information of its adapted policy, the
derivative of the adapted parameters is I - alpha H, so a gradient g' at them is (I - alpha H) g' at theta. At
the policy that sampled, the Hessian of the divergence is (I - alpha H) F (I - alpha H), exactly: the terms
with second derivatives of the inner update are multiplied by the gradient of the divergence, which is zero
there.

There is a choice of H (``curvature``). The authors' inner loss is the mean of log pi(a|s) times the
advantage, whose H, that of ``"log-densities"``, forgets that another theta would have drawn other actions.
With the likelihood ratio in the place of log pi the gradient is the same where the rollouts were sampled, and
H holds that too: ``"ratios"``, the low-variance curvature of Rothfuss et al. (ProMP, ICLR 2019). ``"none"``
leaves H out: first-order MAML.
"""

__all__ = ["MetaBatch", "adapt", "adapt_each", "divergence", "inner_loss", "meta_update", "surrogate"]

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import vmap

from mamlkit import maml
from mamlkit.engine import kernels_torch
from mamlkit.engine.passes import Pass
from mamlkit.engine.threads import each
from mamlkit.maml import Params
from mamlkit.rl.policy import Policy, kl, log_prob
from mamlkit.rl.sampling import Steps
from mamlkit.rl.trpo import Step, trust_region_step

PIECE_BYTES = 1 << 20  # of a layer's activations that a CPU thread takes on at once: what its cache holds
CURVATURES = ("log-densities", "ratios", "none")


def inner_loss(policy: Policy, params: Params, steps: Steps) -> Tensor:
    """Policy-gradient loss of one task: minus the mean of log pi(a|s) times the advantage.

    Paper: equation 4, whose gradient is estimated by REINFORCE. The mean is over time steps; log-densities
    are summed over the components of an action (the authors' code).
    """
    log_density = log_prob(policy.mean(params, steps.observations), params["log_std"], steps.actions)
    return -(steps.weights * steps.advantages * log_density).sum()


def adapt(
    policy: Policy, params: Params, steps: Steps, inner_lr: float, drawn_with: Params | None = None
) -> Params:
    """One step on a task's own rollouts; all parameters move, the deviations too. Paper: Algorithm 3, line 7.

    Args:
        policy: see :mod:`mamlkit.rl.policy`.
        params: what moves.
        steps: of one task.
        inner_lr: alpha.
        drawn_with: the parameters that the steps were sampled with, for the loss with likelihood ratios; None
            for the authors'.
    """
    loss = (
        (lambda p, s: inner_loss(policy, p, s))
        if drawn_with is None
        else (lambda p, s: surrogate(policy, p, drawn_with, s))
    )
    return maml.inner_step(loss, params, steps, inner_lr)


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


def _head(mean: Tensor, log_std: Tensor, steps: Steps) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient of :func:`inner_loss` in the means ``[tasks, points, act]`` and in log_std ``[tasks, act]``.

    Also returns z = (a - mean) / std.
    """
    inverse = torch.exp(-log_std)[..., None, :]
    z = (steps.actions - mean) * inverse
    scale = (steps.weights * steps.advantages)[..., None]
    return -scale * z * inverse, (scale * (1 - z**2)).sum(-2), z


def _head_tangent(
    z: Tensor, log_std: Tensor, steps: Steps, mean_dot: Tensor, log_std_dot: Tensor, ratio: bool
) -> tuple[Tensor, Tensor]:
    """Derivative of :func:`_head` along (mean_dot, log_std_dot).

    With ``ratio`` every step's weight has the growth of log pi.
    """
    inverse, s_dot = torch.exp(-log_std)[..., None, :], log_std_dot[..., None, :]
    z_dot = -mean_dot * inverse - z * s_dot
    growth = -(z * z_dot + s_dot).sum(-1, keepdim=True) if ratio else 0.0
    scale = (steps.weights * steps.advantages)[..., None]
    return -scale * inverse * (z_dot - z * s_dot + z * growth), (
        scale * ((1 - z**2) * growth - 2 * z * z_dot)
    ).sum(-2)


def _pass(policy: Policy, params: Params, steps: Steps, keep: bool = False) -> Pass:
    return Pass(policy.layers, kernels_torch, params, steps.observations[:, :, None, None], keep)


def _inner_gradient(params: Params, run: Pass, steps: Steps) -> tuple[Params, Tensor]:
    """Gradient of :func:`inner_loss` in every task's parameters, and z (see :func:`_head`)."""
    d, d_log_std, z = _head(run.outputs, params["log_std"], steps)
    return run.gradient(d) | {"log_std": d_log_std}, z


def _moved(params: Params, direction: Params, inner_lr: float) -> Params:
    return {name: value - inner_lr * direction[name] for name, value in params.items()}


def _pieces(policy: Policy, params: Params, steps: Steps, axis: int = 0) -> list[tuple[slice, ...]]:
    """Cuts along tasks (``axis`` 0) or points (1) whose activations stay in a CPU's cache.

    A GPU takes all at once.
    """
    if steps.weights.device.type != "cpu":
        return [(slice(None),)]
    widest = max(params[layer.weight].shape[-2] for layer in policy.layers)
    row = widest * steps.observations.element_size() * steps.weights.shape[1 - axis]
    length, size = max(1, PIECE_BYTES // row), steps.weights.shape[axis]
    return [(slice(None),) * axis + (slice(i, i + length),) for i in range(0, size, length)]


def _cut(steps: Steps, piece: tuple[slice, ...]) -> Steps:
    return Steps(*(tensor[piece] for tensor in steps))


@torch.no_grad()
def adapt_each(policy: Policy, params: Params, steps: Steps, inner_lr: float) -> Params:
    """:func:`adapt` of every task at once; what comes and what is returned has a leading ``tasks`` axis."""
    if not policy.layers:
        return vmap(lambda p, s: adapt(policy, p, s, inner_lr))(params, steps)

    def work(piece: tuple[slice, ...]) -> Params:
        own, some = {name: value[piece] for name, value in params.items()}, _cut(steps, piece)
        return _moved(own, _inner_gradient(own, _pass(policy, own, some), some)[0], inner_lr)

    parts = each(work, _pieces(policy, params, steps))
    return {name: torch.cat([part[name] for part in parts]) for name in params}


class _Part:
    """Some tasks of a meta-batch, with the passes at theta and at the adapted parameters."""

    def __init__(
        self,
        policy: Policy,
        params: Params,
        before: Steps | None,
        after: Steps,
        inner_lr: float,
        curvature: str,
    ) -> None:
        self.policy, self.inner_lr, self.before, self.after, self.curvature = (
            policy,
            inner_lr,
            before,
            after,
            curvature,
        )
        self.sampled = self.adapt(params, keep=curvature != "none")
        self.outer = _pass(policy, self.sampled, after, keep=True)
        self.log_density = log_prob(self.outer.outputs, self.sampled["log_std"], after.actions)

    def adapt(self, params: Params, keep: bool = False) -> Params:
        """The adapted parameters of each task; the very same where nothing is adapted."""
        if self.before is None:
            return params
        run, steps = _pass(self.policy, params, self.before, keep), self.before
        if self.curvature == "ratios":
            log_density = log_prob(run.outputs, params["log_std"], steps.actions)
            if keep:
                self.first_log_density = log_density
            steps = steps._replace(
                advantages=steps.advantages * torch.exp(log_density - self.first_log_density)
            )
        gradient, z = _inner_gradient(params, run, steps)
        if keep:
            self.inner, self.z = run, z
        return _moved(params, gradient, self.inner_lr)

    def judge(self, params: Params) -> Tensor:
        """Surrogate loss and divergence at another theta ``[2]``, summed over tasks."""
        fast = self.adapt(params)
        mean = _pass(self.policy, fast, self.after).outputs
        ratio = torch.exp(log_prob(mean, fast["log_std"], self.after.actions) - self.log_density)
        apart = kl(self.outer.outputs, self.sampled["log_std"], mean, fast["log_std"])
        weights = self.after.weights
        return torch.stack(
            [-(weights * self.after.advantages * ratio).sum(), (weights * apart).sum()]
        ).double()

    def gradient(self) -> Params:
        """Gradient of the surrogate loss at theta, of each task.

        Where the ratio is 1 it is that of the inner loss.
        """
        return self._through(_inner_gradient(self.sampled, self.outer, self.after)[0])

    def fisher(self, v: Params) -> Params:
        """Hessian of the divergence at theta times v, of each task."""
        u = self._through(v)
        mean_dot = self.outer.tangent(u)
        precision = torch.exp(-2 * self.sampled["log_std"])[..., None, :]
        weights = self.after.weights
        gradient = self.outer.gradient(weights[..., None] * precision * mean_dot)
        return self._through(gradient | {"log_std": 2 * weights.sum(-1, keepdim=True) * u["log_std"]})

    def _through(self, v: Params) -> Params:
        """(I - alpha H) v, or v in first order."""
        if self.before is None or self.curvature == "none":
            return v
        mean_dot = self.inner.tangent(v)
        log_std = self.inner.weights["log_std"]
        d_dot, d_log_std_dot = _head_tangent(
            self.z, log_std, self.before, mean_dot, v["log_std"], self.curvature == "ratios"
        )
        hessian_v = self.inner.gradient_tangent(v, d_dot) | {"log_std": d_log_std_dot}
        return _moved(v, hessian_v, self.inner_lr)


class MetaBatch:
    """The meta-objective of many tasks around theta: loss, gradient, Fisher products, divergence, as vectors.

    Args:
        policy: one with layers (see :mod:`mamlkit.rl.policy`).
        params: theta.
        before: rollouts at theta, for the inner step; None if nothing is adapted (ordinary TRPO).
        after: rollouts of each task's adapted policy, or at theta if nothing is adapted.
        inner_lr: alpha.
        curvature: one of :data:`CURVATURES`, see above.
    """

    def __init__(
        self,
        policy: Policy,
        params: Params,
        before: Steps | None,
        after: Steps,
        inner_lr: float = 0.0,
        curvature: str = "log-densities",
    ) -> None:
        if curvature not in CURVATURES:
            raise ValueError(f"curvature={curvature!r}, but it is one of {', '.join(map(repr, CURVATURES))}")
        if not policy.layers:
            raise ValueError(
                "this policy has no layers, so it cannot be meta-trained; use gaussian_mlp with "
                "activation='relu'"
            )
        self.params, self.tasks = params, len(after.weights)
        # with one theta for all, points may be cut apart
        pieces = _pieces(policy, params, after, axis=0 if before else 1)
        work = lambda piece: _Part(
            policy, params, before and _cut(before, piece), _cut(after, piece), inner_lr, curvature
        )
        self.parts = each(work, pieces)

    def vector(self, params: Params) -> Tensor:
        """Parameters (or a gradient) as one vector in float64."""
        return torch.cat([params[name].flatten() for name in self.params]).double()

    def unflatten(self, vector: Tensor) -> Params:
        """The inverse of :meth:`vector`, in the precision of the parameters."""
        pieces = vector.split([value.numel() for value in self.params.values()])
        return {
            name: piece.view_as(value).to(value.dtype)
            for (name, value), piece in zip(self.params.items(), pieces)
        }

    def gradient(self) -> Tensor:
        """Gradient of the mean surrogate loss at theta."""
        return self._mean(lambda part: part.gradient())

    def fisher(self, v: Tensor) -> Tensor:
        """Hessian of the mean divergence at theta times a vector."""
        direction = self.unflatten(v)
        return self._mean(
            lambda part: part.fisher(
                {k: d.expand(len(part.after.weights), *d.shape) for k, d in direction.items()}
            )
        )

    def judge(self, theta: Tensor) -> tuple[float, float]:
        """Mean surrogate loss and divergence at another theta."""
        params = self.unflatten(theta)
        loss, apart = torch.stack(each(lambda part: part.judge(params), self.parts)).sum(0) / self.tasks
        return float(loss), float(apart)

    def _mean(self, of: Callable[[_Part], Params]) -> Tensor:
        sums = each(
            lambda part: self.vector({name: value.sum(0) for name, value in of(part).items()}), self.parts
        )
        return torch.stack(sums).sum(0) / self.tasks


@torch.no_grad()
def meta_update(
    policy: Policy,
    params: Params,
    before: Steps | None,
    after: Steps,
    *,
    inner_lr: float,
    max_kl: float,
    curvature: str = "log-densities",
) -> tuple[Params, Step]:
    """One TRPO step on the meta-objective. Paper: Algorithm 3, line 10.

    Arguments as for :class:`MetaBatch`; ``max_kl`` bounds the mean divergence of the adapted policies.
    Returns the new parameters, or the very same if no step would do, and what happened.
    """
    batch = MetaBatch(policy, params, before, after, inner_lr, curvature)
    theta = batch.vector(params)
    new, step = trust_region_step(
        theta, batch.judge(theta)[0], batch.gradient(), batch.fisher, batch.judge, max_kl
    )
    return (params if step.refused else batch.unflatten(new)), step
