"""RL^2 on bandits beside the published table and the classical ways to play, from committed results.

Pages show the functions that return text with the directive ``{from-package} mamlkit.report.bandits:NAME``.
No torch here.
"""

__all__ = [
    "across",
    "compared",
    "crossed",
    "measured",
    "pairs",
    "published",
    "reached",
    "references",
    "set_beside",
    "shown",
    "to_run",
]

import math
from typing import Any

import numpy as np
import pandas as pd

from mamlkit import places
from mamlkit.experiments.bandits import CELLS, PAIR_PULLS, PAIRS, name_of
from mamlkit.measures import Z95
from mamlkit.report import results
from mamlkit.report.committed import benchmark
from mamlkit.report.inventory import state_of
from mamlkit.report.texts import badge, number, numbered
from mamlkit.report.verdicts import RETURN_MARGIN, WITHOUT_RESULT, verdict

TEST = "bandits"
PUBLISHED_TASKS = 1000  # bandits that a published mean is of
OURS = "RL²"
TRAININGS = "RL², number of trainings"
# What is measured of a way to play.
OF_A_WAY = ("strategy", "setting", "value", "ci95", "regret", "regret_ci95", "tasks")
STRATEGIES = ("random", "Gittins", "Thompson", "UCB1", "epsilon-greedy", "greedy")


def published() -> pd.DataFrame:
    """Table 1 of Duan et al. 2016: mean total reward of 1,000 bandits.

    Columns: place, pulls, arms, method, value.
    """
    return pd.read_csv(places.repository() / "data" / "published_bandits.csv")


def measured() -> pd.DataFrame:
    """The classical ways, played by ``benchmarks/references.py``; without lines where it was not.

    Columns: kind, arms, pulls, strategy, setting, value and ci95 (total reward), regret and regret_ci95,
    tasks.
    """
    return benchmark("bandits/references", ["kind", "arms", "pulls", *OF_A_WAY])


def compared() -> pd.DataFrame:
    """RL^2 in each cell of the published table, beside what was published of it.

    The margin is a tenth of what the published Gittins indices gain over pulling at random. The published
    mean is of 1,000 bandits, without an interval: its interval is made from the spread of ours. That of the
    difference holds this one, and the wider of ours over bandits and, where there are several, over seeds.

    Returns:
        Columns: ``pulls``, ``arms``, ``row``, ``paper``, ``margin``, ``verdict``; and where it was run
        ``ours``, ``ours_ci95``, ``seeds``, ``difference``, ``difference_ci95``.
    """
    printed = published().set_index(["pulls", "arms", "method"]).value
    lines = []
    for pulls, arms in CELLS:
        gain = float(printed[pulls, arms, "Gittins"] - printed[pulls, arms, "random"])
        line = set_beside(name_of(arms, pulls), TEST, float(printed[pulls, arms, OURS]), gain)
        lines.append({"pulls": pulls, "arms": arms} | line)
    return pd.DataFrame(lines)


def set_beside(name: str, test: str, paper: float, gain: float) -> dict[str, Any]:
    """A number of ours beside a published mean of 1,000 tasks.

    Args:
        name: of the row.
        test: its evaluation.
        paper: the published number.
        gain: of which the margin is a tenth.

    Returns:
        ``row`` to ``difference_ci95``, as in :func:`compared`.
    """
    line: dict[str, Any] = {"row": name, "paper": paper, "margin": RETURN_MARGIN * gain}
    line["verdict"] = state_of(name)
    line |= dict.fromkeys(("ours", "ours_ci95", "seeds", "difference", "difference_ci95"), math.nan)
    if ours := results.summary(name, test, 0, "return"):
        spreads = [r["evaluations"][test]["return"]["sd"][0] for r in results.counted(results.load(name))]
        theirs = Z95 * float(np.mean(spreads)) / math.sqrt(PUBLISHED_TASKS)  # of a single training
        ci95, difference = math.hypot(ours.deciding_ci95, theirs), ours.value - paper
        line |= {"ours": ours.value, "ours_ci95": ours.deciding_ci95, "seeds": len(ours.seeds)}
        line |= {"difference": difference, "difference_ci95": ci95}
        if line["verdict"] == "complete":
            line["verdict"] = verdict(difference, ci95, line["margin"])
    return line


def shown(at: Any) -> dict[str, str]:
    """The cells of a line of :func:`set_beside`."""
    line = {
        "paper": f"{at.paper:.1f}",
        "ours": "",
        "difference": "",
        "seeds": "",
        "verdict": badge(at.verdict),
    }
    if not pd.isna(at.ours):
        line |= {"ours": number(at.ours, at.ours_ci95), "seeds": f"{at.seeds:.0f}"}
        line["difference"] = number(at.difference, at.difference_ci95, signed=True)
    return line


def to_run(found: pd.DataFrame) -> str:
    """What stands below a table of lines of :func:`set_beside`: how to run those without a result."""
    names = found.row[found.verdict.str.startswith(WITHOUT_RESULT)]
    commands = ", ".join(f"`python -m mamlkit run {name}`" for name in names)
    return f"\nTo run what has no result yet: {commands}.\n" if commands else ""


