"""Answers of annotators: checked against what the task allows, and turned from positions on the page into places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from hpskit.annotation.project import Settings
from hpskit.errors import InputError
from hpskit.schema import Strict

_Position = Annotated[int, Field(ge=0, le=11)]
_Tier = Annotated[tuple[_Position, ...], Field(strict=False, min_length=1, max_length=12)]
_Flags = Annotated[tuple[Annotated[str, StringConstraints(max_length=100)], ...], Field(strict=False, max_length=20)]


class Answer(Strict):
    """The ranking of one task as it stands on the page, by positions from 0."""

    tiers: Annotated[tuple[_Tier, ...], Field(strict=False, max_length=12)] = ()
    """The best first; images in one tier tie, images in none are not ranked."""
    none: bool = False
    """None of the images is acceptable: a statement of its own, and no tie."""
    ratings: Annotated[tuple[int | None, ...], Field(strict=False, max_length=12)] | None = None
    flags: Annotated[dict[str, _Flags], Field(max_length=12)] = Field(default_factory=dict)
    """Problems by position, written as text since JSON has no other keys."""


def check_answer(answer: Answer, images: int, settings: Settings, *, draft: bool = False) -> None:
    """See that an answer is one that this project takes; a draft may be incomplete.

    Raises:
        InputError: it is not; what is wrong is named as on the page, positions from 1.
    """
    ranked = [position for tier in answer.tiers for position in tier]
    for position in ranked:
        if position >= images:
            raise InputError("tiers", f"name image {position + 1}", expected=f"1 to {images}")
        if ranked.count(position) > 1:
            raise InputError("tiers", f"name image {position + 1} twice", expected="each image once")
    if not settings.ties and any(len(tier) > 1 for tier in answer.tiers):
        raise InputError("tiers", "hold a tie", expected="one image in each place: this project has no ties")
    if answer.none and not settings.none:
        raise InputError("none", "is set", expected="a ranking: this project does not ask it")
    if not draft and not answer.none:
        least = 2 if settings.partial else images
        if len(ranked) < least:
            found, expected = f"rank {len(ranked)} of {images} images", f"{'at least ' * settings.partial}{least}"
            raise InputError("tiers", found, expected=expected, cure="rank the others")
    _check_ratings(answer, images, settings)
    _check_flags(answer, images, settings)


def _check_flags(answer: Answer, images: int, settings: Settings) -> None:
    for name, flags in answer.flags.items():
        if name not in map(str, range(images)):
            raise InputError("flags", f"are of image {name!r}", expected=f"a position from 0 to {images - 1}")
        for flag in flags:
            if flag not in settings.flags:
                raise InputError("flags", f"have {flag!r}", expected=f"one of {', '.join(settings.flags) or 'none'}")


def _check_ratings(answer: Answer, images: int, settings: Settings) -> None:
    if answer.ratings is None:
        return
    if len(answer.ratings) != images:
        raise InputError("ratings", f"are {len(answer.ratings)}", expected=f"{images}, one for each image")
    for rating in answer.ratings:
        if rating is not None and not 1 <= rating <= settings.ratings:
            raise InputError("ratings", f"have {rating}", expected=f"1 to {settings.ratings}, or null")


def ranks_by_place(answer: Answer, order: Sequence[int]) -> list[int | None]:
    """Return the rank of each image by its place: 1 is best, after a tie of two at 2 comes 4, None was not ranked."""
    ranks: list[int | None] = [None] * len(order)
    above = 0
    for tier in answer.tiers:
        for position in tier:
            ranks[order[position]] = above + 1
        above += len(tier)
    return ranks


def ratings_by_place(answer: Answer, order: Sequence[int]) -> list[int | None] | None:
    """Return the ratings by place, None if there are none."""
    if answer.ratings is None or all(rating is None for rating in answer.ratings):
        return None
    found: list[int | None] = [None] * len(order)
    for position, rating in enumerate(answer.ratings):
        found[order[position]] = rating
    return found


def flags_by_place(answer: Answer, order: Sequence[int]) -> dict[str, list[str]]:
    """Return the problems of images by place."""
    return {str(order[int(name)]): sorted(set(flags)) for name, flags in answer.flags.items() if flags}


def positions_of(vote: Any, order: Sequence[int]) -> dict[str, Any]:
    """Return a stored vote as the page shows it: what `ranks_by_place` and its kin made, turned back."""
    position = {place: at for at, place in enumerate(order)}
    tiers: dict[int, list[int]] = {}
    for place, rank in enumerate(vote.ranks):
        if rank is not None:
            tiers.setdefault(rank, []).append(position[place])
    ratings = None if vote.ratings is None else [vote.ratings[place] for place in order]
    flags = {str(position[int(place)]): flags for place, flags in vote.flags.items()}
    return {
        "tiers": [sorted(tiers[rank]) for rank in sorted(tiers)],
        "none": vote.none,
        "ratings": ratings,
        "flags": flags,
    }
