"""What verdicts owe to how few trainings there are, and to readings of the paper. No torch here.

A page shows what one of these functions returns with the directive ``{from-package}
mamlkit.report.one_training:NAME``.
"""

__all__ = ["alone", "behind_the_counts"]

import pandas as pd

from mamlkit.report import averages, beside, results
from mamlkit.report.pages import printed_table
from mamlkit.report.texts import badge, numbered, step_words
from mamlkit.report.verdicts import WORDS


def behind_the_counts() -> str:
    """How many verdicts are of one training of ours, and how many depend on a reading of the paper."""
    found = printed_table()
    judged = found[~found.quoted & found.verdict.isin(WORDS)]
    counts = judged.verdict.value_counts().reindex(WORDS).dropna().astype(int)
    single = judged[judged.seeds == 1].verdict.value_counts()
    parts = [f"{single.get(word, 0)} of {count} *{_of(word)}*" for word, count in counts.items()]
    text = ""
    if parts:
        text = (
            f"One training of ours stands behind {', '.join(parts)}: such a verdict compares two trainings, "
            "theirs and ours, and another of ours may get another ({numref}`tab-one-training`). "
        )
    by_start = averages.by_start()
    if all(table.verdict.isin(WORDS).all() for table in by_start.values()):
        own, same = (table.verdict.value_counts() for table in by_start.values())
        text += (
            f"{own.sum()} numbers are Table 2's averages of networks: three procedures, each after three "
            "numbers of steps. The paper does not say whether its networks had the same initial values. With "
            f"values of their own, which are counted here, they are {_counted(own)}; with the same ones they "
            f"would be {_counted(same)} ({{numref}}`tab-results-averages`)."
        )
    return text.strip() + "\n"


def alone() -> str:
    """Numbers with several trainings of ours: their verdict, and what each training would have had alone."""
    paper = results.published()
    every = beside.table(paper)
    several = paper[(every.verdict.isin(WORDS) & (every.seeds > 1)).to_numpy()]
    if several.empty:
        return "So far no number has several trainings.\n"
    counts: dict[int, dict[str, int]] = {place: {} for place in several.index}
    for row, of_row in several.groupby("row"):
        for result in results.counted(results.load(row)):
            found = beside.table(of_row, [result["seed"]])
            for place, word in zip(of_row.index, found.verdict):
                counts[place][word] = counts[place].get(word, 0) + 1
    lines = []
    for place, line in several.iterrows():
        together = every.verdict[paper.index.get_loc(place)]
        if set(counts[place]) == {together}:
            continue
        entry = {"number": f"{line.setting}, {line.method}", "after": step_words(int(line.step))}
        alone = [f"{counts[place][word]} {_of(word)}" for word in WORDS if word in counts[place]]
        lines.append(entry | {"all together": badge(together), "each alone": ", ".join(alone)})
    if not lines:
        return f"Of all {len(several)} numbers that have several trainings each would have the same alone.\n"
    caption = (
        "Numbers of which trainings of ours would have another verdict alone, with the interval over their "
        f"test tasks: {len(lines)} of the {len(several)} that have several trainings."
    )
    return numbered(lines, caption, "tab-one-training")


def _of(word: str) -> str:
    """A verdict as numbers have it: *differs* is *differ*."""
    return "differ" if word == "differs" else word


def _counted(counts: pd.Series) -> str:
    return " and ".join(f"{count} *{_of(str(word))}*" for word, count in counts.items())
