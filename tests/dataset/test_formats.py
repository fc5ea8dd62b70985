"""Every layout is read as what its publisher means, and every broken row is named with file, place and cure."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from error_fields import at
from hpskit.dataset.convert import convert
from hpskit.dataset.group import Judgement
from hpskit.dataset.reading import FORMATS, open_data
from hpskit.errors import RecordError
from preference_data import (
    DATABASE_ROW,
    HPDV3_ROW,
    IMAGEREWARD_ROW,
    PAIR_ROW,
    PARQUET_ROW,
    RANKING_ROW,
    TEST_ROW,
    TRAIN_ROW,
    pickapic_row,
    png,
    without_place,
    write_json,
)


def read_one(tmp_path: Path, row: dict[str, Any], **options: Any) -> Any:
    [group] = open_data(write_json(tmp_path / "a.json", [row]), **options)
    return group


def test_hpdv2_test(tmp_path: Path) -> None:
    group = read_one(tmp_path, TEST_ROW)
    assert group.place == f"{tmp_path}/a.json: entry 1 (line 2)"
    assert group.images == ("a.jpg", "b.jpg", "c.jpg")
    assert group.rank == (1, 2, 2)
    assert group.judgements == (
        Judgement(ranks=(1, 2, 3), annotator="u"),
        Judgement(ranks=(1, 3, 2), annotator="v"),
    )


@pytest.mark.parametrize(("label", "ranks"), [([1, 0], (1, 2)), ([0, 1], (2, 1)), ([0.5, 0.5], (1, 1))])
def test_hpdv2_train(tmp_path: Path, label: list[float], ranks: tuple[int, int]) -> None:
    group = read_one(tmp_path, {**TRAIN_ROW, "human_preference": label})
    assert group.judgements == (Judgement(ranks=ranks),)
    assert group.rank is None


def test_imagereward(tmp_path: Path) -> None:
    group = read_one(tmp_path, IMAGEREWARD_ROW)
    assert (group.id, group.images, group.judgements) == ("7-1", ("x/a.webp", "b"), (Judgement(ranks=(2, 2)),))


def test_hpdv3(tmp_path: Path) -> None:
    group = read_one(tmp_path, HPDV3_ROW)
    assert group.judgements == (Judgement(ranks=(1, 2), votes=12), Judgement(ranks=(2, 1), votes=7))
    assert (group.rank, group.sources, group.meta) == ((1, 2), ("flux", "kolors"), {"confidence": 0.9})
    curated = read_one(tmp_path, {**HPDV3_ROW, "choice_dist": None, "confidence": None, "model2": None})
    assert (curated.judgements, curated.rank, curated.sources) == ((), (1, 2), None)
    assert curated.meta == {"model1": "flux"}


def test_pickapic(tmp_path: Path) -> None:
    rows = [
        pickapic_row(),
        pickapic_row(label_0=0.5, label_1=0.5, user_id=None),
        pickapic_row(has_label=False, label_0=0.5, label_1=0.5),
        pickapic_row(image_1_uid="u1", model_1=None),
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    clear, tie, unjudged, same = open_data(tmp_path / "a.parquet")
    assert clear.place == f"{tmp_path}/a.parquet: row 1"
    assert clear.images == ("u1.jpg", "u2.jpg")
    assert clear.embedded == {"u1.jpg": png(1), "u2.jpg": png(2)}
    assert (clear.judgements, clear.sources) == ((Judgement(ranks=(1, 2), annotator="31"),), ("sd1.5", "sdxl"))
    assert clear.meta["created_at"] == "2023-05-01T12:30:00"
    assert clear.meta["ranking_id"] == 5
    assert tie.judgements == (Judgement(ranks=(1, 1)),)
    assert unjudged.judgements == ()
    assert same.images == ("u1.jpg", "u1-1.jpg")
    assert (same.sources, same.meta["model_0"]) == (None, "sd1.5")


def test_rankings_of_one_group_come_together(tmp_path: Path) -> None:
    lines = [
        RANKING_ROW,
        {**RANKING_ROW, "ranks": [2, 2], "annotator": "u", "votes": 3},
        {**RANKING_ROW, "ranks": [1, 2], "published": True},
        {**RANKING_ROW, "group": 1, "ranks": None, "sources": ["x", "y"], "category": "photo", "meta": {"k": [1]}},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    named, unnamed = open_data(tmp_path / "a.jsonl")
    assert named.id == "g"
    assert named.judgements == (Judgement(ranks=(1, None)), Judgement(ranks=(2, 2), annotator="u", votes=3))
    assert named.rank == (1, 2)
    assert unnamed.place == f"{tmp_path}/a.jsonl: line 4"
    assert (unnamed.id, unnamed.judgements, unnamed.sources) == (None, (), ("x", "y"))
    assert (unnamed.category, unnamed.meta) == ("photo", {"k": [1]})


def test_pairs(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(PAIR_ROW))
    [group] = open_data(tmp_path / "a.jsonl")
    assert group.judgements == (Judgement(ranks=(1, 2)), Judgement(ranks=(1, 1)))


def test_every_layout_is_known_by_its_fields() -> None:
    """The layout with the most fields is taken; no two have the same ones."""
    needs = [layout.needs() for layout in FORMATS.values()]
    assert len(set(needs)) == len(needs)


def test_imagerewarddb(tmp_path: Path) -> None:
    """The rows of a prompt need not follow one another."""
    rows = [DATABASE_ROW, {**DATABASE_ROW, "prompt_id": "8"}, {**DATABASE_ROW, "image_path": "b", "rank": 2}]
    rows += [{**DATABASE_ROW, "image_path": "c", "rank": 2}, {**DATABASE_ROW, "prompt_id": "8", "image_path": "d"}]
    data = open_data(write_json(tmp_path / "a.json", rows))
    first, second = data
    assert data.format == "imagerewarddb"
    assert (first.id, first.images, first.category) == ("7-1", ("images/test/test_1/a.webp", "b", "c"), "People")
    assert first.judgements == (Judgement(ranks=(1, 2, 2)),)
    assert first.meta == {"image_amount_in_total": 3, "overall_rating": [4, 4, 4], "fidelity_rating": [5, 5, 5]}
    assert (second.id, second.images, second.place) == (
        "8",
        (first.images[0], "d"),
        f"{tmp_path}/a.json: entry 2 (line 12)",
    )


ROWS = {
    "hpdv2-test": TEST_ROW,
    "hpdv2-train": TRAIN_ROW,
    "imagereward": IMAGEREWARD_ROW,
    "imagerewarddb": DATABASE_ROW,
    "pickapic": pickapic_row(jpg_0=None),
    "hpdv3": HPDV3_ROW,
    "rankings": RANKING_ROW,
    "pairs": PAIR_ROW,
    "parquet": PARQUET_ROW,
}


def write_rows(folder: Path, layout: str, *rows: dict[str, Any]) -> tuple[Path, list[str]]:
    """A file of a layout, and the places of its rows."""
    if layout in ("rankings", "pairs"):
        path = folder / "a.jsonl"
        path.write_text("".join(json.dumps(row).replace("Infinity", "1e999") + "\n" for row in rows))
        return path, [f"{path}: line {number}" for number, _ in enumerate(rows, 1)]
    if layout in ("parquet", "pickapic"):
        path = folder / "a.parquet"
        pq.write_table(pa.Table.from_pylist([*rows]), path)
        return path, [f"{path}: row {number}" for number, _ in enumerate(rows, 1)]
    path = write_json(folder / "a.json", rows)
    starts = [number for number, line in enumerate(path.read_text().splitlines(), 1) if line == " {"]
    return path, [f"{path}: entry {entry} (line {line})" for entry, line in enumerate(starts, 1)]


HALF = "x\ud800"
"""Half of a surrogate pair could be read, but not written again."""
BROKEN: list[tuple[str, dict[str, Any], str, str]] = [
    ("hpdv2-test", {"prompt": 7}, "prompt", "is 7"),
    ("hpdv2-test", {"prompt": " "}, "prompt", "is ' '"),
    ("hpdv2-test", {"prompt": HALF}, "prompt", "is 'x\\ud800'"),
    ("hpdv2-test", {"rank": [1, 2]}, "rank", "has 2 values for 3 images"),
    ("hpdv2-test", {"rank": [0, 1, 2]}, "rank", "is [0, 1, 2]"),
    ("hpdv2-test", {"rank": [1, 2, 2.0]}, "rank", "is [1, 2, 2.0]"),
    ("hpdv2-test", {"rank": [1, 2, True]}, "rank", "is [1, 2, True]"),
    ("hpdv2-test", {"rank": [1, 2, None]}, "rank", "is [1, 2, None]"),
    ("hpdv2-test", {"rank": [1, 2, 1_000_001]}, "rank", "is [1, 2, 1000001]"),
    ("hpdv2-test", {"image_path": ["a.jpg", "b.jpg", "a.jpg"]}, "image_path", "names 'a.jpg' twice"),
    ("hpdv2-test", {"image_path": ["a.jpg"]}, "image_path", "is ['a.jpg']"),
    ("hpdv2-test", {"image_path": ["a.jpg", "", "c"]}, "image_path", "is ['a.jpg', '', 'c']"),
    ("hpdv2-test", {"image_path": ["a.jpg", 3, "c"]}, "image_path", "is ['a.jpg', 3, 'c']"),
    ("hpdv2-test", {"image_path": ["a.jpg", "b\0", "c"]}, "image_path", "b\\x00"),
    ("pickapic", {"image_0_uid": "a\0b"}, "image_0_uid", "a\\x00b"),
    ("hpdv2-test", {"image_path": ["a", HALF, "c"]}, "image_path", "x\\ud800"),
    ("hpdv2-test", {"raw_annotations": {}}, "raw_annotations", "is {}"),
    ("hpdv2-test", {"raw_annotations": [[1, 2, 3]]}, "raw_annotations[0]", "is [1, 2, 3]"),
    ("hpdv2-test", {"raw_annotations": [{"rank": [1]}]}, "raw_annotations[0].rank", "has 1 values for 3 images"),
    ("hpdv2-test", {"raw_annotations": [{"rank": [1, 2, 3], "user": "u"}]}, "raw_annotations[0].user", "is no field"),
    ("hpdv2-train", {"human_preference": [1, 1]}, "human_preference", "is [1.0, 1.0]"),
    ("hpdv2-train", {"human_preference": [1]}, "human_preference", "is [1]"),
    ("hpdv2-train", {"human_preference": [True, False]}, "human_preference", "is [True, False]"),
    ("hpdv2-train", {"human_preference": [0.7, 0.3]}, "human_preference", "is [0.7, 0.3]"),
    ("hpdv2-train", {"file_path": ["a", "b", "c"]}, "file_path", "is ['a', 'b', 'c']"),
    ("imagereward", {"id": None}, "id", "is None"),
    ("imagereward", {"ranking": [1, 2, 3]}, "ranking", "has 3 values for 2 images"),
    ("imagerewarddb", {}, "image_path", "twice"),  # the second row is the first once more
    ("imagerewarddb", {"image_path": "b", "rank": None}, "rank", "is None"),
    ("imagerewarddb", {"image_path": "b", "prompt": "a dog"}, "prompt", "is 'a dog'"),
    ("imagerewarddb", {"image_path": "b", "overall_rating": [HALF]}, "overall_rating", ""),
    ("hpdv3", {"path2": "images/a.jpg"}, "path2", "names 'images/a.jpg' twice"),
    ("hpdv3", {"choice_dist": [3]}, "choice_dist", "is [3]"),
    ("hpdv3", {"choice_dist": [1, -1]}, "choice_dist", "is [1, -1]"),
    ("hpdv3", {"confidence": 1.5}, "confidence", "is 1.5"),
    ("rankings", {"group": True}, "group", "is True"),
    ("rankings", {"group": HALF}, "group", ""),
    ("rankings", {"group": 2, "votes": 0}, "votes", "is 0"),
    ("rankings", {"ranks": [1]}, "ranks", "has 1 values for 2 images"),
    ("rankings", {"published": True}, "ranks", "is (1, None)"),
    ("rankings", {"published": True, "ranks": [1, 2], "annotator": "u"}, "published", "goes with a vote"),
    ("rankings", {"ranks": None, "annotator": "u"}, "ranks", "goes with a vote"),
    ("rankings", {"sources": ["x"]}, "sources", "has 1 values for 2 images"),
    ("rankings", {"sources": ["x", HALF]}, "sources", ""),
    ("rankings", {"meta": []}, "meta", "is []"),
    ("rankings", {"meta": {"a": [HALF]}}, "meta", ""),
    ("rankings", {"meta": {"a": 1e999}}, "meta", "is {'a': inf}"),
    ("pairs", {"second": "a"}, "second", "names 'a' twice"),
    ("pairs", {"second": HALF}, "second", ""),
    ("pairs", {"first_share": 0.8}, "first_share", "is 0.8"),
    ("pairs", {"first_share": 1.5}, "first_share", "is 1.5"),
    ("pairs", {"first_share": None}, "first_share", "is None"),
    ("pairs", {"votes": 0}, "votes", "is 0"),
    ("pickapic", {"num_example_per_prompt": math.inf}, "num_example_per_prompt", "is inf"),
    ("pickapic", {"user_id": 3.5}, "user_id", "is 3.5"),
    ("pickapic", {"image_0_url": b"x"}, "image_0_url", "is b'x'"),
    ("pickapic", {"label_0": 0.3}, "label_0 and label_1", "are 0.3 and 0.0"),
    ("pickapic", {"label_1": None}, "label_0 and label_1", "are 1.0 and None"),
    ("pickapic", {"has_label": None}, "has_label", "is None"),
    ("pickapic", {"jpg_0": "text"}, "jpg_0", "is 'text'"),
    ("pickapic", {"caption": 7}, "caption", "is 7"),
    ("parquet", {"bytes": 5}, "bytes", "is 5"),
    ("parquet", {"bytes": [b"x"]}, "bytes", "has 1 values for 2 images"),
    ("parquet", {"bytes": ["a", "b"]}, "bytes", "is ['a', 'b']"),
    ("parquet", {"judgements": 5}, "judgements", "is 5"),
    ("parquet", {"judgements": [5]}, "judgements[0]", "is 5"),
    ("parquet", {"judgements": [{"ranks": [1]}]}, "judgements[0].ranks", "has 1 values for 2 images"),
    ("parquet", {"meta": "[1]"}, "meta", "is '[1]'"),
    ("parquet", {"meta": '{"a": NaN}'}, "meta", "nan"),
    ("parquet", {"meta": '{"a": "\\ud800"}'}, "meta", ""),
    ("parquet", {"meta": 5}, "meta", "is 5"),
    ("parquet", {"images": 5}, "images", "is 5"),
    ("parquet", {"images": ["b", "b"]}, "images", "names 'b' twice"),
    ("parquet", {"sources": [5, 5]}, "sources", "is [5, 5]"),
    *((layout, {"promt": "a cat"}, "promt", "is no field") for layout in ROWS),
]


@pytest.mark.parametrize(
    ("layout", "change", "field", "found"), BROKEN, ids=[f"{case[0]} {case[2]} {n}" for n, case in enumerate(BROKEN)]
)
def test_every_reader_names_file_row_field_value_and_cure(
    tmp_path: Path, layout: str, change: dict[str, Any], field: str, found: str
) -> None:
    rows = [ROWS[layout], {**ROWS[layout], **change}]
    if layout in ("parquet", "pickapic"):  # where a column has one type
        rows = rows[1:]
    path, places = write_rows(tmp_path, layout, *rows)
    with pytest.raises(RecordError, check=at(f"{places[-1]}: {field}", found=found)) as caught:
        [*open_data(path, format=layout)]
    assert caught.value.cure
    assert caught.value.expected or found in ("is no field", "goes with a vote")
    assert "\n" not in str(caught.value).encode().decode()


@pytest.mark.parametrize("layout", ROWS)
def test_every_reader_names_the_row_of_an_image_that_is_missing(tmp_path: Path, layout: str) -> None:
    rows = [ROWS[layout]]
    if layout == "imagerewarddb":
        rows.append({**DATABASE_ROW, "image_path": "b"})
    path, places = write_rows(tmp_path, layout, *rows)
    [group] = data = open_data(path)
    assert data.format == layout
    with pytest.raises(RecordError, check=at(f"{places[0]}: image {group.images[0]!r}", found="No such file")):
        data.image(group, group.images[0])


def test_columns_with_gaps_are_read_although_pandas_saves_them_as_floats(tmp_path: Path) -> None:
    gaps = {"num_example_per_prompt": math.nan, "user_id": 31.0, "ranking_id": math.nan}
    path, _ = write_rows(tmp_path, "pickapic", pickapic_row(**gaps))
    [group] = data = open_data(path)
    assert group.judgements[0].annotator == "31"
    assert group.meta.keys().isdisjoint({"num_example_per_prompt", "ranking_id"})
    convert(data, "jsonl", tmp_path / "lines")
    assert without_place(open_data(tmp_path / "lines")) == [replace(group, place="", embedded={})]


@pytest.mark.parametrize(
    ("change", "field", "found"),
    [
        ({"prompt": "other"}, ": prompt", "is not as in the first line of group 'g'"),
        ({"images": ["b", "a"]}, ": images", "is not as in"),
        ({"ranks": None}, ": ranks", "is null"),
        ({"published": True, "ranks": [1, 2]}, ": published", "is true in two lines"),
        ({"group": "h"}, "", "is of group 'g', which ended before"),
    ],
)
def test_lines_of_a_group_agree_and_stand_together(
    tmp_path: Path, change: dict[str, Any], field: str, found: str
) -> None:
    published = {**RANKING_ROW, "published": True, "ranks": [1, 2]}
    path, places = write_rows(tmp_path, "rankings", published, {**RANKING_ROW, **change}, RANKING_ROW)
    with pytest.raises(RecordError, check=at(f"{places[2 if 'group' in change else 1]}{field}", found=found)):
        [*open_data(path)]
