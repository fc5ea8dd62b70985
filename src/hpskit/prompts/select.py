"""Choose prompts from a clean file: balanced by style, source and length, and unlike one another."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hpskit import __version__
from hpskit.errors import InputError
from hpskit.files import sha256_file
from hpskit.prompts.duplicates import normal, signatures
from hpskit.prompts.records import STYLES, ChosenPrompt, CleanPrompt, Style, publish_lines, read_prompts

FORMAT = "hpskit prompts select 1"
LENGTHS = (12, 20, 35)
"""Tokens from which a prompt is of the next length: with up to 11 it is short, with 35 or more very long."""
K = TypeVar("K", bound=Hashable)
_POOL = 20
"""Candidates for each prompt that is wanted; of more, a random part is looked at."""


def length_of(tokens: int) -> str:
    """Name the length of a prompt."""
    names = (f"under {LENGTHS[0]}", *(f"{low} to {high - 1}" for low, high in itertools.pairwise(LENGTHS)))
    return (*names, f"{LENGTHS[-1]} and more")[sum(tokens >= least for least in LENGTHS)]


def select_prompts(
    path: Path, out: Path, *, n: int, per_style: bool = False, certainty: float = 0.5, seed: int = 0
) -> dict[str, Any]:
    """Choose n kept prompts, write them as a suite, and return the manifest with the figures before and after.

    Styles get equal numbers with `per_style`, else their shares; within a style, sources and lengths get their shares.
    Within each of these cells a prompt is chosen that is least like those chosen before, by MinHash.

    Args:
        path: what `hpskit prompts clean` wrote.
        out: a .jsonl file, which `hpskit benchmark run --suite` reads.
        n: how many.
        per_style: choose the same number of each style.
        certainty: least probability of its style, 0 to 1, that a prompt must have if `per_style`.
        seed: the same seed gives the same prompts.

    Raises:
        InputError: there are too few prompts, or n cannot be divided by the number of styles.
        RecordError: a line is not what it should be.
        OutputError: the file cannot be written.
    """
    kept = [prompt for prompt in read_prompts(path, CleanPrompt) if prompt.state == "kept"]
    kept = [prompt for prompt in kept if not per_style or prompt.style_score >= certainty]
    styles: Counter[Style] = Counter(prompt.style for prompt in kept)
    if per_style:
        if n % len(STYLES):
            raise InputError("--n", f"is {n}", expected=f"a multiple of {len(STYLES)}, the number of styles")
        wanted = dict.fromkeys(STYLES, n // len(STYLES))
    else:
        wanted = shares(styles, min(n, len(kept)))
    needed = [("", n, len(kept)), *((f" of the style {name}", wanted[name], styles[name]) for name in wanted)]
    for of, number, there in needed:
        if there < number:
            cure = "give a smaller --n, or more prompts"
            raise InputError(path, f"has {there:,} kept prompts{of}", expected=f"{number:,} or more", cure=cure)
    generator = np.random.default_rng(seed)
    chosen = sorted(place for style in STYLES for place in _of_style(kept, style, wanted.get(style, 0), generator))
    facts = {
        "package": f"hpskit {__version__}",
        "run": {
            "prompts": path.name,
            "sha256": sha256_file(path),
            "n": n,
            "per_style": per_style,
            "certainty": certainty,
            "seed": seed,
        },
        "before": summary(kept),
        "after": summary([kept[place] for place in chosen]),
    }
    numbers: Counter[Style] = Counter()
    rows = []
    for prompt in sorted((kept[place] for place in chosen), key=lambda prompt: STYLES.index(prompt.style)):
        row = {"prompt": prompt.prompt, "id": prompt.id, "source": prompt.source}
        number = numbers[prompt.style]
        rows.append(ChosenPrompt(category=prompt.style, number=number, tokens=prompt.tokens, **row))
        numbers[prompt.style] += 1
    publish_lines(out, FORMAT, facts, rows)
    return facts


def _of_style(prompts: Sequence[CleanPrompt], style: str, wanted: int, generator: np.random.Generator) -> list[int]:
    """Choose places of prompts of one style."""
    cells: dict[tuple[str, str], list[int]] = {}
    for place, prompt in enumerate(prompts):
        if prompt.style == style:
            cells.setdefault((prompt.source, length_of(prompt.tokens)), []).append(place)
    parts = shares({cell: len(places) for cell, places in cells.items()}, wanted)
    chosen = []
    for cell, places in sorted(cells.items()):
        if count := parts[cell]:
            pool = generator.permutation(places)[: _POOL * count]
            spread = farthest(signatures([normal(prompts[place].prompt) for place in pool]), count)
            chosen += [int(place) for place in pool[spread]]
    return chosen


def shares(sizes: Mapping[K, int], wanted: int) -> dict[K, int]:
    """Divide a number in proportion to sizes, whose sum is at least that, by largest remainders."""
    total = max(1, sum(sizes.values()))
    parts = {name: wanted * size // total for name, size in sizes.items()}
    rest = sorted(sizes, key=lambda name: (-(wanted * sizes[name] % total), str(name)))
    for name in rest[: wanted - sum(parts.values())]:
        parts[name] += 1
    return parts


def farthest(sketches: NDArray[np.uint32], count: int) -> NDArray[np.int64]:
    """Choose rows one by one, each the least like its nearest of those before; the first is the first.

    Source: Gonzalez 1985, Clustering to minimize the maximum intercluster distance.
    """
    chosen = np.zeros(count, np.int64)
    nearest = np.zeros(len(sketches))
    for step in range(1, count):
        nearest = np.maximum(nearest, (sketches == sketches[chosen[step - 1]]).sum(axis=1))
        nearest[chosen[step - 1]] = np.inf
        chosen[step] = nearest.argmin()
    return chosen


def summary(prompts: Sequence[CleanPrompt | ChosenPrompt]) -> dict[str, dict[str, int]]:
    """Count prompts by style, source and length."""
    style = Counter(prompt.style if isinstance(prompt, CleanPrompt) else prompt.category for prompt in prompts)
    lengths = Counter(length_of(prompt.tokens) for prompt in prompts)
    return {
        "style": {name: style[name] for name in STYLES},
        "source": dict(Counter(prompt.source for prompt in prompts).most_common()),
        "length": {name: lengths[name] for name in map(length_of, (0, *LENGTHS))},
    }
