"""A data set is found by path, folder, split or name, and its images are where it says."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from error_fields import at
from hpskit.dataset.reading import open_data
from hpskit.errors import InputError, RecordError
from preference_data import TEST_ROW, TRAIN_ROW, pickapic_row, png, write_json


def test_folders(tmp_path: Path) -> None:
    write_json(tmp_path / "one/test.json", [TEST_ROW])
    (tmp_path / "one/readme.md").write_text("not data")
    assert open_data(tmp_path / "one").files == (tmp_path / "one/test.json",)
    write_json(tmp_path / "one/train.json", [TRAIN_ROW])
    with pytest.raises(InputError, check=at(tmp_path / "one", found="(test.json, train.json)", cure="one/test.json")):
        open_data(tmp_path / "one")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, check=at(tmp_path / "empty", found="has no data set in it")):
        open_data(tmp_path / "empty")
    with pytest.raises(InputError, check=at(tmp_path / "nowhere", cure="hpskit data fetch")):
        open_data(tmp_path / "nowhere")


def test_shards_of_a_split_are_one_data_set(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(3):
        row = pickapic_row(caption=f"shard {number}")
        pq.write_table(pa.Table.from_pylist([row, row]), folder / f"test-{number:05}-of-00003-0a1b2c.parquet")
    for path in (tmp_path, folder, tmp_path / "test"):
        data = open_data(path)
        assert [group.prompt for group in data] == [f"shard {n}" for n in (0, 0, 1, 1, 2, 2)]
        assert [*data][2].place == f"{folder}/test-00001-of-00003-0a1b2c.parquet: row 1"
    pq.write_table(pa.Table.from_pylist([pickapic_row()]), folder / "train-00000-of-00001.parquet")
    with pytest.raises(InputError, check=at(tmp_path, found="(test, train)")):
        open_data(tmp_path)
    assert len([*open_data(tmp_path / "train")]) == 1


def test_a_name_of_the_hub_means_what_was_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPSKIT_HOME", str(tmp_path))
    with pytest.raises(InputError, check=at("ymhao/HPDv2", cure="hpskit data fetch NAME")):
        open_data("ymhao/HPDv2")
    write_json(tmp_path / "datasets/ymhao--HPDv2/test.json", [TEST_ROW])
    data = open_data("ymhao/HPDv2")
    assert (data.name, len([*data])) == ("ymhao/HPDv2", 1)
    write_json(tmp_path / "datasets/ymhao--HPDv2/train.json", [TRAIN_ROW])
    assert open_data("ymhao/HPDv2/train.json").format == "hpdv2-train"
    with pytest.raises(InputError, check=at("val.json", found="no such file or folder")):
        open_data("ymhao/HPDv2/val.json")


def test_a_layout_can_be_named(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", [{"prompt": "a cat"}])
    with pytest.raises(InputError, check=at(path, found="known: prompt", expected="hpdv2-test: image_path, prompt")):
        open_data(path)
    with pytest.raises(RecordError, check=at(f"{path}: entry 1 (line 2): image_path", found="is missing")):
        [*open_data(path, format="hpdv2-test")]
    with pytest.raises(InputError, check=at("--format", found="is 'hpd'", expected="hpdv2-test")):
        open_data(path, format="hpd")
    with pytest.raises(InputError, check=at(tmp_path / "b.json", found="holds no rows")):
        open_data(write_json(tmp_path / "b.json", []))
    write_json(path, [{"prompt": "a cat"}, TEST_ROW])
    assert open_data(path).format == "hpdv2-test", "although the first row is broken"


def test_where_images_are(tmp_path: Path) -> None:
    write_json(tmp_path / "test.json", [{**TEST_ROW, "image_path": ["a.png", "gone.png", "empty.png"]}])
    [group] = data = open_data(tmp_path)
    assert data.image_root == tmp_path
    (tmp_path / "test").mkdir()
    (tmp_path / "test/a.png").write_bytes(png(1))
    (tmp_path / "test/empty.png").touch()
    data = open_data(tmp_path)
    assert data.image(group, "a.png") == tmp_path / "test/a.png"
    for name, reason in (("gone.png", "No such file"), ("empty.png", "0 bytes")):
        with pytest.raises(
            RecordError, check=at(f"entry 1 (line 2): image '{name}'", found=reason, cure="--image-root")
        ):
            data.image(group, name)
    other = tmp_path / "elsewhere"
    with pytest.raises(InputError, check=at(other, found="is not a folder")):
        open_data(tmp_path, image_root=other)
    other.mkdir()
    assert open_data(tmp_path, image_root=other).image_root == other
