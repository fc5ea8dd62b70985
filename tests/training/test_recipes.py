"""Recipes: the published numbers, the way through TOML and back, and errors that name field, value and cure."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Cli
from error_fields import at
from hpskit.errors import InputError
from hpskit.schema import parse
from hpskit.training.recipes import RECIPES, Loss, Recipe, hpsv2, read_recipe, tiny

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
    assert recipe == Recipe(loss_scale=16), "a file that leaves something out means what HPS v2 did"


@given(recipes)
def test_there_and_back_through_toml_and_json(recipe: Recipe) -> None:
    values = tomllib.loads(recipe.to_toml())
    assert list(values) == list(Recipe.model_fields)
    assert parse(Recipe, values, "x.toml") == recipe
    assert parse(Recipe, json.loads(json.dumps(recipe.model_dump(mode="json"))), "x.json") == recipe
    assert recipe.with_settings([]) == recipe


def test_a_file_may_say_little(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('lr = 1e-5\nclip = 1  # a whole number\nweights = "none"\nbetas = [0, 0.5]\n')
    found = read_recipe(path)
    assert found == Recipe(lr=1e-5, clip=1.0, weights=None, betas=(0.0, 0.5))
    assert isinstance(found.clip, float)


@pytest.mark.parametrize(
    ("setting", "place", "found"),
    [
        ("xyz=1", "xyz", "is no field"),
        ("image_block=1", "image_block", "is no field"),
        ("=3", "--set", "'=3'"),
        ("lr", "--set", "'lr'"),
        ("a\nb=3", "a\nb", "is no field"),
        ("weights=a\nb", "weights", "'a\\nb'"),
        ("weights=a\udcffb", "weights", "'a\\udcffb'"),
        ("architecture=", "architecture", "''"),
        ("lr=0x" + 5000 * "f", "lr", "too long to be shown"),
        ("steps=" + 400 * "9", "steps", "9999"),
        ("lr=inf", "lr", "inf"),
        ("lr=fast", "lr", "'fast'"),
        ("lr=-1e-6", "lr", "-1e-06"),
        ("lr=true", "lr", "True"),
        ("steps=1.5", "steps", "1.5"),
        ("steps=none", "steps", "'none'"),
        ("loss=hinge", "loss", "'hinge'"),
        ("image_blocks=most", "image_blocks", "'most'"),
        ("ema=1", "ema", "1"),
        ("betas=0.9", "betas", "0.9"),
        ("betas=[0.9, 1]", "betas[1]", "1"),
        ("warmup=201", "warmup", "201"),
        ("accumulate=3", "accumulate", "3"),
        ("keep_every=75", "keep_every", "75"),
        ("gradient_checkpointing=1", "gradient_checkpointing", "1"),
        ("seed=0x\n[a]", "seed", "'0x\\n[a]'"),
    ],
)
def test_errors_name_field_and_value(setting: str, place: str, found: str) -> None:
    with pytest.raises(InputError, check=at(place, found=found)) as caught:
        tiny().with_settings([setting])
    text = str(caught.value)
    assert text.startswith("--set")
    assert "\n" not in text
    assert len(text) < 600


@given(
    st.sampled_from([*Recipe.model_fields]) | st.text(max_size=5),
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
    try:
        changed = tiny().with_settings([f"{name}{equals}{value}"])
    except InputError as error:
        said = str(error)
    else:
        assert parse(Recipe, tomllib.loads(changed.to_toml()), "x.toml") == changed
        said = ""
    assert "\n" not in said


def test_a_setting_that_is_there_twice_is_refused() -> None:
    with pytest.raises(InputError, check=at("--set: lr", found="twice")):
        tiny().with_settings(["lr=1e-5", "steps=300", "lr = 1e-6"])


@pytest.mark.parametrize(
    ("content", "field", "found"),
    [
        ("lr : 3", "", "is not TOML"),
        ("lr = '3'", ": lr", "'3'"),
        ("lr = " + 5000 * "9", "", "is not TOML"),
        ("lr = " + 5000 * "[", "", "is not TOML"),
        ('weights = "a\\u0000"', ": weights", "'a\\x00'"),
        ("[optimiser]\nlr = 3", ": optimiser", "is no field"),
        ("weights = ''", ": weights", "''"),
        (None, "", "cannot be read"),
    ],
)
def test_errors_name_the_file(tmp_path: Path, content: str | None, field: str, found: str) -> None:
    path = tmp_path / "x.toml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, check=at(f"{path}{field}", found=found)):
        read_recipe(path)


def test_errors_of_names() -> None:
    with pytest.raises(InputError, check=at("--recipe", found="'tinny'", expected="hpsv2, tiny", cure="'tiny'")):
        read_recipe("tinny")
    with pytest.raises(InputError, check=at("--recipe", found="'mini'", cure="a linear fit")):
        read_recipe("mini")


def test_the_file_of_the_docs_is_a_recipe() -> None:
    text = (Path(__file__).parents[2] / "docs/training.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```toml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert parse(Recipe, tomllib.loads(example), "docs").loss == "plackett-luce"


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_can_be_shown_as_a_file(name: str, cli: Cli) -> None:
    shown = cli("train", "--show-recipe", name)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert parse(Recipe, tomllib.loads(shown.stdout), name) == RECIPES[name]() == read_recipe(name)
