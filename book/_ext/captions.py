"""A figure's caption is a Markdown cell tagged ``caption`` below the cell that draws it.

So JupyterLab shows it. For the site it becomes the figure's own caption, numbered, and the cell goes.
"""

import nbformat
from nbformat import NotebookNode
from sphinx.errors import ExtensionError


def is_caption(cell: NotebookNode) -> bool:
    return "caption" in cell.metadata.get("tags", [])


def faults(notebook: NotebookNode) -> list[str]:
    """Captions that belong to no figure, and figures that have none."""
    found, before = [], None
    for cell in [*notebook.cells, NotebookNode(metadata={}, source="", cell_type="")]:
        figure = before is not None and "figure" in before.metadata.get("mystnb", {})
        if is_caption(cell) and not (figure and cell.cell_type == "markdown"):
            found.append(f"the caption {cell.source[:40]!r} does not follow a cell with a figure")
        if figure and not is_caption(cell):
            name = before.metadata["mystnb"]["figure"].get("name")
            found.append(f"the figure {name!r} is not followed by a cell that is tagged caption")
        before = cell
    return found


def taken_in(notebook: NotebookNode) -> NotebookNode:
    """The notebook with each caption in its figure's metadata, where MyST-NB looks for it.

    Raises:
        ExtensionError: a caption without a figure, or a figure without a caption.
    """
    if found := faults(notebook):
        raise ExtensionError("; ".join(found))
    cells: list[NotebookNode] = []
    for cell in notebook.cells:
        if is_caption(cell):
            cells[-1].metadata["mystnb"]["figure"]["caption"] = " ".join(cell.source.split("\n"))
        else:
            cells.append(cell)
    notebook.cells = cells
    return notebook


def take_in(app, docname, source) -> None:
    """The same, of what Sphinx has read."""
    if app.env.doc2path(docname).endswith(".ipynb"):
        source[0] = nbformat.writes(taken_in(nbformat.reads(source[0], as_version=4)))
