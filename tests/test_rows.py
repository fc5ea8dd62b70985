"""Entries of arrays, lines and tables come with their places; CSV and rows by number are tested in test_files.py."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpskit import rows
from hpskit.errors import InputError, RecordError
from hpskit.rows import array, read_entries, read_row_group, row_groups

INNER = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9)
)
VALUES = st.recursive(INNER, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner))
ENTRIES = st.lists(st.dictionaries(st.text(max_size=5), VALUES, max_size=4), max_size=6)


@settings(max_examples=25)
@given(ENTRIES, st.sampled_from([None, 0, 1]), st.booleans(), st.integers(1, 40))
def test_an_array_comes_back_whatever_is_read_at_once(
    entries: list[dict[str, Any]], indent: int | None, escaped: bool, chunk: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "CHUNK", chunk)
        patch.setattr(array, "CHUNK", chunk)
        path = Path(folder) / "a.json"
        text = json.dumps(entries, indent=indent, ensure_ascii=escaped)
        path.write_text(f"\n {text}\n\n", encoding="utf-8", errors="surrogatepass")
        found = [*read_entries(path)]
        assert [value for _, value in found] == entries
        for number, (place, _) in enumerate(found, 1):
            assert place.startswith(f"{path}: entry {number} (line ")
        if entries and indent is not None:
            lines = [n for n, line in enumerate(path.read_text().split("\n"), 1) if line.startswith(" " * indent + "{")]
            if indent:
                assert [int(place.split("line ")[1][:-1]) for place, _ in found] == lines


@pytest.mark.parametrize(
    ("text", "entries", "message"),
    [
        ('[{"a": 1},\n {"a": }]', 1, r"entry 2 \(line 2\) is not JSON \(Expecting value\)"),
        ('[{"a": 1},\n {"a": "x}]', 1, r"entry 2 \(line 2\) is not closed where the file ends: it is cut off, or a"),
        ('[{"a": 1},\n {"a": 1', 1, r"entry 2 \(line 2\) is not closed where the file ends"),
        ('[{"a": 1}\n', 1, r"entry 1 \(line 2\) is the last: the file ends without '\]'; it was cut off"),
        ('[{"a": 1}\n,', 1, r"entry 2 \(line 2\) is missing: the file ends here"),
        ('[{"a": 1}\n {"a": 2}]', 1, r"entry 1 \(line 2\) is followed by '\{', expected ',' or '\]'"),
        ("[{}, 3]", 1, r"entry 2 \(line 1\) starts with '3', expected an object"),
        ("[{}] x", 1, "followed by 'x', expected the end of the file"),
        ('[{"a": NaN}]', 0, r"entry 1 \(line 1\) is not JSON \(NaN is not a number"),
        ('[{"a": 1, "a": 2}]', 0, r"'a' is there twice"),
        ("{}\n{", 1, r"line 2 is not JSON"),
        ("{}\n[1]", 1, r"line 2 is list, expected an object"),
    ],
)
def test_what_is_broken_is_named_with_its_line(tmp_path: Path, text: str, entries: int, message: str) -> None:
    (tmp_path / "a.json").write_text(text)
    reader = read_entries(tmp_path / "a.json")
    assert len([next(reader) for _ in range(entries)]) == entries
    with pytest.raises(RecordError, match=f"a.json: {message}|a.json: .*{message}"):
        next(reader)


def test_an_error_in_the_middle_is_told_before_the_rest_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(array, "CHUNK", 1000)
    path = tmp_path / "a.json"
    path.write_text('[{"a": x}' + ', {"a": 1}' * 10_000 + "]")
    with path.open() as handle:
        entries = array.array_entries(path, handle, handle.read(1000), rows.refuse, ())
        with pytest.raises(RecordError, match="entry 1"):
            next(entries)
        assert len(handle.read()) > 80_000


def read_all(path: Path, *fields: str) -> tuple[list[Any], list[str]]:
    """The values that can be read, and the first words of what is told of the others."""
    told: list[RecordError] = []
    found = [value["a"] for _, value in read_entries(path, told.append, fields=fields)]
    return found, [re.sub(r".*?a.json: (\w+ \d+( \(line \d+\))?).*", r"\1", str(error)) for error in told]


@pytest.mark.parametrize(
    ("text", "found", "told"),
    [
        ('[{"a": 1},\n{"a": },\n{"a": 3}]', [1, 3], ["entry 2 (line 2)"]),
        ('[{"a": NaN},{"a": 2},{"a": 1, "a": 3},{"a": 4}]', [2, 4], ["entry 1 (line 1)", "entry 3 (line 1)"]),
        ('[{"a": [1, {"b": "]}"}] x},{"a": 2}]', [2], ["entry 1 (line 1)"]),
        ('[3, {"a": 2}, null, "x, y", [{"a": 1}], {"a": 6}]', [2, 6], [f"entry {n} (line 1)" for n in (1, 3, 4, 5)]),
        ('[{"a": 1},\n{"a": "x},\n{"a": 3}]', [1, 3], ["entry 2 (line 2)"]),  # a quote is missing
        ('[{"a": 1},\n{"a": 2,\n{"a": 3}]', [1, 3], ["entry 2 (line 3)"]),  # a bracket is missing
        ('[{"a": [1, 2},{"a": 2}]', [2], ["entry 1 (line 1)"]),
        ('[{"a": 1}},{"a": 2}]', [1, 2], ["entry 1 (line 1)"]),  # a bracket too many
        ('[{"a": 1]},{"a": 2}]', [2], ["entry 1 (line 1)"]),
        ('[{"a": 1}\n{"a": 2}]', [1, 2], ["entry 1 (line 2)"]),  # a comma is missing
        ('[{"a": 1},,{"a": 2},]', [1, 2], ["entry 2 (line 1)", "entry 4 (line 1)"]),
        ('[{"a": 1},\n{"a": 2},\n{"a": "x', [1, 2], ["entry 3 (line 3)"]),  # cut off
        ('[{"a": 1},\n{"a": 2}\n', [1, 2], ["entry 2 (line 3)"]),
        ('[{"a": 1},{"a": 2', [1], ["entry 2 (line 1)"]),
        ('[{"a": 1},{"a": 2]', [1], ["entry 2 (line 1)"]),
        ('[{"a": 1}] {"a": 2}', [1], ["entry 1 (line 1)"]),
        ('{"a": \n{"a": 2}\n[]\n{"a": 4}\n', [2, 4], ["line 1", "line 3"]),
    ],
)
@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_what_can_be_read_is_read_past_what_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, found: list[int], told: list[str], chunk: int
) -> None:
    monkeypatch.setattr(rows, "CHUNK", chunk)
    monkeypatch.setattr(array, "CHUNK", chunk)
    (tmp_path / "a.json").write_text(text)
    assert read_all(tmp_path / "a.json") == (found, told)


def test_an_entry_that_no_bracket_closes_ends_where_the_next_has_all_fields(tmp_path: Path) -> None:
    """Without line breaks, a missing quote turns the text that follows inside out."""
    inner = '{"a": "x}, {"a": "y", "b": [{"a": 0}, {"a": 0}]}, {"a": "z", "b": []}]'
    (tmp_path / "a.json").write_text(f'[{{"a": 1, "b": []}}, {inner}')
    assert read_all(tmp_path / "a.json", "a", "b") == ([1, "y", "z"], ["entry 2 (line 1)"])
    assert read_all(tmp_path / "a.json") == ([1], ["entry 2 (line 1)", "entry 2 (line 1)"])
    with pytest.raises(RecordError, match=r"entry 2 \(line 1\) is not JSON"):
        [*read_entries(tmp_path / "a.json")]


def test_bytes_that_are_not_utf8_are_told_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'[{"a": "\xc3\xa4"},\n {"a": "\xff"},\n {"a": "\\udcff"}]')
    assert read_all(tmp_path / "a.json") == (["ä", "\udcff"], ["entry 2 (line 2)"])
    (tmp_path / "b.json").write_bytes(b'{"a": 1}\n{"a": "\xff"}\n{"a": 3}\n')
    with pytest.raises(RecordError, match="line 2 has bytes that are not UTF-8 text; save the file as UTF-8"):
        [*read_entries(tmp_path / "b.json")]


@settings(max_examples=25)
@given(ENTRIES.filter(bool), st.data(), st.sampled_from([None, 1]))
def test_whatever_is_cut_out_nothing_raises_and_what_is_before_is_read(
    entries: list[dict[str, Any]], data: st.DataObject, indent: int | None
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.json"
        text = json.dumps(entries, indent=indent)
        cut = data.draw(st.integers(1, len(text) - 1))
        end = data.draw(st.integers(cut + 1, len(text)))
        path.write_text(text[:cut] + text[end:])
        told: list[RecordError] = []
        found = [value for _, value in read_entries(path, told.append)]
        before = 0
        while before < len(entries) and text[:cut].startswith(json.dumps(entries[: before + 1], indent=indent)[:-2]):
            before += 1
        before = max(0, before - 1)
        assert found[:before] == entries[:before]


def test_rows_of_a_damaged_table_are_read_as_far_as_they_go(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    late = pa.array([0, 2**62, 5], type=pa.timestamp("us"))
    pq.write_table(pa.table({"a": [1, 2, 3], "when": late}), path)
    told: list[RecordError] = []
    assert [row["a"] for _, row in read_entries(path, told.append)] == [1, 3]
    assert "a.parquet: row 2: a value cannot be read" in str(told[0])
    table = pa.table({"a": [*range(4000)], "b": [f"{n:0100}" for n in range(4000)]})
    pq.write_table(table, path, row_group_size=1000, compression="none", use_dictionary=False)
    content = bytearray(path.read_bytes())
    second = pq.ParquetFile(path).metadata.row_group(2).column(1).data_page_offset
    content[second : second + 40] = b"\xff" * 40
    path.write_bytes(content)
    told.clear()
    found = [row["a"] for _, row in read_entries(path, told.append)]
    assert found == [*range(2000), *range(3000, 4000)]
    assert "a.parquet: rows 2,001 to 3,000 are damaged" in str(told[0])


def test_a_report_lets_the_lines_after_a_broken_one_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a"\n\n3\n{"a": 2}\n')
    told: list[RecordError] = []
    found = [*read_entries(tmp_path / "a.jsonl", told.append)]
    assert [(place[-6:], value["a"]) for place, value in found] == [("line 1", 1), ("line 5", 2)]
    assert [str(error).split("a.jsonl: ")[1][:6] for error in told] == ["line 2", "line 4"]


def test_large_cells_are_read_in_small_batches(tmp_path: Path) -> None:
    """Otherwise 4,096 rows with an image of a megabyte each would be in memory together."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"bytes": [bytes([n]) * 1_000_000 for n in range(64)]}), path, use_dictionary=False)
    with pq.ParquetFile(path) as table:
        assert 16 <= rows._batch_size(table.metadata) <= 40
    assert [place.rpartition(": ")[2] for place, _ in read_entries(path)] == [f"row {n}" for n in range(1, 65)]


def test_what_cannot_be_read_is_an_input_error(tmp_path: Path) -> None:
    for name, message in (("b.json", "No such file"), (".", "not a regular file")):
        with pytest.raises(InputError, match=message):
            [*read_entries(tmp_path / name)]


def test_row_groups_are_read_by_themselves_with_the_places_of_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"n": range(7), "image": [b"x"] * 7}), path, row_group_size=3)
    assert [count for count, *_ in row_groups(path)] == [3, 3, 1]
    assert all(size > 0 for _, size, _ in row_groups(path))
    assert [*read_row_group(path, 1)] == [*read_entries(path)][3:6]
    assert [*read_row_group(path, 2, without=["image", "other"])] == [(f"{path}: row 7", {"n": 6})]
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match=r"a.parquet: is not a parquet file, or a damaged one"):
        row_groups(path)
    with pytest.raises(InputError, match=r"nowhere.parquet: cannot be read \("):
        row_groups(tmp_path / "nowhere.parquet")
