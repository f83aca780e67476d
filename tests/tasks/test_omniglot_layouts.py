"""Omniglot as it comes from other people: every layout that means the same."""

import shutil
import zipfile

import pytest

from mamlkit.tasks import omniglot
from small_omniglot import PART, files_of, put, right_bank, same

LAYOUTS = {
    "as it is": lambda name: name,
    "nested": lambda name: f"{PART}/{name}",
    "nested twice": lambda name: f"{PART}/python/{name}",
    "in capitals": lambda name: name.replace(".png", ".PNG"),
    "with a point first": lambda name: f"./{name}",
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("packed", [True, False])
def test_folders_and_archives_are_read_by_one_rule(small, layout, packed):
    put(small, {LAYOUTS[layout](name): data for name, data in files_of(PART).items()}, packed)
    assert omniglot.available()
    assert same(omniglot.load("all"), right_bank())


def test_an_archive_without_its_upper_folder_is_read_too(small):
    put(small, {name.removeprefix(f"{PART}/"): data for name, data in files_of(PART).items()})
    assert same(omniglot.load("all"), right_bank())


def test_an_archive_made_on_windows(small):
    put(small, {name.replace("/", "\\"): data for name, data in files_of(PART).items()})
    assert any("\\" in name for name in zipfile.ZipFile(small / f"{PART}.zip").namelist())
    assert same(omniglot.load("all"), right_bank())


@pytest.mark.parametrize("packed", [True, False])
def test_what_systems_leave_behind_is_no_drawing(small, packed):
    mac = ["__MACOSX/{}/Greek/character01/._0017_01.png", "{}/Greek/character01/._1.png", "{}/.DS_Store"]
    hidden = ["{}/Greek/.ipynb_checkpoints/0017_01.png", "{}/Greek/.trash/character01/0017_01.png"]
    others = ["{}/Greek/character01/0017_01 (1).png", "{}/Greek/a.png", "{}/Greek/character01/Thumbs.db"]
    files = files_of(PART)
    litter = {name.format(PART): b"x" for name in mac + hidden + others}
    put(small, {f"{PART}/{name}": data for name, data in (files | litter).items()}, packed)
    assert same(omniglot.load("all"), right_bank())


def test_links_are_followed_and_a_loop_of_them_ends(small, tmp_path):
    put(small, files_of(PART), packed=False)
    shutil.move(small / PART / "Greek", tmp_path / "Greek")
    (small / PART / "Greek").symlink_to(tmp_path / "Greek")
    (tmp_path / "Greek" / "again").symlink_to(small / PART)
    assert same(omniglot.load("all"), right_bank())


def test_the_bank_of_the_small_omniglot(small):
    assert same(omniglot.load("all"), right_bank())
