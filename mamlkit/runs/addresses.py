"""Whether an address can be one of a Ray cluster, before Ray waits for it for minutes."""

__all__ = ["check"]

import os
import socket
from urllib.parse import urlsplit

SECONDS = 5.0  # in which a cluster must answer


def check(address: str | None) -> None:
    """``ValueError`` for an address that Ray does not know, or at which nobody answers.

    Args:
        address: ``"auto"``, ``"local"``, ``"host:port"`` or ``"ray://host:port"``. With None and ``"auto"``
            the environment variable ``RAY_ADDRESS`` counts, as it does for Ray.
    """
    name = "--address"
    if address is None or address == "auto":
        name, address = "RAY_ADDRESS", os.environ.get("RAY_ADDRESS") or "auto"
    if address in ("auto", "local"):
        return
    if (place := _place(address)) is None:
        raise ValueError(
            f"{name} is {address!r}, but 'auto', 'local', 'host:port' and 'ray://host:port' are allowed; "
            "take what `ray start --head` has printed, or leave it out"
        )
    try:
        socket.create_connection(place, SECONDS).close()
    except (OSError, UnicodeError) as error:  # a name that no host can have is the latter
        raise ValueError(
            f"{name} is {address!r}, but there nobody answers ({error}); start a cluster there with: ray "
            "start --head, give the 'host:port' of one that runs, or leave it out"
        ) from error


def _place(address: str) -> tuple[str, int] | None:
    """Host and port, if an address is made of these."""
    rest = address.removeprefix("ray://")
    try:
        found = urlsplit(f"//{rest}")
        host, port = found.hostname, found.port
    except ValueError:  # the port is no number, or too large
        return None
    return (host, port) if host and port and found.netloc == rest and "@" not in rest else None
