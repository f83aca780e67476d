"""Every notebook is a pair: percent source and executed twin, equal and clean."""

import base64
import io
from pathlib import Path

import captions
import jupytext
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pictures
import pytest
import refresh
from PIL import Image

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SOURCES = sorted(NOTEBOOKS.glob("[!.]*.py"))

SMALL = """\
# %% [markdown]
# # A small notebook

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
from mamlkit.report import plots

plots.use_style()
fig, (left, right) = plt.subplots(1, 2, figsize=(7, 2))
left.plot([0, 1], [0, 1])
plt.show()

# %%
import os
print(os.environ["MAMLKIT_DATA"], repr(os.environ["CUDA_VISIBLE_DEVICES"]))

# %%
print("twice")

# %%
print("twice")
"""


@pytest.fixture
def small(tmp_path):
    source = tmp_path / "00-small.py"
    source.write_text(SMALL)
    return source


def test_notebooks_and_twins_come_in_pairs():
    assert SOURCES
    assert {p.stem for p in SOURCES} == {p.stem for p in NOTEBOOKS.glob("[!.]*.ipynb")}


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_code_is_within_88_columns(source):
    """As many as a page shows; ruff formats, but breaks no string and no comment."""
    code = [cell.source for cell in jupytext.read(source).cells if cell.cell_type == "code"]
    assert [line for cell in code for line in cell.splitlines() if len(line) > 88] == []


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_a_claim_that_does_not_hold_ends_its_cell(source):
    assert not [cell for cell in jupytext.read(source).cells if "STRICT" in cell.source]


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_solutions_have_cells_of_their_own(source):
    """So that JupyterLab can fold them, and nothing else with them."""
    for cell in jupytext.read(source).cells:
        assert "{solution-start}" not in cell.source or cell.source.startswith("```{solution-start}")
        assert "{solution-end}" not in cell.source or cell.source == "```{solution-end}\n```"


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_twin_equals_its_source(source):
    twin = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    assert refresh.essence(twin) == refresh.essence(jupytext.read(source)), "run `make twins`"


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_a_wide_figure_has_a_form_for_phones(source):
    """But a drawing of words and arrows, which has no panels and no axes."""
    scroll = []
    for cell in nbformat.read(source.with_suffix(".ipynb"), as_version=4).cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                picture = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"])))
                if picture.width > pictures.WIDE and "narrow" not in output.metadata.get("image/png", {}):
                    scroll.append(cell.metadata["mystnb"]["figure"]["name"])
    assert scroll == (["fig-compare-families"] if source.stem.startswith("09") else [])


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_twin_is_executed_and_clean(source):
    path = source.with_suffix(".ipynb")
    twin = nbformat.read(path, as_version=4)
    nbformat.validate(twin)
    assert refresh.faults(twin) == captions.faults(twin) == []
    assert len({cell["id"] for cell in twin.cells}) == len(twin.cells)
    assert path.stat().st_size < 1_000_000
    assert [cell.metadata.get("jupyter", {}) for cell in twin.cells] == refresh.folds(twin)
    assert "widgets" not in twin.metadata
    assert twin.metadata["kernelspec"]["name"] == "python3"
    assert "version" not in twin.metadata["language_info"]


def test_refreshing_twice_gives_the_same_bytes(small):
    assert not refresh.is_current(small)
    twin = refresh.refresh(small)
    first = twin.read_bytes()
    assert b"image/png" in first and b"none ''" in first
    assert refresh.is_current(small)
    refresh.main([str(small), "--force"])
    assert twin.read_bytes() == first


