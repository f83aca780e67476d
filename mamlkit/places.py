"""The folders of data sets and of what is computed from them. No torch here.

``MAMLKIT_DATA`` and ``MAMLKIT_CACHE`` are read by one rule: blanks around them do not count, ``~`` is
the user's home, and what comes out is an absolute path. A relative setting starts from the working
directory; where nothing of that name is there, from the clone's folder. (Notebooks run in a folder
of their own, so the working directory alone would give them other folders than the command line.)
"""

__all__ = ["cache_dir", "clone", "data_dir", "data_folders", "repository"]

import os
from pathlib import Path


def clone() -> Path | None:
    """The folder of the clone that holds this package; None where it was installed without one."""
    root = Path(__file__).resolve().parents[1]
    return root if (root / "pyproject.toml").is_file() else None


def cache_dir() -> Path:
    """The folder for what can be fetched or computed again; it need not exist yet.

    ``MAMLKIT_CACHE`` where it is set; else ``data/cache`` of the clone that holds the package; else
    (an installed package) the user's cache folder. Always an absolute path.

    Raises:
        FileNotFoundError: If ``MAMLKIT_CACHE`` starts with the home of a user who does not exist, or is
            needed because there is neither a clone nor a home.
    """
    setting = os.environ.get("MAMLKIT_CACHE", "").strip()
    if setting:
        return _absolute("MAMLKIT_CACHE", setting)
    if root := clone():
        return root / "data" / "cache"
    import platformdirs  # which a clone does not need, on a machine with PyTorch alone

    try:
        return Path(platformdirs.user_cache_dir("mamlkit")).expanduser().absolute()
    except RuntimeError as error:
        raise FileNotFoundError(
            "the user has no home folder for a cache; set MAMLKIT_CACHE to the path of one"
        ) from error


def data_dir() -> Path | None:
    """The user's folder of data sets, from ``MAMLKIT_DATA``, as an absolute path; None where there is none.

    Unset: None, and fetched data sets are looked for in the cache. ``none`` or the empty string:
    None, and the cache is not looked at either, so that everything runs as if there were no data.

    Raises:
        FileNotFoundError: If ``MAMLKIT_DATA`` names something that is not a folder.
    """
    setting = os.environ.get("MAMLKIT_DATA", "").strip()
    if setting.lower() in ("", "none"):
        return None
    folder = _absolute("MAMLKIT_DATA", setting)
    if not os.path.isdir(folder):
        raise FileNotFoundError(
            f"MAMLKIT_DATA={setting!r} is not a folder (a relative path starts from the working directory, "
            "else from the clone); set it to the folder that holds the data sets (omniglot/, ...), to "
            "'none' for no data set, or unset it"
        )
    return folder


def data_folders(name: str) -> list[Path]:
    """Where to look for the data set ``name``, in order: the user's folder, then the cache.

    Empty where ``MAMLKIT_DATA`` says that there is no data set. The folders need not exist.

    Raises:
        FileNotFoundError: If ``MAMLKIT_DATA`` names something that is not a folder.
    """
    folder = data_dir()
    if folder is None and "MAMLKIT_DATA" in os.environ:
        return []
    parents = [cache_dir()] if folder is None else [folder, cache_dir()]
    return [parent / name for parent in parents]


def repository() -> Path:
    """The clone this package runs from, where ``data/`` lies.

    Raises:
        FileNotFoundError: the package was installed without its repository, or a file of that is gone.
    """
    root = Path(__file__).resolve().parents[1]
    if not (root / "data" / "published.csv").exists():
        if (root / ".git").exists():
            raise FileNotFoundError(f"{root / 'data' / 'published.csv'} is missing; restore it from git")
        raise FileNotFoundError(
            "the committed results and the test goals lie in the repository's data/ folder, "
            "and this mamlkit was installed "
            "without it; clone the repository and run from there: pip install -e ."
        )
    return root


def _absolute(variable: str, setting: str) -> Path:
    """The path that a setting means, by the rule at the top of this file."""
    try:
        path = Path(setting).expanduser()
    except RuntimeError as error:  # there is no such user
        raise FileNotFoundError(f"{variable}={setting!r}: {error}; give the path of a folder") from error
    here, root = path.absolute(), clone()
    if root is None or os.path.exists(here):
        return here
    return root / path  # path itself, where that is absolute
