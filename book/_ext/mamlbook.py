"""Sphinx extension of the book: an honest execution cache, local mathematics, text made by the package."""

import hashlib
import importlib
import os
import platform
import shutil
import sys
from importlib.metadata import distribution, version
from pathlib import Path

from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

LIBRARIES = ("torch", "numpy", "pandas", "matplotlib")


def device() -> str:
    """Where the notebooks will compute: ``cuda`` or ``cpu``."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "" or version("torch").endswith("+cpu"):
        return "cpu"  # known without importing torch
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def source_files(root: Path) -> list[Path]:
    """Files whose contents the notebooks depend on: the package and ``data/``, without ``data/cache/``."""
    files = [p for folder in ("mamlkit", "data") for p in (root / folder).rglob("*") if p.is_file()]
    cache = root / "data" / "cache"
    return sorted(p for p in files if cache not in p.parents and "__pycache__" not in p.parts)


def data_identity(root: Path) -> list[str]:
    """Names, sizes and times of the files of the data sets: reading gigabytes at each build would take too long.

    A data set is a folder. Files directly in the package's cache are computed, by notebooks among others.
    """
    setting = os.environ.get("MAMLKIT_DATA")
    cache = Path(os.environ.get("MAMLKIT_CACHE") or root / "data" / "cache")
    folders = [] if setting in ("", "none") else [cache] if setting is None else [Path(setting), cache]
    files = [p for folder in folders for p in sorted(folder.glob("*/**/*")) if p.is_file()]
    stats = [f"{p} {p.stat().st_size} {p.stat().st_mtime_ns}" for p in files]
    return [f"MAMLKIT_DATA={setting}", *stats]


def digest(root: Path) -> str:
    """Key of the execution cache: it changes whenever an executed notebook could come out different."""
    facts = [f"python {platform.python_version()}", f"device {device()}"]
    facts += [f"{name} {version(name)}" for name in LIBRARIES]
    facts += data_identity(root)
    facts += [f"{p.relative_to(root)} {hashlib.sha256(p.read_bytes()).hexdigest()}" for p in source_files(root)]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:20]


def set_cache(app, config) -> None:
    """MyST-NB looks at the code of a notebook only; a folder per digest adds everything else."""
    config.nb_execution_cache_path = str(Path(app.outdir).parent / ".jupyter_cache" / digest(Path(app.srcdir)))


def copy_mathjax(app, exception) -> None:
    """Copy the one MathJax file that needs no other (fonts included), so pages read without a network."""
    if exception or app.builder.format != "html":
        return
    target = Path(app.outdir) / "_static" / app.config.mathjax_path
    for file in distribution("sphinx-mathjax-offline").files or []:
        if file.name == target.name:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file.locate(), target)
            return
    raise ExtensionError(f"sphinx-mathjax-offline does not hold {target.name}")


class FromPackage(SphinxDirective):
    """``{from-package} mamlkit.results:function`` puts the Markdown which that function returns in its place."""

    required_arguments = 1
    final_argument_whitespace = False

    def run(self):
        module, _, name = self.arguments[0].partition(":")
        self.env.note_reread()
        try:
            text = getattr(importlib.import_module(module), name)()
        except Exception as error:
            place = f"{self.env.docname}, line {self.lineno}"
            raise ExtensionError(f"{place}: {{from-package}} {self.arguments[0]}: {error!r}") from error
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def keep_colons(app, what, name, obj, options, lines) -> None:
    """Keep napoleon from reading ``Features: a point ...``, the docstring of a property, as type and description."""
    if what in ("attribute", "data", "property"):
        lines[:0] = ["..", ""]  # an empty comment goes first


def skip_tuple_fields(app, what, name, obj, skip, options) -> bool | None:
    """Leave out the fields of named tuples, "Alias for field number 0"; the class's docstring describes them."""
    return True if str(obj.__doc__).startswith("Alias for field number") else None


def accept_constant(app, env, node, contnode):
    """A constant has no entry of its own on the API page: a reference to one that exists is plain text."""
    module, _, name = node.get("reftarget", "").rpartition(".")
    module = sys.modules.get(module or node.get("py:module"))
    return contnode if node.get("reftype") == "data" and hasattr(module, name) else None


def setup(app):
    """Register the parts above."""
    app.connect("config-inited", set_cache, priority=100)
    app.connect("build-finished", copy_mathjax)
    app.connect("autodoc-process-docstring", keep_colons, priority=400)
    app.connect("autodoc-skip-member", skip_tuple_fields)
    app.connect("missing-reference", accept_constant)
    app.add_directive("from-package", FromPackage)
    return {"parallel_read_safe": True}
