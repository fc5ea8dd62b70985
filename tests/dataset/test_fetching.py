"""A data set of the hub comes whole, goes on where it stopped, and is found by its name without a network."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Cli
from hub_server import Hub, serve
from preference_data import TEST_ROW, png

NAMES = TEST_ROW["image_path"]


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serve() as hub:
        yield hub


def archive(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def put(hub: Hub, packed: bytes) -> None:
    hub.put("datasets/ymhao/HPDv2", "test.json", json.dumps([TEST_ROW]).encode(), large=False)
    hub.put("datasets/ymhao/HPDv2", "test.tar.gz", packed)


@pytest.mark.parametrize("top", ["", "test/", "hpdv2_test/"])
def test_fetched_and_then_read_by_name_without_a_network(cli: Cli, hub: Hub, tmp_path: Path, top: str) -> None:
    put(hub, archive({f"{top}{name}": png(number) for number, name in enumerate(NAMES)}))
    hub.cut_after = 40  # the download goes on by itself
    home = {"HPSKIT_HOME": str(tmp_path), "HF_ENDPOINT": hub.url}
    done = cli("data", "fetch", "ymhao/HPDv2", **home)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "datasets/ymhao--HPDv2"
    assert sorted(path.name for path in (folder / "test").iterdir()) == NAMES
    assert (folder / "test" / NAMES[1]).read_bytes() == png(1)
    assert len([request for request in hub.requests if request.for_content]) == 2
    offline = {**home, "HF_HUB_OFFLINE": "1"}
    found = cli("data", "inspect", "ymhao/HPDv2", "--decode", "--json", **offline)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["images_decoded"] == 3
    assert cli("data", "fetch", "ymhao/HPDv2", "--to", tmp_path / "copy", **offline).returncode == 0
    assert (tmp_path / "copy/test" / NAMES[0]).read_bytes() == png(0)


def test_annotations_alone_and_files_of_any_data_set(cli: Cli, hub: Hub, tmp_path: Path) -> None:
    put(hub, archive({}))
    hub.put("datasets/some/one", "data/test-00000-of-00001.parquet", b"x" * 99)
    home = {"HPSKIT_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url}
    assert cli("data", "fetch", "ymhao/HPDv2", "--no-images", "--to", tmp_path / "a", **home).returncode == 0
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["test.json"]
    name = "data/test-00000-of-00001.parquet"
    assert cli("data", "fetch", "some/one", "--file", name, "--to", tmp_path / "b", **home).returncode == 0
    assert (tmp_path / "b" / name).read_bytes() == b"x" * 99


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ymhao/HPDv2"], "is not on this machine and the hub answered with status 404.*On a connected machine run"),
        (["ymhao/HPDv2", "--split", "val"], "--split: is 'val', expected one of test, train for ymhao/HPDv2"),
        (["some/one"], "some/one: its files are not known here .*name them with --file"),
        (["one"], "'one': is not the name of a data set on the hub, expected OWNER/NAME"),
        (["some/one", "--file", "../x"], "--file: is '../x', expected a path inside"),
    ],
)
def test_errors(cli: Cli, hub: Hub, tmp_path: Path, arguments: list[str], message: str) -> None:
    done = cli("data", "fetch", *arguments, HPSKIT_HOME=str(tmp_path), HF_ENDPOINT=hub.url)
    assert done.returncode == 2
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert re.search(message, line), line


@pytest.mark.parametrize(
    "packed",
    [b"no archive", archive({name: png(1) * 40 for name in NAMES})[:-60], archive({"../evil.jpg": b"x"})],
    ids=["not an archive", "cut off", "outside"],
)
def test_a_bad_archive_leaves_nothing(cli: Cli, hub: Hub, tmp_path: Path, packed: bytes) -> None:
    put(hub, packed)
    done = cli("data", "fetch", "ymhao/HPDv2", "--to", tmp_path / "out", HPSKIT_HOME=str(tmp_path), HF_ENDPOINT=hub.url)
    assert done.returncode == 2
    assert "is not a whole archive that can be trusted" in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["test.json"]
    assert not (tmp_path / "evil.jpg").exists()
