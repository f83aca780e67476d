"""Effects of traps: paired where tasks are the same, with two intervals, and what pages say of them."""

import dataclasses
import math
import re

import numpy as np
import pandas as pd
import pytest

from made_results import commit
from mamlkit import places
from mamlkit.experiments import paper
from mamlkit.experiments.traps import base_of
from mamlkit.report import inventory, results, trap_effects, traps, traps_table

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


def test_a_seed_whose_tasks_are_not_kept_counts_over_seeds(repository):
    easy = np.linspace(20, 90, 400)
    for seed, cost in enumerate((2, 4, 2, 8)):  # of the fourth no tasks are kept
        commit(repository, BASE, seed=seed, errors=made(easy))
        commit(repository, TRAP, seed=seed, errors=made(easy - cost - np.tile([0, 2], 200)))
    assert not (repository / "data" / "results" / TRAP / "seed3.tasks.npz").exists()
    found = traps.effect(TRAP, BASE, "Q=K")
    assert found.seeds == (0, 1, 2, 3) and found.value == pytest.approx(-5, abs=1e-5)
    assert found.ci95 == pytest.approx(1.96 * 1 / 20, rel=0.01)
    deviation = np.std([3, 5, 3, 9], ddof=1)
    assert found.seed_ci95 == pytest.approx(3.18245 * deviation / 2, rel=1e-4)  # t of three degrees
    assert [side[0] for side in found.sides] == pytest.approx([50, 55], abs=1e-5)
    for row in (TRAP, BASE):
        for path in (repository / "data" / "results" / row).glob("seed[0-2].*"):
            path.unlink()
    found = traps.effect(TRAP, BASE, "Q=K")  # the fourth alone
    assert found.seeds == (3,) and found.value == pytest.approx(-9, abs=1e-5)
    assert found.ci95 == pytest.approx(1.96 * np.hypot(easy.std(), (easy - np.tile([0, 2], 200)).std()) / 20)


def test_an_effect_after_a_step_that_is_not_kept_has_the_interval_of_both_sides(two_seeds, monkeypatch):
    exact = traps.effect(TRAP, BASE, "Q=K")
    assert exact.ci95 < exact.sides[0][1]
    monkeypatch.setattr(trap_effects, "_headline_step", lambda *_: 2)
    found = traps.effect(TRAP, BASE, "Q=K")
    assert found.value == exact.value
    assert found.ci95 == pytest.approx(1.96 * math.sqrt(2) * np.linspace(20, 90, 400).std() / 20, rel=0.01)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="test='Q=7', but trap-5way-padding has Q=K"):
        traps.effect(TRAP, BASE, "Q=7")


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
    names = sorted({name for row in traps.rows() for name in (row.name, base_of(row.name))})
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
    assert len(titles) == 13 and not any(title in inventory.beyond_rows() for title in titles)


def test_the_validation_characters_come_from_the_log(repository):
    commit(repository, "omniglot-5way-1shot", errors=made(np.tile([90.0, 100.0], 300)), tasks=600)
    assert traps.characters() == "The effect was not measured.\n"
    log = repository / "data" / "results" / "omniglot-5way-1shot" / "seed0.metrics.csv"
    log.write_text("iteration,seconds,meta_loss,validation\n59900,1,0.1,\n60000,2,0.1,97.5\n")
    text = traps.characters()
    assert "after 60,000 iterations: 97.5 % on the validation characters" in text
    assert "95.0 ± 0.4 %" in text and "± 0.7." in text  # 600 tasks against 200: a factor of root 3


def test_a_side_has_the_wider_of_its_intervals_and_chance_is_students(two_seeds):
    found = traps.effect(TRAP, BASE, "Q=K")
    assert found.sides[0][1] == pytest.approx(12.7062, rel=0.01)  # 53 and 51: over seeds
    assert found.sides[1][1] == pytest.approx(1.96 * np.linspace(20, 90, 400).std() / 20, rel=0.01)
    assert found.chance == pytest.approx(
        2 * math.atan(1 / 4) / math.pi, rel=0.01
    )  # t of one degree is Cauchy's
    assert math.isnan(dataclasses.replace(found, seeds=(0,)).chance)


