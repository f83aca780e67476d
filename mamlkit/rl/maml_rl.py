"""Algorithm 3: the inner loss, the meta-objective, and one meta-update of a batch of tasks.

The functions of :mod:`mamlkit.rl.objectives` are written for one task and differentiated by PyTorch.
:class:`MetaBatch` gives the same numbers for all tasks at once: by passes and without a graph where the
policy has layers (see :mod:`mamlkit.rl.parts`), else by these functions (see :mod:`mamlkit.rl.general`).

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

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.func import vmap

from mamlkit.engine.ranks import ALONE, Ranks
from mamlkit.engine.threads import each
from mamlkit.maml import Params
from mamlkit.rl.general import GeneralPart, adapt
from mamlkit.rl.objectives import divergence, inner_loss, surrogate
from mamlkit.rl.parts import ContextPart, Part, adapted, cut, pieces
from mamlkit.rl.policy import Policy
from mamlkit.rl.sampling import Steps
from mamlkit.rl.trpo import Step, trust_region_step

CURVATURES = ("log-densities", "ratios", "none")


@torch.no_grad()
def adapt_each(
    policy: Policy, params: Params, steps: Steps, inner_lr: float, wanted: Sequence[int] | None = None
) -> Params:
    """:func:`adapt` of every task at once; what comes and what is returned has a leading ``tasks`` axis.

    Args:
        policy: see :mod:`mamlkit.rl.policy`.
        params: of each task.
        steps: of each task.
        inner_lr: alpha.
        wanted: the tasks whose parameters are asked for, or all.
    """
    tasks = range(len(steps.weights))
    wanted = tasks if wanted is None else wanted
    if not policy.layers:
        moved = vmap(lambda p, s: adapt(policy, p, s, inner_lr))(params, steps)
        return {name: value[list(wanted)] for name, value in moved.items()}

    def work(piece: tuple[slice, ...]) -> Params:
        own = {name: value[piece] for name, value in params.items()}
        return adapted(policy, own, cut(steps, piece), inner_lr)

    # whole pieces, so that their bits are the same whichever of their tasks are wanted
    some = [piece for piece in pieces(params, steps) if set(wanted) & set(tasks[piece[0]])]
    parts, there = each(work, some), [task for piece in some for task in tasks[piece[0]]]
    rows = [there.index(task) for task in wanted]
    return {name: torch.cat([part[name] for part in parts])[rows] for name in params}


class MetaBatch:
    """The meta-objective of many tasks around theta: loss, gradient, Fisher products, divergence, as vectors.

    Args:
        policy: see :mod:`mamlkit.rl.policy`.
        params: theta.
        before: rollouts at theta, for the inner step; None if nothing is adapted (ordinary TRPO).
        after: rollouts of each task's adapted policy, or at theta if nothing is adapted.
        inner_lr: alpha.
        curvature: one of :data:`CURVATURES`, see above.
        ranks: the processes that compute it together; each has all of the above, and computes some parts.
    """

    def __init__(
        self,
        policy: Policy,
        params: Params,
        before: Steps | None,
        after: Steps,
        inner_lr: float = 0.0,
        curvature: str = "log-densities",
        ranks: Ranks = ALONE,
    ) -> None:
        if curvature not in CURVATURES:
            raise ValueError(f"curvature={curvature!r}, but it is one of {', '.join(map(repr, CURVATURES))}")
        self.params, self.tasks, self.ranks = params, len(after.weights), ranks
        # with one theta for all, points may be cut apart
        axis = 0 if before else 1

        def work(piece: tuple[slice, ...]) -> Part | GeneralPart:
            own = before and cut(before, piece)
            kind = GeneralPart if not policy.layers else ContextPart if policy.context else Part
            return kind(policy, params, own, cut(after, piece), inner_lr, curvature)

        every = pieces(params, after, axis)
        self.count, self.parts = len(every), each(work, ranks.dealt(every))

    def vector(self, params: Params) -> Tensor:
        """Parameters (or a gradient) as one vector in float64."""
        return self._flat(params).double()

    def unflatten(self, vector: Tensor) -> Params:
        """The inverse of :meth:`vector`, in the precision of the parameters."""
        own = zip(self.params.items(), vector.split([value.numel() for value in self.params.values()]))
        return {name: part.view_as(value).to(value.dtype) for (name, value), part in own}

    def gradient(self) -> Tensor:
        """Gradient of the mean surrogate loss at theta."""
        return self._mean(lambda part: self._summed(part.gradient()))

    def fisher(self, v: Tensor) -> Tensor:
        """Hessian of the mean divergence at theta times a vector."""
        direction = self.unflatten(v)
        of_each = lambda n: {name: d.expand(n, *d.shape) for name, d in direction.items()}
        return self._mean(lambda part: self._summed(part.fisher(of_each(len(part.after.weights)))))

    def judge(self, theta: Tensor) -> tuple[float, float]:
        """Mean surrogate loss and divergence at another theta."""
        params = self.unflatten(theta)
        loss, apart = self._mean(lambda part: part.judge(params))
        return float(loss), float(apart)

    def _flat(self, params: Params) -> Tensor:
        return torch.cat([params[name].flatten() for name in self.params])

    def _summed(self, of_tasks: Params) -> Tensor:
        return self._flat({name: value.sum(0) for name, value in of_tasks.items()})

    def _mean(self, of: Callable[[Part | GeneralPart], Tensor]) -> Tensor:
        """Over tasks, of what each part gives summed over its own; added in the order of the parts."""
        every = self.ranks.gathered(torch.stack(each(of, self.parts)), self.count)
        return every.double().sum(0) / self.tasks


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
    ranks: Ranks = ALONE,
) -> tuple[Params, Step]:
    """One TRPO step on the meta-objective. Paper: Algorithm 3, line 10.

    Arguments as for :class:`MetaBatch`; ``max_kl`` bounds the mean divergence of the adapted policies.
    Returns the new parameters, or the very same if no step would do, and what happened.
    """
    batch = MetaBatch(policy, params, before, after, inner_lr, curvature, ranks)
    theta = batch.vector(params)
    loss, gradient = batch.judge(theta)[0], batch.gradient()
    new, step = trust_region_step(theta, loss, gradient, batch.fisher, batch.judge, max_kl)
    return (params if step.refused else batch.unflatten(new)), step
