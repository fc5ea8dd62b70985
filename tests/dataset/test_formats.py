"""Every layout is read as what its publisher means, and every broken row is named with file, place and cure."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hpskit.dataset.converting import convert
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
    needs = [layout.needs for layout in FORMATS.values()]
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


BROKEN = [
    (TEST_ROW, {"promt": "x"}, "field 'promt' is unknown, expected 'image_path'.*rename or remove it"),
    (TEST_ROW, {"prompt": 7}, "field 'prompt' is 7, expected a text; put it in quotes or remove the row"),
    (
        TEST_ROW,
        {"prompt": " "},
        "field 'prompt' is ' ', expected a text that is not empty; fill it in or remove the row",
    ),
    (TEST_ROW, {"prompt": "\ud800"}, "surrogate"),
    (TEST_ROW, {"rank": [1, 2]}, "field 'rank' has 2 ranks for 3 images, expected one for each; add or remove"),
    (TEST_ROW, {"rank": [0, 1, 2]}, r"field 'rank' is \[0, 1, 2\], expected whole numbers from 1 to"),
    (TEST_ROW, {"rank": [1, 2, 2.0]}, "whole numbers"),
    (TEST_ROW, {"rank": [1, 2, True]}, "whole numbers"),
    (TEST_ROW, {"rank": [1, 2, None]}, "whole numbers"),
    (TEST_ROW, {"image_path": ["a.jpg", "b.jpg", "a.jpg"]}, "names 'a.jpg' twice.*remove one with its rank"),
    (TEST_ROW, {"image_path": ["a.jpg"]}, "at least two images to compare; add one or remove the row"),
    (TEST_ROW, {"image_path": ["a.jpg", "", "c"]}, "file names that are not empty"),
    (TEST_ROW, {"image_path": ["a.jpg", 3, "c"]}, "a list of file names"),
    (TEST_ROW, {"raw_annotations": {}}, "a list of objects with rank and user_hash"),
    (TEST_ROW, {"raw_annotations": [[1, 2, 3]]}, r"raw_annotations 1 is \[1, 2, 3\], expected an object"),
    (TEST_ROW, {"raw_annotations": [{"rank": [1]}]}, "raw_annotations 1: field 'rank' has 1 ranks for 3 images"),
    (TEST_ROW, {"raw_annotations": [{"rank": [1, 2, 3], "user": "u"}]}, "raw_annotations 1: field 'user' is unknown"),
    (TRAIN_ROW, {"human_preference": [1, 1]}, r"is \[1, 1\], expected \[1, 0\], \[0, 1\], or \[0.5, 0.5\] for a tie"),
    (TRAIN_ROW, {"human_preference": [True, False]}, "for a tie"),
    (TRAIN_ROW, {"human_preference": [0.7, 0.3]}, "for a tie"),
    (TRAIN_ROW, {"file_path": ["a", "b", "c"]}, "expected two images"),
    (IMAGEREWARD_ROW, {"id": None}, "field 'id' is None"),
    (HPDV3_ROW, {"path2": "images/a.jpg"}, "twice"),
    (HPDV3_ROW, {"choice_dist": [1, -1]}, "numbers of votes"),
    (HPDV3_ROW, {"confidence": 1.5}, "from 0 to 1"),
    (RANKING_ROW, {"group": True}, "a name or a number"),
    (RANKING_ROW, {"votes": 0}, "a whole number from 1 to"),
    (RANKING_ROW, {"published": True}, "whole numbers from 1 to"),
    (RANKING_ROW, {"published": True, "ranks": [1, 2], "annotator": "u"}, "nobody's vote"),
    (RANKING_ROW, {"ranks": None, "annotator": "u"}, "nobody has judged"),
    (RANKING_ROW, {"sources": ["x"]}, "a list of 2 texts, one for each image"),
    (RANKING_ROW, {"meta": []}, "an object"),
    (PAIR_ROW, {"first_share": 0.8}, "a whole number of halves of 2 votes"),
    (PAIR_ROW, {"first_share": 1.5}, "a number from 0 to 1"),
    (PAIR_ROW, {"votes": 0}, "a whole number from 1 to"),
]


@pytest.mark.parametrize(
    ("row", "change", "message"), BROKEN, ids=[f"{next(iter(c))} {n}" for n, (_, c, _) in enumerate(BROKEN)]
)
def test_a_broken_row_is_named(tmp_path: Path, row: dict[str, Any], change: dict[str, Any], message: str) -> None:
    path = write_json(tmp_path / "a.json", [row, {**row, **change}])
    place = rf"^{path}: entry 2 \(line \d+\)"
    groups = iter(open_data(path))
    if row is not RANKING_ROW:  # there, a group is complete when the next one begins
        next(groups)
    with pytest.raises(RecordError, match=f"{place}.*{message}") as caught:
        next(groups)
    assert "\n" not in str(caught.value)


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
TWICE = {
    "hpdv2-test": {"image_path": ["a.jpg", "b.jpg", "a.jpg"]},
    "hpdv2-train": {"file_path": ["a.jpg", "a.jpg"]},
    "imagereward": {"generations": ["b", "b"]},
    "imagerewarddb": {},  # the second row is the first once more
    "hpdv3": {"path2": "images/a.jpg"},
    "rankings": {"images": ["b", "b"]},
    "pairs": {"second": "a"},
    "parquet": {"images": ["b", "b"]},
}
COUNT = {
    "hpdv2-test": {"rank": [1, 2]},
    "hpdv2-train": {"human_preference": [1]},
    "imagereward": {"ranking": [1, 2, 3]},
    "imagerewarddb": {"image_path": "b", "rank": None},
    "pickapic": {"label_1": None},
    "hpdv3": {"choice_dist": [3]},
    "rankings": {"ranks": [1]},
    "pairs": {"first_share": None},
    "parquet": {"judgements": [{"ranks": [1], "annotator": "u", "votes": 1}]},
}
KINDS = {
    "same file name twice": TWICE,
    "wrong number of ranks": COUNT,
    "unknown field": {name: {"promt": "a cat"} for name in ROWS},
    "prompt not a string": {name: {"caption" if name == "pickapic" else "prompt": 7} for name in ROWS},
}


def write_rows(folder: Path, layout: str, *rows: dict[str, Any]) -> tuple[Path, list[str]]:
    """A file of a layout, and the places of its rows."""
    if layout in ("rankings", "pairs"):
        path = folder / "a.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path, [f"{path}: line {number}: " for number, _ in enumerate(rows, 1)]
    if layout in ("parquet", "pickapic"):
        path = folder / "a.parquet"
        pq.write_table(pa.Table.from_pylist([*rows]), path)
        return path, [f"{path}: row {number}: " for number, _ in enumerate(rows, 1)]
    path = write_json(folder / "a.json", rows)
    starts = [number for number, line in enumerate(path.read_text().splitlines(), 1) if line == " {"]
    return path, [f"{path}: entry {entry} (line {line}): " for entry, line in enumerate(starts, 1)]


@pytest.mark.parametrize(
    ("layout", "kind"), [(name, kind) for kind, changes in KINDS.items() for name in ROWS if name in changes]
)
def test_every_reader_names_file_row_and_cure(tmp_path: Path, layout: str, kind: str) -> None:
    row = ROWS[layout]
    rows = [row, {**row, **KINDS[kind][layout]}]
    if layout in ("parquet", "pickapic"):  # where a column has one type
        rows = rows[1:]
    path, places = write_rows(tmp_path, layout, *rows)
    with pytest.raises(RecordError) as caught:
        [*open_data(path, format=layout)]
    message = str(caught.value)
    assert message.startswith(places[-1])
    assert "expected" in message
    cure = message.rpartition("; ")[2]
    assert re.match("(correct|add|put|rename|remove)", cure), message
    assert "\n" not in message


@pytest.mark.parametrize("layout", ROWS)
def test_every_reader_names_the_row_of_an_image_that_is_missing(tmp_path: Path, layout: str) -> None:
    rows = [ROWS[layout]]
    if layout == "imagerewarddb":
        rows.append({**DATABASE_ROW, "image_path": "b"})
    path, places = write_rows(tmp_path, layout, *rows)
    [group] = data = open_data(path)
    assert data.format == layout
    with pytest.raises(RecordError) as caught:
        data.image(group, group.images[0])
    message = str(caught.value)
    assert message.startswith(f"{places[0]}image {group.images[0]!r}: ")
    assert "No such file" in message
    assert "bring the image or remove the row" in message


@pytest.mark.parametrize("field", ["prompt", "rank", "image_path"])
def test_a_missing_field_is_named(tmp_path: Path, field: str) -> None:
    path = write_json(tmp_path / "a.json", [TEST_ROW, {k: v for k, v in TEST_ROW.items() if k != field}])
    with pytest.raises(RecordError, match=f"entry 2 .*field '{field}' is missing, expected"):
        [*open_data(path)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"num_example_per_prompt": math.inf},
            "field 'num_example_per_prompt' is inf, expected a text, a finite number",
        ),
        ({"user_id": 3.5}, "field 'user_id' is 3.5, expected a whole number, or null"),
        ({"image_0_url": b"x"}, "field 'image_0_url' is b'x', expected a text"),
        ({"label_0": 0.3}, "label_0 and label_1 are 0.3 and 0.0, expected 1 and 0"),
        ({"label_1": None}, "label_0 and label_1 are 1.0 and None"),
        ({"has_label": None}, "field 'has_label' is None, expected true or false"),
        ({"jpg_0": "text"}, "the bytes of an image"),
        ({"extra": 1}, "field 'extra' is unknown"),
    ],
)
def test_a_broken_row_of_pickapic_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    pq.write_table(pa.Table.from_pylist([pickapic_row(**change)]), tmp_path / "a.parquet")
    with pytest.raises(RecordError, match=f"a.parquet: row 1: .*{message}"):
        [*open_data(tmp_path / "a.parquet")]


def test_columns_with_gaps_are_read_although_pandas_saves_them_as_floats(tmp_path: Path) -> None:
    gaps = {"num_example_per_prompt": math.nan, "user_id": 31.0, "ranking_id": math.nan}
    pq.write_table(pa.Table.from_pylist([pickapic_row(**gaps)]), tmp_path / "a.parquet")
    [group] = data = open_data(tmp_path / "a.parquet")
    assert group.judgements[0].annotator == "31"
    assert group.meta.keys().isdisjoint({"num_example_per_prompt", "ranking_id"})
    convert(data, "jsonl", tmp_path / "lines")
    assert without_place(open_data(tmp_path / "lines")) == [replace(group, place="", embedded={})]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bytes": 5}, "field 'bytes' is 5, expected a list of 2, for each image its bytes or null"),
        ({"bytes": [b"x"]}, "field 'bytes'"),
        ({"bytes": ["a", "b"]}, "field 'bytes'"),
        ({"judgements": 5}, "field 'judgements' is 5, expected a list of"),
        ({"judgements": [5]}, "judgements 1 is 5, expected an object"),
        ({"meta": "[1]"}, "field 'meta' is '\\[1\\]', expected an object"),
        ({"meta": '{"a": NaN}'}, "field 'meta' is .*finite numbers"),
        ({"meta": '{"a": "\\ud800"}'}, "field 'meta' is .*whole characters"),
        ({"meta": 5}, "field 'meta' is 5, expected a JSON object in a string, or null"),
        ({"images": 5}, "field 'images' is 5, expected a list of file names"),
        ({"sources": [5, 5]}, "field 'sources'"),
    ],
)
def test_a_broken_row_of_our_parquet_file_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    pq.write_table(pa.Table.from_pylist([{**PARQUET_ROW, **change}]), tmp_path / "a.parquet")
    with pytest.raises(RecordError, match=f"a.parquet: row 1: {message}"):
        [*open_data(tmp_path / "a.parquet")]


HALF = "x\ud800"
HALVES = [
    ("hpdv2-test", {"image_path": ["a", HALF, "c"]}),
    ("hpdv2-test", {"prompt": HALF}),
    ("hpdv2-test", {"raw_annotations": [{"rank": [1, 2, 3], "user_hash": HALF}]}),
    ("hpdv2-train", {"file_path": ["a", HALF]}),
    ("imagereward", {"id": HALF}),
    ("imagereward", {"generations": ["a", HALF]}),
    ("imagerewarddb", {"image_path": HALF}),
    ("imagerewarddb", {"prompt_id": HALF}),
    ("imagerewarddb", {"image_path": "b", "classification": HALF}),
    ("hpdv3", {"path1": HALF}),
    ("hpdv3", {"model1": HALF}),
    ("rankings", {"group": HALF}),
    ("rankings", {"images": [HALF, "b"]}),
    ("rankings", {"sources": ["x", HALF]}),
    ("rankings", {"annotator": HALF}),
    ("rankings", {"category": HALF}),
    ("rankings", {"meta": {"a": [HALF]}}),
    ("rankings", {"meta": {HALF: 1}}),
    ("rankings", {"meta": {"a": 1e999}}),
    ("pairs", {"second": HALF}),
]


@pytest.mark.parametrize(("layout", "change"), HALVES, ids=[f"{name} {next(iter(c))}" for name, c in HALVES])
def test_what_could_not_be_written_again_is_not_read(tmp_path: Path, layout: str, change: dict[str, Any]) -> None:
    row = {**ROWS[layout], **change}
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row).replace("Infinity", "1e999") + "\n")
    with pytest.raises(RecordError, match=r"a.jsonl: line 1: .*expected .*; ") as caught:
        [*open_data(path, format=layout)]
    str(caught.value).encode()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": "other"}, "prompt is not as in the first line of group 'g'"),
        ({"images": ["b", "a"]}, "images is not as in"),
        ({"ranks": None}, "has a line without ranks"),
        ({"published": True, "ranks": [1, 2]}, "a second published order"),
    ],
)
def test_lines_of_a_group_agree(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    published = {**RANKING_ROW, "published": True, "ranks": [1, 2]}
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, [published, {**RANKING_ROW, **change}])))
    with pytest.raises(RecordError, match=f"a.jsonl: line 2: .*{message}"):
        [*open_data(tmp_path / "a.jsonl")]


def test_lines_of_a_group_stand_together(tmp_path: Path) -> None:
    lines = [RANKING_ROW, {**RANKING_ROW, "group": "h"}, RANKING_ROW]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(RecordError, match=r"line 3: group 'g' ended before.*sort the lines by group"):
        [*open_data(tmp_path / "a.jsonl")]
