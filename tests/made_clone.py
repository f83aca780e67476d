"""A clone as small as can be, with the real configuration of book and tests; and two difficult users."""

import os
import shutil
from pathlib import Path

ROOT = Path(__file__).parents[1]
PARTS = ["book/_ext", "book/_static", "book/references.bib", "mamlkit/places.py", "tests/nbval_sanitize.cfg"]
PARTS += ["conftest.py", "_config.yml", "pyproject.toml", "constraints.txt", "Makefile"]
PARTS += [".gitattributes", ".ci"]

NAME = "Bücher über MAML (neu) it's 100%20b?c#d"  # of a folder, odd in every way that somebody's may be
NAMELESS = """\
import pwd

def getpwuid(number):
    raise KeyError(number)

pwd.getpwuid = getpwuid
"""


def clone(folder, said="this clone"):
    """Write a clone whose package is little more than its folders and a word: ``mamlkit.SAID``."""
    for part in PARTS:
        (folder / part).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, folder / part)
    (folder / "mamlkit" / "__init__.py").write_text(f'"""A package."""\n\nSAID = {said!r}\n')
    (folder / "notebooks").mkdir()
    return folder


def whole_package(folder):
    """Copy the package with what is compiled of its loops already, which takes half a minute to do anew."""

    def left_out(place, names):
        if Path(place).name == "__pycache__":
            return [name for name in names if not name.startswith("loops-")]
        if Path(place).name == "kernels_cpu":
            return []
        return [name for name in names if name == "__pycache__" or ".tmp." in name]  # half written

    shutil.copytree(ROOT / "mamlkit", folder / "mamlkit", ignore=left_out)


def tests(folder):
    """Give a copy of the package the tests and what they need; not the page's, which make such copies."""
    left_out = shutil.ignore_patterns("__pycache__", "test_page.py")
    for part in ("tests", "book/_ext"):
        shutil.copytree(ROOT / part, folder / part, ignore=left_out)
    for part in (
        "conftest.py",
        "pyproject.toml",
        "book/how-to.md",
        "book/references.bib",
        "data/published.csv",
        "data/published_goals.csv",
    ):
        (folder / part).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / part, folder / part)
    (folder / "notebooks").mkdir()
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        (folder / "notebooks" / path.name).touch()  # only their names are asked for


def foreign(folder):
    """The environment of a user whose Python finds the package of another clone first."""
    other = clone(folder / "other", said="another clone")
    return {**os.environ, "PYTHONPATH": str(other), "MAMLKIT_DATA": "none", "CUDA_VISIBLE_DEVICES": ""}


def difficult(folder):
    """Settings that each change what a notebook shows, and no home to write to."""
    kernel = '{"argv": ["/nowhere/python"], "display_name": "x", "language": "python"}'
    configuration = """\
c.InteractiveShell.ast_node_interactivity = 'all'
c.InlineBackend.figure_formats = {'svg'}
"""
    files = {
        "matplotlibrc": "axes.facecolor: black\ntext.usetex: True\nbackend: svg\n",
        "ipython/profile_default/ipython_kernel_config.py": configuration,
        "ipython/profile_default/startup/00-hello.py": "print('hello from a profile')\n",
        "jupyter/kernels/python3/kernel.json": kernel,
        "hello.py": "print('hello from PYTHONSTARTUP')\n",
        "home": "not a folder, so nobody can write below it, not even root\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    gone = {"MPLCONFIGDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"}
    return {
        **{k: v for k, v in os.environ.items() if k not in gone},
        "HOME": str(folder / "home"),
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_PATH": str(folder / "jupyter"),
        "JUPYTER_DATA_DIR": str(folder / "jupyter"),
        "MATPLOTLIBRC": str(folder / "matplotlibrc"),
        "MPLBACKEND": "Agg",
        "PYTHONSTARTUP": str(folder / "hello.py"),
        "PYTHONWARNINGS": "always",
    }


def nobody(folder):
    """The environment of a user without home and name, as in a container, and in a locale that is not UTF-8.

    Python takes the locale C for UTF-8 unless it is told not to; others, which need not be installed here, it
    does not.
    """
    (folder / "sitecustomize.py").write_text(NAMELESS)
    locale = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(folder), **locale}


def homeless(application):
    """What ``platformdirs.user_cache_dir`` does where there is no home."""
    raise RuntimeError(f"no home for {application}")
