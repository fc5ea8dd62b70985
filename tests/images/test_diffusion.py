"""Real pipelines of random weights: the same image in any batch, three kinds of black, memory, LoRA, retrieval."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from huggingface_hub import constants
from numpy.typing import NDArray
from PIL import Image

from error_fields import at
from hpskit.errors import HpskitError, InputError, ModelError
from hpskit.images.contract import Generator, Outcome
from hpskit.images.diffusion import Diffusion, Settings, truncated_tokens
from hpskit.images.plan import load_generator
from hpskit.schema import parse
from hub_server import COMMIT
from tiny_pipeline import SIDE, write_clip, write_lora, write_pipeline, write_tokenizer

PROMPTS = [f"cat number {number}" for number in range(8)]
SIZE = {"width": SIDE, "height": SIDE}


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pipelines, a LoRA, a CLIP and images to retrieve; changed by none."""
    folder = tmp_path_factory.mktemp("disk")
    write_pipeline(folder / "plain")
    write_pipeline(folder / "overflow", overflow=True)
    write_pipeline(folder / "checked", checker=True)
    write_lora(folder / "lora.safetensors")
    write_clip(folder / "clip")
    (folder / "photos/below").mkdir(parents=True)
    for number, name in enumerate(["a.png", "b.jpg", "below/c.png", "below/d.png"]):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / name)
    return folder


def made(model: Path | str, **settings: Any) -> Diffusion:
    table = {"kind": "diffusers", "name": "tiny", "model": str(model), "steps": 3, "batch": 8, **settings}
    generator = load_generator(parse(Settings, table, "generators.toml: generator 1"))
    assert isinstance(generator, Diffusion)
    return generator


def images(generator: Generator, number: int = 2) -> NDArray[np.int64]:
    """The first images of a generator, with seeds 0, 1, …; (N, height, width, 3)."""
    return pixels(generator.generate(PROMPTS[:number], range(number)))


def pixels(outcomes: Any) -> NDArray[np.int64]:
    assert [outcome.reason for outcome in outcomes] == [""] * len(outcomes)
    return np.stack([np.asarray(outcome.image, np.int64) for outcome in outcomes])


# Images


@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "DDPMScheduler"])  # the second draws noise at each step
def test_an_image_is_the_same_in_any_batch(scheduler: str, disk: Path) -> None:
    eight = images(made(disk / "plain", scheduler=scheduler), 8)
    three = images(made(disk / "plain", scheduler=scheduler, batch=3), 8)
    one = images(made(disk / "plain", scheduler=scheduler, batch=1), 8)
    assert np.abs(eight - three).max() <= 1
    assert np.abs(eight - one).max() <= 1
    assert all(np.abs(one[n] - one[n - 1]).mean() > 10 for n in range(8))


def test_the_contract_and_cheap_loading(disk: Path) -> None:
    generator = made(disk / "plain")
    assert isinstance(generator, Generator)
    assert "_pipe" not in generator.__dict__
    assert images(generator).shape == (2, SIDE, SIDE, 3)
    direct = StableDiffusionPipeline.from_pretrained(disk / "plain")
    expected = direct(PROMPTS[1], generator=torch.Generator().manual_seed(1), num_inference_steps=3).images[0]
    assert np.abs(images(generator)[1] - np.asarray(expected, np.int64)).max() <= 1


def test_settings_reach_the_pipeline(disk: Path) -> None:
    plain = images(made(disk / "plain"))
    for change in (
        {"steps": 2},
        {"guidance": 1.5},
        {"negative_prompt": "dull"},
        {"scheduler": "DDPMScheduler"},
        {"scheduler_config": {"beta_end": 0.02}},
        {"guidance": 9.0, "options": {"guidance_rescale": 0.7}},
    ):
        assert np.abs(images(made(disk / "plain", **change)) - plain).max() > 1, change
    assert images(made(disk / "plain", width=48, height=16)).shape == (2, 16, 48, 3)


# Which pipeline


