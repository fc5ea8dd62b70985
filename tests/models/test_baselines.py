"""Every baseline gives the scores of its original, from files of the published layout, fetched from a hub.

The known answers were computed by the originals with stand-in weights; see tests/known/make_baselines.py.
"""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save

from conftest import Cli
from error_fields import at
from forked_process import ForkedProcess
from hpskit import load_scorer
from hpskit.errors import CheckpointError, InputError, NotCachedError, UnknownModelError
from hpskit.models.checkpoint import Weights, write_tensors
from hpskit.models.clip import clip_preprocessing
from hpskit.models.loading import load_network
from hpskit.models.registry import MODELS, Model, find, network_class
from hpskit.models.store import fetch, verify
from hpskit.pixels import to_tensor
from hpskit.scoring.scorer import PreferenceScorer
from hub_server import Hub, serve

KNOWN = Path(__file__).parents[1] / "known"
sys.path.insert(0, str(KNOWN))
import stand_ins  # noqa: E402  # where the script that made the known answers finds it too

NAMES = ("clip-score", "hps-v1", "aesthetic", "pickscore", "imagereward")
SCALE = {"hps-v1": 100.0}
"""The original gives a cosine, hpskit 100 x the cosine."""
TOLERANCE = {"clip-score": 1e-3, "hps-v1": 1e-3, "pickscore": 1e-3, "aesthetic": 1e-4, "imagereward": 1e-4}
"""1e-5 of a cosine, and 1e-4 of a rating or a standardised reward."""

State = dict[str, torch.Tensor]


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return stand_ins.pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="session")
def small_clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a small architecture; with -quickgelu there is one with that activation."""
    folder = tmp_path_factory.mktemp("architectures")
    for name, more in (("small-baseline", {}), ("small-baseline-quickgelu", {"quick_gelu": True})):
        path = folder / f"{name}.json"
        path.write_text(json.dumps(stand_ins.SMALL_CLIP | more))
        open_clip.add_model_config(path)
    return "small-baseline"


def known(name: str, size: str) -> dict[str, Any]:
    return json.loads((KNOWN / f"{name}.json").read_text())[size]


def clip_state(architecture: str) -> State:
    with torch.device("meta"):
        model = open_clip.create_model(architecture, load_weights=False, device="meta")
    return stand_ins.state({name: tensor.shape for name, tensor in model.state_dict().items()})


def head_state(features: int) -> State:
    sides = (features, 1024, 128, 64, 16, 1)
    shapes: dict[str, tuple[int, ...]] = {}
    for number, before, after in zip("02467", sides[:-1], sides[1:], strict=True):
        shapes |= {f"layers.{number}.weight": (after, before), f"layers.{number}.bias": (after,)}
    return stand_ins.state(shapes)


def published(name: str, size: str, architecture: str) -> list[State]:
    """What the files hold that the original reads, in the order of `Model.sources`."""
    if name in ("clip-score", "hps-v1"):
        return [clip_state(architecture)]
    if name == "aesthetic":
        return [clip_state(architecture), head_state(768 if size == "real" else stand_ins.SMALL_CLIP["embed_dim"])]
    shapes = known(name, size)["shapes"]
    state = stand_ins.state({key: [int(side) for side in shape.split("x") if side] for key, shape in shapes.items()})
    if name == "pickscore":  # as an older transformers saved it
        return [state | {"text_model.embeddings.position_ids": torch.arange(77)[None]}]
    words = stand_ins.vocabulary(30522 if size == "real" else 200).encode()
    return [state, {"vocab.txt": torch.frombuffer(bytearray(words), dtype=torch.uint8)}]


def content(file: str, state: State) -> bytes:
    if file.endswith(".txt"):
        return bytes(state[file].tolist())
    if file.endswith(".safetensors"):
        return save(state)
    buffer = io.BytesIO()
    torch.save({"state_dict": state} if file == "hpc.pt" else state, buffer)
    return buffer.getvalue()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "home"
    monkeypatch.setenv("HPSKIT_HOME", str(path))
    return path


Small = Callable[[str], str]


@pytest.fixture
def small(home: Path, small_clip: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Small:
    """Bring a model whose published files are small, by the command that people use; return its name."""

    def bring(name: str) -> str:
        quick = "-quickgelu" if find(name).architecture.endswith("quickgelu") else ""
        architecture = find(name).architecture if name == "imagereward" else f"{small_clip}{quick}"
        states = published(name, "small", architecture)
        model = unpinned(find(name))
        monkeypatch.setitem(MODELS, name, replace(model, architecture=architecture))
        path = home / "models" / f"{name}.safetensors"
        metadata = {"name": name, "kind": model.kind, "architecture": architecture}
        write_tensors(network_class(model.kind).arrange(*states), path, metadata)
        return name

    return bring


def unpinned(model: Model) -> Model:
    """Without the hash of the true file, which a stand-in cannot have."""
    return replace(model, sources=tuple(replace(source, sha256=None) for source in model.sources))


# --- equal to the originals


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_those_of_the_original(name: str, small: Small, pictures: list[Path]) -> None:
    scorer = load_scorer(small(name), precision="fp32")
    assert_known(scorer, name, "small", pictures)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_scores_in_full_size(name: str, home: Path, pictures: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The published architecture: gigabytes, and a minute or two."""
    model = unpinned(find(name))
    monkeypatch.setitem(MODELS, name, model)
    metadata = {"name": name, "kind": model.kind, "architecture": model.architecture}
    state = network_class(model.kind).arrange(*published(name, "real", model.architecture))
    write_tensors(state, home / "models" / f"{name}.safetensors", metadata)
    assert sum(4 * tensor.numel() for tensor in state.values()) == pytest.approx(model.size, rel=0.01)
    del state
    assert_known(load_scorer(name, precision="fp32"), name, "real", pictures)


