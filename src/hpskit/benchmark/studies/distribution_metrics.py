"""`hpskit study metrics` as a stage: FID, IS, KID and CLIPScore beside preference scores, and how they order models.

FID, IS and KID are those of torch-fidelity, with its network, kernel and splits. CLIPScore is hpskit's own `clip-score`
scorer, which gives what torchmetrics gives (test_distribution_metrics.py compares them), without a second copy of CLIP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import numpy as np

from hpskit import __version__
from hpskit.benchmark.result import Result, read_result, same_scorer
from hpskit.benchmark.run import BenchmarkRun
from hpskit.benchmark.run import run as run_benchmark
from hpskit.benchmark.scores import Progress
from hpskit.benchmark.studies.folders import ImageFolder, open_folder, open_folders
from hpskit.benchmark.studies.inception import Features, Inception, find_weights, kept_features, need_torch_fidelity
from hpskit.errors import InputError
from hpskit.files import check_free, expand, publish_set
from hpskit.pages import environment
from hpskit.scoring.contract import Candidate
from hpskit.stats import kendall_tau_b, spearman

if TYPE_CHECKING:
    from hpskit.scoring.contract import Scorer

__all__ = ["METRICS", "Metrics", "agreement", "metrics_page", "run"]

_FORMAT = "hpskit distribution metrics 1"
_RECORD = "metrics.json"

_FEWEST_IMAGES = 20
"""Of each model and of the reference: two for each of the ten splits of IS."""
_FEW = 10_000
"""Images below which FID is known to be far too high; Heusel et al. 2017, appendix A1, ask for so many."""
_KID_SUBSET = 1000
_KID_SUBSETS = 100
_SEED = 2020
"""torch-fidelity's own, of the order of images and of the subsets, so that its figures are reproduced."""
_FEWEST_MODELS = 3
"""For a rank correlation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """How a metric is called, and which way it points."""

    label: str
    better: Literal["lower", "higher"]


METRICS: Mapping[str, Metric] = {
    "fid": Metric(label="FID", better="lower"),
    "kid": Metric(label="KID", better="lower"),
    "inception_score": Metric(label="IS", better="higher"),
    "clip_score": Metric(label="CLIPScore", better="higher"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Metrics:
    """What to measure, and where to put it."""

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
    """Weights of the Inception network; None looks for the published ones, see `hpskit.benchmark.studies.inception`."""
    device: str = "auto"
    command: str = ""
    """How to make this again."""

    def __post_init__(self) -> None:
        if self.clip.partition(":")[0] != "clip-score":
            raise InputError(f"clip: is {self.clip!r}, expected clip-score or clip-score:ARCH:PRETRAINED")


def run(
    config: Metrics,
    load_clip: Callable[[], Scorer],
    progress: Progress = lambda _what, _done, _total: None,
) -> dict[str, Any]:
    """Measure all models, compare them with what scorers say, and publish.

    Args:
        config: what and where.
        load_clip: makes the scorer of CLIPScore; called only if prompts are given.
        progress: called with what is being done, images done and images in all.

    Returns:
        What `metrics.json` holds.

    Raises:
        MissingExtraError: torch-fidelity is not installed.
        InputError: a folder or a result cannot be used.
        ImageError: an image is missing or broken; nothing is skipped.
        ModelError: the weights of a network cannot be had or loaded.
        OutputError: the output cannot be written, or holds something else.
    """
    need_torch_fidelity()
    results = [read_result(expand(value)) for value in config.images if _is_result(value)]
    models = open_folders([value for value in config.images if not _is_result(value)])
    reference = open_folder(expand(config.reference))
    _check(models, reference, results)
    check_free(config.out, _RECORD, (), _FORMAT)
    inception = Inception(find_weights(config.weights), config.device)
    rows, at_chance, subset = _inception_figures(models, reference, inception, config, progress)
    clip = _clip_scores(models, config, load_clip, progress) if config.prompts else None
    for row in rows["models"]:
        row["clip_score"] = clip["values"][row["name"]] if clip else None
    result = {
        "format": _FORMAT,
        "package": f"hpskit {__version__}",
        "command": config.command,
        "settings": {
            "inception": inception.identity,
            "published_weights": inception.published,
            "kid_subsets": _KID_SUBSETS,
            "kid_subset_size": subset,
            "inception_score_splits": 10,
            "seed": _SEED,
            "clip": {"suite": config.prompts, "scorer": clip["scorer"]} if clip else None,
        },
        **rows,
        "two_halves_of_the_reference": at_chance,
        "few_images": _FEW,
        **agreement(rows["models"], results),
    }
    publish_set(config.out, _RECORD, result, {"metrics.html": metrics_page(result).encode()})
    return result


def _is_result(value: str) -> bool:
    return value.endswith(".json") and not expand(value).is_dir()


def _check(models: Sequence[ImageFolder], reference: ImageFolder, results: Sequence[Result]) -> None:
    for folder in (*models, reference):
        if len(folder.files) < _FEWEST_IMAGES:
            found = f"{folder.root}: holds {len(folder.files)} images"
            raise InputError(f"{found}, expected at least {_FEWEST_IMAGES}; these metrics compare distributions")
    names = [model.name for model in models]
    seen: set[str] = set()
    for result in results:
        if result.name not in names:
            cure = f"write {result.name}=DIR"
            raise InputError(f"{result.path}: is of model {result.name!r}, but no folder is called so; {cure}")
        if result.name in seen:
            raise InputError(f"{result.path}: is another result of {result.name!r}, expected one for each model")
        seen.add(result.name)
        if result.suite.sha256 != results[0].suite.sha256:
            what = f"is of suite {result.suite.name!r}, {results[0].path} of another"
            raise InputError(f"{result.path}: {what}; scores of different prompts cannot be compared")


def _inception_figures(
    models: Sequence[ImageFolder],
    reference: ImageFolder,
    inception: Inception,
    config: Metrics,
    progress: Progress,
) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Rows of the models and of the reference; two halves of the reference against one another; the subset of KID."""
    total = len(reference.files) + sum(len(model.files) for model in models)
    done = 0
    features, facts = [], []
    for folder in (reference, *models):
        before = done
        found, digests = kept_features(
            folder.files,
            inception,
            config.out / "features",
            lambda n, before=before: progress("images", before + n, total),  # type: ignore[misc]
        )
        done += len(digests)
        features.append(found)
        facts.append(folder.facts(digests))
    target = statistics(features[0])
    subset = min(_KID_SUBSET, min(len(own.pooled) for own in features) // 2)
    rows = []
    for number, (own, fact) in enumerate(zip(features[1:], facts[1:], strict=True), 1):
        figures = {
            "fid": frechet(statistics(own), target),
            "kid": kernel_distance(own, features[0], subset),
            "inception_score": inception_score(own),
        }
        rows.append({**fact, **figures})
        progress("metrics", number, len(models))
    return {"reference": facts[0], "models": rows}, _at_chance(features[0], subset), subset


def _at_chance(reference: Features, subset: int) -> dict[str, Any]:
    """What is measured between images of one and the same source: the figures that cannot be told from 0."""
    order = np.random.default_rng(_SEED).permutation(len(reference.pooled))
    first, second = (reference.of(rows) for rows in np.array_split(order, 2))
    size = min(subset, len(second.pooled))
    return {
        "images": len(second.pooled),
        "fid": frechet(statistics(first), statistics(second)),
        "kid": kernel_distance(first, second, size),
    }


# The metrics, as torch-fidelity computes them


def statistics(features: Features) -> dict[str, Any]:
    """Mean and covariance of the pooled features."""
    import torch
    from torch_fidelity.metric_fid import fid_features_to_statistics

    return dict(fid_features_to_statistics(torch.from_numpy(features.pooled)))


def frechet(first: Mapping[str, Any], second: Mapping[str, Any]) -> float:
    """FID of two results of `statistics`; 0 is equal, lower is better. Source: Heusel et al. 2017, arXiv 1706.08500."""
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    return float(fid_statistics_to_metric(first, second, verbose=False)[KEY_METRIC_FID])


def kernel_distance(first: Features, second: Features, subset: int) -> dict[str, float]:
    """KID, `value` and `deviation` over 100 subsets of so many images of each; lower is better, about 0 is equal.

    Unbiased at any number of images, unlike FID. Source: Binkowski et al. 2018, arXiv 1801.01401.
    """
    import torch
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

    found = kid_features_to_metric(
        *(torch.from_numpy(features.pooled) for features in (first, second)),
        kid_subsets=_KID_SUBSETS,
        kid_subset_size=subset,
        rng_seed=_SEED,
        verbose=False,
    )
    return {"value": found[KEY_METRIC_KID_MEAN], "deviation": found[KEY_METRIC_KID_STD]}


def inception_score(features: Features) -> dict[str, float]:
    """IS, `value` and `deviation` over ten splits; 1 to 1008, higher is better. Source: Salimans et al. 2016."""
    import torch
    from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric

    found = isc_features_to_metric(torch.from_numpy(features.logits), rng_seed=_SEED)
    return {"value": found[KEY_METRIC_ISC_MEAN], "deviation": found[KEY_METRIC_ISC_STD]}


def _clip_scores(
    models: Sequence[ImageFolder], config: Metrics, load_clip: Callable[[], Scorer], progress: Progress
) -> dict[str, Any]:
    """100 x the cosine of image and prompt, as a benchmark result for each model, which continues after a kill."""
    assert config.prompts is not None
    scorer = load_clip()
    values = {}
    for model in models:
        job = BenchmarkRun(
            suite=config.prompts,
            images=model.root,
            name=model.name,
            out=config.out / "clip-score" / f"{quote(model.name, safe='')}.json",
            allow_identical=True,
            command=config.command,
        )
        found = run_benchmark(job, lambda: [Candidate(label=scorer.info.name, scorer=scorer)], progress)
        values[model.name] = found.result.scorer(scorer.info.name).average.model_dump()
    return {"values": values, "scorer": scorer.info.identity}


def agreement(rows: Sequence[Mapping[str, Any]], results: Sequence[Result]) -> dict[str, Any]:
    """Rank correlation over models of what scorers say with every metric, 1 where both name the same best to worst."""
    by_name = {result.name: result for result in results}
    ranked = [row for row in rows if row["name"] in by_name]
    scores = {label: [_average(by_name[row["name"]], label) for row in ranked] for label in _shared(results)}
    found = []
    for label, values in scores.items():
        for key, metric in METRICS.items():
            if len(ranked) < _FEWEST_MODELS or any(row[key] is None for row in ranked):
                continue
            figures = np.array([row[key] if key == "fid" else row[key]["value"] for row in ranked])
            worse = figures if metric.better == "lower" else -figures
            pair = {"spearman": spearman([values], [worse]), "kendall_tau_b": kendall_tau_b([values], [worse])}
            numbers = {name: None if np.isnan(one[0]) else float(one[0]) for name, one in pair.items()}
            found.append({"scorer": label, "metric": key, **numbers})
    by_model = {row["name"]: {label: own[n] for label, own in scores.items()} for n, row in enumerate(ranked)}
    return {"scorers": list(scores), "scores": by_model, "agreement": found, "agreement_models": len(ranked)}


def _shared(results: Sequence[Result]) -> list[str]:
    """Scorers that every result has, in one identity.

    Raises:
        InputError: a label stands for different scorers.
    """
    if not results:
        return []
    labels = [label for label in results[0].labels if all(label in result.labels for result in results)]
    for label in labels:
        same_scorer(label, results)
    return labels


def _average(result: Result, label: str) -> float:
    return float(np.nanmean(result.scores(label)))


def metrics_page(result: Mapping[str, Any]) -> str:
    """The page of a study; `result` is what `metrics.json` holds."""
    template = environment("hpskit.benchmark.studies").get_template("distribution_metrics.html")
    return template.render(result=result, metrics=METRICS)
