"""The sets that scorers are compared on today, as their publishers save them, and by which rule they are judged."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import Cli
from error_fields import at
from hpskit.dataset.convert import convert
from hpskit.dataset.group import Judgement
from hpskit.dataset.inspect import inspect
from hpskit.dataset.reading import open_data
from hpskit.errors import InputError, RecordError
from hub_server import serve
from preference_data import HPDV3_ROW, png, without_place, write_json

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""What `datasets` makes of an image."""


def genai(number: int, vote: str, **changes: Any) -> dict[str, Any]:
    images = {"left_image": {"bytes": png(2 * number), "path": None}}
    images["right_image"] = {"bytes": png(2 * number + 1), "path": "b.jpg"}
    names = {"conv_id": "x", "left_model": "SDXL", "right_model": "PixArt"}
    return {"prompt": f"cat {number}", **images, "vote_type": vote, **names, **changes}


def rapidata(number: int, **results: Any) -> dict[str, Any]:
    images = {f"image{n}": {"bytes": png(2 * number + n), "path": f"{n}.jpg"} for n in (1, 2)}
    models = {"model1": "flux", "model2": "dalle-3"}
    detailed = json.dumps({"votes": [{"votedFor": "flux/1.jpg", "userDetails": {"country": "IN"}}]})
    return {"prompt": f"dog {number}", **images, **models, "detailed_results": detailed, **results}


def evalmuse(prompt: str, image: str, *scores: int, **changes: Any) -> dict[str, Any]:
    elements = {"cat (animal)": [1, 0, 1]}
    flags = {"promt_meaningless": [0, 0, 0], "split_confidence": [0, 0, 0], "fidelity_label": {"body": [1]}}
    about = {"prompt_id": prompt, "prompt": f"a {prompt}", "type": "real", "img_path": image}
    return {**about, "total_score": [*scores], "element_score": elements, **flags, **changes}