def assert_known(scorer: PreferenceScorer, name: str, size: str, pictures: list[Path]) -> None:
    """All at once: a prompt that is too long is warned of when it is encoded, which happens once."""
    rows = [(picture, number) for picture in pictures for number in range(len(stand_ins.PROMPTS))]
    expected = [SCALE.get(name, 1.0) * known(name, size)["scores"][picture.stem][n] for picture, n in rows]
    with pytest.warns(UserWarning, match="tokens, the model reads") if scorer.reads_prompt else nullcontext():
        scores = scorer.score([picture for picture, _ in rows], [stand_ins.PROMPTS[n] for _, n in rows])
    assert scores.tolist() == pytest.approx(expected, abs=TOLERANCE[name])
    assert max(expected) - min(expected) > 100 * TOLERANCE[name], "the stand-ins would not show a difference"


@pytest.mark.parametrize("name", NAMES)
def test_tensors_score_as_files_do_and_have_a_gradient(name: str, small: Small, pictures: list[Path]) -> None:
    scorer = load_scorer(small(name), precision="fp32")
    files = [path for path in pictures if path.stem == "small"]
    pixels = torch.stack([to_tensor(path) for path in files]).requires_grad_(True)
    scores = scorer.score(pixels, stand_ins.PROMPTS[0], grad=True)
    assert scores.tolist() == pytest.approx(scorer.score(files, stand_ins.PROMPTS[0]).tolist(), abs=1e-5)
    (gradient,) = torch.autograd.grad(scores.sum(), pixels)
    assert gradient.isfinite().all()
    assert (gradient != 0).float().mean() > 0.5


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_stays_near(name: str, precision: str, small: Small, pictures: list[Path]) -> None:
    small(name)
    exact, fast = (load_scorer(name, precision=p).score(pictures, stand_ins.PROMPTS[0]) for p in ("fp32", precision))
    assert fast.dtype is torch.float32
    assert 0 < (exact - fast).abs().max() < 0.02 * exact.abs().max() + 0.01 * (exact.max() - exact.min())


# --- from the hub to the store


