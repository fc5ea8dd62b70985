"""Data of a run: which sets it learns from and is validated on, checked before the first step; their groups by number.

`TrainingData` holds all sets of a run, after a look for missing images and for prompts and images that training and
validation share. A `PreferenceDataset` gives the judged groups of one of them by number, in whatever layout it is, with
little of it in memory.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from array import array
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hpskit.dataset.describe import Context, describe
from hpskit.dataset.duplicates import Leaks, check_leaks
from hpskit.dataset.group import Group, Judgement, compared_pairs, orders
from hpskit.dataset.reading import DataSet, Part, open_data
from hpskit.errors import InputError, RecordError, need, shown
from hpskit.pages.format import counted
from hpskit.training.recipes import Recipe

OnBroken = Literal["fail", "drop"]
"""A group with an image that cannot be used ends the training, or is left out and counted."""
Progress = Callable[[str, int], None]
"""Told what is being done, and for how many groups it is."""
Sources: TypeAlias = tuple[list[DataSet], list[float | None], DataSet]
"""Data sets to learn from, the ratio of each, and the one of validation."""

_MOST = 1e6
"""The largest rating; the loss squares it."""
_HELD = 512 << 20
"""Bytes of parts that are kept: two windows of an epoch, because decoding runs ahead into the next."""


def own_weight(group: Group) -> float:
    """Return how much a group counts beside the others: `weight` among its other fields (`meta`), or 1.

    Raises:
        RecordError: it is not a number above 0.
    """
    weight = group.meta.get("weight", 1)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
        found, expected = f"is {shown(weight)}", "a number above 0"
        raise RecordError(f"{group.place}: weight", found, expected=expected, cure="correct or remove it")
    return float(weight)


def ratings_of(group: Group, field: str) -> NDArray[np.float64]:
    """Return the ratings of the images of a group, (images,); NaN was not rated.

    Args:
        group: its other fields (`meta`) hold the ratings, a number or null for each image.
        field: which of them.

    Raises:
        RecordError: there is no such field, it holds something else, or fewer than two ratings.
    """
    values, place = group.meta.get(field), f"{group.place}: {field}"
    if values is None:
        others = [name for name, value in group.meta.items() if isinstance(value, list)]
        cure = f"its other lists are {', '.join(others)} (--set rating=…)" if others else "choose another loss"
        layouts = "ImageRewardDB has ratings, and hpskit's own layouts have them in meta"
        found = f"has no ratings {field!r}, which the loss rating needs"
        raise RecordError(group.place, found, cure=f"{cure}; {layouts}")
    right = isinstance(values, list) and len(values) == len(group.images)
    if not right or not all(v is None or (type(v) in (int, float) and abs(v) <= _MOST) for v in values):
        expected = f"a list of {len(group.images)} numbers or nulls, one for each image"
        raise RecordError(place, f"is {shown(values)}", expected=expected, cure="correct it")
    ratings = np.array(values, dtype=np.float64)
    if np.isfinite(ratings).sum() < 2:
        cure = "remove the group or choose another loss"
        raise RecordError(place, "rates fewer than two images", expected="at least two", cure=cure)
    return ratings


class PreferenceDataset:
    """Random access to the groups of a data set in which somebody has compared two images.

    Rows are held as lines of text: 800,000 pairs take 190 MB. Images that rows carry are read a part of the data set at
    a time.
    """

    digest: str
    """SHA-256 over prompts, names of images, judgements and weights, in order; and over the ratings."""
    pairs: NDArray[np.int64]
    """(groups,): compared pairs of each."""
    starts: NDArray[np.int64]
    """(blocks + 1,): number of the first group of each block, and the number of groups. A block is read at once."""
    sizes: NDArray[np.int64]
    """(blocks,): bytes of each block in memory, 0 if the images are files of their own."""

    def __init__(
        self,
        data: DataSet,
        *,
        without: Collection[str] = (),
        rating: str | None = None,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Read all rows once, without images.

        Args:
            data: the data set.
            without: `place` of groups to leave out.
            rating: field with the ratings that every group must have, see `ratings_of`; None if the loss needs none.
            progress: is told how many groups have been read.
        """
        self.data, self.without, self._rating, self._parts = data, without, rating, data.parts()
        self._lines, self._part, self._row = list[bytes](), array("q"), array("q")
        self._held: OrderedDict[int, list[Group]] = OrderedDict()
        self._lock = threading.Lock()
        digest, compared = hashlib.sha256(), array("q")
        for number, (part, row, group) in enumerate(located(data, self._parts)):
            if number % 1024 == 0:
                progress(number)
            pairs = 0 if group.place in without else compared_pairs(group)
            if not pairs:
                continue
            line = self._line(group)
            digest.update(line)
            self._lines.append(json.dumps(group.place).encode() + b"\n" + line)
            compared.append(pairs)
            self._part.append(part)
            self._row.append(row)
        if not compared:
            cure = "give judged groups, or remove fewer" if without else "give judged groups"
            raise InputError(data.path, "has no group in which somebody compared two images", cure=cure)
        self.digest, self.pairs = digest.hexdigest(), np.array(compared, dtype=np.int64)
        groups_of = Counter(self._part)  # in the order of the parts
        self.starts = np.cumsum([0, *groups_of.values()])
        sizes = [self._parts[part].size for part in groups_of] if self._parts else [0]
        self.sizes = np.array(sizes, dtype=np.int64)

    def _line(self, group: Group) -> bytes:
        values = [group.prompt, group.images, [(j.ranks, j.votes) for j in orders(group)], own_weight(group)]
        if self._rating is not None:
            ratings_of(group, self._rating)  # to see that they can be used
            values.append(group.meta[self._rating])
        return json.dumps(values).encode() + b"\n"

    def prompts(self) -> set[str]:
        """Return every prompt of the data set but those of the groups that are left out."""
        return {group.prompt for group in self.data.outline() if group.place not in self.without}

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, number: int) -> Group:
        """Read a group, with the images that it carries; several threads may ask."""
        place, line = (json.loads(text) for text in self._lines[number].splitlines())
        prompt, images, judgements, weight, *ratings = line
        group = Group(
            place=place,
            prompt=prompt,
            images=tuple(images),
            judgements=tuple(Judgement(ranks=tuple(ranks), votes=votes) for ranks, votes in judgements),
            meta={"weight": weight, **({self._rating: ratings[0]} if self._rating is not None else {})},
        )
        if not self._parts:
            return group
        part, row = self._part[number], self._row[number]
        with self._lock:
            groups = self._held.get(part) or [*self.data.read_part(self._parts[part])]
            self._held[part] = groups
            self._held.move_to_end(part)
            while len(self._held) > 2 and sum(self._parts[n].size for n in self._held) > _HELD:
                self._held.popitem(last=False)
        if row >= len(groups) or (groups[row].prompt, groups[row].images) != (group.prompt, group.images):
            raise InputError(self._parts[part].place, "was changed since it was first read", cure="start anew")
        return replace(group, embedded=groups[row].embedded)


