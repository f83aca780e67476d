"""Methods with another inner update than MAML's, each against a slow twin or finite differences."""

import dataclasses
import itertools

import pytest
import torch

from conftest import finite_difference, loop_gradient, relative_error, small_problem
from mamlkit import maml, methods, models
from mamlkit.engine import meta_batch
from mamlkit.experiments import paper
from mamlkit.maml import Task
from mamlkit.methods import proximity
from mamlkit.runs import supervised, train, trainings

STEPWISE = ["meta-sgd", "maml, learned rates", "maml, multi-step loss", "maml++ without its schedules"]
UNROLLED = ["head only", "body only", *STEPWISE]  # whose gradient goes through all steps
ALL = [*UNROLLED, "reptile, inner adam", "implicit maml"]


def made(name, kind, *, uneven=True, **changes):
    """A method, its parameters in float64, with rates uneven or all alpha, and a meta-batch."""
    learner, params, batch = small_problem(kind, **changes)
    method = methods.METHODS[name](learner)
    generator = torch.Generator().manual_seed(3)
    for key, value in method.init(generator).items():
        if key not in params:
            factor = 0.5 + torch.rand(value.shape, generator=generator) if uneven else torch.ones(value.shape)
            params[key] = learner.inner_lr * factor.double()
    return method, params, batch


def single(batch, i=0):
    return Task(*(tuple(t[i] for t in pair) for pair in batch))


def without_rounding(gradient):
    """Without biases before a normalisation: their gradient is zero, and Adam follows its rounding."""
    return {name: value for name, value in gradient.items() if not name.startswith("bias")}


def head_names(kind):
    return ("weight2", "bias2") if kind == "mlp" else ("head", "head_bias")


@pytest.mark.parametrize("name", ALL)
def test_a_batch_is_a_loop_over_its_tasks(kind, name):
    method, params, batch = made(name, kind)
    gradient, losses = meta_batch.meta_gradient(method, params, batch)
    wanted, wanted_losses = loop_gradient(method.loss, params, batch)
    if name == "reptile, inner adam" and kind != "mlp":
        wanted = without_rounding(wanted)
    else:
        assert torch.allclose(losses, wanted_losses, rtol=1e-9)
    assert relative_error(gradient, wanted) < 1e-9
    outputs = meta_batch.predictions(method, params, batch)
    assert torch.allclose(outputs[:, 1], method.predict(params, single(batch, 1)), rtol=1e-9)


@pytest.mark.parametrize("name", UNROLLED)
def test_the_gradient_is_that_of_finite_differences(kind, name):
    method, params, batch = made(name, kind)
    gradient, _ = meta_batch.meta_gradient(method, params, batch)
    wanted = finite_difference(lambda p: maml.meta_loss(method.loss, p, batch)[0], params)
    assert relative_error(gradient, wanted) < 1e-6


@pytest.mark.parametrize("name", ALL)
def test_without_transduction_no_query_matters_to_another(name):
    method, params, batch = made(name, "conv-stride")
    alone = dataclasses.replace(method, learner=dataclasses.replace(method.learner, transductive=False))
    few = batch._replace(query=tuple(part[:, :1] for part in batch.query))
    whole, one = (meta_batch.predictions(alone, params, b) for b in (batch, few))
    assert torch.allclose(whole[:, :, :1], one, rtol=1e-9)
    assert not torch.allclose(whole, meta_batch.predictions(method, params, batch), rtol=1e-3)
    if name != "reptile, inner adam":  # whose loss does not look at the queries
        gradient, losses = meta_batch.meta_gradient(alone, params, batch)
        assert not torch.allclose(losses, meta_batch.meta_gradient(method, params, batch)[1], rtol=1e-3)
        assert relative_error(gradient, loop_gradient(alone.loss, params, batch)[0]) < 1e-9


