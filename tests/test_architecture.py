"""The house keeps its order: imports point one way, and some things are nowhere to be found."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "hpskit"
ORDER = (  # noqa: SIM905  # as ARCHITECTURE.md draws it
    "errors schema records files stage rows hub pages stats pixels prompts images annotation dataset models training "
    "scoring evaluation benchmark reward serving cluster hpsv2 cli"
).split()
MODULES = sorted(SRC.rglob("*.py"))


def imports(path: Path) -> list[tuple[str, int]]:
    """Every hpskit module that a file imports, lazy imports included, with the line."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            found += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
    return [(name, line) for name, line in found if name == "hpskit" or name.startswith("hpskit.")]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SRC)))
def test_imports_point_one_way(path: Path) -> None:
    own = path.relative_to(SRC).parts[0].removesuffix(".py")
    if own in ("__init__", "__main__"):
        return
    for name, line in imports(path):
        parts = name.split(".")
        if len(parts) > 1 and parts[1] == "__version__":
            continue
        assert parts[1] in ORDER, f"{path.name}:{line}: {name} has no place in the house"
        assert ORDER.index(parts[1]) <= ORDER.index(own), f"{path.name}:{line}: {own} imports {parts[1]}"


def test_folders_of_the_benchmark_stand_on_it_and_not_on_one_another() -> None:
    room = SRC / "benchmark"
    folders = {path.parent.name for path in room.glob("*/__init__.py")}
    assert folders == {"leaderboard", "comparison", "studies"}
    for path in room.rglob("*.py"):
        for name, line in imports(path):
            entered = folders & set(name.split(".")[2:3] if name.startswith("hpskit.benchmark.") else ())
            assert entered <= {path.parent.name}, f"{path.relative_to(room)}:{line}: imports {name}"


def test_every_room_is_in_the_plan() -> None:
    rooms = {path.relative_to(SRC).parts[0].removesuffix(".py") for path in MODULES} - {"__init__", "__main__"}
    assert rooms <= set(ORDER)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SRC)))
def test_modules_say_what_they_are_for_and_stay_small(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), f"{path}: no docstring"
    assert text.count("\n") <= 400, f"{path}: too long for one room"
    assert path.stem not in {"utils", "helpers", "common", "misc"}


def test_no_import_cycle_between_modules() -> None:
    names = {
        ".".join(("hpskit", *path.relative_to(SRC).with_suffix("").parts)).removesuffix(".__init__"): path
        for path in MODULES
    }
    edges = {
        module: {
            target
            for name, _ in imports(path)
            for target in (name, name.rpartition(".")[0])
            if target in names and target not in (module, "hpskit")
        }
        for module, path in names.items()
        if module != "hpskit"
    }
    done: set[str] = set()

    def walk(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"import cycle: {' -> '.join((*trail, module))}"
        if module not in done:
            for target in edges.get(module, ()):
                walk(target, (*trail, module))
            done.add(module)

    for module in edges:
        walk(module, ())
    assert done
