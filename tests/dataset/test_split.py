"""Validation is about something that training has not shown: no prompt, no near-duplicate of one, no image."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from error_fields import at
from hpskit.dataset.duplicates import check_leaks
from hpskit.dataset.group import Group, Judgement
from hpskit.dataset.reading import DataSet, open_data
from hpskit.dataset.split import split, write_split
from hpskit.errors import InputError
from preference_data import TRAIN_ROW, png, stored, write_json

FEW_WORDS = st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=12).map(" ".join)


def pairs_file(path: Path, rows: Sequence[tuple[str, str, str]], contents: dict[str, bytes] | None = None) -> DataSet:
    """`train.json` of (prompt, first, second), each image of content of its own unless `contents` says another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for name in {name for _, *names in rows for name in names}:
        own = int.from_bytes(hashlib.sha256(f"{path.parent.name}/{name}".encode()).digest()[:2])
        (path.parent / name).write_bytes((contents or {}).get(name) or png(own))
    return open_data(write_json(path, [{**TRAIN_ROW, "prompt": prompt, "file_path": [a, b]} for prompt, a, b in rows]))


LONG = "a portrait of an old sailor with a white beard smoking a pipe on deck"


def test_leaks_are_found_and_named(tmp_path: Path) -> None:
    validation = pairs_file(
        tmp_path / "held/test.json",
        [("A cat.", "a.png", "b.png"), (LONG, "c.png", "d.png"), ("a fox", "e.png", "f.png")],
        {"f.png": png(9)},
    )
    train = pairs_file(
        tmp_path / "train/train.json",
        [
            ("a CAT", "1.png", "2.png"),
            (LONG.replace("white", "grey"), "3.png", "4.png"),
            (LONG.replace("white", "grey").replace("pipe", "cigar").replace("deck", "land"), "3.png", "4.png"),
            ("a dog", "5.png", "6.png"),
            ("a bird", "6.png", "1.png"),
            ("a cow", "7.png", "8.png"),
        ],
        {"6.png": png(9), "7.png": png(9)[:-1] + b"x"},  # as large as the other, and another
    )
    leaks = check_leaks([train], [validation])
    places = [group.place for group in train]
    held = [group.place for group in validation]
    assert [(leak.kind, leak.train, leak.validation) for leak in leaks.found] == [
        ("same prompt", places[0], held[0]),
        ("near-duplicate prompt", places[1], held[1]),
        ("same image", places[3], held[2]),
        ("same image", places[4], held[2]),
    ]
    assert leaks.groups == {places[0], places[1], places[3], places[4]}
    assert leaks.train_groups == 6
    counts = "(same image: 2, same prompt: 1, near-duplicate prompt: 1; first: same prompt: "
    with pytest.raises(InputError, check=at("validation", found=counts, cure="without these 4 of 6 groups")):
        leaks.refuse()


def test_the_same_file_is_the_same_image_and_a_missing_one_is_counted(tmp_path: Path) -> None:
    train = pairs_file(tmp_path / "a/train.json", [("a cat", "1.png", "2.png"), ("a cow", "3.png", "4.png")])
    other = open_data(
        write_json(tmp_path / "a/test.json", [{**TRAIN_ROW, "prompt": "a dog", "file_path": ["2.png", "5.png"]}])
    )
    leaks = check_leaks([train], [other])
    assert [leak.what for leak in leaks.found] == ["2.png"]


def saved_again(image: bytes, **options: Any) -> bytes:
    """A PNG of the same pixels in other bytes."""
    buffer, note = io.BytesIO(), PngInfo()
    note.add_text("Software", "another one")
    with Image.open(io.BytesIO(image)) as opened:
        opened.save(buffer, "PNG", pnginfo=note, **options)
    assert buffer.getvalue() != image
    return buffer.getvalue()


def test_the_same_pixels_in_other_files_are_found_if_asked_for(tmp_path: Path) -> None:
    train = pairs_file(tmp_path / "a/train.json", [("a cat", "1.png", "2.png"), ("a cow", "3.png", "4.png")])
    again = saved_again((tmp_path / "a/4.png").read_bytes(), compress_level=0)
    other = pairs_file(
        tmp_path / "b/test.json", [("a dog", "1.png", "2.png"), ("a fox", "3.png", "2.png")], {"1.png": again}
    )
    assert not check_leaks([train], [other]).found
    [leak] = check_leaks([train], [other], pixels=True).found
    assert (leak.kind, leak.what) == ("same image", "4.png")
    (tmp_path / "a/3.png").write_bytes(b"no image, but the same bytes")
    (tmp_path / "b/3.png").write_bytes(b"no image, but the same bytes")
    assert [leak.what for leak in check_leaks([train], [other], pixels=True).found] == ["3.png"]


def test_turned_and_transparent_images_are_compared_as_the_network_sees_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    upright = Image.fromarray(rng.integers(0, 256, (4, 6, 3), dtype=np.uint8))
    files = {name: io.BytesIO() for name in ("upright.png", "turned.png", "clear.png", "other.png")}
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees to the right before it is shown
    upright.save(files["upright.png"], "PNG")
    upright.transpose(Image.Transpose.ROTATE_90).save(files["turned.png"], "PNG", exif=exif)
    upright.convert("RGBA").save(files["clear.png"], "PNG")
    upright.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(files["other.png"], "PNG")
    names = [*files]
    data = pairs_file(
        tmp_path / "a/train.json",
        [(f"prompt{n} about{n}", name, f"{n}.png") for n, name in enumerate(names)],
        {name: buffer.getvalue() for name, buffer in files.items()},
    )
    found = split(data, share=0.5)
    assert (found.components, found.largest) == (2, 3)
    assert split(data, share=0.5, pixels=False).components == 4


