"""Where our numbers come from: the runs behind each experiment, and the machines they ran on. No torch here.

A page shows what one of these functions returns with the directive ``{from-package}
mamlkit.report.origins:NAME``.
"""

__all__ = ["anchor", "machines", "runs"]

from collections.abc import Iterable
from string import ascii_uppercase
from typing import Any

from mamlkit import places
from mamlkit.experiments.paper import ROWS
from mamlkit.report import results

MOST = 3  # commits, dates or machines of a run that are named one by one


def anchor(name: str) -> str:
    """The label of an experiment's paragraph."""
    return f"origin-{name}"


def runs() -> str:
    """A paragraph per experiment: its seeds, how far each has come, how long it took, on what, from where."""
    known = _machines()
    paragraphs = []
    for name in _committed():
        alike: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for result in results.load(name):
            alike.setdefault(_origin(result, known), []).append(result)
        parts = [_part(where, found) for where, found in alike.items()]
        paragraphs.append(f"({anchor(name)})=\n`{name}`: {'; '.join(parts)}.\n")
    return "\n".join(paragraphs) or "No result has been committed yet.\n"


def machines() -> str:
    """What the letters of :func:`runs` stand for: device, processor and versions."""
    lines = [f"- **{letter}**: {'; '.join(machine)}" for machine, letter in _machines().items()]
    return "\n".join(lines) + "\n" if lines else "No machine yet.\n"


def _committed() -> list[str]:
    """Names of the experiments with a result, in the order of the rows; those without a row come last."""
    folders = {path.parent.name for path in (places.repository() / "data" / "results").glob("*/seed*.json")}
    return [*(n for n in ROWS if n in folders), *sorted(folders - ROWS.keys())]


def _machine(part: dict[str, Any]) -> tuple[str, str, str]:
    versions = ", ".join(f"{library} {version}" for library, version in part["versions"].items())
    return part["device"], part["processor"], versions


def _machines() -> dict[tuple[str, str, str], str]:
    """Each machine with its versions, and its letter (AA after Z)."""
    found = dict.fromkeys(
        _machine(part) for name in _committed() for result in results.load(name) for part in result["origin"]
    )
    letters = [*ascii_uppercase, *(a + b for a in ascii_uppercase for b in ascii_uppercase)]
    return dict(zip(found, letters))


def _origin(result: dict[str, Any], known: dict[tuple[str, str, str], str]) -> tuple[str, ...]:
    """How far a run has come, and what was at work on it."""
    parts = result["origin"]
    return (
        f"{result['iterations_done']:,} iterations, " if result["iterations_done"] else "",
        _then(map(_code, parts)),
        _then(part["date"] for part in parts),
        "on " + _then(known[_machine(part)] for part in parts),
    )


def _code(part: dict[str, Any]) -> str:
    """The commit, and the digest of its files where the commit does not tell the code and it was recorded.

    >>> _code({"commit": "0123456789+changes"}), _code({"commit": "unknown", "files": "abcdef"})
    ('`0123456`+', '`unknown` (files `abcdef`)')
    """
    commit = f"`{part['commit'][:7]}`" + ("+" if part["commit"].endswith("+changes") else "")
    return commit + (f" (files `{part['files']}`)" if "files" in part else "")


def _part(where: tuple[str, ...], found: list[dict[str, Any]]) -> str:
    """Runs of the same origin, in words."""
    seeds = _and([str(result["seed"]) for result in found])
    times = [results.duration(s) for s in sorted(result["seconds"] for result in found)]
    time = times[0] if times[0] == times[-1] else f"{times[0]} to {times[-1]}"
    iterations, commit, date, machine = where
    return f"seed{'s' if len(found) > 1 else ''} {seeds}, {iterations}{time}, {commit}, {date}, {machine}"


def _and(words: list[str]) -> str:
    """A list in a sentence.

    >>> _and(["0"]), _and(["0", "1", "2"])
    ('0', '0, 1 and 2')
    """
    return " and ".join([*([", ".join(words[:-1])] if words[1:] else []), words[-1]])


def _then(values: Iterable[str]) -> str:
    """What changed while a run went on from machine to machine, in order; of many the first and the last.

    >>> _then("aabb"), _then("abcde")
    ('a, then b', 'a, then 3 others, then e')
    """
    found = list(dict.fromkeys(values))
    if len(found) > MOST:
        found = [found[0], f"{len(found) - 2} others", found[-1]]
    return ", then ".join(found)
