"""Where a number comes from. No torch here."""

__all__ = ["code", "named", "other_code", "provenance", "version"]

import datetime
import hashlib
import os
import platform
import subprocess
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any


def provenance(device: str) -> dict[str, Any]:
    """Commit, date, device, processor and versions; where the commit does not tell the code, ``files`` too.

    Args:
        device: name of the accelerator, or ``"cpu, 2 threads"``.
    """
    versions = {"python": platform.python_version()}
    for name in ("torch", "numpy", "numba", "safetensors", "mujoco"):
        with suppress(metadata.PackageNotFoundError):  # without robots MuJoCo may be missing
            versions[name] = metadata.version(name)
    return version() | {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "device": device,
        "processor": _processor(),
        "versions": versions,
    }


def version() -> dict[str, str]:
    """Which code this is: ``commit``, and ``files``, a digest, where the commit is unknown or was changed."""
    commit = _commit()
    return {"commit": commit} | ({"files": _digest()} if commit.endswith(("+changes", "unknown")) else {})


def other_code(earlier: Any, here: dict[str, Any]) -> bool:
    """Whether an origin says that it is of another version of the code.

    Origins did not always have ``files``, and one without does not say it.
    """
    if not isinstance(earlier, dict) or "commit" not in earlier:
        return False
    files = earlier.get("files", here.get("files"))
    return bool(earlier["commit"] != here["commit"] or files != here.get("files"))


def named(origin: dict[str, Any]) -> str:
    """A version of the code, in words.

    >>> named({"commit": "0123456789+changes", "files": "abcdef"}), named({"commit": "unknown"})
    ('commit 0123456+changes (files abcdef)', 'commit unknown')
    """
    commit, changed, _ = str(origin["commit"]).partition("+changes")
    return f"commit {commit[:7]}{changed}" + (f" (files {origin['files']})" if "files" in origin else "")


def code() -> str:
    """What two machines compare before they share a run: the commit, and a digest of the package's files.

    Copies without .git have no commit, and a clone may have been changed since its own.
    """
    return f"{_commit()} (files {_digest()})"


def _digest() -> str:
    """Of the names and contents of the package's files."""
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        digest.update(f"{file.relative_to(package).as_posix()} {file.stat().st_size}\n".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _commit() -> str:
    if "MAMLKIT_COMMIT" in os.environ:  # for a copy without .git
        return os.environ["MAMLKIT_COMMIT"]
    here = Path(__file__).resolve()
    # Not of a repository that git was told of, nor of one that this file only lies in, installed there.
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    # The clone may be another user's, whom git would not trust; but this is that clone's code, and it runs
    # already.
    command: list[str | Path] = ["git", "-c", f"safe.directory={here.parents[2]}", "-C", here.parents[1]]

    def git(*words: str | Path) -> str:
        found = subprocess.run(
            [*command, *words],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=True,
            env=surroundings,
        )
        return found.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "--", here.relative_to(here.parents[1]))
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
