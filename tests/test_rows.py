"""Rows of arrays, lines and tables come with their places, and what is broken is named."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from error_fields import at
from hpskit import rows
from hpskit.errors import InputError, RecordError
from hpskit.rows import read_entries, read_row_group, read_rows, row_groups

INNER = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9)
)
VALUES = st.recursive(INNER, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner))
ENTRIES = st.lists(st.dictionaries(st.text(max_size=5), VALUES, max_size=4), max_size=6)


def read_all(path: Path) -> tuple[list[dict[str, Any]], list[RecordError]]:
    """The entries that can be read, and the errors of the rest."""
    told: list[RecordError] = []
    return [value for _, value in read_entries(path, told.append)], told


@settings(max_examples=25)
@given(ENTRIES, st.sampled_from([None, 0, 1]), st.booleans(), st.integers(1, 40))
def test_an_array_comes_back_whatever_is_read_at_once(
    entries: list[dict[str, Any]], indent: int | None, escaped: bool, chunk: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "CHUNK", chunk)
        path = Path(folder) / "a.json"
        text = json.dumps(entries, indent=indent, ensure_ascii=escaped)
        path.write_text(f"\n {text}\n\n", encoding="utf-8", errors="surrogatepass")
        found = [*read_entries(path)]
        assert [value for _, value in found] == entries
        lines = [n for n, line in enumerate(path.read_text().split("\n"), 1) if line.startswith(" {")]
        for number, (place, _) in enumerate(found, 1):
            line = re.fullmatch(rf"{path}: entry {number} \(line (\d+)\)", place)
            assert line is not None
            assert indent != 1 or int(line[1]) == lines[number - 1]


@pytest.mark.parametrize(
    ("text", "entries", "place", "found"),
    [
        ('[{"a": 1},\n {"a": }, {}]', 1, "entry 2 (line 2)", "Expecting value"),
        ('[{"a": 1},\n {"a": "x}, {}]', 1, "entry 2 (line 2)", "cut off (Unterminated string"),
        ('[{"a": 1},\n {"a": 1', 1, "entry 2 (line 2)", "cut off (Expecting ',' delimiter"),
        ('[{"a": 1}\n', 1, "entry 1 (line 2)", "is the last before the file ends"),
        ('[{"a": 1}\n,', 1, "entry 2 (line 2)", "is missing"),
        ('[{"a": 1}\n {"a": 2}]', 1, "entry 1 (line 2)", "is followed by '{'"),
        ("[{}, 3]", 1, "entry 2 (line 1)", "starts with '3'"),
        ("[{}] x", 1, "entry 1 (line 1)", "are followed by 'x'"),
        ('[{"a": NaN}]', 0, "entry 1 (line 1)", "NaN is not a number"),
        ('[{"a": 1, "a": 2}]', 0, "entry 1 (line 1)", "'a' is there twice"),
        ("[" * 100_000, 0, "entry 1 (line 1)", "starts with '['"),
        ("[" + '{"a": [' * 100_000, 0, "entry 1 (line 1)", "is not JSON"),
    ],
)
@pytest.mark.parametrize("chunk", [1, 1000])
def test_a_broken_array_ends_with_an_error_at_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, entries: int, place: str, found: str, chunk: int
) -> None:
    monkeypatch.setattr(rows, "CHUNK", chunk)
    path = tmp_path / "a.json"
    path.write_text(text)
    values, [error] = read_all(path)
    assert len(values) == entries
    assert at(f"{path}: {place}", found=found, cure="nothing behind this place is read")(error)


@given(ENTRIES)
def test_lines_come_back(entries: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text("".join(json.dumps(entry) + "\n\n" for entry in entries))
        assert [*read_rows(path)] == [*enumerate(entries, 1)]


def test_csv_and_parquet_rows(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text('\ufeffimage,prompt\na.jpg,"a ""red"" barn,\nat night"\nb.jpg,x\n', encoding="utf-8")
    rows = [{"image": "a.jpg", "prompt": 'a "red" barn,\nat night'}, {"image": "b.jpg", "prompt": "x"}]
    assert [*read_rows(table)] == [*enumerate(rows, 1)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert [*read_rows(tmp_path / "a.parquet")] == [*enumerate(rows, 1)]


@pytest.mark.parametrize(
    ("name", "content", "place", "found"),
    [
        ("a.jsonl", b'{"a": 1}\n{"a": \n', ": line 2", "is not JSON"),
        ("a.jsonl", b"[1]\n", ": line 1", "is list"),
        ("a.jsonl", b'{"a": "\xff"}\n', "", "not UTF-8"),
        ("a.csv", b"image\n\xff\n", "", "not UTF-8"),
        ("a.csv", b"image,prompt\na,b,c\n", ": row 1", "has 3 values for 2 columns"),
        ("a.csv", b'image,prompt\n"a,b\n', ": line 2", "is not CSV"),
        ("a.csv", b"image,prompt\na\n", ": row 1", "has 1 values for 2 columns"),
        ("a.csv", b"image,prompt,prompt\na,b,c\n", "", "the column 'prompt' twice"),
        ("a.csv", b"image;prompt\na;b\n", "", "separated by ';'"),
        ("a.csv", b"image\tprompt\na\tb\n", "", "separated by '\\t'"),
        ("a.tsv", b'image\tprompt\na\t"b ""c"""\n', ": row 1: prompt", "is quoted as in CSV"),
        ("a.jsonl", b'{"a": 1, "a": 2}\n', ": line 1", "'a' is there twice"),
        ("a.jsonl", b'{"a": NaN}\n', ": line 1", "NaN is not a number"),
        ("a.jsonl", b"[" * 100_000 + b"\n", ": line 1", "is not JSON"),
        ("a.parquet", b"PAR", "", "is not a parquet file"),
        ("a.txt", b"", "", "ends in '.txt'"),
    ],
)
def test_broken_rows_are_named(tmp_path: Path, name: str, content: bytes, place: str, found: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, check=at(f"{path}{place}", found=found)):
        [*read_rows(path)]


