"""Whether a JSON document is a result: every field that anybody reads is there and is what it should be.

What is checked here needs nothing but the document; whether it is true of the images is for `hpskit benchmark verify`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from hpskit.benchmark.suites import prompts_sha256
from hpskit.errors import RecordError
from hpskit.records import ScorerInfo

__all__ = ["check_result"]


def check_result(path: Path, value: dict[str, Any]) -> None:
    """Look at everything.

    Raises:
        RecordError: the first thing that is not what it should be; its place in the document is named.
    """
    _Check(path, value).everything()


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
        counts: dict[str, int] = {}
        for number, row in enumerate(self.value["prompts"]):
            self.row(f"prompts[{number}]", row, labels)
            self.number(f"prompts[{number}].number", row, counts)
        self.suite(counts)

    def kind(self, place: str, found: object, kind: type | tuple[type, ...]) -> None:
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(found, kinds) or (isinstance(found, bool) and bool not in kinds):
            words = " or ".join("null" if k is type(None) else f"a {k.__name__}" for k in kinds)
            self.fail(place, found, words)

    def fields(self) -> None:
        text_or_null = (str, type(None))
        for name, kind in (
            ("package", str),
            ("name", str),
            ("command", str),
            ("complete", bool),
            ("meta", dict),
            ("versions", dict),
            ("images_root", text_or_null),
            ("suite", dict),
            ("scorers", list),
            ("prompts", list),
        ):
            self.kind(name, self.value.get(name, ...), kind)
        if not self.value["name"].strip() or not self.value["name"].isprintable():
            self.fail("name", self.value["name"], "the name of a model")
        if not self.value["prompts"]:
            self.fail("prompts", [], "at least one")

    def scorers(self) -> list[str]:
        labels = []
        for number, scorer in enumerate(self.value["scorers"]):
            place = f"scorers[{number}]"
            self.kind(place, scorer, dict)
            for name, kind in (("label", str), ("info", dict), ("average", dict), ("categories", list)):
                self.kind(f"{place}.{name}", scorer.get(name), kind)
            ScorerInfo.from_json(scorer["info"], f"{self.path}: {place}.info")
            factor = scorer.get("log_odds_per_point", "")
            if factor is not None and not _finite(factor):
                self.fail(f"{place}.log_odds_per_point", factor, "a number or null")
            self.figures(f"{place}.average", scorer["average"])
            for part, figures in enumerate(scorer["categories"]):
                self.figures(f"{place}.categories[{part}]", figures)
                self.kind(f"{place}.categories[{part}].name", figures.get("name"), str)
            labels.append(scorer["label"])
        if not labels or len(set(labels)) < len(labels) or not all(label.isprintable() for label in labels):
            self.fail("scorers", labels, "at least one, with labels that differ")
        return labels

    def figures(self, place: str, figures: object) -> None:
        """Numbers or null; whether they are right is for `verify`."""
        self.kind(place, figures, dict)
        assert isinstance(figures, dict)
        for name in ("value", "low", "high", "prompts"):
            if name not in figures:
                self.fail(f"{place}.{name}", None, "a number")
        for name, value in figures.items():
            if name != "name" and value is not None and not _finite(value):
                self.fail(f"{place}.{name}", value, "a number or null")

    def row(self, place: str, row: object, labels: Sequence[str]) -> None:
        self.kind(place, row, dict)
        assert isinstance(row, dict)
        fields: tuple[tuple[str, type], ...] = (("category", str), ("number", int), ("prompt", str), ("images", list))
        for name, kind in fields:
            self.kind(f"{place}.{name}", row.get(name), kind)
        for number, image in enumerate(row["images"]):
            where = f"{place}.images[{number}]"
            self.kind(where, image, dict)
            for name, expected in (("image", str), ("sha256", str), ("scores", dict)):
                self.kind(f"{where}.{name}", image.get(name), expected)
            path = PurePosixPath(image["image"])
            if path.is_absolute() or ".." in path.parts or "\0" in image["image"]:
                self.fail(f"{where}.image", image["image"], "a path inside the folder of images")
            for label in labels:
                if not _finite(image["scores"].get(label)):
                    self.fail(f"{where}.scores[{label!r}]", image["scores"].get(label), "a number")

    def number(self, place: str, row: Mapping[str, Any], counts: dict[str, int]) -> None:
        expected = counts.get(row["category"], 0)
        if row["number"] != expected:
            self.fail(place, row["number"], f"{expected}, its place in the category")
        counts[row["category"]] = expected + 1

    def suite(self, counts: Mapping[str, int]) -> None:
        suite, rows = self.value["suite"], self.value["prompts"]
        for name in ("name", "source"):
            self.kind(f"suite.{name}", suite.get(name), str)
        for name, expected in (
            ("prompts", len(rows)),
            ("categories", [{"name": name, "prompts": size} for name, size in counts.items()]),
            ("sha256", prompts_sha256((row["category"], row["prompt"]) for row in rows)),
        ):
            if suite.get(name) != expected:
                self.fail(f"suite.{name}", suite.get(name), f"{_short(expected)}, which is that of its prompts")
        sizes = {len(row["images"]) for row in rows}
        if sizes == {0}:
            self.fail("prompts", "without any image", "at least one image")
        if self.value["complete"] != (len(sizes) == 1):
            self.fail(
                "complete", self.value["complete"], "true just when every prompt has as many images as the others"
            )


def _finite(value: object) -> bool:
    """A number that a float can hold."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond 1e308
        return False


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
