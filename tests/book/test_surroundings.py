"""Twins, notebook tests and commands take this clone's package and their own settings, not a user's."""

import ast
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import nbformat
import pytest
import surroundings

import made_clone
import mamlkit

ROOT = Path(__file__).parents[2]
NOTE = """\
# %%
import matplotlib.pyplot as plt
import numpy as np

import mamlkit

print(mamlkit.SAID, open("ä.txt").read())
1 + 1
plt.rcParams["axes.facecolor"]

# %%
fig, ax = plt.subplots(figsize=(2, 1))
ax.plot([0, 1], [0, 1])
plt.show()
"""


def python(*arguments, folder, env, check=True):
    """Run Python and return what it printed."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0 or not check, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    folder = made_clone.clone(tmp_path_factory.mktemp("clone") / made_clone.NAME)
    (folder / "notebooks" / "00-note.py").write_text(NOTE, encoding="utf-8")
    (folder / "notebooks" / "ä.txt").write_text("ö", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    """A difficult user whose environment also holds another clone."""
    folder = tmp_path_factory.mktemp("user")
    return made_clone.difficult(folder) | made_clone.foreign(folder)


@pytest.fixture(scope="module")
def twin(clone, user):
    """The twin as it comes out for that user."""
    python("book/_ext/refresh.py", "notebooks/00-note.py", folder=clone, env=user)
    return (clone / "notebooks" / "00-note.ipynb").read_bytes()


def test_a_twin_is_the_same_for_everybody(clone, twin, tmp_path):
    nobody = made_clone.nobody(tmp_path)
    python("book/_ext/refresh.py", "--force", "notebooks/00-note.py", folder=clone, env=nobody)
    assert (clone / "notebooks" / "00-note.ipynb").read_bytes() == twin
    first, second = nbformat.reads(twin.decode(), as_version=4).cells
    printed, value = first.outputs
    assert printed.text == "this clone ö\n" and value.data["text/plain"] == "'white'"
    assert list(second.outputs[0].data) == ["image/png", "text/plain"]


def test_notebooks_pass_their_test_for_everybody_and_junk_beside_them_is_ignored(clone, twin, user):
    junk = clone / "notebooks" / "._00-note.ipynb"
    junk.write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X")
    (clone / "tests" / "._test_note.py").write_bytes(junk.read_bytes())
    assert "2 passed" in python("-m", "pytest", "--nbval", "notebooks", "tests", folder=clone, env=user)


def test_a_cell_that_runs_out_of_time_is_too_slow_and_not_wrong(clone):
    cells = [nbformat.v4.new_code_cell("import time; time.sleep(600)", execution_count=1)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), clone / "slow.ipynb")
    # in a process of its own, as `make test` has it: the mark goes from there to here
    command = ["-m", "pytest", "-n", "1", "--nbval", "--nbval-cell-timeout=1", "slow.ipynb"]
    printed = python(*command, folder=clone, env=os.environ, check=False)
    assert "1 too slow" in printed and "slow.ipynb::Cell 0 did not end in 1 s" in printed
    assert "failed" not in printed


def test_the_package_of_another_clone_is_refused(monkeypatch, tmp_path):
    other = types.SimpleNamespace(__file__=str(tmp_path / "mamlkit" / "__init__.py"))
    monkeypatch.setitem(sys.modules, "mamlkit", other)
    with pytest.raises(ImportError) as caught:
        surroundings.use_this_clone()
    assert f"imported from {tmp_path}/mamlkit, but this is the clone {ROOT};" in str(caught.value)


def test_the_package_under_test_is_this_clones():
    assert Path(mamlkit.__file__).parents[1] == ROOT
    printed = python("-c", "import mamlkit; print(mamlkit.__file__)", folder="/", env=os.environ)
    assert Path(printed.strip()) == ROOT / "mamlkit" / "__init__.py"


@pytest.mark.parametrize("script", ["benchmarks/problems.py", "book/films.py"])
def test_scripts_take_the_package_of_their_own_clone(clone, user, script):
    (clone / script).parent.mkdir(exist_ok=True)
    start, found, _ = (ROOT / script).read_text().partition("surroundings.use_this_clone()")
    assert found and "mamlkit import" not in start
    (clone / script).write_text(start + found + "\nimport mamlkit\nprint(mamlkit.SAID)\n")
    assert python(script, folder=clone, env=user) == "this clone\n"


def imported(script: str) -> list[str]:
    """The modules that a benchmark imports, in its order, with those that its own neighbours import."""
    names = []
    for line in ast.parse((ROOT / "benchmarks" / script).read_text()).body:
        if isinstance(line, ast.Import):
            names += [name.name.split(".")[0] for name in line.names]
        elif isinstance(line, ast.ImportFrom):
            names.append(str(line.module).split(".")[0])
    found = []
    for name in names:
        if (ROOT / "benchmarks" / f"{name}.py").exists():
            found += imported(f"{name}.py")
        found.append(name)
    return found


SCRIPTS = [path.name for path in (ROOT / "benchmarks").glob("*.py") if "__main__" in path.read_text()]


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_benchmarks_take_the_package_of_their_clone(script):
    """What is run imports surroundings.py, by way of problems.py or another, before the package."""
    names = imported(script)
    assert "mamlkit" not in names or names.index("surroundings") < names.index("mamlkit")


def test_folders_in_the_environment_become_absolute(monkeypatch, tmp_path):
    for name in ("sets", "cache"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MAMLKIT_DATA", " sets ")
    monkeypatch.setenv("MAMLKIT_CACHE", "cache")
    monkeypatch.setenv("PYTHONPATH", "here")
    surroundings.settle()
    assert os.environ["MAMLKIT_DATA"] == str(tmp_path / "sets")
    assert os.environ["MAMLKIT_CACHE"] == str(tmp_path / "cache")
    assert os.environ["PYTHONPATH"].split(os.pathsep) == [str(ROOT), str(tmp_path / "here")]


@pytest.mark.parametrize("setting", ["", "none", None])
def test_no_data_stays_no_data(monkeypatch, setting):
    monkeypatch.delenv("MAMLKIT_DATA", raising=False)
    if setting is not None:
        monkeypatch.setenv("MAMLKIT_DATA", setting)
    surroundings.settle()
    assert os.environ.get("MAMLKIT_DATA") == setting


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not there")
@pytest.mark.parametrize(("at", "installs"), [("here", False), ("elsewhere", True), (None, True)])
def test_make_installs_again_in_a_clone_that_was_copied(tmp_path, at, installs):
    folder = made_clone.clone(tmp_path / made_clone.NAME)
    stamp = folder / ".venv" / ".installed"
    stamp.parent.mkdir()
    if at:
        stamp.write_text(f"{folder if at == 'here' else tmp_path}\n", encoding="utf-8")
    make = subprocess.run(["make", "-n", "book"], cwd=folder, capture_output=True, text=True, check=True)
    planned = make.stdout
    assert ("pip install" in planned) == installs
    assert "pwd -P > .venv/.installed" in planned or not installs
    scripts = [line for line in planned.splitlines() if line.startswith(".venv/bin/")]
    assert scripts and all(line.startswith(".venv/bin/python ") for line in scripts)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not there")
def test_what_make_starts_reads_and_writes_utf_8(tmp_path):
    folder = made_clone.clone(tmp_path / made_clone.NAME)
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / ".installed").write_text(f"{folder}\n", encoding="utf-8")
    (folder / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (folder / "mamlkit" / "__main__.py").write_text("import sys\nprint(sys.flags.utf8_mode)\n")
    nobody = made_clone.nobody(tmp_path)
    done = subprocess.run(
        ["make", "--silent", "paper"], cwd=folder, env=nobody, capture_output=True, check=True
    )
    assert done.stdout == b"1\n"


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not there")
def test_scripts_keep_their_line_ends_in_a_clone_made_for_windows(tmp_path):
    folder = made_clone.clone(tmp_path / "one")
    command = ["git", "-c", "user.name=x", "-c", "user.email=x@x"]
    git = lambda *words: subprocess.run([*command, *words], cwd=tmp_path, check=True)
    for words in (["init", "-q", "one"], ["-C", "one", "add", "."], ["-C", "one", "commit", "-q", "-m", "x"]):
        git(*words)
    git("-c", "core.autocrlf=true", "clone", "-q", "one", "two")
    assert (tmp_path / "two" / ".ci" / "run").read_bytes() == (folder / ".ci" / "run").read_bytes()
    assert b"\r" not in (tmp_path / "two" / ".ci" / "run").read_bytes()
