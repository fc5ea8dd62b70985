"""How the model of styles was made: fit it again from the benchmark prompts of HPS v2, with its figures.

    python runs/styles/fit.py FOLDER OUT RAW...   # FOLDER has anime.json … photo.json; OUT is the package's styles.npz
                                                  # RAW: raw prompts, a line each, or JSON lines with `prompt`

First a model of raw prompts learns which words go with the words of one style (`CUES`): which painters with "oil on
canvas", which with "artstation". Its four scores are features beside the words of a benchmark prompt; since they are
sums over the same words, both fold into one table of weights, rounded to 8 bits.

Half of the benchmark is held out for the figures, over ten draws, with and without the raw prompts; how much the four
scores weigh is chosen by cross-validation inside the other half. The model that is written is of all.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix, hstack
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import StratifiedKFold

from hpskit.prompts.records import STYLES
from hpskit.prompts.styles import SLOTS, features, weigh

PENALTY = 5.0
"""Inverse of the penalty on squared weights."""
DRAWS = 10
TRUSTS = (0.15, 0.3, 0.6)
"""Standard deviations of the raw model's scores as features, to choose from."""
CUES = {
    "anime": (
        r"anime|manga|ghibli|miyazaki|pixar|disney|cartoons?|cel shad\w+|makoto shinkai|kyoto animation|"
        r"comic\w*|crunchyroll|pokemon|simpsons|dreamworks|waifu|chibi"
    ),
    "concept-art": (
        r"concept art|artstation|art ?station|unreal engine|octane|matte painting|cgsociety|cg society|"
        r"artgerm|rutkowski|wlop|beeple|ruan jia|cinema 4d|blender|deviantart|loish|ilya kuvshinov|"
        r"peter mohrbacher|3d render|d&d"
    ),
    "paintings": (
        r"oil painting|oil on canvas|watercolou?r|impression\w*|gouache|acrylic|renaissance|baroque|"
        r"van gogh|monet|rembrandt|caravaggio|picasso|dali|bouguereau|sargent|waterhouse|pre-?raphaelite|"
        r"fresco|canvas|brush\w*|paintings?|painted by|rockwell|klimt|hopper|romanticism|expressioni\w+|"
        r"surrealist|beksi\w+|leyendecker"
    ),
    "photo": (
        r"photo|photos|photograph\w*|35 ?mm|50 ?mm|85 ?mm|dslr|canon|nikon|kodak|fujifilm|leica|polaroid|"
        r"film grain|bokeh|f/?1\.\d|cctv|go ?pro|news footage|portra|sigma|national geographic|screenshot|"
        r"still from"
    ),
}
"""Words by which a raw prompt is taken to be of a style, if it has those of no other."""


def table(counts: list, rarity: np.ndarray) -> csr_matrix:
    """Rows of values by slot."""
    rows = [weigh(one, rarity) for one in counts]
    ends = np.cumsum([0, *(len(slots) for slots, _ in rows)])
    return csr_matrix(
        (np.concatenate([values for _, values in rows]), np.concatenate([slots for slots, _ in rows]), ends),
        shape=(len(rows), SLOTS),
    )


def rounded(values: np.ndarray) -> np.ndarray:
    """The values that 8 bits can hold."""
    scale = np.abs(values).max() / 127
    return np.rint(values / scale) * scale


def rarity_of(counts: list) -> np.ndarray:
    """Log of prompts over prompts with the slot."""
    held = np.bincount(np.concatenate([[*one] for one in counts]), minlength=SLOTS)
    rarity = np.where(held, np.log((1 + len(counts)) / (1 + held)) + 1, 0)
    return rounded(rarity).astype(np.float32)


def read_raw(paths: list[Path]) -> tuple[list[Counter[int]], np.ndarray]:
    """Features and styles of the raw prompts that have words of exactly one style."""
    cues = [re.compile(rf"\b(?:{CUES[style]})\b", re.IGNORECASE) for style in STYLES]
    lines = [(path.suffix, line) for path in paths for line in path.read_text().splitlines() if line.strip()]
    texts = dict.fromkeys(json.loads(line)["prompt"] if suffix == ".jsonl" else line for suffix, line in lines)
    found = [(text, [n for n, cue in enumerate(cues) if cue.search(text)]) for text in texts]
    sure = [(text, styles[0]) for text, styles in found if len(styles) == 1]
    print(f"{len(sure):,} of {len(found):,} raw prompts have words of one style:", Counter(n for _, n in sure))
    return [features(text) for text, _ in sure], np.array([style for _, style in sure])


