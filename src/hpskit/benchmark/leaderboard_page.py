"""A leaderboard for readers: one HTML page that opens offline, with small pictures in it, and Markdown for a README."""

from __future__ import annotations

import itertools
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist
from typing import Any
from urllib.parse import quote

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from hpskit.benchmark.result import Entry, largest_differences, relative_to
from hpskit.errors import ImageError, InputError
from hpskit.files import inside
from hpskit.pages.charts import Axis, Dot, axis_for, colours_of, dot_chart, interval, interval_axis
from hpskit.pages.format import counted, digits_for, signed
from hpskit.pages.page import environment, page
from hpskit.pages.paper import Cell, Column, Paper, Table, estimate
from hpskit.pixels import Encoded, open_image, thumbnail
from hpskit.prompts.suites import image_name
from hpskit.stats.blocks import Flags, Floats

Board = Mapping[str, Any]
"""What `leaderboard.json` holds for one scorer."""

_PAIR = ("value", "low", "high", "holm_p", "wins", "losses", "detectable")
"""What the script is told of two models, and how many prompts they share if that is less than others do; it writes it
as `hpskit.pages.format` does, for either way round, and computes the rest: 200 models have 99,500 such lines."""
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
    results: Sequence[Entry],
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
    files: dict[str, list[str | None]] = {}  # a `Path` for each of 640,000 would take longer than to look for it
    hidden = []
    for name, result in by_name.items():
        root = folders.get(name) or result.path.parent / (result.images_root or ".")
        named = [folders.get(name) or result.path.parent]
        known = name in folders or result.images_root is not None
        paths = (f"{root}/{image}" if image and known else None for image in result.images)
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
    seen = set[tuple[str, int]]()
    for name, row in itertools.chain(*(part.opened() for part in parts)) if any(map(any, files.values())) else ():
        if (name, row) in seen or (path := files[name][row]) is None:
            continue
        seen.add((name, row))
        try:
            encoded = Encoded.read(Path(path))
            same = encoded.sha256 == by_name[name].hashes[row]
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


def files_outside(files: Sequence[str | None], folders: Sequence[Path]) -> set[str]:
    """Collect the files that do not lie in one of the folders, over whatever links."""

    def outside(path: str) -> bool:
        try:
            inside(Path(path), folders, path)
        except InputError:
            return True
        return False

    there = [path for path in files if path]
    parents = {parent for parent in set(map(os.path.dirname, there)) if outside(parent)}
    own = ((path, os.path.dirname(path) in parents or os.path.islink(path)) for path in there)  # noqa: PTH114, PTH120
    return {path for path, doubtful in own if doubtful and outside(path)}


def link_to(result: Entry, files: Sequence[str | None], address: str | None) -> dict[str, Any] | None:
    """Say how the page reaches the images of a model from their folder's address; see `Pictures.links`."""
    names = [image if path else None for image, path in zip(result.images, files, strict=True)]
    there = next(filter(None, names), None)
    if address is None or there is None:
        return None
    root, ending = f"{quote(address)}/", Path(there).suffix
    counts = zip(result.prompts, result.counts, strict=True)
    if names == [image_name(row, ending) if count else None for row, count in counts]:
        return {"root": root, "ending": ending}
    return {"root": root, "names": [name and quote(name) for name in names]}


# The page


def leaderboard_page(
    board: Mapping[str, Any], results: Sequence[Entry], parts: Sequence[Part], pictures: Pictures
) -> str:
    """Make the page of what `leaderboard.json` holds, and of the scores by prompt of its results."""
    colours = colours_of(result.name for result in results)
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
                "colour": colours[name],
                "several": int(result.counts.max()),
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
    """Decimals of means."""
    fine: int
    """Decimals of the score of one image, and of how far it is ahead."""
    scores: Floats
    """(models, prompts), in the order of the board."""
    groups: NDArray[np.str_]
    """(prompts,): the category of each."""
    level: float
    """Of the intervals; a difference with a higher p-value than the rest of 1 is open."""

    @classmethod
    def of(cls, board: Board, level: float, results: Sequence[Entry]) -> Part:
        """Take the scores from the results; `level` is that of the intervals."""
        by_name = {result.name: result for result in results}
        scores = np.stack([by_name[name].scores(board["label"]) for name in board["models"]])
        apart = spread(scores)
        fine = digits_for([float(np.median(apart[np.isfinite(apart)]))] if np.isfinite(apart).any() else [])
        digits, groups = board["digits"], results[0].categories
        return cls(board=board, digits=digits, fine=max(digits, fine), scores=scores, groups=groups, level=level)

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
        place = {name: n for n, name in enumerate(self.board["models"])}
        for scope in self.board["scopes"]:
            inside = self.inside(scope["category"])
            pairs: list[list[list[float] | None]] = [[None] * n for n in range(len(place))]
            most = max((row["prompts"] for row in scope["differences"]), default=0)
            for row in scope["differences"]:  # by the lower of the two on the board, then by the higher
                own = [row[name] if isinstance(row[name], int) else float(f"{row[name]:.5g}") for name in _PAIR]
                fewer = [row["prompts"]] if row["prompts"] < most else []
                pairs[place[row["first"]]][place[row["second"]]] = own + fewer
            told = {
                "category": scope["category"],
                "prompts": most,
                "z2": NormalDist().inv_cdf((1 + self.level) / 2) ** 2,
                "pairs": counted(len(scope["differences"]), "pair"),
                "level": 1 - self.level,
                "widest": [
                    [row, best[row], worst[row]] for row in largest_differences(np.where(inside, widest, np.nan))
                ],
                "models": [self.cases(np.where(inside, margin, np.nan)) for margin in margins(self.scores)],
                "differences": pairs,
                "ranks": [row["rank"] and [row["rank"]["low"], row["rank"]["high"]] for row in scope["models"]],
            }
            scopes.append(told)
        return {
            "label": self.board["label"],
            "models": self.board["models"],
            "fine": self.fine,
            "scores": [brief(row) for row in self.scores],
            "range": brief(widest),
            "best": [place if known[place, row] else -1 for row, place in enumerate(best)],
            "scopes": scopes,
        }

    def inside(self, category: str) -> Flags:
        """(prompts,): those of a category; all of them for an empty one."""
        return self.groups == category if category else np.ones(len(self.groups), dtype=bool)

    def cases(self, margin: Floats) -> dict[str, Any]:
        """List best and worst prompts of a model beside the mean of the others: on how many it is so, the largest."""
        found: dict[str, Any] = {"prompts": counted(int(np.isfinite(margin).sum()), "prompt")}
        for name, own in (("best", margin), ("worst", -margin)):
            rows = [[row, signed(float(margin[row]), self.fine)] for row in largest_differences(own)]
            found[name] = [int((own > 0).sum()), rows]
        return found

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


