"""The clients: the scores of the server, waits, and sets larger than memory."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from error_fields import at
from hpskit.errors import ImageError, InputError
from hpskit.scoring.scorer import load_scorer
from hpskit.serving.batching import Limits
from hpskit.serving.client import AsyncClient, Client, UnansweredError
from hpskit.web import listen
from scoring_server import gated, served


def grey(level: int) -> Image.Image:
    return Image.new("RGB", (4, 4), (level,) * 3)


def test_whatever_is_sent_has_the_score_that_it_has_here(photograph_files: list[Path]) -> None:
    local = load_scorer("mini", batch_invariant=True)
    with Image.open(photograph_files[0]) as image:
        image.load()
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)
    images = [photograph_files[1], image, pixels, pixels.permute(1, 2, 0).numpy()]
    with served() as server, Client(server.url) as client:
        assert client.score(images, "a temple") == local.score(images, "a temple").tolist()
        order = [line["index"] for line in client.rank("a temple", images[:2])]
        assert (
            order
            == [0, 1][:: 1 if client.score(images[:1], "a temple") > client.score(images[1:2], "a temple") else -1]
        )
        with pytest.raises(ImageError, match="uint8"):
            client.score([pixels / 255], "a temple")
        with pytest.raises(InputError, match="did you mean"), Client(server.url, model="minni") as other:
            other.score(images, "a")


def test_a_broken_image_is_an_error_in_its_place() -> None:
    _, load = gated()
    with served(load=load) as server, Client(server.url) as client:
        pairs = [(grey(level), "a") for level in range(1, 60)]
        pairs[40] = (Path(__file__), "a")  # type: ignore[call-overload]
        pairs[41] = (Path("nothing.png"), "a")  # type: ignore[call-overload]
        outcomes = list(client.stream(pairs, at_once=2, size=7))
        with pytest.raises(ImageError, check=at(__file__, found="is not an image")):
            client.score([grey(1), Path(__file__)], "a")
    assert [outcome.place for outcome in outcomes if isinstance(outcome, ImageError)] == [__file__, "nothing.png"]
    assert [n for n, outcome in enumerate(outcomes) if isinstance(outcome, ImageError)] == [40, 41]
    assert [one for one in outcomes if isinstance(one, float)] == [n for n in range(1, 60) if n not in (41, 42)]


def test_images_without_a_name_are_called_by_their_number() -> None:
    _, load = gated()
    with served(load=load) as server, Client(server.url) as client:
        pairs = [(grey(n not in (9, 20)), "a") for n in range(24)]  # the scorer fails for black
        failed = [outcome.place for outcome in client.stream(pairs, size=4) if isinstance(outcome, ImageError)]
        with pytest.raises(ImageError, check=at("images[1]")):
            client.score([grey(1), grey(0)], "a")
    assert failed == ["pair 9", "pair 20"]


def test_a_client_works_without_with(tmp_path: Path) -> None:
    _, load = gated()
    grey(7).save(tmp_path / "a.png")
    with served(load=load) as server:
        client = Client(f"{server.url}/")
        assert client.score(str(tmp_path / "a.png"), "a") == client.score(grey(7), "a") == [7]
        assert client.score(np.full((4, 4, 3), 7, np.uint8), "a") == [7]
        client.close()

        async def ask() -> list[float]:
            asking = AsyncClient(server.url)
            found = await asking.score([grey(7)], "a")
            await asking.aclose()
            return found

        assert asyncio.run(ask()) == [7]
        with pytest.raises(InputError, check=at("images", found="is empty")):
            Client(server.url).score([], "a")
    with pytest.raises(InputError, check=at("url", expected="http://")):
        Client("127.0.0.1:8200")


def test_requests_of_a_stream_are_divided_by_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen large images are more than a server takes at once."""
    monkeypatch.setattr("hpskit.serving.client._BYTES", 300)
    _, load = gated()
    with served(load=load, limits=Limits(body=1_000)) as server, Client(server.url) as client:
        assert list(client.stream([(grey(level), "a") for level in range(1, 40)])) == [*range(1, 40)]


def test_a_stream_reads_no_further_than_it_must() -> None:
    _, load = gated()
    read = 0

    def pairs() -> Iterator[tuple[Image.Image, str]]:
        nonlocal read
        while True:
            read += 1
            yield grey(read % 250 + 1), "a"

    with served(load=load) as server, Client(server.url) as client:
        found = client.stream(pairs(), at_once=3, size=5)
        for _ in range(11):
            next(found)
            assert read <= 11 + 5 * 5
        found.close()


