"""Some tasks of a meta-batch in reinforcement learning, for any policy, by PyTorch's derivatives.

They are those that :mod:`mamlkit.rl.parts` has by passes, several times slower. Policies go here whose
network has no layers for these, or that do not move all of it in the inner step.
"""

__all__ = ["GeneralPart", "adapt"]

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import grad, jvp, vmap

from mamlkit import maml
from mamlkit.maml import Params
from mamlkit.rl.objectives import divergence, inner_loss, surrogate
from mamlkit.rl.policy import Policy
from mamlkit.rl.sampling import Steps


def adapt(
    policy: Policy,
    params: Params,
    steps: Steps,
    inner_lr: float,
    drawn_with: Params | None = None,
    first_order: bool = False,
) -> Params:
    """One step on a task's own rollouts. Paper: Algorithm 3, line 7.

    All parameters move, the deviations too, but for those that the policy freezes.

    Args:
        policy: see :mod:`mamlkit.rl.policy`.
        params: what moves.
        steps: of one task.
        inner_lr: alpha.
        drawn_with: the parameters that the steps were sampled with, for the loss with likelihood ratios; None
            for the authors'.
        first_order: whether the gradient counts as a constant.
    """

    def loss(p: Params, s: Steps) -> Tensor:
        return inner_loss(policy, p, s) if drawn_with is None else surrogate(policy, p, drawn_with, s)

    return maml.inner_step(loss, params, steps, inner_lr, first_order, policy.frozen)


class GeneralPart:
    """What :class:`mamlkit.rl.parts.Part` is, with the same arguments."""

    def __init__(
        self,
        policy: Policy,
        params: Params,
        before: Steps | None,
        after: Steps,
        inner_lr: float,
        curvature: str,
    ) -> None:
        self.policy, self.theta, self.inner_lr, self.curvature = policy, params, inner_lr, curvature
        self.before, self.after = before, after
        self.sampled = self._each(lambda before, after: self._adapted(params, before))

    def judge(self, params: Params) -> Tensor:
        """Surrogate loss and divergence at another theta ``[2]``, summed over tasks."""

        def judged(before: Steps | None, after: Steps, sampled: Params) -> Tensor:
            fast = self._adapted(params, before)
            return torch.stack(
                [of(self.policy, fast, sampled, after).double() for of in (surrogate, divergence)]
            )

        return self._each(judged, self.sampled).sum(0)

    def gradient(self) -> Params:
        """Gradient of the surrogate loss at theta, of each task."""
        return self._each(
            lambda before, after, sampled: grad(self._of(surrogate, before, after, sampled))(self.theta),
            self.sampled,
        )

    def fisher(self, v: Params) -> Params:
        """Hessian of the divergence at theta times v, of each task."""

        def product(before: Steps | None, after: Steps, sampled: Params, v: Params) -> Params:
            slope = grad(self._of(divergence, before, after, sampled))
            return jvp(slope, (self.theta,), (v,))[1]

        return self._each(product, self.sampled, v)

    def _each(self, of: Callable[..., Any], *given: Any) -> Any:
        """For every task: what of it is given comes after its steps."""
        if self.before is None:
            return vmap(lambda after, *of_task: of(None, after, *of_task))(self.after, *given)
        return vmap(of)(self.before, self.after, *given)

    def _of(
        self,
        objective: Callable[..., Tensor],
        before: Steps | None,
        after: Steps,
        sampled: Params,
    ) -> Callable[[Params], Tensor]:
        """An objective of one task's adapted policy, as a function of theta."""
        return lambda theta: objective(self.policy, self._adapted(theta, before), sampled, after)

    def _adapted(self, theta: Params, before: Steps | None) -> Params:
        """One task's parameters after the inner step; theta itself where nothing is adapted."""
        if before is None:
            return theta
        drawn_with = self.theta if self.curvature == "ratios" else None
        return adapt(self.policy, theta, before, self.inner_lr, drawn_with, self.curvature == "none")
