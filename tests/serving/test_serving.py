"""The server over HTTP: scores, errors of single images, bounds, keys, models, figures."""

from __future__ import annotations

import base64
import itertools
import json
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import httpx
import pytest
import torch
from PIL import Image
from starlette.routing import Mount

from chat_server import says, serve
from conftest import Cli
from hpskit.errors import InputError
from hpskit.pixels import Encoded
from hpskit.scoring.scorer import NetworkScorer, PlainScorer, load_scorer
from hpskit.serving.app import create_app, hashed, new_key, read_keys
from hpskit.serving.batching import Limits
from hpskit.serving.client import content
from hpskit.serving.models import images_at_once, size_of
from hpskit.web import listen
from scoring_server import Gated, Served, gated, picture, served, until
from small_inputs import information


@pytest.fixture(scope="module")
def mini() -> Iterator[Served]:
    with served() as found:
        yield found


@pytest.fixture(scope="module")
def files(photograph_files: list[Path]) -> list[bytes]:
    return [path.read_bytes() for path in photograph_files]


# Scores


def test_scores_are_those_of_the_scorer_to_the_bit(
    mini: Served, files: list[bytes], photograph_files: list[Path]
) -> None:
    local = load_scorer("mini", batch_invariant=True)
    alone = [local.score([path], "a temple").item() for path in photograph_files]
    assert local.score(photograph_files, "a temple").tolist() == alone
    form = mini.score(*files, prompt="a temple")
    body = {"prompt": ["a temple", "a temple"], "images": [base64.b64encode(data).decode() for data in files]}
    for reply in (form, mini.http.post("/v1/score", json=body)):
        assert reply.status_code == 200
        assert [item["score"] for item in reply.json()["results"]] == alone
        assert reply.json()["identity"] == local.info.identity


def test_a_bad_image_is_answered_alone(mini: Served, files: list[bytes]) -> None:
    results = mini.score(files[0], b"<html>", files[1][:5000], b"", files[1]).json()["results"]
    assert [set(item) for item in results] == [{"score"}, {"error"}, {"error"}, {"error"}, {"score"}]
    assert [results[n]["error"]["place"] for n in (1, 2, 3)] == ["images[1]", "images[2]", "images[3]"]
    assert mini.score(files[0]).json()["results"] == results[:1]


def test_an_image_on_which_the_scorer_fails_spoils_no_other() -> None:
    made, load = gated(batch_size=8)
    with served(load=load) as server:
        results = server.score(picture(10), picture(0), picture(30)).json()["results"]
    assert [results[n].get("score") for n in range(3)] == [10, None, 30]
    assert "too dark" in results[1]["error"]["found"]
    assert set(made.steps) == {1}


def test_rank_and_compare_are_those_of_the_scorer(
    mini: Served, files: list[bytes], photograph_files: list[Path]
) -> None:
    local = load_scorer("mini", batch_invariant=True)
    expected = local.rank("a flower", photograph_files)
    said = mini.score(*files, path="/v1/rank", prompt="a flower").json()["ranking"]
    names = [str(photograph_files[line["index"]]) for line in said]
    assert names == [line.image for line in expected]
    assert [(line["rank"], line["score"], line["probability"]) for line in said] == [
        (line.rank, line.score, line.probability) for line in expected
    ]
    said = mini.score(*files, path="/v1/compare", prompt="a flower").json()
    assert said["win_probability"] == local.win_probability("a flower", *photograph_files)
    for broken in (mini.score(files[0], b"x", path="/v1/rank"), mini.score(files[0], path="/v1/compare")):
        assert broken.status_code == 400
        assert broken.json()["error"]["place"] in ("images[1]", "images")
    for path in ("/v1/rank", "/v1/compare"):
        wrong = mini.score(*files, path=path, prompt=["a flower", "a temple"]).json()["error"]
        assert (wrong["place"], wrong["found"]) == ("prompt", "has several texts")


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b"{", "body"),
        (b'{"prompt": "a"}', "body: images"),
        (b'{"prompt": "a", "images": []}', "body: images"),
        (b'{"prompt": " ", "images": ["aaaa"]}', "prompt[0]"),
        (b'{"prompt": "\\ud800", "images": ["aaaa"]}', "body: prompt"),
        (b'{"prompt": ["a", "b"], "images": ["aaaa"]}', "prompt"),
        (b'{"prompt": "a", "images": ["aaaa"], "imgs": 1}', "body: imgs"),
        (b'{"prompt": "a", "images": ["aaaa"], "deadline": 0}', "body: deadline"),
        (b'{"prompt": "a", "images": ["http://127.0.0.1/a.png"]}', "images"),
        (b"[" * 100_000, "body"),
    ],
)
def test_what_is_not_as_described_is_refused(mini: Served, body: bytes, place: str) -> None:
    reply = mini.http.post("/v1/score", content=body, headers={"Content-Type": "application/json"})
    assert (reply.status_code, reply.json()["error"]["place"]) == (400, place)


