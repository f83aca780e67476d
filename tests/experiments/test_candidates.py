"""Candidates differ from the authors' row in what they say, and in nothing else."""

import dataclasses

import pytest

from mamlkit import places
from mamlkit.experiments import candidates, paper
from mamlkit.experiments.policies import ENVIRONMENTS as PLOTTED
from mamlkit.experiments.rows import DIRECTIONS, PHYSICS, as_stored
from mamlkit.report import results
from mamlkit.rl import envs, physics
from mamlkit.rl.goals import Direction
from mamlkit.rl.robot import Locomotion
from mamlkit.runs import keeping, policies

BASE = paper.get("half-cheetah-direction-maml")
ROWS = {name: row for name, row in paper.ROWS.items() if candidates.is_candidate(name)}


def test_each_differs_from_the_authors_row_in_what_it_says():
    for name, row in ROWS.items():
        new, old = row.settings, BASE.settings
        different = {k for k in {*new, *old} if new.get(k) != old.get(k)}
        assert different == {"iterations", *candidates.about(name).changes}, name
        assert row.evaluations == BASE.evaluations and row.quick == BASE.quick and row.iterations == 50
    of_others = {row.fingerprint for name, row in ROWS.items() if name != candidates.AGAIN}
    assert len(of_others) == len(ROWS) - 1 == 10 and len({row.title for row in ROWS.values()}) == 11
    assert ROWS[candidates.AGAIN].fingerprint == ROWS[candidates.AUTHORS].fingerprint
    assert (ROWS["candidate-forward-57"].forward, ROWS["candidate-bound"].max_kl) == (0.57, 0.01)


def test_they_come_last_in_the_queue_and_keep_no_parameters():
    assert paper.QUEUE[-len(ROWS) :] == tuple(ROWS)
    assert not any(keeping.has_parameters(name, seed) for name in ROWS for seed in (0, 1))


def test_fields_of_later_date_change_no_row_that_has_not_got_them():
    later = {"forward", "physics"}
    assert not later & as_stored(BASE).keys() and not later & ROWS[candidates.AUTHORS].settings.keys()
    assert as_stored(ROWS["candidate-pgs"])["physics"] == ["pgs"]
    folders_there = (places.repository() / "data" / "results").glob("*")
    committed = [folder.name for folder in folders_there]
    policy_rows = [name for name in committed if isinstance(paper.ROWS.get(name), type(BASE))]
    assert len(policy_rows) > 10
    assert not [name for name in policy_rows for result in results.load(name) if results.stale(result)]


def test_names_are_those_that_the_environments_know():
    known = envs.ENVIRONMENTS
    assert {name for name, e in known.items() if isinstance(e.goals, Direction)} == set(DIRECTIONS)
    robots = {name for name, e in known.items() if issubclass(e.family, Locomotion)}
    papers = {name for name, plotted in PLOTTED.items() if plotted.figure}
    assert papers <= known.keys() and papers - robots == {"2d-navigation"}
    assert tuple(physics.CHANGES) == PHYSICS


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("half-cheetah-direction-maml", {"forward": 1.2}, "forward=1.2, but it must lie between 0 and 1"),
        ("half-cheetah-direction-maml", {"physics": ("jacobi",)}, "must be one of 'pgs', 'elliptic cones'"),
        ("half-cheetah-velocity-maml", {"forward": 0.8}, "has no directions; leave it out"),
        ("2d-navigation-maml", {"forward": 0.8}, "has no directions; leave it out"),
        ("2d-navigation-maml", {"physics": ("pgs",)}, "has no model to change; leave it out"),
    ],
)
def test_what_no_run_can_have_is_refused(name, change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(paper.get(name), **change)


def test_a_row_is_run_in_environments_of_its_own():
    row = dataclasses.replace(ROWS["candidate-forward-80"], physics=("pgs",))
    env, _ = policies.build(row, 2, 1, threads=1)
    plain, _ = policies.build(BASE, 2, 1, threads=1)
    assert env.task == Direction(0.8) and plain.task == Direction() and plain.changes == ()
    assert env.model.opt.iterations == 50 and plain.model.opt.iterations == 100
    env.close()
    plain.close()
