"""The book's own configuration fails on each kind of fault; the execution cache notices every change.

Each fixture is a tiny book in a temporary folder, built by the command of the Makefile. They are
built side by side, since most of a small build is start-up time.
"""

import logging
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import assets
import mamlbook
import nbformat
import pytest
from jupyter_cache import get_cache
from myst_nb.core.config import NbParserConfig
from myst_nb.core.execute import create_client
from sphinx.errors import ExtensionError

import made_clone
from mamlkit import places

ROOT = Path(__file__).parents[2]
LOG = logging.getLogger(__name__)

CLEAN = """\
import matplotlib.pyplot as plt
import mamlkit
print("printed by", mamlkit.SAID)
11111**2
plt.plot([0, 1])
plt.show()"""
PAGE = "{eq}`eq-x` and {numref}`tab-ours`\n\n```{from-package} fixture:table\n```"
# name: (code of the notebook if there is one, Markdown of the page, what the log says when the build fails).
# Each error ends its build; warnings are counted, and -W makes any of them a failure.
BOOKS = {
    "clean": (CLEAN, PAGE, None),
    "clean, of nobody": (CLEAN, PAGE, None),
    "failing-cell": ("1 / 0", "", ["ZeroDivisionError"]),
    "timeout": ("import time; time.sleep(60)", "", ["CellTimeoutError"]),
    "dead-kernel": ("import os; os._exit(1)", "", ["DeadKernelError"]),
    "package-raises": ("", "```{from-package} fixture:broken\n```", ["no results here"]),
    "warnings": (
        "import sys; print('oops', file=sys.stderr)",
        "{numref}`fig-nowhere` and {glue:text}`../notebooks/note.ipynb::nothing:.3f`",
        ["stderr was found", "fig-nowhere", "Glue reference 'nothing' not found", " 3 warnings"],
    ),
}
FIXTURE = """\
import mamlkit

def table():
    rows = "| K | loss |\\n|--:|--:|\\n| 5 | *" + mamlkit.SAID + "* |"
    return "```{table} Ours.\\n:name: tab-ours\\n" + rows + "\\n```\\n"

def broken():
    raise ValueError("no results here")
"""


def write_book(folder, code, text, cell_timeout):
    """A book of one page, and a notebook where there is code, with the configuration of the real one."""
    made_clone.clone(folder)
    (folder / "book" / "_ext" / "fixture.py").write_text(FIXTURE)
    (folder / "_toc.yml").write_text("format: jb-book\nroot: book/index\n")
    (folder / "book" / "index.md").write_text(f"# A book\n\n$$x$$ (eq-x)\n\n{text}\n")
    if not code:
        return
    with (folder / "_toc.yml").open("a") as toc:
        toc.write("chapters:\n- file: notebooks/note\n")
    cells = [nbformat.v4.new_markdown_cell("# A note"), nbformat.v4.new_code_cell(code)]
    metadata = {
        "kernelspec": {"name": "python3", "display_name": "x"},
        "execution": {"timeout": cell_timeout},
    }
    nbformat.write(
        nbformat.v4.new_notebook(cells=cells, metadata=metadata), folder / "notebooks" / "note.ipynb"
    )


def build(folder, environment):
    """Build as the Makefile does."""
    script = Path(sys.executable).parent / "jupyter-book"
    command = [sys.executable, script, "build", ".", "-n", "-W", "--keep-going", "--all"]
    environment = {**environment, "MAMLKIT_DATA": "none", "CUDA_VISIBLE_DEVICES": "", "PYTHONUTF8": "1"}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8", "timeout": 1200}
    return subprocess.run(command, cwd=folder, env=environment, **options)


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    """Every fixture book and its build in progress.

    The clean one is that of a difficult user, in a folder of an odd name.
    """
    user = tmp_path_factory.mktemp("user")
    users = {
        "clean": made_clone.difficult(user) | made_clone.foreign(user),
        "clean, of nobody": made_clone.nobody(tmp_path_factory.mktemp("nobody")),
    }
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        started = {}
        for name, (code, text, _) in BOOKS.items():
            folder = tmp_path_factory.mktemp(made_clone.NAME if name in users else name)
            write_book(folder, code, text, cell_timeout=3 if name == "timeout" else 600)
            started[name] = (folder, pool.submit(build, folder, users.get(name, os.environ)))
        yield started


def test_makefile_builds_with_the_options_tested_here():
    assert "jupyter-book build . -n -W --keep-going --all" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("name", [name for name, (*_, said) in BOOKS.items() if said])
def test_a_fault_fails_the_build(builds, name):
    outcome = builds[name][1].result()
    assert outcome.returncode != 0, outcome.stdout
    assert not [words for words in BOOKS[name][2] if words not in outcome.stdout], outcome.stdout


