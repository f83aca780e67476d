"""The classical ways to play what RL^2 is tested on, with the settings that play other tasks best.

    python benchmarks/references.py [bandits | tabular | two-step] [--tasks 5000] [--save]

The results page shows the tables; the first two take some minutes. RL^2's rows are tested on the same tasks.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import pandas as pd
from kept import keep
from tqdm import tqdm

from mamlkit.experiments.bandits import CELLS, PAIR_PULLS, PAIRS, BanditEvaluation, BanditRow, name_of
from mamlkit.experiments.paper import get
from mamlkit.experiments.trials import EPISODES, TrialEvaluation, TrialRow, tabular_name
from mamlkit.measures import interval
from mamlkit.rl import bandit_values, bandits, tabular_play, two_step
from mamlkit.runs import devices
from mamlkit.runs.bandits import of_strategy
from mamlkit.runs.memory import of_play
from mamlkit.runs.provenance import provenance

TUNING_SEED, TUNING_TASKS = 1, 2000  # the tests have seed 0
# Each way with its candidates, of which the first is all where nothing is to be chosen.
WIDTHS, SHARES, DISCOUNTS = (0.05, 0.1, 0.2, 0.3, 0.5), (0.01, 0.02, 0.05, 0.1), (0.9, 0.97, 0.99)
BONUSES = (0.1, 0.25, 0.5, 1.0, 2.0)
Ways = Mapping[str, tuple[tuple[float, ...], Callable[[float], Any]]]
indices = cache(bandits.gittins)  # its table takes seconds, and is the same for any number of arms


def ways(pulls: int) -> Ways:
    """Name to candidates, and what makes the strategy of one."""
    longer = (0.995,) if pulls > 100 else ()
    return {
        "random": ((0.0,), lambda _: bandits.random),
        "Gittins": (DISCOUNTS + longer, lambda discount: indices(pulls, discount)),
        "Thompson": ((0.0,), lambda _: bandits.thompson),
        "UCB1": (WIDTHS, bandits.ucb1),
        "epsilon-greedy": (SHARES, bandits.epsilon_greedy),
        "greedy": ((0.0,), lambda _: bandits.greedy),
    }


TABULAR_WAYS: Ways = {
    "random": ((0.0,), lambda _: tabular_play.random),
    "PSRL": ((0.0,), lambda _: tabular_play.posterior),
    "BEB": (BONUSES, tabular_play.bonus),
    "epsilon-greedy": (SHARES, tabular_play.epsilon_greedy),
    "greedy": ((0.0,), lambda _: tabular_play.greedy),
}


def best_possible(kind: str) -> float:
    """Regret of the best play of two arms."""
    if kind == "independent":
        most = PAIR_PULLS * bandit_values.best_arm(2)
        return most - bandit_values.optimal_independent(PAIR_PULLS)
    if (pair := bandits.KINDS[kind]) is None:
        return 0.75 * PAIR_PULLS - bandit_values.optimal_dependent(PAIR_PULLS)
    return max(pair) * PAIR_PULLS - bandit_values.optimal_known_pair(PAIR_PULLS, max(pair))


def of_bandits(row: BanditRow, tasks: int) -> Iterator[dict[str, object]]:
    """A line for each way to play a row's bandits."""
    what = {"kind": row.kind, "arms": row.arms, "pulls": row.pulls}
    play = lambda way, tasks, seed: of_strategy(row, way, BanditEvaluation("test", tasks), seed)
    yield from (what | line for line in lines(ways(row.pulls), play, tasks))
    if row.arms == 2:
        yield what | {"strategy": "best possible", "regret": best_possible(row.kind)}


def of_tabular(row: TrialRow, tasks: int) -> Iterator[dict[str, object]]:
    """A line for each way to play a row's processes."""
    play = lambda way, tasks, seed: of_play(row, way, TrialEvaluation("test", tasks), seed)
    yield from ({"episodes": row.episodes} | line for line in lines(TABULAR_WAYS, play, tasks))


def of_two_step(row: TrialRow, tasks: int) -> Iterator[dict[str, object]]:
    """Random play, of which half of the rounds pay, and the best possible: both exact."""
    for name, value in (("random", row.episodes / 2), ("best possible", two_step.best_total(row.episodes))):
        yield {"episodes": row.episodes, "strategy": name, "value": value}


def lines(ways: Ways, play: Callable[..., Any], tasks: int) -> Iterator[dict[str, object]]:
    """What each way gets, with the candidate that has the least regret on other tasks."""
    for name, (candidates, make) in ways.items():
        made = {setting: make(setting) for setting in candidates}
        few = min(tasks, TUNING_TASKS)
        mean = lambda at, made=made, few=few: play(made[at], few, TUNING_SEED)["regret"].mean()
        setting = min(candidates, key=mean) if len(candidates) > 1 else candidates[0]
        found = play(made[setting], tasks, 0)
        value, ci95 = interval(found["return"][:, 0])
        regret, regret_ci95 = interval(found["regret"][:, 0])
        line = {"strategy": name, "setting": setting, "value": value, "ci95": ci95}
        yield line | {"regret": regret, "regret_ci95": regret_ci95, "tasks": tasks}


NAMES = {
    "bandits": [
        *(name_of(arms, pulls) for pulls, arms in CELLS),
        *(name_of(2, PAIR_PULLS, kind) for kind in PAIRS),
    ],
    "tabular": [tabular_name(episodes) for episodes in EPISODES],
    "two-step": ["two-step-rl2"],
}
MADE: dict[str, Callable[..., Iterator[dict[str, object]]]] = {
    "bandits": of_bandits,
    "tabular": of_tabular,
    "two-step": of_two_step,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", default=list(NAMES), metavar=" | ".join(NAMES))
    parser.add_argument("--tasks", type=int, help="of each test; 5000 bandits, 1000 processes if left out")
    parser.add_argument("--save", action="store_true", help="keep the tables under data/benchmarks/")
    options = parser.parse_args()
    if unknown := set(options.what) - NAMES.keys():
        parser.error(f"{', '.join(unknown)}: there are {', '.join(NAMES)}")
    devices.set_up("cpu", threads=1)
    origin = provenance("cpu, 1 thread")
    for what in options.what:
        tasks = options.tasks or (5000 if what == "bandits" else 1000)
        found = [line for name in tqdm(NAMES[what]) for line in MADE[what](get(name), tasks)]
        table = pd.DataFrame(found)
        print(table.to_string(index=False, float_format="%.3f"))
        if options.save:
            keep(what, "references", table, origin, "%.4f")


if __name__ == "__main__":
    main()
