"""Colours of models: published Lab values, recoloured copies recovered, nothing skipped."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from error_fields import at
from hpskit.benchmark.result import Resampling
from hpskit.benchmark.studies.chrominance import Chrominance, measure, run
from hpskit.benchmark.studies.folders import open_folder, open_folders
from hpskit.errors import ImageError, InputError
from hpskit.pixels.statistics import FINE, ChromaDensity
from hpskit.stage import Ledger

# Folders


@pytest.fixture(scope="session")
def crops(photographs: list[Image.Image]) -> list[Image.Image]:
    """Twelve pieces of each photograph, 160x140."""
    boxes = [(x, y, x + 160, y + 140) for y in (0, 140, 280) for x in (0, 160, 320, 480)]
    return [photograph.crop(box) for photograph in photographs for box in boxes]


@pytest.fixture
def models(tmp_path: Path, crops: list[Image.Image]) -> Path:
    """`base` and its copies: `vivid` and `same`, and `other` with all images under other names."""
    for number, crop in enumerate(crops):
        for name in ("base", "vivid", "same", "other"):
            image = ImageEnhance.Color(crop).enhance(1.5) if name == "vivid" else crop
            place = tmp_path / name / ("a" if number % 2 else "b") / f"{number:05d}{'x' * (name == 'other')}.jpg"
            place.parent.mkdir(parents=True, exist_ok=True)
            image.save(place, quality=95)
    return tmp_path


def colours(models: Path, *names: str, out: str = "out", **more: Any) -> dict[str, Any]:
    given = [f"{name}={models / name}" for name in names]
    return run(Chrominance(images=given, out=models / out, resampling=Resampling(resamples=200), **more))


def test_recoloured_copies_are_found_and_equal_copies_are_not(models: Path) -> None:
    result = colours(models, "base", "vivid", "same", "other")
    base, vivid, same, other = result["models"]
    assert vivid["chroma"]["value"] > 1.2 * base["chroma"]["value"]
    assert vivid["saturation"]["value"] > base["saturation"]["value"]
    assert same == base | {"name": "same", "folder": same["folder"]}
    assert other["sha256"] != base["sha256"]  # other names
    assert colours(models, "base", out="alone")["pairs"] == []
    assert "Distances between" not in (models / "alone/chrominance.html").read_text()
    pairs = {(pair["first"], pair["second"]): pair for pair in result["pairs"]}
    for pair in (pairs["base", "vivid"], pairs["vivid", "same"]):
        assert pair["paired"]
        assert pair["wasserstein"]["p_adjusted"] == pytest.approx(6 / 201)
        assert pair["wasserstein"]["low"] > 2
    assert pairs["base", "vivid"]["chroma_difference"]["low"] > 3
    for pair in (pairs["base", "same"], pairs["base", "other"]):
        for name in ("wasserstein", "jensen_shannon"):
            assert (pair[name]["raw"], pair[name]["value"], pair[name]["p_adjusted"]) == (0, 0, 1)
    assert not pairs["base", "other"]["paired"]


def test_files_that_are_published(models: Path) -> None:
    result = colours(models, "base", "vivid")
    out = models / "out"
    assert json.loads((out / "chrominance.json").read_text()) == result
    assert set(result["files"]) == {path.name for path in out.iterdir()} - {"chrominance.json"}
    page, plot = ((out / f"chrominance.{kind}").read_text() for kind in ("html", "svg"))
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert plot.startswith("<svg")
    assert f"mean C* = {result['models'][1]['chroma']['value']:.1f}" in plot


def test_a_jpeg_that_is_decoded_small_gives_the_colours_of_the_whole(
    tmp_path: Path, photographs: list[Image.Image]
) -> None:
    for name, ending in (("jpeg", "jpg"), ("png", "png")):
        (tmp_path / name).mkdir()
        for number, photograph in enumerate(photographs):
            photograph.resize((1280, 854)).save(tmp_path / name / f"{number}.{ending}", quality=95)
    with Ledger(tmp_path / "ledger", {}) as ledger:
        jpeg, png = (measure(open_folder(tmp_path / name), ledger, 160) for name in ("jpeg", "png"))
    assert jpeg.figures[0] == pytest.approx(png.figures[0], rel=0.02)
    assert np.abs(jpeg.densities - png.densities).sum(axis=1).max() < 0.2


def test_names_of_folders(models: Path) -> None:
    first, second = open_folders([str(models / "base"), f"my model={models / 'vivid'}"])
    assert (first.name, second.name) == ("base", "my model")
    assert first.keys == second.keys
    shutil.copytree(models / "base", models / "a=b")
    assert open_folders([str(models / "a=b")])[0].name == "a=b"
    with pytest.raises(InputError, check=at("images", found="'base'", cure="NAME=DIR")):
        open_folders([str(models / "base"), f"base={models / 'vivid'}"])


def test_nothing_is_skipped_and_what_cannot_be_used_is_named(models: Path) -> None:
    (models / "base/notes.txt").write_text("no image")
    broken = models / "base/a/zzz.WEBP"
    broken.write_bytes(b"not an image at all")
    assert open_folder(models / "base").others == 1
    with pytest.raises(ImageError, check=at(broken, found="is not an image")):
        colours(models, "base", "vivid")
    assert not (models / "out/chrominance.json").exists()
    broken.write_bytes(b"")
    for name in ("empty", "single"):
        (models / name).mkdir()
    shutil.copy(models / "base/b/00000.jpg", models / "single")
    for name, place, found in (
        ("base", broken, "is empty"),
        ("nowhere", models / "nowhere", "is not a folder"),
        ("empty", models / "empty", "0 other files"),
        ("single", models / "single", "holds one image"),
    ):
        with pytest.raises(InputError, check=at(place, found=found)):
            colours(models, name)
    with pytest.raises(InputError, check=at("size", found="is 8")):
        Chrominance(images=["a"], out=models / "out", size=8)


def test_grey_is_in_one_bin_whatever_the_last_digit() -> None:
    """Its chroma is 0 but for rounding, which differs between processors."""
    shades = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    density = ChromaDensity.of(shades)
    assert (density.fine.max(), np.count_nonzero(density.fine)) == (1.0, 1)
    assert np.abs(density.fine @ FINE.centres).max() < 1e-6
