"""Time of one meta-iteration of Algorithm 3: physics, our sampling, the update, and what else there is.

    python benchmarks/meta_rl.py              # both robots at the paper's size
    python benchmarks/meta_rl.py --save       # the same, kept under data/benchmarks/

Each part runs several times, a turn each, and medians are reported. The physics rate is that of bare
``mujoco.rollout``, without and with the forward pass at the new state, which observations and rewards need.
The limit of the update is the time of its matrix products at the rate of a large batched product, PyTorch's
or ours, measured in the same run.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import gymnasium
import numpy as np
import pandas as pd
import torch
from problems import product_rate
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from mamlkit import files, places
from mamlkit.engine import kernels_torch
from mamlkit.experiments.paper import get
from mamlkit.experiments.rows import PolicyRow
from mamlkit.rl import envs, locomotion, maml_rl, parts
from mamlkit.rl.sampling import sample, to_steps
from mamlkit.rl.trpo import CG_ITERATIONS
from mamlkit.runs import devices, folders, policies, seeds

ROBOTS = {"half-cheetah-velocity": locomotion.HalfCheetah, "ant-velocity": locomotion.Ant}
BY_TORCH = "update with PyTorch's products"  # in place of the engine's own
PEER_STEPS = 50  # of each environment, timed


def update_flops(row: PolicyRow, params: dict[str, torch.Tensor], tries: int) -> float:
    """Operations of the products of one meta-update on full episodes, layer by layer.

    A Hessian product needs 6 products for each weight matrix (2 for the first, whose input does not move), a
    Fisher product 4 (2 for the first); a gradient 3 (2); judging a step length 4 (3), the surrogate after an
    inner step.
    """
    points = row.meta_batch_size * row.rollouts * 200
    first, *others = (2.0 * points * params[f"weight{layer}"].numel() for layer in range(3))
    count = lambda of_first, of_others: of_first * first + of_others * sum(others)
    through, fisher, gradient, judged = count(2, 6), count(2, 4), count(2, 3), count(3, 4)
    return (
        gradient
        + count(1, 1)
        + (tries + 1) * judged
        + count(1, 2)
        + through
        + CG_ITERATIONS * (2 * through + fisher)
    )


def peer_rate(name: str, num_envs: int) -> float:
    """Steps per second of ``AsyncVectorEnv`` over registered environments, a process each; same policy."""
    kind = envs.ENVIRONMENTS[name].gymnasium_id
    peer = gymnasium.vector.AsyncVectorEnv([lambda: gymnasium.make(kind)] * num_envs)
    _, policy = policies.build(get(f"{name}-maml"), 1, 1)
    params = policy.init(torch.Generator().manual_seed(0))
    observations, _ = peer.reset(seed=0)
    rng = np.random.default_rng(0)
    start = time.perf_counter()
    for _ in range(PEER_STEPS):
        mean = policy.mean(params, torch.from_numpy(observations.astype(np.float32))).numpy()
        observations, *_ = peer.step(np.clip(mean + rng.standard_normal(mean.shape), -1, 1))
    seconds = time.perf_counter() - start
    peer.close()
    return num_envs * PEER_STEPS / seconds


def measure(name: str, repeats: int, threads: int) -> dict[str, Any]:
    """Medians for one robot at the paper's size: 40 tasks, 20 rollouts, 200 steps, before and after."""
    row = dataclasses.replace(get(f"{name}-maml"), rollouts=20)
    lanes, policy = policies.lanes(row, row.meta_batch_size, row.rollouts, threads=threads)
    envs_of_all = sum(env.num_envs for env in lanes)
    params = policy.init(seeds.generator(0, "init"))
    everyone = policies.spread(params, row.meta_batch_size)
    goals = lanes[0].task.sample(np.random.default_rng(0), row.meta_batch_size)
    times: dict[str, list[float]] = {}
    rates: dict[str, list[float]] = {}
    products: list[float] = []

    def timed(what: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        result = function(*args, **kwargs)
        times.setdefault(what, []).append(time.perf_counter() - start)
        return result

    for turn in tqdm(range(repeats), desc=name, leave=False):
        for forward in (False, True):
            rate = locomotion.physics_rate(
                ROBOTS[name], num_envs=envs_of_all, threads=threads, forward=forward
            )
            rates.setdefault("physics, with forward pass" if forward else "physics", []).append(rate)
        products.append(product_rate(torch.device("cpu")))
        key = (0, policies.TRAIN, turn)
        rollouts = timed("sampling before", sample, lanes, policy, everyone, row.rollouts, (*key, 0), goals)
        rates.setdefault("our sampling before", []).append(
            rollouts.valid.sum() / times["sampling before"][-1]
        )
        before = timed("advantages before", to_steps, rollouts, row.discount)
        adapted = timed("adaptation", maml_rl.adapt_each, policy, everyone, before, row.inner_lr)
        rollouts = timed("sampling after", sample, lanes, policy, adapted, row.rollouts, (*key, 1), goals)
        rates.setdefault("our sampling after", []).append(rollouts.valid.sum() / times["sampling after"][-1])
        after = timed("advantages after", to_steps, rollouts, row.discount)
        bounds = {"inner_lr": row.inner_lr, "max_kl": row.max_kl}
        _, step = timed("update", maml_rl.meta_update, policy, params, before, after, **bounds)
    with patch.object(parts, "kernels_of", lambda device: kernels_torch):
        for _ in range(repeats):  # after all turns, whose memory it would scatter
            timed(BY_TORCH, maml_rl.meta_update, policy, params, before, after, **bounds)
    for env in lanes:
        env.close()
    for count in (threads, row.meta_batch_size):
        rates[f"AsyncVectorEnv, {count} processes"] = [peer_rate(name, count) for _ in range(repeats)]
    seconds = {what: statistics.median(each) for what, each in times.items()}
    total = sum(value for what, value in seconds.items() if what != BY_TORCH)
    return {
        "environment": name,
        **{f"{what}, steps/s": statistics.median(each) for what, each in rates.items()},
        **{f"{what}, s": value for what, value in seconds.items()},
        "limit of the update, s": update_flops(row, params, step.tries) / statistics.median(products),
        "product, GFLOP/s": statistics.median(products) / 1e9,
        "meta-iteration, s": total,
        "500 iterations, h": 500 * total / 3600,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--robot", choices=ROBOTS, action="append", help="only this one")
    parser.add_argument("--save", action="store_true", help="keep the table under data/benchmarks/")
    options = parser.parse_args()
    if options.save and options.robot:
        parser.error("--save keeps a table of both robots; leave --robot out")
    torch.set_num_threads(options.threads)
    origin = folders.provenance(devices.described(torch.device("cpu"))) | {"repeats": options.repeats}
    with threadpool_limits(1, "blas"):
        lines = [measure(name, options.repeats, options.threads) for name in options.robot or ROBOTS]
    table = pd.DataFrame(lines).set_index("environment").T
    print(table.to_string(float_format=lambda v: f"{v:,.3g}" if v < 100 else f"{v:,.0f}"))
    if options.save:
        folder = places.repository() / "data" / "benchmarks" / "rl"
        folder.mkdir(parents=True, exist_ok=True)
        files.write_text(folder / "time.csv", table.to_csv(index_label="what", float_format="%.4g"))
        files.write_json(folder / "origin.json", origin)
        print(f"kept in {folder}")


if __name__ == "__main__":
    main()
