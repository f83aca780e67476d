"""Where data sets and computed files lie, by the settings of the environment."""

import os
from pathlib import Path

import platformdirs
import pytest

import made_clone
from mamlkit import places
from mamlkit.places import cache_dir, data_dir, data_folders


@pytest.fixture(autouse=True)
def base(monkeypatch, tmp_path) -> Path:
    """A clone of its own, no settings, and a working directory that is neither."""
    root = tmp_path / "clone"
    for folder in (root / "mamlkit", tmp_path / "elsewhere"):
        folder.mkdir(parents=True)
    (root / "pyproject.toml").touch()
    monkeypatch.setattr(places, "__file__", str(root / "mamlkit" / "places.py"))
    monkeypatch.delenv("MAMLKIT_CACHE", raising=False)
    monkeypatch.delenv("MAMLKIT_DATA", raising=False)
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path


def test_the_cache_is_where_the_setting_says(monkeypatch, base):
    monkeypatch.setenv("MAMLKIT_CACHE", str(base / "fast"))
    assert cache_dir() == base / "fast"


def test_the_cache_of_a_clone_lies_in_the_clone_and_else_in_the_users_own(monkeypatch, base):
    assert cache_dir() == base / "clone" / "data" / "cache"
    (base / "clone" / "pyproject.toml").unlink()
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: f"{base}/caches/{name}")
    assert cache_dir() == base / "caches" / "mamlkit"


def test_without_clone_and_home_the_setting_is_asked_for(monkeypatch, base):
    monkeypatch.setattr(platformdirs, "user_cache_dir", made_clone.homeless)
    assert cache_dir() == base / "clone" / "data" / "cache"
    (base / "clone" / "pyproject.toml").unlink()
    with pytest.raises(FileNotFoundError, match="no home folder .* set MAMLKIT_CACHE"):
        cache_dir()


def test_data_is_looked_for_in_the_users_folder_and_then_in_the_cache(monkeypatch, base):
    assert data_dir() is None
    assert data_folders("omniglot") == [cache_dir() / "omniglot"]
    monkeypatch.setenv("MAMLKIT_DATA", str(base))
    assert data_dir() == base
    assert data_folders("omniglot") == [base / "omniglot", cache_dir() / "omniglot"]


@pytest.mark.parametrize("word", ["none", "None", " none ", "", " "])
def test_no_data_also_means_not_in_the_cache(monkeypatch, word):
    monkeypatch.setenv("MAMLKIT_DATA", word)
    assert data_dir() is None
    assert data_folders("omniglot") == []


def test_a_data_folder_that_is_not_there_is_an_error(monkeypatch, base):
    for setting in (str(base / "nowhere"), "nowhere", str(base / "clone" / "pyproject.toml"), "x" * 5000):
        monkeypatch.setenv("MAMLKIT_DATA", setting)
        with pytest.raises(FileNotFoundError, match="MAMLKIT_DATA='.*' is not a folder"):
            data_dir()


@pytest.mark.parametrize(("variable", "read"), [("MAMLKIT_DATA", data_dir), ("MAMLKIT_CACHE", cache_dir)])
class TestOneRuleForBothSettings:
    def test_a_relative_path_starts_from_the_working_directory(self, monkeypatch, base, variable, read):
        monkeypatch.setenv(variable, "sets")
        for folder in ("clone", "elsewhere"):
            (base / folder / "sets").mkdir()
        assert read() == base / "elsewhere" / "sets"

    def test_what_is_not_there_is_found_from_the_clone(self, monkeypatch, base, variable, read):
        monkeypatch.setenv(variable, "sets")
        (base / "clone" / "sets").mkdir()
        for folder in ("elsewhere", "clone", "clone/mamlkit"):
            monkeypatch.chdir(base / folder)
            assert read() == base / "clone" / "sets"

    def test_without_a_clone_it_is_the_working_directory_alone(self, monkeypatch, base, variable, read):
        (base / "clone" / "pyproject.toml").unlink()
        (base / "elsewhere" / "sets").mkdir()
        monkeypatch.setenv(variable, "sets")
        assert read() == base / "elsewhere" / "sets"

    def test_blanks_do_not_count_and_a_tilde_is_the_home(self, monkeypatch, base, variable, read):
        monkeypatch.setenv("HOME", str(base))
        (base / "sets").mkdir()
        for setting in ("~/sets", f" {base}/sets", f"{base}/sets\t"):
            monkeypatch.setenv(variable, setting)
            assert read() == base / "sets"

    def test_the_home_of_nobody_is_a_clear_error(self, monkeypatch, variable, read):
        monkeypatch.setenv(variable, "~nosuchuser/sets")
        with pytest.raises(FileNotFoundError, match=f"{variable}='~nosuchuser/sets': .*give the path"):
            read()

    def test_a_name_that_is_no_utf_8_is_a_name(self, monkeypatch, base, variable, read):
        folder = os.fsencode(base) + b"/s\xe9ts"
        try:
            os.mkdir(folder)
        except OSError:
            pytest.skip("this file system takes no such name")
        monkeypatch.setenv(variable, os.fsdecode(folder))
        assert os.fsencode(read()) == folder


def test_a_cache_that_is_not_there_yet_will_be_the_clones(monkeypatch, base):
    monkeypatch.setenv("MAMLKIT_CACHE", "new")
    assert cache_dir() == base / "clone" / "new"
