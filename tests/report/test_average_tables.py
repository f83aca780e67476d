"""Both readings of Table 2's averages, from made-up results."""

import json

import numpy as np
import pandas as pd

from made_results import commit
from mamlkit.report import averages


def test_each_reading_has_its_own_verdict(repository):
    errors = np.full((400, 11), 3.6) + np.linspace(-0.5, 0.5, 400)[:, None]
    commit(repository, "sinusoid-average-same-start", errors=errors)
    commit(repository, "sinusoid-average", errors=errors + 2)
    lines = [line for line in averages.starts().splitlines() if line.startswith("| no regularisation")]
    assert [line.count(">reproduced") for line in lines] == [0, 1, 1]  # 4.19, 3.85 and 3.69 beside 3.6
    assert [line.count(">differs") for line in lines] == [2, 1, 1]
    assert (
        "consistent with the paper, are 0 of 9 with own initial values and 2 of 9 with the same"
        in averages.starts()
    )


def test_each_strength_stands_with_the_networks_that_came_to_their_sinusoids(repository):
    folder = repository / "data" / "benchmarks" / "averages"
    folder.mkdir(parents=True)
    lines = [(True, "zero", 0.1, 7), (True, "zero", 0.01, 31), (True, "zero", 0.001, 29)]
    table = pd.DataFrame(lines, columns=["same_start", "pull", "strength", "reached"])
    table.assign(networks=50, steps=100).to_csv(folder / "strength.csv", index=False)
    origin = {"processor": "a processor", "date": "a day", "commit": "0123456789"}
    (folder / "origin.json").write_text(json.dumps(origin))
    head, _, line = [row for row in averages.strengths().splitlines() if row.startswith("|")]
    found = dict(zip(*([cell.strip() for cell in row.split("|")[1:-1]] for row in (head, line))))
    assert found == {
        "initial values": "the same",
        "penalty": "weight decay",
        "0.1": "7",
        "0.01": "31",
        "0.001": "29",
    }


def test_what_was_not_run_says_so(repository):
    assert averages.starts().count("not run") == 18 and "Not measured yet" in averages.strengths()
