"""All traps in one table, and the tests of the authors' weights that differ in one thing. No torch here.

Chapter 8 shows what these functions return.
"""

__all__ = ["all_traps", "released_table", "statistics_lines"]

from mamlkit.experiments.traps import base_of
from mamlkit.report import results
from mamlkit.report.texts import number, numbered
from mamlkit.report.trap_effects import Effect, draws, effect, effect_words, tested
from mamlkit.report.traps import RELEASED, UNDECIDED, rows

TRAINED_TEST = "Q=15"  # of trainings: less noisy than the paper's, and what chapter 8 draws and tells
CODE_TESTS = "code: K queries, the batch"
SUM = "paper: a sum (eq. 3); code: sum / shots"
SAYS = {  # of the traps in training, by the end of a row's name
    "mean-loss": SUM,
    "first-order": "paper: tells both apart",
    "padding": "code: SAME; paper: nothing",
    "head": "code: N(0, 1); paper: nothing",
    "shifts": "code: not adapted; paper: nothing",
    "alphabets": "paper, code: characters at random",
    "seen": "paper, code: as here",
}
OF_OMNIGLOT = {  # a test of benchmarks/traps.py: the trap, and what the paper and the code say
    "5 queries": ("5 queries per class", CODE_TESTS),
    "15 queries": ("15 queries per class", CODE_TESTS),
    "support": ("statistics of the support", CODE_TESTS),
    "running averages": ("running averages", CODE_TESTS),
    "alpha on the mean": ("α on the mean, in the test alone", SUM),
    "validation characters": ("validation characters in the test", "code until October 2017: these"),
}
# Of the authors' weights: the trap, row and test, the test that it is held against, what paper and code say.
OF_RELEASED = (
    ("5 queries per class", RELEASED, "Q=5", "Q=1", CODE_TESTS),
    ("15 queries per class", RELEASED, "Q=15", "Q=1", CODE_TESTS),
    ("statistics of the support", RELEASED, "Q=1, support statistics", "Q=1", CODE_TESTS),
    ("statistics of the support, 15 queries", RELEASED, "Q=15, support statistics", "Q=15", CODE_TESTS),
    ("α on the mean, in the test alone", RELEASED, "Q=1, alpha on the mean", "Q=1", SUM),
    ("24 test classes", f"{RELEASED}-64-12-24", "Q=1", "Q=1", "paper: 64/12/24; code: 64/16/20"),
)
STATISTICS = {  # whose mean and variance: the tests with 1, 5 and 15 queries per class in a batch
    "the batch": ("1 query", "5 queries", "15 queries"),
    "the support": ("support",) * 3,
    "running averages": ("running averages",) * 3,
}


def all_traps() -> str:
    """Every trap, with the data of its test, the accuracy without it, its effect and what that says."""
    lines = []
    for row in rows():
        base = base_of(row.name)
        says = SAYS[row.name.removeprefix(f"{base}-")]
        words = row.title.partition("short: ")[2]
        found = effect(row.name, base, TRAINED_TEST)
        lines.append(_line(words, f"Omniglot {row.ways}-way, short training", found, says, training=True))
    for test, (words, says) in OF_OMNIGLOT.items():
        lines.append(_line(words, "Omniglot, chapter 3's network", tested(test), says))
    lines += _chance()
    for words, row_name, test, base_test, says in OF_RELEASED:
        found = effect(row_name, RELEASED, test, base_test)
        lines.append(_line(words, "Mini-ImageNet, the authors' weights", found, says))
    caption = (
        "Traps and what they do: accuracy in % without the trap (± over tasks or seeds, whichever is wider), "
        "and how many points it changes with it. "
        f"{UNDECIDED} {_reservation()}"
    )
    return numbered(lines, caption, "tab-traps", ["without", "effect"])


def _line(trap: str, data: str, found: Effect | None, says: str, training: bool = False) -> dict[str, str]:
    """A line of the table: an effect with its deciding interval; of one that is not known, that."""
    line = {"trap": trap, "tested on": data, "without": "", "effect": "not run", "accuracy is": ""}
    line |= {"interval over": "", "paper and code say": says}
    if not found:
        return line
    several = len(found.seeds) > 1
    ci95 = found.seed_ci95 if several else found.ci95
    over = f"{len(found.seeds)} seeds" if several else f"{found.tasks:,} tasks"
    over += "" if found.paired or several else ", other ones"
    line["without"] = number(*found.sides[1])
    line["effect"] = number(found.value, ci95, signed=True)
    line["accuracy is"] = found.word
    if training and found.word in ("higher", "lower"):
        line["accuracy is"] += " by then"
    line["interval over"] = f"{over}, one seed" if training and not several else over
    return line


def _chance() -> list[dict[str, str]]:
    """The line of 600 tasks against ten times as many, which moves a number by chance alone."""
    line = {"trap": "600 test tasks, not 6,000", "tested on": "Omniglot, chapter 3's network"}
    line |= {"effect": "not run", "paper and code say": "both: 600"}
    if found := draws():
        ten, (accuracy, ci95, _) = found
        line["without"] = number(accuracy, ci95)
        line["effect"] = f"± {sum(half for _, half in ten) / len(ten):.2f}"
        line["accuracy is"] = "moved by chance"
        low, high = min(mean for mean, _ in ten), max(mean for mean, _ in ten)
        line["interval over"] = f"{len(ten)} draws: {low:.1f} to {high:.1f} %"
    return [line]


def _reservation() -> str:
    """What the accuracies without a trap say of the short trainings."""
    words = "Of a short training an effect is one on where training is by then, and may be one on its speed"
    if found := effect("trap-20way-mean-loss", "trap-20way", TRAINED_TEST):
        words += (
            f": in 20-way tasks the network without a trap has got to {found.sides[1][0]:.1f} %, where "
            "guessing gives 5 %"
        )
    return f"{words}."


def statistics_lines() -> list[dict[str, str]]:
    """Accuracy of chapter 3's network on Omniglot, by whose mean and variance the queries get."""
    lines = []
    for kind, tests in STATISTICS.items():
        line = {"data": "Omniglot, committed", "statistics of": kind}
        for queries, test in zip((1, 5, 15), tests):
            other = tested("5 queries" if test == "1 query" else test)
            side = other.sides[test == "1 query"] if other else None  # which has it as its other side
            line[f"{queries} per class"] = number(*side) if side else "not run"
        lines.append(line)
    return lines


def released_table() -> str:
    """The authors' weights after ten steps, in their own test and in others, each with its effect."""
    tests = [("1 query per class, as the authors test", RELEASED, "Q=1", "", "")]
    lines = []
    for words, row, test, base, _ in (*tests, *OF_RELEASED):
        ours = results.summary(row, test, 10, "accuracy")
        line = {"test": words, "accuracy, %": number(ours.value, ours.ci95) if ours else "not run"}
        if base:
            found = effect(row, RELEASED, test, base)
            line["effect, points"] = effect_words(found)
            line["beside"] = {"Q=1": "the first line", "Q=15": "15 queries per class"}[base]
            line["accuracy is"] = found.word if found else ""
        lines.append(line)
    caption = (
        "The authors' weights on Mini-ImageNet after ten steps (committed results, 600 tasks; the paper has "
        f"48.70 ± 1.84). {UNDECIDED}"
    )
    return numbered(lines, caption, "tab-traps-mini-imagenet", ["accuracy, %", "effect, points"])
