"""Whether an address can be one of a Ray cluster, before Ray waits for it for minutes."""

__all__ = ["check"]

import os
import socket
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

SECONDS = 5.0  # in which a cluster must answer


def check(address: str | None) -> None:
    """``ValueError`` for an address that Ray does not know, or at which nobody answers.

    Args:
        address: ``"auto"``, ``"local"``, ``"host:port"`` or ``"ray://host:port"``. With None and ``"auto"``
            the environment variable ``RAY_ADDRESS`` counts, as it does for Ray, and then the file in which
            Ray remembers the cluster that was started last.
    """
    said, advice = f"--address is {address!r}", "leave it out"
    if address is None or address == "auto":
        address = os.environ.get("RAY_ADDRESS") or "auto"
        said = f"RAY_ADDRESS is {address!r}"
    if address == "auto":
        file = _remembered()
        try:
            address = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeError):  # no cluster was started here
            return
        said, advice = f"{file} has {address!r} as the cluster that was started last", "remove the file"
    if address == "local":
        return
    if (place := _place(address)) is None:
        raise ValueError(
            f"{said}, but 'auto', 'local', 'host:port' and 'ray://host:port' are allowed; "
            f"take what `ray start --head` has printed, or {advice}"
        )
    try:
        socket.create_connection(place, SECONDS).close()
    except (OSError, UnicodeError) as error:  # a name that no host can have is the latter
        raise ValueError(
            f"{said}, but there nobody answers ({error}); start a cluster there with: ray "
            f"start --head, give the 'host:port' of one that runs, or {advice}"
        ) from error


def _remembered() -> Path:
    """The file in which ``ray start`` leaves its address, and which ``ray stop`` removes: Ray's rule."""
    linux = sys.platform.startswith("linux")
    system = "/tmp" if linux or sys.platform == "darwin" else tempfile.gettempdir()
    folder = os.environ.get("RAY_TMPDIR", os.environ.get("TMPDIR", system) if linux else system)
    return Path(folder, "ray", "ray_current_cluster")


def _place(address: str) -> tuple[str, int] | None:
    """Host and port, if an address is made of these."""
    rest = address.removeprefix("ray://")
    try:
        found = urlsplit(f"//{rest}")
        host, port = found.hostname, found.port
    except ValueError:  # the port is no number, or too large
        return None
    return (host, port) if host and port and found.netloc == rest and "@" not in rest else None
