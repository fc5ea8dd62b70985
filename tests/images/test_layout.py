"""Images find their prompts, and everything that does not fit is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from error_fields import at
from hpskit.errors import InputError, RecordError
from hpskit.images.layout import ImageSet, find_images
from hpskit.prompts.suites import Suite, open_suite
from small_inputs import grey


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
    assert "2 missing: a/00001, a/00002" in caught.value.found
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


@pytest.fixture
def flat(tmp_path: Path) -> Callable[..., tuple[Suite, Path]]:
    """Four prompts without category (or two categories of two), and a folder of images with these names."""

    def make(*names: str, categories: tuple[str, ...] = ("",) * 4) -> tuple[Suite, Path]:
        rows = [{"prompt": f"p{n}", **({"category": own} if own else {})} for n, own in enumerate(categories)]
        (tmp_path / "suite.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        for name in names:
            grey(tmp_path / "images" / name, 9)
        for name in (".0.png", "._1.png", ".DS_Store", "Thumbs.db"):
            (tmp_path / "images" / name).touch()
        return open_suite(tmp_path / "suite.jsonl"), tmp_path / "images"

    return make


def places(found: ImageSet) -> list[list[str]]:
    return [[found.name(path) for path in paths] for paths in found.images]


@pytest.mark.parametrize(
    ("names", "categories", "note"),
    [
        ("0001.png 0002.png 0003.png 0004.png", 1, "start at 1: 0001.png is of the first prompt"),
        ("8.png 9.png 10.PNG 11.png", 1, "start at 8: 8.png is"),
        ("00100.jpg 00101.jpg 00102.jpg 00103.jpg", 1, "start at 100: 00100.jpg is"),
        ("a/1.png a/2.png b/0.png b/1.png", 2, "start at 1: a/1.png is"),
        ("a/0.png a/1.png b/2.png b/3.png", 2, "start at 2: b/2.png is"),
        ("1.png 2.png 3.png 4.png", 2, "start at 1 and go through the whole suite: 1.png is"),
        ("0.png 1.png 2.png 3.png", 2, "start at 0 and go through the whole suite: 0.png is"),
    ],
)
def test_numbers_may_start_elsewhere_if_they_are_a_whole_run(
    names: str, categories: int, note: str, flat: Callable[..., tuple[Suite, Path]]
) -> None:
    suite, folder = flat(*names.split(), categories=("",) * 4 if categories == 1 else ("a", "a", "b", "b"))
    found = find_images(suite, folder)
    assert places(found) == [[name] for name in names.split()]
    assert len(found.notes) == 1
    assert note in found.notes[0]


@pytest.mark.parametrize("option", [False, True])
@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("1 2 3", "images has numbers 1 to 3 for 4 prompts: where the first prompt is missing"),
        ("101 103 104", "images has numbers 101 to 104 for 4 prompts"),
        ("2 3", "images has numbers 2 to 3 for 4 prompts"),
        ("1 2 3 4 5", "2 that belong to no prompt: 4.png, 5.png"),
        ("1 2 3 4 grid", "1 that belong to no prompt: grid.png"),
        ("1 2 3 4 04", "1 for a place that is taken: 4.png beside 04.png"),
        ("img_1 img_2 img_3 img_4", "holds no image of the suite, but 4 other image files"),
    ],
)
def test_what_may_be_one_off_is_refused(
    names: str, found: str, option: bool, flat: Callable[..., tuple[Suite, Path]]
) -> None:
    suite, folder = flat(*(f"{name}.png" for name in names.split()))
    with pytest.raises(InputError, check=at(folder, found=found)):
        find_images(suite, folder, allow_missing=option)


def test_gaps_are_forgiven_where_they_shift_nothing(flat: Callable[..., tuple[Suite, Path]]) -> None:
    suite, folder = flat("1.png", "3.png", "4.png")
    with pytest.raises(InputError, check=at(folder, found="1 missing: 00001", cure="--allow-missing")):
        find_images(suite, folder)
    assert places(find_images(suite, folder, allow_missing=True)) == [["1.png"], [], ["3.png"], ["4.png"]]
    (folder / "4.png").unlink()
    (folder / "1.png").rename(folder / "2.png")
    assert places(find_images(suite, folder, match="number", allow_missing=True)) == [[], [], ["2.png"], ["3.png"]]


def test_sorted_names_if_asked_for(flat: Callable[..., tuple[Suite, Path]]) -> None:
    suite, folder = flat("img_10.png", "img_2.PNG", "img_1.png", "img_33.jpg", "thumbs/img_1.png")
    found = find_images(suite, folder, match="order")
    assert places(found) == [["img_1.png"], ["img_2.PNG"], ["img_10.png"], ["img_33.jpg"]]
    assert found.notes == ("names are sorted: 'img_1.png' is of the first prompt, 'img_33.jpg' of the last",)
    assert found.other_folders == ("thumbs",)
    (folder / "img_33.jpg").rename(folder / "grid.jpg")
    with pytest.raises(InputError, check=at(folder, expected="names that begin alike")):
        find_images(suite, folder, match="order")
    (folder / "grid.jpg").rename(folder / "img_01.jpg")
    for allow in (False, True):
        with pytest.raises(InputError, check=at(folder, found="holds 3 images", expected="4, one for each prompt")):
            find_images(suite, folder, match="order", allow_missing=allow)


def test_a_manifest_without_number_0_may_be_one_off(flat: Callable[..., tuple[Suite, Path]], tmp_path: Path) -> None:
    suite, folder = flat("x.png", "y.png")
    manifest = _manifest(tmp_path, [{"image": "x.png", "number": 1}, {"image": "y.png", "number": 2}])
    with pytest.raises(InputError, check=at(folder, found="has no image of number 0", cure="--manifest-a")):
        find_images(suite, folder, manifest=manifest, allow_missing=True, option="--manifest-a")
    by_number = find_images(suite, folder, manifest=manifest, match="number", allow_missing=True)
    assert places(by_number) == [[], ["x.png"], ["y.png"], []]
    rows: list[dict[str, object]] = [
        {"image": "x.png", "prompt": "p1"},
        {"image": "y.png", "number": 2, "prompt": "p2"},
    ]
    assert places(find_images(suite, folder, manifest=_manifest(tmp_path, rows), allow_missing=True))[1] == ["x.png"]
    with pytest.raises(InputError, check=at("match", found="'order'")):
        find_images(suite, folder, manifest=manifest, match="order")


def test_a_folder_with_nearly_the_name_is_pointed_out(suite_file: Path, renders: Path) -> None:
    (renders / "b c").rename(renders / "B_C")
    with pytest.raises(InputError, check=at(renders, found="is the folder 'B_C' meant to be 'b c'")):
        find_images(open_suite(suite_file), renders)


def test_a_folder_without_the_images_of_the_suite_is_told_of(suite_file: Path, renders: Path) -> None:
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


def test_a_suite_without_categories_lies_in_the_folder_numbered_from_0(tmp_path: Path, renders: Path) -> None:
    (tmp_path / "s.json").write_text('["w", "x", "y", "z"]')
    found = find_images(open_suite(tmp_path / "s.json"), renders / "a")
    assert [path.name for (path,) in found.images] == [f"{number:05d}.png" for number in range(4)]
