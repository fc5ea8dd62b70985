"""Distribution metrics: figures that are known, figures that torch-fidelity and torchmetrics give, and weights."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torch_fidelity import calculate_metrics
from torch_fidelity.utils import create_feature_extractor

from conftest import Cli
from error_fields import at
from hpskit.benchmark.result import Result, read_result
from hpskit.benchmark.studies import distribution_metrics as stage
from hpskit.benchmark.studies.distribution_metrics import (
    FILE,
    Inception,
    Metrics,
    agreement,
    distribution_metrics,
    find_weights,
    metrics_page,
    run,
)
from hpskit.benchmark.studies.folders import measured
from hpskit.errors import (
    CheckpointError,
    HashMismatchError,
    HpskitError,
    InputError,
    MissingExtraError,
    NotCachedError,
)
from hpskit.models.checkpoint import write_tensors
from hpskit.models.registry import network_class
from hpskit.pixels import Encoded, to_tensor
from hpskit.scoring.scorer import load_scorer
from hpskit.stage import Ledger
from leaderboard_results import write_result

PROMPTS = ("a temple beside a lake", "Café, naïve & quoted: 3 dahlias!!  in  the rain", "a red roof " * 20)


def features(pooled: np.ndarray[Any, Any], logits: np.ndarray[Any, Any] | None = None) -> torch.Tensor:
    """Features of any length, and logits of 1008 classes; 0 if not given."""
    logits = np.zeros((len(pooled), 1008)) if logits is None else logits
    return torch.from_numpy(np.hstack([pooled, logits]).astype(np.float32))


# Known answers


def test_fid_of_a_shift_and_of_a_stretch() -> None:
    """Equal covariances: the square of the shift. Of variance v and of 4v: (2 sqrt(v) - sqrt(v))^2 = v."""
    cloud = np.random.default_rng(0).normal(size=(400, 6))
    shift = np.array([3, 0, 0, 4, 0, 0])
    line = np.zeros((500, 3))
    line[:, 1] = np.random.default_rng(1).normal(size=500)
    line -= line.mean(axis=0)
    for one, other, fid in ((cloud, cloud + shift, 25), (cloud, cloud, 0), (line, 2 * line, line[:, 1].var(ddof=1))):
        found = distribution_metrics(features(one), features(other), 100)
        assert found["fid"] == pytest.approx(fid, rel=1e-3, abs=1e-6)


def test_kid_is_about_zero_for_one_source_and_not_for_another() -> None:
    rng = np.random.default_rng(2)
    one, same = (features(rng.normal(size=(300, 8))) for _ in range(2))
    other = features(rng.normal(0.7, 1, size=(300, 8)))
    near, far = (distribution_metrics(one, two, 100)["kid"] for two in (same, other))
    assert abs(near["value"]) < near["deviation"]
    assert far["value"] > 5 * far["deviation"]


def test_inception_score_counts_classes() -> None:
    """Sure of five classes alike: 5. Sure of nothing: 1."""
    pooled = np.random.default_rng(0).normal(size=(5000, 2))
    sure = features(pooled, np.tile(np.eye(5, 1008) * 50, (1000, 1)))
    found = distribution_metrics(sure, sure, 100)["inception_score"]
    assert found["value"] == pytest.approx(5, rel=0.02)
    unsure = distribution_metrics(features(pooled), sure, 100)["inception_score"]
    assert (unsure["value"], unsure["deviation"]) == pytest.approx((1, 0))


# Agreement with scorers


def result(folder: Path, name: str, score: float, digest: str = "a") -> Result:
    """A result whose mean by the scorer `s` is `score`."""
    prompts = [("", "one"), ("", "other")]
    path = write_result(folder / f"{name}.json", name, {"s": [score - 1, score + 1]}, prompts, digest=digest)
    return read_result(path)


def row(name: str, fid: float, score: float) -> dict[str, Any]:
    kid, own = {"value": -fid, "deviation": 0}, {"value": score, "deviation": 0}
    return {"name": name, "fid": fid, "kid": kid, "inception_score": own, "clip_score": None}


def test_agreement_is_one_if_the_best_is_the_best_whichever_way_a_metric_points(tmp_path: Path) -> None:
    rows = [row("a", 10, 5), row("b", 20, 4), row("c", 30, 3), row("without", 99, 99)]
    results = [result(tmp_path, "c", 20.0), result(tmp_path, "a", 22.0), result(tmp_path, "b", 21.0)]
    found = agreement(rows, results)
    assert {entry["metric"]: entry["spearman"] for entry in found["agreement"]} == {
        "fid": 1,  # lower is better
        "kid": -1,  # made to point the other way
        "inception_score": 1,
    }
    assert found["scorers"] == ["s"]
    assert found["scores"] == {"a": {"s": 22.0}, "b": {"s": 21.0}, "c": {"s": 20.0}}
    assert agreement(rows[:2], results[1:])["agreement"] == []  # two models order nothing
    level = agreement([row(name, 7, 1) for name in "abc"], results)["agreement"]
    assert [entry["kendall_tau_b"] for entry in level] == [None] * 3


def test_pages_with_and_without_scores_and_prompts(tmp_path: Path) -> None:
    rows = [
        {**row(name, fid, 5), "images": 3000, "folder": name, "other_files": 0, "sha256": "0" * 64}
        for name, fid in (("a", 12.345), ("b", 20), ("c", 30))
    ]
    settings = {"published_weights": True, "kid_subsets": 100, "kid_subset_size": 1000, "inception_score_splits": 10}
    common = {
        "package": "hpskit",
        "command": "hpskit study metrics",
        "models": rows,
        "reference": rows[0],
        "two_halves_of_the_reference": {"images": 1500, "fid": 1.5, "kid": rows[0]["kid"]},
        "few_images": 10_000,
    }
    settings |= {"inception": "network", "seed": 2020, "clip": None}
    bare = metrics_page({**common, "settings": settings, **agreement(rows, [])})
    assert "12.35" in bare or "12.34" in bare
    assert "at least three of the models" in bare
    assert "not the published weights" not in bare
    assert "The smallest set has 3,000 images" in bare
    for own in rows:
        own["clip_score"] = {"value": 31.5, "low": 31.2, "high": None if own["name"] == "b" else 31.8}
        own["clip_score"]["low"] = None if own["name"] == "b" else 31.2
    settings["clip"] = {"scorer": "clip", "suite": "hpsv2"}
    found = agreement(rows, [result(tmp_path, name, score) for name, score in (("a", 23.25), ("b", 22), ("c", 21))])
    full = metrics_page({**common, "settings": settings, **found})
    assert "31.20 to 31.80" in full
    assert "23.25" in full
    assert "Rank correlation over 3 models" in full
    assert "http" not in full


# The network and its weights


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the published layout."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as Network

    folder = tmp_path_factory.mktemp("inception")
    torch.save({}, folder / "nothing.pth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Network, "load_state_dict", lambda self, state: None)  # else it takes none but whole files
        network = Network("inception-v3-compat", ["2048"], str(folder / "nothing.pth"))
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    torch.save(network.state_dict(), folder / "stand-in.pth")
    return folder / "stand-in.pth"


@pytest.fixture(scope="session")
def network(weights: Path) -> Inception:
    return Inception(weights, "cpu")


def write_images(folder: Path, photographs: list[Image.Image], count: int, side: int, offset: int = 0) -> Path:
    """Pieces of the photographs, as PNG, because every decoder gives the same pixels."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(offset)
    for number in range(count):
        x, y = rng.integers(0, 300), rng.integers(0, 200)
        photographs[(number + offset) % 2].crop((x, y, x + side, y + side)).save(folder / f"{number:05d}.png")
    return folder


