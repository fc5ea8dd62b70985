"""Human Preference Dataset v3 (Ma et al. 2025, arXiv 2508.03789): pairs with the votes of several people.

`path1` is the image that the data set says is preferred, so the published order is (1, 2) in every row, whatever the
votes in `choice_dist`. The curated part has no votes (null); then the published order is all there is.
"""

from __future__ import annotations

from typing import Any

from hpskit.dataset.formats.contract import Format, row_by_row
from hpskit.dataset.group import Group, Judgement
from hpskit.records import Row

__all__ = ["HPDV3"]

_NEEDS = frozenset({"prompt", "path1", "path2"})


def _parse(row: Row) -> Group:
    images = (row.text("path1"), row.text("path2"))
    row.check_images("path2", [*images])
    sources = None
    meta: dict[str, Any] = {}
    if row.value.get("model1") is not None and row.value.get("model2") is not None:
        sources = (row.text("model1"), row.text("model2"))
    else:
        meta = {name: row.text(name) for name in ("model1", "model2") if row.value.get(name) is not None}
    confidence = row.value.get("confidence")
    if confidence is not None:
        if isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0 <= confidence <= 1:
            row.fail("confidence", "a number from 0 to 1, or null")
        meta["confidence"] = confidence
    return Group(
        place=row.place,
        prompt=row.text("prompt"),
        images=images,
        judgements=_judgements(row, row.value.get("choice_dist")),
        rank=(1, 2),
        sources=sources,
        meta=meta,
    )


def _judgements(row: Row, votes: Any) -> tuple[Judgement, ...]:
    if votes is None:
        return ()
    if not isinstance(votes, list) or len(votes) != 2 or not all(type(v) is int and 0 <= v <= 1_000_000 for v in votes):
        row.fail("choice_dist", "the numbers of votes for path1 and path2, for example [12, 7], or null")
    orders: tuple[tuple[int, int], ...] = ((1, 2), (2, 1))
    return tuple(Judgement(ranks=order, votes=n) for order, n in zip(orders, votes, strict=True) if n)


HPDV3 = Format(
    name="hpdv3",
    summary="HPD v3: pairs with votes",
    needs=_NEEDS,
    read=row_by_row(_parse, _NEEDS | {"choice_dist", "confidence", "model1", "model2"}),
)
