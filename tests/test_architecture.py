"""The house keeps its order: imports point one way, and no room outgrows its budget.

`python benchmarks/house.py` prints the figures.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import house

SRC = house.SRC
PLAN = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
ORDER = re.findall(r"^\| `(\w+)/?` \|", PLAN, re.MULTILINE)
MODULES = house.modules(SRC)
each_module = pytest.mark.parametrize("path", MODULES.values(), ids=lambda path: str(path.relative_to(SRC)))


# Direction


@each_module
def test_imports_point_one_way(path: Path) -> None:
    own = path.relative_to(SRC).parts[0].removesuffix(".py")
    if own in ("__init__", "__main__"):
        return
    for name, line in house.imports(path):
        parts = name.split(".")
        if len(parts) > 1 and parts[1] == "__version__":
            continue
        assert parts[1] in ORDER, f"{path.name}:{line}: {name} has no place in the house"
        assert ORDER.index(parts[1]) <= ORDER.index(own), f"{path.name}:{line}: {own} imports {parts[1]}"


def test_the_plan_is_the_house() -> None:
    there = {path.relative_to(SRC).parts[0].removesuffix(".py") for path in MODULES.values()}
    assert set(ORDER) == there - {"__init__", "__main__"}


def test_where_to_go_exists() -> None:
    places = re.findall(r"`((?:\w+/)+\w+\.py|\w+\.py|(?:\w+/)+)`", PLAN[PLAN.index("| to …") : PLAN.index("## Rules")])
    assert len(places) >= 8
    for place in places:
        assert (SRC / place).exists(), f"CONTRIBUTING.md sends people to {place}, which is not there"


def test_folders_of_the_benchmark_stand_on_it_and_not_on_one_another() -> None:
    room = SRC / "benchmark"
    folders = {path.parent.name for path in room.glob("*/__init__.py")}
    for path in room.rglob("*.py"):
        for name, line in house.imports(path):
            entered = folders & set(name.split(".")[2:3] if name.startswith("hpskit.benchmark.") else ())
            assert entered <= {path.parent.name}, f"{path.relative_to(room)}:{line}: imports {name}"


def test_no_import_cycle_between_modules() -> None:
    edges = house.graph(SRC)
    done: set[str] = set()

    def walk(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"import cycle: {' -> '.join((*trail, module))}"
        if module not in done:
            for target in edges[module]:
                walk(target, (*trail, module))
            done.add(module)

    for module in edges:
        walk(module, ())


# Size


@pytest.mark.parametrize("room", sorted(house.rooms(SRC)))
def test_rooms_keep_to_their_budgets(room: str) -> None:
    """A room past its budget first looks for what can go."""
    assert room in house.BUDGETS, f"{room}: has no budget in benchmarks/house.py"
    lines, budget = house.rooms(SRC)[room], house.BUDGETS[room]
    assert lines <= budget, f"{room} has {lines:,} lines, of {budget:,} in benchmarks/house.py: see what can go"


@pytest.mark.parametrize("folder", sorted(house.folders(SRC)))
def test_folders_can_be_taken_in_at_a_glance(folder: str) -> None:
    count = house.folders(SRC)[folder]
    assert count <= house.FILES, f"{folder} has {count} modules, {house.FILES} at most: join two that tell one story"


@pytest.mark.parametrize("command", house.STAGES)
def test_commands_need_few_modules(command: str) -> None:
    needed = house.closure(SRC, command)
    assert len(needed) <= house.CLOSURE, sorted(needed)


def test_most_functions_have_a_plain_name() -> None:
    """A function that another module may want is public; one that only adds a name is not there."""
    assert house.private_share(SRC) <= house.PRIVATE


# Manners


@each_module
def test_modules_say_what_they_are_for(path: Path) -> None:
    assert ast.get_docstring(house.parsed(path)), f"{path}: no docstring"
    assert path.stem not in {"utils", "helpers", "common", "misc"}


@each_module
def test_docstrings_begin_with_a_verb_or_a_noun(path: Path) -> None:
    """A fragment such as "What is kept" has to be read twice."""
    for node in ast.walk(house.parsed(path)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = (ast.get_docstring(node) or "-").split()[0]
            assert first not in {"How", "Of", "What", "Where", "Whether", "Which", "Who", "Whose"}, f"{path}: {first} …"


@each_module
def test_an_error_that_is_kept_lets_go_of_its_frames(path: Path) -> None:
    """The traceback of an error keeps the images that its frames held; `HpskitError.alone` is without."""
    for handler in ast.walk(house.parsed(path)):
        if isinstance(handler, ast.ExceptHandler) and handler.name:
            for node in ast.walk(handler):
                kept: list[ast.AST | None] = (
                    [node.value] if isinstance(node, ast.Return | ast.Yield | ast.Assign) else []
                )
                if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("append", "add", "put"):
                    kept = [*node.args]
                kept += [item for value in kept if isinstance(value, ast.Tuple) for item in value.elts]
                names = {value.id for value in kept if isinstance(value, ast.Name)}
                assert handler.name not in names, f"{path.name}:{node.lineno}: keeps {handler.name}"  # type: ignore[attr-defined]
