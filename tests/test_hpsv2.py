"""The drop-in answers as the official package does."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import TINY, Cli
from error_fields import at
from forked_process import ForkedProcess
from hpskit import hpsv2
from hpskit.benchmark.run import BenchmarkRun, run
from hpskit.errors import InputError
from hpskit.models import loading
from hpskit.models.loading import load_network
from hpskit.scoring.contract import Candidate
from hpskit.scoring.scorer import NetworkScorer
from hub_server import serve


@pytest.fixture
def small(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A checkpoint whose default architecture is a tiny one: `cp` takes no architecture."""
    monkeypatch.setattr(loading, "DEFAULT_ARCHITECTURE", TINY)
    hpsv2._network.cache_clear()
    hpsv2._scorer.cache_clear()
    return str(tiny_checkpoint)


@pytest.fixture
def prompts_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home/datasets/benchmark"
    folder.mkdir(parents=True)
    for style in hpsv2.STYLES:
        (folder / f"{style}.json").write_text(json.dumps([f"{style} {number}" for number in range(4)]))
    monkeypatch.setenv("HPS_ROOT", str(tmp_path / "home"))
    return folder


def test_score_is_the_raw_cosine_of_one_or_many(small: str, photographs: list[Image.Image], tmp_path: Path) -> None:
    photographs[0].save(tmp_path / "a.png")
    path = str(tmp_path / "a.png")
    many = hpsv2.score([path, photographs[1]], "a temple", hps_version="v2.1", cp=small)
    assert [type(value) for value in many] == [np.float32, np.float32]
    assert hpsv2.score(path, "a temple", hps_version="v2.1", cp=small) == pytest.approx(many[:1], abs=1e-6)
    assert hpsv2._network.cache_info().misses == 1, "the weights are loaded once"
    network, info = load_network(small, precision="fp32")
    scale = NetworkScorer(network, info).score([path, photographs[1]], "a temple")
    assert [value * 100 for value in many] == pytest.approx(scale.tolist(), abs=1e-4)
    assert info.precision == "fp32"


def test_benchmark_prompts(prompts_home: Path) -> None:
    everything = hpsv2.benchmark_prompts()
    assert isinstance(everything, dict)
    assert [*everything] == ["anime", "concept-art", "paintings", "photo"]
    assert hpsv2.benchmark_prompts("photo") == ["photo 0", "photo 1", "photo 2", "photo 3"]
    with pytest.raises(InputError, check=at("style", found="'sketch'")):
        hpsv2.benchmark_prompts("sketch")
    (prompts_home / "photo.json").write_text('{"no": "list"}')
    with pytest.raises(InputError, check=at(prompts_home / "photo.json", expected="a JSON list of prompts")):
        hpsv2.benchmark_prompts("photo")


def test_evaluate_refuses_a_gap(prompts_home: Path, small: str, tmp_path: Path) -> None:
    images = tmp_path / "images"
    with pytest.raises(InputError, check=at(images, found="has none of the folders anime")):
        hpsv2.evaluate(images, cp=small)
    (images / "photo").mkdir(parents=True)
    for number in (0, 1, 3):
        Image.new("RGB", (9, 9), (number * 50, 9, 9)).save(images / f"photo/{number:05d}.jpg")
    with pytest.raises(InputError) as caught:
        hpsv2.evaluate(images, cp=small)
    assert "photo/00002" in str(caught.value)


def test_a_benchmark_run_gives_the_same_figures(prompts_home: Path, small: str, tmp_path: Path) -> None:
    """The drop-in and `hpskit benchmark run` are two ways to one figure."""
    for style in hpsv2.STYLES:
        for number in range(4):
            path = tmp_path / f"images/{style}/{number:05d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (9, 9), (number * 50, hpsv2.STYLES.index(style) * 60, 9)).save(path)
    expected = hpsv2.evaluate(tmp_path / "images", cp=small)
    assert [*expected] == [*hpsv2.STYLES, "average"]
    assert expected["photo"]["images"] == 4
    scorer = NetworkScorer(*load_network(small, precision="fp32"))
    config = BenchmarkRun(suite=prompts_home, images=tmp_path / "images", name="m", out=tmp_path / "result.json")
    (found,) = run(config, lambda: [Candidate(label="tiny", scorer=scorer)]).result.scorers
    assert [part.name for part in found.categories] == [*hpsv2.STYLES]
    for part in found.categories:
        assert part.mean == pytest.approx(expected[part.name]["mean"], abs=1e-4)
        assert part.deviation == pytest.approx(expected[part.name]["deviation"], abs=1e-4)
    assert found.average.value == pytest.approx(expected["average"]["mean"], abs=1e-4)


def test_published_images_are_fetched_and_scored(
    prompts_home: Path, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    """Fetched from a hub of our own; scored when that is gone."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for number in range(4):
            data = io.BytesIO()
            Image.new("RGB", (9, 9), (number * 50, 9, 9)).save(data, "jpeg")
            member = tarfile.TarInfo(f"SDXL-base-0.9/photo/{number:05d}.jpg")
            member.size = data.tell()
            data.seek(0)
            archive.addfile(member, data)
    with serve() as hub:
        hub.put("datasets/zhwang/HPDv2", "benchmark/photo.json", b"[]")
        hub.put("datasets/zhwang/HPDv2", "benchmark/benchmark_imgs/SDXL-base-0.9.tar.gz", packed.getvalue())
        hub.put("datasets/zhwang/HPDv2", "benchmark/benchmark_imgs/new-one.tar.gz", b"")
        fetch = ["data", "fetch", "zhwang/HPDv2", "--generator", "SDXL-base-0.9"]
        done = cli(*fetch, HPSKIT_HOME=str(tmp_path / "hpskit"), HF_ENDPOINT=hub.url)
    assert done.returncode == 0, done.stderr
    monkeypatch.setenv("HPSKIT_HOME", str(tmp_path / "hpskit"))
    monkeypatch.setattr("hpskit.hub._WAITS", ())  # nobody comes back
    assert hpsv2.get_available_models() == ["SDXL Base 0.9", "new-one"]
    assert hpsv2.evaluate_benchmark("SDXL Base 0.9", cp=small)["photo"]["images"] == 4
    with pytest.raises(InputError, check=at("model_id", found="'sdxl'", expected="SDXL Base 0.9, new-one")):
        hpsv2.evaluate_benchmark("sdxl")


def test_without_network_it_says_where_prompts_belong() -> None:
    code = "from hpskit import hpsv2; hpsv2.benchmark_prompts('photo')"
    done = ForkedProcess(code, HF_HUB_OFFLINE="1").finish()
    assert done.returncode == 1
    assert "NotCachedError" in done.stderr
    assert "suites/hpsv2/photo.json" in done.stderr
