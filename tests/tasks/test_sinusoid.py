"""The sinusoid family: its ranges, its formula, its floor."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mamlkit import tasks
from mamlkit.experiments import paper
from mamlkit.experiments.rows import Row
from mamlkit.tasks import contract, glyphs
from mamlkit.tasks.bank import ClassBank
from mamlkit.tasks.images import ImageTasks
from mamlkit.tasks.sinusoid import Sinusoid, task_blind_mse


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_targets_are_the_sine_of_the_shown_task():
    (x, y), (qx, qy) = Sinusoid(shots=3, queries=2, show_task=True).sample(generator(), 50)
    assert (
        x.shape == (50, 3, 3) and y.shape == (50, 3, 1) and qx.shape == (50, 2, 3) and qy.shape == (50, 2, 1)
    )
    for inputs, targets in ((x, y), (qx, qy)):
        points, amplitude, phase = inputs.split(1, -1)
        assert torch.allclose(targets, amplitude * torch.sin(points - phase), atol=1e-6)
        assert points.abs().max() <= 5 and amplitude.min() >= 0.1 and amplitude.max() <= 5
        assert phase.min() >= 0 and phase.max() <= math.pi
    assert torch.equal(x[:, 0, 1:], qx[:, 0, 1:])  # one task, one amplitude and phase


def test_amplitude_phase_and_points_are_uniform():
    # Kolmogorov-Smirnov with 20,000 values: a true sampler fails one of three tests at 1e-6 less often than
    # 3e-6.
    (x, _), _ = Sinusoid(shots=1, queries=1, show_task=True).sample(generator(1), 20_000)
    bound = math.sqrt(-math.log(1e-6 / 2) / 2) / math.sqrt(20_000)
    for column, (low, high) in enumerate([(-5, 5), (0.1, 5), (0, math.pi)]):
        values = ((x[:, 0, column] - low) / (high - low)).sort().values
        assert (values - (torch.arange(20_000) + 0.5) / 20_000).abs().max() < bound


@pytest.mark.parametrize("top", [math.pi, 2 * math.pi])
def test_the_floor_is_that_of_the_best_predictor_found_numerically(top):
    # The conditional mean at each x, from a grid over amplitude and phase; what is left is the floor.
    amplitude = torch.linspace(0.1, 5, 201, dtype=torch.float64)[:, None, None]
    phase = ((torch.arange(200, dtype=torch.float64) + 0.5) / 200 * top)[None, :, None]
    x = ((torch.arange(400, dtype=torch.float64) + 0.5) / 400 * 10 - 5)[None, None, :]
    weight = torch.ones(201, dtype=torch.float64)
    weight[[0, -1]] = 0.5  # trapezium rule over the amplitude
    weight = (weight / weight.sum())[:, None, None]
    y = amplitude * torch.sin(x - phase)
    mean = (weight * y).sum(0).mean(0)
    floor = ((weight * (y - mean) ** 2).sum(0).mean(0)).mean()
    assert abs(task_blind_mse(phase=(0, top)) - floor) < 1e-3


@pytest.mark.parametrize(
    ("family", "end", "shown"),
    [("sinusoid", 1, False), ("sinusoid, phase to 2 pi", 2, False), ("sinusoid, task shown", 1, True)],
)
def test_of_one_frequency_nothing_is_drawn_and_the_bits_are_those_of_the_formula_without_it(
    family, end, shown
):
    draw, uniform = (
        generator(7),
        lambda low, high, *shape: low + (high - low) * torch.rand(*shape, generator=draw),
    )
    amplitude, phase = uniform(0.1, 5.0, 50, 1, 1), uniform(0.0, end * math.pi, 50, 1, 1)
    x = uniform(-5.0, 5.0, 50, 12, 1)
    y = amplitude * torch.sin(x - phase)
    wanted = torch.cat([x, amplitude.expand_as(x), phase.expand_as(x)], -1) if shown else x
    made = generator(7)
    found = tasks.make(family, "train", shots=5, queries=7).sample(made, 50)
    for (inputs, targets), points in zip(found, (slice(5), slice(5, None)), strict=True):
        assert torch.equal(inputs, wanted[:, points]) and torch.equal(targets, y[:, points])
    assert torch.equal(made.get_state(), draw.get_state())


def test_a_drawn_frequency_is_uniform_and_that_of_all_points_of_a_task():
    (x, y), (qx, qy) = Sinusoid(shots=2, queries=3, frequency=(0.8, 1.2), show_task=True).sample(
        generator(2), 20_000
    )
    assert x.shape == (20_000, 2, 4)
    for inputs, targets in ((x, y), (qx, qy)):
        points, amplitude, phase, frequency = inputs.split(1, -1)
        assert torch.allclose(targets, amplitude * torch.sin(frequency * points - phase), atol=1e-5)
    assert torch.equal(x[:, 0, 1:], qx[:, 2, 1:])
    bound = math.sqrt(-math.log(1e-6 / 2) / 2) / math.sqrt(20_000)  # Kolmogorov-Smirnov, as above
    values = ((x[:, 0, 3] - 0.8) / 0.4).sort().values
    assert (values - (torch.arange(20_000) + 0.5) / 20_000).abs().max() < bound


def test_the_family_with_a_frequency_draws_it_and_does_not_show_it():
    family = tasks.make("sinusoid, frequency too", "train", shots=2, queries=3)
    assert family.frequency == (0.8, 1.2) and family.inputs == 1
    one = Sinusoid(shots=2, queries=3, frequency=(0.8, 1.2), show_task=True).sample(generator(), 9)
    same = family.sample(generator(), 9)
    assert torch.equal(same.query[0], one.query[0][..., :1]) and torch.equal(same.query[1], one.query[1])


def test_same_generator_same_tasks():
    one, same, other = (Sinusoid().sample(generator(seed), 4) for seed in (0, 0, 1))
    assert torch.equal(one.support[0], same.support[0]) and not torch.equal(one.support[0], other.support[0])


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(ValueError, match=f"device='{device}' cannot be used"):
        tasks.make("sinusoid", "train", ways=1, shots=5, queries=5, device=device)


def test_bad_input_is_refused_with_a_reason():
    with pytest.raises(ValueError, match="shots=0"):
        Sinusoid(shots=0)
    with pytest.raises(ValueError, match="families are"):
        tasks.make("cosine", "train", shots=1, queries=1)
    with pytest.raises(ValueError, match="splits are"):
        tasks.make("sinusoid", "support", shots=1, queries=1)


@pytest.mark.parametrize("number", [0, -1, 1.0, 0.5, math.nan, None, "3", True, torch.tensor(2)])
def test_numbers_that_are_not_whole_or_too_small_are_refused_at_every_door(number):
    images = ImageTasks(ClassBank(torch.zeros(3, 4, 1, 2, 2, dtype=torch.uint8), ("a", "b", "c")), 2, 1, 1)
    for name in ("shots", "queries"):
        with pytest.raises(ValueError, match=f"{name}="):
            Sinusoid(**{name: number})
        with pytest.raises(ValueError, match=f"{name}="):
            replace(images, **{name: number})
    with pytest.raises(ValueError, match="ways="):
        replace(images, ways=number)
    for family in (Sinusoid(), images):
        with pytest.raises(ValueError, match="tasks="):
            family.sample(generator(), number)
    with pytest.raises(ValueError, match="tasks="):
        images.draw(generator(), number)
    if number != 0:
        with pytest.raises(ValueError, match="seed="):
            glyphs.load("val", seed=number)


def test_numpys_whole_numbers_are_whole():
    assert Sinusoid(shots=np.int64(3), queries=np.uint8(2)).sample(generator(), np.int32(4)).support[
        0
    ].shape == (4, 3, 1)


@pytest.mark.parametrize("name", ["amplitude", "phase", "x", "frequency"])
@pytest.mark.parametrize(
    "bounds", [(2.0, 1.0), (0.0, math.inf), (-math.inf, 0.0), (math.nan, 1.0), (0.0, math.nan)]
)
def test_a_range_that_is_none_is_refused(name, bounds):
    with pytest.raises(ValueError, match=rf"{name}=\(.*low <= high"):
        Sinusoid(**{name: bounds})


@pytest.mark.parametrize("bounds", [3, (1, 2, 3), ("0", "1"), None])
def test_what_is_no_pair_of_numbers_is_no_range(bounds):
    for family in (Sinusoid, task_blind_mse):
        with pytest.raises(ValueError, match=r"phase=.*, but a range is \(low, high\)"):
            family(phase=bounds)


@pytest.mark.parametrize("wrong", [0, None, np.random.default_rng(0)])
def test_tasks_are_drawn_with_a_generator(wrong):
    """None would be PyTorch's global state."""
    images = tasks.make("glyphs", "val", ways=2, shots=1, queries=1)
    sequences = tasks.make("glyphs, sequences", "val", ways=2, shots=2, queries=2)
    for family in (Sinusoid(), images, sequences):
        with pytest.raises(ValueError, match="generator=.*, but a torch.Generator is needed, such as seeds"):
            family.sample(wrong, 2)


