"""Episodes of a policy: all tasks and rollouts of a meta-batch advance together."""

__all__ = ["Rollouts", "Steps", "gathered", "mean_returns", "sample", "sample_in_lanes", "to_steps"]

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mamlkit.engine.ranks import ALONE, Ranks
from mamlkit.engine.threads import each, one_thread
from mamlkit.maml import Params
from mamlkit.rl import returns
from mamlkit.rl.batched import Batched
from mamlkit.rl.policy import Policy, means


class Rollouts(NamedTuple):
    """What was seen, done and earned; an episode that ended early is followed by the next on the same row.

    Args:
        observations: ``[tasks, rollouts, steps, obs]``.
        actions: as drawn, before the environment clips them, ``[tasks, rollouts, steps, act]``.
        rewards: ``[tasks, rollouts, steps]``.
        time: step within the episode, ``[tasks, rollouts, steps]``.
        last: where an episode ended, ``[tasks, rollouts, steps]``.
        valid: steps of the episodes that count, ``[tasks, rollouts, steps]``.
    """

    observations: NDArray[np.float32]
    actions: NDArray[np.float32]
    rewards: NDArray[np.float64]
    time: NDArray[np.int64]
    last: NDArray[np.bool_]
    valid: NDArray[np.bool_]


class Steps(NamedTuple):
    """What an update needs of the rollouts of some tasks (or of one, without the leading axis).

    Args:
        observations: ``[tasks, points, obs]``.
        actions: ``[tasks, points, act]``.
        advantages: standardised within each task, ``[tasks, points]``.
        weights: of each step in a mean over the task's steps; 0 for padding, ``[tasks, points]``.
    """

    observations: Tensor
    actions: Tensor
    advantages: Tensor
    weights: Tensor


def sample(
    env: Batched,
    policy: Policy,
    params: Params,
    rollouts: int,
    key: Sequence[int],
    goals: NDArray[np.float64] | None = None,
    *,
    drop_unfinished: bool = False,
    numbers: Sequence[int] | None = None,
) -> Rollouts:
    """Run every task's policy until its finished episodes have ``rollouts * horizon`` steps.

    Where episodes end early, more of them are begun: in training only as many as are needed, and every one
    that is begun counts. In the authors' tests (``drop_unfinished``) an episode always follows another, and
    those under way when a task has enough are dropped, so that short episodes are more likely to count.

    All that is random about an episode comes from ``(key, task, episode)``: neither other tasks nor the
    number of threads change it.

    Paper: Algorithm 3, lines 5 and 8.

    Args:
        env: ``tasks * rollouts`` environments.
        policy: see :mod:`mamlkit.rl.policy`.
        params: of each task, every tensor with a leading ``tasks`` axis; the means are computed where they
            are.
        rollouts: episodes of a task that run at the same time.
        key: non-negative numbers such as ``(seed, purpose, iteration)``.
        goals: one for each task, ``[tasks, ...]``; None draws one for every episode.
        drop_unfinished: whether the authors' rule for tests is followed.
        numbers: of the tasks, which their randomness comes from, where they are some of a meta-batch; 0, 1,
            ... if None.

    Deviation: in training the authors run a task's episodes one after the other and stop when the whole
    meta-batch has enough; where no episode ends early all three rules are the same.

    Raises:
        ValueError: the number of environments is not a multiple of ``rollouts``, or that is below 1.
        FloatingPointError: the policy gives an action that is not finite.
    """
    if rollouts < 1:
        raise ValueError(f"rollouts={rollouts}, but there must be at least one")
    count, left_over = divmod(env.num_envs, rollouts)
    if left_over or not count:
        raise ValueError(
            f"{env.num_envs} environments for rollouts={rollouts}; make it tasks * rollouts environments"
        )
    n, size = env.num_envs, env.single_action_space.shape[0]
    rows = np.arange(n)
    noise = np.empty((n, env.horizon, size), np.float32)
    of_env = np.empty((n, *env.task.shape)) if goals is None else np.repeat(goals, rollouts, axis=0)
    named = range(count) if numbers is None else numbers
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
    alive, seen, budget = np.ones(n, bool), [], rollouts * env.horizon
    while (running := alive & np.repeat((finished < budget) | (not drop_unfinished), rollouts)).any():
        inputs = observations.astype(np.float32)
        with one_thread():
            mean = (
                means(policy, params, torch.from_numpy(inputs).to(device).unflatten(0, (count, rollouts)))
                .cpu()
                .numpy()
            )
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
    together = lambda parts: np.stack(parts, 1).reshape(count, rollouts, len(seen), *parts[0].shape[1:])
    looked, done, earned, times, last, finals = map(together, zip(*seen))
    return Rollouts(looked, done, earned, times, last, valid=_whole_episodes(last, finals))


