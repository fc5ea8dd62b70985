"""`result.json`: what one model scored on one suite, image by image, and every figure that follows from it.

The scores of the images are the facts; the figures are made from them and can be made again (`hpskit benchmark verify`
does). All that compares models reads these files and nothing else.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from hpskit.benchmark.suites import prompts_sha256
from hpskit.errors import InputError, RecordError
from hpskit.files import read_json
from hpskit.records import ScorerInfo
from hpskit.stats import Interval, bootstrap_mean, style_result

__all__ = ["FORMAT", "Result", "figures", "prompt_scores", "read_result", "relative_to"]

FORMAT = "hpskit benchmark result 1"
RESAMPLES = 10_000

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Result:
    """A result file that was read and checked; arrays are aligned with the prompts of the suite."""

    path: Path
    value: dict[str, Any]
    """The whole document."""

    @property
    def name(self) -> str:
        """Of the model."""
        return str(self.value["name"])

    @property
    def suite(self) -> dict[str, Any]:
        """`name`, `source`, `sha256`, `prompts` (how many) and `categories`."""
        return dict(self.value["suite"])

    @property
    def complete(self) -> bool:
        """False if prompts have no image."""
        return bool(self.value["complete"])

    @property
    def meta(self) -> dict[str, Any]:
        """What the maker of the images said of their settings."""
        return dict(self.value["meta"])

    @property
    def prompts(self) -> list[dict[str, Any]]:
        """`category`, `number`, `prompt` and `images` of each prompt."""
        return list(self.value["prompts"])

    @cached_property
    def scorers(self) -> tuple[str, ...]:
        """Labels."""
        return tuple(scorer["label"] for scorer in self.value["scorers"])

    @cached_property
    def categories(self) -> NDArray[np.str_]:
        """(prompts,)"""
        return np.array([prompt["category"] for prompt in self.value["prompts"]], dtype=np.str_)

    def info(self, label: str) -> ScorerInfo:
        """Identity of a scorer.

        Raises:
            InputError: the result has no such scorer.
        """
        return ScorerInfo.from_json(self._scorer(label)["info"], f"{self.path}: scorer {label!r}")

    def log_odds(self, label: str) -> float | None:
        """Log-odds of being preferred per point of score, if the scorer has such a scale."""
        found = self._scorer(label)["log_odds_per_point"]
        return None if found is None else float(found)

    def scores(self, label: str) -> Floats:
        """(prompts,): the mean score of each prompt's images, NaN where there is none."""
        self._scorer(label)
        return prompt_scores(self.value["prompts"], label)

    def image_path(self, row: int) -> Path | None:
        """The first image of a prompt, counted from 0, if the file is still where it was."""
        root, images = self.value["images_root"], self.value["prompts"][row]["images"]
        if root is None or not images:
            return None
        path = Path(os.path.normpath(self.path.parent / root / images[0]["image"]))
        return path if path.is_file() else None

    def _scorer(self, label: str) -> dict[str, Any]:
        for scorer in self.value["scorers"]:
            if scorer["label"] == label:
                return dict(scorer)
        raise InputError(f"{self.path}: has no scores by {label!r} (there are: {', '.join(self.scorers)}); add them")


def prompt_scores(rows: Sequence[Mapping[str, Any]], label: str) -> Floats:
    """(prompts,): the mean score of each row's images, NaN where there is none."""
    return np.array(
        [np.mean([image["scores"][label] for image in row["images"]]) if row["images"] else np.nan for row in rows],
        dtype=np.float64,
    )


def figures(rows: Sequence[Mapping[str, Any]], label: str, resamples: int = RESAMPLES) -> dict[str, Any]:
    """Everything that is said of one scorer: `average` and `categories`, ready for JSON.

    `mean` and `deviation` are the official figures of a style, over consecutive groups of 80 prompts; `value` is the
    plain mean over prompts, with its 95 % interval. The interval of the average is for these categories in these
    proportions: what is drawn is prompts within them, not categories.

    Args:
        rows: category, prompt and images of each prompt, as in `prompts` of the file.
        label: of the scorer.
        resamples: of the bootstrap; its seed is always 0.
    """
    scores = prompt_scores(rows, label)
    categories = np.array([row["category"] for row in rows])
    texts = np.unique([row["prompt"] for row in rows], return_inverse=True)[1]
    centred = np.full(len(rows), np.nan)
    parts = []
    for name in dict.fromkeys(categories.tolist()):
        inside = categories == name
        own = scores[inside]
        there = ~np.isnan(own)
        if not there.any():
            parts.append({"name": name, **dict.fromkeys(_FIGURES), "prompts": 0})
            continue
        official = style_result(own)
        centred[inside] = own - own[there].mean()
        parts.append(
            {
                "name": name,
                "mean": official.mean,
                "deviation": official.deviation,
                **_interval(own, texts[inside], resamples),
                "prompts": int(there.sum()),
            }
        )
    value = float(scores[~np.isnan(scores)].mean())
    around = _interval(centred + value, texts, resamples)
    average = {**around, "value": value, "prompts": int((~np.isnan(scores)).sum())}
    return {"average": average, "categories": parts}


