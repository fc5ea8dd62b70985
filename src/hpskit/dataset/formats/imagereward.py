"""ImageReward's test annotations (Xu et al. 2023, arXiv 2304.05977): groups ranked once, with ties."""

from __future__ import annotations

from hpskit.dataset.formats.contract import Format, row_by_row
from hpskit.dataset.group import Group, Judgement
from hpskit.records import Row

__all__ = ["IMAGEREWARD"]

_NEEDS = frozenset({"id", "prompt", "generations", "ranking"})


def _parse(row: Row) -> Group:
    images = row.images("generations")
    return Group(
        place=row.place,
        id=row.text("id"),
        prompt=row.text("prompt"),
        images=images,
        judgements=(Judgement(ranks=row.ranks("ranking", len(images))),),
    )


IMAGEREWARD = Format(
    name="imagereward",
    summary="ImageReward, test.json: groups ranked with ties",
    needs=_NEEDS,
    read=row_by_row(_parse, _NEEDS),
    folders=("test_images",),
)