def test_info_is_all_that_decides_an_image_and_no_place(disk: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(disk / "plain", tmp_path / "plain")
    info = made(disk / "plain", device="cpu").info
    assert info == made(moved).info
    json.dumps(info.to_json())
    assert str(disk) not in json.dumps(info.to_json())
    assert info.settings["scheduler"]["_class_name"] == "DDIMScheduler"
    assert info.settings["scheduler"]["beta_end"] == 0.012
    assert torch.__version__ in info.version
    (moved / "README.md").write_text("no weights")
    assert info == made(moved).info
    weights = moved / "vae/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")  # of equal size
    assert info.settings["revision"] != made(moved).info.settings["revision"]
    assert info != made(disk / "plain", scheduler="DDPMScheduler").info


@pytest.mark.filterwarnings("ignore:The `local_dir_use_symlinks` argument is deprecated")  # diffusers gives it
def test_a_repository_is_pinned_to_its_commit(disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "models--owner--tiny"
    shutil.copytree(disk / "plain", repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(COMMIT)
    generator = made("owner/tiny")
    assert generator.info.name == "owner/tiny"
    assert generator.info.settings["revision"] == COMMIT
    assert np.array_equal(images(generator), images(made(disk / "plain")))
    with pytest.raises(ModelError, check=at("generator tiny: model", found="owner/other")):
        _ = made("owner/other").info


def test_a_family_that_autopipeline_does_not_map(disk: Path, tmp_path: Path) -> None:
    index = shutil.copytree(disk / "plain", tmp_path / "other") / "model_index.json"
    index.write_text(index.read_text().replace('"StableDiffusionPipeline"', '"StableDiffusionSAGPipeline"'))
    assert images(made(tmp_path / "other")).shape == (2, SIDE, SIDE, 3)


@pytest.mark.parametrize(
    ("settings", "place", "found", "help_"),
    [
        ({"model": "nothing"}, "model", "'nothing'", "owner/name"),
        (
            {"options": {"etta": 1}},
            "options",
            "'etta' is no option of StableDiffusionPipeline",
            "eta, guidance_rescale",
        ),
        ({"options": {"prompt_embeds_": 1, "generator": 1}}, "options", "prompt_embeds_", "height"),
        ({"options": {"num_images_per_prompt": 2}}, "options", "num_images_per_prompt", "height"),
        ({"scheduler": "EulerScheduler"}, "scheduler", "'EulerScheduler'", "EulerDiscreteScheduler"),
        ({"scheduler_config": {"beta": 1}}, "scheduler_config", "no setting of DDIM", "beta_end"),
        ({"width": 33, "height": 33}, "generator tiny", "divisible by", ""),
        ({"retrieve": {"folder": "."}}, "retrieve", "no size", "width"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, Any], place: str, found: str, help_: str, disk: Path) -> None:
    with pytest.raises(InputError, check=at(place, found=found, expected=help_)):
        made(**{"model": disk / "plain", **settings}).generate(["a cat"], [0])


@pytest.mark.parametrize("damage", ["[]", "{", '{"_class_name": "NoPipeline"}'])
def test_a_folder_that_is_no_pipeline(damage: str, disk: Path, tmp_path: Path) -> None:
    index = shutil.copytree(disk / "plain", tmp_path / "broken") / "model_index.json"
    index.write_text(damage)
    with pytest.raises(HpskitError):
        made(tmp_path / "broken").generate(["a cat"], [0])
    (tmp_path / "empty").mkdir()
    with pytest.raises(HpskitError):
        _ = made(tmp_path / "empty").info
    for device in ("gpu", "cuda:77"):
        with pytest.raises(ModelError, check=at("generator tiny: model", found="cannot load plain", cure="device")):
            made(disk / "plain", device=device).generate(["a cat"], [0])


def test_code_of_a_folder_is_not_run(disk: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(disk / "plain", tmp_path / "own-code")
    (folder / "unet/mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"unet": ["mine", "Mine"]}))
    with pytest.raises(ModelError, check=at("generator tiny: model", found="own-code")):
        made(folder).generate(["a cat"], [0])
    assert not (tmp_path / "ran").exists()


# Black images


def test_what_float16_cannot_decode_is_decoded_in_float32(disk: Path) -> None:
    direct = StableDiffusionPipeline.from_pretrained(disk / "overflow", dtype=torch.float16)
    direct.set_progress_bar_config(disable=True)
    assert not np.isfinite(direct("a cat", num_inference_steps=2, output_type="np").images).any()
    half = images(made(disk / "overflow", dtype="float16"))
    assert np.abs(half - images(made(disk / "overflow"))).max() <= 8
    assert half.std() > 10


@pytest.mark.parametrize("settings", [{"model": "plain"}, {"model": "overflow", "dtype": "float16"}])
def test_a_latent_that_is_not_finite_is_nan(settings: dict[str, Any], disk: Path) -> None:
    generator = made(**(settings | {"model": disk / settings["model"]}))
    (first, _) = images(generator)
    unet = generator._pipe.unet

    def spoil(_module: Any, _given: Any, output: Any) -> Any:  # of the second image
        output[0][1::2] = float("nan")
        return output

    with torch.no_grad():
        handle = unet.register_forward_hook(spoil)
        outcomes = generator.generate(PROMPTS[:2], [0, 1])
        handle.remove()
    assert [(outcome.reason, outcome.final) for outcome in outcomes] == [("", False), ("nan", False)]
    assert np.abs(pixels(outcomes[:1])[0] - first).max() <= 1  # the other image of the batch is as ever
    assert images(generator).std() > 10


def test_what_the_safety_checker_blackens_is_refused(disk: Path) -> None:
    outcomes = made(disk / "checked").generate(PROMPTS[:2], [0, 1])
    assert [(outcome.reason, outcome.final, outcome.image) for outcome in outcomes] == [("refused", True, None)] * 2


def test_a_dark_image_is_an_image(disk: Path) -> None:
    generator = made(disk / "plain")
    images(generator)
    generator._pipe.vae.decoder.conv_out.weight.data.zero_()
    generator._pipe.vae.decoder.conv_out.bias.data.fill_(-1)
    assert images(generator).max() == 0


# Memory


def test_a_batch_that_is_too_large_is_halved(disk: Path) -> None:
    generator = made(disk / "plain", guidance=1.0)  # without guidance the network sees each image once
    expected, sizes = images(generator, 8), []

    def small_memory(_module: Any, given: Any) -> None:
        sizes.append(len(given[0]))
        if len(given[0]) > 2:
            raise torch.OutOfMemoryError("no room")

    generator._pipe.unet.register_forward_pre_hook(small_memory)
    assert np.abs(images(generator, 8) - expected).max() <= 1
    assert sizes == [8, 4, *[2] * 12]  # and not tried again; three steps for each two
    assert images(generator, 8).shape == expected.shape
    assert max(sizes[14:]) == 2


def test_one_image_that_is_too_large_is_decoded_in_tiles(disk: Path) -> None:
    generator = made(disk / "plain")
    images(generator)
    vae = generator._pipe.vae

    def small_memory(_module: Any, _given: Any) -> None:
        if not vae.use_tiling:
            raise torch.OutOfMemoryError("no room")

    vae.decoder.register_forward_pre_hook(small_memory)
    outcomes = generator.generate(PROMPTS[:2], [0, 1])
    assert [outcome.facts for outcome in outcomes] == [{"memory": ["tiling"]}] * 2
    assert pixels(outcomes).std() > 10


def test_no_room_at_all(disk: Path) -> None:
    generator = made(disk / "plain")
    images(generator)

    def no_memory(_module: Any, _given: Any) -> None:
        raise torch.OutOfMemoryError("no room")

    generator._pipe.unet.register_forward_pre_hook(no_memory)
    with pytest.raises(ModelError, check=at("generator tiny", cure="smaller")):
        images(generator)


# Prompts


def test_tokens_that_are_not_read_are_counted(disk: Path, tmp_path: Path) -> None:
    generator = made(disk / "plain")
    exact, longer = "x" * 75, "x" * 80
    outcomes: list[Outcome] = generator.generate([exact, longer], [0, 1])
    assert [outcome.facts for outcome in outcomes] == [{}, {"truncated_tokens": 5}]
    large = write_tokenizer(tmp_path)
    large.model_max_length = 1 << 60
    assert truncated_tokens([large, generator._pipe.tokenizer], longer, 80) == 2  # the encoder that reads most counts
    assert truncated_tokens([large], longer, float("inf")) == 0


# LoRA and retrieval


def test_lora(disk: Path, tmp_path: Path) -> None:
    base = made(disk / "plain")
    whole, half, none = (
        made(disk / "plain", lora=[{"file": str(disk / "lora.safetensors"), "weight": weight}])
        for weight in (1, 0.5, 0)
    )
    assert np.abs(images(whole) - images(base)).max() > 5
    assert np.abs(images(half) - images(whole)).max() > 1
    assert np.abs(images(none) - images(base)).max() <= 1
    assert whole.info.settings["lora"][0]["file"] == "lora.safetensors"
    assert len(whole.info.settings["lora"][0]["sha256"]) == 64
    for content in (b"no tensors", (disk / "clip/model.safetensors").read_bytes()):
        other = tmp_path / "other.safetensors"
        other.write_bytes(content)
        with pytest.raises(InputError, check=at(other, found="is no LoRA of plain")):
            images(made(disk / "plain", lora=[{"file": str(other)}]))
    with pytest.raises(InputError, check=at("gone.safetensors")):
        made(disk / "plain", lora=[{"file": "gone.safetensors"}])


def test_retrieval_begins_from_an_image(disk: Path) -> None:
    def retrieving(strength: float) -> Diffusion:
        table = {"folder": str(disk / "photos"), "clip": str(disk / "clip"), "strength": strength}
        return made(disk / "plain", **SIZE, retrieve=table)

    base, none, half = images(made(disk / "plain", **SIZE)), images(retrieving(0)), images(retrieving(0.5))
    assert np.abs(none - base).max() <= 1  # the noise is that of the pipeline
    assert np.abs(half - base).max() > 5
    outcomes = retrieving(0.5).generate(PROMPTS, range(8))
    assert {outcome.facts["retrieved"] for outcome in outcomes} <= {"a.png", "b.jpg", "below/c.png", "below/d.png"}
    alone = retrieving(0.5).generate(PROMPTS[7:], [7])
    assert np.abs(pixels(alone) - pixels(outcomes[7:])).max() <= 1


def test_retrieval_finds_the_nearest(disk: Path) -> None:
    generator = made(disk / "plain", **SIZE, retrieve={"folder": str(disk / "photos"), "clip": str(disk / "clip")})
    retriever = generator.retriever
    assert retriever is not None
    model, processor = retriever._clip
    texts = model.get_text_features(**processor(text=PROMPTS, padding=True, return_tensors="pt")).pooler_output
    photos = [Image.open(path).convert("RGB") for path in retriever.paths]
    found = model.get_image_features(**processor(images=photos, return_tensors="pt")).pooler_output
    cosines = torch.cosine_similarity(texts[:, None], found[None], dim=-1)
    expected = [retriever.paths[row].relative_to(disk / "photos").as_posix() for row in cosines.argmax(1)]
    assert retriever.nearest(PROMPTS) == expected


def test_retrieval_is_part_of_what_decides(disk: Path, tmp_path: Path) -> None:
    photos = shutil.copytree(disk / "photos", tmp_path / "photos")
    table = {"folder": str(photos), "clip": str(disk / "clip")}
    before = made(disk / "plain", **SIZE, retrieve=table).info
    assert str(tmp_path) not in json.dumps(before.to_json())
    shutil.copyfile(photos / "a.png", photos / "e.png")
    assert made(disk / "plain", **SIZE, retrieve=table).info != before
    shutil.rmtree(photos)
    with pytest.raises(InputError, check=at("retrieve", found="finds nothing")):
        made(disk / "plain", **SIZE, retrieve=table)
