"""The engine gives the numbers of a plain loop over tasks, whatever network, method and chunks."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import (
    GRADIENT,
    General,
    finite_difference,
    forget_offsets,
    loop_gradient,
    relative_error,
    small_problem,
)
from mamlkit import maml, methods, models
from mamlkit.engine import adjoint, kernels_cpu, kernels_torch, meta_batch, passes
from mamlkit.engine.threads import each, one_thread
from mamlkit.experiments import paper
from mamlkit.maml import Task
from mamlkit.runs import seeds, supervised
from mamlkit.tasks.sinusoid import Sinusoid

KERNELS = {"cpu": kernels_cpu, "torch": kernels_torch}


@pytest.fixture(params=KERNELS)
def kernels(request, monkeypatch):
    """Both sets of loops run on a CPU, so both are tested there."""
    monkeypatch.setattr(passes, "kernels_of", lambda device: KERNELS[request.param])
    return KERNELS[request.param]


@pytest.mark.parametrize("method", GRADIENT)
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_it_equals_a_loop_over_tasks_in_float64(kernels, kind, steps, method):
    learner, params, tasks = small_problem(kind, steps=steps)
    objective = methods.METHODS[method](learner)
    gradient, losses = meta_batch.meta_gradient(objective, params, tasks)
    wanted, wanted_losses = loop_gradient(objective.loss, params, tasks)
    assert list(gradient) == list(params) and all(gradient[k].shape == params[k].shape for k in params)
    assert relative_error(gradient, wanted) < 1e-9
    assert torch.allclose(losses, wanted_losses, rtol=1e-9)


def test_it_equals_finite_differences(kind):
    learner, params, tasks = small_problem(kind, steps=2)
    objective = methods.maml(learner)
    gradient, _ = meta_batch.meta_gradient(objective, params, tasks)
    wanted = finite_difference(lambda p: maml.meta_loss(objective.loss, p, tasks)[0], params)
    assert relative_error(gradient, wanted) < 1e-6


def test_it_equals_a_loop_within_the_rounding_of_float32(kernels):
    # Shapes as in training: with few images per channel the variance itself would be rounding.
    learner, params, tasks = image_problem("stride", size=28, ways=5, tasks=3, steps=2, dtype=torch.float32)
    objective = methods.maml(learner)
    gradient, losses = meta_batch.meta_gradient(objective, params, tasks)
    double = lambda t: t.double() if t.is_floating_point() else t
    exact, _ = loop_gradient(
        objective.loss,
        {k: v.double() for k, v in params.items()},
        maml.Task(*(tuple(map(double, pair)) for pair in tasks)),
    )
    loop, loop_losses = loop_gradient(objective.loss, params, tasks)
    assert relative_error(gradient, exact) < 2 * relative_error(loop, exact) + 1e-6
    assert torch.allclose(losses, loop_losses, rtol=1e-4)


def image_problem(
    pooling,
    *,
    size,
    ways,
    tasks,
    steps,
    filters=4,
    channels=1,
    shots=1,
    queries=1,
    dtype=torch.float64,
    seed=0,
):
    """Random images with labels for a conv4."""
    generator = torch.Generator().manual_seed(seed)
    random = lambda *shape: torch.rand(*shape, generator=generator, dtype=dtype)
    model = models.conv4(ways, filters=filters, size=size, channels=channels, pooling=pooling)
    part = lambda n: (
        random(tasks, ways * n, channels, size, size),
        torch.arange(ways).repeat_interleave(n).repeat(tasks, 1),
    )
    params = {k: v.to(dtype) + 0.1 * random(*v.shape) for k, v in model.init(generator).items()}
    learner = methods.Learner(model, "cross-entropy, sum over examples / shots", 0.1, steps, shots)
    return learner, params, maml.Task(part(shots), part(queries))


SHAPES = {  # of image_problem
    "pooling": st.sampled_from(["stride", "max"]),
    "size": st.integers(16, 23),
    "channels": st.integers(1, 3),
    "filters": st.integers(1, 5),
    "ways": st.integers(2, 4),
    "queries": st.integers(1, 3),
    "tasks": st.integers(1, 3),
    "seed": st.integers(0, 1000),
}


@settings(max_examples=25, deadline=None)
@given(**SHAPES, steps=st.integers(0, 3), method=st.sampled_from(GRADIENT))
def test_it_equals_a_loop_whatever_the_shapes(method, **shape):
    learner, params, batch = image_problem(**shape)
    objective = methods.METHODS[method](learner)
    wanted, wanted_losses = loop_gradient(objective.loss, params, batch)
    for kernels in KERNELS.values():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(passes, "kernels_of", lambda device, kernels=kernels: kernels)
            gradient, losses = meta_batch.meta_gradient(objective, params, batch)
        assert relative_error(gradient, wanted) < 1e-9
        assert torch.allclose(losses, wanted_losses, rtol=1e-9)


def test_the_network_without_convolution_too(kernels):
    learner, params, tasks = image_problem("stride", size=8, ways=3, tasks=2, steps=2, queries=2)
    model = models.mlp(64, (6, 5), 3, batch_norm_shifts=True, std=0.5)
    params = {k: v.double() for k, v in model.init(torch.Generator().manual_seed(1)).items()}
    objective = methods.maml(dataclasses.replace(learner, model=model))
    gradient, _ = meta_batch.meta_gradient(objective, params, tasks)
    assert relative_error(gradient, loop_gradient(objective.loss, params, tasks)[0]) < 1e-9


@pytest.mark.parametrize(("module", "limit"), [(meta_batch, "CHUNK_BYTES"), (adjoint, "KEPT_BYTES")])
def test_chunks_and_kept_passes_change_nothing(kind, module, limit, monkeypatch):
    unchanged_by_a_limit_of_1(module, limit, kind, monkeypatch)


@pytest.mark.parametrize(
    ("module", "limit"), [(kernels_cpu.offsets, "GROUP_BYTES"), (kernels_cpu.convolution, "SLICE")]
)
def test_groups_of_images_and_slices_of_pixels_change_nothing(module, limit, monkeypatch):
    forget_offsets()
    unchanged_by_a_limit_of_1(module, limit, "conv-stride", monkeypatch)
    forget_offsets()


def unchanged_by_a_limit_of_1(module, limit, kind, monkeypatch):
    learner, params, tasks = small_problem(kind, steps=3, tasks=5)
    wanted, wanted_losses = meta_batch.meta_gradient(methods.maml(learner), params, tasks)
    monkeypatch.setattr(module, limit, 1)
    gradient, losses = meta_batch.meta_gradient(methods.maml(learner), params, tasks)
    assert relative_error(gradient, wanted) < 1e-13
    assert torch.allclose(losses, wanted_losses, rtol=1e-13)


@pytest.mark.parametrize("counts", [(5, 4), (0, 0)])
def test_a_meta_batch_of_unlike_parts_is_refused(kind, counts, monkeypatch):
    # in chunks the first four tasks would be taken and no more be said
    monkeypatch.setattr(meta_batch, "CHUNK_BYTES", 1)
    learner, params, tasks = small_problem(kind, tasks=5)
    cut = Task(*(tuple(t[:count] for t in pair) for pair, count in zip(tasks, counts)))
    for function in (meta_batch.meta_gradient, meta_batch.predictions):
        with pytest.raises(
            ValueError,
            match=f"same tasks in all its tensors.*'support inputs': {counts[0]}.*'query targets': "
            f"{counts[1]}",
        ):
            function(methods.maml(learner), params, cut)


@pytest.mark.parametrize("chunks", ["many", "one"])
def test_the_number_of_threads_changes_nothing(chunks, monkeypatch):
    if chunks == "many":
        monkeypatch.setattr(meta_batch, "CHUNK_BYTES", 1)
        learner, params, tasks = small_problem("conv-stride", tasks=7)
    else:  # of a size at which PyTorch would split sums between threads
        learner = supervised.build(paper.get("sinusoid-maml"))
        params, family = learner.model.init(seeds.generator(0, "init")), Sinusoid()
        tasks = family.sample(seeds.generator(0, "train"), 25)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 4):
            torch.set_num_threads(threads)
            gradient, losses = meta_batch.meta_gradient(methods.maml(learner), params, tasks)
            outputs = meta_batch.predictions(methods.maml(learner), params, tasks)
            found.append([*gradient.values(), losses, outputs])
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other))


def test_one_thread_lasts_as_long_as_it_is_asked_for():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(KeyError), one_thread():
            assert torch.get_num_threads() == 1
            raise KeyError
        assert torch.get_num_threads() == 2
        alone = lambda x: (x, torch.get_num_threads())
        assert each(alone, [3, 1, 2]) == [(3, 1), (1, 1), (2, 1)]
        assert each(alone, [3]) == [(3, 1)] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_what_it_does_not_know_it_leaves_to_vmap():
    learner, params, tasks = small_problem("mlp")
    plain = dataclasses.replace(learner, model=learner.model._replace(layers=()))
    wanted = loop_gradient(methods.maml(learner).loss, params, tasks)[0]
    for objective in (methods.maml(plain), General(learner)):
        assert relative_error(meta_batch.meta_gradient(objective, params, tasks)[0], wanted) < 1e-11
    fast, slow = (meta_batch.predictions(methods.maml(each), params, tasks) for each in (learner, plain))
    assert fast.shape == slow.shape and torch.allclose(fast, slow, rtol=1e-11)


def test_predictions_follow_the_adaptation(kernels, kind):
    learner, params, tasks = small_problem(kind, steps=3)
    got = meta_batch.predictions(methods.maml(learner), params, tasks)
    for task in range(3):
        one = maml.Task(*(tuple(t[task] for t in pair) for pair in tasks))
        update = {"inner_lr": learner.inner_lr, "inner_steps": 3, "frozen": learner.model.frozen}
        for step, fast in enumerate(maml.adaptation_path(learner.loss_fn, params, one.support, **update)):
            assert torch.allclose(got[step, task], learner.model.apply(fast, one.query[0]), rtol=1e-9)


def test_a_bias_before_normalisation_has_no_gradient():
    learner, params, tasks = small_problem("conv-stride")
    gradient, _ = meta_batch.meta_gradient(methods.maml(learner), params, tasks)
    assert all((gradient[f"bias{block}"] == 0).all() for block in range(4))
    assert gradient["head_bias"].abs().max() > 0


def test_nan_is_not_swallowed(kernels, kind):
    learner, params, tasks = small_problem(kind)
    first = next(iter(params))
    _, losses = meta_batch.meta_gradient(
        methods.maml(learner), {**params, first: params[first] * float("nan")}, tasks
    )
    assert losses.isnan().all()


def test_wrong_inputs_are_refused_as_the_network_refuses_them(kind):
    learner, params, tasks = small_problem(kind)
    cut = maml.Task(*((inputs[..., :-1], targets) for inputs, targets in tasks))
    with pytest.raises(ValueError, match="but this network takes"):
        meta_batch.meta_gradient(methods.maml(learner), params, cut)


def test_matrices_go_there_and_back(kind):
    learner, params, _ = small_problem(kind)
    plan = learner.model.layers
    back = passes.from_matrices(plan, passes.to_matrices(plan, params), params)
    without_effect = {layer.bias for layer in plan if layer.shift}
    assert all(torch.equal(back[k], params[k]) for k in params if k not in without_effect)


def test_many_images_lose_no_digits_to_summation():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(1, 400, 20, 20, 3, generator=generator, dtype=torch.float64) + 5
    shift = torch.zeros(3)
    _, _, known, _ = kernels_cpu.normalise(z.float(), shift, 2)
    r, n = known[:, 1], (z - known[:, :1, None, None]) * known[:, 1, None, None, None]
    _, exact, exact_r, _ = kernels_torch.normalise(z, shift.double(), 2)
    assert float((r - exact_r).abs().max()) < 1e-6 and float((n - exact).abs().max()) < 1e-5
