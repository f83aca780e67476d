"""What the chapters show: real source code, tables and boxes, as Markdown for Jupyter and the built site."""

__all__ = ["answer", "box", "check", "markdown", "markdown_table", "source", "table"]

import inspect
import textwrap
from collections.abc import Callable, Collection, Mapping
from typing import Any

import pandas as pd


def markdown(text: str) -> Any:
    """Text as Markdown; a cell that uses directives needs the metadata of :func:`table`."""
    from IPython.display import Markdown  # a dependency of the book, not of the package

    return Markdown(text)


def source(*objects: Any) -> Any:
    """The source of functions or classes of this package, as it runs."""
    return markdown(
        "\n".join(
            f"```python\n{textwrap.dedent(inspect.getsource(thing)).rstrip()}\n```" for thing in objects
        )
    )


def markdown_table(frame: pd.DataFrame, right: Collection[str] = ("paper", "ours")) -> str:
    """A data frame as a Markdown table.

    Numbers and the columns ``right`` are set to the right; a missing value is a dash.
    """
    align = ["--:" if pd.api.types.is_numeric_dtype(frame[c]) or c in right else ":--" for c in frame]
    cell = lambda v: (
        "–" if v is None or v is pd.NA or v != v or v == "" else str(v).replace("|", "\\|").replace("\n", " ")
    )
    lines = [map(str, frame.columns), align, *(map(cell, line) for line in frame.itertuples(index=False))]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def table(frame: pd.DataFrame, caption: str, name: str, right: Collection[str] = ("paper", "ours")) -> Any:
    """A numbered table with a caption, to be referred to as ``{numref}`name```.

    ``right`` is as in :func:`markdown_table`. The cell needs the metadata ``mystnb={"markdown_format":
    "myst"}``.
    """
    return markdown(f"```{{table}} {caption}\n:name: {name}\n\n{markdown_table(frame, right)}\n```")


def box(text: str, kind: str = "note", title: str = "") -> Any:
    """An admonition (``note``, ``important``, ``warning``); the cell needs the metadata of :func:`table`."""
    head = f"{{admonition}} {title}\n:class: {kind}" if title else f"{{{kind}}}"
    return markdown(f":::{head}\n{text}\n:::")


def check(claim: str, holds: bool) -> None:
    """State a claim and fail the page if it does not hold. What is printed does not depend on the machine."""
    if not holds:
        raise AssertionError(f"does not hold: {claim}")
    print(f"holds: {claim}")


def answer(
    holds: Callable[[dict[str, list[float]]], bool],
    curves: Mapping[str, pd.DataFrame],
    missing: str = "not run",
) -> str:
    """Whether a statement about curves holds: ``yes``, ``no``, or the word for "cannot be told".

    That is where it asks for a number that is not there.

    Args:
        holds: the statement, about method to values after 0, 1, ... steps.
        curves: method to a frame with the column ``value``, one line per step; without lines where nothing
            was run.
        missing: the third word.
    """
    try:
        return "yes" if holds({method: list(curve.value) for method, curve in curves.items()}) else "no"
    except (IndexError, ValueError):  # a step that is not there, or the largest of no values
        return missing