_FIGURES = ("mean", "deviation", "value", "low", "high")


def _interval(scores: Floats, clusters: NDArray[np.int64], resamples: int) -> dict[str, float | None]:
    there = ~np.isnan(scores)
    value = float(scores[there].mean())
    if len(np.unique(clusters[there])) < 2:  # one prompt says nothing of others
        return {"value": value, "low": None, "high": None}
    found: Interval = bootstrap_mean(scores, clusters=clusters, resamples=resamples)
    return {"value": value, "low": found.low, "high": found.high}


def read_result(path: str | os.PathLike[str]) -> Result:
    """Read and check a result file.

    Raises:
        InputError: the file cannot be read or is something else.
        RecordError: a part of it is not what it should be; the place in the document is named.
    """
    file = Path(path)
    value = read_json(file)
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        found = value.get("format") if isinstance(value, dict) else type(value).__name__
        cure = "make one with `hpskit benchmark run`"
        raise InputError(f"{file}: format is {found!r}, expected {FORMAT!r}; {cure}")
    _Check(file, value).everything()
    return Result(path=file, value=value)


def relative_to(path: Path, folder: Path) -> str | None:
    """The path as seen from a folder, with `/` and nothing of this machine; None if there is no way, as between two
    drives."""
    try:
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    except ValueError:
        return None


class _Check:
    """Says where a document is not a result."""

    def __init__(self, path: Path, value: dict[str, Any]) -> None:
        self.path, self.value = path, value

    def fail(self, place: str, found: object, expected: str) -> NoReturn:
        cure = "the file was changed after it was made; make it again"
        raise RecordError(f"{self.path}: {place} is {_short(found)}, expected {expected}; {cure}")

    def everything(self) -> None:
        self.fields()
        labels = self.scorers()
        for number, row in enumerate(self.value["prompts"]):
            self.row(f"prompts[{number}]", row, labels)
        self.suite()

    def fields(self) -> None:
        kinds: dict[str, type | tuple[type, ...]] = {
            "name": str,
            "complete": bool,
            "meta": dict,
            "versions": dict,
            "images_root": (str, type(None)),
            "suite": dict,
            "scorers": list,
            "prompts": list,
        }
        for name, kind in kinds.items():
            if not isinstance(self.value.get(name), kind):
                words = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
                self.fail(name, self.value.get(name), f"a {words.replace('NoneType', 'null')}")
        if not self.value["name"].strip():
            self.fail("name", self.value["name"], "the name of a model")

    def scorers(self) -> list[str]:
        labels = []
        for number, scorer in enumerate(self.value["scorers"]):
            place = f"scorers[{number}]"
            if not isinstance(scorer, dict) or not isinstance(scorer.get("label"), str):
                self.fail(place, scorer, "an object with a label")
            if not isinstance(scorer.get("info"), dict):
                self.fail(f"{place}.info", scorer.get("info"), "an object")
            ScorerInfo.from_json(scorer["info"], f"{self.path}: {place}.info")
            factor = scorer.get("log_odds_per_point", "")
            if factor is not None and not _finite(factor):
                self.fail(f"{place}.log_odds_per_point", factor, "a number or null")
            labels.append(scorer["label"])
        if not labels or len(set(labels)) < len(labels):
            self.fail("scorers", labels, "at least one, with labels that differ")
        return labels

    def row(self, place: str, row: object, labels: Sequence[str]) -> None:
        if not isinstance(row, dict):
            self.fail(place, row, "an object")
        for name, kind in (("category", str), ("number", int), ("prompt", str), ("images", list)):
            if not isinstance(row.get(name), kind):
                self.fail(f"{place}.{name}", row.get(name), f"a {kind.__name__}")
        for number, image in enumerate(row["images"]):
            where = f"{place}.images[{number}]"
            if not isinstance(image, dict) or not isinstance(image.get("scores"), dict):
                self.fail(where, image, "an object with scores")
            for name in ("image", "sha256"):
                if not isinstance(image.get(name), str):
                    self.fail(f"{where}.{name}", image.get(name), "a text")
            for label in labels:
                if not _finite(image["scores"].get(label)):
                    self.fail(f"{where}.scores[{label!r}]", image["scores"].get(label), "a number")

    def suite(self) -> None:
        suite, rows = self.value["suite"], self.value["prompts"]
        found = prompts_sha256((row["category"], row["prompt"]) for row in rows)
        if suite.get("sha256") != found:
            self.fail("suite.sha256", suite.get("sha256"), f"{found}, which is that of its prompts")
        if self.value["complete"] != all(row["images"] for row in rows):
            self.fail("complete", self.value["complete"], "true just when every prompt has an image")


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
