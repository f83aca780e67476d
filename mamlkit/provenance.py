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
        "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in packages},
    }


def _commit() -> str:
    if "MAMLKIT_COMMIT" in os.environ:  # for a copy without .git
        return os.environ["MAMLKIT_COMMIT"]
    root = Path(__file__).resolve().parents[1]
    git = lambda *words: subprocess.run(["git", "-C", root, *words], capture_output=True, text=True, check=True).stdout.strip()
    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--", "mamlkit") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