def test_traps_are_counted_before_one_stands_apart(repository):
    easy = np.linspace(20, 90, 400)
    for seed, noise in enumerate((-0.1, 0.0, 0.1)):
        commit(repository, BASE, seed=seed, errors=made(easy))
        commit(repository, TRAP, seed=seed, errors=made(easy - 5 - noise))
        commit(repository, "trap-5way-head", seed=seed, errors=made(easy - 1 - 3.5 * noise))
    said = traps.together()
    assert said.startswith("2 trainings") and "rule): padding on both sides, 5-way." in said
    assert re.search(r"as much: head from Xavier's distribution, 5-way \(0\.03\d\)\.$", said)


@pytest.mark.parametrize(
    ("value", "ci95", "seed_ci95", "word"),
    [
        (-2.0, 0.5, math.nan, "lower"),
        (2.0, 0.5, 1.9, "higher"),
        (2.0, 0.5, 2.1, "not told apart"),  # over seeds it holds zero
        (0.4, 3.1, 1.0, "undecided"),
        (2.5, 0.8, 13.7, "undecided"),
    ],
)
def test_a_word_says_what_the_wider_interval_allows(value, ci95, seed_ci95, word):
    sides = ((80.0, 1.0), (80.0, 1.0))
    assert trap_effects.Effect(value, ci95, seed_ci95, (0, 1), sides, True, 600).word == word


def measured_tests(repository, **changes):
    """A table as benchmarks/traps.py keeps it, of a committed network."""
    commit(repository, trap_effects.TESTED, errors=made(np.full(400, 98.0)))
    (result,) = results.load(trap_effects.TESTED)
    lines = [
        ("1 query", 99.2, 0.36, 600, "", "", "", ""),
        *(
            (test, 99.2 + change, 0.4, 600, "1 query", True, change, 0.25)
            for test, change in (
                ("5 queries", -1.0),
                ("15 queries", -1.3),
                ("support", -2.7),
                ("running averages", -6.1),
            )
        ),
        ("as the paper", 99.0, 0.13, 6000, "", "", "", ""),
        ("alpha on the mean", 97.4, 0.2, 6000, "as the paper", True, -1.6, 0.15),
        ("validation characters", 99.1, 0.13, 6000, "as the paper", False, 0.1, 0.2),
        *((f"draw {i}", 98.5 + 0.1 * i, 0.4, 600, "", "", "", "") for i in range(1, 11)),
    ]
    columns = ["test", "accuracy", "ci95", "tasks", "base", "paired", "effect", "effect_ci95"]
    of_run = {key: result[key] for key in ("iterations_done", "fingerprint")} | changes
    folder = repository / "data" / "benchmarks" / "traps"
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(lines, columns=columns).assign(**of_run).to_csv(folder / "tests.csv", index=False)


def test_tests_that_go_wrong_come_from_the_committed_table(repository):
    assert trap_effects.tested("support") is None and trap_effects.draws() is None
    measured_tests(repository)
    found = trap_effects.tested("running averages")
    assert (found.value, found.ci95, found.tasks, found.paired) == (-6.1, 0.25, 600, True)
    assert found.sides[1] == (99.2, 0.36) and found.sides[0][0] == pytest.approx(93.1)
    other = trap_effects.tested("validation characters")
    assert not other.paired and other.word == "not told apart" and other.sides[1] == (99.0, 0.13)
    ten, whole = trap_effects.draws()
    assert len(ten) == 10 and whole == (99.0, 0.13, 6000)
    assert trap_effects.tested("no such test") is None


def test_a_table_of_another_network_says_nothing(repository):
    measured_tests(repository, fingerprint="0123")
    assert trap_effects.tested("support") is None and trap_effects.draws() is None
    measured_tests(repository, iterations_done=5)
    assert trap_effects.tested("support") is None