FETCH = """
import sys
from dataclasses import replace
from hpskit.cli import main
from hpskit.models.registry import MODELS
model = MODELS["aesthetic"]
MODELS["aesthetic"] = replace(model, sources=(model.sources[0], replace(model.sources[1], sha256="{sha256}")))
sys.argv = ["hpskit", "models", "fetch", "aesthetic"]
main()
"""


@pytest.fixture(scope="session")
def fetched(small_clip: str, cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path]]:
    """A home into which every model of the hub was fetched from a hub of ours, and the weights it offered."""
    home = tmp_path_factory.mktemp("fetched")
    with serve() as hub:
        environment = {"HPSKIT_HOME": str(home), "HF_ENDPOINT": hub.url}
        for name in ("pickscore", "imagereward"):
            offer(hub, name, small_clip)
            done = cli("models", "fetch", name, **environment)
            assert done.returncode == 0, done.stderr
        head = offer(hub, "aesthetic", small_clip)
        done = ForkedProcess(FETCH.format(sha256=head), **environment).finish()
        assert done.returncode == 0, done.stderr
    return home, {path.stem: path for path in (home / "models").glob("*.safetensors")}


def offer(hub: Hub, name: str, architecture: str) -> str:
    """Put the published files on the hub; return the SHA-256 of the last."""
    quick = "-quickgelu" if find(name).architecture.endswith("quickgelu") else ""
    states = published(name, "small", f"{architecture}{quick}")
    for source, state in zip(find(name).sources, states, strict=True):
        file = hub.put(source.repository, source.file, content(source.file, state), large=source.file != "vocab.txt")
    return file.sha256


