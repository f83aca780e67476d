"""Omniglot as it comes from other people: every layout that means the same, and damage of every kind."""

import io
import os
import shutil
import struct
import tracemalloc
import warnings
import zipfile
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from PIL import Image
from small_omniglot import CHARACTERS, SPLIT, drawing, files_of, in_cache, png, write

from mamlkit.tasks import omniglot, omniglot_files
from mamlkit.tasks.bank import ClassBank

PART = "images_background"


def put(small: Path, files: dict[str, bytes], packed: bool = True) -> None:
    """Other files in the place of the first half of the small Omniglot."""
    (small / f"{PART}.zip").unlink(missing_ok=True)
    shutil.rmtree(small / PART, ignore_errors=True)
    write(small, PART, files, packed)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def header(width: int, height: int) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))


SIGNATURE = b"\x89PNG\r\n\x1a\n"

# ---- layouts that mean the same

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
    names = ["__MACOSX/{}/Greek/character01/._0021_01.png", "{}/Greek/character01/._0021_01.png", "{}/.DS_Store",
             "{}/Greek/.ipynb_checkpoints/0021_01.png", "{}/Greek/character01/Thumbs.db", "{}/Greek/contents.png",
             "{}/Greek/character01/0021_01 (1).png", "{}/Greek/character01/preview.png"]  # fmt: skip
    files = files_of(PART)
    litter = {name.format(PART): b"x" for name in names}
    put(small, {f"{PART}/{name}": data for name, data in (files | litter).items()}, packed)
    assert same(omniglot.load("all"), right_bank())


def test_links_are_followed_and_a_loop_of_them_ends(small, tmp_path):
    put(small, files_of(PART), packed=False)
    shutil.move(small / PART / "Greek", tmp_path / "Greek")
    (small / PART / "Greek").symlink_to(tmp_path / "Greek")
    (tmp_path / "Greek" / "again").symlink_to(small / PART)
    assert same(omniglot.load("all"), right_bank())


@cache
def right_bank() -> ClassBank:
    files = {name.partition("/")[2]: data for part in CHARACTERS for name, data in files_of(part).items()}
    images = np.stack([omniglot_files.decode(files[name], name) for name in sorted(files)])
    return ClassBank(torch.from_numpy(images).view(3, 4, 1, 28, 28), tuple(sorted(SPLIT)))


def test_the_bank_of_the_small_omniglot(small):
    assert same(omniglot.load("all"), right_bank())


def same(one: ClassBank, other: ClassBank) -> bool:
    return one.names == other.names and torch.equal(one.images, other.images)


# ---- damage


def without_one_drawing(files: dict[str, bytes]) -> None:
    del files[next(iter(files))]


def without_one_character(files: dict[str, bytes]) -> None:
    for name in [name for name in files if "character02" in name]:
        del files[name]


def with_one_character_more(files: dict[str, bytes]) -> None:
    files |= {name.replace("character02", "character99"): data for name, data in files.items()}


def unreadable(files: dict[str, bytes]) -> None:
    files[next(iter(files))] = b"this is no image"


