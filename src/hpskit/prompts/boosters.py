"""Words that a generator reads and nobody sees, taken out of a prompt: quality, sites, cameras, stacks of artists …"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Sequence
from functools import cache

from hpskit.prompts.repair import Draft, tidy, words

_BETWEEN = re.compile(
    r"\s*(?:[,;/+&|]|\band\b|\bx\b|\bmeets\b|\bmixed with\b|\bor\b)[\s,]*(?:(?:and|or|&)\s+)?"
    r"(?:(?:art |style )?(?:by|of)\s+)?(?:the (?=\w+\s*(?:[,;.]|\Z)))?|\s+",
    re.IGNORECASE,
)
_NAME = re.compile(r"[^\W\d_][\w'.\u2019-]*(?: (?:[^\W\d_]\. ?)*[^\W\d_][\w'.\u2019-]*){0,3}")
_ARTICLE = re.compile(r"\b(an?) (?=(\w+))", re.IGNORECASE)
_STOPS = re.compile(
    r"\s*(?:[,;]|(?<!\b[a-z])(?<!\bst)(?<!\bdr)(?<!\bmr)(?<!\bmrs)(?<!\bvs)\.(?=\s|$)|\s[+/:-]\s)\s*", re.IGNORECASE
)
_OWN_NOUN = re.compile(
    r"\b(?:in|with) an? [\w-]+,\s[\w -]*(?:style|image|design|artwork|piece|manner)\Z", re.IGNORECASE
)
"""An adjective and what it belongs to: `in an elegant, intricate style`."""
_GOES_ON = re.compile(r"(?:on|in|at|under|beside|with|of|for)\b", re.IGNORECASE)
_SAYS = re.compile(r"\b(?:features|shows|depicts|is)\s+\Z")
_STYLE = re.compile(r"[ -](?:styles?|inspired|portrait|painting|artwork)\b", re.IGNORECASE)
_BELONGS = re.compile(r"\b(?:of|like|as|from|than|to|the|an?|in|her|his)\s+\Z", re.IGNORECASE)
_LAST_WORD = re.compile(r"(?<![\w'-])([^\W\d_]+) \Z")
_NAME_BEFORE = re.compile(r"[,;] ((?:[^\W\d_]+ ){1,2}[^\W\d_]+), (?:and )?\Z")
_NEW_PHRASE = re.compile(
    r"\s+(?!(?:and|in|on|at|of|as|to|is|with|for|from|over|under|by|who|that|styles?)\b|\w+(?:ing|ed)\b)\w",
    re.IGNORECASE,
)
_EMPTY = re.compile(r"\(\s*\)|\[\s*\]|,\s*[!*+~=#^&-]+(?=\s*(?:,|\Z))|\s:+(?=\s*(?:,|\Z|\s:))|!(?=!)")
"""What is left of brackets and signs around words that went."""
_CLOSE = 0.85
"""Share of letters, as `difflib` counts, from which a word in no dictionary is a booster misspelt."""
MANY = 3
"""Artists from which on their names are a spell rather than a style."""


@cache
def any_of(name: str) -> str:
    """Return the expression for one entry of a list of words, or of a piece."""
    table = words()
    entries = table["pieces"].get(name) or sorted(table["words"][name], key=len, reverse=True)
    return filled("(?:" + "|".join(entries) + ")")


def filled(text: str) -> str:
    """Put lists and pieces in the place of their names in braces."""
    return re.sub(r"\{([a-z_]+)\}", lambda match: any_of(match[1]), text)


@cache
def pattern(text: str) -> re.Pattern[str]:
    """Compile an expression that names lists in braces; it begins and ends at the edge of a word."""
    return re.compile(rf"(?:(?<![\w'-])|(?=[, ]))(?:{filled(text)})(?:(?<=[\s-])|(?![\w'-]))", re.IGNORECASE)


_BOOSTER = "{quality}|{resolution}|{sites}|{renderers}|{cameras}|{settings}"
_ALONE = rf"(?:(?:{_BOOSTER}|{{fill}})(?![\w'])[\s!&+/.:-]*)+"
_MEDIUM = "(?:an? |the |in |as (?:an? )?)?(?:(?:beautiful|clear|nice|exquisite|majestic) )?{media}(?: style)?"
_LEADS = r"(?P<by>{lead})\s+(?=\w)|{artists}(?![\w'-])|(?<=[,;] )(?P<given>{given})[ -](?=[^\W\d_])"


def boosters(draft: Draft) -> None:
    """Take out what a generator reads and nobody sees, until nothing more is found."""
    before = ""
    while before != draft.text:
        before = draft.text
        boosters_once(draft)


def boosters_once(draft: Draft) -> None:
    """Apply each rule once."""
    drop(draft, alone(draft.text), "alone")
    for rule, entries in words()["rules"].items():
        draft.sub(pattern("|".join(entries)), lambda match: match.groupdict().get("keep") or "", rule, "booster")
    draft.sub(_EMPTY, "", "marks", "booster")
    loose_ends(draft)
    tidy(draft, "booster")
    artists(draft)
    drop(draft, alone(draft.text), "alone")
    drop(draft, contradicting(draft.text), "medium")
    drop(draft, repeated(draft.text), "repeat")
    articles(draft)
    loose_ends(draft)
    tidy(draft, "booster")


_AT_END = re.compile(
    r"(?:(?:\A|[\s,;]+)(?:and|by|in|with|of|on|at|as|is|the|an?|from|featuring|including|"
    r"in the style(?: of)?|&|\+|-|/))+(?=\s*(?:[,;.!?]|\Z))",
    re.IGNORECASE,
)
_ADJECTIVE_AND = re.compile(r"\b(an? [\w-]+) and (?=[^\W\d_])", re.IGNORECASE)
"""What is left of `a sharp and detailed portrait`."""
_AT_START = re.compile(r"\A(?:(?:and|&|\+|-|/|by)\s+)+", re.IGNORECASE)


def segments(text: str) -> list[tuple[int, int]]:
    """Split at commas, ends of sentences and loose signs: (start, end) of what is not empty."""
    edges = [(0, 0), *((match.start(), match.end()) for match in _STOPS.finditer(text)), (len(text), len(text))]
    return [(end, start) for (_, end), (start, _) in itertools.pairwise(edges) if end < start]


def drop(draft: Draft, parts: Sequence[tuple[int, int]], rule: str) -> None:
    """Take out segments, each with the mark that parts it from its neighbour."""
    every = segments(draft.text)
    kept = [part for part in every if part not in parts]
    for part in reversed(parts):
        after = [other for other in every if other[0] > part[0]]
        before = [other for other in kept if other[0] < part[0]]
        if any(other in kept for other in after) or not before:
            start, end = part[0], after[0][0] if after else part[1]
        else:  # nothing that stays follows: the mark before goes along
            start, end = max(before[-1][1], every[every.index(part) - 1][1]), part[1]
        draft.replace(start, end, "", rule, "booster")


def alone(text: str) -> list[tuple[int, int]]:
    """Find segments in which nothing could be seen in a picture."""
    parts = segments(text)
    found = [part for part in parts if only_boosters(text[slice(*part)]) and not _OWN_NOUN.search(text[: part[1]])]
    if found and found[0] == parts[0] and len(parts) > 1 and _GOES_ON.match(text, parts[1][0]):
        return found[1:]  # what the first one names is the subject
    return found


def only_boosters(segment: str) -> bool:
    """Say whether a segment is made of boosters and small words; `a smooth` or `and smooth` belongs to what follows."""
    segment = segment.strip("()[]{}\"'#\u201c\u201d ")
    if len(segment) > 120 or re.search(r"\ban? (?!.*masterpiece)|^the |^and [\w-]+\Z", segment, re.IGNORECASE):
        return False
    return any(
        pattern(_ALONE).fullmatch(form) and pattern(_BOOSTER).search(form)
        for form in (
            segment,
            segment.replace("-", " "),
            re.sub(r"\w{5,}", lambda word: misspelt(word[0]) or word[0], segment),
        )
    )


def misspelt(word: str) -> str:
    """Return the booster that a word in no dictionary is meant to be; empty if none is near."""
    known = words()["words"]["often_misspelt"]
    near = difflib.get_close_matches(word.lower(), known, 1, _CLOSE) if strange(word) else []
    return near[0] if near and near[0] != word.lower() else ""


def artists(draft: Draft) -> None:
    """Take out a stack of artists, wherever its names stand; one or two are a style, and stay."""
    runs, place = list[tuple[int, int, int]](), 0
    sentence = prose(draft.text)
    while lead := pattern(_LEADS).search(draft.text, place):
        end, count = names(draft.text, lead.end() if lead["by"] else lead.start(), bool(lead["by"]))
        start, count = beginning(draft.text, lead, end, count)
        if lead["given"] and count < 2 and not runs:
            count = 0  # it may be the subject
        sides = edges(draft.text, start, end)
        of_phrase = sentence or (count < MANY and _STYLE.match(draft.text, end))
        if not lead["by"] and _BELONGS.search(draft.text[:start]):
            count = 0
        if count and (lead["by"] or all(sides) or (any(sides) and not of_phrase)):
            runs.append((start, end, count))
        place = max(end, lead.end())
    if sentence:
        runs = [run for run in runs if run[2] >= MANY and not _SAYS.search(draft.text[: run[0]])]
    if sum(count for _, _, count in runs) >= MANY:
        for start, end, _ in reversed(runs):
            glued = not sentence and re.search(r"\w ?\Z", draft.text[:start]) and _NEW_PHRASE.match(draft.text, end)
            draft.replace(start, end, ", " if glued else "", "artists", "booster")
        tidy(draft, "booster")


def beginning(text: str, lead: re.Match[str], end: int, count: int) -> tuple[int, int]:
    """Say where a run of names begins, with what is left of the first name, and how many they are."""
    start = lead.start()
    if lead["by"]:  # a noun may belong to what is before it
        return lead.end("noun") if lead["noun"] and not edges(text, start, end)[0] else start, count
    first = _LAST_WORD.search(text, 0, start) if " " not in lead[0] else None
    if first and (strange(first[1]) or pattern("{given}").fullmatch(first[1])):
        if count < 2 and not edges(text, first.start(1), end)[0]:
            return start, 0  # the first name belongs to the phrase
        start = first.start(1)
    return strangers_before(text, start, count) if count > 1 else (start, count)


def strangers_before(text: str, start: int, count: int) -> tuple[int, int]:
    """Go back over the names before a stack, of words in no dictionary, but for what stands first in the text."""
    while found := _NAME_BEFORE.search(text, 0, start):
        if not all(map(strange, found[1].split())):
            break
        start, count = found.start(1), count + 1
    return start, count


def edges(text: str, start: int, end: int) -> tuple[bool, bool]:
    """Say on which sides a part of the text is parted from the rest by a comma, but for an "and" before it."""
    before = re.search(r"(?:\A|[,;.|]\s*(?:and\s+|&\s*)?)\Z", text[:start])
    return bool(before), bool(re.match(r"\s*(?:\Z|[,;.|])", text[end:]))


def names(text: str, start: int, led: bool) -> tuple[int, int]:
    """Follow a list of names from `start`: the place after the last one, and how many they are.

    A name is a known artist or, in a list that begins with "by", up to four words of which one is in no dictionary.
    """
    end, count, place, joined, spaced = start, 0, start, False, False
    while place < len(text):
        known, stranger = pattern("{artists}").match(text, place), _NAME.match(text, place)
        length = 0
        if stranger and not spaced:
            length = of_name(text, stranger, led, joined)
            length = length or ((led or count) and before_known(text, stranger, led and not count))
        if known and pattern("{artists}").search(text, known.end(), place + length):
            length = 0  # several with nothing between them
        if known and len(rest := text[known.end() : place + length].split()) > 1 and not any(map(strange, rest)):
            length = 0  # another phrase goes on
        if known is None and not length and (led or count):
            length = in_stack(text, place, count)
            length = length or lone_name(text, place, count)
        if known is None and not length:
            break
        end = max(known.end() if known else 0, place + length)
        count += 1
        between = _BETWEEN.match(text, end)
        if between is None:
            break
        led, spaced = led or "by " in between[0], between[0].isspace()
        joined = count > 1 and "," not in between[0] and ";" not in between[0]
        place = between.end()
    return end, count


def before_known(text: str, match: re.Match[str], first: bool) -> int:
    """Return the length of up to three words before a known artist, as in `by collier, mucha`; or 0.

    One of them is in no dictionary, but for a single word that is the first.
    """
    found = re.split(r" (?:and|or|x)\b", match[0])[0]
    between, parts = _BETWEEN.match(text, match.start() + len(found)), found.split()
    if between is None or between[0].isspace() or not pattern("{artists}").match(text, between.end()):
        return 0
    like_name = len(parts) <= 3 and not any(map(pattern("{in_no_name}").fullmatch, parts))
    return len(found) if like_name and (any(map(strange, parts)) or (first and len(parts) == 1)) else 0


def in_stack(text: str, place: int, count: int) -> int:
    """Return the length of two or three words that are a name because of the names around them, or 0.

    They begin with a given name and, until two names stand before them, go on with a word in no dictionary; or all are
    in no dictionary; or they stand between two names and a known artist.
    """
    found = _WORDS.match(text, place)
    if found is None:
        return 0
    first, *others = found[0].split()
    near = pattern("{artists}|{given} ")
    ends = _ENDS_NAME.match(text, found.end()) or near.match(text, found.end() + 1)
    if not ends or pattern("{artists}").match(text, place + len(first) + 1):
        return 0
    given = pattern("{given}").fullmatch(first)
    plain = [bool(pattern("{in_no_name}").fullmatch(word)) for word in (first, *others)]
    if plain[0] or (any(plain) and not (given and count > 1)):
        return 0
    after = _BETWEEN.match(text, found.end())
    amid = count > 1 and after and not after[0].isspace() and near.match(text, after.end())
    named = (given and count > 1) or ((given or count > 2) and any(map(strange, others)))
    return len(found[0]) if named or amid or all(map(strange, (first, *others))) else 0


def lone_name(text: str, place: int, count: int) -> int:
    """Return the length of a single word in no dictionary that goes on with one name, if titled, or several; or 0."""
    found = _LONE.match(text, place)
    if not count or not found or not strange(found[0]) or misspelt(found[0]):
        return 0
    titled = count > 1 or (text != text.lower() and found[0][0].isupper())
    return len(found[0]) if titled and not pattern("{in_no_name}").fullmatch(found[0]) else 0


def strange(word: str) -> bool:
    """Say whether a word is in no dictionary."""
    return len(word) > 2 and word.strip(".").lower() not in vocabulary()


_LONE = re.compile(r"[^\W\d_]{4,}(?=\s*(?:[,;.]|\Z))")
_WORDS = re.compile(r"[^\W\d_]+ [^\W\d_]{2,}(?: [^\W\d_]{3,}(?=\s*(?:[,;.]|\Z)))?(?![\w'-])")
_ENDS_NAME = re.compile(r"\s*(?:[,;.|/+&]|\Z|and\b|x\b|by\b)", re.IGNORECASE)
_AFTER_NAME = re.compile(r"\s*(?:with|in|on|at|featuring|using|from|as)\b", re.IGNORECASE)


def of_name(text: str, match: re.Match[str], led: bool, joined: bool) -> int:
    """Return the length of the name that a list goes on with, or 0.

    A name begins with a given name, or has a word that is in no dictionary, or each word has a capital; in a list that
    no "by" leads, two of these. Two plain words are one after an "and".
    """
    found = re.split(
        r" (?:and|x|with|in|on|at|of(?! the [A-Z])|from|as|for|meets|featuring|using|by)\b|(?<=\w{3})\. ", match[0]
    )[0]
    found = found.rstrip(".-'")
    parts = [part for part in re.split(r"[ -]", re.sub(r" the (?:elder|younger)", "", found.lower())) if part]
    rest = text[match.start() + len(found) :]
    given = len(parts) > 1 and bool(pattern("{given}").fullmatch(parts[0]))
    titled = text != text.lower() and all(part[0].isupper() for part in found.split() if part not in ("of", "the"))
    if not _ENDS_NAME.match(rest) and not (_AFTER_NAME.match(rest) and (given or titled) and led):
        return 0
    rare = any(strange(part) for part in parts)
    sure = ("of the" in found and titled) or (given and len(parts) == 2 and strange(parts[1]))
    if not sure and any(pattern("{in_no_name}").fullmatch(part.strip(".")) for part in parts[given:]):
        return 0
    if not led:
        return len(found) if 1 < len(parts) < 5 and rare and (given or titled) else 0
    long = any(len(part) > 2 for part in parts)
    return len(found) if given or rare or (titled and long) or (joined and len(parts) <= 2) else 0


@cache
def vocabulary() -> frozenset[str]:
    """Read the words that CLIP's tokenizer knows as one token: some 30,000 of the commonest in captions."""
    from open_clip.tokenizer import SimpleTokenizer  # here: it brings torch

    return frozenset(token.removesuffix("</w>") for token in SimpleTokenizer().encoder if token.endswith("</w>"))


