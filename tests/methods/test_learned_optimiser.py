"""Update rules against PyTorch's own, a hand-written LSTM, and differences of the meta-loss."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from conftest import finite_difference, relative_error
from mamlkit.methods import coordinates, learned_optimiser
from mamlkit.runs import learned_optimiser as runs
from mamlkit.runs.seeds import generator
from mamlkit.tasks import objectives

PYTORCHS = {
    "SGD": lambda p, lr: torch.optim.SGD(p, lr),
    "momentum": lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9),
    "RMSProp": lambda p, lr: torch.optim.RMSprop(p, lr),
    "Adam": lambda p, lr: torch.optim.Adam(p, lr),
}


def doubled(found):
    return found._replace(start=found.start.double())


def small(inputs=1, seed=0):
    """An LSTM in float64, whose updates are small enough for a short descent."""
    phi = learned_optimiser.init(generator(seed, "init"), inputs)
    return {name: 0.5 * value.double() for name, value in phi.items()}


@given(st.floats(-1e6, 1e6), st.sampled_from([1.0, 5.0, 10.0]))
def test_preprocessing_is_the_printed_formula(x, p):
    large = abs(x) >= math.exp(-p)
    wanted = (math.log(abs(x)) / p, math.copysign(1, x)) if large else (-1, math.exp(p) * x)
    found = coordinates.preprocess(torch.tensor(x, dtype=torch.float64), p)
    assert torch.allclose(found, torch.tensor(wanted, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_a_step_of_the_lstm_is_pytorchs_with_its_gates_in_another_order():
    draw = lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=generator(0, f"{shape}"))
    weight, bias, x, hidden, cell = draw(12, 5), draw(12), draw(7, 2), draw(7, 3), draw(7, 3) / 2
    theirs = torch.nn.LSTMCell(2, 3, dtype=torch.float64)
    i, f, o, g = weight.chunk(4)
    bi, bf, bo, bg = bias.chunk(4)
    with torch.no_grad():
        theirs.weight_ih.copy_(torch.cat([i, f, g, o])[:, :2])
        theirs.weight_hh.copy_(torch.cat([i, f, g, o])[:, 2:])
        theirs.bias_ih.copy_(torch.cat([bi, bf, bg, bo]))
        theirs.bias_hh.zero_()
    found = coordinates.lstm_step(weight, bias, x, hidden, cell)
    assert all(torch.allclose(a, b, rtol=1e-12) for a, b in zip(found, theirs(x, (hidden, cell))))


@pytest.mark.parametrize("name", list(learned_optimiser.RULES))
def test_a_usual_rule_is_pytorchs(name):
    """Ten steps on a quadratic, whose gradient changes."""
    found = doubled(objectives.quadratics(generator(0, "test"), 3))
    rule, theirs = learned_optimiser.RULES[name](0.01), found.start.clone().requires_grad_()
    optimiser = PYTORCHS[name]([theirs], 0.01)
    theta, state = found.start, rule.begin(found.start)
    for step in range(10):
        _, (theta, state) = learned_optimiser.unroll(rule, found.loss, theta, state, range(step, step + 1))
        optimiser.zero_grad()
        found.loss(theirs, step).sum().backward()
        optimiser.step()
        assert torch.allclose(theta, theirs, rtol=1e-10)


def by_hand(phi, gradient, state):
    """One update of one coordinate, a number at a time, from the equations of an LSTM."""
    sigmoid = lambda v: 1 / (1 + math.exp(-v))
    x, after = [gradient], []
    for layer in range(2):
        weight, bias = phi[f"lstm{layer}"].tolist(), phi[f"lstm{layer}_bias"].tolist()
        hidden, cell = state[layer] if state else ([0.0] * 20, [0.0] * 20)
        z = [sum(w * v for w, v in zip(row, x + hidden)) + b for row, b in zip(weight, bias)]
        cell = [sigmoid(z[20 + j]) * cell[j] + sigmoid(z[j]) * math.tanh(z[60 + j]) for j in range(20)]
        x = [sigmoid(z[40 + j]) * math.tanh(cell[j]) for j in range(20)]
        after.append((x, cell))
    weight, bias = phi["output"][0].tolist(), float(phi["output_bias"])
    return sum(w * v for w, v in zip(weight, x)) + bias, after


@pytest.mark.parametrize("inputs", [1, 2])
def test_an_lstm_begins_with_a_bias_of_one_for_its_forget_gates_alone(inputs):
    """Without weights, a cell keeps sigmoid(1) of what it has, and half of nothing comes in or out."""
    phi, cell = learned_optimiser.init(generator(0, "init"), inputs), torch.linspace(-2, 2, 20)
    for layer in range(2):
        weight, bias = torch.zeros_like(phi[f"lstm{layer}"]), phi[f"lstm{layer}_bias"]
        x = torch.zeros(weight.shape[1] - 20)
        hidden, after = coordinates.lstm_step(weight, bias, x, torch.zeros(20), cell)
        torch.testing.assert_close(after, cell / (1 + math.exp(-1)))
        torch.testing.assert_close(hidden, after.tanh() / 2)
    assert phi["output_bias"] == 0


def test_the_learned_rule_is_an_lstm_for_each_coordinate():
    phi = {name: value.double() for name, value in learned_optimiser.init(generator(0, "init")).items()}
    assert sum(value.numel() for value in phi.values()) == 5061  # the authors' count
    rule = learned_optimiser.learned(phi)
    gradients = torch.tensor([[[0.3, -2.0]], [[0.1, 5.0]], [[-1.0, 0.0]]], dtype=torch.float64)
    state = rule.begin(gradients[0])
    states = [None, None]
    for gradient in gradients:
        update, state = rule.step(gradient, state)
        for k in range(2):
            wanted, states[k] = by_hand(phi, float(gradient[0, k]), states[k])
            assert math.isclose(float(update[0, k]), wanted, rel_tol=1e-11)


def test_the_output_is_scaled_and_the_gradient_preprocessed():
    phi = small(inputs=2)
    gradient = torch.tensor([[1e-7, 3.0, -40.0]], dtype=torch.float64)
    rule = learned_optimiser.learned(phi, p=10.0)
    update, _ = rule.step(gradient, rule.begin(gradient))
    scaled, _ = learned_optimiser.learned(phi, scale=0.1, p=10.0).step(gradient, rule.begin(gradient))
    assert torch.allclose(scaled, 0.1 * update, rtol=1e-12)
    hidden = [torch.zeros(3, 20, dtype=torch.float64)] * 4
    x = coordinates.preprocess(gradient[0], 10.0)
    for layer in range(2):
        x, _ = coordinates.lstm_step(phi[f"lstm{layer}"], phi[f"lstm{layer}_bias"], x, *hidden[:2])
    assert torch.allclose(update[0], (x @ phi["output"].T + phi["output_bias"])[:, 0], rtol=1e-12)


@pytest.mark.parametrize("kind", ["quadratics", "networks"])
def test_the_meta_gradient_is_that_of_differences_with_the_gradients_held(kind):
    """Differences of the loss itself would see phi through the gradients, which the paper leaves out.

    So the gradients along the descent at phi are written down, and the difference quotient descends
    with these, whatever phi it tries.
    """
    if kind == "quadratics":
        problems, inputs, options = objectives.quadratics(generator(1, "test"), 2, size=3), 1, {}
    else:
        problems = objectives.glyph_networks(generator(1, "test"), 1, hidden=2, batch=4, steps=4)
        inputs, options = 2, {"scale": 0.1, "p": 10.0}
    problems, phi = doubled(problems), small(inputs)

    def slope(theta, step):
        leaf = theta.detach().requires_grad_()
        return torch.autograd.grad(problems.loss(leaf, step).sum(), leaf)[0]

    def meta_loss(phi, gradient_of):
        rule = learned_optimiser.learned(phi, **options)
        theta, state, total = problems.start, rule.begin(problems.start), 0.0
        for step in range(4):
            update, state = rule.step(gradient_of(theta, step), state)
            theta = theta + update
            total = total + problems.loss(theta, step + 1).mean()
        return total

    leaves = {name: value.clone().requires_grad_() for name, value in phi.items()}
    rule = learned_optimiser.learned(leaves, **options)
    begun = problems.start, rule.begin(problems.start)
    losses, _ = learned_optimiser.unroll(rule, problems.loss, *begun, range(4))
    value = losses.mean(1).sum()
    found = dict(zip(leaves, torch.autograd.grad(value, list(leaves.values()))))

    held = {}
    hold = lambda theta, step: held.setdefault(step, slope(theta, step))
    assert torch.allclose(value, meta_loss(phi, hold), rtol=1e-12)
    some = {name: phi[name] for name in ("lstm0_bias", "lstm1_bias", "output", "output_bias")}
    at = lambda gradient_of: lambda some: meta_loss({**phi, **some}, gradient_of)
    wanted = finite_difference(at(lambda theta, step: held[step]), some, epsilon=1e-4)
    assert relative_error(found, wanted) < 1e-6
    ahead, behind = (at(slope)({"output_bias": phi["output_bias"] + step}) for step in (1e-4, -1e-4))
    assert not torch.isclose(found["output_bias"], (ahead - behind) / 2e-4, rtol=1e-4)  # not held


def test_a_descent_writes_the_true_losses_and_an_unrolled_one_those_of_the_batches():
    problems = objectives.glyph_networks(generator(0, "test"), 2, hidden=3, batch=5, steps=6)
    rule = learned_optimiser.adam(0.05)
    found = learned_optimiser.descend(rule, problems, 6)
    assert found.shape == (7, 2) and not found.requires_grad
    assert torch.equal(found[0], problems.true_loss(problems.start))
    begun = problems.start, rule.begin(problems.start)
    losses, (theta, _) = learned_optimiser.unroll(rule, problems.loss, *begun, range(6))
    assert torch.allclose(found[-1], problems.true_loss(theta))
    assert torch.equal(losses[-1], problems.loss(theta, 6)) and not torch.allclose(losses[-1], found[-1])


def test_quadratics_are_what_is_printed():
    problems = objectives.quadratics(generator(3, "test"), 4, size=5)
    seeded = generator(3, "test")
    w, y = torch.randn(4, 5, 5, generator=seeded), torch.randn(4, 5, generator=seeded)
    wanted = torch.stack([((w[k] @ problems.start[k] - y[k]) ** 2).sum() for k in range(4)])
    assert torch.allclose(problems.true_loss(problems.start), wanted)
    assert torch.allclose(problems.true_loss(torch.linalg.solve(w, y)), torch.zeros(4), atol=1e-6)


def test_networks_are_ordinary_ones_on_ten_characters():
    problems = objectives.glyph_networks(generator(3, "test"), 2, split="val", hidden=4, batch=6, steps=2)
    assert problems.start.shape == (2, 49 * 4 + 4 + 40 + 10)
    chance = problems.true_loss(torch.zeros_like(problems.start))
    assert torch.allclose(chance, torch.full((2,), math.log(10)))
    first, second = (problems.loss(problems.start, step) for step in (0, 1))
    assert not torch.equal(first, second)  # another batch
    with pytest.raises(ValueError, match="problems=0, .* at least 1"):
        objectives.glyph_networks(generator(0, "test"), 0)


@pytest.mark.parametrize("name", list(runs.SETTINGS))
def test_training_repeats_and_moves_every_parameter(name):
    setting = runs.SETTINGS[name]
    (once, log), (again, _) = (runs.train(setting, 1, 2) for _ in range(2))
    begun = learned_optimiser.init(generator(1, "init"), 1 if setting.p is None else 2)
    assert len(log) == 2 and all(torch.equal(once[key], again[key]) for key in begun)
    assert all(not torch.equal(once[key], begun[key]) for key in begun)


def test_what_cannot_be_descended_is_refused():
    networks = objectives.glyph_networks(generator(0, "test"), 1, steps=3)
    with pytest.raises(ValueError, match="step=4, but batches were drawn for steps 0 to 3"):
        learned_optimiser.descend(learned_optimiser.sgd(0.1), networks, 5)
    assert len(learned_optimiser.descend(learned_optimiser.sgd(0.1), networks, 4)) == 5
    for refused in (
        lambda: objectives.glyph_networks(generator(0, "test"), 1, steps=0),
        lambda: learned_optimiser.descend(learned_optimiser.sgd(0.1), networks, -1),
        lambda: runs.train(runs.SETTINGS["quadratics"], 0, -3),
    ):
        with pytest.raises(ValueError, match="but it must be at least"):
            refused()
    for p in (0.0, -1.0, math.nan, math.inf, 800.0):
        with pytest.raises(ValueError, match=f"p={p}, but it must be positive, at most 80"):
            coordinates.preprocess(torch.ones(3), p)
    for inputs, p in ((1, 10.0), (2, None)):
        with pytest.raises(
            ValueError, match=f"p={p} gives the LSTM {3 - inputs} inputs, but phi has .* {inputs}"
        ):
            learned_optimiser.learned(small(inputs), p=p)


def test_rates_are_tuned_for_a_score_that_there_is_on_problems_that_there_are():
    with pytest.raises(ValueError, match="score='x', but it must be one of 'log loss at the end', 'mean"):
        runs.tune(runs.SETTINGS["quadratics"], "x")
    with pytest.raises(ValueError, match="problems=0"):
        runs.tune(runs.SETTINGS["quadratics"], problems=0)


def test_what_the_lstm_is_trained_on_is_the_mean_over_problems_and_steps_but_the_first():
    losses = 10 ** torch.randn(runs.STEPS + 20, 4, generator=generator(0, "test"), dtype=torch.float64)
    wanted = losses[1 : runs.STEPS + 1].mean()
    found = runs.over_steps(losses.log10().numpy())
    assert found.mean() == pytest.approx(float(wanted), rel=1e-12)
    score = runs.SCORES["mean loss over the steps"](losses.log10().numpy())
    assert score == pytest.approx(math.log10(wanted), rel=1e-12)


def test_rates_are_tuned_on_validation_problems_by_the_last_loss(monkeypatch):
    monkeypatch.setattr(runs, "RATES", (1e-3, 1e-2, 10.0))
    scores = runs.tune(runs.SETTINGS["quadratics"], problems=5)
    assert scores["SGD"][2] == math.inf and runs.best_rates(scores)["SGD"] == 1e-2
    problems = objectives.quadratics(generator(0, "validate"), 5)
    wanted = runs.log_losses(learned_optimiser.sgd(1e-2), problems)[-1].mean()
    assert scores["SGD"][1] == wanted
