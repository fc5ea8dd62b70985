"""Exports: the same numbers and the same identity in every layout, a card of what is known, clear refusals."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from PIL import Image

from error_fields import at
from hpskit.errors import CheckpointError, InputError, OutputError
from hpskit.evaluation.run import Evaluation
from hpskit.evaluation.run import run as evaluate
from hpskit.models.architecture import tokenizer
from hpskit.models.store import locate
from hpskit.models.training_record import read_record
from hpskit.pixels import Preprocessing, to_tensor
from hpskit.scoring.contract import Candidate
from hpskit.scoring.scorer import load_scorer
from hpskit.training.export import Export, export
from run_material import write_trained
from small_inputs import write_data

ROOT = Path(__file__).parents[2]
PROMPTS = ["a temple", "a temple"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read by all tests, changed by none."""
    return write_trained(tmp_path_factory.mktemp("run") / "mine")


@pytest.fixture(scope="module")
def scores(run: Path, photograph_files: list[Path]) -> torch.Tensor:
    """Of the run's best checkpoint."""
    return load_scorer(run / "model.safetensors", precision="fp32").score(photograph_files, PROMPTS)


def test_official_layout(run: Path, tmp_path: Path, photograph_files: list[Path], scores: torch.Tensor) -> None:
    made = export(Export(source=run, layout="official", out=tmp_path / "mine.pt"))
    assert made.step == 150
    held = torch.load(made.out, weights_only=True)
    assert [*held] == ["state_dict"]
    scorer = load_scorer(made.out, arch="hpskit-tiny", precision="fp32")
    assert scorer.info.weight_hash == made.weight_hash == locate(run / "model.safetensors").weight_hash
    assert torch.equal(scorer.score(photograph_files, PROMPTS), scores)
    record = read_record(made.out, made.weight_hash)
    assert record is not None
    assert record.overlap(["A red  barn"]) == 1, "what it has seen goes with it"


def test_hugging_face_folder(run: Path, tmp_path: Path, photograph_files: list[Path], scores: torch.Tensor) -> None:
    made = export(Export(source=run, layout="huggingface", out=tmp_path / "hub", licence="Apache-2.0", name="barn"))
    weights = made.out / "open_clip_model.safetensors"
    assert sorted(path.name for path in made.out.iterdir()) == [
        "README.md", "open_clip_config.json", "open_clip_model.safetensors", "open_clip_model.training.json"
    ]  # fmt: skip
    scorer = load_scorer(weights, precision="fp32")
    assert (scorer.info.name, scorer.info.licence, scorer.info.version) == ("barn", "Apache-2.0", "step 150")
    assert scorer.info.weight_hash == made.weight_hash
    assert torch.equal(scorer.score(photograph_files, PROMPTS), scores)
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{made.out}")
    tokens = open_clip.get_tokenizer(f"local-dir:{made.out}")(["a temple"])
    pixels = torch.stack([preprocess(Image.open(path)) for path in photograph_files])
    with torch.inference_mode():
        images, prompt = model.encode_image(pixels, normalize=True), model.encode_text(tokens, normalize=True)
    assert torch.allclose(100 * (images @ prompt.T)[:, 0], scores, atol=0.05), "open_clip resizes in 8 bits"


