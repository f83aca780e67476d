"""MAML, and nearest neighbours, on sequences of labelled images: the 2nd and the 5th drawing of a class.

    python benchmarks/instances.py [--tasks 300] [--save]

Chapter 11 shows the table; it needs Omniglot and takes some minutes.
"""

import argparse

import pandas as pd
import torch
from kept import keep
from tqdm import tqdm

from mamlkit.experiments.paper import get
from mamlkit.measures import interval
from mamlkit.report import results
from mamlkit.runs import checkpoints, devices
from mamlkit.runs.provenance import provenance
from mamlkit.runs.sequences import accuracy_by_instance

READER = "omniglot-sequences-mann"
TRAINED = (
    "omniglot-no-conv-5way-1shot",
    "omniglot-no-conv-5way-5shot",
    "omniglot-5way-1shot",
    "omniglot-5way-5shot",
)
FLOOR = "compare-omniglot-5way-1shot-pixels"
INSTANCES = (2, 5)
LOSSES = ("mean", "own")  # of the inner update, see accuracy_by_instance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--save", action="store_true", help="keep the table under data/benchmarks/")
    options = parser.parse_args()
    devices.set_up("cpu", threads=1)
    origin = provenance("cpu, 1 thread")
    lines = []
    for name in tqdm((FLOOR, *TRAINED)):
        of_pixels = {"scale": torch.ones(1)}
        params = of_pixels if name == FLOOR else checkpoints.load_params(results.checkpoint(name))
        of_row = results.load(name)[0]  # of seed 0, as the parameters
        trained = {key: of_row[key] for key in ("iterations_done", "fingerprint")}
        for loss in LOSSES[: 1 if name == FLOOR else None]:
            found = accuracy_by_instance(
                get(name),
                params,
                get(READER),
                instances=INSTANCES,
                n_tasks=options.tasks,
                own_loss=loss == "own",
            )
            for instance, column in zip(INSTANCES, found.T):
                mean, ci95 = interval(column)
                line = {"row": name, "loss": loss, "instance": instance, "value": mean, "ci95": ci95}
                lines.append(line | trained)
    table = pd.DataFrame(lines).assign(tasks=options.tasks)
    print(table.to_string(index=False, float_format="%.2f"))
    if options.save:
        keep("instances", "accuracy", table, origin, "%.3f")


if __name__ == "__main__":
    main()
