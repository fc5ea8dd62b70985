"""Records go to JSON and back, and identities tell scorers apart."""

from __future__ import annotations

import json

import pytest

from error_fields import at
from hpskit.errors import RecordError
from hpskit.records import Pair, Ranking, ScorerInfo, parse_row

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


def test_the_information_on_a_scorer_comes_back() -> None:
    value = json.loads(json.dumps(INFO.to_json()))
    assert value["identity"] == INFO.identity
    assert ScorerInfo.from_json(value, "here") == INFO


@pytest.mark.parametrize("name", sorted(ScorerInfo.model_fields))
def test_whatever_changes_a_score_changes_the_identity(name: str) -> None:
    changed = INFO.model_copy(update={name: "sha256:" + "cd" * 32 if name == "weight_hash" else "other"})
    assert (changed.identity != INFO.identity) is (name not in ("scale", "licence"))
    with pytest.raises(RecordError, check=at(f"there: {name}", found="is None")):
        ScorerInfo.from_json({**INFO.to_json(), name: None}, "there")


def test_a_local_checkpoint_may_be_renamed() -> None:
    local = INFO.model_copy(update={"name": "first", "version": "local"})
    assert local.model_copy(update={"name": "second"}).identity == local.identity


RANKINGS = [
    Ranking(group=3, prompt="a cat", images=("a", "b"), ranks=None),
    Ranking(group="g", prompt="a cat", images=("a", "b"), ranks=(2, 2), published=True),
    Ranking(
        group="g",
        prompt="a cat",
        images=("a", "b", "c"),
        ranks=(2, None, 1),
        annotator="u",
        votes=3,
        sources=("x", "y", "z"),
        category="photo",
        meta={"seed": [1, None]},
    ),
]


@pytest.mark.parametrize("ranking", RANKINGS)
def test_rankings_come_back(ranking: Ranking) -> None:
    value = json.loads(json.dumps(ranking.to_json()))
    assert parse_row(Ranking, value, "here") == ranking


def test_a_ranking_says_only_what_is_not_usual() -> None:
    assert set(RANKINGS[0].to_json()) == {"group", "prompt", "images", "ranks"}


@pytest.mark.parametrize("votes", [1, 2, 3, 7, 49])
def test_pairs_come_back(votes: int) -> None:
    for halves in range(2 * votes + 1):
        pair = Pair(prompt="a cat", first="a", second="b", first_share=halves / (2 * votes), votes=votes)
        assert parse_row(Pair, json.loads(json.dumps(pair.to_json())), "here") == pair
