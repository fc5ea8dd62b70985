"""A leaderboard for readers: one HTML page that opens offline, with small pictures in it, and Markdown for a README."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from hpskit.benchmark.leaderboard_figures import margins, spread
from hpskit.benchmark.result import Result, largest_differences, relative_to
from hpskit.benchmark.suites import image_name
from hpskit.errors import ImageError
from hpskit.files import sha256_file
from hpskit.pages.charts import Axis, Frame, axis_for, element, interval, interval_axis, round_step
from hpskit.pages.format import between, counted, number, p_words, percent, signed, whole
from hpskit.pages.page import environment, page
from hpskit.pixels.images import thumbnail

__all__ = ["Pictures", "gather_pictures", "incomplete", "leaderboard_page", "leaderboard_table", "rank_range"]

Floats = NDArray[np.float64]
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
    """What a page can show of the images."""

    thumbnails: dict[tuple[str, int], str] = field(default_factory=dict)
    """(name of a model, number of a prompt in the suite) -> `data:` address of a small JPEG."""
    links: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    """Name of a model -> `root`, an address relative to the page, and `ending`, if every image is named as in the
    official layout, else `names`, with null for those that are not there. None if no image is there."""
    notes: list[str] = field(default_factory=list)
    """What could not be shown, and why."""


def gather_pictures(
    results: Sequence[Result], boards: Sequence[Board], folders: Mapping[str, Path], out: Path
) -> Pictures:
    """Find the images, and make small ones where models differ most.

    Args:
        results: of all models.
        boards: see `hpskit.benchmark.leaderboard.scorer_board`.
        folders: name of a model -> where its images are, if not where the result says.
        out: folder of the page, from which addresses start.
    """
    pictures = Pictures()
    by_name = {result.name: result for result in results}
    files = {}
    for name, result in by_name.items():
        root = folders.get(name) or result.path.parent / (result.images_root or ".")
        known = name in folders or result.images_root is not None
        paths = [root / row.images[0].image if row.images and known else None for row in result.prompts]
        files[name] = [path if path and path.is_file() else None for path in paths]
        pictures.links[name] = _link(result, files[name], root, out)
    rows = {(row.category, row.number): n for n, row in enumerate(results[0].prompts)}
    room, changed = _BUDGET - _TABLES * sum(len(board["models"]) for board in boards), Counter[str]()
    for name, place in dict.fromkeys(_wanted(boards)):
        row = rows[place]
        path = files[name][row]
        if path is None:
            continue
        try:
            same = sha256_file(path) == by_name[name].prompts[row].images[0].sha256
            small = thumbnail(path, side=_SIDE) if same else None
        except (ImageError, OSError):  # unreadable now, so it is not what was scored
            small = None
        if small is None:
            changed[name] += 1
        elif len(small) > room:
            break
        else:
            pictures.thumbnails[name, row] = small
            room -= len(small)
    for name, count in changed.items():
        what = "One image is not the file that was scored" if count == 1 else f"{count} images are not the files scored"
        pictures.notes.append(f"{what} of {name} and are not shown.")
    return pictures


def _link(result: Result, files: Sequence[Path | None], root: Path, out: Path) -> dict[str, Any] | None:
    address = relative_to(root, out)
    if address is None or not any(files):
        return None
    names = [row.images[0].image if path else None for row, path in zip(result.prompts, files, strict=True)]
    ending = Path(next(name for name in names if name)).suffix
    if names == [image_name(row, ending) if row.images else None for row in result.prompts]:
        return {"root": f"{quote(address)}/", "ending": ending}
    return {"root": f"{quote(address)}/", "names": [name and quote(name) for name in names]}


def _wanted(boards: Sequence[Board]) -> Iterator[tuple[str, tuple[str, int]]]:
    """Model and place of the pictures that a reader is likely to open, the likeliest first, some more than once."""

    def places(*cases: Mapping[str, Any]) -> list[tuple[str, int]]:
        return [(case["category"], case["number"]) for case in cases]

    for board in boards:
        yield from ((name, place) for place in places(*board["extremes"]["spread"]) for name in board["models"])
    for board in boards:
        for model in board["extremes"]["models"]:
            yield from ((model["name"], place) for place in places(*model["best"], *model["worst"]))
    rank = {name: n for board in reversed(boards) for n, name in enumerate(board["models"])}
    pairs = [pair for board in boards for pair in board["extremes"]["pairs"]]
    for pair in sorted(pairs, key=lambda pair: abs(rank[pair["first"]] - rank[pair["second"]])):
        for place in places(*pair["for_second"], *pair["for_first"]):
            yield from ((pair[side], place) for side in ("first", "second"))


# The page


def leaderboard_page(board: Mapping[str, Any], results: Sequence[Result], pictures: Pictures) -> str:
    """Make the page.

    Args:
        board: what `leaderboard.json` holds.
        results: those that it was made from: the page holds their scores by prompt.
        pictures: what it can show.
    """
    by_name = {result.name: result for result in results}
    small: dict[str, dict[int, str]] = {name: {} for name in by_name}
    for (name, row), picture in pictures.thumbnails.items():
        small[name][row] = picture
    rows, parts = results[0].prompts, [_Part.of(scorer, board, by_name) for scorer in board["scorers"]]
    data = {
        "title": board["title"],
        "prompts": [row.prompt for row in rows],
        "places": [f"{row.category}/{row.number}" if row.category else f"{row.number}" for row in rows],
        "groups": [row.category for row in rows],
        "models": [
            {
                "name": name,
                "small": small[name],
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
class _Part:
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
    def of(cls, board: Board, whole: Mapping[str, Any], results: Mapping[str, Result]) -> _Part:
        """Take the scores from the results."""
        scores = np.stack([results[name].scores(board["label"]) for name in board["models"]])
        deviation = float(np.nanstd(scores))  # a hundredth of it can be seen
        digits = max(2, 2 - math.floor(math.log10(deviation))) if deviation > 0 else 2
        groups = next(iter(results.values())).categories
        against = [_both_ways(scope, 1 - whole["settings"]["level"]) for scope in board["scopes"]]
        return cls(board=board, digits=digits, scores=scores, groups=groups, against=against)

    def for_script(self) -> dict[str, Any]:
        """What `leaderboard.js` reads."""
        known, widest = np.isfinite(self.scores), spread(self.scores)
        best = np.where(known, self.scores, -np.inf).argmax(axis=0).tolist()
        worst = np.where(known, self.scores, np.inf).argmin(axis=0).tolist()
        names, scopes = self.board["models"], []
        for scope, against in zip(self.board["scopes"], self.against, strict=True):
            inside = self.groups == scope["category"] if scope["category"] else np.ones_like(self.groups, dtype=bool)
            scores = np.where(inside, self.scores, np.nan)
            differences = [
                [self._difference(against.get((one, other)), own - scores[m]) for m, other in enumerate(names)]
                for one, own in zip(names, scores, strict=True)
            ]
            largest = largest_differences(np.where(inside, widest, np.nan))
            own = {
                "category": scope["category"],
                "pairs": counted(len(scope["differences"]), "pair"),
                "widest": [[row, best[row], worst[row]] for row in largest],
                "models": [self._cases(np.where(inside, margin, np.nan)) for margin in margins(self.scores)],
                "differences": differences,
            }
            scopes.append(own)
        return {
            "label": self.board["label"],
            "models": names,
            "digits": self.digits,
            "scores": [_rounded(row, self.digits) for row in self.scores],
            "range": _rounded(widest, self.digits),
            "best": [place if known[place, row] else -1 for row, place in enumerate(best)],
            "scopes": scopes,
        }

    def _cases(self, margin: Floats) -> dict[str, Any]:
        """Best and worst prompts of a model beside the mean of the others: on how many it is so, and the largest."""
        found: dict[str, Any] = {
            name: [
                int((own > 0).sum()),
                [[row, signed(float(margin[row]), self.digits)] for row in largest_differences(own)],
            ]
            for name, own in (("best", margin), ("worst", -margin))
        }
        return {**found, "prompts": counted(int(np.isfinite(margin).sum()), "prompt")}

    def _difference(self, row: Mapping[str, Any] | None, by_prompt: Floats) -> list[Any] | None:
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
            f", {equal:,} {'is' if equal == 1 else 'are'} equal and not drawn" if equal else "",
            number(row["detectable"], self.digits),
            largest_differences(by_prompt),
        ]

    def axis(self, rows: Sequence[Mapping[str, Any]]) -> Axis:
        """An axis for a column of means, or of what was published if there is none."""
        published = [row["average"] for row in self.board["published"]]
        ends = [row[name] for row in rows for name in ("value", "low", "high") if row[name] is not None]
        return axis_for(ends or published or [0, 1], 4)

    def scales(self) -> list[tuple[float, Markup, Markup]]:
        """Axes for differences, wide to narrow: the end, the head of a column, and a row to put the marks in."""
        ends = [abs(row[end]) for s in self.board["scopes"] for row in s["differences"] for end in ("low", "high")]
        widest = max(ends, default=0.0) or 1.0
        axes = [axis_for([-part * widest, part * widest]) for part in (1, 0.5, 0.25, 0.1, 0.05)]
        return [(axis.high, interval_axis(axis), interval(axis, 0, 0, 0, colour="c0", title="")) for axis in axes]

    def histogram(self, category: str) -> Markup | None:
        """An empty histogram of differences by prompt that is large enough for every two models; None if all are 0."""
        scores = np.round(self.scores[:, self.groups == category] if category else self.scores, self.digits)
        pairs = [one - other for one, other in itertools.combinations(scores, 2)]
        pairs = [pair[np.isfinite(pair)] for pair in pairs]
        widest = max((float(np.abs(pair).max()) for pair in pairs if len(pair)), default=0.0)
        if not widest:
            return None
        width = round_step(widest / 24)
        bins = [np.unique(np.floor(pair[pair != 0] / width), return_counts=True)[1] for pair in pairs]
        share = max(
            float(100 * counts.max() / len(pair)) for counts, pair in zip(bins, pairs, strict=True) if len(counts)
        )
        x_axis = axis_for([-widest, widest], 6, title="difference, points")
        frame = Frame(x=x_axis, y=axis_for([0, share], 4, title="prompts, %"), height=178)
        (x, y), (right, top) = frame.at(0, 0), frame.at(1, 1)
        places = {"data_x": x, "data_across": right - x, "data_y": y, "data_up": y - top, "data_bin": width}
        bars = element("g", class_="bars", **{name: f"{value:.9g}" for name, value in places.items()})
        return frame.draw("Histogram of the differences by prompt", bars)


def _both_ways(scope: Mapping[str, Any], chance: float) -> dict[tuple[str, str], dict[str, Any]]:
    found = {}
    for row in scope["differences"]:
        turned = {"value": -row["value"], "low": -row["high"], "high": -row["low"]}
        turned |= {"win_rate": 1 - row["win_rate"], "win_low": 1 - row["win_high"], "win_high": 1 - row["win_low"]}
        turned |= {"wins": row["losses"], "losses": row["wins"]}
        for one, other, own in (("second", "first", {}), ("first", "second", turned)):
            both = {**row, **own}
            both["kind"] = "open" if row["holm_p"] > chance else "up" if both["value"] > 0 else "down"
            found[row[one], row[other]] = both
    return found


def _rounded(scores: Floats, digits: int) -> list[float | None]:
    return [None if np.isnan(score) else round(score, digits) for score in scores.tolist()]


# Markdown


def leaderboard_table(board: Mapping[str, Any]) -> str:
    """Write what `leaderboard.json` holds as Markdown: one table for each scorer, ending in a newline."""
    found = environment("hpskit.benchmark")
    found.filters["plain"] = plain
    words = {"plain": plain, "incomplete": incomplete, "rank_range": rank_range}
    return found.get_template("leaderboard.md").render(result=board, **words).strip() + "\n"


def plain(text: str) -> Markup:
    """Put text on one line, with nothing that Markdown or HTML would take for its own."""
    safe = re.sub(r"([\\`*_\[\]<>|~#])", r"\\\1", " ".join(text.split())).replace("&", "&amp;")
    return Markup(safe)  # noqa: S704  # what means something was escaped above


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
