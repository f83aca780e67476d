"""What known traps of reimplementations cost, from the committed results. No torch here.

An effect is a difference on the same test tasks, so most of what makes one task harder than another cancels.
Pages show the functions that return text with the directive ``{from-package} mamlkit.report.traps:NAME``.
"""

__all__ = [
    "Effect",
    "alphabets",
    "characters",
    "effect",
    "effect_words",
    "inner_loss",
    "network",
    "normalisation",
    "rows",
    "split_of_mini_imagenet",
    "table",
]

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from mamlkit.experiments.paper import ROWS, get
from mamlkit.experiments.rows import Row
from mamlkit.experiments.traps import base_of, is_trap
from mamlkit.measures import STEPS_KEPT, Z95
from mamlkit.report import results
from mamlkit.report.inventory import state_of
from mamlkit.report.texts import badge, decimals, measured_effect, number, numbered

RELEASED = "mini-imagenet-released"
VALIDATION_TASKS = 200  # of mamlkit.runs.supervised, which needs torch


@dataclass(frozen=True)
class Effect:
    """A difference of accuracies in points, with its two uncertainties, which are never mixed.

    Args:
        value: mean of the difference over the test tasks and the seeds.
        ci95: half-width of the 95 % interval over test tasks (each task averaged over the seeds).
        seed_ci95: half-width of the 95 % interval of the mean over seeds (Student's t), NaN for one seed.
        seeds: which seeds both sides have.
        sides: the mean accuracy of either side over these seeds with its interval over test tasks.
        paired: whether both sides were tested on the same tasks.
    """

    value: float
    ci95: float
    seed_ci95: float
    seeds: tuple[int, ...]
    sides: tuple[tuple[float, float], tuple[float, float]]
    paired: bool

    @property
    def deciding_ci95(self) -> float:
        """The wider of the two intervals."""
        return float(np.fmax(self.ci95, self.seed_ci95))


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
    """
    sides = (name, test), (base, base_test or test)
    found = [{result["seed"]: result for result in results.counted(results.load(row))} for row, _ in sides]
    seeds = tuple(sorted(found[0].keys() & found[1].keys()))
    if not seeds or any(results.stale(side[seed]) for side in found for seed in seeds):
        return None
    if any(len({_done(side[seed]) for side in found}) > 1 for seed in seeds):
        return None
    one, other = (_accuracies(row, of, seeds) for row, of in sides)
    of_seeds = one.mean(1) - other.mean(1)
    paired = get(name).settings["family"] == get(base).settings["family"]
    variance = _variance(one - other) if paired else _variance(one) + _variance(other)
    seed_ci95 = math.nan
    if len(seeds) > 1:
        error = float(of_seeds.std(ddof=1)) / math.sqrt(len(seeds))
        seed_ci95 = float(special.stdtrit(len(seeds) - 1, 0.975)) * error
    first, second = ((float(side.mean()), Z95 * math.sqrt(_variance(side))) for side in (one, other))
    return Effect(
        float(of_seeds.mean()), Z95 * math.sqrt(variance), seed_ci95, seeds, (first, second), paired
    )


def _done(result: dict[str, Any]) -> float:
    """The share of its iterations that a run has made; a row without training is finished."""
    total = result["settings"]["iterations"]
    return float(result["iterations_done"] / total) if total else 1.0


def _accuracies(name: str, test: str, seeds: tuple[int, ...]) -> np.ndarray:
    """Accuracy of every test task after the headline step, ``[seeds, tasks]``."""
    step = next(each.headline_step for each in get(name).evaluations if each.name == test)
    at = STEPS_KEPT.index(step)
    return np.stack([results.per_task_errors(name, seed, test, "accuracy")[:, at] for seed in seeds])


def _variance(values: np.ndarray) -> float:
    """Of the mean over tasks ``[seeds, tasks]``."""
    return float(values.mean(0).var()) / values.shape[1]


def effect_words(found: Effect | None) -> str:
    """An effect in points with its interval over tasks, as text; nothing where there is none.

    The interval that decides says how many digits the effect has.
    """
    if found is None:
        return ""
    return number(found.value, found.ci95, signed=True, digits=decimals(found.deciding_ci95))


def rows() -> list[Row]:
    """The rows that have a trap, in their order; each has its base beside it."""
    return [
        row
        for row in ROWS.values()
        if isinstance(row, Row) and is_trap(row.name) and row.name != base_of(row.name)
    ]


def table(name: str = "tab-results-traps") -> str:
    """Every training with a trap beside the one without; a page beside this one needs another name."""
    lines = []
    for row in rows():
        base = base_of(row.name)
        few, many = (effect(row.name, base, test) for test in ("Q=K", "Q=15"))
        with_it, without = (number(*side) for side in few.sides) if few else ("", "")
        seeds = [
            f"± {e.seed_ci95:.{decimals(e.deciding_ci95)}f}" if e and len(e.seeds) > 1 else ""
            for e in (few, many)
        ]
        lines.append(
            {
                "trap": _words(row),
                "tasks": f"{row.ways}-way",
                "without": without,
                "with": with_it,
                "effect, Q=K": effect_words(few),
                "Q=K, over seeds": seeds[0],
                "effect, Q=15": effect_words(many),
                "Q=15, over seeds": seeds[1],
                "seeds": str(len(few.seeds)) if few else "",
                "state": badge(state_of(row.name)),
            }
        )
    caption = (
        "Short trainings on Omniglot, 1-shot, without and with one trap: accuracy in % of the seeds that "
        "both have, and its change in points (± 95 % over test tasks; beside it ± 95 % over seeds)."
    )
    right = ["without", "with", "effect, Q=K", "Q=K, over seeds", "effect, Q=15", "Q=15, over seeds", "seeds"]
    return numbered(lines, caption, name, right)


def _words(row: Row) -> str:
    return row.title.partition("short: ")[2]


def inner_loss() -> str:
    """What α on the mean loss does: item 1 of the deviations."""
    words = "The authors' weights of Mini-ImageNet, tested with α on the mean"
    released = _of_released(words, RELEASED, "Q=1, alpha on the mean")
    return measured_effect([released, _trained("20way-mean-loss", "5way-mean-loss")])


def split_of_mini_imagenet() -> str:
    """What the text's 24 test classes do to the authors' weights: item 4 of the deviations."""
    words = "The authors' weights, which were trained on none of these, on 24 test classes instead of 20"
    return measured_effect([_of_released(words, f"{RELEASED}-64-12-24", "Q=1")])


def network() -> str:
    """What padding and the head's first values do: item 5 of the deviations."""
    return measured_effect([_trained("5way-padding", "5way-head")])


