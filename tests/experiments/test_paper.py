"""Every row is one that can be run, and holds the paper's settings."""

import dataclasses
import re
import runpy

import numpy as np
import pytest
import torch

from mamlkit import tasks
from mamlkit.engine import meta_batch
from mamlkit.experiments import chains, compare, paper, policies, rows
from mamlkit.experiments.paper import ROWS
from mamlkit.report import results
from mamlkit.runs import policies as rl_train
from mamlkit.runs import seeds, supervised, train

SUPERVISED = [name for name, row in ROWS.items() if isinstance(row, rows.Row)]
# Of the grid all methods in one column, and two of them in the others, whose rows differ as these do.
FEW = ("glyphs-5way-1shot", "-maml", "-prototypical")
SUPERVISED = [name for name in SUPERVISED if not compare.is_compared(name) or any(x in name for x in FEW)]
AT_SCALES = [(name, "paper") for name in SUPERVISED]
SAME_TASK = {"iterations", "outer_lr", "meta_batch_size"}  # what of a task's gradient knows nothing
AT_SCALES += [(name, "quick") for name in SUPERVISED if ROWS[name].quick.keys() - SAME_TASK]
POLICIES = [name for name, row in ROWS.items() if isinstance(row, rows.PolicyRow)]


@pytest.mark.parametrize(("name", "scale"), AT_SCALES)
def test_every_row_gives_a_finite_meta_gradient(name, scale, made_families):
    row = ROWS[name].at(scale)
    # the same shapes, and always there
    family = "glyphs" if row.family.startswith("omniglot") else row.family
    in_time = row.family.endswith("sequences")  # each class is asked for once, of all times
    family = "glyphs, sequences" if in_time else family
    method = supervised.method(row)
    params = method.init(seeds.generator(0, "init"))
    batch = tasks.make(family, "train", ways=row.ways, shots=row.shots, queries=row.queries).sample(
        seeds.generator(0, "train"), 2
    )
    gradient, losses = meta_batch.meta_gradient(method, params, batch)
    assert torch.isfinite(losses).all() and all(torch.isfinite(g).all() for g in gradient.values())
    for evaluation in row.evaluations:
        test = tasks.make(family, "test", ways=row.ways, shots=evaluation.shots, queries=evaluation.queries)
        points = row.ways * (1 if in_time else evaluation.queries)
        assert test.sample(seeds.generator(0, "test"), 1).query[0].shape[1] == points
        assert 0 <= evaluation.headline_step <= evaluation.inner_steps


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_row_can_be_trained_and_tested(name):
    fewest = {"meta_batch_size": 2, "rollouts": 1, "iterations": 1}
    at = [
        dataclasses.replace(row, **{size: min(getattr(row, size), few) for size, few in fewest.items()})
        for row in map(ROWS[name].at, ("quick", "paper"))
    ]
    for row in at[: 1 if at[0] == at[1] else 2]:  # the scales may differ in these sizes alone
        fit = train.fit(row, threads=1)
        assert fit.iteration == row.iterations and all(
            value.isfinite().all() for value in fit.params.values()
        )
        for evaluation in row.evaluations:
            few = dataclasses.replace(evaluation, rollouts=1)
            found = rl_train.evaluate(
                row, fit.params, few, goals=rl_train.test_goals(row.environment)[:2], threads=1
            )["return"]
            assert found.shape == (2, evaluation.inner_steps + 1) and torch.from_numpy(found).isfinite().all()
            assert 0 <= evaluation.headline_step <= evaluation.inner_steps


def test_settings_are_those_of_the_paper_and_the_authors_code():
    row = paper.get("omniglot-20way-5shot")
    assert (row.inner_lr, row.inner_steps, row.meta_batch_size) == (0.1, 5, 16)
    assert (row.iterations, row.outer_lr) == (60_000, 0.001)
    row = paper.get("omniglot-5way-1shot")
    assert (row.inner_lr, row.inner_steps, row.meta_batch_size) == (0.4, 1, 32)
    assert row.evaluations[0].headline_step == 3
    assert row.loss == "cross-entropy, sum over examples / shots" and row.evaluations[0].tasks == 600
    row = paper.get("sinusoid-maml")
    assert (row.inner_lr, row.inner_steps, row.meta_batch_size) == (0.01, 1, 25)
    assert (row.shots, row.queries) == (10, 10)
    fine_tuning = {e.name: e.inner_lr for e in paper.get("sinusoid-pretrained").evaluations}
    assert fine_tuning == {"K=5": 0.01, "K=10": 0.02, "K=20": 0.02}


