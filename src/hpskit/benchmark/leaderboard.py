"""`hpskit benchmark leaderboard` as a stage: results of several models in, one leaderboard out.

OUT/leaderboard.html   to be read and handed on: one file, opens offline
OUT/leaderboard.md     a table for a README
OUT/leaderboard.*      for papers, in the formats that are asked for: see `hpskit.pages.paper`
OUT/leaderboard.json   every figure, and the hashes of the results and of the other two; written last
"""

from __future__ import annotations

import csv
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpskit.benchmark.leaderboard_page import (
    Part,
    gather_pictures,
    leaderboard_page,
    leaderboard_paper,
    leaderboard_table,
)
from hpskit.benchmark.result import Entry, Resampling, figures_of, read_results, relative_to, repeats_note, same_scorer
from hpskit.errors import InputError, shown
from hpskit.files import sha256_file
from hpskit.pages.format import counted, decimals
from hpskit.pages.paper import file_names, formats_of, paper_files
from hpskit.prompts.suites import STYLES
from hpskit.stage import check_free, heading, publish
from hpskit.stats.blocks import Flags, Floats, Index
from hpskit.stats.comparison import holm, paired_differences, rank_intervals
from hpskit.stats.correlation import scorer_agreement
from hpskit.stats.model_scores import GROUP_SIZE
from hpskit.stats.strengths import bradley_terry_interval, win_matrix

_FORMAT = "hpskit leaderboard 1"
_RECORD = "leaderboard.json"