def write_parquet(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = pa.Table.from_pylist([*rows]).schema
    for name in ("left_image", "right_image", "image1", "image2"):
        if name in schema.names:
            schema = schema.set(schema.get_field_index(name), pa.field(name, IMAGE))
    pq.write_table(pa.Table.from_pylist([*rows], schema=schema), path)
    return path


# --- what each means


def test_genai_bench(tmp_path: Path) -> None:
    votes = ("leftvote", "rightvote", "tievote", "bothbad_vote")
    path = write_parquet(tmp_path / "test_v1-00000-of-00001.parquet", *(genai(n, v) for n, v in enumerate(votes)))
    data = open_data(path)
    groups = [*data]
    assert data.format == "genai-bench"
    assert [group.judgements[0].ranks for group in groups] == [(1, 2), (2, 1), (1, 1), (1, 1)]
    assert [group.meta["vote_type"] for group in groups] == [*votes]
    assert groups[0].sources == ("SDXL", "PixArt")
    first, second = groups[0].images
    assert (first, second) == ("test_v1-00000-of-00001-1-left.jpg", "test_v1-00000-of-00001-1-right.jpg")
    assert groups[0].embedded == {first: png(0), second: png(1)}
    assert [replace(group, embedded={}) for group in groups] == [*data.outline()]


def test_rapidata_counts_votes_or_gives_shares(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", *(rapidata(n, votes_image1=n, votes_image2=2) for n in range(3)))
    data = open_data(path)
    assert data.format == "rapidata"
    assert [group.judgements for group in data] == [
        (Judgement(ranks=(2, 1), votes=2),),
        (Judgement(ranks=(1, 2)), Judgement(ranks=(2, 1), votes=2)),
        (Judgement(ranks=(1, 2), votes=2), Judgement(ranks=(2, 1), votes=2)),
    ]
    shares = [(0.7, 0.3), (0.2, 0.8), (0.1 + 0.2, 0.3), (None, None), (float("nan"), 0.5)]
    names = [f"weighted_results_image{n}_preference" for n in (1, 2)]
    rows = [rapidata(n, **dict(zip(names, both, strict=True))) for n, both in enumerate(shares)]
    newer = open_data(write_parquet(tmp_path / "b.parquet", *rows))
    assert newer.format == "rapidata-shares"
    assert [group.rank for group in newer] == [(1, 2), (2, 1), (1, 1), None, None]
    assert next(iter(newer)).sources == ("flux", "dalle-3")


def test_evalmuse_ranks_the_images_of_a_prompt_by_their_mean(tmp_path: Path) -> None:
    rows = [
        evalmuse("cat", "SDXL/1.png", 5, 4, 4),
        evalmuse("dog", "SDXL/2.png", 1, 1),
        evalmuse("cat", "PixArt/1.png", 2, 3, 1),
        evalmuse("dog", "PixArt/2.png", 2, 1, 2),
        evalmuse("cat", "Kolors/1.png", 4, 5, 4, 4, 5, 4),  # the same mean, which floats would not show
    ]
    data = open_data(write_json(tmp_path / "train_list.json", rows))
    cat, dog = data
    assert data.format == "evalmuse"
    assert (cat.id, cat.prompt, cat.category) == ("cat", "a cat", "real")
    assert (cat.images, cat.rank) == (("SDXL/1.png", "PixArt/1.png", "Kolors/1.png"), (1, 3, 1))
    assert (dog.rank, dog.judgements, dog.meta) == ((2, 1), (), {"total_score": [[1, 1], [2, 1, 2]]})


def test_kept_whole_in_our_layout(tmp_path: Path) -> None:
    for number, row in enumerate((genai(1, "bothbad_vote"), rapidata(2, votes_image1=3, votes_image2=0))):
        data = open_data(write_parquet(tmp_path / f"{number}.parquet", row))
        convert(data, "parquet", tmp_path / f"ours-{number}.parquet")
        assert without_place(open_data(tmp_path / f"ours-{number}.parquet")) == without_place(data)


# --- what is wrong with them


@pytest.mark.parametrize(
    ("row", "field", "found"),
    [
        (genai(1, "leftvote", vote_type="upvote"), "vote_type", "is 'upvote'"),
        (genai(1, "leftvote", prompt=" "), "prompt", "is ' '"),
        (rapidata(1, votes_image1=-1, votes_image2=2), "votes_image1", "is -1"),
        (rapidata(1, votes_image1=1.5, votes_image2=2), "votes_image1", "is 1.5"),
        (
            rapidata(1, weighted_results_image1_preference=1.5, weighted_results_image2_preference=0.1),
            "weighted_results_image1_preference",
            "is 1.5",
        ),
    ],
)
def test_a_broken_row_of_a_parquet_file(row: dict[str, Any], field: str, found: str, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", row)
    with pytest.raises(RecordError, check=at(f"{path}: row 1: {field}", found=found)):
        [*open_data(path)]


@pytest.mark.parametrize(
    ("change", "field", "found"),
    [
        ({"total_score": [6]}, "total_score", "is [6]"),
        ({"total_score": []}, "total_score", "is []"),
        ({"total_score": 4}, "total_score", "is 4"),
        ({"img_path": "a\0b"}, "img_path", "a\\x00b"),
        ({"img_path": "1.png"}, "image_path", "names '1.png' twice"),
        ({"prompt": "a dog"}, "prompt", "is 'a dog'"),
    ],
)
def test_a_broken_row_of_evalmuse(change: dict[str, Any], field: str, found: str, tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", [evalmuse("cat", "1.png", 3), {**evalmuse("cat", "2.png", 3), **change}])
    with pytest.raises(RecordError, check=at(f"{field}", found=found)) as caught:
        [*open_data(path)]
    assert caught.value.place.startswith(f"{path}: entry 2")


def test_images_that_are_missing_are_found(tmp_path: Path) -> None:
    row = genai(1, "leftvote", right_image={"bytes": None, "path": "b.jpg"})
    found = inspect(open_data(write_parquet(tmp_path / "a.parquet", row, genai(2, "tievote"))))
    assert found.findings == {"missing image": 1}
    broken = genai(1, "leftvote", left_image={"bytes": b"no image", "path": "b.jpg"})
    found = inspect(open_data(write_parquet(tmp_path / "b.parquet", broken)), decode=True)
    assert found.findings == {"broken image": 1}


def test_names_that_lead_outside_carry_nothing_away(tmp_path: Path) -> None:
    (tmp_path / "private.png").write_bytes(png(1))
    (tmp_path / "set/images").mkdir(parents=True)
    (tmp_path / "set/images/a.png").write_bytes(png(2))
    rows = [evalmuse("cat", "a.png", 3), evalmuse("cat", "../../private.png", 4)]
    data = open_data(write_json(tmp_path / "set/train_list.json", rows))
    with pytest.raises(InputError, check=at(found="lies outside")):
        convert(data, "parquet", tmp_path / "stolen.parquet")


# --- by name, and judged


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for number, name in enumerate(names):
            packed.writestr(name, png(number))
    return buffer.getvalue()


def test_fetched_by_name(tmp_path: Path, cli: Cli) -> None:
    rows = [evalmuse("cat", "SDXL/1.png", 5), evalmuse("cat", "PixArt/1.png", 2)]
    archive = zipped("images/SDXL/1.png", "images/PixArt/1.png")
    arena = write_parquet(tmp_path / "arena.parquet", genai(1, "leftvote"), genai(2, "tievote"))
    crowd = write_parquet(tmp_path / "crowd.parquet", rapidata(1, votes_image1=3, votes_image2=1))
    environment = {"HPSKIT_HOME": str(tmp_path / "home")}
    with serve() as hub:
        environment["HF_ENDPOINT"] = hub.url
        hub.put("datasets/DY-Evalab/EvalMuse", "train_list.json", json.dumps(rows).encode(), large=False)
        for part, content in (("aa", archive[:100]), ("ab", archive[100:])):
            hub.put("datasets/DY-Evalab/EvalMuse", f"images.zip.part-{part}", content)
        name = "image_generation/test_v1-00000-of-00001.parquet"
        hub.put("datasets/TIGER-Lab/GenAI-Bench", name, arena.read_bytes())
        big = "Rapidata/700k_Human_Preference_Dataset_FLUX_SD3_MJ_DALLE3"
        hub.put(f"datasets/{big}", "data/train_0001-00000-of-00001.parquet", crowd.read_bytes())
        hub.put("datasets/MizzenAI/HPDv3", "test.json", json.dumps([HPDV3_ROW]).encode(), large=False)
        hub.put("datasets/MizzenAI/HPDv3", "images.tar.gz.00", b"", large=False)
        for wanted in ("DY-Evalab/EvalMuse", "TIGER-Lab/GenAI-Bench", big):
            done = cli("data", "fetch", wanted, **environment)
            assert done.returncode == 0, done.stderr
        done = cli("data", "fetch", "MizzenAI/HPDv3", "--no-images", **environment)
        assert done.returncode == 0, done.stderr
    environment["HF_HUB_OFFLINE"] = "1"
    for wanted, layout, images in (
        ("DY-Evalab/EvalMuse/train_list.json", "evalmuse", 2),
        ("TIGER-Lab/GenAI-Bench/image_generation/test_v1", "genai-bench", 4),
        (f"{big}/train_0001", "rapidata", 2),
    ):
        done = cli("data", "inspect", wanted, "--decode", "--json", **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        found = json.loads(done.stdout)
        assert (found["format"], found["images_decoded"]) == (layout, images)
    command = ("evaluate", "--data", "TIGER-Lab/GenAI-Bench/image_generation/test_v1", "--scorer", "random")
    done = cli(*command, "--out", tmp_path / "out", "--resamples", "100", **environment)
    assert done.returncode == 0, done.stderr
    assert "imagereward: Mean over prompts" in " ".join(done.stdout.split())
    assert "1 of 2 pairs are left out" in " ".join(done.stdout.split())
    assert "Pairs that people tied are skipped" in (tmp_path / "out/report.html").read_text()
    done = cli(
        "evaluate", "--data", f"{big}/train_0001", "--scorer", "random", "--out", tmp_path / "two", **environment
    )
    assert "ties-half: Mean over prompts of the credit" in " ".join(done.stdout.split())


def test_an_archive_that_leads_outside_is_refused(tmp_path: Path, cli: Cli) -> None:
    with serve() as hub:
        hub.put("datasets/DY-Evalab/EvalMuse", "train_list.json", b"[]", large=False)
        hub.put("datasets/DY-Evalab/EvalMuse", "images.zip.part-aa", zipped("images/a.png", "../../evil.png"))
        done = cli("data", "fetch", "DY-Evalab/EvalMuse", HPSKIT_HOME=str(tmp_path / "home"), HF_ENDPOINT=hub.url)
    assert done.returncode == 2
    assert "would lie outside" in done.stderr
    assert not [*tmp_path.rglob("evil.png")]
