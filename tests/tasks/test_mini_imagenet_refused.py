"""Mini-ImageNet that is not there, not whole, damaged or unsafe: refused, and nothing is kept."""

import errno
import io
import os
import shutil
import tarfile
import tracemalloc
import zipfile

import pytest

import small_mini_imagenet
from mamlkit.places import cache_dir
from mamlkit.tasks import mini_imagenet, mini_imagenet_source
from small_mini_imagenet import FORMS, files, jpeg, put, refused, right, same

empty = pytest.fixture(small_mini_imagenet.small, name="empty")
ONE, ITS_LINE = "images/n0300000000.jpg", b"n0300000000.jpg,n03\n"


def test_another_split_or_list_is_refused(empty):
    with pytest.raises(ValueError, match="split='training'.*use one of train, val, test"):
        mini_imagenet.load("training")
    with pytest.raises(ValueError, match="classes='64/12/20'.*use 64/16/20 or 64/12/24"):
        mini_imagenet.load("train", "64/12/20")


def test_without_data_the_error_says_where_it_was_looked_for_and_how_to_get_it(empty, monkeypatch):
    assert not mini_imagenet.available()
    refused(f"no data set in {empty} or {cache_dir() / 'mini_imagenet'}")
    assert not cache_dir().exists()
    monkeypatch.setenv("MAMLKIT_DATA", "none")
    assert not mini_imagenet.available()
    refused("MAMLKIT_DATA says that there is no data set")


def test_data_in_the_cache_folder_is_found(empty):
    put(cache_dir() / "mini_imagenet", files(), ".zip")
    assert same(mini_imagenet.load("val"), right("val"))


@pytest.mark.parametrize("lost", ["train.csv", "val.csv", "test.csv", "images/"])
def test_a_part_that_is_not_there_is_named(empty, lost):
    put(empty, files(), "folder")
    (empty / lost).rename(empty / "elsewhere")
    assert not mini_imagenet.available()
    refused(f"no {lost} in {empty}")


def without_a_table(content):
    del content["val.csv"]


def without_a_picture(content):
    del content[ONE]


def no_picture(content):
    content[ONE] = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 84 84\nshowpage\n"


def another_format(content):
    content[ONE] = jpeg(0, form="PNG")


def cut_short(content):
    content[ONE] = content[ONE][:-60]


def empty_file(content):
    content[ONE] = b""


def wrong_size(content):
    content[ONE] = jpeg(0, 85, 84)


def stated_size(content):
    data = bytearray(jpeg(0))
    at = data.index(b"\xff\xc0") + 5  # height and width of the frame
    data[at : at + 4] = b"\xff\xff\xff\xff"
    content[ONE] = bytes(data)


def too_long(content):
    content[ONE] += bytes(200_000)


def one_too_few(content):
    content["train.csv"] = content["train.csv"].replace(ITS_LINE, b"")


def in_two_splits(content):
    content["test.csv"] += b"n9900000000.jpg,n03\n"


def exchanged_tables(content):
    content["train.csv"], content["test.csv"] = content["test.csv"], content["train.csv"]


def other_labels(content):
    content["train.csv"] = content["train.csv"].replace(b",n03", b",house_finch")


def named_twice(content):
    content["train.csv"] = content["train.csv"].replace(ITS_LINE, b"n0300000001.jpg,n03\n")


def path_in_the_table(content):
    content["train.csv"] = content["train.csv"].replace(ITS_LINE, b"../../n0300000000.jpg,n03\n")


def no_heading(content):
    content["train.csv"] = content["train.csv"].partition(b"\n")[2]


def three_columns(content):
    content["train.csv"] += b"a,b,c\n"


def no_text(content):
    content["train.csv"] = b"\xff\xfe\x00"


def large_table(content):
    content["train.csv"] += bytes(2**23)


DAMAGES = [
    (without_a_table, "no val.csv"),
    (without_a_picture, "lacks 1 pictures that the tables name: n0300000000.jpg"),
    (no_picture, "n0300000000.jpg is not a readable JPEG image"),
    (another_format, "n0300000000.jpg is not a readable JPEG image"),
    (cut_short, "n0300000000.jpg is not a readable JPEG image"),
    (empty_file, "n0300000000.jpg is not a readable JPEG image"),
    (wrong_size, "n0300000000.jpg is 85 x 84 pixels; Mini-ImageNet's are 84 x 84"),
    (stated_size, "n0300000000.jpg is not a readable JPEG image"),
    (too_long, r"n0300000000.jpg' has 20\d,\d+ bytes; it may have at most 131,072"),
    (one_too_few, "class n03 has 3 pictures in the tables; it must have 4"),
    (in_two_splits, "class 'n03' is in train.csv and test.csv; it must be in one"),
    (exchanged_tables, "train.csv has 2 classes; missing: n03, n05, n07; not of this split: 'n01', 'n06'"),
    (other_labels, "train.csv has 3 classes; missing: n03; not of this split: 'house_finch'"),
    (named_twice, "pictures that the tables name twice: 'n0300000001.jpg'"),
    (path_in_the_table, "lacks 1 pictures that the tables name: ../../n0300000000.jpg"),
    (no_heading, "train.csv is no table of two columns under the heading filename,label"),
    (three_columns, "train.csv is no table of two columns"),
    (no_text, "train.csv is not a readable table"),
    (large_table, r"train.csv' has 8,\d+,\d+ bytes; it may have at most 8,388,608"),
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("damage", "says"), DAMAGES)
def test_what_is_wrong_is_named_and_nothing_is_kept(empty, damage, says, form):
    content = files()
    damage(content)
    put(empty, content, form)
    refused(says)


