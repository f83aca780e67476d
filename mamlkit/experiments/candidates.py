"""What else could make the published run of HalfCheetah direction learn so much faster than ours.

Each experiment is that row for 50 iterations, with the authors' settings but for one thing. An earlier run of
theirs, whose bound of the divergence is 0.01, has a return of 172 after one step at iteration 50.
"""

__all__ = ["AGAIN", "AUTHORS", "ITERATIONS", "about", "is_candidate", "rows"]

import dataclasses
from typing import Any, NamedTuple

from mamlkit.experiments.rows import PolicyRow

ITERATIONS = 50
AUTHORS, AGAIN = "candidate-authors", "candidate-authors-again"


class About(NamedTuple):
    """What a candidate is.

    Args:
        what: is changed.
        source: why that is thought of.
        changes: of the row's fields.
    """

    what: str
    source: str
    changes: dict[str, Any]


_CANDIDATES = {
    AUTHORS: About("nothing", "luck of the seed, and the choice of the best run", {}),
    AGAIN: About("nothing, once more", "luck of the rounding, on another processor", {}),
    "candidate-unclipped": About(
        "baseline without a clip", "what learns fastest of our long runs", {"baseline_clip": None}
    ),
    "candidate-first-order": About(
        "first order", "what has no curvature to go wrong", {"method": "maml, first order"}
    ),
    "candidate-bound": About("KL bound 0.01", "an earlier run of the authors", {"max_kl": 0.01}),
    "candidate-forward-57": About(
        "57 % of the goals forward", "the authors' code, until April 2017", {"forward": 0.57}
    ),
    "candidate-forward-80": About(
        "80 % of the goals forward", "the same with the sampler's later range", {"forward": 0.8}
    ),
    "candidate-pgs": About("solver PGS", "MuJoCo 1.31, whose default is unconfirmed", {"physics": ("pgs",)}),
    "candidate-elliptic": About(
        "solver PGS, elliptic cones",
        "MuJoCo 1.31, which seems to have no others (inferred)",
        {"physics": ("pgs", "elliptic cones")},
    ),
    "candidate-linear-impedance": About(
        "impedance linear in the penetration",
        "a choice in MuJoCo 1.31, whose default is unknown",
        {"physics": ("linear impedance",)},
    ),
    "candidate-explicit-damping": About(
        "explicit joint damping", "unknown of MuJoCo 1.31", {"physics": ("explicit damping",)}
    ),
}


def is_candidate(name: str) -> bool:
    """Whether a row of that name is a training of this kind, the one without a change among them."""
    return name.startswith("candidate-")


def about(name: str) -> About:
    """What the row of that name changes, and where that comes from."""
    return _CANDIDATES[name]


def rows(base: PolicyRow) -> list[PolicyRow]:
    """The candidates, from the row of MAML in HalfCheetah direction."""
    return [
        dataclasses.replace(
            base,
            name=name,
            title=f"{base.title}, {ITERATIONS} iterations: {each.what}{' changed' * (name == AUTHORS)}",
            place=f"not in the paper: a candidate for what differs ({each.source})",
            iterations=ITERATIONS,
            **each.changes,
        )
        for name, each in _CANDIDATES.items()
    ]