def cut_short(files: dict[str, bytes]) -> None:
    name = next(iter(files))
    files[name] = files[name][: len(files[name]) // 2]


def wrong_size(files: dict[str, bytes]) -> None:
    files[next(iter(files))] = png(drawing(0, size=(104, 105)))


def huge_size(files: dict[str, bytes]) -> None:
    files[next(iter(files))] = SIGNATURE + header(60_000, 60_000) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def huge_size_stated_second(files: dict[str, bytes]) -> None:
    huge = header(60_000, 60_000) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    files[next(iter(files))] = SIGNATURE + header(105, 105) + huge


def large_size_stated_second(files: dict[str, bytes]) -> None:  # Pillow warns of this one
    large = header(12_000, 12_000) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    files[next(iter(files))] = SIGNATURE + header(105, 105) + large


def a_program_for_ghostscript(files: dict[str, bytes]) -> None:
    files[next(iter(files))] = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 105 105\n%%EndComments\nshowpage\n"


def another_format(files: dict[str, bytes]) -> None:
    file = io.BytesIO()
    drawing(0).save(file, "BMP")
    files[next(iter(files))] = file.getvalue()


def one_pixel_changed(files: dict[str, bytes]) -> None:
    name = next(iter(files))
    data = bytearray(files[name])
    data[data.index(b"IDAT") + 100] ^= 4
    files[name] = bytes(data)


def too_long(files: dict[str, bytes]) -> None:
    files[next(iter(files))] += bytes(70_000)


def twice(files: dict[str, bytes]) -> None:
    name = next(iter(files))
    files[name.replace("Greek", "copy/Greek")] = files[name]


def twice_in_capitals(files: dict[str, bytes]) -> None:
    name = next(iter(files))
    files[name.replace(".png", ".PNG")] = files[name]


def twice_instead_of_another(files: dict[str, bytes]) -> None:
    first, second = list(files)[:2]
    files[second.replace("_02.png", "_01 (1).png")] = files.pop(first)


def numbered_wrongly(files: dict[str, bytes]) -> None:
    name = next(iter(files))
    files[name.replace("_01.png", "_05.png")] = files.pop(name)


def in_the_other_half_too(files: dict[str, bytes]) -> None:
    files |= {f"{PART}/{name}": data for name, data in files_of("images_evaluation").items()}


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (without_one_drawing, r"has 4 drawings.*Greek/character01 \(3\)"),
        (without_one_character, "2 characters in .*Omniglot has 3; missing: Greek/character02; unknown: none"),
        (with_one_character_more, "4 characters in .*missing: none; unknown: Greek/character99"),
        (unreadable, r"Greek/character01/.*_01\.png is not a readable image"),
        (cut_short, r"Greek/character01/.*_01\.png is not a readable image"),
        (wrong_size, r"_01\.png is 104 x 105 pixels; Omniglot's are 105 x 105"),
        (huge_size, r"_01\.png is 60000 x 60000 pixels; Omniglot's are 105 x 105"),
        (huge_size_stated_second, r"_01\.png is not a readable image"),
        (large_size_stated_second, r"_01\.png is not a readable image"),
        (a_program_for_ghostscript, r"_01\.png is not a readable image \(its bytes are not those of a PNG file\)"),
        (another_format, r"_01\.png is not a readable image \(its bytes are not those of a PNG file\)"),
        (one_pixel_changed, r"_01\.png is not a readable image \(its chunk b'IDAT' does not match its CRC\)"),
        (too_long, r"_01\.png'? has 7\d,\d+ bytes, but a drawing has at most 65,536"),
        (twice, r"has drawing 1 of Greek/character01 twice, as '.*_01\.png' and as '.*_01\.png'"),
        (twice_in_capitals, "has drawing 1 of Greek/character01 twice"),
        (twice_instead_of_another, r"has 4 drawings, numbered from 1, but .*Greek/character01 \(3\)"),
        (numbered_wrongly, r"has 4 drawings, numbered from 1, but .*Greek/character01 \(4\)"),
        (in_the_other_half_too, r"has 4 drawings.*Angelic/character01 \(8\)"),
    ],
)
@pytest.mark.parametrize("packed", [True, False])
def test_damaged_content_is_named_and_nothing_is_kept(small, damage, says, packed):
    files = files_of(PART)
    damage(files)
    put(small, files, packed)
    with warnings.catch_warnings(), pytest.raises(ValueError, match=f"(?s){says}.*python -m mamlkit data omniglot"):
        warnings.simplefilter("error")
        omniglot.load("all")
    assert in_cache() == []


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.99])
def test_a_truncated_archive_is_named(small, keep):
    file = small / "images_background.zip"
    file.write_bytes(file.read_bytes()[: int(keep * file.stat().st_size)])
    with pytest.raises(ValueError, match=r"images_background\.zip is truncated or damaged .*python -m mamlkit data"):
        omniglot.load("all")
    assert in_cache() == []


def test_an_archive_with_a_flipped_bit_is_named(small):
    file = small / "images_background.zip"
    data = bytearray(file.read_bytes())
    data[data.index(b"IDAT") + 20] ^= 1
    file.write_bytes(data)
    with pytest.raises(ValueError, match="truncated or damaged .*CRC"):
        omniglot.load("all")


def repacked(small: Path, method: int = zipfile.ZIP_DEFLATED, name: str = "", content: bytes = b"") -> Path:
    """The first half packed by another method, perhaps with one more member; its archive."""
    with zipfile.ZipFile(small / f"{PART}.zip", "w", method) as archive:
        for member, data in (files_of(PART) | ({name: content} if name else {})).items():
            archive.writestr(member, data)
    return small / f"{PART}.zip"


