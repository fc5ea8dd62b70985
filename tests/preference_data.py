"""Data sets for tests: a row of every layout, and anything that a group can be, made up by hypothesis."""

from __future__ import annotations

import datetime
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from PIL import Image

from hpskit.dataset.formats.parquet import ParquetWriter
from hpskit.dataset.group import Group, Judgement
from hpskit.dataset.reading import DataSet, open_data

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda text: not text.isspace()
)
NAME = st.text("abcXYZ012 äé漢-_", min_size=1, max_size=8).map(lambda stem: f"{stem.strip() or 'x'}.png")
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
NESTED = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2), max_leaves=5
)
"""Anything that JSON can hold."""


def png(number: int) -> bytes:
    """A tiny image that differs from number to number."""
    buffer = io.BytesIO()
    Image.new("RGB", (3, 2), (number % 256, number // 256 % 256, 7)).save(buffer, "PNG")
    return buffer.getvalue()


TEST_ROW: dict[str, Any] = {
    "prompt": "a cat",
    "image_path": ["a.jpg", "b.jpg", "c.jpg"],
    "rank": [1, 2, 2],
    "raw_annotations": [{"rank": [1, 2, 3], "user_hash": "u"}, {"rank": [1, 3, 2], "user_hash": "v"}],
}
TRAIN_ROW: dict[str, Any] = {"prompt": "a cat", "file_path": ["a.jpg", "b.jpg"], "human_preference": [1, 0]}
IMAGEREWARD_ROW: dict[str, Any] = {"id": "7-1", "prompt": "a cat", "generations": ["x/a.webp", "b"], "ranking": [2, 2]}
DATABASE_ROW: dict[str, Any] = {
    "image_path": "images/test/test_1/a.webp",
    "prompt_id": "7-1",
    "prompt": "a cat",
    "classification": "People",
    "image_amount_in_total": 3,
    "rank": 1,
    "overall_rating": 4,
    "fidelity_rating": 5,
}
HPDV3_ROW: dict[str, Any] = {
    "prompt": "a cat",
    "choice_dist": [12, 7],
    "confidence": 0.9,
    "path1": "images/a.jpg",
    "path2": "images/b.jpg",
    "model1": "flux",
    "model2": "kolors",
}
PARQUET_ROW: dict[str, Any] = {
    "prompt": "a cat",
    "images": ["a", "b"],
    "judgements": [{"ranks": [1, 2], "annotator": "u", "votes": 1}],
}
RANKING_ROW: dict[str, Any] = {"group": "g", "prompt": "a cat", "images": ["a", "b"], "ranks": [1, None]}
PAIR_ROW: dict[str, Any] = {"prompt": "a cat", "first": "a", "second": "b", "first_share": 0.75, "votes": 2}


def pickapic_row(**changes: Any) -> dict[str, Any]:
    return {
        "are_different": True,
        "best_image_uid": "u1",
        "caption": "a cat",
        "created_at": datetime.datetime(2023, 5, 1, 12, 30),  # the files have no zone
        "has_label": True,
        "image_0_uid": "u1",
        "image_0_url": "https://example.org/u1",
        "image_1_uid": "u2",
        "image_1_url": "https://example.org/u2",
        "jpg_0": png(1),
        "jpg_1": png(2),
        "label_0": 1.0,
        "label_1": 0.0,
        "model_0": "sd1.5",
        "model_1": "sdxl",
        "ranking_id": 5,
        "user_id": 31,
        "num_example_per_prompt": 1,
        "__index_level_0__": 0,
        **changes,
    }


@st.composite
def groups(draw: st.DrawFn, *, size: int | None = None, described: bool = True) -> Group:
    """Anything that a group can be: ties, partial rankings, no judgement, a published order, images on board."""
    images = draw(st.lists(NAME, min_size=size or 2, max_size=size or 5, unique_by=str.casefold))
    rank = st.integers(1, 6)
    ranks = st.lists(st.none() | rank, min_size=len(images), max_size=len(images)).map(tuple)
    judgement = st.builds(
        Judgement, ranks=ranks, annotator=st.none() | TEXT if described else st.none(), votes=st.integers(1, 3)
    )
    group = Group(
        place="",
        prompt=draw(TEXT),
        images=tuple(images),
        judgements=tuple(draw(st.lists(judgement, max_size=4))),
        embedded={name: png(sum(name.encode())) for name in images},
    )
    if not described:
        return group
    sources = st.lists(TEXT, min_size=len(images), max_size=len(images)).map(tuple)
    return replace(
        group,
        id=draw(st.none() | TEXT),
        rank=draw(st.none() | st.lists(rank, min_size=len(images), max_size=len(images)).map(tuple)),
        sources=draw(st.none() | sources),
        category=draw(st.none() | TEXT),
        meta=draw(st.dictionaries(TEXT, NESTED, max_size=2)),
    )


def without_place(found: Iterable[Group]) -> list[Group]:
    return [replace(group, place="") for group in found]


def write_json(path: Path, rows: Sequence[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return path


def stored(path: Path, made: Iterable[Group]) -> DataSet:
    """Groups in our parquet file."""
    with ParquetWriter(path) as writer:
        for group in made:
            writer.write(group)
    return open_data(path)
