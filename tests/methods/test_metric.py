"""Methods that compare features: slow twins, symmetries, the floor of the cosine loss, a short training."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from conftest import finite_difference, loop_gradient, relative_error, small_problem
from mamlkit import engine, maml, methods, models
from mamlkit.engine import kernels_cpu, kernels_torch, meta_batch, passes
from mamlkit.experiments import paper
from mamlkit.experiments.rows import Evaluation
from mamlkit.maml import Task
from mamlkit.methods import metric
from mamlkit.models import recurrent
from mamlkit.runs import supervised, supervised_training, train

MATCHING = ["matching networks", "matching networks, learned scale", "matching networks, squared Euclid"]
IN_CONTEXT = "matching networks, full context"
METRIC = ["prototypical networks", *MATCHING, IN_CONTEXT, "siamese"]


def problem(name, *, seed=0, kind="conv-stride", **changes):
    """A method, parameters that are not special, and a meta-batch of three 2-way 2-shot tasks."""
    learner, _, batch = small_problem(kind, loss="cross-entropy, mean", seed=seed)
    made = methods.METHODS[name](dataclasses.replace(learner, **changes))
    generator = torch.Generator().manual_seed(seed)
    params = {k: v.double() for k, v in made.init(generator).items()}
    shaken = lambda v: v + 0.3 * torch.randn(v.shape, generator=generator, dtype=v.dtype)
    params = {k: shaken(v) for k, v in params.items()}
    # shifts upwards, so that no example loses all its features to the ReLU
    return made, {k: v.abs() + 2 if "shift" in k else v for k, v in params.items()}, batch


def single(batch, i=0):
    return Task(*(tuple(tensor[i] for tensor in part) for part in batch))


def features(made, params, task):
    """Of the support and of the queries, with the network's own words for what comes before its head."""
    return [made.learner.model.apply(params, inputs) for inputs, _ in task]


@pytest.mark.parametrize("kernels", [kernels_cpu, kernels_torch])
@pytest.mark.parametrize("kind", ["conv-stride", "conv-max"])
@pytest.mark.parametrize("name", METRIC)
def test_the_engine_is_the_general_way(name, kind, kernels, monkeypatch):
    made, params, batch = problem(name, kind=kind)
    assert engine.features.is_for(made, batch)
    wanted, wanted_losses = maml.meta_gradient(made.loss, params, batch)
    outputs = torch.stack([made.predict(params, single(batch, i)) for i in range(3)], 1)
    monkeypatch.setattr(passes, "kernels_of", lambda device: kernels)
    monkeypatch.setattr(meta_batch, "CHUNK_BYTES", 1)  # a task is a chunk
    for threads in (1, 2):
        torch.set_num_threads(threads)
        gradient, losses = meta_batch.meta_gradient(made, params, batch)
        assert list(gradient) == list(params)
        for key, value in wanted.items():
            assert (gradient[key] - value).norm() <= 1e-9 * value.norm() + 1e-10
        assert torch.allclose(losses, wanted_losses, rtol=1e-9, atol=1e-11)
        assert torch.allclose(meta_batch.predictions(made, params, batch), outputs, rtol=1e-9, atol=1e-9)
    torch.set_num_threads(1)


def test_the_engine_takes_dense_networks_and_no_method_that_it_does_not_know():
    class Other(metric.PrototypicalNetworks):
        def loss(self, params, task):
            return super().loss(params, task) * 2

        predict = metric.Metric.predict

    learner, _, batch = small_problem("mlp", loss="cross-entropy, mean")
    learner = dataclasses.replace(learner, model=models.mlp(1, (5, 4), 2, std=0.5))
    labels = torch.arange(2).repeat(3, 2)
    batch = Task((batch.support[0], labels), (batch.query[0], labels[:, :3]))
    made = metric.PrototypicalNetworks.of(learner)
    params = {name: value.double() for name, value in made.init(torch.Generator().manual_seed(0)).items()}
    assert engine.features.is_for(made, batch)
    wanted, _ = maml.meta_gradient(made.loss, params, batch)
    gradient, _ = meta_batch.meta_gradient(made, params, batch)
    assert all(torch.allclose(gradient[name], wanted[name], rtol=1e-9, atol=1e-12) for name in wanted)
    others = Other.of(learner), dataclasses.replace(made, layers=())
    assert not any(engine.features.is_for(other, batch) for other in others)
    doubled, _ = meta_batch.meta_gradient(others[0], params, batch)
    assert all(torch.allclose(doubled[name], 2 * wanted[name]) for name in wanted)


