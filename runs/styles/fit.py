"""How the model of styles was made: fit it again from the benchmark prompts of HPS v2, with its figures.

    python runs/styles/fit.py FOLDER [OUT]        # FOLDER has anime.json … photo.json; OUT is the package's styles.npz

Half of the prompts is held out for the figures, over five draws; the model that is written is of all. Logistic
regression on what `hpskit.prompts.styles` makes of a prompt; weights are rounded to 8 bits.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix

from hpskit.prompts.records import STYLES
from hpskit.prompts.styles import SLOTS, features, weigh

PENALTY = 5.0
"""Inverse of the penalty on squared weights."""
DRAWS = 5


def table(counts: list, rarity: np.ndarray) -> csr_matrix:
    """Rows of values by slot."""
    rows = [weigh(one, rarity) for one in counts]
    ends = np.cumsum([0, *(len(slots) for slots, _ in rows)])
    return csr_matrix(
        (np.concatenate([values for _, values in rows]), np.concatenate([slots for slots, _ in rows]), ends),
        shape=(len(rows), SLOTS),
    )


def fit(counts: list, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights (slots, styles), bias and rarity (log of prompts over prompts with the slot), rounded to 8 bits."""
    held = np.bincount(np.concatenate([[*one] for one in counts]), minlength=SLOTS)
    rarity = np.where(held, np.log((1 + len(counts)) / (1 + held)) + 1, 0).astype(np.float32)
    rarity = np.rint(rarity / rarity.max() * 127).astype(np.int8).astype(np.float32) * (rarity.max() / 127)
    model = LogisticRegression(C=PENALTY, max_iter=1000).fit(table(counts, rarity), labels)
    weights = model.coef_.T
    scale = np.abs(weights).max() / 127
    return np.rint(weights / scale) * scale, model.intercept_, rarity


def main() -> None:
    folder, out = Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None
    prompts = [
        (text, n) for n, style in enumerate(STYLES) for text in json.loads((folder / f"{style}.json").read_text())
    ]
    counts, labels = [features(text) for text, _ in prompts], np.array([label for _, label in prompts])
    matrices, sure = [], []
    for draw in range(DRAWS):
        order = np.random.default_rng(draw).permutation(len(labels))
        train, test = order[::2], order[1::2]
        weights, bias, rarity = fit([counts[n] for n in train], labels[train])
        scores = table([counts[n] for n in test], rarity) @ weights + bias
        shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        found = scores.argmax(axis=1)
        matrices.append(confusion_matrix(labels[test], found))
        sure.append(
            [
                (np.mean(found[up] == labels[test][up]), np.mean(up))
                for up in (shares.max(1) >= 0.5, shares.max(1) >= 0.7)
            ]
        )
        print(f"draw {draw}: {np.mean(found == labels[test]):.4f}")
    total = np.sum(matrices, axis=0)
    print(f"accuracy on held-out halves: {np.trace(total) / total.sum():.4f}")
    for (right, share), limit in zip(np.mean(sure, axis=0), (0.5, 0.7), strict=True):
        print(f"at probability {limit} or more: {right:.3f} right, {share:.1%} of the prompts")
    print("rows are the files, columns the model, percent of a row:", *STYLES)
    for style, row in zip(STYLES, 100 * total / total.sum(axis=1, keepdims=True), strict=True):
        print(f"{style:12}", *(f"{value:6.1f}" for value in row))
    if out:
        weights, bias, rarity = fit(counts, labels)
        scale, rarity_scale = np.abs(weights).max() / 127, rarity.max() / 127
        np.savez_compressed(
            out,
            weights=np.rint(weights / scale).astype(np.int8),
            scale=np.float32(scale),
            bias=bias.astype(np.float32),
            rarity=np.rint(rarity / rarity_scale).astype(np.int8),
            rarity_scale=np.float32(rarity_scale),
        )
        print(f"{out}: {out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
