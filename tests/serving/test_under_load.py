"""Short forms of benchmarks/serving_load.py: bits, ends and attacks on a server in a process of its own."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from pathlib import Path

import pytest
import schemathesis
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

import serving_load
from hpskit.scoring.scorer import load_scorer
from scoring_server import served

CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.mark.parametrize("network", ["mini", "tiny"])
def test_scores_never_move(network: str, tmp_path: Path) -> None:
    model, architecture = (
        ("mini", None) if network == "mini" else (str(serving_load.stand_in(tmp_path)), serving_load.TINY)
    )
    tally = serving_load.bits(model, architecture, scores=600, clients=16)
    assert tally.images >= 600
    assert tally.wrong == 0


@pytest.mark.slow
@pytest.mark.parametrize("network", ["mini", "tiny"])
def test_a_hundred_thousand_scores_never_move(network: str, tmp_path: Path) -> None:
    model, architecture = (
        ("mini", None) if network == "mini" else (str(serving_load.stand_in(tmp_path)), serving_load.TINY)
    )
    tally = serving_load.bits(model, architecture, scores=100_000)
    assert (tally.wrong, tally.images >= 100_000) == (0, True)


def check_ends(seen: Counter[str]) -> None:
    assert seen["200"]
    assert seen["TERM: exit status 0"]
    exits = r"TERM: exit status 0|KILL: exit status -9"
    ends = r"(TERM|KILL): (refused connection|broken .(ConnectionReset|BrokenPipe)Error.)"
    check_only(rf"200|503|{exits}|{ends}", seen)


def check_only(good: str, seen: Counter[str]) -> None:
    assert {what: count for what, count in seen.items() if count and not re.fullmatch(good, what)} == {}


def test_ends_lose_no_answer() -> None:
    check_ends(serving_load.ends(2, clients=8))


@pytest.mark.slow
def test_many_ends_lose_no_answer() -> None:
    check_ends(serving_load.ends(100))


def check_attacked(seen: Counter[str]) -> None:
    assert seen["200"]
    assert seen["400"]
    check_only("200|400|404|413|415|sent|growth", seen)


def test_damaged_requests_are_refused() -> None:
    check_attacked(serving_load.fuzz(1_600))


@pytest.mark.slow
def test_a_hundred_thousand_damaged_requests_cost_no_memory() -> None:
    statuses = serving_load.fuzz(100_000)
    check_attacked(statuses)
    assert statuses["growth"] < 50


def attack(examples: int) -> int:
    sent = 0
    with served(load=lambda _: load_scorer("random", batch_invariant=True)) as server:
        schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
        for found in schema.get_all_operations():
            operation = found.ok()
            for mode in GenerationMode:
                strategy = operation.as_strategy(generation_mode=mode)
                sent += send(strategy, examples)
    return sent


def send(strategy: object, examples: int) -> int:
    from hypothesis import HealthCheck, given, settings
    from hypothesis.errors import Unsatisfiable

    sent = 0

    @settings(max_examples=examples, suppress_health_check=list(HealthCheck), deadline=None)
    @given(case=strategy)  # type: ignore[arg-type]
    def one(case: schemathesis.Case) -> None:
        nonlocal sent
        sent += 1
        response = case.call_and_validate(checks=CHECKS)
        late = response.status_code == 504 and response.json()["error"]["place"] == "deadline"  # of 5e-324 s, say
        assert response.status_code < 500 or late

    with contextlib.suppress(Unsatisfiable):  # a route without parameters has nothing that could be wrong
        one()
    return sent


def test_what_the_schema_says_and_forbids() -> None:
    assert attack(25) > 50


@pytest.mark.slow
def test_what_the_schema_says_and_forbids_at_length() -> None:
    assert attack(1_000) > 3_000
