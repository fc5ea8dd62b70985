"""The layouts of data sets, one in each module, as models of their rows that one loop reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar, TypeAlias

from hpskit.dataset.group import Group, compared_pairs, orders
from hpskit.errors import RecordError
from hpskit.records import parse_row
from hpskit.rows import Report
from hpskit.schema import Strict

__all__ = ["LABELS", "Entries", "Layout", "Loss", "lose_description", "lose_of_pairs"]

Entries: TypeAlias = Iterator[tuple[str, dict[str, Any]]]
"""Place in words and content of each row."""
Loss: TypeAlias = Callable[[str], None]
"""Is told, in words, of anything that a layout has no place for."""

LABELS: dict[tuple[float | None, float | None], tuple[int, int]] = {(1, 0): (1, 2), (0, 1): (2, 1), (0.5, 0.5): (1, 1)}
"""Labels of two images -> their ranks."""


class Layout(Strict):
    """Base of the rows of a layout. A row is a group, unless `read` says otherwise."""

    layout: ClassVar[str]
    """Its name."""
    folders: ClassVar[tuple[str, ...]] = ()
    """Folders beside the file of which the first that exists holds the images; if none exists it is the file's own."""
    carries: ClassVar[frozenset[str]] = frozenset()
    """Fields that may hold the bytes of images. Each row of such a layout is a group by itself."""

    @classmethod
    def needs(cls) -> frozenset[str]:
        """Name the fields that every row has; by them the layout is known."""
        return frozenset(f.alias or name for name, f in cls.model_fields.items() if f.is_required())

    @classmethod
    def read(cls, entries: Entries, report: Report) -> Iterator[Group]:
        """Read all rows, in order. `report` receives the error of a broken row, and the next one is read."""
        for place, value in entries:
            try:
                row = parse_row(cls, value, place)
            except RecordError as error:
                report(error)
            else:
                yield row.to_group(place)

    def to_group(self, place: str) -> Group:
        """Return the group that the row describes."""
        raise NotImplementedError


def lose_description(group: Group, lose: Loss) -> None:
    """Tell of everything in a group that neither compares images nor names them."""
    for what, value in (("names of groups", group.id), ("sources", group.sources), ("categories", group.category)):
        if value is not None:
            lose(what)
    for name in group.meta:
        lose(f"field {name}")


def lose_of_pairs(group: Group, lose: Loss) -> None:
    """Tell of everything in a group that its pairs do not hold, whatever is written of each."""
    lose_description(group, lose)
    judgements = orders(group)
    if group.rank is not None:
        lose("published orders" if group.judgements else "that orders are published ones (written as one vote)")
    if any(j.annotator is not None for j in judgements):
        lose("annotators")
    if len(group.images) > 2:
        lose("groups of more than two images (written as pairs)")
    elif any(None not in j.ranks and j.ranks not in LABELS.values() for j in judgements):
        lose("ranks other than 1 and 2 (their order is written)")
    if any(None in j.ranks for j in judgements):
        lose("partial rankings (the images left out are in no pair)")
    if not compared_pairs(group):
        lose("groups that nobody judged (left out)")
