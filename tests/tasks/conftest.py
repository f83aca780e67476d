"""A small Omniglot for the tests of its loader."""

from pathlib import Path

import pytest
from small_omniglot import CHARACTERS, DRAWINGS, SPLIT, files_of, write

from mamlkit.tasks import omniglot


@pytest.fixture
def small(monkeypatch, tmp_path) -> Path:
    """A whole Omniglot of 3 characters x 4 drawings; its folder."""
    monkeypatch.setattr(omniglot, "_split_of", lambda: SPLIT)
    monkeypatch.setattr(omniglot, "_DRAWINGS", DRAWINGS)
    monkeypatch.setenv("MAMLKIT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MAMLKIT_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "data" / "omniglot"
    for part in CHARACTERS:
        write(folder, part, files_of(part))
    return folder
