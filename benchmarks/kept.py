"""What a benchmark keeps: a table and where it comes from, for the pages."""

from typing import Any

import pandas as pd
import problems  # noqa: F401  (which sees to the clone)

from mamlkit import files, places


def keep(name: str, table: str, lines: pd.DataFrame, origin: dict[str, Any], number: str) -> None:
    """Write ``data/benchmarks/NAME/TABLE.csv`` and its origin; ``number`` is the format of a float."""
    folder = places.repository() / "data" / "benchmarks" / name
    folder.mkdir(parents=True, exist_ok=True)
    files.write_text(folder / f"{table}.csv", lines.to_csv(index=False, float_format=number))
    files.write_json(folder / "origin.json", origin)
    print(f"kept in {folder}")
