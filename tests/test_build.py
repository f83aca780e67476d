"""The book's own configuration fails the build on each kind of fault; the execution cache notices every change.

Each fixture is a tiny book in a temporary folder, built by the command of the Makefile. They are
built side by side, since most of a small build is start-up time.
"""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mamlbook
import nbformat
import pytest
import yaml

ROOT = Path(__file__).parents[1]

# name: (code of the notebook if there is one, Markdown of the page, what the log says when the build fails)
BOOKS = {
    "clean": ("print(6 * 7)", "{eq}`eq-x` and {numref}`tab-ours`\n\n```{from-package} fixture:table\n```", None),
    "failing-cell": ("1 / 0", "", "ZeroDivisionError"),
    "timeout": ("import time; time.sleep(60)", "", "CellTimeoutError"),
    "dead-kernel": ("import os; os._exit(1)", "", "DeadKernelError"),
    "stderr": ("import sys; print('oops', file=sys.stderr)", "", "stderr was found"),
    "dangling-reference": ("", "{numref}`fig-nowhere`", "fig-nowhere"),
    "missing-glue": ("x = 1", "{glue:text}`../notebooks/note.ipynb::nothing:.3f`", "Glue reference 'nothing' not found"),
    "package-raises": ("", "```{from-package} fixture:broken\n```", "no results here"),
}
FIXTURE = """\
def table():
    return "```{table} Ours.\\n:name: tab-ours\\n| K | loss |\\n|--:|--:|\\n| 5 | *0.35* |\\n```\\n"

def broken():
    raise ValueError("no results here")
"""


def write_book(folder, code, text, cell_timeout):
    """A book of one page, and a notebook where there is code, with the configuration of the real one."""
    for part in ("book/_ext", "book/_static"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("_config.yml", "book/references.bib"):
        shutil.copy(ROOT / part, folder / part)
    (folder / "book" / "_ext" / "fixture.py").write_text(FIXTURE)
    (folder / "_toc.yml").write_text("format: jb-book\nroot: book/index\n")
    (folder / "book" / "index.md").write_text(f"# A book\n\n$$x$$ (eq-x)\n\n{text}\n")
    if not code:
        return
    with (folder / "_toc.yml").open("a") as toc:
        toc.write("chapters:\n- file: notebooks/note\n")
    cells = [nbformat.v4.new_markdown_cell("# A note"), nbformat.v4.new_code_cell(code)]
    metadata = {"kernelspec": {"name": "python3", "display_name": "x"}, "execution": {"timeout": cell_timeout}}
    (folder / "notebooks").mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), folder / "notebooks" / "note.ipynb")


def build(folder):
    """Build as the Makefile does."""
    command = [Path(sys.executable).parent / "jupyter-book", "build", ".", "-n", "-W", "--keep-going", "--all"]
    environment = {**os.environ, "MAMLKIT_DATA": "none", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    """Every fixture book and its build in progress."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        started = {}
        for name, (code, text, _) in BOOKS.items():
            folder = tmp_path_factory.mktemp(name)
            write_book(folder, code, text, cell_timeout=3 if name == "timeout" else 60)
            started[name] = (folder, pool.submit(build, folder))
        yield started


def test_makefile_builds_with_the_options_tested_here():
    assert "jupyter-book build . -n -W --keep-going --all" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("name", [name for name in BOOKS if name != "clean"])
def test_a_fault_fails_the_build(builds, name):
    outcome = builds[name][1].result()
    assert outcome.returncode != 0, outcome.stdout
    assert BOOKS[name][2] in outcome.stdout


def test_a_clean_book_builds_and_needs_no_network(builds):
    folder, future = builds["clean"]
    outcome = future.result()
    assert outcome.returncode == 0, outcome.stdout
    site = folder / "_build" / "html"
    assert "42" in (site / "notebooks" / "note.html").read_text()
    front = (site / "book" / "index.html").read_text()
    assert "<em>0.35</em>" in front and "Table 1" in front and "mathjax/tex-svg-full.js" in front
    assert (site / "_static" / "mathjax" / "tex-svg-full.js").stat().st_size > 1_000_000
    assert len(list((folder / "_build" / ".jupyter_cache").iterdir())) == 1


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A repository and a data folder, as small as can be."""
    for name in ("repo/mamlkit/maml.py", "repo/mamlkit/tasks/split.csv", "repo/data/results/row.json", "sets/omniglot/a.zip"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("old")
    (tmp_path / "repo/data/cache").mkdir()
    monkeypatch.setenv("MAMLKIT_DATA", str(tmp_path / "sets"))
    monkeypatch.delenv("MAMLKIT_CACHE", raising=False)
    monkeypatch.setattr(mamlbook, "device", lambda: "cpu")
    return tmp_path


@pytest.mark.parametrize(
    "path",
    ["repo/mamlkit/maml.py", "repo/mamlkit/tasks/split.csv", "repo/data/results/row.json", "repo/data/new.npz",
     "sets/omniglot/a.zip", "sets/omniglot/halves/b.zip", "repo/data/cache/omniglot/c.zip"],
)  # fmt: skip
def test_cache_key_changes_with_a_file(project, path):
    before = mamlbook.digest(project / "repo")
    assert before == mamlbook.digest(project / "repo")
    (project / path).parent.mkdir(exist_ok=True)
    (project / path).write_text("newer")
    assert before != mamlbook.digest(project / "repo")


@pytest.mark.parametrize("path", ["repo/data/cache/drawn.npz", "repo/mamlkit/__pycache__/maml.pyc", "repo/runs/log.csv"])
def test_cache_key_ignores_what_notebooks_do_not_read(project, path):
    before = mamlbook.digest(project / "repo")
    (project / path).parent.mkdir(exist_ok=True)
    (project / path).write_text("newer")
    assert before == mamlbook.digest(project / "repo")


def test_cache_key_changes_with_data_device_and_versions(project, monkeypatch):
    keys = [mamlbook.digest(project / "repo")]
    monkeypatch.setattr(mamlbook, "device", lambda: "cuda")
    keys.append(mamlbook.digest(project / "repo"))
    monkeypatch.setenv("MAMLKIT_DATA", "none")
    keys.append(mamlbook.digest(project / "repo"))
    monkeypatch.delenv("MAMLKIT_DATA")
    keys.append(mamlbook.digest(project / "repo"))
    (project / "repo/data/cache/omniglot").mkdir()
    (project / "repo/data/cache/omniglot/x.zip").write_text("fetched")
    keys.append(mamlbook.digest(project / "repo"))
    monkeypatch.setattr(mamlbook, "version", lambda name: "0.0")
    keys.append(mamlbook.digest(project / "repo"))
    assert len(set(keys)) == len(keys)


def test_device_is_the_cpu_when_the_gpu_is_hidden(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert mamlbook.device() == "cpu"
