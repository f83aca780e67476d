"""The grid of methods: equal settings, paired gaps, and tables that say what was not run."""

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from made_results import commit
from mamlkit import methods, places, tasks
from mamlkit.experiments import compare as grid_rows
from mamlkit.experiments import paper
from mamlkit.report import compare, results

COLUMN = grid_rows.COLUMNS[0]
NAMES = {method.slug: grid_rows.name_of(COLUMN, method) for method in grid_rows.COMPARED}


def made(values, steps):
    return np.repeat(np.asarray(values, float)[:, None], steps + 1, 1)


@pytest.fixture
def three(repository):
    """MAML with two seeds, a method 3 and 5 points better on the same hard and easy tasks, and a floor."""
    easy = np.linspace(20, 90, 400)
    for seed, better in enumerate((3, 5)):
        commit(repository, NAMES["maml"], seed=seed, errors=made(easy, 3))
        commit(repository, NAMES["first-order"], seed=seed, errors=made(easy + better, 3))
    commit(repository, NAMES["pixels"], errors=made(easy - 30, 0))
    return repository


@pytest.mark.parametrize("column", grid_rows.COLUMNS, ids=lambda column: column.name)
def test_a_column_is_one_protocol(column):
    rows = [paper.get(grid_rows.name_of(column, method)) for method in grid_rows.methods_of(column)]
    for row in rows:
        assert row.method in methods.METHODS and row.family in tasks.FAMILIES
        assert [test.name for test in row.evaluations] == list(compare.TESTS)
        assert not row.evaluations[2].transductive and row.evaluations[1].transductive
        assert row.iterations in (0, column.updates) and row.meta_batch_size == grid_rows.TASKS
    heads = [row.network[1].get("head") for row in rows]
    assert heads == [method.head for method in grid_rows.methods_of(column)]
    rows = [
        dataclasses.replace(row, network=(row.network[0], row.network[1] | {"head": None})) for row in rows
    ]
    assert {row.outer_lr for row in rows if row.outer == "adam"} == {0.001}
    same = ("family", "network", "ways", "place")
    assert len({repr([getattr(row, name) for name in same]) for row in rows}) == 1
    sizes = {tuple((e.shots, e.queries, e.tasks) for e in row.evaluations) for row in rows}
    assert len(sizes) == 1


def test_slugs_differ_and_names_say_what_they_are():
    assert len(NAMES) == len(grid_rows.COMPARED)
    assert all(grid_rows.is_compared(name) for name in NAMES.values())
    assert {name for name in paper.ROWS if grid_rows.is_compared(name)} == {
        grid_rows.name_of(column, method)
        for column in grid_rows.COLUMNS
        for method in [*grid_rows.methods_of(column), *grid_rows.parts_of(column)]
    }
    with pytest.raises(ValueError, match="no column is called 'cifar'; they are omniglot-5way-1shot"):
        grid_rows.column_of("cifar")


def test_the_quick_scale_leaves_what_is_a_methods_own():
    row = paper.get("compare-glyphs-5way-1shot-reptile")
    assert row.at("quick").outer_lr == row.outer_lr == 1.0
    assert paper.get("compare-glyphs-5way-1shot-maml").at("quick").outer_lr == 0.01


def test_the_meta_learner_lstm_sees_gradients_of_the_mean_loss():
    for column in grid_rows.COLUMNS:
        assert paper.get(f"compare-{column.name}-meta-lstm").loss == "cross-entropy, mean"


def test_gaps_are_paired_and_over_seeds(three):
    found = compare.grid(COLUMN).set_index("slug")
    assert list(found.index) == ["first-order", "maml", "pixels"]  # the best first
    assert found.gap["first-order"] == pytest.approx(4, abs=0.02)
    assert found.gap_ci95["first-order"] == pytest.approx(12.706, rel=0.02)  # t of one degree, error 1
    assert found.gap["maml"] == 0 and found.gap["pixels"] == pytest.approx(-30, abs=0.02)
    assert len(found.of_seeds["maml"]) == 2 and len(found.of_seeds["pixels"]) == 1


def test_the_table_names_every_method_and_what_was_not_run(three):
    text = compare.column_table(COLUMN.name)
    lines = [line for line in text.splitlines() if line.startswith("| ")][2:]
    missing = text.splitlines()[0].split(" Not run: ")[1].removesuffix(".").split("; ")
    assert len(lines) == 3 and len(missing) == len(grid_rows.COMPARED) - 3
    ran = {line.split(" | ")[0].removeprefix("| ") for line in lines}
    assert ran | set(missing) == {method.words for method in grid_rows.COMPARED}
    assert lines[0].startswith("| MAML, first order") and "+4" in lines[0]
    assert "{cite:p}`finn2017maml`" in text