def brief(scores: Floats) -> list[float | None]:
    """Write scores to seven figures, as many as float32 has, so that their order stays; None for NaN."""
    return [None if np.isnan(score) else float(f"{score:.7g}") for score in scores.tolist()]


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


# Markdown and papers


def leaderboard_table(board: Mapping[str, Any]) -> str:
    """Write what `leaderboard.json` holds as Markdown: one table for each scorer, ending in a newline."""
    found = environment("hpskit.benchmark")
    words = {"incomplete": incomplete, "rank_range": rank_range}
    return found.get_template("leaderboard.md").render(result=board, **words).strip() + "\n"


def leaderboard_paper(board: Mapping[str, Any]) -> Paper:
    """Make what papers take of `leaderboard.json`: a table and a chart by each scorer; for CSV every scope of all."""
    rows: list[list[Cell]] = []
    for scorer, scope in ((own, scope) for own in board["scorers"] for scope in own["scopes"]):
        for row in scope["models"]:
            figures = [estimate(one) for one in (row["rank"], row, {"value": row["win_rate"]}, row["strength"])]
            rows.append([scorer["label"], scope["category"], row["name"], str(row["prompts"]), *figures])
    names = [Column(key=key) for key in ("scorer", "category", "model", "prompts")]
    figures_of = [Column(key=key, digits=6, ends=key != "wins") for key in ("rank", "mean", "wins", "strength")]
    tables = [paper_table(board, scorer) for scorer in board["scorers"]]
    charts = []
    for scorer in board["scorers"]:
        known = [row for row in scorer["scopes"][0]["models"] if row["value"] is not None]
        dots = [
            Dot(**{key: row[key] for key in ("name", "value", "low", "high")}, hollow=not row["rank"]) for row in known
        ]
        ends = [end for row in known for end in (row["value"], row["low"], row["high"]) if end is not None]
        charts.append(dot_chart(scorer["label"], axis_for(ends or [0, 1], title="mean score"), dots))
    return Paper(
        title=board["title"],
        result=board,
        tables=tables,
        columns=[*names, *figures_of],
        rows=rows,
        charts=charts,
        note="Ring: no rank.",
    )


def paper_table(board: Mapping[str, Any], scorer: Mapping[str, Any]) -> Table:
    """Make the table of a scorer: the best of each column bold, and those marked that cannot be told from the best."""
    whole, *parts = scorer["scopes"]
    highest = [
        max((row["value"] for row in scope["models"] if row["rank"]), default=None) for scope in scorer["scopes"]
    ]
    rows: list[list[Cell]] = []
    for n, row in enumerate(whole["models"]):
        beside = row["rank"] and row["rank"]["low"] == 1 and row["rank"]["value"] > 1
        marks = ("*" if incomplete(row, whole, board["models"]) else "") + ("†" if beside else "")
        own = [scope["models"][n] for scope in scorer["scopes"]]
        means = [
            estimate(one, bold=one["rank"] is not None and one["value"] == best)
            for one, best in zip(own, highest, strict=True)
        ]
        rank, wins = rank_range(row["rank"]).replace("-", "\N{EN DASH}"), estimate({"value": row["win_rate"]})
        rows.append([rank, f"{row['name']}{marks}", *means, wins])
    columns = [Column(key="rank", title="rank"), Column(key="model", title="model")]
    columns.append(Column(key="average", title="average", digits=scorer["digits"]))
    columns += [
        Column(key=one["category"], title=one["category"], digits=scorer["digits"], ends=False) for one in parts
    ]
    columns.append(Column(key="wins", title="wins, %", digits=0, percent=True, ends=False))
    used = "".join(str(row[1])[len(one["name"]) :] for row, one in zip(rows, whole["models"], strict=True))
    said = {"*": "*: lacks images.", "†": "†: cannot be told from the best."}
    notes = ["Bold: the highest. A rank is a range where the data do not decide."]
    notes += [words for mark, words in said.items() if mark in used]
    caption = f"{board['title']}, by {scorer['label']} ({scorer['info']['identity']})."
    label = f"leaderboard-{scorer['label']}"
    return Table(label=label, caption=caption, columns=columns, rows=rows, notes=notes)


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