def test_a_pipe_is_refused_because_it_can_be_read_only_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    with pytest.raises(InputError, check=at(tmp_path / "a.jsonl", found="is not a regular file")):
        next(read_rows(tmp_path / "a.jsonl"))


def test_broken_lines_are_told_and_the_others_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a"\n\n3\n{"a": "\xff"}\n{"a": NaN}\n{"a": 2}\n')
    values, told = read_all(path)
    assert values == [{"a": 1}, {"a": 2}]
    wanted = [("line 2", "is not JSON"), ("line 4", "is int"), ("line 5", "not UTF-8"), ("line 6", "NaN")]
    for error, (place, found) in zip(told, wanted, strict=True):
        assert at(f"{path}: {place}", found=found)(error)


def test_rows_of_a_damaged_table_are_read_as_far_as_they_go(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    late = pa.array([0, 1, 2**62, 5], type=pa.timestamp("us"))
    pq.write_table(pa.table({"a": [1, 2, 3, 4], "when": late}), path, row_group_size=2)
    with pytest.raises(RecordError, check=at(f"{path}: rows 3 to 4", found="cannot be read (")):
        [*read_rows(path)]
    assert [row["a"] for row in read_all(path)[0]] == [1, 2]
    table = pa.table({"a": [*range(4000)], "b": [f"{n:0100}" for n in range(4000)]})
    pq.write_table(table, path, row_group_size=1000, compression="none", use_dictionary=False)
    content = bytearray(path.read_bytes())
    second = pq.ParquetFile(path).metadata.row_group(2).column(1).data_page_offset
    content[second : second + 40] = b"\xff" * 40
    path.write_bytes(content)
    values, [error] = read_all(path)
    assert [row["a"] for row in values] == [*range(2000), *range(3000, 4000)]
    assert at(f"{path}: rows 2,001 to 3,000", found="cannot be read (")(error)


def test_row_groups_are_read_by_themselves_with_the_places_of_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"n": range(7), "image": [b"x"] * 7}), path, row_group_size=3)
    assert [count for count, *_ in row_groups(path)] == [3, 3, 1]
    assert all(size > 0 for _, size, _ in row_groups(path))
    assert [*read_row_group(path, 1)] == [*read_entries(path)][3:6]
    assert [*read_row_group(path, 2, without=["image", "other"])] == [(f"{path}: row 7", {"n": 6})]
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, check=at(path, found="is not a parquet file, or a damaged one")):
        row_groups(path)


@pytest.mark.parametrize(("name", "found"), [("b.json", "No such file"), (".", "is not a regular file")])
def test_what_cannot_be_read_is_an_input_error(tmp_path: Path, name: str, found: str) -> None:
    with pytest.raises(InputError, check=at(tmp_path / name, found=found)):
        [*read_entries(tmp_path / name)]
    for reader in (read_rows, row_groups):
        with pytest.raises(InputError, check=at(tmp_path / "none.parquet", found="No such file")):
            [*reader(tmp_path / "none.parquet")]
