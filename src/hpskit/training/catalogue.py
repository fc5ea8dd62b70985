"""The judged groups of a data set by number, in whatever layout it is, with little of it in memory."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import mmap
import tempfile
import threading
from array import array
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterator

import numpy as np

from hpskit.dataset.group import Group, Judgement, compared_pairs, orders
from hpskit.dataset.reading import DataSet, Part
from hpskit.errors import InputError
from hpskit.training.batch import own_weight, ratings_of
from hpskit.training.order import Deck

__all__ = ["Catalogue"]

_HELD = 512 << 20
"""Bytes of parts that are kept: two windows of an epoch, because decoding runs ahead into the next."""


class Catalogue:
    """Random access to the groups of a data set in which somebody has compared two images.

    Groups whose images are files are written to a temporary file, a line each: 800,000 pairs take 150 MB of disk
    and 40 MB of memory. Of groups that carry their images only the place is noted, and they are read a part at a time.
    """

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
            rating: field with the ratings that every group must have, see `batch.ratings_of`; None if they are not
                asked for.
            progress: is told how many groups have been read.

        Raises:
            RecordError: a row is broken, or has no ratings.
            InputError: there is no group in which two images were compared.
        """
        self.data = data
        parts = data.parts()
        self._groups: _Written | _Parts = _Parts(data, parts, rating) if parts else _Written(rating)
        digest, compared = hashlib.sha256(), list[int]()
        with contextlib.closing(self._groups):
            for number, (part, row, group) in enumerate(_located(data, parts)):
                if number % 1024 == 0:
                    progress(number)
                size = 0 if group.place in without else compared_pairs(group)
                if size:
                    line = _line(group, rating)
                    digest.update(line)
                    compared.append(size)
                    self._groups.add(part, row, group.place, line)
            if not compared:
                cure = "give judged groups, or remove fewer" if without else "give judged groups"
                raise InputError(f"{data.path}: has no group in which somebody compared two images; {cure}")
            starts, sizes = self._groups.finish()
        self.digest = digest.hexdigest()
        """SHA-256 over prompts, names of images, judgements and weights, in order; and over the ratings."""
        self.deck = Deck(
            pairs=np.array(compared, dtype=np.int64),
            starts=np.array(starts, dtype=np.int64),
            sizes=np.array(sizes, dtype=np.int64),
        )

    def __len__(self) -> int:
        return len(self.deck.pairs)

    def group(self, number: int) -> Group:
        """A group, with the images that it carries; may be called from several threads.

        Raises:
            RecordError: its row is broken, or not the one that was there before.
        """
        return self._groups.read(number)


def _located(data: DataSet, parts: tuple[Part, ...]) -> Iterator[tuple[int, int, Group]]:
    """Every group without its images, with the number of its part, and its own number in there."""
    if not parts:
        yield from ((0, number, group) for number, group in enumerate(data))
        return
    places = ((number, row) for number, part in enumerate(parts) for row in range(part.groups))
    for (part, row), group in zip(places, data.outline(), strict=True):
        yield part, row, group


def _line(group: Group, rating: str | None) -> bytes:
    judgements = [(j.ranks, j.votes) for j in orders(group)]
    values = [group.prompt, group.images, judgements, own_weight(group)]
    if rating is not None:
        ratings_of(group, rating)  # which sees that they can be used
        values.append(group.meta[rating])
    return json.dumps(values).encode() + b"\n"


def _digest(line: bytes) -> int:
    return int.from_bytes(hashlib.sha256(line).digest()[:8], signed=True)


class _Written:
    """Groups in a temporary file, which goes away with the process."""

    def __init__(self, rating: str | None) -> None:
        self._rating = rating
        self._file = tempfile.TemporaryFile(prefix="hpskit-groups-")  # noqa: SIM115  # as long as this object
        self._ends = array("q", [0])

    def add(self, _: int, __: int, place: str, line: bytes) -> None:
        named = json.dumps(place).encode() + b"\n" + line
        self._file.write(named)
        self._ends.append(self._ends[-1] + len(named))

    def finish(self) -> tuple[list[int], list[int]]:
        self._file.flush()
        self._bytes = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        return [0, len(self._ends) - 1], [0]

    def close(self) -> None:
        """No more is written; what was mapped can be read."""
        self._file.close()

    def read(self, number: int) -> Group:
        start, end = self._ends[number : number + 2]
        place, line = (json.loads(text) for text in self._bytes[start:end].splitlines())
        prompt, images, judgements, weight, *ratings = line
        rated = {self._rating: ratings[0]} if self._rating is not None else {}
        return Group(
            place=place,
            prompt=prompt,
            images=tuple(images),
            judgements=tuple(Judgement(ranks=tuple(ranks), votes=votes) for ranks, votes in judgements),
            meta={"weight": weight, **rated},
        )


class _Parts:
    """Groups with their images in the parts of a data set, of which a few are held."""

    def __init__(self, data: DataSet, parts: tuple[Part, ...], rating: str | None) -> None:
        self.data, self.parts, self._rating = data, parts, rating
        self._part, self._row, self._content = array("q"), array("q"), array("q")
        """Of each group its part, its number in there, and a hash of what it was."""
        self._held: OrderedDict[int, list[Group]] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, part: int, row: int, _: str, line: bytes) -> None:
        self._part.append(part)
        self._row.append(row)
        self._content.append(_digest(line))

    def finish(self) -> tuple[list[int], list[int]]:
        counts = Counter(self._part)  # in the order of the parts
        return [0, *itertools.accumulate(counts.values())], [self.parts[part].size for part in counts]

    def close(self) -> None:
        """Nothing is open."""

    def read(self, number: int) -> Group:
        part, row = self._part[number], self._row[number]
        with self._lock:
            groups = self._held.get(part) or [*self.data.read_part(self.parts[part])]
            self._held[part] = groups
            self._held.move_to_end(part)
            while len(self._held) > 2 and sum(self.parts[n].size for n in self._held) > _HELD:
                self._held.popitem(last=False)
        if row >= len(groups) or _digest(_line(groups[row], self._rating)) != self._content[number]:
            raise InputError(f"{self.parts[part].place}: was changed since it was first read; start anew")
        return groups[row]
