"""How the embedded model was made: fit it again from a sample of HPD v2, with its figures.

    python runs/mini/fit.py SAMPLE OUT

The recipe `mini` of `hpskit train` is a plain fit. The embedded weights have three things more, because the images of
HPD v2's test set come from nine known generators: principal directions in which every block of the network counts the
same; votes that are shrunk halfway to the average votes for the two generators; and pairs of images of different
prompts, judged by these averages. docs/mini.md says what each is worth. OUT gets what `hpskit train` writes, and the
distance of the new scores from those of the embedded model is printed.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from hpskit import __version__
from hpskit.dataset.group import orders
from hpskit.dataset.reading import open_data
from hpskit.files import publish_folder, publish_json
from hpskit.models.loading import load_network
from hpskit.models.training_record import HeldOut, write_record
from hpskit.stats.agreement import annotator_agreement, leave_one_out_agreement
from hpskit.stats.intervals import bootstrap_accuracy, bootstrap_mean
from hpskit.training import mini
from hpskit.training.mini import COPIES, PAIR, Floats, Judged, MiniRecipe, Pairs

RECIPE = MiniRecipe(
    version="1.0", licence="Apache-2.0", data_name="the HPD v2 test set", penalties=(1.0, 0.3, 0.1), copy_weight=0.3
)
SHRINKAGE, CROSS_WEIGHT, CROSS_PAIRS, CROSS_SHARPNESS = 0.5, 0.5, 1500, 1.2


def folds(prompts: Floats, parts: int, seed: int) -> list[Floats]:
    """Part prompts at random; the embedded model was made before scikit-learn's folds were used."""
    order = np.random.default_rng(seed).permutation(len(prompts))
    return [prompts[np.sort(order[part::parts])] for part in range(parts)]


def directions_of(table: Floats, images: int, chosen: Floats, channels: tuple[int, ...]) -> Floats:
    """(F, 256): principal directions of the chosen images and their copies, every block of the network alike."""
    deviation = table[chosen].std(axis=0, ddof=1)
    parts = np.split(deviation, np.cumsum(np.repeat(channels, 2))[:-1])
    floor = np.concatenate([np.full(len(part), 0.05 * np.median(part)) for part in parts])
    share = np.repeat((2 * np.array(channels) * len(channels)) ** -0.5, 2 * np.array(channels))
    scale = (share / (deviation + floor)).astype(np.float32)
    rows = np.concatenate([chosen + first for first in range(0, len(table), images)])
    x = (table[rows] - table[chosen].mean(axis=0)) * scale
    values, vectors = np.linalg.eigh((x @ x.T).astype(np.float64))  # fewer images than features
    return scale[:, None] * (x.T @ (vectors[:, -256:] / np.sqrt(values[-256:])).astype(np.float32))


class Examples:
    """The pairs that are fitted to, for some training prompts."""

    def __init__(self, judged: Judged) -> None:
        self.judged, self.images = judged, len(judged.images)
        self.generator = np.zeros(self.images, int)
        """The files of a group are in a fixed order of generators; a photograph comes last in groups of ten."""
        for rows in judged.rows:
            self.generator[rows] = np.arange(len(rows))

    def of(self, prompts: Floats) -> Pairs:
        pairs = self.judged.pairs[np.isin(self.judged.pairs["prompt"], prompts)].copy()
        images = np.flatnonzero(np.isin(self.judged.image_prompt, prompts))
        total, first, second = pairs["weight"].sum(), *(self.generator[pairs[name]] for name in ("first", "second"))
        won, met = np.full((10, 10), 0.5), np.ones((10, 10))  # with one draw added
        np.add.at(won, (first, second), pairs["share"])
        np.add.at(won, (second, first), 1 - pairs["share"])
        for one, other in ((first, second), (second, first), (self.generator[images],) * 2):
            np.add.at(met, (one, other), 1)
        average = won / met
        pairs["share"] = (1 - SHRINKAGE) * pairs["share"] + SHRINKAGE * average[first, second]
        across = np.zeros(CROSS_PAIRS, PAIR)
        one, other = np.random.default_rng(0).integers(0, len(images), (2, CROSS_PAIRS))
        utility = logit(average.mean(axis=1))[self.generator[images]]
        across["first"], across["second"] = images[one], images[other]
        across["share"], across["weight"] = expit(CROSS_SHARPNESS * (utility[one] - utility[other])), CROSS_WEIGHT
        copies = np.zeros(len(images) * len(COPIES), PAIR)
        copies["first"] = np.tile(images, len(COPIES))
        copies["second"] = copies["first"] + np.repeat(np.arange(1, 1 + len(COPIES)), len(images)) * self.images
        copies["share"], copies["weight"] = 0.9, RECIPE.copy_weight
        for extra in (across, copies):
            extra["weight"] *= total / len(extra)
        return np.concatenate([pairs, across, copies])