def test_images_of_another_size_are_refused_at_the_door():
    made, params, batch = problem("prototypical networks")
    small = Task(*((inputs[..., :-1, :-1], labels) for inputs, labels in batch))
    for function in (meta_batch.meta_gradient, meta_batch.predictions):
        with pytest.raises(ValueError, match=r"images are \(1, 7, 7\), but this network takes \(1, 8, 8\)"):
            function(made, params, small)


# ---- slow twins


def cosine(a, b):
    dot = lambda x, y: sum(float(v) * float(w) for v, w in zip(x, y))
    return dot(a, b) / math.sqrt(dot(a, a) * dot(b, b))


def square(a, b):
    return sum((float(v) - float(w)) ** 2 for v, w in zip(a, b))


def attention(similarities, labels, ways):
    total = sum(math.exp(s) for s in similarities)
    mass = [sum(math.exp(s) for s, y in zip(similarities, labels) if y == way) for way in range(ways)]
    return [math.log(m / total) for m in mass]


def outputs_of(name, params, near, labels, query, ways=2):
    """What a method says of one query, by loops."""
    of_way = lambda way: [x for x, label in zip(near, labels) if label == way]
    if name == "prototypical networks":
        return [-square(query, sum(of_way(way)) / len(of_way(way))) for way in range(ways)]
    if name == "siamese":
        odds = lambda x: (
            float(params["pair_bias"])
            + sum(float(a) * abs(float(v) - float(w)) for a, v, w in zip(params["pair_weights"][0], query, x))
        )
        return [sum(map(odds, of_way(way))) / len(of_way(way)) for way in range(ways)]
    scale = math.exp(float(params["log_scale"])) if "scale" in name else 1
    alike = (lambda a, b: -square(a, b)) if "Euclid" in name else (lambda a, b: scale * cosine(a, b))
    return attention([alike(query, x) for x in near], labels, ways)


@pytest.mark.parametrize("kind", ["conv-stride", "conv-max"])
@pytest.mark.parametrize("name", [name for name in METRIC if name != IN_CONTEXT])
def test_outputs_are_those_of_loops(name, kind):
    made, params, batch = problem(name, kind=kind)
    found = meta_batch.predictions(made, params, batch)
    assert found.shape == (1, 3, 4, 2)
    for i in range(3):
        near, far = features(made, params, single(batch, i))
        for q, query in enumerate(far):
            wanted = outputs_of(name, params, near, batch.support[1][i], query)
            assert np.allclose(found[0, i, q].detach(), wanted, rtol=1e-9)


@pytest.mark.parametrize("transductive", [False, True])
@pytest.mark.parametrize("name", METRIC)
def test_a_class_without_support_is_never_named_and_the_others_are_as_they_are(name, transductive):
    made, params, batch = problem(name, transductive=transductive)
    images, labels = batch.support
    mine = Task((images[:, :3], torch.zeros_like(labels[:, :3])), batch.query)
    found = meta_batch.predictions(made, params, mine)
    assert (found[..., 1] == -torch.inf).all() and found[..., 0].isfinite().all()
    whole = Task((images[:, :3], torch.tensor([0, 0, 1]).expand(3, -1)), batch.query)
    if name in ("prototypical networks", "siamese"):  # the others' attention is shared by all classes
        two = Task((images[:, :3], torch.tensor([[0, 0, 0]]).expand(3, -1)), batch.query)
        assert torch.equal(meta_batch.predictions(made, params, two)[..., 0], found[..., 0])
        for i in range(3):
            near, far = features(made, params, single(mine, i)) if transductive else (None, ())
            for q, query in enumerate(far):
                wanted = outputs_of(name, params, near, [0, 0, 0], query, ways=1)
                assert np.allclose(found[0, i, q, :1].detach(), wanted, rtol=1e-9)
    assert meta_batch.predictions(made, params, whole).isfinite().all()


