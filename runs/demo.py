"""The first result: two photographs and what became of them, ranked by the embedded model.

    python runs/demo.py [--picture FILE.svg]

The photographs come with scikit-learn; the copies are made here. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

FOLDER = Path("demo")


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


def make_images() -> dict[str, list[Path]]:
    """Prompt -> image files."""
    from sklearn.datasets import load_sample_images

    prompts = ("a temple in a park in front of a blue sky", "a close-up of a pink dahlia")
    result: dict[str, list[Path]] = {}
    FOLDER.mkdir(exist_ok=True)
    for prompt, name, array in zip(prompts, ("temple", "dahlia"), load_sample_images().images, strict=True):
        result[prompt] = []
        for kind, image in copies(Image.fromarray(array)).items():
            path = FOLDER / f"{name}_{kind}.png"
            image.save(path)
            result[prompt].append(path)
    return result


def draw(prompt: str, images: list[Path], target: Path) -> None:
    """The command and its output as a picture for the README."""
    from rich.console import Console
    from rich.text import Text

    names = " ".join(path.name for path in images)
    command = [sys.executable, "-m", "hpskit", "score", prompt, *(path.name for path in images)]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=True)
    lines = [f'$ hpskit score "{prompt}" \\', f"    {names}", *done.stdout.rstrip().splitlines()]
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
    parser.add_argument("--picture", type=Path, help="draw the first table as SVG instead")
    arguments = parser.parse_args()
    made = make_images()
    if arguments.picture:
        draw(*next(iter(made.items())), arguments.picture)
        return
    for prompt, images in made.items():
        names = " ".join(map(str, images))
        print(f'$ hpskit score "{prompt}" {names}', flush=True)
        subprocess.run([sys.executable, "-m", "hpskit", "score", prompt, *map(str, images)], check=True)
    print(f'The images are in {FOLDER}/. Now your own: .venv/bin/hpskit score "PROMPT" IMAGE …')


if __name__ == "__main__":
    main()