@pytest.mark.parametrize("name", [name for name, (*_, said) in BOOKS.items() if not said])
def test_a_clean_book_builds_and_needs_no_network(builds, name):
    folder, future = builds[name]
    outcome = future.result()
    assert outcome.returncode == 0, outcome.stdout
    site = folder / "_build" / "html"
    note = (site / "notebooks" / "note.html").read_text()
    assert "printed by this clone" in note and "hello" not in note
    assert str(11111**2) not in note and ".webp" in note  # values in the middle of a cell are not shown
    front = (site / "book" / "index.html").read_text()
    assert "<em>this clone</em>" in front and "Table 1" in front and "mathjax/startup.js" in front
    assert all((site / "_static" / "mathjax" / part).stat().st_size > 1000 for part in assets.MATHJAX)
    assert "thebe" not in front.lower() and "binder" not in front.lower() and "github" not in front.lower()
    assert '<meta property="og:image" content="../_static/preview.png">' in front
    assert front.count('name="description"') == 1 and not list(site.glob("_images/*.png"))
    download = nbformat.read(site / "_sources" / "notebooks" / "note.ipynb", as_version=4)
    assert download.cells[0].source == assets.FIRST_CELL and len(download.cells) == 3
    nbformat.validate(download)
    (icons,) = (site / "_static").glob(assets.ICONS)
    assert icons.stat().st_size < 150_000 and '"f0c9"' in icons.read_text()  # bars, of the menu
    assert len(list((folder / "_build" / ".jupyter_cache").iterdir())) == 1


# It ends when the other notebook has begun.
MEETS = """\
import time
from pathlib import Path
Path("{mine}").touch()
while not Path("{other}").exists():
    time.sleep(0.01)"""


def test_notebooks_are_executed_side_by_side_and_one_that_fails_is_left(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("JOBS", "2")
    codes = {name: MEETS.format(mine=name, other=other) for name, other in ("ab", "ba")} | {"c": "1 / 0"}
    pages = {name: tmp_path / f"{name}.ipynb" for name in codes}
    metadata = {"kernelspec": {"name": "of-a-reader", "display_name": "x"}}
    for name, code in codes.items():
        cells = [nbformat.v4.new_code_cell(code)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), pages[name])
    kept = str(tmp_path / "kept")
    app = SimpleNamespace(config=SimpleNamespace(nb_execution_cache_path=kept, nb_execution_timeout=300))
    env = SimpleNamespace(doc2path=lambda name: pages.get(name, tmp_path / "page.md"))
    mamlbook.execute_ahead(app, env, ["page", *pages])
    assert [mamlbook.is_cached(get_cache(kept), page) for page in pages.values()] == [True, True, False]
    config = NbParserConfig(execution_mode="cache", execution_cache_path=kept)
    with caplog.at_level("INFO"), create_client(mamlbook.read(pages["a"]), pages["a"], config, LOG):
        assert "Using cached notebook" in caplog.text


@pytest.mark.parametrize(
    ("answer", "mode", "executed"),
    [
        (None, "cache", [True, True, True]),
        ("yes", "cache", [True, True, True]),
        ("data", "cache", [True, True, False]),
        ("no", "off", [False, False, False]),
    ],
)
def test_committed_outputs_are_shown_when_asked_for(tmp_path, monkeypatch, answer, mode, executed):
    monkeypatch.setenv("JOBS", "2")
    monkeypatch.delenv("EXECUTE", raising=False)
    if answer:
        monkeypatch.setenv("EXECUTE", answer)
    config = SimpleNamespace(nb_execution_mode="cache", nb_execution_timeout=300)
    app = SimpleNamespace(outdir=str(tmp_path / "html"), srcdir=str(tmp_path), config=config)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    pages = {name: tmp_path / "notebooks" / f"{name}.ipynb" for name in "abc"}
    for name, page in pages.items():
        code = f"from pathlib import Path; Path('{name}.ran').touch()"
        asks = "\n0 and tasks.omniglot.available()" if name != "c" else ""
        nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code + asks)]), page)
    mamlbook.set_cache(app, config)
    assert config.nb_execution_mode == mode
    assert getattr(config, "nb_execution_excludepatterns", []) == (["c.ipynb"] if answer == "data" else [])
    mamlbook.execute_ahead(app, SimpleNamespace(doc2path=pages.get), [*pages])
    assert [page.with_suffix(".ran").exists() for page in pages.values()] == executed


def test_a_notebook_that_looks_for_data_says_so_where_the_build_looks():
    """With ``EXECUTE=data`` a chapter that finds a data set in another way would not be executed."""
    looks = re.compile(r"available|data_folders|MAMLKIT_DATA|(omniglot|mini_imagenet)\.load|except ")
    for page in sorted((ROOT / "notebooks").glob("*.ipynb")):
        code = "\n".join(c.source for c in mamlbook.read(page).cells if c.cell_type == "code")
        assert mamlbook.asks_for_data(page) or not looks.search(code), page.name