@pytest.mark.parametrize("name", ["pickscore", "imagereward", "aesthetic"])
def test_what_was_fetched_scores_as_the_original(
    name: str,
    fetched: tuple[Path, dict[str, Path]],
    small_clip: str,
    pictures: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home, ready = fetched
    monkeypatch.setenv("HPSKIT_HOME", str(home))
    quick = "-quickgelu" if find(name).architecture.endswith("quickgelu") else ""
    if name != "imagereward":
        monkeypatch.setitem(MODELS, name, replace(find(name), architecture=f"{small_clip}{quick}"))
    assert verify(name).recorded == verify(name).weight_hash
    assert_known(load_scorer(name, precision="fp32"), name, "small", pictures)
    metadata = Weights(path=ready[name], origin=ready[name]).metadata()
    assert metadata["kind"] == name
    sources = find(name).sources
    assert metadata["source"] == ", ".join(f"{source.repository}/{source.file}" for source in sources)
    assert len(metadata["source_sha256"].split(", ")) == len(sources)


def test_a_ready_file_knows_what_it_is(fetched: tuple[Path, dict[str, Path]], pictures: list[Path]) -> None:
    """Carried to another machine under another name, it is loaded as what it is."""
    path = fetched[1]["imagereward"]
    scorer = load_scorer(path, precision="fp32")
    assert scorer.info.name == "imagereward"
    assert scorer.info.version == "1.0"
    assert_known(scorer, "imagereward", "small", pictures)


def test_a_network_that_is_on_the_hub_as_safetensors_alone(cli: Cli, tmp_path: Path) -> None:
    with serve() as hub:
        hub.put("timm/vit_base_patch32_clip_224.openai", "open_clip_model.safetensors", save({"w": torch.ones(3)}))
        name = "clip-score:ViT-B-32:openai"
        done = cli("models", "fetch", name, HPSKIT_HOME=str(tmp_path), HF_ENDPOINT=hub.url)
    assert done.returncode == 0, done.stderr
    ready = tmp_path / "models/clip-score--ViT-B-32--openai.safetensors"
    metadata = Weights(path=ready, origin=ready).metadata()
    assert metadata["name"] == name
    assert metadata["source"] == "timm/vit_base_patch32_clip_224.openai/open_clip_model.safetensors"
    assert metadata["architecture"] == "ViT-B-32-quickgelu"
    assert metadata["resize"] == "crop"


def test_a_head_that_is_not_the_authors_is_refused(small_clip: str, cli: Cli, tmp_path: Path) -> None:
    """Its repository belongs to somebody else: the hash is that of the file in the authors' own repository."""
    with serve() as hub:
        offer(hub, "aesthetic", small_clip)
        done = cli("models", "fetch", "aesthetic", HPSKIT_HOME=str(tmp_path), HF_ENDPOINT=hub.url)
    assert done.returncode == 2
    assert "21dd590f" in done.stderr
    assert not list(tmp_path.rglob("*linearMSE*"))


def test_hps_v1_has_to_be_brought(home: Path, small_clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place = home / "originals/hps-v1/hpc.pt"
    with pytest.raises(
        NotCachedError, check=at("hps-v1", cure=f"align_sd, section Human Preference Classifier, put it at {place}")
    ):
        load_scorer("hps-v1")
    place.parent.mkdir(parents=True)
    place.write_bytes(content("hpc.pt", clip_state(f"{small_clip}-quickgelu")))
    assert fetch(find("hps-v1")) == home / "models/hps-v1.safetensors"
    place.unlink()
    monkeypatch.setitem(MODELS, "hps-v1", replace(find("hps-v1"), architecture=f"{small_clip}-quickgelu"))
    assert load_scorer("hps-v1").info.name == "hps-v1"


# --- names


def test_clip_score_of_any_network() -> None:
    model = find("clip-score:ViT-B-32:openai")
    assert model.architecture == "ViT-B-32-quickgelu"
    assert [source.repository for source in model.sources] == ["timm/vit_base_patch32_clip_224.openai"]
    assert model.stem == "clip-score--ViT-B-32--openai"
    siglip = find("clip-score:ViT-B-16-SigLIP:webli")
    assert siglip.settings["resize"] == "squash"
    assert siglip.settings["mean"] == "0.5,0.5,0.5"


def test_clip_score_knows_the_whole_list() -> None:
    pairs = open_clip.list_pretrained()
    assert len(pairs) > 150
    for pair in pairs:
        model = find(":".join(["clip-score", *pair]))
        assert model.architecture in open_clip.list_models()
        assert clip_preprocessing(224, model.settings).pillow
        assert model.sources[0].file.endswith((".bin", ".pt", ".pth", ".safetensors")), pair


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("clip-score:ViT-B-33:openai", {"found": "'ViT-B-33'", "cure": "'ViT-B-32'?"}),
        ("clip-score:ViT-B-32:mine", {"found": "'mine'", "expected": "one of openai, laion400m_e31"}),
        ("random:x", {"found": "'random:x'", "expected": "a whole number"}),
        ("random:-1", {"expected": "a whole number"}),
        ("pickscore:2", {"found": "'pickscore:2'", "cure": "'pickscore'?"}),
    ],
)
def test_names_that_are_not_right(name: str, fields: dict[str, str]) -> None:
    with pytest.raises(UnknownModelError, check=at("model", **fields)):
        find(name)


# --- what a score means


def test_win_probability_follows_the_scale(small: Small, pictures: list[Path]) -> None:
    scorer = load_scorer(small("imagereward"), precision="fp32")
    prompt = stand_ins.PROMPTS[0]
    first, second = scorer.score(pictures[:2], prompt).tolist()
    expected = torch.tensor(1.0333394966054072 * (first - second)).sigmoid().item()
    assert scorer.win_probability(prompt, *pictures[:2]) == pytest.approx(expected, abs=1e-6)
    shares = {line.image: line.probability for line in scorer.rank(prompt, pictures[:2])}
    assert shares[str(pictures[0])] == pytest.approx(expected, abs=1e-6)


def test_a_rating_gives_no_probability(small: Small, pictures: list[Path]) -> None:
    scorer = load_scorer(small("aesthetic"), precision="fp32")
    assert [line.probability for line in scorer.rank("a cat", pictures[:2])] == [None, None]
    with pytest.raises(InputError, check=at("win_probability", found="aesthetic")):
        scorer.win_probability("a cat", *pictures[:2])


