"""The arrows between modules point down: read from the source, without importing anything."""

import ast
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mamlkit"
FILES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path for path in PACKAGE.rglob("*.py")
}
# Pages that only show results build anywhere.
TORCH_FREE = ["experiments", "runs", "results", "pages", "plots", "plots_rl", "notebook", "effects", "inventory", "measures"]
TORCH_FREE += ["files", "folders", "logs", "records", "terminal"]
LAYERS = ["maml", "models", "methods", "kernels_cpu", "kernels_torch", "layers", "checks", "threads"]
LAYERS += ["engine", "tasks", "train", "rl"]
# A module imports only from those before it.


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
    """What a module imports when it is imported; with ``whole``, also what its functions import when they run."""
    tree = ast.parse(FILES[module].read_text(encoding="utf-8"))
    nodes = ast.walk(tree) if whole else tree.body
    found = {name for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for name in names(node, module)}
    parents = {name.rpartition(".")[0] for name in found if name in FILES}  # importing a.b runs a/__init__ too
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


def layer(module: str) -> str:
    return module.removeprefix("mamlkit.").split(".")[0]


def test_the_reading_of_imports_sees_what_it_should():
    assert {"torch", "mamlkit.engine", "mamlkit.checkpoints"} <= imports("mamlkit.train")
    assert "mamlkit.train" not in imports("mamlkit.__main__") and "mamlkit.train" in imports("mamlkit.__main__", whole=True)
    assert "torch" in reach("mamlkit.checkpoints")


@pytest.mark.parametrize("name", TORCH_FREE)
def test_what_records_and_shows_results_needs_no_torch(name):
    reached = reach(f"mamlkit.{name}")
    assert not {r for r in reached if r.split(".")[0] in ("torch", "torchvision", "safetensors")}
    assert not {layer(r) for r in reached if r in FILES} & {*LAYERS, "checkpoints"}


@pytest.mark.parametrize("module", [m for m in FILES if layer(m) in LAYERS])
def test_arrows_point_down(module):
    own = LAYERS.index(layer(module))
    for name in imports(module, whole=True):
        if name in FILES and layer(name) in LAYERS:
            assert LAYERS.index(layer(name)) <= own, f"{module} imports {name}"


def test_the_core_imports_nothing_of_the_package():
    for module in ("mamlkit.maml", "mamlkit.models"):
        assert not {name for name in imports(module, whole=True) if name.startswith("mamlkit")}


def test_data_of_the_paper_depends_on_nothing_else():
    assert not {name for name in imports("mamlkit.rows", whole=True) if name.startswith("mamlkit")}
    assert {name for name in imports("mamlkit.experiments", whole=True) if name.startswith("mamlkit.")} == {"mamlkit.rows"}


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


def test_the_package_itself_exports_nothing():
    assert not imports("mamlkit", whole=True)
