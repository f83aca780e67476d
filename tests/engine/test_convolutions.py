"""Every form of a convolution gives the numbers of an unfolding and one product; the engine takes any."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from conftest import loop_gradient, relative_error, small_problem
from mamlkit import methods, models
from mamlkit.engine import checks, convolutions, kernels_torch, meta_batch, passes
from mamlkit.maml import Task
from mamlkit.models import Window
from mamlkit.tasks.bank import ClassBank
from mamlkit.tasks.images import ImageTasks

OTHERS = [form for form in convolutions.FORMS if form != convolutions.DEFAULT]
# a plain one, one whose features are compared, one whose rates are learned, one that moves the head alone
METHODS = ("maml", "prototypical networks", "meta-sgd", "head only")


@pytest.fixture(autouse=True)
def the_default_afterwards():
    yield
    convolutions.use(convolutions.DEFAULT)


@pytest.fixture(params=convolutions.FORMS)
def form(request, monkeypatch):
    """Each form, in the loops that a GPU has."""
    monkeypatch.setattr(passes, "kernels_of", lambda device: kernels_torch)
    convolutions.use(request.param)
    return request.param


@settings(max_examples=60)
@given(
    size=st.integers(1, 17),
    stride=st.integers(1, 2),
    channels=st.integers(1, 5),
    filters=st.integers(1, 5),
    tasks=st.integers(1, 3),
    points=st.integers(1, 4),
    shared=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_a_form_is_the_unfolded_one_whatever_the_shapes(
    size, stride, channels, filters, tasks, points, shared, seed
):
    before, after = models.same_padding(size, stride)
    window = Window(size, channels, stride, before, after, out=-(-size // stride))
    generator = torch.Generator().manual_seed(seed)
    random = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)
    images = lambda side, depth: random(tasks, points, side, side, depth)
    x, d, more = images(size, channels), images(window.out, filters), images(window.out, filters)
    kernel = random(*([] if shared else [tasks]), 9 * channels, filters)
    of_task, total = random(tasks, 9 * channels, filters), random(tasks, 9 * channels, filters)

    def all_of(form):
        convolutions.use(form)
        yield convolutions.product(x, kernel, window)
        yield convolutions.product(x, of_task, window, more.clone())
        yield convolutions.weight_gradient(d, x, window)
        yield convolutions.weight_gradient(d, x, window, total.clone())
        yield convolutions.input_gradient([(d, kernel)], window)
        yield convolutions.input_gradient([(d, kernel), (more, of_task)], window)

    wanted = list(all_of("unfolded"))
    for other in OTHERS:
        for found, exact in zip(all_of(other), wanted, strict=True):
            assert found.shape == exact.shape
            assert (found - exact).norm() <= 1e-12 * (1 + exact.norm())


@pytest.mark.parametrize("form", convolutions.FORMS)
def test_a_form_adds_in_place_and_leaves_what_it_is_given(form):
    convolutions.use(form)
    window = Window(size=6, channels=2, stride=1, before=1, after=1, out=6)
    x, d = torch.randn(2, 3, 6, 6, 2), torch.randn(2, 3, 6, 6, 4)
    kernel, out, total = torch.randn(2, 18, 4), torch.randn(2, 3, 6, 6, 4), torch.randn(2, 18, 4)
    before = [each.clone() for each in (x, d, kernel)]
    assert convolutions.product(x, kernel, window, out) is out
    assert convolutions.weight_gradient(d, x, window, total) is total
    convolutions.input_gradient([(d, kernel), (d, kernel)], window)
    assert all(map(torch.equal, (x, d, kernel), before))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("pooling", ["conv-stride", "conv-max"])
def test_the_engine_works_through_every_form(form, pooling, name):
    learner, params, tasks = small_problem(pooling, loss="cross-entropy, mean")
    method = methods.METHODS[name](learner)
    more = method.init(torch.Generator().manual_seed(1))
    params = {key: params.get(key, value.double()) for key, value in more.items()}
    gradient, losses = meta_batch.meta_gradient(method, params, tasks)
    wanted, wanted_losses = loop_gradient(method.loss, params, tasks)
    assert relative_error(gradient, wanted) < 1e-9 and torch.allclose(losses, wanted_losses, rtol=1e-9)
    found = meta_batch.predictions(method, params, tasks)
    each = [Task(*(tuple(t[i] for t in pair) for pair in tasks)) for i in range(len(losses))]
    assert torch.allclose(found, torch.stack([method.predict(params, task) for task in each], 1), rtol=1e-9)


@settings(max_examples=20)
@given(
    form=st.sampled_from(list(convolutions.FORMS)),
    pooling=st.sampled_from(["stride", "max"]),
    size=st.integers(16, 21),
    channels=st.integers(1, 3),
    filters=st.integers(1, 4),
    steps=st.integers(0, 2),
    tasks=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_the_engines_gradient_is_the_loops_whatever_the_shapes(
    form, pooling, size, channels, filters, steps, tasks, seed
):
    generator = torch.Generator().manual_seed(seed)
    random = lambda *shape: torch.rand(*shape, generator=generator, dtype=torch.float64)
    model = models.conv4(2, filters=filters, size=size, channels=channels, pooling=pooling)
    params = {k: v.double() + 0.1 * random(*v.shape) for k, v in model.init(generator).items()}
    examples = lambda: (random(tasks, 4, channels, size, size), torch.arange(2).repeat(tasks, 2))
    batch = Task(examples(), examples())
    learner = methods.Learner(model, "cross-entropy, sum over examples / shots", 0.1, steps, 2)
    method = methods.maml(learner)
    convolutions.use(form)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "kernels_of", lambda device: kernels_torch)
        gradient, _ = meta_batch.meta_gradient(method, params, batch)
    assert relative_error(gradient, loop_gradient(method.loss, params, batch)[0]) < 1e-9


def test_the_images_lie_as_the_forms_name_says():
    x, kernel = torch.randn(3, 2, 6, 6, 4), torch.randn(3, 36, 5)
    for form, memory in (("grouped", torch.contiguous_format), ("channels-last", torch.channels_last)):
        given = convolutions.FORMS[form]
        joined, filters = given._joined(x), given._filters(kernel)
        assert joined.shape == (2, 12, 6, 6) and joined.is_contiguous(memory_format=memory)
        assert filters.shape == (15, 4, 3, 3) and filters.is_contiguous(memory_format=memory)


def test_images_of_one_kernel_are_not_copied_where_channels_lie_last():
    x = torch.randn(1, 6, 8, 8, 4)
    assert convolutions.FORMS["channels-last"]._joined(x).data_ptr() == x.data_ptr()


def test_an_unknown_form_is_refused_and_nothing_changes():
    convolutions.use("grouped")
    with pytest.raises(
        ValueError, match="form='fast', but convolutions have the forms unfolded, grouped, chan"
    ):
        convolutions.use("fast")
    assert convolutions.in_use() == "grouped"


class OnOneDevice(TorchDispatchMode):
    """Refuses what a recording on a GPU could not repeat: copies from the CPU, and waiting for a number.

    A number that lies on the CPU may go into a calculation, since it is part of the call itself.
    """

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tensors = [t for t in tree_leaves((args, kwargs, result)) if isinstance(t, torch.Tensor)]
        on_cpu = [t for t in tensors if t.device.type == "cpu"]
        assert all(t.dim() == 0 for t in on_cpu), f"{function} reads an array on the CPU"
        moves = function.overloadpacket in (torch.ops.aten._to_copy, torch.ops.aten.copy_)
        assert not moves or len({t.device for t in tensors}) == 1, f"{function} copies from the CPU"
        assert function.overloadpacket is not torch.ops.aten._local_scalar_dense, "a number is waited for"
        return result


class NoArrays(TorchFunctionMode):
    """Refuses tensors that are made of Python's numbers, which a GPU would get by a copy."""

    REFUSED = (torch.tensor, torch.as_tensor, torch.from_numpy, torch.Tensor.new_tensor)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        assert function not in self.REFUSED, f"{function.__name__} copies from the CPU"
        return function(*args, **(kwargs or {}))


