"""Where the head alone is adapted, the body is run once; that the numbers are right, test_two_ways asks."""

import dataclasses

import pytest
import torch

from conftest import loop_gradient, relative_error, small_problem, ways
from mamlkit import methods, models
from mamlkit.engine import kernels_cpu, kernels_torch, meta_batch, passes
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


@pytest.mark.parametrize("last", ["relu", "normalised"])
def test_a_last_layer_that_is_not_linear_goes_another_way(last):
    learner, _, _ = small_problem("mlp")
    wide = models.mlp(3, (5, 4, 2), 2, batch_norm_shifts=last == "normalised", std=0.5)
    names = [name for name in wide.shapes if not name.endswith("3")]

    def init(generator):
        return {name: value for name, value in wide.init(generator).items() if name in names}

    def apply(params, x, reference=None):  # all but the head of the wider network
        eye = {"weight3": torch.eye(2).to(x), "bias3": torch.zeros(2).to(x)}
        return wide.apply(params | eye, x, reference)

    model = models.Model(init, apply, wide.frozen, wide.layers[:-1])
    learner = dataclasses.replace(learner, model=model, loss="mse").adapting("weight2", "bias2")
    generator = torch.Generator().manual_seed(0)
    params = {k: v.double() + 0.1 for k, v in init(generator).items()}
    part = lambda n: (torch.randn(3, n, 3, generator=generator).double(), torch.ones(3, n, 2).double())
    tasks = Task(part(4), part(3))
    made = methods.maml(learner)
    for kernels in (kernels_cpu, kernels_torch):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(passes, "kernels_of", lambda device, kernels=kernels: kernels)
            found, _ = meta_batch.meta_gradient(made, params, tasks)
            outputs = meta_batch.predictions(made, params, tasks)
        assert relative_error(found, loop_gradient(made.loss, params, tasks)[0]) < 1e-9
        wanted = torch.func.vmap(made.predict, in_dims=(None, 0), out_dims=1)(params, tasks)
        assert torch.allclose(outputs, wanted, rtol=1e-9)


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
