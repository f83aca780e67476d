"""Methods with support and query on sequences, against a loop over single drawings."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from mamlkit import places
from mamlkit.engine import meta_batch
from mamlkit.experiments import paper
from mamlkit.maml import Task
from mamlkit.report import results
from mamlkit.runs import sequences, supervised, supervised_training
from mamlkit.runs.seeds import generator

READER = paper.get("omniglot-sequences-mann").at("quick")
MAML = dataclasses.replace(
    paper.get("glyphs-5way-1shot"), ways=2, network=("conv4", {"ways": 2, "filters": 4})
)


def with_shots(shots):
    """MAML's row, which trains and tests with so many."""
    tests = tuple(dataclasses.replace(test, shots=shots) for test in MAML.evaluations)
    return dataclasses.replace(MAML, shots=shots, evaluations=tests)


def drawn(count):
    family = supervised.tasks.make(READER.family, "test", ways=2, shots=5, queries=5)
    batch = family.sample(generator(0, "evaluate test", 0), supervised.EVALUATION_CHUNK)
    return [[tensor[i] for tensor in batch.support] for i in range(count)]


def instances_of(labels):
    """(time, class, instance) of each drawing, by counting."""
    seen = {}
    for t, label in enumerate(labels.tolist()):
        seen[label] = seen.get(label, 0) + 1
        yield t, label, seen[label]


def test_nearest_neighbours_are_sought_among_all_that_came_before():
    row = dataclasses.replace(MAML, method="nearest neighbour on pixels", inner_steps=0)
    params = supervised.method(row).init(torch.Generator())
    found = sequences.accuracy_by_instance(row, params, READER, instances=(2, 4), n_tasks=9)
    assert found.shape == (9, 2)
    for i, (images, labels) in enumerate(drawn(9)):
        right = {2: [], 4: []}
        for t, label, instance in instances_of(labels):
            if instance in right:
                # pixels are 0 or 1, so that some are equally near: then the first class counts
                different = lambda image, t=t, images=images: int((images[t] != image).sum())
                nearest = min((different(image), int(y)) for image, y in zip(images[:t], labels[:t]))
                right[instance].append(nearest[1] == label)
        assert np.allclose(found[i], [100 * np.mean(right[2]), 100 * np.mean(right[4])])


@pytest.mark.parametrize("own_loss", [False, True])
def test_maml_adapts_to_all_that_came_before(own_loss):
    row = with_shots(3)
    learner = supervised.build(row)
    params = learner.model.init(torch.Generator().manual_seed(0))
    found = sequences.accuracy_by_instance(row, params, READER, n_tasks=5, own_loss=own_loss)
    test = row.evaluations[0]
    for i, (images, labels) in enumerate(drawn(5)):
        right = {2: [], 5: []}
        for t, label, instance in instances_of(labels):
            if instance not in right:
                continue
            fast = params
            for _ in range(test.headline_step):
                leaves = {k: v.detach().clone().requires_grad_() for k, v in fast.items()}
                mean = torch.nn.functional.cross_entropy(learner.model.apply(leaves, images[:t]), labels[:t])
                loss = t / 3 * mean if own_loss else 2 * mean  # the same for t = 2 x 3, as the row has
                names = [k for k in fast if k not in learner.model.frozen]
                gradient = torch.autograd.grad(loss, [leaves[k] for k in names])
                fast = fast | {k: fast[k] - test.inner_lr * g for k, g in zip(names, gradient)}
            output = learner.model.apply(fast, images[: t + 1], reference=t)[t]
            right[instance].append(int(output.argmax()) == label)
        assert np.allclose(found[i], [100 * np.mean(right[2]), 100 * np.mean(right[5])])
    assert found.std() > 0


@pytest.mark.parametrize("own_loss", [False, True])
def test_the_step_from_one_image_is_that_of_one(own_loss, monkeypatch):
    """Which is given twice, since a normalisation asks for two values: its outputs, not which is largest."""
    row = with_shots(3)
    learner, found, plain = supervised.build(row), [], sequences.meta_batch.predictions
    params = learner.model.init(torch.Generator().manual_seed(0))

    def spied(made, given, task):
        outputs = plain(made, given, task)
        if torch.equal(task.support[0][:, 0], task.support[0][:, -1]):
            found.extend(zip(*task.support, *task.query, outputs[-1]))
        return outputs

    monkeypatch.setattr(sequences.meta_batch, "predictions", spied)
    test = dataclasses.replace(row.evaluations[0], headline_step=1)
    row = dataclasses.replace(row, evaluations=(test,))
    sequences.accuracy_by_instance(row, params, READER, n_tasks=40, instances=(2,), own_loss=own_loss)
    assert found
    for images, labels, asked, _, output in found:
        leaves = {k: v.detach().clone().requires_grad_() for k, v in params.items()}
        one = torch.nn.functional.cross_entropy(learner.model.apply(leaves, images), labels)
        names = [k for k in params if k not in learner.model.frozen]
        gradient = torch.autograd.grad(one / 3 if own_loss else row.ways * one, [leaves[k] for k in names])
        fast = params | {k: params[k] - test.inner_lr * g for k, g in zip(names, gradient)}
        expected = learner.model.apply(fast, torch.cat([images, asked]), reference=2)[2:]
        assert torch.allclose(output, expected, rtol=1e-3, atol=1e-4)