@pytest.mark.parametrize("name", ["head only", "body only"])
def test_a_part_is_adapted_as_by_steps_that_leave_out_the_rest(kind, name):
    method, params, batch = made(name, kind)
    learner, task = method.learner, single(batch)
    head = set(head_names(kind))
    moved = head if name == "head only" else params.keys() - head - {f"shift{i}" for i in range(4)}
    leaves = {key: value.clone().requires_grad_() for key, value in params.items()}
    fast, outputs = dict(leaves), [learner.model.apply(leaves, task.query[0])]
    for _ in range(learner.inner_steps):
        names = [key for key in fast if key in moved]
        loss = learner.loss_fn(fast, task.support)
        steps = torch.autograd.grad(loss, [fast[key] for key in names], create_graph=True)
        fast |= {key: fast[key] - 0.1 * step for key, step in zip(names, steps)}
        outputs.append(learner.model.apply(fast, task.query[0]))
    learner.loss_fn(fast, task.query).backward()
    one = Task(*(tuple(t[:1] for t in pair) for pair in batch))
    gradient, _ = meta_batch.meta_gradient(method, params, one)
    wanted = {k: torch.zeros_like(v) if v.grad is None else v.grad for k, v in leaves.items()}
    assert relative_error(gradient, wanted) < 1e-9
    assert torch.allclose(meta_batch.predictions(method, params, one)[:, 0], torch.stack(outputs), rtol=1e-9)


@pytest.mark.parametrize("name", STEPWISE[:2])
def test_equal_rates_are_maml(kind, name):
    method, params, batch = made(name, kind, uneven=False)
    learner = method.learner
    network = {key: params[key] for key in learner.model.shapes}
    plain = methods.maml(learner)
    gradient, losses = meta_batch.meta_gradient(method, params, batch)
    wanted, wanted_losses = meta_batch.meta_gradient(plain, network, batch)
    assert relative_error(gradient, wanted) < 1e-10
    assert torch.allclose(losses, wanted_losses, rtol=1e-10)
    found = meta_batch.predictions(method, params, batch)
    assert torch.allclose(found, meta_batch.predictions(plain, network, batch), rtol=1e-10)
    # all rates together are alpha
    at = lambda alpha: meta_batch.meta_gradient(
        methods.maml(dataclasses.replace(learner, inner_lr=alpha)), network, batch
    )[1].mean()
    by_alpha = (at(0.1 + 1e-5) - at(0.1 - 1e-5)) / 2e-5
    assert torch.isclose(
        sum(gradient[key].sum() for key in params.keys() - network.keys()), by_alpha, rtol=1e-5
    )


def test_rates_begin_with_alpha_and_only_what_moves_has_them():
    method, _, _ = made("meta-sgd", "conv-stride")
    shapes = method.learner.model.shapes
    rates = {key: value for key, value in method.init(torch.Generator()).items() if key not in shapes}
    assert rates.keys() == {f"rate of {key}" for key in shapes if not key.startswith("shift")}
    assert all(bool((value == 0.1).all()) for value in rates.values())
    assert all(rates[f"rate of {key}"].shape == shapes[key] for key in ("conv1", "head"))
    method, _, _ = made("maml, learned rates", "conv-stride", steps=3)
    assert method.shapes["rate of conv1"] == (3,) and "rate of shift1" not in method.shapes
    assert made("maml, multi-step loss", "mlp")[0].shapes == made("body only", "mlp")[0].shapes


def test_each_step_has_its_own_rates():
    method, params, batch = made("maml, learned rates", "mlp")
    learner, task = method.learner, single(batch)
    fast = {key: params[key] for key in learner.model.shapes}
    for step in range(2):
        leaves = {key: value.clone().requires_grad_() for key, value in fast.items()}
        gradient = torch.autograd.grad(learner.loss_fn(leaves, task.support), list(leaves.values()))
        for (key, value), g in zip(leaves.items(), gradient):
            fast[key] = value.detach() - params[f"rate of {key}"][step] * g
    found = meta_batch.predictions(method, params, batch)[2, 0]
    assert torch.allclose(found, learner.model.apply(fast, task.query[0]), rtol=1e-9)


