"""Tables as people have them, in and out: parquet with images in it, CSV, tars, addresses; nothing lost on the way."""

from __future__ import annotations

import contextlib
import csv
import datetime
import decimal
import gzip
import io
import json
import tarfile
import threading
import time
import tracemalloc
import warnings
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from conftest import Cli
from error_fields import at
from hpskit import rows
from hpskit.errors import InputError, MissingExtraError, RecordError
from hpskit.scoring import addresses, shards
from hpskit.scoring.files import ScoreFile, Summary, run
from hpskit.scoring.scorer import PreferenceScorer, load_scorer
from hpskit.scoring.tables import open_table

PROMPTS = [f"prompt {number} ü" for number in range(5)]


@pytest.fixture(scope="module")
def scorer() -> PreferenceScorer:
    return load_scorer("random", precision="fp32", device="cpu", batch_size=2)


@pytest.fixture(scope="module")
def pictures(photographs: list[Image.Image]) -> list[bytes]:
    found = []
    for number in range(5):
        buffer = io.BytesIO()
        photographs[number % 2].crop((number * 20, 0, 60 + number * 20, 50)).save(buffer, "PNG")
        found.append(buffer.getvalue())
    return found


@pytest.fixture(scope="module")
def expected(scorer: PreferenceScorer, pictures: list[bytes]) -> list[float]:
    return scorer.score([Image.open(io.BytesIO(data)) for data in pictures], PROMPTS).tolist()


