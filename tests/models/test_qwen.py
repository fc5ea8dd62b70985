"""HPS v3 and VQAScore give the scores of their originals, from files of the published layout, fetched from a hub.

The known answers were computed by the originals on small stand-ins; see tests/known/make_qwen.py.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save

from conftest import Cli
from error_fields import at
from forked_process import ForkedProcess
from hpskit import load_scorer
from hpskit.errors import CheckpointError, ImageError, InputError, UnknownModelError
from hpskit.models.checkpoint import Weights, write_tensors
from hpskit.models.loading import load_network
from hpskit.models.networks.hpsv3 import HpsV3Network
from hpskit.models.networks.qwen import spread_out
from hpskit.models.registry import find
from hpskit.models.store import verify
from hpskit.pixels import to_tensor
from hub_server import Hub, serve

KNOWN = Path(__file__).parents[1] / "known"
sys.path.insert(0, str(KNOWN))
import stand_ins  # noqa: E402  # where the script that made the known answers finds it too

TWO, THREE = "vqascore:small/Qwen2.5-VL", "vqascore:small/Qwen3-VL"
KINDS = {"hpsv3": "qwen2_vl", TWO: "qwen2_5_vl", THREE: "qwen3_vl"}
TOLERANCE = {"hpsv3": 1e-5, TWO: 1e-7, THREE: 1e-7}
each = pytest.mark.parametrize("name", KINDS)

State = dict[str, torch.Tensor]


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return stand_ins.pictures(tmp_path_factory.mktemp("pictures"))


def known(name: str) -> dict[str, Any]:
    return json.loads((KNOWN / f"{name.partition(':')[0]}.json").read_text())[KINDS[name]]


def published(name: str) -> State:
    shapes = known(name)["shapes"]
    return stand_ins.state({key: [int(side) for side in shape.split("x")] for key, shape in shapes.items()})


def offer(hub: Hub, name: str) -> None:
    """Put all files of a model on the hub; the weights of one of them in two parts."""
    weights, *texts = find(name).sources
    for source in texts:
        content = stand_ins.qwen(KINDS[name])[source.file]
        hub.put(str(source.repository), source.file, content.encode(), large=source.file == "tokenizer.json")
    state = published(name)
    if name != TWO:
        hub.put(str(weights.repository), weights.file, save(state))
        return
    half = len(state) // 2
    parts = {f"model-0000{n}-of-00002.safetensors": [*state][half * (n - 1) : None if n == 2 else half] for n in (1, 2)}
    for file, keys in parts.items():
        hub.put(str(weights.repository), file, save({key: state[key] for key in keys}))
    index = {"metadata": {}, "weight_map": {key: file for file, keys in parts.items() for key in keys}}
    hub.put(str(weights.repository), f"{weights.file}.index.json", json.dumps(index).encode(), large=False)


@pytest.fixture(scope="session")
def fetched(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("qwen")
    with serve() as hub:
        for name in KINDS:
            offer(hub, name)
            done = cli("models", "fetch", name, HPSKIT_HOME=str(home), HF_ENDPOINT=hub.url)
            assert done.returncode == 0, done.stderr
    return home


@pytest.fixture
def home(fetched: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HPSKIT_HOME", str(fetched))
    return fetched


def rows(name: str, pictures: list[Path], key: str = "scores") -> tuple[list[Path], list[str], list[float]]:
    """Images, prompts, and what the original gave for each."""
    pairs = [(picture, number) for picture in pictures for number in range(len(stand_ins.PROMPTS))]
    expected = [known(name)[key][picture.stem][number] for picture, number in pairs]
    return [picture for picture, _ in pairs], [stand_ins.PROMPTS[number] for _, number in pairs], expected


# --- equal to the originals


@each
def test_scores_are_those_of_the_original(name: str, home: Path, pictures: list[Path]) -> None:
    """Images of four shapes and prompts of three lengths together give what each alone gave."""
    scorer = load_scorer(name, precision="fp32")
    images, prompts, expected = rows(name, pictures)
    scores = scorer.score(images, prompts)
    assert scores.tolist() == pytest.approx(expected, abs=TOLERANCE[name])
    assert max(expected) - min(expected) > 100 * TOLERANCE[name], "the stand-ins would not show a difference"
    alone = [scorer.score([image], prompt) for image, prompt in zip(images[::7], prompts[::7], strict=True)]
    assert torch.equal(scores[::7], torch.cat(alone)), "the others of a batch move a score"
    assert scorer.log_odds_per_point is None
    found = verify(name)
    assert found.recorded == found.weight_hash
    assert len(found.metadata["source_sha256"].split(", ")) == len(find(name).sources)


def test_the_mean_of_hpsv3_has_a_spread(home: Path, pictures: list[Path]) -> None:
    network = load_network("hpsv3", precision="fp32", device="cpu")[0]
    assert isinstance(network, HpsV3Network)
    pixels = network.encode_images(network.preprocessing(Image.open(pictures[0]))[None].expand(3, -1, -1, -1))
    with torch.inference_mode():
        mean, spread = network.mean_and_spread(pixels, network.encode_prompts(stand_ins.PROMPTS)).unbind(dim=1)
    assert mean.tolist() == pytest.approx(known("hpsv3")["scores"]["temple"], abs=1e-5)
    assert spread.log().tolist() == pytest.approx(known("hpsv3")["log_spread"]["temple"], abs=1e-5)


def test_positions_of_hpsv3(home: Path, pictures: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The original, run with transformers 4.45 and 5, counts in one dimension; a port that tells the model rows and
    columns gets these other scores."""
    images, prompts, expected = rows("hpsv3", pictures)
    assert rows("hpsv3", pictures, "with transformers 5")[2] == pytest.approx(expected, abs=1e-5)
    other = rows("hpsv3", pictures, "with m-rope")[2]
    assert max(abs(a - b) for a, b in zip(expected, other, strict=True)) > 1e-3
    assert " 1-d " in load_scorer("hpsv3", precision="fp32").info.identity
    monkeypatch.setattr(HpsV3Network, "grid", True)
    scorer = load_scorer("hpsv3", precision="fp32")
    assert " m-rope " in scorer.info.identity
    assert scorer.score(images, prompts).tolist() == pytest.approx(other, abs=1e-5)


