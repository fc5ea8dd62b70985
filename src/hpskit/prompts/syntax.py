"""The syntax of user interfaces, taken out of a prompt by a scanner that never raises, whatever the brackets do."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from hpskit.prompts.repair import Draft, tidy

_MANY = 3
"""Colons before a blank from which on they stand for commas."""
_LABEL = re.compile(r"\A\s*(?:positive )?prompts?\s*:\s*(?=\w)", re.IGNORECASE)
_TAG = re.compile(r"<(?:lora|lyco|hypernet|embedding|lora_?\w*)\s*:[^<>]*>", re.IGNORECASE)
_NEGATIVE = re.compile(r"[\s,.;]*\bnegative prompts?\s*:.*?(?=\bsteps\s*:\s*\d|\Z)", re.IGNORECASE | re.DOTALL)
_SETTINGS = re.compile(
    r"[\s,.;]*\bsteps\s*:\s*\d+\s*,.*?\b(?:sampler|cfg scale|seed|size)\s*:.*\Z"
    r"|(?:^|\s)-\s?(?:[whnscWHNSC])\s?\d+(?:\.\d+)?(?=\s|$)|(?:^|(?<=[\s,]))[hw] \d{3,4}(?=[\s,.]|$)",
    re.IGNORECASE | re.DOTALL,
)
_OPTIONS = (
    r"(?:ar|aspect|version|v|quality|q|stylize|s|chaos|c|seed|iw|niji|testp?|creative|hd|upbeta|uplight|width|w|height|h|"
    r"stop|video|style|wallpaper|beta|sameseed|repeat|tile)"
)
_OPTION = re.compile(
    r"(?:(?:^|[\s\[(])(?:--|\u2014|- - )\s?|[\u2013\u2014])"
    r"(?:no\b(?:(?!\s(?:--|\u2014)).)*"
    rf"|{_OPTIONS}\b(?:[\s:=]*\d[\d.]*(?:\s?[:x/,]\s?\d+)?(?![\w'])| raw\b|(?=\s*[\])]?(?:\s?[-\u2013\u2014]|\Z)))"
    r"[\])]?)",
    re.IGNORECASE | re.DOTALL,
)
"""Of `--no` all that follows goes, of the others their value."""
_PARTS = re.compile(r"(?:\s*: ?:+\s*(?:-?\d*\.?\d+(?=[\s,]|\Z))?)+[\s:]*")
_BARE_WEIGHT = re.compile(r"(?<=[a-z)]) ?: ?(?:\d?\.\d+,?(?=\s|$)|\d(?=\s*(?:,|$))|(?<=\s)\d(?=\s))", re.IGNORECASE)
_COLONS = re.compile(r"(?<=\w):(?= )")
_BREAK = re.compile(r"\s*\bBREAK\b\s*")
_BOTH = re.compile(r"\s+AND\s+(?::?\s*\d+(?:\.\d+)?\s+)?(?=\S)")
_PIPE = re.compile(r"\s*\|+[\s|]*")
_STRESS = re.compile(r"(?<=[a-z]{3})\++(?=[\s,.)]|$)|\*{2,}", re.IGNORECASE)
_SHOUT = re.compile(r"\s*!(?:\s*!)+(\s*)")
_GOES_ON = re.compile(r"\s*(?:an?|the|of|in|on|with|and|at|to|for|from|is|are)\b", re.IGNORECASE)
_ADJECTIVE = re.compile(r"(?:ful|ive|ous|ing|ty|ble|cute|huge|very)\Z", re.IGNORECASE)
_ESCAPED = re.compile(r"\\([()\[\]{}])")
_UNKNOWN = re.compile(r"__[\w/*-]+__|\$\{")
_NUMBER = re.compile(r"\s*-?\d*\.?\d+\s*")
_PREFIX = re.compile(r"\s*(?:\d+(?:\.\d+)?::|\d*(?:-\d+)?\$\$(?:[^|$]*\$\$)?)")
_CLOSING = {"(": ")", "[": "]", "{": "}"}


def syntax(draft: Draft) -> str:
    """Take out what only user interfaces read; return why a person should look at it, or an empty text."""
    draft.sub(_LABEL, "", "label", "syntax")
    for rule, gone in (("tag", _TAG), ("negative", _NEGATIVE), ("settings", _SETTINGS), ("option", _OPTION)):
        draft.sub(gone, " ", rule, "syntax")
    review = "holds a wildcard, whose words are not here" if _UNKNOWN.search(draft.text) else ""
    groups, unmatched = brackets(draft.text)
    while spans := unwrapped(draft.text, groups):
        for start, end, rule in reversed(spans):
            draft.replace(start, end, "", rule, "syntax")
        groups, _ = brackets(draft.text)
    draft.sub(_ESCAPED, r"\1", "escape", "syntax")
    draft.sub(_PARTS, ", ", "parts", "syntax")
    draft.sub(_BARE_WEIGHT, lambda match: "" if _GOES_ON.match(match.string, match.end()) else ",", "weight", "syntax")
    if len(_COLONS.findall(draft.text)) >= _MANY:
        draft.sub(_COLONS, ",", "colons", "syntax")
    draft.sub(_BREAK, ", ", "break", "syntax")
    if draft.text != draft.text.upper():
        draft.sub(_BOTH, " and ", "and", "syntax")
    draft.sub(_PIPE, ", ", "pipe", "syntax")
    draft.sub(_STRESS, "", "stress", "syntax")
    draft.sub(_SHOUT, after_shout, "stress", "syntax")
    tidy(draft, "syntax")
    return review or ("has brackets that do not match" if unmatched else "")


def after_shout(match: re.Match[str]) -> str:
    """Put a comma in the place of `!!`, or only a blank where the phrase goes on."""
    goes_on = _GOES_ON.match(match.string, match.end()) or _ADJECTIVE.search(match.string[: match.start()])
    return (" " if goes_on else ", ") if match[1] else ""


@dataclass(frozen=True, slots=True)
class Group:
    """A pair of brackets that match."""

    start: int
    end: int
    """Place of the closing one."""
    marks: tuple[int, ...]
    """Places of `|` and `:` inside, but in no inner pair."""


def brackets(text: str) -> tuple[list[Group], bool]:
    """Match brackets, inner ones first; say whether some are left over. A backslash takes a bracket its meaning."""
    found, opened, left = [], list[tuple[int, list[int]]](), False
    marks: list[int] = []
    skip = False
    for place, mark in enumerate(text):
        if skip or mark == "\\":
            skip = not skip
        elif mark in _CLOSING:
            opened.append((place, marks))
            marks = []
        elif mark in ")]}":
            if opened and _CLOSING[text[opened[-1][0]]] == mark:
                start, outer = opened.pop()
                found.append(Group(start, place, tuple(marks)))
                marks = outer
            else:
                left = left or text[place - 1 : place] not in (":", ";")  # no face
        elif mark in "|:":
            marks.append(place)
    return found, left or any(text[start - 1 : start] not in (":", ";") for start, _ in opened)


def unwrapped(text: str, groups: Sequence[Group]) -> list[tuple[int, int, str]]:
    """Say which characters go so that of each group the words stay that the picture shows: (start, end, rule)."""
    ends = {group.start: group.end for group in groups}
    gone: list[tuple[int, int, str]] = []
    for group in groups:
        start, end = group.start, group.end
        if text[start] == "(":
            weight = bool(group.marks) and _NUMBER.fullmatch(text, group.marks[-1] + 1, end)
            outer, after = len(text[:start].rstrip()) - 1, len(text) - len(text[end + 1 :].lstrip())
            inner, before = end - len(text[start + 1 : end].lstrip()), len(text[:end].rstrip()) - 1
            nested = ends.get(outer) == after and text[outer] == "("
            nests = ends.get(inner) == before and text[inner] == "("
            if weight:
                gone += [(start, start + 1, "weight"), (group.marks[-1], end + 1, "weight")]
            elif nested or nests or not text[start + 1 : end].strip():
                gone += [(start, start + 1, "weight"), (end, end + 1, "weight")]
        else:
            first, last, rule = chosen(text, group)
            gone += [(start, first, rule), (last, end + 1, rule)]
    return outermost(gone)


def chosen(text: str, group: Group) -> tuple[int, int, str]:
    """Pick what stays of `[…]` or `{…}`: its first and last character, and the name of the rule.

    Of alternatives the first that says something; of `[from:to:when]` what is there for the longer time.
    """
    start, end = group.start + 1, group.end
    bars = [place for place in group.marks if text[place] == "|"]
    if bars:
        edges = [start - 1, *bars, end]
        parts = [(before + 1, after) for before, after in itertools.pairwise(edges)]
        first, last = next(((a, b) for a, b in parts if text[a:b].strip()), parts[0])
        if prefix := _PREFIX.match(text, first, last):
            first = prefix.end()
        return first, last, "alternation"
    colons = [place for place in group.marks if text[place] == ":"]
    if text[group.start] == "[" and colons and _NUMBER.fullmatch(text, colons[-1] + 1, end):
        before = (start, colons[0])
        after = (colons[0] + 1, colons[-1]) if len(colons) > 1 else before
        late = 0.5 < float(text[colons[-1] + 1 : end]) < 1
        first, last = before if late or not text[slice(*after)].strip() else after
        return first, last, "schedule"
    return start, end, "weight"


def outermost(spans: Sequence[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Drop spans that lie within others, and empty ones."""
    kept: list[tuple[int, int, str]] = []
    for span in sorted(spans, key=lambda span: (span[0], -span[1])):
        if span[0] < span[1] and (not kept or span[1] > kept[-1][1]):
            kept.append(span if not kept or span[0] >= kept[-1][1] else (kept[-1][1], span[1], span[2]))
    return kept