def score(items: Path | str, out: Path, scorer: PreferenceScorer, **more: Any) -> Summary:
    """Score rows without a word on what was guessed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return run(ScoreFile(items=items, out=out, **more), lambda: scorer)


def scores(path: Path, name: str = "score") -> list[float]:
    if path.suffix == ".parquet":
        return pq.read_table(path).column(name).to_pylist()
    if path.suffix == ".csv":
        return [float(row[name]) for row in csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))]
    return [json.loads(line)[name] for line in path.read_text(encoding="utf-8").splitlines()]


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


class Server:
    """Serves files on 127.0.0.1; `first` are statuses that it gives before the file."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.first: list[int] = []
        self.headers: dict[str, str] = {}
        self.asked: list[str] = []
        self.drips = 0.0
        """Seconds between the bytes of an answer that never ends."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = unquote(self.path)
                outer.asked.append(path)
                if outer.drips:
                    self.send_response(200)
                    self.end_headers()
                    with contextlib.suppress(OSError):
                        while outer.drips:
                            self.wfile.write(b"x")
                            time.sleep(outer.drips)
                    return
                status = outer.first.pop(0) if outer.first else 200 if path in outer.files else 404
                body = outer.files.get(path, b"") if status == 200 else b"no"
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(body))} | outer.headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(addresses, "pause", lambda *_: 0.0)
    found = Server()
    threading.Thread(target=found.http.serve_forever, daemon=True).start()
    yield found
    found.drips = 0.0
    found.http.shutdown()
    found.http.server_close()


def write_table(kind: str, folder: Path, pictures: list[bytes], server: Server) -> str:  # noqa: C901
    """Write the five rows in a layout; return what names it."""
    named = [f"{number}.png" for number in range(5)]
    for name, data in zip(named, pictures, strict=True):
        (folder / name).write_bytes(data)
    path = folder / f"items{kind[kind.index('.') :]}"
    match kind:
        case "struct.parquet":
            image = [{"bytes": data, "path": name} for data, name in zip(pictures, named, strict=True)]
            pq.write_table(pa.table({"image": image, "caption": PROMPTS}), path, row_group_size=2)
        case "some paths.parquet":
            image = [{"bytes": data if n % 2 else None, "path": f"{n}.png"} for n, data in enumerate(pictures)]
            pq.write_table(pa.table({"image": image, "prompt": PROMPTS}), path)
        case "bytes.parquet":
            pq.write_table(pa.table({"pixels": pictures, "text": PROMPTS, "more": [{"a": [1]}] * 5}), path)
        case "names.csv":
            path.write_text("file_name,text\n" + "".join(f"{n},{p}\n" for n, p in zip(named, PROMPTS, strict=True)))
        case "names.tsv":
            path.write_text("img_path\tPrompt\n" + "".join(f"{n}\t{p}\n" for n, p in zip(named, PROMPTS, strict=True)))
        case "txt.tar":
            both = zip(pictures, PROMPTS, strict=True)
            members = [[(f"a/{n}.png", d), (f"a/{n}.txt", f"{p}\n".encode())] for n, (d, p) in enumerate(both)]
            write_tar(path, [member for pair in members for member in pair])
        case "json.tar.gz":
            both = zip(pictures, PROMPTS, strict=True)
            members = [
                [(f"{n}.json", json.dumps({"caption": p}).encode()), (f"{n}.png", d)] for n, (d, p) in enumerate(both)
            ]
            write_tar(path, [member for pair in members for member in pair])
        case "two.tar":
            for n, (d, p) in enumerate(zip(pictures, PROMPTS, strict=True)):
                with_json = [
                    (f"{n}.png", d),
                    (f"{n}.txt", p.encode()),
                    (f"{n}.json", b'{"caption": "x"}'),
                    (f"{n}.cls", b"1"),
                ]
                write_tar(folder / f"shard-{n:04}.tar", with_json)
            return str(folder / ("shard-{0000..0004}.tar"))
        case "glob.parquet":
            for n in range(5):
                pq.write_table(pa.table({"image": [f"{n}.png"], "prompt": [PROMPTS[n]]}), folder / f"t-{n}.parquet")
            return str(folder / "t-*.parquet")
        case _:
            start = (
                server.url
                if kind == "http.jsonl"
                else "memory://bucket"
                if kind == "memory.jsonl"
                else f"file://{folder}"
            )
            server.files = {f"/a b/{name}": data for name, data in zip(named, pictures, strict=True)}
            with_folder = "/a b" if kind == "http.jsonl" else ""
            for name, data in zip(named, pictures, strict=True):
                fsspec.filesystem("memory").pipe_file(f"/bucket/{name}", data)
            rows = [{"url": f"{start}{with_folder}/{n}", "prompt": p} for n, p in zip(named, PROMPTS, strict=True)]
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


KINDS = (
    *("struct.parquet", "some paths.parquet", "bytes.parquet", "names.csv", "names.tsv", "txt.tar", "json.tar.gz"),
    *("two.tar", "glob.parquet", "http.jsonl", "memory.jsonl", "file.jsonl"),
)


@pytest.mark.parametrize("kind", KINDS)
def test_every_layout_gives_the_same_scores_whole_and_in_parts(
    kind: str, tmp_path: Path, pictures: list[bytes], scorer: PreferenceScorer, expected: list[float], server: Server
) -> None:
    items = write_table(kind, tmp_path, pictures, server)
    for ending in ("jsonl", "csv", "parquet"):
        out = tmp_path / f"scores.{ending}"
        assert score(items, out, scorer).rows == 5
        assert scores(out) == pytest.approx(expected, abs=1e-5)
        assert score(items, out, scorer).resumed == 5
        for of in (2, 7):
            parts = [tmp_path / f"part-{of}-{number}.{ending}" for number in range(1, of + 1)]
            for number, part in enumerate(parts, 1):
                score(items, part, scorer, part=f"{number}/{of}")
            if ending == "jsonl":
                assert b"".join(part.read_bytes() for part in parts) == out.read_bytes()
            if ending == "csv":
                lines = [part.read_text().splitlines(keepends=True) for part in parts]
                assert "".join([lines[0][0], *(line for part in lines for line in part[1:])]) == out.read_text()
            if ending == "parquet":
                assert pa.concat_tables([pq.read_table(part) for part in parts]).equals(pq.read_table(out))


def test_parquet_keeps_every_column_and_type(tmp_path: Path, pictures: list[bytes], scorer: PreferenceScorer) -> None:
    columns = {
        "image": pa.array([{"bytes": data, "path": None} for data in pictures]),
        "prompt": pa.array(PROMPTS, pa.large_string()),
        "ns": pa.array([1, 2, 3, None, 2**62 + 1], pa.timestamp("ns", "UTC")),
        "money": pa.array([decimal.Decimal("1.10")] * 4 + [None], pa.decimal128(9, 2)),
        "kind": pa.array(["a", "b", "a", None, "a"]).dictionary_encode(),
        "nan": pa.array([float("nan"), 1, None, 2, 3], pa.float32()),
        "big": pa.array([2**63 + 1] * 5, pa.uint64()),
        "list": pa.array([[{"x": b"\0"}]] * 5),
        "map": pa.array([[("k", 1)]] * 5, pa.map_(pa.string(), pa.int8())),
        "empty": pa.nulls(5),
    }
    table = pa.table(columns).replace_schema_metadata({"huggingface": '{"info": {}}'})
    pq.write_table(table, tmp_path / "items.parquet", row_group_size=2)
    out = tmp_path / "out.parquet"
    score(tmp_path / "items.parquet", out, scorer)
    found = pq.read_table(out)
    assert found.column_names == ["row", *columns, "score", "error", "scorer"]
    assert found.schema.metadata == table.schema.metadata
    kept = found.select(list(columns))
    assert kept.schema.equals(pq.read_schema(tmp_path / "items.parquet"))
    for name in columns:
        assert str(kept.column(name).combine_chunks()) == str(table.column(name).combine_chunks()), name
    config = ScoreFile(items=tmp_path / "items.parquet", out=tmp_path / "out.jsonl", columns="image=image")
    with pytest.raises(InputError):
        score(config.items, config.out, scorer)  # nanoseconds and NaN have no place in JSON
    score(tmp_path / "items.parquet", out.with_name("again.parquet"), scorer, on_error="skip")


def test_columns_of_text_files_get_types_that_all_rows_have(
    tmp_path: Path, pictures: list[bytes], scorer: PreferenceScorer
) -> None:
    (tmp_path / "a.png").write_bytes(pictures[0])
    more: list[dict[str, Any]] = [{"n": 1}, {"n": 2.5, "tags": ["x"]}, {"n": None, "meta": {"b": True}}] * 700
    rows = [{"image": "a.png", "prompt": "x", **row} for row in more]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    score(tmp_path / "a.jsonl", tmp_path / "out.parquet", scorer)
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.schema.field("n").type == pa.float64()
    assert [
        {k: v for k, v in row.items() if v is not None and k in more[0] | more[1] | more[2]}
        for row in found.to_pylist()
    ] == [{k: v for k, v in row.items() if v is not None} for row in more]
    score(tmp_path / "a.jsonl", tmp_path / "out.csv", scorer)
    csv_rows = [*csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text()))]
    assert [*csv_rows[0]] == ["row", "image", "prompt", "n", "tags", "meta", "score", "error", "scorer"]
    assert (csv_rows[1]["tags"], csv_rows[2]["meta"], csv_rows[2]["n"]) == ('["x"]', '{"b": true}', "")
    rows[900]["n"] = "many"
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(RecordError, check=at(expected="one type", cure="--out .jsonl takes any")):
        score(tmp_path / "a.jsonl", tmp_path / "mixed.parquet", scorer)


def test_times_and_decimals_become_text(tmp_path: Path, pictures: list[bytes], scorer: PreferenceScorer) -> None:
    row = {
        "when": datetime.datetime(2024, 5, 6, 7),
        "cost": decimal.Decimal("1.10"),
        "image": pictures[0],
        "prompt": "x",
    }
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    config = ScoreFile(items=tmp_path / "a.parquet", out=tmp_path / "a.jsonl")
    with pytest.warns(UserWarning, match="is without the bytes of 'image'; --out .parquet keeps them"):
        run(config, lambda: scorer)
    found = json.loads(config.out.read_text())
    assert (found["when"], found["cost"]) == ("2024-05-06T07:00:00", "1.10")
    assert "image" not in found


@pytest.mark.parametrize(
    ("columns", "options", "found"),
    [
        ({"image_a": b"x", "image_b": b"x", "prompt": "x"}, "", "may have its image in image_a, image_b"),
        ({"path": "x", "url": "x", "prompt": "x"}, "", "may have its image in path, url"),
        ({"image": "x", "text": "x", "caption": "x"}, "", "may have its prompt in caption, text"),
        ({"a": "x", "b": "x"}, "", "has no column that may be its image (there are: 'a', 'b')"),
        ({"image": "x", "prompt": "x"}, "image=imge", "has no column 'imge'"),
        ({"image": "x", "prompt": "x"}, "picture=image", "has 'picture=image', which is no ROLE=NAME"),
        ({"image": "x", "prompt": "x"}, "image=image,image=prompt", "is there twice"),
    ],
)
def test_columns_that_are_not_clear(columns: dict[str, Any], options: str, found: str, tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([columns]), tmp_path / "a.parquet")
    with pytest.raises(InputError, check=at(found=found)) as caught:
        open_table(tmp_path / "a.parquet", options)
    assert "--columns" in str(caught.value)


def test_what_is_guessed_is_said(cli: Cli, tmp_path: Path, pictures: list[bytes]) -> None:
    (tmp_path / "a.png").write_bytes(pictures[0])
    (tmp_path / "a.csv").write_text("image_path,caption,score\na.png,a cat,3\n")
    asked = ("score", "--pairs", "a.csv", "--model", "random", "--out", "out.csv")
    refused = cli(*asked, cwd=tmp_path)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert "has the columns 'score'" in refused.stderr
    done = cli(*asked, "--prefix", "new_", cwd=tmp_path)
    assert done.returncode == 0
    assert "image is the column 'image_path', prompt is the column 'caption'" in done.stderr
    assert "--columns image=image_path,prompt=caption" in done.stderr
    line = (tmp_path / "out.csv").read_text().splitlines()[0]
    assert line == "new_row,image_path,caption,score,new_score,new_error,new_scorer"
    again = cli(*asked, "--prefix", "new_", "--columns", "image=image_path,prompt=caption", cwd=tmp_path)
    assert again.stderr == ""
    assert "1 of them by an earlier run" in again.stdout


# Hostile


def broken_tar(path: Path, kind: str, picture: bytes) -> str:  # noqa: C901
    """Write an archive that is not what it should be; return what the error says."""
    good = [("0.png", picture), ("0.txt", b"x"), ("1.png", picture), ("1.txt", b"x")]
    with tarfile.open(path, "w") as archive:
        for name, data in good:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        if kind in ("link", "device"):
            member = tarfile.TarInfo("2.png")
            member.type, member.linkname = (tarfile.SYMTYPE, "/etc/passwd") if kind == "link" else (tarfile.CHRTYPE, "")
            archive.addfile(member)
        if kind == "twice":
            for name in ("2.png", "2.png"):
                member = tarfile.TarInfo(name)
                member.size = 1
                archive.addfile(member, io.BytesIO(b"x"))
    data = bytearray(path.read_bytes())
    second = 512 + -(-len(picture) // 512) * 512
    end = len(data) - data[::-1].index(b"x") - 1 if kind != "link" else 0
    match kind:
        case "cut":
            del data[len(picture) // 2 :]
        case "header":
            data[second : second + 512] = b"?" * 512
        case "joined":
            data *= 2
        case "chain":
            member = tarfile.TarInfo("PaxHeaders")
            member.type = tarfile.XHDTYPE
            data[second:second] = member.tobuf(tarfile.GNU_FORMAT) * 5000
        case "huge":
            member = tarfile.TarInfo("2.png")
            member.size = 1 << 40
            data[end // 512 * 512 + 512 :] = member.tobuf() + b"x" * 512
        case "pax":
            member = tarfile.TarInfo("PaxHeaders")
            member.type, member.size = tarfile.XHDTYPE, 1 << 40
            data[end // 512 * 512 + 512 :] = member.tobuf(tarfile.GNU_FORMAT) + b"x" * 512
        case "nothing":
            data[:] = b"hello" * 300
    path.write_bytes(data)
    return {
        "link": "is a link",
        "device": "is a link, or no file",
        "huge": "has 1,099,511,627,776 bytes",
        "twice": "again",
        "pax": "a header announces",
        "joined": "goes on behind the end",
        "header": "no header at byte",
        "chain": "recursion",
    }.get(kind, "is no tar, or a damaged one")


@pytest.mark.parametrize(
    "kind", ["link", "device", "twice", "cut", "header", "joined", "chain", "huge", "pax", "nothing"]
)
def test_hostile_tars(kind: str, tmp_path: Path, pictures: list[bytes], scorer: PreferenceScorer) -> None:
    path = tmp_path / "a.tar"
    found = broken_tar(path, kind, pictures[0])
    with pytest.raises(InputError, check=at(found=found)):
        score(path, tmp_path / "out.jsonl", scorer)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.tar"]


def test_a_packed_bomb_fills_no_memory(tmp_path: Path) -> None:
    """A megabyte that becomes half a gigabyte: one half is passed over, the other is too long for a text."""
    zeros, packed = gzip.compress(bytes(16 << 20), 1), b""
    for name in ("0.bin", "0.txt"):
        member = tarfile.TarInfo(name)
        member.size = 256 << 20
        packed += gzip.compress(member.tobuf()) + zeros * 16
    (tmp_path / "a.tar.gz").write_bytes(packed + gzip.compress(bytes(10240)))
    tracemalloc.start()
    try:
        with pytest.raises(RecordError, check=at(found="268,435,456 bytes", expected="at most 16,777,216")):
            next(shards.read_shard(tmp_path / "a.tar.gz"))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_an_empty_member_is_a_problem_of_its_row(
    tmp_path: Path, pictures: list[bytes], scorer: PreferenceScorer
) -> None:
    members = [("0.png", pictures[0]), ("0.txt", b"x"), ("1.png", b""), ("1.txt", b"x"), ("2.png", pictures[2])]
    path = write_tar(tmp_path / "a.tar", [*members, ("2.txt", b"")])
    with pytest.raises(InputError, check=at(path, found="2 of 3 rows")):
        score(path, tmp_path / "out.jsonl", scorer)
    assert score(path, tmp_path / "out.jsonl", scorer, on_error="skip").skipped == 2
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["image"] for row in rows] == ["0.png", "1.png", "2.png"]
    assert "'image': has 0 bytes" in rows[1]["error"]
    assert "'txt': is empty" in rows[2]["error"]
    assert score(path, tmp_path / "out.jsonl", scorer, on_error="skip").resumed == 1


def test_a_part_of_a_tar_reads_no_other_images(
    tmp_path: Path, pictures: list[bytes], scorer: PreferenceScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = zip(pictures, PROMPTS, strict=True)
    members = [[(f"{n}.png", data), (f"{n}.txt", prompt.encode())] for n, (data, prompt) in enumerate(both)]
    path = write_tar(tmp_path / "a.tar", [member for pair in members for member in pair])
    read, content = list[str](), shards.content

    def noted(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
        read.append(member.name)
        return content(archive, member)

    monkeypatch.setattr(shards, "content", noted)
    score(path, tmp_path / "out.jsonl", scorer, part="2/5")
    assert [name for name in read if name.endswith(".png")] == ["1.png"]


def test_two_images_of_one_key_are_not_chosen_from(tmp_path: Path, pictures: list[bytes]) -> None:
    path = write_tar(tmp_path / "a.tar", [("0.jpg", pictures[0]), ("0.png", pictures[1]), ("0.txt", b"x")])
    for columns in ("", "image=png"):
        with pytest.raises(InputError, check=at(found="'image'", cure="keep one kind in each tar")):
            open_table(path, columns)


def test_names_of_members_lead_nowhere(tmp_path: Path, pictures: list[bytes], scorer: PreferenceScorer) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    members = [("../../x.png", pictures[0]), ("../../x.txt", b"x"), ("/etc/y.png", pictures[1]), ("/etc/y.txt", b"y")]
    score(write_tar(folder / "a.tar", members), tmp_path / "out.jsonl", scorer)
    assert [json.loads(line)["image"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == [
        "../../x.png",
        "/etc/y.png",
    ]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.tar", "in", "out.jsonl", "out.jsonl.manifest.json"]


LONG = {
    "bytes": {"image": b"\0\xff" * 1_000_000, "prompt": "x"},
    "text": {"image": "x" * 2_000_000, "prompt": "x"},
    "prompt": {"image": "0.png", "prompt": {"deep": [{"bytes": b"\1" * 1_000_000}] * 2}},
    "names": {"x" * 1_000_000: 1, "y" * 1_000_000: "x"},
    "wrong struct": {"image": {"path": ["x" * 1_000_000], "z": b"\2" * 1_000_000}, "prompt": "x"},
    "address": {"image": f"nosuch://{'x' * 2_000_000}", "prompt": "x"},
    "collision": {"image": "0.png", "prompt": "x", "score": "x" * 1_000_000, "n" * 1_000_000: float("nan")},
}


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("command", ["score", "inspect", "evaluate"])
def test_no_message_is_long(name: str, command: str, cli: Cli, tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([LONG[name]] * 3), tmp_path / "a.parquet")
    words = {
        "score": ("score", "--model", "random", "--pairs", "a.parquet", "--out", "out.jsonl"),
        "inspect": ("data", "inspect", "a.parquet"),
        "evaluate": ("evaluate", "--data", "a.parquet", "--scorer", "random", "--out", "out"),
    }
    done = cli(*words[command], cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stdout) + len(done.stderr) < 6000
    assert len(done.stderr.splitlines()) <= 3


# Nothing lost


def test_csv_keeps_every_column(tmp_path: Path, pictures: list[bytes], scorer: PreferenceScorer) -> None:
    (tmp_path / "0.png").write_bytes(pictures[0])
    table = pa.table({"image": ["0.png"], "prompt": ["a"], "meta.score": [7], "meta.x": [8], "meta": [{"x": 9}]})
    pq.write_table(table, tmp_path / "a.parquet")
    score(tmp_path / "a.parquet", tmp_path / "out.csv", scorer)
    (row,) = csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text()))
    assert (row["meta.score"], row["meta.x"], row["meta"]) == ("7", "8", '{"x": 9}')
    (tmp_path / "c-1.csv").write_text("image,prompt\n0.png,a\n")
    (tmp_path / "c-2.csv").write_text("prompt,image,note\na,0.png,keep me\n")
    with pytest.raises(InputError, check=at(tmp_path / "c-2.csv", found="other columns than the first file ('note')")):
        score(tmp_path / "c-*.csv", tmp_path / "both.csv", scorer)
    (tmp_path / "c-2.csv").write_text("prompt,image\nb,0.png\n")
    assert score(tmp_path / "c-*.csv", tmp_path / "both.csv", scorer).rows == 2


def test_what_a_struct_holds_beside_its_bytes_is_kept(
    tmp_path: Path, pictures: list[bytes], scorer: PreferenceScorer
) -> None:
    image = {"bytes": pictures[0], "path": "x.png"}
    for name, more, expected in (("a", {}, "x.png"), ("b", {"width": 60}, {"path": "x.png", "width": 60})):
        pq.write_table(pa.table({"image": [{**image, **more}], "prompt": ["a"]}), tmp_path / f"{name}.parquet")
        score(tmp_path / f"{name}.parquet", tmp_path / f"{name}.jsonl", scorer)
        assert json.loads((tmp_path / f"{name}.jsonl").read_text())["image"] == expected


def test_parquet_of_text_rows_has_no_column_twice_and_takes_skipped_rows(
    tmp_path: Path, pictures: list[bytes], scorer: PreferenceScorer
) -> None:
    (tmp_path / "0.png").write_bytes(pictures[0])
    row = {"image": "0.png", "prompt": "a"}
    late = [*[row] * 150, {**row, "score": 3}, {**row, "note": "\ud83d", "n": 1}, {"image": "0.png", "\ud83d": 1}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(one) + "\n" for one in late))
    out = tmp_path / "out.parquet"
    for ending in ("parquet", "jsonl"):
        found = score(tmp_path / "a.jsonl", out.with_suffix(f".{ending}"), scorer, on_error="skip")
        assert (found.rows, found.skipped) == (153, 3)
    assert pq.read_schema(out).names == ["row", "image", "prompt", "n", "score", "error", "scorer"]
    last = pq.read_table(out).to_pylist()[-2]
    assert (last["n"], last["score"]) == (1, None)
    assert "cannot be written" in last["error"]


def test_a_span_of_a_parquet_file_is_not_read_beyond_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"image": ["x" * 100] * 40, "prompt": ["y"] * 40}), tmp_path / "a.parquet")
    monkeypatch.setattr(rows, "_BATCH", 100)
    given, batches = list[int](), pq.ParquetFile.iter_batches

    def counted(self: pq.ParquetFile, *arguments: Any, **options: Any) -> Iterator[pa.RecordBatch]:
        for batch in batches(self, *arguments, **options):
            given.append(batch.num_rows)
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counted)
    assert [number for number, *_ in open_table(tmp_path / "a.parquet").rows(range(2, 5))] == [2, 3, 4]
    assert sum(given) < 20


@pytest.mark.parametrize(
    ("items", "found"),
    [
        ("m-{0..1}*.jsonl", "fits no file"),
        ("m-{a,b}.jsonl", "cannot be read (No such file"),
        ("m-{3..1}.jsonl", "counts from 3 down to 1"),
        ("m-{0..999999}?.jsonl", "fits no file"),
        ("n-*.jsonl", "fits no file"),
    ],
)
def test_names_that_leave_files_out(items: str, found: str, tmp_path: Path) -> None:
    (tmp_path / "m-0.jsonl").write_text('{"image": "0.png", "prompt": "x"}\n')
    with pytest.raises(InputError, check=at(found=found)):
        open_table(tmp_path / items)


# Addresses


def rows_of(tmp_path: Path, urls: list[str]) -> Path:
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps({"image": url, "prompt": f"x {n}"}) + "\n" for n, url in enumerate(urls)))
    return path


def test_a_server_that_stumbles_is_asked_again(
    tmp_path: Path, pictures: list[bytes], scorer: PreferenceScorer, server: Server
) -> None:
    server.files = {"/a.png": pictures[0]}
    server.first = [503, 429, 500]
    items = rows_of(tmp_path, [f"{server.url}/a.png"])
    cache = tmp_path / "cache"
    score(items, tmp_path / "out.jsonl", scorer, cache=cache)
    assert len(server.asked) == 4
    score(items, tmp_path / "other.jsonl", scorer, cache=cache)
    assert len(server.asked) == 4
    server.first = [503] * 4
    with pytest.raises(InputError, check=at(found="HTTP Error 503", cure="are kept")):
        score(items, tmp_path / "none.jsonl", scorer)
    server.first = [403]
    with pytest.raises(InputError, check=at(found="HTTP Error 403")):
        score(items, tmp_path / "none.jsonl", scorer)
    assert len(server.asked) == 9


@pytest.mark.parametrize(
    ("headers", "status", "body", "found"),
    [
        ({}, 200, b"<!doctype html><p>please log in", "is not an image"),
        ({}, 200, b"", "is empty"),
        ({"Content-Length": str(10**12)}, 200, b"x", "has more than 0.5 GB"),
        ({"Location": "file:///etc/passwd"}, 302, b"", "Redirection to url"),
        ({"Location": "http://127.0.0.1:1/"}, 302, b"", "refused"),
    ],
)
def test_what_a_server_may_give(
    headers: dict[str, str],
    status: int,
    body: bytes,
    found: str,
    tmp_path: Path,
    scorer: PreferenceScorer,
    server: Server,
) -> None:
    server.files, server.headers, server.first = {"/a.png": body}, headers, [] if status == 200 else [status] * 9
    with pytest.raises(InputError) as caught:
        score(rows_of(tmp_path, [f"{server.url}/a.png"]), tmp_path / "out.jsonl", scorer)
    assert found in caught.value.found


def test_what_is_no_image_is_not_kept(
    tmp_path: Path, pictures: list[bytes], scorer: PreferenceScorer, server: Server
) -> None:
    server.files = {"/a.png": b"<html>please log in"}
    items, cache = rows_of(tmp_path, [f"{server.url}/a.png"]), tmp_path / "cache"
    with pytest.raises(InputError, check=at(found="is not an image")):
        score(items, tmp_path / "out.jsonl", scorer, cache=cache)
    server.files = {"/a.png": pictures[0]}
    assert score(items, tmp_path / "out.jsonl", scorer, cache=cache).rows == 1
    (kept,) = (path for path in cache.rglob("*") if path.is_file())
    kept.write_bytes(b"<html>from before")
    assert score(items, tmp_path / "other.jsonl", scorer, cache=cache).rows == 1
    assert kept.read_bytes() == pictures[0]


def test_a_server_that_drips_is_given_up(
    tmp_path: Path, scorer: PreferenceScorer, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All attempts together have the time of one image."""
    monkeypatch.setattr(addresses, "_PATIENCE", 1.0)
    server.drips = 0.05
    began = time.monotonic()
    with pytest.raises(InputError, check=at(found="not here after 1 s")):
        score(rows_of(tmp_path, [f"{server.url}/a.png"]), tmp_path / "out.jsonl", scorer)
    assert time.monotonic() - began < 10
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("address", "found"),
    [("local://{}/0.png", "of this machine"), ("zip://0.png::file://{}/a.zip", "a chain of addresses")],
)
def test_addresses_open_no_files_of_this_machine(
    address: str, found: str, tmp_path: Path, pictures: list[bytes], scorer: PreferenceScorer
) -> None:
    (tmp_path / "0.png").write_bytes(pictures[0])
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("0.png", pictures[0])
    with pytest.raises(InputError, check=at(found=found)):
        score(rows_of(tmp_path, [address.format(tmp_path)]), tmp_path / "out.jsonl", scorer)


