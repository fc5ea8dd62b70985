"""Recipes: the published numbers, the way through TOML and back, and errors that name field, value and cure."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Cli
from hpskit.errors import InputError
from hpskit.training.mini_recipe import MiniRecipe
from hpskit.training.recipes import LINEAR_RECIPES, RECIPES, Loss, Recipe, hpsv2, mini, read_recipe, tiny

words = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=12).filter(
    lambda word: word != "none"
)
blocks = st.integers(0, 40) | st.just("all")
recipes = st.builds(
    Recipe,
    architecture=words,
    weights=st.none() | words,
    loss=st.sampled_from(get_args(Loss)),
    margin=st.floats(0, 1e6),
    tie_share=st.floats(0, 1, exclude_min=True, exclude_max=True),
    rating=words,
    rating_step=st.floats(1e-6, 1e6),
    weighting=st.sampled_from(["judgement", "group"]),
    lr=st.floats(1e-12, 10),
    weight_decay=st.floats(0, 10),
    betas=st.tuples(*[st.floats(0, 1, exclude_max=True)] * 2),
    eps=st.floats(1e-30, 1),
    warmup=st.integers(0, 100),
    steps=st.integers(100, 10**9),
    batch=st.integers(1, 1000),
    image_blocks=blocks,
    text_blocks=blocks,
    precision=st.sampled_from(["fp32", "bf16", "fp16"]),
    gradient_checkpointing=st.booleans(),
    clip=st.none() | st.floats(1e-12, 1e12),
    ema=st.none() | st.floats(0.5, 0.9999),
    seed=st.integers(0, 2**63 - 1),
    patience=st.none() | st.integers(1, 100),
)


def test_the_published_recipe() -> None:
    recipe = hpsv2()
    assert recipe.architecture == "ViT-H-14"
    assert (recipe.lr, recipe.weight_decay, recipe.betas, recipe.eps) == (3.3e-6, 0.35, (0.9, 0.98), 1e-6)
    assert (recipe.warmup, recipe.steps, recipe.batch) == (500, 4_000, 128)
    assert (recipe.image_blocks, recipe.text_blocks, recipe.max_logit_scale) == (20, 11, 100)
    assert (recipe.seed, recipe.clip, recipe.ema) == (16, None, None)
    changed = {
        name for name, value in hpsv2().to_dict().items() if value != Recipe().to_dict()[name] and name != "loss_scale"
    }
    assert not changed, "a file that leaves something out means what HPS v2 did"


@given(recipes)
def test_there_and_back_through_toml_and_json(recipe: Recipe) -> None:
    values = tomllib.loads(recipe.to_toml())
    assert list(values) == [field.name for field in dataclasses.fields(Recipe)]
    assert Recipe.from_dict(values, "x.toml") == recipe
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())), "x.json") == recipe
    assert recipe.with_settings([]) == recipe


def test_a_file_may_say_little(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('lr = 1e-5\nclip = 1  # a whole number\nweights = "none"\nbetas = [0, 0.5]\n')
    expected = dataclasses.replace(Recipe(), lr=1e-5, clip=1.0, weights=None, betas=(0.0, 0.5))
    assert read_recipe(path) == expected
    assert isinstance(read_recipe(path).clip, float)


@pytest.mark.parametrize("name", RECIPES)
def test_named_recipes(name: str) -> None:
    assert read_recipe(name) == RECIPES[name]()


def test_settings() -> None:
    texts = ["lr=1e-6", "image_blocks = all", "betas=[0.8, 0.9]", "clip=none", "weights=a b/c.pt", "loss=margin"]
    recipe = tiny().with_settings([*texts, "gradient_checkpointing=true"])
    assert (recipe.lr, recipe.image_blocks, recipe.betas, recipe.clip) == (1e-6, "all", (0.8, 0.9), None)
    assert (recipe.weights, recipe.loss, recipe.gradient_checkpointing) == ("a b/c.pt", "margin", True)
    assert recipe.steps == tiny().steps


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("learning=1", "--set: learning: is no field of a recipe; did you mean 'lr'?"),
        ("learning-rate=1", "'learning-rate': is no field of a recipe; did you mean 'lr'?"),
        ("Batch_Size=1", "did you mean 'batch'?"),
        ("epochs=1", "did you mean 'steps'?"),
        ("warmup_steps=1", "did you mean 'warmup'?"),
        ("grad_clip=1", "did you mean 'clip'?"),
        ("grad_accum=1", "did you mean 'accumulate'?"),
        ("wd=1", "did you mean 'weight_decay'?"),
        ("pretrained=laion2b", "did you mean 'weights'?"),
        ("model=RN50", "did you mean 'architecture'?"),
        ("ema_decay=0.9", "did you mean 'ema'?"),
        ("amp=true", "did you mean 'precision'?"),
        ("colour=1", "colour: is no field of a recipe; expected one of architecture, weights, loss,"),
        ("=3", "--set: is '=3', expected NAME=VALUE"),
        ("a\nb=3", "'a\\nb': is no field"),
        ("weights=a\nb", "weights: is 'a\\nb', expected a name"),
        ("weights=a\udcffb", "weights: is 'a\\udcffb', expected a name"),
        ("lr=" + 400 * "9", "lr: is 9999"),
        ("lr=" + 5000 * "9", "lr: is '9999"),
        ("lr=0x" + 5000 * "f", "lr: is too long to be shown, expected a number from 1e-12 to 10"),
        ("steps=" + 400 * "9", "steps: is 9999"),
        ("lr=" + 5000 * "[", "lr: is '[[[["),
        ("lr=inf", "lr: is inf, expected a number from 1e-12 to 10"),
        ("image_block=3", "image_block: is no field of a recipe; did you mean 'image_blocks'?"),
        ("weightdecay=3", "did you mean 'weight_decay'?"),
        ("lr", "--set: is 'lr', expected NAME=VALUE, such as lr=1e-6"),
        ("lr=fast", "lr: is 'fast', expected a number"),
        ("lr=-1e-6", "lr: is -1e-06, expected a number from 1e-12 to 10"),
        ("lr=nan", "lr: is nan, expected a number"),
        ("lr=true", "lr: is True, expected a number"),
        ("steps=1.5", "steps: is 1.5, expected a whole number"),
        ("steps=none", "steps: is 'none', expected a whole number"),
        ("steps=0", "steps: is 0, expected a number from 1"),
        ("loss=hinge", "loss: is 'hinge', expected one of pair, soft-pair,"),
        ("precision=fp8", "precision: is 'fp8', expected one of fp32, bf16, fp16"),
        ("image_blocks=-1", "image_blocks: is -1, expected a number from 0"),
        ("image_blocks=most", "image_blocks: is 'most', expected a whole number or all"),
        ("clip=loose", "clip: is 'loose', expected a number or none"),
        ("ema=1", "ema: is 1.0, expected a number between 0 and 1"),
        ("tie_share=0", "tie_share: is 0.0, expected a number between 0 and 1"),
        ("betas=0.9", "betas: is 0.9, expected 2 numbers, such as [0.9, 0.98]"),
        ("betas=[0.9, 1]", "betas: is [0.9, 1.0], expected two numbers of at least 0 and below 1"),
        ("warmup=201", "warmup: is 201, expected at most steps, 200"),
        ("accumulate=3", "accumulate: is 3, expected a divisor of batch, 64"),
        ("architecture=", "architecture: is '', expected a name"),
        ("weights=", "weights: is '', expected a name"),
        ("gradient_checkpointing=1", "gradient_checkpointing: is 1, expected true or false"),
        ("seed=0x\n[a]", "seed: is '0x\\n[a]', expected a whole number"),
    ],
)
def test_errors_name_field_value_and_cure(setting: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        tiny().with_settings([setting])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert str(caught.value).startswith("--set: ")


@given(
    st.sampled_from(
        [*(field.name for field in dataclasses.fields(Recipe)), *(f.name for f in dataclasses.fields(MiniRecipe))]
    )
    | st.text(max_size=5),
    st.sampled_from(["", "=", " = "]),
    st.text(max_size=20)
    | st.floats().map(repr)
    | st.integers().map(hex)
    | st.sampled_from(
        ["1979-05-27", "{a=1}", "[[1]]", "[1, 'a']", "1\nb=2", '"""a', "true", "none", '"none"', "[]", "\0"]
    ),
)
def test_any_text_is_a_recipe_or_an_error(name: str, equals: str, value: str) -> None:
    """On one line; and a recipe that it gives can be written and read again."""
    for base in (tiny(), mini()):
        try:
            changed = base.with_settings([f"{name}{equals}{value}"])
        except InputError as error:
            found = str(error)
        else:
            read = type(base).from_dict(tomllib.loads(changed.to_toml()), "x.toml")
            found = "--set: " if read == changed else "it was not the same when it was read again"
        assert found.startswith("--set: ")
        assert "\n" not in found


