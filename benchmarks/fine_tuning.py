"""Which rate fine-tunes the pretrained classifier best, on validation tasks: the baseline of Table 1.

    python benchmarks/fine_tuning.py [--tasks 100] [--save]

Ravi & Larochelle search the rate on 100 validation tasks, too; theirs is a step on the mean loss, a fifth of
ours, so that 0.1 and 0.02 here are their 0.5 and 0.1. It needs Mini-ImageNet and takes some minutes.
"""

import argparse
import dataclasses

import pandas as pd
from kept import keep
from tqdm import tqdm

from mamlkit.experiments.paper import get
from mamlkit.measures import interval
from mamlkit.report import results
from mamlkit.runs import checkpoints, devices, supervised
from mamlkit.runs.provenance import provenance

ROW = "mini-imagenet-pretrained"
RATES = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--save", action="store_true", help="keep the table under data/benchmarks/")
    options = parser.parse_args()
    devices.set_up("cpu", threads=1)
    origin = provenance("cpu, 1 thread")
    row, params = get(ROW), checkpoints.load_params(results.checkpoint(ROW))
    of_row = results.load(ROW)[0]  # of seed 0, as the parameters
    trained = {key: of_row[key] for key in ("iterations_done", "fingerprint")}
    lines = []
    for test in row.evaluations:
        for rate in tqdm(RATES, desc=test.name):
            tried = dataclasses.replace(test, inner_lr=rate)
            found = supervised.evaluate(row, params, tried, split="val", n_tasks=options.tasks)
            mean, ci95 = interval(found["accuracy"][:, -1])
            lines.append({"test": test.name, "rate": rate, "value": mean, "ci95": ci95} | trained)
    table = pd.DataFrame(lines).assign(steps=test.inner_steps, tasks=options.tasks)
    print(table.to_string(index=False, float_format="%.3f"))
    if options.save:
        keep("fine-tuning", "accuracy", table, origin, "%.3f")


if __name__ == "__main__":
    main()