def test_the_card_says_what_is_known(
    run: Path, tmp_path: Path, photographs: list[Image.Image], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    data = write_data(tmp_path / "data", photographs, groups=3)
    scorer = load_scorer(run / "model.safetensors", precision="fp32")
    record = read_record(run / "model.safetensors", scorer.info.weight_hash)
    config = Evaluation(data=data, out=tmp_path / "report", resamples=100)
    result = evaluate(config, lambda: [Candidate(label="mine", scorer=scorer, training=record)]).result
    evaluations = (tmp_path / "report/result.json",)
    out = tmp_path / "hub"
    made = export(Export(source=run, layout="huggingface", out=out, evaluations=evaluations))
    card = (out / "README.md").read_text()
    assert made.weight_hash in card
    assert "| test.json | `ties-half` | 80.0 % | 78.0 % to 82.0 % | 400 |" in card
    figure = result["scorers"][0]["accuracy"]["hpdv2"]
    assert f"| `hpdv2` | {100 * figure['value']:.1f} % | {100 * figure['low']:.1f} % to" in card
    assert "not stated by those who made it" in card
    assert "license:" not in card
    assert "these are the weights after step 150" in card
    assert "\nlr = 0.0007\n" in card
    assert "\ntraining groups left out because they share prompts: 12 of 6,012\n" in card
    block = re.search(r"```python\n(.*?)```", card, re.S)
    assert block
    photographs[0].save(tmp_path / "hub/a.png")
    monkeypatch.chdir(out)
    exec(compile(block[1], "card", "exec"), {})
    assert -100 <= float(capsys.readouterr().out) <= 100


def test_another_checkpoint_has_a_record_without_the_figures_of_the_best(run: Path, tmp_path: Path) -> None:
    made = export(Export(source=run, layout="official", out=tmp_path / "last.pt", checkpoint="last"))
    assert made.step == 200
    record = read_record(made.out, made.weight_hash)
    assert record is not None, "it has seen the same prompts"
    assert record.held_out is None, "and nobody has measured it"
    again = export(Export(source=run, layout="official", out=tmp_path / "200.pt", checkpoint="200"))
    assert again.weight_hash == made.weight_hash


@pytest.mark.parametrize(
    ("error", "field", "options"),
    [
        (InputError, at(found="no checkpoint '7'", expected="best, last, 150, 200"), {"checkpoint": "7"}),
        (InputError, at(found="holds no config.json"), {"source": "tmp"}),
        (InputError, at("--out", expected="ends in .pt"), {"out": "new"}),
        (InputError, at(cure="--arch"), {"source": "tiny"}),
        (CheckpointError, None, {"source": "tiny", "architecture": "hpskit-tiny"}),
        (InputError, at("--arch", found="hpskit-tiny"), {"architecture": "ViT-H-14"}),
        (InputError, at("--evaluation", found="official"), {"evaluations": (Path("result.json"),)}),
    ],
)
def test_refusals(
    run: Path, tmp_path: Path, tiny_checkpoint: Path, error: type[Exception], field: Any, options: dict[str, Any]
) -> None:
    paths = {"tmp": tmp_path, "tiny": tiny_checkpoint, "new": tmp_path / "new"}
    config = {"source": run, "layout": "official", "out": tmp_path / "new.pt", **options}
    config |= {name: paths[value] for name, value in options.items() if value in (*paths,)}
    with pytest.raises(error, check=field):
        export(Export(**config))
    assert not list(tmp_path.glob("new*"))


def test_what_stands_there_is_left_alone(run: Path, tmp_path: Path) -> None:
    (tmp_path / "there.pt").write_text("mine")
    with pytest.raises(OutputError, check=at(tmp_path / "there.pt", found="exists")):
        export(Export(source=run, layout="official", out=tmp_path / "there.pt"))
    assert (tmp_path / "there.pt").read_text() == "mine"


def test_an_evaluation_of_another_model_is_refused(run: Path, tmp_path: Path) -> None:
    row = {"info": {"weight_hash": "sha256:0"}}
    path = tmp_path / "result.json"
    path.write_text(json.dumps({"rules": {}, "scorers": [row]}))
    with pytest.raises(InputError, check=at(path, found="no scorer with the weights sha256:")):
        export(Export(source=run, layout="huggingface", out=tmp_path / "hub", evaluations=(path,)))
    assert not (tmp_path / "hub").exists()


@pytest.mark.slow
def test_onnx(run: Path, tmp_path: Path, photograph_files: list[Path], scores: torch.Tensor) -> None:
    """Real images through the files, as a program without torch would do it."""
    onnxruntime = pytest.importorskip("onnxruntime")
    made = export(Export(source=run, layout="onnx", out=tmp_path / "onnx"))
    assert made.largest_difference is not None
    assert made.largest_difference < 1e-3
    about = json.loads((made.out / "model.json").read_text())
    assert about["weight_hash"] == made.weight_hash
    assert sorted([*about["files"], "model.json"]) == sorted(path.name for path in made.out.iterdir())
    prepare = Preprocessing(size=64)
    pixels = torch.stack([prepare(to_tensor(path)) for path in photograph_files])
    tokens = getattr(open_clip.tokenizer, about["tokenizer"]["class"])(**about["tokenizer"]["arguments"])(PROMPTS)
    assert torch.equal(tokens, tokenizer("hpskit-tiny")(PROMPTS))
    features = []
    for name, rows in (("image", pixels), ("text", tokens)):
        session = onnxruntime.InferenceSession(made.out / f"{name}.onnx")
        features.append(torch.from_numpy(session.run(None, {session.get_inputs()[0].name: rows.numpy()})[0]))
    assert torch.allclose(100 * (features[0] * features[1]).sum(dim=-1), scores, atol=1e-3)


@pytest.mark.slow
def test_the_official_package_loads_it(
    run: Path, tmp_path: Path, photograph_files: list[Path], scores: torch.Tensor
) -> None:
    """Its own `score`, in an environment of its own; see tests/known/make_official.py."""
    python = Path(os.environ.get("HPSKIT_OFFICIAL_PYTHON", ROOT / ".bench/official/bin/python"))
    if not python.is_file():
        pytest.skip(f"needs an environment with hpsv2 1.2.0, which is not at {python}; `make bench` makes one")
    export(Export(source=run, layout="official", out=tmp_path / "mine.pt"))
    job = {
        "architecture": "hpskit-tiny",
        "config": str(ROOT / "src/hpskit/models/architectures/hpskit-tiny.json"),
        "checkpoint": str(tmp_path / "mine.pt"),
        "prompt": PROMPTS[0],
        "images": [str(path) for path in photograph_files],
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    done = subprocess.run(
        [python, ROOT / "tests/known/make_official.py", tmp_path / "job.json"],
        env={**os.environ, "HPS_ROOT": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert torch.allclose(100 * torch.tensor(json.loads(done.stdout)), scores, atol=1e-4)