def test_features_are_those_of_torch_fidelity_and_are_computed_once(
    network: Inception, weights: Path, photographs: list[Image.Image], tmp_path: Path
) -> None:
    folder = write_images(tmp_path / "images", photographs, 3, 90)
    photographs[0].crop((0, 0, 120, 50)).save(folder / "wide.png")
    files = sorted(folder.iterdir())
    original = create_feature_extractor(
        "inception-v3-compat",
        ["2048", "logits_unbiased"],
        cuda=False,
        feature_extractor_weights_path=str(weights),
        verbose=False,
    )
    computed: list[str] = []

    def features(images: Sequence[Encoded], pool: Executor) -> list[str]:
        computed.extend(Path(image.place).name for image in images)
        return network.features(images, pool)

    with Ledger(tmp_path / "ledger", {}) as ledger:
        found = list(measured(files, ledger, network.identity, features))
        for (_, text), file in zip(found, files, strict=True):
            own = np.frombuffer(base64.b64decode(text), np.float32)
            pooled, logits = original((255 * to_tensor(file)).round().to(torch.uint8)[None])
            assert own[:2048] == pytest.approx(pooled[0].numpy(), rel=1e-4, abs=1e-5)
            assert own[2048:] == pytest.approx(logits[0].numpy(), rel=1e-4, abs=1e-4)
        assert [digest for digest, _ in found] == [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
        assert not network.published
        photographs[1].crop((0, 0, 90, 90)).save(files[0])  # another image under the same name is computed
        assert list(measured(files, ledger, network.identity, features))[1:] == found[1:]
    assert computed == [file.name for file in (*files, files[0])]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HPSKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "home"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of this machine in place of the one that is published."""
    file = tmp_path / "published"
    file.write_bytes(b"the weights")
    monkeypatch.setattr(stage, "URL", file.as_uri())
    return file


def test_weights_are_found_or_downloaded_once_and_checked(
    home: Path, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(HashMismatchError, check=at(expected="6726825d…")):
        find_weights()
    assert not list(home.rglob("*.pth"))
    with monkeypatch.context() as patch:
        digest = hashlib.sha256(b"the weights").hexdigest()[:8]
        patch.setattr(stage, "FILE", f"weights-{digest}.pth")
        path = find_weights()
        assert path == home / "originals/inception" / f"weights-{digest}.pth"
        assert path.read_bytes() == b"the weights"
        site.unlink()
        assert find_weights() == path
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(NotCachedError, check=at(found="HF_HUB_OFFLINE is set", cure="--weights")):
        find_weights()
    for place in (tmp_path / "torch/hub/checkpoints" / FILE, home / "originals/inception" / FILE):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
        assert find_weights() == place


def test_a_network_that_cannot_be_reached_or_used(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "URL", "http://127.0.0.1:9/file")
    with pytest.raises(NotCachedError, check=at(found="cannot be downloaded (", cure="download http")):
        find_weights()
    with pytest.raises(CheckpointError, check=at(tmp_path / "nothing.pth")):
        find_weights(tmp_path / "nothing.pth")
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, check=at(tmp_path / "other.pth", found="is of another network")):
        Inception(tmp_path / "other.pth", "cpu")


# The stage


def test_what_is_refused_before_anything_is_computed(
    tmp_path: Path, photographs: list[Image.Image], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = write_images(tmp_path / "few", photographs, 3, 40)
    enough = write_images(tmp_path / "enough", photographs, 20, 40)

    def refused(error: type[HpskitError], place: str | Path, found: str, *images: str, **more: Any) -> None:
        with pytest.raises(error, check=at(place, found=found)):
            run(
                Metrics(images=images, out=tmp_path / "out", **{"reference": enough, **more}),
                lambda: pytest.fail("CLIP was loaded"),
            )

    refused(InputError, few, "holds 3 images", f"a={enough}", f"b={few}")
    refused(InputError, few, "holds 3 images", f"a={enough}", reference=few)
    refused(InputError, "images", "are none")
    refused(InputError, "clip", "is 'mini'", f"a={enough}", clip="mini")
    (tmp_path / "r.json").write_text('{"format": "something else"}')
    refused(
        InputError, f"{tmp_path / 'r.json'}: format", "is 'something else'", f"a={enough}", str(tmp_path / "r.json")
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refused(NotCachedError, FILE, "is not on this machine", f"a={enough}")
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    refused(MissingExtraError, "FID, IS and KID", "not installed", f"a={enough}")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_figures_are_those_of_torch_fidelity_and_torchmetrics(
    weights: Path, photographs: list[Image.Image], tmp_path: Path, cli: Cli
) -> None:
    """Minutes: each FID takes the eigenvalues of a matrix of 2048."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    first = write_images(tmp_path / "first", photographs, 26, 64)
    second = write_images(tmp_path / "second", photographs, 24, 64, offset=1)
    sets = ["a=first", "b=second", "--reference", "second", "--out", "out"]
    done = cli("study", "metrics", *sets, "--weights", weights, "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out/metrics.json").read_text())
    assert f"{found['models'][0]['fid']:.2f}" in done.stdout
    assert "warning: the smallest set has 24 images" in done.stderr
    assert "warning: the weights of Inception are not the published ones" in done.stderr
    mine, itself = found["models"]
    original = calculate_metrics(
        input1=str(first),
        input2=str(second),
        cuda=False,
        fid=True,
        isc=True,
        kid=True,
        kid_subset_size=found["settings"]["kid_subset_size"],
        feature_extractor_weights_path=str(weights),
        batch_size=8,
        save_cpu_ram=True,
        cache=False,
        verbose=False,
    )
    assert mine["fid"] == pytest.approx(original["frechet_inception_distance"], rel=1e-3)
    for name, key in (("kid", "kernel_inception_distance"), ("inception_score", "inception_score")):
        assert mine[name]["value"] == pytest.approx(original[f"{key}_mean"], rel=1e-3)
        assert mine[name]["deviation"] == pytest.approx(original[f"{key}_std"], rel=1e-2, abs=1e-6)
    metric = FrechetInceptionDistance(feature_extractor_weights_path=str(weights))
    for folder, real in ((second, True), (first, False)):
        for file in sorted(folder.iterdir()):
            metric.update((255 * to_tensor(file)).round().to(torch.uint8)[None], real=real)
    # It sums products: of 2,048 eigenvalues those that are 0 come out as some 1e-13, and the sum of their roots counts.
    assert mine["fid"] == pytest.approx(float(metric.compute()), rel=2e-2)
    assert itself["fid"] == pytest.approx(0, abs=1e-3 * mine["fid"])
    assert itself["kid"]["value"] < mine["kid"]["value"]
    page = (tmp_path / "out/metrics.html").read_text()
    assert f"{mine['fid']:.2f}" in page
    assert "These are not the published weights" in page
    assert "The smallest set has 24 images" in page


