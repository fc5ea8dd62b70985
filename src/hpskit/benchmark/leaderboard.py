"""`hpskit benchmark leaderboard` as a stage: results of several models in, one leaderboard out.

OUT/leaderboard.html   to be read and handed on: one file, opens offline
OUT/leaderboard.md     a table for a README
OUT/leaderboard.json   every figure, and the hashes of the results and of the other two; written last
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hpskit import __version__
from hpskit.benchmark.leaderboard_figures import agreement_of, scorer_board
from hpskit.benchmark.leaderboard_page import Part, gather_pictures, leaderboard_page, leaderboard_table
from hpskit.benchmark.result import Resampling, Result, read_results, relative_to, repeats_note, same_scorer
from hpskit.errors import InputError, shown
from hpskit.files import sha256_file
from hpskit.stage import check_free, publish

__all__ = ["Leaderboard", "run"]

_FORMAT = "hpskit leaderboard 1"
_RECORD = "leaderboard.json"


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
    allow_outside: bool = False
    """Show images that a result finds outside of its own folder, too."""
    published: bool = False
    """Show the tables that the authors of HPS v2 published beside the boards that they belong to."""
    resampling: Resampling = field(default_factory=Resampling)
    command: str = ""
    """How to make this again; stands on the page."""

    def __post_init__(self) -> None:
        if not self.title.isprintable():
            raise InputError("title", f"is {shown(self.title)}", expected="text that can be printed")


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
    check_free(config.out, _RECORD, ("leaderboard.html", "leaderboard.md"), _FORMAT)
    results = read_results(config.results)
    check_names("images", config.images, [result.name for result in results])
    for name, folder in config.images.items():
        if not os.path.isdir(folder):
            expected = f"the folder of the images of {name!r}"
            raise InputError("images", f"are {folder}, which is no folder", expected=expected)
    there = list(dict.fromkeys(label for result in results for label in result.labels))
    check_names("scorer", config.scorers, there)
    labels = list(dict.fromkeys(config.scorers)) or there
    having = {label: [result for result in results if label in result.labels] for label in labels}
    for label, own in having.items():
        same_scorer(label, own)
    boards = [scorer_board(label, own, config.resampling) for label, own in having.items()]
    suite = results[0].suite
    if not config.published:
        boards = [{**board, "published": []} for board in boards]
    elif not any(board["published"] for board in boards):
        found = f"has no table for {', '.join(board['info']['name'] for board in boards)} on {suite.name!r}"
        expected = "hps-v2.0 or hps-v2.1 on the whole of hpsv2"
        raise InputError("published", found, expected=expected, cure="leave --published out")
    parts = [Part.of(board, config.resampling.level, results) for board in boards]
    pictures = gather_pictures(results, parts, config.images, config.out, allow_outside=config.allow_outside)
    board = {
        "format": _FORMAT,
        "package": f"hpskit {__version__}",
        "command": config.command,
        "title": config.title or f"Text-to-image models on {suite.name}",
        "suite": suite.model_dump(mode="json"),
        "settings": asdict(config.resampling),
        "models": [model_facts(result, config.out) for result in results],
        "scorers": boards,
        "agreement": agreement_of(results, labels),
        "notes": [
            *notes_on_models(results),
            *notes_on_boards(results, having, boards, config.resampling),
            *pictures.notes,
        ],
    }
    html, table = leaderboard_page(board, results, parts, pictures), leaderboard_table(board)
    publish(config.out, _RECORD, board, {"leaderboard.html": html.encode(), "leaderboard.md": table.encode()})
    return board


def check_names(place: str, given: Iterable[str], known: Sequence[str]) -> None:
    """See that every name that was given is one that the results have."""
    for name in given:
        if name not in known:
            raise InputError(place, f"has {name!r}, which is in no result", expected=f"one of {', '.join(known)}")


def model_facts(result: Result, out: Path) -> dict[str, Any]:
    """Return what `leaderboard.json` in the folder `out` says of a model."""
    return {
        **result.model_dump(include={"name", "complete", "meta", "versions", "package", "command"}),
        "images": sum(len(row.images) for row in result.prompts),
        "missing": sum(not row.images for row in result.prompts),
        "scorers": list(result.labels),
        "result": relative_to(result.path, out),
        "sha256": sha256_file(result.path),
    }


def notes_on_models(results: Sequence[Result]) -> Iterator[str]:
    """Say which images models lack."""
    for result in results:
        if missing := sum(not row.images for row in result.prompts):
            what = f"{missing:,} of {len(result.prompts):,} prompts have no image; its averages are over the others"
            place = "where it lacks any it has no rank, strength or wins and stands last"
            fair = "its differences to other models are over the prompts that both have"
            yield f"{result.name} is incomplete: {what}; {place}; {fair}."
        elif not result.complete:
            what = "some prompts have fewer images than others, and the mean of fewer varies more"
            yield f"{result.name} is incomplete: {what}."


def notes_on_boards(
    results: Sequence[Result],
    having: Mapping[str, Sequence[Result]],
    boards: Sequence[Mapping[str, Any]],
    resampling: Resampling,
) -> Iterator[str]:
    """Say what else a reader must know: nothing is left out silently."""
    if note := repeats_note(results[0].texts):
        yield note
    for label, own in having.items():
        if without := [result.name for result in results if result not in own]:
            yield f"Not on the board of {label}, which has not scored them: {', '.join(without)}."
        packages = sorted({result.scorer(label).info.package for result in own})
        if len(packages) > 1:
            yield f"Scores by {label} were made by {', '.join(packages)}."
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
