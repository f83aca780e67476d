"""RL^2 beyond bandits: beside published tables and classical ways to play, from committed results.

Pages show the functions that return text with the directive ``{from-package} mamlkit.report.trials:NAME``.
No torch here.
"""

__all__ = [
    "HORIZONS",
    "SIDE_BY_SIDE",
    "compared",
    "curves_by_seen",
    "direction",
    "measured",
    "navigation",
    "published",
    "tabular",
    "tabular_references",
    "trained",
    "two_step",
]

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mamlkit import places
from mamlkit.experiments.memory import has_memory
from mamlkit.experiments.paper import get
from mamlkit.experiments.trials import EPISODES, tabular_name
from mamlkit.report import results
from mamlkit.report.bandits import OF_A_WAY, OURS, set_beside, shown, to_run
from mamlkit.report.committed import benchmark
from mamlkit.report.inventory import state_cells, state_of
from mamlkit.report.notebook import fixed
from mamlkit.report.texts import number, numbered

TEST, GOALS = "processes", "40 goals"
# Of a task of the MAML paper: rows and what they are called.
SIDE_BY_SIDE = {
    "2d-navigation": {"2d-navigation-rl2": "RL²", "2d-navigation-maml": "MAML"},
    "half-cheetah-direction": {
        "half-cheetah-direction-rl2": "RL²",
        "half-cheetah-direction-told-rl2": "RL², told the direction",
        "half-cheetah-direction-maml": "MAML",
        "half-cheetah-direction-maml-first-order": "MAML, first order",
        "half-cheetah-direction-oracle": "MAML's oracle",
    },
}
HORIZONS = {"2d-navigation": 100, "half-cheetah-direction": 200}  # steps of an episode
HALF_CHEETAH = "HalfCheetah direction"  # in the published tables
TWO_STEP = "two-step-rl2"
COLUMNS = ["episodes", *OF_A_WAY]
WAYS = ("random", "PSRL", "BEB", "epsilon-greedy", "greedy")


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
    return benchmark(f"{what}/references", COLUMNS)


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
    found, lines, beside = measured(), [], compared()
    for at in beside.itertuples():
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
    return numbered(lines, caption, "tab-tabular", right) + to_run(beside)


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


def curves_by_seen(environment: str, goals: NDArray[np.bool_]) -> pd.DataFrame:
    """Return in a task of the MAML paper against what was seen of the goal: RL^2 by episode, MAML by step.

    Args:
        environment: a key of :data:`SIDE_BY_SIDE`.
        goals: which of the test goals, ``[40]``; of the first seed.

    Returns:
        Columns: ``row``, ``step`` (episode or gradient step, from 0), ``seen`` (steps of the environment
        before it; where episodes end early, of RL^2 at most and of MAML at least), ``value``, ``ci95``
        (Student's, since the goals are few).
    """
    lines = []
    for name in SIDE_BY_SIDE[environment]:
        test = get(name).evaluations[0]
        episodes = getattr(test, "rollouts", 1)  # before each gradient step
        for step in range(test.inner_steps + 1):
            if results.summary(name, GOALS, step, "return"):
                found = results.per_task_errors(name, 0, GOALS, "return")[goals, step]
                value, ci95 = float(found.mean()), results.student(found)[1]
                line = {"row": name, "step": step, "seen": step * episodes * HORIZONS[environment]}
                lines.append(line | {"value": value, "ci95": ci95})
    return pd.DataFrame(lines, columns=["row", "step", "seen", "value", "ci95"])


def trained(environment: str) -> pd.DataFrame:
    """How training went in a task of the MAML paper, against the steps of the environment that it took.

    Args:
        environment: a key of :data:`SIDE_BY_SIDE`.

    Returns:
        Columns: ``row``, ``steps`` (so far; RL^2's at most, MAML's at least, since an episode may end early),
        ``value``: the mean return of an episode in training, RL^2's of all episodes of a trial, MAML's of
        those after the inner step.
    """
    parts = []
    for name in SIDE_BY_SIDE[environment]:
        log = results.training_log(name)
        value = log.get("return_after", log.get("return_before"))
        if has_memory(name) and "return" in log:
            value = log["return"] / get(name).settings["episodes"]
        if value is not None:
            steps = log.iteration * _of_iteration(name, environment)
            parts.append(pd.DataFrame({"row": name, "steps": steps, "value": value}))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["row", "steps", "value"])


