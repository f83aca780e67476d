"""Files that are whole or not there."""

import os
import stat
import time

import pytest

from mamlkit import files
from mamlkit.files import replacing


def test_a_file_takes_the_place_of_the_old_one_when_it_is_whole(tmp_path):
    target = tmp_path / "new" / "folder" / "x.txt"
    for text in ("one", "two"):
        with replacing(target) as temporary:
            assert temporary.parent == target.parent  # a rename between file systems would not be one step
            temporary.write_text(text)
            assert not target.exists() if text == "one" else target.read_text() == "one"
        assert target.read_text() == text
    assert os.listdir(target.parent) == ["x.txt"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_after_an_error_the_old_file_is_there_and_nothing_else(tmp_path, error):
    (tmp_path / "x").write_text("old")
    with pytest.raises(type(error)), replacing(tmp_path / "x") as temporary:
        temporary.write_text("half")
        raise error
    assert os.listdir(tmp_path) == ["x"] and (tmp_path / "x").read_text() == "old"


def test_the_bytes_are_on_the_disk_before_the_name(tmp_path, monkeypatch):
    done, replace = [], os.replace
    monkeypatch.setattr(files.os, "fsync", lambda handle: done.append(("fsync", os.fstat(handle).st_size)))
    monkeypatch.setattr(files.os, "replace", lambda a, b: (done.append("replace"), replace(a, b)))
    with replacing(tmp_path / "x") as temporary:
        temporary.write_bytes(b"12345")
    assert done == [("fsync", 5), "replace"]


def test_the_umask_gives_the_mode(tmp_path):
    for mask, mode in ((0o022, 0o644), (0o077, 0o600), (0o002, 0o664)):
        before = os.umask(mask)
        try:
            with replacing(tmp_path / "x") as temporary:
                temporary.write_text("x")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == mode


def test_no_planted_link_is_followed(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "x.npz").symlink_to(victim)  # in the place of the file itself
    (tmp_path / f".x-{os.getpid()}.tmp").symlink_to(victim)  # where a name can be foreseen
    with replacing(tmp_path / "x.npz") as temporary:
        temporary.write_text("ours")
    assert victim.read_text() == "precious" and not (tmp_path / "x.npz").is_symlink()

    monkeypatch.setattr(files.secrets, "token_hex", lambda n: "0" * 2 * n)  # even where it was foreseen
    (tmp_path / "x.npz.0000000000000000.tmp").symlink_to(victim)
    with pytest.raises(FileExistsError), replacing(tmp_path / "x.npz") as temporary:
        temporary.write_text("ours again")
    assert victim.read_text() == "precious"


def test_names_do_not_repeat(tmp_path):
    with replacing(tmp_path / "x") as one, replacing(tmp_path / "x") as other:
        assert one != other


def test_what_killed_processes_left_is_removed_a_day_later(tmp_path):
    def leave(name: str, hours: float) -> None:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - 3600 * hours,) * 2)

    for name in ("x.json.0123456789abcdef.tmp", "x.jsonab_cd012.tmp"):  # ours, and ours of earlier versions
        leave(name, hours=25)
    leave("x.json.aaaaaaaaaaaaaaaa.tmp", hours=1)  # perhaps somebody is writing it
    name = "x.json.0123456789abcdef.tmp"
    others = [f"y.{name}", f"{name}.gz", name.replace(".json", "ajson"), "x.json.mine.tmp", "x.json.bak"]
    for name in others:
        leave(name, hours=1000)
    with replacing(tmp_path / "x.json") as temporary:
        temporary.write_text("x")
    assert sorted(os.listdir(tmp_path)) == sorted([*others, "x.json", "x.json.aaaaaaaaaaaaaaaa.tmp"])


def test_a_left_over_that_cannot_be_removed_stops_nothing(tmp_path):
    folder = tmp_path / "x.0123456789abcdef.tmp"
    folder.mkdir()
    os.utime(folder, (0, 0))
    with replacing(tmp_path / "x") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "x").read_text() == "x" and folder.is_dir()
