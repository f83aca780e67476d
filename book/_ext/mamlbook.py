"""Sphinx extension of the book: an honest execution cache, and text made by the package."""

import hashlib
import importlib
import multiprocessing
import os
import platform
import re
import sys
import tomllib
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import address
import assets
import captions
import nbformat
import surroundings
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.cache import db
from jupyter_cache.cache.main import JupyterCacheBase
from jupyter_cache.executors.utils import ExecutionResult, single_nb_execution
from nbformat import NotebookNode
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sqlalchemy import URL, create_engine

LOG = logging.getLogger(__name__)
# What editors, desktops and interrupted programs leave beside files; nothing reads it.
JUNK = re.compile(r"\..*|__pycache__|.*~|.*\.(tmp|swp|part)")
READ = ("mamlkit", "data", "book/films", "book/_ext/surroundings.py", "_toc.yml")  # by notebooks


def device() -> str:
    """Where the notebooks will compute: ``cuda`` or ``cpu``."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "" or distribution("torch").version.endswith("+cpu"):
        return "cpu"  # known without importing torch
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def libraries(root: Path) -> list[str]:
    """Names and versions of what ``pyproject.toml`` asks for, and of what that needs in turn."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    todo = project["dependencies"] + project["optional-dependencies"]["book"]
    found = {}
    while todo:
        requirement = Requirement(todo.pop())
        name = canonicalize_name(requirement.name)
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        try:
            found[name] = distribution(name).version
            todo += distribution(name).requires or []
        except PackageNotFoundError:
            found[name] = "missing"
    return [f"{name} {version}" for name, version in sorted(found.items())]


def files(path: Path) -> list[Path]:
    """The file itself, or the files below a folder, through links too, without junk; sorted."""
    if path.is_file():
        return [path]
    found, seen = [], set()
    for place, folders, names in os.walk(path, followlinks=True):
        if os.path.realpath(place) in seen:  # a link may lead to a folder that it lies in
            folders.clear()
            continue
        seen.add(os.path.realpath(place))
        folders[:] = [name for name in folders if not JUNK.fullmatch(name)]
        found += [Path(place, name) for name in names if not JUNK.fullmatch(name)]
    return sorted(p for p in found if p.is_file())


def source_files(root: Path) -> list[Path]:
    """Files of the clone whose contents notebooks depend on.

    Not ``data/cache/``: it has what can be fetched or computed again.
    """
    cache = root / "data" / "cache"
    return [p for name in READ for p in files(root / name) if cache not in p.parents]


def data_identity() -> list[str]:
    """Places of the data sets; names, sizes and times of their files, since reading gigabytes takes long.

    A data set is a folder. Files directly in the package's cache are computed, by notebooks among others.
    """
    from mamlkit.places import data_folders  # not above: the package is imported after `settle`

    places = data_folders("")  # where the package would look for the folder of any data set
    sets = [p for place in places if place.is_dir() for p in sorted(place.iterdir()) if p.is_dir()]
    stats = [(p, p.stat()) for folder in sets if not JUNK.fullmatch(folder.name) for p in files(folder)]
    found = [f"data sets in {place}" for place in places]
    return found + [f"{p} {s.st_size} {s.st_mtime_ns}" for p, s in stats]


def digest(root: Path) -> str:
    """Key of the execution cache: it changes whenever an executed notebook could come out different."""
    facts = [f"python {platform.python_version()}", f"device {device()}", *libraries(root), *data_identity()]
    for path in source_files(root):
        facts.append(f"{path.relative_to(root)} {hashlib.sha256(path.read_bytes()).hexdigest()}")
    return hashlib.sha256("\n".join(facts).encode(errors="surrogateescape")).hexdigest()[:20]


def set_cache(app, config) -> None:
    """MyST-NB looks at the code of a notebook only; a folder per digest adds everything else.

    jupyter-cache writes the folder into a URL as it is, where ``%20`` or ``?`` would mean something.
    """
    literal = lambda url: URL.create("sqlite", database=url.removeprefix("sqlite:///"))
    db.create_engine = lambda url: create_engine(literal(url))
    folder = Path(app.outdir).parent / ".jupyter_cache" / digest(Path(app.srcdir))
    config.nb_execution_cache_path = str(folder)
    if which() == "no":
        config.nb_execution_mode = "off"
    if which() == "data":
        notebooks = Path(app.srcdir, "notebooks").glob("*.ipynb")
        config.nb_execution_excludepatterns = [page.name for page in notebooks if not asks_for_data(page)]