def sample_in_lanes(
    lanes: Sequence[Batched],
    policy: Policy,
    params: Params,
    rollouts: int,
    key: Sequence[int],
    goals: NDArray[np.float64] | None = None,
    *,
    drop_unfinished: bool = False,
    numbers: Sequence[int] | None = None,
) -> Rollouts:
    """:func:`sample` on a thread for each of several batches of environments, to which whole tasks are dealt.

    While one thread simulates, another computes actions and looks at states.

    Args:
        lanes: batches of some of the tasks each, in their order.
        policy, params, rollouts, key, goals, drop_unfinished, numbers: of all tasks, as for :func:`sample`.

    Raises:
        ValueError: there are more or fewer environments than ``tasks * rollouts``.
        FloatingPointError: as for :func:`sample`.
    """
    tasks = len(params["log_std"])
    if (environments := sum(lane.num_envs for lane in lanes)) != tasks * rollouts:
        raise ValueError(
            f"{environments} environments for {tasks} tasks with rollouts={rollouts}; make it their product"
        )
    named = range(tasks) if numbers is None else numbers

    def sampled(lane: int) -> Rollouts:
        begin = sum(env.num_envs for env in lanes[:lane]) // rollouts
        some = slice(begin, begin + lanes[lane].num_envs // rollouts)
        theirs = {name: value[some] for name, value in params.items()}
        aims = None if goals is None else goals[some]
        rules: dict[str, Any] = {"drop_unfinished": drop_unfinished, "numbers": named[some]}
        return sample(lanes[lane], policy, theirs, rollouts, key, aims, **rules)

    parts: list[Rollouts] = each(sampled, range(len(lanes)))
    steps = max(part.rewards.shape[2] for part in parts)
    return Rollouts(*map(np.concatenate, zip(*(_longer(part, steps) for part in parts))))


def _longer(rollouts: Rollouts, steps: int) -> Rollouts:
    """The same with so many steps a row; those that are added do not count, and are zero."""
    added = steps - rollouts.rewards.shape[2]

    def padded(array: NDArray[Any]) -> NDArray[Any]:
        return np.pad(array, [(0, 0), (0, 0), (0, added), (0, 0)][: array.ndim])

    return Rollouts(*(padded(array) for array in rollouts))


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


def _whole_episodes(last: NDArray[np.bool_], counted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The steps of the episodes whose last step is counted, ``[..., steps]``."""
    valid, ahead = np.empty_like(last), np.zeros(last.shape[:-1], bool)
    for step in reversed(range(last.shape[-1])):
        ahead = np.where(last[..., step], counted[..., step], ahead)
        valid[..., step] = ahead
    return valid


def gathered(ranks: Ranks, own: Rollouts, tasks: int) -> Rollouts:
    """The episodes of a whole meta-batch, of which each process has simulated some.

    Args:
        ranks: the processes.
        own: of the tasks that :meth:`mamlkit.engine.ranks.Ranks.dealt` gave to this one.
        tasks: of the meta-batch.

    Returns:
        Those of all tasks, with as many steps as the longest row of any has. What is added to the others does
        not count, and is zero.

    Raises:
        Lost: another process has ended.
    """
    if ranks.count == 1:
        return own
    own = _longer(own, ranks.most(own.rewards.shape[2]))
    return Rollouts(*(ranks.gathered(torch.from_numpy(array), tasks).numpy() for array in own))


def mean_returns(rollouts: Rollouts) -> NDArray[np.float64]:
    """Undiscounted return of each task, a mean over its episodes that count: ``[tasks]``."""
    episodes = (rollouts.last & rollouts.valid).sum((1, 2))
    return np.where(rollouts.valid, rollouts.rewards, 0.0).sum((1, 2)) / episodes


def to_steps(
    rollouts: Rollouts,
    discount: float,
    device: str | torch.device = "cpu",
    clip: float | None = returns.CLIP,
    ranks: Ranks = ALONE,
) -> Steps:
    """The steps that count, task by task, with their advantages (see :func:`mamlkit.rl.returns.advantages`).

    Args:
        rollouts: see :func:`sample`.
        discount: gamma.
        device: where the update is computed.
        clip: of the observations in the baseline's features (see
            :func:`mamlkit.rl.returns.baseline_features`).
        ranks: the processes that compute the advantages together; each has the rollouts of all tasks.

    Raises:
        Lost: another process has ended.
    """
    counts = rollouts.valid.sum((1, 2))
    tasks, points = len(counts), counts.max()
    own = ranks.dealt(range(tasks))
    earned = np.zeros((len(own), points), np.float32)

    def judge(row: int) -> None:
        observations, _, rewards, time, last, valid = (array[own[row]] for array in rollouts)
        advantage = returns.advantages(observations, rewards, time, last, valid, discount, clip)
        earned[row, : valid.sum()] = advantage[valid]

    each(judge, range(len(own)))
    looked, done = (np.zeros((tasks, points, array.shape[-1]), np.float32) for array in rollouts[:2])
    weights = np.zeros((tasks, points), np.float32)
    for task, (count, valid) in enumerate(zip(counts, rollouts.valid)):
        looked[task, :count], done[task, :count] = (array[task][valid] for array in rollouts[:2])
        weights[task, :count] = 1 / count
    advantages = ranks.gathered(torch.from_numpy(earned), tasks)
    return Steps(*(torch.as_tensor(whole).to(device) for whole in (looked, done, advantages, weights)))
