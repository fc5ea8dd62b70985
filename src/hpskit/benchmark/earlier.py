"""A result that is there already, and what a new run may do with it: add to it, never lose anything of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hpskit.benchmark.result import Result, ScorerResult, read_result
from hpskit.benchmark.scores import Book, SuiteImage
from hpskit.benchmark.suites import Suite
from hpskit.errors import InputError, OutputError
from hpskit.scoring.contract import Candidate

__all__ = ["check_unchanged", "kept_scorers", "learn", "read_earlier"]

_CURE = "choose another --out, or delete it"


def read_earlier(out: Path, name: str, suite: Suite) -> Result | None:
    """The result that is to be added to, if there is one.

    Raises:
        OutputError: what is there is no result, or one of another model or of other prompts.
    """
    if not out.exists():
        return None
    try:
        earlier = read_result(out)
    except InputError as error:
        raise OutputError(f"{out}: exists and is no result of this command ({error}); {_CURE}") from error
    if earlier.name != name:
        what = f"holds the result of model {earlier.name!r}, this run is of {name!r}"
        raise OutputError(f"{out}: {what}; {_CURE}")
    if earlier.suite.sha256 != suite.sha256:
        what = f"holds a result on other prompts ({earlier.suite.name!r}), {_first_difference(earlier, suite)}"
        raise OutputError(f"{out}: {what}; {_CURE}")
    return earlier


def _first_difference(earlier: Result, suite: Suite) -> str:
    for before, now in zip(earlier.prompts, suite.prompts, strict=False):
        if (before.category, before.prompt) != (now.category, now.prompt):
            return f"the first that differs was {before.prompt!r} and is {now.prompt!r}"
    return f"{len(earlier.prompts)} of them and not {len(suite.prompts)}"


def check_unchanged(earlier: Result, images: Sequence[SuiteImage]) -> None:
    """A result is replaced only by one that says at least as much of the same images for the same prompts.

    Raises:
        OutputError: images have changed, are gone, or belong to other prompts.
    """
    now = {(image.row, image.name): image.sha256 for image in images}
    before = {(number, image.image): image.sha256 for number, row in enumerate(earlier.prompts) for image in row.images}
    changed = [name for (row, name), digest in before.items() if now.get((row, name)) != digest]
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        what = f"images have changed since it was made, or have other prompts: {', '.join(changed[:3])}{more}"
        raise OutputError(f"{earlier.path}: {what}; {_CURE} to score them again")


def kept_scorers(
    earlier: Result, candidates: Sequence[Candidate], images: Sequence[SuiteImage], *, replace: bool
) -> list[ScorerResult]:
    """Scorers that a new run does not name; they stay in the result.

    Raises:
        OutputError: a label means another scorer now (without `replace`), or there are images that a scorer which stays
            has not scored.
    """
    named = {candidate.label: candidate.scorer.info for candidate in candidates}
    new_images = len(images) > sum(len(row.images) for row in earlier.prompts)
    kept = []
    for scorer in earlier.scorers:
        label, before = scorer.label, scorer.info
        if label in named:
            if named[label].lasting_identity != before.lasting_identity and not replace:
                what = f"its scores by {label!r} are of {before.identity!r}, this run has {named[label].identity!r}"
                cure = "choose another --out, or replace those scores with --replace"
                raise OutputError(f"{earlier.path}: {what}; {cure}")
        elif new_images:
            raise OutputError(f"{earlier.path}: new images have no scores by {label!r} yet; add --scorer {label}")
        else:
            kept.append(scorer)
    return kept


def learn(book: Book, earlier: Result) -> None:
    """Know every score of the result."""
    identities = {scorer.label: scorer.info.identity for scorer in earlier.scorers}
    for row in earlier.prompts:
        for image in row.images:
            for label, identity in identities.items():
                book.learn(identity, image.sha256, row.prompt, image.scores[label])
