"""Omniglot on small synthetic archives, and on the real ones where they are at hand."""

import hashlib
import io
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mamlkit import tasks
from mamlkit.places import cache_dir
from mamlkit.tasks import omniglot, omniglot_files
from small_omniglot import CHARACTERS, DRAWINGS, SPLIT, drawing, files_of, hash_of, png, write

# ---- what is loaded


def test_images_are_binary_with_ink_255_in_the_order_of_names_and_drawers(small):
    bank = omniglot.load("all")
    assert bank.names == tuple(sorted(SPLIT))
    assert bank.images.shape == (3, DRAWINGS, 1, 28, 28) and bank.images.dtype == torch.uint8
    for row, name in enumerate(bank.names):
        for drawer in range(1, DRAWINGS + 1):
            as_the_authors = drawing(hash_of(name, drawer)).resize((28, 28), Image.LANCZOS)
            ink = ~np.asarray(as_the_authors)
            assert np.array_equal(bank.images[row, drawer - 1, 0].numpy(), ink * np.uint8(255))


def test_pillow_takes_the_nearest_neighbour_for_one_bit_images():
    image = drawing(0)
    assert image.mode == "1"
    centre = ((np.arange(28) + 0.5) * 105 / 28).astype(int)  # the pixel under each new pixel's middle
    nearest = np.asarray(image)[np.ix_(centre, centre)]
    assert np.array_equal(np.asarray(image.resize((28, 28), Image.LANCZOS)), nearest)
    assert np.array_equal(omniglot_files.decode(png(image), "here"), ~nearest * np.uint8(255))


def test_a_drawing_saved_as_grey_is_the_same_drawing():
    assert np.array_equal(
        omniglot_files.decode(png(drawing(0).convert("L")), ""), omniglot_files.decode(png(drawing(0)), "")
    )


def test_splits_are_the_characters_of_the_list(small):
    whole = omniglot.load("all")
    for split in ("train", "val", "test"):
        bank = omniglot.load(split)
        assert set(bank.names) == {name for name, its in SPLIT.items() if its == split}
        assert torch.equal(bank.images[0], whole.images[whole.names.index(bank.names[0])])


def test_alphabets_apart_are_whole_and_in_one_split_each():
    by_character, by_alphabet = omniglot._split_of(), omniglot._split_by_alphabet()
    assert by_alphabet.keys() == by_character.keys() and len(by_alphabet) == 1623
    splits = {}
    for character, split in by_alphabet.items():
        splits.setdefault(character.partition("/")[0], set()).add(split)
    assert len(splits) == 50 and all(len(found) == 1 for found in splits.values())
    counts = {split: list(by_alphabet.values()).count(split) for split in ("train", "val", "test")}
    wanted = {"train": 1100, "val": 100, "test": 423}
    assert all(abs(counts[split] - wanted[split]) <= 30 for split in wanted)
    assert by_alphabet == omniglot._split_by_alphabet()  # the same each time


def test_with_the_same_test_characters_training_has_their_alphabets_or_not():
    apart = omniglot._split_by_alphabet()
    unseen, seen = (omniglot.DIVISIONS[f"test alphabets {word}"]() for word in ("unseen", "seen"))
    of = lambda split_of, split: {name for name, its in split_of.items() if its == split}
    alphabets = lambda names: {name.partition("/")[0] for name in names}
    assert seen.keys() == unseen.keys() == apart.keys()
    tested = of(unseen, "test")
    assert tested == of(seen, "test") < of(apart, "test") and of(unseen, "val") == of(seen, "val")
    for alphabet in alphabets(of(apart, "test")):
        count, half = (
            sum(alphabets([n]) == {alphabet} for n in names) for names in (of(apart, "test"), tested)
        )
        assert half == count // 2 > 0
    assert len(of(unseen, "train")) == len(of(seen, "train")) == len(of(apart, "train"))
    assert not alphabets(of(unseen, "train")) & alphabets(tested)
    others = of(seen, "train") - of(unseen, "train")
    assert others == of(apart, "test") - tested and alphabets(others) == alphabets(tested)
    assert seen == omniglot.DIVISIONS["test alphabets seen"]()  # the same each time


def test_an_unknown_division_is_refused(small):
    with pytest.raises(
        ValueError, match="division='writers' is not one of Omniglot; use one of 'characters', "
    ):
        omniglot.load("train", "writers")


def test_alphabets_apart_can_be_loaded_and_drawn_from(small):
    # two alphabets of one and two characters: there is room for both among those to train on
    bank = omniglot.load("train", "alphabets")
    assert bank.names == tuple(sorted(SPLIT)) and torch.equal(bank.images, omniglot.load("all").images)
    family = tasks.make("omniglot, alphabets apart", "train", ways=3, shots=1, queries=1)
    assert family.sample(torch.Generator().manual_seed(0), 2).query[0].shape == (2, 3, 1, 28, 28)


