"""Photographs in the place of a generator: the bytes that are there, and what has no photograph."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from conftest import Cli
from error_fields import at
from hpskit.errors import InputError
from hpskit.images.captions import Captions, Settings
from hpskit.images.contract import Generator, GeneratorSettings, Outcome
from hpskit.images.plan import load_generator, read_generators
from hpskit.schema import parse

COCO: dict[str, Any] = {
    "info": {"year": 2017},
    "images": [
        {"id": 1, "file_name": "temple.jpg", "height": 427},
        {"id": 2, "file_name": "flower.jpg", "height": 427},
        {"id": 3, "file_name": "gone.jpg", "height": 427},
        {"id": 4, "file_name": "../secret.jpg", "height": 427},
        {"id": 5, "file_name": "a\0b.jpg", "height": 427},
        {"id": 6, "file_name": "a" * 300, "height": 427},
    ],
    "annotations": [
        {"id": 10, "image_id": 1, "caption": "A temple by  a lake.\n"},
        {"id": 11, "image_id": 2, "caption": "A flower."},
        {"id": 12, "image_id": 1, "caption": "Something outdoors"},
        {"id": 13, "image_id": 2, "caption": "Something outdoors "},
        {"id": 14, "image_id": 3, "caption": "a gone thing"},
        {"id": 15, "image_id": 4, "caption": "a secret"},
        {"id": 17, "image_id": 5, "caption": "a name with a NUL"},
        {"id": 18, "image_id": 6, "caption": "a name that is too long"},
        {"id": 16, "image_id": 9, "caption": "of no image"},
    ],
}


@pytest.fixture
def table(photograph_files: list[Path], tmp_path: Path) -> dict[str, Any]:
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in photograph_files:
        shutil.copy(path, folder)
    shutil.copy(photograph_files[0], tmp_path / "secret.jpg")
    (tmp_path / "captions.json").write_text(json.dumps(COCO))
    return {"kind": "captions", "name": "coco", "captions": str(tmp_path / "captions.json"), "folder": str(folder)}


def made(table: dict[str, Any]) -> Captions:
    generator = load_generator(parse(Settings, table, "generators.toml: generator 1"))
    assert isinstance(generator, Captions)
    return generator


def one(generator: Generator, prompt: str, seed: int = 0) -> Outcome:
    (outcome,) = generator.generate([prompt], [seed])
    assert isinstance(outcome, Outcome)
    return outcome


def test_the_bytes_of_the_photograph(table: dict[str, Any], photograph_files: list[Path]) -> None:
    generator = made(table)
    assert isinstance(generator, Generator)
    outcome = one(generator, "A temple by a lake.")
    assert outcome.image == photograph_files[0].read_bytes()
    assert outcome.facts == {"photograph": "temple.jpg"}
    assert one(generator, "A flower.").image == photograph_files[1].read_bytes()


def test_of_several_the_seed_chooses(table: dict[str, Any]) -> None:
    generator = made(table)
    names = [one(generator, "Something outdoors", seed).facts["photograph"] for seed in range(4)]
    assert names == ["flower.jpg", "temple.jpg"] * 2


@pytest.mark.parametrize(
    "prompt",
    [
        "a temple by a lake.",
        "a gone thing",
        "a secret",
        "a name with a NUL",
        "a name that is too long",
        "of no image",
        "",
    ],
)
def test_no_photograph(prompt: str, table: dict[str, Any]) -> None:
    outcome = one(made(table), prompt)
    assert (outcome.reason, outcome.image, outcome.final) == ("no-photograph", None, True)


def test_info(table: dict[str, Any], tmp_path: Path) -> None:
    info = made(table).info
    assert str(tmp_path) not in json.dumps(info.to_json())
    (tmp_path / "captions.json").write_text(json.dumps(COCO | {"annotations": []}))
    assert made(table).info != info


def test_what_is_not_there(table: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, check=at(tmp_path / "none.json")):
        made(table | {"captions": str(tmp_path / "none.json")})
    with pytest.raises(InputError, check=at(tmp_path / "none", expected="the photographs")):
        made(table | {"folder": str(tmp_path / "none")})


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"images": []}, "annotations"),
        ([], ""),
        ({"images": [{"id": 1}], "annotations": []}, "images[0].file_name"),
        ({"images": [], "annotations": [{"image_id": 1, "caption": 5}]}, "annotations[0].caption"),
    ],
)
def test_what_are_no_captions(value: Any, place: str, table: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "captions.json").write_text(json.dumps(value))
    with pytest.raises(InputError, check=at(f"{tmp_path / 'captions.json'}{': ' * bool(place)}{place}")):
        one(made(table), "A flower.")


def test_a_run(table: dict[str, Any], photograph_files: list[Path], cli: Cli, tmp_path: Path) -> None:
    rows = [{"prompt": text} for text in ("A flower.", "A temple by a lake.", "a gone thing")]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "gen.toml").write_text(
        "[[generator]]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in table.items())
    )
    words = ("images", "generate", "--prompts", "prompts.jsonl", "--generators", "gen.toml", "--out", "made")
    done = cli(*words, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert (tmp_path / "made/coco/00000.jpg").read_bytes() == photograph_files[1].read_bytes()
    (_, _, last) = (json.loads(line) for line in (tmp_path / "made/images.jsonl").read_text().splitlines())
    assert (last["state"], last["reason"]) == ("refused", "no-photograph")


def test_the_page_describes_each_kind(tmp_path: Path) -> None:
    """Its examples can be read, and its tables name every setting."""
    page = (Path(__file__).parents[2] / "docs/images.md").read_text()
    for number, example in enumerate(page.split("```toml\n")[1:]):
        (tmp_path / f"{number}.toml").write_text(example.partition("```")[0])
        for settings in read_generators(tmp_path / f"{number}.toml"):
            section = page.partition(f"## `{settings.kind}`")[2].partition("\n## ")[0]
            for name in type(settings).model_fields.keys() - GeneratorSettings.model_fields.keys():
                assert f"`{name}`" in section, f"{settings.kind}: {name}"
