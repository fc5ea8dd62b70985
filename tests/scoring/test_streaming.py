"""Several scorers at once give what each gives alone, and share the work."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from conftest import TINY
from error_fields import at
from hpskit.errors import ImageError, ModelError
from hpskit.pixels import Encoded
from hpskit.scoring.contract import ImageLike
from hpskit.scoring.scorer import PreferenceScorer, load_scorer, streamed
from hpskit.scoring.streaming import stream
from image_files import encoded
from small_inputs import information


class Width:
    """A scorer of somebody else: follows the contract, knows nothing of hpskit's networks."""

    reads_prompt = False
    log_odds_per_point = None
    info = information("width")

    def score(self, images: list[ImageLike], prompts: list[str]) -> torch.Tensor:
        assert all(isinstance(image, Image.Image) for image in images)
        return torch.tensor([float(image.width) for image in images])  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def scorers(tiny_checkpoint: Path) -> list[PreferenceScorer]:
    options = {"arch": TINY, "precision": "fp32", "device": "cpu"}
    return [
        load_scorer(tiny_checkpoint, **options, batch_size=3),
        load_scorer(tiny_checkpoint, **options, antialias=False),
        load_scorer("mini", precision="fp32", device="cpu"),
    ]


def test_the_same_scores_as_alone(scorers: list[PreferenceScorer], photograph_files: list[Path]) -> None:
    images = [photograph_files[n % 2] for n in range(7)]
    prompts = [f"prompt {n // 2}" for n in range(7)]
    batches = list(stream([streamed(s) for s in [*scorers, Width()]], images, prompts))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    rows = [outcome for batch in batches for outcome in batch]
    for column, scorer in enumerate(scorers):
        alone = scorer.score(images, prompts).tolist()
        assert [row[column] for row in rows] == pytest.approx(alone, abs=1e-4)
    assert {row[3] for row in rows} == {640.0}


def test_what_is_broken_keeps_no_pixels(photographs: list[Image.Image]) -> None:
    """Not even until the garbage is collected: hundreds of broken images would fill the memory."""
    broken = [Encoded(encoded(photographs[0], "JPEG")[:n], f"cut {n}") for n in range(-400, -100, 10)]
    gc.collect()
    gc.disable()
    try:
        outcomes = [outcome for batch in stream([streamed(Width())], broken, ["a"] * 30) for outcome in batch]
        assert {type(outcome) for outcome in outcomes} == {ImageError}
        held = [image for image in gc.get_objects() if type(image) is JpegImageFile]
    finally:
        gc.enable()
    assert len(held) <= 1


def test_a_scorer_of_somebody_else_alone(photograph_files: list[Path], tmp_path: Path) -> None:
    """It gets decoded images in batches, and none that is broken."""
    (bad := tmp_path / "bad.png").write_bytes(b"not an image")
    seen: list[int] = []

    class Counted(Width):
        def score(self, images: list[ImageLike], prompts: list[str]) -> torch.Tensor:
            seen.append(len(images))
            return super().score(images, prompts)

    images = [photograph_files[0], bad, *[photograph_files[1]] * 9]
    (first, second) = stream([streamed(s) for s in [Counted()]], images, ["a"] * 11)
    assert seen == [7, 3]
    assert isinstance(first[1], ImageError)
    assert [*first[:1], *first[2:], *second] == [[640.0]] * 10
    all_broken = stream([streamed(s) for s in [Counted()]], [bad], ["a"])
    assert [type(outcome) for outcome in next(all_broken)] == [ImageError]


def test_a_scorer_of_somebody_else_that_forgets_an_image(photograph_files: list[Path]) -> None:
    class Forgetful(Width):
        def score(self, images: list[ImageLike], prompts: list[str]) -> torch.Tensor:
            return super().score(images[1:], prompts)

    with pytest.raises(ModelError, check=at("width: score", found="returned 1 numbers for 2 images")):
        list(stream([streamed(s) for s in [Forgetful()]], photograph_files, ["a", "b"]))
