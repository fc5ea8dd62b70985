"""Shards are scored once each, by plain processes, whatever is broken in them and whenever these are killed."""

from __future__ import annotations

import io
import itertools
import json
import os
import shutil
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from conftest import Cli
from error_fields import at
from hpskit.cluster.finding import find_shards
from hpskit.cluster.score import ScoreShards, Summary, run
from hpskit.cluster.scoring import Loading
from hpskit.cluster.shards import END, Columns, blocks
from hpskit.cluster.store import Store
from hpskit.errors import InputError, MissingExtraError, ModelError, OutputError
from hpskit.scoring.scorer import load_scorer
from shard_files import BROKEN, encoded, write_shards

ROWS = 12


def plain(source: object, out: object, **more: Any) -> Summary:
    """Score shards in this process."""
    scorer = more.pop("scorer", Loading(model="mini"))
    return run(ScoreShards(inputs=[str(source)], output=str(out), scorer=scorer, engine="plain", **more))


def rows(out: Path) -> list[dict[str, Any]]:
    """All rows of an output, in order."""
    return sorted(pq.read_table(out).to_pylist(), key=lambda row: row["position"])


@pytest.fixture
def shards(tmp_path: Path, photographs: list[Image.Image]) -> Path:
    return write_shards(tmp_path / "shards", photographs, "parquet")


@pytest.mark.parametrize("kind", ["parquet", "tar", "jsonl"])
def test_every_row_has_a_score_or_a_reason(kind: str, tmp_path: Path, photographs: list[Image.Image]) -> None:
    folder, out = write_shards(tmp_path / "in", photographs, kind), tmp_path / "out"
    broken = {*BROKEN, *([5] if kind == "jsonl" else [])}
    assert plain(folder, out) == Summary(shards=3, rows=3 * ROWS, errors=3 * len(broken))
    found = rows(out)
    assert [(row["shard"], row["id"]) for row in found if row["outcome"] != "ends"] == [
        (f"{shard}.{kind}", f"{shard}.{kind}:{n}") for shard in range(3) for n in range(1, ROWS + 1)
    ]
    errors = {row["id"].partition(":")[2]: row["error"] for row in found if row["outcome"] == "errors"}
    assert {*map(int, errors)} == broken
    assert "is not an image" in errors["3"]
    if kind == "jsonl":
        assert "2.jsonl: line 9: is not JSON" in errors["5"]
    images = [Image.open(io.BytesIO(encoded(photographs, n))) for n in (1, 2, 4)]
    alone = load_scorer("mini", batch_invariant=True).score(images, "a photograph")
    assert [found[n - 1]["score"] for n in (1, 2, 4)] == pytest.approx(alone.tolist(), abs=1e-6)


def test_folders_of_images(tmp_path: Path, photographs: list[Image.Image], monkeypatch: pytest.MonkeyPatch) -> None:
    """Their prompts stand beside them; they are scored as the rows of tables with the same images and prompts are."""
    monkeypatch.setattr("hpskit.cluster.finding._IN_SHARD", 5)
    folder = write_shards(tmp_path / "in", photographs, "images")
    assert [shard.name for shard in find_shards([str(folder)])][:4] == ["0/1", "0/2", "0/3", "1/1"]
    random = {"scorer": Loading(model="random")}  # which reads the prompt
    assert plain(folder, tmp_path / "out", **random) == Summary(shards=9, rows=3 * ROWS, errors=3 * len(BROKEN))
    plain(write_shards(tmp_path / "tables", photographs, "parquet"), tmp_path / "same", **random)
    found, same = rows(tmp_path / "out"), rows(tmp_path / "same")
    assert [row["id"] for row in found if row["score"] is not None][:3] == ["0/001.jpg", "0/002.jpg", "0/004.jpg"]
    scores = [row["score"] for row in found if row["outcome"] != "ends"]
    assert scores == [row["score"] for row in same if row["outcome"] != "ends"]
    for name, content in (("0/001.jpg", encoded(photographs, 77)), ("2/007.txt", b"something else")):
        before = (folder / name).read_bytes()
        (folder / name).write_bytes(content)
        with pytest.raises(OutputError, check=at(tmp_path / "out", found="has input")):
            plain(folder, tmp_path / "out", **random)
        (folder / name).write_bytes(before)
    for option in ("columns", "id"):
        with pytest.raises(InputError, check=at(f"--{option}", found="goes with files of rows")):
            plain(folder, tmp_path / "other", **{option: "image=image"})


