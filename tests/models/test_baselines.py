"""Every baseline gives the scores of its original, from files of the published layout, fetched from a hub.

The known answers were computed by the originals with stand-in weights; see tests/known/make_baselines.py.
"""

from __future__ import annotations

import io
import json
import sys
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
from hpskit.models.loading import load_network
from hpskit.models.networks.clip import clip_preprocessing
from hpskit.models.registry import MODELS, MPS_RULES, find, network_class
from hpskit.models.store import verify
from hpskit.pixels import to_tensor
from hpskit.scoring.scorer import PreferenceScorer
from hub_server import serve

KNOWN = Path(__file__).parents[1] / "known"
sys.path.insert(0, str(KNOWN))
import stand_ins  # noqa: E402  # where the script that made the known answers finds it too

TOLERANCE = {"clip-score": 1e-3, "hps-v1": 1e-3, "pickscore": 1e-3, "mps": 1e-3, "aesthetic": 1e-4, "imagereward": 1e-4}
"""1e-5 of a cosine, and 1e-4 of a rating or a standardised reward."""
LOG_ODDS = {"clip-score": 0.900171, "hps-v1": 0.900171, "pickscore": 1, "mps": 1, "aesthetic": None}
LOG_ODDS["imagereward"] = 1.0333394966
"""Of a point. The stand-ins' logit scale is exp(4.5)."""
each_baseline = pytest.mark.parametrize("name", TOLERANCE)

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


def small_architecture(name: str, small_clip: str) -> str:
    own = MODELS[name].architecture
    return own if name == "imagereward" else f"{small_clip}-quickgelu" if own.endswith("quickgelu") else small_clip


def known(name: str, size: str) -> dict[str, Any]:
    return json.loads((KNOWN / f"{name}.json").read_text())[size]


def published(name: str, size: str, architecture: str) -> list[State]:
    """What the files hold that the original reads, in the order of `Model.sources`."""
    if name in ("pickscore", "imagereward", "mps"):
        shapes = known(name, size)["shapes"]
        state = stand_ins.state(
            {key: [int(side) for side in shape.split("x") if side] for key, shape in shapes.items()}
        )
        if name == "pickscore":  # as an older transformers saved it
            return [state | {"text_model.embeddings.position_ids": torch.arange(77)[None]}]
        if name == "mps":  # as in imscore
            state["model.text_model.embeddings.position_ids"] = torch.arange(77)[None]
            return [{f"mps.{key}": tensor for key, tensor in state.items()}]
        words = stand_ins.vocabulary(30522 if size == "real" else 200).encode()
        return [state, {"vocab.txt": torch.frombuffer(bytearray(words), dtype=torch.uint8)}]
    with torch.device("meta"):
        model = open_clip.create_model(architecture, load_weights=False, device="meta")
    clip = stand_ins.state({key: tensor.shape for key, tensor in model.state_dict().items()})
    if name != "aesthetic":
        return [clip]
    sides = (clip["visual.proj"].shape[1], 1024, 128, 64, 16, 1)
    layers = [*zip("02467", sides[:-1], sides[1:], strict=True)]
    shapes = {f"layers.{number}.weight": (after, before) for number, before, after in layers}
    return [clip, stand_ins.state(shapes | {f"layers.{number}.bias": (after,) for number, _, after in layers})]


def content(file: str, state: State) -> bytes:
    if file.endswith(".txt"):
        return bytes(state[file].tolist())
    if file.endswith(".safetensors"):
        return save(state)
    buffer = io.BytesIO()
    torch.save({"state_dict": state} if file == "hpc.pt" else state, buffer)
    return buffer.getvalue()


FETCH = """
import sys
from dataclasses import replace
from hpskit.cli import main
from hpskit.models.registry import MODELS
model = MODELS[{name!r}]
MODELS[{name!r}] = replace(model, sources=tuple(replace(source, sha256=None) for source in model.sources))
sys.argv = ["hpskit", "models", "fetch", {name!r}]
main()
"""
"""Without the hash of the true file, which a stand-in cannot have."""


