"""The first result: three "models" paint the same prompts, the embedded scorer judges them, a leaderboard opens.

    python runs/demo.py [--prompts N] [--picture FILE.svg]

The models are the embedded painter with good, middling and deliberately poor settings, so that the truth is known:
their order must come out. Nothing is downloaded. `--picture` draws a ranking of photographs for the README instead.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

FOLDER = Path("demo")
PROMPTS = Path(__file__).with_name("demo_prompts.jsonl")
MODELS = {"fine": "Painter, fine", "plain": "Painter, plain", "poor": "Painter, poor"}


def hpskit(*arguments: str) -> None:
    """Run a command as a user would, and show it."""
    print(f"\n$ hpskit {shlex.join(arguments)}", flush=True)
    subprocess.run([sys.executable, "-m", "hpskit", *arguments], check=True)


def paint(rows: list[dict[str, str]]) -> None:
    """Each model's images in the official layout, CATEGORY/00000.jpg and so on, and its settings."""
    from rich.progress import track

    from hpskit.images.painter import Painter

    for name in MODELS:
        (FOLDER / f"{name}.json").unlink(missing_ok=True)  # of an earlier demo, perhaps by another painter
        painter = Painter(name)
        numbers: Counter[str] = Counter()
        for row in track(rows, f"Painting, {name}", transient=True, disable=not sys.stdout.isatty()):
            path = FOLDER / name / row["category"] / f"{numbers[row['category']]:05d}.jpg"
            numbers[row["category"]] += 1
            path.parent.mkdir(parents=True, exist_ok=True)
            (image,) = painter.generate([row["prompt"]], [0])
            image.save(path, quality=92)
        (FOLDER / f"{name}.settings.json").write_text(json.dumps(painter.info.to_json(), indent=2) + "\n")


def benchmark() -> None:
    """Score, compare, and say where the page is."""
    suite = str(FOLDER / "demo.jsonl")
    for name, title in MODELS.items():
        folder, out, meta = (str(FOLDER / part) for part in (name, f"{name}.json", f"{name}.settings.json"))
        hpskit("benchmark", "run", "--suite", suite, "--images", folder, "--name", title, "--meta", meta, "--out", out)
    results = [str(FOLDER / f"{name}.json") for name in MODELS]
    hpskit("benchmark", "leaderboard", *results, "--out", str(FOLDER / "leaderboard"))
    page = FOLDER / "leaderboard/leaderboard.html"
    print(f"\nThe leaderboard: {page} (open it in a browser). The images are beside it.")
    command = os.path.relpath(Path(sys.executable).with_name("hpskit"))
    print(f'Now your own: {command} score "PROMPT" IMAGE …, or docs/benchmark.md for a model.')


def copies(photograph: Image.Image) -> dict[str, Image.Image]:
    """The photograph as it is, and four ways to spoil it."""
    small = io.BytesIO()
    photograph.save(small, "jpeg", quality=6)
    noise = np.random.default_rng(0).normal(0, 45, (photograph.height, photograph.width, 3))
    noisy = np.clip(np.asarray(photograph) + noise, 0, 255).astype(np.uint8)
    return {
        "clean": photograph,
        "blurred": photograph.filter(ImageFilter.GaussianBlur(4)),
        "noisy": Image.fromarray(noisy),
        "compressed": Image.open(small),
        "washed_out": ImageEnhance.Contrast(ImageEnhance.Color(photograph).enhance(0.3)).enhance(0.4),
    }


def draw(target: Path) -> None:
    """The ranking of a photograph and its copies, command and output, as a picture."""
    from rich.console import Console
    from rich.text import Text
    from sklearn.datasets import load_sample_images

    prompt = "a temple in a park in front of a blue sky"
    FOLDER.mkdir(exist_ok=True)
    names = []
    for kind, image in copies(Image.fromarray(load_sample_images().images[0])).items():
        names.append(f"temple_{kind}.png")
        image.save(FOLDER / names[-1])
    command = [sys.executable, "-m", "hpskit", "score", prompt, *names]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=True)
    lines = [f'$ hpskit score "{prompt}" \\', f"    {' '.join(names)}", *done.stdout.rstrip().splitlines()]
    console = Console(record=True, width=max(map(len, lines)) + 1, file=io.StringIO())
    for number, line in enumerate(lines):
        best = re.match(r" +1 ", line)
        console.print(Text(line, style="bold green" if best else "bold" if number < 2 else ""), soft_wrap=True)
    svg = console.export_svg(title="hpskit score")
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # the picture fetches nothing from elsewhere
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(svg.replace("Fira Code", "DejaVu Sans Mono"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, help="paint only the first N prompts of each category")
    parser.add_argument("--picture", type=Path, help="draw a ranking of photographs as SVG instead")
    arguments = parser.parse_args()
    if arguments.picture:
        draw(arguments.picture)
        return
    FOLDER.mkdir(exist_ok=True)
    rows = [json.loads(line) for line in PROMPTS.read_text(encoding="utf-8").splitlines()]
    numbers: Counter[str] = Counter()
    chosen = []
    for row in rows:
        numbers[row["category"]] += 1
        if arguments.prompts is None or numbers[row["category"]] <= arguments.prompts:
            chosen.append(row)
    (FOLDER / "demo.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chosen), encoding="utf-8")
    paint(chosen)
    benchmark()


if __name__ == "__main__":
    main()
