"""Settings that no row has, so that no fingerprint shows a change: what sources say, what results have."""

import hashlib
import inspect

import pytest
import torch

from mamlkit import tasks
from mamlkit.methods import proximity, steps
from mamlkit.models import recurrent
from mamlkit.rl import policy, trpo
from mamlkit.runs import learned_optimiser
from mamlkit.tasks import omniglot

DEFAULTS = {
    # Rajeswaran et al. 2019 for Omniglot 5-way 1-shot (lambda, steps of the solver), their code (the others)
    proximity.ImplicitMAML: {"pull": 2.0, "solver_steps": 5, "damping": 1.0, "stiffness": 10.0},
    # Santoro et al. 2016: 128 rows of 40, 4 reads, usage that falls to 0.99 of itself
    recurrent.mann: {"rows": 128, "width": 40, "reads": 4, "decay": 0.99},
}
CONSTANTS = {
    # MAML++'s files: 81 of 150 epochs in first order
    "epochs in first order": (steps.FIRST_ORDER, 0.54),
    # rllab's conjugate gradients, damping and line search, which MAML's authors leave as they are
    "steps of conjugate gradients": (trpo.CG_ITERATIONS, 10),
    "their residual": (trpo.CG_RESIDUAL, 1e-10),
    "their damping": (trpo.DAMPING, 1e-5),
    "backtracking": ((trpo.BACKTRACK_RATIO, trpo.BACKTRACKS), (0.8, 15)),
    # Andrychowicz et al. 2016: 100 steps, unrolled 20 at a time
    "unrolled steps": ((learned_optimiser.STEPS, learned_optimiser.SEGMENT), (100, 20)),
    "outer rate": (learned_optimiser.OUTER_LR, 1e-3),
}
DIVISIONS = {  # of committed results that keep alphabets apart, or some of their characters
    "alphabets": (omniglot._split_by_alphabet, "162fe1b4bc28705f"),
    "test alphabets seen": (lambda: omniglot._same_test(True), "a67787f140c45727"),
    "test alphabets unseen": (lambda: omniglot._same_test(False), "d264ed6142057f51"),
}


@pytest.mark.parametrize("made", DEFAULTS, ids=lambda made: made.__name__)
def test_a_default_is_what_its_source_has(made):
    parameters = inspect.signature(made).parameters
    assert {name: parameters[name].default for name in DEFAULTS[made]} == DEFAULTS[made]


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_constant_is_what_its_source_has(name):
    found, wanted = CONSTANTS[name]
    assert found == pytest.approx(wanted)


@pytest.mark.parametrize("name", DIVISIONS)
def test_a_division_by_alphabets_is_that_of_the_results(name):
    division, wanted = DIVISIONS[name]
    text = "\n".join(f"{character} {split}" for character, split in sorted(division().items()))
    assert hashlib.sha256(text.encode()).hexdigest().startswith(wanted)


def test_every_family_of_omniglot_turns_its_classes():
    """The closure says so, which needs no data; colour images are not turned."""
    turned = {
        name: inspect.getclosurevars(make).nonlocals.get("rotations")
        for name, make in tasks.FAMILIES.items()
        if name.startswith(("omniglot", "glyphs", "mini-imagenet", "textures"))
    }
    turned = {name: value for name, value in turned.items() if value is not None}
    assert len(turned) > 6
    for name, value in turned.items():
        assert value is name.startswith(("omniglot", "glyphs"))


def fills_its_bound(weights):
    """Xavier's uniform distribution: none beyond the bound, the largest near it, the variance a third of it.

    The largest of n is below 0.9 of the bound with a chance of 0.9^n, under 1e-9 for 200; the variance is
    within a fifth of a third by more than five of its standard errors for 1,000.
    """
    bound = (6 / sum(weights.shape)) ** 0.5
    part = weights.abs().max() / bound
    return 0.9 < part <= 1 and abs(float(weights.square().mean()) * 3 / bound**2 - 1) < 0.2


def test_weights_of_policies_and_recurrent_networks_begin_as_xavier_says():
    draw = torch.Generator().manual_seed(0)
    of_policy = policy.gaussian_mlp(20, 6, hidden=(100, 100)).init(draw)
    assert all(fills_its_bound(of_policy[f"weight{layer}"]) for layer in range(2))
    for init in (recurrent.init_lstm, recurrent.init_gru):
        weights = [value for value in init("cell", 30, 40, draw).values() if value.dim() == 2]
        assert len(weights) == 2 and all(map(fills_its_bound, weights))
