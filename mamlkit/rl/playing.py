"""Episodes of several tasks' policies in one batch of environments, which advance together."""

__all__ = ["played"]

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mamlkit.maml import Params
from mamlkit.rl.batched import Batched
from mamlkit.rl.policy import Policy, means


def played(
    env: Batched,
    policy: Policy,
    params: Params,
    rollouts: int,
    key: Sequence[int],
    goals: NDArray[np.float64] | None,
    drop_unfinished: bool,
    named: Sequence[int],
) -> list[tuple[NDArray[Any], ...]]:
    """The episodes of :func:`mamlkit.rl.sampling.sample` in one batch of environments, step by step.

    The caller sees to it that PyTorch has one thread here: several would wait for each other.

    Args:
        env, policy, params, rollouts, key, goals, drop_unfinished: as there, of the tasks of this batch.
        named: their numbers.

    Returns:
        For each step, ``[num_envs, ...]`` each: observations, actions, rewards, steps within the episode,
        whether it ended, and whether it ended and counts.

    Raises:
        FloatingPointError: as there.
    """
    n, size = env.num_envs, env.single_action_space.shape[0]
    count, rows = n // rollouts, np.arange(n)
    noise = np.empty((n, env.horizon, size), np.float32)
    of_env = np.empty((n, *env.task.shape)) if goals is None else np.repeat(goals, rollouts, axis=0)
    begun, finished = np.zeros(count, np.int64), np.zeros(count, np.int64)
    time, seeds = np.zeros(n, np.int64), [0] * n
    std, device = params["log_std"].exp().cpu().numpy()[:, None], params["log_std"].device

    def begin(which: NDArray[np.bool_]) -> NDArray[np.float64]:
        for i in np.flatnonzero(which):
            task = int(i) // rollouts
            rng = np.random.default_rng((*key, named[task], begun[task]))
            noise[i] = rng.standard_normal((env.horizon, size), dtype=np.float32)
            seeds[i] = int(rng.integers(2**62))
            if goals is None:
                of_env[i] = env.task.sample(rng, 1)[0]
            begun[task] += 1
        env.set_goals(of_env)
        time[which] = 0
        return env.reset(seed=seeds, options={"reset_mask": which})[0]

    observations = begin(np.ones(n, bool))
    alive, budget = np.ones(n, bool), rollouts * env.horizon
    seen: list[tuple[NDArray[Any], ...]] = []
    while (running := alive & np.repeat((finished < budget) | (not drop_unfinished), rollouts)).any():
        inputs = observations.astype(np.float32)
        looked = torch.from_numpy(inputs).to(device).unflatten(0, (count, rollouts))
        mean = means(policy, params, looked).cpu().numpy()
        drawn = noise[rows, np.minimum(time, env.horizon - 1)].reshape(mean.shape)
        actions = (mean + std * drawn).reshape(n, size)
        if not (fine := np.isfinite(actions).all(1)).all():
            raise FloatingPointError(
                f"the policy of task {named[int(np.argmin(fine)) // rollouts]} gives an action that is not "
                f"finite; use a smaller step"
            )
        observations, rewards, terminated, truncated, _ = env.step(actions)
        ended = alive & (terminated | truncated)
        counted = ended & running
        seen.append((inputs, actions, rewards, time.copy(), ended, counted))
        finished += np.where(counted, time + 1, 0).reshape(count, rollouts).sum(1)
        time += 1
        alive &= ~ended
        again = _again(ended, alive, finished, budget, env.horizon, drop_unfinished)
        if again.any():
            observations = begin(again)
            alive |= again
    return seen


def _again(
    ended: NDArray[np.bool_],
    alive: NDArray[np.bool_],
    finished: NDArray[np.int64],
    budget: int,
    horizon: int,
    drop_unfinished: bool,
) -> NDArray[np.bool_]:
    """Which of the environments that have just ended begin another episode."""
    ended = ended.reshape(len(finished), -1)
    if drop_unfinished:
        return (ended & (finished < budget)[:, None]).ravel()
    # if all that run go on to the end
    missing = budget - finished - horizon * alive.reshape(ended.shape).sum(1)
    return (ended & (np.cumsum(ended, 1) <= -(-missing // horizon)[:, None])).ravel()