def test_the_same_by_asyncio() -> None:
    _, load = gated()

    async def run(url: str) -> tuple[list[float], list[object]]:
        async with AsyncClient(url) as client:
            some = await client.score([grey(10), grey(20)], "a")
            return some, [one async for one in client.stream([(grey(n), "a") for n in range(1, 40)], size=4, at_once=3)]

    with served(load=load) as server:
        some, streamed = asyncio.run(run(server.url))
    assert (some, streamed) == ([10, 20], list(range(1, 40)))


def test_a_busy_server_is_asked_again_until_patience_ends() -> None:
    made, load = gated()
    with served(load=load, limits=Limits(images=2)) as server, Client(server.url) as client:
        made.open.clear()
        first = threading.Thread(target=client.score, args=([grey(1), grey(2)], "a"))
        first.start()
        while server.server.scoring.at_work[0] < 2:
            time.sleep(0.01)
        with Client(server.url, patience=0.3) as hasty, pytest.raises(UnansweredError, match="429"):
            hasty.score([grey(3)], "a")
        threading.Timer(0.3, made.open.set).start()
        assert client.score([grey(3)], "a") == [3]
        first.join()


@pytest.mark.parametrize(
    ("headers", "body", "least"),
    [
        ({"Retry-After": "1"}, b"Request dropped due to backpressure", 1.0),  # the words of Ray Serve's proxy
        ({}, b"Request dropped due to backpressure", 0.5),
        ({"Retry-After": "1"}, b'{"retry_after": 0.01}', 0.01),  # ours says it to the millisecond
        ({"Retry-After": "0"}, b'["no object"]', 0.0),
        ({"Retry-After": "soon"}, b"", 0.5),
    ],
)
def test_a_503_is_come_back_to(headers: dict[str, str], body: bytes, least: float) -> None:
    times: list[float] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            times.append(time.monotonic())
            good = len(times) == 2
            said = json.dumps({"results": [{"score": 9.0}]}).encode() if good else body
            self.send_response(200 if good else 503)
            for name, value in {"Content-Length": str(len(said)), **({} if good else headers)}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            with Client(f"http://127.0.0.1:{http.server_port}") as client:
                assert client.score([grey(9)], "a") == [9]
            assert least <= times[1] - times[0] < 1.25 * least + 2
            times.clear()
            hasty = Client(f"http://127.0.0.1:{http.server_port}", patience=least / 2 - 0.001)
            with hasty, pytest.raises(UnansweredError, check=at(found="answers 503")):
                hasty.score([grey(9)], "a")
            assert len(times) == 1
        finally:
            http.shutdown()
            thread.join()


def test_a_server_that_comes_back_is_found(tmp_path: Path) -> None:
    _, load = gated()
    with listen("127.0.0.1", 0) as made:
        port = made.getsockname()[1]
    found: list[float] = []
    with Client(f"http://127.0.0.1:{port}", patience=20) as client:
        asking = threading.Thread(target=lambda: found.extend(client.score([grey(9)], "a")))
        asking.start()
        time.sleep(0.3)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("scoring_server.listen", lambda host, _: listen(host, port))
            with served(load=load):
                asking.join(20)
    assert found == [9]


def test_nobody_there_is_told_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with Client(url, patience=0.2) as client, pytest.raises(UnansweredError, match="gives no answer"):
            client.score([grey(1)], "a")


def test_the_key_is_in_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    _, load = gated()
    monkeypatch.setenv("SCORING_KEY", "k" * 24)
    with served(load=load, keys={}) as server, Client(server.url, key="SCORING_KEY") as client:
        with pytest.raises(Exception, match="401") as error:
            client.score([grey(1)], "a")
        assert "kkk" not in str(error.value)
        assert "key=NAME" in str(error.value)
    with pytest.raises(InputError, check=at("key", found="a variable")) as typed:
        Client(server.url, key="k" * 24)
    assert "kkk" not in str(typed.value)
    with pytest.raises(InputError, match="ABSENT_KEY"):
        Client(server.url, key="ABSENT_KEY")


def test_a_client_does_not_take_an_answer_of_somebody_else() -> None:
    """The bytes go to whoever listens; an answer that is none is an error and no score."""
    with listen("127.0.0.1", 0) as made:
        url = f"http://127.0.0.1:{made.getsockname()[1]}"

        def answer() -> None:
            with made.accept()[0] as connection:
                connection.recv(100_000)
                connection.sendall(b"HTTP/1.1 500 No\r\nContent-Length: 4\r\n\r\nnope")

        thread = threading.Thread(target=answer)
        thread.start()
        with Client(url) as client, pytest.raises(Exception, match="500"):
            client.score([grey(1)], "a")
        thread.join()