def test_the_loss_of_every_step_changes_no_step():
    learner = supervised.build(MAML)
    params = learner.model.init(torch.Generator().manual_seed(0))
    both = MAML, dataclasses.replace(MAML, method="maml, multi-step loss")
    found = [sequences.accuracy_by_instance(row, params, READER, n_tasks=9) for row in both]
    assert np.array_equal(*found) and found[0].std() > 0
    several = sequences.accuracy_by_instance(MAML, params, READER, n_tasks=9, instances=np.array([2, 5]))
    assert np.array_equal(several, found[0])


@pytest.mark.parametrize("name", ["prototypical networks", "siamese"])
def test_features_are_compared_with_the_classes_that_have_come(name):
    row = dataclasses.replace(MAML, method=name, loss="cross-entropy, mean")
    made = supervised.method(row, dataclasses.replace(row.evaluations[0], transductive=False))
    params = made.init(torch.Generator().manual_seed(0))
    found = sequences.accuracy_by_instance(row, params, READER, n_tasks=9)
    for i, (images, labels) in enumerate(drawn(9)):
        right = {2: [], 5: []}
        for t, label, instance in instances_of(labels):
            if instance in right:
                support = images[:t], labels[:t]
                near = made.learner.model.apply(params, images[:t])
                far = made.learner.outputs(params, Task(support, (images[t, None], labels[t, None])))
                scores = []
                for way in (0, 1):
                    own = near[support[1] == way]
                    if name == "siamese" and len(own):
                        different = (own - far).abs() @ params["pair_weights"][0] + params["pair_bias"]
                        scores.append(float(different.mean()))
                    else:
                        scores.append(-float(((own.mean(0) - far) ** 2).sum()) if len(own) else -np.inf)
                right[instance].append(np.argmax(scores) == label)
        assert np.allclose(found[i], [100 * np.mean(right[2]), 100 * np.mean(right[5])])


@pytest.mark.parametrize(
    "name", ["meta-sgd", "maml, learned rates", "reptile, inner adam", "meta-learner lstm"]
)
def test_a_method_with_another_step_is_refused(name):
    with pytest.raises(ValueError, match="is not inner_lr times the gradient"):
        sequences.accuracy_by_instance(dataclasses.replace(MAML, method=name), {}, READER)


def test_rows_and_numbers_that_cannot_be_are_refused():
    other = dataclasses.replace(MAML, ways=3, network=("conv4", {"ways": 3, "filters": 4}))
    with pytest.raises(ValueError, match="tells 3 classes apart, but sequences of .* have 2"):
        sequences.accuracy_by_instance(other, {}, READER)
    for n_tasks in (0, -1, 2.5):
        with pytest.raises(ValueError, match=f"n_tasks={n_tasks}, but it must be a whole number, at least 1"):
            sequences.accuracy_by_instance(MAML, {}, READER, n_tasks=n_tasks)


def test_a_row_whose_loss_is_the_mean_keeps_its_step():
    learner = supervised.build(MAML)
    params = learner.model.init(torch.Generator().manual_seed(0))
    tests = tuple(dataclasses.replace(test, inner_lr=2 * test.inner_lr) for test in MAML.evaluations)
    mean = dataclasses.replace(MAML, loss="cross-entropy, mean", evaluations=tests)
    one, other = (sequences.accuracy_by_instance(row, params, READER, n_tasks=5) for row in (MAML, mean))
    assert np.array_equal(one, other)


def test_the_sequences_are_those_of_the_recurrent_network():
    run = supervised_training.SupervisedTraining(READER, seed=0, device="cpu", validate=False)
    test = READER.evaluations[0]
    found = supervised.evaluate(READER, run.params, test, n_tasks=3)["accuracy"]
    for i, part in enumerate(drawn(3)):
        labels = part[1]
        places = labels.argsort(stable=True).view(2, 5)
        task = Task(tuple(t[None] for t in part), (places[None], torch.arange(2)[None]))
        outputs = meta_batch.predictions(supervised.method(READER, test), run.params, task)
        assert np.allclose(found[i], 100 * (outputs.argmax(-1)[:, 0] == torch.arange(2)).float().mean(-1))


@pytest.mark.parametrize("instances", [(1,), (6,), (2, 9), (), (2.0,)])
def test_instances_that_a_sequence_has_not_got_are_refused(instances):
    with pytest.raises(ValueError, match="whole numbers that lie from 2 to 5"):
        sequences.accuracy_by_instance(MAML, {}, READER, instances=instances)


def test_the_committed_table_is_of_the_committed_networks():
    folder = places.repository() / "data" / "benchmarks" / "instances"
    table = pd.read_csv(folder / "accuracy.csv", dtype={"fingerprint": str})
    assert len(table)
    for line in table.itertuples():
        (result,) = (found for found in results.load(line.row) if found["seed"] == 0)
        made_of = {"iterations_done": line.iterations_done, "fingerprint": line.fingerprint}
        assert {key: result[key] for key in made_of} == made_of, "run benchmarks/instances.py --save again"
        assert not results.stale(result)
