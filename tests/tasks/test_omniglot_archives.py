"""Archives that are damaged, and files that are none."""

import os
import re
import struct
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import pytest

from mamlkit.tasks import omniglot, omniglot_files
from small_omniglot import PART, files_of, in_cache, put, refused, repacked, right_bank, same


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.99])
def test_a_truncated_archive_is_named(small, keep):
    file = small / "images_background.zip"
    file.write_bytes(file.read_bytes()[: int(keep * file.stat().st_size)])
    refused(r"images_background\.zip is truncated or damaged")


def test_an_archive_with_a_flipped_bit_is_named(small):
    file = small / "images_background.zip"
    data = bytearray(file.read_bytes())
    data[data.index(b"IDAT") + 20] ^= 1
    file.write_bytes(data)
    with pytest.raises(ValueError, match="truncated or damaged .*CRC"):
        omniglot.load("all")


def changed(file: Path, old: bytes, new: bytes, count: int = 1) -> None:
    """Other bytes of the same length, at the last places where ``old`` is (where the list of members is)."""
    data = file.read_bytes()
    assert len(old) == len(new) and data.count(old) >= count
    head, *tail = data.rsplit(old, count)
    file.write_bytes(new.join([head, *tail]))


def test_the_usual_packing_is_read(small):
    repacked(small)
    assert same(omniglot.load("all"), right_bank())


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_other_packing_is_refused_damaged_or_not(small, method):
    file = repacked(small, method)
    refused(rf"images_background\.zip is truncated or damaged \('.*' is packed by method {method}; use")
    data = bytearray(file.read_bytes())
    data[60:200] = bytes(140)
    file.write_bytes(data)
    refused(r"images_background\.zip is truncated or damaged")


def test_a_member_of_an_unknown_method_is_refused(small):
    file = small / f"{PART}.zip"
    data = bytearray(file.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 10 : at + 12] = struct.pack("<H", 97)
    file.write_bytes(data)
    refused("is packed by method 97")


@pytest.mark.parametrize("stated", [2**27, 500])  # the size in the archive's list of members, true and false
def test_a_small_archive_that_becomes_large_is_refused_without_the_memory(small, stated):
    file = repacked(small, name=f"{PART}/Greek/character01/0017_05.png", content=bytes(2**27))
    assert file.stat().st_size < 2**19
    changed(file, struct.pack("<I", 2**27), struct.pack("<I", stated))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="bytes, but a drawing has at most 65,536"):
            list(omniglot_files.contents(file, omniglot_files.members(file).values()))
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_of_a_member_that_is_longer_than_it_says_no_more_is_unpacked(small):
    file = repacked(small, name=f"{PART}/Greek/character01/0017_05.png", content=bytes(2**25))
    changed(file, struct.pack("<I", 2**25), struct.pack("<I", 500))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="truncated or damaged"):
            list(omniglot_files.contents(file, omniglot_files.members(file).values()))
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_a_locked_archive_is_refused(small):
    file = small / f"{PART}.zip"
    data = bytearray(file.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= 1  # "encrypted"
    data[6] |= 1
    file.write_bytes(data)
    refused("truncated or damaged .*encrypted")


def test_the_same_member_twice_is_refused(small):
    name, data = next(iter(files_of(PART).items()))
    with warnings.catch_warnings(), zipfile.ZipFile(small / f"{PART}.zip", "a") as archive:
        warnings.simplefilter("ignore")  # zipfile warns, but writes
        archive.writestr(name, data)
    refused("has drawing 1 of Greek/character01 twice")


def test_a_name_in_an_archive_that_is_no_utf_8_is_refused(small):
    file = repacked(small, name=f"{PART}/Gr\u00e9ek/character01/0017_01.png", content=b"x")
    changed(file, "Gr\u00e9ek".encode(), b"Gr\xff\xffek", count=2)
    refused("truncated or damaged .*codec can't decode")


def test_a_name_in_a_folder_that_is_no_utf_8_is_refused_in_words_that_can_be_printed(small):
    put(small, files_of(PART), packed=False)
    folder = os.fsencode(small / PART)
    try:
        os.rename(folder + b"/Greek", folder + b"/Gr\xe9ek")
    except OSError:
        pytest.skip("this file system takes no such name")
    with pytest.raises(ValueError, match=r"missing: Greek/.*unknown: Gr\\udce9ek/character01") as caught:
        omniglot.load("all")
    str(caught.value).encode()


@pytest.mark.parametrize("make", [os.mkfifo, lambda file: file.symlink_to("nowhere")])
def test_what_is_no_regular_file_is_not_opened(small, make):
    put(small, files_of(PART), packed=False)
    file = next((small / PART).glob("*/*/*.png"))
    file.unlink()
    make(file)
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(str(file))):
        omniglot.load("all")
    assert in_cache() == []


def test_a_pipe_in_the_place_of_an_archive_is_no_archive(small):
    (small / f"{PART}.zip").unlink()
    os.mkfifo(small / f"{PART}.zip")
    assert not omniglot.available()


def test_an_empty_folder_is_refused(small):
    put(small, {}, packed=False)
    (small / PART).mkdir()
    refused("1 characters in .*missing: Greek/character01, Greek/character02")