def test_a_clip_is_as_sure_as_its_logit_scale(small: Small, pictures: list[Path], home: Path) -> None:
    """The softmax of its loss, over images instead of captions."""
    scorer = load_scorer(small("clip-score"), precision="fp32")
    path = home / "models/clip-score.safetensors"
    scale = dict(Weights(path=path, origin=path).tensors())["logit_scale"].exp().item()
    first, second = (scorer.score(pictures[:2], "a cat").double() / 100).tolist()
    expected = 1 / (1 + math.exp(scale * (second - first)))
    assert abs(scale - 100) > 1
    assert scorer.win_probability("a cat", *pictures[:2]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["random", "random:7"])
def test_random_depends_on_image_prompt_and_seed_alone(name: str) -> None:
    scorer, same = load_scorer(name), load_scorer(name, batch_size=1, precision="fp32")
    images = torch.rand(10, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    prompts = [f"prompt {n}" for n in range(8)]
    scores = torch.stack([scorer.score(images, prompt) for prompt in prompts])
    again = torch.stack([same.score(images.flip(0), prompt).flip(0) for prompt in prompts])
    assert torch.equal(scores, again)
    assert len(scores.unique()) == scores.numel()
    assert scores.min() >= 0
    assert scores.max() < 1
    assert scores.mean() == pytest.approx(0.5, abs=0.06)
    assert scorer.win_probability("prompt 1", *images[:2]) == 0.5
    assert not torch.equal(scores[0], load_scorer("random:8").score(images, prompts[0]))


def test_random_is_the_same_everywhere() -> None:
    network = load_network("random", device="cpu")[0]
    images = network.encode_images(torch.arange(2 * 3 * 64 * 64).view(2, 3, 64, 64) % 256 / 255)
    scores = network.compare(images, network.encode_prompts(["a cat", "a dog"]))
    assert scores.tolist() == pytest.approx(RANDOM, abs=1e-7)


RANDOM = [0.1828044056892395, 0.6300811767578125]
"""Written down when the scorer was made: the same on every machine and in every version."""


# --- what cannot be


def test_random_has_no_gradient() -> None:
    with pytest.raises(InputError, check=at("grad", found="random")):
        load_scorer("random", precision="fp32").score(torch.rand(1, 3, 8, 8), "x", grad=True)


def test_antialiasing_is_not_to_be_chosen(small: Small) -> None:
    with pytest.raises(InputError, check=at("antialias", found="pickscore")):
        load_scorer(small("pickscore"), antialias=False)


def test_weights_of_something_else(home: Path, small: Small) -> None:
    small("imagereward")
    path = home / "models/imagereward.safetensors"
    state = dict(Weights(path=path, origin=path).tensors())
    metadata = {"name": "imagereward", "kind": "imagereward", "architecture": "blip-large"}
    for lost, found in (
        ("blip.visual_encoder.pos_embed", "has no blip.visual_encoder.pos_embed"),
        ("blip.text_encoder.encoder.layer.1.output.dense.bias", "missing encoder.layer.1.output.dense.bias"),
        ("mlp.layers.7.weight", "missing layers.7.weight"),
        ("vocab.txt", "has no vocab.txt"),
    ):
        write_tensors({name: tensor for name, tensor in state.items() if name != lost}, path, metadata)
        with pytest.raises(CheckpointError, check=at(path, found=found)):
            load_scorer("imagereward")


def test_without_transformers_the_extra_is_named(fetched: tuple[Path, dict[str, Path]], pictures: list[Path]) -> None:
    code = (
        "import sys; sys.modules['transformers'] = None\n"
        "from hpskit.cli import main\n"
        f"sys.argv = ['hpskit', 'score', '--model', 'imagereward', 'a cat', {str(pictures[0])!r}]\nmain()"
    )
    done = ForkedProcess(code, HPSKIT_HOME=str(fetched[0])).finish()
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: imagereward: needs transformers")
    assert "pip install 'hpskit[baselines]'" in done.stderr