def located(data: DataSet, parts: Sequence[Part]) -> Iterator[tuple[int, int, Group]]:
    """Give every group without its images, with the number of its part, and its own number in there."""
    if not parts:
        yield from ((0, number, group) for number, group in enumerate(data))
        return
    places = ((number, row) for number, part in enumerate(parts) for row in range(part.groups))
    for (part, row), group in zip(places, data.outline(), strict=True):
        yield part, row, group


class Missing(NamedTuple):
    """Image files of a data set that are not there or empty: a line for each, and the places of all their groups."""

    files: list[str]
    groups: frozenset[str]


def missing_images(data: DataSet) -> Missing:
    """Look for all image files of a data set."""
    places: dict[str, str] = {}
    for group, names in data.with_files():
        for name in names:
            places.setdefault(name, group.place)
    missing = {name: line for name, _, line in data.missing(places)}
    if not missing:
        return Missing([], frozenset())
    groups = (group.place for group, names in data.with_files() if not missing.keys().isdisjoint(names))
    return Missing([*missing.values()], frozenset(groups))


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingData:
    """All data sets of a run, and the groups of them that it leaves out."""

    train: tuple[PreferenceDataset, ...]
    ratios: tuple[float | None, ...]
    """Share of the pairs of each, in proportion to the others. None for all: as if they were one data set."""
    validation: PreferenceDataset
    leaks: Leaks
    """Training groups that share prompts or images with the validation data; they are left out."""
    missing: tuple[Missing, ...]
    """Of each training set, then of the validation data; their groups are left out."""

    @property
    def sets(self) -> tuple[PreferenceDataset, ...]:
        """All data sets, the validation data last."""
        return (*self.train, self.validation)

    def describe(self, architecture: str, progress: Progress = lambda *_: None) -> tuple[list[str], list[str]]:
        """Describe every data set in numbers, as far as it is used: lines of facts, and of warnings."""
        from hpskit.models.architecture import token_counter, tokenizer  # and torch

        reader = tokenizer(architecture)
        count, tell = token_counter(reader), partial(progress, "describing")
        context = Context(tokens=reader.context_length, count=count) if count is not None else None
        found = [describe(one.data, without=one.without, context=context, progress=tell) for one in self.sets]
        facts = [line for description in found for line in description.lines()]
        return facts, [*self.left_out(), *(line for description in found for line in description.warnings())]

    def left_out(self) -> list[str]:
        """Say which groups are left out and why, a sentence each; most often nothing."""
        found = []
        if self.leaks.found:
            kinds = ", ".join(f"{kind}: {count:,}" for kind, count in self.leaks.counts.items())
            groups = f"{len(self.leaks.groups):,} of {self.leaks.train_groups:,}"
            why = "training groups left out because they share prompts or images with the validation data"
            found.append(f"{why}: {groups} ({kinds})")
        for dataset, missing in zip(self.sets, self.missing, strict=True):
            if missing.files:
                why = f"{dataset.data.name}: groups left out because image files are missing or empty"
                found.append(f"{why}: {len(missing.groups):,} (first: {missing.files[0]})")
        return found

    def facts(self) -> dict[str, Any]:
        """Return what `config.json` says of the data: `data`, `validation` and `left_out`."""
        *train, validation = (
            {
                "name": dataset.data.name,
                "path": str(dataset.data.path),
                "format": dataset.data.format,
                "groups": len(dataset),
                "pairs": int(dataset.pairs.sum()),
                "digest": dataset.digest,
                "ratio": ratio,
            }
            for dataset, ratio in zip(self.sets, [*self.ratios, None], strict=True)
        )
        return {"data": train, "validation": [validation], "left_out": self.left_out()}


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """Settings of the data: which sets are used, and how."""

    data: tuple[str, ...]
    """Data sets to learn from, each alone or with `:RATIO`, its share of the pairs; see `open_data`."""
    validation: str
    """Data set that checkpoints are compared on."""
    data_format: str = "auto"
    """Layout of all these data sets; see `open_data`."""
    image_root: Path | None = None
    """Folder that the image names of all of them start from; None is as their layout says."""
    drop_leaks: bool = False
    """Leave training groups out that share prompts or images with the validation data; else they are an error."""
    compare_pixels: bool = False
    """Decode all images first, to find those that training and validation share, however they are stored."""
    on_broken: OnBroken = "fail"
    """Fate of a group with an image that cannot be used."""
    _opened: list[Sources] = field(default_factory=list, init=False, repr=False, compare=False)

    def sources(self) -> Sources:
        """Open what is learnt from, its ratios, and the validation data, once, without reading them.

        Raises:
            InputError: one is not there, or only some have a ratio.
        """
        if self._opened:
            return self._opened[0]
        if not self.data:
            raise InputError("--data", "is missing", expected="at least one data set to learn from")
        opened = partial(open_data, format=self.data_format, image_root=self.image_root)
        train, ratios = map(list, zip(*(parse_source(text, opened) for text in self.data), strict=True))
        if 0 < ratios.count(None) < len(ratios):
            found = f"has a ratio for {len(ratios) - ratios.count(None)} of {len(ratios)} data sets"
            raise InputError("--data", found, cure="give it for all or for none")
        self._opened.append((train, ratios, opened(self.validation)))
        return self._opened[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig(DataConfig):
    """Settings of a training."""

    recipe: Recipe
    out: Path
    """Folder of the run."""
    resume: bool = False
    """Go on with the run in `out` if there is one."""
    shard: bool = False
    """Spread weights and optimiser over the processes instead of giving each a copy; the result is the same."""
    workers: int | None = None
    """Threads of each process that decode; None is one for each processor, at most eight."""
    device: str = "auto"
    """`auto` is a GPU if there is one; `cpu`."""
    tensorboard: bool | None = None
    """Curves for TensorBoard; None is if it is installed."""
    command: str = ""
    """Command line that makes this again."""

    def check(self) -> None:
        """See what can be seen before torch is imported: that training is installed, and that data are there.

        Raises:
            InputError, MissingExtraError: it is not so.
        """
        need("accelerate", "training", "train")
        self.sources()


def read_data(config: DataConfig, rating: str | None = None, progress: Progress = lambda *_: None) -> TrainingData:
    """Open all data sets, and see that their images are there and that training and validation share nothing.

    `rating` is the field with the ratings that every group must have; None if the loss needs none.

    Raises:
        InputError: a data set cannot be opened, image files are missing or empty, or they share something.
        RecordError: a row is broken.
    """
    train, ratios, held_out = config.sources()
    missing = tuple(map(missing_images, (*train, held_out)))
    for files, _ in missing if config.on_broken == "fail" else ():
        if files:
            more = f" and {len(files) - 1:,} more" if len(files) > 1 else ""
            cure = "bring them or remove the rows, which --on-broken drop does; `hpskit data inspect` lists all"
            raise InputError(f"{files[0]}{more}", cure=cure)
    without = frozenset().union(*(one.groups for one in missing))
    judged = (group for group in held_out.outline() if group.place not in without)
    prompts = {g.prompt for g in judged if any(len(set(row[~np.isnan(row)])) > 1 for row in g.verdicts())}
    if len(prompts) < 2:  # one prompt has no interval, and images that people tied throughout say nothing at all
        found = f"has {counted(len(prompts), 'prompt')} with images of which people preferred one"
        raise InputError(held_out.path, found, expected="at least two for validation")
    tell = partial(progress, "comparing with validation")
    leaks = check_leaks(train, [held_out], pixels=config.compare_pixels, without=without, progress=tell)
    if not config.drop_leaks:
        leaks.refuse()
    indexed = partial(PreferenceDataset, rating=rating, progress=partial(progress, "reading"))
    return TrainingData(
        train=tuple(indexed(data, without=without | leaks.groups) for data in train),
        ratios=tuple(ratios),
        validation=indexed(held_out, without=without),
        leaks=leaks,
        missing=missing,
    )


def parse_source(text: str, opened: Callable[[str], DataSet] = open_data) -> tuple[DataSet, float | None]:
    """Open a data set by path or name, alone or followed by `:RATIO`; return it and its ratio."""
    path, colon, number = text.rpartition(":")
    try:
        ratio = float(number) if colon and not Path(text).exists() else None
    except ValueError:
        ratio = None
    if ratio is None:
        return opened(text), None
    if not 0 < ratio < math.inf:
        raise InputError("--data", f"is {text!r} with the ratio {number}", expected="a number above 0")
    return opened(path), ratio
