"""Policies with a memory, by RL^2: what their experiments share."""

__all__ = ["MemoryRow", "has_memory"]

from dataclasses import dataclass, field

from mamlkit.experiments.checks import check
from mamlkit.experiments.rows import Experiment


@dataclass(frozen=True, kw_only=True)
class MemoryRow(Experiment):
    """A recurrent policy that learns a task in its state (see :mod:`mamlkit.rl.rl2`).

    Args:
        name, title, place, evaluations, quick: see :class:`mamlkit.experiments.rows.Experiment`.
        meta_batch_size: trials per iteration.
        iterations: so many times trials are sampled, and the policy updated.
        units: of the GRU of the policy, and of that of its baseline.
        discount, decay: gamma, and lambda of the advantages.
        epochs, minibatches: passes over an iteration's trials, and parts of each.
        clip: of the ratio of probabilities in PPO's loss.
        entropy: what the policy's entropy counts at first; it falls to zero with the iterations.
        outer_lr: Adam's step at first; it falls alike.
        falling: whether these two fall; else they stay as they are.
        tell_reward: whether the networks get the last reward; without it nothing can be learned of a task
            whose observations do not tell it, so this is a control.

    Raises:
        ValueError: a number that no run can have, and a change of the quick scale that is no field.
    """

    units: int
    discount: float = 0.99
    decay: float = 0.3
    epochs: int = 2
    minibatches: int = 4
    clip: float = 0.2
    entropy: float = 0.04
    outer_lr: float = 0.003
    falling: bool = field(default=True, metadata={"later": True})
    tell_reward: bool = field(default=True, metadata={"later": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        ones = ("meta_batch_size", "units", "epochs", "minibatches")
        zeros = ("iterations", "discount", "decay", "entropy")
        at_least = dict.fromkeys(ones, 1) | dict.fromkeys(zeros, 0)
        check(self, at_least=at_least, positive=("clip", "outer_lr"), shares=("discount", "decay"))
        if self.minibatches > self.meta_batch_size:
            raise ValueError(
                f"{self.name}: minibatches={self.minibatches}, but there are {self.meta_batch_size} trials "
                "to be split (meta_batch_size)"
            )

    @property
    def metric(self) -> str:
        """What is reported of it: the undiscounted reward of a trial, or of its episodes."""
        return "return"


def has_memory(name: str) -> bool:
    """Whether a row of that name is of a policy with a memory.

    >>> has_memory("bandit-5-arms-10-pulls-rl2"), has_memory("2d-navigation-maml")
    (True, False)
    """
    return name.endswith("-rl2")
