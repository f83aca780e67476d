"""Both readings of Table 2's averages, from made-up results."""

import numpy as np

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


def test_what_was_not_run_says_so(repository):
    assert averages.starts().count("not run") == 18 and "Not measured yet" in averages.strengths()
