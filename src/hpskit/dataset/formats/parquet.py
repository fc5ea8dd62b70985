"""hpskit's parquet file: one row for each group, with the bytes of its images if they are to travel with it.

    id string, prompt string, images list<string>,
    judgements list<struct<ranks list<int32>, annotator string, votes int32>>,
    rank list<int32>, sources list<string>, category string,
    bytes list<binary>: one for each image, null where an image is not carried
    meta string: a JSON object

All but prompt, images and judgements may be null. The schema's metadata says `hpskit.layout` = `groups 1`.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from hpskit.dataset.formats.contract import Format, row_by_row
from hpskit.dataset.group import Group, Judgement
from hpskit.records import Row

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["PARQUET", "ParquetWriter", "group_row"]

_NEEDS = frozenset({"prompt", "images", "judgements"})
_JUDGEMENT = frozenset({"ranks", "annotator", "votes"})
_ROW_GROUP = (10_000, 64 << 20)
"""Groups, or bytes of images, that are written at once."""


def _group(row: Row) -> Group:
    images = row.images("images")
    judgements, rank, data = (row.value.get(name) for name in ("judgements", "rank", "bytes"))
    if not isinstance(judgements, list):
        row.fail("judgements", "a list of {ranks, annotator, votes}")
    if data is not None and not (isinstance(data, list) and len(data) == len(images) and all(map(_is_bytes, data))):
        row.fail("bytes", f"a list of {len(images)}, for each image its bytes or null; or null for all")
    return Group(
        place=row.place,
        id=row.optional_text("id"),
        prompt=row.text("prompt"),
        images=images,
        judgements=tuple(_judgement(row, n, value, len(images)) for n, value in enumerate(judgements, 1)),
        rank=None if rank is None else row.ranks("rank", len(images)),
        sources=None if row.value.get("sources") is None else row.texts("sources", len(images)),
        category=row.optional_text("category"),
        embedded={name: d for name, d in zip(images, data or [], strict=False) if d is not None},
        meta=_meta(row),
    )


def _judgement(row: Row, number: int, value: Any, length: int) -> Judgement:
    inner = row.inner("judgements", number, value, _JUDGEMENT)
    ranks = inner.partial_ranks("ranks", length)
    return Judgement(ranks=ranks, annotator=inner.optional_text("annotator"), votes=inner.count("votes", 1))


def _is_bytes(value: Any) -> bool:
    return isinstance(value, bytes | None)


def _meta(row: Row) -> dict[str, Any]:
    text = row.value.get("meta")
    if text is None:
        return {}
    try:
        meta = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        row.fail("meta", "a JSON object in a string, or null")
    return row.meta("meta", meta)


class ParquetWriter:
    """Writes groups as they come; what is in memory stays below about 100 MB."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self._schema = _schema()
        # Images are compressed already, and no image name or prompt is worth a dictionary.
        self._file = pq.ParquetWriter(path, self._schema, compression="zstd", use_dictionary=["category"])
        self._rows: list[dict[str, Any]] = []
        self._size = 0

    def write(self, group: Group) -> None:
        """Add one group with all its embedded images."""
        self._rows.append(group_row(group))
        self._size += sum(len(data) for data in group.embedded.values())
        if len(self._rows) >= _ROW_GROUP[0] or self._size >= _ROW_GROUP[1]:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._rows:
            self._file.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows, self._size = [], 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            self._flush()
        self._file.close()


def group_row(group: Group) -> dict[str, Any]:
    """A group as a row."""
    judgements = [{"ranks": j.ranks, "annotator": j.annotator, "votes": j.votes} for j in group.judgements]
    return {
        "id": group.id,
        "prompt": group.prompt,
        "images": group.images,
        "judgements": judgements,
        "rank": group.rank,
        "sources": group.sources,
        "category": group.category,
        "bytes": [group.embedded.get(name) for name in group.images] if group.embedded else None,
        "meta": json.dumps(group.meta, ensure_ascii=False, allow_nan=False) if group.meta else None,
    }


def _schema() -> pa.Schema:
    import pyarrow as pa

    ranks = pa.list_(pa.int32())
    judgement = pa.struct({"ranks": ranks, "annotator": pa.string(), "votes": pa.int32()})
    columns = {
        "id": pa.string(),
        "prompt": pa.string(),
        "images": pa.list_(pa.string()),
        "judgements": pa.list_(judgement),
        "rank": ranks,
        "sources": pa.list_(pa.string()),
        "category": pa.string(),
        "bytes": pa.list_(pa.binary()),
        "meta": pa.string(),
    }
    return pa.schema(columns, metadata={"hpskit.layout": "groups 1"})


PARQUET = Format(
    name="parquet",
    summary="hpskit's parquet file: groups, with the bytes of their images",
    needs=_NEEDS,
    read=row_by_row(_group, _NEEDS | {"id", "rank", "sources", "category", "bytes", "meta"}),
    folders=("images",),
    carries=frozenset({"bytes"}),
)
