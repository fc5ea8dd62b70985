"""`hpskit benchmark leaderboard` as a stage: results of several models in, one leaderboard out.

OUT/leaderboard.html   to be read and handed on: one file, opens offline
OUT/leaderboard.md     a table for a README
OUT/leaderboard.json   every figure, and the hashes of the results and of the other two; written last
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hpskit import __version__
from hpskit.benchmark.leaderboard_figures import agreement_of, scorer_board
from hpskit.benchmark.leaderboard_page import gather_pictures, leaderboard_page, leaderboard_table
from hpskit.benchmark.result import (
    Resampling,
    Result,
    read_results,
    relative_to,
    repeats_note,
    same_scorer,
)
from hpskit.errors import InputError
from hpskit.files import sha256_file
from hpskit.stage import check_free, publish

__all__ = ["Leaderboard", "run"]

_FORMAT = "hpskit leaderboard 1"
_RECORD, _PRODUCTS = "leaderboard.json", ("leaderboard.html", "leaderboard.md")


@dataclass(frozen=True, kw_only=True, slots=True)
class Leaderboard:
    """Which results to compare, how, and where to put it."""

    results: tuple[Path, ...]
    """Result files of one suite, one for each model."""
    out: Path
    """Folder for the three files; an older leaderboard in it is replaced."""
    title: str = ""
    """Title of the page; empty is one that names the suite."""
    scorers: tuple[str, ...] = ()
    """Labels to make boards of, in this order; empty is all that any result has."""
    images: Mapping[str, Path] = field(default_factory=dict)
    """Name of a model -> the folder where its images are now, if it is not where the result says."""
    published: bool = False
    """Show the tables that the authors of HPS v2 published beside the boards that they belong to."""
    resampling: Resampling = field(default_factory=Resampling)
    command: str = ""
    """How to make this again; stands on the page."""


def run(config: Leaderboard) -> dict[str, Any]:
    """Compare, and publish the three files; made again they are equal to the byte.

    Returns:
        What `leaderboard.json` holds.

    Raises:
        InputError: results are not of one suite, two have one name, scores of one label have different identities, a
            scorer or a model that was asked for is not there, or nothing was published for these boards.
        RecordError: a result is not what it should be.
        OutputError: the output cannot be written, or holds something else.
    """
    check_free(config.out, _RECORD, _PRODUCTS, _FORMAT)
    results = read_results(config.results)
    names = [result.name for result in results]
    for name, folder in config.images.items():
        if name not in names:
            raise InputError("images", f"name {name!r}, which is none of the models", expected=_one_of(names))
        if not folder.is_dir():
            raise InputError(
                "images", f"name {folder}, which is not a folder", expected=f"that of the images of {name!r}"
            )
    there = list(dict.fromkeys(label for result in results for label in result.labels))
    for label in config.scorers:
        if label not in there:
            raise InputError("scorer", f"is {label!r}, which is in none of the results", expected=_one_of(there))
    labels = list(dict.fromkeys(config.scorers)) or there
    having = {label: [result for result in results if label in result.labels] for label in labels}
    for label, own in having.items():
        same_scorer(label, own)
    boards = [scorer_board(label, own, config.resampling) for label, own in having.items()]
    suite = results[0].suite
    if config.published and not any(board["published"] for board in boards):
        scorers = ", ".join(board["info"]["name"] for board in boards)
        expected = "hps-v2.0 or hps-v2.1 on the whole of hpsv2"
        found = f"has no table for {scorers} on {suite.name!r}"
        raise InputError("published", found, expected=expected, cure="leave --published out")
    if not config.published:
        boards = [{**board, "published": []} for board in boards]
    pictures = gather_pictures(results, boards, config.images, config.out)
    board = {
        "format": _FORMAT,
        "package": f"hpskit {__version__}",
        "command": config.command,
        "title": config.title or f"Text-to-image models on {suite.name}",
        "suite": suite.model_dump(mode="json"),
        "settings": asdict(config.resampling),
        "models": [_model(result, config.out) for result in results],
        "scorers": boards,
        "agreement": agreement_of(results, labels),
        "notes": [*_notes(results, having, boards, config.resampling), *pictures.notes],
    }
    products = {
        "leaderboard.html": leaderboard_page(board, results, pictures),
        "leaderboard.md": leaderboard_table(board),
    }
    publish(config.out, _RECORD, board, {name: text.encode() for name, text in products.items()})
    return board


def _one_of(names: Sequence[str]) -> str:
    return f"one of {', '.join(names)}"


def _model(result: Result, out: Path) -> dict[str, Any]:
    return {
        "name": result.name,
        "complete": result.complete,
        "images": sum(len(row.images) for row in result.prompts),
        "missing": sum(not row.images for row in result.prompts),
        "scorers": list(result.labels),
        "meta": result.meta,
        "versions": result.versions,
        "package": result.package,
        "command": result.command,
        "result": relative_to(result.path, out),
        "sha256": sha256_file(result.path),
    }


def _gap(result: Result) -> str | None:
    """Say which images a model lacks; None if it lacks none."""
    missing = sum(not row.images for row in result.prompts)
    if missing:
        what = f"{missing:,} of {len(result.prompts):,} prompts have no image; its averages are over the others"
        place = "where it lacks any it has no rank, strength or wins and stands last"
        fair = "its differences to other models are over the prompts that both have"
        return f"{result.name} is incomplete: {what}; {place}; {fair}."
    if not result.complete:
        what = "some prompts have fewer images than others, and the mean of fewer varies more"
        return f"{result.name} is incomplete: {what}."
    return None


def version_note(label: str, results: Sequence[Result]) -> str | None:
    """Tell the reader that several versions of hpskit have scored; None if one has."""
    packages = sorted({result.scorer(label).info.package for result in results})
    return f"Scores by {label} were made by {', '.join(packages)}." if len(packages) > 1 else None


def _notes(
    results: Sequence[Result],
    having: Mapping[str, Sequence[Result]],
    boards: Sequence[Mapping[str, Any]],
    resampling: Resampling,
) -> Iterator[str]:
    """What a reader must know: nothing is left out silently."""
    yield from filter(None, map(_gap, results))
    if note := repeats_note(results[0].texts):
        yield note
    for label, own in having.items():
        if without := [result.name for result in results if result not in own]:
            yield f"Not on the board of {label}, which has not scored them: {', '.join(without)}."
        if note := version_note(label, own):
            yield note
    for board in boards:
        if board["reads_prompt"] is False:
            what = "does not read the prompt: it judges looks only"
            yield f"{board['label']} {what}, and a model that ignores its prompts loses nothing by it."
        whole = board["scopes"][0]
        if len(whole["models"]) > 1 and not any(row["rank"] for row in whole["models"]):
            yield f"By {board['label']}: no ranks, which are among models that have every prompt."
        pairs = len(whole["differences"])
        if pairs / (resampling.resamples + 1) > 1 - resampling.level:
            need = f"{resampling.resamples:,} resamples cannot show significance among {pairs:,} pairs, nor ranks apart"
            yield f"By {board['label']}: {need}; ask for more (--resamples)."
