"""The trainable network: what is trained, that it scores as the scorer does, and that a step is torch's own."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import open_clip
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import logsigmoid, normalize

from conftest import TINY
from error_fields import at
from hpskit import load_scorer
from hpskit.errors import CheckpointError, InputError
from hpskit.models.architecture import build
from hpskit.models.checkpoint import file_hash, write_tensors
from hpskit.pixels import to_tensor
from hpskit.training.losses import pair_loss
from hpskit.training.recipes import Recipe, hpsv2, tiny
from hpskit.training.student import Student

PROMPTS = ["a temple", "a flower"]


def changed(recipe: Recipe, **fields: Any) -> Recipe:
    return recipe.model_copy(update=fields)


def trainable(student: Student) -> list[str]:
    return [name for name, parameter in student.network.named_parameters() if parameter.requires_grad]


def scores_of(student: Student, batch: Any) -> torch.Tensor:
    scores: torch.Tensor = student(*student.inputs(batch))
    return scores


@pytest.fixture
def recipe(tiny_checkpoint: Path) -> Recipe:
    return Recipe(architecture=TINY, weights=str(tiny_checkpoint), image_blocks=3, text_blocks=1, precision="fp32")


@pytest.fixture
def batch() -> SimpleNamespace:
    pixels = torch.randn(6, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    return SimpleNamespace(pixels=pixels, prompts=["a cat", "a dog", "a cat"], group=torch.tensor([0, 0, 1, 1, 2, 2]))


def test_logits_are_those_of_the_scorer(recipe: Recipe, tiny_checkpoint: Path, photographs: list[Image.Image]) -> None:
    student = Student.build(recipe)
    pixels = torch.stack([student.preprocessing(to_tensor(image)) for image in photographs])
    shown = SimpleNamespace(pixels=pixels, prompts=PROMPTS, group=torch.tensor([0, 1]))
    scale = student.network.logit_scale.exp().item()
    expected = load_scorer(tiny_checkpoint, arch=TINY, precision="fp32").score(photographs, PROMPTS)
    assert (scores_of(student, shown).detach() * 100 / scale - expected).abs().max() < 1e-4


def test_what_was_trained_is_scored(recipe: Recipe, batch: SimpleNamespace, tmp_path: Path) -> None:
    """Through a file, from the network of `tiny`, which open_clip alone does not know."""
    student = Student.build(tiny())
    path = tmp_path / "model.safetensors"
    write_tensors(student.network.state_dict(), path, {"architecture": tiny().architecture})
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(1))
    shown = SimpleNamespace(pixels=student.preprocessing(image)[None], prompts=["a cat"], group=torch.tensor([0]))
    expected = load_scorer(path, precision="fp32").score([image], "a cat")
    scale = student.network.logit_scale.exp().item()
    assert (scores_of(student, shown).detach() * 100 / scale - expected).abs().max() < 1e-4
    again = Student.build(changed(tiny(), weights=str(path)))
    assert scores_of(again, batch).equal(scores_of(student, batch))


def official_split(network: nn.Module, image_groups: int, text_layers: int) -> set[str]:
    """Names that the official code trains, written down from its two `lock` functions."""
    image = len(network.visual.transformer.resblocks)  # type: ignore[union-attr, arg-type]
    text = len(network.transformer.resblocks)  # type: ignore[union-attr, arg-type]
    trained = {"logit_scale", "ln_final.weight", "ln_final.bias", "text_projection"}
    trained |= {"visual.proj", "visual.ln_post.weight", "visual.ln_post.bias"}
    first_image, first_text = image - (image_groups - 1), text - text_layers
    for name, _ in network.named_parameters():
        tower, _, rest = name.partition("resblocks.")
        if rest:
            number = int(rest.partition(".")[0])
            trained |= {name} if number >= (first_image if tower.startswith("visual") else first_text) else set()
    return trained


def test_the_official_blocks_of_vit_h() -> None:
    network = build("ViT-H-14")
    student = Student(network, hpsv2())
    names = set(trainable(student))
    assert names == official_split(network, 20, 11)
    assert "visual.transformer.resblocks.13.attn.in_proj_weight" in names
    assert "visual.transformer.resblocks.12.attn.in_proj_weight" not in names
    assert "transformer.resblocks.13.ln_1.weight" in names
    assert "transformer.resblocks.12.ln_1.weight" not in names
    image_block, text_block = (12 * width**2 + 13 * width for width in (1280, 1024))
    ends = 2 * 1280 + 1280 * 1024 + 2 * 1024 + 1024 * 1024 + 1  # two norms, two projections, logit_scale
    trained = sum(p.numel() for p in student.parameters() if p.requires_grad)
    assert trained == 19 * image_block + 11 * text_block + ends


def test_decay_is_split_as_in_the_official_code() -> None:
    network = build("ViT-H-14")
    student = Student(network, changed(hpsv2(), image_blocks="all", text_blocks="all"))
    plain, decayed = student.parameter_groups(hpsv2())
    assert (plain["weight_decay"], decayed["weight_decay"]) == (0, 0.35)
    excluded = [
        parameter
        for name, parameter in network.named_parameters()
        if parameter.ndim < 2 or any(part in name for part in ("bn", "ln", "bias", "logit_scale"))
    ]
    assert {id(p) for p in plain["params"]} == {id(p) for p in excluded}
    assert len(plain["params"]) + len(decayed["params"]) == len([*network.parameters()])


@pytest.mark.parametrize(
    ("image", "text", "trained"),
    [
        (0, 0, {"logit_scale"}),
        (1, 0, {"logit_scale", "visual.proj"}),
        (2, 0, {"logit_scale", "visual.proj", "visual.ln_post", "visual.transformer.resblocks.2"}),
        (0, 1, {"logit_scale", "ln_final", "text_projection", "transformer.resblocks.1"}),
    ],
)
def test_few_blocks(recipe: Recipe, image: int, text: int, trained: set[str]) -> None:
    student = Student(build(TINY), changed(recipe, image_blocks=image, text_blocks=text))
    found = {name for name in trainable(student) if not any(name == t or name.startswith(f"{t}.") for t in trained)}
    assert not found
    assert all(any(name == t or name.startswith(f"{t}.") for name in trainable(student)) for t in trained)


def test_nothing_of_the_frozen_part_is_kept_for_the_gradient(recipe: Recipe, batch: SimpleNamespace) -> None:
    student = Student.build(recipe)
    seen: dict[str, bool] = {}
    for tower in ("visual.transformer", "transformer"):
        for number, block in enumerate(student.network.get_submodule(tower).resblocks):

            def look(_: nn.Module, __: Any, result: torch.Tensor, name: str = f"{tower}.{number}") -> None:
                seen[name] = result.requires_grad

            block.register_forward_hook(look)
    scores_of(student, batch).sum().backward()
    assert seen == {
        "visual.transformer.0": False,
        "visual.transformer.1": True,
        "visual.transformer.2": True,
        "transformer.0": False,
        "transformer.1": True,
    }
    assert {n for n, p in student.network.named_parameters() if p.grad is not None} == set(trainable(student))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_batch_of_nothing_takes_part(recipe: Recipe, checkpointing: bool) -> None:
    student = Student.build(changed(recipe, gradient_checkpointing=checkpointing))
    nothing = torch.zeros(0, dtype=torch.long)
    scores = scores_of(student, SimpleNamespace(pixels=torch.zeros(0, 3, 64, 64), prompts=[], group=nothing))
    assert scores.shape == (0,)
    scores.sum().backward()
    trained = [p for p in student.parameters() if p.requires_grad]
    assert all(p.grad is not None and not p.grad.any() for p in trained)


def test_checkpointing_changes_no_gradient(recipe: Recipe, batch: SimpleNamespace) -> None:
    students = [Student.build(recipe), Student.build(changed(recipe, gradient_checkpointing=True))]
    for student in students:
        scores_of(student, batch).square().sum().backward()
    for one, other in zip(*(student.parameters() for student in students), strict=True):
        if one.requires_grad:
            assert one.grad is not None
            assert other.grad is not None
            torch.testing.assert_close(one.grad, other.grad)


def test_one_step_is_that_of_plain_torch_to_the_bit(
    recipe: Recipe, tiny_checkpoint: Path, batch: SimpleNamespace
) -> None:
    """Against the step written by hand: open_clip's network, the loss, AdamW, clamp."""
    recipe = changed(recipe, lr=1e-3)
    long = ["a cat " * 50, "a dog " * 50]  # whole contexts: nothing is left out as padding
    batch.prompts = [long[0], long[1], long[0]]
    adam = {"lr": recipe.lr, "betas": recipe.betas, "eps": recipe.eps}
    student = Student.build(recipe)
    optimizer = torch.optim.AdamW(student.parameter_groups(recipe), **adam)
    scores = scores_of(student, batch)
    pair_loss(scores[::2], scores[1::2], torch.tensor([1.0, 0.0, 0.5])).sum().backward()
    optimizer.step()
    student.clamp()

    plain = open_clip.create_model(TINY, load_weights=False)
    plain.load_state_dict(torch.load(tiny_checkpoint)["state_dict"])
    for tower in (plain.transformer, plain.visual.transformer):  # the official order of axes, and of sums
        tower.batch_first = False
        for block in tower.resblocks:
            block.attn.batch_first = False
    trained = official_split(plain, 3, 1)
    named = {name: p for name, p in plain.named_parameters() if p.requires_grad_(name in trained).requires_grad}
    flat = [p for p in named.values() if p.ndim < 2]
    matrices = [p for p in named.values() if p.ndim >= 2]
    by_hand = torch.optim.AdamW(
        [{"params": flat, "weight_decay": 0}, {"params": matrices, "weight_decay": 0.35}], **adam
    )
    images = normalize(plain.encode_image(batch.pixels), dim=-1)
    prompts = normalize(plain.encode_text(open_clip.get_tokenizer(TINY)(long)), dim=-1)
    logits = plain.logit_scale.exp() * (images * prompts[[0, 0, 1, 1, 0, 0]]).sum(dim=-1)
    ahead = logits[::2] - logits[1::2]
    labels = torch.tensor([1.0, 0.0, 0.5])
    (-labels * logsigmoid(ahead) - (1 - labels) * logsigmoid(-ahead)).sum().backward()
    by_hand.step()
    plain.logit_scale.data.clamp_(0, math.log(100))

    state = student.network.state_dict()
    assert state.keys() == plain.state_dict().keys()
    differ = {
        name: (state[name] - t).abs().max().item() for name, t in plain.state_dict().items() if not state[name].equal(t)
    }
    assert not differ