def test_a_drawing_becomes_a_third_and_looks_the_same(small):
    twin = nbformat.read(refresh.refresh(small), as_version=4)
    output = twin.cells[1].outputs[0]
    thin, narrow = map(base64.b64decode, (output.data["image/png"], output.metadata["image/png"]["narrow"]))
    wide_form, narrow_form = (Image.open(io.BytesIO(b)) for b in (thin, narrow))
    assert wide_form.width > pictures.WIDE > 1.3 * narrow_form.width
    assert len(narrow_form.getcolors()) <= pictures.COLOURS
    assert narrow_form.height > 1.5 * wide_form.height
    figure, axes = plt.subplots(figsize=(4, 3))
    axes.plot(np.random.default_rng(0).normal(size=50).cumsum(), color="#0072B2")
    file = io.BytesIO()
    figure.savefig(file)
    few = pictures.in_few_colours(file.getvalue())
    assert len(few) < len(file.getvalue()) / 2
    assert wide_form.mode == "P"  # a byte for each pixel
    one, other = (np.array(Image.open(io.BytesIO(b)).convert("RGB"), int) for b in (few, file.getvalue()))
    assert abs(one - other).mean() < pictures.OFF and abs(one - other).max() < 64


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_photograph_and_what_lets_the_ground_through_stay_as_they_are(mode):
    noise = np.random.default_rng(0).integers(0, 256, (50, 50, len(mode)), np.uint8)
    if mode == "RGBA":
        noise[..., :3] = 0  # one colour, but seen through
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "png")
    assert pictures.in_few_colours(file.getvalue()) == file.getvalue()


def test_a_changed_source_is_out_of_date(small):
    twin = refresh.refresh(small)
    small.write_text(SMALL.replace('tags=["hide-input"]', 'tags=["hide-cell"]'))
    assert not refresh.is_current(small)
    stamp = twin.stat().st_mtime_ns
    refresh.main([str(small)])
    assert refresh.is_current(small) and twin.stat().st_mtime_ns > stamp
    stamp = twin.stat().st_mtime_ns
    refresh.main([str(small)])
    assert twin.stat().st_mtime_ns == stamp


def test_jupyterlab_folds_what_the_site_folds(small):
    small.write_text(
        SMALL
        + """
# %% tags=["hide-output"]
print("long")

# %% [markdown]
# ```{exercise}
# ```

# %% [markdown]
# ```{solution-start} ex-small
# ```

# %%
print("solved")

# %% [markdown]
# ```{solution-end}
# ```

# %%
print("open again")
"""
    )
    twin = nbformat.read(refresh.refresh(small), as_version=4)
    nbformat.validate(twin)
    source, outputs = {"source_hidden": True}, {"outputs_hidden": True}
    wanted = [{}, source, {}, {}, {}, outputs, {}, source, source | outputs, source, {}]
    assert [cell.metadata.get("jupyter", {}) for cell in twin.cells] == wanted
    assert refresh.is_current(small)
    del twin.cells[1].metadata["jupyter"]  # as JupyterLab saves it when a reader has opened the cell
    nbformat.write(twin, small.with_suffix(".ipynb"))
    assert not refresh.is_current(small)


def test_stderr_is_refused_and_the_old_twin_stays(small):
    small.write_text('# %%\nimport sys\nprint("oops", file=sys.stderr)\n')
    with pytest.raises(ValueError, match="cell 1: stderr: oops"):
        refresh.refresh(small)
    assert not small.with_suffix(".ipynb").exists()


def test_faults_names_each_one():
    good = nbformat.v4.new_code_cell("1", execution_count=1)
    bad = nbformat.v4.new_code_cell("2", execution_count=3, metadata={"execution": {}})
    bad.outputs = [
        nbformat.v4.new_output("error", ename="KeyError"),
        nbformat.v4.new_output("stream", name="stderr", text="oops"),
        nbformat.v4.new_output("display_data", {"application/vnd.jupyter.widget-view+json": {}}),
    ]
    assert refresh.faults(nbformat.v4.new_notebook(cells=[good])) == []
    assert refresh.faults(nbformat.v4.new_notebook(cells=[good, bad])) == [
        "execution counts are [1, 3], not 1..2",
        "cell 2: timing metadata",
        "cell 2: KeyError",
        "cell 2: stderr: oops",
        "cell 2: a widget",
    ]
