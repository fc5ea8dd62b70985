"""A comparison as one HTML page that opens offline, and its pairs as one picture of 1920 x 1080 pixels for slides."""

from __future__ import annotations

import contextlib
import functools
import itertools
import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from markupsafe import Markup
from PIL import Image, ImageDraw, ImageFont

from hpskit.benchmark.compare_figures import decided
from hpskit.errors import InputError
from hpskit.pages.charts import Axis, Bar, Dot, Frame, axis_for, bar_chart, colours_of, count_axis, dot_chart, interval
from hpskit.pages.format import between, decimals, number, p_figure, signed
from hpskit.pages.page import page
from hpskit.pages.paper import Cell, Column, Estimate, Paper, Table, estimate
from hpskit.pixels import Encoded, open_image, thumbnail

Pictures: TypeAlias = Mapping[tuple[str, str], Image.Image]
"""Images no larger than the sheet has room for, by side, `first` or `second`, and name."""


def shown_pairs(result: Mapping[str, Any], scorer: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """List the cases that are shown of a scorer, by the side that wins; under `` the first prompts if none differs."""
    cases = {side: found for side in ("second", "first") if (found := scorer["extremes"][f"for_{side}"])}
    if cases:
        return cases
    equal = []
    for n, row in enumerate(result["prompts"]):
        if row["first"] and row["second"]:
            images = {side: row[side][0] for side in ("first", "second")}
            scored = {side: {**image, "score": image["scores"][scorer["label"]]} for side, image in images.items()}
            equal.append({"prompt": n, **scored})
    return {"": equal[:_PAIRS]}


def read_pictures(result: Mapping[str, Any], roots: Mapping[str, Path]) -> Pictures:
    """Read what is shown, once; `roots` are the folders of the images, `first` and `second`.

    Raises:
        InputError: an image is not the one that was scored any more.
    """
    hashes = {
        (side, image["image"]): image["sha256"] for row in result["prompts"] for side in roots for image in row[side]
    }
    cases = itertools.chain(*(own for scorer in result["scorers"] for own in shown_pairs(result, scorer).values()))
    pictures = {}
    for side, name in dict.fromkeys((side, case[side]["image"]) for case in cases for side in roots):
        encoded = Encoded.read(roots[side] / name)
        if encoded.sha256 != hashes[side, name]:
            raise InputError(encoded.place, "was changed after it was scored", cure="run the same command again")
        pictures[side, name] = open_image(encoded)
        pictures[side, name].thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    return pictures


def compare_page(result: Mapping[str, Any], pictures: Pictures) -> str:
    """Make the page of what `compare.json` holds."""
    names = [result[side]["name"] for side in ("first", "second")]
    colours = colours_of(names)
    shades = [colours[name] for name in names]
    return page(
        "hpskit.benchmark",
        "compare.html",
        result=result,
        colours=colours,
        thumbnails={key: thumbnail(picture) for key, picture in pictures.items()},
        axes={scorer["label"]: effect_axis(scorer) for scorer in result["scorers"]},
        histograms={scorer["label"]: histogram(scorer, shades) for scorer in result["scorers"]},
        effect=effect,
    )


def effect_axis(scorer: Mapping[str, Any]) -> Axis:
    """Make an axis for the differences, overall and of each category; 0 is on it."""
    found = [scorer["difference"], *(row["difference"] for row in scorer["categories"] if row["difference"])]
    return axis_for([0.0, *(difference[name] for difference in found for name in ("value", "low", "high"))], steps=4)


def effect(axis: Axis, name: str, row: Mapping[str, Any], digits: int, shades: Sequence[str]) -> Markup:
    """Draw a difference with its interval, in the colour of the better side."""
    title = f"{name}: {signed(row['value'], digits)} ({between(row['low'], row['high'], digits, sign=True)})"
    colour = shades[row["value"] > 0]
    return interval(axis, row["value"], row["low"], row["high"], colour=colour, title=title)


def histogram(scorer: Mapping[str, Any], shades: Sequence[str]) -> Markup:
    """Draw how the differences of the prompts are spread, and their mean."""
    edges, counts = scorer["histogram"]["edges"], scorer["histogram"]["counts"]
    mean, low, high = (scorer["difference"][key] for key in ("value", "low", "high"))
    frame = Frame(
        x=axis_for([edges[0], edges[-1], 0.0], steps=6, title="difference, points"),
        y=count_axis(max(counts, default=0), steps=4, title="prompts"),
        height=178,
        rule=(mean, f"mean {signed(mean, decimals(low, high))}"),
    )
    bars = []
    for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
        title, colour = f"{signed(low)} to {signed(high)}: {count:,} prompts", shades[low + high > 0]
        bars += [Bar(low=low, high=high, value=count, colour=colour, title=title)] if count else []
    return bar_chart("Histogram of the differences over prompts", frame, bars)


def compare_paper(result: Mapping[str, Any]) -> Paper:
    """Make what papers take of `compare.json`: the difference by each scorer, of all prompts and of each category."""
    names = (result["first"]["name"], result["second"]["name"])
    tables, panels = [], []
    data: list[list[Cell]] = []
    for scorer in result["scorers"]:
        own = scorer["difference"]
        digits = decimals(own["low"], own["high"])
        scopes = [{"name": "all", "difference": own, "holm_p": own["permutation_p"]}, *scorer["categories"]]
        rows: list[list[Cell]] = []
        dots = []
        for scope in (scope for scope in scopes if scope["difference"]):
            d = scope["difference"]
            wins = Estimate(value=d["win_rate"], low=d["win_low"], high=d["win_high"])
            difference = estimate(d, bold=decided(d, scope["holm_p"]))
            rest = (scope["holm_p"], d["sign_p"], d["detectable"])
            figures: list[Cell] = [str(d["prompts"]), difference, wins]
            rows.append([scope["name"], *figures, p_figure(rest[0]), p_figure(rest[1]), Estimate(value=rest[2])])
            data.append([scorer["label"], scope["name"], *figures, *(Estimate(value=one) for one in rest)])
            colour = colours_of(names)[names[d["value"] > 0]]
            dots.append(Dot(name=scope["name"], value=d["value"], low=d["low"], high=d["high"], colour=colour))
        columns = [
            *(Column(key=key, title=key) for key in ("category", "prompts")),
            Column(key="difference", title="difference", digits=digits, sign=True),
            Column(key="wins", title="wins, %", digits=0, percent=True),
            *(Column(key=key, title=key) for key in ("p", "sign p")),
            Column(key="detectable", title="can detect", digits=digits, ends=False),
        ]
        by = f"by {scorer['label']} ({scorer['info']['identity']})"
        caption = f"{names[1]} less {names[0]} on {result['suite']['name']}, {by}."
        notes = ["Bold: decided. p: permutation test"]
        notes[0] += "; of categories corrected for their number (Holm)." if scorer["categories"] else "."
        notes.append("Wins: prompts on which the first-named scores higher. Can detect: with 80 % power.")
        tables.append(
            Table(label=f"compare-{scorer['label']}", caption=caption, columns=columns, rows=rows, notes=notes)
        )
        axis = effect_axis(scorer)
        panels.append(dot_chart(scorer["label"], replace(axis, title=f"{names[1]} less {names[0]}, points"), dots))
    figures_of = [("difference", True), ("wins", True), ("p", False), ("sign_p", False), ("detectable", False)]
    keys = [Column(key=key) for key in ("scorer", "category", "prompts")]
    keys += [Column(key=key, digits=6, ends=ends) for key, ends in figures_of]
    return Paper(title=result["verdict"], result=result, tables=tables, columns=keys, rows=data, charts=panels)


# The picture

_WIDTH, _HEIGHT, _MARGIN, _GAP = 1920, 1080, 48, 36
_PAPER, _INK, _SOFT, _EMPTY = "#ffffff", "#1b1c1e", "#5a5e66", "#f4f5f7"
_COLOURS = ("#0a5fa5", "#b24a00", "#00775a", "#93326d", "#6d6000", "#4b4fb3")  # c0 to c5 of colours.css
_PAIRS = 3
"""Pairs in a row."""
_PAIR = (_WIDTH - 2 * _MARGIN - (_PAIRS - 1) * _GAP) // _PAIRS
_SIDE = (_PAIR - 8) // 2
_LONGEST, _SHORTEST = 400, 4
"""Characters of a text that are looked at, and of a line that is drawn whatever its width."""
_SCORE = 84
"""Pixels that are kept for a score."""


def compare_sheet(result: Mapping[str, Any], pictures: Pictures) -> Image.Image:
    """Draw the pairs that differ most by the first scorer as one picture; if none differs, the first prompts.

    Returns:
        RGB, 1920 x 1080. The font is DejaVu Sans or Arial where there is one, else Pillow's own, which has no accents.
    """
    scorer, names = result["scorers"][0], {side: result[side]["name"] for side in ("first", "second")}
    shades = colours_of(names.values())
    sheet = Image.new("RGB", (_WIDTH, _HEIGHT), _PAPER)
    draw, whole = ImageDraw.Draw(sheet), _WIDTH - 2 * _MARGIN
    text(draw, (_MARGIN, 28), f"{result['verdict']} ({scorer['label']})", 34, _INK, width=whole, lines=2)
    for place, (better, cases) in enumerate(shown_pairs(result, scorer).items()):
        heading = f"Where {names[better]} wins most" if better else "Every prompt has the same score in both"
        top = 128 + 476 * place
        draw.line((_MARGIN, top, _WIDTH - _MARGIN, top), fill="#d5d8dd", width=2)
        text(draw, (_MARGIN, top + 12), heading, 26, _SOFT, width=whole, lines=1)
        for column, case in enumerate(cases[:_PAIRS]):
            left, upper = _MARGIN + column * (_PAIR + _GAP), top + 54
            below = upper + _SIDE + 6
            for half, (side, colour) in enumerate(
                (side, _COLOURS[int(shades[names[side]][1])]) for side in ("first", "second")
            ):
                image, x = pictures[side, case[side]["image"]], left + half * (_SIDE + 8)
                draw.rectangle((x, upper, x + _SIDE - 1, upper + _SIDE - 1), fill=_EMPTY)
                sheet.paste(image, (x + (_SIDE - image.width) // 2, upper + (_SIDE - image.height) // 2))
                text(draw, (x, below), number(case[side]["score"]), 22, _INK, width=_SCORE, lines=1)
                text(draw, (x + _SCORE, below), names[side], 22, colour, width=_SIDE - _SCORE, lines=1)
            prompt = result["prompts"][case["prompt"]]["prompt"]
            text(draw, (left, below + 32), prompt, 22, _SOFT, width=_PAIR, lines=2)
    return sheet


@functools.cache
def font_of(size: int) -> tuple[ImageFont.FreeTypeFont | ImageFont.ImageFont, bool]:
    """Find a font; the second part is False if it has plain letters only."""
    for name in ("DejaVuSans.ttf", "Arial.ttf", "arial.ttf"):
        with contextlib.suppress(OSError):  # no such font here
            return ImageFont.truetype(name, size), True
    return ImageFont.load_default(size), False


def text(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], words: str, size: int, colour: str, *, width: int, lines: int
) -> None:
    """Draw text, broken at words, and cut with an ellipsis where it does not fit."""
    font, whole = font_of(size)
    if not whole:
        plain = unicodedata.normalize("NFKD", words).replace("\N{MINUS SIGN}", "-")
        words = plain.encode("ascii", "ignore").decode()
    words = " ".join(words.split())[:_LONGEST]
    for characters in range(max(len(words), _SHORTEST), _SHORTEST - 1, -1):
        broken = textwrap.wrap(words, characters, max_lines=lines, placeholder=" ...")
        if all(draw.textlength(line, font) <= width for line in broken):
            break
    draw.multiline_text(place, "\n".join(broken), font=font, fill=colour, spacing=6)
