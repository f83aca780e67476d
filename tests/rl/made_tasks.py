"""Tasks made for tests: with observations, episodes of several steps, and trials of different lengths."""

import torch

from mamlkit.rl import memory
from mamlkit.rl.actions import Choices, Moves


class Made:
    """The step within an episode of three is seen. Odd trials are over after one episode, even after two.

    A reward is the trial's number and a hundredth of the time; of moves, their sum besides.
    """

    def __init__(self, actions, tasks=4, dtype=torch.float64, time=6):
        self.actions, self.tasks, self.dtype, self.time, self.observation = actions, tasks, dtype, time, 1
        self.last = torch.tensor([6, 3] * tasks)[:tasks]

    def _seen(self):
        return torch.full((self.tasks, 1), float(self._now % 3), dtype=self.dtype)

    def begin(self):
        self._now = 0
        return self._seen()

    def step(self, actions):
        self._now += 1
        lives = self._now <= self.last
        reward = torch.arange(self.tasks, dtype=self.dtype) + self._now / 100
        if isinstance(self.actions, Moves):
            reward = reward + actions.sum(-1)
        ended = torch.full_like(reward, self._now % 3 == 0) * lives
        return memory.After(self._seen(), reward * lives, ended, self._now >= self.last)

    def measured(self, trials):
        return {"return": memory.by_episode(trials, 2).numpy()}


BOTH = [Choices(3), Moves(2)]
