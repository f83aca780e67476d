"""Effects of traps: paired where tasks are the same, with two intervals, and what pages say of them."""

import numpy as np
import pytest

from made_results import commit
from mamlkit.experiments import paper
from mamlkit.experiments.traps import base_of
from mamlkit.report import inventory, traps

BASE, TRAP = "trap-5way", "trap-5way-padding"


def made(values):
    """The same accuracy of each task at every step."""
    return np.repeat(np.asarray(values, float)[:, None], 11, 1)


@pytest.fixture
def two_seeds(repository):
    """Tasks of very different accuracy; the trap takes 2 and 4 points off, 0 or 2 more by task."""
    easy = np.linspace(20, 90, 400)
    for seed, cost in enumerate((2, 4)):
        commit(repository, BASE, seed=seed, errors=made(easy))
        commit(repository, TRAP, seed=seed, errors=made(easy - cost - np.tile([0, 2], 200)))
    return repository


def test_an_effect_is_taken_task_by_task(two_seeds):
    found = traps.effect(TRAP, BASE, "Q=K")
    assert found.paired and found.seeds == (0, 1)
    assert found.value == pytest.approx(-4, abs=0.01)  # kept in half precision
    assert found.ci95 == pytest.approx(
        1.96 * 1 / 20, rel=0.01
    )  # deviation 1 over 400 tasks, however these differ
    assert found.seed_ci95 == pytest.approx(
        12.7062 * 1, rel=0.01
    )  # t of one degree; -3 and -5: standard error 1


def test_other_classes_are_other_tasks(repository):
    rng = np.random.default_rng(0)
    one, other = rng.normal(80, 5, 400), rng.normal(70, 12, 400)
    commit(repository, BASE, errors=made(one))
    commit(repository, "trap-5way-alphabets", errors=made(other))
    found = traps.effect("trap-5way-alphabets", BASE, "Q=15")
    assert not found.paired and found.value == pytest.approx(other.mean() - one.mean(), abs=0.1)
    assert found.ci95 == pytest.approx(1.96 * np.hypot(one.std(), other.std()) / 20, rel=0.01)
    assert np.isnan(found.seed_ci95)


def test_only_seeds_that_both_sides_have_count(two_seeds):
    commit(two_seeds, BASE, seed=2, errors=made(np.full(400, 50.0)))
    assert traps.effect(TRAP, BASE, "Q=K").seeds == (0, 1)


def test_there_is_no_effect_of_what_was_not_run_or_is_stale(two_seeds, monkeypatch):
    assert traps.effect("trap-5way-head", BASE, "Q=K") is None
    row = paper.get(TRAP)
    monkeypatch.setitem(paper.ROWS, TRAP, paper.dataclasses.replace(row, inner_lr=0.1))
    assert traps.effect(TRAP, BASE, "Q=K") is None


def test_there_is_no_effect_between_runs_that_have_come_differently_far(two_seeds):
    assert traps.effect(TRAP, BASE, "Q=K").seeds == (0, 1)
    for done in (500, 0):
        commit(two_seeds, "trap-5way-head", seed=int(done > 0), errors=made(np.full(400, 60.0)), done=done)
        assert traps.effect("trap-5way-head", BASE, "Q=K") is None


def test_every_trap_differs_from_its_base_in_one_thing():
    for row in traps.rows():
        one, base = row.settings, paper.get(base_of(row.name)).settings
        (name,) = (key for key in one if one[key] != base[key])
        if name == "network":
            assert len(one[name][1].items() - base[name][1].items()) == 1
        assert row.evaluations == paper.get(base_of(row.name)).evaluations


def test_pages_say_only_what_was_run(repository):
    pages = traps.inner_loss, traps.network, traps.alphabets, traps.normalisation, traps.characters
    pages = (*pages, traps.split_of_mini_imagenet)
    assert {page() for page in pages} == {"The effect was not measured.\n"}
    assert traps.table().count(">not run<") == len(traps.rows())
    rng = np.random.default_rng(0)
    names = [row.name for row in traps.rows()] + [BASE, "trap-20way"]
    names += ["omniglot-5way-1shot", traps.RELEASED, f"{traps.RELEASED}-64-12-24"]
    for name in names:
        for seed in (0, 1) if name.startswith("trap") else (0,):
            commit(repository, name, seed=seed, errors=made(rng.normal(80, 10, 400)))
    shown = [page() for page in pages[:4]] + [traps.split_of_mini_imagenet()]
    assert all(text.startswith("**Measured effect.** ") and " points (± over" in text for text in shown)
    assert "over 2 seeds" in shown[0] and "20-way" in shown[0] and "Mini-ImageNet" in shown[0]
    assert "state" not in traps.table() and ">not run<" not in traps.table()


def test_traps_have_a_table_of_their_own_and_no_other(two_seeds):
    titles = [row.title for row in paper.ROWS.values() if row.name.startswith("trap-")]
    assert len(titles) == 9 and not any(title in inventory.beyond_rows() for title in titles)


def test_the_validation_characters_come_from_the_log(repository):
    commit(repository, "omniglot-5way-1shot", errors=made(np.tile([90.0, 100.0], 300)), tasks=600)
    assert traps.characters() == "The effect was not measured.\n"
    log = repository / "data" / "results" / "omniglot-5way-1shot" / "seed0.metrics.csv"
    log.write_text("iteration,seconds,meta_loss,validation\n59900,1,0.1,\n60000,2,0.1,97.5\n")
    text = traps.characters()
    assert "after 60,000 iterations: 97.5 % on the validation characters" in text
    assert "95.0 ± 0.4 %" in text and "± 0.7." in text  # 600 tasks against 200: a factor of root 3