def contradicting(text: str) -> list[tuple[int, int]]:
    """Find segments that only name a medium, after one was named."""
    found, named = [], False
    for part in segments(text):
        segment = text[slice(*part)]
        if named and pattern(_MEDIUM).fullmatch(segment):
            found.append(part)
        named = named or bool(pattern(_MEDIUM).search(segment))
    return found


def repeated(text: str) -> list[tuple[int, int]]:
    """Find segments that stand in the text already."""
    seen, found = set[str](), []
    for part in segments(text):
        segment = text[slice(*part)].lower()
        if segment in seen:
            found.append(part)
        seen.add(segment)
    return found


def articles(draft: Draft) -> None:
    """Put `a` or `an` right where the word after it went."""
    for match in reversed(list(_ARTICLE.finditer(draft.text))):
        if draft.lost(match.end(1) - 1, match.end()):
            vowel = re.match(r"(?!eu|uni|use|one\b)[aeiou]|hour|honest", match[2], re.IGNORECASE)
            right = match[1][0] + ("n" if vowel else "")
            if right != match[1]:
                draft.replace(match.start(1), match.end(1), right, "article", "booster")


def loose_ends(draft: Draft) -> None:
    """Take out small words that led to what is gone, before a mark, at the end and at the start."""
    for match in reversed(list(_AT_END.finditer(draft.text))):
        if draft.lost(match.end() - 1, match.end() if match.end() < len(draft.text) else None):
            draft.replace(match.start(), match.end(), "", "marks", "booster")
    for match in reversed(list(_ADJECTIVE_AND.finditer(draft.text))):
        if draft.lost(match.end() - 2, match.end()):
            draft.replace(match.end(1), match.end() - 1, "", "marks", "booster")
    if draft.text and draft.lost(None, 0):
        draft.sub(_AT_START, "", "marks", "booster")
        if prose(draft.text) and draft.raw.lstrip()[0].isupper() and draft.text[0].islower():
            draft.replace(0, 1, draft.text[0].upper(), "capital", "booster")


def prose(text: str) -> bool:
    """Say whether a text is a sentence rather than a list of phrases."""
    return text.rstrip("\"'").endswith(".")
