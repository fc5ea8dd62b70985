"""Measure the source: how large it is, how much of it a command needs, and whether rooms keep to their budgets.

    python benchmarks/house.py [SRC [OTHER_SRC]]      # src/hpskit unless given; two are set side by side

tests/test_architecture.py holds the same figures against their limits.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

SRC = Path(__file__).parents[1] / "src/hpskit"

BUDGETS = {
    "root": 2_630,  # 130 of them are what the servers of annotation and serving share
    "pages": 860,  # 300 of them write tables and charts for papers
    "pixels": 1_240,
    "stats": 3_570,
    "prompts": 2_670,  # 150 of them look at what the rules made, and mark what they tore or left
    "images": 2_770,
    "annotation": 5_550,
    "dataset": 3_700,
    "models": 3_420,
    "training": 4_280,
    "scoring": 2_670,
    "evaluation": 1_520,
    "benchmark": 4_030,
    "reward": 1_960,  # 400 of them are the gate, calibration and the audit of a run
    "serving": 2_160,  # 260 of them are wires of others, 310 the clients, 270 read what strangers send
    "cluster": 1_390,  # 650 of them find and read shards, and write and count parts; 100 are Ray Serve's
    "cli": 3_640,
}
"""Lines that a room may have; of rooms that are not built yet, those that are planned. The modules that are in no room,
with `rows/`, are the root. Whoever needs more first looks for what can go, and then says here what the lines are for:
dataset, pixels, root and scoring grew by what the files of strangers demand, and by what people bring to Python and see
in a notebook: scoring reads parquet with images, tars and addresses, keeps every column, shows a ranking with images;
dataset reads tables of choices in columns of any name, and the sets that people compare scorers on today; scoring asks
judges behind servers, by the same code as prompts, which is in the root for that; one bar speaks without a terminal;
training by shards, resuming to the bit and ablations; stats by what a project that collects rankings needs: evidence
against annotators, weights of people, chance-corrected agreement, the position on the page, who is asked once more, a
plan of costs; annotation was to have 2,000, and has a server, its guard, pages of two kinds of staff, panels, pay, four
exports and simulated people."""
FILES = 15
"""Modules in a folder."""
CLOSURE = 52
"""Modules that a command's stage may import, itself and everything they import included; whatever reads data sets has
one for each layout."""
PRIVATE = 0.35
"""Share of the functions whose names begin with an underscore."""

STAGES = {
    "train": ("training.trainer",),
    "export": ("training.export",),
    "ablate": ("training.sweep|training.ablate",),
    "benchmark run": ("benchmark.run", "scoring.scorer"),
    "benchmark verify": ("benchmark.verify", "scoring.scorer"),
    "benchmark leaderboard": ("benchmark.leaderboard|benchmark.leaderboard.run",),
    "compare": ("benchmark.compare|benchmark.comparison.run", "scoring.scorer"),
    "study prompts": ("benchmark.studies.prompt_number",),
    "study chrominance": ("benchmark.studies.chrominance",),
    "study metrics": ("benchmark.studies.distribution_metrics",),
    "study resolution": ("benchmark.studies.resolution",),
    "evaluate": ("evaluation.run", "scoring.scorer"),
    "agreement": ("evaluation.people|evaluation.agreement",),
    "score": ("scoring.scorer",),
    "score --pairs": ("scoring.files",),
    "data inspect": ("dataset.inspect|dataset.inspection",),
    "data convert": ("dataset.convert|dataset.converting",),
    "data split": ("dataset.split",),
    "serve": ("serving.running",),
    "cluster score": ("cluster.score",),
    "cluster generate": ("cluster.generate",),
    "data fetch": ("dataset.fetch|dataset.fetching",),
}
"""The modules that hold what a command does: its stage, and what loads the scorer that it is given. Of names with a bar
between them the last that there is counts, so that an older source can be measured too."""


def modules(src: Path) -> dict[str, Path]:
    """Every module below `src`, by its name without `hpskit.`; the package itself is the empty name."""
    names = {}
    for path in sorted(src.rglob("*.py")):
        parts = path.relative_to(src).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def lines(path: Path) -> int:
    return path.read_text(encoding="utf-8").count("\n")


def imports(path: Path) -> list[tuple[str, int]]:
    """Every name of hpskit that a file imports when it runs, sooner or later, with the line."""
    found = []
    for node in run_time(parsed(path)):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"{path}:{node.lineno}: relative import")
            found += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
    return [(name, line) for name, line in found if name == "hpskit" or name.startswith("hpskit.")]


def run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those below `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from run_time(node)


@cache
def graph(src: Path) -> dict[str, set[str]]:
    """The modules that each module imports. A package counts where something is imported from it itself."""
    names = modules(src)
    edges = {}
    for module, path in names.items():
        inner = [name.removeprefix("hpskit").removeprefix(".") for name, _ in imports(path)]
        edges[module] = {name if name in names else name.rpartition(".")[0] for name in inner} & set(names)
        edges[module] -= {module, ""}
    return edges


def closure(src: Path, command: str) -> set[str]:
    """The modules of a command's stage and all modules that they need, lazy imports included.

    Raises:
        LookupError: the source has no such stage.
    """
    edges, found, ahead = graph(src), set[str](), []
    for names in STAGES[command]:
        there = [name for name in names.split("|") if name in edges]
        if not there:
            raise LookupError(f"{src}: has no module {names}, which `hpskit {command}` should stand on")
        ahead.append(there[-1])
    while ahead:
        module = ahead.pop()
        if module not in found:
            found.add(module)
            ahead += edges[module]
    return found


def rooms(src: Path) -> Counter[str]:
    """Lines of each room, and of the modules that are in none ("root")."""
    found: Counter[str] = Counter()
    for path in modules(src).values():
        first = path.relative_to(src).parts[0]
        found["root" if first.endswith(".py") or first == "rows" else first] += lines(path)
    return found


def folders(src: Path) -> Counter[str]:
    """Modules of each folder, `__init__.py` apart."""
    return Counter(str(path.parent.relative_to(src)) for path in modules(src).values() if path.stem != "__init__")


def private_share(src: Path) -> float:
    """The share of functions and methods whose names begin with one underscore."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    names = [node.name for path in modules(src).values() for node in ast.walk(parsed(path)) if isinstance(node, kinds)]
    return sum(name.startswith("_") and not name.startswith("__") for name in names) / len(names)


