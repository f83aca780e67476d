"""Trials in the paper's environments: some episodes towards one goal, which is to be found out."""

__all__ = ["GoalTrials"]

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mamlkit.rl import envs
from mamlkit.rl.actions import Moves
from mamlkit.rl.memory import After, Trials, by_episode


class GoalTrials:
    """Tasks of a policy with a memory, in an environment of :mod:`mamlkit.rl.envs`.

    An episode ends where the environment's own does, early or at its horizon. The next one begins at once,
    with the same goal, until there were as many as a trial has. So trials have different lengths.

    Args:
        goals: one for each trial, ``[tasks, ...]``.
        keys: of the start states of each trial's episodes, ``[tasks, numbers]``, whole numbers.
        environment: a key of ``mamlkit.rl.envs.ENVIRONMENTS``.
        episodes: of a trial.
        show_goal: append the goal to every observation: nothing is left to find out.
        device: of what the networks get; the simulation is on one thread of the CPU.

    Raises:
        ValueError: an unknown environment, other goals than it has, or no episode.
    """

    def __init__(
        self,
        goals: NDArray[np.float64],
        keys: NDArray[np.int64],
        *,
        environment: str,
        episodes: int,
        show_goal: bool = False,
        device: str | torch.device = "cpu",
    ) -> None:
        if episodes < 1 or len(keys) != len(goals):
            came = f"episodes={episodes}, {len(goals)} goals and {len(keys)} keys"
            raise ValueError(f"{came}; there must be an episode, and a key for each goal")
        self.env = envs.make(environment, goals, threads=1, show_goal=show_goal)
        self.episodes = episodes
        self.actions = Moves(self.env.single_action_space.shape[0])
        self.observation = self.env.single_observation_space.shape[0]
        self.time = episodes * self.env.horizon
        self._keys, self._device = keys, device

    def begin(self) -> Tensor:
        self._done = np.zeros(len(self._keys), np.int64)  # episodes that have ended
        return self._on(self.env.reset(seed=self._seeds())[0])

    def _seeds(self) -> list[list[int]]:
        return [[*map(int, key), int(number)] for key, number in zip(self._keys, self._done, strict=True)]

    def _on(self, values: NDArray[np.generic]) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=self._device)

    def step(self, actions: Tensor) -> After:
        was_over = self._done >= self.episodes
        seen, rewards, terminated, truncated, _ = self.env.step(actions.double().cpu().numpy())
        ended = (terminated | truncated) & ~was_over
        self._done += ended
        over = self._done >= self.episodes
        if (again := ended & ~over).any():
            seen, _ = self.env.reset(seed=self._seeds(), options={"reset_mask": again})
        over_now = torch.as_tensor(over, device=self._device)
        return After(self._on(seen), self._on(rewards), self._on(ended), over_now)

    def measured(self, trials: Trials) -> dict[str, NDArray[np.float64]]:
        """``"return"``: of each episode of the trial, undiscounted, ``[tasks, episodes]``."""
        return {"return": by_episode(trials, self.episodes).double().cpu().numpy()}
