"""What our numbers say all in all: verdicts, how many there are of each, the first page. No torch here.

A page shows what one of these functions returns with the directive ``{from-package}
mamlkit.report.overview:NAME``.
"""

__all__ = ["front_page", "tally", "verdict_bar", "verdicts", "where_seeds_matter"]

from string import ascii_lowercase

import pandas as pd

from mamlkit import places
from mamlkit.report import forest
from mamlkit.report.pages import GROUPS, group, printed_table
from mamlkit.report.texts import badge, number, numbered, step_words
from mamlkit.report.verdicts import (
    ACCURACY_MARGIN,
    MSE_MARGIN,
    NOT_JUDGED,
    OWN_VERDICTS,
    RETURN_MARGIN,
    WIDE,
    WORDS,
)

# Setting of a published number -> a word in the name of its chapter.
CHAPTERS = {
    "sinusoid": "sinusoid",
    "Omniglot": "omniglot",
    "Mini-ImageNet": "miniimagenet",
    "2D navigation": "navigation",
    "HalfCheetah": "locomotion",
    "Ant": "locomotion",
}


def verdicts() -> str:
    """What each verdict means, and the margins it is given by."""
    points, mse, returns = ACCURACY_MARGIN, MSE_MARGIN, RETURN_MARGIN
    meanings = {
        "reproduced": "the 95 % interval of the difference (ours less the paper's) lies inside the margin",
        "consistent": "it contains zero but reaches beyond the margin",
        "inconclusive": f"so it does, but its half-width is above {WIDE:g} margins: it says next to nothing",
        "differs": "it does not contain zero, and reaches beyond the margin",
        NOT_JUDGED: "ours is shown, but it is of another algorithm or network; or of a network that was not "
        "trained, so that two draws of initial values would be compared; or the number is a mean over both "
        "directions of a policy that was told neither: what it gains in one it loses in the other; or what "
        "comes of a policy that was pretrained on both, whose leaning to one is an accident of its training",
        "partial": "tested after n of N iterations; ours and the difference are shown, but not judged",
        "begun": "trained for n of N iterations and not tested yet: there is a state, but no result",
        "not run": "there is neither",
        "stale": "there is one, but the settings of its experiment have changed since, so it is not shown",
    }
    lines = [{"verdict": badge(word), "meaning": meaning} for word, meaning in meanings.items()]
    margins = (
        f"The margin is the difference that would matter: {points:g} percentage point of "
        f"accuracy, {mse:.0%} of a mean squared "
        f"error, and in reinforcement learning {returns:.0%} of what MAML gains in its first "
        f"step in the same setting of the paper, "
        "or of what the method's own curve spans, if that is less. Where the paper's own error is about a "
        "point, as in 5-way Omniglot, this is lenient: within it the error may be nearly twice as large. "
        "So it is in 2D navigation where the goal is reached: the margin is more than the oracle's whole "
        "return, and about what MAML has after two and three steps."
    ).replace("%", " %")
    ways = (
        "Where the tasks are two, forward and backward, the verdict is the worse of those on either: too "
        "much in one direction does not pay for too little in the other."
    )
    return numbered(lines, "Verdicts.", "tab-verdicts") + f"\n{margins}\n\n{ways}\n"


def front_page() -> str:
    """Every experiment of the paper at a glance: MAML after the last step that the paper reports."""
    found = printed_table()
    own = found[found.method.str.startswith("MAML")]
    last = own.groupby(["setting", "method"], sort=False).step.transform("max")
    lines, notes = [], _Notes()
    for _, line in own[own.step == last].iterrows():
        variant = line.method.removeprefix("MAML").replace(" first", ", first")
        experiment = line.setting[0].upper() + line.setting[1:] + variant
        lines.append(
            {
                "experiment": _chapter(line.setting).format(experiment),
                "verdict": badge(line.verdict),
                "paper": line.printed,
                "ours": "\N{NO-BREAK SPACE}".join(
                    filter(None, (number(line.ours, line.deciding_ci95), notes.marks(line)))
                ),
                "in the paper": line.place,
            }
        )
    what = (
        "MAML in every experiment of the paper, after the last step that the paper reports: mean squared "
        "error of sinusoids, accuracy in % of images, return of policies; ± is a 95 % interval."
    )
    table = numbered(lines, what, "tab-glance")
    return f"{table}\n{notes}"


