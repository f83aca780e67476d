"""The CPU's compiled loops are kept, but never beyond a change of what they are made of, and need no place to
be kept."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import platformdirs
import pytest

import made_clone
from mamlkit.engine.kernels_cpu import loops

PACKAGE = Path(loops.__file__).parents[2]
PRODUCT = """
import torch
from mamlkit.engine import kernels_cpu
from mamlkit.models import Window
image, kernel = torch.ones(1, 1, 3, 3, 1), torch.arange(9.0)[:, None]
window = Window(size=3, channels=1, stride=1, before=1, after=1, out=3)
print(kernels_cpu.product(image, kernel, window).flatten().tolist())
print(sum(kernels_cpu.convolution._convolved.stats.cache_hits.values()))
"""
STRIPES = """
import numpy as np
from mamlkit.engine.kernels_cpu import loops, stripes
target = np.zeros((2, 1, 2))
stripes.stripes(np.arange(4.0).reshape(1, 4), target)
print(loops._Locator.folder, target.tolist())
"""
RIGHT = [24.0, 33.0, 20.0, 27.0, 36.0, 21.0, 12.0, 15.0, 8.0]


@pytest.fixture
def clone(tmp_path):
    """A package that holds what the loops need, to be changed."""
    shutil.copytree(
        PACKAGE / "engine" / "kernels_cpu",
        tmp_path / "mamlkit" / "engine" / "kernels_cpu",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    shutil.copytree(PACKAGE / "models", tmp_path / "mamlkit" / "models")
    for name in ("__init__.py", "maml.py", "engine/__init__.py"):
        shutil.copy(PACKAGE / name, tmp_path / "mamlkit" / name)
    return tmp_path


def run(clone, words, **settings):
    keep = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_") and k != "XDG_CACHE_HOME"}
    settings = {"PYTHONPATH": str(clone), "PYTHONDONTWRITEBYTECODE": "1"} | settings
    command = [sys.executable, "-c", words]
    done = subprocess.run(
        command, env=keep | settings, cwd=clone, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.strip()


def test_a_change_in_another_file_is_a_change_of_the_loop(clone):
    assert run(clone, PRODUCT) == f"{RIGHT}\n0"
    vectors, cache = (
        clone / "mamlkit" / "engine" / "kernels_cpu" / "vectors.py",
        clone / "mamlkit" / "engine" / "kernels_cpu" / "__pycache__",
    )
    (before,) = cache.glob("loops-*")
    source = vectors.read_text()
    forgetful = source.replace("builder.fadd(arguments[0], product,", "builder.fadd(product, product,")
    assert forgetful != source
    vectors.write_text(forgetful)
    found, hits = run(clone, PRODUCT).splitlines()
    assert found != str(RIGHT) and hits == "0"
    (after,) = cache.glob("loops-*")  # what was there before is gone
    assert after != before


def test_where_nothing_can_be_written_loops_are_compiled_all_the_same(clone):
    (clone / "mamlkit" / "engine" / "kernels_cpu" / "__pycache__").write_text(
        "a file where the folder should be"
    )
    assert run(clone, STRIPES, HOME="/dev/null") == "None [[[0.0, 1.0]], [[2.0, 3.0]]]"
    assert not (clone / "~").exists()


def test_somebody_without_a_home_has_loops_all_the_same(monkeypatch, tmp_path):
    monkeypatch.setattr(platformdirs, "user_cache_dir", made_clone.homeless)
    monkeypatch.setattr(loops, "HERE", tmp_path)
    assert loops._folder().parent == tmp_path / "__pycache__"
    monkeypatch.setattr(loops, "HERE", Path(os.devnull))
    assert loops._folder() is None


def test_the_folder_is_where_the_user_wants_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loops.numba.config, "CACHE_DIR", "kept")
    folder = loops._folder()
    assert folder.parents[1] == tmp_path / "kept" and folder.is_dir()
    old, other = (folder.with_name(name) for name in (folder.name[:-1] + "-", "loops-of-another-processor"))
    old.mkdir()
    other.mkdir()
    assert loops._folder() == folder and not old.exists() and other.exists()


@pytest.mark.parametrize("place", ["folder", "gone", "empty", "*.nbi", "*.nbc"])
def test_a_loop_works_whether_or_not_it_can_be_kept(place, tmp_path, monkeypatch):
    folder = tmp_path / "loops"
    monkeypatch.setattr(loops._Locator, "folder", folder)

    def add(x):
        return x + 1

    def compiled():
        loop = loops.loop(add)
        assert loop(np.float64(2.5)) == 3.5
        return sum(loop.stats.cache_hits.values())

    if place == "gone":
        folder.write_text("a file where the folder was")
    first = compiled()
    if place not in ("folder", "gone"):
        (damaged,) = folder.glob("*.nbi" if place == "empty" else place)
        damaged.write_bytes(b"" if place == "empty" else damaged.read_bytes()[:-40])
    assert [first, compiled()] == [0, 1 if place == "folder" else 0]
    assert compiled() == (0 if place == "gone" else 1)  # what was damaged is kept anew


def test_whether_loops_are_kept_is_known(tmp_path, monkeypatch):
    assert run(
        PACKAGE.parent, f"{PRODUCT}\nfrom mamlkit.engine.kernels_cpu import loops\nprint(loops.are_kept())"
    ).endswith("True")
    for folder in (tmp_path, None):
        monkeypatch.setattr(loops._Locator, "folder", folder)
        assert not loops.are_kept()
