"""`hpskit study metrics`: FID, IS, KID and CLIPScore beside preference scores, and how they order models.

FID, IS and KID are those of torch-fidelity, with its network (the TensorFlow graph of 2015-12-05), kernel and splits.
CLIPScore is hpskit's own `clip-score` scorer, which gives what torchmetrics gives, without a second copy of CLIP.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import tempfile
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from hpskit.benchmark.result import Entry, common_scorers, read_results
from hpskit.benchmark.run import BenchmarkRun
from hpskit.benchmark.run import run as run_benchmark
from hpskit.benchmark.studies.folders import ImageFolder, measured, open_folder, open_folders
from hpskit.errors import CheckpointError, HashMismatchError, InputError, NotCachedError, need
from hpskit.files import expand, explain, sha256_file
from hpskit.files import publish as publish_file
from hpskit.hub import home
from hpskit.models.checkpoint import read_tensors, weight_hash
from hpskit.models.network import choose_device
from hpskit.pages.page import page
from hpskit.pixels import Encoded, open_image
from hpskit.scoring.contract import Candidate, Scorer
from hpskit.stage import Ledger, Progress, check_free, heading, publish
from hpskit.stats.correlation import kendall_tau_b, spearman

if TYPE_CHECKING:
    from torch import Tensor

METRICS = {"fid": "FID", "kid": "KID", "inception_score": "IS", "clip_score": "CLIPScore"}
"""Name in `metrics.json` -> label."""

FILE = "weights-inception-2015-12-05-6726825d.pth"
"""Name that torch-fidelity gives the file; its SHA-256 begins with the last part of it."""
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{FILE}"
_PATIENCE = 20.0
"""Seconds without an answer after which a download is given up."""

_FORMAT = "hpskit distribution metrics 1"
_RECORD = "metrics.json"
_HIGHER_IS_BETTER = ("inception_score", "clip_score")
_FEWEST_IMAGES = 20
"""Images of each model and of the reference: two for each of the ten splits of IS."""
_FEW = 10_000
"""Images below which FID is known to be far too high; Heusel et al. 2017, appendix A1, ask for so many."""
_KID_SUBSET, _KID_SUBSETS = 1000, 100
_CLASSES = 1008
_SEED = 2020
"""torch-fidelity's own, of the order of images and of the subsets, so that its figures are reproduced."""
_FEWEST_MODELS = 3
"""Models of a rank correlation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metrics:
    """Settings of a study of metrics."""

    images: Sequence[str]
    """`NAME=DIR` or `DIR`, one for each model; a file ending in `.json` is the benchmark result of one of them."""
    reference: Path
    """Folder of the images that FID and KID compare with, usually photographs."""
    out: Path
    """Folder for `metrics.json`, `metrics.html`, and the features of images."""
    prompts: str | None = None
    """Suite whose prompts the images were made for, in its layout; for CLIPScore. None leaves it out."""
    clip: str = "clip-score"
    """The scorer of CLIPScore: `clip-score`, or `clip-score:ARCH:PRETRAINED` with any network of open_clip."""
    weights: Path | None = None
    """Weights of the Inception network; None looks for the published ones, see `find_weights`."""
    device: str = "auto"
    command: str = ""
    """The command that makes this again."""

    def __post_init__(self) -> None:
        if self.clip.partition(":")[0] != "clip-score":
            raise InputError("clip", f"is {self.clip!r}", expected="clip-score or clip-score:ARCH:PRETRAINED")


def run(config: Metrics, load_clip: Callable[[], Scorer], progress: Progress = lambda *_: None) -> dict[str, Any]:
    """Measure all models, compare them with what scorers say, and publish; killed and run again it continues.

    `load_clip` makes the scorer of CLIPScore; it is called only if prompts are given.

    Returns:
        What `metrics.json` holds.

    Raises:
        MissingExtraError: torch-fidelity is not installed.
        InputError: a folder or a result cannot be used.
        ImageError: an image is missing or broken; nothing is skipped.
        ModelError: the weights of a network cannot be had or loaded.
        OutputError: the output cannot be written, or holds something else.
    """
    need("torch_fidelity", "FID, IS and KID", "metrics")
    files = [value for value in config.images if value.endswith(".json") and not expand(value).is_dir()]
    results = read_results([expand(value) for value in files], least=0)
    models = open_folders([value for value in config.images if value not in files])
    reference = open_folder(expand(config.reference))
    check_sets(models, reference, results)
    check_free(config.out, _RECORD, ("metrics.html",), _FORMAT)
    inception = Inception(find_weights(config.weights), config.device)
    features, facts = features_of([reference, *models], inception, config.out / "features.ledger", progress)
    subset = min(_KID_SUBSET, min(map(len, features)) // 2)
    rows = [
        {**fact, **distribution_metrics(own, features[0], subset), "clip_score": None}
        for own, fact in zip(features[1:], facts[1:], strict=True)
    ]
    clip = None
    if config.prompts is not None:
        clip = load_clip()
        for row, model in zip(rows, models, strict=True):
            row["clip_score"] = clip_score(model, config, config.prompts, clip, progress)
    result = {
        **heading(_FORMAT, config.command),
        "settings": {
            "inception": inception.identity,
            "published_weights": inception.published,
            "kid_subsets": _KID_SUBSETS,
            "kid_subset_size": subset,
            "inception_score_splits": 10,
            "seed": _SEED,
            "clip": {"suite": config.prompts, "scorer": clip.info.identity} if clip else None,
        },
        "reference": facts[0],
        "models": rows,
        "two_halves_of_the_reference": between_halves(features[0], subset),
        "few_images": _FEW,
        **agreement(rows, results),
    }
    publish(config.out, _RECORD, result, {"metrics.html": metrics_page(result).encode()})
    return result


def features_of(
    folders: Sequence[ImageFolder], inception: Inception, kept: Path, progress: Progress
) -> tuple[list[Tensor], list[dict[str, Any]]]:
    """Compute the features, (images, 3056), of each folder, and what a result says of it; `kept` is their ledger."""
    import torch

    total, done = sum(len(folder.files) for folder in folders), 0
    features, facts = [], []
    with Ledger(kept, {"format": "hpskit inception features 1"}) as ledger:
        for folder in folders:
            digests, rows = [], []
            for digest, text in measured(folder.files, ledger, inception.identity, inception.features):
                digests.append(digest)
                rows.append(np.frombuffer(base64.b64decode(text), np.float32))
                progress("images", done + len(rows), total)
            done += len(rows)
            features.append(torch.from_numpy(np.stack(rows)))
            facts.append(folder.facts(digests))
    return features, facts


def check_sets(models: Sequence[ImageFolder], reference: ImageFolder, results: Sequence[Entry]) -> None:
    """See that there are enough images for metrics, and a folder for each result."""
    for folder in (*models, reference):
        if (count := len(folder.files)) < _FEWEST_IMAGES:
            expected, cure = f"at least {_FEWEST_IMAGES}", "these metrics compare distributions: add images"
            raise InputError(folder.root, f"holds {count} images", expected=expected, cure=cure)
    for result in results:
        if result.name not in {model.name for model in models}:
            cure = f"write {result.name}=DIR"
            raise InputError(result.path, f"is of model {result.name!r}", expected="the name of a folder", cure=cure)


def clip_score(
    model: ImageFolder, config: Metrics, prompts: str, scorer: Scorer, progress: Progress
) -> dict[str, float | None]:
    """Score 100 x the cosine of image and prompt, as a benchmark result, which continues after a kill."""
    job = BenchmarkRun(
        suite=prompts,
        images=model.root,
        name=model.name,
        out=config.out / "clip-score" / f"{quote(model.name, safe='')}.json",
        allow_identical=True,
        command=config.command,
    )
    found = run_benchmark(job, lambda: [Candidate(label=scorer.info.name, scorer=scorer)], progress)
    return found.result.scorer(scorer.info.name).average.model_dump()


def distribution_metrics(own: Tensor, other: Tensor, subset: int) -> dict[str, Any]:
    """Compute FID, KID and IS.

    - `fid`: 0 is equal, lower is better. Source: Heusel et al. 2017, arXiv 1706.08500.
    - `kid`: `value` and `deviation` over 100 subsets; about 0 is equal, and it is unbiased at any number of images,
      unlike FID. Source: Binkowski et al. 2018, arXiv 1801.01401.
    - `inception_score`: `value` and `deviation` over ten splits; 1 to 1008, higher is better, and of `own` alone.
      Source: Salimans et al. 2016, arXiv 1606.03498.

    Args:
        own: (images, pooled features and 1008 logits); see `Inception.features`.
        other: likewise, of the images to compare with.
        subset: images of each in a subset of KID.
    """
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

    pooled = own[:, :-_CLASSES], other[:, :-_CLASSES]
    fid = fid_statistics_to_metric(*map(fid_features_to_statistics, pooled), verbose=False)
    settings = {"kid_subsets": _KID_SUBSETS, "kid_subset_size": subset, "rng_seed": _SEED, "verbose": False}
    kid = kid_features_to_metric(*pooled, **settings)
    score = isc_features_to_metric(own[:, -_CLASSES:], rng_seed=_SEED)
    return {
        "fid": float(fid[KEY_METRIC_FID]),
        "kid": {"value": kid[KEY_METRIC_KID_MEAN], "deviation": kid[KEY_METRIC_KID_STD]},
        "inception_score": {"value": score[KEY_METRIC_ISC_MEAN], "deviation": score[KEY_METRIC_ISC_STD]},
    }


def between_halves(reference: Tensor, subset: int) -> dict[str, Any]:
    """Compute FID and KID of images of one and the same source: figures that cannot be told from 0."""
    order = np.random.default_rng(_SEED).permutation(len(reference))
    first, second = (reference[half] for half in np.array_split(order, 2))
    found = distribution_metrics(first, second, min(subset, len(second)))
    return {"images": len(second), "fid": found["fid"], "kid": found["kid"]}


def agreement(rows: Sequence[Mapping[str, Any]], results: Sequence[Entry]) -> dict[str, Any]:
    """Correlate the order of models by scorers and by every metric: 1 where both name the same from best to worst."""
    by_name = {result.name: result for result in results}
    ranked = [row for row in rows if row["name"] in by_name]
    labels = common_scorers(results)
    scores = {label: [float(np.nanmean(by_name[row["name"]].scores(label))) for row in ranked] for label in labels}
    found = []
    for label, values in scores.items():
        for key in METRICS:
            if len(ranked) < _FEWEST_MODELS or any(row[key] is None for row in ranked):
                continue
            figures = np.array([row[key] if key == "fid" else row[key]["value"] for row in ranked])
            worse = -figures if key in _HIGHER_IS_BETTER else figures
            pair = {"spearman": spearman([values], [worse]), "kendall_tau_b": kendall_tau_b([values], [worse])}
            numbers = {name: None if np.isnan(one[0]) else float(one[0]) for name, one in pair.items()}
            found.append({"scorer": label, "metric": key, **numbers})
    by_model = {row["name"]: {label: own[n] for label, own in scores.items()} for n, row in enumerate(ranked)}
    return {"scorers": labels, "scores": by_model, "agreement": found, "agreement_models": len(ranked)}


def metrics_page(result: Mapping[str, Any]) -> str:
    """Make the page; `result` is what `metrics.json` holds."""
    return page("hpskit.benchmark.studies", "distribution_metrics.html", result=result, metrics=METRICS)


# The Inception network


def find_weights(given: Path | None = None) -> Path:
    """Find the file of the network's weights.

    It is the one that is given, or lies in `$HPSKIT_HOME/originals/inception/`, or where torch.hub keeps checkpoints;
    else it is downloaded to the first of these folders, unless `HF_HUB_OFFLINE` is set.

    Raises:
        CheckpointError: there is no such file.
        NotCachedError: it is not here and cannot be downloaded.
        HashMismatchError: what arrived is not what was published; nothing was kept.
        OutputError: it cannot be stored.
    """
    import torch
    from huggingface_hub import constants

    if given is not None:
        if not expand(given).is_file():
            raise CheckpointError(given, "is not there", cure=f"give torch-fidelity's Inception, {FILE}")
        return expand(given)
    own = home() / "originals" / "inception" / FILE
    for place in (own, Path(torch.hub.get_dir()) / "checkpoints" / FILE):
        if place.is_file():
            return place
    cure = f"download {URL} on a connected machine and put it at {own}, or pass the file to --weights"
    if constants.HF_HUB_OFFLINE:
        raise NotCachedError(FILE, "is not on this machine and HF_HUB_OFFLINE is set", cure=cure)
    try:
        with urllib.request.urlopen(URL, timeout=_PATIENCE) as answer:
            data = answer.read()
    except (OSError, http.client.HTTPException) as error:
        reason = explain(error) if isinstance(error, OSError) else repr(error)
        raise NotCachedError(FILE, f"is not on this machine and cannot be downloaded ({reason})", cure=cure) from error
    found = hashlib.sha256(data).hexdigest()
    if not found.startswith(published_digits()):
        again = "run it again; nothing was kept"
        raise HashMismatchError(URL, f"has SHA-256 {found}", expected=f"{published_digits()}…", cure=again)
    with publish_file(own) as temporary:
        temporary.write_bytes(data)
    return own


def published_digits() -> str:
    """First digits of the SHA-256 of the published file."""
    return Path(FILE).stem.rpartition("-")[2]


class Inception:
    """The network, loaded once."""

    def __init__(self, weights: Path, device: str = "auto") -> None:
        """Load the network with weights that `find_weights` gave; a CheckpointError says that they are of another."""
        import torch
        import torch_fidelity
        from torch_fidelity.utils import create_feature_extractor

        state = read_tensors(weights)
        digest = weight_hash((name, state[name]) for name in sorted(state))
        self.identity = f"inception-v3-compat, torch-fidelity {torch_fidelity.__version__}, {digest}"
        """Equal for features that may be compared."""
        self.published = sha256_file(weights).startswith(published_digits())
        self._device = choose_device(device)
        with tempfile.TemporaryDirectory(prefix="hpskit-inception-") as folder:
            safe = Path(folder) / "weights.pth"  # torch-fidelity unpickles whatever file it is given
            torch.save(state, safe)
            options: dict[str, Any] = {"feature_extractor_weights_path": str(safe), "cuda": False, "verbose": False}
            try:
                network = create_feature_extractor("inception-v3-compat", ["2048", "logits_unbiased"], **options)
            except (RuntimeError, AttributeError, TypeError) as error:  # tensors of other names or shapes
                reason = str(error).strip().splitlines()[-1].strip()
                cure = f"give torch-fidelity's Inception, {FILE}"
                raise CheckpointError(weights, f"is of another network ({reason})", cure=cure) from error
        self._network = network.to(self._device)

    def features(self, images: Sequence[Encoded], pool: Executor) -> list[str]:
        """Compute the features of images; those of one size are computed together.

        Returns:
            For each image the last pooling layer (2048) and the logits of the classes without bias (1008): float32, as
            base64.
        """
        import torch

        pixels = pool.map(lambda image: np.array(open_image(image)), images)
        tensors = [torch.from_numpy(array).permute(2, 0, 1) for array in pixels]
        found = [""] * len(tensors)
        for size in {tensor.shape for tensor in tensors}:
            rows = [number for number, tensor in enumerate(tensors) if tensor.shape == size]
            with torch.inference_mode():
                parts = self._network(torch.stack([tensors[row] for row in rows]).to(self._device))
            for row, own in zip(rows, torch.cat(parts, dim=1).cpu().numpy(), strict=True):
                found[row] = base64.b64encode(own.tobytes()).decode()
        return found
