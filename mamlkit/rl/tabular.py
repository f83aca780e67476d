"""Small Markov decision processes, many at a time: all that Duan et al. 2016 have in their section 3.2.

There are 10 states and 5 actions. What an action in a state pays is N(m, 1), where m is drawn from N(1, 1);
to which state it leads is drawn from probabilities that are themselves uniform on the simplex (a flat
Dirichlet). An episode has 10 steps and begins in the first state.
"""

__all__ = ["ACTIONS", "HORIZON", "STATES", "Processes", "Tabular", "luck", "plan", "sample"]

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mamlkit.rl.actions import Choices
from mamlkit.rl.memory import After, Trials

Array = NDArray[np.float64]
STATES, ACTIONS, HORIZON = 10, 5, 10
PROCESSES, LUCK = 3, 4  # purposes of random numbers


class Processes(NamedTuple):
    """What there is to be known of some processes.

    Args:
        transitions: probability of the next state, ``[tasks, states, actions, states]``.
        rewards: what an action pays on average, ``[tasks, states, actions]``.
    """

    transitions: Array
    rewards: Array


def sample(seed: int, tasks: int) -> Processes:
    """Processes as in the source.

    Args:
        seed: of the processes.
        tasks: so many.

    Raises:
        ValueError: there is none.

    Example:
        >>> float(sample(0, 3).transitions.sum(-1).round(9).min())
        1.0
    """
    if tasks < 1:
        raise ValueError(f"tasks={tasks}, but there must be at least one")
    draw, shape = np.random.default_rng((seed, PROCESSES)), (tasks, STATES, ACTIONS)
    rewards = 1 + draw.standard_normal(shape)
    return Processes(draw.dirichlet(np.ones(STATES), shape), rewards)


def luck(seed: int, tasks: int, time: int) -> tuple[Array, Array]:
    """Uniform numbers that choose the next state, and what N(0, 1) adds to a reward, ``[tasks, time]`` each.

    Whoever plays with the same luck and does the same has the same: see :func:`mamlkit.rl.bandits.luck`.
    """
    draw = np.random.default_rng((seed, LUCK))
    return draw.random((tasks, time)), draw.standard_normal((tasks, time))


def plan(processes: Processes, horizon: int = HORIZON) -> tuple[Array, NDArray[np.int64]]:
    """The best play of an episode by someone who knows the process: finite-horizon value iteration.

    So many episodes of its value are a bound that no play passes on average, whatever it has learned.

    Args:
        processes: to be planned in.
        horizon: steps of an episode.

    Returns:
        The expected return of the rest of an episode, by step and state, ``[tasks, horizon, states]``; and an
        action that gives it, of the same shape.
    """
    tasks, states = processes.rewards.shape[:2]
    moves = processes.transitions.reshape(tasks, -1, states)
    value, values, actions = np.zeros((tasks, states)), [], []
    for _ in range(horizon):
        ahead = (moves @ value[..., None]).reshape(processes.rewards.shape)
        of_actions = processes.rewards + ahead
        actions.append(of_actions.argmax(-1))
        values.append(value := of_actions.max(-1))
    return np.stack(values[::-1], 1), np.stack(actions[::-1], 1)


class Tabular:
    """Such processes as tasks of a policy with a memory; the state is seen, one-hot.

    Args:
        transitions, rewards: see :class:`Processes`.
        chance, noise: see :func:`luck`.
        horizon: steps of an episode.
        device: of what the networks get.

    Raises:
        ValueError: the luck is not for whole episodes of as many tasks.
    """

    def __init__(
        self,
        transitions: Array,
        rewards: Array,
        chance: Array,
        noise: Array,
        *,
        horizon: int = HORIZON,
        device: str | torch.device = "cpu",
    ) -> None:
        tasks, time = chance.shape
        if noise.shape != chance.shape or len(transitions) != tasks or time % horizon:
            came = f"{len(transitions)} processes, luck {list(chance.shape)} and {list(noise.shape)}"
            raise ValueError(f"{came}; it must be [tasks, time], and time whole episodes of {horizon} steps")
        self.processes = Processes(transitions, rewards)
        on = lambda values: torch.as_tensor(values, dtype=torch.float32, device=device)
        self._below, self._rewards = on(transitions.cumsum(-1)), on(rewards)
        self._chance, self._noise = on(chance), on(noise)
        self.horizon, self.time, self.observation = horizon, time, rewards.shape[1]
        self.actions = Choices(rewards.shape[2])
        self._everyone = torch.arange(len(rewards), device=device)

    def begin(self) -> Tensor:
        self._now = 0
        self._state = torch.zeros_like(self._everyone)
        return self._seen()

    def _seen(self) -> Tensor:
        return F.one_hot(self._state, self.observation).to(self._rewards)

    def step(self, actions: Tensor) -> After:
        at = self._everyone, self._state, actions
        reward = self._rewards[at] + self._noise[:, self._now]
        passed = self._below[at] < self._chance[:, self._now, None]
        self._now += 1
        # rounding may leave the last sum under the draw
        self._state = passed.sum(-1).clamp(max=self.observation - 1)
        ended = torch.full_like(reward, self._now % self.horizon == 0)
        if ended[0]:
            self._state = torch.zeros_like(self._state)
        over = torch.full_like(reward, self._now == self.time, dtype=torch.bool)
        return After(self._seen(), reward, ended, over)

    def measured(self, trials: Trials) -> dict[str, Array]:
        """``"return"``: the rewards of the trial; ``"regret"``: what the best play of the known process earns
        on average more than what was done, ``[tasks, 1]``.
        """
        state, action = trials.observations.argmax(-1).cpu().numpy(), trials.actions.cpu().numpy()
        earned = self.processes.rewards[np.arange(len(state))[:, None], state, action].sum(1)
        best = plan(self.processes, self.horizon)[0][:, 0, 0] * (self.time // self.horizon)
        total = trials.rewards.double().sum(1, keepdim=True).cpu().numpy()
        return {"return": total, "regret": (best - earned)[:, None]}
