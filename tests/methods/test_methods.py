"""The losses' two readings; every method is a function of one task, and is tested by what it says."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import relative_error, small_problem
from mamlkit import maml, methods
from mamlkit.engine import meta_batch
from mamlkit.experiments import paper
from mamlkit.experiments.rows import Row
from mamlkit.methods import contract, losses
from mamlkit.runs import train, trainings

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


def known(method):
    """Whether the losses are squared errors that experiments have a method with, on support and query."""
    rows = [row for row in paper.ROWS.values() if isinstance(row, Row) and row.method == method]
    return {row.loss == "mse" for row in rows if "sequences" not in row.family}


@pytest.mark.parametrize("method", list(methods.METHODS))
def test_every_method_gives_a_scalar_and_a_gradient(kind, method):
    learner, params, tasks = small_problem(kind)
    if learner.loss == "mse" and known(method) == {False}:  # it may be for classes alone
        pytest.skip(f"no experiment has {method} with squared errors")
    made = methods.METHODS[method](learner)
    if not isinstance(made, methods.GradientMethod):  # or for values alone
        if (learner.loss == "mse") not in known(method):
            pytest.skip(f"no experiment has {method} with a loss such as {learner.loss}")
        params = {**made.init(torch.Generator().manual_seed(0)), **params}
        params = {name: value.to(torch.float64) for name, value in params.items()}
    gradient, losses = maml.meta_gradient(made.loss, params, tasks)
    assert losses.shape == (3,) and torch.isfinite(losses).all()
    assert gradient.keys() == params.keys() and all(gradient[k].shape == params[k].shape for k in params)
    assert max(g.abs().max() for g in gradient.values()) > 0


def test_pretraining_sees_the_support_only():
    learner, params, tasks = small_problem("mlp")
    objective = methods.pretraining(learner)
    changed = tasks._replace(query=tuple(t + 1 for t in tasks.query))
    assert torch.equal(
        maml.meta_loss(objective.loss, params, tasks)[1], maml.meta_loss(objective.loss, params, changed)[1]
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


def test_a_class_with_a_loss_of_its_own_must_say_its_predictions():
    with pytest.raises(TypeError, match="Doubled has a loss of its own.*define predict"):

        class Doubled(methods.GradientMethod):
            def loss(self, params, task):
                return 2 * super().loss(params, task)


def test_a_loss_from_a_mixin_is_a_loss_of_its_own():
    class OnSupport:
        def loss(self, params, task):
            return self.learner.loss_fn(params, task.support)

    with pytest.raises(TypeError, match="Mixed has a loss of its own.*define predict"):

        class Mixed(OnSupport, methods.GradientMethod):
            pass

    class Said(OnSupport, methods.GradientMethod):
        predict = methods.GradientMethod.predict

    class Below(Said):  # says neither, and inherits both from one class
        pass


class Doubled(methods.GradientMethod):
    """Twice the loss, so twice the gradient; it predicts as MAML does."""

    def loss(self, params, task):
        return 2 * super().loss(params, task)

    predict = methods.GradientMethod.predict


class Biased(methods.Method):
    """A number of its own beside the network's parameters, which shifts the outputs."""

    def init(self, generator):
        return {**super().init(generator), "shift": torch.zeros(1)}

    def predict(self, params, task):
        return (self.learner.model.apply(params, task.query[0]) + params["shift"])[None]

    def loss(self, params, task):
        return losses.mse(self.predict(params, task)[0], task.query[1])


def test_a_loss_of_its_own_goes_the_general_way():
    learner, params, batch = small_problem("mlp")
    once, twice = (meta_batch.meta_gradient(of(learner), params, batch)[0] for of in (methods.maml, Doubled))
    assert relative_error(twice, {name: 2 * value for name, value in once.items()}) < 1e-11
    one, other = (meta_batch.predictions(of(learner), params, batch) for of in (methods.maml, Doubled))
    assert torch.allclose(one, other, rtol=1e-11)


