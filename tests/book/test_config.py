"""``_config.yml`` and ``_toc.yml``: jupyter-book ignores a mistyped key, so the keys are held here."""

import re
import tomllib
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import address
import api
import assets
import pytest
import surroundings
import yaml
from PIL import Image

ROOT = Path(__file__).parents[2]
# Known to jupyter-book's schema, but not listed among its defaults.
EXTRA_KEYS = {"execute": {"raise_on_error", "show_tb"}, "": {"bibtex_bibfiles"}}


@pytest.fixture(scope="module")
def config():
    return yaml.safe_load((ROOT / "_config.yml").read_text())


@pytest.fixture(scope="module")
def toc():
    return yaml.safe_load((ROOT / "_toc.yml").read_text())


def pages(toc):
    return [toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])]


def test_every_key_is_known_to_jupyter_book(config):
    defaults = yaml.safe_load((files("jupyter_book") / "default_config.yml").read_text())
    assert config.keys() - defaults.keys() <= EXTRA_KEYS[""]
    for section in ("execute", "parse", "html", "sphinx"):
        assert config[section].keys() - defaults[section].keys() <= EXTRA_KEYS.get(section, set()), section


def test_a_bad_notebook_fails_the_build(config):
    execute = config["execute"]
    assert execute["execute_notebooks"] == "cache"
    assert execute["raise_on_error"] is True
    assert execute["allow_errors"] is False
    assert execute["stderr_output"] == "remove-warn"
    assert "exclude_patterns" not in execute


def test_verdicts_do_not_hang_on_the_clock(config):
    """A chapter runs for about a minute; one limit, for hangs, leaves room for a much slower machine."""
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    options = tools["pytest"]["ini_options"]["addopts"].split()
    assert surroundings.CELL_TIMEOUT >= 1800
    assert config["execute"]["timeout"] == surroundings.CELL_TIMEOUT
    assert f"--nbval-cell-timeout={surroundings.CELL_TIMEOUT}" in options
    assert f"--nbval-kernel-startup-timeout={surroundings.START_TIMEOUT}" in options


def test_only_the_pages_of_the_book_are_read(config):
    assert config["only_build_toc_files"] is True
    assert {"_build", "**/_build", ".*", "**/.*", "notebooks/*.py"} <= set(config["exclude_patterns"])


def test_nothing_comes_from_or_points_to_another_place(config):
    settings = config["sphinx"]["config"]
    assert settings["intersphinx_mapping"] == {}
    assert settings["mathjax_path"] == "mathjax/startup.js"
    loaded = settings["mathjax3_config"]["loader"]["load"]
    extension = lambda part: part.replace("[tex]/", "input/tex/extensions/")
    font = "output/svg/fonts/tex"  # named beside the output it may come before it, and letters fail
    assert font not in loaded
    assert {f"{extension(part)}.js" for part in (*loaded, font)} | {"startup.js"} == set(assets.MATHJAX)
    used = {part.removeprefix("[tex]/") for part in loaded if part.startswith("[tex]/")}
    assert used == set(settings["mathjax3_config"]["tex"]["packages"]["[+]"])
    assert config["repository"]["url"] == "" and "launch_buttons" not in config


@pytest.mark.parametrize("url", ["", "https://github.com/someone/book"])
def test_buttons_appear_with_the_repositorys_address(url):
    options = {"repository_url": url, "launch_buttons": {"colab_url": "left over"}}
    address.show_repository(None, SimpleNamespace(html_theme_options=options))
    known = bool(url)
    assert options["use_repository_button"] is options["use_issues_button"] is known
    assert bool(options["launch_buttons"]) is known


@pytest.mark.parametrize("base", ["", "https://example.org/book/"])
def test_a_shared_link_has_a_picture_and_a_description(base):
    app = SimpleNamespace(config=SimpleNamespace(html_baseurl=base, html_title="Reproducing MAML"))
    title = '<span class="section-number">3. </span>Omniglot &amp; more'
    context = {"title": title, "pathto": lambda file, resource: f"../{file}", "metatags": ""}
    address.add_preview(app, "notebooks/03", "page.html", context, object())
    tags = context["metatags"]
    assert f'"og:image" content="{base or "../"}_static/preview.png"' in tags
    assert '"og:title" content="3. Omniglot &amp; more · Reproducing MAML">' in tags
    assert tags.count('name="description"') == tags.count("og:title") == tags.count("og:description") == 1
    own = {**context, "metatags": '<meta name="description"><meta property="og:title">'}
    address.add_preview(app, "book/index", "page.html", own, object())
    assert own["metatags"].count('name="description"') == own["metatags"].count("og:title") == 1
    picture = ROOT / "book" / address.PREVIEW[0]
    with Image.open(picture) as image:
        assert image.size == (1200, 630) and picture.stat().st_size < 150_000


def test_numbers_go_by_chapter(config, toc):
    assert config["sphinx"]["config"]["numfig_secnum_depth"] == 1
    assert [part["caption"] for part in toc["parts"] if part.get("numbered") == 1] == ["Experiments"]


def test_every_page_is_in_the_table_of_contents(toc):
    notebooks = {f"notebooks/{p.stem}" for p in (ROOT / "notebooks").glob("[!.]*.py")}
    prose = {f"book/{p.stem}" for p in (ROOT / "book").glob("[!.]*.md")}
    assert set(pages(toc)) == notebooks | prose
    assert len(pages(toc)) == len(set(pages(toc)))


def test_chapters_stand_in_the_order_of_their_numbers(toc):
    chapters = [page for page in pages(toc) if page.startswith("notebooks/")]
    assert chapters == sorted(chapters)


def test_every_module_is_on_the_api_page():
    modules = {
        p.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        for p in (ROOT / "mamlkit").rglob("[!.]*.py")
    }
    modules = {name.removesuffix(".__init__") for name in modules} - {"mamlkit", "mamlkit.__main__"}
    assert set(re.findall(r"^\.\. automodule:: (\S+)$", api.sections(), re.M)) == modules
    assert len(api.modules()) == len(modules)
    assert "```{from-package} api:sections" in (ROOT / "book" / "api.md").read_text(encoding="utf-8")
