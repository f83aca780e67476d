"""The class bank, and the cache of built banks."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from mamlkit.folders import cache_dir
from mamlkit.tasks.bank import ClassBank, cached, select


@pytest.fixture(autouse=True)
def folders(monkeypatch, tmp_path):
    monkeypatch.setenv("MAMLKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MAMLKIT_DATA", raising=False)


def some_bank(fill: int = 0) -> ClassBank:
    images = torch.arange(3 * 4 * 5 * 6, dtype=torch.uint8).reshape(3, 4, 1, 5, 6) + fill
    return ClassBank(images, ("a", "b", "c"))


def same(one: ClassBank, other: ClassBank) -> bool:
    return one.names == other.names and torch.equal(one.images, other.images)


# ---- the bank


@pytest.mark.parametrize(
    ("images", "names", "says"),
    [
        (torch.zeros(2, 3, 1, 4, 4), ("a", "b"), "dtype torch.float32"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), ("a", "b"), r"shape \(2, 3, 4, 4\)"),
        (torch.zeros(2, 0, 1, 4, 4, dtype=torch.uint8), ("a", "b"), "no empty axis"),
        (torch.zeros(2, 3, 1, 4, 4, dtype=torch.uint8), ("a",), "1 names for 2 classes"),
        (torch.zeros(2, 3, 1, 4, 4, dtype=torch.uint8), ("a", "a"), "more than once: a"),
    ],
)
def test_a_wrong_bank_is_refused_with_the_reason(images, names, says):
    with pytest.raises(ValueError, match=says):
        ClassBank(images, names)


def test_an_array_is_not_a_bank():
    with pytest.raises(TypeError, match="ndarray"):
        ClassBank(np.zeros((2, 3, 1, 4, 4), np.uint8), ("a", "b"))


def test_to_moves_the_images_and_keeps_the_names():
    moved = some_bank().to("meta")
    assert moved.images.device.type == "meta" and moved.names == ("a", "b", "c")


def test_select_keeps_the_order_of_the_bank():
    chosen = select(some_bank(), {"c", "a"})
    assert chosen.names == ("a", "c")
    assert torch.equal(chosen.images, some_bank().images[[0, 2]])


# ---- the cache of banks


def never() -> ClassBank:
    raise AssertionError("built although it was in the cache")


def test_a_bank_is_built_once_for_each_key():
    assert same(cached("x", "one", some_bank), some_bank())
    assert same(cached("x", "one", never), some_bank())
    assert same(cached("x", "two", lambda: some_bank(7)), some_bank(7))  # the sources changed
    assert same(cached("x", "two", never), some_bank(7))
    assert [file.name for file in cache_dir().iterdir()] == ["x.npz"]


def damage_nothing_left(file: Path) -> None:
    file.write_bytes(b"")


def damage_truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:200])


def damage_one_pixel(file: Path) -> None:
    data = bytearray(file.read_bytes())
    place = data.index(bytes(range(20, 60)))
    data[place] ^= 1
    file.write_bytes(data)


def damage_other_content(file: Path) -> None:
    np.savez(file, key=np.array("one"), images=np.zeros(3, np.uint8), names=np.array(["a", "b", "c"]))


def damage_no_key(file: Path) -> None:
    np.savez(file, something=np.zeros(3))


@pytest.mark.parametrize(
    "damage",
    [damage_nothing_left, damage_truncated, damage_one_pixel, damage_other_content, damage_no_key],
)
def test_a_damaged_cache_file_is_built_anew(damage):
    cached("x", "one", some_bank)
    damage(cache_dir() / "x.npz")
    assert same(cached("x", "one", some_bank), some_bank())
    assert same(cached("x", "one", never), some_bank())


def test_a_cache_that_cannot_be_written_only_costs_time(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MAMLKIT_CACHE", str(tmp_path / "file" / "cache"))  # fails for root too
    for fill in (0, 7):
        assert same(cached("x", "one", lambda fill=fill: some_bank(fill)), some_bank(fill))


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_nothing_half_written_is_left(monkeypatch, error):
    cached("x", "one", some_bank)

    def half(file: io.BufferedWriter, **_: np.ndarray) -> None:
        file.write(b"half")
        raise error

    monkeypatch.setattr(np, "savez", half)
    if isinstance(error, OSError):
        assert same(cached("x", "two", lambda: some_bank(7)), some_bank(7))
    else:
        with pytest.raises(KeyboardInterrupt):
            cached("x", "two", lambda: some_bank(7))
    assert os.listdir(cache_dir()) == ["x.npz"]
    assert same(cached("x", "one", never), some_bank())  # the old file is whole
