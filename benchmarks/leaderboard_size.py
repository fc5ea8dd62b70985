"""Measure a leaderboard of many models: processor seconds and memory of `hpskit benchmark leaderboard`.

    python benchmarks/leaderboard_size.py [MODELS [PROMPTS]]      # 200 models on 3,200 prompts

The results are made up: models whose means lie close together, and no image files. Each part runs in a process of its
own, so that its peak of memory is its own. Processor seconds count all threads: what starts more than it needs shows
here and not on the clock.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STYLES = ("anime", "concept-art", "paintings", "photo")


def make(folder: Path, models: int, prompts: int) -> None:
    """Write a result for each model, as the tests make them."""
    import numpy as np

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from leaderboard_results import write_result

    rng = np.random.default_rng(0)
    easy = rng.normal(20, 1.5, prompts)
    rows = [(STYLES[n * len(STYLES) // prompts], f"a picture of the number {n}") for n in range(prompts)]
    for n in range(models):
        scores = easy + rng.normal(0, 1, prompts) + 2 * n / models
        write_result(folder / f"{n:03d}/result.json", f"model {n:03d}", {"hps": scores}, rows)


def strengths(models: int, prompts: int) -> None:
    """Fit the strengths of made-up scores, with as many resamples as a leaderboard takes."""
    import numpy as np

    from hpskit.stats.strengths import bradley_terry_interval

    rng = np.random.default_rng(0)
    bradley_terry_interval(rng.normal(0, 1, (models, prompts)) + np.linspace(0, 2, models)[:, None], resamples=1_000)


def measured(*words: str) -> dict[str, float]:
    """Run a command: seconds on the clock and of processors, and megabytes at most."""
    start = time.perf_counter()
    running = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(running.pid, 0)
    running.returncode = os.waitstatus_to_exitcode(status)
    assert running.returncode == 0
    facts = {"clock": time.perf_counter() - start, "processor": used.ru_utime + used.ru_stime}
    return {**facts, "megabytes": used.ru_maxrss / 1024}


def main() -> None:
    models, prompts = (*map(int, sys.argv[1:3]), *(200, 3200)[len(sys.argv) - 1 :])
    with tempfile.TemporaryDirectory() as own:
        folder = Path(own)
        measured(__file__, "--make", own, str(models), str(prompts))  # a process counts what its parent had, too
        print(f"{os.cpu_count()} processors, {prompts:,} prompts")
        results = map(str, sorted(folder.glob("*/result.json")))
        board = ("-m", "hpskit", "benchmark", "leaderboard", *results, "--out", str(folder / "out"))
        for name, words in (
            *((f"strengths of {n} models", (__file__, "--strengths", str(n), str(prompts))) for n in (99, 100, models)),
            (f"leaderboard of {models} models", board),
        ):
            facts = measured(*words)
            print(f"{name:28}", *(f"{value:8.1f} {unit}" for unit, value in facts.items()))
        size = (folder / "out/leaderboard.html").stat().st_size
        print(f"leaderboard.html {size / 1e6:.1f} MB")


if __name__ == "__main__":
    match sys.argv[1:]:
        case "--make", where, *sizes:
            make(Path(where), *map(int, sizes))
        case "--strengths", *sizes:
            strengths(*map(int, sizes))
        case _:
            main()
