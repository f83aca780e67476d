"""What ``gpu.py`` finds on a machine that is lent: packed there, and taken home."""

import tarfile
import tempfile
from pathlib import Path

from gpu_parts import Failures

from mamlkit import files, places
from mamlkit.runs import keeping, records


def new_files(since: float, out: Path, failed: Failures) -> list[str]:
    """Pack what is new in ``data/``, and what has failed; returns the names."""
    data = places.repository() / "data"
    parts = ("benchmarks", "partial", "results")
    found = [p for part in parts for p in sorted((data / part).rglob("*")) if p.is_file()]
    found = [p for p in found if p.stat().st_mtime >= since]
    (out / "failed.txt").write_text("\n".join(failed), encoding="utf-8")
    with files.replacing(out / "found.tar.gz") as place, tarfile.open(place, "w:gz") as packed:
        packed.add(out / "failed.txt", "failed.txt")
        for path in found:
            packed.add(path, str(Path("data") / path.relative_to(data)))
    return [str(path.relative_to(data)) for path in found]


def take(path: Path) -> None:
    """Bring what a call has packed into the clone's ``data/``, but for what has come less far.

    Raises:
        OSError, tarfile.TarError: the file cannot be read.
    """
    data = places.repository() / "data"
    with tempfile.TemporaryDirectory() as place, tarfile.open(path) as packed:
        packed.extractall(place, filter="data")
        found = Path(place) / "data"
        for state in sorted(found.glob("partial/*/seed*")):
            try:
                print(*keeping.keep_state(state), sep="\n")
            except ValueError as less:
                print(f"left out: {less}")
        late = set()
        for record in sorted(found.glob("results/*/seed*.json")):
            there = data / record.relative_to(found)
            done = lambda of: records.read(of, "iterations_done")["iterations_done"]
            if there.exists() and done(there) >= done(record):
                late.add((record.parent, record.stem))
                print(f"left out: {there} has come as far")
        for new in sorted(p for part in ("results", "benchmarks") for p in (found / part).rglob("*.*")):
            if (new.parent, new.name.partition(".")[0]) not in late:
                print(files.copy(new, data / new.relative_to(found)))
        print((Path(place) / "failed.txt").read_text(encoding="utf-8"))
