"""The recipe `mini`: a preference model from a few hundred rankings, on a laptop and without a download.

The features are those of the network in the wheel. They are standardised and brought to their principal directions;
logistic regression on the differences between two images finds what people prefer (Bradley & Terry 1952). Spoilt copies
of the images teach it that damage is worse. Cross-validation holds out whole prompts.

OUT/mini.safetensors     the weights, for `hpskit score --model`
OUT/mini.training.json   hashes of the training prompts, and the cross-validated accuracy
OUT/figures.json         every figure
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter
from pydantic import Field
from scipy.special import expit

from hpskit import __version__
from hpskit.dataset.duplicates import SIMILARITY
from hpskit.dataset.group import Group, compared_pairs, orders
from hpskit.dataset.reading import DataSet
from hpskit.dataset.split import Bonds
from hpskit.errors import InputError, need
from hpskit.files import publish_folder, publish_json
from hpskit.models.checkpoint import Weights, write_tensors
from hpskit.models.loading import load_network
from hpskit.models.networks.mini import MiniNetwork
from hpskit.models.registry import MODELS
from hpskit.models.training_record import HeldOut, write_record
from hpskit.pixels import open_image
from hpskit.stage import Progress
from hpskit.stats.accuracy import pair_accuracy
from hpskit.stats.calibration import PairVotes, calibration, pair_votes
from hpskit.stats.intervals import bootstrap_accuracy
from hpskit.training.recipes import Name, Settings

Floats = NDArray[Any]
Pairs = NDArray[np.void]
"""(pairs,): rows of two images in the table of features, share of the votes for the first (a tie counts one half to
each), weight, number of the prompt, and whether people compared them."""
PAIR = np.dtype(
    [("first", int), ("second", int), ("share", float), ("weight", float), ("prompt", int), ("voted", bool)]
)
COPIES = ("blurred", "noisy", "compressed", "washed_out")
FEWEST_PROMPTS = 10  # they are parted twice over: for the figures, and inside that for the penalty
MOST_IMAGES = 5_000  # the features of these and of their spoilt copies take 2.1 GB


class MiniRecipe(Settings):
    """Settings that decide the weights and the figures, beside the data."""

    version: Name = "local"
    """Version of the weights, a part of their identity."""
    licence: Name = "Apache-2.0 (network), unknown (data)"
    """Licence of the weights."""
    data_name: str = ""
    """Name of the data in the record of training; empty is the name of their folder and file."""
    penalties: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(strict=False, min_length=1)] = (3.0, 1.0, 0.3)
    """Penalties on the squared weights; cross-validation inside every training fold chooses one."""
    copy_weight: float = Field(default=0.3, ge=0, le=100)
    """Weight of all pairs of an image and a spoilt copy; 1 is the weight of all pairs that people compared."""
    folds: int = Field(default=10, ge=2, le=1000)
    """Parts of the prompts, each held out once; there are no more parts than prompts."""
    repeats: int = Field(default=3, ge=1, le=100)
    """How often the prompts are parted anew."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Groups of images that people have compared.

    A *prompt* is all that must not be parted: groups that share an image or nearly a prompt, directly or by others.
    """

    data: DataSet
    groups: list[Group]
    images: list[tuple[Group, str]]
    """First group that has an image, and its name there."""
    rows: list[NDArray[np.intp]]
    """Number of each image of each group."""
    prompt: NDArray[np.intp]
    """(groups,): number of the prompt."""
    prompts: int
    votes: PairVotes
    pairs: Pairs
    """The same votes, by numbers of images."""

    @property
    def image_prompt(self) -> NDArray[np.intp]:
        """(images,): number of the prompt."""
        found = np.zeros(len(self.images), np.intp)
        found[np.concatenate(self.rows)] = np.repeat(self.prompt, [len(own) for own in self.rows])
        return found


def read_judged(data: DataSet) -> Judged:
    """Read all groups and see that they can be fitted to and that their images are there, without decoding them."""
    numbers, bonds, seen = dict[bytes | Path, int](), Bonds(), set[Any]()
    groups, images, rows = list[Group](), list[tuple[Group, str]](), list[NDArray[np.intp]]()
    for group in filter(compared_pairs, data):
        said = (group.prompt, group.images, group.judgements)
        if said in seen and all(judgement.annotator for judgement in group.judgements):
            continue  # a row that stands twice; equal judgements of people without a name may be those of two
        seen.add(said)
        keys = [group.embedded.get(name) or data.image_path(name) for name in group.images]
        for key, name in zip(keys, group.images, strict=True):
            data.image(group, name)  # raises if there is none
            if numbers.setdefault(key, len(images)) == len(images):
                images.append((group, name))
        bonds.add(group.prompt, keys)
        rows.append(np.array([numbers[key] for key in keys]))
        groups.append(group)
        if len(images) > MOST_IMAGES:
            raise InputError(data.path, f"has more than {MOST_IMAGES:,} images", cure="give a part of it")
    bonds.join_similar(SIMILARITY)
    prompt = np.unique([bonds.root(node) for node in bonds.nodes], return_inverse=True)[1]
    if (prompts := len(set(prompt.tolist()))) < FEWEST_PROMPTS:
        found = f"has {prompts} judged prompts that share no image and are not nearly the same"
        raise InputError(data.path, found, expected=f"at least {FEWEST_PROMPTS} to fit mini", cure="add some")
    votes = pair_votes([replace(group, judgements=orders(group)).ranks() for group in groups])
    slots, starts = np.concatenate(rows), np.cumsum([0, *map(len, rows)])[votes.group]
    pairs = np.ones(len(votes.share), PAIR)
    pairs["first"], pairs["second"] = slots[starts + votes.first], slots[starts + votes.second]
    pairs["share"], pairs["prompt"] = votes.share, prompt[votes.group]
    pairs["weight"] = votes.votes / votes.votes.mean()
    return Judged(data, groups, images, rows, prompt, prompts, votes, pairs)


def spoilt(image: Image.Image, kind: str, rng: np.random.Generator) -> Image.Image:
    """Return a copy with a kind of damage from `COPIES`, at random strength."""
    strength = rng.uniform()
    if kind == "blurred":  # by 1.5 to 6.5 pixels
        return image.filter(ImageFilter.GaussianBlur(1.5 + 5 * strength))
    if kind == "compressed":  # to a quality of 18 down to 4
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=round(18 - 14 * strength))
        return Image.open(buffer).convert("RGB")
    if kind == "noisy":  # by a deviation of 15 to 75 levels
        values = np.asarray(image) + rng.normal(0, 15 + 60 * strength, (image.height, image.width, 3))
    else:  # to a saturation of 0.7 down to 0 and a contrast of 0.65 down to 0.2, and up to 30 levels brighter
        grey = ImageEnhance.Color(image).enhance(0.7 - 0.7 * strength)
        values = np.asarray(ImageEnhance.Contrast(grey).enhance(0.65 - 0.45 * strength)) + rng.uniform(0, 30)
    return Image.fromarray(values.round().clip(0, 255).astype(np.uint8))


def tabulate(network: MiniNetwork, judged: Judged, progress: Progress) -> Floats:
    """Compute the features of all images, then those of a spoilt copy of each, kind by kind.

    Row n of the result, ((1 + kinds) x images, F) float32, and rows images + n, 2 images + n, … belong to image n.
    """
    rng, parts, done = np.random.default_rng(0), list[Floats](), 0
    for kind in (None, *COPIES):
        images = (open_image(judged.data.image(group, name)) for group, name in judged.images)
        pixels = (network.preprocessing(image if kind is None else spoilt(image, kind, rng)) for image in images)
        while batch := list(itertools.islice(pixels, 16)):
            with torch.no_grad():
                parts.append(network.model.features(torch.stack(batch)).numpy())
            done += len(batch)
            progress("features", done, len(judged.images) * (1 + len(COPIES)))
    return np.concatenate(parts)


def principal_directions(table: Floats, images: int) -> Floats:
    """(F, directions): the matrix that standardises features and brings them to their principal directions.

    These are taken from 500 images, with their copies, and without votes. The mean squared length of an image is 1
    whatever F is, so that penalties mean the same.
    """
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    some = np.linspace(0, images - 1, min(images, 500)).astype(int)
    rows = np.concatenate([some + first for first in range(0, len(table), images)])
    scaler = StandardScaler().fit(table[some])
    pca = PCA(min(256, len(rows) - 1), random_state=0).fit(scaler.transform(table[rows]))
    return np.asarray(pca.components_ / scaler.scale_ / table.shape[1] ** 0.5, dtype=np.float32).T


def with_copies(judged: Judged, weight: float) -> Pairs:
    """Return all pairs, then every image with each of its spoilt copies; `weight` is that of the latter together."""
    count = len(judged.images)
    pairs = np.zeros(count * len(COPIES), PAIR)
    pairs["first"], pairs["second"] = np.arange(len(pairs)) % count, count + np.arange(len(pairs))
    pairs["share"], pairs["weight"] = 0.9, weight * judged.pairs["weight"].sum() / len(pairs)
    pairs["prompt"] = judged.image_prompt[pairs["first"]]
    return np.concatenate([judged.pairs, pairs])


def logistic_regression(differences: Floats, pairs: Pairs, penalty: float) -> Floats:
    """(directions,): log-odds per unit of each, for which the votes on pairs with these differences are likeliest."""
    from sklearn.linear_model import LogisticRegression

    weights = pairs["weight"] * np.stack([pairs["share"], 1 - pairs["share"]])
    model = LogisticRegression(C=1 / penalty, fit_intercept=False, solver="newton-cholesky", tol=1e-6)
    model.fit(np.tile(differences, (2, 1)), np.repeat([1, 0], len(pairs)), weights.ravel())
    return np.asarray(model.coef_[0])


def fit(table: Floats, pairs: Pairs, penalties: Sequence[float]) -> tuple[Floats, float]:
    """Return the layer (directions,), and its penalty; cross-validation by prompt chose it and the temperature."""
    from sklearn.model_selection import GroupKFold

    differences, scores = table[pairs["first"]] - table[pairs["second"]], np.zeros((len(penalties), len(pairs)))
    for training, held in GroupKFold(5, shuffle=True, random_state=0).split(pairs, groups=pairs["prompt"]):
        for own, penalty in zip(scores, penalties, strict=True):
            own[held] = differences[held] @ logistic_regression(differences[training], pairs[training], penalty)
    people, scores = pairs[pairs["voted"]], scores[:, pairs["voted"]]
    scores *= (factors := np.stack([logistic_regression(own[:, None], people, 1e-3) for own in scores]))
    losses = np.average(np.logaddexp(0, scores) - people["share"] * scores, axis=1, weights=people["weight"])
    best = int(losses.argmin())
    return factors[best] * logistic_regression(differences, pairs, penalties[best]), penalties[best]


def cross_validate(table: Floats, judged: Judged, recipe: MiniRecipe, progress: Progress) -> Floats:
    """Return scores (repeats, rows of the table) by fits that have not seen the prompt."""
    from sklearn.model_selection import GroupKFold

    pairs, prompts = with_copies(judged, recipe.copy_weight), np.tile(judged.image_prompt, 1 + len(COPIES))
    folds, scores = min(recipe.folds, judged.prompts), np.zeros((recipe.repeats, len(table)))
    for repeat, own in enumerate(scores):
        parts = GroupKFold(folds, shuffle=True, random_state=repeat).split(pairs, groups=pairs["prompt"])
        for number, (training, _) in enumerate(parts, 1):
            weights, _ = fit(table, pairs[training], recipe.penalties)
            held = ~np.isin(prompts, pairs["prompt"][training])
            own[held] = table[held] @ weights
            progress("cross-validation", repeat * folds + number, folds * recipe.repeats)
    return scores


def judge(judged: Judged, scores: Floats) -> dict[str, Any]:
    """Say how good held-out scores (repeats, rows) are; the accuracy is [value, low, high], 95 %, over prompts."""
    rule = "hpdv2" if judged.data.format == "hpdv2-test" else "ties-half"
    by_group = [[own[rows] for rows in judged.rows] for own in scores]
    accuracies = [pair_accuracy(own, [group.verdicts() for group in judged.groups], rule) for own in by_group]
    mean = replace(accuracies[0], correct=np.mean([accuracy.correct for accuracy in accuracies], axis=0))
    accuracy = bootstrap_accuracy(mean, clusters=judged.prompt)
    repeated = (np.tile(values, len(scores)) for values in (judged.votes.share, judged.votes.votes))
    found = calibration(expit(np.concatenate([*map(judged.votes.differences, by_group)])), *repeated, bins=20)
    kinds = scores.reshape(len(scores), 1 + len(COPIES), -1)
    beaten = (kinds[:, :1] > kinds[:, 1:]).mean(axis=(0, 2)).round(3).tolist()
    return {
        "rule": rule,
        "accuracy": [round(value, 4) for value in (accuracy.value, accuracy.low, accuracy.high)],
        "log_loss": round(found.log_loss, 4),
        "log_loss_of_votes_themselves": round(found.log_loss_floor, 4),
        "brier": round(found.brier, 4),
        "calibration_error": round(found.ece, 4),
        "original_beats_copy": dict(zip(COPIES, beaten, strict=True)),
    }


def plan(data: DataSet, recipe: MiniRecipe) -> list[str]:
    """Say what a run would do, after all checks that need no image decoded (see `read_judged`); write nothing."""
    judged = read_judged(data)
    size = f"{len(judged.groups):,} groups, {len(judged.pairs):,} pairs of {len(judged.images):,} images"
    return [
        f"{data.name}: {judged.prompts:,} prompts, {size}",
        f"{recipe.repeats} x {min(recipe.folds, judged.prompts)} folds by prompt, then a fit to all",
    ]


def run(
    data: DataSet, out: Path, recipe: MiniRecipe, command: str = "", progress: Progress = lambda *_: None
) -> dict[str, Any]:
    """Cross-validate, fit to everything, and publish the folder `out`, whole or not at all; return the figures.

    Raises:
        InputError: the data cannot be fitted to.
        RecordError: a row or an image cannot be used.
        OutputError: the folder is not new, or cannot be written.
        MissingExtraError: scikit-learn is not installed.
    """
    need("sklearn", "--recipe mini", "train")
    with publish_folder(out) as folder:
        judged = read_judged(data)
        network, _ = load_network("mini", precision="fp32", device="cpu")
        assert isinstance(network, MiniNetwork)
        features = tabulate(network, judged, progress)
        directions = principal_directions(features, len(judged.images))
        table = (features @ directions).astype(np.float64)
        scores = cross_validate(table, judged, recipe, progress)
        weights, penalty = fit(table, with_copies(judged, recipe.copy_weight), recipe.penalties)
        centre = features[: len(judged.images)].mean(axis=0)
        digest = write_weights(folder / "mini.safetensors", network, centre, directions @ weights, recipe)
        counts = {"prompts": judged.prompts, "groups": len(judged.groups), "images": len(judged.images)}
        figures = {
            "format": "hpskit mini fit 2",
            "package": f"hpskit {__version__}",
            "command": command,
            "data": data.name,
            "recipe": recipe.model_dump(mode="json"),
            **counts,
            **judge(judged, scores),
            "penalty": penalty,
            "weight_hash": digest,
        }
        interval = dict(zip(("value", "low", "high"), figures["accuracy"], strict=True))
        write_record(
            folder / "mini.safetensors",
            weight_hash=digest,
            data=f"{judged.prompts} prompts of {recipe.data_name or data.name}",
            prompts=[group.prompt for group in judged.groups],
            held_out=HeldOut(rule=figures["rule"], source="cross-validation by prompt", **interval),
        )
        publish_json(folder / "figures.json", figures)
    return figures


def write_weights(path: Path, network: MiniNetwork, centre: Floats, layer: Floats, recipe: MiniRecipe) -> str:
    """Write the embedded network with another linear layer, centre and layer (F,); return the weight hash."""
    embedded = MODELS["mini"].embedded
    assert embedded is not None
    metadata = Weights(path=embedded, origin=embedded).metadata()
    metadata |= {"version": recipe.version, "licence": recipe.licence}
    state = {name: tensor.half().contiguous() for name, tensor in network.model.state_dict().items()}
    linear = {"centre": centre, "weight": layer}
    state |= {name: torch.from_numpy(values.astype(np.float32)) for name, values in linear.items()}
    return write_tensors(state, path, metadata)


def lines(figures: dict[str, Any]) -> list[str]:
    """Return the figures in lines for people."""
    value, low, high = figures["accuracy"]
    found = [
        f"{figures['prompts']:,} prompts, {figures['images']:,} images",
        f"held-out prompts: accuracy {value:.3f} (95 % {low:.3f} to {high:.3f}, rule {figures['rule']})",
        f"log loss of votes: {figures['log_loss']:.3f} (0.693 is a coin)",
    ]
    penalties = figures["recipe"]["penalties"]
    if word := {max(penalties): "larger", min(penalties): "smaller"}.get(figures["penalty"]):
        found.append(f"penalty {figures['penalty']:g} ends the list; try {word} ones by --set penalties=[…]")
    return found
