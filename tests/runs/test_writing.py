"""Writing: whole or not at all, on a full disk too, and nothing is left behind."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from mamlkit import __main__
from mamlkit.runs import folders, train, trainings
from test_run_folders import ROW, contents, opened, short  # noqa: F401 (a fixture)

pytestmark = pytest.mark.usefixtures("one_by_one")


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path):
    folder = opened(ROW, base=tmp_path)
    left = [folder / name for name in ("metrics.csv1a2b3c4d.tmp", "state.safetensors.0123456789abcdef.tmp")]
    for path in [*left, folder / "notes.tmp"]:
        path.write_text("")
    opened(ROW, base=tmp_path)
    assert (folder / "notes.tmp").exists() and not any(path.exists() for path in left)


WRITTEN = [  # of a run that is kept unfinished, in order
    *("run.json", "metrics.csv", "state.safetensors", "params.safetensors", "tasks.npz", "result.json"),
    *("seed0.metrics.csv", "seed0.safetensors", "seed0.tasks.npz", "seed0.json"),
    *("run.json", "metrics.csv", "state.safetensors"),
]


@pytest.mark.parametrize("number", range(len(WRITTEN)), ids=lambda number: f"{number} {WRITTEN[number]}")
def test_a_full_disk_is_one_line_and_what_was_there_stays(number, short, tmp_path, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setattr(
        trainings,
        "evaluate_row",
        lambda row, params, **_: {
            e.name: {"mse": params["bias0"][None, :11].numpy() ** 2} for e in row.evaluations
        },
    )
    assert __main__.main([*short, "--until", "3", "--keep"]) == 0
    before, written, write = contents(tmp_path), [], Path.write_bytes

    def full(path, content):
        written.append(path.name.rsplit(".", 2)[0])
        if len(written) > number:
            write(path, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        assert __main__.main([*short, "--until", "5", "--keep"]) == 1
    assert written == WRITTEN[: number + 1]
    assert (
        f"No space left on device: '{tmp_path}" in (said := capsys.readouterr().err)
        and WRITTEN[number] + "'" in said
    )
    # of the state and of the result, which are more than copies of what lies elsewhere
    kept = {0: 3, 1: 3, 2: 3, 3: 5, 4: 5, 5: 5}.get(number)
    words = f"; the state of iteration {kept} is kept; make room, and the same command goes on\n"
    assert (words in said) if kept else ("is kept" not in said)
    after = contents(tmp_path)
    assert after.keys() == before.keys()  # nothing half-written lies about
    changed = sorted(path.name for path in after if after[path] != before[path])
    assert not set(changed) - set(WRITTEN[:number])
    assert __main__.main([*short, "--until", "5", "--keep"]) == 0
    assert folders.iterations_done(tmp_path / "repository" / "data" / "partial" / ROW.name / "seed0") == 5


def test_a_run_that_cannot_be_saved_at_all_says_that_nothing_is_kept(tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="metrics.csv'; no state is kept yet; make room, and the") as raised:
        train.fit(ROW, folder=tmp_path, until=1)
    assert raised.value.errno == errno.ENOSPC


def test_a_folder_that_may_not_be_written_to_needs_no_room(tmp_path, monkeypatch):
    train.fit(ROW, folder=tmp_path, until=2)

    def refused(path, content):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "write_bytes", refused)
    words = "Permission denied: '.*metrics.csv'; the state of iteration 2 is kept; once that is mended, the"
    with pytest.raises(PermissionError, match=words):
        train.fit(ROW, folder=tmp_path, until=3)


def test_a_disk_of_12_kilobytes_is_one_line(short, tmp_path, capsys):  # noqa: F811
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, hard))
    try:
        assert __main__.main([*short, "--until", "1"]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: [Errno 27] File too large: ")
    folder = tmp_path / "runs" / ROW.name / "seed0"  # the state before the first iteration has found room
    assert [path.name for path in folder.glob("*.safetensors*")] == ["state.safetensors"]
    assert folders.iterations_done(folder) == 0


@pytest.mark.parametrize("harm", ["removed", "replaced", "emptied"])
def test_a_run_folder_that_is_gone_midway_is_noticed_at_the_next_save(harm, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", -1.0)  # save after each iteration
    harms = {
        "removed": shutil.rmtree,
        "replaced": lambda folder: (shutil.rmtree(folder), folder.mkdir()),
        "emptied": empty,
    }

    def gone():
        if folders.iterations_done(folder) == 2:
            harms[harm](folder)
        return False

    wanted = "seed0 was removed, emptied or replaced .* the state of iteration 3 is in .*seed0-rescued-3,"
    with (
        pytest.raises(FileNotFoundError, match=wanted),
        folders.open_run(ROW, 0, "cpu", base=tmp_path) as folder,
    ):
        train.fit(ROW, folder=folder, until=2)
        train.fit(ROW, folder=folder, stop=gone, validate=False)
    assert not folder.exists() or not list(folder.iterdir())  # whoever is there now is left alone
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_name("seed0-rescued-3").rename(folder)
    with folders.open_run(ROW, 0, "cpu", base=tmp_path) as folder:
        fit = train.fit(ROW, folder=folder, until=5)
    straight = train.fit(ROW, until=5).params
    assert all((fit.params[name] == straight[name]).all() for name in straight)


def empty(folder):
    for path in folder.iterdir():
        path.unlink()