def lines_of(table):
    """Trap and cells of a table's lines."""
    cells = (line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| "))
    return [[cell.strip().replace("\N{NO-BREAK SPACE}", " ") for cell in line] for line in cells][2:]


def test_one_table_has_every_trap_with_its_data_and_what_its_interval_says(two_seeds):
    lines = lines_of(traps_table.all_traps())
    count = len(traps.rows()) + len(traps_table.OF_OMNIGLOT) + 1 + len(traps_table.OF_RELEASED)
    assert len(lines) == count
    by = {(trap, data): cells for trap, data, *cells in lines}
    assert by["padding on both sides", "Omniglot 5-way, short training"][2:4] == ["undecided", "2 seeds"]
    assert all(cells[1] == "not run" for (_, data), cells in by.items() if "short" not in data)
    measured_tests(two_seeds)
    by = {(trap, data): cells for trap, data, *cells in lines_of(traps_table.all_traps())}
    of_omniglot = lambda trap: by[trap, "Omniglot, chapter 3's network"][:4]
    assert of_omniglot("running averages") == ["99.2 ± 0.4", "−6.10 ± 0.25", "lower", "600 tasks"]
    assert of_omniglot("validation characters in the test")[2:] == [
        "not told apart",
        "6,000 tasks, other ones",
    ]
    assert of_omniglot("600 test tasks, not 6,000")[1:] == [
        "± 0.40",
        "moved by chance",
        "10 draws: 98.6 to 99.5 %",
    ]


def test_the_table_of_all_says_of_a_training_what_the_chapter_says():
    """Of the committed results: with 15 queries per class, as the chapter's figure and box."""
    lines = lines_of(traps_table.all_traps())
    for row, line in zip(traps.rows(), lines):
        found = traps.effect(row.name, base_of(row.name), "Q=15")
        assert found and line[4].removesuffix(" by then") == found.word, row.name


def test_a_short_training_is_told_as_one(repository):
    for seed in (0, 1):
        commit(repository, "trap-20way", seed=seed, errors=made(np.full(400, 22.75)))
        commit(repository, "trap-20way-mean-loss", seed=seed, errors=made(np.full(400, 40.0 + seed)))
    table = traps_table.all_traps()
    assert "has got to 22.8 %, where guessing gives 5 %" in table
    assert lines_of(table)[0][4] == "higher by then"


def test_queries_have_a_number_for_each_statistics(repository):
    assert all(line["5 per class"] == "not run" for line in traps_table.statistics_lines())
    measured_tests(repository)
    numbers = [list(line.values())[2:] for line in traps_table.statistics_lines()]
    assert numbers[0] == ["99.2 ± 0.4", "98.2 ± 0.4", "97.9 ± 0.4"]
    assert numbers[1] == ["96.5 ± 0.4"] * 3 and numbers[2] == ["93.1 ± 0.4"] * 3


def test_statistics_of_the_support_are_held_against_as_many_queries(repository):
    rng = np.random.default_rng(0)
    commit(repository, traps.RELEASED, errors=made(rng.normal(46, 20, 400)))
    lines = {line[0]: line[1:] for line in lines_of(traps_table.released_table())}
    assert lines["statistics of the support, 15 queries"][2] == "15 queries per class"
    assert lines["statistics of the support"][2] == "the first line"
    assert lines["24 test classes"][0] == "not run"


def test_the_committed_tests_are_of_the_committed_network():
    table = pd.read_csv(places.repository() / "data/benchmarks/traps/tests.csv", index_col="test")
    assert all(trap_effects.tested(test) for test in traps_table.OF_OMNIGLOT), (
        "run benchmarks/traps.py --save again"
    )
    kept = results.per_task_errors(trap_effects.TESTED, 0, "Q=15", "accuracy")[:, 2]  # after three steps
    assert table.accuracy["15 queries"] == pytest.approx(kept.mean(), abs=0.02)
    kept = results.per_task_errors(trap_effects.TESTED, 0, "Q=K", "accuracy")[:, 2]
    assert table.accuracy["draw 1"] == pytest.approx(kept.mean(), abs=0.02)
