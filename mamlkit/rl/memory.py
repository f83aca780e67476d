"""A policy with a memory, and the trials that it plays: many tasks at a time, step by step.

A *trial* is all that happens with one task: some *episodes*, one after the other. Before each step the policy
gets what it sees, and of the step before the action, the reward, and a flag that an episode has ended with
it; these are zero at a trial's first step. Its state goes on from episode to episode, and begins at zero
with each trial. Source: Duan et al. 2016, section 2.2.
"""

__all__ = [
    "BASELINE",
    "After",
    "Tasks",
    "Trials",
    "by_episode",
    "done_by_hand",
    "init",
    "inputs_of",
    "outputs_of",
    "policy_of",
    "sample",
    "states",
    "values",
]

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Generator, Tensor

from mamlkit.maml import Params
from mamlkit.models.recurrent import gru, gru_states, init_gru
from mamlkit.rl.actions import POLICY, Actions

BASELINE = "baseline"


class After(NamedTuple):
    """What comes of a step.

    Args:
        observations: before the next step, ``[tasks, obs]``; after an episode the first of the next one.
        rewards: ``[tasks]``; 0 where the trial was over before.
        ended: 1 where an episode ended, else 0, ``[tasks]``.
        over: whether the trial has no further step, ``[tasks]``, bool.
    """

    observations: Tensor
    rewards: Tensor
    ended: Tensor
    over: Tensor


class Tasks(Protocol):
    """Tasks that are played at the same time, each for one trial.

    Args:
        actions: what can be done.
        observation: numbers in an observation.
        time: the most steps that a trial can have.
    """

    actions: Actions
    observation: int
    time: int

    def begin(self) -> Tensor:
        """Begin the trials; the observations ``[tasks, obs]`` before their first step."""

    def step(self, actions: Tensor) -> After:
        """One step of all tasks; what is done in a trial that is over changes nothing."""

    def measured(self, trials: "Trials") -> dict[str, NDArray[np.float64]]:
        """What is reported of trials of these tasks: name to ``[tasks, entries of a curve]``."""


class Trials(NamedTuple):
    """What was seen and done in some trials; ``[tasks, time]``, where nothing else is said.

    Args:
        observations: before each step, ``[tasks, time, obs]``.
        actions: int64, or ``[tasks, time, act]``.
        rewards: of each step.
        ended: 1 where an episode ended with the step, else 0.
        log_probs: of these actions when they were drawn.
        lived: whether the trial was not yet over, bool; all else is padding.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    ended: Tensor
    log_probs: Tensor
    lived: Tensor


def init(observation: int, actions: Actions, units: int, generator: Generator) -> Params:
    """The policy and its baseline: a GRU with a linear head each, whose head begins at zero.

    So each choice is equally likely at first, a move is drawn from N(0, 1), and the baseline is zero.

    Args:
        observation: numbers in one.
        actions: what can be done.
        units: of each GRU.
        generator: of the weights.
    """
    params: Params = {}
    for name, outputs in ((POLICY, actions.size), (BASELINE, 1)):
        params |= init_gru(name, observation + actions.size + 2, units, generator)
        params |= {f"{name}_head": torch.zeros(outputs, units), f"{name}_head_bias": torch.zeros(outputs)}
    return params | actions.init()


def policy_of(params: Params) -> Params:
    """What of the parameters is the policy's: all that is needed to play."""
    return {name: value for name, value in params.items() if name.startswith(POLICY)}


def inputs_of(trials: Trials, actions: Actions, tell_reward: bool = True) -> Tensor:
    """What the networks get before each step: what is seen; the last action, its reward, the flag of an end.

    Args:
        trials: so far.
        actions: what can be done.
        tell_reward: if not, 0 stands in the place of each reward.

    Returns:
        ``[tasks, time, obs + size + 2]``; nothing in it is of what the step itself brings, or a later one.

    Example:
        >>> from mamlkit.rl.actions import Choices
        >>> ones, none = torch.ones(1, 2), torch.zeros(1, 2, 0)
        >>> pulls = Trials(none, torch.tensor([[1, 0]]), torch.tensor([[1.0, 0.0]]), ones, ones, ones > 0)
        >>> inputs_of(pulls, Choices(2))
        tensor([[[0., 0., 0., 0.],
                 [0., 1., 1., 1.]]])
    """
    rewards = trials.rewards
    if trials.actions.shape[:2] != rewards.shape or rewards.dim() != 2:
        came = f"actions are {list(trials.actions.shape)}, rewards {list(rewards.shape)}"
        raise ValueError(f"{came}; both must begin with [tasks, time]")
    after = _told(actions, trials.actions, rewards * tell_reward, trials.ended)
    return torch.cat([trials.observations, F.pad(after[:, :-1], (0, 0, 1, 0))], -1)


