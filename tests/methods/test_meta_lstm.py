"""The meta-learner LSTM against plain gradient descent, equations written by hand, and differences."""

import dataclasses
import math

import pytest
import torch

from conftest import finite_difference, loop_gradient, relative_error, small_problem
from mamlkit import methods
from mamlkit.engine import learned_steps, meta_batch
from mamlkit.experiments import paper
from mamlkit.maml import Task
from mamlkit.methods.coordinates import preprocess
from mamlkit.methods.meta_lstm import SHAPES
from mamlkit.runs import supervised, train

METHOD = "meta-learner lstm"
KINDS = ["mlp", "conv-stride", "conv-max"]  # it takes values and classes


def problem(kind, steps=2):
    """The method on a small network, parameters that are not small, and a meta-batch."""
    learner, network, batch = small_problem(kind, steps=steps)
    made = methods.METHODS[METHOD](learner)
    drawn = made.init(torch.Generator().manual_seed(0))
    # weights that matter, as after some training
    added = {
        name: 30 * drawn[name].double() if "bias" not in name else drawn[name].double() for name in SHAPES
    }
    return made, {**network, **added}, batch


def single(batch, task=0):
    return Task(*(tuple(tensor[task] for tensor in part) for part in batch))


def constant(params, keep, step):
    """The same parameters with gates that see nothing."""
    logit = lambda p: torch.tensor([math.log(p / (1 - p)) if p < 1 else 40.0], dtype=torch.float64)
    zero = {name: torch.zeros_like(params[name]) for name in ("forget_gate", "input_gate")}
    return params | zero | {"forget_gate_bias": logit(keep), "input_gate_bias": logit(step)}


def test_it_begins_as_the_authors_have_it():
    learner, _, _ = small_problem("mlp")
    drawn = methods.METHODS[METHOD](learner).init(torch.Generator().manual_seed(3))
    added = {name: drawn[name] for name in SHAPES}
    assert sum(value.numel() for value in added.values()) == 2046  # 34,947 less the 32,901 of their network
    biases = {"forget_gate_bias": (4, 5), "input_gate_bias": (-5, -4)}
    for name, value in added.items():
        low, high = biases.get(name, (-0.01, 0.01))
        assert low <= value.min() and value.max() <= high


@pytest.mark.parametrize("kind", KINDS)
def test_with_gates_that_see_nothing_it_is_gradient_descent_with_decay(kind):
    """theta_T = keep theta - step g / n at each step; with keep = 1 plain descent with rate step / n."""
    made, params, batch = problem(kind, steps=3)
    task, learner = single(batch), made.learner
    network = {name: params[name] for name in learner.model.shapes}
    points = len(task.support[1])
    plain = dataclasses.replace(learner, inner_lr=0.3 / points)
    found = made.path(constant(params, keep=1, step=0.3), task.support)
    for ours, theirs in zip(found, plain.adaptation_path(network, task.support), strict=True):
        assert relative_error(ours, theirs) < 1e-9
    shrunk = made.path(constant(params, keep=0.9, step=1e-300), task.support)[-1]
    for name, value in network.items():
        wanted = value if name in learner.model.frozen else 0.9**3 * value
        assert torch.allclose(shrunk[name], wanted, rtol=1e-12)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def by_hand(params, coordinate, slopes, losses):
    """The values of one coordinate, from its gradients and the losses of each step: numbers only."""
    weights = {name: params[name].tolist() for name in SHAPES}
    hidden, memory, keep, step, path = [0.0] * 20, [0.0] * 20, 0.0, 0.0, [coordinate]
    for slope, loss in zip(slopes, losses):
        parts = lambda x: [math.log(abs(x)) / 10, math.copysign(1, x)]
        x = [*parts(loss), *parts(slope), *hidden]
        z = [sum(w * v for w, v in zip(row, x)) + b for row, b in zip(weights["lstm"], weights["lstm_bias"])]
        memory = [sigmoid(z[20 + j]) * memory[j] + sigmoid(z[j]) * math.tanh(z[60 + j]) for j in range(20)]
        hidden = [sigmoid(z[40 + j]) * math.tanh(memory[j]) for j in range(20)]
        gate = lambda name, before, x=(*hidden, path[-1]): (
            sum(w * v for w, v in zip(weights[name][0], [*x, before])) + weights[f"{name}_bias"][0]
        )
        keep, step = gate("forget_gate", keep), gate("input_gate", step)
        path.append(sigmoid(keep) * path[-1] - sigmoid(step) * slope)
    return path


