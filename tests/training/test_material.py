"""What the data of a run are checked for before its first step, and what it leaves out of them."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import TINY
from hpskit.dataset.convert import convert
from hpskit.dataset.reading import open_data
from hpskit.dataset.split import split, write_split
from hpskit.errors import InputError, OutputError, RecordError
from hpskit.files import publish_json, read_json
from hpskit.training.checkpoints import Checkpoints
from hpskit.training.estimate import estimate
from hpskit.training.material import Material, read_material
from hpskit.training.recipes import tiny
from hpskit.training.student import Student
from hpskit.training.train_run import TrainRun, open_stream
from hpskit.training.trainer import train
from made_up_task import write_task

SETTINGS = (f"architecture={TINY}", "steps=1", "warmup=1", "batch=4")
PAIRS = 16


@pytest.fixture
def task(tmp_path: Path) -> Path:
    folder = tmp_path / "task"
    write_task(folder, pairs=PAIRS, seed=0)
    write_task(folder, pairs=6, seed=0, held_out=True)
    return folder


@pytest.fixture
def config(task: Path, tiny_checkpoint: Path, tmp_path: Path) -> TrainRun:
    return TrainRun(
        recipe=tiny().with_settings(SETTINGS),
        data=(str(task / "train.json"),),
        validation=str(task / "held-out.json"),
        out=tmp_path / "run",
        tensorboard=False,
    )


def read(task: Path, data: str = "train.json", **options: Any) -> Material:
    return read_material([str(task / data)], str(task / "held-out.json"), **options)


def change(path: Path, edit: Callable[[list[dict[str, Any]]], None]) -> None:
    rows = json.loads(path.read_text())
    edit(rows)
    path.write_text(json.dumps(rows))


def of_another_size(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"!")


def of_equal_size(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


def test_a_run_does_not_go_on_with_other_images(config: TrainRun, task: Path) -> None:
    train(config)
    resumed = replace(config, resume=True)
    for file, what, put in (
        ("train-3-b.png", r"was [\d,]+ bytes, is [\d,]+", of_another_size),
        ("held-out-2-a.png", r"has [\d,]+ bytes as before, but others", of_equal_size),
    ):
        original = (task / "train" / file).read_bytes()
        put(task / "train" / file)
        with pytest.raises(OutputError, match=rf"run: images have changed: {file}: {what}; bring back"):
            train(resumed)
        (task / "train" / file).write_bytes(original)
    train(resumed)
    noted = read_json(config.out / "config.json")
    del noted["data"][0]["images"]  # as in runs of before it was noted
    publish_json(config.out / "config.json", noted)
    of_another_size(task / "train/train-3-b.png")
    train(resumed)


@pytest.fixture
def broken(config: TrainRun, task: Path) -> tuple[TrainRun, Path, bytes, str]:
    """A run that an image has stopped behind its second checkpoint; the image, what it should be, and the error."""
    settings = ["steps=8", "batch=2", "save_every=1", "validate_every=8"]
    config = replace(config, recipe=config.recipe.with_settings(settings), resume=True, workers=0)
    stream = open_stream(config, read(task), Student.build(config.recipe))
    *_, batch = itertools.islice(stream, 4)
    number = int(batch.places[0].split("entry ")[1].split()[0]) - 1
    image = task / f"train/train-{number}-a.png"
    sound = image.read_bytes()
    image.write_bytes(sound[: len(sound) // 2])
    with pytest.raises(RecordError) as caught:
        train(config)
    return config, image, sound, str(caught.value)


def test_a_run_goes_on_when_its_broken_image_is_mended(
    broken: tuple[TrainRun, Path, bytes, str], task: Path, tmp_path: Path
) -> None:
    config, image, sound, text = broken
    assert f"image '{image.name}': " in text
    assert text.endswith(", then --resume goes on; --resume --on-broken drop does without its group")
    assert Checkpoints(config.out / "checkpoints", 2).steps()[-1] == 3
    assert "under way" in (config.out / "report.html").read_text()
    with pytest.raises(KeyboardInterrupt):  # another part that ends before the image: it is still known for broken
        train(replace(config, recipe=config.recipe), stop_at_once)
    image.write_bytes(sound)
    other = task / "train/train-0-b.png" if image.name != "train-0-a.png" else task / "train/train-1-b.png"
    content = other.read_bytes()
    of_another_size(other)
    with pytest.raises(OutputError, match=rf"images have changed: {other.name}: was [\d,]+ bytes, is [\d,]+; bring"):
        train(config)
    other.write_bytes(content)
    said: list[str] = []
    summary = train(config, warn=said.append)
    assert any(f"image {image.name}: was " in line and "could not be decoded before" in line for line in said)
    assert summary.weight_hash == train(replace(config, out=tmp_path / "whole")).weight_hash
    assert train(config) == summary


def stop_at_once(what: str, _done: int, _total: int | None, line: Mapping[str, Any]) -> None:
    if line.get("kind") == "resume":
        raise KeyboardInterrupt


def test_a_run_goes_on_without_its_broken_image(broken: tuple[TrainRun, Path, bytes, str], tmp_path: Path) -> None:
    config, *_ = broken
    dropping = replace(config, on_broken="drop")
    summary = train(dropping)
    assert read_json(config.out / "config.json")["on_broken"] == "drop"
    assert summary.weight_hash == train(replace(dropping, out=tmp_path / "whole")).weight_hash
    with pytest.raises(OutputError, match="on_broken was drop, is fail, and groups were left out"):
        train(config)


def json_layout(task: Path) -> str:
    return "train.json"


def parquet_of_files(task: Path) -> str:
    convert(open_data(task / "train.json"), "parquet", task / "named.parquet", images=False)
    shutil.copytree(task / "train", task / "images")
    return "named.parquet"


@pytest.mark.parametrize("layout", [json_layout, parquet_of_files])
def test_missing_images_are_refused_or_their_groups_left_out(task: Path, layout: Callable[[Path], str]) -> None:
    data = layout(task)
    root = open_data(task / data).image_root
    (root / "train-3-b.png").unlink()
    (root / "train-5-a.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"'train-\d-[ab]\.png' .* and 1 more; .*--on-broken drop"):
        read(task, data)
    material = read(task, data, on_broken="drop")
    assert material.without == {f"{task / data}: {place}" for place in layout_places(data, (3, 5))}
    [line] = material.omissions()
    assert f"{data}: groups left out because image files are missing or empty: 2 (first: " in line
    described = material.describe(tiny().with_settings(SETTINGS))
    assert [found.groups for found in described] == [PAIRS - 2, 6]
    rows = json.loads((task / "train.json").read_text())
    assert material.prompts() == {row["prompt"] for number, row in enumerate(rows) if number not in (3, 5)}


def layout_places(data: str, numbers: tuple[int, ...]) -> list[str]:
    if data.endswith(".json"):
        return [f"entry {number + 1} (line 1)" for number in numbers]
    return [f"row {number + 1}" for number in numbers]


def test_a_run_drops_the_same_groups_in_every_layout(config: TrainRun, task: Path, tmp_path: Path) -> None:
    """Missing ones in training and validation; the steps are the same as without these rows."""
    for name in ("train-3-a.png", "train-3-b.png", "held-out-2-a.png"):
        (task / "train" / name).unlink()
    said: list[str] = []
    dropped = train(replace(config, on_broken="drop"), warn=said.append)
    assert sum("left out because image files are missing or empty: 1 (first: " in line for line in said) == 2
    noted = read_json(config.out / "config.json")
    assert [(e["groups"], e["incomplete"]) for e in (*noted["data"], *noted["validation"])] == [(PAIRS - 1, 1), (5, 1)]
    left_out = "Groups of task/train.json left out because image files were missing or empty: 1."
    assert left_out in (config.out / "report.html").read_text()
    change(task / "train.json", lambda rows: rows.pop(3))
    change(task / "held-out.json", lambda rows: rows.pop(2))
    removed = train(replace(config, out=tmp_path / "removed"))
    assert dropped.weight_hash == removed.weight_hash
    assert dropped.validation["accuracy"] == removed.validation["accuracy"]


def leaking(task: Path) -> None:
    """One prompt of validation in two training rows, and one of its images in a third."""
    held_out = json.loads((task / "held-out.json").read_text())

    def edit(rows: list[dict[str, Any]]) -> None:
        rows[0]["prompt"] = rows[1]["prompt"] = held_out[0]["prompt"]
        rows[2]["file_path"][0] = held_out[0]["file_path"][0]

    change(task / "train.json", edit)


def test_what_leaks_is_counted_by_kind_everywhere(config: TrainRun, task: Path) -> None:
    leaking(task)
    with pytest.raises(InputError, match=r"same prompt: 2, same image: 1; .*without these 3 of 16 groups"):
        estimate(config)
    dropping = replace(config, drop_leaks=True)
    found = estimate(dropping)
    counted = "3 of 16 (same prompt: 2, same image: 1)"
    warning = f"training groups left out because they share prompts or images with --val: {counted}"
    assert warning in found.warnings
    assert any(f"train.json: {PAIRS - 3} groups, " in line for line in found.data)
    said: list[str] = []
    train(dropping, warn=said.append)
    assert warning in said
    noted = read_json(config.out / "config.json")
    assert (noted["leaks"], noted["dropped_leaks"]) == ({"same prompt": 2, "same image": 1}, 3)
    page = (config.out / "report.html").read_text()
    assert "share something with the validation data: 3 (same prompt: 2, same image: 1)." in page


def test_what_is_left_out_for_its_images_leaks_nothing(task: Path) -> None:
    """A training group without images, and one that only a validation group without images has anything of."""
    held_out = json.loads((task / "held-out.json").read_text())

    def edit(rows: list[dict[str, Any]]) -> None:
        rows[0]["prompt"], rows[1]["prompt"] = held_out[0]["prompt"], held_out[1]["prompt"]

    change(task / "train.json", edit)
    for name in ("train-0-a.png", "held-out-1-a.png"):
        (task / "train" / name).unlink()
    material = read(task, on_broken="drop")
    assert not material.leaks.found
    assert material.leaks.train_groups == PAIRS - 1


def test_pixels_are_compared_if_asked_for(task: Path) -> None:
    from PIL import Image

    with Image.open(task / "train/held-out-1-b.png") as image:
        image.save(task / "train/train-4-a.png", compress_level=1)
    read(task)
    with pytest.raises(InputError, match=r"\(same image: 1; first: same image: .*entry 5 .*'train-4-a.png'\)"):
        read(task, compare_pixels=True)


def test_prompts_that_are_cut_are_counted_before_the_first_step(config: TrainRun, task: Path) -> None:
    long = "a red ball " + "and another ball " * 40

    def edit(rows: list[dict[str, Any]]) -> None:
        for number in range(3):
            rows[number]["prompt"] = f"{long} {number}"
        rows[4]["prompt"] = "a picture of something extraordinarily " * 5  # more than 77 letters, fewer tokens

    change(task / "train.json", edit)
    [warning, *_] = [line for line in estimate(config).warnings if "longer" in line]
    assert "task/train.json: 3 of 16 prompts are longer than the 77 tokens that the network reads" in warning


def test_a_split_of_data_is_trained_on(config: TrainRun, task: Path, tmp_path: Path) -> None:
    """Parquet files that name files, as `hpskit data split` writes them."""
    data = open_data(task / "train.json")
    write_split(data, split(data, share=0.4), tmp_path / "parts")
    parts = replace(
        config,
        data=(str(tmp_path / "parts/train.parquet"),),
        validation=str(tmp_path / "parts/validation.parquet"),
    )
    assert train(parts).steps == 1
    (task / "train/train-0-a.png").unlink()
    with pytest.raises(InputError, match=r"row \d+: image '.*train-0-a.png' is not in .*; bring them"):
        train(replace(parts, out=tmp_path / "again"))
    assert not (tmp_path / "again").exists()


def test_validation_in_which_fewer_than_two_prompts_decide_anything_is_refused(
    task: Path,
) -> None:
    def tie(rows: list[dict[str, Any]]) -> None:
        for row in rows[1:]:
            row["human_preference"] = [0.5, 0.5]

    change(task / "held-out.json", tie)
    with pytest.raises(InputError, match=r"held-out\.json: has 1 prompt with images of which people preferred one"):
        read(task)


def test_groups_that_are_left_out_do_not_count_as_validation(task: Path) -> None:
    for row in json.loads((task / "held-out.json").read_text())[2:]:
        (task / "train" / Path(row["file_path"][0]).name).unlink()
    read(task, on_broken="drop")
    second = json.loads((task / "held-out.json").read_text())[1]
    (task / "train" / Path(second["file_path"][0]).name).unlink()
    with pytest.raises(InputError, match=r"has 1 prompt with images"):
        read(task, on_broken="drop")