@pytest.mark.parametrize("name", [*METRIC, "pretrained classifier", "nearest neighbour on pixels"])
def test_a_loss_without_classes_is_refused(name):
    learner = dataclasses.replace(small_problem("conv-stride")[0], loss="mse")
    with pytest.raises(ValueError, match="loss='mse', but this method tells classes apart"):
        methods.METHODS[name](learner)


def test_full_context_is_that_of_pytorchs_own_cells():
    made, params, batch = problem(IN_CONTEXT)
    found = meta_batch.predictions(made, params, batch)[0, 1]
    task = single(batch, 1)
    near, far = features(made, params, task)
    size = near.shape[1]
    both = torch.nn.LSTM(size, size, bidirectional=True, dtype=torch.float64)
    cell = torch.nn.LSTMCell(2 * size, size, dtype=torch.float64)
    with torch.no_grad():
        for name, end in (("forwards", ""), ("backwards", "_reverse")):
            getattr(both, f"weight_ih_l0{end}").copy_(params[f"{name}_inputs"])
            getattr(both, f"weight_hh_l0{end}").copy_(params[f"{name}_state"])
            getattr(both, f"bias_ih_l0{end}").copy_(params[f"{name}_bias"])
            getattr(both, f"bias_hh_l0{end}").zero_()
        cell.weight_ih.copy_(params["reader_inputs"])
        cell.weight_hh.copy_(params["reader_state"])
        cell.bias_ih.copy_(params["reader_bias"])
        cell.bias_hh.zero_()
        forwards, backwards = both(near)[0].chunk(2, dim=1)
        context = near + forwards + backwards
        for q, query in enumerate(far):
            hidden, inner = torch.zeros_like(query), torch.zeros_like(query)
            for _ in range(3):
                weights = torch.stack([(hidden @ g).exp() for g in context])
                read = sum(w * g for w, g in zip(weights / weights.sum(), context))
                hidden, inner = cell(torch.cat([query, read])[None], (hidden[None], inner[None]))
                hidden, inner = hidden[0] + query, inner[0]
            wanted = outputs_of("matching networks", params, context, task.support[1], hidden)
            assert np.allclose(found[q], wanted, rtol=1e-9)


def test_the_siamese_loss_is_the_mean_over_same_and_over_different_pairs():
    made, params, batch = problem("siamese")
    # three of one class and one of the other, so that there are not as many same as different pairs
    labels = torch.tensor([[0, 1, 0, 0]] * 3)
    batch = Task((batch.support[0], labels), (batch.query[0], labels.flip(1)))
    _, found = meta_batch.meta_gradient(made, params, batch)
    for i in range(3):
        task = single(batch, i)
        near, far = features(made, params, task)
        errors = {True: [], False: []}
        for query, label in zip(far, task.query[1]):
            for image, other in zip(near, task.support[1]):
                odds = outputs_of("siamese", params, [image], [0], query, ways=1)[0]
                same = bool(label == other)
                errors[same].append(-math.log(1 / (1 + math.exp(-odds if same else odds))))
        assert len(errors[True]) != len(errors[False])
        assert np.isclose(found[i], np.mean(errors[True]) / 2 + np.mean(errors[False]) / 2, rtol=1e-9)


@pytest.mark.parametrize("name", [name for name in METRIC if name != "siamese"])
def test_the_loss_is_the_learners_of_the_query_outputs(name):
    made, params, batch = problem(name)
    _, found = meta_batch.meta_gradient(made, params, batch)
    (outputs,) = meta_batch.predictions(made, params, batch)
    assert torch.allclose(found, made.learner.loss_of(outputs, batch.query[1]), rtol=1e-12)


# ---- derivatives


@pytest.mark.parametrize("name", METRIC)
def test_the_meta_gradient_equals_finite_differences_and_a_loop(name):
    made, params, batch = problem(name)
    gradient, losses = meta_batch.meta_gradient(made, params, batch)
    wanted = finite_difference(lambda p: maml.meta_loss(made.loss, p, batch)[0], params)
    assert relative_error(gradient, wanted) < 1e-6
    by_loop, losses_by_loop = loop_gradient(made.loss, params, batch)
    assert relative_error(gradient, by_loop) < 1e-11 and torch.allclose(losses, losses_by_loop, rtol=1e-11)
    added = params.keys() - made.learner.model.shapes.keys()
    assert all(gradient[key].any() for key in added)  # what the method adds is trained


# ---- what must not matter, and what must