def reached() -> str:
    """RL^2 beside its published numbers, with verdicts, and the Gittins indices, published and measured."""
    found, lines, beside = measured(), [], compared()
    printed = published().set_index(["pulls", "arms", "method"]).value
    for at in beside.itertuples():
        indices = found[(found.pulls == at.pulls) & (found.arms == at.arms) & (found.strategy == "Gittins")]
        line = {"pulls": str(at.pulls), "arms": str(at.arms), **shown(at)}
        line |= {"Gittins, paper": f"{printed[at.pulls, at.arms, 'Gittins']:.1f}", "Gittins, ours": ""}
        for reference in indices.itertuples():
            line["Gittins, ours"] = number(reference.value, reference.ci95)
        lines.append(line)
    caption = (
        "RL² on bandits: total reward of a trial, published (Duan et al. 2016, Table 1) and ours, ± 95 % "
        "over bandits or over seeds, whichever is wider; beside it Gittins indices, published and, on the "
        "same bandits as our RL², ours."
    )
    right = ["pulls", "arms", "paper", "ours", "difference", "seeds", "Gittins, paper", "Gittins, ours"]
    return numbered(lines, caption, "tab-bandits", right) + to_run(beside)


def references() -> str:
    """The classical ways to play as published, and played again."""
    printed = published().set_index(["pulls", "arms", "method"]).value
    found = measured().set_index(["pulls", "arms", "kind", "strategy"])
    lines = []
    for pulls, arms in CELLS:
        line = {"pulls": str(pulls), "arms": str(arms)}
        for strategy in STRATEGIES:
            line[strategy] = f"{printed[pulls, arms, strategy]:.1f}"
            if (pulls, arms, "independent", strategy) in found.index:
                ours = found.loc[(pulls, arms, "independent", strategy)]
                line[strategy] += f" / {number(ours.value, ours.ci95)}"
        lines.append(line)
    caption = (
        "Classical ways to play bandits: total reward, published / played again here (± 95 % over bandits). "
        "Widths of UCB1, shares of epsilon-greedy and discounts of the Gittins indices are the best of a "
        "few, chosen on other bandits; many are the first or the last of these few. Optimistic Thompson "
        "sampling was not built."
    )
    return numbered(lines, caption, "tab-bandit-references", ["pulls", "arms", *STRATEGIES])


def pairs() -> str:
    """Two arms: regret of RL^2, of the classical ways, and of the best possible play."""
    found = measured()
    ways = (OURS, *STRATEGIES, "best possible", TRAININGS)
    lines: dict[str, dict[str, str]] = {way: {"play": way} for way in ways}
    for kind in PAIRS:
        name = name_of(2, PAIR_PULLS, kind)
        ours = results.summary(name, TEST, 0, "regret")
        text = number(ours.value, ours.deciding_ci95) if ours else ""
        if ours:
            lines[TRAININGS][kind] = str(len(ours.seeds))
        if (state := state_of(name)) != "complete":
            text += f" {badge(state)}" + (f" `{name}`" if state.startswith(WITHOUT_RESULT) else "")
        lines[OURS][kind] = text
        for at in found[(found.kind == kind) & (found.arms == 2)].itertuples():
            lines[at.strategy][kind] = number(at.regret, at.regret_ci95)
    caption = (
        f"Two arms, {PAIR_PULLS} pulls (Wang et al. 2016 have figures of these): expected regret against the "
        "better arm, ± 95 % over bandits or, where RL² has several trainings, over these if that is wider. "
        "No play has less on average than the best possible. Last line: how many trainings RL² has."
    )
    return numbered([line for line in lines.values() if len(line) > 1], caption, "tab-bandit-pairs", PAIRS)


def across() -> pd.DataFrame:
    """RL^2 of each kind of two arms on every kind, by ``benchmarks/crossed.py``; without it no lines.

    Columns: trained and tested (kinds), regret and regret_ci95, tasks.
    """
    return benchmark("bandit-pairs/crossed", ["trained", "tested", "regret", "regret_ci95", "tasks"])


def crossed() -> str:
    """Two arms: regret of RL^2 by the kind that it was trained on and the one that it plays."""
    least, found = measured(), across()
    lines = [{"trained on": kind} | dict.fromkeys(PAIRS, "") for kind in (*PAIRS, "best possible")]
    by_name = {line["trained on"]: line for line in lines}
    for at in found.itertuples():
        by_name[at.trained][at.tested] = number(at.regret, at.regret_ci95)
    for at in least[least.strategy == "best possible"].itertuples():
        by_name["best possible"][at.kind] = number(at.regret)
    caption = (
        f"RL² of one training on each kind of two arms (lines), tested on each (columns): expected regret in "
        f"{PAIR_PULLS} pulls, ± 95 % over bandits. The last line is of a player who knows the kind."
    )
    return numbered(lines, caption, "tab-bandit-crossed", PAIRS)
