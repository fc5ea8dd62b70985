"""Shards and images at s3:// addresses, on a server that speaks its protocol."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.parquet as pq
import pytest
from PIL import Image

from conftest import Cli
from hpskit.cluster.score import ScoreShards, Summary, run
from hpskit.cluster.scoring import Loading
from hpskit.errors import InputError
from shard_files import BROKEN, write_shards

pytest.importorskip("s3fs", reason="needs hpskit[cloud]")
ROWS = 12


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A server with a bucket, which s3fs finds by the variables that people set."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        url = f"http://{host}:{port}"
        for name, value in (
            ("ENDPOINT_URL", url), ("ACCESS_KEY_ID", "me"), ("SECRET_ACCESS_KEY", "x"), ("DEFAULT_REGION", "us-east-1")
        ):  # fmt: skip
            patch.setenv(f"AWS_{name}", value)
        fsspec.filesystem("s3").clear_instance_cache()  # of a server before
        fsspec.filesystem("s3").mkdir("bucket")
        yield url
    server.stop()


def score(source: object, out: object, **more: Any) -> Summary:
    """Score shards by this process, unless told otherwise."""
    settings = {"engine": "plain", "scorer": Loading(model="random"), **more}  # which reads the prompt
    return run(ScoreShards(inputs=[str(source)], output=str(out), **settings))


def rows(out: Path) -> list[dict[str, Any]]:
    """All rows of an output, in order, where errors call a file by its name alone."""
    found = sorted(pq.read_table(out).to_pylist(), key=lambda row: row["position"])
    for row in found:
        row["error"] = bool(row["error"])
    return found


@pytest.mark.parametrize(
    ("kind", "engine"),
    [
        ("parquet", "plain"),
        ("tar", "plain"),
        ("jsonl", "plain"),
        ("images", "plain"),
        pytest.param("parquet", "ray", marks=pytest.mark.slow),
        pytest.param("jsonl", "ray", marks=pytest.mark.slow),
        pytest.param("images", "ray", marks=pytest.mark.slow),
    ],
)
def test_there_and_here_are_equal(
    kind: str, engine: str, endpoint: str, tmp_path: Path, photographs: list[Image.Image]
) -> None:
    folder, s3, own = (
        write_shards(tmp_path / "in", photographs, kind),
        fsspec.filesystem("s3"),
        f"bucket/{kind}-{engine}",
    )
    s3.put(str(folder), f"{own}/in", recursive=True)
    source = f"s3://{own}/in" if kind == "images" else f"s3://{own}/in/*.{kind}"
    there = score(source, f"s3://{own}/out", engine=engine, workers=2 if engine == "ray" else None, rows=5)
    assert there == score(folder, tmp_path / "here") == Summary(
        shards=3, rows=3 * ROWS, errors=3 * (len(BROKEN) + (kind == "jsonl"))
    )  # fmt: skip
    s3.get(f"{own}/out", str(tmp_path / "there"), recursive=True)
    assert rows(tmp_path / "there") == rows(tmp_path / "here")
    assert not s3.exists(f"{own}/out/_checkpoint")
    assert score(source, f"s3://{own}/out", engine=engine) == there


def test_a_run_that_was_stopped_goes_on(
    endpoint: str, tmp_path: Path, photographs: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    s3, own = fsspec.filesystem("s3"), "bucket/stopped"
    s3.put(str(write_shards(tmp_path / "in", photographs, "parquet")), f"{own}/in", recursive=True)
    write, calls = s3.pipe_file, list[str]()

    def once(path: str, *args: Any, **more: Any) -> Any:
        calls.append(path)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return write(path, *args, **more)

    monkeypatch.setattr(s3, "pipe_file", once)
    with pytest.raises(KeyboardInterrupt):
        score(f"s3://{own}/in", f"s3://{own}/out")
    assert not json.loads(s3.cat(f"{own}/out/_hpskit.json"))["complete"]
    done = score(f"s3://{own}/in", f"s3://{own}/out")
    assert done == Summary(shards=3, rows=3 * ROWS, errors=3 * len(BROKEN))
    assert sum("shard=0.parquet" in path for path in calls) == 3  # what was whole was not made again


@pytest.mark.parametrize("failures", [3, 4])
def test_a_prompt_that_does_not_come_is_asked_for_again(
    failures: int, endpoint: str, tmp_path: Path, photographs: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    s3, own = fsspec.filesystem("s3"), f"bucket/again-{failures}"
    photographs[0].save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a barn")
    for name in ("a.png", "a.txt"):
        s3.put(str(tmp_path / name), f"{own}/{name}")
    read, calls = s3.open, list[str]()

    def broken(path: str, *args: Any, **more: Any) -> Any:
        calls.append(path)
        if path.endswith(".txt") and len(calls) <= failures:
            raise ConnectionResetError("reset by peer")
        return read(path, *args, **more)

    monkeypatch.setattr(s3, "open", broken)
    monkeypatch.setattr("hpskit.cluster.shards.pause", lambda *_: 0)
    if failures == 3:
        assert score(f"s3://{own}", tmp_path / "out") == Summary(shards=1, rows=1, errors=0)
    else:
        with pytest.raises(InputError, match=r"a\.txt: cannot be reached \(ConnectionResetError: reset by peer"):
            score(f"s3://{own}", tmp_path / "out")
        assert not json.loads((tmp_path / "out/_hpskit.json").read_bytes())["complete"]
    assert sum(path.endswith("a.txt") for path in calls) == 4


@pytest.mark.parametrize(
    ("source", "variable", "value", "found"),
    [
        ("s3://bucket/none", "", "", "s3://bucket/none: is not there"),
        ("s3://nobody/x.parquet", "", "", "s3://nobody/x.parquet: is not there"),
        ("s3://bucket/*.tar", "", "", "fits no file"),
        (
            "s3://bucket/x.parquet",
            "AWS_ENDPOINT_URL",
            "http://127.0.0.1:9",
            "cannot be reached (EndpointConnectionError",
        ),
        ("s3://bucket/x.parquet", "AWS_ACCESS_KEY_ID", "", "cannot be reached (NoCredentialsError"),
    ],
)
def test_what_is_not_there_is_told_soon(
    source: str, variable: str, value: str, found: str, endpoint: str, tmp_path: Path, cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("s3fs.S3FileSystem.cachable", False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    if variable:
        monkeypatch.setenv(variable, value)
    if variable == "AWS_ACCESS_KEY_ID":
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    begun = time.monotonic()
    done = cli("cluster", "score", "--input", source, "--output", tmp_path / "out", "--engine", "plain")
    assert (done.returncode, found in done.stderr) == (2, True), done.stderr
    assert time.monotonic() - begun < 60
    assert not (tmp_path / "out").exists()


def test_score_reads_images_there(endpoint: str, tmp_path: Path, photographs: list[Image.Image], cli: Cli) -> None:
    """`hpskit score --pairs` with images at addresses gives what it gives for files."""
    folder, s3 = write_shards(tmp_path / "in", photographs, "jsonl", shards=1), fsspec.filesystem("s3")
    s3.put(str(folder / "images"), "bucket/images", recursive=True)
    lines = [json.loads(line) for line in (folder / "0.jsonl").read_text().splitlines() if line and line[0] == "{"
             and line != "{not JSON"]  # fmt: skip
    good = [line for number, line in enumerate(lines, 1) if line["prompt"].rpartition(" ")[2] not in map(str, BROKEN)]
    outs = []
    for name, start in (("there", "s3://bucket/"), ("here", "")):
        table = folder / f"{name}.jsonl"
        table.write_text("".join(json.dumps(line | {"image": start + line["image"]}) + "\n" for line in good))
        done = cli("score", "--pairs", table, "--out", tmp_path / f"{name}.csv")
        assert done.returncode == 0, done.stderr
        outs.append([line.rpartition(",")[2] for line in (tmp_path / f"{name}.csv").read_text().splitlines()])
    assert outs[0] == outs[1]
    assert len(outs[0]) == len(good) + 1