def test_each_coordinate_follows_the_equations():
    made, params, batch = problem("mlp", steps=3)
    task = single(batch)
    found = made.path(params, task.support)
    slopes, losses = [], []
    for network in found[:-1]:
        leaves = {name: value.clone().requires_grad_() for name, value in network.items()}
        loss = made.learner.loss_fn(leaves, task.support)
        losses.append(loss.item())
        slopes.append(dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())))))
    points = len(task.support[1])
    for name in ("weight0", "bias1", "weight2"):
        for k in range(2):
            of = [float(slope[name].flatten()[k]) / points for slope in slopes]
            if min(map(abs, of)) > math.exp(-10):
                wanted = by_hand(params, float(params[name].flatten()[k]), of, losses)
                got = [float(network[name].flatten()[k]) for network in found]
                assert got == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_its_gradient_is_that_of_differences_with_gradients_and_losses_held(kind):
    """Differences of the loss itself would see theta through the inner gradients, which the paper leaves out.

    So the inner gradients and losses along the path are written down, and the difference quotient takes
    these, whatever parameters it tries.
    """
    made, params, batch = problem(kind)
    task, learner = single(batch), made.learner
    points, moving = len(task.support[1]), [n for n in learner.model.shapes if n not in learner.model.frozen]
    held = []
    for network in made.path(params, task.support)[:-1]:
        leaves = {name: network[name].detach().clone().requires_grad_() for name in network}
        loss = learner.loss_fn(leaves, task.support)
        slopes = torch.autograd.grad(loss, [leaves[name] for name in moving])
        held.append((torch.cat([slope.flatten() for slope in slopes]) / points, loss.detach()))

    def meta_loss(params):
        cell = torch.cat([params[name].flatten() for name in moving])
        hidden = memory = torch.zeros(len(cell), 20, dtype=cell.dtype)
        gates = {"forget_gate": torch.zeros_like(cell), "input_gate": torch.zeros_like(cell)}
        for slope, loss in held:
            x = torch.cat([preprocess(loss).expand(len(cell), 2), preprocess(slope), hidden], 1)
            i, f, o, g = (x @ params["lstm"].T + params["lstm_bias"]).chunk(4, 1)
            memory = f.sigmoid() * memory + i.sigmoid() * g.tanh()
            hidden = o.sigmoid() * memory.tanh()
            for name, before in gates.items():
                x = torch.cat([hidden, cell[:, None], before[:, None]], 1)
                gates[name] = (x @ params[name].T)[:, 0] + params[f"{name}_bias"]
            cell = gates["forget_gate"].sigmoid() * cell - gates["input_gate"].sigmoid() * slope
        sizes = [params[name].numel() for name in moving]
        fast = {n: part.view(learner.model.shapes[n]) for n, part in zip(moving, cell.split(sizes))}
        network = {name: params[name] for name in learner.model.shapes}
        return learner.loss_of(learner.outputs(network | fast, task), task.query[1])

    found, losses = loop_gradient(made.loss, params, Task(*(tuple(t[:1] for t in p) for p in batch)))
    assert torch.allclose(losses[0], meta_loss(params), rtol=1e-11)
    some = {n: v for n, v in params.items() if n not in ("lstm", "conv1", "conv2", "conv3")}
    wanted = finite_difference(lambda some: meta_loss({**params, **some}), some)
    assert relative_error(found, wanted) < 1e-6
    bias = params["input_gate_bias"]
    ahead, behind = (made.loss({**params, "input_gate_bias": bias + e}, task) for e in (1e-6, -1e-6))
    assert not torch.isclose(found["input_gate_bias"], (ahead - behind) / 2e-6, rtol=1e-6)  # not held


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_by_the_passes_it_is_the_method_as_it_is_written(kind, steps, monkeypatch):
    made, params, batch = problem(kind, steps=steps)
    assert learned_steps.is_for(made, batch)
    apart = dataclasses.replace(made, learner=dataclasses.replace(made.learner, transductive=False))
    fast = [meta_batch.predictions(each, params, batch) for each in (made, apart)]
    gradient, losses = meta_batch.meta_gradient(made, params, batch)
    assert gradient.keys() == params.keys()
    monkeypatch.setattr(learned_steps, "is_for", lambda *_: False)
    wanted, wanted_losses = meta_batch.meta_gradient(made, params, batch)
    assert torch.allclose(losses, wanted_losses, rtol=1e-9)
    for name, value in wanted.items():
        assert torch.allclose(gradient[name], value, rtol=1e-8, atol=1e-10), name
    for found, each in zip(fast, (made, apart)):
        assert torch.allclose(found, meta_batch.predictions(each, params, batch), rtol=1e-8, atol=1e-10)