def alphabets() -> str:
    """What it does to keep alphabets apart."""
    return measured_effect([_trained("5way-alphabets")])


def normalisation() -> str:
    """What it does to adapt the shifts: item 9 of the deviations."""
    return measured_effect([_trained("5way-shifts")])


def characters() -> str:
    """Accuracy on validation and on test characters: item 15 of the deviations."""
    name = "omniglot-5way-1shot"
    test = get(name).evaluations[0]
    ours, log = results.summary(name, test.name, test.headline_step, "accuracy"), results.training_log(name)
    if ours is None:
        return measured_effect([])
    tested = log[log.iteration == ours.done]
    validated = tested.dropna(subset=["validation"])
    if validated.empty:
        return measured_effect([])
    last = validated.iloc[-1]
    return measured_effect(
        [
            f"Omniglot 5-way 1-shot, after {last.iteration:,.0f} iterations: {last.validation:.1f} % on the "
            f"validation characters, by the {VALIDATION_TASKS} tasks that training follows, and "
            f"{number(ours.value, ours.ci95)} % on the test characters. By the spread of the latter the "
            f"former is known to ± {ours.ci95 * math.sqrt(ours.tasks / VALIDATION_TASKS):.1f}."
        ]
    )


def _of_released(words: str, name: str, test: str) -> str | None:
    """What a test of the authors' weights says that differs from theirs in one thing."""
    found = effect(name, RELEASED, test, "Q=1")
    return f"{words}: {_points(found)}." if found else None


def _trained(*traps: str) -> str | None:
    """What traps in training do, with the paper's number of queries and with 15."""
    named, lines = {row.name: row for row in rows()}, []
    for row in (named[f"trap-{trap}"] for trap in traps):
        few, many = (effect(row.name, base_of(row.name), test) for test in ("Q=K", "Q=15"))
        if few and many:
            words = (
                f"- {_words(row)}, {row.ways}-way: {_points(few)}; with 15 queries per class {_points(many)}"
            )
            state = state_of(row.name)
            lines.append(words if state == "complete" else f"{words} ({badge(state)})")
    if not lines:
        return None
    chapter = "[chapter 8](../notebooks/08-traps.ipynb)"
    short = "after a thirtieth of the paper's iterations or less, so what is gained may be speed"
    return "\n".join(
        [f"Accuracy in the short trainings on Omniglot, 1-shot, of {chapter}, {short}:\n", *lines]
    )


def _points(found: Effect) -> str:
    """An effect in a sentence, with both of its intervals."""
    count = len(found.seeds)
    over = f"± {found.seed_ci95:.1f} over {count} seeds" if count > 1 else "of one training"
    return f"{effect_words(found)} points (± over test tasks; {over})"
