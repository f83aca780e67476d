"""What the benchmark compares is one and the same gradient, and its limit counts products rightly."""

import dataclasses
import importlib.util
import json
import sys

import accuracy
import compared
import finite_differences
import growth
import meta_gradient
import meta_rl
import numpy as np
import pytest
import torch
import traps
from meta_gradient import errors, importable
from meta_rl import update_flops
from problems import LOSS, MINI, SHAPES, flops, problem
from torch.utils.flop_counter import FlopCounterMode, baddbmm_flop
from ways import WAYS

from conftest import loop_gradient, relative_error, small_problem
from mamlkit import methods, models
from mamlkit.engine import kernels_torch, meta_batch, passes
from mamlkit.experiments.paper import get
from mamlkit.maml import Task
from mamlkit.rl import maml_rl, parts
from mamlkit.rl.policy import gaussian_mlp
from mamlkit.rl.sampling import Steps
from mamlkit.runs import seeds, supervised

pytestmark = pytest.mark.benchmark
LIBRARIES = {"higher", "torchopt", "learn2learn"}
# which the counter does not know
IN_PLACE = {torch.ops.aten.baddbmm_: lambda out, a, b, **_: baddbmm_flop(out, a, b)}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_gives_the_meta_gradient(way, kind):
    if way in LIBRARIES and importlib.util.find_spec(way) is None:
        pytest.skip(f"{way} is not installed (make bench installs what it can)")
    learner, params, tasks = small_problem(kind, steps=2)
    run = WAYS[way](learner, params)
    wanted, wanted_losses = loop_gradient(methods.maml(learner).loss, params, tasks)
    for _ in range(2):  # nothing may be left over from one meta-batch for the next
        gradient, losses = run(tasks)
        assert relative_error(gradient, wanted) < 1e-9
        assert torch.allclose(losses, wanted_losses, rtol=1e-9)


def test_a_library_that_is_missing_is_named(monkeypatch, capsys):
    def missing(learner, params):
        raise ImportError("No module named 'nothing'")

    monkeypatch.setitem(WAYS, "nothing", missing)
    learner, params, _ = small_problem("mlp")
    assert list(importable(["loop", "nothing"], learner, params)) == ["loop"]
    assert "nothing: not run (No module named 'nothing')" in capsys.readouterr().err


def test_ways_that_disagree_give_no_table(monkeypatch):
    learner, params, tasks = small_problem("mlp")
    wrong = lambda learner, params: WAYS["loop"](learner, {k: 1.01 * v for k, v in params.items()})
    monkeypatch.setitem(WAYS, "wrong", wrong)
    assert errors(["loop", "mamlkit"], learner, params, tasks, "small")["mamlkit"] < 1e-9
    with pytest.raises(SystemExit, match="small: wrong and loop differ"):
        errors(["loop", "wrong"], learner, params, tasks, "small")


def test_products_are_counted_as_the_chapter_says():
    device = torch.device("cpu")
    # 1 x 40, 40 x 40 and 40 x 1 weights; 25 tasks of 10 support points (9 passes, the first layer 4) and 10
    # query points (3 and 2).
    assert flops(*problem("sinusoid", device)) == 2 * 25 * 10 * (40 * (4 + 2) + (1600 + 40) * (9 + 3))
    learner, params, batch = problem("Omniglot 5-way 1-shot", device)
    first, *others = 14**2 * 9, *(out**2 * 9 * 64 for out in (7, 4, 2)), 5
    assert flops(learner, params, batch) == 2 * 64 * 32 * 5 * (first * 6 + sum(others) * 12)


@pytest.mark.parametrize("pooling", ["stride", "max"])
def test_the_limit_counts_every_product_that_is_run(pooling, monkeypatch):
    # whose convolutions are products that the counter sees
    monkeypatch.setattr(passes, "kernels_of", lambda device: kernels_torch)
    learner = methods.Learner(
        models.conv4(3, filters=2, size=20, pooling=pooling), LOSS, 0.1, inner_steps=3, shots=2
    )
    params = learner.model.init(torch.Generator().manual_seed(0))
    labels = lambda n: torch.arange(3).repeat_interleave(n).expand(1, -1)
    batch = Task(*((torch.randn(1, 3 * n, 1, 20, 20), labels(n)) for n in (2, 5)))
    # which looks once at a network that it has not seen
    meta_batch.meta_gradient(methods.maml(learner), params, batch)
    with FlopCounterMode(display=False, custom_mapping=IN_PLACE) as counter:
        meta_batch.meta_gradient(methods.maml(learner), params, batch)
    assert counter.get_total_flops() == flops(learner, params, batch)


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_are_the_papers(shape):
    learner, _, batch = problem(shape, torch.device("cpu"))
    counts = {
        "sinusoid": (25, 10, 10, 1),
        "Omniglot 5-way 1-shot": (32, 5, 5, 1),
        "Omniglot 5-way 1-shot, no convolution": (32, 5, 5, 1),
        "Omniglot 20-way 1-shot": (16, 20, 20, 5),
    }
    wanted = counts.get(shape, (4, 5, 75, 5))
    (_, support), (_, query) = batch
    assert (len(support), support.shape[1], query.shape[1], learner.inner_steps) == wanted
    if shape == MINI:
        windows = [layer.window for layer in learner.model.layers if layer.window]
        assert [(w.size, w.channels, w.stride) for w in windows] == [
            (84, 3, 1),
            (42, 32, 1),
            (21, 32, 1),
            (10, 32, 1),
        ]
        assert [layer.pool for layer in learner.model.layers[:4]] == [2] * 4 and learner.inner_lr == 0.01


