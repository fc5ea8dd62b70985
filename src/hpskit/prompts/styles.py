"""Tell the style of a prompt: animation, concept art, painting or photo, by a linear model in the package.

Words, pairs of words and pieces of words are hashed into a table of weights. `runs/styles/fit.py` fits it to the
prompts of HPS v2's benchmark, which are labelled by their file, helped by raw prompts; docs/prompts.md says how well.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpskit.prompts.records import STYLES, Style

SLOTS = 1 << 15
"""Rows of the table that features are hashed to."""
_WORD = re.compile(r"\w+|[^\w\s]")
_WEIGHTS = Path(__file__).with_name("styles.npz")


def features(text: str) -> Counter[int]:
    """Count the features of a prompt by their slots: words, pairs of words, and pieces of 2 to 5 letters."""
    words = _WORD.findall(text.casefold())
    named = [*words, *map("{} {}".format, words, words[1:])]
    for word in words:
        edged = f"\x02{word}\x03"
        named += [edged[at : at + size] for size in range(2, 6) for at in range(len(edged) - size + 1)]
    return Counter(zlib.crc32(name.encode(errors="replace")) % SLOTS for name in named)


def weigh(counts: Counter[int], rarity: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the slots of a prompt and their values, of unit length: 1 + log(count), times the slot's `rarity`."""
    slots = np.fromiter(counts, np.int64, len(counts))
    values = (1 + np.log(np.fromiter(counts.values(), np.float32, len(counts)))) * rarity[slots]
    return slots, values / max(float(np.linalg.norm(values)), 1e-9)


def style_of(text: str) -> tuple[Style, float]:
    """Return the likeliest style and its probability, 0.25 to 1."""
    weights, bias, rarity = _model()
    slots, values = weigh(features(text), rarity)
    scores = values @ weights[slots] + bias
    shares = np.exp(scores - scores.max())
    best = int(shares.argmax())
    return STYLES[best], float(shares[best] / shares.sum())


@cache
def _model() -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Load weights (slots, styles), bias (styles,) and rarity (slots,)."""
    with np.load(_WEIGHTS) as stored:
        weights = stored["weights"].astype(np.float32) * stored["scale"]
        return weights, stored["bias"], stored["rarity"].astype(np.float32) * stored["rarity_scale"]
