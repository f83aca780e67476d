"""The commit that a run records is that of the code that ran, or unknown."""

import importlib.util
import os
import shutil
import subprocess

import pytest

from mamlkit.runs import provenance


@pytest.fixture
def other(tmp_path, monkeypatch):
    """A repository of somebody else with one commit."""
    monkeypatch.delenv("MAMLKIT_COMMIT", raising=False)
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "somebody")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "somebody@example.org")
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "something else")
    return tmp_path


def git(folder, *words):
    return subprocess.run(
        ["git", "-C", folder, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def installed(package):
    """The module as it is loaded from another folder of the package."""
    room = package / "runs"
    room.mkdir(parents=True)
    spec = importlib.util.spec_from_file_location("installed", shutil.copy(provenance.__file__, room))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_code_of_a_copy_without_a_commit_is_told_by_its_files(tmp_path):
    first, second = (installed(tmp_path / name / "mamlkit") for name in ("first", "second"))
    assert first.code() == second.code()
    changed = tmp_path / "second" / "mamlkit" / "maml.py"
    changed.write_text("alpha = 1\n")
    before = second.code()
    assert before != first.code()
    changed.write_text("alpha = 2\n")
    assert second.code() != before
    changed.rename(changed.with_name("mamls.py"))
    assert second.code() not in (first.code(), before)


def test_where_the_commit_does_not_tell_the_code_its_files_do(other):
    module = installed(other / "mamlkit")
    unknown = module.version()
    assert unknown["commit"] == "unknown" and unknown["files"] in module.code()
    git(other, "add", "mamlkit")
    git(other, "commit", "-q", "-m", "ours")
    clean = module.version()
    assert clean.keys() == {"commit"}
    found = []
    for content in ("alpha = 1\n", "alpha = 2\n"):
        (other / "mamlkit" / "maml.py").write_text(content)
        found.append({key: module.provenance("cpu")[key] for key in ("commit", "files")})
    first, second = found
    assert first["commit"] == second["commit"] == clean["commit"] + "+changes"
    differ = module.other_code
    assert differ(first, second) and differ(clean, second) and differ(second, clean)
    assert not differ(second, second) and not differ(clean, clean)
    before = {"commit": second["commit"]}  # there were no files in origins then
    assert not differ(before, second) and differ(before, clean) and not differ("somewhere", clean)


@pytest.mark.parametrize("ignored", [True, False])
def test_a_package_installed_within_another_repository_has_not_its_commit(ignored, other):
    if ignored:
        (other / ".gitignore").write_text(".venv/\n")
    module = installed(other / ".venv" / "lib" / "python3.12" / "site-packages" / "mamlkit")
    assert module.provenance("cpu")["commit"] == "unknown"


def test_a_clone_has_its_own_commit_and_says_when_it_was_changed(other, monkeypatch):
    module = installed(other / "mamlkit")
    git(other, "add", "mamlkit")
    git(other, "commit", "-q", "-m", "ours")
    commit = git(other, "rev-parse", "HEAD")
    assert module.provenance("cpu")["commit"] == commit
    monkeypatch.setenv("GIT_DIR", str(other / "nowhere"))  # as in a hook of another repository
    assert module.provenance("cpu")["commit"] == commit
    (other / "mamlkit" / "maml.py").touch()  # in another room
    assert module.provenance("cpu")["commit"] == commit + "+changes"


def test_the_clone_of_another_user_has_its_commit_but_no_repository_around_it(other, monkeypatch):
    module = installed(other / "mamlkit")
    git(other, "add", "mamlkit")
    git(other, "commit", "-q", "-m", "ours")
    deeper = installed(other / "somewhere" / "mamlkit")
    git(other, "add", "somewhere")
    git(other, "commit", "-q", "-m", "a package that is no clone")
    commit = git(other, "rev-parse", "HEAD")
    assert module.provenance("cpu")["commit"] == deeper.provenance("cpu")["commit"] == commit
    wrapper = other / "bin" / "git"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nGIT_TEST_ASSUME_DIFFERENT_OWNER=1 exec "{shutil.which("git")}" "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", str(wrapper.parent), prepend=os.pathsep)
    assert module.provenance("cpu")["commit"] == commit
    assert deeper.provenance("cpu")["commit"] == "unknown"


def test_without_git_the_commit_is_unknown(other, monkeypatch):
    module = installed(other / "mamlkit")
    monkeypatch.setenv("PATH", str(other / "empty"))
    assert module.provenance("cpu")["commit"] == "unknown"
