"""What a new method forgets is said before training, in words about the method."""

import dataclasses
import itertools
import math
import re

import numpy as np
import pytest
import torch

from mamlkit import methods
from mamlkit.experiments import paper
from mamlkit.runs import supervised, supervised_training

ROW = dataclasses.replace(paper.get("sinusoid-maml"), method="new", iterations=1)
CHANCE = np.random.default_rng(0)


class Whole(methods.Method):
    """One that lacks nothing."""

    def loss(self, params, task):
        return self.learner.loss_fn(self.learner.adapt(params, task.support), task.query)

    def predict(self, params, task):
        outputs = [self.learner.outputs(p, task) for p in self.learner.adaptation_path(params, task.support)]
        return torch.stack(outputs)


def without(part, returned=None):
    """The same, but for a part that returns something else."""
    parts = {"loss": Whole.loss, "predict": Whole.predict} | {part: lambda self, *_: returned}
    return type("Lacking", (Whole,), parts)


def own_init(self, learner):
    self.kept = learner


def autograd(self, params, task):
    moved = self.learner.loss_fn(params, task.support)
    return torch.autograd.grad(moved, list(params.values()), create_graph=True)[0].sum()


def in_place(self, params, task):
    for name, slope in torch.func.grad(self.learner.loss_fn)(params, task.support).items():
        params[name] -= 0.01 * slope
    return self.learner.loss_fn(params, task.query)


def in_place_at_a_test(self, params, task):
    in_place(self, params, task)
    return self.learner.outputs(params, task)[None]


def told(self, params, task):
    """Predictions that are moved towards what they should be."""
    return Whole.predict(self, params, task) + 0.1 * task.query[1]


def chancy(self, params, task):
    return Whole.loss(self, params, task) * (1 + CHANCE.random())


def counted(self, params, task):
    return Whole.loss(self, params, task) * next(self.calls)


def in_place_in_a_leaf(self, params, task):
    for value in params.values():
        value -= 0.1
    return self.learner.loss_fn(params, task.query)


def of_a_value(how):
    """A loss that does something for which a tensor's own value is needed, or chance."""

    def loss(self, params, task):
        error = self.learner.loss_fn(params, task.query)
        return error * how(error)

    return type("Own", (Whole,), {"loss": loss, "predict": Whole.predict})


def drawn(draws):
    """A method whose parameters are drawn as said, but for one number each."""
    return type("Own", (Whole,), {"init": lambda self, generator: {"weight0": draws(generator)}})


WRONG = {
    "no loss": (without("loss"), "loss of method 'new' must return a tensor, but it returned None; does it"),
    "no predictions": (without("predict"), "predict of method 'new' must return a tensor, but .* None"),
    "a list": (without("predict", [torch.zeros(10, 1)] * 2), "must return a tensor, but it returned a list"),
    "no parameters": (without("init"), "init of method 'new' must return a dict of .* returned None"),
    "no learner": (type("Own", (Whole,), {"__init__": own_init}), r"a Own without a learner; .*super\(\)"),
    "autograd": (
        type("Own", (Whole,), {"loss": autograd, "predict": Whole.predict}),
        "loss of method 'new' calls torch.autograd.grad .*; take torch.func.grad",
    ),
    "in place": (
        type("Own", (Whole,), {"loss": in_place, "predict": Whole.predict}),
        r"loss of method 'new' changes a tensor in place, .*; make new ones, such as {k: v - step\[k\]",
    ),
    "in place in a leaf": (
        type("Own", (Whole,), {"loss": in_place_in_a_leaf, "predict": Whole.predict}),
        "loss of method 'new' changes a tensor in place",
    ),
    "item": (of_a_value(torch.Tensor.item), r"loss of method 'new' .* no \.item\(\)"),
    "if": (of_a_value(lambda error: 1 if error > 1 else 2), "loss of method 'new' .* no if"),
    "chance": (of_a_value(torch.rand_like), "loss of method 'new' .* nothing random"),
    "generator ignored": (
        drawn(lambda generator: torch.rand(1)),
        "gave other parameters with a generator of",
    ),
    "double": (
        drawn(lambda generator: torch.zeros(1).double()),
        "weight0: torch.float64, but .* torch.float32",
    ),
    "in place at a test": (
        type("Own", (Whole,), {"predict": in_place_at_a_test}),
        "predict of method 'new' changes a tensor in place",
    ),
    "a look at the answers": (
        type("Own", (Whole,), {"predict": told}),
        "predict of method 'new' gives something else where the targets of the query are others",
    ),
    "not finite": (
        type("Own", (Whole,), {"predict": lambda *given: Whole.predict(*given) * math.inf}),
        "predict of method 'new' gives what is not finite before any training",
    ),
    "NumPy's chance in a test": (
        type("Own", (Whole,), {"predict": lambda *given: Whole.predict(*given) + CHANCE.random()}),
        "predict of method 'new' gives something else the second time",
    ),
    "NumPy's chance in a loss": (
        type("Own", (Whole,), {"loss": chancy, "predict": Whole.predict}),
        "loss of method 'new' gives something else the second time",
    ),
    "a loss that counts": (
        type("Own", (Whole,), {"loss": counted, "predict": Whole.predict, "calls": itertools.count(1)}),
        "loss of method 'new' gives something else the second time",
    ),
    "a list of names": (lambda learner: methods.maml(learner.adapting(["weight0"])), r"\(\['weight0'\]\)"),
}


@pytest.mark.parametrize(("made", "words"), WRONG.values(), ids=WRONG)
def test_what_a_method_lacks_is_said_before_training(monkeypatch, made, words):
    monkeypatch.setitem(methods.METHODS, "new", made)
    with pytest.raises(ValueError, match=words):
        supervised_training.SupervisedTraining(ROW, 0, "cpu", validate=False)


def test_what_lacks_nothing_is_trained(monkeypatch):
    monkeypatch.setitem(methods.METHODS, "new", Whole)
    training = supervised_training.SupervisedTraining(ROW, 0, "cpu", validate=False)
    training.step(0)
    assert torch.isfinite(training.window[0])


def test_an_error_of_a_method_that_is_none_of_these_is_its_own(monkeypatch):
    def loss(self, params, task):
        raise RuntimeError("another")

    monkeypatch.setitem(
        methods.METHODS, "new", type("Own", (Whole,), {"loss": loss, "predict": Whole.predict})
    )
    with pytest.raises(RuntimeError, match=re.escape("another")):
        supervised_training.SupervisedTraining(ROW, 0, "cpu", validate=False)


def test_a_list_of_predictions_is_refused_in_a_test_as_well(monkeypatch):
    parts = {"loss": Whole.loss, "predict": lambda *given: list(Whole.predict(*given))}
    monkeypatch.setitem(methods.METHODS, "new", type("Lister", (Whole,), parts))
    params = supervised.build(ROW).model.init(torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="'new' predicts list for a task"):
        supervised.evaluate(ROW, params, ROW.evaluations[0], n_tasks=1)