def test_clip_score_is_that_of_torchmetrics(photographs: list[Image.Image], tmp_path: Path) -> None:
    """The same weights in transformers' layout and in open_clip's. Needs a wrapper: torchmetrics 1.9 expects tensors
    of a CLIPModel, transformers 5 gives more. Images are square: of others transformers cuts off the margins half a
    pixel from where CLIP's authors do; and it resizes a tensor, so that a value may be off by one of 255."""
    from torchmetrics.multimodal.clip_score import CLIPScore
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    tower = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512, "hidden_size": 128}
    tower |= {"projection_dim": 64, "hidden_act": "gelu"}
    text = {**tower, "vocab_size": 49408, "bos_token_id": 49406, "eos_token_id": 49407}
    torch.manual_seed(0)
    sides = {"vision_config": {**tower, "patch_size": 32}, "text_config": text}
    model = CLIPModel(CLIPConfig(projection_dim=64, **sides)).eval()

    class Tensors(torch.nn.Module):
        config = model.config

        def get_image_features(self, pixels: torch.Tensor) -> torch.Tensor:
            return model.get_image_features(pixels).pooler_output

        def get_text_features(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return model.get_text_features(tokens, mask).pooler_output

    def processor(images: Any = None, text: Any = None, **_: Any) -> dict[str, torch.Tensor]:
        if images is not None:
            arrays = [image.numpy() for image in images]
            return dict(CLIPImageProcessor()(images=arrays, return_tensors="pt", input_data_format="channels_first"))
        tokens = open_clip.tokenize(text)
        return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}

    architecture = tmp_path / "clip-of-torchmetrics.json"
    side = {"layers": 2, "width": 128}
    architecture.write_text(
        json.dumps(
            {
                "embed_dim": 64,
                "vision_cfg": {**side, "image_size": 224, "head_width": 64, "patch_size": 32},
                "text_cfg": {**side, "context_length": 77, "vocab_size": 49408, "heads": 2},
            }
        )
    )
    open_clip.add_model_config(architecture)
    about = {"name": "clip", "kind": "clip-score", "architecture": "clip-of-torchmetrics", "licence": "none"}
    write_tensors(network_class("pickscore").arrange(model.state_dict()), tmp_path / "clip.safetensors", about)

    boxes = ((0, 0, 427, 427), (100, 0, 527, 427), (50, 50, 350, 350))
    images = [photographs[number % 2].crop(box) for number, box in enumerate(boxes)]
    metric = CLIPScore(model_name_or_path=lambda: (Tensors(), processor))
    scorer = load_scorer(tmp_path / "clip.safetensors", precision="fp32", device="cpu")
    compared = 0
    for image, prompt in zip(images, PROMPTS, strict=True):
        with torch.no_grad():
            theirs = float(metric((255 * to_tensor(image)).round().to(torch.uint8), prompt))
        mine = float(scorer.score([image], prompt)[0])
        assert max(0.0, mine) == pytest.approx(theirs, abs=5e-3)
        compared += theirs > 1
    assert compared  # not everything is cut off at 0