def test_the_file_of_the_base_is_left_alone(recipe: Recipe, tmp_path: Path, batch: SimpleNamespace) -> None:
    """Its tensors are memory-mapped: neither training nor loading may write through."""
    path = tmp_path / "base.safetensors"
    write_tensors(Student.build(recipe).network.state_dict(), path, {"architecture": TINY})
    before = file_hash(path)
    student = Student.build(changed(recipe, weights=str(path)))
    with torch.no_grad():
        for name in trainable(student):
            student.network.get_parameter(name).add_(1)
    student.network.load_state_dict({name: tensor + 1 for name, tensor in student.network.state_dict().items()})
    assert file_hash(path) == before


def test_random_weights_follow_the_seed_and_leave_torch_alone() -> None:
    before = torch.random.get_rng_state()
    one, same = Student.build(tiny()), Student.build(tiny())
    other = Student.build(changed(tiny(), seed=1))
    assert torch.random.get_rng_state().equal(before)
    assert all(a.equal(b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not one.network.state_dict()["visual.proj"].equal(other.network.state_dict()["visual.proj"])


@pytest.mark.parametrize(
    ("changes", "place", "found", "expected"),
    [
        ({"architecture": "coca_ViT-B-32"}, "architecture", "a CoCa", "a CLIP of two towers"),
        ({"architecture": "RN50", "image_blocks": 3}, "image_blocks", "is 3", ""),
        ({"image_blocks": 6}, "image_blocks", "is 6", "at most 5"),
        ({"text_blocks": 3}, "text_blocks", "is 3", "at most 2"),
    ],
)
def test_what_the_network_does_not_have(
    tiny_checkpoint: Path, changes: dict[str, Any], place: str, found: str, expected: str
) -> None:
    recipe = changed(Recipe(architecture=TINY, weights=None, image_blocks="all", text_blocks="all"), **changes)
    with pytest.raises(InputError, check=at(place, found=found, expected=expected)):
        Student(build(recipe.architecture), recipe)


def test_an_architecture_that_is_not_there() -> None:
    with pytest.raises(CheckpointError, check=at(cure=f"did you mean '{TINY}'")):
        Student.build(changed(tiny(), architecture="ViT-tiny-tset"))


def test_a_network_with_its_text_tower_apart() -> None:
    recipe = Recipe(architecture="ViT-B-32-quickgelu", image_blocks=1, text_blocks=2)
    with torch.device("meta"):
        network = open_clip.create_model(
            "ViT-B-32-quickgelu", load_weights=False, force_custom_text=True, device="meta"
        )
    names = {name for name in trainable(Student(network, recipe)) if name.startswith("text.")}
    blocks = {name.split(".")[3] for name in names if "resblocks" in name}
    assert blocks == {"10", "11"}
    assert {name for name in names if "resblocks" not in name} == {
        "text.ln_final.weight",
        "text.ln_final.bias",
        "text.text_projection",
    }
