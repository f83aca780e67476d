"""The losses' two readings; every method is a function of one task, and is tested by what it says."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import relative_error, small_problem
from mamlkit import maml, methods, tasks
from mamlkit.engine import meta_batch
from mamlkit.experiments import paper
from mamlkit.methods import losses
from mamlkit.runs import supervised

PAGE = Path(__file__).parents[2] / "book" / "how-to.md"
NETWORK = ("mlp", {"inputs": 1, "hidden": (20, 20), "outputs": 1, "std": 0.5})
ROW = dataclasses.replace(paper.get("sinusoid-maml"), iterations=2, meta_batch_size=4, network=NETWORK)


def test_the_authors_loss_is_ways_times_the_mean_on_the_support():
    ways, shots = 5, 3
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(ways * shots, ways, generator=generator, dtype=torch.float64)
    labels = torch.arange(ways).repeat_interleave(shots)
    by_hand = -sum(logits.log_softmax(1)[i, label] for i, label in enumerate(labels)) / shots
    assert torch.allclose(losses.cross_entropy_per_shot(logits, labels, shots), by_hand, rtol=1e-12)
    assert torch.allclose(by_hand, ways * losses.cross_entropy_mean(logits, labels, shots), rtol=1e-12)


def test_the_two_readings_agree_when_alpha_is_rescaled():
    authors, params, tasks = small_problem("conv-stride", tasks=1)
    support = tuple(t[0] for t in tasks.support)
    mean = methods.Learner(
        authors.model, "cross-entropy, mean", authors.inner_lr * 2, authors.inner_steps, authors.shots
    )
    one, other = authors.adapt(params, support), mean.adapt(params, support)
    assert all(torch.allclose(one[k], other[k], rtol=1e-10, atol=1e-12) for k in params)


def test_mse_is_the_mean_over_points():
    outputs, targets = torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [1.0]])
    assert losses.mse(outputs, targets, shots=2) == 2.5


@pytest.mark.parametrize("method", list(methods.METHODS))
def test_every_method_gives_a_scalar_and_a_gradient(kind, method):
    learner, params, tasks = small_problem(kind)
    gradient, losses = maml.meta_gradient(methods.METHODS[method](learner), params, tasks)
    assert losses.shape == (3,) and torch.isfinite(losses).all()
    assert gradient.keys() == params.keys() and all(gradient[k].shape == params[k].shape for k in params)
    assert max(g.abs().max() for g in gradient.values()) > 0


def test_pretraining_sees_the_support_only():
    learner, params, tasks = small_problem("mlp")
    objective = methods.pretraining(learner)
    changed = tasks._replace(query=tuple(t + 1 for t in tasks.query))
    assert torch.equal(
        maml.meta_loss(objective, params, tasks)[1], maml.meta_loss(objective, params, changed)[1]
    )


@pytest.mark.parametrize("loss", ["mse", "cross-entropy, mean"])
def test_a_loss_refuses_targets_that_would_be_stretched(loss):
    outputs = torch.zeros(3, 2)
    wrong = [torch.zeros(3), torch.zeros(1, 2), torch.zeros(3, 1), torch.zeros(2, 3)]
    if loss != "mse":
        wrong = [torch.zeros(shape, dtype=torch.int64) for shape in (1, 2, (3, 2))]
        wrong += [torch.zeros(3), torch.zeros(3, dtype=torch.int32)]
    for targets in wrong:
        with pytest.raises(ValueError, match="give one|must be whole numbers"):
            methods.LOSSES[loss](outputs, targets, 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shots": -1}, "shots=-1, .* at least 1"),
        ({"shots": 0}, "shots=0, .* at least 1"),
        ({"shots": 1.5}, "shots=1.5, .* whole number"),
        ({"inner_steps": -1}, "inner_steps=-1, .* at least 0"),
        ({"inner_steps": 2.0}, "inner_steps=2.0, .* whole number"),
        ({"inner_lr": float("nan")}, "inner_lr=nan"),
        ({"inner_lr": -0.1}, "inner_lr=-0.1"),
        ({"loss": "hinge"}, "loss='hinge', but it must be one of 'mse'"),
    ],
)
def test_a_learner_that_cannot_be_is_refused(change, words):
    learner, _, _ = small_problem("mlp")
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(learner, **change)


def test_adapting_moves_these_parameters_and_no_others():
    learner, params, batch = small_problem("mlp")
    fast = learner.adapting("weight1").adapt(params, tuple(t[0] for t in batch.support))
    assert [name for name in params if not torch.equal(fast[name], params[name])] == ["weight1"]
    with pytest.raises(ValueError, match=r"\['head'\] are no parameters .* it has weight0, bias0"):
        learner.adapting("head")


@pytest.fixture
def page(monkeypatch):
    """What the page on adding a method defines, and two of it as methods."""
    section = PAGE.read_text(encoding="utf-8").partition("**A method**")[2].partition("**An experiment**")[0]
    scope = dict(vars(methods))
    for block in re.findall(r"```python\n(.*?)```", section, re.S):
        exec(block, scope)
    monkeypatch.setitem(methods.METHODS, "anil", scope["anil"])
    monkeypatch.setitem(methods.METHODS, "no adaptation", scope["NoAdaptation"])
    return scope


def weights(row):
    return supervised.build(row).model.init(supervised.generator(0, "init"))


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("method", ["anil", "no adaptation"])
def test_the_methods_of_the_page_have_the_gradient_of_the_general_way(page, method, steps):
    learner = dataclasses.replace(supervised.build(ROW), inner_lr=0.05, inner_steps=steps)
    params = {name: value.double() for name, value in weights(ROW).items()}
    generator = torch.Generator().manual_seed(0)
    points = lambda: torch.randn(6, 10, 1, generator=generator, dtype=torch.float64)
    six = maml.Task((points(), points()), (points(), points()))
    objective = methods.METHODS[method](learner)
    gradient, losses = meta_batch.meta_gradient(objective, params, six)
    wanted, wanted_losses = maml.meta_gradient(objective, params, six)
    assert all(relative_error({name: gradient[name]}, {name: wanted[name]}) < 1e-9 for name in params)
    assert torch.allclose(losses, wanted_losses, rtol=1e-9)


def test_anil_adapts_the_head_alone_in_training_and_in_tests(page):
    row, params = dataclasses.replace(ROW, method="anil"), weights(ROW)
    test = row.evaluations[1]
    found, all_layers = (supervised.evaluate(r, params, test, n_tasks=600)["mse"] for r in (row, ROW))
    family = tasks.make("sinusoid", "test", shots=test.shots, queries=test.queries)
    batch = family.sample(supervised.generator(0, "evaluate test", 0), supervised.EVALUATION_CHUNK)
    learner = supervised.build(row, test)
    for i in range(3):
        support, (x, y) = (tuple(t[i] for t in pair) for pair in batch)
        fast = dict(params)
        for step in range(test.inner_steps + 1):
            wanted = ((learner.model.apply(fast, x) - y) ** 2).mean()
            assert np.isclose(found[i, step], float(wanted), rtol=1e-4)
            head = {name: fast[name].clone().requires_grad_() for name in ("weight2", "bias2")}
            gradient = torch.autograd.grad(learner.loss_fn({**fast, **head}, support), list(head.values()))
            fast |= {name: (w - test.inner_lr * g).detach() for (name, w), g in zip(head.items(), gradient)}
    assert np.array_equal(found[:, 0], all_layers[:, 0])
    assert np.abs(found - all_layers)[:, -1].mean() > 0.2  # to adapt all layers gives other numbers


def test_a_method_of_its_own_is_trained_and_tested_by_what_it_says(page):
    row = dataclasses.replace(ROW, method="no adaptation")
    fit = supervised.fit(row)
    assert np.isfinite(fit.log.validation.iloc[-1])
    found, other = (
        supervised.evaluate(r, fit.params, row.evaluations[1], n_tasks=5)["mse"] for r in (row, ROW)
    )
    assert np.allclose(found, other, rtol=1e-4)


class OwnLoss(methods.Objective):
    def __call__(self, params, task):
        return 2 * super().__call__(params, task)


def plain_function(learner):
    return lambda params, task: 2 * methods.maml(learner)(params, task)


@pytest.mark.parametrize("method", [OwnLoss, plain_function])
def test_what_does_not_say_how_it_predicts_is_trained_but_not_tested(method, monkeypatch):
    monkeypatch.setitem(methods.METHODS, "own", method)
    learner, params, batch = small_problem("mlp")
    once, twice = (meta_batch.meta_gradient(of(learner), params, batch)[0] for of in (methods.maml, method))
    assert relative_error(twice, {name: 2 * value for name, value in once.items()}) < 1e-11
    row = dataclasses.replace(ROW, method="own")
    assert supervised.fit(row, validate=False).iteration == 2
    for call in (
        lambda: supervised.evaluate(row, weights(row), row.evaluations[0]),
        lambda: supervised.fit(row),
    ):
        with pytest.raises(ValueError, match="can be trained but not tested.*predict"):
            call()


def test_a_function_can_say_how_it_predicts():
    learner, params, batch = small_problem("mlp")
    objective = lambda params, task: learner.loss_fn(params, task.query)
    objective.predict = lambda params, task: learner.model.apply(params, task.query[0])[None]
    unadapted = methods.maml(dataclasses.replace(learner, inner_steps=0))
    found, wanted = (meta_batch.predictions(each, params, batch) for each in (objective, unadapted))
    assert torch.allclose(found, wanted, rtol=1e-12)
    with pytest.raises(ValueError, match="can be trained but not tested"):
        meta_batch.predictions(learner, params, batch)
