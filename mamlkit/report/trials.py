"""RL^2 beyond bandits: beside published tables and classical ways to play, from committed results.

Pages show the functions that return text with the directive ``{from-package} mamlkit.report.trials:NAME``.
No torch here.
"""

__all__ = [
    "compared",
    "measured",
    "navigation",
    "navigation_curves",
    "published",
    "tabular",
    "tabular_references",
    "two_step",
]

import pandas as pd

from mamlkit import places
from mamlkit.experiments.paper import get
from mamlkit.experiments.trials import EPISODES, tabular_name
from mamlkit.report import results
from mamlkit.report.bandits import OURS, set_beside, shown
from mamlkit.report.inventory import state_cells
from mamlkit.report.texts import number, numbered

TEST, GOALS = "processes", "40 goals"
NAVIGATION = "2d-navigation-rl2", "2d-navigation-maml"
TWO_STEP = "two-step-rl2"
HORIZON = 100  # steps of an episode of 2D navigation
WAYS = ("random", "PSRL", "BEB", "epsilon-greedy", "greedy")
COLUMNS = ["episodes", "strategy", "setting", "value", "ci95", "regret", "regret_ci95", "tasks"]


def published() -> pd.DataFrame:
    """Table 2 of Duan et al. 2016: mean total reward in 1,000 processes.

    Columns: place, episodes, method, value.
    """
    return pd.read_csv(places.repository() / "data" / "published_tabular.csv")


def measured(what: str = "tabular") -> pd.DataFrame:
    """Other ways to play, by ``benchmarks/references.py``; without lines where they were not played.

    Args:
        what: ``"tabular"`` or ``"two-step"``.

    Returns:
        Columns: episodes, strategy, setting, value and ci95 (total reward), regret and regret_ci95, tasks.
    """
    path = places.repository() / "data" / "benchmarks" / what / "references.csv"
    return pd.read_csv(path) if path.exists() else pd.DataFrame(columns=COLUMNS)


def compared() -> pd.DataFrame:
    """RL^2 at each length of a trial, beside what was published of it.

    The margin is a tenth of what the published PSRL gains over playing at random; intervals are those of
    :func:`mamlkit.report.bandits.compared`.

    Returns:
        Columns: ``episodes``, and those of :func:`mamlkit.report.bandits.set_beside`.
    """
    printed = published().set_index(["episodes", "method"]).value
    lines = []
    for episodes in EPISODES:
        gain = float(printed[episodes, "PSRL"] - printed[episodes, "random"])
        line = set_beside(tabular_name(episodes), TEST, float(printed[episodes, OURS]), gain)
        lines.append({"episodes": episodes} | line)
    return pd.DataFrame(lines)


def tabular() -> str:
    """RL^2 in small Markov decision processes beside its published numbers, with verdicts."""
    found, lines = measured(), []
    for at in compared().itertuples():
        line = {"episodes": str(at.episodes), **shown(at)}
        for way in ("greedy", "BEB"):
            for one in found[(found.episodes == at.episodes) & (found.strategy == way)].itertuples():
                line[f"{way}, ours"] = number(one.value, one.ci95)
        lines.append(line)
    caption = (
        "RL² in small Markov decision processes: total reward of a trial, published (Duan et al. 2016, Table "
        "2) and ours, ± 95 % over processes or over seeds, whichever is wider; beside it two classical ways "
        "in the same processes."
    )
    right = ["episodes", "paper", "ours", "difference", "seeds", "greedy, ours", "BEB, ours"]
    return numbered(lines, caption, "tab-tabular", right)


def tabular_references() -> str:
    """The classical ways to play these as published, and played again."""
    printed = published().set_index(["episodes", "method"]).value
    found = measured().set_index(["episodes", "strategy"])
    lines = []
    for episodes in EPISODES:
        line = {"episodes": str(episodes)}
        for way in WAYS:
            line[way] = f"{printed[episodes, way]:.1f}"
            if (episodes, way) in found.index:
                ours = found.loc[(episodes, way)]
                line[way] += f" / {number(ours.value, ours.ci95)}"
        lines.append(line)
    caption = (
        "Classical ways to play small Markov decision processes: total reward, published / played again here "
        "(± 95 % over processes). Shares of epsilon-greedy and bonuses of BEB are the best of a few, chosen "
        "in other processes; their published settings are not known. OPSRL and UCRL2 were not built."
    )
    return numbered(lines, caption, "tab-tabular-references", ["episodes", *WAYS])


def navigation_curves() -> pd.DataFrame:
    """Return in 2D navigation against what was seen of the goal: RL^2 by episode, MAML by gradient step.

    Columns: ``row``, ``step`` (episode or gradient step, from 0), ``seen`` (steps of the environment before
    it, at most: an episode may end early), ``value``, ``ci95``.
    """
    lines = []
    for name in NAVIGATION:
        test = get(name).evaluations[0]
        episodes = getattr(test, "rollouts", 1)  # before each gradient step
        for step in range(test.inner_steps + 1):
            if ours := results.summary(name, GOALS, step, "return"):
                line = {"row": name, "step": step, "seen": step * episodes * HORIZON}
                lines.append(line | {"value": ours.value, "ci95": ours.deciding_ci95})
    return pd.DataFrame(lines, columns=["row", "step", "seen", "value", "ci95"])


def navigation() -> str:
    """RL^2 in 2D navigation by episode, MAML by gradient step, and the steps that each had seen before."""
    found, lines = navigation_curves(), []
    for name, what in zip(NAVIGATION, ("RL², by episode", "MAML, by gradient step")):
        line = {"": what}
        for at in found[found.row == name].itertuples():
            line[f"{at.step}"] = f"{number(at.value, at.ci95)} ({at.seen:,})"
        lines.append(line | state_cells(name))
    caption = (
        "2D navigation: return of an episode on the MAML paper's 40 test goals, ± 95 % over goals or over "
        "seeds; in brackets the most steps of the environment that were seen with the goal before. In column "
        "$k$ RL² has seen $k$ episodes, and MAML has taken $k$ gradient steps, with 40 episodes before each. "
        "MAML was trained for 8 million steps, RL² for at most as many."
    )
    return numbered(lines, caption, "tab-navigation-memory", [str(step) for step in range(4)])


def two_step() -> str:
    """RL^2 in the two-step task: total reward, beside random play and the best possible."""
    line = {"task": get(TWO_STEP).title, OURS: ""}
    if ours := results.summary(TWO_STEP, "tasks", 0, "return"):
        line[OURS] = number(ours.value, ours.deciding_ci95)
    line |= {at.strategy: number(at.value) for at in measured("two-step").itertuples()}
    caption = (
        "The two-step task (Wang et al. 2016, section 3.2.1): total reward of a trial, ± 95 % over tasks or "
        "over seeds. Random play and the best possible are exact; Wang et al. have a figure, no number."
    )
    return numbered(
        [line | state_cells(TWO_STEP)], caption, "tab-two-step", ["random", OURS, "best possible"]
    )
