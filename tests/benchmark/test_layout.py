"""Images find their prompts, and everything that does not fit is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from error_fields import at
from hpskit.benchmark.layout import find_images
from hpskit.benchmark.suites import open_suite
from hpskit.errors import InputError, RecordError


def test_the_official_layout(suite_file: Path, renders: Path) -> None:
    suite = open_suite(suite_file)
    found = find_images(suite, renders)
    assert [found.name(path) for paths in found.images for path in paths] == [
        f"{prompt.category}/{prompt.number:05d}.png" for prompt in suite.prompts
    ]
    assert found.complete
    shutil.copytree(renders / "a", renders / "drawbench")
    assert find_images(suite, renders).other_folders == ("drawbench",)


def test_every_ending_and_several_images_of_a_prompt(suite_file: Path, renders: Path) -> None:
    first = renders / "a/00000.png"
    for path in sorted((renders / "a").iterdir()) + sorted((renders / "b c").iterdir()):
        shutil.copy(path, path.with_name(f"{path.stem}_0.webp"))
        path.rename(path.with_name(f"{path.stem}_1.JPEG"))
    found = find_images(open_suite(suite_file), renders)
    assert {len(paths) for paths in found.images} == {2}
    assert [path.name for path in found.images[0]] == ["00000_0.webp", "00000_1.JPEG"]
    first.with_name("00000_1.JPEG").unlink()
    with pytest.raises(InputError, check=at(renders, found="1 missing: a/00000_1")):
        find_images(open_suite(suite_file), renders)


def test_all_that_is_wrong_is_in_one_error(suite_file: Path, renders: Path) -> None:
    (renders / "a/00001.png").unlink()
    (renders / "a/00002.png").unlink()
    shutil.copy(renders / "b c/00000.png", renders / "b c/00000.jpg")
    shutil.copy(renders / "b c/00000.png", renders / "b c/00003.png")
    shutil.copy(renders / "b c/00000.png", renders / "b c/grid.png")
    (renders / "a/00000.png").write_bytes(b"")
    (renders / "a/00003.png").write_text("no image")
    with pytest.raises(InputError) as caught:
        find_images(open_suite(suite_file), renders)
    assert "2 missing: a/00001 to 00002" in caught.value.found
    assert "2 that belong to no prompt: b c/00003.png, b c/grid.png" in caught.value.found
    assert "1 for a place that is taken: b c/00000.png beside 00000.jpg" in caught.value.found
    assert "2 that cannot be read" in caught.value.found
    assert "nothing was scored" in caught.value.cure


def test_only_missing_images_are_forgiven(suite_file: Path, renders: Path) -> None:
    suite = open_suite(suite_file)
    (renders / "a/00001.png").unlink()
    found = find_images(suite, renders, allow_missing=True)
    assert not found.complete
    assert [bool(paths) for paths in found.images] == [p.prompt != "a 1" for p in suite.prompts]
    (renders / "a/x.png").touch()
    with pytest.raises(InputError, check=at(renders, found="1 that belong to no prompt")):
        find_images(suite, renders, allow_missing=True)


def test_a_name_with_and_without_sample_is_taken_twice(suite_file: Path, renders: Path) -> None:
    shutil.copy(renders / "a/00001.png", renders / "a/00001_0.png")
    shutil.copy(renders / "a/00001.png", renders / "a/1.png")
    with pytest.raises(
        InputError, check=at(renders, found="taken: a/00001_0.png beside 00001.png, a/1.png beside 00001.png")
    ):
        find_images(open_suite(suite_file), renders, allow_missing=True)


def test_a_plain_name_beside_another_sample_is_taken_twice(suite_file: Path, renders: Path) -> None:
    shutil.copy(renders / "a/00001.png", renders / "a/00001_1.png")
    with pytest.raises(InputError, check=at(renders, found="taken: a/00001_1.png beside 00001.png")):
        find_images(open_suite(suite_file), renders, allow_missing=True)


def test_numbers_from_one_are_pointed_out(suite_file: Path, renders: Path) -> None:
    for number in reversed(range(4)):
        (renders / f"a/{number:05d}.png").rename(renders / f"a/{number + 1:05d}.png")
    with pytest.raises(InputError, check=at(renders, found="1 missing: a/00000 (numbers start at 0)")):
        find_images(open_suite(suite_file), renders)


def test_a_folder_with_nearly_the_name_is_pointed_out(suite_file: Path, renders: Path) -> None:
    (renders / "b c").rename(renders / "B_C")
    with pytest.raises(InputError, check=at(renders, found="is the folder 'B_C' meant to be 'b c'")):
        find_images(open_suite(suite_file), renders)
    found = "but 4 other image files, 00000.png for one"
    with pytest.raises(InputError, check=at(renders / "a", found=found, expected="a/00000.jpg")):
        find_images(open_suite(suite_file), renders / "a")
    with pytest.raises(InputError, check=at(renders / "nowhere", found="is not a folder")):
        find_images(open_suite(suite_file), renders / "nowhere")


def _manifest(tmp_path: Path, rows: list[dict[str, object]]) -> Path:
    path = tmp_path / "manifest.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_manifest_by_prompt_or_by_number(suite_file: Path, renders: Path, tmp_path: Path) -> None:
    suite = open_suite(suite_file)
    plain = find_images(suite, renders)
    names = [plain.name(path) for (path,) in plain.images]
    both = list(zip(suite.prompts, names, strict=True))
    by_prompt: list[dict[str, object]] = [{"image": name, "prompt": p.prompt} for p, name in reversed(both)]
    assert find_images(suite, renders, manifest=_manifest(tmp_path, by_prompt)).images == plain.images
    (tmp_path / "m.csv").write_text(
        "image,category,number\n" + "".join(f"{name},{p.category},{p.number}\n" for p, name in both)
    )
    assert find_images(suite, renders, manifest=tmp_path / "m.csv").images == plain.images


@pytest.mark.parametrize(
    ("row", "place", "found"),
    [
        ({"image": "a/00000.png", "number": 1, "prompt": "twice"}, ": prompt", "is 'twice'"),
        ({"image": "a/../a/00001.png", "number": 1}, ": image", "is 'a/00001.png', as in row 1"),
        ({"image": "a/00000.png", "prompt": "nobody asked"}, ": prompt", "is 'nobody asked', which 0 prompts"),
        ({"image": "a/00000.png", "prompt": "twice"}, ": prompt", "is 'twice', which 2 prompts"),
        ({"image": "a/00000.png", "number": 9}, ": number", "is 9"),
        ({"image": "a/00000.png", "number": 1.5}, ": number", "is 1.5"),
        ({"image": "a/00009.png", "number": 1}, ": image", "is 'a/00009.png'"),
        ({"image": "../suite.json", "number": 1}, ": image", "is '../suite.json'"),
        ({"image": "a/00000.png"}, "", "has neither 'number' nor 'prompt'"),
        ({"prompt": "twice"}, ": image", "is missing"),
    ],
)
def test_a_broken_row_of_a_manifest(
    row: dict[str, object], place: str, found: str, renders: Path, tmp_path: Path
) -> None:
    (tmp_path / "suite.json").write_text('["twice", "once", "twice"]')
    manifest = _manifest(tmp_path, [{"image": "a/00001.png", "number": 0}, row])
    with pytest.raises(RecordError, check=at(f"{manifest}: row 2{place}", found=found)):
        find_images(open_suite(tmp_path / "suite.json"), renders, manifest=manifest)


def test_images_that_nobody_asked_for_are_named(suite_file: Path, renders: Path) -> None:
    for name in ("00000.png", "a/00000.gif", "a/00007.bmp"):
        shutil.copy(renders / "a/00000.png", renders / name)
    (renders / "a/notes.txt").touch()
    found = "3 that belong to no prompt: a/00000.gif, a/00007.bmp, 00000.png"
    with pytest.raises(InputError, check=at(renders, found=found)):
        find_images(open_suite(suite_file), renders)


def test_a_plain_name_is_one_of_several_images(suite_file: Path, renders: Path) -> None:
    for path in (*(renders / "a").iterdir(), *(renders / "b c").iterdir()):
        if path.stem != "00002":
            shutil.copy(path, path.with_name(f"{path.stem}_1.png"))
            path.rename(path.with_name(f"{path.stem}_0.png"))
    with pytest.raises(InputError, check=at(renders, found="2 missing: a/00002_1, b c/00002_1")):
        find_images(open_suite(suite_file), renders)
    assert not find_images(open_suite(suite_file), renders, allow_missing=True).complete


def test_a_suite_without_categories_lies_in_the_folder_numbered_from_0(tmp_path: Path, renders: Path) -> None:
    (tmp_path / "s.json").write_text('["w", "x", "y", "z"]')
    found = find_images(open_suite(tmp_path / "s.json"), renders / "a")
    assert [path.name for (path,) in found.images] == [f"{number:05d}.png" for number in range(4)]
    (tmp_path / "suite.json").write_text('["x", "y", "z"]')
    (renders / "a/00000.png").unlink()
    with pytest.raises(InputError, check=at(renders / "a", found="1 missing: 00000")):
        find_images(open_suite(tmp_path / "suite.json"), renders / "a")