def test_the_passes_of_a_part_of_the_network_that_moves():
    """What is frozen learns from the queries alone; where nothing moves there is no LSTM."""
    made, params, batch = problem("conv-stride")
    learner = made.learner
    some = dataclasses.replace(made, learner=learner.adapting("head", "conv1"))
    gradient, _ = meta_batch.meta_gradient(some, params, batch)
    assert gradient["conv0"].any() and learned_steps.is_for(some, batch)
    wanted, _ = loop_gradient(some.loss, params, batch)
    assert relative_error(gradient, wanted) < 1e-9
    assert not learned_steps.is_for(dataclasses.replace(made, learner=learner.adapting()), batch)


@pytest.mark.parametrize("kind", KINDS)
def test_tasks_together_are_as_each_alone(kind):
    made, params, batch = problem(kind)
    gradient, losses = meta_batch.meta_gradient(made, params, batch)
    wanted, wanted_losses = loop_gradient(made.loss, params, batch)
    assert relative_error(gradient, wanted) < 1e-9 and torch.allclose(losses, wanted_losses, rtol=1e-9)
    outputs = meta_batch.predictions(made, params, batch)
    assert torch.allclose(outputs[:, 1], made.predict(params, single(batch, 1)), rtol=1e-9)


def test_the_order_of_support_examples_does_not_matter():
    made, params, batch = problem("conv-stride")
    (inputs, labels), query = single(batch)
    order = torch.tensor([2, 0, 3, 1])
    turned = inputs[order], labels[order]
    one, other = (made.predict(params, Task(support, query)) for support in ((inputs, labels), turned))
    assert torch.allclose(one, other, rtol=1e-9)


def test_without_transduction_a_query_does_not_see_another():
    made, params, batch = problem("conv-stride")
    apart = dataclasses.replace(made, learner=dataclasses.replace(made.learner, transductive=False))
    task = single(batch)
    alone = task._replace(query=tuple(t[:1] for t in task.query))
    assert torch.allclose(apart.predict(params, task)[:, :1], apart.predict(params, alone), rtol=1e-9)


def test_it_learns_glyphs():
    row = dataclasses.replace(
        paper.get("glyphs-5way-1shot").at("quick"),
        method=METHOD,
        network=("conv4", {"ways": 5, "filters": 8}),
        loss="cross-entropy, mean",
        inner_steps=3,
        meta_batch_size=4,
        iterations=50,
    )
    begun, fit = (train.fit(row, until=until, validate=False) for until in (0, 50))
    test = dataclasses.replace(row.evaluations[0], inner_steps=3, headline_step=3, queries=5)
    before, after = (
        supervised.evaluate(row, f.params, test, split="val", n_tasks=100)["accuracy"][:, -1].mean()
        for f in (begun, fit)
    )
    assert after > before + 5
