"""Time and memory of the near-duplicates among a million prompts, put together from pieces of real ones.

    python benchmarks/near_duplicates.py FILE… [--count 1000000]      # FILE: what `hpskit prompts import` takes

A prompt is the beginning of one and the end of another, so that much of a text is shared with many, and a quarter of
them is there twice: harder than a log. The figures in docs/prompts.md are from
`../shared/data/prompts/diffusiondb_raw.jsonl` and `pickapic_raw.txt`.
"""

from __future__ import annotations

import argparse
import random
import resource
import time
from pathlib import Path

import numpy as np

from hpskit.prompts.duplicates import TextIndex
from hpskit.prompts.sources import raw_prompts


def recombined(paths: list[Path], count: int) -> list[str]:
    """Prompts of pieces, which commas part."""
    pieces = [prompt.prompt.split(",") for path in paths for prompt in raw_prompts(path, path.stem)]
    dice, found = random.Random(0), []
    for _ in range(count):
        first, second = dice.choice(pieces), dice.choice(pieces)
        found.append(",".join(first[: dice.randrange(len(first) + 1)] + second[-dice.randrange(1, 4) :]).strip())
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--count", type=int, default=1_000_000)
    options = parser.parse_args()
    prompts = recombined(options.files, options.count)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, processor = time.perf_counter(), time.process_time()
    index = TextIndex(prompts)
    indexed = time.process_time() - processor
    found = index.clusters()
    largest = found.largest(3)
    print(f"{len(prompts):,} prompts of {sum(map(len, prompts)) / len(prompts):.0f} characters")
    print(f"processor {time.process_time() - processor:.1f} s, of them the index {indexed:.1f} s")
    print(f"wall {time.perf_counter() - wall:.1f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"peak memory {peak / 1e6:.2f} GB, before the index {before / 1e6:.2f} GB")
    led, equal = found.leader != np.arange(len(prompts)), found.similarity == 1
    print(f"equal to another {np.sum(led & equal):,}, like another {np.sum(led & ~equal):,}")
    for leader, size in largest:
        print(f"{size:,}: {prompts[leader][:80]}")


if __name__ == "__main__":
    main()
