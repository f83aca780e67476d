"""What pages load: mathematics and icons that work without a network, also from files, and nothing unused."""

import json
import re
import shutil
from importlib.metadata import distribution
from pathlib import Path

import pictures
from sphinx.errors import ExtensionError

# MathJax's parts that ``mathjax3_config`` loads; the whole has a menu of 0.4 MB besides. SVG, since not every
# browser loads the fonts of a page that was opened as a file.
MATHJAX = ("startup.js", "core.js", "input/tex-base.js", "output/svg.js", "output/svg/fonts/tex.js")
MATHJAX += ("a11y/assistive-mml.js",)
# Of TeX, what the pages use: all of it is twice as large. Another command shows up in red.
MATHJAX += tuple(
    f"input/tex/extensions/{name}.js"
    for name in ("ams", "boldsymbol", "configmacros", "newcommand", "noundefined")
)

# What the theme and jupyter-book put on every page, and none of these pages uses: the icons a second time, as
# fonts, and a way to run cells on a public server, which is set up twice.
UNUSED = re.compile(
    r"""<link[^>]*/fontawesome/[^>]*>
    |<script>const\ THEBE_JS_URL.*?</script>
    |<script[^>]*sphinx-thebe\.js[^>]*></script>
    |<link[^>]*sphinx-thebe\.css[^>]*>
    |<script\ type="text/x-thebe-config">.*?</script>
    |<script>kernelName\ =.*?</script>""",
    re.S | re.X,
)
# Style and script of cards, tabs and dropdowns, and by what a page is known that has any.
CARDS = re.compile(r'class="[^"]*\bsd-')
CARDS_STYLE = re.compile(r"<link[^>]*/sphinx-design[^>]*>|<script[^>]*/design-tabs\.js[^>]*></script>")
UNUSED_FILES = ("sphinx-thebe.*", "vendor/fontawesome/*/css/*", "vendor/fontawesome/*/webfonts/*")
ICONS = "vendor/fontawesome/*/js/all.min.js"
# In that file: name, size, other names, code, one path or two.
ICON = re.compile(r'"?([\w-]+)"?:\[\d+,\d+,\[[^\]]*\],"[0-9a-f]+",(?:"[^"]*"|\[[^\]]*\])\],?')


# The first cell of a notebook that a reader downloads from its page.
FIRST_CELL = """\
This chapter comes from the book *Reproducing MAML* and runs its package, `mamlkit`.

In a clone of the book's repository, `make lab` installs everything and opens JupyterLab; there this chapter
lies in `notebooks/`. In an environment of your own, `pip install -e .` in the clone installs the package;
it needs Python 3.11 to 3.13."""


def finish(app, exception) -> None:
    """After a build: copy MathJax's parts, then take from the site what no page uses."""
    if exception or app.builder.format != "html":
        return
    site = Path(app.outdir)
    copy_mathjax(site / "_static" / "mathjax")
    for page in site.rglob("*.html"):
        text = UNUSED.sub("", page.read_text(encoding="utf-8"))
        if not CARDS.search(text):
            text = CARDS_STYLE.sub("", text)
        page.write_text(text, encoding="utf-8")
    for pattern in UNUSED_FILES:
        for file in (site / "_static").glob(pattern):
            file.unlink()
    keep_icons(site)
    pictures.finish(site)
    for notebook in site.glob("_sources/**/*.ipynb"):
        introduce(notebook)


def introduce(path: Path) -> None:
    """Put :data:`FIRST_CELL` before a notebook's own cells."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cell = {"cell_type": "markdown", "id": "how-to-run", "metadata": {}, "source": FIRST_CELL}
    notebook["cells"].insert(0, cell)
    path.write_text(json.dumps(notebook, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def copy_mathjax(folder: Path) -> None:
    """The parts of MathJax, at their places below a folder."""
    for file in distribution("sphinx-mathjax-offline").files or []:
        part = file.as_posix().partition("/mathjax/")[2]
        if part in MATHJAX:
            (folder / part).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file.locate(), folder / part)
    if lacking := [part for part in MATHJAX if not (folder / part).exists()]:
        raise ExtensionError(f"sphinx-mathjax-offline does not hold {', '.join(lacking)}")


def keep_icons(site: Path) -> None:
    """Of the theme's two thousand icons those that a page or a script names."""
    texts = [*site.rglob("*.html"), *(site / "_static" / "scripts").glob("*.js")]
    named = set(re.findall(r"\bfa-([\w-]+)", "".join(file.read_text(encoding="utf-8") for file in texts)))

    def kept(icon: re.Match[str]) -> str:
        others = re.findall(r'"([\w-]+)"', icon.group().partition("[")[2].partition("]")[0])
        return icon.group() if {icon.group(1), *others} & named else ""

    for file in (site / "_static").glob(ICONS):
        file.write_text(ICON.sub(kept, file.read_text(encoding="utf-8")), encoding="utf-8")
