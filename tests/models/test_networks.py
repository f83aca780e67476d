"""What every network gives, also a newcomer's; and what is said where it does not."""

import pytest
import torch
from torch.func import vmap

from mamlkit import models, tasks
from mamlkit.engine import checks
from mamlkit.experiments import paper
from mamlkit.experiments.rows import Row
from mamlkit.runs import seeds, supervised

OF_PLACES = ("omniglot", "mini-imagenet")  # families that need a data set
# the first row of each network that learns from tasks without one
ROWS = {
    str(row.network): row
    for row in reversed(paper.ROWS.values())
    if isinstance(row, Row)
    and not row.family.startswith(OF_PLACES)
    and row.network[0] not in ("lstm", "mann")
}


@pytest.mark.parametrize("row", ROWS.values(), ids=[row.name for row in ROWS.values()])
def test_every_network_keeps_the_contract(row):
    model, draw = models.make(*row.network), lambda seed=0: seeds.generator(seed, "init")
    params, again = model.init(draw()), model.init(draw())
    assert all(value.dtype == torch.float32 and torch.equal(value, again[k]) for k, value in params.items())
    assert model.frozen <= params.keys()
    family = tasks.make(row.family, "train", ways=row.ways, shots=row.shots, queries=row.queries)
    batch = family.sample(seeds.generator(0, "points"), 3)
    inputs, targets = batch.query
    of_all = vmap(model.apply, (None, 0))(params, inputs)
    assert of_all.shape[:2] == inputs.shape[:2] and of_all.dim() == 3 and bool(of_all.isfinite().all())
    assert targets.is_floating_point() or int(targets.max()) < of_all.shape[2]
    of_each = torch.stack([model.apply(params, one) for one in inputs])
    torch.testing.assert_close(of_all, of_each, rtol=1e-4, atol=1e-5)
    checks.check(supervised.build(row), params, batch)  # layers, if it has some, say the same


NO_MODEL = torch.nn.Linear(1, 1)


@pytest.mark.parametrize(
    ("network", "options", "words"),
    [
        ("mpl", {}, "network='mpl', but it must be one of 'mlp', 'conv4'"),
        ("mlp", {"input": 1}, r"network 'mlp' with {'input': 1}: .*'inputs'; it takes \(inputs: int, hidden"),
        ("mlp", {"inputs": 1, "hidden": 40, "outputs": 1}, "hidden=40, but it must be the widths .* such as"),
        ("mlp", {"inputs": 1, "hidden": (-4,), "outputs": 1, "layers": 2}, "unexpected keyword argument"),
        ("mlp", {"inputs": 1, "hidden": (-4,), "outputs": 1}, r"hidden=\(-4,\), but each must be a whole"),
        ("mlp", {"inputs": 1.0, "hidden": (), "outputs": 1}, r"inputs=1.0, but it must be a whole number"),
        ("conv4", {"ways": 0}, "ways=0, but it must be a whole number, at least 1"),
        ("conv4", {"ways": 5, "filters": 0}, "filters=0, but it must be"),
        ("mlp, context", {"inputs": 1, "hidden": (4,), "outputs": 1, "numbers": 0}, "numbers=0, but it must"),
        ("conv4, context", {"ways": 5, "channels": -1}, "channels=-1, but it must be"),
        ("lstm", {"inputs": 1, "units": 0, "outputs": 1}, "units=0, but it must be"),
        ("mann", {"inputs": 1, "units": 4, "outputs": 1, "reads": True}, "reads=True, but it must be"),
        ("module", {}, r"network 'module' with {} is Linear\(.*\), but a network is .* Model\(init, apply\)"),
    ],
)
def test_what_makes_no_network_is_refused_with_a_reason(network, options, words, monkeypatch):
    monkeypatch.setitem(models.NETWORKS, "module", lambda: NO_MODEL)
    with pytest.raises(ValueError, match=words):
        models.make(network, options)
