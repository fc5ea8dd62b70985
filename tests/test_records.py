"""What is known of a scorer goes to JSON and back, and identities tell scorers apart."""

from __future__ import annotations

import json

import pytest

from error_fields import at
from hpskit.errors import RecordError
from hpskit.records import ScorerInfo
from hpskit.schema import parse
from small_inputs import information

INFO = information("hps-v2.1", weight_hash="sha256:" + "ab" * 32)


def test_the_information_on_a_scorer_comes_back() -> None:
    value = json.loads(json.dumps(INFO.to_json()))
    assert value["identity"] == INFO.identity
    assert parse(ScorerInfo, value, "here") == INFO


@pytest.mark.parametrize("name", sorted(ScorerInfo.model_fields))
def test_whatever_changes_a_score_changes_the_identity(name: str) -> None:
    changed = INFO.model_copy(update={name: "sha256:" + "cd" * 32 if name == "weight_hash" else "other"})
    assert (changed.identity != INFO.identity) is (name not in ("scale", "licence"))
    with pytest.raises(RecordError, check=at(f"there: {name}", found="is None")):
        parse(ScorerInfo, {**INFO.to_json(), name: None}, "there", error=RecordError)


def test_a_local_checkpoint_may_be_renamed() -> None:
    local = INFO.model_copy(update={"name": "first", "version": "local"})
    assert local.model_copy(update={"name": "second"}).identity == local.identity
