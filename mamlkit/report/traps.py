"""What known traps of reimplementations cost, from the committed results. No torch here.

How an effect is taken, :mod:`mamlkit.report.trap_effects` says. Pages show the functions that return text
with the directive ``{from-package} mamlkit.report.traps:NAME``.
"""

__all__ = [
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
    "together",
]

import math

from mamlkit.experiments.paper import ROWS, get
from mamlkit.experiments.rows import Row
from mamlkit.experiments.traps import base_of, is_trap
from mamlkit.report import results
from mamlkit.report.inventory import state_of
from mamlkit.report.texts import badge, decimals, measured_effect, number, numbered
from mamlkit.report.trap_effects import Effect, effect, effect_words, tested
from mamlkit.report.verdicts import ACCURACY_MARGIN, WIDE

POINTS = WIDE * ACCURACY_MARGIN
UNDECIDED = f"Undecided is an effect whose interval holds zero and is wider than ± {POINTS:.0f} points."
RELEASED = "mini-imagenet-released"
VALIDATION_TASKS = 200  # of mamlkit.runs.supervised, which needs torch


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
                "Q=15: accuracy is": many.word if many else "",
                "seeds": str(len(few.seeds)) if few else "",
                "state": badge(state_of(row.name)),
            }
        )
    caption = (
        "Short trainings on Omniglot, 1-shot, without and with one trap: accuracy in % of the seeds that "
        "both have (± 95 % over tasks or seeds, whichever is wider), and its change in points (± 95 % over "
        "test tasks; beside it ± 95 % over seeds). "
        f"{UNDECIDED}"
    )
    right = ["without", "with", "effect, Q=K", "Q=K, over seeds", "effect, Q=15", "Q=15, over seeds", "seeds"]
    return numbered(lines, caption, name, right)


def together(test: str = "Q=15") -> str:
    """Which trainings with a trap still stand apart when one counts how many are compared, in words."""
    found = {f"{_words(row)}, {row.ways}-way": effect(row.name, base_of(row.name), test) for row in rows()}
    several = {words: of for words, of in found.items() if of and len(of.seeds) > 1}
    apart = {words: of.chance for words, of in several.items() if of.word in ("higher", "lower")}
    kept = [words for words, chance in apart.items() if chance * len(several) < 0.05]
    lost = [f"{words} ({chance:.3f})" for words, chance in apart.items() if words not in kept]
    said = f"{len(several)} trainings are compared here, so that one or another may stand apart by chance."
    if kept:
        said += f" By more than that (Bonferroni's rule): {'; '.join(kept)}."
    if lost:
        said += f" Not by more than that, with how often seeds alone would give as much: {'; '.join(lost)}."
    return said if several else ""


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
    return measured_effect([_trained("5way-alphabets", "prototypes-alphabets", "alphabets-seen")])


def normalisation() -> str:
    """What it does to adapt the shifts, and what other statistics do in a test: item 9 of the deviations."""
    words = {"support": "statistics of the support", "running averages": "running averages of training"}
    found = {text: tested(test) for test, text in words.items()}
    parts = [f"{text}, {effect_words(of)} points" for text, of in found.items() if of]
    network = "\n\nChapter 3's network of Omniglot, in the test alone, beside one query of each class: "
    return measured_effect([_trained("5way-shifts"), f"{network}{'; '.join(parts)}." if parts else None])


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
    short = "after a twentieth of the paper's iterations or less, so what is gained may be speed"
    return "\n".join(
        [f"Accuracy in the short trainings on Omniglot, 1-shot, of {chapter}, {short}:\n", *lines]
    )


def _points(found: Effect) -> str:
    """An effect in a sentence, with both of its intervals."""
    count = len(found.seeds)
    over = f"± {found.seed_ci95:.1f} over {count} seeds" if count > 1 else "of one training"
    return f"{effect_words(found)} points (± over test tasks; {over})"
