"""The baselines of Table 1 against slow twins, and through the door of a run."""

import dataclasses

import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from conftest import small_problem
from mamlkit import maml, methods, places
from mamlkit.engine import classifier as engine_classifier
from mamlkit.engine import meta_batch
from mamlkit.experiments import mini_imagenet, paper
from mamlkit.maml import Task
from mamlkit.report import results
from mamlkit.runs import supervised, train, trainings
from mamlkit.tasks.images import nearest_neighbour_accuracy


def classifier(kind="conv-max", transductive=True):
    """A pretrained classifier of 7 classes, its parameters, and a meta-batch of 2-way tasks."""
    learner, _, batch = small_problem(kind)
    learner = dataclasses.replace(learner, transductive=transductive)
    made = dataclasses.replace(methods.pretrained_classifier(learner), classes=7)
    params = {k: v.double() for k, v in made.init(torch.Generator().manual_seed(0)).items()}
    return learner, made, params, batch


def single(batch, task=0):
    return Task(*(tuple(tensor[task] for tensor in part) for part in batch))


def features(learner, params, inputs):
    """What the head gets, taken from the head's own words: its outputs for one feature at a time."""
    heads = torch.eye(params["head"].shape[1], dtype=inputs.dtype)
    zero = torch.zeros(1, dtype=inputs.dtype)
    outputs = [learner.model.apply({**params, "head": one[None], "head_bias": zero}, inputs) for one in heads]
    return torch.cat(outputs, dim=1)


def test_tasks_of_a_few_classes_are_not_what_a_classifier_of_all_is_trained_on():
    row = dataclasses.replace(paper.get("glyphs-5way-1shot"), method="pretrained classifier")
    with pytest.raises(
        ValueError, match="is trained on all of 64 classes at once, but a task .* has 5 examples"
    ):
        trainings.begin(row)


def test_the_classifier_learns_all_classes_and_leaves_the_networks_own_head():
    learner, made, params, batch = classifier()
    labels = torch.tensor([[0, 3, 6, 5]] * 3)
    batch = batch._replace(support=(batch.support[0], labels))
    gradient, losses = meta_batch.meta_gradient(made, params, batch)
    outputs = features(learner, params, batch.support[0][0]) @ params["all_classes"].T
    wanted = F.cross_entropy(outputs, labels[0], reduction="sum") / learner.shots
    assert torch.allclose(losses[0], wanted, rtol=1e-9)
    assert gradient["all_classes"].any() and gradient["conv0"].any()
    assert not gradient["head"].any() and not gradient["head_bias"].any()


@pytest.mark.parametrize("transductive", [True, False])
@pytest.mark.parametrize("kind", ["conv-max", "conv-stride"])
def test_the_classifier_by_passes_is_the_classifier_as_it_is_written(kind, transductive, monkeypatch):
    _, made, params, batch = classifier(kind, transductive)
    labels = torch.tensor([[0, 3, 6, 5], [1, 1, 2, 4], [6, 0, 5, 2]])
    many = batch._replace(support=(batch.support[0], labels))
    assert engine_classifier.is_for(made, many)
    found, losses = meta_batch.meta_gradient(made, params, many)
    wanted, slow_losses = maml.meta_gradient(made.loss, params, many)
    assert torch.allclose(losses, slow_losses, rtol=1e-9) and found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.allclose(found[name], value, rtol=1e-8, atol=1e-10), name
    outputs = meta_batch.predictions(made, params, batch)
    monkeypatch.setattr(engine_classifier, "is_for", lambda *_: False)
    assert torch.allclose(outputs, meta_batch.predictions(made, params, batch), rtol=1e-8, atol=1e-10)


def test_what_the_passes_have_no_derivative_for_goes_the_general_way():
    learner, made, _, batch = classifier()
    thawed = dataclasses.replace(learner, model=learner.model._replace(frozen=frozenset()))
    assert engine_classifier.is_for(made, batch)
    assert not engine_classifier.is_for(methods.pretrained_classifier(thawed), batch)
    own = type("Own", (methods.PretrainedClassifier,), {})(made.learner, made.layers, made.neighbours)
    assert not engine_classifier.is_for(own, batch)