def test_what_a_method_adds_to_the_parameters_is_trained_saved_and_tested(monkeypatch, tmp_path):
    monkeypatch.setitem(methods.METHODS, "biased", Biased)
    tests = tuple(dataclasses.replace(test, inner_steps=0, headline_step=0) for test in ROW.evaluations[:1])
    row = dataclasses.replace(ROW, method="biased", inner_steps=0, evaluations=tests)
    half = train.fit(row, folder=tmp_path, until=1, validate=False)
    fit = train.fit(row, folder=tmp_path)
    assert half.params["shift"] != 0 and half.params["shift"] != fit.params["shift"]
    straight = train.fit(row).params
    assert all(torch.equal(fit.params[name], straight[name]) for name in straight)
    found = trainings.evaluate_row(row, fit.params)
    without = trainings.evaluate_row(row, fit.params | {"shift": torch.zeros(1)})
    name = tests[0].name
    assert found[name]["mse"].shape == (tests[0].tasks, 1)
    assert not np.allclose(found[name]["mse"], without[name]["mse"])
    with pytest.raises(ValueError, match=r"parameters lack \['shift'\]"):
        trainings.evaluate_row(row, {name: v for name, v in fit.params.items() if name != "shift"})


def test_a_method_that_predicts_at_other_steps_than_its_tests_is_refused_before_training(monkeypatch):
    monkeypatch.setitem(methods.METHODS, "biased", Biased)
    row = dataclasses.replace(ROW, method="biased")
    with pytest.raises(ValueError, match="method 'biased' predicts after 0 steps, .* inner_steps=0"):
        trainings.begin(row)


def without_steps(method, monkeypatch, **changes):
    """A row of a method that takes no inner step, with one test."""
    monkeypatch.setitem(methods.METHODS, "new", method)
    test = dataclasses.replace(ROW.evaluations[0], inner_steps=0, headline_step=0, tasks=5)
    return dataclasses.replace(ROW, method="new", inner_steps=0, evaluations=(test,), **changes)


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda errors: errors[:, 0], r"is \(10,\) for a task, but it must be a scalar"),
        (lambda errors: errors.mean().detach(), "has gradient 0 in all parameters"),
        (lambda errors: (errors < 1).float().mean(), "has gradient 0 in all parameters"),
    ],
    ids=["vector", "detached", "count"],
)
def test_a_loss_that_cannot_be_trained_is_refused_before_training(loss, words, monkeypatch):
    class New(Biased):
        def loss(self, params, task):
            return loss((Biased.predict(self, params, task)[0] - task.query[1]) ** 2)

        predict = Biased.predict

    with pytest.raises(ValueError, match=f"the loss of method 'new' {words}"):
        trainings.begin(without_steps(New, monkeypatch), validate=False)


@pytest.mark.parametrize(
    ("change", "came"),
    [
        (lambda outputs: outputs[0], r"\(5, 1\)"),
        (lambda outputs: outputs[None], r"\(1, 1, 5, 1\)"),
        (lambda outputs: outputs[..., 0], r"\(1, 5\)"),
        (lambda outputs: outputs.mT, r"\(1, 1, 5\)"),
        (lambda outputs: outputs[:, :3], r"\(1, 3, 1\)"),
        (lambda outputs: list(outputs), "list"),
    ],
    ids=["no steps", "an axis more", "no outputs", "outputs first", "fewer points", "list"],
)
def test_predictions_of_another_shape_are_refused_before_training(change, came, monkeypatch):
    class New(Biased):
        def predict(self, params, task):
            return change(Biased.predict(self, params, task))

        def loss(self, params, task):
            return losses.mse(Biased.predict(self, params, task)[0], task.query[1])

    with pytest.raises(
        ValueError, match=f"'new' predicts {came} for a task, .* here of 5 points|it returned a {came}"
    ):
        trainings.begin(without_steps(New, monkeypatch), validate=False)