def test_both_layouts_are_the_same_model() -> None:
    texts = [{"config.json": torch.zeros(2, dtype=torch.uint8)}]
    old = published("hpsv3")
    assert any(name.startswith("visual.") for name in old)
    new = {
        name.replace("visual.", "model.visual.")
        if name.startswith("visual.")
        else name.replace("model.", "model.language_model.")
        if name.startswith("model.")
        else name: tensor
        for name, tensor in old.items()
    }
    first, second = (HpsV3Network.arrange(state, *texts) for state in (old, new))
    assert first.keys() == second.keys()
    assert "lm_head.weight" in old.keys() - first.keys()
    with pytest.raises(CheckpointError, check=at("bert.x", found="is no tensor of such a Qwen-VL")):
        HpsV3Network.arrange({**old, "bert.x": torch.ones(1)}, *texts)


@each
def test_tensors_score_as_files_do_and_have_a_gradient(name: str, home: Path, pictures: list[Path]) -> None:
    scorer = load_scorer(name, precision="fp32")
    files = [path for path in pictures if path.stem == "small"]
    pixels = torch.stack([to_tensor(path) for path in files]).requires_grad_(True)
    scores = scorer.score(pixels, stand_ins.PROMPTS[0], grad=True)
    assert scores.tolist() == pytest.approx(scorer.score(files, stand_ins.PROMPTS[0]).tolist(), abs=1e-6)
    (gradient,) = torch.autograd.grad(scores.sum(), pixels)
    assert (gradient != 0).float().mean() > 0.9