@pytest.fixture(scope="session")
def fetched(small_clip: str, cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home into which every baseline was fetched, or brought, by the command that people use."""
    home = tmp_path_factory.mktemp("fetched")
    with serve() as hub:
        environment = {"HPSKIT_HOME": str(home), "HF_ENDPOINT": hub.url}
        for name in TOLERANCE:
            states = published(name, "small", small_architecture(name, small_clip))
            for source, state in zip(MODELS[name].sources, states, strict=True):
                data = content(source.file, state)
                if source.repository:
                    hub.put(source.repository, source.file, data, large=source.file != "vocab.txt")
                else:
                    path = home / "originals" / name / source.file
                    path.parent.mkdir(parents=True)
                    path.write_bytes(data)
            if name == "aesthetic":  # its head is in a repository of somebody else: the hash is its authors'
                refused = cli("models", "fetch", name, **environment)
                assert refused.returncode == 2
                assert "21dd590f" in refused.stderr
                assert not list(home.rglob("*linearMSE*"))
            done = ForkedProcess(FETCH.format(name=name), **environment).finish()
            assert done.returncode == 0, done.stderr
    return home


@pytest.fixture
def home(fetched: Path, small_clip: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That home; the registry knows that its models are small."""
    monkeypatch.setenv("HPSKIT_HOME", str(fetched))
    for name in TOLERANCE:
        small = replace(MODELS[name], architecture=small_architecture(name, small_clip))
        monkeypatch.setitem(MODELS, name, small)
    return fetched


# --- equal to the originals


@each_baseline
def test_scores_are_those_of_the_original(name: str, home: Path, pictures: list[Path]) -> None:
    scorer = load_scorer(name, precision="fp32")
    assert_known(scorer, name, "small", pictures)
    assert scorer.log_odds_per_point == (LOG_ODDS[name] and pytest.approx(LOG_ODDS[name]))
    found = verify(name)
    assert found.recorded == found.weight_hash
    assert found.metadata["kind"] == find(name).kind
    assert len(found.metadata["source_sha256"].split(", ")) == len(find(name).sources)
    if name != "hps-v1":
        assert found.metadata["source"] == ", ".join(map(str, find(name).sources))


def assert_known(scorer: PreferenceScorer, name: str, size: str, pictures: list[Path]) -> None:
    """All at once: a prompt that is too long is warned of when it is encoded, which happens once."""
    rows = [(picture, number) for picture in pictures for number in range(len(stand_ins.PROMPTS))]
    scale = 100.0 if name == "hps-v1" else 1.0  # the original gives a cosine
    expected = [scale * known(name, size)["scores"][picture.stem][n] for picture, n in rows]
    with pytest.warns(UserWarning, match="tokens, the model reads") if scorer.reads_prompt else nullcontext():
        scores = scorer.score([picture for picture, _ in rows], [stand_ins.PROMPTS[n] for _, n in rows])
    assert scores.tolist() == pytest.approx(expected, abs=TOLERANCE[name])
    assert max(expected) - min(expected) > 100 * TOLERANCE[name], "the stand-ins would not show a difference"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in TOLERANCE if "real" in json.loads((KNOWN / f"{name}.json").read_text())]
)
def test_scores_in_full_size(name: str, tmp_path: Path, pictures: list[Path]) -> None:
    """The published architecture: gigabytes, and a minute or two."""
    model, path = MODELS[name], tmp_path / f"{name}.safetensors"
    state = network_class(model.kind).arrange(*published(name, "real", model.architecture))
    write_tensors(state, path, {"name": name, "kind": model.kind, "architecture": model.architecture})
    assert sum(4 * tensor.numel() for tensor in state.values()) == pytest.approx(model.size, rel=0.01)
    del state
    assert_known(load_scorer(path, precision="fp32"), name, "real", pictures)


@each_baseline
def test_tensors_score_as_files_do_and_have_a_gradient(name: str, home: Path, pictures: list[Path]) -> None:
    scorer = load_scorer(name, precision="fp32")
    files = [path for path in pictures if path.stem == "small"]
    pixels = torch.stack([to_tensor(path) for path in files]).requires_grad_(True)
    scores = scorer.score(pixels, stand_ins.PROMPTS[0], grad=True)
    assert scores.tolist() == pytest.approx(scorer.score(files, stand_ins.PROMPTS[0]).tolist(), rel=1e-5, abs=1e-5)
    (gradient,) = torch.autograd.grad(scores.sum(), pixels)
    assert gradient.isfinite().all()
    assert (gradient != 0).float().mean() > 0.5


@each_baseline
def test_lower_precision_stays_near(name: str, home: Path, pictures: list[Path]) -> None:
    precisions = ("fp32", "bf16", "fp16")
    exact, *fast = (load_scorer(name, precision=p).score(pictures, stand_ins.PROMPTS[0]) for p in precisions)
    for scores in fast:
        assert scores.dtype is torch.float32
        assert 0 < (exact - scores).abs().max() < 0.02 * exact.abs().max() + 0.01 * (exact.max() - exact.min())


# --- MPS


def test_mps_of_the_authors_is_that_of_imscore() -> None:
    (imscore,) = published("mps", "small", "")
    authors = {name.removeprefix("mps."): tensor for name, tensor in imscore.items()}
    arrange = network_class("mps").arrange
    one, other = arrange(imscore), arrange(authors)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(CheckpointError, check=at("head.weight", expected="")):
        arrange(authors | {"head.weight": torch.ones(1)})