def test_a_method_is_tried_on_as_many_examples_as_its_tests_have(monkeypatch):
    class New(Biased):
        def predict(self, params, task):
            assert len(task.support[0]) == self.learner.shots
            return Biased.predict(self, params, task)

    row = without_steps(New, monkeypatch)
    assert row.evaluations[0].shots != row.shots
    trainings.begin(row)


def test_training_does_not_write_into_what_a_method_begins_with(monkeypatch):
    start = torch.nn.Parameter(torch.zeros(1))

    class New(Biased):
        def init(self, generator):
            return {**super().init(generator), "shift": start}

    row = without_steps(New, monkeypatch)
    one, other = (train.fit(row).params for _ in range(2))
    assert start == 0 and one["shift"] == other["shift"] != 0


@pytest.mark.parametrize("made", [None, lambda params, task: 0, Biased], ids=["None", "function", "class"])
def test_an_entry_of_the_table_that_makes_no_method_is_refused(made, monkeypatch):
    with pytest.raises(ValueError, match="method 'new' makes .*, but a mamlkit.methods.Method is due"):
        trainings.begin(without_steps(lambda learner: made, monkeypatch))


def test_what_is_no_method_is_refused():
    learner, params, batch = small_problem("mlp")
    for function in (meta_batch.meta_gradient, meta_batch.predictions):
        for wrong in (learner, methods.maml, lambda params, task: 0):
            with pytest.raises(ValueError, match="it must be a mamlkit.methods.Method"):
                function(wrong, params, batch)


def test_a_field_that_a_class_sets_without_being_a_dataclass_is_refused():
    learner, _, _ = small_problem("mlp")

    class Undecorated(methods.GradientMethod):
        adapts = False

    with pytest.raises(TypeError, match="Undecorated.adapts is set, but the method would have adapts=True"):
        Undecorated(learner)

    @dataclasses.dataclass(frozen=True)
    class Decorated(methods.GradientMethod):
        adapts: bool = False

    assert not Decorated(learner).adapts and methods.maml(learner).adapts


@pytest.mark.parametrize("method", list(methods.METHODS))
def test_what_is_asked_for_changes_no_prediction(kind, method):
    learner, params, tasks = small_problem(kind)
    if (learner.loss == "mse") not in known(method):
        pytest.skip(f"no experiment has {method} with a loss such as {learner.loss}")
    made = methods.METHODS[method](learner)
    params = {**made.init(torch.Generator().manual_seed(0)), **params}
    params = {name: value.double() for name, value in params.items() if name in made.shapes}
    contract.check_predictions(method, lambda batch: meta_batch.predictions(made, params, batch), tasks)


@pytest.mark.parametrize("method", list(methods.METHODS))
def test_without_transduction_no_query_matters_to_another(method):
    learner, params, tasks = small_problem("conv-stride")
    if False not in known(method):
        pytest.skip(f"no experiment has {method} with classes")
    alone = methods.METHODS[method](dataclasses.replace(learner, transductive=False))
    params = {**alone.init(torch.Generator().manual_seed(0)), **params}
    params = {name: value.double() for name, value in params.items() if name in alone.shapes}
    few = maml.Task(tasks.support, tuple(part[:, :1] for part in tasks.query))
    whole, one = (meta_batch.predictions(alone, params, batch) for batch in (tasks, few))
    assert torch.allclose(whole[:, :, :1], one, rtol=1e-9)
    if isinstance(alone, methods.GradientMethod) and alone.adapts:
        other = meta_batch.predictions(methods.METHODS[method](learner), params, tasks)
        assert not torch.allclose(whole, other, rtol=1e-3)
        gradient, _ = meta_batch.meta_gradient(alone, params, tasks)
        by_loop, _ = maml.meta_gradient(alone.loss, params, tasks)
        assert all(torch.equal(gradient[name], by_loop[name]) for name in gradient)