def test_another_answer_is_refused(monkeypatch):
    monkeypatch.setenv("EXECUTE", "0")
    with pytest.raises(ExtensionError, match="EXECUTE=0, but it must be yes, data or no"):
        mamlbook.which()


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A repository and a data folder, as small as can be, and libraries of which one needs another."""
    for name in (
        "repo/mamlkit/maml.py",
        "repo/mamlkit/tasks/split.csv",
        "repo/data/results/row.json",
        "sets/omniglot/a.zip",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("old")
    (tmp_path / "repo/data/cache").mkdir()
    extras = 'optional-dependencies = {book = ["ipykernel>=7"]}'
    (tmp_path / "repo/pyproject.toml").write_text(
        f'[project]\ndependencies = ["torch>=2", "mujoco"]\n{extras}\n'
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MAMLKIT_DATA", str(tmp_path / "sets"))
    monkeypatch.delenv("MAMLKIT_CACHE", raising=False)
    monkeypatch.setattr(places, "clone", lambda: tmp_path / "repo")
    monkeypatch.setattr(mamlbook, "device", lambda: "cpu")
    installed(monkeypatch)
    return tmp_path


def installed(monkeypatch, **others):
    """Let libraries be installed in version 1, or in others."""
    needs = {"torch": ["sympy (>=1)", "torch-onnx; extra == 'onnx'"], "sympy": ["torch"]}
    known = {"torch": "1", "mujoco": "1", "ipykernel": "1", "sympy": "1", "torch-onnx": "1"} | others
    monkeypatch.setattr(
        mamlbook, "distribution", lambda name: SimpleNamespace(version=known[name], requires=needs.get(name))
    )


@pytest.mark.parametrize(
    "path",
    ["repo/mamlkit/maml.py", "repo/mamlkit/tasks/split.csv", "repo/data/results/row.json",
     "repo/data/new.npz", "repo/book/films/ant.gif", "repo/book/_ext/surroundings.py",
     "sets/omniglot/a.zip", "sets/omniglot/halves/b.zip", "repo/data/cache/omniglot/c.zip"],
)  # fmt: skip
def test_cache_key_changes_with_a_file(project, path):
    before = mamlbook.digest(project / "repo")
    assert before == mamlbook.digest(project / "repo")
    (project / path).parent.mkdir(parents=True, exist_ok=True)
    (project / path).write_text("newer")
    assert before != mamlbook.digest(project / "repo")


@pytest.mark.parametrize(
    "path",
    ["repo/data/cache/drawn.npz", "repo/mamlkit/__pycache__/maml.pyc", "repo/runs/log.csv",
     "repo/data/.DS_Store", "repo/mamlkit/._maml.py", "repo/mamlkit/.maml.py.swp", "repo/mamlkit/maml.py~",
     "repo/data/results/row.json.tmp", "repo/mamlkit/.ipynb_checkpoints/maml.py",
     "sets/omniglot/.DS_Store", "sets/omniglot/._a.zip", "sets/.Trash/b.zip"],
)  # fmt: skip
def test_cache_key_ignores_what_notebooks_do_not_read(project, path):
    before = mamlbook.digest(project / "repo")
    (project / path).parent.mkdir(exist_ok=True)
    (project / path).write_text("newer")
    assert before == mamlbook.digest(project / "repo")


def test_cache_key_reads_the_data_folder_as_the_package_does(project, monkeypatch):
    (project / "link").symlink_to("sets")
    (project / "linked").mkdir()
    (project / "linked" / "omniglot").symlink_to("../sets/omniglot")
    (project / "sets" / "omniglot" / "more").symlink_to("../../other")
    (project / "sets" / "omniglot" / "itself").symlink_to("..")  # a circle
    (project / "other").mkdir()
    monkeypatch.chdir(project)
    places = [str(project / "sets"), "~/sets", f"  {project / 'sets'} ", "sets", "link", "linked"]
    keys = []
    for number in range(2):
        for path in ("sets/omniglot/a.zip", "other/b.zip"):
            (project / path).write_text(path * (number + len(keys)))
            for place in places:
                monkeypatch.setenv("MAMLKIT_DATA", place)
                keys.append(mamlbook.digest(project / "repo"))
    each_time = [keys[i : i + len(places)] for i in range(0, len(keys), len(places))]
    assert all(len(set(same_place[:4])) == 1 for same_place in each_time)  # four spellings of one folder
    assert all(len(set(over_time)) == len(each_time) for over_time in zip(*each_time, strict=True))


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
    for name in ("torch", "mujoco", "ipykernel", "sympy"):
        installed(monkeypatch, **{name: "2"})
        keys.append(mamlbook.digest(project / "repo"))
    assert len(set(keys)) == len(keys)
    before = keys[-1]
    installed(monkeypatch, sympy="2", **{"torch-onnx": "2"})  # which nobody asks for
    assert before == mamlbook.digest(project / "repo")


def test_cache_key_covers_what_the_package_and_the_notebooks_are_installed_with():
    found = {line.partition(" ")[0] for line in mamlbook.libraries(ROOT)}
    assert {"torch", "numba", "llvmlite", "mujoco", "gymnasium", "scipy", "safetensors"} <= found
    assert {"ipykernel", "ipython", "nbclient"} <= found


def test_device_is_the_cpu_when_the_gpu_is_hidden(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert mamlbook.device() == "cpu"
