"""Drawings that are damaged, wrong, missing, or there twice."""

import io
import struct
import warnings
import zlib

import pytest

from small_omniglot import PART, drawing, files_of, png, put, refused


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def header(width: int, height: int) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))


SIGNATURE = b"\x89PNG\r\n\x1a\n"


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
    files[next(iter(files))] = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 105 105\nshowpage\n"


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
        (without_one_character, "2 characters in .*has 3; missing: Greek/character02; unknown: none"),
        (with_one_character_more, "4 characters in .*missing: none; unknown: Greek/character99"),
        (unreadable, r"Greek/character01/.*_01\.png is not a readable image"),
        (cut_short, r"Greek/character01/.*_01\.png is not a readable image"),
        (wrong_size, r"_01\.png is 104 x 105 pixels; Omniglot's are 105 x 105"),
        (huge_size, r"_01\.png is 60000 x 60000 pixels; Omniglot's are 105 x 105"),
        (huge_size_stated_second, r"_01\.png is not a readable image"),
        (large_size_stated_second, r"_01\.png is not a readable image"),
        (a_program_for_ghostscript, r"_01\.png is not a readable image \(no PNG file by its bytes\)"),
        (another_format, r"_01\.png is not a readable image \(no PNG file by its bytes\)"),
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
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refused(says)
