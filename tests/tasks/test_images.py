"""The sampler of N-way K-shot tasks: what it draws is uniform and disjoint, and what it gathers is right.

Statistical tests have a fixed seed, so they pass or fail for good; the rate at which a true sampler would
fail them with another seed is stated with each.
"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from mamlkit import tasks
from mamlkit.maml import Task
from mamlkit.tasks import omniglot
from mamlkit.tasks.bank import ClassBank
from mamlkit.tasks.images import ImageTasks, nearest_neighbour_accuracy

RATE = 1e-6  # of a false alarm, each time a bound is compared


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random_bank(classes=6, drawings=5, channels=1, height=4, width=4):
    images = torch.randint(
        256, (classes, drawings, channels, height, width), generator=generator(9), dtype=torch.uint8
    )
    return ClassBank(images, tuple(f"class {row}" for row in range(classes)))


def excess(counts):
    """Pearson's statistic over its bound: below 1, but for a false alarm, if counts are uniform.

    Each line of ``counts`` is a test of its own; they share the rate.
    """
    counts = counts.double().reshape(-1, counts.shape[-1])
    expected = counts.mean(-1, keepdim=True)
    statistic = ((counts - expected) ** 2 / expected).sum(-1)
    return float(statistic.max() / chi2.isf(RATE / len(counts), counts.shape[-1] - 1))


# ---- what is drawn


@pytest.fixture(scope="module")
def draws():
    """30,000 tasks, 3 ways, 1 shot and 1 query, of 7 classes with 5 drawings."""
    return ImageTasks(random_bank(7), 3, 1, 1, rotations=True).draw(generator(1), 30_000)


def test_every_class_is_drawn_equally_often(draws):
    # A class comes at most once in a task, so counts spread less than independent ones, by (7 - 3) / (7 - 1).
    counts = torch.bincount(draws[0].flatten(), minlength=7).double()
    expected = counts.mean()
    statistic = ((counts - expected) ** 2 / expected).sum() * (7 - 1) / (7 - 3)
    assert statistic < chi2.isf(RATE, 6)


def test_every_class_gets_every_label_equally_often(draws):
    # [labels, classes]
    table = torch.stack([torch.bincount(draws[0][:, label], minlength=7) for label in range(3)])
    assert excess(table) < 1  # the classes of a label
    assert excess(table.T) < 1  # the labels of a class


def test_a_pair_of_support_and_query_drawings_is_uniform_over_all_distinct_pairs(draws):
    support, query = draws[1][..., 0], draws[1][..., 1]
    counts = torch.bincount((support * 5 + query).flatten(), minlength=25).view(5, 5)
    assert torch.equal(counts.diagonal(), torch.zeros(5, dtype=counts.dtype))
    assert excess(counts[~torch.eye(5, dtype=torch.bool)][None]) < 1


def test_turns_are_uniform_and_independent_between_the_classes_of_a_task(draws):
    first, second, third = draws[2].unbind(1)
    counts = torch.bincount(first * 16 + second * 4 + third, minlength=64)
    assert excess(counts[None]) < 1


def test_the_chi_square_tests_would_notice_a_bias():
    lucky = torch.cat(
        [torch.randint(7, (30_000,), generator=generator(2)), torch.zeros(600, dtype=torch.long)]
    )
    assert excess(torch.bincount(lucky)[None]) > 1  # 2 % more of one class than there should be


def test_classes_of_a_task_and_drawings_of_a_class_are_distinct():
    chosen, drawn, _ = ImageTasks(random_bank(6, 5), 6, 2, 3).draw(generator(), 200)
    assert torch.equal(chosen.sort(-1).values, torch.arange(6).expand(200, 6))  # all six, in any order
    assert torch.equal(drawn.sort(-1).values, torch.arange(5).expand(200, 6, 5))


@given(seed=st.integers(0, 2**32), tasks=st.integers(1, 5))
def test_the_same_generator_gives_the_same_tasks_and_the_global_one_is_left_alone(seed, tasks):
    family = ImageTasks(random_bank(), 3, 1, 2, rotations=True)
    state = torch.get_rng_state()
    one, same = (family.sample(generator(seed), tasks) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for half in range(2) for a, b in zip(one[half], same[half], strict=True))
    assert not torch.equal(one.support[0], family.sample(generator(seed + 1), tasks).support[0])


# ---- what is gathered


def slow_sample(family, generator, tasks):
    """Image by image, with torch.rot90: the slow twin of ImageTasks.sample."""
    parts = [([], []), ([], [])]
    for classes, drawings, turns in zip(*family.draw(generator, tasks)):
        for half, points in enumerate(
            (range(family.shots), range(family.shots, family.shots + family.queries))
        ):
            images, labels = [], []
            for label, row in enumerate(classes):
                for point in points:
                    image = family.bank.images[row, drawings[label, point]].float() / 255
                    images.append(torch.rot90(image, int(turns[label]), (-2, -1)))
                    labels.append(label)
            parts[half][0].append(torch.stack(images))
            parts[half][1].append(torch.tensor(labels))
    return Task(*(tuple(map(torch.stack, part)) for part in parts))


@st.composite
def families(draw):
    """Image families of every small shape."""
    classes, drawings = draw(st.integers(2, 7)), draw(st.integers(2, 6))
    shots = draw(st.integers(1, drawings - 1))
    height, channels, rotations = draw(st.integers(1, 5)), draw(st.integers(1, 3)), draw(st.booleans())
    width = height if rotations else draw(st.integers(1, 5))
    ways, queries = draw(st.integers(2, classes)), draw(st.integers(1, drawings - shots))
    return ImageTasks(
        random_bank(classes, drawings, channels, height, width), ways, shots, queries, rotations
    )


@given(family=families(), tasks=st.integers(1, 4), seed=st.integers(0, 2**32))
def test_a_sample_equals_its_slow_twin(family, tasks, seed):
    before = family.bank.images.clone()
    fast, slow = family.sample(generator(seed), tasks), slow_sample(family, generator(seed), tasks)
    for (images, labels), (slow_images, slow_labels), points in zip(
        fast, slow, (family.shots, family.queries)
    ):
        assert images.dtype == torch.float32 and images.min() >= 0 and images.max() <= 1
        assert images.shape == (tasks, family.ways * points, *family.bank.images.shape[2:])
        assert torch.equal(images, slow_images) and torch.equal(labels, slow_labels)
    assert torch.equal(family.bank.images, before)


def test_every_label_stands_for_as_many_examples():
    (_, support), (_, query) = ImageTasks(random_bank(), 4, 2, 3).sample(generator(), 10)
    for labels, points in ((support, 2), (query, 3)):
        assert all(torch.equal(torch.bincount(line), torch.full((4,), points)) for line in labels)


def test_support_and_query_share_no_drawing():
    # Every image of the bank has a value of its own, so an image tells which drawing it is.
    images = torch.arange(6 * 20, dtype=torch.uint8).view(6, 20, 1, 1, 1)
    (support, _), (query, _) = ImageTasks(ClassBank(images, tuple("abcdef")), 6, 5, 15).sample(
        generator(), 50
    )
    support, query = ((255 * part).round().long().flatten(1) for part in (support, query))
    for ours, theirs in zip(support, query, strict=True):
        assert len(set(ours.tolist()) | set(theirs.tolist())) == 6 * 20


def test_a_task_with_more_queries_has_those_of_the_task_with_fewer():
    """So one network's accuracies with few and with many queries can be compared task by task."""
    bank = random_bank()
    few, many = (
        ImageTasks(bank, ways=3, shots=1, queries=queries, rotations=True).sample(generator(), 4)
        for queries in (1, 4)
    )
    assert torch.equal(few.support[0], many.support[0])
    assert torch.equal(few.query[0], many.query[0].view(4, 3, 4, 1, 4, 4)[:, :, 0])