def test_the_loss_of_every_step_is_the_mean_of_mamls_of_so_many_steps(kind):
    method, params, batch = made("maml, multi-step loss", kind, steps=3)
    some = [methods.maml(dataclasses.replace(method.learner, inner_steps=k)) for k in (1, 2, 3)]
    parts = [meta_batch.meta_gradient(each, params, batch) for each in some]
    gradient, losses = meta_batch.meta_gradient(method, params, batch)
    assert torch.allclose(losses, sum(part[1] for part in parts) / 3, rtol=1e-9)
    assert relative_error(gradient, {k: sum(part[0][k] for part in parts) / 3 for k in params}) < 1e-9


def test_reptile_goes_where_adam_without_momentum_goes(kind):
    method, params, batch = made("reptile, inner adam", kind, steps=4)
    gradient, losses = meta_batch.meta_gradient(method, params, batch)
    ends, distances = [], []
    for i in range(3):
        task = single(batch, i)
        leaves = {key: value.clone().requires_grad_() for key, value in params.items()}
        adam = torch.optim.Adam(leaves.values(), lr=0.1, betas=(0.0, 0.999))
        for _ in range(4):
            adam.zero_grad()
            method.learner.loss_fn(leaves, task.support).backward()
            adam.step()
        ends.append(leaves)
        distances.append(sum(((params[k] - leaves[k].detach()) ** 2).sum() for k in params) / 2)
    wanted = {k: sum(params[k] - end[k].detach() for end in ends) / 3 for k in params}
    if kind == "mlp":
        assert relative_error(gradient, wanted) < 1e-9
        assert torch.allclose(losses, torch.stack(distances), rtol=1e-9)
    else:
        assert relative_error(gradient, without_rounding(wanted)) < 1e-6
        assert all(gradient[f"shift{i}"].any() for i in range(4))  # frozen in MAML
    assert torch.allclose(
        meta_batch.predictions(method, params, batch)[4, 2],
        method.learner.model.apply(ends[2], single(batch, 2).query[0]),
        rtol=1e-6,
    )


def flat(params):
    return torch.cat([value.flatten() for value in params.values()])


@pytest.mark.parametrize(("damping", "stiffness"), [(0.0, 0.0), (1.0, 10.0)])
def test_the_implicit_gradient_is_a_dense_solution(kind, damping, stiffness):
    method, params, batch = made("implicit maml", kind, steps=16)
    method = dataclasses.replace(method, pull=50.0, solver_steps=40, damping=damping, stiffness=stiffness)
    learner, task = method.learner, single(batch)
    learner = dataclasses.replace(learner, inner_lr=0.01)
    method = dataclasses.replace(method, learner=learner)
    sizes = [value.numel() for value in params.values()]
    shaped = lambda v: {k: p.view_as(x) for (k, x), p in zip(params.items(), v.split(sizes))}
    theta = phi = flat(params)
    on = lambda v, part: learner.loss_fn(shaped(v), part)
    for _ in range(16):
        phi = phi - 0.01 * (torch.func.grad(on)(phi, task.support) + 50 * (phi - theta))
    hessian = torch.func.hessian(on)(phi, task.support)
    right = torch.func.grad(on)(phi, task.query)
    wanted = torch.linalg.solve((1 + damping) * torch.eye(len(phi)) + hessian / (50 + stiffness), right)
    one = Task(*(tuple(t[:1] for t in pair) for pair in batch))
    gradient, losses = meta_batch.meta_gradient(method, params, one)
    assert torch.linalg.vector_norm(flat(gradient) - wanted) < 1e-7 * wanted.norm()
    assert (wanted - right).norm() > 1e-3 * wanted.norm()  # and not the first order's
    assert torch.allclose(losses[0], on(phi, task.query), rtol=1e-12)


def test_the_implicit_gradient_is_that_of_the_minimum():
    # not so far that a rectifier switches, where the minimum has no derivative
    method, params, batch = made("implicit maml", "mlp", steps=60, tasks=1)
    learner = dataclasses.replace(method.learner, inner_lr=0.01)
    method = dataclasses.replace(
        method, learner=learner, pull=50.0, solver_steps=30, damping=0.0, stiffness=0.0
    )
    gradient, _ = meta_batch.meta_gradient(method, params, batch)
    wanted = finite_difference(lambda p: method.loss(p, single(batch)), params, epsilon=1e-5)
    assert relative_error(gradient, wanted) < 1e-5


