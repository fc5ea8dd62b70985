"""A prompt under change, each change with its place in the raw text; and its repair, whatever it says."""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Literal, TypeAlias

from hpskit.schema import Strict

Kind: TypeAlias = Literal["repair", "syntax", "booster", "llm"]
"""Class of a change: of the text alone, of a user interface's syntax, of words for a generator, or a model's answer."""


class Change(Strict):
    """One edit, by what it did to the raw text."""

    rule: str
    """Name of the rule, such as `artists`."""
    kind: Kind
    start: int
    """First character in the raw text that went."""
    end: int
    """Character after the last one."""
    text: str
    """The raw text there."""
    put: str
    """What stands there now; often empty."""


class Draft:
    """A text under change that knows where in the raw text each of its characters comes from."""

    def __init__(self, raw: str) -> None:
        self.raw = raw
        self.text = raw
        self.changes: list[Change] = []
        self._from = list(range(len(raw)))
        self._to = list(range(1, len(raw) + 1))

    def lost(self, after: int | None, before: int | None) -> bool:
        """Say whether words of the raw text went between two characters; None is the start or the end."""
        return bool(re.search(r"\w", self.gone(after, before)))

    def gone(self, after: int | None, before: int | None) -> str:
        """Return the raw text between two characters; None is the start or the end."""
        start = 0 if after is None else self._to[after]
        return self.raw[start : None if before is None else self._from[before]]

    def replace(self, start: int, end: int, put: str, rule: str, kind: Kind) -> None:
        """Put a text in the place of the characters from `start` to `end`, which are at least one."""
        first, last = self._from[start], max(self._to[start:end])
        found = self.raw[first:last]
        self.changes.append(Change(rule=rule, kind=kind, start=first, end=last, text=found, put=put))
        self.text = self.text[:start] + put + self.text[end:]
        self._from[start:end] = [first] * len(put)
        self._to[start:end] = [last] * len(put)

    def sub(self, pattern: re.Pattern[str], put: str | Callable[[re.Match[str]], str], rule: str, kind: Kind) -> None:
        """Replace every match, from the last to the first, that this changes."""
        for match in reversed(list(pattern.finditer(self.text))):
            new = match.expand(put) if isinstance(put, str) else put(match)
            if new != match[0]:
                self.replace(match.start(), match.end(), new, rule, kind)


@cache
def words() -> dict[str, dict[str, list[str]]]:
    """Read the words of the rules."""
    return tomllib.loads((files("hpskit.prompts") / "words.toml").read_text(encoding="utf-8"))


_INVISIBLE = re.compile("[\u00ad\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\ufff9-\ufffb]+")
"""No joiners: emoji and several scripts need them."""
_SPLIT_DIGITS = re.compile(r"(?<![\w.])\d(?: \d)+(?![\w.]| d\b)")
"""The last digit of `2 0 2 2 3 d` belongs to the `d`."""
_SPLIT_UNIT = re.compile(r"(?<![\w.])(?:2 k \d\d|(?:y )?\d+ (?:k|d|mm|st|nd|rd|th|s|p))(?![\w'])", re.IGNORECASE)
_SPLIT_WORDS = re.compile(r"(?<=\w) - (?=\w)")
_SPLIT_APOSTROPHE = re.compile(r"(?<=\w) ' (?=(?:s|t|re|ll|ve|d|m)\b)")
_BEFORE_MARK = re.compile(r"\s+(?=,|[;.!?]\"?(?:\s|$))")
_AFTER_MARK = re.compile(r"(?<=[\w)]),(?=[^\W\d_])|(?<=[^\W\d_]),(?=\d)|\s*\uff0c\s*")
_MARKS = re.compile(
    r"([,;])(?:\s*[,;])+|[,;]\s*(?=[.!?](?:\s|$))|(?<=[.!?]) ?[,;](?=\s|$)|,(?=\"\.)|\A(?:[\s,;]|\.(?!\w))+|[\s,;]+\Z"
)
_BLANKS = re.compile(r"[^\S ]\s*|\s{2,}")


def repair(draft: Draft) -> None:
    """Mend the text, whatever it says."""
    if fixed := mended(draft.text):
        draft.replace(0, len(draft.text), fixed, "mojibake", "repair")
    draft.sub(_INVISIBLE, "", "invisible", "repair")
    draft.sub(_BLANKS, " ", "blanks", "repair")
    draft.sub(_SPLIT_DIGITS, joined_digits, "digits", "repair")
    draft.sub(_SPLIT_UNIT, lambda match: match[0].replace(" ", ""), "digits", "repair")
    draft.sub(_SPLIT_APOSTROPHE, "'", "apostrophe", "repair")
    draft.sub(_SPLIT_WORDS, hyphen_of(draft.text), "hyphen", "repair")
    tidy(draft, "repair")


def tidy(draft: Draft, kind: Kind) -> None:
    """Put right blanks and marks between words."""
    draft.sub(_BLANKS, " ", "blanks", kind)
    draft.sub(_BEFORE_MARK, "", "marks", kind)
    draft.sub(_AFTER_MARK, ", ", "marks", kind)
    draft.sub(_MARKS, lambda match: match[1] or "", "marks", kind)


def mended(text: str) -> str:
    """Return the text without mojibake and HTML entities, as `ftfy` has it; empty if nothing was wrong."""
    import ftfy

    fixed = ftfy.fix_text(text, uncurl_quotes=False, fix_latin_ligatures=False, fix_character_width=False)
    return fixed if fixed != text else ""


def joined_digits(match: re.Match[str]) -> str:
    """Join `1 9 5 0`; people who count write `1 2 3`."""
    digits = match[0].split(" ")
    counted = all(int(after) - int(digit) == 1 for digit, after in itertools.pairwise(digits))
    return match[0] if counted and len(digits) > 2 else "".join(digits)


def hyphen_of(text: str) -> Callable[[re.Match[str]], str]:
    """Say for each ` - ` whether it was a hyphen: beside a known part, or in a text that a tokeniser took apart.

    Such a text is in small letters throughout and has no other hyphen; a dash before an article stays even there.
    """
    first, second = (frozenset(words()["words"][name]) for name in ("before_hyphen", "after_hyphen"))
    split = text == text.lower() and not re.search(r"\w-\w", text)

    def put(match: re.Match[str]) -> str:
        before = re.findall(r"\w+$", text[: match.start()])[0]
        after = re.findall(r"^\w+", text[match.end() :])[0]
        if before.lower() in first or after.lower() in second:
            return "-"
        return "-" if split and after not in ("a", "an", "by", "with", "and", "of") and not after.isdigit() else " - "

    return put
