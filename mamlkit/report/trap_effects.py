"""Effects of known traps in points, from what is committed. No torch here.

An effect is a difference on the same test tasks, so most of what makes one task harder than another cancels.
Of rows it is computed from their committed results; of tests of one network that go wrong on purpose,
``benchmarks/traps.py`` has measured it.
"""

__all__ = ["Effect", "draws", "effect", "effect_words", "tested"]

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from mamlkit import places
from mamlkit.experiments.paper import get
from mamlkit.measures import STEPS_KEPT, Z95, seeds_kept
from mamlkit.report import results
from mamlkit.report.texts import decimals, number
from mamlkit.report.verdicts import ACCURACY_MARGIN, WIDE

TESTED = "omniglot-5way-1shot"  # the network of benchmarks/traps.py


@dataclass(frozen=True)
class Effect:
    """A difference of accuracies in points, with its two uncertainties, which are never mixed.

    Args:
        value: mean of the difference over the test tasks and the seeds.
        ci95: half-width of the 95 % interval over test tasks, each averaged over the seeds whose tasks are
            committed on both sides. Without such seeds, or tasks after that step, it is that of two sides
            with other tasks: rather too wide than too narrow.
        seed_ci95: half-width of the 95 % interval of the mean over seeds (Student's t), NaN for one seed.
        seeds: which seeds both sides have.
        sides: the mean accuracy of either side over these seeds with the wider of its two intervals.
        paired: whether both sides were tested on the same tasks.
        tasks: test tasks of the row with the trap.
    """

    value: float
    ci95: float
    seed_ci95: float
    seeds: tuple[int, ...]
    sides: tuple[tuple[float, float], tuple[float, float]]
    paired: bool
    tasks: int

    @property
    def deciding_ci95(self) -> float:
        """The wider of the two intervals."""
        return float(np.fmax(self.ci95, self.seed_ci95))

    @property
    def chance(self) -> float:
        """How often seeds alone would give an effect as large, by Student's t; NaN for one seed."""
        free = len(self.seeds) - 1
        if not free:
            return math.nan
        t = abs(self.value) * float(special.stdtrit(free, 0.975)) / self.seed_ci95
        return 2 * float(special.stdtr(free, -t))

    @property
    def word(self) -> str:
        """What the deciding interval says of the accuracy with the trap.

        *higher* or *lower* if zero lies outside. Else *undecided* where the interval is so wide that nothing
        can be said (:data:`mamlkit.report.verdicts.WIDE` margins), and *not told apart* where it is not.
        """
        if self.deciding_ci95 < abs(self.value):
            return "higher" if self.value > 0 else "lower"
        return "undecided" if self.deciding_ci95 > WIDE * ACCURACY_MARGIN else "not told apart"


def effect(name: str, base: str, test: str, base_test: str | None = None) -> Effect | None:
    """How much more accurate a row is than another, after the headline step of its test.

    Tasks are drawn from the family and the seed of the test alone, and a test with more queries has those of
    one with fewer among them; so rows of one family are compared task by task. Families with other classes
    share no tasks, and the variances of both sides are added.

    Args:
        name, base: two rows with committed results.
        test, base_test: an evaluation of each; of the same name if None.

    Returns:
        None where either was not run or is stale, where they have no seed in common, or where one side of a
        seed has come further than the other.

    Raises:
        ValueError: there is no such row or test.
    """
    sides = (name, test), (base, base_test or test)
    found = [{result["seed"]: result for result in results.counted(results.load(row))} for row, _ in sides]
    seeds = tuple(sorted(found[0].keys() & found[1].keys()))
    if not seeds or any(len({_done(side[seed]) for side in found}) > 1 for seed in seeds):
        return None
    steps = [_headline_step(*side) for side in sides]
    one, other = (results.summary(*side, step, "accuracy", seeds) for side, step in zip(sides, steps))
    if one is None or other is None:
        return None
    of_seeds = np.subtract(one.of_seeds, other.of_seeds)
    paired = get(name).settings["family"] == get(base).settings["family"]
    kept = [seed for seed in seeds if seed < min(seeds_kept(name), seeds_kept(base))]
    ci95 = math.hypot(one.ci95, other.ci95)
    if paired and kept and set(steps) <= set(STEPS_KEPT):
        first, second = (_of_tasks(*side, step, kept) for side, step in zip(sides, steps))
        ci95 = Z95 * float((first - second).std()) / math.sqrt(len(first))
    return Effect(
        float(of_seeds.mean()),
        ci95,
        results.student(of_seeds)[1],
        seeds,
        ((one.value, one.deciding_ci95), (other.value, other.deciding_ci95)),
        paired,
        one.tasks,
    )


