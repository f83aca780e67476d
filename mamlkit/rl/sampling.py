"""Episodes of a policy: all tasks and rollouts of a meta-batch advance together."""

__all__ = ["Rollouts", "Steps", "gathered", "mean_returns", "sample", "to_steps"]

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mamlkit.engine.ranks import ALONE, Ranks
from mamlkit.engine.threads import each
from mamlkit.maml import Params
from mamlkit.rl import returns
from mamlkit.rl.batched import Batched
from mamlkit.rl.playing import played
from mamlkit.rl.policy import Policy


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
    env: Batched | Sequence[Batched],
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
        env: ``tasks * rollouts`` environments; or several batches that have so many together, whole tasks
            each, in their order. Each has a thread: while one simulates, another one's actions are computed.
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
        ValueError: the number of environments is not that of the tasks, times ``rollouts``, or that is below
            1.
        FloatingPointError: the policy gives an action that is not finite.
    """
    if rollouts < 1:
        raise ValueError(f"rollouts={rollouts}, but there must be at least one")
    lanes = [env] if isinstance(env, Batched) else list(env)
    tasks, sizes = len(params["log_std"]), [lane.num_envs for lane in lanes]
    if sum(sizes) != tasks * rollouts or any(size % rollouts for size in sizes):
        raise ValueError(
            f"{' + '.join(map(str, sizes))} environments for {tasks} tasks with rollouts={rollouts}; make it "
            "rollouts environments for each task"
        )
    rows = [slice(end - size, end) for size, end in zip(sizes, np.cumsum(sizes).tolist())]
    named = range(tasks) if numbers is None else numbers

    def on_lane(lane: int) -> list[tuple[NDArray[Any], ...]]:
        some = slice(rows[lane].start // rollouts, rows[lane].stop // rollouts)
        theirs = {name: value[some] for name, value in params.items()}
        aims = None if goals is None else goals[some]
        return played(lanes[lane], policy, theirs, rollouts, key, aims, drop_unfinished, named[some])

    seen = each(on_lane, range(len(lanes)))
    steps = max(map(len, seen))
    fields = [np.zeros((sum(sizes), steps, *part.shape[1:]), part.dtype) for part in seen[0][0]]

    def kept(lane: int) -> None:
        for field, parts in zip(fields, zip(*seen[lane])):
            np.stack(parts, 1, out=field[rows[lane], : len(parts)])

    each(kept, range(len(lanes)))  # a lane that was done before another has zeros, which do not count
    looked, done, earned, times, last, finals = (
        field.reshape(tasks, rollouts, *field.shape[1:]) for field in fields
    )
    return Rollouts(looked, done, earned, times, last, valid=_whole_episodes(last, finals))


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
    added = ranks.most(own.rewards.shape[2]) - own.rewards.shape[2]

    def of_all(array: NDArray[Any]) -> NDArray[Any]:
        sides = [(0, 0), (0, 0), (0, added), (0, 0)][: array.ndim]
        return ranks.gathered(torch.from_numpy(np.pad(array, sides)), tasks).numpy()

    return Rollouts(*(of_all(array) for array in own))


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
