"""Tables of pairwise choices as people have them: a prompt, two images and who won, in columns of any name.

Columns are found by usual names (`image_a` and `image_b`, `left` and `right`, `chosen` and `rejected`, …) or as a
person says, and what was found is said. Rows of one prompt and the same two images, in either order, are votes on one
pair. Images may be in the rows of a parquet file, as bytes or as a struct of `bytes`; then each row is a pair by
itself.
"""

from __future__ import annotations

import math
import re
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from hpskit.dataset.formats import Entries, distinct_images
from hpskit.dataset.formats.ours import PairRow, votes_of
from hpskit.dataset.group import Group, Judgement
from hpskit.errors import InputError, RecordError, listed, shown
from hpskit.rows import PROMPT_NAMES, Report, as_option, guess, named_columns, tokens, usual

_ROLES = (
    *("prompt", "first", "second", "winner", "first_share", "second_share", "first_votes", "second_votes"),
    *("votes", "annotator", "0", "1", "2"),
)
"""Words that a person may say: the column of each, and what 0, 1 and 2 in the column of the winner mean."""
_WINNER = (
    *("winner", "label", "choice", "chosen", "preferred", "preference", "best", "selected", "result", "answer", "vote"),
    *("better", "pick", "picked", "human_preference", "human_choice", "preferred_image", "best_image", "winner_image"),
)
_ANNOTATOR = ("annotator", "annotator_id", "user", "user_id", "worker", "worker_id", "rater", "rater_id", "user_hash")
_VOTES = ("votes", "n_votes", "num_votes", "vote_count", "n_raters", "num_annotators")
_ORDERED = (("chosen", "rejected"), ("winner", "loser"), ("win", "lose"), ("w", "l"), ("preferred", "dispreferred"))
"""Words by which the names of two columns differ, where the first of them has won."""
_SIDES = (("a", "b"), ("left", "right"), ("first", "second"), ("0", "1"), ("1", "2"), ("one", "two"))
_IMAGE = {"image", "img", "images", "path", "file", "filename", "name", "jpg", "png", "picture", "photo", "url", "uri"}
_FOR = ("first", "second")
_SHARE = {"share", "label", "preference", "prob", "probability", "win", "rate"}
_COUNT = {"votes", "vote", "count", "n", "num", "wins"}
_WORDS = {
    **{word: side for pair in (*_SIDES[:3], ("model_a", "model_b")) for word, side in zip(pair, _FOR, strict=True)},
    **dict.fromkeys(("tie", "tied", "draw", "equal", "same", "both", "neither"), "tie"),
    **dict.fromkeys(("0.5", "tie (bothbad)", "both_bad", "both_good"), "tie"),
}
"""What words in the column of the winner mean; no other is guessed at."""
NO_TABLE = "as image_a and image_b, or left and right"
"""Expected of what is no table of choices at all."""
_RANKS = {"first": (1, 2), "second": (2, 1), "tie": (1, 1)}
_OUTCOMES = ({"winner"}, {"first_share"}, {"first_share", "second_share"}, {"first_votes", "second_votes"})
"""Columns that say who won; `votes` may stand beside all but the last."""
_MANY = 1_000_000
"""Votes of a row, at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChoiceTable:
    """The columns of a table; reads its rows as a `Layout` does."""

    columns: Mapping[str, str]
    """Role -> column."""
    numbers: Mapping[str, str]
    """The meaning of a number in the column of the winner: `first` or `second`."""
    said: bool = False
    """Whether a person has said it: then numbers name no image."""
    carries: frozenset[str] = frozenset()
    """The columns of the images, if the rows hold them."""
    layout: str = "choices"
    folders: tuple[str, ...] = ("images",)

    def read(self, entries: Entries, report: Report) -> Iterator[Group]:
        """Read groups of two images; `report` receives the error of a broken row, and the next one is read."""
        held: dict[tuple[str, frozenset[str]], tuple[Group, Counter[tuple[tuple[int, int], str | None]]]] = {}
        for place, value in entries:
            try:
                group = self.to_group(place, value)
            except RecordError as error:
                report(error)
                continue
            if self.carries:
                yield group
                continue
            first, votes = held.setdefault((group.prompt, frozenset(group.images)), (group, Counter()))
            turned = first.images != group.images
            for one in group.judgements:
                ranks = tuple(rank or 0 for rank in one.ranks)
                votes[(ranks[1], ranks[0]) if turned else (ranks[0], ranks[1]), one.annotator] += one.votes
        for group, votes in held.values():
            judgements = (Judgement(ranks=ranks, annotator=who, votes=n) for (ranks, who), n in votes.items())
            yield Group(place=group.place, prompt=group.prompt, images=group.images, judgements=tuple(judgements))

    def to_group(self, place: str, value: Mapping[str, Any]) -> Group:
        """Make a group of a row.

        Raises:
            RecordError: a column is missing, or holds what it should not.
        """
        prompt = self.text(place, value, "prompt")
        if self.carries:
            file, _, row = place.rpartition(": row ")
            names = (f"{Path(file).stem}-{row}-first.jpg", f"{Path(file).stem}-{row}-second.jpg")
            every = zip(names, ("first", "second"), strict=True)
            embedded = {n: self.data(place, value, role) for n, role in every if self.columns[role] in value}
        else:
            names, embedded = (self.text(place, value, "first"), self.text(place, value, "second")), {}
        try:
            distinct_images(names, field=self.columns["second"])
        except InputError as error:
            raise RecordError(f"{place}: {error.place}", error.found, expected=error.expected) from error
        who = value.get(self.columns["annotator"]) if "annotator" in self.columns else None
        who = int(who) if isinstance(who, float) and who.is_integer() else who  # pandas, in a column with gaps
        annotator = None if empty(who) else str(who)
        judgements = tuple(
            Judgement(ranks=j.ranks, annotator=annotator, votes=j.votes) for j in self.judged(place, value)
        )
        return Group(place=place, prompt=prompt, images=names, judgements=judgements, embedded=embedded)

    def judged(self, place: str, value: Mapping[str, Any]) -> tuple[Judgement, ...]:
        """Read who won; nobody has judged a row that does not say."""
        if "winner" in self.columns:
            found = self.won(place, value)
            return () if found is None else self.counted(place, value, {"votes": found})
        if "first_votes" in self.columns:
            return self.counted(place, value, {"first_votes": "first", "second_votes": "second"})
        if "first_share" not in self.columns:  # the names of the columns say it: chosen, rejected
            return self.counted(place, value, {"votes": "first"})
        share, other = (self.number(place, value, role) for role in ("first_share", "second_share"))
        if share is None:
            return ()
        if not 0 <= share <= 1 or (other is not None and abs(share + other - 1) > 1e-3):
            names = {f"{side}_votes": self.columns.get(f"{side}_share", "NAME") for side in ("first", "second")}
            expected = "shares from 0 to 1" + (" that add up to 1" if other is not None else "")
            self.wrong(place, value, "first_share", expected, f"if they are numbers of votes: {as_option(names)}")
        votes = self.number(place, value, "votes")
        if votes is None and share not in (0, 0.5, 1):
            cure = "name the column with the number of votes: --columns votes=NAME"
            self.wrong(place, value, "first_share", "0, 0.5 or 1 where nothing says how many voted", cure)
        many = 1 if votes is None else int(votes) if votes % 1 == 0 else votes
        row = {"prompt": "-", "first": "a", "second": "b", "first_share": share, "votes": many}
        return votes_of(PairRow.of(row, place))

    def counted(self, place: str, value: Mapping[str, Any], sides: Mapping[str, str]) -> tuple[Judgement, ...]:
        """Read the votes for each outcome, by the role of their column; without `votes` the row is one."""
        found = []
        for role, side in sides.items():
            number = self.number(place, value, role)
            many = (role == "votes") if number is None else number
            if many % 1 or not 0 <= many <= _MANY:
                self.wrong(place, value, role, "a whole number of votes")
            found.append(Judgement(ranks=_RANKS[side], votes=int(many)))
        return tuple(one for one in found if one.votes)

    def won(self, place: str, value: Mapping[str, Any]) -> str | None:
        """Read the column of the winner: `first`, `second`, `tie`, or None where it says nothing."""
        found = value.get(self.columns["winner"])
        if empty(found):
            return None
        word, names = plain(found), [self.columns[role] for role in _FOR]
        meant = {{**_WORDS, **self.sides(), **self.numbers}.get(word)}
        if not (self.said and word in self.numbers) and self.columns["winner"] not in names and isinstance(found, str):
            paths = [path if isinstance(path := value.get(name), str) else "" for name in names]
            for known in (names, paths, [re.split(r"[/\\]", path)[-1] for path in paths]):
                meant |= {side for side, name in zip(_FOR, known, strict=True) if name == found and len({*known}) > 1}
        meant.discard(None)
        if len(meant) == 1:
            return meant.pop()
        numbers = "".join(f"{number} ({side}), " for number, side in self.numbers.items())
        expected = (
            f"a or b, left or right, first or second, tie, both or draw, {numbers}{' or '.join(map(shown, names))}, "
            "or the path or the file name of one of the two images"
        )
        cure = "say what numbers mean: --columns 1=first,2=second" if word in ("0", "1", "2") else ""
        return self.wrong(place, value, "winner", expected, cure)

    def sides(self) -> dict[str, str]:
        """Return what the words mean by which the names of the columns of the images differ, but for numbers."""
        first, second = (tokens(self.columns[role]) for role in _FOR)
        differ = [(a, b) for a, b in zip(first, second, strict=False) if a != b and not a.isdecimal()]
        alone = len(differ) == 1 and len(first) == len(second)
        return dict(zip(differ[0], _FOR, strict=True)) if alone else {}

    def text(self, place: str, value: Mapping[str, Any], role: str) -> str:
        """Read a text that is not blank."""
        found = value.get(self.columns[role])
        if not isinstance(found, str) or not found.strip() or "\0" in found:
            self.wrong(place, value, role, "a text that is not blank" if role == "prompt" else "the path of an image")
        try:
            found.encode()
        except UnicodeEncodeError:
            self.wrong(place, value, role, "whole characters")
        return found

    def data(self, place: str, value: Mapping[str, Any], role: str) -> bytes:
        """Read the bytes of an image."""
        found = value.get(self.columns[role])
        found = found.get("bytes") if isinstance(found, dict) else found
        if not isinstance(found, bytes) or not found:
            self.wrong(place, value, role, "the bytes of an image, as in the other rows")
        return found

    def number(self, place: str, value: Mapping[str, Any], role: str) -> float | None:
        """Read a number; None where there is none."""
        found: Any = value.get(self.columns[role]) if role in self.columns else None
        if empty(found):
            return None
        try:
            number = float(found)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            self.wrong(place, value, role, "a number")
        return number

    def wrong(self, place: str, value: Mapping[str, Any], role: str, expected: str, cure: str = "") -> NoReturn:
        """Raise the error of a column."""
        name = self.columns[role]
        found = f"is {shown(value[name])}" if name in value else "is missing"
        raise RecordError(
            f"{place}: {shown(name)}", found, expected=expected, cure=cure or "correct it or remove the row"
        )


def choice_table(path: Path, rows: Sequence[Mapping[str, Any]], said: str = "") -> ChoiceTable:
    """Find out what the columns of a table are, and say what was found.

    Args:
        path: the file, for errors.
        rows: the first ones.
        said: what a person says, `first=NAME,second=NAME,winner=NAME,0=first`.

    Raises:
        InputError: it is not clear; the candidates are named.
    """
    there = tuple(dict.fromkeys(name for row in rows for name in row))
    given = named_columns(said, _ROLES, path, there)
    meaning: dict[str, str] = {number: given.pop(number) for number in ("0", "1", "2") if number in given}
    for number, side in meaning.items():
        if side not in _FOR:
            raise InputError("--columns", f"has {number}={shown(side)}", expected=f"{number}=first or {number}=second")
    who = given.keys() & {role for roles in _OUTCOMES for role in roles}
    if who and (who not in _OUTCOMES or {"first_votes", "votes"} <= given.keys()):
        found = f"says who won by {' and '.join(role for role in given if role in {*who, 'votes'})}"
        expected = "winner, or first_share (and second_share), or first_votes and second_votes without votes"
        raise InputError("--columns", found, expected=expected, cure="name one of them")
    columns = dict(given)
    ordered = images(path, there, columns)
    if "prompt" not in given:
        columns["prompt"] = guess(path, "prompt", usual(there, PROMPT_NAMES), there)
    if not ordered and not columns.keys() & {"winner", "first_share", "first_votes"}:
        columns |= outcome(path, there, columns)
    for role, names in (("annotator", _ANNOTATOR), ("votes", () if "first_votes" in columns else _VOTES)):
        if role not in columns and (usually := [n for n in usual(there, names) if n not in columns.values()]):
            columns[role] = guess(path, role, usually, there)
    table = ChoiceTable(
        columns=columns,
        said=bool(meaning),
        numbers=numbers(path, columns, rows, meaning),
        carries=frozenset(
            columns[r] for r in ("first", "second") if any(holds_image(row.get(columns[r])) for row in rows)
        ),
    )
    if columns.keys() - given.keys():
        say(path, table, there, ordered=ordered)
    return table


def say(path: Path, table: ChoiceTable, there: Collection[str], *, ordered: bool) -> None:
    """Warn of what was guessed."""
    found = ", ".join(f"{role} is {shown(name)}" for role, name in table.columns.items())
    reading = ", ".join(f"{number} is the {side} image" for number, side in table.numbers.items())
    left = [name for name in there if name not in table.columns.values()]
    parts = [
        f"{path}: by the names of its columns {found}",
        "the first has won in each row" if ordered else "",
        f"in {shown(table.columns.get('winner'))} {reading}" if reading else "",
        f"not read: {listed(map(shown, left), 8)}" if left else "",
        f"{as_option(table.columns)} would say so",
    ]
    warnings.warn("; ".join(filter(None, parts)), stacklevel=4)


def images(path: Path, there: Sequence[str], columns: dict[str, str]) -> bool:
    """Add the columns of the images; tell whether their names say that the first has won."""
    ordered = [(a, b) for a, b, stem in pairs(there, _ORDERED) if set(stem) <= _IMAGE]
    found = [*ordered, *((a, b) for a, b, stem in pairs(there, _SIDES) if set(stem) <= _IMAGE)]
    if "first" in columns and "second" in columns:
        found = [(columns["first"], columns["second"])]
    found = [(a, b) for a, b in found if columns.get("first", a) == a and columns.get("second", b) == b]
    if not found:
        what = f"has no two columns that may be its images (there are: {listed(map(shown, there), 20)})"
        cure = "name them: --columns first=NAME,second=NAME"
        raise InputError(path, what, expected=NO_TABLE, cure=cure)
    if len(found) > 1:
        cure = f"name them: --columns first={found[0][0]},second={found[0][1]}"
        names = listed(f"{a} and {b}" for a, b in found)
        raise InputError(path, f"may have its two images in {names}", expected="one", cure=cure)
    columns["first"], columns["second"] = found[0]
    return found[0] in ordered and not columns.keys() & {"winner", "first_share", "first_votes"}


def outcome(path: Path, there: Sequence[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Find the columns that say who won: one of the winner, of shares, or of votes."""
    free = [name for name in there if name not in columns.values()]
    both = {stem: (a, b) for a, b, stem in pairs(free, _SIDES)}
    shares = [{"first_share": a, "second_share": b} for stem, (a, b) in both.items() if stem and set(stem) <= _SHARE]
    votes = [{"first_votes": a, "second_votes": b} for stem, (a, b) in both.items() if stem and set(stem) <= _COUNT]
    first = {side for side, _ in _SIDES} - {"0", "1"}
    alone = [
        {"first_share": name}
        for name in free
        if set(parts := tokens(name)) & first and set(parts) & {"share", "rate"} and set(parts) <= first | _SHARE
        if not any(name in pair for pair in both.values())
    ]
    winners = [{"winner": name} for name in usual(free, _WINNER)]
    found = [*winners, *shares, *votes, *alone]
    if len(found) != 1:
        names = listed((" and ".join(one.values()) for one in found), 8)
        what = (
            f"may say who won in {names}"
            if found
            else f"has no column that says who won (there are: {listed(there, 20)})"
        )
        said = as_option(found[0] if found else {"winner": "NAME"})
        raise InputError(path, what, expected="one", cure=f"name it: {said}")
    return found[0]