def test_prompts_that_cannot_be_read_are_errors_of_their_images(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(10):
        Image.new("RGB", (16, 16), (20 * number,) * 3).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text("\ufeffa cat\r\n")
    (folder / "0.txt").unlink()
    (folder / "1.txt").write_text(" \n")
    (folder / "2.txt").write_bytes(b"\xff")
    (folder / "3.txt").unlink()
    os.mkfifo(folder / "3.txt")
    (folder / "4.txt").write_text("é" * 40_000)
    (folder / "5.png").rename(os.fsdecode(os.fsencode(folder) + b"/5\xff.png"))
    (folder / "6.png").rename(folder / "6.PNG")
    (folder / "6.txt").rename(folder / "6.TXT")
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / ".ipynb_checkpoints/notes.csv").write_text("a,b\n1,2\n")
    (folder / ".hidden.csv").write_text("a,b\n1,2\n")
    (folder / "x.gif").write_bytes(b"GIF")
    with pytest.warns(UserWarning, match=r"not read: .*x\.gif; images end in"):
        assert plain(folder, tmp_path / "out") == Summary(shards=1, rows=10, errors=6)
    found = [row["error"] or row["id"] for row in rows(tmp_path / "out") if row["outcome"] != "ends"]
    expected = ("0.png: has no prompt: 0.txt is not there", "1.txt: is empty", "2.txt: is not Unicode text",
                "3.txt: is no file", "4.txt: is longer, expected a prompt of at most 65,536 bytes",
                "is not Unicode text", "6.PNG", "7.png")  # fmt: skip
    for text, part in zip(found, expected, strict=False):
        assert part in text


def test_folders_that_cannot_be_called_or_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing below a folder is left out in silence."""
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "in"
    for place in (elsewhere, folder / "own"):
        place.mkdir(parents=True)
        Image.new("RGB", (16, 16)).save(place / "1.png")
        (place / "1.txt").write_text("a cat")
    (folder / "more").symlink_to(elsewhere)
    assert plain(folder, tmp_path / "out").rows == 2
    with pytest.raises(InputError, check=at("--output", found="lies in the input")):
        plain(folder / "more", tmp_path / "elsewhere/out")
    (tmp_path / "t.csv").write_text("image,prompt\n")
    both = ScoreShards(inputs=[str(folder), str(tmp_path / "t.csv")], output=str(tmp_path / "o"),
                       engine="plain", scorer=Loading(model="mini"))  # fmt: skip
    with pytest.raises(InputError, check=at("--input", found="images as well as files")):
        run(both)
    for name, found in ((b"\xff", "is not Unicode text"), ("猫".encode() * 40, "a name of 3")):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).mkdir()
        path = Path(os.fsdecode(os.fsencode(folder) + b"/" + name + b"/1.png"))
        Image.new("RGB", (16, 16)).save(path)
        with pytest.raises(InputError, check=at(found=found)):
            plain(folder, tmp_path / "other")
        shutil.rmtree(path.parent)
    (folder / "loop").symlink_to(folder)
    with pytest.raises(InputError, check=at(folder / "loop", found="a link to a folder above it")):
        plain(folder, tmp_path / "other")
    (folder / "loop").unlink()
    (folder / "own/2.png").symlink_to("nowhere")
    with pytest.raises(InputError, check=at(folder / "own/2.png", found="is not there")):
        plain(folder, tmp_path / "other")

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "in")

    monkeypatch.setattr("os.scandir", refused)  # whoever runs this may be root
    with pytest.raises(InputError, check=at(folder, found="Permission denied")):
        find_shards([str(folder)])


def test_a_name_that_is_no_address_is_the_error_of_its_row(photographs: list[Image.Image], tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    for name in ("a.jpg", "b::c.jpg"):
        memory.pipe_file(f"/chain/{name}", encoded(photographs, 1))
        memory.pipe_file(f"/chain/{name[:-4]}.txt", b"a cat")
    assert plain("memory://chain", tmp_path / "out") == Summary(shards=1, rows=2, errors=1)


def test_parts_of_several_processes_are_one_output(shards: Path, tmp_path: Path, cli: Cli) -> None:
    command = ("cluster", "score", "--input", shards, "--engine", "plain", "--id", "key", "--output")
    first = cli(*command, tmp_path / "parts", "--part", "2/2")
    assert (first.returncode, "2 of 3 shards are left" in first.stdout) == (0, True), first.stderr
    record = json.loads((tmp_path / "parts/_hpskit.json").read_text())
    assert record["complete"] is False
    assert cli(*command, tmp_path / "parts", "--part", "1/2").returncode == 0
    assert cli(*command, tmp_path / "whole").returncode == 0
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    assert [row["id"] for row in rows(tmp_path / "whole")[:3]] == ["0-1", "0-2", "0-3"]


def test_a_shard_that_is_not_whole_is_made_again_and_no_other(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    plain(shards, out)
    before = rows(out)
    record = json.loads((out / "_hpskit.json").read_text())
    (out / "_hpskit.json").write_text(json.dumps(record | {"complete": False}))
    (out / "outcome=ends/shard=1.parquet/part.parquet").unlink()
    (out / "outcome=scores/shard=2.parquet/part.parquet").write_bytes(b"PAR1")  # a disk that was full
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*=0.parquet/*")}
    plain(shards, out)
    assert rows(out) == before
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_what_is_missing_or_double_is_named(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever an engine did: the output is counted."""
    write = Store.write_part

    def lossy(self: Store, outcome: str, shard: str, table: Any) -> None:
        if shard == "1.parquet" and outcome == "scores":
            table = table.slice(2)
        write(self, outcome, shard, table)
        if shard == "2.parquet" and outcome == "scores":
            self.write(f"outcome=errors/shard={shard}/more.parquet", (tmp_path / "more").read_bytes())

    plain(shards, tmp_path / "good")
    shutil.copy(tmp_path / "good/outcome=scores/shard=2.parquet/part.parquet", tmp_path / "more")
    monkeypatch.setattr(Store, "write_part", lossy)
    with pytest.raises(OutputError) as caught:
        plain(shards, tmp_path / "out")
    assert "1.parquet: 2 rows are missing (1, 2)" in caught.value.found
    assert "2.parquet: 10 rows are there twice (1, 2, 4, 5, 6 and 5 more)" in caught.value.found
    assert not json.loads((tmp_path / "out/_hpskit.json").read_text())["complete"]


