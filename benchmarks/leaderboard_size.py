"""Measure a leaderboard of many models: processor seconds and memory of `hpskit benchmark leaderboard`.

    python benchmarks/leaderboard_size.py [MODELS [PROMPTS]]      # 200 models on 3,200 prompts

The results are made up: models whose means lie close together, and no image files. Each part runs in a process of its
own, so that its peak of memory is its own. Processor seconds count all threads: what
starts more than it needs shows here and not on the clock.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from leaderboard_results import write_result  # what the tests make results with

STYLES = ("anime", "concept-art", "paintings", "photo")


def make(folder: Path, models: int, prompts: int) -> None:
    """Write a result for each model."""
    rng = np.random.default_rng(0)
    easy = rng.normal(20, 1.5, prompts)
    rows = [(STYLES[n * len(STYLES) // prompts], f"a picture of the number {n}") for n in range(prompts)]
    for n in range(models):
        scores = easy + rng.normal(0, 1, prompts) + 2 * n / models
        write_result(folder / f"{n:03d}/result.json", f"model {n:03d}", {"hps": scores}, rows)


def strengths(models: int, prompts: int) -> None:
    """Fit the strengths of made-up scores, with as many resamples as a leaderboard takes."""
    from hpskit.stats.strengths import bradley_terry_interval

    rng = np.random.default_rng(0)
    bradley_terry_interval(rng.normal(0, 1, (models, prompts)) + np.linspace(0, 2, models)[:, None], resamples=1_000)


def board(folder: Path) -> None:
    """Make the leaderboard."""
    from hpskit.benchmark.leaderboard import Leaderboard, run

    run(Leaderboard(results=tuple(sorted(folder.glob("*/result.json"))), out=folder / "out"))


def measured(*words: str) -> dict[str, float]:
    """Run a part of this script by itself: seconds on the clock and of processors, and megabytes at most."""
    done = subprocess.run([sys.executable, __file__, "--only", *words], check=True, stdout=subprocess.PIPE)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def only(part: str, *words: str) -> None:
    start = time.perf_counter()
    {"strengths": lambda m, p: strengths(int(m), int(p)), "board": lambda f: board(Path(f))}[part](*words)
    used = resource.getrusage(resource.RUSAGE_SELF)
    facts = {"clock": time.perf_counter() - start, "processor": used.ru_utime + used.ru_stime}
    print(json.dumps({**facts, "megabytes": used.ru_maxrss / 1024}))


def main() -> None:
    models, prompts = (*map(int, sys.argv[1:3]), *(200, 3200)[len(sys.argv) - 1 :])
    with tempfile.TemporaryDirectory() as own:
        folder = Path(own)
        make(folder, models, prompts)
        print(f"{os.cpu_count()} processors, {prompts:,} prompts")
        for name, words in (
            ("strengths of 99 models", ("strengths", "99", str(prompts))),
            ("strengths of 100 models", ("strengths", "100", str(prompts))),
            (f"strengths of {models} models", ("strengths", str(models), str(prompts))),
            (f"leaderboard of {models} models", ("board", str(folder))),
        ):
            facts = measured(*words)
            print(f"{name:28}", *(f"{value:8.1f} {unit}" for unit, value in facts.items()))
        size = (folder / "out/leaderboard.html").stat().st_size
        print(f"leaderboard.html {size / 1e6:.1f} MB")


if __name__ == "__main__":
    only(*sys.argv[2:]) if sys.argv[1:2] == ["--only"] else main()
