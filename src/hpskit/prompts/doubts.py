"""Signs that the rules did not finish a prompt, or took too much from it: a prompt with one goes to review."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from hpskit.prompts.boosters import MANY, misspelt, names, pattern, prose, segments, strange
from hpskit.prompts.repair import Draft

_TOKEN = re.compile(r"[^\W_][\w'\u2019-]*")
_TAIL, _HEAD = re.compile(r"\w[^,;.:|]*\Z"), re.compile(r"[^,;.:|]*\w")
"""Words that went from the phrase of the word after or before them."""
_LOOSE = re.compile(r"(?!\d{4}\Z)(?:\d{1,6}|[^\W\d_]|[\W\d_]*[!-/:-@\[-`{-~\u201c\u201d]+|:.*)")
"""A segment that says nothing: a number that is no year, a letter, marks."""
_NAME = re.compile(r"[^\W\d_][^\W\d_'.\u2019-]*(?:[ .'\u2019-]+[^\W\d_]+){0,3}\.?")
_WRITTEN = re.compile(r"\b(?:read|say|titled|text|words?|letters|written|named|called)(?:s|ing)?\W{0,3}\Z", re.I)
_BETWEEN = re.compile(r"[,;/+&|.:]|\b(?:and|x|by|or|of)\b", re.I)
_BY = re.compile(r"\W*(?:(?:\w+ )?by|(?:in )?(?:the )?styles? of)\b", re.I)
_NO_NAME = re.compile(
    r"(?:(?:as|in|the|an?|\w*art\w*|styles?|works?|\w+ed|made|drawn|\w+tion|painting|\w)\b\s*)*", re.I
)


def doubt(draft: Draft) -> str:
    """Say why a cleaned text should not be used unseen, as the first sign that is there; empty if none is."""
    if all(change.kind == "repair" for change in draft.changes):
        return ""
    signs = itertools.chain(left(draft.text), stack(draft), torn(draft), loose(draft), taken(draft))
    return next(signs, "")


def left(text: str) -> Iterator[str]:
    """Find words for a generator that the rules let stand, also misspelt ones."""
    if found := pattern("{left}").search(text) or pattern("{left_last}").search(text):
        yield f"still has {found[0].strip()!r}"
    for word in re.findall(r"[^\W\d_]{5,}", text.lower()):
        if meant := misspelt(word):
            yield f"still has {word!r}, which may be {meant!r}"


def stack(draft: Draft) -> Iterator[str]:
    """Find artists that are left of a stack, or are many in several phrases."""
    text, place, count, ends = draft.text, 0, 0, [0]
    gone = any(change.rule == "artists" for change in draft.changes)
    while lead := pattern(r"(?P<by>{lead})\s+(?=\w)|{artists}(?![\w'-])").search(text, place):
        end, some = names(text, lead.end() if lead["by"] else lead.start(), bool(lead["by"]))
        some = some or int(bool(lead["by"]) and not pattern("{in_no_name}").match(text, lead.end()))
        count, place = count + some, max(end, lead.end())
        ends += range(lead.start(), place)
    count += sum(like_name(text[start:end]) for start, end in segments(text)[1:] if start not in ends)
    count += bool(pattern("{given}(?:[. ]+{given}){2}").search(text))
    if count >= (1 if gone else MANY):
        yield "artists are left" if gone else "names many artists"


def like_name(part: str) -> bool:
    """Say whether a segment looks like a name: up to four words, a given name or one in no dictionary among them."""
    part = part.strip("\"' ")
    if pattern("{studios}").fullmatch(part):
        return True
    if not _NAME.fullmatch(part) or pattern("{artists}").search(part) or " " not in part:
        return False
    first, *others = re.findall(r"[^\W\d_]+", part)
    if any(pattern("{in_no_name}").fullmatch(word) for word in others if len(word) > 1):
        return False
    titled = part != part.lower() and all(word[0].isupper() for word in (first, *others)) and len(others) < 3
    rare = [strange(word) for word in (first, *others)]
    return bool(pattern("{given}").fullmatch(first)) or all(rare) or (titled and any(rare))


def torn(draft: Draft) -> Iterator[str]:
    """Find phrases that lost words and are none any more."""
    for phrase, before, gaps, after in phrases(draft):
        first, last = phrase[0], phrase[-1]
        lost = before and (_TAIL.search(before) or _HEAD.match(after))
        said = [word for word in phrase if not pattern("{generic}").fullmatch(word)]
        if lost and (not said or (len(phrase) == 1 and not pattern("{may_stand}").fullmatch(first))):
            yield f"{' '.join(phrase)!r} hangs"
        if (len(phrase) == 1 or not after.strip() or re.search(r"\w", after)) and pattern("{leads_on}").fullmatch(last):
            yield f"{last!r} leads to nothing"
        if re.search(r"\w", before) and pattern("{goes_on}").fullmatch(first) and not prose(draft.text):
            yield f"{first!r} follows nothing"
        for number, gap in enumerate(gaps, 1):
            if re.search(r"\w", gap) and unjoined(phrase[:number], gap, phrase[number]):
                yield f"'{phrase[number - 1]} … {phrase[number]}' is torn"


def unjoined(before: list[str], gap: str, word: str) -> bool:
    """Say whether words do not go on with a word where others went between them."""
    small, led = pattern("{small}").fullmatch(word), pattern("{small}").match(gap.lstrip())
    if word.lower() == "and" and _BY.match(gap):
        return True
    if pattern("{very}").fullmatch(before[-1]):
        return True
    if before[-1].lower() == "and" and len(before) > 1:
        return bool(pattern("{adjective}").fullmatch(before[-2]))
    return bool(small and pattern("{leads_on}").fullmatch(before[-1])) if small else bool(led)


def phrases(draft: Draft) -> Iterator[tuple[list[str], str, list[str], str]]:
    """List the words of each phrase, with the raw text before, between and after them."""
    tokens = [*_TOKEN.finditer(draft.text)]
    sides: list[re.Match[str] | None] = [None, *tokens, None]
    gaps = [
        draft.gone(one.end() - 1 if one else None, other.start() if other else None)
        for one, other in itertools.pairwise(sides)
    ]
    for start, end in segments(draft.text):
        inside = [number for number, token in enumerate(tokens) if start <= token.start() < end]
        if inside:
            first, last = inside[0], inside[-1]
            yield [tokens[n][0] for n in inside], gaps[first], gaps[first + 1 : last + 1], gaps[last + 1]


def loose(draft: Draft) -> Iterator[str]:
    """Find what says nothing alone, and quotes or brackets that had a partner."""
    for start, end in segments(draft.text):
        if _LOOSE.fullmatch(part := draft.text[start:end].strip()):
            yield f"{part!r} hangs"
    for one, other in ("()", "[]", "\u201c\u201d"):
        now, then = (text.count(one) == text.count(other) for text in (draft.text, draft.raw))
        if then and not now:
            yield f"{one} or {other} has no partner"


def taken(draft: Draft) -> Iterator[str]:
    """Find words that went although they may be seen: what is written in the picture, or names of no artist."""
    for change in draft.changes:
        if change.kind == "booster" and _WRITTEN.search(draft.raw, 0, change.start):
            yield f"takes out {change.text.strip(' ,')!r}, which may be written there"
        names_gone = pattern("{lead}").sub(",", change.text) if change.rule == "artists" else ""
        for name in map(str.strip, _BETWEEN.split(names_gone)):
            parts = re.findall(r"[^\W\d_]+", "" if _NO_NAME.fullmatch(name) else name)
            known = pattern("{artists}").search(name) or (parts and pattern("{given}").fullmatch(parts[0]))
            lower = (
                name == name.lower() and change.text != change.text.lower() and not pattern("{artists}").search(name)
            )
            if (
                pattern("{worlds}").fullmatch(name)
                or (parts and lower)
                or (parts and not known and not any(map(strange, parts)))
            ):
                yield f"takes {name!r} for an artist"