def test_in_tests_nothing_pulls_the_steps_of_implicit_maml_back():
    method, params, batch = made("implicit maml", "conv-max")
    every = method.learner.adapting(*params)
    wanted = meta_batch.predictions(methods.maml(every), params, batch)
    assert torch.allclose(meta_batch.predictions(method, params, batch), wanted, rtol=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_few_conjugate_gradients_are_the_best_of_what_so_few_products_reach(steps):
    draw = lambda *shape: torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    half, right = draw(20, 20), draw(20)
    matrix = half @ half.T + 0.1 * torch.eye(
        20
    )  # of condition 1,000, so that five steps are far from the end
    found = proximity.conjugate_gradients(lambda v: {"a": matrix @ v["a"]}, {"a": right}, steps)["a"]
    reached = [right]
    for _ in range(steps - 1):
        reached.append(matrix @ reached[-1])
    basis = torch.linalg.qr(torch.stack(reached, 1)).Q
    wanted = basis @ torch.linalg.solve(basis.T @ matrix @ basis, basis.T @ right)
    assert (found - wanted).norm() < 1e-9 * wanted.norm()
    assert (matrix @ found - right).norm() > 0.05 * right.norm()


def test_conjugate_gradients_stand_still_where_they_are_done_or_the_matrix_curves_down():
    wanted = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor(3.0)}
    for curvature, solution in ((2.0, 0.5), (-1.0, 0.0)):
        scaled = lambda v, c=curvature: {name: c * value for name, value in v.items()}
        found = proximity.conjugate_gradients(scaled, wanted, 4)
        assert all(torch.equal(found[name], solution * value) for name, value in wanted.items())


def test_conjugate_gradients_end_where_the_matrix_curves_down():
    diagonal, wanted = torch.tensor([3.0, 2.0, -1.0, 1.0]), torch.tensor([1.0, 1.0, 0.9, 1.0])
    product = lambda v: {"a": diagonal * v["a"]}
    by_steps = [proximity.conjugate_gradients(product, {"a": wanted}, n)["a"] for n in range(6)]
    moved = [bool((a != b).any()) for a, b in itertools.pairwise(by_steps)]
    assert moved[0] and moved == sorted(moved, reverse=True) and not moved[-1]
    subspace = [wanted, diagonal * wanted, diagonal**2 * wanted, diagonal**3 * wanted]
    steps = sum(moved)
    basis = torch.linalg.qr(torch.stack(subspace[: steps + 1], 1)).Q
    inside = torch.linalg.eigvalsh(basis.T @ torch.diag(diagonal) @ basis)
    assert (inside < 0).any()  # so the next step would have gone where the matrix curves down


def context_problem(kind, **options):
    """A network with a context vector, its parameters in float64, and a meta-batch."""
    learner, _, batch = small_problem(kind)
    if kind == "mlp":
        model = models.mlp_context(1, (5, 4), 1, std=0.5, **options)
    else:
        pooling, size = ("stride", 8) if kind == "conv-stride" else ("max", 16)
        model = models.conv4_context(2, filters=2, size=size, pooling=pooling, **options)
    generator = torch.Generator().manual_seed(1)
    params = {k: v.double() for k, v in model.init(generator).items()}
    params = {k: v + 0.1 * torch.randn(v.shape, generator=generator).double() for k, v in params.items()}
    return dataclasses.replace(learner, model=model), params, batch


