"""Accuracies that papers report, to stand beside measured ones. They are quoted, not checked."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PUBLISHED", "TEST_SETS", "Published", "published_for", "test_set_of"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """What papers say of one model, in percent; None where nothing was found."""

    name: str
    scorer: str | None
    """The name under which hpskit loads the same model, if it does."""
    hpdv2: float | None
    """On the test set of HPD v2, under the rule `hpdv2`."""
    imagereward: float | None
    """On the test set of ImageReward, under the rule `imagereward`."""
    people: bool = False
    note: str = ""

    def on(self, test_set: str) -> float | None:
        """The figure for a name of `TEST_SETS`."""
        return self.hpdv2 if test_set == "hpdv2-test" else self.imagereward


TEST_SETS = {
    "hpdv2-test": "HPD v2 test set (400 prompts, rule hpdv2)",
    "imagereward": "ImageReward test set (rule imagereward)",
}
"""Layout of the data -> the test set that was published in it, and the rule that its figures follow."""

_RULES = {"hpdv2-test": "hpdv2", "imagereward": "imagereward"}

_SECOND_HAND = "known from notes on the paper only"

PUBLISHED = (
    Published(name="single human, against another", scorer=None, hpdv2=78.1, imagereward=65.3, people=True),
    Published(
        name="single human, against the averaged ranking",
        scorer=None,
        hpdv2=85.0,
        imagereward=53.9,
        people=True,
        note=_SECOND_HAND,
    ),
    Published(name="CLIP ViT-H/14", scorer="clip-score", hpdv2=65.1, imagereward=57.1),
    Published(name="Aesthetic predictor", scorer="aesthetic", hpdv2=76.8, imagereward=57.4),
    Published(name="ImageReward", scorer="imagereward", hpdv2=74.0, imagereward=65.1),
    Published(name="HPS v1", scorer="hps-v1", hpdv2=77.6, imagereward=61.2),
    Published(name="PickScore", scorer="pickscore", hpdv2=79.8, imagereward=62.9),
    Published(name="HPS v2", scorer="hps-v2.0", hpdv2=83.3, imagereward=65.7),
    Published(name="HPS v2.1", scorer="hps-v2.1", hpdv2=84.1, imagereward=66.8),
    Published(name="MPS", scorer=None, hpdv2=83.5, imagereward=67.5),
    Published(name="HPSv3", scorer=None, hpdv2=85.4, imagereward=66.8),
)
"""Source: Wu et al. 2023 (arXiv 2306.09341), table of preference prediction, and the repositories and papers of HPS
v2.1, MPS and HPSv3."""


def test_set_of(layout: str, rule: str) -> str | None:
    """The test set whose published figures may stand beside those of data in this layout under this rule, or None.

    Whether the data are those of the paper nobody can tell from a layout: the figures carry the test set's name.
    """
    return layout if _RULES.get(layout) == rule else None


def published_for(scorer: str, test_set: str | None) -> float | None:
    """The published percentage of a scorer that hpskit loads by name, or None."""
    if test_set is None:
        return None
    return next((row.on(test_set) for row in PUBLISHED if row.scorer == scorer), None)
