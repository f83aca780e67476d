"""What does not fit a network is refused in words, before any loop sees it, whichever way is taken."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from conftest import small_problem, ways
from mamlkit import methods, models
from mamlkit.engine import meta_batch, network
from mamlkit.maml import Task
from mamlkit.models import Layer

LOSS = "cross-entropy, mean"


def refused(learner, params, tasks, words=None):
    for way in ways(learner, params, tasks):
        with pytest.raises(ValueError, match=words):
            way()


def random_problem(model, loss, points=(3, 2), tasks=3, dtype=torch.float32, inputs=(1,), outputs=1):
    generator = torch.Generator().manual_seed(0)
    random = lambda *shape: torch.randn(*shape, generator=generator).to(dtype)
    labels = lambda n: torch.arange(n).remainder(outputs).repeat(tasks, 1)
    part = lambda n: (random(tasks, n, *inputs), random(tasks, n, outputs) if loss == "mse" else labels(n))
    params = {name: value.to(dtype) for name, value in model.init(generator).items()}
    return methods.Learner(model, loss, 0.1, 1, 1), params, Task(*map(part, points))


OTHER_TYPES = ("float16", "float32", "complex64", "int64", "int32", "uint8", "bool")
CHANGES = {
    "longer": lambda t, axis: torch.cat([t, t.narrow(axis, 0, 1)], axis),
    "shorter": lambda t, axis: t.narrow(axis, 1, t.shape[axis] - 1),
    "empty": lambda t, axis: t.narrow(axis, 0, 0),
    "turned": lambda t, axis: t.transpose(axis, axis - 1),
    "one axis more": lambda t, axis: t.unsqueeze(axis),
    "one axis less": lambda t, axis: t.select(axis, 0),
    "on no device": lambda t, axis: t.to("meta"),
    "an array": lambda t, axis: t.numpy(),
    "a list": lambda t, axis: t.tolist(),
    "sparse": lambda t, axis: t.to_sparse(),
    "nothing": lambda t, axis: None,
    **{name: lambda t, axis, name=name: t.to(getattr(torch, name)) for name in OTHER_TYPES},
}


@settings(max_examples=300)
@given(
    data=st.data(),
    kind=st.sampled_from(["mlp", "conv-stride", "conv-max"]),
    change=st.sampled_from(list(CHANGES)),
)
def test_no_misfit_crashes_or_passes_in_silence(data, kind, change):
    learner, params, tasks = small_problem(kind, steps=data.draw(st.integers(0, 1)))
    place = data.draw(st.sampled_from([*params, "support 0", "support 1", "query 0", "query 1"]))
    part, _, index = place.partition(" ")
    tensor = getattr(tasks, part)[int(index)] if index else params[place]
    changed = CHANGES[change](tensor, data.draw(st.integers(0, tensor.dim() - 1)))
    if change in ("turned", "one axis more", *OTHER_TYPES):  # which may be no misfit
        same = changed.shape == tensor.shape and changed.dtype == tensor.dtype
        flat = kind == "mlp" and place in ("support 0", "query 0") and changed.shape == (*tensor.shape, 1)
        if same or flat:
            return
    if index:
        pair = list(getattr(tasks, part))
        pair[int(index)] = changed
        tasks = tasks._replace(**{part: tuple(pair)})
    else:
        params = {**params, place: changed}
    refused(learner, params, tasks)


@pytest.mark.parametrize("kind", ["mlp", "conv-stride"])
def test_names_are_those_of_the_network(kind):
    learner, params, tasks = small_problem(kind)
    first, *rest = params
    refused(learner, {name: params[name] for name in rest}, tasks, f"lack \\['{first}'\\]")
    refused(learner, {**params, "head2": params[first]}, tasks, r"\['head2'\] too much")
    refused(learner, {"other": params[first]} | {name: params[name] for name in rest}, tasks, "'other'")
    refused(learner, list(params.values()), tasks, "parameters are a list")
    frozen = dataclasses.replace(learner, model=learner.model._replace(frozen=frozenset(["haed"])))
    refused(frozen, params, tasks, r"frozen=\['haed'\], but this network's parameters are")
    refused(learner, params, tuple(tasks), "a Task of two pairs")
    refused(learner, params, tasks._replace(query=tasks.query[0]), "a Task of two pairs")


def of(filters, **options):
    return models.conv4(5, filters=filters, **options).init(torch.Generator().manual_seed(0))


def with_kernels_of(side):
    return {
        name: torch.zeros(*value.shape[:2], side, side) if value.dim() == 4 else value
        for name, value in of(16).items()
    }


@pytest.mark.parametrize("pooling", ["stride", "max"])
@pytest.mark.parametrize(
    ("params", "words"),
    [
        (lambda: of(64), r"'conv0' is \(64, 1, 3, 3\), but this network takes \(16, 1, 3, 3\)"),
        (lambda: of(4), r"'conv0' is \(4, 1, 3, 3\)"),
        (lambda: of(16, channels=3), r"'conv0' is \(16, 3, 3, 3\)"),
        (lambda: with_kernels_of(5), r"\(16, 1, 5, 5\), but this network takes \(16, 1, 3, 3\)"),
        (lambda: of(16) | {"shift0": torch.zeros(3)}, r"'shift0' is \(3,\), but this network takes \(16,\)"),
        (lambda: of(16) | {"head": torch.zeros(5, 17)}, r"'head' is \(5, 17\)"),
    ],
)
def test_parameters_of_another_network_are_refused(params, words, pooling):
    model = models.conv4(5, filters=16, size=16, pooling=pooling)
    learner, _, tasks = random_problem(model, LOSS, (5, 5), inputs=(1, 16, 16), outputs=5)
    refused(learner, params(), tasks, words)
    refused(dataclasses.replace(learner, inner_steps=0), params(), tasks, words)


def test_images_of_another_form_are_refused():
    model = models.conv4(3, filters=2, size=16, channels=3)
    for shape in ((16, 16, 3), (3, 15, 16), (16, 16), (3 * 16 * 16,), (1, 3, 16, 16)):
        learner, params, tasks = random_problem(model, LOSS, inputs=shape, outputs=3)
        refused(learner, params, tasks, "but this network takes")


@pytest.mark.parametrize(
    ("outputs", "inputs", "targets"),
    [
        (1, (3, 3, 1), (3, 3)),  # would be stretched to every pair of points
        (1, (3, 3, 1), (3, 1, 1)),
        (2, (3, 3, 1), (3, 3, 1)),
        (2, (3, 3, 1), (3, 3)),
        (1, (3, 3, 1), (3, 3, 2)),
    ],
)
def test_targets_are_one_for_each_output(outputs, inputs, targets):
    model = models.mlp(1, (4,), outputs, std=0.5)
    learner, params, tasks = random_problem(model, "mse", (3, 3), outputs=outputs)
    pair = torch.ones(inputs), torch.ones(targets)
    for part in Task._fields:
        refused(learner, params, tasks._replace(**{part: pair}), "one target")


@pytest.mark.parametrize("label", [-1, 3, 10**12])
def test_labels_are_those_of_classes(label):
    model = models.mlp(4, (5,), 3)
    learner, params, tasks = random_problem(model, LOSS, inputs=(4,), outputs=3)
    images, labels = tasks.query
    labels[1, 1] = label
    refused(learner, params, tasks, rf"query labels lie between .*{label}.*from 0 to 2; give the network")
    refused(learner, params, tasks._replace(query=(images, labels.float())), "must be whole numbers")


@pytest.mark.parametrize(
    ("model", "inputs", "points"),
    [
        (models.mlp(4, (5,), 3, batch_norm_shifts=True), (4,), 1),
        (models.conv4(3, filters=2, size=16), (1, 16, 16), 1),  # of which one pixel is left
        (models.mlp(4, (5,), 3), (4,), 0),
        (models.conv4(3, filters=2, size=16, pooling="max"), (1, 16, 16), 0),
    ],
)
def test_too_few_points_are_refused(model, inputs, points):
    words = "one point in each task, but the batch normalisation" if points else "at least one of both"
    for counts in ((points, 3), (3, points)):
        refused(*random_problem(model, LOSS, counts, inputs=inputs, outputs=3), words)


def test_one_point_is_enough_where_its_pixels_have_a_variance():
    model = models.conv4(3, filters=2, size=16, pooling="max")
    shape = {"inputs": (1, 16, 16), "outputs": 3, "dtype": torch.float64}
    learner, params, tasks = random_problem(model, LOSS, (1, 1), **shape)
    fast, outputs, general, wanted = (way() for way in ways(learner, params, tasks))
    assert torch.allclose(fast[1], general[1], rtol=1e-9) and torch.allclose(outputs, wanted, rtol=1e-9)


@pytest.mark.parametrize("kind", ["mlp", "conv-stride", "conv-max"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused(kind, dtype):
    refused(*small_problem(kind, dtype=dtype), f"{dtype} on cpu came, but it must be torch.float32 or")


def test_bytes_and_arrays_are_refused_with_what_to_do():
    learner, params, tasks = small_problem("conv-stride")
    images = (tasks.support[0] * 255).to(torch.uint8)
    in_bytes = tasks._replace(support=(images, tasks.support[1]))
    refused(learner, params, in_bytes, r"torch.uint8.*use .to\(torch.float64\)")
    arrays = Task(*(tuple(np.asarray(t) for t in pair) for pair in tasks))
    refused(learner, params, arrays, "support inputs: <class 'numpy.ndarray'> came.*from_numpy")


MLP, CONV = models.mlp(3, (4,), 2, batch_norm_shifts=True), models.conv4(2, filters=2, size=28)
WINDOW = CONV.layers[0].window


BLOCKS = tuple(layer._replace(mean=False) for layer in CONV.layers[:-1])  # without a head pixels are left


def blocks(generator):
    return {name: value for name, value in CONV.init(generator).items() if not name.startswith("head")}


def first(model, **changes):
    return model._replace(layers=(model.layers[0]._replace(**changes), *model.layers[1:]))


@pytest.mark.parametrize(
    "model",
    [
        CONV._replace(init=models.conv4(2, filters=4, size=28).init),
        CONV._replace(layers=CONV.layers[:-1]),
        CONV._replace(layers=(*BLOCKS, CONV.layers[4])),
        first(CONV, window=WINDOW._replace(stride=3)),
        first(CONV, window=WINDOW._replace(out=20)),
        first(CONV, window=WINDOW._replace(channels=2)),
        first(CONV, window=WINDOW._replace(size=16)),
        first(CONV, pool=2),
        first(CONV, relu=False),
        first(MLP, pool=2),
        first(MLP, relu=False),
        first(MLP, shift=None),
        first(models.conv4(2, filters=2, size=28, pooling="max"), shift=None),
        models.Model(blocks, None, CONV.frozen, BLOCKS),
        MLP._replace(layers=(MLP.layers[1], MLP.layers[0])),
        MLP._replace(layers=(Layer("weight0", "bias0"), Layer("weight1", "bias1", "shift0"))),
    ],
)
def test_layers_that_are_another_network_are_refused(model):
    shape = (3,) if "weight0" in model.shapes else (1, 28, 28)
    refused(
        *random_problem(model, LOSS, inputs=shape, outputs=2),
        "layers name|is not what the engine has|last layer leaves",
    )


@pytest.mark.parametrize("kind", ["mlp", "conv-stride", "conv-max"])
def test_layers_of_another_function_are_refused(kind):
    learner, params, tasks = small_problem(kind)
    model = learner.model
    other = model._replace(apply=lambda params, inputs: model.apply(params, inputs).tanh())
    words = "layers give other outputs than its apply"
    refused(dataclasses.replace(learner, model=other), params, tasks, words)


class StraightThrough(torch.autograd.Function):
    """A ReLU through which gradients pass as if it were not there."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x.relu()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, d):
        return d