@pytest.fixture
def another_device(monkeypatch):
    """Tensors without numbers, of a device that is no CPU, are taken for those of a GPU."""
    monkeypatch.setattr(checks, "_check_tensors", lambda *_, **__: None)
    return torch.device("meta")


@pytest.mark.parametrize("name", [name for name in methods.METHODS if name != "sequence reader"])
def test_a_meta_gradient_needs_nothing_of_the_cpu(name, another_device):
    learner, _, tasks = small_problem("conv-stride", loss="cross-entropy, mean", dtype=torch.float32)
    method = methods.METHODS[name](learner)
    params = dict(method.init(torch.Generator().manual_seed(0)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "kernels_of", lambda device: kernels_torch)
        meta_batch.meta_gradient(
            method, params, tasks
        )  # layers and apply are compared once, by their numbers
    params = {key: value.detach().to(another_device) for key, value in params.items()}
    batch = Task(*(tuple(t.to(another_device) for t in pair) for pair in tasks))
    for form in convolutions.FORMS:
        convolutions.use(form)
        with OnOneDevice(), NoArrays():
            gradient, losses = meta_batch.meta_gradient(method, params, batch)
        assert {t.device for t in (*gradient.values(), losses)} == {another_device}


@pytest.mark.parametrize(
    "copied",
    [
        lambda x: x + torch.tensor([1.0], device=x.device),
        lambda x: x.new_tensor([1.0]) + x,
        lambda x: x + torch.ones(3).to(x.device),
        lambda x: x.copy_(torch.ones(())),
        lambda x: x.index_select(0, torch.arange(3)),
    ],
)
def test_copies_from_the_cpu_are_seen(copied, another_device):
    x = torch.empty(3, device=another_device)
    with pytest.raises(AssertionError, match="on the CPU|from the CPU"), OnOneDevice(), NoArrays():
        copied(x)


def test_a_gather_needs_nothing_of_the_cpu(another_device):
    bank = ClassBank(torch.zeros(6, 4, 1, 8, 8, dtype=torch.uint8), tuple("abcdef"))
    family = ImageTasks(bank.to(another_device), ways=2, shots=1, queries=2)
    drawn = [t.to(another_device) for t in family.draw(torch.Generator().manual_seed(0), 3)]
    with OnOneDevice(), NoArrays():
        batch = family.gather(*drawn)
    assert {t.device for pair in batch for t in pair} == {another_device}