def test_a_setting_that_is_there_twice_is_refused() -> None:
    with pytest.raises(InputError, match="--set: lr is there twice; leave one out"):
        tiny().with_settings(["lr=1e-5", "steps=300", "lr = 1e-6"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("lr : 3", r"x\.toml: is not TOML"),
        ("lr = '3'", r"x\.toml: lr: is '3', expected a number"),
        ("lr = " + 5000 * "9", r"x\.toml: is not TOML"),
        ("lr = " + 5000 * "[", r"x\.toml: is not TOML"),
        ('weights = "a\\u0000"', r"x\.toml: weights: is 'a\\x00', expected a name"),
        (
            "[optimiser]\nlr = 3",
            r"x\.toml: 'optimiser' is a table, and a recipe has none; write all fields without a heading",
        ),
        ("weights = ''", r"x\.toml: weights: is '', expected a name"),
    ],
)
def test_errors_name_the_file(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_recipe(path)


def test_errors_of_names() -> None:
    with pytest.raises(
        InputError, match=r"tinny.*expected one of hpsv2, tiny, mini or a file \.toml; did you mean 'tiny'"
    ):
        read_recipe("tinny")
    with pytest.raises(InputError, match=r"gone\.toml: cannot be read"):
        read_recipe("gone.toml")
    with pytest.raises(InputError, match=r"mini is a linear fit, which .* alone makes; expected one of hpsv2, tiny or"):
        read_recipe("mini")
    assert not {*LINEAR_RECIPES} & {*RECIPES}


@pytest.mark.parametrize("values", [{"lr": None}, {"weights": "none"}, {"betas": [0.9, 0.98]}, {"batch": True}])
def test_python_callers_are_told_too(values: dict[str, Any]) -> None:
    (name,) = values
    with pytest.raises(InputError, match=f"^{name}: is "):
        Recipe(**values)


def test_the_file_of_the_docs_is_a_recipe() -> None:
    text = (Path(__file__).parents[2] / "docs/training.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```toml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert Recipe.from_dict(tomllib.loads(example), "docs").loss == "plackett-luce"


@pytest.mark.parametrize("name", [*RECIPES, *LINEAR_RECIPES])
def test_a_recipe_can_be_shown_as_a_file(name: str, cli: Cli) -> None:
    shown = cli("train", "--show-recipe", name)
    assert (shown.returncode, shown.stderr) == (0, "")
    expected = {**RECIPES, **LINEAR_RECIPES}[name]()
    assert type(expected).from_dict(tomllib.loads(shown.stdout), name) == expected


def test_named_recipes_need_no_torch() -> None:
    code = (
        "import sys\nfrom hpskit.training.recipes import mini\nassert mini().folds == 10 and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
