"""Reading a sequence: the memory against hand-written steps, what may be known when, instances."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from conftest import finite_difference, loop_gradient, relative_error
from mamlkit import maml, methods, models
from mamlkit.engine import meta_batch
from mamlkit.experiments import paper
from mamlkit.maml import Task
from mamlkit.runs import supervised, supervised_training, train, trainings


def test_a_network_that_reads_no_sequences_is_refused():
    row = dataclasses.replace(paper.get("sinusoid-maml").at("quick"), method="sequence reader")
    with pytest.raises(
        ValueError, match="weight0, bias0.*, but a sequence reader needs .* use 'lstm' or 'mann'"
    ):
        trainings.begin(row)


NETWORKS = {
    "lstm": lambda: models.lstm_network(5, 4, 2),
    "mann": lambda: models.mann(5, 4, 2, rows=6, width=3, reads=2),
}


@pytest.fixture(params=NETWORKS)
def network(request):
    return NETWORKS[request.param]()


def shaken(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    params = {k: v.double() for k, v in model.init(generator).items()}
    return {k: v + 0.3 * torch.randn(v.shape, generator=generator, dtype=v.dtype) for k, v in params.items()}


def problem(model, instances=3, seed=0):
    """A reader, its parameters, and three sequences of three pixels: two classes, three drawings of each."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.stack([torch.randperm(6, generator=generator) % 2 for _ in range(3)])
    images = torch.randn(3, 6, 1, 1, 3, generator=generator, dtype=torch.float64)
    places = labels.argsort(stable=True).view(3, 2, 3)
    batch = Task((images, labels), (places, torch.arange(2).expand(3, 2)))
    learner = methods.Learner(model, "cross-entropy, mean", 0.0, instances - 1, 3)
    return methods.METHODS["sequence reader"](learner), shaken(model, seed), batch


# ---- the memory


def by_hand(params, xs, rows, width, reads, decay):
    """Outputs and memories, in NumPy, one number at a time where that says more."""
    p = {k: v.detach().numpy() for k, v in params.items()}
    units = p["cell_state"].shape[1]
    sigmoid = lambda v: 1 / (1 + np.exp(-v))
    h, c, r = np.zeros(units), np.zeros(units), np.zeros(reads * width)
    memory = np.zeros((rows, width))
    usage = np.array([1.0] + [0.0] * (rows - 1))
    read_weights = [usage.copy() for _ in range(reads)]
    outputs, memories = [], []
    for x in xs:
        gates = p["cell_inputs"] @ x + p["cell_bias"] + p["cell_state"] @ h + p["cell_read"] @ r
        i, f, g, o = (gates[n * units : (n + 1) * units] for n in range(4))
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        keys = np.tanh(p["key"] @ h + p["key_bias"]).reshape(reads, width)
        again = sigmoid(p["gate"] @ h + p["gate_bias"])
        least = sorted(range(rows), key=lambda row: (usage[row], row))  # of equal ones the first
        memory[least[0]] = 0
        write_weights = []
        for n in range(reads):
            weights = again[n] * read_weights[n]
            weights[least[n]] += 1 - again[n]
            write_weights.append(weights)
        for n in range(reads):
            for row in range(rows):
                memory[row] += write_weights[n][row] * keys[n]
        for n in range(reads):
            norms = [math.sqrt((keys[n] @ keys[n]) * (row @ row) + 1e-8) for row in memory]
            likes = np.exp([keys[n] @ row / norm for row, norm in zip(memory, norms)])
            read_weights[n] = likes / likes.sum()
        r = np.concatenate([read_weights[n] @ memory for n in range(reads)])
        usage = decay * usage + sum(read_weights) + sum(write_weights)
        outputs.append(p["head"] @ np.concatenate([h, r]) + p["head_bias"])
        memories.append(memory.copy())
    return np.array(outputs), memories