def test_other_refusals(mini: Served) -> None:
    wrong = mini.score(picture(), model="minni")
    assert (wrong.status_code, wrong.json()["error"]["cure"]) == (404, "did you mean 'mini'?")
    text = {"Content-Type": "text/plain"}
    assert mini.http.post("/v1/score", content=b"x", headers=text).status_code == 415
    assert mini.http.post("/v1/score", content=iter([b"x"]), headers=text).status_code == 411
    assert mini.score(picture(), deadline="soon").json()["error"]["place"] == "deadline"
    other = {"Sec-Fetch-Site": "cross-site"}
    assert mini.http.post("/v1/score", content=b"x", headers=text | other).status_code == 403
    assert mini.http.post("/v1/score", files={"image": b"x"}).status_code == 400


# Bounds


def test_a_full_queue_is_429_and_says_when_to_come_again() -> None:
    made, load = gated()
    with served(load=load, limits=Limits(images=4)) as server, ThreadPoolExecutor() as pool:
        made.open.clear()
        waiting = pool.submit(server.score, *[picture()] * 4)
        until(lambda: server.server.scoring.at_work[0] == 4)
        reply = server.score(picture())
        assert reply.status_code == 429
        assert int(reply.headers["Retry-After"]) >= 1
        assert 0 < reply.json()["retry_after"] <= int(reply.headers["Retry-After"])
        assert server.score(*[picture()] * 5).status_code == 413
        made.open.set()
        assert len(waiting.result().json()["results"]) == 4
        assert server.score(picture()).status_code == 200


def test_pixels_requests_and_bytes_are_bounded_too() -> None:
    made, load = gated()
    limits = Limits(requests=2, pixels=100 * 100, body=100_000, bodies=150_000)
    with served(load=load, limits=limits) as server, ThreadPoolExecutor() as pool:
        assert server.score(picture(size=(101, 100))).status_code == 413
        assert server.score(b"x" * 100_000).status_code == 413
        made.open.clear()
        first = pool.submit(server.score, picture(size=(80, 100)))
        until(lambda: server.server.scoring.at_work[1] == 8_000)
        assert server.score(picture(size=(80, 100))).status_code == 429
        second = pool.submit(server.score, picture())
        until(lambda: server.server.requests == 2)
        assert server.score(picture()).status_code == 429
        made.open.set()
        assert [one.result().status_code for one in (first, second)] == [200, 200]
        assert server.server.scoring.at_work == (0, 0)


def test_what_cannot_be_done_in_time_is_refused_and_what_is_late_is_told() -> None:
    made, load = gated()
    with served(load=load) as server, ThreadPoolExecutor() as pool:
        server.server.scoring._seconds["gated"] = 1.0
        assert server.score(picture(), picture(), deadline="0.5").status_code == 429
        server.server.scoring._seconds["gated"] = 0.0
        made.open.clear()
        first = pool.submit(server.score, picture())
        until(lambda: server.server.scoring.at_work[0] == 1)
        late = pool.submit(server.score, picture(), deadline="0.05")
        time.sleep(0.2)
        made.open.set()
        assert first.result().status_code == 200
        assert late.result().status_code == 504