def _told(actions: Actions, done: Tensor, rewards: Tensor, ended: Tensor) -> Tensor:
    return torch.cat([actions.told(done).to(rewards), rewards[..., None], ended[..., None]], -1)


def states(params: Params, name: str, inputs: Tensor) -> Tensor:
    """States of a network after each input of a trial, from zero on; an episode's end changes nothing.

    Args:
        params: of :func:`init`.
        name: ``"policy"`` or ``"baseline"``.
        inputs: ``[tasks, time, inputs]``.

    Returns:
        ``[tasks, time, units]``.
    """
    begin = inputs.new_zeros(len(inputs), params[f"{name}_state"].shape[1])
    return gru_states(params, name, inputs.transpose(0, 1), begin).transpose(0, 1)


def outputs_of(params: Params, inputs: Tensor, actions: Actions) -> Tensor:
    """The policy's outputs at each step, ``[tasks, time, size]``, for inputs of that length."""
    return actions.outputs(_head(params, POLICY, states(params, POLICY, inputs)))


def values(params: Params, inputs: Tensor, scale: float) -> Tensor:
    """What the baseline expects of the rest of each trial, ``[tasks, time]``.

    Args:
        params: of :func:`init`.
        inputs: ``[tasks, time, inputs]``.
        scale: in which the network counts, such as the return of rewards of 1.
    """
    return scale * _head(params, BASELINE, states(params, BASELINE, inputs))[..., 0]


@torch.no_grad()
def sample(
    params: Params,
    tasks: Tasks,
    noise: Tensor,
    *,
    most_probable: bool = False,
    tell_reward: bool = True,
    forget: bool = False,
) -> Trials:
    """Play trials, step by step, all at once.

    Args:
        params: of the policy at least.
        tasks: to be played.
        noise: see :meth:`mamlkit.rl.actions.Actions.noise`; so many steps are played.
        most_probable: do what the policy finds most probable, instead of drawing.
        tell_reward: as for :func:`inputs_of`.
        forget: begin each step with a state of zeros; what is told of the step before is told all the same.

    Raises:
        ValueError: there is noise for more or fewer tasks than there are.
        FloatingPointError: an action is not finite.
    """
    seen, actions = tasks.begin(), tasks.actions
    if len(noise) != len(seen):
        raise ValueError(f"there is noise for {len(noise)} tasks, but there are {len(seen)}; they must agree")
    state = empty = seen.new_zeros(len(seen), params[f"{POLICY}_state"].shape[1])
    told = seen.new_zeros(len(seen), actions.size + 2)
    lived = torch.ones(len(seen), dtype=torch.bool, device=seen.device)
    found: list[tuple[Tensor, ...]] = []
    for now in noise.unbind(1):
        state = gru(params, POLICY, torch.cat([seen, told], 1), empty if forget else state)
        outputs = actions.outputs(_head(params, POLICY, state))
        action = actions.draw(params, outputs, now, most_probable)
        if not bool(action.isfinite().all()):
            raise FloatingPointError("an action of the policy is not finite")
        after = tasks.step(action)
        logs = actions.log_probs(params, outputs, action)
        found.append((seen, action, after.rewards, after.ended, logs, lived))
        told = _told(actions, action, after.rewards * tell_reward, after.ended)
        seen, lived = after.observations, lived & ~after.over
    return Trials(*(torch.stack(part, 1) for part in zip(*found, strict=True)))


def done_by_hand(steps: Sequence[tuple[Tensor, Tensor, After]]) -> Trials:
    """Trials that no network has played and that all end at the same time: log-probabilities are zero.

    Args:
        steps: what was seen before each, what was done, and what came of it.
    """
    seen, actions, after = zip(*steps, strict=True)
    rewards, ended, over = (torch.stack([getattr(one, n) for one in after], 1) for n in After._fields[1:])
    none, lived = torch.zeros_like(rewards), torch.ones_like(over)
    return Trials(torch.stack(seen, 1), torch.stack(actions, 1), rewards, ended, none, lived)


def by_episode(trials: Trials, episodes: int) -> Tensor:
    """The undiscounted return of each episode of a trial, ``[tasks, episodes]``; of one not begun it is 0.

    Args:
        trials: that were played.
        episodes: the first so many; what comes after them is left out.
    """
    number = trials.ended.cumsum(1) - trials.ended  # of the episodes that ended before the step
    found = trials.rewards.new_zeros(len(number), episodes + 1)
    return found.scatter_add_(1, number.long().clamp(max=episodes), trials.rewards)[:, :episodes]


def _head(params: Params, name: str, hidden: Tensor) -> Tensor:
    return F.linear(hidden, params[f"{name}_head"], params[f"{name}_head_bias"])
