"""A leaderboard for readers: one HTML page that opens offline, with small pictures in it, and Markdown for a README."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from hpskit.benchmark.result import Result, largest_differences, relative_to
from hpskit.errors import ImageError, InputError
from hpskit.files import inside
from hpskit.pages.charts import Axis, axis_for, interval, interval_axis
from hpskit.pages.format import between, counted, number, p_words, percent, signed, whole
from hpskit.pages.page import environment, page
from hpskit.pixels import Encoded, open_image, thumbnail
from hpskit.prompts.suites import image_name
from hpskit.stats.blocks import Flags, Floats

__all__ = ["Part", "Pictures", "gather_pictures", "incomplete", "leaderboard_page", "leaderboard_table", "rank_range"]

Board = Mapping[str, Any]
"""What `leaderboard.json` holds for one scorer."""

_SIDE = 176
"""Pixels of a thumbnail's longer side."""
_BUDGET, _TABLES = 4_000_000, 55_000
"""Characters of all thumbnails together, less what the tables take for each model of each board, so that a page stays
under some 5 MB."""


# Pictures


@dataclass(frozen=True, kw_only=True, slots=True)
class Pictures:
    """Images that a page can show."""

    thumbnails: defaultdict[str, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))
    """Name of a model -> number of a prompt in the suite -> `data:` address of a small JPEG."""
    links: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    """Name of a model -> `root`, an address relative to the page, and `ending`, if every image is named as in the
    official layout, else `names`, with null for those that are not there. None if no image is there."""
    notes: list[str] = field(default_factory=list)
    """What could not be shown, and why."""


def gather_pictures(
    results: Sequence[Result],
    parts: Sequence[Part],
    folders: Mapping[str, Path],
    out: Path,
    *,
    allow_outside: bool = False,
) -> Pictures:
    """Find the images for a page in the folder `out`, and make small ones where models differ most.

    `folders` are those of the images of a model, if they are not where its result says. With `allow_outside` images
    that a result finds outside of its own folder are shown too: it may be a stranger's, and name private files.
    """
    pictures = Pictures()
    by_name = {result.name: result for result in results}
    files: dict[str, list[Path | None]] = {}
    hidden = []
    for name, result in by_name.items():
        root = folders.get(name) or result.path.parent / (result.images_root or ".")
        named = [folders.get(name) or result.path.parent]
        known = name in folders or result.images_root is not None
        paths = [root / row.images[0].image if row.images and known else None for row in result.prompts]
        files[name] = [path if path and os.path.isfile(path) else None for path in paths]
        if not allow_outside and (outside := files_outside(files[name], named)):
            hidden.append(name)
            files[name] = [None if path in outside else path for path in files[name]]
        pictures.links[name] = link_to(result, files[name], relative_to(root, out))
    if hidden:
        what = f"images of {', '.join(hidden)} that lie outside of the folder of the result"
        pictures.notes.append(f"Not shown: {what}. Name theirs with --images, or add --allow-outside.")
    room = _BUDGET - _TABLES * sum(len(part.board["models"]) for part in parts)
    changed = Counter[str]()
    for name, row in dict.fromkeys(itertools.chain(*(part.opened() for part in parts))):
        if (path := files[name][row]) is None:
            continue
        try:
            encoded = Encoded.read(path)
            same = encoded.sha256 == by_name[name].prompts[row].images[0].sha256
            small = thumbnail(open_image(encoded, draft=_SIDE), side=_SIDE) if same else None
        except ImageError:  # unreadable now, so it is not what was scored
            small = None
        if small is None:
            changed[name] += 1
        elif len(small) > room:
            break
        else:
            pictures.thumbnails[name][row] = small
            room -= len(small)
    for name, count in changed.items():
        what = "One image is not the file that was scored" if count == 1 else f"{count} images are not the files scored"
        pictures.notes.append(f"{what} of {name} and are not shown.")
    return pictures


def files_outside(files: Sequence[Path | None], folders: Sequence[Path]) -> set[Path]:
    """Collect the files that do not lie in one of the folders, over whatever links."""

    def outside(path: Path) -> bool:
        try:
            inside(path, folders, str(path))
        except InputError:
            return True
        return False

    there = [path for path in files if path]
    parents = {parent for parent in {path.parent for path in there} if outside(parent)}
    return {path for path in there if path.parent in parents or (path.is_symlink() and outside(path))}


def link_to(result: Result, files: Sequence[Path | None], address: str | None) -> dict[str, Any] | None:
    """Say how the page reaches the images of a model from their folder's address; see `Pictures.links`."""
    names = [row.images[0].image if path else None for row, path in zip(result.prompts, files, strict=True)]
    there = next(filter(None, names), None)
    if address is None or there is None:
        return None
    root, ending = f"{quote(address)}/", Path(there).suffix
    if names == [image_name(row, ending) if row.images else None for row in result.prompts]:
        return {"root": root, "ending": ending}
    return {"root": root, "names": [name and quote(name) for name in names]}