def test_a_deadline_counts_from_the_head_of_the_request() -> None:
    """Whoever waits has waited for the body, too."""
    made, load = gated()
    with served(load=load) as server:
        made.steps.clear()
        host, port = server.url.removeprefix("http://").split(":")
        for wait, deadline, status in ((1.2, 1.0, 504), (0.1, 30, 200)):
            body = json.dumps({"prompt": "a", "images": [base64.b64encode(picture()).decode()], "deadline": deadline})
            head = f"POST /v1/score HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n"
            with socket.create_connection((host, int(port)), timeout=10) as made_by_hand:
                made_by_hand.sendall(f"{head}Content-Type: application/json\r\n\r\n{body[:40]}".encode())
                time.sleep(wait)
                made_by_hand.sendall(body[40:].encode())
                assert int(made_by_hand.recv(1000).split()[1]) == status
    assert made.steps == [1]


# The estimate of the wait


def test_a_step_of_one_shape_takes_as_long_with_one_image_as_with_all() -> None:
    """So the wait is a number of steps, whoever asked for how many images; times are known here."""
    _, load = gated(batch_size=16)
    with served(load=load) as server:
        scoring, facts = server.server.scoring, server.server.models.facts
        for at_once, expected in (
            (16, {0: 0, 1: 0.5, 16: 0.5, 17: 1, 160: 5}),
            (2, {0: 0, 1: 0.5, 16: 4, 17: 4.5, 160: 40}),
            (1, {0: 0, 1: 0.5, 16: 8, 17: 8.5, 160: 80}),
        ):
            facts["gated"] = replace(facts["gated"], at_once=at_once)
            scoring._seconds["gated"] = 0.5
            for count, wait in expected.items():
                scoring._held["gated"] = count
                assert scoring.wait == wait
        scoring._held.clear()


