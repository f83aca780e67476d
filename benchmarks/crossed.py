"""RL^2 of each kind of two-armed bandits, tested on every kind: what its state has learned to expect.

    python benchmarks/crossed.py [--tasks 5000] [--save]

Source: Wang et al. 2016, section 3.1, train and test on each of five. The committed policies of seed 0 play
the bandits of the tests, so that the diagonal has the committed regrets (but for a choice that another
processor rounds otherwise). Chapter 12 shows the table.
"""

import argparse

import pandas as pd
from kept import keep
from tqdm import tqdm

from mamlkit.experiments.bandits import PAIR_PULLS, PAIRS, BanditEvaluation, name_of
from mamlkit.experiments.paper import get
from mamlkit.measures import interval
from mamlkit.report import results
from mamlkit.runs import checkpoints, devices
from mamlkit.runs.memory import evaluate
from mamlkit.runs.provenance import provenance


def crossed(tasks: int) -> pd.DataFrame:
    """Regret of each policy on each kind: trained, tested, regret, regret_ci95, tasks."""
    rows = {kind: get(name_of(2, PAIR_PULLS, kind)) for kind in PAIRS}
    test, lines = BanditEvaluation("crossed", tasks), []
    for trained in tqdm(PAIRS):
        params = checkpoints.load_params(results.checkpoint(rows[trained].name))
        for tested in PAIRS:
            missed = evaluate(rows[tested], params, test)["regret"][:, 0]
            regret, ci95 = interval(missed)
            line = {"trained": trained, "tested": tested, "regret": regret, "regret_ci95": ci95}
            lines.append(line | {"tasks": tasks})
    return pd.DataFrame(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=5000, help="bandits of each kind")
    parser.add_argument("--save", action="store_true", help="keep the table under data/benchmarks/")
    options = parser.parse_args()
    devices.set_up("cpu", threads=1)
    found = crossed(options.tasks)
    print(found.pivot(index="trained", columns="tested", values="regret").loc[list(PAIRS), list(PAIRS)])
    if options.save:
        keep("bandit-pairs", "crossed", found, provenance("cpu, 1 thread"), "%.4f")


if __name__ == "__main__":
    main()
