"""RL^2 beyond bandits: small Markov decision processes (Table 2 of Duan et al. 2016)."""

__all__ = ["EPISODES", "FAMILIES", "TrialEvaluation", "TrialRow", "rows", "tabular_name"]

from dataclasses import dataclass
from typing import Any

from mamlkit.experiments.memory import MemoryRow
from mamlkit.experiments.rows import _check

FAMILIES = ("tabular",)
EPISODES = (10, 25, 50, 75, 100)  # of the table


@dataclass(frozen=True)
class TrialEvaluation:
    """How a trained policy is tested: on fresh tasks, actions drawn as likely as the policy finds them.

    Args:
        name: key of the results.
        tasks: so many.
    """

    name: str
    tasks: int

    def __post_init__(self) -> None:
        _check(self, at_least={"tasks": 1})

    @property
    def inner_steps(self) -> int:
        """No gradient step is taken, so the curve has one entry: the total of all episodes."""
        return 0

    @property
    def headline_step(self) -> int:
        """That one."""
        return 0


@dataclass(frozen=True, kw_only=True)
class TrialRow(MemoryRow):
    """A recurrent policy that learns a family of tasks with observations.

    Args:
        family: one of :data:`FAMILIES`.
        episodes: of a trial.

    All else is as in :class:`mamlkit.experiments.memory.MemoryRow`.

    Raises:
        ValueError: an unknown family, or a number that no run can have.
    """

    family: str
    episodes: int
    evaluations: tuple[TrialEvaluation, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self, at_least={"episodes": 1}, names={"family": FAMILIES})


def tabular_name(episodes: int) -> str:
    """The name of a row.

    >>> tabular_name(10)
    'tabular-10-episodes-rl2'
    """
    return f"tabular-{episodes}-episodes-rl2"


def rows() -> list[TrialRow]:
    """The five lengths of a trial.

    Deviation: sizes that one core can train. Duan et al. have 256 units and 250,000 steps to an iteration, as
    far as is known; here it is 64 units and 30,000 steps.
    """
    return [_tabular(episodes) for episodes in EPISODES]


def _tabular(episodes: int) -> TrialRow:
    quick: dict[str, Any] = {"units": 32, "meta_batch_size": 100, "iterations": 20, "episodes": 2}
    return TrialRow(
        name=tabular_name(episodes),
        title=f"Small Markov decision processes, {episodes} episodes: RL²",
        place="not in the paper: Duan et al. 2016, Table 2",
        family="tabular",
        episodes=episodes,
        meta_batch_size=3000 // episodes,
        iterations=1000,
        units=64,
        evaluations=(TrialEvaluation("processes", 1000),),
        quick=quick | {"evaluations": (TrialEvaluation("processes", 500),)},
    )
