"""Some tasks of a meta-batch in reinforcement learning, by passes and without a graph.

:mod:`mamlkit.rl.maml_rl` cuts a meta-batch into such parts and puts together what they give. Every tensor has
a leading ``tasks`` axis.
"""

__all__ = ["ContextPart", "Part", "adapted", "cut", "pieces"]

from typing import Any

import torch
from torch import Tensor

from mamlkit.engine.passes import Pass, kernels_of
from mamlkit.maml import Params
from mamlkit.models.context import CONTEXT
from mamlkit.rl.policy import Policy, kl, log_prob, without_context
from mamlkit.rl.sampling import Steps

PIECE_BYTES = 1 << 20  # of a layer's activations that a CPU thread takes on at once: what its cache holds


def pieces(params: Params, steps: Steps, axis: int = 0) -> list[tuple[slice, ...]]:
    """Cuts along tasks (``axis`` 0) or points (1) whose activations stay in a CPU's cache.

    A GPU takes all at once.
    """
    if steps.weights.device.type != "cpu":
        return [(slice(None),)]
    widest = max(value.shape[-2] for name, value in params.items() if name.startswith("weight"))
    row = widest * steps.observations.element_size() * steps.weights.shape[1 - axis]
    length, size = max(1, PIECE_BYTES // row), steps.weights.shape[axis]
    return [(slice(None),) * axis + (slice(i, i + length),) for i in range(0, size, length)]


def cut(steps: Steps, piece: tuple[slice, ...]) -> Steps:
    """The steps of one of :func:`pieces`."""
    return Steps(*(tensor[piece] for tensor in steps))


def _head(mean: Tensor, log_std: Tensor, steps: Steps) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient of the inner loss in the means ``[tasks, points, act]`` and in log_std ``[tasks, act]``.

    Also returns z = (a - mean) / std. The loss is :func:`mamlkit.rl.maml_rl.inner_loss`.
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
    mean = -scale * inverse * (z_dot - z * s_dot + z * growth)
    return mean, (scale * ((1 - z**2) * growth - 2 * z * z_dot)).sum(-2)


def _pass(policy: Policy, params: Params, steps: Steps, keep: bool = False) -> Pass:
    kernels = kernels_of(steps.weights.device)
    return Pass(policy.layers, kernels, params, steps.observations[:, :, None, None], keep)


def _inner_gradient(params: Params, run: Pass, steps: Steps) -> tuple[Params, Tensor]:
    """Gradient of the inner loss in every task's parameters, and z (see :func:`_head`)."""
    d, d_log_std, z = _head(run.outputs, params["log_std"], steps)
    return run.gradient(d) | {"log_std": d_log_std}, z


def _moved(params: Params, direction: Params, inner_lr: float) -> Params:
    return {name: value - inner_lr * direction[name] for name, value in params.items()}


def adapted(policy: Policy, params: Params, steps: Steps, inner_lr: float) -> Params:
    """The parameters after one step on each task's own rollouts."""
    plain = without_context(policy, params)
    gradient = _inner_gradient(plain, _pass(policy, plain, steps), steps)[0]
    if policy.context:
        of_context = params["weight0"][..., -policy.context :]
        gradient = {CONTEXT: (gradient["bias0"][..., None, :] @ of_context)[..., 0, :]}
    return params | _moved({name: params[name] for name in gradient}, gradient, inner_lr)


class Part:
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
        self.policy, self.inner_lr, self.curvature = policy, inner_lr, curvature
        self.before, self.after = before, after
        self.sampled = self.adapt(params, first=True)
        self.outer = _pass(policy, self.sampled, after, keep=True)
        self.log_density = log_prob(self.outer.outputs, self.sampled["log_std"], after.actions)

    def adapt(self, params: Params, first: bool = False) -> Params:
        """The adapted parameters of each task; the very same where nothing is adapted."""
        if self.before is None:
            return params
        return _moved(params, self._inner(params, self.before, first), self.inner_lr)

    def _inner(self, params: Params, steps: Steps, first: bool) -> Params:
        """Gradient of the inner loss of each task; what the tangents need is kept at first."""
        keep = first and self.curvature != "none"
        run = _pass(self.policy, params, steps, keep)
        if self.curvature == "ratios":
            log_density = log_prob(run.outputs, params["log_std"], steps.actions)
            if keep:
                self.first_log_density = log_density
            ratio = torch.exp(log_density - self.first_log_density)
            steps = steps._replace(advantages=steps.advantages * ratio)
        gradient, z = _inner_gradient(params, run, steps)
        if keep:
            self.inner, self.z = run, z
        return gradient

    def judge(self, params: Params) -> Tensor:
        """Surrogate loss and divergence at another theta ``[2]``, summed over tasks."""
        fast = self.adapt(params)
        mean = _pass(self.policy, fast, self.after).outputs
        ratio = torch.exp(log_prob(mean, fast["log_std"], self.after.actions) - self.log_density)
        apart = kl(self.outer.outputs, self.sampled["log_std"], mean, fast["log_std"])
        weights = self.after.weights
        loss = -(weights * self.after.advantages * ratio).sum()
        return torch.stack([loss, (weights * apart).sum()]).double()

    def gradient(self) -> Params:
        """Gradient of the surrogate loss at theta, of each task.

        Where the ratio is 1 it is that of the inner loss.
        """
        return self._pulled(_inner_gradient(self.sampled, self.outer, self.after)[0])

    def fisher(self, v: Params) -> Params:
        """Hessian of the divergence at theta times v, of each task."""
        u = self._pushed(v)
        mean_dot = self.outer.tangent(u)
        precision = torch.exp(-2 * self.sampled["log_std"])[..., None, :]
        weights = self.after.weights
        gradient = self.outer.gradient(weights[..., None] * precision * mean_dot)
        return self._pulled(gradient | {"log_std": 2 * weights.sum(-1, keepdim=True) * u["log_std"]})

    def _pushed(self, v: Params) -> Params:
        """How the adapted parameters move when theta moves along v: (I - alpha H) v, or v in first order."""
        if self.before is None or self.curvature == "none":
            return v
        return _moved(v, self._hessian(v, self.before), self.inner_lr)

    def _pulled(self, gradient: Params) -> Params:
        """The gradient at theta of what has this one at the adapted parameters; H is symmetric."""
        return Part._pushed(self, gradient)

    def _hessian(self, v: Params, steps: Steps) -> Params:
        """Hessian of the inner loss, of each task, times v."""
        mean_dot = self.inner.tangent(v)
        log_std = self.inner.weights["log_std"]
        ratio = self.curvature == "ratios"
        d_dot, d_log_std_dot = _head_tangent(self.z, log_std, steps, mean_dot, v["log_std"], ratio)
        return self.inner.gradient_tangent(v, d_dot) | {"log_std": d_log_std_dot}


class ContextPart(Part):
    """The same where a vector z among the inputs is all that is adapted.

    It is a part of a network without z, whose first bias has W z added, W being what the first layer has for
    z. With h the gradient of the inner loss in that bias, the inner step is z' = z - alpha W' h.
    """

    def __init__(self, policy: Policy, params: Params, *rest: Any) -> None:
        self.theta, self.of_context = params, params["weight0"][:, -policy.context :]
        super().__init__(policy, params, *rest)

    def adapt(self, params: Params, first: bool = False) -> Params:
        """The adapted parameters of each task, of the network without z."""
        vector = params[CONTEXT]
        if self.before is not None:
            plain = without_context(self.policy, params)
            slope = self._inner(plain, self.before, first)["bias0"]
            vector = vector - self.inner_lr * slope @ params["weight0"][:, -self.policy.context :]
            if first:
                self.slope = slope
        if first:
            self.vector = vector
        return without_context(self.policy, params | {CONTEXT: vector})

    def _pushed(self, v: Params) -> Params:
        seen, of_context = v["weight0"].tensor_split([-self.policy.context], -1)
        own = {name: value for name, value in v.items() if name != CONTEXT} | {"weight0": seen}
        moved = v[CONTEXT]

        def with_bias(vector: Tensor, moved: Tensor) -> Params:
            return own | {"bias0": v["bias0"] + _times(of_context, vector) + _times(self.of_context, moved)}

        if self.before is not None and self.curvature != "none":
            curved = self._hessian(with_bias(self.theta[CONTEXT], moved), self.before)["bias0"]
            moved = moved - self.inner_lr * (_times(of_context.mT, self.slope) + curved @ self.of_context)
        return with_bias(self.vector, moved)

    def _pulled(self, gradient: Params) -> Params:
        bias = gradient["bias0"]
        in_vector = bias @ self.of_context
        of_context = bias[..., None] * self.vector[..., None, :]
        found, back = dict(gradient), in_vector
        if self.before is not None and self.curvature != "none":
            still = {name: torch.zeros_like(value) for name, value in gradient.items()}
            curved = self._hessian(still | {"bias0": _times(self.of_context, in_vector)}, self.before)
            found = _moved(gradient, curved, self.inner_lr)
            back = in_vector - self.inner_lr * curved["bias0"] @ self.of_context
            through = self.slope[..., None] * in_vector[..., None, :]
            through = through + curved["bias0"][..., None] * self.theta[CONTEXT]
            of_context = of_context - self.inner_lr * through
        return found | {"weight0": torch.cat([found["weight0"], of_context], -1), CONTEXT: back}


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector[..., None])[..., 0]