def changed(file: Path, old: bytes, new: bytes, count: int = 1) -> None:
    """Other bytes of the same length, at the last places where ``old`` is (where the list of members is)."""
    data = file.read_bytes()
    assert len(old) == len(new) and data.count(old) >= count
    head, *tail = data.rsplit(old, count)
    file.write_bytes(new.join([head, *tail]))


def refused(says: str) -> None:
    with pytest.raises(ValueError, match=f"(?s){says}.*python -m mamlkit data omniglot"):
        omniglot.load("all")
    assert in_cache() == []


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


@pytest.mark.parametrize("stated", [2**27, 500])  # the size that the archive's list of members states, true and false
def test_a_small_archive_that_becomes_large_is_refused_without_the_memory(small, stated):
    file = repacked(small, name=f"{PART}/Greek/character01/0021_05.png", content=bytes(2**27))
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
    file = repacked(small, name=f"{PART}/Greek/character01/0021_05.png", content=bytes(2**25))
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
    file = repacked(small, name=f"{PART}/Gr\u00e9ek/character01/0021_01.png", content=b"x")
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
    with pytest.raises((ValueError, FileNotFoundError), match=str(file)):
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


# ---- damage at random: the right bank, or an error that says so


@st.composite
def damages(draw):
    """A way to damage bytes: to flip some bits, to cut them short, to take out, to put in, or to repeat a piece."""
    kind = draw(st.sampled_from(["flip", "cut", "take out", "put in", "repeat"]))
    share, length = draw(st.floats(0, 1, exclude_max=True)), draw(st.integers(1, 40))
    flips = draw(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=4))
    noise = draw(st.binary(min_size=1, max_size=20))

    def damage(data: bytes) -> bytes:
        at = int(share * len(data))
        if kind == "flip":
            changed = bytearray(data)
            for where, bit in flips if data else ():
                changed[int(where * len(data))] ^= 1 << bit
            return bytes(changed)
        new = {"cut": b"", "take out": data[at + length :], "put in": noise + data[at:], "repeat": data[max(at - length, 0) :]}
        return data[:at] + new[kind]

    return damage


def load_or_clear_error() -> None:
    """Load: only errors that say what is wrong, or the right bank."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            assert same(omniglot.load("all"), right_bank())
        except (ValueError, FileNotFoundError) as error:
            assert "images_background" in str(error)


def converted(data: bytes, form: str) -> bytes:
    """The same drawing as another file."""
    if form == "png":
        return data
    with Image.open(io.BytesIO(data)) as image:
        image = image.resize((28, 28)) if form == "other size" else image.convert("L") if form != "bmp" else image.copy()
    file = io.BytesIO()
    image.save(file, form.upper() if form in ("eps", "bmp", "gif", "ppm") else "PNG")
    return file.getvalue()


def shared_folder(function):
    """The folder is the same for all examples, each of which writes all that it reads."""
    return settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)(function)


@shared_folder
@given(damage=damages(), deflated=st.booleans())
def test_a_damaged_archive_gives_the_right_bank_or_a_clear_error(small, damage, deflated):
    file = repacked(small, zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED)
    file.write_bytes(damage(file.read_bytes()))
    load_or_clear_error()


@shared_folder
@given(damage=damages(), which=st.integers(0, 7))
def test_a_damaged_file_in_a_folder_gives_the_right_bank_or_a_clear_error(small, damage, which):
    files = files_of(PART)
    name = list(files)[which]
    files[name] = damage(files[name])
    put(small, files, packed=False)
    load_or_clear_error()


@shared_folder
@given(
    which=st.integers(0, 7),
    name=st.lists(st.sampled_from(["Greek", "character01", "character02", "Angelic", "0021_01.png", "0021_01.PNG", "x_9.png",
                                   "__MACOSX", "._0021_01.png", "...", ".", "", "\\", "C:", "\u00e9", "0021_" + "9" * 90 + ".png"]), max_size=6),
    form=st.sampled_from(["png", "eps", "bmp", "gif", "ppm", "other size", "grey"]),
    packed=st.booleans(),
)  # fmt: skip
def test_other_names_and_formats_give_the_right_bank_or_a_clear_error(small, which, name, form, packed):
    files = files_of(PART)
    data = files.pop(list(files)[which])
    files["/".join([PART, *name])] = converted(data, form)
    try:
        put(small, files, packed)
    except OSError:
        reject()  # no file can have this name
    load_or_clear_error()