def help_time(src: Path) -> float:
    """Seconds that `hpskit --help` takes, the best of five."""
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(src.parent)!r})\n"]
    command[-1] += "sys.argv = ['hpskit', '--help']\nfrom hpskit.cli import main\nmain()"
    found = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found.append(time.perf_counter() - start)
    return min(found)


def figures(src: Path) -> dict[str, str]:
    """What the table shows of a source folder."""
    names, sizes, tests = modules(src), rooms(src), src.parents[1] / "tests"
    table = {"lines of src": f"{sizes.total():,}", "files of src": f"{len(names)}"}
    table["lines of tests"] = f"{sum(map(lines, tests.rglob('*.py'))):,}"
    table["private functions"] = f"{private_share(src):.0%}"
    table["longest module"] = f"{max(map(lines, names.values()))}"
    folder, count = folders(src).most_common(1)[0]
    table["fullest folder"] = f"{folder}, {count}"
    table["hpskit --help"] = f"{help_time(src):.2f} s"
    for command in STAGES:
        with suppress(LookupError):
            needed = closure(src, command)
            table[f"closure of {command}"] = f"{len(needed)} files, {sum(lines(names[n]) for n in needed):,} lines"
    table |= {f"{room}/": f"{sizes[room]:,} of {BUDGETS.get(room, 0):,}" for room in sorted(sizes)}
    return table


def main() -> None:
    sources = [Path(argument).resolve() for argument in sys.argv[1:]] or [SRC]
    sources = [source if (source / "errors.py").exists() else source / "hpskit" for source in sources]
    columns = [figures(source) for source in sources]
    for name in dict.fromkeys(name for column in columns for name in column):
        print(f"{name:32}", *(f"{column.get(name, ''):>24}" for column in columns))


if __name__ == "__main__":
    main()
