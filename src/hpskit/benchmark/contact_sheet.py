"""Pairs of images on one sheet, for slides: a picture of 1920 x 1080 pixels."""

from __future__ import annotations

import contextlib
import functools
import textwrap
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

__all__ = ["Row", "Shown", "contact_sheet"]

_WIDTH, _HEIGHT, _MARGIN, _GAP = 1920, 1080, 48, 36
_PAPER, _INK, _SOFT, _EMPTY = "#ffffff", "#1b1c1e", "#5a5e66", "#f4f5f7"
_FIRST, _SECOND = "#0a5fa5", "#b24a00"  # as the pages colour the two
_FONTS = ("DejaVuSans.ttf", "Arial.ttf", "arial.ttf")
_PAIRS = 3
"""Pairs in a row."""
_PAIR = (_WIDTH - 2 * _MARGIN - (_PAIRS - 1) * _GAP) // _PAIRS
_SIDE = (_PAIR - 8) // 2
_LONGEST, _SHORTEST = 400, 4
"""Characters of a text that are looked at, and of a line that is drawn whatever its width."""
_SCORE = 84
"""Pixels that are kept for a score."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """The two images of one prompt, and their scores as they stand below them."""

    prompt: str
    first: Image.Image
    second: Image.Image
    first_score: str
    second_score: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """Up to three pairs that belong together."""

    title: str
    pairs: Sequence[Shown]


def contact_sheet(title: str, names: tuple[str, str], rows: Sequence[Row]) -> Image.Image:
    """Draw one or two rows of pairs.

    Args:
        title: what the sheet shows, in a sentence of at most two lines.
        names: of the first and of the second side; one that is too long is cut.
        rows: from top to bottom; pairs beyond the third of a row are left out.

    Returns:
        RGB, 1920 x 1080. The font is DejaVu Sans or Arial where there is one, else Pillow's own, which has no accents.
    """
    sheet = Image.new("RGB", (_WIDTH, _HEIGHT), _PAPER)
    draw, whole = ImageDraw.Draw(sheet), _WIDTH - 2 * _MARGIN
    _text(draw, (_MARGIN, 28), title, 34, _INK, width=whole, lines=2)
    for number, row in enumerate(rows):
        top = 128 + 476 * number
        draw.line((_MARGIN, top, _WIDTH - _MARGIN, top), fill="#d5d8dd", width=2)
        _text(draw, (_MARGIN, top + 12), row.title, 26, _SOFT, width=whole, lines=1)
        for column, pair in enumerate(row.pairs[:_PAIRS]):
            left, upper = _MARGIN + column * (_PAIR + _GAP), top + 54
            below = upper + _SIDE + 6
            sides = ((pair.first, pair.first_score, _FIRST), (pair.second, pair.second_score, _SECOND))
            for half, (image, score, colour) in enumerate(sides):
                x = left + half * (_SIDE + 8)
                draw.rectangle((x, upper, x + _SIDE - 1, upper + _SIDE - 1), fill=_EMPTY)
                small = image.convert("RGB")
                small.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
                sheet.paste(small, (x + (_SIDE - small.width) // 2, upper + (_SIDE - small.height) // 2))
                _text(draw, (x, below), score, 22, _INK, width=_SCORE, lines=1)
                _text(draw, (x + _SCORE, below), names[half], 22, colour, width=_SIDE - _SCORE, lines=1)
            _text(draw, (left, below + 32), pair.prompt, 22, _SOFT, width=_PAIR, lines=2)
    return sheet


@functools.cache
def _font(size: int) -> tuple[ImageFont.FreeTypeFont | ImageFont.ImageFont, bool]:
    """Find a font; the second part is False if it has plain letters only."""
    for name in _FONTS:
        with contextlib.suppress(OSError):  # no such font here
            return ImageFont.truetype(name, size), True
    return ImageFont.load_default(size), False


def _text(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, size: int, colour: str, *, width: int, lines: int
) -> None:
    """Draw text, broken at words, and cut with an ellipsis where it does not fit."""
    font, whole = _font(size)
    words = " ".join(text.split())
    if not whole:
        plain = unicodedata.normalize("NFKD", words).replace("\N{MINUS SIGN}", "-")
        words = plain.encode("ascii", "ignore").decode()
    words = words[:_LONGEST]
    for characters in range(max(len(words), _SHORTEST), _SHORTEST - 1, -1):
        broken = textwrap.wrap(words, characters, max_lines=lines, placeholder=" ...")
        if all(draw.textlength(line, font) <= width for line in broken):
            break
    draw.multiline_text(place, "\n".join(broken), font=font, fill=colour, spacing=6)