def test_a_range_may_be_a_point_but_then_nobody_is_blind():
    (_, y), _ = Sinusoid(amplitude=(0.0, 0.0)).sample(generator(), 2)
    assert not y.any()
    with pytest.raises(ValueError, match="range of no width"):
        task_blind_mse(phase=(1.0, 1.0))


@pytest.mark.parametrize(
    ("x", "amplitude", "phase"),
    [
        ((4, 5), (4, 1, 1), (4, 1, 1)),
        ((4, 5, 2), (4, 1, 1), (4, 1, 1)),
        ((4, 2, 1), (4, 1, 1), (4, 1, 1)),
        ((4, 5, 1), (4,), (4, 1, 1)),
        ((4, 5, 1), (1, 1, 1), (4, 1, 1)),
        ((4, 5, 1), (4, 1, 1), (4, 5, 1)),
        ((4, 5, 1), (4, 1, 1), (5, 1, 1)),
    ],
)
def test_points_and_tasks_of_other_shapes_are_not_mixed(x, amplitude, phase):
    with pytest.raises(ValueError, match="has shape"):
        Sinusoid(shots=2).examples(torch.zeros(x), torch.ones(amplitude), torch.zeros(phase))
    with pytest.raises(ValueError, match="frequency has shape"):
        Sinusoid(shots=2).examples(
            torch.zeros(4, 5, 1), torch.ones(4, 1, 1), torch.ones(4, 1, 1), torch.ones(4)
        )


