"""The class bank, and the cache of built banks."""

import io
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mamlkit.places import cache_dir
from mamlkit.tasks import bank as banks
from mamlkit.tasks.bank import ClassBank, select


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


@given(shape=st.lists(st.integers(0, 3), max_size=3), seed=st.integers(0, 99))
def test_images_are_taken_by_class_and_drawing(shape, seed):
    bank, generator = some_bank(), torch.Generator().manual_seed(seed)
    classes, drawings = (torch.randint(n, shape, generator=generator) for n in bank.shape[:2])
    assert torch.equal(bank.take(classes, drawings), bank.images[classes, drawings])


@pytest.mark.parametrize(
    ("classes", "drawings", "says"),
    [
        ([0, 3], [0, 0], "class 0 to 3 came, but this bank has 0 to 2"),
        ([0, 1], [0, 4], "drawing 0 to 4 came, but this bank has 0 to 3"),
        ([-1, 0], [0, 0], "class -1 to 0 came"),
    ],
)
def test_an_image_that_is_not_there_is_refused(classes, drawings, says):
    with pytest.raises(IndexError, match=says):
        some_bank().take(torch.tensor(classes), torch.tensor(drawings))


# ---- the cache of banks


def cached(name: str, key: str, build: Callable[[], ClassBank]) -> ClassBank:
    return banks.cached(name, key, some_bank().names, (4, 1, 5, 6), build)


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
    saved(file, np.zeros(3, np.uint8))


def damage_no_key(file: Path) -> None:
    np.savez(file, something=np.zeros(3))


def saved(file: Path, images: np.ndarray, names: tuple[str, ...] = ("a", "b", "c")) -> None:
    np.savez(file, key=np.array("one"), images=images, names=np.array(names))


def damage_other_size(file: Path) -> None:
    saved(file, np.zeros((3, 4, 1, 6, 5), np.uint8))


def damage_other_number_of_drawings(file: Path) -> None:
    saved(file, np.zeros((3, 5, 1, 5, 6), np.uint8))


def damage_other_dtype(file: Path) -> None:
    saved(file, np.zeros((3, 4, 1, 5, 6), np.float32))


def damage_other_names(file: Path) -> None:
    saved(file, np.zeros((3, 4, 1, 5, 6), np.uint8), ("b", "a", "c"))


def damage_objects(file: Path) -> None:
    saved(file, np.array([print], dtype=object))


def damage_a_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize(
    "damage", [globals()[name] for name in sorted(globals()) if name.startswith("damage_")]
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


def test_a_small_cache_file_that_becomes_large_does_not_take_the_memory():
    cache_dir().mkdir()
    parts = {"key": np.array("one"), "names": np.array(["a", "b", "c"]), "images": np.zeros(2**26, np.uint8)}
    np.savez_compressed(cache_dir() / "x.npz", **parts)
    tracemalloc.start()
    try:
        assert same(cached("x", "one", some_bank), some_bank())
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_a_link_planted_in_a_shared_cache_is_not_followed(tmp_path):
    (tmp_path / "victim").write_text("precious")
    cache_dir().mkdir()
    for name in ("x.npz", f".x-{os.getpid()}.tmp"):
        (cache_dir() / name).symlink_to(tmp_path / "victim")
    cached("x", "one", some_bank)
    assert (tmp_path / "victim").read_text() == "precious"
    assert same(cached("x", "one", never), some_bank())
