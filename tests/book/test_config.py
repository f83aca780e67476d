"""``_config.yml`` and ``_toc.yml``: jupyter-book ignores a mistyped key, so the keys are held here."""

import re
import tomllib
from importlib.resources import files
from pathlib import Path

import api
import assets
import pytest
import surroundings
import yaml

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
    assert {f"{part}.js" for part in loaded} | {"startup.js"} == set(assets.MATHJAX)
    assert "repository" not in config and "launch_buttons" not in config


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
