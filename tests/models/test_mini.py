"""The embedded model: small, sane, and the same in every precision and batch."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageFilter

from error_fields import at
from hpskit.errors import CheckpointError, InputError
from hpskit.models.checkpoint import Weights, write_tensors
from hpskit.models.registry import MODELS
from hpskit.models.store import cached
from hpskit.scoring.scorer import PreferenceScorer, load_scorer


@pytest.fixture(scope="module", params=["fp32", "bf16"])
def scorer(request: pytest.FixtureRequest) -> PreferenceScorer:
    return load_scorer("mini", precision=request.param, device="cpu")


def degraded(photograph: Image.Image, kind: str, strength: float) -> Image.Image:
    """A worse copy; strength 1 is moderate, 2 is strong."""
    if kind == "blurred":
        return photograph.filter(ImageFilter.GaussianBlur(3 * strength))
    if kind == "noisy":
        noise = np.random.default_rng(0).normal(0, 30 * strength, np.asarray(photograph).shape)
        return Image.fromarray(np.clip(np.asarray(photograph) + noise, 0, 255).astype(np.uint8))
    if kind == "compressed":
        buffer = io.BytesIO()
        photograph.save(buffer, "jpeg", quality=round(16 / strength**1.5))
        return Image.open(buffer)
    pale = ImageEnhance.Color(photograph).enhance(0.5 / strength)
    return ImageEnhance.Contrast(pale).enhance(0.5 / strength)


@pytest.mark.parametrize("kind", ["blurred", "noisy", "compressed", "washed out"])
@pytest.mark.parametrize("strength", [1, 1.5, 2])
def test_the_clean_photograph_is_preferred(
    scorer: PreferenceScorer, photographs: list[Image.Image], kind: str, strength: float
) -> None:
    for photograph in photographs:
        assert scorer.win_probability("a photograph", photograph, degraded(photograph, kind, strength)) > 0.6


def test_precisions_agree(photographs: list[Image.Image]) -> None:
    images = [photographs[i % 2].crop((i * 9, 0, 300 + i * 9, 300)) for i in range(8)]
    scorers = {p: load_scorer("mini", precision=p, device="cpu") for p in ("fp32", "bf16", "fp16")}
    scores = {precision: scorer.score(images, "x") for precision, scorer in scorers.items()}
    assert all(scorer.info.precision == precision for precision, scorer in scorers.items())
    for name, precision in (("mini", "auto"), ("random", "auto"), ("random", "bf16")):
        assert load_scorer(name, precision=precision, device="cpu").info.precision == "fp32", name
    assert all(score.dtype == torch.float32 for score in scores.values())
    assert 0 < (scores["bf16"] - scores["fp32"]).abs().max() <= 0.1
    assert 0 < (scores["fp16"] - scores["fp32"]).abs().max() <= 0.02


def test_the_edges_of_a_wide_image_are_seen(scorer: PreferenceScorer, photographs: list[Image.Image]) -> None:
    for photograph in photographs:
        wide = photograph.crop((0, 0, 640, 360))
        painted = wide.copy()
        painted.paste((128, 128, 128), (0, 0, 120, 360))
        assert abs(scorer.win_probability("a photograph", wide, painted) - 0.5) > 0.01  # 0.5 if a crop hid the edge


def test_gradients_reach_the_pixels_in_fp32(scorer: PreferenceScorer) -> None:
    torch.manual_seed(0)
    pixels = torch.stack([torch.rand(3, 96, 96), torch.full((3, 96, 96), 0.5)]).requires_grad_()  # the second is flat
    if scorer.info.precision != "fp32":
        with pytest.raises(InputError, check=at("grad", found="mini in bf16")):
            scorer.score(pixels, "x", grad=True)
        return
    scorer.score(pixels, "x", grad=True).sum().backward()
    assert pixels.grad is not None
    assert pixels.grad.isfinite().all()
    assert pixels.grad[0].abs().max() > 0


def test_the_weights_say_what_they_are(tmp_path: Path) -> None:
    path = cached(MODELS["mini"])
    assert path is not None
    assert path.stat().st_size == pytest.approx(MODELS["mini"].size, rel=0.05)
    weights = Weights(path=path, origin=path)
    metadata = weights.metadata()
    assert (metadata["name"], metadata["licence"]) == ("mini", "Apache-2.0")
    assert metadata["version"] == MODELS["mini"].version
    other = tmp_path / "other.safetensors"
    write_tensors(dict(list(weights.tensors())[1:]), other, metadata)
    with pytest.raises(CheckpointError, check=at(other, found="missing")):
        load_scorer(other)
    write_tensors(dict(weights.tensors()), other, {**metadata, "mean": "a, b, c"})
    with pytest.raises(CheckpointError, check=at("mini: preprocessing", found="'a'")):
        load_scorer(other)
    write_tensors(dict(weights.tensors()), other, {**metadata, "kind": "maxi"})
    with pytest.raises(CheckpointError, check=at(other, found="'maxi'")):
        load_scorer(other)