# The page


def leaderboard_page(
    board: Mapping[str, Any], results: Sequence[Result], parts: Sequence[Part], pictures: Pictures
) -> str:
    """Make the page of what `leaderboard.json` holds, and of the scores by prompt of its results."""
    by_name, rows = {result.name: result for result in results}, results[0].prompts
    data = {
        "title": board["title"],
        "prompts": [row.prompt for row in rows],
        "places": [f"{row.category}/{row.number}" if row.category else f"{row.number}" for row in rows],
        "groups": [row.category for row in rows],
        "models": [
            {
                "name": name,
                "small": pictures.thumbnails[name],
                "link": pictures.links[name],
                "several": max(len(row.images) for row in result.prompts),
            }
            for name, result in by_name.items()
        ],
        "boards": [part.for_script() for part in parts],
    }
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    inert = Markup(text.replace("<", "\\u003c"))  # noqa: S704  # in a script element only `<` can mean something
    words = {"incomplete": incomplete, "rank_range": rank_range}
    return page("hpskit.benchmark", "leaderboard.html", result=board, parts=parts, data=inert, **words)


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """The board of one scorer, as the template and the script want it."""

    board: Board
    digits: int
    scores: Floats
    """(models, prompts), in the order of the board."""
    groups: NDArray[np.str_]
    """(prompts,): the category of each."""
    against: list[dict[tuple[str, str], dict[str, Any]]]
    """For each scope (one model, another) -> the first less the second; both ways round."""

    @classmethod
    def of(cls, board: Board, level: float, results: Sequence[Result]) -> Part:
        """Take the scores from the results; `level` is that of the intervals."""
        by_name = {result.name: result for result in results}
        scores = np.stack([by_name[name].scores(board["label"]) for name in board["models"]])
        deviation = float(np.nanstd(scores))  # a hundredth of it can be seen
        digits = min(9, max(2, 2 - math.floor(math.log10(deviation)))) if deviation > 0 else 2
        against = [both_ways(scope, 1 - level) for scope in board["scopes"]]
        return cls(board=board, digits=digits, scores=scores, groups=results[0].categories, against=against)

    def opened(self) -> Iterator[tuple[str, int]]:
        """List model and number of prompt of the pictures that readers may open, the likeliest first, some twice."""
        models = list(zip(self.board["models"], self.scores, margins(self.scores), strict=True))
        for row in largest_differences(spread(self.scores)):
            yield from ((name, row) for name, *_ in models)
        for name, _, margin in models:
            yield from ((name, row) for row in (*largest_differences(margin), *largest_differences(-margin)))
        for (one, own, _), (other, their, _) in itertools.combinations(models, 2):
            for row in (*largest_differences(own - their), *largest_differences(their - own)):
                yield from ((one, row), (other, row))

    def for_script(self) -> dict[str, Any]:
        """Return what `leaderboard.js` reads."""
        known, widest = np.isfinite(self.scores), spread(self.scores)
        best = np.where(known, self.scores, -np.inf).argmax(axis=0).tolist()
        worst = np.where(known, self.scores, np.inf).argmin(axis=0).tolist()
        scopes = []
        for scope, against in zip(self.board["scopes"], self.against, strict=True):
            inside = self.inside(scope["category"])
            scores = np.where(inside, self.scores, np.nan)
            models = list(zip(self.board["models"], scores, strict=True))
            own = {
                "category": scope["category"],
                "pairs": counted(len(scope["differences"]), "pair"),
                "widest": [
                    [row, best[row], worst[row]] for row in largest_differences(np.where(inside, widest, np.nan))
                ],
                "models": [self.cases(np.where(inside, margin, np.nan)) for margin in margins(self.scores)],
                "differences": [
                    [self.difference(against.get((one, other)), a - b) for other, b in models] for one, a in models
                ],
            }
            scopes.append(own)
        return {
            "label": self.board["label"],
            "models": self.board["models"],
            "digits": self.digits,
            "scores": [self.rounded(row) for row in self.scores],
            "range": self.rounded(widest),
            "best": [place if known[place, row] else -1 for row, place in enumerate(best)],
            "scopes": scopes,
        }

    def inside(self, category: str) -> Flags:
        """(prompts,): those of a category; all of them for an empty one."""
        return self.groups == category if category else np.ones(len(self.groups), dtype=bool)

    def rounded(self, scores: Floats) -> list[float | None]:
        """Round to the digits of the board; None for NaN."""
        return [None if np.isnan(score) else round(score, self.digits) for score in scores.tolist()]

    def cases(self, margin: Floats) -> dict[str, Any]:
        """List best and worst prompts of a model beside the mean of the others: on how many it is so, the largest."""
        found: dict[str, Any] = {"prompts": counted(int(np.isfinite(margin).sum()), "prompt")}
        for name, own in (("best", margin), ("worst", -margin)):
            rows = [[row, signed(float(margin[row]), self.digits)] for row in largest_differences(own)]
            found[name] = [int((own > 0).sum()), rows]
        return found

    def difference(self, row: Mapping[str, Any] | None, by_prompt: Floats) -> list[Any] | None:
        """Write the difference of two models, and the prompts where it is largest; None if they are not compared."""
        if row is None:
            return None
        equal = row["prompts"] - row["wins"] - row["losses"]
        return [
            *(float(f"{row[name]:.5g}") for name in ("value", "low", "high")),
            row["kind"],
            signed(row["value"], self.digits),
            between(row["low"], row["high"], self.digits, sign=True),
            p_words(row["holm_p"]),
            percent(row["win_rate"]),
            f"{whole(row['win_low'])} to {whole(row['win_high'])}",
            counted(row["prompts"], "prompt"),
            f"{row['wins']:,}",
            f"{row['losses']:,}",
            f", {equal:,} {'is' if equal == 1 else 'are'} equal" if equal else "",
            number(row["detectable"], self.digits),
            largest_differences(by_prompt),
        ]

    def axis(self, rows: Sequence[Mapping[str, Any]]) -> Axis:
        """Make an axis for a column of means, or of what was published if there is none."""
        published = [row["average"] for row in self.board["published"]]
        ends = [row[name] for row in rows for name in ("value", "low", "high") if row[name] is not None]
        return axis_for(ends or published or [0, 1], 4)

    def scales(self) -> list[tuple[float, Markup, Markup]]:
        """Make axes for differences, wide to narrow: the end, the head of a column, and a row to put the marks in."""
        ends = [abs(row[end]) for s in self.board["scopes"] for row in s["differences"] for end in ("low", "high")]
        widest = max(ends, default=0.0) or 1.0
        axes = [axis_for([-part * widest, part * widest]) for part in (1, 0.5, 0.25, 0.1, 0.05)]
        return [(axis.high, interval_axis(axis), interval(axis, 0, 0, 0, colour="c0", title="")) for axis in axes]


