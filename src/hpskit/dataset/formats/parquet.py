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
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from hpskit.dataset.formats import Count, Images, Layout, PartialRanks, Ranks, Text, Texts, check_lengths, check_meta
from hpskit.dataset.group import Group, Judgement
from hpskit.schema import Expected, Strict

if TYPE_CHECKING:
    import pyarrow as pa

_ROW_GROUP = (10_000, 64 << 20)
"""Groups, or bytes of images, that are written at once."""


def parsed(text: Any) -> Any:
    """Return what a string of JSON holds; anything else as it is, for pydantic to refuse."""
    try:
        return {} if text is None else json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return text


class JudgementRow(Strict):
    """One of the `judgements`."""

    ranks: PartialRanks
    annotator: Text | None = None
    votes: Count = 1


class WholeRow(Layout):
    """A row of the file."""

    layout = "parquet"
    folders = ("images",)
    carries = frozenset({"bytes"})

    prompt: Text
    images: Images
    judgements: Annotated[tuple[JudgementRow, ...], Field(strict=False)]
    id: Text | None = None
    rank: Ranks | None = None
    sources: Texts | None = None
    category: Text | None = None
    data: (
        Annotated[tuple[bytes | None, ...], Field(strict=False), Expected("a list of bytes or null for each image")]
        | None
    ) = Field(default=None, alias="bytes")
    meta: Annotated[dict[str, Any], BeforeValidator(parsed), Expected("a JSON object in a string, or null")] = Field(
        default_factory=dict
    )

    @model_validator(mode="after")
    def agree(self) -> Self:
        """See that the fields fit one another."""
        check_lengths(self.images, rank=self.rank, sources=self.sources, bytes=self.data)
        for number, judgement in enumerate(self.judgements):
            if len(judgement.ranks) != len(self.images):  # asked here first, because there may be a million
                check_lengths(self.images, **{f"judgements[{number}].ranks": judgement.ranks})
        check_meta("meta", self.meta)
        return self

    def to_group(self, place: str) -> Group:
        return Group(
            place=place,
            id=self.id,
            prompt=self.prompt,
            images=self.images,
            judgements=tuple(Judgement(ranks=j.ranks, annotator=j.annotator, votes=j.votes) for j in self.judgements),
            rank=self.rank,
            sources=self.sources,
            category=self.category,
            embedded={name: d for name, d in zip(self.images, self.data or (), strict=False) if d is not None},
            meta=self.meta,
        )


class ParquetWriter:
    """Writes groups as they come; what is in memory stays below about 100 MB."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self._schema = schema()
        # Images are compressed already, and no image name or prompt is worth a dictionary.
        self._file = pq.ParquetWriter(path, self._schema, compression="zstd", use_dictionary=["category"])
        self._rows: list[dict[str, Any]] = []
        self._size = 0

    def write(self, group: Group) -> None:
        """Add a group with all its embedded images."""
        judgements = [{"ranks": j.ranks, "annotator": j.annotator, "votes": j.votes} for j in group.judgements]
        self._rows.append(
            {
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
        )
        self._size += sum(len(data) for data in group.embedded.values())
        if len(self._rows) >= _ROW_GROUP[0] or self._size >= _ROW_GROUP[1]:
            self._flush()

    def _flush(self) -> None:
        """Write what is held as a row group."""
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


def schema() -> pa.Schema:
    """Return the columns of the file."""
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
