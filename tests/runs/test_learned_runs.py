"""What the benchmark of learned optimisers keeps, and what is committed of it."""

import dataclasses
import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from mamlkit.methods import learned_optimiser
from mamlkit.runs import checkpoints
from mamlkit.runs import learned_optimiser as runs
from mamlkit.runs.seeds import generator
from mamlkit.tasks import objectives

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "learned_optimiser.py"
COMMITTED = [path for name in runs.SETTINGS for path in runs.folder(name).glob("seed*.safetensors")]


@pytest.fixture
def benchmark(monkeypatch, tmp_path):
    """The script, on few problems, writing elsewhere."""
    found = importlib.util.spec_from_file_location("learned_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    few = dataclasses.replace(runs.SETTINGS["quadratics"], together=3, tests=7)
    monkeypatch.setitem(runs.SETTINGS, "quadratics", few)
    monkeypatch.setattr(runs, "folder", lambda name: tmp_path / name)
    monkeypatch.setattr(runs, "TUNING", 4)
    monkeypatch.setattr(runs, "RATES", (0.003, 0.006, 0.01, 0.02, 0.03, 0.1, 0.3))
    return module


def test_a_training_and_its_tests_are_kept_whole(benchmark, tmp_path):
    for seed in (0, 1):
        benchmark.train("quadratics", seed, epochs=2)
    benchmark.test("quadratics")
    folder, setting = tmp_path / "quadratics", runs.SETTINGS["quadratics"]
    record = json.loads((folder / "seed1.json").read_text())
    assert record["epochs"] == 2 and record["seed"] == 1 and "commit" in record["origin"]
    phi, log = runs.train(setting, 1, 2)
    kept = checkpoints.load_params(folder / "seed1.safetensors")
    assert kept.keys() == phi.keys() and all(kept[name].equal(phi[name]) for name in phi)
    assert pd.read_csv(folder / "seed1.metrics.csv").last_loss[0] == pytest.approx(sum(log) / 2, rel=1e-3)

    curves = pd.read_csv(folder / "curves.csv", dtype={"seed": str}, keep_default_na=False)
    kinds = {"as in training", *setting.others}
    assert set(curves.problems) == kinds and len(curves) == len(kinds) * (4 + 2) * 41
    rates = pd.read_csv(folder / "rates.csv")
    best = rates.loc[rates[rates.rule == "Adam"].score.idxmin()].rate
    problems = runs.tests_of(setting, 7)
    of_adam = runs.log_losses(learned_optimiser.adam(best), problems, 200)
    line = curves[(curves.rule == "Adam") & (curves.problems == "as in training")].set_index("step")
    assert line["median"][100] == pytest.approx(np.median(of_adam[100]), rel=1e-3)
    gaps = pd.read_csv(folder / "gaps.csv", dtype={"seed": str})
    means = pd.read_csv(folder / "means.csv", dtype={"seed": str}, keep_default_na=False)
    own = means[means.problems == "as in training"].set_index(["rule", "seed"])
    assert set(own.index) == {(rule, "") for rule in runs.RULES} | {("LSTM", "0"), ("LSTM", "1")}
    tuned = runs.best_rates(runs.tune(setting, "mean loss over the steps", 7))
    by_end, by_few = (
        runs.best_rates(runs.tune(setting, score, problems))
        for score, problems in (("log loss at the end", 7), ("mean loss over the steps", 4))
    )
    assert {rule: float(own.rate[rule, ""]) for rule in runs.RULES} == tuned
    assert by_end != tuned != by_few  # so that the score and the number of problems matter
    logs = runs.log_losses(learned_optimiser.sgd(tuned["SGD"]), problems)
    assert own.diverged["SGD", ""] == (logs[100] > logs[0]).sum()
    at = runs.over_steps(runs.log_losses(learned_optimiser.adam(float(own.rate["Adam", ""])), problems))
    of_one = runs.over_steps(runs.log_losses(setting.rule(phi), problems))
    assert own.over_steps["Adam", ""] == pytest.approx(at.mean(), rel=1e-3)
    assert own.over_steps["LSTM", "1"] == pytest.approx(of_one.mean(), rel=1e-3)
    assert float(own["below Adam, %"]["LSTM", "1"]) == pytest.approx(100 * (of_one < at).mean())
    one = gaps[(gaps.rule == "Adam") & (gaps.seed == "1") & (gaps.step == 200)].iloc[0]
    of_lstm = runs.log_losses(setting.rule(phi), problems, 200)
    assert one["median"] == pytest.approx(np.median(of_lstm[200] - of_adam[200]), rel=1e-3)
    of_one = curves[(curves.rule == "LSTM") & (curves.problems == "as in training") & (curves.seed == "1")]
    assert list(of_one.worse) == [int((line > of_lstm[0]).sum()) for line in of_lstm[::5]]


def test_rates_are_tuned_on_ten_times_as_many_problems_too(benchmark, tmp_path):
    benchmark.tune("quadratics")
    setting = runs.SETTINGS["quadratics"]
    found = pd.read_csv(tmp_path / "quadratics" / "tuning.csv")
    assert "commit" in json.loads((tmp_path / "quadratics" / "tuning.json").read_text())["origin"]
    counts = dict(zip(runs.SCORES, ((4, 40), (7, 70)), strict=True))  # of tuning, of tests
    assert len(found) == len(runs.RULES) * 4
    problems, differ = runs.tests_of(setting, 7), set()
    for score, of in counts.items():
        for count in of:
            best = runs.best_rates(runs.tune(setting, score, count))
            lines = found[(found.score == score) & (found.tuned_on == count)].set_index("rule")
            assert dict(lines.rate) == pytest.approx(best, rel=1e-4)
            differ.add(tuple(best.values()))
            for rule, rate in best.items():
                logs = runs.log_losses(learned_optimiser.RULES[rule](rate), problems)
                assert lines.at_end[rule] == pytest.approx(np.median(logs[100]), rel=1e-3)
                assert 10 ** lines.over_steps[rule] == pytest.approx(runs.over_steps(logs).mean(), rel=1e-3)
                assert lines.diverged[rule] == (logs[100] > logs[0]).sum()
    assert len(differ) > 1  # so that the number of problems and the score matter


def noted(asked):
    """A setting of small problems whose loss is another at each step, which notes what is drawn for it."""

    def draw(seeded, problems, split):
        asked.append((split, seeded.initial_seed()))
        found = objectives.quadratics(seeded, problems, size=2)
        return found._replace(loss=lambda theta, step: (1 + step % 7) * found.true_loss(theta))

    return runs.Setting(draw, together=2, tests=3)


def test_what_is_drawn_is_of_the_split_that_it_is_for_and_new_in_each_epoch(monkeypatch):
    monkeypatch.setattr(runs, "RATES", (0.01,))
    asked = []
    runs.train(noted(asked), 3, 2)
    runs.tune(noted(asked), problems=2)
    runs.tests_of(noted(asked), 2)
    assert asked == [
        ("train", generator(3, "train", 0).initial_seed()),
        ("train", generator(3, "train", 1).initial_seed()),
        ("val", generator(0, "validate").initial_seed()),
        ("test", generator(0, "test").initial_seed()),
    ]
    assert len({seed for _, seed in asked}) == 4


def test_training_is_adam_through_twenty_steps_each_of_which_goes_on_where_the_last_ended():
    setting = noted([])
    phi = {
        name: value.requires_grad_() for name, value in learned_optimiser.init(generator(1, "init")).items()
    }
    adam, log = torch.optim.Adam(phi.values(), lr=0.001), []
    for epoch in range(2):
        problems = setting.draw(generator(1, "train", epoch), 2, "train")
        rule = learned_optimiser.learned(phi)
        theta, state, losses = problems.start, rule.begin(problems.start), []
        for step in range(100):
            leaf = theta.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(problems.loss(leaf, step).sum(), leaf)
            update, state = rule.step(gradient, state)
            theta = theta + update
            losses.append(problems.loss(theta, step + 1).mean())
            if step % 20 == 19:
                adam.zero_grad()
                sum(losses[-20:]).backward()
                adam.step()
                theta, state = theta.detach(), tuple(part.detach() for part in state)
        log.append(float(losses[-1].detach()))
    found, of_epochs = runs.train(setting, 1, 2)
    assert of_epochs == pytest.approx(log, rel=1e-3)
    for name, value in phi.items():
        torch.testing.assert_close(found[name], value.detach(), rtol=1e-4, atol=1e-5)


def test_the_interval_of_a_median_holds_it_as_often_as_it_says():
    draws = np.random.RandomState(0).standard_exponential((2000, 32))
    found = np.array([runs.median(values) for values in draws])
    holds = (found[:, 1] <= math.log(2)) & (math.log(2) <= found[:, 2])
    assert 0.94 < holds.mean() < 0.99  # of ranks, so never just 0.95
    assert runs.median(np.array([1.0, 2.0, 2.0, 3.0, 4.0, np.inf])) == (2.5, 1.0, np.inf)


@pytest.mark.parametrize("count", [*range(6, 70), 200, 1000])
def test_the_interval_of_a_median_holds_it_with_95_percent_or_more(count):
    (_, low, high), chances = runs.median(np.arange(float(count))), stats.binom(count, 0.5)
    below, above = (
        int(low),
        int(high) + 1,
    )  # ranks: it fails if so few values, or so many, are under the median
    assert chances.cdf(below) + chances.sf(above - 1) <= 0.05
    assert chances.cdf(below + 2) + chances.sf(above - 3) > 0.05 or count < 9  # and is no wider than needed


def test_fewer_values_have_no_such_interval():
    with pytest.raises(ValueError, match="5 values came, but a 95 % interval of a median needs 6"):
        runs.median(np.arange(5.0))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_committed_optimiser_has_an_origin_and_a_curve(path):
    setting = runs.SETTINGS[path.parent.name]
    begun = learned_optimiser.init(generator(0, "init"), 1 if setting.p is None else 2)
    kept = checkpoints.load_params(path)
    assert {name: value.shape for name, value in kept.items()} == {k: v.shape for k, v in begun.items()}
    record = json.loads(path.with_suffix(".json").read_text())
    assert record["name"] == path.parent.name and f"seed{record['seed']}" == path.stem
    assert record["seconds"] > 0 and {"commit", "date", "processor"} <= record["origin"].keys()
    curves = pd.read_csv(path.with_name("curves.csv"), dtype={"seed": str}, keep_default_na=False)
    assert str(record["seed"]) in set(curves.seed)