@pytest.mark.parametrize("packed", [(False, False), (True, False), (False, True)])
def test_archives_and_folders_may_be_mixed(small, tmp_path, packed):
    expected = omniglot.load("all").images
    shutil.rmtree(small)
    for part, its in zip(CHARACTERS, packed, strict=True):
        write(small, part, files_of(part), packed=its)
    shutil.rmtree(cache_dir())
    assert omniglot.available()
    assert torch.equal(omniglot.load("all").images, expected)


def test_what_a_mac_leaves_in_archives_and_folders_is_no_drawing(small):
    part = "images_background"
    litter = {
        f"__MACOSX/{part}/Greek/character01/._x.png": b"x",
        f"{part}/.DS_Store": b"x",
        f"{part}/Greek/": b"",
    }
    write(small, part, files_of(part) | litter)
    assert len(omniglot.load("all").names) == 3


# ---- the cache


def test_the_bank_is_kept_until_the_sources_change(small, monkeypatch):
    first = omniglot.load("all")
    with monkeypatch.context() as patch:
        patch.setattr(omniglot_files, "decode", None)  # would fail if it were called
        assert torch.equal(omniglot.load("all").images, first.images)
    part = "images_background"
    changed = files_of(part)
    changed[next(iter(changed))] = png(drawing(999))
    write(small, part, changed)
    assert not torch.equal(omniglot.load("all").images, first.images)


def test_a_changed_drawing_in_a_folder_is_seen(small):
    part = "images_evaluation"
    (small / f"{part}.zip").unlink()
    write(small, part, files_of(part), packed=False)
    first = omniglot.load("all").images
    file = next((small / part).glob("*/*/*.png"))
    file.write_bytes(png(drawing(999)))
    assert not torch.equal(omniglot.load("all").images, first)


# ---- absence and damage


@pytest.mark.parametrize("split", ["training", "TEST", ""])
def test_another_split_is_refused(small, split):
    with pytest.raises(ValueError, match="train, val, test, all"):
        omniglot.load(split)


def test_without_data_nothing_is_available_and_the_error_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("MAMLKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MAMLKIT_DATA", str(tmp_path))
    assert not omniglot.available()
    with pytest.raises(FileNotFoundError) as caught:
        omniglot.load("train")
    folders = (str(tmp_path / "omniglot"), str(tmp_path / "cache"))
    for words in (*folders, "python -m mamlkit data omniglot", "MAMLKIT_DATA"):
        assert words in str(caught.value)
    assert not cache_dir().exists()


def test_none_hides_even_the_cache(small, monkeypatch):
    monkeypatch.setenv("MAMLKIT_CACHE", str(small.parent))  # here the cache holds the archives
    monkeypatch.delenv("MAMLKIT_DATA")
    assert omniglot.available()
    monkeypatch.setenv("MAMLKIT_DATA", "none")
    assert not omniglot.available()
    with pytest.raises(FileNotFoundError, match="MAMLKIT_DATA says"):
        omniglot.load("train")


def test_a_whole_data_set_in_the_cache_goes_before_half_of_one(small):
    for part in CHARACTERS:
        write(cache_dir() / "omniglot", part, files_of(part))
    (small / "images_evaluation.zip").unlink()
    assert omniglot.available() and len(omniglot.load("all").names) == 3


def test_a_missing_archive_is_named(small):
    (small / "images_evaluation.zip").unlink()
    assert not omniglot.available()
    with pytest.raises(FileNotFoundError, match=r"no images_evaluation\.zip .*python -m mamlkit data"):
        omniglot.load("all")


# ---- fetching, from a server on this machine


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class Breaks(Quiet):
    """Promises more than it sends."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        self.wfile.write(b"x" * 100)


@contextmanager
def serving(handler: Callable[..., SimpleHTTPRequestHandler], monkeypatch) -> Iterator[None]:
    """A server on this machine in the place of the official one."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(omniglot, "_URL", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def served(small, monkeypatch) -> Iterator[Path]:
    """The small Omniglot on a server, none on this machine; the folder that is served."""

    monkeypatch.delenv("MAMLKIT_DATA")
    hashes = {
        part: "md5:" + hashlib.md5((small / f"{part}.zip").read_bytes()).hexdigest() for part in CHARACTERS
    }
    monkeypatch.setattr(omniglot, "_HASHES", hashes)
    with serving(partial(Quiet, directory=small), monkeypatch):
        yield small


def test_fetch_then_load_then_fetch_again_offline(served, monkeypatch, capfd):
    assert not omniglot.available()
    folder = omniglot.fetch(progress=False)
    assert capfd.readouterr() == ("", "")
    assert folder == cache_dir() / "omniglot"
    assert sorted(os.listdir(folder)) == ["images_background.zip", "images_evaluation.zip"]
    assert omniglot.available() and len(omniglot.load("all").names) == 3
    monkeypatch.setattr(omniglot, "_URL", "http://127.0.0.1:1/")
    assert omniglot.fetch(progress=False) == folder


