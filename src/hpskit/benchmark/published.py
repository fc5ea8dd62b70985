"""The leaderboards that the authors published, to stand beside measured ones. They are quoted, not checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpskit.benchmark.suites import STYLES

__all__ = ["published_for"]

_ROWS: tuple[tuple[Any, ...], ...] = (
    # name, (animation, concept-art, painting, photo, average) by v2.0, the same by v2.1
    ("Dreamlike Photoreal 2.0", (28.24, 27.6, 27.59, 27.99, 27.86), (30.87, 29.75, 29.46, 28.85, 29.73)),
    ("SDXL Refiner 0.9", (28.45, 27.66, 27.67, 27.46, 27.8), (33.26, 32.07, 31.63, 28.38, 31.34)),
    ("Realistic Vision", (28.22, 27.53, 27.56, 27.75, 27.77), (31.01, 29.95, 30.0, 28.61, 29.89)),
    ("SDXL Base 0.9", (28.42, 27.63, 27.6, 27.29, 27.73), (32.84, 31.36, 30.86, 27.48, 30.63)),
    ("Deliberate", (28.13, 27.46, 27.45, 27.62, 27.67), (31.46, 30.48, 30.17, 28.83, 30.23)),
    ("ChilloutMix", (27.92, 27.29, 27.32, 27.61, 27.54), (29.46, 28.46, 28.35, 27.63, 28.47)),
    ("MajicMix Realistic", (27.88, 27.19, 27.22, 27.64, 27.48), (29.67, 28.5, 28.44, 28.02, 28.66)),
    ("Openjourney", (27.85, 27.18, 27.25, 27.53, 27.45), (28.37, 27.38, 27.53, 26.66, 27.48)),
    ("DeepFloyd-XL", (27.64, 26.83, 26.86, 27.75, 27.27), (27.71, 26.07, 25.79, 27.96, 26.88)),
    ("Epic Diffusion", (27.57, 26.96, 27.03, 27.49, 27.26), (27.07, 26.14, 26.17, 26.43, 26.45)),
    ("Stable Diffusion v2.0", (27.48, 26.89, 26.86, 27.46, 27.17), (27.09, 26.02, 25.68, 26.73, 26.38)),
    ("Stable Diffusion v1.4", (27.26, 26.61, 26.66, 27.27, 26.95), (26.03, 24.87, 24.8, 25.7, 25.35)),
    ("DALL-E 2", (27.34, 26.54, 26.68, 27.24, 26.95), (26.38, 24.51, 24.93, 25.55, 25.34)),
    ("Versatile Diffusion", (26.59, 26.28, 26.43, 27.05, 26.59), (23.69, 23.39, 24.02, 24.64, 23.93)),
    ("CogView2", (26.5, 26.59, 26.33, 26.44, 26.47), (23.64, 24.86, 23.4, 22.68, 23.64)),
    ("VQGAN + CLIP", (26.44, 26.53, 26.47, 26.12, 26.39), (22.55, 23.76, 23.41, 21.51, 22.81)),
    ("DALL-E mini", (26.1, 25.56, 25.56, 26.12, 25.83), (21.54, 20.5, 20.32, 21.72, 21.02)),
    ("Latent Diffusion", (25.73, 25.15, 25.25, 26.97, 25.78), (20.63, 19.65, 19.79, 21.26, 20.34)),
    ("FuseDream", (25.26, 25.15, 25.13, 25.57, 25.28), (19.16, 19.37, 19.07, 20.07, 19.42)),
    ("VQ-Diffusion", (24.97, 24.7, 25.01, 25.71, 25.1), (18.44, 18.31, 19.24, 20.62, 19.15)),
    ("LAFITE", (24.63, 24.38, 24.43, 25.81, 24.81), (17.79, 17.55, 17.61, 20.88, 18.46)),
    ("GLIDE", (23.34, 23.08, 23.27, 24.5, 23.55), (13.9, 13.5, 13.94, 16.72, 14.51)),
)

_SCORERS = ("hps-v2.0", "hps-v2.1")


def published_for(scorer: str, suite: str, categories: Mapping[str, int]) -> list[dict[str, Any]]:
    """Give the table of a scorer on a suite, best first; empty if none was published.

    Source: Wu et al. 2023 (arXiv 2306.09341), table of the benchmark, and the leaderboards of the official repository.
    They were computed before resizing was antialiased; see docs/scoring.md.

    Args:
        scorer: name of the model, such as `hps-v2.1`.
        suite: name of the suite.
        categories: name -> number of prompts; the table is for all 3,200.

    Returns:
        Of each text-to-image model the `name`, the mean on each of the `categories`, and the `average` over all images.
    """
    if scorer not in _SCORERS or suite != "hpsv2" or dict(categories) != dict.fromkeys(STYLES, 800):
        return []
    rows = [(name, figures[_SCORERS.index(scorer)]) for name, *figures in _ROWS]
    return [
        {"name": name, "average": means[-1], "categories": dict(zip(STYLES, means[:-1], strict=True))}
        for name, means in sorted(rows, key=lambda row: -row[1][-1])
    ]