def test_a_finished_run_answers_from_its_record(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = plain(shards, tmp_path / "out")
    monkeypatch.setattr(Loading, "load", lambda *_: pytest.fail("nothing is left to score"))
    assert plain(shards, tmp_path / "out") == done


def test_an_output_is_of_one_run(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    plain(shards, out)
    with pytest.raises(OutputError, check=at(out, found="has model 'mini'", expected="'random'", cure="another")):
        plain(shards, out, scorer=Loading(model="random"))
    shutil.copy(shards / "0.parquet", shards / "9.parquet")
    with pytest.raises(OutputError, check=at(out, found="has input 'shards: 3, ", expected="'shards: 4, ")):
        plain(shards, out)
    with pytest.raises(InputError, check=at("--output", found="lies in the input")):
        plain(shards, shards / "scores")  # and would be input the next time
    with pytest.raises(OutputError, check=at(shards, found="other things")):
        plain(shards / "0.parquet", shards)


def test_addresses(photographs: list[Image.Image], tmp_path: Path) -> None:
    """In this process fsspec has a memory for both; what is brought here and written there is the same."""
    folder = write_shards(tmp_path / "in", photographs, "jsonl")
    memory = fsspec.filesystem("memory")
    memory.put(str(folder), "/in", recursive=True)
    assert plain("memory://in/*.jsonl", "memory://out") == plain(folder, tmp_path / "out")
    memory.get("/out", str(tmp_path / "there"), recursive=True)
    here, there = rows(tmp_path / "out"), rows(tmp_path / "there")
    for row in (*here, *there):
        row["error"] = (row["error"] or "").replace("memory:///in", str(folder)).partition(": cannot")[0]
    assert [row["score"] for row in here] == [row["score"] for row in there]
    assert [row["id"] for row in here] == [row["id"] for row in there]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("missing/", "is not there"),
        ("shards/*.tar", "fits no file"),
        ("empty/", "has neither rows nor images"),
        ("memory://nothing/x.parquet", "is not there"),
        ("http://127.0.0.1:9/x.parquet", "cannot be reached"),
        ("nosuch://bucket/x.parquet", "is no scheme"),
    ],
)
def test_inputs_that_are_not_there(source: str, found: str, shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shards.parent)
    Path("empty").mkdir()
    with pytest.raises(InputError, check=at(found=found)):
        plain(source, "out")
    assert not Path("out").exists()


