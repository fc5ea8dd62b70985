"""Draw the picture of the README: a photograph and four spoilt copies, ranked by `hpskit score`.

python runs/picture.py FILE.svg
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter
from rich.console import Console
from rich.text import Text
from sklearn.datasets import load_sample_images


def copies(photograph: Image.Image) -> dict[str, Image.Image]:
    """Spoil a photograph in four ways; the first of the five is as it was."""
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


def score(folder: Path) -> list[str]:
    """Rank the copies, and give the lines of the terminal."""
    prompt = "a temple in a park in front of a blue sky"
    names = []
    for kind, image in copies(Image.fromarray(load_sample_images().images[0])).items():
        names.append(f"temple_{kind}.png")
        image.save(folder / names[-1])
    command = [sys.executable, "-m", "hpskit", "score", prompt, *names]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return [f'$ hpskit score "{prompt}" \\', f"    {' '.join(names)}", *done.stdout.rstrip().splitlines()]


def draw(lines: list[str]) -> str:
    """Draw a terminal with these lines; the command and the best image are bold."""
    console = Console(record=True, width=max(map(len, lines)) + 1, file=io.StringIO())
    for number, line in enumerate(lines):
        best = re.match(r" +1 ", line)
        console.print(Text(line, style="bold green" if best else "bold" if number < 2 else ""), soft_wrap=True)
    svg = console.export_svg(title="hpskit score")
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # the picture fetches nothing from elsewhere
    return svg.replace("Fira Code", "DejaVu Sans Mono")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        Path(sys.argv[1]).write_text(draw(score(Path(folder))))