def test_mps_by_the_rule_of_its_model(home: Path, pictures: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its `forward` had three prompts and two images of each."""
    expected = known("mps", "small")["whole_batch"]
    rows = [(picture, n) for picture in pictures if picture.stem in expected for n in range(len(stand_ins.PROMPTS))]
    images, prompts = [picture for picture, _ in rows], [stand_ins.PROMPTS[n] for _, n in rows]

    def scores(name: str, batch_size: int) -> torch.Tensor:
        scorer = load_scorer(name, precision="fp32", batch_size=batch_size)
        with pytest.warns(UserWarning, match="tokens, the model reads"):
            return scorer.score(images, prompts)

    answers = [expected[picture.stem][n] for picture, n in rows]
    assert scores("mps:whole-batch", 6).tolist() == pytest.approx(answers, abs=TOLERANCE["mps"])
    for rule in MPS_RULES:  # where the threshold matters, and one prompt is nearer than the start token of all
        monkeypatch.setitem(MPS_RULES, rule, 0.5)
    near = stand_ins.PROMPTS[0]
    ours, theirs = (
        (scores(f"mps:{rule}:{near}", 6) - scores(f"mps:{rule}:{near}", 1)).abs().max() for rule in MPS_RULES
    )
    assert ours < 1e-4 < 1e-2 < theirs, "a score of theirs depends on its neighbours"


def test_mps_with_other_conditions(home: Path, pictures: list[Path]) -> None:
    scorers = [load_scorer(name, precision="fp32") for name in ("mps", "mps:per-image:hands, faces", "mps:whole-batch")]
    assert load_scorer("mps:per-image", precision="fp32").info == scorers[0].info
    assert len({scorer.info.identity for scorer in scorers}) == 3
    assert len({scorer.info.weight_hash for scorer in scorers}) == 1
    assert len([*home.glob("models/mps*.safetensors")]) == 1
    scores = [scorer.score(pictures, stand_ins.PROMPTS[0]) for scorer in scorers[:2]]
    assert (scores[0] - scores[1]).abs().max() > 0.01


def test_mps_where_no_word_is_near(home: Path, pictures: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The original gives NaN."""
    scorer = load_scorer("mps:whole-batch", precision="fp32")
    monkeypatch.setitem(MPS_RULES, "whole-batch", 2.0)
    with pytest.raises(InputError, check=at("mps:whole-batch", cure="use mps")):
        scorer.score(pictures[0], "a cat")


# --- files


def test_a_ready_file_knows_what_it_is(home: Path, tmp_path: Path, pictures: list[Path]) -> None:
    """Carried to another machine under another name, it is loaded as what it is."""
    path = (home / "models/imagereward.safetensors").rename(tmp_path / "carried.safetensors")
    scorer = load_scorer(path, precision="fp32")
    path.rename(home / "models/imagereward.safetensors")
    assert (scorer.info.name, scorer.info.version) == ("imagereward", "1.0")
    assert_known(scorer, "imagereward", "small", pictures)


def test_hps_v1_has_to_be_brought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPSKIT_HOME", str(tmp_path))
    place = tmp_path / "originals/hps-v1/hpc.pt"
    cure = f"align_sd, section Human Preference Classifier, put it at {place}"
    with pytest.raises(NotCachedError, check=at("hps-v1", cure=cure)):
        load_scorer("hps-v1")


def test_weights_of_something_else(home: Path, tmp_path: Path) -> None:
    source, path = home / "models/imagereward.safetensors", tmp_path / "mine.safetensors"
    weights = Weights(path=source, origin=source)
    for lost, found in (
        ("blip.visual_encoder.pos_embed", "has no blip.visual_encoder.pos_embed"),
        ("blip.text_encoder.encoder.layer.1.output.dense.bias", "missing encoder.layer.1.output.dense.bias"),
        ("mlp.layers.7.weight", "missing layers.7.weight"),
        ("vocab.txt", "has no vocab.txt"),
    ):
        state = {name: tensor for name, tensor in weights.tensors() if name != lost}
        write_tensors(state, path, {"kind": "imagereward", "architecture": "blip-large"})
        with pytest.raises(CheckpointError, check=at(path, found=found)):
            load_scorer(path)


def test_without_transformers_the_extra_is_named(home: Path, pictures: list[Path]) -> None:
    code = (
        "import sys; sys.modules['transformers'] = None\n"
        "from hpskit.cli import main\n"
        f"sys.argv = ['hpskit', 'score', '--model', 'imagereward', 'a cat', {str(pictures[0])!r}]\nmain()"
    )
    done = ForkedProcess(code).finish()
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: imagereward: needs transformers")
    assert "pip install 'hpskit[baselines]'" in done.stderr


# --- names


def test_clip_score_of_any_network(cli: Cli, tmp_path: Path) -> None:
    """Here of one that is on the hub as safetensors alone."""
    name = "clip-score:ViT-B-32:openai"
    with serve() as hub:
        hub.put("timm/vit_base_patch32_clip_224.openai", "open_clip_model.safetensors", save({"w": torch.ones(3)}))
        done = cli("models", "fetch", name, HPSKIT_HOME=str(tmp_path), HF_ENDPOINT=hub.url)
    assert done.returncode == 0, done.stderr
    ready = tmp_path / "models/clip-score--ViT-B-32--openai.safetensors"
    metadata = Weights(path=ready, origin=ready).metadata()
    assert metadata["name"] == name
    assert metadata["source"] == "timm/vit_base_patch32_clip_224.openai/open_clip_model.safetensors"
    assert metadata["architecture"] == "ViT-B-32-quickgelu"
    assert metadata["resize"] == "crop"


def test_clip_score_knows_the_whole_list() -> None:
    pairs = open_clip.list_pretrained()
    assert len(pairs) > 150
    for pair in pairs:
        model = find(":".join(["clip-score", *pair]))
        assert model.architecture in open_clip.list_models()
        assert clip_preprocessing(224, model.settings).pillow
        assert model.sources[0].file.endswith((".bin", ".pt", ".pth", ".safetensors")), pair
    settings = find("clip-score:ViT-B-16-SigLIP:webli").settings
    assert (settings["resize"], settings["mean"]) == ("squash", "0.5,0.5,0.5")


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("clip-score:ViT-B-33:openai", {"found": "'ViT-B-33'", "cure": "'ViT-B-32'?"}),
        ("clip-score:ViT-B-32:mine", {"found": "'mine'", "expected": "one of openai, laion400m_e31"}),
        ("random:x", {"found": "'random:x'", "expected": "a whole number"}),
        ("random:-1", {"expected": "a whole number"}),
        ("mps:half", {"found": "'mps:half'", "expected": "per-image or whole-batch"}),
        ("mps:per-image: ", {"expected": "and perhaps conditions"}),
        ("pickscore:2", {"found": "'pickscore:2'", "cure": "'pickscore'?"}),
    ],
)
def test_names_that_are_not_right(name: str, fields: dict[str, str]) -> None:
    with pytest.raises(UnknownModelError, check=at("model", **fields)):
        find(name)