_STRENGTH_RESAMPLES = 1_000
"""The most that strengths take: each is a fit of its own, and the ends of intervals are steady by then."""
_FEWEST = 2
"""Different prompts that two models must share to be compared at all."""
_FEWEST_IN_CATEGORY = 10
"""Different prompts of each category from which on ranks take the shares of categories as fixed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Leaderboard:
    """Settings of a leaderboard: the results, the statistics, and the place of the page."""

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
    paper: tuple[str, ...] = ()
    """Formats for papers, besides those of an older leaderboard in the folder."""
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
    formats = [name for name in formats_of(config.out, "leaderboard", config.paper) if name != "md"]  # always made
    names = ["leaderboard.html", *file_names("leaderboard", ["md", *formats])]
    check_free(config.out, _RECORD, names, _FORMAT)
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
        **heading(_FORMAT, config.command),
        "title": config.title
        or f"{counted(len(results), 'model')} on {suite.name}, {counted(suite.prompts, 'prompt')}",
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
    products = {"leaderboard.html": html.encode(), "leaderboard.md": table.encode()}
    products |= paper_files(leaderboard_paper(board), "leaderboard", formats)
    publish(config.out, _RECORD, board, products)
    return board


def check_names(place: str, given: Iterable[str], known: Sequence[str]) -> None:
    """See that every name that was given is one that the results have."""
    for name in given:
        if name not in known:
            raise InputError(place, f"has {name!r}, which is in no result", expected=f"one of {', '.join(known)}")


def model_facts(result: Entry, out: Path) -> dict[str, Any]:
    """Return what `leaderboard.json` in the folder `out` says of a model."""
    return {
        **result.model_dump(include={"name", "complete", "meta", "versions", "package", "command"}),
        "images": int(result.counts.sum()),
        "missing": int((result.counts == 0).sum()),
        "scorers": list(result.labels),
        "result": relative_to(result.path, out),
        "sha256": sha256_file(result.path),
    }


def notes_on_models(results: Sequence[Entry]) -> Iterator[str]:
    """Say which images models lack."""
    for result in results:
        if missing := int((result.counts == 0).sum()):
            what = f"{missing:,} of {len(result.prompts):,} prompts have no image; its averages are over the others"
            place = "where it lacks any it has no rank, strength or wins and stands last"
            fair = "its differences to other models are over the prompts that both have"
            yield f"{result.name} is incomplete: {what}; {place}; {fair}."
        elif not result.complete:
            what = "some prompts have fewer images than others, and the mean of fewer varies more"
            yield f"{result.name} is incomplete: {what}."


def notes_on_boards(
    results: Sequence[Entry],
    having: Mapping[str, Sequence[Entry]],
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


# Figures: pure, from the scores of several models for the same prompts
#
# A *scope* is a set of prompts: all of them, or those of one category. Every comparison is made in every scope, over
# the prompts for which both models have an image. Prompts with one text are one in every interval, test and rank.


def scorer_board(label: str, results: Sequence[Entry], resampling: Resampling) -> dict[str, Any]:
    """Compare models by the scores of one scorer, which every result has.

    Returns:
        `info`, `digits` (decimals to show its figures with), `reads_prompt` (None if no result says), `models` (names,
        best mean first; ties by name; those that lack an image last), `scopes` and `published`, ready for JSON. In a
        scope `models` are in that order too,
        and `differences` are between every two that can be compared, `second` minus `first`, where `second` stands
        higher on the board. `rank`, `strength` and `win_rate` are None for a model that lacks a prompt of the scope, or
        has no other beside it: they are among models that answer the same questions, all of them.
    """
    own, about = {result.name: result.scores(label) for result in results}, results[0]
    parts = figures_of(
        np.stack(list(own.values())), about.categories, about.texts, resampling.resamples, resampling.level
    )
    found = dict(zip(own, parts, strict=True))
    lacks = {name: bool(np.isnan(scores).any()) for name, scores in own.items()}
    names = sorted(own, key=lambda name: (lacks[name], -found[name]["average"]["value"], name))
    scores = np.stack([own[name] for name in names])
    first = next(result for result in results if result.name == names[0])
    sizes = {one.name: one.prompts for one in first.suite.categories}
    said = (result.scorer(label).reads_prompt for result in results)
    info, parts = first.scorer(label).info, [found[name] for name in names]
    scopes = [
        scope_figures(scope, parts, names, scores, first, resampling)
        for scope in ("", *(sizes if len(sizes) > 1 else ()))
    ]
    # What the data tell apart must not look equal, so differences that are decided count, too.
    told = [row for row in scopes[0]["differences"] if row["holm_p"] <= 1 - resampling.level]
    widths = [decimals(row["low"], row["high"]) for row in (*(part["average"] for part in parts), *told)]
    return {
        "label": label,
        "info": info.to_json(),
        "digits": max(widths),
        "log_odds_per_point": first.scorer(label).log_odds_per_point,
        "reads_prompt": next((value for value in said if value is not None), None),
        "models": names,
        "scopes": scopes,
        "published": published_for(info.name, first.suite.name, sizes),
    }


def scope_figures(
    category: str,
    found: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    scores: Floats,
    first: Entry,
    resampling: Resampling,
) -> dict[str, Any]:
    """Compute figures, ranks and differences over all prompts, or over those of one category."""
    inside = first.categories == category if category else np.ones(scores.shape[1], dtype=bool)
    own, texts = scores[:, inside], first.texts[inside]
    present = np.isfinite(own)
    shared = np.full((len(own), len(own)), len(np.unique(texts)))
    for lower, row in enumerate(present):
        if not row.all():
            common = [len(np.unique(texts[row & other])) for other in present]
            shared[lower], shared[:, lower] = common, common
    pairs = [
        (lower, upper)
        for lower, upper in itertools.combinations(range(len(names) - 1, -1, -1), 2)
        if shared[lower, upper] >= _FEWEST
    ]
    differences = paired_differences(own, pairs=pairs, clusters=texts, **asdict(resampling)) if pairs else []
    adjusted = holm([difference.permutation_p for difference in differences])
    decided = np.zeros((len(names), len(names)), dtype=bool)
    for (lower, upper), p_value in zip(pairs, adjusted, strict=True):
        decided[lower, upper] = decided[upper, lower] = p_value <= 1 - resampling.level
    places = standings(own, texts, first.categories[inside], decided, resampling)
    rows = []
    for name, figure, row, place in zip(names, found, own, places, strict=True):
        if category:
            part = next(part for part in figure["categories"] if part["name"] == category)
            starts = range(0, len(row), GROUP_SIZE)
            if sum(bool(np.isfinite(row[start : start + GROUP_SIZE]).any()) for start in starts) < 2:
                part = {**part, "deviation": None}  # one group has nothing to deviate from
        else:
            part = {**figure["average"], "mean": None, "deviation": None}
        rows.append({**part, "name": name, **place})
    return {
        "category": category,
        "prompts": int(inside.sum()),
        "models": rows,
        "differences": [
            {"first": names[lower], "second": names[upper], **difference.to_json(), "holm_p": float(p_value)}
            for (lower, upper), difference, p_value in zip(pairs, differences, adjusted, strict=True)
        ],
    }


def standings(
    scores: Floats,
    texts: Index,
    categories: NDArray[np.str_],
    decided: Flags,
    resampling: Resampling,
) -> list[dict[str, Any]]:
    """Compute rank, strength and mean win rate of each model that has all prompts; None for the others.

    Two models get separate ranks only if their own difference is significant too, so that ranks and p-values on one
    page cannot contradict each other. Shares of categories are fixed, unless one has too few prompts for that.
    """
    places: list[dict[str, Any]] = [{"rank": None, "strength": None, "win_rate": None} for _ in scores]
    there = np.flatnonzero(np.isfinite(scores).all(axis=1))
    if len(there) < 2 or len(np.unique(texts)) < _FEWEST:
        return places
    own, options = scores[there], {"clusters": texts, **asdict(resampling)}
    least = min(len(np.unique(texts[categories == name])) for name in np.unique(categories))
    found = rank_intervals(own, categories=categories if least >= _FEWEST_IN_CATEGORY else None, **options)
    better = found.better & decided[np.ix_(there, there)]
    low, high = 1 + better.sum(axis=0), len(there) - better.sum(axis=1)
    fewer = {**options, "resamples": min(resampling.resamples, _STRENGTH_RESAMPLES)}
    strengths = np.stack(bradley_terry_interval(own, **fewer), axis=1)
    rates = np.nanmean(win_matrix(own, clusters=texts), axis=1)
    for place, n in enumerate(there):
        among = {"of": len(there), "prompts": found.prompts}
        places[n] = {
            "rank": {"value": int(found.rank[place]), "low": int(low[place]), "high": int(high[place]), **among},
            "strength": dict(zip(("value", "low", "high"), strengths[place].tolist(), strict=True)),
            "win_rate": float(rates[place]),
        }
    return places


def agreement_of(results: Sequence[Entry], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Tell of every two scorers how far they order the models alike, and the prompts on which models differ.

    Returns:
        `of_means` and `of_differences` of `scorer_agreement`, the latter with its `low`, `high` and
        `pairs`, of the models that both have scored. None where there is nothing to compare.
    """
    rows = []
    for first, second in itertools.combinations(labels, 2):
        both = [result for result in results if {first, second} <= set(result.labels)]
        row: dict[str, Any] = {"first": first, "second": second, "models": [result.name for result in both]}
        row |= {"of_means": None, "of_differences": None}
        if len(both) > 1:
            found = scorer_agreement(*([result.scores(label) for result in both] for label in (first, second)))
            row["of_means"] = None if np.isnan(found.of_means) else found.of_means
            if found.pairs:
                ends = {"low": found.low, "high": found.high, "pairs": found.pairs}
                row["of_differences"] = {"value": found.of_differences, **ends}
        rows.append(row)
    return rows


def published_for(scorer: str, suite: str, categories: Mapping[str, int]) -> list[dict[str, Any]]:
    """Give the table that the authors published for a scorer, best first; empty if there is none for this suite.

    It is quoted, not checked, and is for all 3,200 prompts (`categories` are name and number of prompts). Source: Wu et
    al. 2023 (arXiv 2306.09341), table of the benchmark, and the leaderboards of the official repository, computed
    before resizing was antialiased; see docs/scoring.md.
    """
    if suite != "hpsv2" or dict(categories) != dict.fromkeys(STYLES, 800):
        return []
    with Path(__file__).with_name("published.csv").open(encoding="utf-8") as lines:
        return [
            {
                "name": row["model"],
                "average": float(row["average"]),
                "categories": {style: float(row[style]) for style in STYLES},
            }
            for row in csv.DictReader(lines)
            if row["scorer"] == scorer
        ]
