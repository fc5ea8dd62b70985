"""Rankings of Label Studio: its JSON export of projects with `<Ranker>`, read and written.

A task lists what was ranked under `data.items`, and each annotation has a result of type `ranker`: the ids in order, or
ids in buckets. Buckets are ties, and their order is not in the export; they are read if their names are numbers.

Source: Label Studio 1.23, tags Ranker and List, and "Label Studio Task Format".
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, model_validator

from hpskit.dataset.formats import Layout, Loss, Text, distinct_images
from hpskit.dataset.group import Group, Judgement
from hpskit.errors import InputError
from hpskit.schema import Strict

_PROMPTS = ("prompt", "text", "caption")


class Loose(Strict):
    """Base of what Label Studio writes: it has many fields that say nothing about a ranking."""

    model_config = ConfigDict(extra="ignore")


class Item(Loose):
    """An entry of the list that was ranked."""

    id: Text | int
    image: Text | None = None
    """File or address of the image; the id where there is none."""

    @property
    def name(self) -> str:
        """Name of the image."""
        return self.image or str(self.id)


class Data(Loose):
    """Content of a task."""

    items: Annotated[tuple[Item, ...], Field(strict=False, min_length=2)]
    prompt: Text | None = None
    text: Text | None = None
    caption: Text | None = None


class Result(Loose):
    """A result of one tag; those of other tags are left alone."""

    type: str
    value: dict[str, Any]


class Annotation(Loose):
    """Answer of one person to a task."""

    result: Annotated[tuple[Result, ...], Field(strict=False)]
    completed_by: int | dict[str, Any] | None = None
    was_cancelled: bool = False

    @property
    def annotator(self) -> str | None:
        """A word for the person: the number, or the address of mail where the export has persons in full."""
        who = self.completed_by
        found = (who.get("email") or who.get("id")) if isinstance(who, dict) else who
        return None if found is None else str(found)


class TaskRow(Layout):
    """A task with its annotations."""

    model_config = ConfigDict(extra="ignore")
    layout = "labelstudio"
    folders = ("images",)

    data: Data
    annotations: Annotated[tuple[Annotation, ...], Field(strict=False)]

    @model_validator(mode="after")
    def agree(self) -> Self:
        """See that there is a prompt, that images differ, and that each ranking is one of them."""
        distinct_images(tuple(item.name for item in self.data.items), field="data.items")
        if self.prompt is None:
            raise InputError("data", "has no prompt", expected=f"one of the fields {', '.join(_PROMPTS)}")
        for number in range(len(self.annotations)):
            self.ranks(number)
        return self

    @property
    def prompt(self) -> str | None:
        """The text that the images were made for."""
        return next((text for name in _PROMPTS if (text := getattr(self.data, name)) is not None), None)

    def ranks(self, number: int) -> tuple[int | None, ...] | None:
        """Return the ranks of an annotation, None where it ranks nothing."""
        annotation, place = self.annotations[number], f"annotations[{number}]"
        found = [one.value.get("ranker") for one in annotation.result if one.type == "ranker"]
        if annotation.was_cancelled or not found:
            return None
        ranker = found[0]
        if not isinstance(ranker, dict) or not all(isinstance(ids, list) for ids in ranker.values()):
            raise InputError(f"{place}: ranker", "holds no lists of ids", expected="{name: [ids in order]}")
        if len(ranker) == 1 and not next(iter(ranker)).isdecimal():
            tiers = [[one] for one in next(iter(ranker.values()))]
        else:
            buckets = {name: ids for name, ids in ranker.items() if name != "_"}
            if not all(name.isdecimal() for name in buckets):
                names, cure = ", ".join(map(repr, buckets)), "name the buckets 1, 2, 3 …, the best first"
                raise InputError(f"{place}: ranker", f"has the buckets {names}, of no known order", cure=cure)
            tiers = [buckets[name] for name in sorted(buckets, key=int)]
        places = {str(item.id): at for at, item in enumerate(self.data.items)}
        ranks: list[int | None] = [None] * len(places)
        above = 0
        for tier in tiers:
            for one in tier:
                if str(one) not in places or ranks[places[str(one)]] is not None:
                    expected = "each id of data.items once"
                    raise InputError(f"{place}: ranker", f"has {one!r}", expected=expected)
                ranks[places[str(one)]] = above + 1
            above += len(tier)
        return tuple(ranks) if above > 1 else None

    def to_group(self, place: str) -> Group:
        found = ((self.ranks(number), one.annotator) for number, one in enumerate(self.annotations))
        return Group(
            place=place,
            prompt=self.prompt or "",
            images=tuple(item.name for item in self.data.items),
            judgements=tuple(Judgement(ranks=ranks, annotator=who) for ranks, who in found if ranks is not None),
        )


def task_rows(group: Group, lose: Loss) -> Iterator[dict[str, Any]]:
    """Write a group as a task that Label Studio can import, with its rankings as annotations."""
    for what, value in (("sources", group.sources), ("published orders", group.rank)):
        if value is not None:
            lose(what)
    annotations = []
    for one in group.judgements:
        tiers: dict[int, list[str]] = {}
        for name, rank in zip(group.images, one.ranks, strict=True):
            if rank is not None:
                tiers.setdefault(rank, []).append(name)
        ordered = [tiers[rank] for rank in sorted(tiers)]
        tied = any(len(tier) > 1 for tier in ordered)
        ranker = (
            {str(at): tier for at, tier in enumerate(ordered, 1)}
            if tied
            else {"rank": [name for tier in ordered for name in tier]}
        )
        result = {"from_name": "rank", "to_name": "images", "type": "ranker", "value": {"ranker": ranker}}
        entry = {"result": [result], "completed_by": {"id": one.annotator} if one.annotator else None}
        annotations += [entry] * one.votes
    items = [{"id": name, "image": name, "html": f'<img src="{escape(name)}" alt="">'} for name in group.images]
    yield {"data": {"prompt": group.prompt, "items": items}, "annotations": annotations}
