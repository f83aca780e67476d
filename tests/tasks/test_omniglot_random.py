"""Omniglot damaged at random: the right bank, or an error that says what is wrong."""

import io
import warnings
import zipfile

from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from PIL import Image

from mamlkit.tasks import omniglot
from small_omniglot import PART, files_of, put, repacked, right_bank, same

PIECES = ["Greek", "Angelic", "character01", "character02", "0017_01.png", "0017_01.PNG", "x_9.png", "_.png"]
PIECES += ["__MACOSX", "._0017_01.png", "...", ".", "", "\\", "C:", "\u00e9", "0017_" + "9" * 90 + ".png"]


@st.composite
def damages(draw):
    """A way to damage bytes: flip some bits, cut them short, take out, put in or repeat a piece."""
    kind = draw(st.sampled_from(["flip", "cut", "take out", "put in", "repeat"]))
    shares = st.floats(0, 1, exclude_max=True)
    share, length = draw(shares), draw(st.integers(1, 40))
    flips = draw(st.lists(st.tuples(shares, st.integers(0, 7)), min_size=1, max_size=4))
    noise = draw(st.binary(min_size=1, max_size=20))

    def damage(data: bytes) -> bytes:
        at = int(share * len(data))
        if kind == "flip":
            changed = bytearray(data)
            for where, bit in flips if data else ():
                changed[int(where * len(data))] ^= 1 << bit
            return bytes(changed)
        again, later = max(at - length, 0), at + length
        rest = {"cut": b"", "take out": data[later:], "put in": noise + data[at:], "repeat": data[again:]}
        return data[:at] + rest[kind]

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
        image = image.resize((28, 28)) if form == "other size" else image.convert("L")
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
    name=st.lists(st.sampled_from(PIECES), max_size=6),
    form=st.sampled_from(["png", "eps", "bmp", "gif", "ppm", "other size", "grey"]),
    packed=st.booleans(),
)
def test_other_names_and_formats_give_the_right_bank_or_a_clear_error(small, which, name, form, packed):
    files = files_of(PART)
    data = files.pop(list(files)[which])
    files["/".join([PART, *name])] = converted(data, form)
    try:
        put(small, files, packed)
    except OSError:
        reject()  # no file can have this name
    load_or_clear_error()
