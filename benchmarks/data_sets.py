"""How long a data set as large as HPD v2 takes to inspect and convert, and how much memory.

    python benchmarks/data_sets.py [--folder DIR] [--groups 86000] [--images] [--decode] [--edge 8]

Makes a `train.json` of the published layout with 800,000 pairs of 430,000 images (86,000 prompts with five images
each, 40 of every 43 pairs kept), then runs each command as a process of its own. `json.load` of the whole file in the
same run is the yardstick. With --images the image files are made too: JPEGs, each with bytes of its own, tiny unless
--edge says how many pixels wide and high they are. --decode inspects them once more and decodes them.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

WORDS = (  # noqa: SIM905
    "a an the of in on with and portrait landscape photo painting castle forest cat dog robot astronaut woman man city "
    "street river mountain sunset night rain snow light shadow golden blue red ancient futuristic misty detailed soft "
    "cinematic watercolour oil sketch close-up wide quiet crowded broken floating glass stone wooden paper neon"
).split()
IMAGES_PER_PROMPT = 5
LIMITS = {"seconds": 60.0, "gigabytes": 2.0}


def make_train(path: Path, prompts: int, seed: int = 0) -> tuple[int, int]:
    """Write the annotations; returns the numbers of pairs and of images."""
    chance = random.Random(seed)
    pairs = 0
    with path.open("w") as handle:
        for number in range(prompts):
            prompt = " ".join(chance.choices(WORDS, k=chance.randint(8, 30)))
            first = number * IMAGES_PER_PROMPT
            names = [f"{n:08}.jpg" for n in range(first, first + IMAGES_PER_PROMPT)]
            for index, pair in enumerate(itertools.combinations(names, 2), number * 10):
                if index % 43 >= 3:
                    label = chance.choice(([1, 0], [0, 1]))
                    row = {"human_preference": label, "prompt": prompt, "file_path": pair}
                    handle.write(f"{',' if pairs else '['}\n{json.dumps(row)}")
                    pairs += 1
        handle.write("\n]\n")
    return pairs, prompts * IMAGES_PER_PROMPT


def make_images(folder: Path, count: int, edge: int) -> None:
    """Write JPEGs of 64 pictures in turn; a comment in each makes its bytes its own."""
    folder.mkdir()
    chance = random.Random(0)
    pictures = []
    for _ in range(64):
        small = Image.frombytes("RGB", (8, 8), chance.randbytes(8 * 8 * 3))
        buffer = io.BytesIO()
        small.resize((edge, edge), Image.Resampling.BICUBIC).save(buffer, "JPEG")
        pictures.append(buffer.getvalue())
    for number in range(count):
        picture, comment = pictures[number % len(pictures)], str(number).encode()
        marked = picture[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + picture[2:]
        (folder / f"{number:08}.jpg").write_bytes(marked)


def measure(name: str, *command: object) -> tuple[float, float]:
    """Run a process; print and return its seconds and the most gigabytes that it held."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, *map(str, command)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    gigabytes = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
    processor = usage.ru_utime + usage.ru_stime
    note = "" if process.returncode in (0, 1) else f"  exit status {process.returncode}"
    print(f"| {name} | {seconds:.1f} s | {processor:.1f} s | {gigabytes:.2f} GB |{note}", flush=True)
    return seconds, gigabytes


def main() -> int:
    """Make, measure, compare with the limits; exit status 1 if inspecting exceeds them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where to work; kept  [default: a temporary folder]")
    parser.add_argument("--images", action="store_true", help="make the image files too, and look for them")
    parser.add_argument("--decode", action="store_true", help="decode the images too")
    parser.add_argument("--edge", type=int, default=8, help="pixels of an edge of the images")
    parser.add_argument("--groups", type=int, default=86_000, help="prompts, with five images each")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folder = Path(temporary)
        train, table = folder / "train.json", folder / "train.parquet"
        pairs, images = make_train(train, options.groups)
        print(f"{pairs:,} pairs, {images:,} images, train.json of {train.stat().st_size / 1e6:.0f} MB\n")
        if with_images := options.images or options.decode:
            make_images(folder / "train", images, options.edge)
        look = [] if with_images else ["--no-images"]
        print("| what | time | processor | memory |\n|---|---|---|---|")
        measure("`json.load` of the file, nothing else", "-c", f"import json; json.load(open({str(train)!r}))")
        hpskit = ["-m", "hpskit", "data"]
        worst = [measure("`hpskit data inspect train.json`", *hpskit, "inspect", train, *look)]
        if options.decode:
            measure("`hpskit data inspect train.json --decode`", *hpskit, "inspect", train, "--decode")
        convert = [*hpskit, "convert", train, "--to", "parquet", "--out", table, "--no-images"]
        measure("`hpskit data convert … --to parquet --no-images`", *convert)
        root = ["--image-root", folder / "train"] if with_images else []
        worst.append(measure("`hpskit data inspect train.parquet`", *hpskit, "inspect", table, *look, *root))
        lines = [*hpskit, "convert", table, "--to", "jsonl", "--out", folder / "lines", "--no-images"]
        measure("`hpskit data convert … --to jsonl --no-images`", *lines)
        worst.append(
            measure("`hpskit data inspect rankings.jsonl`", *hpskit, "inspect", folder / "lines", *look, *root)
        )
    seconds, gigabytes = (max(values) for values in zip(*worst, strict=True))
    print(f"\nThe slowest inspection took {seconds:.1f} s of {LIMITS['seconds']:.0f} s allowed,", end=" ")
    print(f"and the largest {gigabytes:.2f} GB of {LIMITS['gigabytes']:.0f} GB.")
    return int(seconds > LIMITS["seconds"] or gigabytes > LIMITS["gigabytes"])


if __name__ == "__main__":
    sys.exit(main())