def test_a_run_that_goes_on_brings_nothing_twice(
    tmp_path: Path, pictures: list[bytes], scorer: PreferenceScorer, server: Server
) -> None:
    server.files = {f"/{number}.png": pictures[number % 4] for number in range(39)}
    items = rows_of(tmp_path, [f"{server.url}/{number}.png" for number in range(40)])
    with pytest.raises(InputError, check=at(found="HTTP Error 404")):
        score(items, tmp_path / "out.jsonl", scorer)
    server.files["/39.png"] = pictures[4]
    server.asked.clear()
    resumed = score(items, tmp_path / "out.jsonl", scorer).resumed
    assert resumed >= 2
    assert len(server.asked) == 40 - resumed


def test_addresses_keep_their_slashes(tmp_path: Path, scorer: PreferenceScorer) -> None:
    try:
        import s3fs  # noqa: F401
    except ImportError:
        with pytest.raises(MissingExtraError, check=at("s3://", cure="hpskit[cloud]")):
            score(rows_of(tmp_path, ["s3://bucket/x.png"]), tmp_path / "out.jsonl", scorer)
    items = rows_of(tmp_path, ["memory://nowhere//x.png"])
    with pytest.raises(InputError, check=at(found="")) as caught:
        score(items, tmp_path / "out.jsonl", scorer)
    assert "memory://nowhere//x.png" in str(caught.value)
    with pytest.raises(InputError, check=at(found="nosuch://: is no scheme")):
        score(rows_of(tmp_path, ["nosuch://x/y.png"]), tmp_path / "out.jsonl", scorer)


def test_a_broken_image_in_a_row_is_skipped_with_its_reason(
    tmp_path: Path, pictures: list[bytes], scorer: PreferenceScorer
) -> None:
    images = [pictures[0], None, b"", b"not an image", pictures[1]]
    pq.write_table(pa.table({"image": pa.array(images, pa.binary()), "prompt": PROMPTS}), tmp_path / "a.parquet")
    with pytest.raises(InputError, check=at(f"{tmp_path / 'a.parquet'}: row 2: column 'image'", cure="are kept")):
        score(tmp_path / "a.parquet", tmp_path / "out.parquet", scorer)
    assert score(tmp_path / "a.parquet", tmp_path / "out.parquet", scorer, on_error="skip").skipped == 3
    found = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["score"] is None for row in found] == [False, True, True, True, False]
    assert [
        word
        for row, word in zip(found[1:4], ("is None", "has 0 bytes", "is not an image"), strict=True)
        if word in row["error"]
    ] == ["is None", "has 0 bytes", "is not an image"]
    assert [row["image"] for row in found] == images
    again = score(tmp_path / "a.parquet", tmp_path / "out.parquet", scorer, on_error="skip")
    assert (again.rows, again.skipped, again.resumed) == (5, 3, 2)