def reordered(batch, order):
    return batch._replace(support=tuple(tensor[:, order] for tensor in batch.support))


@pytest.mark.parametrize("name", METRIC)
def test_the_order_of_the_support_matters_to_full_context_alone(name):
    made, params, batch = problem(name)
    found = meta_batch.predictions(made, params, batch)
    other = meta_batch.predictions(made, params, reordered(batch, [2, 3, 1, 0]))
    assert torch.allclose(found, other, rtol=1e-9) == (name != IN_CONTEXT)


@pytest.mark.parametrize("name", METRIC)
def test_other_numbers_for_the_classes_are_other_columns(name):
    made, params, batch = problem(name)
    swapped = Task(*((inputs, 1 - labels) for inputs, labels in batch))
    found, other = (meta_batch.predictions(made, params, tasks) for tasks in (batch, swapped))
    assert torch.allclose(found.flip(-1), other, rtol=1e-9)
    losses, others = (meta_batch.meta_gradient(made, params, tasks)[1] for tasks in (batch, swapped))
    assert torch.allclose(losses, others, rtol=1e-9)


@pytest.mark.parametrize("transductive", [True, False])
@pytest.mark.parametrize("name", METRIC)
def test_nothing_leaks_into_a_prediction(name, transductive):
    made, params, batch = problem(name, transductive=transductive)
    found = meta_batch.predictions(made, params, batch)
    # the labels of the queries
    unlabelled = batch._replace(query=(batch.query[0], torch.zeros_like(batch.query[1])))
    assert torch.equal(found, meta_batch.predictions(made, params, unlabelled))
    # other tasks
    for i in range(3):
        alone = Task(*(tuple(tensor[i : i + 1] for tensor in part) for part in batch))
        assert torch.allclose(found[:, i : i + 1], meta_batch.predictions(made, params, alone), rtol=1e-9)
    # other queries, unless they are normalised together
    few = batch._replace(query=tuple(tensor[:, :2] for tensor in batch.query))
    two = meta_batch.predictions(made, params, few)
    assert torch.allclose(found[:, :, :2], two, rtol=1e-9) == (not transductive)


# ---- closed forms


@pytest.mark.parametrize("name", [*MATCHING, IN_CONTEXT])
def test_outputs_of_matching_networks_are_log_probabilities(name):
    made, params, batch = problem(name)
    (outputs,) = meta_batch.predictions(made, params, batch)
    assert torch.allclose(outputs.exp().sum(-1), torch.ones(3, 4, dtype=torch.float64))
    assert torch.allclose(outputs.softmax(-1), outputs.exp(), rtol=1e-12)  # so a second softmax is harmless
    printed = -outputs.gather(-1, batch.query[1][..., None])[..., 0].mean(-1)
    assert torch.allclose(meta_batch.meta_gradient(made, params, batch)[1], printed, rtol=1e-12)


def test_the_scale_begins_at_ten():
    made, _, _ = problem("matching networks, learned scale")
    (added,) = made.init(torch.Generator()).keys() - made.learner.model.shapes.keys()
    plain = metric.MatchingNetworks(made.learner, 2, 2)
    near, far = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(0))
    similarity = made.similarity({added: made.init(torch.Generator())[added]}, far, near)
    assert torch.allclose(similarity, 10 * plain.similarity({}, far, near))


@pytest.mark.parametrize("name", METRIC)
def test_features_that_are_all_zero_decide_nothing_and_leave_the_gradient_finite(name):
    made, params, batch = problem(name)
    last = {k: v - 100 if k == "shift3" else v for k, v in params.items()}
    assert not any(part.any() for part in features(made, last, single(batch)))
    (outputs,) = meta_batch.predictions(made, last, batch)
    assert torch.allclose(outputs.softmax(-1), torch.full_like(outputs, 0.5)) or name == IN_CONTEXT
    gradient, losses = meta_batch.meta_gradient(made, last, batch)
    assert all(value.isfinite().all() for value in (losses, *gradient.values()))


def test_squared_euclid_at_one_shot_is_prototypical():
    euclid, params, batch = problem("matching networks, squared Euclid")
    prototypes, _, _ = problem("prototypical networks")
    one_shot = reordered(batch, [1, 2])
    found, wanted = (meta_batch.predictions(m, params, one_shot).softmax(-1) for m in (euclid, prototypes))
    assert torch.allclose(found, wanted, rtol=1e-9)
    found, wanted = (meta_batch.predictions(m, params, batch).softmax(-1) for m in (euclid, prototypes))
    assert not torch.allclose(found, wanted, rtol=1e-3)


