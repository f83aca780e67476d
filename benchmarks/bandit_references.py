"""The classical ways to play the bandits that RL^2 is tested on, with the settings that play others best.

    python benchmarks/bandit_references.py [--tasks 5000] [--save]

The results page shows the table; it takes some minutes. RL^2's rows are tested on the same bandits.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import cache

import pandas as pd
from tqdm import tqdm

from mamlkit import files, places
from mamlkit.experiments.bandits import CELLS, PAIR_PULLS, PAIRS, BanditEvaluation, BanditRow, name_of
from mamlkit.experiments.paper import get
from mamlkit.measures import interval
from mamlkit.rl import bandit_values, bandits
from mamlkit.runs import devices
from mamlkit.runs.bandits import of_strategy
from mamlkit.runs.provenance import provenance

TUNING_SEED, TUNING_TASKS = 1, 2000  # the tests have seed 0
# Each way with its candidates, of which the first is all where nothing is to be chosen.
WIDTHS, SHARES, DISCOUNTS = (0.05, 0.1, 0.2, 0.3, 0.5), (0.01, 0.02, 0.05, 0.1), (0.9, 0.97, 0.99)
Made = Callable[[float], bandits.Strategy]
indices = cache(bandits.gittins)  # its table takes seconds, and is the same for any number of arms


def ways(pulls: int) -> dict[str, tuple[tuple[float, ...], Made]]:
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


def best_possible(kind: str) -> float:
    """Regret of the best play of two arms."""
    if kind == "independent":
        most = PAIR_PULLS * bandit_values.best_arm(2)
        return most - bandit_values.optimal_independent(PAIR_PULLS)
    if (pair := bandits.KINDS[kind]) is None:
        return 0.75 * PAIR_PULLS - bandit_values.optimal_dependent(PAIR_PULLS)
    return max(pair) * PAIR_PULLS - bandit_values.optimal_known_pair(PAIR_PULLS, max(pair))


def played(row: BanditRow, tasks: int) -> Iterator[dict[str, object]]:
    """A line for each way to play a row's bandits."""
    few = BanditEvaluation("tuning", min(tasks, TUNING_TASKS))
    what = {"kind": row.kind, "arms": row.arms, "pulls": row.pulls}
    for name, (candidates, make) in ways(row.pulls).items():
        made = {setting: make(setting) for setting in candidates}
        mean = lambda at, made=made: of_strategy(row, made[at], few, TUNING_SEED)["regret"].mean()
        setting = min(candidates, key=mean) if len(candidates) > 1 else candidates[0]
        found = of_strategy(row, made[setting], BanditEvaluation("test", tasks))
        value, ci95 = interval(found["return"][:, 0])
        regret, regret_ci95 = interval(found["regret"][:, 0])
        line = {"strategy": name, "setting": setting, "value": value, "ci95": ci95}
        yield what | line | {"regret": regret, "regret_ci95": regret_ci95, "tasks": tasks}
    if row.arms == 2:
        line = {"strategy": "best possible", "regret": best_possible(row.kind)}
        yield what | line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=5000)
    parser.add_argument("--save", action="store_true", help="keep the table under data/benchmarks/")
    options = parser.parse_args()
    devices.set_up("cpu", threads=1)
    origin = provenance("cpu, 1 thread(s)")
    names = [name_of(arms, pulls) for pulls, arms in CELLS]
    names += [name_of(2, PAIR_PULLS, kind) for kind in PAIRS]
    lines = [line for name in tqdm(names) for line in played(get(name), options.tasks)]
    table = pd.DataFrame(lines)
    print(table.to_string(index=False, float_format="%.3f"))
    if options.save:
        folder = places.repository() / "data" / "benchmarks" / "bandits"
        folder.mkdir(parents=True, exist_ok=True)
        files.write_text(folder / "references.csv", table.to_csv(index=False, float_format="%.4f"))
        files.write_json(folder / "origin.json", origin)
        print(f"kept in {folder}")


if __name__ == "__main__":
    main()
