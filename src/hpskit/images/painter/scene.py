"""What a prompt asks for: words to a `Scene`. Pure; knows nothing of pixels."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, replace
from typing import Literal

from hpskit.errors import InputError
from hpskit.images.painter.vocabulary import (
    BLOOMS,
    COLOUR_WORDS,
    COUNT_WORDS,
    GROUPS,
    NOUNS,
    PLURALS,
    TIME_WORDS,
    WEATHER_WORDS,
)

__all__ = ["Genre", "Scene", "Thing", "read_scene"]

Genre = Literal["landscape", "still life", "abstract"]

_PHRASE = 3
"""Words that mean something together, at most."""
_LINKS = frozenset(", and or on in at by with under over above below beside behind between before near into".split())  # noqa: SIM905
"""What ends the reach of a number or a colour, unlike adjectives, known or not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Thing:
    """Something to be seen."""

    kind: str
    """One of the kinds in the vocabulary, for example `boat`."""
    count: int = 1
    """How many of them."""
    colour: str | None = None
    """One of the colours in the vocabulary; None leaves it to the painter."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """What a prompt asks for, as far as the painter understands it."""

    genre: Genre
    things: tuple[Thing, ...]
    """In the order of the prompt."""
    time: str
    """`dawn`, `day`, `sunset`, `dusk` or `night`."""
    weather: frozenset[str]
    """Of `clear`, `clouds`, `overcast`, `fog`, `rain`, `storm`, `snowfall`, `winter`, `autumn`."""
    mood: tuple[str, ...]
    """Colours that belong to nothing in particular."""

    def find(self, *kinds: str) -> Thing | None:
        """The first thing of one of these kinds."""
        return next((thing for thing in self.things if thing.kind in kinds), None)

    def has(self, *kinds: str) -> bool:
        """Whether there is a thing of one of these kinds."""
        return self.find(*kinds) is not None

    def group(self, *groups: str) -> tuple[Thing, ...]:
        """The things of these groups of the vocabulary."""
        return tuple(thing for thing in self.things if GROUPS[thing.kind] in groups)


def _phrases(prompt: str) -> list[str]:
    """The words of a prompt in small letters; those that mean something else together as one."""
    words = re.findall(r"[a-z]+(?:-[a-z]+)*|\d+|,", prompt.lower())
    tables = (NOUNS, PLURALS, TIME_WORDS, WEATHER_WORDS)
    phrases = []
    while words:
        lengths = range(min(_PHRASE, len(words)), 1, -1)
        length = next((n for n in lengths if any(" ".join(words[:n]) in table for table in tables)), 1)
        phrases.append(" ".join(words[:length]))
        del words[:length]
    return phrases


class _Reader:
    """Reads phrase by phrase; keeps the number and the colour that wait for their thing."""

    def __init__(self) -> None:
        self.things: list[Thing] = []
        self.moods: list[str] = []
        self.times: list[str] = []
        self.weather: set[str] = set()
        self._count: int | None = None
        self._colour: str | None = None

    def read(self, phrase: str, following: str) -> None:
        """Take in a phrase; `following` is the next one, a comma at the end."""
        fruit = phrase == "orange" and following in _LINKS
        if phrase in NOUNS and (phrase not in COLOUR_WORDS or fruit):
            self._add(NOUNS[phrase], 1)
        elif phrase in PLURALS:
            kind, many = PLURALS[phrase]
            self._count = None if self._count == 1 else self._count  # "a" is the article of another word
            self._add(kind, many)
        elif phrase in COLOUR_WORDS:
            self._colour = COLOUR_WORDS[phrase]
        elif phrase in COUNT_WORDS:
            self._count = COUNT_WORDS[phrase]
        elif phrase in _LINKS or phrase in TIME_WORDS:
            self.times += [TIME_WORDS[phrase]] if phrase in TIME_WORDS else []
            self.moods += [self._colour] if self._colour else []
            self._count, self._colour = None, None
        elif phrase in WEATHER_WORDS:
            self.weather.add(WEATHER_WORDS[phrase])

    def _add(self, kind: str, usual: int) -> None:
        self.things.append(Thing(kind=kind, count=self._count or usual, colour=self._colour))
        self._count, self._colour = None, None


def read_scene(prompt: str) -> Scene:
    """Read a prompt.

    A number and a colour belong to the next thing named; a plural without a number stands for a few. Words that are
    not in the vocabulary are passed over.

    Raises:
        InputError: the prompt is empty or not a string.
    """
    if not isinstance(prompt, str) or not prompt.strip():
        raise InputError(f"painter: prompt is {prompt!r}, expected a text that is not empty")
    reader = _Reader()
    for phrase, following in itertools.pairwise([*_phrases(prompt), ",", ","]):
        reader.read(phrase, following)
    genre = _genre(reader.things)
    things = [_in_its_place(thing, genre) for thing in reader.things]
    return Scene(
        genre=genre,
        things=tuple(things),
        time=_time(reader.times, things),
        weather=frozenset(reader.weather),
        mood=tuple(dict.fromkeys(reader.moods)),
    )


def _genre(things: list[Thing]) -> Genre:
    groups = {GROUPS[thing.kind] for thing in things}
    if not groups & {"land", "outdoors", "sky"} and not any(thing.kind in ("sky", "water") for thing in things):
        if "solid" in groups or any(thing.kind == "table" for thing in things):
            return "still life"
        if "flat" in groups:
            return "abstract"
    if "outdoors" in groups and "solid" in groups and groups <= {"outdoors", "solid", "surface"}:
        flowers = {thing.kind for thing in things if GROUPS[thing.kind] == "outdoors"}
        if flowers <= BLOOMS.keys():
            return "still life"
    return "landscape"


def _in_its_place(thing: Thing, genre: Genre) -> Thing:
    """Stars out of doors are those of the sky, not the shape."""
    return replace(thing, kind="stars", count=1) if thing.kind == "star" and genre == "landscape" else thing


def _time(times: list[str], things: list[Thing]) -> str:
    """The last time named; without one, night if there is a moon or stars, otherwise day."""
    if times:
        return times[-1]
    dark = any(thing.kind in ("moon", "crescent", "stars", "aurora") for thing in things)
    return "night" if dark else "day"
