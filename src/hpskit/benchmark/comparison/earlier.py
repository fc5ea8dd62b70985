"""The comparison that an earlier run left in a folder: nothing else takes its place, and its scorers stay in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpskit.benchmark.scores import Book, SuiteImage
from hpskit.benchmark.suites import Suite
from hpskit.errors import InputError, OutputError
from hpskit.files import read_json
from hpskit.records import ScorerInfo
from hpskit.scoring.contract import Candidate

__all__ = ["about", "gathered", "scorers_before"]

_SAID = ("log_odds_per_point", "reads_prompt", "fitted_to")
"""What `compare.json` says of a scorer besides label and identity, and that does not follow from its scores."""


def scorers_before(path: Path, form: str, roots: tuple[Path, Path], suite: Suite) -> list[dict[str, Any]]:
    """What the comparison that is there says of each of its scorers; empty if none is there.

    Args:
        path: of `compare.json`.
        form: its `format`.
        roots: folders of the first and of the second images.
        suite: their prompts.

    Raises:
        OutputError: what is there is something else, or of other folders or prompts.
    """
    if not path.exists():
        return []
    cure = "choose another --out, or delete it"
    try:
        earlier = read_json(path)
        if earlier["format"] != form:
            raise OutputError(f"{path}: its format is {earlier['format']!r}, expected {form!r}; {cure}")
        if earlier.get("complete") is False:  # killed while it was being published: the scores are all there
            return []
        _check_same(path, earlier, roots, suite, cure)
        return [
            {
                "label": scorer["label"],
                "info": ScorerInfo.from_json(scorer["info"], scorer["label"]).to_json(),
                **{name: scorer.get(name) for name in _SAID},
            }
            for scorer in earlier["scorers"]
        ]
    except (InputError, KeyError, TypeError) as error:
        raise OutputError(f"{path}: exists and is no comparison ({error}); {cure}") from error


def _check_same(path: Path, earlier: Mapping[str, Any], roots: tuple[Path, Path], suite: Suite, cure: str) -> None:
    before = [earlier[side]["root"] for side in ("first", "second")]
    folders = [(path.parent / root).resolve() if root else None for root in before]  # None: on another drive
    if any(was and was != now.resolve() for was, now in zip(folders, roots, strict=True)):
        names = " and ".join(earlier[side]["name"] for side in ("first", "second"))
        was = f"the comparison of {names} ({' and '.join(map(str, folders))})"
        raise OutputError(f"{path}: holds {was}, this is of {roots[0]} and {roots[1]}; {cure}")
    if earlier["suite"]["sha256"] != suite.sha256:
        was = f"{earlier['suite']['name']!r} ({earlier['suite']['sha256'][:12]})"
        now = f"{suite.name!r} ({suite.sha256[:12]})"
        both = f"{cure} and scores.jsonl beside it"
        raise OutputError(f"{path}: holds a comparison on the prompts {was}, this is on {now}; {both}")


def about(candidate: Candidate, suite: Suite) -> dict[str, Any]:
    """What is said of a scorer; `fitted_to` how many of these prompts it was fitted to, and as part of which data."""
    training = candidate.training
    seen = training.overlap([prompt.prompt for prompt in suite.prompts]) if training else 0
    return {
        "label": candidate.label,
        "info": candidate.scorer.info.to_json(),
        "log_odds_per_point": candidate.scorer.log_odds_per_point,
        "reads_prompt": candidate.scorer.reads_prompt,
        "fitted_to": {"prompts": seen, "data": training.data} if training and seen else None,
    }


def gathered(
    before: Sequence[dict[str, Any]], named: Sequence[dict[str, Any]], images: Sequence[SuiteImage], book: Book
) -> tuple[list[dict[str, Any]], list[str]]:
    """The scorers that were compared before and those that are named now, in that order.

    Args:
        before: see `scorers_before`.
        named: `about` each scorer of this run; one of the same label takes the place of an earlier one.
        images: of both sides.
        book: every score that is known.

    Returns:
        What is said of each scorer, and a note for each that has not scored all of these images and is left out.
    """
    by_label = {scorer["label"]: scorer for scorer in named}
    kept, notes = [], []
    for scorer in before:
        label = scorer["label"]
        if label in by_label:
            kept.append(by_label.pop(label))
        elif all(book.has(scorer["info"]["identity"], image) for image in images):
            kept.append(scorer)
        else:
            what = "is left out: the comparison that was here before had it, but it has not scored all of these images"
            notes.append(f"{label} {what}; name it with --scorer to have it again.")
    return [*kept, *by_label.values()], notes
