"""Entries of arrays, lines and tables come with their places; CSV and rows by number are tested in test_files.py."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpskit import rows
from hpskit.errors import InputError, RecordError
from hpskit.rows import read_entries

INNER = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9)
)
VALUES = st.recursive(INNER, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner))
ENTRIES = st.lists(st.dictionaries(st.text(max_size=5), VALUES, max_size=4), max_size=6)


@given(ENTRIES, st.sampled_from([None, 0, 1]), st.booleans(), st.integers(1, 40))
def test_an_array_comes_back_whatever_is_read_at_once(
    entries: list[dict[str, Any]], indent: int | None, escaped: bool, chunk: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "_CHUNK", chunk)
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
        ('[{"a": 1},\n {"a": "x}]', 1, r"entry 2 \(line 2\) is not JSON \(Unterminated string"),
        ('[{"a": 1},\n {"a": 1', 1, r"entry 2 \(line 2\) is not JSON"),
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
    monkeypatch.setattr(rows, "_CHUNK", 1000)
    path = tmp_path / "a.json"
    path.write_text('[{"a": x}' + ', {"a": 1}' * 10_000 + "]")
    with path.open() as handle, pytest.raises(RecordError, match="entry 1"):
        next(rows._array_entries(path, handle, handle.read(1000)))
    assert handle.closed


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
    (tmp_path / "a.json").write_bytes(b'[{"a": "\xff"}]')
    for name, message in (("a.json", "not UTF-8"), ("b.json", "No such file"), (".", "not a regular file")):
        with pytest.raises(InputError, match=message):
            [*read_entries(tmp_path / name)]
