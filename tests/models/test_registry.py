"""The registry: every entry complete, and a misspelt name answered with the nearest."""

from __future__ import annotations

import re

import pytest

from hpskit.errors import UnknownModelError
from hpskit.models.registry import DEFAULT_MODEL, MODELS, Model, find


@pytest.mark.parametrize("model", MODELS.values(), ids=str)
def test_every_entry_is_complete(model: Model) -> None:
    assert MODELS[model.name] is model is find(model.name)
    assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*", model.name), "a name is typed in a shell and is part of a file's name"
    assert re.fullmatch(r"\d+\.\d+|laion2b_s32b_b79k", model.version), "a number, or open_clip's name of the weights"
    assert model.licence
    assert model.summary
    assert model.file
    assert "\n" not in model.summary
    assert bool(model.repository) + bool(model.page) + bool(model.embedded) == 1
    assert all(re.fullmatch(r"[^/]+/[^/]+", source.repository) and source.file for source in model.sources)


ON_OPEN_CLIP = [model for model in MODELS.values() if model.kind in ("hps", "clip-score", "pickscore", "aesthetic")]


@pytest.mark.parametrize("model", ON_OPEN_CLIP, ids=lambda m: m.name)
def test_a_model_of_the_hub_says_where_it_is_and_how_large(model: Model) -> None:
    import open_clip
    import torch

    assert model.embedded is None
    assert model.architecture in open_clip.list_models()
    with torch.device("meta"):
        network = open_clip.create_model(model.architecture, load_weights=False, device="meta")
    parameters = sum(tensor.numel() for tensor in network.state_dict().values())
    assert model.size == pytest.approx(4 * parameters, rel=0.05) or model.size == pytest.approx(
        2 * parameters, rel=0.05
    )


def test_the_default_is_in_the_wheel_and_small() -> None:
    model = find(DEFAULT_MODEL)
    assert model.embedded is not None
    assert model.embedded.parent.name == "models"
    assert 0 < model.size <= 20_000_000
    if not model.embedded.is_file():
        pytest.skip("the embedded weights are not built yet")
    assert model.size / 4 < model.embedded.stat().st_size <= 20_000_000


@pytest.mark.parametrize(
    ("typed", "meant"), [("hps-v2,1", "hps-v2.1"), ("hpsv2.0", "hps-v2.0"), ("HPS-v2.1", "hps-v2.1"), ("mimi", "mini")]
)
def test_unknown_name_suggests_the_nearest(typed: str, meant: str) -> None:
    with pytest.raises(UnknownModelError) as error:
        find(typed)
    assert f"{typed!r} is neither a known name nor a file; did you mean {meant!r}?" in str(error.value)
    assert all(name in str(error.value) for name in MODELS)


def test_a_name_like_no_other_suggests_nothing() -> None:
    with pytest.raises(UnknownModelError) as error:
        find("qqqq")
    assert "did you mean" not in str(error.value)
    assert isinstance(error.value, LookupError)