def test_one_turn_for_all_drawings_of_a_class_in_a_task():
    # Ink in the top left corner only: where it lies tells the turn.
    images = torch.zeros(5, 6, 1, 3, 3, dtype=torch.uint8)
    images[..., 0, 0] = 255
    family = ImageTasks(ClassBank(images, tuple("abcde")), 4, 2, 3, rotations=True)
    corners = [0, 6, 8, 2]  # after 0, 1, 2, 3 quarter turns counter-clockwise
    _, _, turns = family.draw(generator(3), 300)
    for inputs, labels in family.sample(generator(3), 300):
        corner = inputs.flatten(2).argmax(-1)
        assert torch.equal(corner, torch.tensor(corners)[turns].gather(1, labels))
    assert len(turns.unique(dim=0)) > 100  # of 256: classes and tasks do not turn together


def test_without_rotations_every_image_is_upright():
    family = ImageTasks(random_bank(), 3, 2, 2)
    chosen, drawn, turns = family.draw(generator(4), 20)
    assert not turns.any()
    upright = family.bank.images[chosen[..., None], drawn][:, :, :2].flatten(1, 2).float() / 255
    assert torch.equal(family.sample(generator(4), 20).support[0], upright)


# ---- what is refused


@pytest.mark.parametrize("ways", [1, 7])
def test_too_few_or_too_many_ways_are_refused(ways):
    with pytest.raises(
        ValueError, match=f"ways={ways}, but the 'val' split has 6 classes; use 2 <= ways <= 6"
    ):
        ImageTasks(random_bank(), ways, 1, 1, split="val")