def test_fetch_shows_its_progress(served, capfd):
    omniglot.fetch()
    assert "100%" in capfd.readouterr().err


def test_a_wrong_checksum_is_an_error_and_nothing_is_kept(served):
    with (served / "images_evaluation.zip").open("ab") as file:
        file.write(b"!")
    with pytest.raises(
        ValueError, match=r"(?s)images_evaluation\.zip is not the official archive.*not " r"kept.*MD5"
    ):
        omniglot.fetch(progress=False)
    assert os.listdir(cache_dir() / "omniglot") == ["images_background.zip"]
    assert not omniglot.available()


def test_a_damaged_archive_in_the_cache_is_fetched_again(served):
    folder = omniglot.fetch(progress=False)
    (folder / "images_background.zip").write_bytes(b"half")
    omniglot.fetch(progress=False)
    assert len(omniglot.load("all").names) == 3


def test_without_a_network_the_error_says_so(served, monkeypatch):
    monkeypatch.setattr(omniglot, "_URL", "http://127.0.0.1:1/")
    with pytest.raises(
        ConnectionError, match=r"cannot download http://127\.0\.0\.1:1/images_background\.zip"
    ):
        omniglot.fetch(progress=False)
    assert os.listdir(cache_dir() / "omniglot") == []


def test_an_archive_that_is_not_there_is_a_connection_error(served):
    (served / "images_background.zip").unlink()
    with pytest.raises(ConnectionError, match="404"):
        omniglot.fetch(progress=False)


def test_a_connection_that_breaks_leaves_nothing(served, monkeypatch):
    with serving(Breaks, monkeypatch), pytest.raises(ConnectionError, match="cannot download"):
        omniglot.fetch(progress=False)
    assert os.listdir(cache_dir() / "omniglot") == []


# ---- the committed split


def test_the_split_is_the_sorted_names_shuffled_with_seed_1():
    split_of = omniglot._split_of()
    names = list(split_of)
    assert len(names) == 1623 and names == sorted(names)
    order = np.random.RandomState(1).permutation(1623)
    for split, places in {"train": order[:1100], "val": order[1100:1200], "test": order[1200:]}.items():
        assert [name for name in names if split_of[name] == split] == [
            names[place] for place in sorted(places)
        ]


# ---- the real data


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> Iterator[Path]:
    """The folder of the real archives, with an empty cache."""
    if not omniglot.available():
        pytest.skip("no Omniglot here; set MAMLKIT_DATA or `python -m mamlkit data omniglot`")
    folder = next(iter(omniglot._find().values())).parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAMLKIT_DATA", str(folder.parent))
        patch.setenv("MAMLKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield folder


def test_the_whole_of_omniglot(real, monkeypatch):
    bank = omniglot.load("all")
    assert bank.images.shape == (1623, 20, 1, 28, 28)
    assert bank.names == tuple(omniglot._split_of())
    assert bank.images.unique().tolist() == [0, 255]
    assert 0.07 < (bank.images == 255).float().mean() < 0.09  # ink is the rare value
    monkeypatch.setattr(omniglot_files, "decode", None)  # the rest comes from the cache
    sizes = [len(omniglot.load(split).names) for split in ("train", "val", "test")]
    assert sizes == [1100, 100, 423]


def test_real_drawings_are_what_pillow_makes_of_them_with_lanczos(real):
    bank = omniglot.load("all")
    for path in omniglot._find().values():
        found = omniglot_files.members(path)
        for i, ((character, drawer), data) in enumerate(
            zip(found, omniglot_files.contents(path, found.values()), strict=True)
        ):
            if i % 97 == 0:
                with Image.open(io.BytesIO(data)) as image:
                    assert image.mode == "1"
                    ink = 1 - np.asarray(image.resize((28, 28), Image.LANCZOS), np.uint8)
                assert np.array_equal(
                    bank.images[bank.names.index(character), drawer - 1, 0].numpy(), ink * 255
                )


def test_an_official_archive_is_fetched_by_its_checksum(real, monkeypatch, tmp_path):
    part = "images_background_small1"
    background, official = omniglot._find()["images_background"], real / f"{part}.zip"
    if not official.is_file():
        pytest.skip(f"no {official.name} beside the archives")
    sha256 = "f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4"
    monkeypatch.setattr(omniglot, "_PARTS", (part,))
    monkeypatch.setattr(omniglot, "_HASHES", {part: f"sha256:{sha256}"})
    monkeypatch.setenv("MAMLKIT_CACHE", str(tmp_path))

    with serving(partial(Quiet, directory=official.parent), monkeypatch):
        fetched = omniglot.fetch(progress=False) / f"{part}.zip"
    assert fetched.read_bytes() == official.read_bytes()
    ours, theirs = (
        dict(zip(found, omniglot_files.contents(path, found.values()), strict=True))
        for path, found in ((path, omniglot_files.members(path)) for path in (background, fetched))
    )
    assert len(theirs) == 136 * 20
    assert all(ours[drawing] == data for drawing, data in theirs.items())
