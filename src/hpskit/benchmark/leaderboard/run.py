"""`hpskit benchmark leaderboard` as a stage: results of several models in; one leaderboard out.

OUT/leaderboard.html   to be read and handed on: one file, opens offline
OUT/leaderboard.md     a table for a README
OUT/leaderboard.json   every figure, and the hashes of the results and of the other two; written last
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hpskit import __version__
from hpskit.benchmark.leaderboard.figures import agreement_of, scorer_board
from hpskit.benchmark.leaderboard.page import leaderboard_page
from hpskit.benchmark.leaderboard.pictures import gather_pictures
from hpskit.benchmark.leaderboard.table import leaderboard_table
from hpskit.benchmark.result import (
    Resampling,
    Result,
    read_results,
    relative_to,
    repeats_note,
    same_scorer,
    version_note,
)
from hpskit.errors import InputError
from hpskit.files import check_free, publish_set, sha256_file

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
    """Of the page; empty is one that names the suite."""
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
    _check_images(config.images, results)
    labels = _labels(results, config.scorers)
    board = _figures(config, results, labels)
    pictures = gather_pictures(results, board["scorers"], config.images, config.out)
    board["notes"] += pictures.notes
    products = {
        "leaderboard.html": leaderboard_page(board, results, pictures),
        "leaderboard.md": leaderboard_table(board),
    }
    publish_set(config.out, _RECORD, board, {name: text.encode() for name, text in products.items()})
    return board


# What may be compared


def _labels(results: Sequence[Result], wanted: Sequence[str]) -> list[str]:
    """Scorers that boards are made of; each is the same for all results that have it.

    Raises:
        InputError: a label is unknown or means two scorers.
    """
    there = list(dict.fromkeys(label for result in results for label in result.labels))
    for label in wanted:
        if label not in there:
            raise InputError(f"scorer: {label!r} is in none of the results, expected one of {', '.join(there)}")
    labels = list(dict.fromkeys(wanted)) or there
    for label in labels:
        having = [result for result in results if label in result.labels]
        same_scorer(label, having)
    return labels


def _check_images(images: Mapping[str, Path], results: Sequence[Result]) -> None:
    names = [result.name for result in results]
    for name, folder in images.items():
        if name not in names:
            raise InputError(f"images: {name!r} is none of the models, expected one of {', '.join(names)}")
        if not folder.is_dir():
            raise InputError(f"images: {folder} is not a folder, expected that of the images of {name!r}")


# What it says


def _figures(config: Leaderboard, results: Sequence[Result], labels: Sequence[str]) -> dict[str, Any]:
    suite = results[0].suite.model_dump(mode="json")
    having = {label: [result for result in results if label in result.labels] for label in labels}
    boards = [scorer_board(label, having[label], config.resampling) for label in labels]
    _settle_published(boards, suite, wanted=config.published)
    return {
        "format": _FORMAT,
        "package": f"hpskit {__version__}",
        "command": config.command,
        "title": config.title or f"Text-to-image models on {suite['name']}",
        "suite": suite,
        "settings": asdict(config.resampling),
        "models": [_model(result, config.out) for result in results],
        "scorers": boards,
        "agreement": agreement_of(results, labels),
        "notes": _notes(results, having, boards, config.resampling),
    }


def _settle_published(boards: Sequence[dict[str, Any]], suite: Mapping[str, Any], *, wanted: bool) -> None:
    if not wanted:
        for board in boards:
            board["published"] = []
    elif not any(board["published"] for board in boards):
        scorers = ", ".join(board["info"]["name"] for board in boards)
        expected = "expected hps-v2.0 or hps-v2.1 on the whole of hpsv2; leave --published out"
        raise InputError(f"published: there is no table for {scorers} on {suite['name']!r}, {expected}")


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


def _notes(
    results: Sequence[Result],
    having: Mapping[str, Sequence[Result]],
    boards: Sequence[dict[str, Any]],
    resampling: Resampling,
) -> list[str]:
    """What a reader must know: nothing is left out silently."""
    notes = [note for result in results if (note := _note_on_gaps(result))]
    if note := repeats_note(results[0].texts):
        notes.append(note)
    for label, own in having.items():
        without = [result.name for result in results if result not in own]
        if without:
            notes.append(f"Not on the board of {label}, which has not scored them: {', '.join(without)}.")
        if note := version_note(label, own):
            notes.append(note)
    for board in boards:
        if board["reads_prompt"] is False:
            what = "does not read the prompt: it judges looks only"
            notes.append(f"{board['label']} {what}, and a model that ignores its prompts loses nothing by it.")
        whole = board["scopes"][0]
        if len(whole["models"]) > 1 and not any(row["rank"] for row in whole["models"]):
            notes.append(f"By {board['label']}: no ranks, which are among models that have every prompt.")
        pairs = len(whole["differences"])
        if pairs / (resampling.resamples + 1) > 1 - resampling.level:
            need = f"{resampling.resamples:,} resamples cannot show significance among {pairs:,} pairs, nor ranks apart"
            notes.append(f"By {board['label']}: {need}; ask for more (--resamples).")
    return notes


def _note_on_gaps(result: Result) -> str | None:
    if result.complete:
        return None
    missing = sum(not row.images for row in result.prompts)
    if not missing:
        what = "some prompts have fewer images than others, and the mean of fewer varies more"
        return f"{result.name} is incomplete: {what}."
    what = f"{missing:,} of {len(result.prompts):,} prompts have no image; its averages are over the others"
    place = "where it lacks any it has no rank, strength or wins and stands last"
    fair = "its differences to other models are over the prompts that both have"
    return f"{result.name} is incomplete: {what}; {place}; {fair}."