def cosine_loss(near, far, ways, shots):
    """The loss of matching networks on given features, classes one after the other."""
    learner, _, _ = small_problem("conv-stride", loss="cross-entropy, mean")
    made = metric.MatchingNetworks(learner, ways, near.shape[-1])
    of_class = torch.eye(ways, dtype=bool).repeat_interleave(shots, 0)
    labels = torch.arange(ways).repeat_interleave(len(far) // ways)
    return float(learner.loss_of(made.compare({}, near, of_class, far), labels))


@given(ways=st.integers(2, 20), shots=st.integers(1, 3), seed=st.integers(0, 999), power=st.integers(1, 9))
def test_the_cosine_loss_has_a_floor(ways, shots, seed, power):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda count: torch.rand(count, ways, generator=generator, dtype=torch.float64) ** power
    floor = metric.least_cosine_loss(ways)
    best = torch.eye(ways, dtype=torch.float64)
    assert math.isclose(floor, -math.log(math.e / (math.e + ways - 1)), rel_tol=1e-12)
    assert cosine_loss(draw(ways * shots), draw(ways), ways, shots) > floor
    # features that tell the classes apart perfectly, and a little worse
    support = best.repeat_interleave(shots, 0)
    assert math.isclose(cosine_loss(support, 7 * best, ways, shots), floor, rel_tol=1e-9)
    assert cosine_loss(support, best + 0.1 * draw(ways), ways, shots) > floor


def test_the_floor_of_20_ways_and_features_that_a_network_has():
    assert round(metric.least_cosine_loss(20), 2) == 2.08 and round(metric.least_cosine_loss(5), 2) == 0.90
    made, params, batch = problem("matching networks")
    assert all((part >= 0).all() for part in features(made, params, single(batch)))  # after a ReLU


def test_a_cell_is_pytorchs():
    generator = torch.Generator().manual_seed(0)
    params = {k: v.double() for k, v in recurrent.init_lstm("cell", 3, 5, generator).items()}
    params["cell_bias"] = torch.randn(20, generator=generator, dtype=torch.float64)
    inputs, hidden, cell = (torch.randn(4, n, generator=generator, dtype=torch.float64) for n in (3, 5, 5))
    twin = torch.nn.LSTMCell(3, 5, dtype=torch.float64)
    values = [params["cell_inputs"], params["cell_state"], params["cell_bias"], torch.zeros(20)]
    with torch.no_grad():
        for parameter, value in zip(twin.parameters(), values, strict=True):
            parameter.copy_(value)
        wanted = twin(inputs, (hidden, cell))
    for found, value in zip(recurrent.lstm(params, "cell", inputs, (hidden, cell)), wanted, strict=True):
        assert torch.allclose(found, value, rtol=1e-12)


# ---- as rows


@pytest.mark.parametrize("name", METRIC)
def test_a_short_training_lowers_the_loss_and_tells_new_classes_apart(name):
    test = Evaluation("Q=5", shots=1, queries=5, inner_lr=0.0, inner_steps=0, headline_step=0, tasks=100)
    row = dataclasses.replace(
        paper.get("glyphs-5way-1shot").at("quick"),
        method=name,
        loss="cross-entropy, mean",
        inner_lr=0.0,
        inner_steps=0,
        queries=5,
        meta_batch_size=4,
        iterations=30,
        evaluations=(test,),
        network=("conv4", {"ways": 5, "filters": 8}),
    )
    run = supervised_training.SupervisedTraining(row, seed=0, device="cpu", validate=False)
    begun = {key: value.clone() for key, value in run.params.items()}
    held = supervised.tasks.make("glyphs", "train", ways=5, shots=1, queries=5)
    batch = held.sample(torch.Generator().manual_seed(1), 50)
    params = train.fit(row, validate=False).params
    before, after = (meta_batch.meta_gradient(run.method, p, batch)[1].mean() for p in (begun, params))
    right = [supervised.evaluate(row, p, test, split="val")["accuracy"].mean() for p in (begun, params)]
    assert after < before and right[1] > right[0]
