"""What the chapters show: real source code, tables and boxes, as Markdown for Jupyter and the built site."""

__all__ = ["answer", "box", "captioned", "check", "fixed", "markdown", "markdown_table", "source", "table"]

import inspect
import operator
import re
import textwrap
from collections.abc import Callable, Collection, Mapping
from typing import Any

import pandas as pd

# What `check` can ask of a number and its bound.
RELATIONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq}
# Whether a claim that does not hold ends its cell; False is for who changes a setting and wants to see on.
STRICT = True
NUMBER = re.compile(r"[−+-]?\d[\d,.]*( ± \d[\d,.]*)?( %)?")


def fixed(value: float, digits: int, signed: bool = False) -> str:
    """A number with so many decimals and a true minus; what rounds to zero has no sign.

    >>> fixed(-1.25, 1), fixed(0.3, 1, signed=True), fixed(-0.04, 1, signed=True)
    ('−1.2', '+0.3', '0.0')
    """
    value = round(value, digits)
    return f"{value or 0.0:{'+' if signed and value else ''}.{digits}f}".replace("-", "−")


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

    Columns of numbers, also of numbers as text, and the columns ``right`` are set to the right; a missing
    value is a dash. A value is never parted from its interval, nor the two ends of an interval from each
    other.

    >>> frame = pd.DataFrame({"layer": ["1", "2"], "kind": ["dense", ""], "error": ["0.5 ± 0.1", ""]})
    >>> print(markdown_table(frame).replace("\N{NO-BREAK SPACE}", " "))
    | layer | kind | error |
    | --: | :-- | --: |
    | 1 | dense | 0.5 ± 0.1 |
    | 2 | – | – |
    """
    align = ["--:" if c in right or _are_numbers(frame[c]) else ":--" for c in frame]
    cell = lambda v: "–" if v is None or v is pd.NA or v != v or v == "" else _joined(str(v))
    lines = [map(str, frame.columns), align, *(map(cell, line) for line in frame.itertuples(index=False))]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _are_numbers(column: Any) -> bool:
    """Whether a column holds numbers, or texts that are each a number, perhaps with an interval."""
    if pd.api.types.is_numeric_dtype(column):
        return True
    texts = [str(value) for value in column.dropna() if str(value) not in ("", "–")]
    return bool(texts) and all(NUMBER.fullmatch(text) for text in texts)


def _joined(cell: str) -> str:
    """A cell of a Markdown table, with spaces that do not break where a number would be parted."""
    cell = re.sub(r"(?<![^ (])± | ± |(?<=[(\d]) to (?=[\d−])|(?<=\d) (?=%)", _unbroken, cell)
    return cell.replace("|", "\\|").replace("\n", " ")


def _unbroken(found: re.Match[str]) -> str:
    return found.group().replace(" ", "\N{NO-BREAK SPACE}")


def captioned(table: str, caption: str, name: str) -> str:
    """A Markdown table with a caption, to be referred to as ``{numref}`name```.

    Raises:
        ValueError: a backtick or a line's end in the caption, with which no table would be seen.
    """
    if "`" in caption or "\n" in caption:
        raise ValueError(
            f"the caption of {name} has a backtick or more than one line ({caption[:50]!r}); use words alone"
        )
    return f"```{{table}} {caption}\n:name: {name}\n\n{table}\n```"


def table(frame: pd.DataFrame, caption: str, name: str, right: Collection[str] = ("paper", "ours")) -> Any:
    """A numbered table with a caption, to be referred to as ``{numref}`name```.

    ``right`` is as in :func:`markdown_table`. The cell needs the metadata ``mystnb={"markdown_format":
    "myst"}``.
    """
    return markdown(captioned(markdown_table(frame, right), caption, name))


def box(text: str, kind: str = "note", title: str = "") -> Any:
    """An admonition (``note``, ``important``, ``warning``); the cell needs the metadata of :func:`table`."""
    head = f"{{admonition}} {title}\n:class: {kind}" if title else f"{{{kind}}}"
    return markdown(f":::{head}\n{text}\n:::")


def check(claim: str, measured: Any, relation: str | None = None, bound: float | None = None) -> None:
    """State a claim with the number behind it, and fail the page if it does not hold.

    A number may differ a little between machines; the tests of the notebooks, which compare what two of them
    printed, leave it out.

    Args:
        claim: in words.
        measured: a number (or an array or tensor that holds a single one) or, of a claim about no number such
            as that two tensors are equal, whether it holds.
        relation: one of :data:`RELATIONS`, in which the number must be to the bound; None for what is no
            number.
        bound: what the number is held against.

    Raises:
        AssertionError: the claim does not hold. With ``notebook.STRICT = False`` this is printed instead.
        ValueError: a number without relation and bound, either with a truth value, or another relation.

    Example:
        >>> check("MAML beats guessing by 5 points or more", 27.31, ">=", 5)
        holds: MAML beats guessing by 5 points or more (27.3 >= 5)
    """
    value = measured.item() if hasattr(measured, "item") else measured
    if isinstance(value, bool) and relation is None and bound is None:
        holds, numbers = value, ""
    elif isinstance(value, bool) or bound is None or relation not in RELATIONS:
        raise ValueError(
            f"check({claim!r}, {value!r}, relation={relation!r}, bound={bound!r}): give a number, one of "
            f"{', '.join(RELATIONS)} and a bound, or only whether the claim holds"
        )
    else:
        holds, numbers = RELATIONS[relation](value, bound), f" ({_short(value)} {relation} {_short(bound)})"
    if not holds and STRICT:
        raise AssertionError(
            f"does not hold: {claim}{numbers}. If you have changed a setting: with notebook.STRICT = False "
            "the cell prints this and goes on"
        )
    print(f"{'holds' if holds else 'does not hold'}: {claim}{numbers}")


def _short(number: float) -> str:
    """With three significant digits; integers, and what is 1,000 or more, without any after the point."""
    return f"{number:,.0f}" if abs(number) >= 1000 or isinstance(number, int) else f"{number:.3g}"


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
