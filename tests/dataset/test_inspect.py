"""Everything in a data set is counted, everything wrong is found, and what was not looked at is said."""

from __future__ import annotations

import io
import itertools
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
from PIL import Image

from hpskit.dataset.group import Group
from hpskit.dataset.inspect import inspect
from hpskit.dataset.reading import open_data
from preference_data import TEST_ROW, TRAIN_ROW, groups, pickapic_row, png, stored, write_json


@settings(max_examples=30)
@given(st.lists(groups(), min_size=1, max_size=5))
def test_counts_agree_with_the_definition(made: list[Group]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tally = inspect(stored(Path(folder) / "a.parquet", made), images=False).to_json()
    votes = [ranks for group in made for j in group.judgements for ranks in [j.ranks] * j.votes]
    compared = [
        (a, b) for ranks in votes for a, b in itertools.combinations(ranks, 2) if a is not None and b is not None
    ]
    assert tally["comparisons"] == len(compared)
    assert tally["tied"] == sum(a == b for a, b in compared)
    assert (tally["first_preferred"] or 0) * tally["decided"] == pytest.approx(sum(a < b for a, b in compared))
    assert tally["partial_votes"] == sum(None in ranks for ranks in votes)
    assert tally["votes"] == len(votes)


def test_everything_wrong_is_found_in_one_go(tmp_path: Path) -> None:
    names = ["good.png", "empty.png", "broken.png", "gone.png", "copy.png"]
    rows: list[Any] = [
        {**TRAIN_ROW, "file_path": ["good.png", "empty.png"]},
        {**TRAIN_ROW, "prompt": ""},
        {**TRAIN_ROW, "file_path": ["broken.png", "gone.png"]},
        {**TRAIN_ROW, "human_preference": [3, 4]},
        {**TRAIN_ROW, "file_path": ["good.png", "copy.png"]},
        {**TRAIN_ROW, "file_path": ["copy.png", "good.png"]},
        {**TRAIN_ROW, "file_path": ["copy.png", "good.png"], "human_preference": [0, 1]},
    ]
    write_json(tmp_path / "train.json", rows)
    (tmp_path / "train").mkdir()
    again = io.BytesIO()
    with Image.open(io.BytesIO(png(1))) as image:
        image.save(again, "WEBP", lossless=True)  # the same pixels under a name that lies
    contents = [png(1), b"", b"<html>not found</html>", None, again.getvalue()]
    for name, content in zip(names, contents, strict=True):
        if content is not None:
            (tmp_path / "train" / name).write_bytes(content)
    found = inspect(open_data(tmp_path), decode=True).to_json()
    assert found["groups"] == 5
    assert found["problems"] == {
        "broken row": 2,
        "missing image": 1,
        "empty image": 1,
        "broken image": 1,
        "same image twice": 3,
    }
    assert found["remarks"] == {"duplicate group": 1, "contradiction": 1, "same image": 1}
    assert "entry 2 (line 13): prompt" in found["listed"]["broken row"][0]
    assert "entry 4 (line 35): human_preference" in found["listed"]["broken row"][1]
    assert "it starts like a web page" in found["listed"]["broken image"][0]
    assert "gone.png" in found["listed"]["missing image"][0]
    assert "prefers the other image of the pair that is" in found["listed"]["contradiction"][0]
    assert found["images_decoded"] == 3
    json.dumps(found)


@given(st.sets(st.integers(0, 5), max_size=4), st.sampled_from(["{", '{"prompt": }', "7", '{"prompt": 7}', '{"a": 1}']))
@settings(max_examples=30)
def test_whatever_rows_are_broken_all_others_are_counted(broken: set[int], text: str) -> None:
    """Each broken one is listed with its line. An array is counted up to where it is no JSON."""
    rows = [text if n in broken else json.dumps({**TRAIN_ROW, "prompt": f"cat {n}"}) for n in range(8)]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a.json").write_text("[" + ",\n".join(rows) + "]")
        (Path(folder) / "a.jsonl").write_text("\n".join(rows))
        for name in ("a.json", "a.jsonl"):
            path, wrong = Path(folder) / name, sorted(broken)
            counted = 8 - len(wrong)
            if wrong and name == "a.json" and text in ("{", '{"prompt": }', "7"):
                wrong, counted = wrong[:1], wrong[0]
            found = inspect(open_data(path, format="hpdv2-train"), images=False, show=9).to_json()
            assert found["groups"] == found["prompts"] == counted
            assert found["problems"] == ({"broken row": len(wrong)} if wrong else {})
            lines = [int(re.findall(r"line (\d+)", line)[0]) for line in found["listed"].get("broken row", [])]
            assert lines == [n + 1 for n in wrong]


def test_embedded_images_are_decoded(tmp_path: Path) -> None:
    rows = [
        pickapic_row(),
        pickapic_row(image_0_uid="u3", jpg_0=b"not an image", image_1_uid="u4", jpg_1=b""),
        pickapic_row(image_0_uid="u5", jpg_0=png(1), image_1_uid="u1", jpg_1=png(1), label_0=0.5, label_1=0.5),
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    found = inspect(open_data(tmp_path / "a.parquet"), decode=True).to_json()
    assert found["problems"] == {"empty image": 1, "broken image": 1, "same image twice": 1}
    assert found["remarks"] == {"same image": 1}
    assert (found["images"], found["embedded_images"], found["images_decoded"]) == (5, 5, 4)
    assert (found["annotators"], found["sources"], found["tied"]) == (1, {"sd1.5": 3, "sdxl": 3}, 1)


def test_links_are_followed_and_folders_and_pipes_are_no_images(tmp_path: Path) -> None:
    for name in ("x/a.png", "x/b.png", "y/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(png(1))
    (tmp_path / "y/b.png").symlink_to(tmp_path / "x/b.png")
    (tmp_path / "y/c.png").symlink_to(tmp_path / "gone")
    rows = [{**TRAIN_ROW, "file_path": [f"{f}/a.png", f"{f}/b.png"]} for f in "xy"]
    rows.append({**TRAIN_ROW, "file_path": ["y/c.png", str(tmp_path / "x/a.png")]})
    os.mkfifo(tmp_path / "pipe")
    rows += [{**TRAIN_ROW, "file_path": pair} for pair in (["x", "pipe"], ["x" * 300, "x/a.png/b.png"])]
    found = inspect(open_data(write_json(tmp_path / "train.json", rows))).to_json()
    assert found["problems"] == {"missing image": 5}
    listed = found["listed"]["missing image"]
    wanted = ["'y/c.png' is not in", "'x' is no file", "'pipe' is no file", "(File name too long)", "(Not a directory)"]
    assert all(text in line for text, line in zip(wanted, listed, strict=True))


def test_a_published_order_against_the_votes_is_remarked(tmp_path: Path) -> None:
    row = {**TEST_ROW, "rank": [3, 2, 1]}
    found = inspect(
        open_data(write_json(tmp_path / "a.json", [TEST_ROW, {**row, "prompt": "x"}])), images=False
    ).to_json()
    assert found["remarks"] == {"published order": 1}
    assert "entry 2" in found["listed"]["published order"][0]
