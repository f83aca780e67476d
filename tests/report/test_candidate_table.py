"""The table of candidates, from made-up logs: what it says is what a hand computes."""

import json

import numpy as np
import pandas as pd
import pytest

from made_results import commit
from mamlkit.experiments import paper
from mamlkit.experiments.candidates import AGAIN, AUTHORS, is_candidate
from mamlkit.report import candidates

ROWS = [name for name in paper.ROWS if is_candidate(name)]


def logged(repository, name, before, after, *, seed=0, beyond=None, iterations=50, processor="AMD EPYC"):
    """Commit a run whose returns are straight lines over the iterations: ``(start, slope)`` each."""
    commit(repository, name, seed=seed, errors=np.zeros((40, 4)), tasks=40)
    at = np.arange(1, iterations + 1)
    log = {"iteration": at, "seconds": at, "return_before": before[0] + before[1] * at}
    log |= {"return_after": after[0] + after[1] * at} | ({} if beyond is None else {"beyond_clip": beyond})
    path = repository / "data" / "results" / name / f"seed{seed}.metrics.csv"
    pd.DataFrame(log).to_csv(path, index=False)
    result = json.loads((described := path.with_name(f"seed{seed}.json")).read_text())
    result["origin"] = [part | {"processor": processor} for part in result["origin"]]
    described.write_text(json.dumps(result))
    return path


def shown(text):
    """Lines of a table by the words of their first cell: column to cell."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    plain = [[cell.strip().replace("\N{NO-BREAK SPACE}", " ") for cell in row] for row in rows]
    return {row[0]: dict(zip(plain[0], row)) for row in plain[1:]}


def test_what_nobody_has_run_says_so_with_its_name(repository):
    found = shown(candidates.table())
    for name in ROWS:
        assert sum(changed.endswith(f" `{name}`") for changed in found) == 1
    assert sum("not run" in changed for changed in found) == len(ROWS) + len(candidates.LONG_ROWS)
    assert all("not measured" in effect() for effect in (candidates.task_mix, candidates.solver))
    assert len(candidates.curves(AUTHORS)) == 0


def test_published_points_stand_beside(repository):
    found = shown(candidates.table())
    assert found["published, Fig. 5, KL bound 0.02"]["iteration 100"] == "293"
    assert found["published, cbfinn/maml_rl `7fe27d7`, KL bound 0.01"]["iteration 50"] == "172"
    values = candidates.published().set_index(["iteration", "step"])
    assert values.value[100, 1] == 293.19 and set(values.max_kl[100]) == {0.02} and len(values) == 8


def test_the_table_is_what_a_hand_computes(repository):
    # the mean of five iterations up to k of a straight line is its value at k - 2
    logged(repository, AUTHORS, (-40, 0), (-42, 1.0), seed=0, beyond=0.5)
    intel = "Intel(R) Xeon(R) Processor"
    logged(repository, AUTHORS, (-20, 0), (-22, 1.5), seed=3, beyond=0.7, processor=intel)
    logged(repository, "candidate-pgs", (0, -1), (0, 2), beyond=0.25, processor=intel)
    logged(repository, "half-cheetah-direction-maml-first-order", (0, 0), (0, 2), iterations=120)
    found = shown(candidates.table())
    line = found["nothing"]
    assert line["seeds"] == "2" and line["beyond the clip"] == "60 %"
    assert line["processor"] == "AMD (0); Intel (3)"
    # after at 10: 8 - 42 = -34 and 12 - 22 = -10; at 25: -19 and 12.5; at 50: 6 and 50
    assert line["iteration 10"] == "−22 (−34 to −10)"
    assert line["iteration 50"] == "28 (6 to 50)" and line["iteration 100"] == "–"
    line = found["solver PGS"]
    assert (line["iteration 25"], line["iteration 50"]) == ("46", "96")
    assert line["seeds"] == "1" and line["beyond the clip"] == "25 %"
    line = found["first order, a longer run"]
    assert (line["iteration 100"], line["beyond the clip"]) == ("196", "–")
    assert candidates.measured(AUTHORS, 25).after.tolist() == [-19, 12.5]
    text = candidates.solver()
    assert (
        "iteration 50: 96 with projected Gauss-Seidel (seed 0, Intel Xeon). With the authors' settings: "
        "6 (seed 0, AMD EPYC)." in text
    )
    assert "elliptic" not in text and "several numbers" not in text
    assert "not measured" in candidates.task_mix()  # of which nothing was run


def test_means_have_all_their_iterations(repository):
    path = logged(repository, AUTHORS, (0, 0), (0, 1))
    log = pd.read_csv(path)
    log[log.iteration != 23].to_csv(path, index=False)
    found = candidates.curves(AUTHORS).set_index("iteration").after
    assert found[:4].isna().all() and found.loc[23.5:27].isna().all()
    assert found[22] == 20 and found[28] == 26


def test_stale_runs_do_not_count(repository):
    path = logged(repository, AUTHORS, (0, 0), (0, 1)).with_name("seed0.json")
    result = json.loads(path.read_text())
    result["settings"]["max_kl"] = 0.5
    path.write_text(json.dumps(result))
    stale = f'nothing <span class="verdict-stale">stale</span> `{AUTHORS}`'
    assert len(candidates.curves(AUTHORS)) == 0 and stale in shown(candidates.table())


def test_every_candidate_has_a_look_of_its_own():
    from mamlkit.report import plots_rl

    looks = plots_rl.CANDIDATE_STYLES
    changed = [name for name in ROWS if name not in (AUTHORS, AGAIN)]
    assert len(set(looks)) == len(looks) >= len(changed)


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_figure_has_a_line_for_each_seed_and_each_candidate(repository, seeds):
    import matplotlib.pyplot as plt

    from mamlkit.report import plots_rl

    for seed in range(seeds):
        logged(repository, AUTHORS, (0, 0), (0, 1), seed=seed)
        logged(repository, "candidate-pgs", (0, 0), (0, 2 + seed), seed=seed)
    fig, ax = plt.subplots()
    runs = {name: candidates.curves(name) for name in ("candidate-pgs", "candidate-bound")}
    plots_rl.candidate_returns(ax, candidates.curves(AUTHORS), runs, candidates.published())
    assert len(ax.lines) == seeds + 2
    mean, stars = ax.lines[-2:]
    assert mean.get_ydata()[-1] == 48 * np.mean(np.arange(seeds) + 2)
    assert list(zip(*stars.get_data())) == [(50, 172.23)]  # the other lies far to the right of the lines
    assert 50 < ax.get_xlim()[1] < 60
    labels = list(ax.get_legend_handles_labels()[1])
    assert labels == ["the authors' settings, each seed", "candidate-pgs", "published"]
    plt.close(fig)
