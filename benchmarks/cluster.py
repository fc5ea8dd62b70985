"""Score shards on Ray while it is killed, and measure what Ray costs.

    python benchmarks/cluster.py kills --times 20        # drivers and workers killed at random moments
    python benchmarks/cluster.py overhead --images 9600  # Ray with two workers against two plain processes

Images are made up, parquet files of 256 pixels each. Needs hpskit[cluster]; nothing leaves this machine.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

WORKERS = 2


def write_shards(folder: Path, shards: int, images: int, seed: int = 0) -> int:
    """Write parquet files of some images each, one of them broken; return the number of rows."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(seed)
    some = []
    for _ in range(32):
        with io.BytesIO() as file:
            small = Image.fromarray(noise.integers(0, 256, (8, 8, 3), np.uint8))
            small.resize((256, 256), Image.Resampling.BICUBIC).save(file, "JPEG")
            some.append(file.getvalue())
    for number in range(shards):
        rows = [some[(number + row) % len(some)] for row in range(images)]
        if images > 1:
            rows[number % images] = b"no image"
        prompts = [f"prompt {row}" for row in range(images)]
        pq.write_table(
            pa.table({"image": pa.array(rows, pa.binary()), "prompt": prompts}), folder / f"{number:04}.parquet"
        )
    return shards * images


def command(folder: Path, out: Path, *more: str) -> list[str]:
    """The command that scores the shards."""
    words = ["cluster", "score", "--input", str(folder), "--output", str(out), "--columns", "image=image,prompt=prompt"]
    return [sys.executable, "-m", "hpskit", *words, *more]


def count(out: Path) -> Counter[int]:
    """How often each row is in the output, by its position; counted apart from the command."""
    found: Counter[int] = Counter()
    for path in [*out.glob("outcome=scores/*/*.parquet"), *out.glob("outcome=errors/*/*.parquet")]:
        try:
            found.update(pq.ParquetFile(path).read(columns=["position"])["position"].to_pylist())
        except (OSError, pa.ArrowException):
            continue  # it is being written
    return found


def working(driver: int) -> list[psutil.Process]:
    """The processes of Ray that work for a driver just now."""
    found = []
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process(driver).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                line = " ".join(process.cmdline())
                if line.startswith("ray::") and "IDLE" not in line:
                    found.append(process)
    return found


def kills(folder: Path, times: int, seed: int) -> None:
    """Kill a driver or one of its workers again and again, and let the command go on until it ends by itself."""
    chance, killed, jobs = random.Random(seed), Counter[str](), 0
    lost = doubled = 0
    while sum(killed.values()) < times:
        jobs += 1
        shards, out = folder / f"shards{jobs}", folder / f"out{jobs}"
        rows, status = write_shards(shards, 24, 100, jobs), -1
        while status:
            before = len(count(out))
            driver = subprocess.Popen(command(shards, out, "--workers", str(WORKERS), "--block-rows", "25"))
            while driver.poll() is None and sum(killed.values()) < times:
                while driver.poll() is None and len(count(out)) <= before:
                    time.sleep(0.2)
                time.sleep(chance.uniform(0, 6))
                what = chance.choice(["driver", "worker"])
                targets = [psutil.Process(driver.pid)] if what == "driver" else working(driver.pid)
                if driver.poll() is not None or not targets:
                    continue
                target = chance.choice(targets)
                name = what if what == "driver" else target.cmdline()[0].partition("(")[0]
                target.kill()
                killed[name] += 1
                before = len(count(out))
                print(f"job {jobs}: killed {name}, {before:,} of {rows:,} rows are there", flush=True)
                if what == "driver":
                    driver.wait()
            status = driver.wait()
            if status == 2:  # an error of ours; 1 is what Ray gives when a part of its own was killed
                sys.exit("the command failed")
        found = count(out)
        lost, doubled = lost + rows - len(found), doubled + sum(n > 1 for n in found.values())
    print(json.dumps({"jobs": jobs, "rows": rows * jobs, "killed": killed, "lost": lost, "doubled": doubled}))


def seconds(*commands: list[str]) -> float:
    """How long commands take that run side by side."""
    begun = time.monotonic()
    running = [subprocess.Popen(words, stdout=subprocess.DEVNULL) for words in commands]
    if any([process.wait() for process in running]):  # noqa: C419  # all of them
        sys.exit("a command failed")
    return time.monotonic() - begun


def overhead(folder: Path, images: int) -> None:
    """Compare Ray with two workers and two plain processes, over a few images, which is their start, and over many."""
    found: dict[str, list[float]] = {"ray": [], "plain": []}
    for size in (WORKERS * 8, images):
        shards = folder / f"shards{size}"
        rows = write_shards(shards, WORKERS * 8, size // (WORKERS * 8))
        parts = [("--engine", "plain", "--part", f"{part}/{WORKERS}") for part in range(1, WORKERS + 1)]
        plain, ray = folder / f"plain{size}", folder / f"ray{size}"
        found["plain"].append(seconds(*(command(shards, plain, *part, "--batch-size", "1") for part in parts)))
        found["ray"].append(seconds(command(shards, ray, "--workers", str(WORKERS), "--batch-size", "1")))
        for out in (plain, ray):
            assert count(out).total() == len(count(out)) == rows
        print(size, {name: round(values[-1], 1) for name, values in found.items()}, flush=True)
    work = {name: many - few for name, (few, many) in found.items()}
    print(json.dumps({
        "images": images,
        "seconds of the start": {name: round(few, 1) for name, (few, _) in found.items()},
        "seconds of the work": {name: round(value, 1) for name, value in work.items()},
        "overhead": f"{work['ray'] / work['plain'] - 1:+.1%} without the start, "
        f"{found['ray'][1] / found['plain'][1] - 1:+.1%} with it",
    }))  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kills", "overhead"])
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--images", type=int, default=9600)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hpskit-cluster-") as place:
        if chosen.what == "kills":
            kills(Path(place), chosen.times, chosen.seed)
        else:
            overhead(Path(place), chosen.images)