def test_what_cannot_work_is_told_before_anything_is_scored(
    shards: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, check=at(found="no column 'caption'")):
        plain(shards, tmp_path / "out", columns="prompt=caption")
    with pytest.raises(InputError, check=at("--id", found="number", expected="prompt")):
        plain(shards, tmp_path / "out", id="number")
    with pytest.raises(ModelError, check=at(found="nobody")):
        plain(shards, tmp_path / "out", scorer=Loading(model="nobody"))
    with pytest.raises(InputError, check=at("--part", found="3/2")):
        plain(shards, tmp_path / "out", part="3/2")
    (tmp_path / "empty.parquet").touch()
    with pytest.raises(InputError, check=at("--input", found=f"can be read ({tmp_path / 'empty.parquet'}: ")):
        plain(tmp_path / "empty.parquet", tmp_path / "out")
    with pytest.raises(InputError, check=at("--workers", found="--engine ray")):
        plain(shards, tmp_path / "out", workers=2)
    with pytest.raises(InputError, check=at("--address", found="--engine ray")):
        plain(shards, tmp_path / "out", address="auto")
    monkeypatch.setattr("hpskit.errors.find_spec", lambda name: None)
    done = cli("cluster", "score", "--input", shards, "--output", tmp_path / "out")
    assert (done.returncode, "pip install 'hpskit[cluster]'" in done.stderr) == (2, True)
    assert MissingExtraError.__name__ not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_scorer_of_ones_own_may_fail_at_one_image(shards: Path, tmp_path: Path) -> None:
    """Its error is that row's; if nothing at all can be scored, the scorer is to blame and the run stops."""
    own = tmp_path / "own.py"
    own.write_text(
        "class Own:\n"
        "    def score(self, images, prompts):\n"
        "        if 'a photograph, 5' in prompts or NEVER:\n"
        "            raise ValueError('five')\n"
        "        return [len(prompt) for prompt in prompts]\n"
    )
    text = own.read_text()
    own.write_text(f"NEVER = False\n{text}")
    assert plain(shards, tmp_path / "out", scorer=Loading(model=f"{own}:Own")).errors == 3 * 3
    assert "five" in next(row["error"] for row in rows(tmp_path / "out") if row["id"] == "0.parquet:5")
    alone = plain(shards, tmp_path / "alone", scorer=Loading(model=f"{own}:Own"), rows=1)  # no other row speaks for it
    assert (alone.errors, rows(tmp_path / "alone")) == (9, rows(tmp_path / "out"))
    own.write_text(f"NEVER = True\n{text}")
    with pytest.raises(ModelError, check=at(found="five")):
        plain(shards, tmp_path / "none", scorer=Loading(model=f"{own}:Own"))


LINES = st.sampled_from(
    ['{"image": "a.jpg", "prompt": "a"}', "{", "", "[1]", '{"image": 7, "prompt": "a"}', '{"prompt": "\\ud800"}']
)


@given(lines=st.lists(LINES, max_size=9), most=st.integers(1, 4))
def test_rows_are_numbered_without_a_gap(lines: list[str], most: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """In blocks of any size, the same each time, whatever the lines are; the end comes last, once."""
    path = tmp_path_factory.mktemp("lines") / "x.jsonl"
    path.write_text("\n".join(['{"image": "a.jpg", "prompt": "a"}', *lines]))
    (shard,), columns = find_shards([str(path)]), Columns(image="image", prompt="prompt")
    found = [table.to_pylist() for table in blocks(shard, columns, most)]
    assert all(len(block) <= most + 1 for block in found)
    every = list(itertools.chain(*found))
    assert [row["position"] for row in every] == list(range(1, len([*filter(None, lines)]) + 3))
    assert [row["error"] == END for row in every] == [False] * (len(every) - 1) + [True]
    assert list(itertools.chain(*(table.to_pylist() for table in blocks(shard, columns)))) == every


def test_two_runs_of_ray_do_not_write_into_one_folder(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    with store.alone(), pytest.raises(OutputError, check=at(tmp_path, found="another process")), store.alone():
        pass
