"""Where a number comes from. No torch here."""

__all__ = ["provenance"]

import datetime
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any


def provenance(device: str) -> dict[str, Any]:
    """Commit, date, device, processor and versions.

    Args:
        device: name of the accelerator, or ``"cpu, 2 threads"``.
    """
    packages = ["torch", "numpy", "numba", "safetensors", "mujoco"]
    return {
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "device": device,
        "processor": _processor(),
        "versions": {"python": platform.python_version()}
        | {name: metadata.version(name) for name in packages},
    }


def _commit() -> str:
    if "MAMLKIT_COMMIT" in os.environ:  # for a copy without .git
        return os.environ["MAMLKIT_COMMIT"]
    here = Path(__file__).resolve()
    # Not of a repository that git was told of, nor of one that this file only lies in, installed there.
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    options = {"capture_output": True, "text": True, "check": True, "env": surroundings}
    git = lambda *words: subprocess.run(["git", "-C", here.parents[1], *words], **options).stdout.strip()
    try:
        git("ls-files", "--error-unmatch", "--", here.relative_to(here.parents[1]))
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
