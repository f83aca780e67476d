"""How strong the penalties of Table 2's averages may be: networks that still come to their sinusoids.

    python benchmarks/averages.py [--save]

The paper gives no strength. Ours is the largest power of ten with which no fewer of 100 networks come to
their sinusoids in 500 steps than without a penalty, for each penalty and each choice of initial values. The
rule uses no test. It takes a minute or two.
"""

import dataclasses

import pandas as pd
import torch
from kept import begun, keep
from tqdm import tqdm

from mamlkit.experiments.averages import AverageRow
from mamlkit.experiments.paper import get
from mamlkit.runs.averages import REACHED, AverageTraining

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
NETWORKS, STEPS = 100, 500


def main() -> None:
    save, origin = begun(__doc__)
    row = get("sinusoid-average")
    assert isinstance(row, AverageRow)
    row = dataclasses.replace(row, meta_batch_size=NETWORKS, iterations=STEPS)
    penalties = [("nothing", 0.0), *((pull, s) for pull in ("zero", "mean") for s in STRENGTHS)]
    lines = []
    for same_start in (False, True):
        for pull, strength in tqdm(penalties, desc="one start" if same_start else "own starts"):
            tried = dataclasses.replace(row, same_start=same_start, pull=pull, strength=strength)
            training = AverageTraining(tried, seed=0, device="cpu")
            with torch.no_grad():
                for step in range(STEPS):
                    training.step(step)
            reached = int(training.params[REACHED].sum())
            lines.append({"same_start": same_start, "pull": pull, "strength": strength, "reached": reached})
    table = pd.DataFrame(lines).assign(networks=NETWORKS, steps=STEPS)
    print(table.to_string(index=False))
    if save:
        keep("averages", "strength", table, origin, "%g")


if __name__ == "__main__":
    main()
