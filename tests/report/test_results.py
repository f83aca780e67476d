"""The committed results, and what is made of results: intervals, lines of the table."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from made_results import begin, commit
from mamlkit import __main__, measures, places
from mamlkit.experiments import paper, rows
from mamlkit.experiments.averages import AverageRow
from mamlkit.experiments.chains import ChainRow
from mamlkit.experiments.memory import MemoryRow
from mamlkit.report import beside, inventory, pages, results, verdicts
from mamlkit.rl.memory import policy_of
from mamlkit.runs import (
    chains,
    checkpoints,
    keeping,
    logs,
    memory,
    seeds,
    supervised,
    supervised_training,
    trainings,
)
from mamlkit.runs import policies as rl_train

COMMITTED = sorted((places.repository() / "data" / "results").glob("*/seed*.json"))
ids = lambda path: f"{path.parent.name}-{path.stem}"


# -- published.csv


def test_published_numbers_name_experiments_that_exist():
    printed = results.published()
    for _, line in printed[printed.row != ""].iterrows():
        row = paper.ROWS[line.row]
        evaluation = {e.name: e for e in row.evaluations}[line.evaluation]
        assert 0 <= line.step <= evaluation.inner_steps
        assert line.metric == row.metric
    assert (printed[printed.row == ""].evaluation == "").all()
    assert not printed.duplicated(["place", "setting", "method", "step", "metric"]).any()
    assert set(printed.metric) <= results.UNITS.keys()


def test_classification_is_compared_at_the_headline_step():
    printed = results.published()
    for _, line in printed[(printed.row != "") & (printed.metric == "accuracy")].iterrows():
        test = next(e for e in paper.ROWS[line.row].evaluations if e.name == line.evaluation)
        fine_tuned = line.method == "fine-tuning baseline"  # the same run's nearest neighbour is the headline
        assert line.step == (test.inner_steps if fine_tuned else test.headline_step)


# -- lines of the table, from results made up in a repository of their own


def line(place="Table 2", method="MAML", step=10, **keys):
    found = beside.table()
    mask = (found.place == place) & (found.method == method) & (found.step == step)
    for key, value in keys.items():
        mask &= found[key] == value
    (only,) = [entry for _, entry in found[mask].iterrows()]
    return only


def test_without_results_everything_is_not_run(repository):
    assert set(beside.table().verdict) == {"not run"}
    assert results.summary("sinusoid-maml", "K=5", 10, "mse") is None
    assert "not run" in beside.table_text()


def test_what_is_not_there_is_not_taken_for_not_run(repository):
    commit(repository, "sinusoid-maml")
    with pytest.raises(ValueError, match="no experiment is called 'sinusoid-mml'; do you mean sinusoid-maml"):
        results.summary("sinusoid-mml", "K=5", 1, "mse")
    with pytest.raises(ValueError, match="do you mean sinusoid-maml"):
        results.checkpoint("sinusoid-mml")
    for test, metric in (("K=6", "mse"), ("K=5", "accuracy")):
        with pytest.raises(ValueError, match=rf"test '{test}', metric '{metric}', but .* has K=5: mse; K=10"):
            results.summary("sinusoid-maml", test, 1, metric)
    for step in (-1, 11):
        with pytest.raises(ValueError, match=f"step={step}, but test 'K=5' of sinusoid-maml has 0 to 10"):
            results.summary("sinusoid-maml", "K=5", step, "mse")
    with pytest.raises(FileNotFoundError, match="sinusoid-maml, seed 5, are committed; those of seeds 0 are"):
        results.per_task_errors("sinusoid-maml", 5, "K=5", "mse")


def test_one_seed_by_hand(repository):
    errors = np.tile(np.linspace(0.1, 0.6, 400)[:, None], (1, 11))
    commit(repository, "sinusoid-maml", errors=errors)
    ours = results.summary("sinusoid-maml", "K=5", 10, "mse")
    assert ours.value == pytest.approx(0.35, abs=1e-5)
    sd = math.sqrt(sum((e - 0.35) ** 2 for e in errors[:, 0]) / 400)
    assert ours.ci95 == pytest.approx(1.96 * sd / 20, rel=1e-3)
    assert (ours.seeds, ours.tasks, ours.diverged, math.isnan(ours.seed_sd)) == ((0,), 400, 0, True)
    entry = line()
    assert entry.difference == pytest.approx(0.0, abs=1e-5)
    theirs = 1.96 * sd / math.sqrt(600)  # the paper prints none: as that of ours on its 600 tasks
    assert entry.paper_ci95 == pytest.approx(theirs, rel=1e-3)
    assert entry.difference_ci95 == pytest.approx(math.hypot(ours.ci95, theirs), rel=1e-3)
    assert entry.verdict == "reproduced"
    assert "sinusoid-maml, seed 0, commit" in entry.origin


def test_two_seeds_by_hand(repository):
    one = np.tile(np.linspace(0.1, 0.5, 400)[:, None], (1, 11))
    other = 1.0 - one
    commit(repository, "sinusoid-maml", seed=0, errors=one)
    commit(repository, "sinusoid-maml", seed=1, errors=other)  # its tasks are not kept
    ours = results.summary("sinusoid-maml", "K=5", 10, "mse")
    assert ours.value == pytest.approx(0.5, abs=1e-5)
    assert ours.ci95 == pytest.approx(1.96 * one[:, 0].std() / 20, rel=1e-3)
    assert ours.seed_sd == pytest.approx(abs(0.7 - 0.3) / math.sqrt(2), abs=1e-5)
    assert ours.seeds == (0, 1)
    # Student's t with one degree of freedom has its 97.5 % point at tan(0.475 pi)
    assert ours.seed_ci95 == pytest.approx(math.tan(0.475 * math.pi) * ours.seed_sd / math.sqrt(2))
    theirs = 1.96 * one[:, 0].std() / math.sqrt(600)  # of one training
    assert line().difference_ci95 == pytest.approx(math.hypot(ours.seed_ci95, theirs), rel=1e-4)
    assert line().verdict == "inconclusive"


def test_the_interval_over_tasks_is_that_of_their_means_over_seeds(repository):
    one = np.tile(np.linspace(0.1, 0.5, 400)[:, None], (1, 11))
    commit(repository, "omniglot-5way-1shot", seed=0, errors=one)
    commit(repository, "omniglot-5way-1shot", seed=1, errors=1.0 - one)  # so the means are all the same
    test = paper.get("omniglot-5way-1shot").evaluations[0].name
    ours = results.summary("omniglot-5way-1shot", test, 3, "accuracy")
    assert ours.value == pytest.approx(0.5, abs=1e-5) and ours.ci95 == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("name", ["sinusoid-maml", "omniglot-5way-1shot", "2d-navigation-maml"])
def test_every_step_and_metric_has_a_summary(name, repository):
    """Of single tasks some steps are kept; the interval of the others is that of one training."""
    for seed in (0, 1):
        commit(repository, name, seed=seed)
    row = paper.get(name)
    for test in row.evaluations:
        for metric in ("accuracy", "cross_entropy") if row.metric == "accuracy" else (row.metric,):
            for step in range(test.inner_steps + 1):
                ours = results.summary(name, test.name, step, metric)
                kept = metric == "return" or (metric != "cross_entropy" and step in measures.STEPS_KEPT)
                assert math.isnan(ours.median) == (not kept), (metric, step)
                assert ours.value == pytest.approx(1, abs=0.05) and 0 < ours.ci95 <= 1.05 * ours.one_ci95
                assert (ours.ci95 == ours.one_ci95) == (not kept)


def test_seeds_count_though_their_tasks_are_not_kept(repository):
    errors = np.tile(np.linspace(0.1, 0.5, 400)[:, None], (1, 11))
    by_hand = 1.96 * errors[:, 0].std() / 20
    further = measures.seeds_kept("sinusoid-maml")
    commit(repository, "sinusoid-maml", seed=further, errors=errors)
    alone = results.summary("sinusoid-maml", "K=5", 10, "mse")
    assert alone.ci95 == pytest.approx(by_hand, rel=2e-3) and math.isnan(alone.median)
    commit(repository, "sinusoid-maml", seed=0, errors=errors + 0.2)
    ours = results.summary("sinusoid-maml", "K=5", 10, "mse")
    assert ours.value == pytest.approx(0.4) and ours.seeds == (0, further)
    assert ours.ci95 == pytest.approx(by_hand, rel=2e-3) and ours.median == pytest.approx(0.5, abs=1e-3)
    assert ours.seed_sd == pytest.approx(0.2 / math.sqrt(2))


def test_the_median_is_that_of_the_tasks_of_all_seeds(repository):
    for seed, errors in ((0, np.full((400, 11), 60.0)), (1, np.full((400, 11), 80.0))):
        errors[:100] = 70.0
        commit(repository, "omniglot-5way-1shot", seed=seed, errors=errors)
    test = paper.get("omniglot-5way-1shot").evaluations[0].name
    assert results.summary("omniglot-5way-1shot", test, 3, "accuracy").median == 70


def test_the_difference_combines_both_intervals(repository):
    errors = 98.0 + np.tile(np.array([-2.0, 2.0] * 200)[:, None], (1, 11))
    commit(repository, "omniglot-5way-1shot", errors=errors)
    entry = line("Table 1", "MAML", 3, setting="Omniglot 5-way 1-shot")
    assert entry.ours_ci95 == pytest.approx(1.96 * 2 / 20)
    assert entry.difference == pytest.approx(98.0 - 98.7)
    assert entry.difference_ci95 == pytest.approx(math.sqrt((1.96 * 2 / 20) ** 2 + 0.4**2))
    assert entry.verdict == verdicts.verdict(entry.difference, entry.difference_ci95, 1.0) == "differs"


def test_diverged_tasks_are_left_out_and_counted(repository):
    errors = np.full((400, 11), 0.35)
    errors[7, 5:] = 1e9
    errors[8, 10] = np.nan
    with np.errstate(over="ignore"):
        commit(repository, "sinusoid-maml", errors=errors)
    assert [line(step=s).diverged for s in (1, 5, 10)] == [0, 1, 2]
    assert line().ours == pytest.approx(0.35) and line().ours_ci95 == pytest.approx(0, abs=1e-9)
    assert line().verdict == "reproduced"


def test_seeds_of_unlike_numbers_of_tasks_are_named(repository):
    test = paper.get("omniglot-5way-1shot").evaluations[0].name
    for seed, tasks in ((0, 400), (1, 20)):
        commit(repository, "omniglot-5way-1shot", seed=seed, tasks=tasks)
    said = rf"omniglot-5way-1shot: .* of test {test} are \[400, \d\] of seed 0, \[20, \d\] of seed 1"
    with pytest.raises(ValueError, match=said):
        results.summary("omniglot-5way-1shot", test, 1, "accuracy")


def test_an_unfinished_run_is_partial_whatever_its_number(repository):
    commit(repository, "sinusoid-maml", errors=np.full((400, 11), 0.35), done=12_000)
    assert line().verdict == "partial (12,000 of 70,000)"
    commit(repository, "sinusoid-maml", seed=1, errors=np.full((400, 11), 0.45), done=20_000)
    assert line().verdict == "partial (12,000 of 70,000)"  # the least advanced seed decides
    assert (repository / "data" / "partial" / "sinusoid-maml" / "seed0" / "run.json").exists()


def test_a_run_without_a_test_has_begun_and_its_furthest_state_says_how_far(repository):
    name = "omniglot-20way-1shot"
    ours = lambda: line("Table 1", "MAML", 5, setting="Omniglot 20-way 1-shot")
    for seed, done in ((0, 300), (1, 4221), (2, 50)):
        begin(repository, name, done=done, seed=seed)
    begun = "begun (4,221 of 60,000)"
    assert ours().verdict == inventory.state_of(name) == results.without_result(name) == begun
    assert results.listing().set_index("name").done[name] == begun and begun in beside.table_text()
    assert inventory.state_cells(name) == {
        "state": '<span class="verdict-begun">begun</span> 4,221 of 60,000',
        "name": f"`{name}`",
    }
    assert inventory.state_of("omniglot-20way-5shot") == "not run"
    commit(repository, name, done=4230, seed=1)
    before = ours()
    assert before.verdict == inventory.state_of(name) == "partial (4,230 of 60,000)"
    begin(repository, name, done=5000, seed=1)
    assert ours().equals(before) and inventory.state_of(name) == before.verdict


def test_a_state_that_no_run_can_go_on_from_has_not_begun(repository, monkeypatch):
    begin(repository, "sinusoid-maml", done=0)
    assert inventory.state_of("sinusoid-maml") == "not run"
    begin(repository, "sinusoid-maml", done=500)
    row = paper.get("sinusoid-maml")
    with monkeypatch.context() as patch:
        patch.setitem(paper.ROWS, row.name, replace(row, inner_lr=0.5))
        assert inventory.state_of(row.name) == "not run"
    assert inventory.state_of(row.name) == "begun (500 of 70,000)"
    state = repository / "data" / "partial" / row.name / "seed0" / "state.safetensors"
    for content in (b"", state.read_bytes()[:30], state.read_bytes().replace(b"500", b"5x0")):
        state.write_bytes(content)
        with pytest.raises(ValueError, match="state.safetensors is not a whole training state .*from git"):
            inventory.state_of(row.name)
    state.unlink()
    assert inventory.state_of(row.name) == "not run"


def test_the_log_of_a_training_is_the_one_that_has_come_further(repository):
    name, frame = (
        "sinusoid-maml",
        lambda last: pd.DataFrame({"iteration": [100, last], "seconds": [1.0, 2.0]}),
    )
    assert results.training_log(name).empty
    assert {"iteration", "validation"} <= set(results.training_log(name))
    for place, last in (("partial/{}/seed0/run.json", 900), ("results/{}/seed0.json", 600)):
        described = repository / "data" / place.format(name)
        path = described.with_name("metrics.csv" if "run" in place else "seed0.metrics.csv")
        path.parent.mkdir(parents=True)
        frame(last).to_csv(path, index=False)
        described.write_text(json.dumps({"settings": paper.get(name).settings}))
        assert results.training_log(name).iteration.iloc[-1] == 900
    frame(1200).to_csv(path, index=False)
    assert results.training_log(name).iteration.iloc[-1] == 1200
    assert results.training_log(name, seed=1).empty
    described.write_text(json.dumps({"settings": paper.get(name).settings | {"inner_lr": 1.0}}))
    assert results.training_log(name).iteration.iloc[-1] == 900


def test_a_run_under_way_takes_nothing_from_those_that_are_finished(repository):
    commit(repository, "sinusoid-maml", errors=np.full((400, 11), 0.35))
    before = line()
    commit(repository, "sinusoid-maml", seed=1, errors=np.full((400, 11), 3.0), done=12_000)
    assert line().equals(before) and line().seeds == 1 and inventory.state_of("sinusoid-maml") == "complete"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"inner_lr": 0.02}, ["inner_lr"]),
        ({"clip": 10.0, "iterations": 5}, ["iterations", "clip"]),
        ({"evaluations": ()}, ["evaluation K=5", "evaluation K=10", "evaluation K=20"]),
    ],
)
def test_a_result_of_other_settings_is_stale(repository, monkeypatch, change, named):
    commit(repository, "sinusoid-maml", errors=np.full((400, 11), 0.35))
    row = paper.ROWS["sinusoid-maml"]
    (result,) = results.load("sinusoid-maml")
    assert results.stale(result) == []
    if "evaluations" in change:  # the tests themselves changed: other numbers of tasks
        change = {"evaluations": tuple(replace(e, tasks=e.tasks + 1) for e in row.evaluations)}
    monkeypatch.setitem(paper.ROWS, row.name, replace(row, **change))
    assert results.stale(result) == named
    assert line().verdict == "stale"


def test_a_result_of_an_unknown_experiment_or_fingerprint_is_stale(repository):
    commit(repository, "sinusoid-maml")
    (result,) = results.load("sinusoid-maml")
    assert results.stale(result | {"name": "gone"}) == ["name"]
    assert results.stale(result | {"fingerprint": "0"}) == ["fingerprint"]


def test_words_of_a_row_do_not_make_its_results_stale(repository, monkeypatch):
    commit(repository, "sinusoid-maml")
    row = paper.ROWS["sinusoid-maml"]
    monkeypatch.setitem(paper.ROWS, row.name, replace(row, title="other", place="elsewhere", quick={}))
    assert results.stale(results.load("sinusoid-maml")[0]) == []


def test_a_damaged_result_is_named(repository):
    commit(repository, "sinusoid-maml")
    path = repository / "data" / "results" / "sinusoid-maml" / "seed0.json"
    whole = path.read_text()
    for text in (whole[:100], "{}", "[]"):
        path.write_text(text)
        with pytest.raises(ValueError, match="seed0.json is not a whole result"):
            results.load("sinusoid-maml")
    path.write_text(whole)
    tasks = path.with_name("seed0.tasks.npz")
    tasks.write_bytes(tasks.read_bytes()[:1000])
    with pytest.raises(ValueError, match="seed0.tasks.npz does not hold the mse of test K=5"):
        results.summary("sinusoid-maml", "K=5", 1, "mse")


def test_a_test_that_has_come_later_or_has_more_steps_makes_a_result_stale_and_no_page_fails(
    repository, monkeypatch
):
    row = paper.ROWS["sinusoid-maml"]
    commit(repository, row.name)
    more = (
        replace(row.evaluations[0], name="K=40"),
        replace(row.evaluations[0], inner_steps=20, headline_step=20),
    )
    for evaluations in ((*row.evaluations, more[0]), (more[1], *row.evaluations[1:])):
        monkeypatch.setitem(paper.ROWS, row.name, replace(row, evaluations=evaluations))
        assert results.summary(row.name, "K=5", 1, "mse") is None and line().verdict == "stale"
        assert ">stale<" in inventory.beyond_evaluations() and ">stale<" in pages.table_2()


def test_where_every_task_has_diverged_there_is_no_number_and_it_differs(repository):
    with np.errstate(over="ignore"):
        commit(repository, "sinusoid-maml", errors=np.full((400, 11), 1e9))
    found = line()
    assert math.isnan(found.ours) and found.verdict == "differs" and found.diverged == 400
    assert "sinusoid" in beside.table_text() and "differs" in pages.table_2()


def test_the_listing_has_every_experiment(repository, monkeypatch, capsys):
    for seed, done in ((3, None), (4, 500), (5, None)):
        commit(repository, "sinusoid-maml", seed=seed, done=done)
    listing = results.listing().set_index("name")
    assert list(listing.index) == list(paper.ROWS)
    assert listing.done["sinusoid-maml"] == "70,000 (seeds 3, 5); 500 (seed 4)"
    assert listing.done["omniglot-5way-1shot"] == "not run"
    assert __main__.main(["list"]) == 0
    *shown, empty, last = capsys.readouterr().out.splitlines()
    assert len(shown) == 1 + len(paper.ROWS) and not empty  # and then what is no row
    script = re.search(r"python (benchmarks/\w+\.py) -h", last)[1]
    assert (Path(__file__).parents[2] / script).exists()
    monkeypatch.setitem(paper.ROWS, "sinusoid-maml", replace(paper.get("sinusoid-maml"), inner_lr=0.5))
    found = results.listing().set_index("name").done["sinusoid-maml"]
    assert found == "70,000 of other settings (seeds 3, 5); 500 of other settings (seed 4)"


# -- what is committed


def untrained(name):
    """Parameters of the shapes that the experiment of this name has."""
    row = paper.get(name)
    if isinstance(row, MemoryRow):
        return policy_of(memory.init(row))
    if isinstance(row, ChainRow):
        return trainings.begin(row).result()
    made = rl_train.build(row, 1, 1)[1] if isinstance(row, rows.PolicyRow) else supervised.method(row)
    return made.init(seeds.generator(0, "init"))


@pytest.mark.parametrize("path", COMMITTED, ids=ids)
def test_committed_result_is_current(path):
    result = json.loads(path.read_text())
    assert result["name"] == path.parent.name and f"seed{result['seed']}" == path.stem
    assert results.stale(result) == [], "run it again, or undo the change of its row"


@pytest.mark.parametrize("path", COMMITTED, ids=ids)
def test_committed_result_says_where_it_comes_from(path):
    result = json.loads(path.read_text())
    assert isinstance(result["seed"], int) and result["scale"] == "paper" and result["seconds"] >= 0
    assert 0 <= result["iterations_done"] <= result["settings"]["iterations"]
    assert result["origin"]
    for origin in result["origin"]:
        assert {"commit", "date", "device", "processor", "versions"} <= origin.keys()
        assert len(origin["commit"].removesuffix("+changes")) == 40 and all(origin.values())
        assert {"python", "torch", "numpy"} <= origin["versions"].keys()


@pytest.mark.parametrize("path", COMMITTED, ids=ids)
def test_committed_means_are_those_of_the_committed_tasks(path):
    result = json.loads(path.read_text())
    assert path.with_suffix(".tasks.npz").exists() == (result["seed"] < measures.seeds_kept(result["name"]))
    if result["seed"] >= measures.seeds_kept(result["name"]):
        return
    evaluations = {e.name: e for e in paper.get(result["name"]).evaluations}
    for name, evaluation in result["evaluations"].items():
        for metric in evaluation.keys() - {"settings"}:
            stored = evaluation[metric]
            assert stored["tasks"] == evaluations[name].tasks
            if metric == "cross_entropy":
                continue  # of which the mean alone is kept
            kept = results.per_task_errors(result["name"], result["seed"], name, metric)
            last = evaluations[name].inner_steps
            steps = range(last + 1) if metric == "return" else [s for s in measures.STEPS_KEPT if s <= last]
            assert kept.shape == (stored["tasks"], len(steps))
            for column, step in enumerate(steps):
                # Half precision rounds a value by at most 2^-11 of it, and so a mean of positive values. It
                # may also move one down onto the threshold: read as on it or above it, their number must come
                # out.
                readings = (kept, np.where(kept == 25.0, 26.0, kept)) if metric == "mse" else ()
                masks = [measures.left_out(metric, reading)[:, column] for reading in readings] or [
                    np.zeros(len(kept), bool)
                ]
                errors = kept[:, column][
                    ~next(mask for mask in masks if mask.sum() == stored["diverged"][step])
                ]
                assert errors.mean() == pytest.approx(stored["mean"][step], rel=2**-11, abs=1e-6)


@pytest.mark.parametrize("path", COMMITTED, ids=ids)
def test_committed_parameters_and_log_lie_beside_the_result(path):
    result = json.loads(path.read_text())
    committed = path.with_suffix(".safetensors")
    assert committed.exists() == keeping.has_parameters(result["name"], result["seed"])
    if committed.exists():
        params = checkpoints.load_params(committed)
        shapes = lambda of: {name: value.shape for name, value in of.items()}
        assert shapes(params) == shapes(untrained(result["name"]))
        assert all(value.isfinite().all() for value in params.values())
    # of an interrupted run any number, while the log has a line per LOG_EVERY, and one at the end
    done = result["iterations_done"]
    log = pd.read_csv(path.with_name(f"{path.stem}.metrics.csv")).iteration if done else ()
    policies = isinstance(paper.get(result["name"]), rows.PolicyRow)  # these log every iteration
    kind = {MemoryRow: memory, ChainRow: chains}.get(type(paper.get(result["name"])), supervised_training)
    often = kind.LOG_EVERY
    every = math.ceil(done / logs.ROWS_KEPT) if policies else often
    last = done if done == result["settings"]["iterations"] else done - done % every
    assert done == 0 or log.iloc[-1] == last


def test_committed_unfinished_runs_are_current_and_no_result_is_ahead_of_them():
    for path in (places.repository() / "data" / "partial").glob("*/seed*/run.json"):
        run = json.loads(path.read_text())
        assert run["settings"] == paper.get(path.parts[-3]).settings
        found = [r for r in results.load(path.parts[-3]) if f"seed{r['seed']}" == path.parts[-2]]
        several = isinstance(paper.get(path.parts[-3]), AverageRow | MemoryRow | ChainRow)
        params = trainings.begin(paper.get(path.parts[-3])).params if several else untrained(path.parts[-3])
        adam = (
            torch.optim.Adam(params.values())
            if isinstance(paper.get(path.parts[-3]), rows.Row | MemoryRow)
            else None
        )
        iteration, *_ = checkpoints.load_state(path.with_name("state.safetensors"), params, adam)
        assert checkpoints.finite(params, adam)
        # none before a run's first test; then of its last, from which the state may have gone on
        for result in found:
            assert result["iterations_done"] <= iteration
            committed = checkpoints.load_params(results.checkpoint(path.parts[-3], result["seed"]))
            # of a policy with a memory its own part, in half precision
            equal = all(torch.equal(params[name].to(value.dtype), value) for name, value in committed.items())
            assert equal == (result["iterations_done"] == iteration)
