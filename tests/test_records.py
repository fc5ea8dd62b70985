"""Records go to JSON and back, and identities tell scorers apart."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

from hpskit.errors import RecordError
from hpskit.records import ScorerInfo

INFO = ScorerInfo(
    name="hps-v2.1",
    version="2.1",
    architecture="ViT-H-14",
    weight_hash="sha256:" + "ab" * 32,
    preprocessing="letterbox-224-bicubic-antialias",
    precision="bf16",
    scale="100 x cosine",
    licence="Apache-2.0",
    package="hpskit 0.1.0",
)


def test_round_trip() -> None:
    value = json.loads(json.dumps(INFO.to_json()))
    assert value["identity"] == INFO.identity
    assert ScorerInfo.from_json(value, "here") == INFO


@pytest.mark.parametrize("name", ["name", "version", "weight_hash", "preprocessing", "precision", "package"])
def test_whatever_changes_a_score_changes_the_identity(name: str) -> None:
    changed = "sha256:" + "cd" * 32 if name == "weight_hash" else "other"
    assert replace(INFO, **{name: changed}).identity != INFO.identity


@pytest.mark.parametrize("name", [field.name for field in fields(ScorerInfo)])
def test_a_missing_field_is_named(name: str) -> None:
    value = {**INFO.to_json(), name: None}
    with pytest.raises(RecordError, match=f"there: field '{name}' is None"):
        ScorerInfo.from_json(value, "there")
