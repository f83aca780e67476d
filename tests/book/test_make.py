"""``make check`` and ``make test``: every part runs, and every failure counts."""

import os
import shutil
import subprocess

import pytest

import made_clone

PARTS = ["ruff format --check", "ruff check", "--doctest-modules", "--nbval"]
PYTHON = """\
#!/bin/sh
echo "$*" >> called
case "$*" in *'{fails}'*) exit 1;; esac
"""


def make(folder, target, fails):
    """What `make` returns and says, and the calls of a Python that only fails at one part, in order."""
    clone = made_clone.clone(folder / "clone").resolve()
    python = clone / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON.format(fails=fails))
    python.chmod(0o755)
    (clone / ".venv" / ".installed").write_text(f"{clone}\n")
    own = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}  # not of `make test`
    done = subprocess.run(["make", "-C", clone, target], env=own, capture_output=True, text=True)
    return done.returncode, done.stderr, (clone / "called").read_text().splitlines()


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not there")


@needs_make
@pytest.mark.parametrize("fails", ["nothing", *PARTS])
def test_all_parts_of_make_test_run_and_each_failure_counts(fails, tmp_path):
    status, said, calls = make(tmp_path, "test", fails)
    assert (status == 0) == (fails == "nothing") == ("make test: " not in said)
    ran = [part for part in PARTS if any(part in call for call in calls)]
    assert ran == [part for part in PARTS if (part, fails) != ("ruff check", "ruff format --check")]


@needs_make
@pytest.mark.parametrize("fails", ["nothing", *PARTS[:2]])
def test_make_check_tests_nothing(fails, tmp_path):
    status, _, calls = make(tmp_path, "check", fails)
    assert (status == 0) == (fails == "nothing")
    assert calls and not any("pytest" in call for call in calls)