def test_parts_of_maml_plus_plus_have_a_table_of_their_own(repository):
    easy = np.linspace(20, 90, 400)
    better_by = {"5way-1shot-maml-5-steps": 0, "5way-1shot-moving-loss": 4}
    better_by |= {"20way-1shot-maml": -10, "20way-1shot-moving-loss": -12}  # where MAML takes five steps
    for method, better in better_by.items():
        commit(repository, f"compare-omniglot-{method}", errors=made(easy + better, 5))
    lines = [line.strip("| ").split(" | ") for line in compare.parts().splitlines() if line.startswith("| ")]
    head, base, *others = lines[0], lines[2], *lines[3:]
    assert head[2::3] == ["from MAML, 5-way", "from MAML, 20-way"] and base[0] == "MAML, 5 steps"
    assert base[1].startswith("55.0") and base[4].startswith("45.0") and base[2] == base[5] == "–"
    words = [part.words for part in grid_rows.PARTS]
    assert [line[0] for line in others][3:] == [*words, "MAML++, all"]
    (moving,) = (line for line in others if line[0] == words[0])
    assert moving[1].startswith("59.0") and moving[2].startswith(("+4.0", "+3.99"))
    assert moving[4].startswith("43.0") and moving[5][1:].startswith(("2.0", "1.99")) and moving[5][0] != "+"
    assert moving[3] == moving[6] == "1"  # seeds
    assert all("not run" in line[1] and line[2] == "–" for line in others if line != moving)
    assert not {part.slug for part in grid_rows.PARTS} & set(
        compare.grid(COLUMN).slug
    )  # nor lines of the grid


def test_each_part_of_maml_plus_plus_changes_one_thing():
    base = paper.get("compare-omniglot-5way-1shot-maml-5-steps")
    for part in grid_rows.PARTS:
        row = paper.get(f"compare-omniglot-5way-1shot-{part.slug}")
        same = ("name", "title", "evaluations")
        changed = [k for k, v in vars(row).items() if v != getattr(base, k) and k not in same]
        assert changed == (["outer"] if part.slug == "cosine" else ["method"])
        assert row.evaluations == base.evaluations
    whole = paper.get("compare-omniglot-5way-1shot-maml-plus-plus-all")
    assert (whole.method, whole.outer) == ("maml++", "adam, cosine") and whole.inner_steps == base.inner_steps


def test_published_numbers_belong_to_the_grid():
    found = compare.published()
    assert set(found.column) <= {column.name for column in grid_rows.COLUMNS}
    assert not found.duplicated(["method", "column"]).any()
    bibliography = (places.repository() / "book" / "references.bib").read_text(encoding="utf-8")
    assert all(f"{{{source}," in bibliography for source in set(found.source))
    assert found.value.astype(float).between(20, 100).all()


def test_what_others_report_is_a_line_per_method_with_its_protocol():
    found = compare.published()
    lines = [line for line in compare.elsewhere().splitlines() if line.startswith("| ")][2:]
    assert len(lines) == found.method.nunique() == found.drop_duplicates(["method", "source"]).shape[0]
    for printed, line in zip(found.drop_duplicates("method").itertuples(), lines):
        places_of = "; ".join(found[found.method == printed.method].place.unique())
        assert f"`{printed.source}` | {places_of} | {printed.note or '–'} |" in line
        assert printed.value in line
    assert found.groupby("method").note.nunique().max() == 1  # else a line would say one thing twice
    values = [cell for line in lines for cell in line.strip("| ").split(" | ")[3:] if cell != "–"]
    assert len(values) == len(found)


def test_every_published_number_has_a_place():
    """A table that was seen, or the word that it was not; never the name of the method."""
    words = compare.published().place.str.match(r"(quoted in MAML's )?Table \d|table not seen")
    assert words.all()


def test_costs_have_a_line_for_each_method_that_was_measured():
    """On every shape on which it is a row."""
    text = compare.costs()
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert lines[0][0] == "method" and "Glyphs 5-way 1-shot" in lines[0][1]
    measured = set(compare.memory().method)
    has_result = lambda method: any(
        results.load(grid_rows.name_of(column, method)) for column in grid_rows.COLUMNS
    )
    learned = [
        m for m in grid_rows.COMPARED if m.kind != "nothing learned" and (m.slug in measured or has_result(m))
    ]
    assert [line[0] for line in lines[2:]] == [method.words for method in learned]
    for method, line in zip(learned, lines[2:]):
        assert (line[3] == "–") == ("textures-5way-1shot" in method.but_for)
    numbers = {line[0]: int(line[1].replace(",", "")) for line in lines[2:]}
    assert numbers["Meta-SGD"] > 1.9 * numbers["MAML"] > numbers["prototypical networks"]


def test_networks_that_can_be_measured_again_without_data_are_committed():
    glyphs = grid_rows.column_of("glyphs-5way-1shot")
    for method in grid_rows.measured_again():
        name = grid_rows.name_of(glyphs, method)
        assert grid_rows.is_measured_again(name) and results.checkpoint(name).exists()
    assert not grid_rows.is_measured_again("compare-glyphs-5way-1shot-siamese")


def test_the_forest_plot_has_a_line_for_each_method(three):
    figure, axes = plt.subplots()
    found = compare.grid(COLUMN)
    compare.forest(axes, found)
    assert [text.get_text() for text in axes.texts[::2]] == list(found.method)
    compare.forest(axes, found[:0])  # nothing run: nothing drawn
    plt.close(figure)


def test_nothing_run_gives_no_tables(repository):
    assert compare.tables() == "" and compare.grid(COLUMN).empty
    assert isinstance(compare.grid(COLUMN), pd.DataFrame)