def fit(rows: csr_matrix, labels: np.ndarray, raw: np.ndarray, trust: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights (slots, styles), rounded to 8 bits, and bias; the scores of the `raw` weights count as `trust` says."""
    if not trust:
        model = LogisticRegression(C=PENALTY, max_iter=1000, tol=1e-3).fit(rows, labels)
        return rounded(model.coef_.T), model.intercept_
    raw = raw * (trust / (rows @ raw).std())
    joined = hstack([rows, csr_matrix(rows @ raw)]).tocsr()
    model = LogisticRegression(C=PENALTY, max_iter=1000, tol=1e-3).fit(joined, labels)
    weights = model.coef_.T[:SLOTS] + raw @ model.coef_.T[SLOTS:]
    return rounded(weights), model.intercept_


def choose(rows: csr_matrix, labels: np.ndarray, raw: np.ndarray) -> float:
    """The trust with the best accuracy over three folds."""
    folds = [*StratifiedKFold(3, shuffle=True, random_state=0).split(labels, labels)]
    right = dict.fromkeys(TRUSTS, 0)
    for trust in TRUSTS:
        for train, test in folds:
            weights, bias = fit(rows[train], labels[train], raw, trust)
            right[trust] += int(np.sum((rows[test] @ weights + bias).argmax(axis=1) == labels[test]))
    return max(TRUSTS, key=right.__getitem__)


def main() -> None:
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    prompts = [
        (text, n) for n, style in enumerate(STYLES) for text in json.loads((folder / f"{style}.json").read_text())
    ]
    counts, labels = [features(text) for text, _ in prompts], np.array([label for _, label in prompts])
    raw_counts, raw_labels = read_raw([Path(name) for name in sys.argv[3:]])
    raw_rarity = rarity_of(raw_counts)
    raw_rarity[raw_rarity == 0] = raw_rarity.max()
    raw = LogisticRegression(C=3.0, max_iter=60, tol=1e-3).fit(table(raw_counts, raw_rarity), raw_labels).coef_.T
    rows = table(counts, raw_rarity)
    print(f"the raw model alone: {np.mean((rows @ raw).argmax(axis=1) == labels):.4f}", flush=True)
    matrices, sure, plain, joined = [], [], [], []
    for draw in range(DRAWS):
        order = np.random.default_rng(draw).permutation(len(labels))
        train, test = order[::2], order[1::2]
        own = table(counts, rarity_of([counts[n] for n in train]))
        weights, bias = fit(own[train], labels[train], raw, 0)
        plain.append(np.mean((own[test] @ weights + bias).argmax(axis=1) == labels[test]))
        trust = choose(rows[train], labels[train], raw)
        weights, bias = fit(rows[train], labels[train], raw, trust)
        scores = rows[test] @ weights + bias
        shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        found = scores.argmax(axis=1)
        joined.append(np.mean(found == labels[test]))
        matrices.append(confusion_matrix(labels[test], found))
        sure.append(
            [
                (np.mean(found[up] == labels[test][up]), np.mean(up))
                for up in (shares.max(1) >= 0.5, shares.max(1) >= 0.7)
            ]
        )
        print(f"draw {draw}: {plain[-1]:.4f} without, {joined[-1]:.4f} with raw prompts (trust {trust})", flush=True)
    for name, values in {"without raw prompts": plain, "with": joined}.items():
        spread = f"{np.std(values, ddof=1):.4f}, {min(values):.4f} to {max(values):.4f}"
        print(f"accuracy on held-out halves, {name}: {np.mean(values):.4f} (standard deviation {spread})")
    total = np.sum(matrices, axis=0)
    for (right, share), limit in zip(np.mean(sure, axis=0), (0.5, 0.7), strict=True):
        print(f"at probability {limit} or more: {right:.3f} right, {share:.1%} of the prompts")
    print("rows are the files, columns the model, percent of a row:", *STYLES)
    for style, row in zip(STYLES, 100 * total / total.sum(axis=1, keepdims=True), strict=True):
        print(f"{style:12}", *(f"{value:6.1f}" for value in row))
    weights, bias = fit(rows, labels, raw, choose(rows, labels, raw))
    scale, rarity_scale = np.abs(weights).max() / 127, raw_rarity.max() / 127
    np.savez_compressed(
        out,
        weights=np.rint(weights / scale).astype(np.int8),
        scale=np.float32(scale),
        bias=bias.astype(np.float32),
        rarity=np.rint(raw_rarity / rarity_scale).astype(np.int8),
        rarity_scale=np.float32(rarity_scale),
    )
    print(f"{out}: {out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