def test_single_images_do_not_make_the_estimate_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step takes 50 ms by the clock of this test, whatever is in it."""
    _, load = gated(batch_size=16)
    with served(load=load) as server:
        scoring, facts = server.server.scoring, server.server.models.facts
        facts["gated"] = replace(facts["gated"], at_once=16)
        clock = itertools.count()
        ticking = SimpleNamespace(monotonic=time.monotonic, perf_counter=lambda: 0.05 * next(clock))
        monkeypatch.setattr("hpskit.serving.batching.time", ticking)
        for count in (1, 16):
            scoring._seconds["gated"] = 0.4
            for _ in range(30):
                assert server.score(*[picture()] * count).status_code == 200
            assert scoring._seconds["gated"] == pytest.approx(0.05, rel=0.05)


def test_how_many_images_take_as_long_as_one() -> None:
    alone, plain = load_scorer("mini", batch_invariant=True), gated(batch_size=16)[1]("")
    size, here = size_of(alone)
    assert (size > 1_000_000, here, size_of(plain)) == (True, True, (0, True))
    assert images_at_once(alone, here=True) == min(8, os.cpu_count() or 1)
    assert images_at_once(alone, here=False) == alone.batch_size == 8
    assert images_at_once(plain, here=True) == 1
    assert isinstance(alone, NetworkScorer)
    alone._network = torch.nn.Linear(4, 4, device="meta")  # type: ignore[assignment]
    assert size_of(alone) == (80, False)


def test_who_goes_away_is_not_scored() -> None:
    made, load = gated()
    with served(load=load) as server, ThreadPoolExecutor() as pool:
        made.open.clear()
        made.steps.clear()
        first = pool.submit(server.score, picture())
        until(lambda: server.server.scoring.at_work[0] == 1)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{server.url}/v1/score", data={"prompt": "a"}, files={"images": picture()}, timeout=0.3)
        until(lambda: server.server.requests == 1)
        made.open.set()
        first.result()
        until(lambda: server.server.scoring.at_work[0] == 0)
    assert made.steps == [1]


def test_a_server_that_finishes_nothing_calls_itself_ill() -> None:
    made, load = gated()
    with served(load=load, limits=Limits(stall=0.2)) as server, ThreadPoolExecutor() as pool:
        assert server.http.get("/health").status_code == 200
        made.open.clear()
        waiting = pool.submit(server.score, picture())
        until(lambda: server.http.get("/health").status_code == 503)
        assert server.http.get("/ready").status_code == 503
        made.open.set()
        waiting.result()
        assert server.http.get("/health").json()["status"] == "ok"


# Models


def test_models_share_a_budget_of_memory(files: list[bytes]) -> None:
    size = 0
    with served("mini", "random") as server:
        listed = server.http.get("/v1/models").json()["models"]
        assert [one["name"] for one in listed] == ["mini", "random"]
        assert all(one["loaded"] and one["batch_invariant"] for one in listed)
        size = listed[0]["weight_bytes"]
        both = [server.score(files[0], model=name).json()["results"] for name in ("mini", "random")]
    assert size > 1_000_000
    with served("mini", "random", budget=size) as server:
        for _ in range(2):
            for name, expected in zip(("mini", "random"), both, strict=True):
                assert server.score(files[0], model=name).json()["results"] == expected
                loaded = [one["name"] for one in server.http.get("/v1/models").json()["models"] if one["loaded"]]
                assert name in loaded
    with pytest.raises(InputError, match="raise --memory"), served("mini", budget=size - 1):
        pass


def test_a_judge_is_asked_about_one_image_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each answer may cost money; and nobody knows whether it gives the same answer again."""
    monkeypatch.setenv("HPSKIT_JUDGE_KEY", "k")
    with serve(lambda prompt, _: says({"score": len(prompt)})) as judge, served(f"judge:{judge.url}/m") as server:
        assert judge.asked.total() == 1
        (listed,) = server.http.get("/v1/models").json()["models"]
        assert (listed["batch_invariant"], listed["images_per_step"]) == (False, 8)
        assert server.score(picture(), picture(), prompt="a cat").json()["results"] == [{"score": 5.0}] * 2
        assert judge.asked == {"noise 0": 1, "a cat": 2}


def test_a_scorer_of_code_is_tried_with_one_image_and_believed() -> None:
    made, load = gated(batch_size=8)
    with served(load=load) as server:
        assert made.steps == [1]
        assert server.http.get("/v1/models").json()["models"][0]["batch_invariant"] is True


def test_two_models_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match="two scorers"), served("mini", "mini"):
        pass


# Keys, log, figures


def test_keys(tmp_path: Path) -> None:
    key = new_key(tmp_path / "keys", "ann")
    other = new_key(tmp_path / "keys", "ben")
    assert key not in (tmp_path / "keys").read_text()
    with pytest.raises(InputError, match="ann"):
        new_key(tmp_path / "keys", "ann")
    _, load = gated()
    with served(load=load, keys=read_keys(tmp_path / "keys")) as server:
        assert server.score(picture()).status_code == 401
        assert server.http.get("/metrics").status_code == 401
        assert server.http.get("/health").status_code == 200
        for one, status in ((key, 200), (other, 200), ("wrong", 401), (hashed(key), 401)):
            server.http.headers["Authorization"] = f"Bearer {one}"
            assert server.score(picture()).status_code == status


def test_the_documentation_says_what_is_told_without_a_key() -> None:
    text = (Path(__file__).parents[2] / "docs/serving.md").read_text()
    (said,) = (line for line in text.splitlines() if line.startswith("Open to everybody"))
    _, load = gated()
    with served(load=load, keys={}) as server:
        routes = create_app(server.server).routes
        paths = {f"{route.path}/" if isinstance(route, Mount) else route.path for route in routes}  # type: ignore[attr-defined]
        told = {path for path in paths if server.http.get(path).status_code != 401}
    assert {path.replace("/house/", "/") for path in told} == set(re.findall(r"`(/[\w./]*)`", said))


