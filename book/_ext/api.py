"""The sections of the API page: one for every module of the package, in the order of the page's table."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def modules() -> list[str]:
    """Dotted names of all modules: in the order of the table of ``book/api.md``, a package first."""
    table = re.findall(r"^\| (`\w+.*?) \|", (ROOT / "book" / "api.md").read_text(encoding="utf-8"), re.M)
    rooms = [room for cell in table for room in re.findall(r"`(\w+)`", cell)]
    paths = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "mamlkit").rglob("[!.]*.py")]
    found = [".".join(path.parts).removesuffix(".__init__") for path in paths]
    shown = [name for name in found if name not in ("mamlkit", "mamlkit.__main__")]
    return sorted(shown, key=lambda name: (rooms.index(name.split(".")[1]), name))


def sections() -> str:
    """A heading and the docstrings of each module."""
    parts = [
        f"## `{name}`\n\n```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n```\n" for name in modules()
    ]
    return "\n".join(parts)