@pytest.mark.parametrize("steps", [3, 12])
def test_the_memory_is_that_of_hand_written_steps(steps):
    model = models.mann(5, 4, 2, rows=6, width=3, reads=2, decay=0.7)
    params = shaken(model)
    xs = torch.randn(steps, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    wanted, memories = by_hand(params, xs.numpy(), rows=6, width=3, reads=2, decay=0.7)
    assert np.allclose(model.apply(params, xs).numpy(), wanted, rtol=1e-9)
    assert not np.allclose(memories[0], memories[-1])


def test_an_lstm_is_pytorchs():
    model = NETWORKS["lstm"]()
    params = shaken(model)
    xs = torch.randn(7, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    twin = torch.nn.LSTM(5, 4, dtype=torch.float64)
    values = [params["cell_inputs"], params["cell_state"], params["cell_bias"], torch.zeros(16)]
    with torch.no_grad():
        for parameter, value in zip(twin.parameters(), values, strict=True):
            parameter.copy_(value)
        wanted = twin(xs)[0] @ params["head"].T + params["head_bias"]
    assert torch.allclose(model.apply(params, xs), wanted, rtol=1e-12)


# ---- the method


def test_the_meta_gradient_equals_finite_differences_and_a_loop(network):
    made, params, batch = problem(network)
    gradient, losses = meta_batch.meta_gradient(made, params, batch)
    wanted = finite_difference(lambda p: maml.meta_loss(made.loss, p, batch)[0], params)
    assert relative_error(gradient, wanted) < 1e-6
    by_loop, losses_by_loop = loop_gradient(made.loss, params, batch)
    assert relative_error(gradient, by_loop) < 1e-11 and torch.allclose(losses, losses_by_loop, rtol=1e-11)
    assert all(value.any() for value in gradient.values())


def inputs_of(batch, i):
    """What comes in at each time, by a loop: the image, and the label before it."""
    images, labels = (part[i] for part in batch.support)
    found = []
    for t, image in enumerate(images):
        label = [0.0, 0.0] if t == 0 else [float(labels[t - 1] == way) for way in range(2)]
        found.append(torch.cat([image.flatten(), torch.tensor(label, dtype=image.dtype)]))
    return torch.stack(found)


def test_predictions_are_those_of_the_instances_and_the_loss_is_that_of_all_times(network):
    made, params, batch = problem(network)
    found = meta_batch.predictions(made, params, batch)
    _, losses = meta_batch.meta_gradient(made, params, batch)
    assert found.shape == (3, 3, 2, 2)  # instances, tasks, ways, outputs
    for i, labels in enumerate(batch.support[1]):
        outputs = network.apply(params, inputs_of(batch, i))
        seen = [0, 0]
        for output, label in zip(outputs, labels):
            assert torch.allclose(found[seen[label], i, label], output, rtol=1e-9)
            seen[label] += 1
        assert torch.isclose(losses[i], torch.nn.functional.cross_entropy(outputs, labels), rtol=1e-9)
    few = problem(network, instances=2)[0]
    assert torch.equal(meta_batch.predictions(few, params, batch), found[:2])


def test_labels_that_the_network_cannot_say_are_refused(network):
    made, params, batch = problem(network)
    images, labels = batch.support
    with pytest.raises(
        ValueError, match="support labels lie between 0 and 2, but must lie from 0 to 1; give the network"
    ):
        meta_batch.meta_gradient(made, params, Task((images, labels.clone().fill_(2) * labels), batch.query))


def test_nothing_is_known_before_its_time(network):
    made, params, batch = problem(network)
    images, labels = batch.support
    for t in range(6):
        # other labels from t on, other images after t
        other_labels = torch.cat([labels[0, :t], 1 - labels[0, t:]])
        other_images = torch.cat([images[0, : t + 1], images[0, t + 1 :] + 1])
        task = lambda part: Task(part, tuple(tensor[0] for tensor in batch.query))
        known = made.answers(params, task((images[0], labels[0])))
        changed = made.answers(params, task((other_images, other_labels)))
        assert torch.equal(known[: t + 1], changed[: t + 1])
        assert t == 5 or not torch.allclose(known[t + 1], changed[t + 1])


def test_one_sequence_does_not_see_another(network):
    made, params, batch = problem(network)
    found = meta_batch.predictions(made, params, batch)
    alone = Task(*(tuple(tensor[1:2] for tensor in part) for part in batch))
    assert torch.allclose(found[:, 1:2], meta_batch.predictions(made, params, alone), rtol=1e-12)


# ---- as rows


@pytest.mark.parametrize("name", ["mann", "lstm"])
def test_a_short_training_lowers_the_loss_and_gives_a_curve_by_instance(name):
    row = paper.get(f"omniglot-sequences-{name}").at("quick")
    run = supervised_training.SupervisedTraining(row, seed=0, device="cpu", validate=False)
    held = supervised.tasks.make(row.family, "train", ways=2, shots=5, queries=5)
    batch = held.sample(torch.Generator().manual_seed(1), 100)
    before = meta_batch.meta_gradient(run.method, run.params, batch)[1].mean()
    tests = (dataclasses.replace(row.evaluations[0], tasks=50),)
    row = dataclasses.replace(row, iterations=15, evaluations=tests)
    fit = train.fit(row)
    assert meta_batch.meta_gradient(run.method, fit.params, batch)[1].mean() < before
    (found,) = trainings.evaluate_row(row, fit.params).values()
    assert found["accuracy"].shape == (50, 5) and found["accuracy"].std() > 0


def test_the_rows_are_those_of_the_source():
    row = paper.get("omniglot-sequences-mann")
    learner = supervised.build(row, row.evaluations[0])
    family = supervised.tasks.make("glyphs, sequences", "test", ways=row.ways, shots=row.shots, queries=10)
    images, labels = family.sample(torch.Generator().manual_seed(0), 2).support
    assert images.shape[:2] == labels.shape == (2, 50)
    assert learner.model.shapes["cell_state"] == (800, 200) and learner.model.shapes["key"] == (160, 200)