@each
def test_the_gradient_is_that_of_the_score(name: str, home: Path, pictures: list[Path]) -> None:
    """Behind the preprocessing, which rounds: along the gradient the score rises by what it promises."""
    network = load_network(name, precision="fp32", device="cpu")[0]
    pixels = network.preprocessing(Image.open(pictures[0]).crop((200, 100, 340, 200)))[None].requires_grad_(True)
    prompt = network.encode_prompts(stand_ins.PROMPTS[:1])
    (gradient,) = torch.autograd.grad(network.compare(network.encode_images(pixels), prompt).sum(), pixels)
    step = 0.005 * gradient / gradient.abs().max()
    with torch.no_grad():
        up, down = (network.compare(network.encode_images(pixels + sign * step), prompt) for sign in (1, -1))
    assert float(up - down) == pytest.approx(2 * float((gradient * step).sum()), rel=0.02)


def test_layers_on_several_devices(home: Path, pictures: list[Path], tmp_path: Path) -> None:
    """Where one GPU is too small; here the second device is a disk."""
    network = load_network(THREE, precision="fp32", device="cpu")[0]
    image = network.preprocessing(Image.open(pictures[0]).crop((200, 100, 340, 200)))[None]
    pixels, prompt = network.encode_images(image), network.encode_prompts(stand_ins.PROMPTS[:1])
    with torch.inference_mode():
        expected = network.compare(pixels, prompt)
        places = {"visual": "cpu", "language_model.embed_tokens": "cpu", "language_model.rotary_emb": "cpu"}
        places |= {"language_model.norm": "cpu", "language_model.layers": "disk"}
        network._body = spread_out(network._body, device_map=places, offload_dir=str(tmp_path))
        assert network._body.language_model.layers[0].mlp.up_proj.weight.is_meta
        assert torch.equal(network.compare(pixels, prompt), expected)


@each
def test_bfloat16_stays_near(name: str, home: Path, pictures: list[Path]) -> None:
    exact, fast = (load_scorer(name, precision=p).score(pictures, stand_ins.PROMPTS[0]) for p in ("fp32", "bf16"))
    assert fast.dtype is torch.float32
    assert 0 < (exact - fast).abs().max() < 0.05 * exact.abs().max()


# --- what decides a score is in its identity


def test_identity(home: Path) -> None:
    two, three, mean = (load_scorer(name, precision="fp32").info for name in (TWO, THREE, "hpsv3"))
    answer = 256 + stand_ins.MERGES.index("Ye s")
    assert f" sdpa m-rope template-0a9ea83b Yes-{answer} penalty-1.05 " in two.identity
    assert f" sdpa m-rope template-2522bc88 Yes-{answer} penalty-1 " in three.identity
    assert " multiple-28-3136to12845056-bicubic-pillow " in two.identity
    assert " multiple-32-4096to16777216-bicubic-pillow-mean0.5-std0.5 " in three.identity
    assert " multiple-28-200704to200704-bicubic-pillow sdpa 1-d template-673ef67e " in mean.identity
    assert (two.architecture, two.licence) == ("Qwen2.5-VL", "see its page on the hub")


# --- prompts


def test_control_words_are_refused(home: Path, pictures: list[Path]) -> None:
    scorer = load_scorer("hpsv3", precision="fp32")
    for word in ("<|Reward|>", "<|image_pad|>", "<|im_end|>"):
        with pytest.raises(InputError, check=at("prompt", found="has a control word", cure="take <|…|> out")):
            scorer.score(pictures[:1], f"a cat {word}")
    assert scorer.score(pictures[:1], "a {} cat {0} <|…|> }{").isfinite().all()


def test_a_prompt_that_is_too_long_loses_its_end(home: Path, pictures: list[Path]) -> None:
    scorer = load_scorer(THREE, precision="fp32")
    with pytest.warns(UserWarning, match=r"tokens, the model reads the first 1024"):
        one, other = (scorer.score(pictures[:1], "ab " * 1_000 + end) for end in ("x", "y"))
    assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("size", "expected"), [((640, 427), (532, 364)), ((30, 30), (448, 448)), ((28, 5600), (56, 6356))]
)
def test_sides_are_multiples(home: Path, size: tuple[int, int], expected: tuple[int, int]) -> None:
    """As `smart_resize` of qwen-vl-utils gives them for 256 tokens."""
    found = load_network("hpsv3", device="cpu")[0].preprocessing(Image.new("RGB", size))
    assert found.shape == (3, expected[1], expected[0])