# --- random, and what cannot be


@pytest.mark.parametrize("name", ["random", "random:7"])
def test_random_depends_on_image_prompt_and_seed_alone(name: str) -> None:
    scorer, same = load_scorer(name), load_scorer(name, batch_size=1, precision="fp32")
    images = torch.rand(10, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    prompts = [f"prompt {n}" for n in range(8)]
    scores = torch.stack([scorer.score(images, prompt) for prompt in prompts])
    again = torch.stack([same.score(images.flip(0), prompt).flip(0) for prompt in prompts])
    assert torch.equal(scores, again)
    assert len(scores.unique()) == scores.numel()
    assert (scores.min() >= 0, scores.max() < 1) == (True, True)
    assert scores.mean() == pytest.approx(0.5, abs=0.06)
    assert scorer.win_probability("prompt 1", *images[:2]) == 0.5
    assert not torch.equal(scores[0], load_scorer("random:8").score(images, prompts[0]))


def test_random_is_the_same_everywhere() -> None:
    """Written down when the scorer was made: the same on every machine and in every version."""
    network = load_network("random", device="cpu")[0]
    images = network.encode_images(torch.arange(2 * 3 * 64 * 64).view(2, 3, 64, 64) % 256 / 255)
    scores = network.compare(images, network.encode_prompts(["a cat", "a dog"]))
    assert scores.tolist() == pytest.approx([0.1828044056892395, 0.6300811767578125], abs=1e-7)


def test_options_and_answers_that_a_baseline_does_not_have(home: Path, pictures: list[Path]) -> None:
    with pytest.raises(InputError, check=at("grad", found="random")):
        load_scorer("random", precision="fp32").score(torch.rand(1, 3, 8, 8), "x", grad=True)
    with pytest.raises(InputError, check=at("antialias", found="pickscore")):
        load_scorer("pickscore", antialias=False)
    rating = load_scorer("aesthetic", precision="fp32")
    assert [line.probability for line in rating.rank("a cat", pictures[:2])] == [None, None]
    with pytest.raises(InputError, check=at("win_probability", found="aesthetic")):
        rating.win_probability("a cat", *pictures[:2])