def numbers(
    path: Path, columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]], meaning: Mapping[str, str]
) -> dict[str, str]:
    """Say what numbers in the column of the winner mean: 1 and 2 speak for themselves, 0 and 1 do not, nor 1 alone.

    Raises:
        InputError: nobody has said what 0 and 1 mean, or two are said to be the same image.
    """
    if "winner" not in columns:
        return {}
    name = columns["winner"]
    words = {plain(row[name]) for row in rows if not empty(row.get(name))}
    twos = "2" in {*meaning, *words} and "0" not in {*meaning, *words}
    if meaning or twos:
        one, two = ("1", "2") if twos else ("0", "1")
        other = {one: two, two: one, "first": "second", "second": "first"}
        meaning = meaning or {"1": "first"}
        both = {other.get(number, number): other[side] for number, side in meaning.items()} | dict(meaning)
        if both.keys() != {one, two} or both[one] == both[two]:
            found = f"says {', '.join(f'{number}={side}' for number, side in meaning.items())}"
            raise InputError("--columns", found, expected=f"{one}=first,{two}=second, or the other way round")
        return dict(sorted(both.items()))
    if alone := sorted(words & {"0", "1"}):
        found = f"has {' and '.join(alone)}, which may mean either image"
        cure = f"say what 0 means: --columns 0=first if the image in {shown(columns['first'])} won, else 0=second"
        cure += "" if "0" in alone else "; or 1=first,2=second"
        raise InputError(f"{path}: {shown(name)}", found, cure=cure)
    return {}


def pairs(names: Sequence[str], sides: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Find columns whose names differ by one word, as `image_a` and `image_b`: both, and the words that they share."""
    by = {tokens(name): name for name in names}
    for parts, name in by.items():
        for at, part in enumerate(parts):
            for one, two in sides:
                if part == one and (other := by.get((*parts[:at], two, *parts[at + 1 :]))) is not None:
                    yield name, other, parts[:at] + parts[at + 1 :]


def plain(value: object) -> str:
    """Write a value of the column of the winner as a word: `1.0` and True are `1`."""
    if isinstance(value, bool | float | int):
        return f"{float(value):g}"
    word = str(value)[:200].strip().lower()
    return f"{float(word):g}" if re.fullmatch(r"\d+\.\d+", word) else {"true": "1", "false": "0"}.get(word, word)


def empty(value: object) -> bool:
    """Tell whether nobody has judged."""
    return (
        value is None
        or (isinstance(value, float) and math.isnan(value))
        or (isinstance(value, str) and not value.strip())
    )


def holds_image(value: object) -> bool:
    """Tell whether a value is an image itself."""
    return isinstance(value, bytes) or (isinstance(value, dict) and isinstance(value.get("bytes"), bytes))
