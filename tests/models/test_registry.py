"""The registry: every entry complete, and a misspelt name answered with the nearest."""

from __future__ import annotations

import re

import pytest

from error_fields import at
from hpskit.errors import UnknownModelError
from hpskit.models.network import Network
from hpskit.models.registry import MODELS, NETWORKS, Model, find, network_class


@pytest.mark.parametrize("model", MODELS.values(), ids=str)
def test_every_entry_is_complete(model: Model) -> None:
    assert MODELS[model.name] is model is find(model.name)
    assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*", model.name), "a name is typed in a shell and is part of a file's name"
    assert re.fullmatch(r"\d+\.\d+|laion2b_s32b_b79k", model.version), "a number, or open_clip's name of the weights"
    assert model.licence
    assert model.summary
    assert "\n" not in model.summary
    assert bool(model.sources) != bool(model.embedded)
    for source in model.sources:
        assert source.file
        assert source.page if source.repository is None else re.fullmatch(r"[^/]+/[^/]+", source.repository)


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_kind_has_a_network(kind: str) -> None:
    assert Network in network_class(kind).__mro__
    assert any(model.kind == kind for model in MODELS.values())


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


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("hps-v2,1", "'hps-v2.1'?"),
        ("hpsv2.0", "'hps-v2.0'?"),
        ("HPS-v2.1", "'hps-v2.1'?"),
        ("mimi", "'mini'?"),
        ("qqqq", ""),
    ],
)
def test_unknown_name_suggests_the_nearest(typed: str, meant: str) -> None:
    with pytest.raises(UnknownModelError, check=at("model", found=repr(typed), cure=meant)) as error:
        find(typed)
    assert all(name in error.value.cure for name in MODELS)
    assert ("did you mean" in error.value.cure) == bool(meant)
    assert isinstance(error.value, LookupError)
