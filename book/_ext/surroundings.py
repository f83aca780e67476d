"""What the book, its notebooks and the tests run in: this clone's package, and nobody's personal settings.

``mamlbook.py`` (the book), ``refresh.py`` (the twins) and ``conftest.py`` (the tests) begin with
:func:`settle`.
"""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Seconds for a cell, a kernel's start, a message. A cell takes half a minute at most on a quiet machine:
# these stop what hangs, on a machine many times slower too, and judge nothing else.
CELL_TIMEOUT, START_TIMEOUT, MESSAGE_TIMEOUT = 1800, 600, 60


def use_this_clone() -> None:
    """Make ``import mamlkit`` mean the package of this clone, here and in every process started from here.

    What is installed may be another one: a copied ``.venv`` points to the clone that it was made for, and an
    environment that several clones share to the last one that was installed.

    Raises:
        ImportError: If the package of another clone was imported already.
    """
    first = str(ROOT)
    sys.path[:] = [first, *(p for p in sys.path if p != first)]
    others = [os.path.abspath(p) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    os.environ["PYTHONPATH"] = os.pathsep.join([first, *(p for p in others if p != first)])
    import mamlkit

    found = Path(mamlkit.__file__).resolve().parent
    if found != ROOT / "mamlkit":
        raise ImportError(
            f"mamlkit was imported from {found}, but this is the clone {ROOT}; start from a fresh Python, in "
            "which nothing has imported mamlkit yet (`make` in this clone does)"
        )


@cache
def own_folder() -> Path:
    """A folder for the settings of this process's kernels; it goes when the process ends."""
    folder = tempfile.mkdtemp(prefix="mamlkit-notebooks-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@cache
def settings() -> dict[str, str]:
    """The environment in which a notebook looks the same for everybody; made once in a process.

    Each entry takes the place of what a user may have set, by a variable or by a file in the home folder,
    which need not be writable, nor there at all.
    """
    from ipykernel.kernelspec import write_kernel_spec

    folder = own_folder()
    write_kernel_spec(folder / "share" / "kernels" / "python3")  # found before a user's of that name
    found = {
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_DATA_DIR": str(folder / "share"),
        "JUPYTER_PATH": str(folder / "share"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "MATPLOTLIBRC": str(Path(find_spec("matplotlib").origin).parent / "mpl-data" / "matplotlibrc"),
        "MPLBACKEND": "",  # as if unset: a kernel takes the inline one
        "MPLCONFIGDIR": str(folder / "matplotlib"),
        "PYTHONSTARTUP": "",
        "PYTHONUTF8": "1",  # whatever the locale
        "PYTHONWARNINGS": "",
    }
    # Matplotlib lists the fonts once, and says so on stderr where that takes long: so before any notebook.
    listing = [sys.executable, "-c", "import matplotlib.font_manager"]
    subprocess.run(listing, env={**os.environ, **found}, capture_output=True, check=True)
    return found


def settle() -> None:
    """Bring this process, and all that it starts, into the surroundings of the book.

    Folders of data are made absolute: notebooks run in another working directory.

    Raises:
        ImportError: If the package of another clone was imported already.
        FileNotFoundError: If ``MAMLKIT_DATA`` or ``MAMLKIT_CACHE`` cannot be a folder.
    """
    use_this_clone()
    from mamlkit import places

    if data := places.data_dir():
        os.environ["MAMLKIT_DATA"] = str(data)
    if os.environ.get("MAMLKIT_CACHE", "").strip():
        os.environ["MAMLKIT_CACHE"] = str(places.cache_dir())
    os.environ.update(settings())