def test_settings_of_mini_imagenet_are_those_of_the_paper_and_the_authors_code():
    for shots, meta_batch_size in ((1, 4), (5, 2)):
        row = paper.get(f"mini-imagenet-5way-{shots}shot")
        assert (row.inner_lr, row.inner_steps, row.meta_batch_size) == (0.01, 5, meta_batch_size)
        assert (row.iterations, row.outer_lr, row.clip, row.queries) == (60_000, 0.001, 10.0, 15)
        assert row.network == (
            "conv4",
            {"ways": 5, "filters": 32, "size": 84, "channels": 3, "pooling": "max"},
        )
        test = row.evaluations[0]
        assert (test.shots, test.queries, test.inner_lr, test.headline_step) == (shots, shots, 0.01, 10)
        assert row.evaluations[1].queries == 15
        first = paper.get(f"mini-imagenet-first-order-5way-{shots}shot").settings
        assert {k for k in first if first[k] != row.settings[k]} == {"method"}


def test_the_other_reading_of_alpha_is_a_fifth_of_the_step():
    sums, means = (paper.get("mini-imagenet-released").evaluations[i] for i in (0, -1))
    assert (sums.inner_lr, means.inner_lr, means.shots * 5 * means.inner_lr) == (0.01, 0.002, 0.01)


def test_long_rows_say_how_long_they_take():
    assert paper.HOURS.keys() <= ROWS.keys()
    trained = {name for name, row in ROWS.items() if name.startswith("mini-imagenet") and row.iterations}
    assert trained <= paper.HOURS.keys()


def test_policy_settings_are_those_of_the_runs_that_the_paper_plots():
    row = paper.get("half-cheetah-velocity-maml")
    assert (row.meta_batch_size, row.rollouts, row.iterations) == (40, 10, 500)
    assert (row.inner_lr, row.max_kl, row.discount) == (0.1, 0.01, 0.99)
    assert row.evaluations[0].inner_lrs == (0.1, 0.05, 0.05) and row.evaluations[0].rollouts == 20
    row = paper.get("2d-navigation-maml")
    assert (row.meta_batch_size, row.rollouts, row.iterations) == (20, 20, 100)
    assert (row.inner_lr, row.evaluations[0].rollouts) == (0.5, 40)
    assert paper.get("half-cheetah-direction-maml").max_kl == 0.02
    assert paper.get("ant-direction-maml").evaluations[0].inner_lrs == (0.1, 0.001, 0.001)
    assert paper.get("ant-direction-maml").evaluations[1].inner_lrs == (0.1, 0.05, 0.05)
    row = paper.get("ant-direction-oracle")
    assert (row.meta_batch_size, row.rollouts, row.iterations) == (1, 100, 1975)
    assert (row.show_goal, row.method) == (True, "trpo")
    assert paper.get("2d-navigation-random").activation == "tanh"


def test_as_printed_differs_in_what_the_text_prints():
    differences = {
        "2d-navigation": {"inner_lr", "iterations"},
        "half-cheetah-velocity": {"rollouts"},
        "half-cheetah-direction": {"max_kl"},
        "ant-velocity": set(),
        "ant-direction": set(),
    }
    for name, wanted in differences.items():
        plotted = paper.get(f"{name}-maml").settings
        printed = paper.ROWS.get(f"{name}-maml-as-printed", paper.get(f"{name}-maml")).settings
        assert {k for k in plotted if plotted[k] != printed[k]} == wanted
        assert (printed["inner_lr"], printed["max_kl"], printed["iterations"]) == (0.1, 0.01, 500)


def test_names_are_unique_and_the_first_order_row_differs_in_the_method_alone():
    assert all(name == row.name for name, row in ROWS.items())
    exact, first = (paper.get(name).settings for name in ("sinusoid-maml", "sinusoid-first-order"))
    assert {k for k in exact if exact[k] != first[k]} == {"method"}


def test_a_name_that_is_taken_is_refused(monkeypatch):
    for name, row in ROWS.items():
        words = f"two experiments are called {name!r}, {row.title!r} and 'Mine'; give one of them another"
        with pytest.raises(ValueError, match=re.escape(words)):
            paper._by_name([*ROWS.values(), dataclasses.replace(row, title="Mine")])
    taken = ROWS["sinusoid-maml"]
    monkeypatch.setattr(chains, "rows", lambda: [taken])  # a table that repeats a name is not made
    with pytest.raises(ValueError, match="two experiments are called 'sinusoid-maml'"):
        runpy.run_path(paper.__file__)