def test_a_regression_has_no_ways():
    with pytest.raises(ValueError, match="ways=5, but the points"):
        tasks.make("sinusoid", "train", ways=5, shots=1, queries=1)


NEED_FILES = ("omniglot", "mini-imagenet")  # a data set; their own tests make a small one


def least(family, **sizes):
    """A family with the ways of its experiments, without any with as few as it takes; and the ways."""
    rows = [row for row in paper.ROWS.values() if isinstance(row, Row) and row.family == family]
    if rows:
        ways = min(row.ways for row in rows)
        return tasks.make(family, "val", ways=ways, **sizes), ways
    try:
        return tasks.make(family, "val", ways=1, **sizes), 1
    except ValueError:
        return tasks.make(family, "val", ways=2, **sizes), 2


@pytest.mark.parametrize("family", [name for name in tasks.FAMILIES if not name.startswith(NEED_FILES)])
def test_every_family_keeps_the_contract(family):
    shots = 2 if "sequences" in family else 1  # whose drawings are support and query at once
    made, ways = least(family, shots=shots, queries=2)
    points = getattr(made, "points", (ways * shots, ways * 2))
    contract.check(family, made.sample, generator, tasks=3, points=points)


@pytest.mark.parametrize("used", [False, True], ids=["without experiments", "with one"])
@pytest.mark.parametrize(("name", "ways"), [("square", 1), ("letters", 2), ("five", 5)])
def test_the_contract_takes_the_ways_of_the_experiments_or_as_few_as_a_family_takes(
    name, ways, used, monkeypatch
):
    asked = []

    def make(split, device, *, ways, shots, queries):
        asked.append(ways)
        if ways != {"square": 1, "letters": 2, "five": 5}[name]:
            raise ValueError(f"ways={ways}")
        return Sinusoid(ways * shots, ways * queries)

    monkeypatch.setitem(tasks.FAMILIES, name, make)
    if used:
        row = replace(paper.ROWS["sinusoid-maml"], name="new", family=name, ways=ways)
        monkeypatch.setitem(paper.ROWS, "new", row)
    if used or ways < 5:
        test_every_family_keeps_the_contract(name)
        assert asked[-1] == ways and (not used or len(asked) == 1)