def two_layers(relu=torch.relu, eps=models.BATCH_NORM_EPS, hidden=lambda x: x, logits=lambda x: x):
    """What ``mlp(48, (9,), 3, batch_norm_shifts=True)`` computes, with parts to change."""

    def apply(p, x):
        x = torch.nn.functional.linear(x, p["weight0"], p["bias0"])
        x = torch.nn.functional.batch_norm(x, None, None, None, p["shift0"], True, eps=eps)
        return logits(torch.nn.functional.linear(hidden(relu(x)), p["weight1"], p["bias1"]))

    return apply


WRONG = {
    "PyTorch's eps": two_layers(eps=1e-5),
    "ReLU6": two_layers(relu=torch.nn.functional.relu6),
    "a straight-through ReLU": two_layers(relu=StraightThrough.apply),
    "a detached body": two_layers(hidden=Tensor.detach),
    "reversed gradients": two_layers(hidden=lambda x: 2 * x.detach() - x),
    "all detached": two_layers(logits=Tensor.detach),
    "cut logits": two_layers(logits=lambda x: x.clamp(-100, 100)),
    "cut inputs": lambda p, x: two_layers()(p, x.clamp(-5, 5)),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("features", [48, 3072])
def test_an_apply_that_is_like_the_layers_but_for_one_thing_is_refused(name, features):
    model = models.mlp(features, (9,), 3, batch_norm_shifts=True)
    problem = random_problem(model._replace(apply=two_layers()), LOSS, inputs=(features,), outputs=3)
    meta_batch.predictions(methods.maml(problem[0]), *problem[1:])  # the same with nothing changed passes
    wrong = dataclasses.replace(problem[0], model=model._replace(apply=WRONG[name]))
    refused(wrong, *problem[1:], "layers (give other outputs|have another derivative in '.*') than its apply")


@pytest.mark.parametrize("kind", ["conv-stride", "conv-max"])
def test_a_body_of_convolutions_that_is_held_by_detach_is_refused(kind):
    learner, params, tasks = small_problem(kind)
    apply, head = learner.model.apply, learner.model.layers[-1]

    def held(p, x, reference=None):
        ends = (head.weight, head.bias)
        return apply({k: v if k in ends else v.detach() for k, v in p.items()}, x, reference)

    model = learner.model._replace(apply=held)
    refused(dataclasses.replace(learner, model=model), params, tasks, "another derivative in 'conv0'")


@settings(max_examples=60)
@given(
    inputs=st.integers(1, 40),
    hidden=st.lists(st.integers(1, 70), max_size=5),
    outputs=st.integers(1, 6),
    normalised=st.booleans(),
)
def test_networks_that_are_right_are_not_refused(inputs, hidden, outputs, normalised):
    model = models.mlp(inputs, hidden, outputs, batch_norm_shifts=normalised)
    network.check_same(model, model.layers)


TRANSFORMS = {
    "grad": lambda f, params: torch.func.grad(f)(params),
    "jvp": lambda f, params: torch.func.jvp(f, (params,), (params,)),
    "vmap": lambda f, params: torch.func.vmap(f)({k: v.expand(2, *v.shape) for k, v in params.items()}),
}


@pytest.mark.parametrize("kind", ["mlp", "conv-stride"])
@pytest.mark.parametrize("layers", [True, False])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transforms_of_functions_without_a_derivative_are_refused(kind, layers, transform):
    learner, params, tasks = small_problem(kind)
    model = learner.model if layers else learner.model._replace(layers=())
    method = methods.maml(dataclasses.replace(learner, model=model))
    of_outputs = lambda p: meta_batch.predictions(method, p, tasks).square().sum()
    of_losses = lambda p: meta_batch.meta_gradient(method, p, tasks)[1].sum()
    for way in (of_outputs, of_losses):
        with pytest.raises(ValueError, match=r"came out of a transform of torch\.func"):
            TRANSFORMS[transform](way, params)


@pytest.mark.parametrize(("width", "outputs"), [(0, 1), (3, 0)])
def test_layers_without_outputs_are_refused(width, outputs):
    shapes = {"weight0": (width, 1), "bias0": (width,), "weight1": (outputs, width), "bias1": (outputs,)}
    empty = lambda generator: {name: torch.zeros(shape) for name, shape in shapes.items()}
    model = models.mlp(1, (3,), 1)._replace(init=empty)
    refused(*random_problem(model, "mse", outputs=outputs), "is not what the engine has")


def test_convolutions_come_first():
    layers = Layer("weight0", "bias0"), *CONV.layers[1:]
    shapes = {"weight0": (2, 3), "bias0": (2,)} | {
        name: shape for name, shape in CONV.shapes.items() if not name.endswith("0")
    }
    model = models.Model(
        lambda generator: {k: torch.zeros(v) for k, v in shapes.items()}, None, layers=layers
    )
    refused(*random_problem(model, LOSS, inputs=(3,), outputs=2), "is not what the engine has")


@dataclasses.dataclass
class Unhashable:
    """A network's function that no cache can hold."""

    inner: object

    def __call__(self, params, inputs):
        return self.inner(params, inputs)


def test_an_apply_that_no_cache_can_hold_is_checked_all_the_same():
    learner, params, tasks = small_problem("mlp")
    apply = learner.model.apply
    for inner in (apply, lambda params, inputs: apply(params, inputs).tanh()):
        other = dataclasses.replace(learner, model=learner.model._replace(apply=Unhashable(inner)))
        if inner is apply:
            both = (meta_batch.predictions(methods.maml(one), params, tasks) for one in (other, learner))
            assert torch.equal(*both)
        else:
            refused(other, params, tasks, "layers give other outputs than its apply")


def test_deep_networks_that_are_right_are_not_refused_apart():
    for seed in range(20):
        model = models.mlp(20, (64,) * 5, 5, batch_norm_shifts=True, std=0.1 + 0.1 * seed)
        network.check_same(model, model.layers, apart=True)


def test_another_name_of_a_loss_is_no_way_around(monkeypatch):
    monkeypatch.setitem(methods.LOSSES, "squares", methods.LOSSES["mse"])
    monkeypatch.setitem(methods.LOSSES, "ce", methods.LOSSES[LOSS])
    learner, params, tasks = small_problem("conv-stride")
    (inputs, labels), query = tasks
    wrong = Task((inputs, labels + 5), query)
    refused(dataclasses.replace(learner, loss="ce"), params, wrong, "must lie from 0 to 1; give")
    learner, params, tasks = small_problem("mlp")
    wide = Task(*((x, y.repeat(1, 1, 2)) for x, y in tasks))
    refused(dataclasses.replace(learner, loss="squares"), params, wide, "targets are")


@pytest.mark.parametrize("name", ["prototypical networks", "matching networks", "siamese"])
def test_methods_by_distances_are_held_to_their_network_and_classes(name):
    learner, _, tasks = small_problem("conv-stride")
    made = methods.METHODS[name](learner)
    params = {k: v.double() for k, v in made.init(torch.Generator().manual_seed(0)).items()}
    (inputs, labels), query = tasks
    for wrong in (Task((inputs, labels + 1), query), Task((inputs, labels), (query[0], query[1] + 1))):
        for way in (meta_batch.meta_gradient, meta_batch.predictions):
            with pytest.raises(ValueError, match="must lie from 0 to 1; give"):
                way(made, params, wrong)
    own = learner.model.apply
    mirrored = lambda params, x, reference=None: own(params, x.flip(-1) ** 2, reference)
    for transductive in (True, False):
        model = learner.model._replace(apply=mirrored)
        other = methods.METHODS[name](dataclasses.replace(learner, model=model, transductive=transductive))
        with pytest.raises(ValueError, match="layers give other outputs than its apply"):
            meta_batch.predictions(other, params, tasks)


def test_the_body_of_a_method_that_freezes_the_head_has_no_such_name():
    learner, _, tasks = small_problem("conv-stride")
    frozen = methods.METHODS["body only"](learner).learner
    made = methods.METHODS["prototypical networks"](frozen)
    params = {k: v.double() for k, v in made.init(torch.Generator().manual_seed(0)).items()}
    assert torch.isfinite(meta_batch.predictions(made, params, tasks)).all()


@pytest.mark.parametrize("kind", ["mlp", "conv-stride"])
def test_layers_and_frozen_names_may_come_in_lists(kind):
    learner, params, tasks = small_problem(kind)
    model = learner.model._replace(frozen=list(learner.model.frozen), layers=list(learner.model.layers))
    lists = dataclasses.replace(learner, model=model)
    for one, other in zip(ways(lists, params, tasks), ways(learner, params, tasks)):
        one, other = (r if isinstance(r, torch.Tensor) else r[1] for r in (one(), other()))
        assert torch.equal(one, other)


def test_layers_of_a_method_by_distances_may_come_in_a_list():
    learner, _, tasks = small_problem("conv-stride")
    lists = learner.model._replace(frozen=list(learner.model.frozen), layers=list(learner.model.layers))
    found = []
    for model in (learner.model, lists):
        made = methods.METHODS["prototypical networks"](dataclasses.replace(learner, model=model))
        params = {k: v.double() for k, v in made.init(torch.Generator().manual_seed(0)).items()}
        found.append(meta_batch.predictions(made, params, tasks))
    assert torch.equal(*found)


@dataclasses.dataclass
class Embedding:
    """How to draw a network that no layers describe; not hashable."""

    words: int

    def __call__(self, generator):
        return {"table": torch.randn(self.words, 2, generator=generator)}


def test_a_network_without_layers_may_take_whole_numbers():
    init = Embedding(7)
    model = models.Model(init, lambda params, words: params["table"][words])
    params = init(torch.Generator().manual_seed(0))
    words, targets = torch.arange(12).remainder(7).view(3, 4), torch.ones(3, 4, 2)
    learner, tasks = methods.Learner(model, "mse", 0.1, 1, 1), Task((words, targets), (words, targets))
    fast, _, general, _ = (way() for way in ways(learner, params, tasks))
    assert torch.equal(fast[1], general[1]) and (fast[1] > 0).all()
    refused(learner, {"table": params["table"].half()}, tasks, "must be torch.float32")
    targets = targets.double()
    tasks = Task((words, targets), (words, targets))
    refused(learner, params, tasks, "targets: torch.float64, but parameters")
