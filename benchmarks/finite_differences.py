"""What the authors' finite differences do to the outer step, at committed policies of HalfCheetah direction.

    python benchmarks/finite_differences.py --save     # six minutes on two cores; kept under data/benchmarks/

TRPO asks for products of the Hessian of the divergence with vectors. The authors take differences of its
gradient, at a distance of eps along the vector, where eps was meant to be 1e-8 / |theta| and by a slip of
arguments is 1 / |theta|. Ours are exact. Both go through ten iterations of conjugate gradient on the same
episodes, 40 tasks as in training, and the directions that come out are compared.
"""

import argparse

import pandas as pd
import torch
from kept import keep
from torch import Tensor
from torch.func import grad

from mamlkit.engine.threads import one_blas_thread
from mamlkit.experiments.paper import get
from mamlkit.maml import Params
from mamlkit.report import results
from mamlkit.rl import maml_rl
from mamlkit.rl.policy import Policy
from mamlkit.rl.sampling import Steps, sample, to_steps
from mamlkit.rl.trpo import DAMPING, conjugate_gradient
from mamlkit.runs import checkpoints, devices, folders, policies

ROW = "half-cheetah-direction-maml"
POLICIES = {100: ".iteration100.safetensors", 500: ".safetensors"}  # iteration to its file
BASES = (1.0, 0.1, 0.01)  # eps times the norm of theta; the first is the authors'


class Differences:
    """Products with the Hessian of the mean divergence by differences of its gradient, as the authors' code.

    Args:
        policy: see :mod:`mamlkit.rl.policy`.
        params: theta.
        before: rollouts of all tasks at theta.
        after: rollouts of each task's adapted policy.
        inner_lr: alpha.
        base: eps times the norm of theta.
    """

    def __init__(
        self, policy: Policy, params: Params, before: Steps, after: Steps, inner_lr: float, base: float
    ) -> None:
        self.policy, self.before, self.after, self.inner_lr = policy, before, after, inner_lr
        self.tasks = len(after.weights)
        everyone = policies.spread(params, self.tasks)
        self.sampled = maml_rl.adapt_each(policy, everyone, before, inner_lr)
        self.batch = maml_rl.MetaBatch(policy, params, before, after, inner_lr)
        self.theta = self.batch.vector(params)
        self.eps = base / float(self.theta.norm())

    def __call__(self, v: Tensor) -> Tensor:
        ahead, behind = (self.slope(self.theta + sign * self.eps * v) for sign in (1, -1))
        return (ahead - behind) / (2 * self.eps)

    def slope(self, theta: Tensor) -> Tensor:
        """Gradient of the mean divergence at another theta, one task after the other."""

        def apart(params: Params, before: Steps, after: Steps, sampled: Params) -> Tensor:
            adapted = maml_rl.adapt(self.policy, params, before, self.inner_lr)
            return maml_rl.divergence(self.policy, adapted, sampled, after)

        params, total = self.batch.unflatten(theta), torch.zeros_like(theta)
        for task in range(self.tasks):
            before, after = (Steps(*(part[task] for part in steps)) for steps in (self.before, self.after))
            sampled = {name: value[task] for name, value in self.sampled.items()}
            total += self.batch.vector(grad(apart)(params, before, after, sampled))
        return total / self.tasks


@one_blas_thread()
def measure(iteration: int, tasks: int) -> list[dict[str, float]]:
    """The cosine between the direction by differences and the exact one, for each size of eps."""
    row = get(ROW)
    params = checkpoints.load_params(results.checkpoint(ROW).with_suffix(POLICIES[iteration]))
    env, policy = policies.build(row, tasks, row.rollouts)
    goals, everyone = policies.test_goals(row.environment)[:tasks], policies.spread(params, tasks)
    steps = lambda fast, part: to_steps(
        sample(env, policy, fast, row.rollouts, (0, part), goals), row.discount, clip=row.baseline_clip
    )
    before = steps(everyone, 0)
    after = steps(maml_rl.adapt_each(policy, everyone, before, row.inner_lr), 1)
    env.close()
    batch = maml_rl.MetaBatch(policy, params, before, after, row.inner_lr)
    damped = lambda product: lambda v: product(v) + DAMPING * v
    exact, _ = conjugate_gradient(damped(batch.fisher), batch.gradient())
    lines = []
    for base in BASES:
        product = Differences(policy, params, before, after, row.inner_lr, base)
        direction, _ = conjugate_gradient(damped(product), batch.gradient())
        cosine = float(torch.cosine_similarity(direction, exact, dim=0))
        lines.append({"iteration": iteration, "tasks": tasks, "eps": base, "cosine": cosine})
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=get(ROW).meta_batch_size)
    parser.add_argument("--save", action="store_true", help="keep the table under data/benchmarks/")
    options = parser.parse_args()
    origin = folders.provenance(devices.described(torch.device("cpu")))
    table = pd.DataFrame([line for iteration in POLICIES for line in measure(iteration, options.tasks)])
    print(table.to_string(index=False, float_format="%.3f"))
    if options.save:
        keep("differences", "cosine", table, origin, "%.4g")


if __name__ == "__main__":
    main()