def _done(result: dict[str, Any]) -> float:
    """The share of its iterations that a run has made; a row without training is finished."""
    total = result["settings"]["iterations"]
    return float(result["iterations_done"] / total) if total else 1.0


def _headline_step(name: str, test: str) -> int:
    """Of a test; ``ValueError`` if the row has none of that name."""
    steps = {each.name: each.headline_step for each in get(name).evaluations}
    if test not in steps:
        raise ValueError(f"test={test!r}, but {name} has {', '.join(steps)}")
    return steps[test]


def _of_tasks(name: str, test: str, step: int, seeds: Sequence[int]) -> np.ndarray:
    """Accuracy of every test task after a step that is kept, the mean over seeds, ``[tasks]``."""
    found = [results.per_task_errors(name, seed, test, "accuracy") for seed in seeds]
    return np.stack(found)[..., STEPS_KEPT.index(step)].mean(0)


def _tests() -> pd.DataFrame:
    """The table of ``benchmarks/traps.py`` by test; no lines where it is not there or of other weights."""
    path = places.repository() / "data" / "benchmarks" / "traps" / "tests.csv"
    of_row = {result["seed"]: result for result in results.load(TESTED)}.get(0)
    if not path.exists() or of_row is None or results.stale(of_row):
        return pd.DataFrame()
    table = pd.read_csv(path, dtype={"fingerprint": str}, index_col="test")
    same = (table.fingerprint == of_row["fingerprint"]) & (table.iterations_done == of_row["iterations_done"])
    return table if same.all() else pd.DataFrame()


def tested(test: str) -> Effect | None:
    """What a test of chapter 3's network that goes wrong does to its accuracy on Omniglot.

    Args:
        test: ``"5 queries"``, ``"15 queries"``, ``"support"`` or ``"running averages"``, of which the
            queries get mean and variance (beside one query of each class); ``"alpha on the mean"``;
            ``"validation characters"``.

    Returns:
        None where it was not measured, or with another network than is committed now.
    """
    table = _tests()
    if test not in table.index:
        return None
    line = table.loc[test]
    side = lambda of: (float(of.accuracy), float(of.ci95))
    sides = side(line), side(table.loc[line.base])
    paired = str(line.paired) == "True"
    return Effect(float(line.effect), float(line.effect_ci95), math.nan, (0,), sides, paired, int(line.tasks))


def draws() -> tuple[list[tuple[float, float]], tuple[float, float, int]] | None:
    """Accuracy and interval of the same network in ten tests of 600 tasks each, and in all of them as one.

    The last number is how many tasks these are; None as in :func:`tested`.
    """
    table = _tests()
    if "as the paper" not in table.index:
        return None
    ten = table[table.index.str.startswith("draw ")]
    whole = table.loc["as the paper"]
    return list(zip(ten.accuracy, ten.ci95)), (whole.accuracy, whole.ci95, int(whole.tasks))


def effect_words(found: Effect | None) -> str:
    """An effect in points with its interval over tasks, as text; nothing where there is none.

    The interval that decides says how many digits the effect has.
    """
    if found is None:
        return ""
    return number(found.value, found.ci95, signed=True, digits=decimals(found.deciding_ci95))