def spread(scores: Floats) -> Floats:
    """(models, prompts) -> (prompts,): highest less lowest score; NaN where fewer than two models have one."""
    several = np.isfinite(scores).sum(axis=0) > 1
    found = np.full(scores.shape[1], np.nan)
    found[several] = np.nanmax(scores[:, several], axis=0) - np.nanmin(scores[:, several], axis=0)
    return found


def margins(scores: Floats) -> Floats:
    """(models, prompts) -> the same: each score less the mean of the other models for that prompt.

    A single model is compared with its own mean. NaN where a score is missing or has no other beside it.
    """
    if len(scores) == 1:
        return np.asarray(scores - np.nanmean(scores))
    present, known = np.isfinite(scores), np.nan_to_num(scores)
    with np.errstate(invalid="ignore"):  # 0 / 0 where there is no other
        return np.asarray(scores - (known.sum(axis=0) - known) / (present.sum(axis=0) - present))


def both_ways(scope: Mapping[str, Any], chance: float) -> dict[tuple[str, str], dict[str, Any]]:
    """Give the differences of a scope by (one model, another), and turned round; those with p above `chance` are open.

    `kind` is `open`, or `up` or `down` for the one.
    """
    found = {}
    for row in scope["differences"]:
        turned = {"value": -row["value"], "low": -row["high"], "high": -row["low"]}
        turned |= {"win_rate": 1 - row["win_rate"], "win_low": 1 - row["win_high"], "win_high": 1 - row["win_low"]}
        turned |= {"wins": row["losses"], "losses": row["wins"]}
        for names, both in (((row["second"], row["first"]), row), ((row["first"], row["second"]), {**row, **turned})):
            kind = "open" if row["holm_p"] > chance else "up" if both["value"] > 0 else "down"
            found[names] = {**both, "kind": kind}
    return found


# Markdown


def leaderboard_table(board: Mapping[str, Any]) -> str:
    """Write what `leaderboard.json` holds as Markdown: one table for each scorer, ending in a newline."""
    found = environment("hpskit.benchmark")
    words = {"incomplete": incomplete, "rank_range": rank_range}
    return found.get_template("leaderboard.md").render(result=board, **words).strip() + "\n"


def incomplete(row: Mapping[str, Any], scope: Mapping[str, Any], models: Sequence[Mapping[str, Any]]) -> str:
    """Say beside the name of a model what it lacks; empty if nothing is missing."""
    if row["prompts"] < scope["prompts"]:
        return f"incomplete: average over {row['prompts']:,} of {counted(scope['prompts'], 'prompt')}"
    model = next(model for model in models if model["name"] == row["name"])
    return "" if model["complete"] or model["missing"] else "incomplete: some prompts have fewer images"


def rank_range(rank: Mapping[str, int] | None) -> str:
    """Write a rank with its interval, `2` or `2-4`; None is an empty text."""
    if rank is None:
        return ""
    return f"{rank['low']}" if rank["low"] == rank["high"] else f"{rank['low']}-{rank['high']}"