def test_published_numbers_point_at_rows_that_are_there():
    printed = results.published()
    ours = printed[printed.row != ""]
    # Table 2 (averages, others), Omniglot, Table 3, Mini-ImageNet, Fig. 4, Fig. 5 without the random policies
    # that the paper does not plot, Tables 4 and 5
    assert len(ours) == 9 + 12 + 8 + 2 + 13 + 9 + 13 + 9 + 13 + 4 + 4
    for _, line in ours.iterrows():
        assert line.evaluation in {e.name for e in paper.get(line.row).evaluations}


def test_bad_names_are_refused():
    with pytest.raises(ValueError, match="do you mean sinusoid-maml, .* python -m mamlkit list"):
        paper.get("sinusiod-maml")
    with pytest.raises(ValueError, match="no experiment is called 'x'. All are listed by"):
        paper.get("x")
    with pytest.raises(ValueError, match="do you mean omniglot-.*, omniglot-"):
        paper.get("omniglot")
    with pytest.raises(ValueError, match="'quick' and 'paper'"):
        paper.get("sinusoid-maml").at("small")


@pytest.mark.parametrize("name", ["my square", "../square", "Square", "square_maml", "-square", ""])
def test_a_name_that_is_no_folder_name_is_refused(name):
    row = dataclasses.replace(paper.get("sinusoid-maml"), name=name)
    with pytest.raises(ValueError, match="use small letters, digits and hyphens, as in 'my-experiment'"):
        paper._by_name([row])


def test_an_environment_that_the_paper_has_not_claims_no_place_in_it(monkeypatch):
    own = policies.ENVIRONMENTS["half-cheetah-velocity"]._replace(title="Slow", figure="")
    monkeypatch.setitem(policies.ENVIRONMENTS, "half-cheetah-slow", own)
    rows_of_it = policies.rows("half-cheetah-slow")
    assert [row.name.removeprefix("half-cheetah-slow-") for row in rows_of_it] == [
        "maml",
        "pretrained",
        "oracle",
        "random",
    ]
    assert {row.place for row in rows_of_it} == {"not in the paper"}


@pytest.mark.parametrize(
    "name", ["sinusoid-maml", "2d-navigation-maml", "bandit-5-arms-10-pulls-rl2", "chain-parameter-noise"]
)
def test_a_change_of_the_quick_scale_must_be_a_field(name):
    row = paper.get(name)
    near = (
        rf"{name}: quick has 'iteration', which is no .* do you mean 'iterations'\? Allowed are name, title,"
    )
    for key, message in (
        ("iteration", near),
        ("quick", "quick has 'quick'"),
        ("xyz", r"can change\. Allowed"),
    ):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(row, quick={key: 5})


def test_numbers_of_numpy_and_torch_become_pythons():
    row = paper.get("sinusoid-maml")
    changed = dataclasses.replace(row, inner_steps=np.int64(2), inner_lr=torch.tensor(0.5))
    assert type(changed.inner_steps) is int and type(changed.inner_lr) is float
    assert changed.fingerprint == dataclasses.replace(row, inner_steps=2, inner_lr=0.5).fingerprint
    with pytest.raises(ValueError, match="inner_steps=1.5, but it must be a whole number"):
        dataclasses.replace(row, inner_steps=np.float32(1.5))


def test_a_row_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        paper.get("sinusoid-maml").inner_lr = 1.0


def test_only_rows_of_the_papers_sinusoids_have_a_place_there():
    ours = {name: row.place for name, row in ROWS.items() if name.startswith("sinusoid-")}
    there = {"maml", "pretrained", "oracle", "average", "average-decay", "average-pulled"}
    assert {name for name, place in ours.items() if not place.startswith("not in the paper")} == {
        f"sinusoid-{name}" for name in there
    }
    printed = results.published()
    assert {name for name, place in ours.items() if "Table 2" in place.partition(":")[0]} == set(
        printed.row[printed.place == "Table 2"]
    )
    assert (
        paper._sinusoid("square", "Square waves", paper._ALPHA, family="square").place == "not in the paper"
    )


def test_only_what_the_paper_has_claims_a_place_in_it():
    """A figure's curves count, and numbers that the table quotes under another protocol."""
    elsewhere = {"sinusoid-oracle", "omniglot-sequences-mann", "omniglot-sequences-lstm"}
    printed = set(results.published().row)
    claimed = {
        row.name
        for row in paper.ROWS.values()
        if ("Fig." in row.place or "Table" in row.place) and not row.place.startswith("not in the paper")
    }
    assert claimed - printed == elsewhere
