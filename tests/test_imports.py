"""The arrows between rooms and modules point down, as the page says: read from the source alone."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mamlkit"
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
LINES = re.findall(r"^\| (`\w+.*?) \| .+? \|(.*?)\|$", (ROOT / "book" / "api.md").read_text("utf-8"), re.M)
ROOMS = [room for rooms, _ in LINES for room in re.findall(r"`(\w+)`", rooms)]
USES = {room: re.findall(r"`(\w+)`", uses) for rooms, uses in LINES for room in re.findall(r"`(\w+)`", rooms)}
# Pages that only show results build anywhere.
TORCH_FREE = ["mamlkit.measures", "mamlkit.files", "mamlkit.places"]
TORCH_FREE += [m for m in FILES if m.startswith(("mamlkit.experiments", "mamlkit.report"))]
TORCH_FREE += [
    f"mamlkit.runs.{name}" for name in ("folders", "keeping", "logs", "provenance", "records", "terminal")
]


def names(node: ast.AST, module: str) -> list[str]:
    """The modules that an import statement names, as dotted paths."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    package = module if FILES[module].stem == "__init__" else module.rpartition(".")[0]
    base = node.module or ""
    if node.level:
        above = package.split(".")[: len(package.split(".")) - (node.level - 1)]
        base = ".".join([*above, base] if base else above)
    return [f"{base}.{alias.name}" if f"{base}.{alias.name}" in FILES else base for alias in node.names]


@cache
def imports(module: str, whole: bool = False) -> frozenset[str]:
    """What a module imports when it is imported; if ``whole``, also what its functions do when they run."""
    tree = ast.parse(FILES[module].read_text(encoding="utf-8"))
    nodes = ast.walk(tree) if whole else tree.body
    found = {
        name
        for node in nodes
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in names(node, module)
    }
    # importing a.b runs a/__init__ too
    parents = {name.rpartition(".")[0] for name in found if name in FILES}
    return frozenset(found | {p for p in parents if p in FILES} - {module})


def reach(module: str) -> set[str]:
    """Everything that importing a module and calling its functions may import, through the package."""
    seen, todo = set(), [module]
    while todo:
        for name in imports(todo.pop(), whole=True):
            if name not in seen:
                seen.add(name)
                todo += [name] if name in FILES else []
    return seen


def room(module: str) -> str:
    return module.removeprefix("mamlkit").removeprefix(".").split(".")[0]


def test_the_reading_of_imports_sees_what_it_should():
    assert {"torch", "mamlkit.engine.meta_batch"} <= imports("mamlkit.runs.supervised")
    lazy = "mamlkit.runs.queue"
    assert lazy not in imports("mamlkit.__main__") and lazy in imports("mamlkit.__main__", whole=True)
    assert "torch" in reach("mamlkit.runs.checkpoints")
    assert len(USES) == len(ROOMS) == 13 and USES["tasks"] == ["maml", "files", "places"]


def test_the_page_knows_every_room():
    assert {room(module) for module in FILES} - {""} == USES.keys()


@pytest.mark.parametrize("name", [m for m in FILES if room(m)])
def test_a_room_uses_only_those_that_the_page_says(name):
    used = {room(other) for other in imports(name, whole=True) if other in FILES} - {"", room(name)}
    assert used <= set(USES[room(name)])


@pytest.mark.parametrize("one", list(USES))
def test_a_room_uses_all_that_the_page_says_and_these_stand_above_it(one):
    used = {
        room(other) for m in FILES if room(m) == one for other in imports(m, whole=True) if other in FILES
    }
    assert used - {"", one} == set(USES[one])
    above = list(USES)[: list(USES).index(one)]
    assert set(USES[one]) <= set(above)


@pytest.mark.parametrize("name", TORCH_FREE)
def test_what_records_and_shows_results_needs_no_torch(name):
    assert not {r for r in reach(name) if r.split(".")[0] in ("torch", "torchvision", "safetensors")}


def test_data_of_the_paper_depends_on_nothing_else():
    checks = "mamlkit.experiments.checks"
    assert not {m for m in imports(checks, whole=True) if m.startswith("mamlkit")}
    of_rows = {m for m in imports("mamlkit.experiments.rows", whole=True) if m.startswith("mamlkit")}
    assert of_rows <= {checks, "mamlkit.experiments"}


def test_there_is_no_cycle():
    done, path = set(), []

    def visit(module):
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module in done:
            return
        path.append(module)
        for name in imports(module, whole=True):
            # A package's __init__ may import its own parts, which count as one module here.
            if name in FILES and not module.startswith(f"{name}."):
                visit(name)
        done.add(path.pop())

    for module in FILES:
        visit(module)


def test_a_room_itself_exports_nothing_but_a_table_of_what_is_in_it():
    assert not imports("mamlkit", whole=True)
    filled = {m for m in FILES if FILES[m].stem == "__init__" and imports(m, whole=True)}
    assert filled == {"mamlkit.models", "mamlkit.tasks", "mamlkit.methods", "mamlkit.engine.kernels_cpu"}
