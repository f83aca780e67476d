"""The authors' weights: the network gives the outputs that an independent NumPy program found for them, and
the package's tests those of a second program, which is here."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mamlkit import models, tasks
from mamlkit.engine import meta_batch
from mamlkit.experiments import paper
from mamlkit.measures import STEPS_KEPT
from mamlkit.models import released
from mamlkit.report import results
from mamlkit.runs import seeds, supervised

STEPS, ALPHA = 10, 0.01

# Of that program, in float64, for the images below.
LOGITS = [
    [6.234938, 6.533214, 5.576506, 7.748586, 6.946607],
    [6.260415, 6.408923, 5.786722, 7.851264, 6.994809],
    [6.518507, 6.782136, 6.081334, 8.199148, 7.330647],
    [6.340945, 6.662772, 5.543935, 7.738830, 7.227314],
    [6.793059, 6.820303, 5.976034, 8.169520, 7.532606],
]


def images():
    """Five images by a formula, ``[5, 3, 84, 84]``, float64."""
    n, h, w, c = np.ogrid[:5, :84, :84, :3]
    pixels = (17 * n + 31 * h + 7 * w + 101 * c + 13 * h * w) % 256 / 255
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-4), (torch.float64, 1e-6)])
def test_the_released_weights_give_the_outputs_that_were_found_for_them(dtype, error):
    model = models.NETWORKS["conv4, released weights"]()
    params = {name: value.to(dtype) for name, value in model.init(torch.Generator()).items()}
    outputs = model.apply(params, images().to(dtype)).double()
    assert (outputs - torch.tensor(LOGITS, dtype=torch.float64)).abs().max() < error


def test_they_are_those_of_the_paper_s_network_and_no_generator_changes_them():
    made = models.conv4(5, filters=32, size=84, channels=3, pooling="max")
    one, other = (models.released_conv4().init(torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert {name: value.shape for name, value in one.items()} == dict(made.shapes)
    assert all(torch.equal(one[name], other[name]) and one[name].dtype == torch.float32 for name in one)
    assert sum(value.numel() for value in one.values()) == 32_773
    assert models.released_conv4().frozen == made.frozen


def test_the_file_needs_no_pickle_and_has_its_licence_beside_it():
    with np.load(released.FILE, allow_pickle=False) as arrays:
        assert all(arrays[name].dtype.kind in "fU" for name in arrays.files)
    licence = released.FILE.with_suffix(".LICENSE").read_text(encoding="utf-8")
    assert "Copyright (c) 2017 Chelsea Finn" in licence and "github.com/cbfinn/maml" in licence


class SecondProgram:
    """Adapts and tests by itself: one task at a time, by autograd.

    With the package it shares the file of weights alone. Pixels are flattened before channels, as in
    TensorFlow, and the head is not rearranged.
    """

    def __init__(self, dtype):
        with np.load(released.FILE) as arrays:
            read = lambda name: torch.from_numpy(arrays[name]).to(dtype)
            self.shifts = [read(f"bn{i}_beta") for i in (1, 2, 3, 4)]
            self.start = [read(f"conv{i}").permute(3, 2, 0, 1) for i in (1, 2, 3, 4)]
            self.start += [read(f"b{i}") for i in (1, 2, 3, 4)] + [read("w5"), read("b5")]

    def logits(self, weights, images, others=None):
        """Outputs for images; with ``others`` these are normalised as those are, which go along."""
        if others is not None:
            images = torch.cat([others, images])
        alone = len(images) if others is None else len(others)
        for kernel, bias, shift in zip(weights[:4], weights[4:8], self.shifts):
            images = F.conv2d(images, kernel, bias, padding="same")
            centre = images[:alone].mean((0, 2, 3), keepdim=True)
            spread = ((images[:alone] - centre) ** 2).mean((0, 2, 3), keepdim=True)
            images = (images - centre) / torch.sqrt(spread + 0.001) + shift.view(-1, 1, 1)
            images = F.max_pool2d(images.clamp(min=0), 2)
        outputs = images.movedim(1, -1).flatten(1) @ weights[8] + weights[9]
        return outputs if others is None else outputs[alone:]

    def after_each_step(self, task, transductive=True):
        """Logits of the queries after 0, 1, ... steps on the summed loss, ``[steps + 1, points, ways]``."""
        (images, labels), (queries, _) = task
        weights = [w.clone().requires_grad_() for w in self.start]
        found = []
        for step in range(STEPS + 1):
            with torch.no_grad():
                found.append(self.logits(weights, queries, None if transductive else images))
            if step < STEPS:
                loss = F.cross_entropy(self.logits(weights, images), labels, reduction="sum")
                slopes = torch.autograd.grad(loss, weights)
                weights = [(w - ALPHA * g).detach().requires_grad_() for w, g in zip(weights, slopes)]
        return torch.stack(found)


def committed_test(name):
    row = paper.get("mini-imagenet-released")
    return row, next(test for test in row.evaluations if test.name == name)


@pytest.mark.parametrize("test", ["Q=1", "Q=1, support statistics"])
def test_a_second_program_gives_the_same_outputs_on_drawn_pictures(test):
    row, evaluation = committed_test(test)
    row = dataclasses.replace(row, family="textures")
    family = supervised.tasks_of(row, "test", "cpu", evaluation)
    batch = family.sample(seeds.generator(0, "second program"), 2)
    params = supervised.build(row).model.init(seeds.generator(0, "init"))
    ours = meta_batch.predictions(supervised.method(row, evaluation), params, batch)
    program = SecondProgram(torch.float64)
    for i in range(2):
        (images, labels), (queries, wanted) = (tuple(part[i] for part in pair) for pair in batch)
        task = (images.double(), labels), (queries.double(), wanted)
        theirs = program.after_each_step(task, evaluation.transductive)
        assert ours[:, i].shape == theirs.shape == (STEPS + 1, 5, 5)
        assert (ours[:, i] - theirs).abs().max() < 1e-3 * theirs.abs().max()
    assert not torch.allclose(ours[0], ours[-1], rtol=0.1)  # it has adapted


def test_a_second_program_gives_the_committed_accuracies():
    if not tasks.mini_imagenet.available():
        pytest.skip("Mini-ImageNet is not here")
    row, evaluation = committed_test("Q=1")
    family = supervised.tasks_of(row, "test", "cpu", evaluation)
    batch = family.sample(seeds.generator(0, "evaluate test", 0), supervised.EVALUATION_CHUNK)
    kept = results.per_task_errors(row.name, 0, evaluation.name, "accuracy")
    steps = [step for step in STEPS_KEPT if step <= STEPS]
    program, other = SecondProgram(torch.float32), 0
    for i in range(10):
        task = tuple(tuple(part[i] for part in pair) for pair in batch)
        right = program.after_each_step(task).argmax(-1) == task[1][1]
        accuracy = 100 * right.float().mean(-1)[steps].numpy()
        other += int((abs(accuracy - kept[i]) > 1).sum())
    assert other <= 1  # a query on the border of two classes may fall to either side