def _of_iteration(name: str, environment: str) -> int:
    """Steps of the environment in an iteration of training.

    RL^2 takes fewer where an episode ends early. Algorithm 3 samples until it has them, and keeps the
    episodes that are begun then: where episodes end early that is a little more.
    """
    row = get(name).settings
    if has_memory(name):
        return row["meta_batch_size"] * row["episodes"] * HORIZONS[environment]
    parts = 2 if row["inner_lr"] else 1  # before the inner step and after it
    return parts * row["meta_batch_size"] * row["rollouts"] * HORIZONS[environment]


def _training(environment: str) -> str:
    """For how many steps of the environment each was trained, in words."""
    lines = []
    for name, what in SIDE_BY_SIDE[environment].items():
        if found := results.counted(results.load(name)):
            steps = found[0]["iterations_done"] * _of_iteration(name, environment)
            lines.append(f"{what} {fixed(steps / 1e6, 0)}")
    return f"Million steps in training: {'; '.join(lines)}." if lines else ""


def navigation() -> str:
    """RL^2 in 2D navigation by episode, MAML by gradient step, and the steps that each had seen before."""
    found, lines = curves_by_seen("2d-navigation", np.full(40, True)), []
    for name, what in SIDE_BY_SIDE["2d-navigation"].items():
        words = f"{what}, by {'episode' if has_memory(name) else 'gradient step'}"
        lines.append({"method": words} | _cells(found[found.row == name]) | state_cells(name))
    caption = (
        "2D navigation: return of an episode on the MAML paper's 40 test goals, ± 95 % over goals, of seed 0 "
        "of each (another seed of MAML is far below: see chapter 5); in brackets the environment's steps "
        "that were seen with the goal before, of RL² at most and of MAML at least, since episodes may end "
        "early. In column $k$ RL² has seen $k$ episodes, and "
        "MAML has taken $k$ gradient steps, with 40 episodes or more before each. RL² is told each reward "
        "also while it is measured, and each of its episodes counts; MAML's that are not finished when it "
        "has its steps are left out, which prefers short ones. "
        + _training("2d-navigation")
        + " Since episodes may end early, that is RL²'s at most, and MAML has a little more."
    )
    return numbered(lines, caption, "tab-navigation-memory", list(_cells(found)))


def direction() -> str:
    """As :func:`navigation`, for the HalfCheetah that shall run forward or backward, and the paper's MAML."""
    lines = []
    published = results.published()
    published = published[(published.setting == HALF_CHEETAH) & (published.method == "MAML")]
    for way, goals in results.directions(HALF_CHEETAH).items():
        found = curves_by_seen("half-cheetah-direction", goals)
        for name, what in SIDE_BY_SIDE["half-cheetah-direction"].items():
            line = {"goal": way, "method": what} | _cells(found[found.row == name])
            lines.append(line if state_of(name) == "complete" else line | state_cells(name))
        theirs = {
            _column(at.step): number(np.array(at.by_goal)[goals].mean()) for at in published.itertuples()
        }
        lines.append({"goal": way, "method": "MAML, published"} | theirs)
    caption = (
        "HalfCheetah direction: return of an episode on the MAML paper's 40 test goals by their direction, ± "
        "95 % over the 18 or 22 goals, of one training each, with 20 trials or episodes at each goal; in "
        "brackets the steps of the environment that were seen with the goal before. In column $k$ RL² has "
        "seen $k$ episodes, and MAML has taken $k$ gradient steps, with 20 episodes before each. RL² is told "
        "each reward also while it is measured. " + _training("half-cheetah-direction")
    )
    return numbered(lines, caption, "tab-direction-memory", list(_cells(found)))


def _cells(found: pd.DataFrame) -> dict[str, str]:
    """By step, from 0 to 3."""
    told = {_column(at.step): f"{number(at.value, at.ci95)} ({at.seen:,})" for at in found.itertuples()}
    return dict.fromkeys(map(_column, range(4)), "") | told


def _column(step: int) -> str:
    """The head of the column of a step."""
    return f"k = {step}"


def two_step() -> str:
    """RL^2 in the two-step task: total reward, beside random play and the best possible."""
    line = {"task": get(TWO_STEP).title, OURS: ""}
    if ours := results.summary(TWO_STEP, "tasks", 0, "return"):
        line |= {OURS: number(ours.value, ours.deciding_ci95), "seeds": str(len(ours.seeds))}
    line |= {at.strategy: number(at.value) for at in measured("two-step").itertuples()}
    caption = (
        "The two-step task (Wang et al. 2016, section 3.2.1): total reward of a trial, ± 95 % over tasks or "
        "over the trainings (seeds) of RL², whichever is wider. Random play and the best possible are exact; "
        "Wang et al. have a figure, no number."
    )
    return numbered(
        [line | state_cells(TWO_STEP)], caption, "tab-two-step", [OURS, "seeds", "random", "best possible"]
    )
