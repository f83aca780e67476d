"""What the tests share: small tasks in float64, and slow oracles."""

import matplotlib
import pytest
import torch

import made_mini_imagenet
import made_results
import small_omniglot
from mamlkit import maml, methods, models
from mamlkit.engine import dense, kernels_cpu, meta_batch

matplotlib.use("agg")  # no window, on whatever desktop
torch.set_num_threads(1)  # tensors this small only wait for each other on two


@pytest.fixture(autouse=True)
def one_thread():
    """Each test begins with one thread: `--threads 2` in another changes its process for good."""
    torch.set_num_threads(1)


@pytest.fixture
def two_threads():
    """PyTorch with two threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def one_by_one(monkeypatch):
    """Small networks are trained as large ones are: each update by calls that a test can replace."""
    monkeypatch.setattr(dense, "SMALL", 0)


def forget_offsets():
    """Let the CPU's convolutions find their offsets again, after a limit that these depend on has changed."""
    kernels_cpu.offsets.neighbours.cache_clear()
    kernels_cpu.offsets.readers.cache_clear()


def finite_difference(function, params, epsilon=1e-6):
    """Central differences of a scalar function of a parameter dictionary, all entries of a tensor at once."""
    gradient = {}
    for name, value in params.items():
        steps = epsilon * torch.eye(value.numel(), dtype=value.dtype).view(-1, *value.shape)
        at = lambda step, name=name, value=value: function({**params, name: value + step})
        gradient[name] = torch.vmap(lambda step, at=at: at(step) - at(-step))(steps) / (2 * epsilon)
        gradient[name] = gradient[name].view_as(value)
    return gradient


def relative_error(got, wanted):
    """Norm of the difference of two parameter dictionaries over the norm of the second."""
    norm = lambda p: torch.stack([(v.double() ** 2).sum() for v in p.values()]).sum().sqrt()
    return float(norm({k: got[k] - wanted[k] for k in wanted}) / norm(wanted))


def loop_gradient(objective, params, tasks):
    """The meta-gradient by a loop over tasks and plain autograd: the slow twin of ``maml.meta_gradient``."""
    leaves = {k: v.detach().clone().requires_grad_() for k, v in params.items()}
    support, query = tasks
    n = len(support[0])
    losses = [
        objective(leaves, maml.Task(tuple(t[i] for t in support), tuple(t[i] for t in query)))
        for i in range(n)
    ]
    gradient = torch.autograd.grad(sum(losses) / n, list(leaves.values()), allow_unused=True)
    return {
        k: torch.zeros_like(params[k]) if g is None else g for k, g in zip(leaves, gradient, strict=True)
    }, torch.stack(losses).detach()


def small_problem(kind, *, steps=2, tasks=3, seed=0, loss=None, dtype=torch.float64):
    """A learner, parameters and a meta-batch, small enough for finite differences."""
    generator = torch.Generator().manual_seed(seed)
    random = lambda *shape: torch.randn(*shape, generator=generator, dtype=dtype)
    if kind == "mlp":
        model = models.mlp(1, (5, 4), 1, std=0.5)
        examples = lambda n: (random(tasks, n, 1), random(tasks, n, 1))
        support, query, shots, loss = examples(4), examples(3), 4, loss or "mse"
    else:
        pooling = {"conv-stride": "stride", "conv-max": "max"}[kind]
        size = 8 if pooling == "stride" else 16
        model = models.conv4(2, filters=2, size=size, pooling=pooling)
        labels = torch.arange(2).repeat(tasks, 2)
        support, query = ((random(tasks, 4, 1, size, size), labels) for _ in range(2))
        shots, loss = 2, loss or "cross-entropy, sum over examples / shots"
    params = {k: v.to(dtype) for k, v in model.init(generator).items()}
    params = {k: v + 0.1 * random(*v.shape) for k, v in params.items()}  # biases and shifts away from zero
    return methods.Learner(model, loss, 0.1, steps, shots), params, maml.Task(support, query)


# what the engine has a fast way for; other methods go the general way in any case
GRADIENT = [
    name
    for name, make in methods.METHODS.items()
    if type(make(small_problem("mlp", loss="cross-entropy, mean")[0])) is methods.GradientMethod
]


class General(methods.GradientMethod):
    """The same objective, but of another class, for which there is no fast way."""


def ways(learner, params, tasks):
    """What the engine can be asked, in the fast and in the general way: four functions."""
    for kind in (methods.GradientMethod, General):
        for function in (meta_batch.meta_gradient, meta_batch.predictions):
            yield lambda kind=kind, function=function: function(kind(learner), params, tasks)


# Made in files beside this one, whose other functions tests import.
repository = pytest.fixture(made_results.repository)
made_families = pytest.fixture(made_mini_imagenet.families)
small = pytest.fixture(small_omniglot.small)


@pytest.fixture(params=["mlp", "conv-stride", "conv-max"])
def kind(request):
    return request.param
