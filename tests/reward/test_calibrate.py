"""`hpskit reward calibrate`: statistics by hand, the book of scores, and what a mixture makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import Cli
from error_fields import at
from hpskit.dataset.reading import open_data
from hpskit.errors import InputError
from hpskit.reward import Calibration, Mixture, Reward
from hpskit.reward.calibrate import statistics
from hpskit.scoring.scorer import load_scorer
from small_inputs import write_data

SCORERS = ("--scorer", "mini", "--scorer", "random", "--precision", "fp32", "--device", "cpu")


@pytest.fixture(scope="module")
def data(photographs: list[Image.Image], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("reference"), photographs, groups=12)


def test_a_mixture_by_a_calibration_has_the_shares_it_was_asked_for(data: Path, tmp_path: Path, cli: Cli) -> None:
    done = cli("reward", "calibrate", "--data", data, *SCORERS, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    found = Calibration.read(tmp_path / "calibration.json")
    assert (found.images, found.prompts, set(found.scorers)) == (48, 12, {"mini", "random"})
    groups = [
        (group.prompt, [opened.image_path(name) for name in group.images])
        for opened in [open_data(data)]
        for group in opened
    ]
    mini, chance = (Reward(load_scorer(name, precision="fp32", device="cpu")) for name in ("mini", "random"))
    rows = np.array([mini.scorer.score(images, prompt).numpy() for prompt, images in groups])
    assert found.scorers["mini"].mean == pytest.approx(rows.mean(), abs=1e-4)
    assert found.scorers["mini"].deviation == pytest.approx(np.sqrt(rows.var(axis=1, ddof=1).mean()), rel=1e-4)

    mixed = Mixture({"mini": (mini, 3), "random": (chance, 1)}, calibration=tmp_path / "calibration.json")
    images = [image for _, paths in groups for image in paths]
    prompts = [prompt for prompt, paths in groups for _ in paths]
    parts = mixed.components(images, prompts)

    def within(values: torch.Tensor) -> torch.Tensor:
        return (values.view(12, 4) - values.view(12, 4).mean(dim=1, keepdim=True)).double()

    total = within(mixed.total(parts))
    without = {"mini": parts | {"random": torch.zeros(48)}, "random": parts | {"mini": torch.zeros(48)}}
    shares = {
        name: float((within(mixed.total(own)) * total).sum() / total.square().sum()) for name, own in without.items()
    }
    assert shares == pytest.approx({"mini": 0.75, "random": 0.25}, abs=0.0025)  # within a hundredth; 5 % were asked for


def test_scores_of_an_evaluation_are_used_again(data: Path, tmp_path: Path, cli: Cli) -> None:
    """One book: of a scorer that was evaluated nothing is scored anew, so that images may even be gone since."""
    assert cli("evaluate", "--data", data, *SCORERS, "--resamples", 100, "--out", tmp_path).returncode == 0
    size = (tmp_path / "scores.ledger").stat().st_size
    done = cli("reward", "calibrate", "--data", data, *SCORERS, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "scores.ledger").stat().st_size == size


@pytest.mark.parametrize(
    ("scores", "found"),
    [([[1.0], [2.0], [3.0]], "several images"), ([[1.0, 1.0], [2.0, 2.0]], "one gives different")],
)
def test_what_has_no_deviation_is_refused(scores: list[list[float]], found: str) -> None:
    with pytest.raises(InputError, check=at("made up", found=found)):
        statistics({("one", "one 1.0"): [np.array(own) for own in scores]}, data="made up")
