"""Captions are Markdown cells below figures; the site takes them into the figures."""

from types import SimpleNamespace

import captions
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from sphinx.errors import ExtensionError


def figure(name="fig-x"):
    return new_code_cell("plt.show()", metadata={"mystnb": {"figure": {"name": name}, "image": {"alt": "a"}}})


def caption(text="Loss,\nby step $t$."):
    return new_markdown_cell(text, metadata={"tags": ["caption"]})


def test_a_caption_goes_into_the_figure_above_it_and_nothing_else_changes():
    text, other = new_markdown_cell("Text."), new_code_cell("1")
    made = captions.taken_in(new_notebook(cells=[text, figure(), caption(), other]))
    assert [cell.source for cell in made.cells] == ["Text.", "plt.show()", "1"]
    wanted = {"figure": {"name": "fig-x", "caption": "Loss, by step $t$."}, "image": {"alt": "a"}}
    assert made.cells[1].metadata["mystnb"] == wanted and not other.metadata


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([caption()], "does not follow a cell with a figure"),
        ([new_code_cell("1"), caption()], "does not follow a cell with a figure"),
        ([figure(), caption(), caption("Twice")], "'Twice' does not follow"),
        ([figure(), new_code_cell("1", metadata={"tags": ["caption"]})], "does not follow"),
        ([figure("fig-a"), new_markdown_cell("Text."), caption()], "'fig-a' is not followed"),
        ([figure("fig-b")], "'fig-b' is not followed"),
    ],
)
def test_captions_and_figures_that_have_lost_each_other_are_named(cells, message):
    with pytest.raises(ExtensionError, match=message):
        captions.taken_in(new_notebook(cells=cells))


def test_what_sphinx_reads_of_a_notebook_is_changed_and_a_page_is_not():
    app = SimpleNamespace(env=SimpleNamespace(doc2path=lambda name: name))
    source = [nbformat.writes(new_notebook(cells=[figure(), caption()]))]
    captions.take_in(app, "chapter.ipynb", source)
    (only,) = nbformat.reads(source[0], as_version=4).cells
    assert only.metadata["mystnb"]["figure"]["caption"] == "Loss, by step $t$."
    page = ["# A page"]
    captions.take_in(app, "page.md", page)
    assert page == ["# A page"]