def test_the_limit_of_a_policy_update_counts_every_product_that_is_run(monkeypatch):
    row = dataclasses.replace(get("half-cheetah-velocity-maml"), meta_batch_size=2, rollouts=1)
    policy = gaussian_mlp(20, 6)
    params = policy.init(torch.Generator().manual_seed(0))

    def steps():
        shape = (row.meta_batch_size, 200)
        observations, noise = torch.randn(*shape, 20), torch.randn(*shape, 6)
        return Steps(
            observations,
            policy.mean(params, observations) + noise,
            torch.randn(shape),
            torch.full(shape, 1 / 200),
        )

    before, after = steps(), steps()
    monkeypatch.setattr(parts, "kernels_of", lambda device: kernels_torch)  # products that the counter sees
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # the counter sees its own thread only
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=IN_PLACE) as counter:
        _, step = maml_rl.meta_update(policy, params, before, after, inner_lr=row.inner_lr, max_kl=row.max_kl)
    assert counter.get_total_flops() == update_flops(row, params, step.tries)


@pytest.mark.parametrize(
    ("module", "option", "said"),
    [
        (meta_gradient, "--shape=sinusoid", "--shape is for the parts time, accuracy"),
        (meta_rl, "--robot=ant-velocity", "leave --robot out"),
    ],
)
def test_a_kept_table_is_whole(module, option, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark", "--save", *option.split("=")])
    with pytest.raises(SystemExit):
        module.main()
    assert said in capsys.readouterr().err


def test_some_lines_are_measured_anew_and_each_says_at_which_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(meta_gradient.places, "repository", lambda: tmp_path)
    folder = tmp_path / "data" / "benchmarks" / "here"
    folder.mkdir(parents=True)
    (folder / "time.csv").write_text(f"shape,way,ms\nsinusoid,loop,1\n{MINI},loop,2\n")
    (folder / "origin.json").write_text('{"time": {"commit": "0123456789"}}')
    keep = lambda shape, ms, commit: meta_gradient.keep(
        "here", torch.device("cpu"), "time", [{"shape": shape, "way": "loop", "ms": ms}], {"commit": commit}
    )
    keep("sinusoid", 3, "abcdefghij+changes")
    keep("Omniglot 5-way 1-shot", 4, "aaaaaaaaaa")
    assert (folder / "time.csv").read_text().splitlines()[1:] == [
        "sinusoid,loop,3,abcdefg+",
        "Omniglot 5-way 1-shot,loop,4,aaaaaaa",
        f"{MINI},loop,2,0123456",
    ]


def test_every_table_is_kept_with_its_own_origin(tmp_path, monkeypatch):
    monkeypatch.setattr(meta_gradient.places, "repository", lambda: tmp_path)
    for table, commit in (("scaling", "a"), ("training", "b"), ("scaling", "c")):
        meta_gradient.keep(
            "here", torch.device("cpu"), table, [{"way": "loop", "ms": 1.23456}], {"commit": commit}
        )
    folder = tmp_path / "data" / "benchmarks" / "here"
    assert (folder / "scaling.csv").read_text() == "way,ms\nloop,1.235\n"
    assert json.loads((folder / "origin.json").read_text()) == {
        "scaling": {"commit": "c"},
        "training": {"commit": "b"},
    }


def test_accuracy_is_that_of_each_task_by_itself(monkeypatch):
    found = accuracy.errors("sinusoid", torch.device("cpu"), 3)
    assert found.keys() == {"mamlkit", "loop"} and all(each.shape == (3,) for each in found.values())
    with monkeypatch.context() as patch:
        patch.setattr(accuracy, "MINI", "sinusoid")  # which has no convolution, so that both ways are one
        both = accuracy.errors("sinusoid", torch.device("cpu"), 3)
    assert (both["mamlkit, direct"] == both["mamlkit"]).all()
    learner, params, batch = problem("sinusoid", torch.device("cpu"), 3)
    double = lambda t: t.double()
    last = Task(*(tuple(t[2:] for t in pair) for pair in batch))
    exact, _ = loop_gradient(
        methods.maml(learner).loss,
        {k: double(v) for k, v in params.items()},
        Task(*(tuple(map(double, pair)) for pair in last)),
    )
    single, _ = WAYS["mamlkit"](learner, params)(last)
    off = relative_error({k: double(v) for k, v in single.items()}, exact)
    assert found["mamlkit"][2] == pytest.approx(off, rel=0.5) and 1e-9 < off < 1e-4


def test_what_grows_is_one_number_of_a_problem():
    device = torch.device("cpu")
    learner, _, batch = growth.chosen({"inner_steps": 3}, device)
    assert learner.inner_steps == 3 and batch.query[0].shape == (4, 75, 3, 84, 84)
    learner, params, batch = growth.chosen({"tasks": 3, "shots": 2, "steps": 4, "filters": 8}, device)
    assert learner.inner_steps == 4 and params["conv1"].shape == (8, 8, 3, 3)
    assert batch.support[0].shape[:2] == (3, 10) and batch.query[0].shape[:2] == (3, 5)


def test_memory_is_measured_in_a_process_of_its_own():
    found = growth._memory("loop", {"tasks": 2, "shots": 10}, "cpu", 1)
    assert 10 < found < 500  # the graph of one task, which is less than what importing the libraries takes


def test_differences_become_the_exact_product():
    """Where no unit crosses its kink, a short difference is the derivative."""
    generator = torch.Generator().manual_seed(0)
    policy = gaussian_mlp(3, 2, (5, 4))
    params = {name: value.double() for name, value in policy.init(generator).items()}
    draw = lambda *shape: torch.randn(2, 30, *shape, dtype=torch.float64, generator=generator)
    of_tasks = lambda: Steps(draw(3), draw(2), draw(), torch.full((2, 30), 1 / 30, dtype=torch.float64))
    before, after = of_tasks(), of_tasks()
    exact = maml_rl.MetaBatch(policy, params, before, after, 0.1)
    v = exact.gradient()
    products = {
        b: finite_differences.Differences(policy, params, before, after, 0.1, b)(v) for b in (1e-5, 1.0)
    }
    off = {base: float((p - exact.fisher(v)).norm() / exact.fisher(v).norm()) for base, p in products.items()}
    assert off[1e-5] < 1e-6 < 1e-3 < off[1.0]


def test_tests_that_go_wrong_are_those_of_the_package():
    """With the batch's statistics and with the support's, task by task; the others differ from these."""
    row = get("glyphs-5way-1shot").at("quick")
    params = supervised.build(row).model.init(seeds.generator(0, "init"))
    recorded = traps.running_averages(row, params, 3)
    found = traps.by_statistics(row, params, recorded, 4)
    step = row.evaluations[0].headline_step
    for test, transductive in (("15 queries", True), ("support", False)):
        evaluation = traps.at_headline(row, queries=15, transductive=transductive)
        same = supervised.evaluate(row, params, evaluation, n_tasks=4)["accuracy"][:, step]
        assert abs(found[test] - same).max() < 1e-3
    assert len({tuple(values) for values in found.values()}) == len(found) == 5
    images = torch.rand(3, 1, 28, 28)
    whole = traps.outputs(params, images, recorded)[0]
    assert torch.allclose(traps.outputs(params, images[:1], recorded)[0], whole[:1], atol=1e-4)


def test_a_wrong_test_is_held_against_the_right_one_task_by_task():
    right = np.array([80.0, 100.0, 60.0, 100.0])
    paired = traps.line("alpha on the mean", right - 20, "as the paper", right)
    assert (paired["effect"], paired["effect_ci95"], paired["paired"]) == (-20, 0, True)
    other = traps.line("validation characters", right - 20, "as the paper", right)
    assert other["effect"] == -20 and not other["paired"]
    assert other["effect_ci95"] == pytest.approx(2**0.5 * other["ci95"])


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere /proc does not tell the peak")
def test_memory_of_a_training_is_above_what_the_process_held_and_beside_what_it_learns():
    numbers, peak = compared.memory(get("compare-glyphs-5way-1shot-prototypical"))
    assert numbers == (9 + 4 * 2) * 32 + 3 * 9 * 32**2  # weights, and in four layers bias and shift
    assert 2 < peak < 100  # megabytes: with the libraries it would be hundreds