def test_a_file_of_keys_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("my-secret-key\n")
    with pytest.raises(InputError) as error:
        read_keys(tmp_path / "keys")
    assert "line 1" in str(error.value)
    assert "my-secret-key" not in str(error.value)


def test_the_log_has_neither_texts_nor_keys(caplog: pytest.LogCaptureFixture) -> None:
    _, load = gated()
    with caplog.at_level(logging.INFO, "hpskit.serving"), served(load=load, keys={hashed("k" * 20): "ann"}) as server:
        server.http.headers["Authorization"] = "Bearer " + "k" * 20
        server.score(picture(), prompt="the secret prompt")
        server.http.post(
            "/v1/score", content=b'{"prompt": "the secret prompt"}', headers={"Content-Type": "application/json"}
        )
    lines = [json.loads(record.getMessage()) for record in caplog.records]
    assert [(line["route"], line["status"], line["key"]) for line in lines] == [
        ("/v1/score", 200, "ann"),
        ("/v1/score", 400, "ann"),
    ]
    assert (lines[0]["images"], lines[0]["pixels"], lines[0]["model"]) == (1, 64, "gated")
    assert "secret" not in caplog.text
    assert "kkkk" not in caplog.text


def test_metrics() -> None:
    _, load = gated()
    with served(load=load) as server:
        server.score(picture(), b"x")
        text = server.http.get("/metrics").text
    for line in (
        'hpskit_images_total{model="gated",outcome="score"} 1.0',
        'hpskit_images_total{model="gated",outcome="error"} 1.0',
        'hpskit_requests_total{route="/v1/score",status="200"} 1.0',
        "hpskit_images_at_work 0.0",
    ):
        assert line in text


def test_the_interface_is_described(mini: Served) -> None:
    schema = mini.http.get("/openapi.json").json()
    assert {"/v1/score", "/v1/rank", "/v1/compare", "/v1/models", "/health", "/ready"} == set(schema["paths"])
    page = mini.http.get("/docs")
    assert "/v1/compare" in page.text
    assert "http-equiv" not in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'")


def test_more_images_than_the_queue_can_hold_are_refused_broken_or_not() -> None:
    with served(limits=Limits(images=4)) as server:
        sent = [
            server.http.post("/v1/score", json={"prompt": "a", "images": [""] * count}) for count in (2, 5, 600_000)
        ]
        assert [reply.status_code for reply in sent] == [200, 413, 413]


def test_a_body_whose_length_nobody_announced_is_refused(mini: Served) -> None:
    host, port = mini.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as made:
        head = (b"POST /v1/score HTTP/1.1", b"Host: a", b"Content-Length: 0", b"Transfer-Encoding: chunked", b"")
        made.sendall(b"\r\n".join((*head, b"0", b"", b"")))
        status = made.recv(1000).split(b"\r\n")[0]
        assert b" 411 " in status or b" 400 " in status  # which httptools, if it is installed, says before we are asked


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/v1/score", "multipart/form-data; boundary=b"), ("/v1/score", "application/json"), ("/", "application/json"),
     ("/score", "application/json"), ("/compute", "application/json"), ("/", "application/octet-stream")],
)  # fmt: skip
def test_whoever_reads_a_long_body_keeps_nobody_waiting(path: str, kind: str) -> None:
    """The threads that read are busy: a body that would be refused at once has to wait, and others are answered."""
    _, load = gated()
    free = threading.Event()
    with served(load=load, wires=["unirl", "flow-factory", "pickle"]) as server, ThreadPoolExecutor() as pool:
        for _ in range(2):
            server.server.readers.submit(free.wait, 20)
        reply = pool.submit(server.http.post, path, content=b"{", headers={"Content-Type": kind})
        until(lambda: server.server.requests == 1)
        time.sleep(0.1)
        assert server.http.get("/health").status_code == 200
        assert not reply.done()
        free.set()
        assert reply.result().status_code == 400