def test_step_0_is_the_nearest_support_image_by_cosine():
    learner, made, params, batch = classifier()
    found = meta_batch.predictions(made, params, batch)[0, 1]
    task = single(batch, 1)
    near, far = (features(learner, params, inputs) for inputs, _ in task)
    for q, query in enumerate(far):
        for way in range(2):
            cosines = [
                F.cosine_similarity(query, image, dim=0)
                for image, label in zip(near, task.support[1])
                if label == way
            ]
            assert torch.isclose(found[q, way], max(cosines), rtol=1e-9)


def test_later_steps_are_fine_tuning_of_all_weights_with_the_networks_own_head():
    learner, made, params, batch = classifier()
    network = {name: params[name] for name in learner.model.shapes}
    wanted = meta_batch.predictions(methods.maml(learner), network, batch)
    found = meta_batch.predictions(made, params, batch)
    assert found.shape == wanted.shape
    assert torch.allclose(found[1:], wanted[1:], rtol=1e-9) and not torch.allclose(found[0], wanted[0])


def test_the_rates_of_fine_tuning_are_the_best_of_the_committed_validation():
    table = pd.read_csv(places.repository() / "data" / "benchmarks" / "fine-tuning" / "accuracy.csv")
    row = paper.get("mini-imagenet-pretrained")
    of_row = results.load(row.name)[0]
    for key in ("iterations_done", "fingerprint"):  # the rates were tried on the training that is shown
        assert set(table[key].astype(str)) == {str(of_row[key])}
    for test in row.evaluations:
        tried = table[table.test == test.name].set_index("rate")
        assert len(tried) > 3 and tried.value.idxmax() == test.inner_lr == mini_imagenet.TUNED[test.shots]
        assert tried.index.min() < test.inner_lr < tried.index.max()  # no end of what was tried
        assert (tried.steps == test.inner_steps).all()


def test_nearest_neighbours_on_pixels_are_those_of_the_tasks():
    learner, _, batch = small_problem("conv-stride")
    made = methods.nearest_neighbour(learner)
    params = {k: v.double() for k, v in made.init(torch.Generator()).items()}
    (outputs,) = meta_batch.predictions(made, params, batch)
    right = (outputs.argmax(-1) == batch.query[1]).double().mean(-1)
    assert torch.allclose(right, nearest_neighbour_accuracy(batch).double())
    gradient, _ = meta_batch.meta_gradient(made, params, batch)
    assert gradient["scale"] != 0


def test_nearest_neighbours_have_the_loss_of_a_learner_with_one_of_its_own():
    own = type("Own", (methods.Learner,), {"loss_of": lambda self, outputs, targets: outputs.sum()})
    learner, _, batch = small_problem("conv-stride")
    made = methods.nearest_neighbour(own(**vars(learner)))
    params = {"scale": torch.ones(1, dtype=torch.float64)}
    assert made.loss(params, single(batch)) == made.predict(params, single(batch)).sum()


@pytest.mark.parametrize("make", [methods.pretrained_classifier, methods.nearest_neighbour])
def test_a_network_whose_head_is_not_known_is_refused(make):
    learner, _, _ = small_problem("conv-max")
    with pytest.raises(ValueError, match="has no layers, .* give the model its layers"):
        make(dataclasses.replace(learner, model=learner.model._replace(layers=())))


def test_the_baselines_are_trained_and_tested_as_rows(made_families, monkeypatch):
    monkeypatch.setattr(supervised, "EVALUATION_CHUNK", 2)
    small = ("conv4", {"ways": 5, "filters": 2, "size": 84, "channels": 3, "pooling": "max"})
    for name, changes in {
        "mini-imagenet-pretrained": {"iterations": 2, "network": small},
        "mini-imagenet-pixels": {"network": small},
    }.items():
        row = dataclasses.replace(paper.get(name), **changes)
        few = tuple(dataclasses.replace(e, tasks=2, queries=2) for e in row.evaluations)
        row = dataclasses.replace(row, evaluations=few)
        fit = train.fit(row, validate=False)
        found = trainings.evaluate_row(row, fit.params)
        assert fit.iteration == row.iterations
        for evaluation in few:
            assert found[evaluation.name]["accuracy"].shape == (2, evaluation.inner_steps + 1)
            assert found[evaluation.name]["accuracy"][:, 0].mean() > 20  # the classes differ in colour
