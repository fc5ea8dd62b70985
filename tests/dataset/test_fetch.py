"""A data set of the hub comes whole, goes on where it stopped, and is found by its name without a network."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Cli
from error_fields import at
from hpskit.dataset.fetch import Wanted, fetch, plan
from hpskit.errors import InputError, NotCachedError
from hpskit.files import publish_json
from hub_server import Hub, serve
from preference_data import HPDV3_ROW, TEST_ROW, png

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


def test_fetched_and_then_read_by_name_without_a_network(cli: Cli, hub: Hub, tmp_path: Path) -> None:
    put(hub, archive({f"test/{name}": png(number) for number, name in enumerate(NAMES)}))
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
    shown = cli("data", "fetch", "ymhao/HPDv2", "--dry-run", **home).stdout
    size = hub.files["datasets/ymhao/HPDv2/test.json"].size
    assert f"{size} B  test.json\n" in shown
    assert "  test.tar.gz -> test/\n" in shown
    assert f"to download to {tmp_path}/home/datasets/ymhao--HPDv2" in shown
    assert not [request for request in hub.requests if request.for_content]
    assert not (tmp_path / "home/datasets").exists()
    assert cli("data", "fetch", "ymhao/HPDv2", "--no-images", "--to", tmp_path / "a", **home).returncode == 0
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["test.json"]
    name = "data/test-00000-of-00001.parquet"
    assert cli("data", "fetch", "some/one", "--file", "data/*", "--to", tmp_path / "b", **home).returncode == 0
    assert (tmp_path / "b" / name).read_bytes() == b"x" * 99
    assert (tmp_path / "b" / name).stat().st_nlink > 1  # a large table is not there twice


@pytest.mark.parametrize(
    ("page", "reason"), [(None, "the hub answered with status 404"), ("/api/", "what answered is no hub")]
)
def test_what_the_hub_does_not_have_is_one_line(
    cli: Cli, hub: Hub, tmp_path: Path, page: str | None, reason: str
) -> None:
    hub.page_for = page
    done = cli("data", "fetch", "ymhao/HPDv2", HPSKIT_HOME=str(tmp_path), HF_ENDPOINT=hub.url)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ymhao/HPDv2: ")
    assert reason in line
    assert "On a connected machine run `hpskit data fetch ymhao/HPDv2 --to DIR`" in line


LISTINGS = [
    (Wanted(name="ymhao/HPDv2"), {"test.json": ["test.json"], "test": ["test.tar.gz"]}),
    (
        Wanted(name="ymhao/HPDv2", split="train"),
        {"train.json": ["train.json"], "train": ["train.tar.gz.aa", "train.tar.gz.ab"]},
    ),
    (Wanted(name="ymhao/HPDv2", split="train", images=False), {"train.json": ["train.json"]}),
    (Wanted(name="ymhao/HPDv2", files=("*.md",)), {"README.md": ["README.md"]}),
    (
        Wanted(name="zhwang/HPDv2", generators=("Deliberate",)),
        {
            "benchmark/anime.json": ["benchmark/anime.json"],
            "benchmark/benchmark_imgs/Deliberate": ["benchmark/benchmark_imgs/Deliberate.tar.gz"],
        },
    ),
    (
        Wanted(name="MizzenAI/HPDv3"),
        {"test.json": ["test.json"], "images": [f"images.tar.gz.{n}" for n in ("8", "9", "10")]},
    ),
    (
        Wanted(name="THUDM/ImageRewardDB"),
        {
            "metadata-test.parquet": ["metadata-test.parquet"],
            "images/test/test_1": ["images/test/test_1.zip"],
            "images/test/test_2": ["images/test/test_2.zip"],
        },
    ),
    (
        Wanted(name="yuvalkirstain/pickapic_v1"),
        {f"data/test-0000{n}-of-00002.parquet": [f"data/test-0000{n}-of-00002.parquet"] for n in range(2)},
    ),
]
OTHERS = ["README.md", "train.parquet.txt", "data/test_unique-00000-of-00001.parquet", "images/train/train_1.zip"]


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home that knows what the hub has; the hub is not asked."""
    monkeypatch.setenv("HPSKIT_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "listings"


@pytest.mark.parametrize(("wanted", "parts"), LISTINGS, ids=[f"{w.name} {w.split}" for w, _ in LISTINGS])
def test_what_is_brought_of_a_data_set(offline: Path, wanted: Wanted, parts: dict[str, list[str]]) -> None:
    names = [*OTHERS, *(name for _, others in LISTINGS for files in others.values() for name in files)]
    publish_json(offline / f"datasets--{wanted.name.replace('/', '--')}.json", {name: len(name) for name in names})
    found = plan(wanted)
    assert {str(part.target): [file.path for file in part.files] for part in found} == parts
    assert sum(part.size for part in found) == sum(len(name) for files in parts.values() for name in files)


@pytest.mark.parametrize(
    ("wanted", "place", "found", "help_"),
    [
        (Wanted(name="ymhao/HPDv2", split="val"), "--split", "is 'val'", "test, train for ymhao/HPDv2"),
        (Wanted(name="some/one"), "some/one", "is not known here", "--file: a.json, data/*.parquet, x.zip"),
        (Wanted(name="some/one", files=("b*",)), "some/one", "has no file b*", "--file: a.json"),
        (Wanted(name="some/one", files=("../x",)), "some/one", "has no file ../x", "--file"),
        (Wanted(name="some/one", generators=("x",)), "--generator", "some/one has no images", "zhwang/HPDv2"),
        (Wanted(name="zhwang/HPDv2", generators=("x",)), "zhwang/HPDv2", "benchmark_imgs/x.tar.gz*", "/*.tar.gz"),
        (Wanted(name="one"), "'one'", "is not the name of a data set", "OWNER/NAME"),
    ],
)
def test_what_cannot_be_brought_is_named(offline: Path, wanted: Wanted, place: str, found: str, help_: str) -> None:
    files = ["a.json", "data/test-1.parquet", "data/test-2.parquet", "x.zip"]
    publish_json(offline / "datasets--some--one.json", dict.fromkeys(files, 1))
    images = ["benchmark/anime.json", "benchmark/benchmark_imgs/Deliberate.tar.gz"]
    publish_json(offline / "datasets--zhwang--HPDv2.json", dict.fromkeys(images, 1))
    with pytest.raises(InputError, check=at(place, found=found)) as caught:
        plan(wanted)
    assert help_ in caught.value.expected + caught.value.cure


def test_a_listing_that_leads_outside_is_refused(offline: Path, tmp_path: Path) -> None:
    publish_json(offline / "datasets--some--one.json", {"../evil.json": 1})
    with pytest.raises(InputError, check=at("some/one", found="names a file '../evil.json'")):
        fetch(Wanted(name="some/one", files=("*",)), tmp_path / "out")
    with pytest.raises(NotCachedError, check=at("MizzenAI/HPDv3")):
        plan(Wanted(name="MizzenAI/HPDv3"))


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_killed_between_parts_and_while_unpacking_it_goes_on(hub: Hub, tmp_path: Path) -> None:
    """Each part is downloaded once, apart from the one that was under way."""
    packed = archive({f"images/{name}": png(number) * 50 for number, name in enumerate(NAMES)})
    cut = len(packed) // 3
    parts = {"09": packed[:cut], "10": packed[cut : 2 * cut], "11": packed[2 * cut :]}
    for number, content in parts.items():
        hub.put("datasets/MizzenAI/HPDv3", f"images.tar.gz.{number}", content)
    hub.put("datasets/MizzenAI/HPDv3", "test.json", json.dumps([HPDV3_ROW]).encode(), large=False)
    code = (
        "import sys, time\nfrom hpskit.dataset.fetch import Wanted, fetch\n"
        "def wait(what, done):\n    if done == 2 and sys.argv[1:]:\n        print('half', flush=True)\n        "
        "time.sleep(600)\n"
        "fetch(Wanted(name='MizzenAI/HPDv3'), progress=wait)\n"
    )
    environment = {**os.environ, "HPSKIT_HOME": str(tmp_path), "HF_ENDPOINT": hub.url}

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    hub.stop_after, hub.let_pass = 9, 1
    with start() as process:
        assert hub.stopped.wait(60)
        process.send_signal(signal.SIGKILL)
    hub.release.set()
    for number in (signal.SIGINT, signal.SIGKILL):
        with start("wait") as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "half\n"
            process.send_signal(number)
            _, said = process.communicate(timeout=60)
        assert ("the same command goes on with what is done" in said) == (number == signal.SIGINT)
    folder = tmp_path / "datasets/MizzenAI--HPDv3"
    assert [path.name for path in folder.iterdir() if not path.name.startswith(".")] == ["test.json"]
    with start() as process:
        assert process.wait(60) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["images", "test.json"]
    assert (folder / "images" / NAMES[1]).read_bytes() == png(1) * 50
    assert len(hub.transfers) == 4