@pytest.mark.parametrize("form", [".tar.xz", ".tar", ".zip"])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.9])
def test_a_truncated_archive_is_refused(empty, form, share):
    path = put(empty, files(), form)
    os.truncate(path, int(share * path.stat().st_size))
    assert mini_imagenet.available()
    refused("truncated or damaged|lacks [0-9]+ pictures|has no train.csv")


@pytest.mark.parametrize("form", [".tar.xz", ".tar", ".zip"])
def test_what_is_no_archive_is_refused(empty, form):
    put(empty, {}, form).write_bytes(b"an error page of a server" * 100)
    refused("truncated or damaged")


def test_a_check_calls_right_only_what_is_whole(empty):
    put(empty, files(), "folder")
    assert not mini_imagenet.check(empty).wrong
    content = files()
    no_picture(content)
    shutil.rmtree(empty)
    put(empty, content, "folder")
    found = mini_imagenet.check(empty)
    assert any("pictures are there, readable" in line for line in found.wrong)
    assert not any("BytesIO" in line for line in found.wrong)
    table = (empty / "train.csv").read_text().splitlines()
    (empty / "train.csv").write_text("\n".join(table[:-1]))
    found = mini_imagenet.check(empty)
    assert any("the tables name" in line for line in found.wrong) and not found.right


def test_several_archives_are_refused(empty):
    put(empty, files(), ".zip")
    put(empty, files(), ".tar")
    refused(r"has 2 archives \(mini_imagenet.tar, mini_imagenet.zip\); leave the right one", how="")


def test_pickles_are_refused_and_not_opened(empty):
    empty.mkdir()
    os.mkfifo(empty / "mini-imagenet-cache-train.pkl")  # to open it would wait for ever
    refused("mini-imagenet-cache-train.pkl, and pickles are not read: unpickling runs whatever code")
    assert "unpickling" in mini_imagenet.check(empty).wrong[0]
    put(empty, files(), "folder")  # beside the data set they do not matter
    assert same(mini_imagenet.load("train"), right("train"))


def test_a_picture_that_is_there_twice_is_refused(empty):
    put(empty, files() | {"again/images/n0300000000.jpg": jpeg(77)}, ".zip")
    refused("has picture n0300000000.jpg twice")


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("nowhere")])
def test_what_is_no_regular_file_is_not_opened(empty, make):
    put(empty, files(), "folder")
    (empty / ONE).unlink()
    make(empty / ONE)
    refused("lacks 1 pictures")


def test_a_link_in_an_archive_is_not_followed(empty):
    content = files()
    del content[ONE]
    path = put(empty, content, ".tar")
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo(ONE)
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    refused("lacks 1 pictures")


def test_a_small_archive_that_becomes_large_is_refused_without_the_memory(empty):
    path = put(empty, files(), ".tar.xz")
    with tarfile.open(path, "w:xz") as archive:
        header = tarfile.TarInfo("long")
        header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2**25  # of this a reader takes all at once
        archive.addfile(header, io.BytesIO(bytes(2**25)))
    assert path.stat().st_size < 2**15
    tracemalloc.start()
    try:
        refused("a part of it has 33,554,[0-9]+ bytes")
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_an_archive_that_unpacks_to_too_much_is_refused(empty, monkeypatch):
    monkeypatch.setattr(mini_imagenet_source, "_MOST_TOTAL", 2**20)
    put(empty, {"notes.txt": bytes(2**21)} | files(), ".tar.xz")
    refused("it has more than 1,048,576 bytes")


def test_another_method_of_packing_is_refused(empty):
    path = put(empty, {}, ".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        for name, data in files().items():
            archive.writestr(name, data)
    refused("packed by method 12")


def test_a_full_disk_is_an_error_that_says_how_much_room_it_takes(empty, monkeypatch):
    put(empty, files(), "folder")

    def full(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=r"No space left.*takes 0\.00 GB.*MAMLKIT_CACHE") as caught:
            mini_imagenet.load("train")
    assert caught.value.errno == errno.ENOSPC
    assert not list(cache_dir().glob("mini_imagenet/*.images*"))
    assert same(mini_imagenet.load("train"), right("train"))


def test_a_cache_that_cannot_be_written_is_an_error_that_says_so(empty, monkeypatch, tmp_path):
    put(empty, files(), "folder")
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("MAMLKIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(OSError, match="set MAMLKIT_CACHE to a folder"):
        mini_imagenet.load("train")