def test_an_idle_server_takes_what_it_thinks_too_slow() -> None:
    """Else, after one slow step, whoever has a deadline would be refused for ever."""
    _, load = gated()
    with served(load=load) as server:
        server.server.scoring._seconds["gated"] = 60.0
        assert server.score(picture(7), deadline="5").json()["results"] == [{"score": 7.0}]
        assert server.server.scoring._seconds["gated"] < 60


def test_no_image_is_to_blame_for_a_model_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    _, load = gated(batch_size=2)
    with served(load=load, limits=Limits(linger=5)) as server:
        monkeypatch.setattr(server.server.models, "get", Mock(side_effect=OSError("gone")))
        reply = server.score(picture(1), picture(2))
        assert (reply.status_code, reply.json()["error"]["place"]) == (500, "gated")
        assert server.server.models.get.call_count == 1


def test_one_process_has_one_copy(files: list[bytes]) -> None:
    """Eight clients, requests of several sizes; a scorer of code is asked image by image."""
    made = Gated()
    made.open.set()
    levels = list(range(1, 250, 7))
    scorer = PlainScorer(made, information("levels"), batch_size=5, batch_invariant=True)
    with served(load=lambda _: scorer) as server, ThreadPoolExecutor(8) as pool:
        replies = pool.map(lambda n: server.score(*[picture(level) for level in levels[n % 5 :]]).json(), range(40))
        for number, reply in enumerate(replies):
            assert [item["score"] for item in reply["results"]] == levels[number % 5 :]
    assert set(made.steps) == {1}


def test_every_step_on_a_gpu_has_one_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = load_scorer("mini", batch_invariant=True)
    assert isinstance(scorer, NetworkScorer)
    network, counts = scorer._network, []
    encode = network.encode_images
    monkeypatch.setattr(network, "encode_images", lambda pixels: counts.append(len(pixels)) or encode(pixels))
    images = [Image.new("RGB", (64, 64), (n, 2 * n, 0)) for n in range(7)]
    alone = scorer.score(images, "a cat")
    assert counts == [1] * 7
    scorer._filled, scorer._map = 5, map  # what a device other than the CPU has
    assert scorer.score(images, "a cat") == pytest.approx(alone, abs=1e-4)
    assert counts[7:] == [5, 5]


def test_an_image_of_pillow_is_what_its_file_is(photograph_files: list[Path]) -> None:
    local = load_scorer("mini", batch_invariant=True)
    with Image.open(photograph_files[0]) as image:
        sent = content(image)
    assert local.score([Encoded(sent, "x")], "a").tolist() == local.score([photograph_files[0]], "a").tolist()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--workers", "2"), "--workers: goes with --engine ray"),
        (("--host", "no.such.host.invalid"), "check --host: it is an address of this machine"),
        (("--address", "auto"), "--address: goes with --engine ray"),
        (("--host", "198.51.100.7"), "check --host: it is an address of this machine"),
    ],
)
def test_options_that_cannot_be_followed_are_refused(options: tuple[str, str], said: str, cli: Cli) -> None:
    done = cli("serve", "--model", "random", "--port", "0", *options)
    assert (done.returncode, said in done.stderr) == (2, True)


def test_a_file_without_a_key_is_told(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "keys").touch()
    done = cli("serve", "--model", "random", "--port", "0", "--keys", tmp_path / "keys")
    assert (done.returncode, "nobody would be let in" in done.stderr) == (2, True)


def test_a_taken_port_is_told_with_the_way_out(cli: Cli) -> None:
    with listen("127.0.0.1", 0) as made:
        done = cli("serve", "--model", "random", "--port", str(made.getsockname()[1]))
    assert (done.returncode, "choose another with --port" in done.stderr) == (2, True)