def test_a_context_vector_is_maml_with_all_else_frozen(kind):
    learner, params, batch = context_problem(kind)
    method = methods.maml(learner)
    bare = small_problem(kind)[0].model
    if kind == "mlp":
        bare = models.mlp(6, (5, 4), 1)
    else:
        pooling, size = ("stride", 8) if kind == "conv-stride" else ("max", 16)
        bare = models.conv4(2, filters=2, size=size, channels=4, pooling=pooling)

    def outputs(leaves, z, inputs):
        extended = [torch.cat([point, z.view(-1, *point.shape[1:])]) for point in inputs]
        return bare.apply(leaves, torch.stack(extended))

    leaves = {key: value.clone().requires_grad_() for key, value in params.items()}
    total, ends = 0, []
    for i in range(3):
        (inputs, targets), (queries, wanted) = single(batch, i)
        z = leaves["context"]
        for _ in range(learner.inner_steps):
            loss = learner.loss_of(outputs(leaves, z, inputs), targets)
            z = z - learner.inner_lr * torch.autograd.grad(loss, z, create_graph=True)[0]
        ends.append(outputs(leaves, z, queries))
        total = total + learner.loss_of(ends[-1], wanted) / 3
    total.backward()
    gradient, _ = meta_batch.meta_gradient(method, params, batch)
    wanted = {k: torch.zeros_like(v) if v.grad is None else v.grad for k, v in leaves.items()}
    assert relative_error(gradient, wanted) < 1e-9 and gradient["context"].any()
    assert torch.allclose(meta_batch.predictions(method, params, batch)[-1], torch.stack(ends), rtol=1e-9)


def test_a_context_has_the_sizes_and_the_beginning_of_the_authors_code():
    for model, numbers in (
        (models.mlp_context(1, (40, 40), 1), 5),
        (models.conv4_context(5, filters=2), 2352),
    ):
        z = model.init(torch.Generator().manual_seed(0))["context"]
        assert z.shape == (1, numbers) and model.frozen == model.shapes.keys() - {"context"}
        bound = (6 / (1 + numbers)) ** 0.5
        assert 0.5 * bound < z.abs().max() <= bound
    assert not models.mlp_context(1, (), 1, start="zeros").init(torch.Generator())["context"].any()
    with pytest.raises(ValueError, match="start='ones', but the context begins with"):
        models.conv4_context(5, start="ones")
    for kind, wrong, words in (
        ("mlp", (4, 2), "this network takes 1"),
        ("conv-stride", (4, 1, 9, 9), "takes"),
    ):
        learner, params, _ = context_problem(kind)
        with pytest.raises(ValueError, match=words):
            learner.model.apply(params, torch.zeros(wrong).double())


def test_without_transduction_a_context_network_takes_the_supports_statistics():
    learner, params, batch = context_problem("conv-stride")
    alone = methods.maml(dataclasses.replace(learner, transductive=False))
    few = batch._replace(query=tuple(part[:, :1] for part in batch.query))
    whole, one = (meta_batch.predictions(alone, params, b) for b in (batch, few))
    assert torch.allclose(whole[:, :, :1], one, rtol=1e-9)


@pytest.mark.parametrize("name", ["head only", "body only"])
def test_a_network_whose_head_is_not_known_has_no_parts(name):
    learner, _, _ = context_problem("mlp")
    with pytest.raises(ValueError, match="has no layers, .* give the model its layers"):
        methods.METHODS[name](learner)


def test_learned_rates_are_trained_and_tested_as_rows():
    small = ("mlp", {"inputs": 1, "hidden": (20, 20), "outputs": 1, "std": 0.5})
    base = dataclasses.replace(paper.get("sinusoid-maml"), iterations=2, meta_batch_size=4, network=small)
    few = tuple(dataclasses.replace(e, tasks=3, inner_steps=1, headline_step=1) for e in base.evaluations)
    for name in STEPWISE:
        row = dataclasses.replace(base, method=name, evaluations=few)
        begun = supervised.method(row).init(torch.Generator().manual_seed(0))
        params = train.fit(row).params
        rates = [key for key in begun if key.startswith("rate of ")]
        assert all(not torch.equal(params[key], begun[key]) for key in rates)
        assert len(rates) == (0 if name == "maml, multi-step loss" else 6)
        for test in few:
            assert supervised.evaluate(row, params, test)["mse"].shape == (3, 2)
    row = dataclasses.replace(base, method="maml, learned rates")
    with pytest.raises(ValueError, match=r"for each inner step.* inner_steps=1, and 'K=5' has 10; give both"):
        trainings.begin(row)