def test_images_in_rows_are_compared_too(tmp_path: Path) -> None:
    """Both ways round, by their bytes and by their pixels."""
    files = pairs_file(tmp_path / "a/train.json", [("a cat", "1.png", "2.png"), ("a cow", "3.png", "4.png")])
    same = (tmp_path / "a/3.png").read_bytes()
    for image, found in ((same, {"same image": 1}), (saved_again(same), {})):
        embedded = {"x": image, "y": png(1)}
        group = Group(place="", prompt="a dog", images=("x", "y"), embedded=embedded)
        rows = stored(tmp_path / "rows.parquet", [group])
        for one, other in ((files, rows), (rows, files)):
            assert check_leaks([one], [other]).counts == found
            assert check_leaks([one], [other], pixels=True).counts == {"same image": 1}


@st.composite
def judged(draw: st.DrawFn) -> list[Group]:
    """Groups of few words and few images, so that many hang together."""
    prompts = draw(st.lists(FEW_WORDS, min_size=2, max_size=12))
    numbers = st.lists(st.integers(0, 40), min_size=2, max_size=3, unique=True)
    return [
        Group(
            place="",
            prompt=prompt,
            images=tuple(map(str, images)),
            judgements=(Judgement(ranks=tuple(range(1, len(images) + 1))),),
            embedded={str(n): png(n) for n in images},
        )
        for prompt, images in ((prompt, draw(numbers)) for prompt in prompts)
    ]


@given(judged(), st.sampled_from([0.2, 0.5]), st.integers(0, 3))
def test_parts_share_nothing_and_do_not_depend_on_the_order(
    tmp_path_factory: pytest.TempPathFactory, groups: list[Group], share: float, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("split")
    data = stored(folder / "all.parquet", groups)
    try:
        parts = split(data, share=share, seed=seed, similarity=0.5)
    except InputError as error:
        assert "one part would be empty" in error.found  # noqa: PT017  # it depends on what was drawn
        return
    held = [group for group, out in zip(groups, parts.held_out, strict=True) if out]
    kept = [group for group, out in zip(groups, parts.held_out, strict=True) if not out]
    assert (len(held), len(kept)) == (parts.validation, parts.train)
    leaks = check_leaks([stored(folder / "a.parquet", kept)], [stored(folder / "b.parquet", held)], similarity=0.5)
    assert not leaks.found
    turned = split(stored(folder / "turned.parquet", groups[::-1]), share=share, seed=seed, similarity=0.5)
    assert turned.held_out == parts.held_out[::-1]


def test_the_share_is_met_and_the_seed_chooses(tmp_path: Path) -> None:
    rows = [(f"word{n} other{n}", f"{n}a.png", f"{n}b.png") for n in range(60)]
    data = open_data(
        write_json(
            tmp_path / "train.json", [{**TRAIN_ROW, "prompt": p, "file_path": [a, b]} for p, a, b in rows for _ in "xy"]
        )
    )
    parts = split(data, share=0.25)
    assert (parts.validation, parts.train, parts.components, parts.largest) == (30, 90, 60, 2)
    assert parts.unread_images == 120  # none of these images is there
    assert split(data, share=0.25).held_out == parts.held_out
    assert split(data, share=0.25, seed=1).held_out != parts.held_out


def test_a_split_is_written_so_that_its_images_are_found(tmp_path: Path, inputs: Path) -> None:
    data = open_data(inputs / "HPDv2")
    parts = split(data, share=0.2)
    write_split(data, parts, tmp_path / "deep/parts")
    halves = [open_data(tmp_path / f"deep/parts/{name}.parquet") for name in ("train", "validation")]
    assert [len([*half]) for half in halves] == [parts.train, parts.validation]
    assert not check_leaks(halves[:1], halves[1:]).found
    by_prompt = {(group.prompt, group.rank, len(group.images)): group for group in data}
    for half in halves:
        for group in half:
            original = by_prompt[group.prompt, group.rank, len(group.images)]
            assert replace(group, place="", images=()) == replace(original, place="", images=())
            for name, before in zip(group.images, original.images, strict=True):
                assert half.image_path(name).samefile(data.image_path(before))
    facts = json.loads((tmp_path / "deep/parts/split.json").read_text())
    assert (facts["train"], facts["validation"], facts["seed"]) == (parts.train, parts.validation, 0)


def test_what_cannot_be_split_says_so(tmp_path: Path) -> None:
    data = pairs_file(tmp_path / "train.json", [("a cat", "1.png", "2.png")] * 3)
    with pytest.raises(InputError, check=at(data.path, found="3 of 3 groups hang together")):
        split(data)
    for name, value in (("share", 1.0), ("share", 0.0), ("similarity", 1.5)):
        with pytest.raises(InputError, check=at(name, found=f"is {value}")):
            split(data, **{name: value})


def test_what_shares_nothing_passes(tmp_path: Path) -> None:
    train = pairs_file(tmp_path / "a/train.json", [("a cat", "1.png", "2.png")])
    other = pairs_file(tmp_path / "b/test.json", [("a dog", "1.png", "2.png")])  # other images of the same names
    leaks = check_leaks([train], [other])
    assert not leaks.found
    leaks.refuse()
