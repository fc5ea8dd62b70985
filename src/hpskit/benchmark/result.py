"""`result.json`: what one model scored on one suite, image by image, and every figure that follows from it.

The scores of the images are the facts; the figures are made from them and can be made again (`hpskit benchmark verify`
does). All that compares models reads these files and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpskit.benchmark.result_check import check_result
from hpskit.errors import InputError
from hpskit.files import read_json
from hpskit.records import ScorerInfo
from hpskit.stats import Interval, bootstrap_mean, style_result

__all__ = [
    "FORMAT",
    "Result",
    "figures",
    "prompt_scores",
    "read_result",
    "relative_to",
    "text_numbers",
    "wrong_figures",
]

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

    @cached_property
    def texts(self) -> NDArray[np.intp]:
        """(prompts,): equal numbers for prompts with one text; see `text_numbers`."""
        return text_numbers([prompt["prompt"] for prompt in self.value["prompts"]])

    def info(self, label: str) -> ScorerInfo:
        """Identity of a scorer.

        Raises:
            InputError: the result has no such scorer.
        """
        return ScorerInfo.from_json(self.scorer(label)["info"], f"{self.path}: scorer {label!r}")

    def log_odds(self, label: str) -> float | None:
        """Log-odds of being preferred per point of score, if the scorer has such a scale."""
        found = self.scorer(label)["log_odds_per_point"]
        return None if found is None else float(found)

    def reads_prompt(self, label: str) -> bool | None:
        """Whether a scorer's scores depend on the prompt; None if nobody said."""
        found = self.scorer(label).get("reads_prompt")
        return found if isinstance(found, bool) else None

    def scores(self, label: str) -> Floats:
        """(prompts,): the mean score of each prompt's images, NaN where there is none."""
        self.scorer(label)
        return prompt_scores(self.value["prompts"], label)

    def image_path(self, row: int) -> Path | None:
        """The first image of a prompt, counted from 0, if the file is still where it was."""
        root, images = self.value["images_root"], self.value["prompts"][row]["images"]
        if root is None or not images:
            return None
        path = Path(os.path.normpath(self.path.parent / root / images[0]["image"]))
        return path if path.is_file() else None

    def scorer(self, label: str) -> dict[str, Any]:
        """All that the document says of a scorer.

        Raises:
            InputError: the result has no such scorer.
        """
        for scorer in self.value["scorers"]:
            if scorer["label"] == label:
                return dict(scorer)
        raise InputError(f"{self.path}: has no scores by {label!r} (there are: {', '.join(self.scorers)}); add them")


def prompt_scores(rows: Sequence[Mapping[str, Any]], label: str, images: str = "images") -> Floats:
    """(prompts,): the mean score of each row's images, NaN where there is none; `images` names the field with them."""
    own = [[image["scores"][label] for image in row[images]] for row in rows]
    return np.array([np.mean(scores) if scores else np.nan for scores in own], dtype=np.float64)


def text_numbers(texts: Sequence[str]) -> NDArray[np.intp]:
    """(prompts,): the number of each text, from 0 in order of appearance.

    The images of one text are not independent of one another: whatever resamples prompts draws such prompts together.
    """
    known: dict[str, int] = {}
    numbers = [known.setdefault(text, len(known)) for text in texts]  # np.unique pads all to the longest
    return np.array(numbers, dtype=np.intp)


def figures(
    rows: Sequence[Mapping[str, Any]], label: str, resamples: int = RESAMPLES, level: float = 0.95
) -> dict[str, Any]:
    """Everything that is said of one scorer: `average` and `categories`, ready for JSON.

    `mean` and `deviation` are the official figures of a style, over consecutive groups of 80 prompts; `value` is the
    plain mean over prompts, with its interval. The interval of the average is for these categories in these
    proportions: what is drawn is prompts within them, not categories.

    Args:
        rows: category, prompt and images of each prompt, as in `prompts` of the file.
        label: of the scorer.
        resamples: of the bootstrap; its seed is always 0.
        level: nominal coverage of the intervals; that of a result file is 95 %.
    """
    scores = prompt_scores(rows, label)
    categories = np.array([row["category"] for row in rows])
    texts = text_numbers([row["prompt"] for row in rows])
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
                **_interval(own, texts[inside], resamples, level),
                "prompts": int(there.sum()),
            }
        )
    value = float(scores[~np.isnan(scores)].mean())
    around = _interval(centred + value, texts, resamples, level)
    average = {**around, "value": value, "prompts": int((~np.isnan(scores)).sum())}
    return {"average": average, "categories": parts}


_FIGURES = ("mean", "deviation", "value", "low", "high")


def _interval(scores: Floats, clusters: NDArray[np.intp], resamples: int, level: float) -> dict[str, float | None]:
    there = ~np.isnan(scores)
    value = float(scores[there].mean())
    if len(np.unique(clusters[there])) < 2:  # one prompt says nothing of others
        return {"value": value, "low": None, "high": None}
    found: Interval = bootstrap_mean(scores, clusters=clusters, resamples=resamples, level=level)
    return {"value": value, "low": found.low, "high": found.high}


def wrong_figures(result: Result, label: str) -> list[str]:
    """Figures of a scorer that do not follow from its scores, each in words; empty if all do."""
    stated = result.scorer(label)
    again = figures(result.prompts, label)
    parts = {part.get("name"): part for part in stated["categories"]}
    wrong = []
    for place, old, new in (
        ("average", stated["average"], again["average"]),
        *((part["name"] or "all", parts.get(part["name"], {}), part) for part in again["categories"]),
    ):
        wrong += [
            f"{place} {name} is {old.get(name)!r}, its scores give {value!r}"
            for name, value in new.items()
            if not _same(old.get(name), value)
        ]
    if len(stated["categories"]) != len(again["categories"]):
        wrong.append(f"there are {len(stated['categories'])} categories, its scores give {len(again['categories'])}")
    return wrong


def _same(old: object, new: object) -> bool:
    if isinstance(old, float | int) and isinstance(new, float):
        return bool(np.isclose(old, new, rtol=1e-9, atol=1e-9))
    return old == new


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
    check_result(file, value)
    return Result(path=file, value=value)


def relative_to(path: Path, folder: Path) -> str | None:
    """The path as seen from a folder, with `/` and nothing of this machine; None if there is no way, as between two
    drives."""
    try:
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    except ValueError:
        return None
