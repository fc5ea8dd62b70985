"""Shards hold everything, are read from anywhere, survive a kill, and notice damage."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from conftest import Cli
from hpskit.dataset import shards
from hpskit.dataset.converting import convert
from hpskit.dataset.formats.parquet import ParquetWriter
from hpskit.dataset.group import Group
from hpskit.dataset.reading import DataSet, open_data
from hpskit.dataset.shards import parse_size, write_shards
from hpskit.errors import InputError, MissingExtraError, OutputError, RecordError
from preference_data import TEST_ROW, groups, png, without_place, write_json


def stored(path: Path, made: list[Group]) -> DataSet:
    with ParquetWriter(path) as writer:
        for group in made:
            writer.write(group)
    return open_data(path)


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    """Twelve groups of two images as files."""
    (tmp_path / "data").mkdir()
    for number in range(24):
        (tmp_path / f"data/{number}.png").write_bytes(png(number))
    rows = [
        {"group": f"g{n}", "prompt": f"p{n}", "images": [f"{2 * n}.png", f"{2 * n + 1}.png"], "ranks": [1, 2]}
        for n in range(12)
    ]
    (tmp_path / "data/rankings.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return open_data(tmp_path / "data")


@settings(max_examples=20)
@given(st.lists(groups(), min_size=1, max_size=5), st.sampled_from([1, 5000, 10**9]))
def test_what_was_packed_is_read_again(made: list[Group], size: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        done = write_shards(stored(folder / "a.parquet", made), folder / "out", size=size)
        data = open_data(folder / "out")
        assert without_place(data) == made
        assert [group.embedded for group in data.outline()] == [{}] * len(made)
        for group, whole in zip(data.outline(), data, strict=True):
            assert (group.place, group.prompt, group.judgements) == (whole.place, whole.prompt, whole.judgements)
            for image, content in group.contents.items():
                assert content.size == len(whole.embedded[image])
                assert content.sha256 == hashlib.sha256(whole.embedded[image]).hexdigest()
        assert (done.groups, done.images) == (len(made), sum(len(group.images) for group in made))
        if size == 1:  # no group is cut
            assert done.shards == len(made)


def test_tar_files_are_as_large_as_asked_for_and_ordinary(data: DataSet, tmp_path: Path) -> None:
    done = write_shards(data, tmp_path / "out", size=8000)
    index = json.loads((tmp_path / "out/index.json").read_text())
    assert [shard["groups"] for shard in index["shards"]] == [2, 2, 2, 2, 2, 2]  # 3,072 bytes a group
    assert done.shards == 6
    names = []
    for shard in index["shards"]:
        path = tmp_path / "out" / shard["file"]
        assert path.stat().st_size == shard["size"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == shard["sha256"]
        with tarfile.open(path) as tar:
            names += tar.getnames()
            for member in tar.getmembers():
                handle = tar.extractfile(member)
                assert handle is not None
                if member.name.endswith(".png"):
                    Image.open(io.BytesIO(handle.read())).load()
    assert names[:4] == ["000000000.json", "000000000.0.png", "000000000.1.png", "000000001.json"]
    assert len(names) == 36


def test_blocks_are_read_by_themselves(data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "_BLOCK", 7000)
    write_shards(data, tmp_path / "out")
    packed = open_data(tmp_path / "out")
    parts = packed.parts()
    assert [part.groups for part in parts] == [3, 3, 3, 3]
    assert [group.prompt for group in packed.read_part(parts[2])] == ["p6", "p7", "p8"]
    assert [group.prompt for group in packed] == [f"p{n}" for n in range(12)]


def test_the_same_data_give_the_same_bytes(data: DataSet, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_shards(data, tmp_path / name, size=8000)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_from_an_address(data: DataSet, tmp_path: Path) -> None:
    write_shards(data, tmp_path / "out", size=8000)
    fsspec.filesystem("memory").put(str(tmp_path / "out"), "/bucket/shards", recursive=True)
    for address in ("memory://bucket/shards", "memory://bucket/shards/", (tmp_path / "out").as_uri()):
        distant = open_data(address)
        assert without_place(distant) == without_place(open_data(tmp_path / "out"))
        assert distant.name == address.rstrip("/")
        assert distant.format == "shards"
    assert next(iter(open_data("memory://bucket/shards"))).place == "memory://bucket/shards: sample 000000000"


def test_they_are_converted_and_packed_like_any_other(data: DataSet, tmp_path: Path) -> None:
    write_shards(data, tmp_path / "out")
    convert(open_data(tmp_path / "out"), "jsonl", tmp_path / "back")
    assert without_place(open_data(tmp_path / "back")) == without_place(data)
    write_shards(open_data(tmp_path / "out"), tmp_path / "again", size=8000)
    assert without_place(open_data(tmp_path / "again")) == without_place(open_data(tmp_path / "out"))


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_a_run_that_was_killed_goes_on(data: DataSet, tmp_path: Path) -> None:
    """It is killed in the middle of the third tar file. Whole ones are not written again."""
    out = tmp_path / "out"
    code = (
        "import time\nfrom pathlib import Path\n"
        "from hpskit.dataset.reading import open_data\nfrom hpskit.dataset.shards import write_shards\n"
        "def wait(done):\n    if done == 5:\n        print('here', flush=True)\n        time.sleep(600)\n"
        f"write_shards(open_data({str(data.path)!r}), Path({str(out)!r}), size=8000, progress=wait)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGKILL)
    whole = {path.name: path.stat().st_mtime_ns for path in out.glob("*.tar")}
    assert sorted(whole) == ["00000.tar", "00001.tar"]
    with pytest.raises(InputError, match="out: is not finished; run the same `hpskit data shards` again"):
        open_data(out)
    with pytest.raises(OutputError, match="out: was begun with other data or another size"):
        write_shards(data, out, size=9000)
    packed: list[int] = []
    done = write_shards(data, out, size=8000, progress=packed.append)
    assert packed == [*range(5, 13)]
    assert {name: (out / name).stat().st_mtime_ns for name in whole} == whole
    write_shards(data, tmp_path / "straight", size=8000)
    assert sorted(path.name for path in out.iterdir()) == sorted(p.name for p in (tmp_path / "straight").iterdir())
    for path in out.iterdir():
        assert path.read_bytes() == (tmp_path / "straight" / path.name).read_bytes()
    assert write_shards(data, out, size=8000, progress=packed.append) == done
    assert packed == [*range(5, 13)]  # nothing is done twice


def test_damage_is_noticed(data: DataSet, tmp_path: Path) -> None:
    def fresh() -> Path:
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        write_shards(data, tmp_path / "out", size=8000)
        return tmp_path / "out"

    tar = fresh() / "00001.tar"
    content = bytearray(tar.read_bytes())
    content[1700] ^= 1
    tar.write_bytes(content)
    with pytest.raises(InputError, match=r"00001.tar: samples 000000002 to 000000003: bytes 0 to 6,144 are damaged"):
        [*open_data(tmp_path / "out")]
    (fresh() / "00001.tar").unlink()
    with pytest.raises(InputError, match=r"00001.tar: cannot be read \(.*\); check the path"):
        [*open_data(tmp_path / "out")]
    rows = fresh() / "00002.jsonl"
    rows.write_bytes(rows.read_bytes().splitlines()[0])
    with pytest.raises(InputError, match=r"00002.jsonl: has 1 rows, expected 2; copy the shards again"):
        [*open_data(tmp_path / "out").outline()]
    index = fresh() / "index.json"
    index.write_text(index.read_text()[:-40])
    with pytest.raises(InputError, match=r"index.json: is not an index of shards"):
        open_data(tmp_path / "out")
    index.write_text('{"format": "hpskit shards 1", "shards": [{}]}')
    with pytest.raises(InputError, match=r"index.json: is not an index of shards"):
        open_data(tmp_path / "out")


def test_a_missing_image_stops_it_and_it_goes_on_when_that_is_there(data: DataSet, tmp_path: Path) -> None:
    (tmp_path / "data/20.png").unlink()
    with pytest.raises(RecordError, match=r"rankings.jsonl: line 11: image '20.png': .*No such file"):
        write_shards(data, tmp_path / "out", size=8000)
    (tmp_path / "data/20.png").write_bytes(png(20))
    assert write_shards(data, tmp_path / "out", size=8000).groups == 12


def test_what_stands_there_is_not_touched(data: DataSet, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="out: exists, expected a new or an empty folder"):
        write_shards(data, tmp_path / "out")
    (tmp_path / "out/mine.txt").rename(tmp_path / "out/index.json")
    with pytest.raises(InputError, match=r"index.json: is not JSON"):
        write_shards(data, tmp_path / "out")
    assert (tmp_path / "out/index.json").read_text() == "mine"


def test_options_that_do_not_go_with_shards(data: DataSet, tmp_path: Path) -> None:
    write_shards(data, tmp_path / "out")
    with pytest.raises(InputError, match=r"--image-root: is given with .*out, whose index says"):
        open_data(tmp_path / "out", image_root=tmp_path)
    with pytest.raises(InputError, match=r"--format: is given with .*out, whose index says"):
        open_data(tmp_path / "out", format="parquet")


def test_addresses_of_other_kinds_say_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises((MissingExtraError, InputError), match=r"dropbox://x/index.json: needs another package \(.*"):
        open_data("dropbox://x")
    with pytest.raises(InputError, match=r"nonsense://x/index.json: cannot be read \(Protocol not known: nonsense"):
        open_data("nonsense://x")
    with pytest.raises(InputError, match=r"memory://nowhere/index.json: cannot be read"):
        open_data("memory://nowhere")


@pytest.mark.parametrize(
    ("text", "size"), [("1GB", 10**9), ("500 mb", 5 * 10**8), ("2GiB", 2 << 30), ("1.5kB", 1500), ("7", 7)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "0MB", "-1GB", "1 XB", "1GB 2"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(InputError, match=r"--size: is .*, expected a size such as 500MB"):
        parse_size(text)


def test_from_the_command_line(cli: Cli, tmp_path: Path) -> None:
    rows = [{**TEST_ROW, "prompt": prompt} for prompt in ("a cat", "one dog", "red fox")]
    for row in rows:
        row["image_path"] = [f"{row['prompt']} {n}.png" for n in range(3)]
    (tmp_path / "test").mkdir()
    for number, name in enumerate(name for row in rows for name in row["image_path"]):
        (tmp_path / "test" / name).write_bytes(png(number))
    path = write_json(tmp_path / "test.json", rows)
    done = cli("data", "split", path, "--out", tmp_path / "parts", "--share", "0.34", "--json")
    assert json.loads(done.stdout)["validation"] == 1, done.stderr
    done = cli("data", "shards", tmp_path / "parts/train.parquet", "--out", tmp_path / "shards")
    assert done.stdout == f"{tmp_path}/shards: 1 shards, 2 groups, 6 images, 9 kB\n", done.stderr
    value = json.loads(cli("data", "inspect", tmp_path / "shards", "--json", "--decode").stdout)
    assert (value["format"], value["sound"], value["groups"], value["embedded_images"]) == ("shards", True, 2, 6)
