"""Execute ``NN-name.py`` and write its twin ``NN-name.ipynb``, byte for byte the same each time.

python book/_ext/refresh.py [--force] notebooks/*.py
"""

import argparse
import base64
import hashlib
import os
import sys
from collections import Counter
from pathlib import Path

import jupytext
import nbformat
import pictures
import surroundings
from nbclient import NotebookClient
from nbformat import NotebookNode

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
# Twins show what every machine can show again: the CPU, and no data set.
ENVIRONMENT = {"MAMLKIT_DATA": "none", "CUDA_VISIBLE_DEVICES": ""}


def essence(notebook) -> list[tuple]:
    """What a percent source and its twin share: kind, source, tags and figure settings of every cell."""
    return [
        (cell.cell_type, cell.source, {k: v for k, v in cell.metadata.items() if k in ("tags", "mystnb")})
        for cell in notebook.cells
    ]


def folds(notebook) -> list[dict]:
    """What JupyterLab is to show folded, as the site does: the ``jupyter`` metadata of every cell.

    That is what tags hide, and all cells from ``solution-start`` to ``solution-end``.
    """
    found, solution = [], False
    for cell in notebook.cells:
        solution = solution or "{solution-start}" in cell.source
        tags = {"hide-cell"} if solution else set(cell.metadata.get("tags", []))
        solution = solution and "{solution-end}" not in cell.source
        fold = {"source_hidden": True} if tags & {"hide-cell", "hide-input"} else {}
        if cell.cell_type == "code" and tags & {"hide-cell", "hide-output"}:
            fold["outputs_hidden"] = True
        found.append(fold)
    return found


def faults(notebook) -> list[str]:
    """What must not be in a twin: cells not run in order, errors, stderr, timings, widgets."""
    found = []
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source]
    counts = [cell.execution_count for cell in code]
    if counts != list(range(1, len(code) + 1)):
        found.append(f"execution counts are {counts}, not 1..{len(code)}")
    for number, cell in enumerate(code, 1):
        if "execution" in cell.metadata:
            found.append(f"cell {number}: timing metadata")
        for output in cell.outputs:
            if output.output_type == "error":
                found.append(f"cell {number}: {output.ename}")
            if output.get("name") == "stderr":
                found.append(f"cell {number}: stderr: {output.text.strip()[:300]}")
            if any("widget" in kind for kind in output.get("data", {})):
                found.append(f"cell {number}: a widget")
    return found


def is_current(source: Path) -> bool:
    """True when the twin holds the same cells as the source, was executed, and is folded as it should be."""
    twin = source.with_suffix(".ipynb")
    if not twin.exists():
        return False
    notebook = nbformat.read(twin, as_version=4)
    folded = [cell.metadata.get("jupyter", {}) for cell in notebook.cells] == folds(notebook)
    return essence(jupytext.read(source)) == essence(notebook) and folded and not faults(notebook)


def prepared(source: Path) -> NotebookNode:
    """The twin before it is executed."""
    notebook = jupytext.read(source)
    seen = Counter()
    for cell in notebook.cells:
        key = f"{cell.cell_type}:{cell.source}"
        seen[key] += 1
        cell["id"] = hashlib.sha256(f"{seen[key]}:{key}".encode()).hexdigest()[:8]
    for cell, fold in zip(notebook.cells, folds(notebook)):
        if fold:
            cell.metadata["jupyter"] = fold
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata["kernelspec"] = KERNEL
    notebook.metadata["jupytext"] = {"formats": "ipynb,py:percent"}
    return notebook


def thin(notebook: NotebookNode) -> None:
    """Make the figures of an executed notebook small files."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                forms = [(output.data, "image/png"), (output.metadata.get("image/png", {}), "narrow")]
                for place, name in forms:
                    if name in place:
                        fewer = pictures.in_few_colours(base64.b64decode(place[name]))
                        place[name] = base64.b64encode(fewer).decode()


def refresh(source: Path, timeout: int = surroundings.CELL_TIMEOUT) -> Path:
    """Execute the source, with the package of this clone and nobody's settings, and write its twin.

    Raises:
        ValueError: an output that does not belong in a twin; the old twin stays as it was.
    """
    surroundings.settle()
    notebook = prepared(source)
    client = NotebookClient(
        notebook,
        timeout=timeout,
        startup_timeout=surroundings.START_TIMEOUT,
        iopub_timeout=surroundings.MESSAGE_TIMEOUT,
        kernel_name=KERNEL["name"],
        record_timing=False,
        coalesce_streams=True,  # else a busy machine cuts what a cell prints into pieces
        resources={"metadata": {"path": str(source.parent)}},
    )
    client.execute(env={**os.environ, **ENVIRONMENT})
    notebook.metadata["language_info"].pop("version", None)
    if found := faults(notebook):
        raise ValueError(f"{source.name}: " + "; ".join(found))
    thin(notebook)
    twin = source.with_suffix(".ipynb")
    nbformat.write(notebook, twin)
    return twin


def main(arguments: list[str] | None = None) -> int:
    """Refresh the twins that are out of date (all of them with ``--force``)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="+", type=Path)
    parser.add_argument("--force", action="store_true", help="also those that are up to date")
    options = parser.parse_args(arguments)
    for source in options.sources:
        if options.force or not is_current(source):
            print(f"executing {source}", flush=True)
            refresh(source)
    return 0


if __name__ == "__main__":
    sys.exit(main())
