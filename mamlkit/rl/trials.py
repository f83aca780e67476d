"""Tasks whose trials a policy with a memory plays (see :class:`mamlkit.rl.memory.Tasks`)."""

__all__ = ["Bandits"]

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mamlkit.rl import bandits
from mamlkit.rl.actions import Choices
from mamlkit.rl.memory import After, Trials


class Bandits:
    """Bernoulli bandits: an episode is one pull, and nothing is to be seen.

    Args:
        arms: probabilities of paying, ``[tasks, arms]``.
        luck: an arm pays 1 where its probability is above this, ``[tasks, time]``.
        dtype, device: of what the networks get.

    Raises:
        ValueError: the two are not of the same tasks, or an arm pays with no probability.
    """

    observation = 0

    def __init__(
        self,
        arms: ArrayLike,
        luck: ArrayLike,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
    ) -> None:
        self._given = torch.as_tensor(arms)
        self._arms, self._luck = (torch.as_tensor(each, dtype=dtype, device=device) for each in (arms, luck))
        if self._arms.dim() != 2 or self._luck.dim() != 2 or len(self._luck) != len(self._arms):
            came = f"arms {list(self._arms.shape)}, luck {list(self._luck.shape)}"
            raise ValueError(f"{came}; they must be [tasks, arms] and [tasks, time]")
        if not bool(((self._arms >= 0) & (self._arms <= 1)).all()):
            raise ValueError("arms must pay with probabilities between 0 and 1")
        self.actions, self.time = Choices(self._arms.shape[1]), self._luck.shape[1]
        self._everyone = torch.arange(len(self._arms), device=device)

    def begin(self) -> Tensor:
        self._now = 0
        return self._arms.new_zeros(len(self._arms), 0)

    def step(self, actions: Tensor) -> After:
        paid = (self._luck[:, self._now] < self._arms[self._everyone, actions]).to(self._arms)
        self._now += 1
        over = torch.full_like(paid, self._now == self.time, dtype=torch.bool)
        return After(self._arms.new_zeros(len(paid), 0), paid, torch.ones_like(paid), over)

    def measured(self, trials: Trials) -> dict[str, NDArray[np.float64]]:
        """``"return"``: the rewards of all pulls, and ``"regret"``: the best arm's probability less those of
        the pulled ones, both summed over the trial, ``[tasks, 1]``.
        """
        missed = bandits.regret(self._given.double().cpu().numpy(), trials.actions.cpu().numpy())
        total = trials.rewards.cpu().numpy().sum(1, keepdims=True).astype(float)
        return {"return": total, "regret": missed.sum(1, keepdims=True)}