def test_an_image_that_is_too_thin(home: Path) -> None:
    with pytest.raises(ImageError, check=at("images[0]", found="is 201x1 pixels", expected="at most 200:1")):
        load_scorer("hpsv3").score([Image.new("RGB", (201, 1))], "a line")


# --- files


CASES: list[tuple[str, Callable[[State], object], str]] = [
    ("hpsv3", lambda s: s.pop("tokenizer.json"), "has no tokenizer.json"),
    ("hpsv3", lambda s: s.pop("rm_head.3.weight"), "has no rm_head.3.weight"),
    ("hpsv3", lambda s: s.pop("rm_head.3.bias"), "the head of HPS v3: missing 3.bias"),
    ("hpsv3", lambda s: s.pop("model.visual.merger.ln_q.weight"), "a qwen2_vl: missing visual.merger.ln_q.weight"),
    ("hpsv3", lambda s: s.pop("model.language_model.embed_tokens.weight"), "has no model.language_model.embed_tok"),
    (TWO, lambda s: s.pop("lm_head.weight"), "has no lm_head.weight"),
    (TWO, lambda s: s.update(text("config.json", '{"model_type": "gemma3"}')), "is a 'gemma3'"),
    (TWO, lambda s: s.update(text("config.json", '{"model_type": "qwen2_5_vl"}')), "is not a checkpoint of"),
    (TWO, lambda s: s.update(text("tokenizer.json", "{")), "cannot be used as vqascore"),
]


def text(name: str, content: str) -> State:
    return {name: torch.frombuffer(bytearray(content.encode()), dtype=torch.uint8)}


@pytest.mark.parametrize(("name", "damage", "found"), CASES, ids=[found for *_, found in CASES])
def test_weights_of_something_else(
    name: str, damage: Callable[[State], object], found: str, home: Path, tmp_path: Path
) -> None:
    source, path = home / f"models/{find(name).stem}.safetensors", tmp_path / "mine.safetensors"
    weights = Weights(path=source, origin=source)
    state = dict(weights.tensors())
    damage(state)
    kind = weights.metadata()["kind"]
    write_tensors(state, path, {"kind": kind, "architecture": "mine"})
    with pytest.raises(CheckpointError, check=at(path, found=found)):
        load_scorer(path)


def test_an_index_that_leads_elsewhere(cli: Cli, tmp_path: Path) -> None:
    with serve() as hub:
        offer(hub, TWO)
        index = json.dumps({"weight_map": {"x": "../../../x.safetensors"}}).encode()
        hub.put("small/Qwen2.5-VL", "model.safetensors.index.json", index, large=False)
        done = cli("models", "fetch", TWO, HPSKIT_HOME=str(tmp_path), HF_ENDPOINT=hub.url)
    assert done.returncode == 2
    assert "model.safetensors.index.json: lists no parts" in done.stderr


def test_without_transformers_the_extra_is_named(home: Path, pictures: list[Path]) -> None:
    code = (
        "import sys; sys.modules['transformers'] = None\n"
        "from hpskit.cli import main\n"
        f"sys.argv = ['hpskit', 'score', '--model', 'hpsv3', 'a cat', {str(pictures[0])!r}]\nmain()"
    )
    done = ForkedProcess(code).finish()
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: Qwen2-VL-7B: needs transformers")
    assert "pip install 'hpskit[vlm]'" in done.stderr


@pytest.mark.parametrize("name", ["vqascore:small", "vqascore:../x/y", "vqascore:a/b/c"])
def test_names_that_are_not_right(name: str) -> None:
    with pytest.raises(UnknownModelError, check=at("model", expected="vqascore:Qwen/Qwen3-VL-4B-Instruct")):
        find(name)
