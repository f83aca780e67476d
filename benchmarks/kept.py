"""What a benchmark keeps: a table and where it comes from, for the pages."""

import argparse
from typing import Any

import pandas as pd
import problems  # noqa: F401  (which sees to the clone)

from mamlkit import files, places
from mamlkit.runs import devices
from mamlkit.runs.provenance import provenance


def begun(doc: str) -> tuple[bool, dict[str, Any]]:
    """Whether the command line asks to keep the table, and its origin; one thread from here on.

    Args:
        doc: of the benchmark, whose first line is shown as help.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--save", action="store_true", help="keep the table under data/benchmarks/")
    save = parser.parse_args().save
    devices.set_up("cpu", threads=1)
    return save, provenance("cpu, 1 thread")


def keep(name: str, table: str, lines: pd.DataFrame, origin: dict[str, Any], number: str) -> None:
    """Write ``data/benchmarks/NAME/TABLE.csv`` and its origin; ``number`` is the format of a float."""
    folder = places.repository() / "data" / "benchmarks" / name
    folder.mkdir(parents=True, exist_ok=True)
    files.write_text(folder / f"{table}.csv", lines.to_csv(index=False, float_format=number))
    files.write_json(folder / "origin.json", origin)
    print(f"kept in {folder}")
