"""Sources of every kind as raw prompts, and what is wrong with them, one clear error each."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from error_fields import at
from hpskit.errors import HpskitError
from hpskit.prompts.records import RawPrompt, read_prompts
from hpskit.prompts.sources import FORMAT, import_prompts, raw_prompts

COCO = {"annotations": [{"image_id": 5, "id": n, "caption": text} for n, text in enumerate(("a cat, red", "a dog"), 1)]}
CATS = ["a cat", "two cats, photo", "  a cat on a mat "]


def diffusiondb(path: Path) -> Path:
    columns = {
        "image_name": ["a.png", "b.png", "c.png"],
        "prompt": CATS,
        "seed": [1, 2, 3],
        "image_nsfw": [0.1, 2.0, 0.2],
    }
    pq.write_table(
        pa.table(columns | {"prompt_nsfw": [0.3, 0.0, None], "timestamp": [None] * 3}), path, row_group_size=2
    )
    return path


def test_diffusiondb_keeps_ids_and_scores(tmp_path: Path) -> None:
    found = list(raw_prompts(diffusiondb(tmp_path / "metadata.parquet"), "ddb"))
    assert [prompt.id for prompt in found] == ["ddb:a.png", "ddb:b.png", "ddb:c.png"]
    assert [prompt.prompt for prompt in found] == CATS
    assert [prompt.nsfw for prompt in found] == [0.3, 2.0, 0.2]
    assert found[2].meta == {"image_nsfw": 0.2}


@pytest.mark.parametrize(
    ("name", "content", "ids"),
    [
        ("a.csv", 'id,Caption\n7,"a cat, red"\n8,a dog\n', ["s:7", "s:8"]),
        ("a.tsv", "Prompt\tCategory\na cat, red\tAnimals\na dog\tAnimals\n", ["s:1", "s:2"]),
        ("a.txt", "a cat, red\r\n\na dog\n", ["s:1", "s:3"]),
        ("a.jsonl", '{"text": "a cat, red", "id": "x"}\n{"text": "a dog", "id": "y"}\n', ["s:x", "s:y"]),
        ("a.json", '["a cat, red", "a dog"]', ["s:1", "s:2"]),
        ("captions.json", json.dumps(COCO), ["s:1", "s:2"]),
    ],
)
def test_every_kind_of_file(name: str, content: str, ids: list[str], tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode())
    found = list(raw_prompts(path, "s"))
    assert [prompt.id for prompt in found] == ids
    assert [prompt.prompt for prompt in found] == ["a cat, red", "a dog"]
    assert found[0].meta == ({"image_id": 5} if "captions" in name else {})


LINE = json.dumps({"prompt": "a cat"}) + "\n"


@pytest.mark.parametrize(
    ("name", "content", "place", "found"),
    [
        ("a.jsonl", LINE * 7311 + '{"prompt": \n' + LINE, "line 7312", "not JSON"),
        ("a.csv", "id,words\n1,a cat\n", "a.csv", "there are: id, words"),
        ("a.csv", "prompt\n" + "x" * 5_000_000 + "\n", "line 2", "field larger"),
        ("a.jsonl", json.dumps({"prompt": "y" * 5_000_000}) + "\n", "row 1: prompt", "5,000,000 characters"),
        ("a.jsonl", LINE + '{"prompt": "a \\u0000 cat"}\n', "row 2: prompt", "NUL"),
        ("a.jsonl", LINE + '{"prompt": "a \\ud83d cat"}\n', "row 2: prompt", "ud83d"),
        ("a.jsonl", LINE + '{"prompt": " "}\n', "row 2: prompt", "' '"),
        ("a.jsonl", '{"prompt": 3}\n', "row 1: prompt", "3"),
        ("a.jsonl", '{"prompt": "a", "nsfw": "high"}\n', "row 1: nsfw", "'high'"),
        (
            "a.jsonl",
            '{"prompt": "a", "id": 4}\n{"prompt": "b", "id": 5}\n{"prompt": "c", "id": 4}\n',
            "sources",
            "'a:4'",
        ),
        ("a.json", '{"images": []}', "a.json", "no list"),
        ("a.parquet", "no parquet", "a.parquet", "not a parquet file"),
        ("a.txt", b"caf\xe9\n".decode("latin-1"), "", ""),
    ],
)
def test_what_is_wrong_is_named(name: str, content: str, place: str, found: str, tmp_path: Path) -> None:
    path, out = tmp_path / name, tmp_path / "raw.jsonl"
    path.write_text(content, encoding="latin-1" if name == "a.txt" else "utf-8")
    with pytest.raises(HpskitError, check=at(place, found=found)) as caught:
        import_prompts([str(path)], out)
    assert len(str(caught.value)) < 500
    assert not out.exists()


def test_rows_that_are_left_out_are_listed(tmp_path: Path) -> None:
    path, out = tmp_path / "a.jsonl", tmp_path / "raw.jsonl"
    path.write_text(LINE + '{"prompt": ""}\nno json\n' + LINE)
    done = import_prompts([str(path)], out, drop=True)
    assert [prompt.id for prompt in read_prompts(out, RawPrompt)] == ["a:1", "a:4"]
    manifest = json.loads((tmp_path / "raw.manifest.json").read_text())
    assert manifest["format"] == FORMAT
    assert len(manifest["left_out"]) == len(done["left_out"]) == 2
    assert [("line 2" in line or "row 2" in line) for line in manifest["left_out"]] == [True, False]


def test_a_file_of_others_is_not_replaced(tmp_path: Path) -> None:
    path, out = diffusiondb(tmp_path / "metadata.parquet"), tmp_path / "raw.jsonl"
    out.write_text("mine\n")
    with pytest.raises(HpskitError, check=at(out, found="is there already")):
        import_prompts([f"ddb={path}"], out)
    assert out.read_text() == "mine\n"


def test_sources_have_names_and_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("wish\na cat\n")
    (tmp_path / "b.csv").write_text("WISH\na cat\n")
    done = import_prompts([f"one={tmp_path / 'a.csv'}", str(tmp_path / "b.csv")], tmp_path / "raw.jsonl", column="wish")
    assert [*done["sources"]] == ["one=a.csv", "b=b.csv"]
    assert [prompt.source for prompt in read_prompts(tmp_path / "raw.jsonl", RawPrompt)] == ["one", "b"]


def test_a_source_without_prompts_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "full.txt").write_text("a cat\n")
    (tmp_path / "empty.txt").write_text("\n\n")
    with pytest.raises(HpskitError, check=at(tmp_path / "empty.txt", found="has no prompts")):
        import_prompts([str(tmp_path / "full.txt"), str(tmp_path / "empty.txt")], tmp_path / "raw.jsonl")
    assert not (tmp_path / "raw.jsonl").exists()