def which() -> str:
    """The notebooks that are executed: all (yes), those that ask for a data set, or none (``EXECUTE=no``).

    Of the others the committed outputs are shown, which ``make test`` compares with an execution.
    """
    answer = os.environ.get("EXECUTE", "yes")
    if answer not in ("yes", "data", "no"):
        raise ExtensionError(f"EXECUTE={answer}, but it must be yes, data or no")
    return answer


def asks_for_data(page: Path) -> bool:
    """Whether what a notebook computes depends on which data sets are there."""
    return any(cell.cell_type == "code" and ".available()" in cell.source for cell in read(page).cells)


def execute_ahead(app, env, docnames) -> None:
    """Execute what the cache lacks, two notebooks at a time (``JOBS``); MyST-NB would take one after another.

    One that fails is left to MyST-NB, which executes it again and says what is wrong.
    """
    if which() == "no":
        return
    cache = get_cache(app.config.nb_execution_cache_path)
    pages = [page for name in docnames if (page := Path(env.doc2path(name))).suffix == ".ipynb"]
    if which() == "data":
        pages = [page for page in pages if asks_for_data(page)]
    lacking = [page for page in pages if not is_cached(cache, page)]
    lacking.sort(key=lambda page: page.stat().st_size, reverse=True)  # roughly, the longest first
    jobs = min(int(os.environ.get("JOBS", 2)), len(lacking))
    if jobs < 2:
        return
    todo = [(page, app.config.nb_execution_timeout) for page in lacking]
    with multiprocessing.Pool(jobs) as pool:
        for page, done in zip(lacking, pool.imap(execute, todo)):
            if done:
                LOG.info("executed %s in %.0f s", page.name, done.time)
                bundle = CacheBundleIn(done.nb, str(page), data={"execution_seconds": done.time})
                cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)


def read(page: Path) -> NotebookNode:
    """A notebook as MyST-NB sees it: captions are their figures' own, and the kernel is ours, whichever a
    reader's JupyterLab has saved."""
    notebook = captions.taken_in(nbformat.read(page, as_version=4))
    if "kernelspec" in notebook.metadata:
        notebook.metadata.kernelspec["name"] = "python3"
    return notebook


def is_cached(cache: JupyterCacheBase, page: Path) -> bool:
    """Whether these cells were executed before."""
    try:
        return bool(cache.match_cache_notebook(read(page)))
    except KeyError:
        return False


def execute(todo: tuple[Path, int]) -> ExecutionResult | None:
    """Execute a notebook, with so many seconds for a cell; None if it fails."""
    page, timeout = todo
    with suppress(Exception):  # whatever it is, the same will happen to MyST-NB
        done = single_nb_execution(read(page), cwd=str(page.parent), timeout=timeout, allow_errors=False)
        return None if done.err else done


class FromPackage(SphinxDirective):
    """``{from-package} mamlkit.report.results:function``: the Markdown that the function returns."""

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
    """Keep napoleon from reading a property's ``Features: a point ...`` as type and description."""
    if what in ("attribute", "data", "property"):
        lines[:0] = ["..", ""]  # an empty comment goes first


def skip_tuple_fields(app, what, name, obj, skip, options) -> bool | None:
    """Leave out the fields of named tuples, "Alias for field number 0": the class's docstring has them."""
    return True if str(obj.__doc__).startswith("Alias for field number") else None


def accept_constant(app, env, node, contnode):
    """A constant has no entry of its own on the API page: a reference to one that exists is plain text."""
    module, _, name = node.get("reftarget", "").rpartition(".")
    module = sys.modules.get(module or node.get("py:module"))
    return contnode if node.get("reftype") == "data" and hasattr(module, name) else None


def setup(app):
    """Register the parts above; nothing of the package is imported before, so that it is this clone's."""
    surroundings.settle()
    app.connect("config-inited", set_cache, priority=100)
    app.connect("config-inited", address.show_repository)
    app.connect("html-page-context", address.add_preview)
    app.connect("env-before-read-docs", execute_ahead)
    app.connect("source-read", captions.take_in)
    app.connect("build-finished", assets.finish)
    app.connect("autodoc-process-docstring", keep_colons, priority=400)
    app.connect("autodoc-skip-member", skip_tuple_fields)
    app.connect("missing-reference", accept_constant)
    app.add_directive("from-package", FromPackage)
    return {"parallel_read_safe": True}
