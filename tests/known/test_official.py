"""hpskit answers as the official package does: see make_official.py, which ran that on what stand_ins.py makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import stand_ins
import torch

from command_inputs import write_judged
from hpskit import hpsv2, load_scorer
from hpskit.evaluation.run import Evaluation, run
from hpskit.models import loading
from hpskit.pixels import Preprocessing, to_tensor
from hpskit.scoring.contract import Candidate
from hpskit.stats.accuracy import pair_accuracy
from hpskit.training.engine import cosine_lr
from hpskit.training.losses import best_of_group_loss, margin_ranking_loss, pair_loss

KNOWN: dict[str, Any] = json.loads(Path(__file__).with_name("official.json").read_text())
SMALL = "small-official"
POINTS = {"fp32": 1e-3, "bf16": 0.2}
"""How far a score may be from a hundred times the official cosine; see docs/scoring.md."""

cut = pytest.mark.filterwarnings("ignore:prompt has .* tokens, the model reads")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("official")
    (folder / f"{SMALL}.json").write_text(json.dumps(stand_ins.SMALL_CLIP))
    open_clip.add_model_config(folder / f"{SMALL}.json")
    return checkpoint(SMALL, folder)


def checkpoint(architecture: str, folder: Path) -> Path:
    """Of the published layout, with stand-in weights."""
    with torch.device("meta"):
        model = open_clip.create_model(architecture, load_weights=False, device="meta")
    state = stand_ins.state({name: tensor.shape for name, tensor in model.state_dict().items()})
    torch.save({"state_dict": state}, folder / f"{architecture}.pt")
    return folder / f"{architecture}.pt"


@pytest.mark.parametrize("how", ["antialias", "no antialias"])
def test_pixels_become_the_same_input(how: str, tmp_path: Path) -> None:
    transform, known = Preprocessing(antialias=how == "antialias"), KNOWN["small"]["transform"][how]
    found = {path.name: stand_ins.sample(transform(to_tensor(path))) for path in stand_ins.shapes(tmp_path)}
    assert found == {name: pytest.approx(values, abs=1e-5) for name, values in known.items()}


@cut
@pytest.mark.parametrize("precision", POINTS)
def test_scores(precision: str, small: Path, tmp_path: Path) -> None:
    assert_scores(small, SMALL, "small", precision, stand_ins.pictures(tmp_path))


@cut
@pytest.mark.slow  # the published architecture: gigabytes, and minutes
def test_scores_in_full_size(tmp_path: Path) -> None:
    path, pictures = checkpoint("ViT-H-14", tmp_path), stand_ins.pictures(tmp_path)
    for precision in POINTS:
        assert_scores(path, "ViT-H-14", "real", precision, pictures)


def assert_scores(path: Path, architecture: str, size: str, precision: str, pictures: list[Path]) -> None:
    scorer = load_scorer(path, arch=architecture, precision=precision, device="cpu")
    for number, prompt in enumerate(stand_ins.PROMPTS):
        known = [100 * KNOWN[size]["scores"][picture.stem][number] for picture in pictures]
        assert scorer.score(pictures, prompt).tolist() == pytest.approx(known, abs=POINTS[precision])


@pytest.mark.parametrize(
    ("data", "mode", "rule"), [("HPDv2", "test", "hpdv2"), ("imagereward", "ImageReward", "imagereward")]
)
def test_accuracy_of_an_evaluation(data: str, mode: str, rule: str, small: Path, tmp_path: Path) -> None:
    """From the published layout of the data to the figure."""
    write_judged(tmp_path)
    scorer = load_scorer(small, arch=SMALL, precision="fp32", device="cpu")
    config = Evaluation(data=tmp_path / data / "test.json", out=tmp_path / "out", resamples=200)
    run(config, lambda: [Candidate(label="small", scorer=scorer)])
    (found,) = json.loads((tmp_path / "out/result.json").read_text())["scorers"]
    assert found["accuracy"][rule]["value"] == pytest.approx(float(KNOWN["small"]["evaluate"][mode][1]), abs=1e-9)


def test_the_benchmark(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The drop-in's figures, to every digit that the official `evaluate` prints."""
    counts = stand_ins.write_benchmark(tmp_path)
    (tmp_path / "datasets").mkdir()
    (tmp_path / "prompts").rename(tmp_path / "datasets/benchmark")
    monkeypatch.setenv("HPS_ROOT", str(tmp_path))
    monkeypatch.setattr(loading, "DEFAULT_ARCHITECTURE", SMALL)
    hpsv2._network.cache_clear()
    found = hpsv2.evaluate(tmp_path / "model", cp=str(small))
    assert {style: found[style]["images"] for style in counts} == counts
    lines = [["model", "Average", f"{found['average']['mean']:.2f}"]]
    lines += [["model", style, f"{found[style]['mean']:.2f}", f"{found[style]['deviation']:.4f}"] for style in counts]
    assert lines == KNOWN["small"]["evaluate"]["benchmark"]


@pytest.mark.parametrize("rule", ["hpdv2", "imagereward"])
def test_accuracy_of_made_up_rankings(rule: str) -> None:
    made, known = stand_ins.rankings(), KNOWN["small"]["accuracy"][rule]
    assert [pair_accuracy([s], [r], rule).value for s, r in made] == pytest.approx(known, abs=1e-12)
    whole = pair_accuracy([s for s, _ in made], [r for _, r in made], rule)
    assert whole.value == pytest.approx(np.mean(known), abs=1e-12), "a mean over groups, not over pairs"


def test_losses() -> None:
    images, prompts = stand_ins.features("images", 9), stand_ins.features("prompts", 5)
    first, second = (100 * (rows * prompts).sum(dim=1) for rows in (images[:5], images[4:]))
    sizes = torch.tensor(stand_ins.SIZES)
    groups = (images * prompts[:3].repeat_interleave(sizes, dim=0)).sum(dim=1)
    found = {
        "pair": pair_loss(first, second, torch.tensor(stand_ins.SHARES)).sum().item(),
        "best of group": best_of_group_loss(100 * groups, sizes, torch.tensor(stand_ins.BEST)).mean().item(),
        "margin ranking": margin_ranking_loss(groups, sizes, torch.tensor(stand_ins.RANKS), margin=1.0).mean().item(),
    }
    assert found == pytest.approx(KNOWN["small"]["losses"], rel=3e-7)


def test_the_learning_rate() -> None:
    known = {int(step): rate for step, rate in KNOWN["small"]["learning rate"].items()}
    found = {step: cosine_lr(step, base_lr=3.3e-6, warmup=500, total=4000) for step in known}
    assert found == pytest.approx(known, rel=1e-12)