@pytest.mark.parametrize(("shots", "queries"), [(0, 1), (1, 0), (3, 3), (5, 1)])
def test_shots_and_queries_that_a_class_cannot_give_are_refused(shots, queries):
    with pytest.raises(
        ValueError, match=f"shots={shots} and queries={queries}, but a class has 5 images.*at most 5 together"
    ):
        ImageTasks(random_bank(), 3, shots, queries)


def test_oblong_images_cannot_be_rotated():
    with pytest.raises(
        ValueError, match="images are 3x4, but only square ones can be rotated; use rotations=False"
    ):
        ImageTasks(random_bank(height=3), 3, 1, 1, rotations=True)


# ---- the families over it


@pytest.mark.parametrize("family", ["glyphs", "omniglot"])
def test_splits_share_no_class_and_rotate_everywhere(family):
    if family == "omniglot" and not omniglot.available():
        pytest.skip("Omniglot is not here")
    parts = [tasks.make(family, split, ways=5, shots=1, queries=1) for split in ("train", "val", "test")]
    names = [set(part.bank.names) for part in parts]
    assert [len(part) for part in names] == [1100, 100, 423]
    assert len(set.union(*names)) == sum(map(len, names))
    assert all(part.rotations for part in parts)
    with pytest.raises(ValueError, match="the 'val' split has 100 classes"):
        tasks.make(family, "val", ways=101, shots=1, queries=1)


# ---- nearest neighbour


@given(family=families(), seed=st.integers(0, 2**32))
def test_nearest_neighbour_equals_a_loop(family, seed):
    batch = family.sample(generator(seed), 3)
    (support, support_labels), (query, query_labels) = batch
    for task, accuracy in enumerate(nearest_neighbour_accuracy(batch)):
        right = 0
        for image, label in zip(query[task], query_labels[task], strict=True):
            distances = torch.stack([((image - other) ** 2).sum() for other in support[task]])
            nearest = support_labels[task][distances <= distances.min() * (1 + 1e-5)]
            if label not in nearest:
                continue
            if len(nearest.unique()) > 1:
                return  # a tie: either answer would do
            right += 1
        assert accuracy == pytest.approx(right / len(query_labels[task]))


def test_nearest_neighbour_finds_copies():
    support = torch.rand(4, 6, 1, 3, 3, generator=generator())
    labels = torch.arange(6).expand(4, 6)
    order = torch.randperm(6, generator=generator())
    assert (
        nearest_neighbour_accuracy(Task((support, labels), (support[:, order], labels[:, order]))).tolist()
        == [1.0] * 4
    )