class _Notes:
    """What a sceptic wants to know of a number: marks for the table, and the sentences below it."""

    def __init__(self) -> None:
        self.sentences: dict[str, str] = {}

    def marks(self, line: pd.Series) -> str:
        """The letters of the notes that apply to a line of ours; nothing where there is none."""
        if pd.isna(line.ours):
            return ""
        if line.seeds == 1:
            said = [
                "One training run: the interval is over test tasks and does not say what another run gives."
            ]
        elif line.deciding_ci95 > line.ours_ci95:
            said = [
                f"The interval over {line.seeds:.0f} training runs, which is wider than that over test tasks."
            ]
        else:
            said = [f"{line.seeds:.0f} training runs; the interval over test tasks is the wider one."]
        if line.diverged:
            said.append(
                f"{line.diverged:.0f} of {line.tasks:,.0f} test tasks are left out of the mean, since "
                "gradient descent diverged on them; the median with them, over the runs whose single tasks "
                f"are kept, is {line['median']:.2f}. The rule for what counts as diverged was settled after "
                "results were known."
            )
        letters = [self.sentences.setdefault(words, ascii_lowercase[len(self.sentences)]) for words in said]
        return f"[{','.join(letters)}]{{.note}}"

    def __str__(self) -> str:
        lines = [f"[{letter}]{{.note}} {words}" for words, letter in self.sentences.items()]
        settled = (
            "The margins were fixed before most results were known. Some rules came later: the verdict "
            "*inconclusive* (such numbers were called *consistent* before); what is *not judged* (the "
            "last of these are pretrained policies in tasks of two directions, some of which *differed*); "
            "that policies are compared goal by goal, on the same goals, and in either direction where "
            "these are two; and that a number which the paper prints without an interval is given one."
        )
        return "\n\n".join([*lines, settled]) + "\n"


def verdict_bar() -> str:
    """How many of the paper's own numbers have which verdict."""
    found = printed_table()
    return forest.bar(found.verdict[~found.quoted])


def _chapter(setting: str) -> str:
    """A link to the chapter about a setting, with a place for its text; that alone if the book has none."""
    word = next(word for start, word in CHAPTERS.items() if setting.startswith(start))
    contents = (places.repository() / "_toc.yml").read_text(encoding="utf-8")
    for path in sorted((places.repository() / "notebooks").glob("[0-9][0-9]-*.ipynb")):
        if word in path.stem.replace("-", "") and f"notebooks/{path.stem}\n" in contents + "\n":
            return f"[{{}}](../notebooks/{path.name})"
    return "{}"


def tally() -> str:
    """How many published numbers have which verdict, group by group."""
    found = printed_table()
    word = found.verdict.str.partition(" (")[0].where(~found.quoted, "quoted")
    words = [w for w in (*OWN_VERDICTS, "quoted") if w in (*WORDS, "not run", "quoted") or (word == w).any()]
    lines = []
    for name, (place, _, caption) in GROUPS.items():
        counts = word[group(found, name).index].value_counts()
        part = {"part": f"{place}: {caption.partition(' (')[0]}"}
        lines.append(part | {w: str(counts.get(w, 0)) for w in words})
    return numbered(lines, "How many of the paper's numbers have which verdict.", "tab-tally", words)


def where_seeds_matter() -> str:
    """Which numbers vary more between training runs than over test tasks, and by how much."""
    found = printed_table()
    found = found[found.seed_ci95 > found.ours_ci95]
    if found.empty:
        return "So far no number with several seeds is less certain over them than over test tasks.\n"
    found = found.assign(away=(found.difference / found.seed_sd).abs())
    parts = []
    for (setting, method), part in found.groupby(["setting", "method"], sort=False):
        away = [
            f"{line.away:.1f} after {step_words(line.step)} ({line.task_verdict})"
            for line in part.itertuples()
        ]
        parts.append(f"- {setting}, {method}: {', '.join(away)}")
    return (
        "For these numbers the interval over our seeds is wider than that over test tasks, so the verdict "
        "uses it. Each entry says how many standard deviations over seeds the paper's single run lies from "
        "our mean. In brackets stands the verdict by test tasks alone.\n\n" + "\n".join(parts) + "\n"
    )
