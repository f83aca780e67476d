"""RL^2 on bandits: the cells of Table 1 of Duan et al. 2016, and the two-armed ones of Wang et al. 2016."""

__all__ = ["CELLS", "PAIRS", "BanditEvaluation", "BanditRow", "name_of", "rows"]

from dataclasses import dataclass
from typing import Any

from mamlkit.experiments.checks import check
from mamlkit.experiments.memory import MemoryRow
from mamlkit.experiments.rows import Stepless

# Pulls and arms of Duan et al., Table 1, in its order.
CELLS: tuple[tuple[int, int], ...] = tuple((pulls, arms) for pulls in (10, 100, 500) for arms in (5, 10, 50))
# Bandits of Wang et al., section 3.1: two arms, of which the first kind is Duan's.
PAIRS: tuple[str, ...] = ("independent", "dependent", "easy", "medium", "hard")
PAIR_PULLS = 100


@dataclass(frozen=True)
class BanditEvaluation(Stepless):
    """How a trained policy is tested: on fresh bandits, arms drawn as likely as the policy finds them.

    Args:
        name: key of the results.
        tasks: bandits.
    """

    name: str
    tasks: int

    def __post_init__(self) -> None:
        check(self, at_least={"tasks": 1})


@dataclass(frozen=True, kw_only=True)
class BanditRow(MemoryRow):
    """A recurrent policy that learns to play bandits.

    Args:
        kind: a key of ``mamlkit.rl.bandits.KINDS``.
        arms: of a bandit.
        pulls: of a trial.

    All else is as in :class:`mamlkit.experiments.memory.MemoryRow`.

    Raises:
        ValueError: an unknown kind, or a number that no run can have.
    """

    kind: str
    arms: int
    pulls: int
    evaluations: tuple[BanditEvaluation, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, at_least={"pulls": 1, "arms": 2}, names={"kind": PAIRS})
        if self.kind != "independent" and self.arms != 2:
            raise ValueError(f"{self.name}: arms={self.arms}, but {self.kind!r} bandits have two")


def name_of(arms: int, pulls: int, kind: str = "independent") -> str:
    """The name of a row.

    >>> name_of(5, 10), name_of(2, 100, "easy")
    ('bandit-5-arms-10-pulls-rl2', 'bandit-2-arms-100-pulls-easy-rl2')
    """
    return f"bandit-{arms}-arms-{pulls}-pulls-{'' if kind == 'independent' else f'{kind}-'}rl2"


def rows() -> list[BanditRow]:
    """The nine cells of the table, and the five kinds of two arms.

    Deviation: sizes that one core can train in minutes. Duan et al. have 256 units and 250,000 pulls to an
    iteration, as far as is known; here it is 64 units (48, as Wang et al., for two arms), and 5,000 pulls
    where a trial has 10, 30,000 where it has 100 (so 300 trials), 50,000 where it has 500 (100 trials), and
    10,000 for two arms. Wang et al. have an LSTM, actor-critic steps after single episodes
    of 20,000, and rates drawn at random.
    """
    sizes = {10: (500, 2000), 100: (300, 1000), 500: (100, 600)}
    found = [
        _row(arms, pulls, "independent", *sizes[pulls], units=64, place="Duan et al. 2016, Table 1")
        for pulls, arms in CELLS
    ]
    where = "Wang et al. 2016, section 3.1"
    return found + [_row(2, PAIR_PULLS, kind, 100, 1000, units=48, place=where) for kind in PAIRS]


def _row(
    arms: int, pulls: int, kind: str, trials: int, iterations: int, *, units: int, place: str
) -> BanditRow:
    words = {"independent": "", "dependent": ", which pay 1 together"}.get(
        kind, f", which pay 1 together, {kind}"
    )
    quick: dict[str, Any] = {"units": 32, "meta_batch_size": 200, "iterations": 40, "outer_lr": 0.003}
    quick["evaluations"] = (BanditEvaluation("bandits", 1000),)
    if pulls > 10:
        quick |= {"pulls": 20, "meta_batch_size": 100}
    return BanditRow(
        name=name_of(arms, pulls, kind),
        title=f"Bandits, {arms} arms{words}, {pulls} pulls: RL²",
        place=f"not in the paper: {place}",
        meta_batch_size=trials,
        iterations=iterations,
        evaluations=(BanditEvaluation("bandits", 5000),),
        quick=quick,
        kind=kind,
        arms=arms,
        pulls=pulls,
        units=units,
    )
