"""Images from a server that speaks OpenAI's API: what it answers, how it fails, and what is never sent or shown."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest

from error_fields import at
from hpskit.errors import InputError
from hpskit.images.contract import Generator, Outcome
from hpskit.images.openai_api import OpenAI, Settings
from hpskit.images.plan import load_generator
from hpskit.schema import parse
from images_server import Answer, ImagesServer, failure, image, png, serve_images

KEY = "a-key-of-no-known-form-17"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ImagesServer]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serve_images() as state:
        yield state


def made(server: ImagesServer, **settings: Any) -> OpenAI:
    table = {"kind": "openai", "name": "remote", "model": "gpt-image-2", "base_url": server.url, "longest_wait": 0.01}
    generator = load_generator(parse(Settings, table | settings, "generators.toml: generator 1"))
    assert isinstance(generator, OpenAI)
    return generator


def one(generator: Generator) -> Outcome:
    (outcome,) = generator.generate(["a cat"], [7])
    assert isinstance(outcome, Outcome)
    return outcome


# What is asked, and what is kept


def test_an_image_and_its_facts(server: ImagesServer) -> None:
    status, _, body = image(revised_prompt="a grey cat")
    server.says((status, {"x-request-id": "r1"}, body | {"usage": {"output_tokens": 9}, "size": "32x24"}))
    generator = made(server, options={"size": "32x24", "quality": "low"})
    assert isinstance(generator, Generator)
    outcome = one(generator)
    assert outcome.image == png()
    assert outcome.facts == {
        "attempts": 1,
        "usage": {"output_tokens": 9},
        "size": "32x24",
        "revised_prompt": "a grey cat",
        "request": "r1",
    }
    (request,) = server.requests
    expected = {"prompt": "a cat", "model": "gpt-image-2", "size": "32x24", "quality": "low"}
    assert request == {**expected, "path": "/v1/images/generations", "key": f"Bearer {KEY}"}


def test_nothing_is_sent_that_is_not_set(server: ImagesServer) -> None:
    one(made(server))
    assert set(server.requests[0]) == {"prompt", "model", "path", "key"}


def test_info(server: ImagesServer) -> None:
    info = made(server, options={"size": "1024x1024"}).info
    assert info.name == "gpt-image-2"
    assert info.settings["base_url"] == server.url
    assert info.settings["options"] == {"size": "1024x1024"}
    assert "no" in info.settings["seed"]
    assert made(server, tries=2, timeout=3.0).info == made(server).info
    assert KEY not in json.dumps(info.to_json())


def test_requests_under_way_are_bounded(server: ImagesServer) -> None:
    server.delay = 0.05
    outcomes = made(server, batch=3).generate([f"cat {n}" for n in range(9)], range(9))
    assert all(outcome.image for outcome in outcomes)
    assert 2 <= server.busiest <= 3


def test_outcomes_stand_in_the_order_of_the_prompts(server: ImagesServer) -> None:
    server.says(failure(400, "moderation_blocked"), to="cat 1")
    outcomes = made(server).generate([f"cat {n}" for n in range(4)], range(4))
    assert [outcome.reason for outcome in outcomes] == ["", "moderation", "", ""]


def test_another_variable_or_no_key(server: ImagesServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER", "second-key\n")
    one(made(server, key_variable="OTHER"))
    assert server.requests[0]["key"] == "Bearer second-key"
    monkeypatch.delenv("OPENAI_API_KEY")
    assert one(made(server, key_variable="")).image
    for value in (None, " ", "schlüssel"):
        if value:
            monkeypatch.setenv("OPENAI_API_KEY", value)
        with pytest.raises(InputError, check=at("generator remote: key_variable", found="OPENAI_API_KEY")) as caught:
            made(server)
        assert "schl" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"base_url": "ftp://host/v1"}, "base_url"),
        ({"base_url": "http://user:secret@host/v1"}, "base_url"),
        ({"base_url": "http://host/v1?key=secret"}, "base_url"),
        ({"base_url": "http:///v1"}, "base_url"),
        ({"base_url": "http://[half/v1"}, "base_url"),
        ({"base_url": "http://host:port/v1"}, "base_url"),
        ({"base_url": "http://host:65536/v1"}, "base_url"),
        ({"base_url": "http://a..b/v1"}, "base_url"),
        ({"base_url": "http://" + "a" * 64 + "/v1"}, "base_url"),
        ({"base_url": "http://\u2488com/v1"}, "base_url"),
        ({"timeout": 1e300}, "timeout"),
        ({"longest_wait": 1e300}, "longest_wait"),
        ({"options": {"seed": float("nan")}}, "options"),
        ({"options": {"day": date(2020, 1, 1)}}, "options"),
        ({"options": {"response_format": "b64_json"}}, "options"),
        ({"options": {"n": 4}}, "options"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, Any], place: str, server: ImagesServer) -> None:
    with pytest.raises(InputError, check=at(place)) as caught:
        made(server, **settings)
    assert "secret" not in str(caught.value)


def test_addresses_that_fit(server: ImagesServer) -> None:
    for url in ("http://[::1]:8080/v1", "https://gateway.example/openai/v1/", "http://localhost:8000"):
        assert made(server, base_url=url).info.settings["base_url"] == url


def test_the_model_is_mandatory() -> None:
    with pytest.raises(InputError, check=at("model", found="is missing")):
        parse(Settings, {"kind": "openai", "name": "remote"}, "generator 1")


# Addresses instead of images


def test_an_image_at_the_server_itself(server: ImagesServer) -> None:
    host = server.url.removesuffix("/v1")
    for number, address in enumerate((f"{host}/made/1.png", "/made/1.png")):
        server.files["/made/1.png"] = (200, {"Content-Type": "image/png"}, png())
        server.says((200, {}, {"data": [{"url": address}]}))
        assert one(made(server)).image == png()
        assert server.requests[2 * number + 1] == {"path": "/made/1.png", "key": None}


def test_an_image_elsewhere_is_not_fetched(server: ImagesServer) -> None:
    with serve_images() as other:
        other.files["/1.png"] = (200, {}, png())
        elsewhere = other.url.removesuffix("v1") + "1.png"
        addresses = [
            elsewhere,
            elsewhere.replace("127.0.0.1", "localhost"),
            elsewhere.replace("http://", "http://x@"),
            "http://169.254.169.254/latest",
            "http://10.0.0.1/1.png",
            "//10.0.0.1/1.png",
            "http://[::1]/1.png",
            "file:///etc/passwd",
            "data:image/png;base64,AAAA",
            "http://[",
            "",
        ]
        for address in addresses:
            server.says((200, {}, {"data": [{"url": address}]}))
            outcome = one(made(server))
            assert (outcome.reason, outcome.image) == ("no-image", None), address
        assert other.requests == []
        server.says((200, {}, {"data": [{"url": elsewhere}]}))
        assert one(made(server, image_hosts=["127.0.0.1"])).image == png()
        host = server.url.removesuffix("/v1")
        server.files["/away"] = (302, {"Location": elsewhere}, b"")
        server.says((200, {}, {"data": [{"url": f"{host}/away"}]}))
        assert one(made(server)).reason == "no-image"
        assert len(other.requests) == 1


# Failures


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((200, {}, {"created": 1, "data": []}), "empty"),
        ((200, {}, {"created": 1}), "empty"),
        ((200, {}, {"data": [None]}), "empty"),
        ((200, {}, ["data"]), "empty"),
        ((200, {"Content-Type": "text/html"}, b"<html>Please log in</html>"), "empty"),
        ((200, {}, b'{"data": [{"b64_'), "empty"),
        ((200, {}, {"data": [{}]}), "no-image"),
        ((200, {}, {"data": [{"b64_json": "no base64"}]}), "no-image"),
        ((200, {}, {"data": [{"b64_json": 5}]}), "no-image"),
        ((200, {}, {"data": [{"b64_json": "aGVsbG8="}]}), "no-image"),
        ((200, {}, {"data": [{"url": "/gone.png"}]}), "no-image"),
    ],
)
def test_an_answer_without_an_image(answer: Any, reason: str, server: ImagesServer) -> None:
    server.says(answer)
    outcome = one(made(server))
    assert (outcome.reason, outcome.image, outcome.final) == (reason, None, False)
    assert outcome.facts["attempts"] == 1


@pytest.mark.parametrize("code", ["moderation_blocked", "content_policy_violation"])
def test_moderation_is_final(code: str, server: ImagesServer) -> None:
    server.says(failure(400, code, "Your request was rejected by the safety system"))
    outcome = one(made(server))
    assert (outcome.reason, outcome.final) == ("moderation", True)
    assert "safety system" in outcome.said
    assert server.asked() == 1


def test_a_request_that_is_refused_is_final(server: ImagesServer) -> None:
    server.says(failure(400, "string_above_max_length", "prompt too long"))
    outcome = one(made(server))
    assert (outcome.reason, outcome.said, outcome.final) == ("rejected", "prompt too long", True)


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (failure(401, "invalid_api_key", f"Incorrect API key provided: {KEY}"), "401: Incorrect API key"),
        (failure(403, "", "no access"), "403: no access"),
        (failure(404, "model_not_found", "no such model"), "no such model"),
        (failure(429, "insufficient_quota", "You exceeded your current quota"), "quota"),
        (failure(400, "billing_hard_limit_reached", "Billing hard limit"), "Billing"),
        ((404, {}, b"<html>nothing here</html>"), "404"),
    ],
)
def test_what_stops_the_run(answer: Any, found: str, server: ImagesServer, caplog: pytest.LogCaptureFixture) -> None:
    server.says(answer)
    generator = made(server)
    with caplog.at_level(logging.DEBUG), pytest.raises(InputError, check=at(server.url, found=found)) as caught:
        one(generator)
    assert KEY not in f"{caught.value!r} {caught.value} {caplog.text}"
    assert server.asked() == 1
    with pytest.raises(InputError, check=at(server.url, found=found)):
        one(generator)
    assert server.asked() == 1


def test_images_that_came_before_the_stop_are_kept(server: ImagesServer) -> None:
    server.says(failure(429, "insufficient_quota"), to="cat 1")
    generator = made(server, batch=1)
    outcomes = generator.generate(["cat 0", "cat 1", "cat 2"], [0, 1, 2])
    assert [outcome.reason for outcome in outcomes] == ["", "stopped", "stopped"]
    assert not any(outcome.final for outcome in outcomes)
    assert server.asked("cat 2") == 0
    with pytest.raises(InputError):
        one(generator)


@pytest.mark.parametrize("answer", [failure(429, "rate_limit_exceeded"), failure(500), failure(503, Retry_After="0")])
def test_a_busy_server_is_waited_for(answer: Any, server: ImagesServer) -> None:
    server.says(answer, answer, image())
    outcome = one(made(server))
    assert outcome.image == png()
    assert outcome.facts["attempts"] == 3


@pytest.mark.parametrize(("answer", "reason"), [(failure(429, Retry_After="3600"), "busy"), (failure(502), "server")])
def test_but_not_for_ever(answer: Any, reason: str, server: ImagesServer) -> None:
    server.says(answer)
    began = time.monotonic()
    outcome = one(made(server, tries=3))
    assert time.monotonic() - began < 2
    assert (outcome.reason, outcome.final, outcome.facts["attempts"]) == (reason, False, 3)
    assert server.asked() == 3


def test_the_server_says_how_long(server: ImagesServer) -> None:
    server.says(failure(429, Retry_After="0.4"), image())
    began = time.monotonic()
    assert one(made(server, longest_wait=5.0)).image
    assert 0.4 <= time.monotonic() - began < 2


def test_a_timeout_is_not_asked_again(server: ImagesServer) -> None:
    server.delay = 1.0
    outcome = one(made(server, timeout=0.2))
    assert (outcome.reason, outcome.final) == ("timeout", False)
    assert server.asked() == 1


def test_no_server() -> None:
    with serve_images() as gone:
        pass
    with pytest.raises(InputError, check=at(gone.url, found="cannot be reached", cure="start the server")):
        one(made(gone, key_variable="", tries=2))


def test_a_wait_ends_when_another_request_stops_the_run(server: ImagesServer) -> None:
    server.says(failure(429, Retry_After="60"), to="cat 0")
    server.says(failure(503, Retry_After="0.2"), failure(401), to="cat 1")
    began = time.monotonic()
    with pytest.raises(InputError):
        made(server, longest_wait=60.0).generate(["cat 0", "cat 1"], [0, 1])
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((400, {}, {"error": {"message": "no", "code": [], "type": {}}}), "rejected"),
        ((200, {}, b"[" * 200_000), "empty"),
        (
            (429, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 +999999999999999999999"}, {"error": {"message": "x"}}),
            "busy",
        ),
    ],
)
def test_answers_of_servers_that_know_no_manners(server: ImagesServer, answer: Answer, reason: str) -> None:
    server.says(answer)
    assert one(made(server, tries=2)).reason == reason


@pytest.mark.parametrize(
    "told",
    [{"revised_prompt": "half a pair: \ud800"}, {"revised_prompt": f"your key is {KEY}"}, {"size": float("nan")}],
)
def test_facts_can_be_written_and_have_no_key(server: ImagesServer, told: dict[str, Any]) -> None:
    """Otherwise an image that was paid for would be lost, or no run could end any more."""
    status, headers, body = image(**told)
    server.says((status, headers, json.dumps(body | told).encode()))
    outcome = one(made(server))
    assert outcome.image == png()
    text = json.dumps(dict(outcome.facts), ensure_ascii=False, allow_nan=False)
    assert KEY.encode() not in text.encode()