def fit(table: Floats, examples: Examples, prompts: Floats) -> tuple[Floats, float]:
    """Return the layer, and its penalty; cross-validation among these prompts chose it and the temperature."""
    judged = examples.judged
    pairs = judged.pairs[np.isin(judged.pairs["prompt"], prompts)]
    scores = np.zeros((len(RECIPE.penalties), len(table)))

    def fitted(chosen: Floats, penalty: float) -> Floats:
        own = examples.of(chosen)
        return mini.logistic_regression(table[own["first"]] - table[own["second"]], own, penalty)

    for part in folds(prompts, 5, 0):
        held = np.flatnonzero(np.isin(judged.image_prompt, part))
        for own, penalty in zip(scores, RECIPE.penalties, strict=True):
            own[held] = table[held] @ fitted(np.setdiff1d(prompts, part), penalty)

    def log_loss(factor: float, x: Floats) -> float:
        losses = np.logaddexp(0, factor * x) - pairs["share"] * factor * x
        return float(np.average(losses, weights=pairs["weight"]))

    differences = scores[:, pairs["first"]] - scores[:, pairs["second"]]
    tempered = [minimize_scalar(log_loss, bounds=(0.1, 10), args=(x,), method="bounded") for x in differences]
    best = int(np.argmin([result.fun for result in tempered]))
    return tempered[best].x * fitted(prompts, RECIPE.penalties[best]), RECIPE.penalties[best]


def people(judged: Judged, scores: Floats) -> dict[str, list[float]]:
    """Share of the votes that held-out scores predict, and how well people predict people; 95 % over prompts."""
    votes = [replace(group, judgements=orders(group)).ranks() for group in judged.groups]
    pairs = judged.votes
    differences = [pairs.differences([own[rows] for rows in judged.rows]) for own in scores]
    predicted = np.mean([np.where(d > 0, pairs.share, 1 - pairs.share) for d in differences], axis=0)
    of_group = np.bincount(pairs.group, weights=predicted) / np.bincount(pairs.group)
    agreed = [rule(votes, rule="hpdv2") for rule in (annotator_agreement, leave_one_out_agreement)]
    intervals = {
        "votes": bootstrap_mean(of_group, clusters=judged.prompt),
        "annotator_vs_annotator": bootstrap_accuracy(agreed[0], clusters=judged.prompt),
        "annotator_vs_others": bootstrap_accuracy(agreed[1], clusters=judged.prompt),
    }
    return {name: [round(value, 4) for value in (i.value, i.low, i.high)] for name, i in intervals.items()}


def progress(step: str, done: int, total: int) -> None:
    print(f"\r{step}: {done:,} of {total:,}", end="" if done < total else "\n", flush=True)


def main(sample: str, out: str) -> None:
    with publish_folder(Path(out)) as folder:
        judged = mini.read_judged(open_data(sample))
        network, info = load_network("mini", precision="fp32", device="cpu")
        channels, images, prompts = network.model.widths, len(judged.images), np.arange(judged.prompts)
        features = mini.tabulate(network, judged, progress)
        examples, of_row = Examples(judged), np.tile(judged.image_prompt, 1 + len(COPIES))
        scores, penalties = np.zeros((RECIPE.repeats, len(features))), []
        for repeat, own in enumerate(scores):
            for part in folds(prompts, RECIPE.folds, repeat):
                training = np.setdiff1d(prompts, part)
                chosen = np.flatnonzero(np.isin(judged.image_prompt, training))
                directions = directions_of(features, images, chosen, channels)
                layer, penalty = fit((features @ directions).astype(float), examples, training)
                held = np.isin(of_row, part)
                own[held] = (features[held] @ directions).astype(float) @ layer
                penalties.append(penalty)
                progress("cross-validation", len(penalties), RECIPE.folds * RECIPE.repeats)
        directions = directions_of(features, images, np.arange(images), channels)
        layer, penalty = fit((features @ directions).astype(float), examples, prompts)
        weights = folder / "mini.safetensors"
        digest = mini.write_weights(weights, network, features[:images].mean(axis=0), directions @ layer, RECIPE)
        new, old = directions @ layer, network.model.weight.numpy()
        centred = features[:images] - features[:images].mean(axis=0)
        furthest = float(np.abs(centred @ new - centred @ old).max())
        figures = {
            "package": f"hpskit {__version__}",
            "command": f"python {shlex.join(sys.argv)}",
            "data": judged.data.name,
            "recipe": {**RECIPE.model_dump(mode="json"), "shrinkage": SHRINKAGE, "cross_weight": CROSS_WEIGHT},
            "prompts": judged.prompts,
            "groups": len(judged.groups),
            "images": images,
            **mini.judge(judged, scores),
            **people(judged, scores),
            "penalties": sorted(penalties),
            "final_penalty": penalty,
            "weight_hash": digest,
            "embedded": {"weight_hash": info.weight_hash, "furthest_score": float(f"{furthest:.1e}")},
        }
        value, low, high = figures["accuracy"]
        write_record(
            weights,
            weight_hash=digest,
            data=f"{judged.prompts} prompts of {RECIPE.data_name}",
            prompts=[group.prompt for group in judged.groups],
            held_out=HeldOut(rule="hpdv2", value=value, low=low, high=high, source="cross-validation by prompt"),
        )
        publish_json(folder / "figures.json", figures)
    print("\n".join(mini.lines({**figures, "penalty": penalty})))
    print(f"furthest from the embedded scores: {furthest:.1e} log-odds")


if __name__ == "__main__":
    main(*sys.argv[1:])
