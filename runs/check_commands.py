"""Check commands of hpskit without running them: `python check_commands.py FILE`, a command on each line.

Each must exist and take these options with these values, recipes and grids included. Then the training is rehearsed on
stand-in data with a small network: `hpskit data split` as it is, and `hpskit train` with --dry-run.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from typer.main import get_command

from hpskit.cli import app
from hpskit.errors import HpskitError

PAIRS = 24
SMALL = ["--set", "architecture=hpskit-tiny", "--set", "weights=none", "--set", "image_blocks=all"]
SMALL += ["--set", "text_blocks=all", "--set", "precision=fp32", "--set", "batch=4", "--set", "accumulate=1"]


def check(line: str) -> dict[str, Any]:
    """The options of a command as the command line understands them.

    Raises:
        Exception: of the command line, for an option or a value that it does not know.
    """
    words = shlex.split(line)
    if words[0] == "torchrun":
        from torch.distributed.run import parse_args

        given = parse_args(words[1:])
        words = [given.training_script, *given.training_script_args]
    if words[0] != "hpskit":
        raise ValueError(f"{line}: is no command of hpskit")
    command: Any = get_command(app)
    context = command.make_context("hpskit", words[1:])
    while hasattr(command, "resolve_command"):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)
    options: dict[str, Any] = context.params
    check_recipe(options)
    return options


def check_recipe(options: dict[str, Any]) -> None:
    """The recipe, its settings and the grid, of the commands that have them."""
    if "recipe" not in options:
        return
    from hpskit.training.recipes import read_recipe

    recipe = read_recipe(options["recipe"]).with_settings(options["settings"] or [])
    if "grid" in options:
        from hpskit.training.sweep import parse_grid

        parse_grid(recipe, [*options["grid"], *(options["more"] or [])])


def rehearse(folder: Path) -> None:
    """Split stand-in data and see whether a training on them could begin."""
    stand_in(folder)
    os.chdir(folder)
    hpskit("data", "split", "train.json", "--share", "0.3", "--out", "split")
    data = ("--data", "split/train.parquet", "--val", "split/validation.parquet")
    hpskit("train", "--recipe", "hpsv2", *data, "--out", "run", "--device", "cpu", "--dry-run", *SMALL)


def stand_in(folder: Path) -> None:
    """Pairs of noise in the layout of HPD v2."""
    rng = np.random.default_rng(0)
    (folder / "train").mkdir()
    rows = []
    for number in range(PAIRS):
        names = [f"{number}-{which}.png" for which in "ab"]
        for name in names:
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / "train" / name)
        prompt = " ".join(f"{word:x}" for word in rng.integers(16**6, size=5))
        rows.append({"prompt": prompt, "file_path": names, "human_preference": [1, 0] if number % 2 else [0, 1]})
    (folder / "train.json").write_text(json.dumps(rows))


def hpskit(*arguments: str) -> None:
    print("$ hpskit", *arguments, flush=True)
    get_command(app).main(arguments, standalone_mode=False)


def main() -> None:
    lines = Path(sys.argv[1]).read_text().splitlines()
    for line in lines:
        try:
            check(line)
        except HpskitError as error:
            sys.exit(f"error: {line}: {error}")
        except Exception as error:  # noqa: BLE001  # of the command line: its classes are no public names of typer
            sys.exit(f"error: {line}: {getattr(error, 'message', error)}")
    print(f"{len(lines)} commands exist and take their options", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        try:
            rehearse(Path(folder))
        except HpskitError as error:
            sys.exit(f"error: {error}")
        finally:
            os.chdir("/")


if __name__ == "__main__":
    main()
