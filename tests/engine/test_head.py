"""Where the head alone is adapted, the body is run once; that the numbers are right, test_two_ways asks."""

import pytest
import torch

from conftest import small_problem, ways
from mamlkit import methods
from mamlkit.engine import kernels_cpu, meta_batch
from mamlkit.maml import Task


@pytest.mark.parametrize("name", ["head only", "body only"])
def test_the_body_is_run_once_however_many_steps_there_are(name, monkeypatch):
    calls = []
    for kernel in ("product", "weight_gradient"):
        plain = getattr(kernels_cpu, kernel)
        counted = lambda *given, plain=plain: calls.append(plain) or plain(*given)
        monkeypatch.setattr(kernels_cpu, kernel, counted)
    counts = {}
    for steps in (1, 5):
        learner, params, batch = small_problem("conv-stride", steps=steps)
        method = methods.METHODS[name](learner)
        for function in (meta_batch.meta_gradient, meta_batch.predictions):
            calls.clear()
            function(method, params, batch)
            counts.setdefault(function, []).append(len(calls))
    gradient, predictions = counts.values()
    if name == "head only":  # four blocks; support and query; forward, and in training back
        assert gradient == [16, 16] and predictions == [8, 8]
    else:
        assert gradient[0] > 16 and gradient[1] > 3 * gradient[0] and predictions[1] > 2 * predictions[0]


@pytest.mark.parametrize("kind", ["conv-stride", "conv-max"])
def test_the_modes_of_a_caller_change_nothing(kind):
    learner, params, tasks = small_problem(kind, dtype=torch.float32)
    learner = learner.adapting("head", "head_bias")
    wanted = [way() for way in ways(learner, params, tasks)][:2]
    with torch.inference_mode(), torch.autocast("cpu"):
        params = {name: value.clone() for name, value in params.items()}
        tasks = Task(*(tuple(t.clone() for t in pair) for pair in tasks))
        found = [way() for way in ways(learner, params, tasks)][:2]
    assert torch.equal(found[1], wanted[1]) and torch.equal(found[0][1], wanted[0][1])
    assert all(torch.equal(found[0][0][name], wanted[0][0][name]) for name in params)
