"""Clients of a scoring server, sync and async: the scores are those of the server's own scorer, to the bit.

Both drive one generator, which says what to send and what to wait for; they differ in how they do it. A request that
is refused because the server is busy or about to end, or whose connection breaks, is sent again: scoring twice changes
nothing.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from hpskit.errors import HpskitError, ImageError, InputError, ModelError, need, shown
from hpskit.pixels import Encoded
from hpskit.remote import Key, pause
from hpskit.scoring.contract import ImageLike

if TYPE_CHECKING:
    import httpx

_SAID = ("found", "expected", "cure")
_AGAIN = (408, 429, 502, 503)
_STEP = 16
"""Images of one request of a stream."""
_BYTES = 32 << 20
"""Bytes of images in it, about: half of what a server takes unless it is told otherwise."""


class UnansweredError(HpskitError, ConnectionError):
    """The server gave no answer: whoever asked knows that there is no score."""


@dataclass(frozen=True, slots=True)
class _Send:
    path: str
    fields: dict[str, Any]
    files: list[tuple[str, tuple[str, bytes]]]


@dataclass(frozen=True, slots=True)
class _Wait:
    seconds: float


_Steps = Generator[_Send | _Wait, Any, dict[str, Any]]
"""Says what to do, gets replies and errors of the network, and returns what the server said."""


class _Asking:
    """The part that both clients share: what is sent, and what an answer means."""

    _kind = ""
    """Of the client of httpx that asks."""

    def __init__(self, url: str, *, key: str = "", model: str = "", deadline: float | None = None,
                 timeout: float = 120.0, patience: float = 120.0) -> None:  # fmt: skip
        """Speak with a server.

        Args:
            url: of the server, such as http://127.0.0.1:8200.
            key: name of the environment variable that holds the key; empty where none is needed.
            model: one that the server has; empty is its first.
            deadline: seconds after which an answer is of no use; the server refuses what it cannot do in time.
            timeout: seconds of silence after which a connection is given up.
            patience: seconds for which a request is sent again.
        """
        need("httpx", "hpskit.serving.client", "serve")
        import httpx

        if not url.startswith(("http://", "https://")):
            raise InputError("url", f"is {shown(url)}", expected="an address such as http://127.0.0.1:8200")
        self.url, self.model, self.deadline, self.patience = url.rstrip("/"), model, deadline, patience
        self._key = Key(key, "key", needed=True)
        headers = {"Authorization": f"Bearer {self._key.value}"} if self._key.value else {}
        bounds = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        options = {"headers": headers, "limits": bounds, "timeout": timeout, "trust_env": False}
        self._http: Any = getattr(httpx, self._kind)(base_url=self.url, **options)

    def _steps(self, path: str, images: Sequence[ImageLike], prompts: str | Sequence[str]) -> _Steps:
        fields = {"prompt": prompts if isinstance(prompts, str) else list(prompts)}
        fields |= {"model": self.model} if self.model else {}
        fields |= {"deadline": repr(self.deadline)} if self.deadline is not None else {}
        files = [("images", (f"{number}", content(image))) for number, image in enumerate(_listed(images))]
        until, failed = time.monotonic() + self.patience, 0
        while True:
            try:
                reply = yield _Send(path, fields, files)
            except Exception as error:
                if not is_of_the_network(error):
                    raise
                found, header = f"gives no answer ({type(error).__name__})", None
            else:
                if reply.status_code == 200:
                    said: dict[str, Any] = reply.json()
                    return said
                found, header = f"answers {reply.status_code} ({self._message(reply)})", _wait_of(reply)
                if reply.status_code == 504:
                    raise UnansweredError(self.url, found, expected=f"an answer within {self.deadline} s")
                if reply.status_code not in _AGAIN:
                    kind = InputError if reply.status_code in (400, 401, 404, 413) else ModelError
                    cure = "name the variable that holds a key of it: key=NAME" if reply.status_code == 401 else ""
                    raise kind(self.url, found, cure=cure)
            seconds = min(pause(min(failed, 5), header), 30.0)
            if time.monotonic() + seconds > until:
                cure = "see whether it runs, or allow more patience"
                raise UnansweredError(self.url, found, expected=f"an answer within {self.patience:g} s", cure=cure)
            failed += 1
            yield _Wait(seconds)

    def _message(self, reply: httpx.Response) -> str:
        try:
            return self._key.harmless(reply.json()["error"]["message"])
        except (ValueError, LookupError, TypeError):
            return self._key.harmless(reply.text[:200])


def is_of_the_network(error: Exception) -> bool:
    """Tell an error of the connection, after which it may be asked again."""
    import httpx

    return isinstance(error, httpx.TransportError)


def _wait_of(reply: httpx.Response) -> str | None:
    """Read when to come again: to the millisecond in the answer, else in whole seconds by the header."""
    try:
        return f"{float(reply.json()['retry_after']):.3f}"
    except (ValueError, LookupError, TypeError):
        found: str | None = reply.headers.get("retry-after")
        return found


def content(image: ImageLike) -> bytes:
    """Return the bytes that are sent for an image: a file as it is, pixels as PNG, which loses nothing.

    Raises:
        ImageError: it cannot be read, or is an array of floats, which no file of 8 bits holds.
    """
    from PIL import Image

    from hpskit.pixels import as_pixels, open_image, to_image

    if isinstance(image, Encoded):
        return image.data
    if isinstance(image, str | os.PathLike):
        return Encoded.read(Path(image)).data
    if not isinstance(image, Image.Image):
        pixels = as_pixels(image, dimensions=3)
        if pixels.is_floating_point():
            cure = "make it uint8, as in (255 * image).round().byte()"
            raise ImageError("image", "is of floats, which a file would round", expected="uint8", cure=cure)
        image = to_image(pixels)
    data = io.BytesIO()
    open_image(image).save(data, format="PNG", compress_level=1)
    return data.getvalue()


def _outcomes(said: dict[str, Any], names: Iterable[str]) -> list[float | ImageError]:
    """Read an answer, in which images are called by their place in the request; whoever asks has names for them."""
    return [
        item["score"] if "score" in item else ImageError(name, **{n: item["error"][n] for n in _SAID})
        for item, name in zip(said["results"], names, strict=True)
    ]


def _scores(said: dict[str, Any], images: Sequence[ImageLike]) -> list[float]:
    names = [_name(image, f"images[{number}]") for number, image in enumerate(_listed(images))]
    for outcome in (outcomes := _outcomes(said, names)):
        if isinstance(outcome, ImageError):
            raise outcome
    return [outcome for outcome in outcomes if isinstance(outcome, float)]


def _listed(images: Any) -> Sequence[ImageLike]:
    from PIL import Image

    alone = isinstance(images, str | os.PathLike | Encoded | Image.Image) or getattr(images, "ndim", 4) == 3
    if not (found := [images] if alone else list(images)):
        raise InputError("images", "is empty", expected="at least one")
    return found


def _name(image: ImageLike, other: str) -> str:
    return image.place if isinstance(image, Encoded) else str(image) if isinstance(image, str | os.PathLike) else other


def _read(image: ImageLike, number: int) -> Encoded | ImageError:
    """Return what is sent for an image, or why there is nothing, which is the outcome of this image alone."""
    name = _name(image, f"pair {number}")
    try:
        return Encoded(content(image), name)
    except ImageError as error:
        return ImageError(name, error.found, expected=error.expected, cure=error.cure)


def _by_bytes(images: Iterable[Encoded]) -> Iterator[list[Encoded]]:
    """Divide images into requests."""
    part, size = list[Encoded](), 0
    for image in images:
        if part and size + len(image.data) > _BYTES:
            yield part
            part, size = [], 0
        part.append(image)
        size += len(image.data)
    if part:
        yield part


class _Stream:
    """One part of a stream: what is sent of it, and its outcomes when that is answered."""

    def __init__(self, part: Sequence[tuple[int, tuple[ImageLike, str]]]) -> None:
        self._read = [(_read(image, number), text) for number, (image, text) in part]
        self._answers: list[float | ImageError] = []

    def requests(self) -> Iterator[tuple[list[Encoded], list[str]]]:
        """Give images and prompts of each request."""
        texts = iter([text for image, text in self._read if isinstance(image, Encoded)])
        for images in _by_bytes(image for image, _ in self._read if isinstance(image, Encoded)):
            yield images, list(itertools.islice(texts, len(images)))

    def answer(self, said: dict[str, Any], images: Sequence[Encoded]) -> None:
        """Take the answer to the next request."""
        self._answers += _outcomes(said, [image.place for image in images])

    def outcomes(self) -> list[float | ImageError]:
        """Return the outcomes in the order of the images."""
        rest = iter(self._answers)
        return [image if isinstance(image, ImageError) else next(rest) for image, _ in self._read]


def _parts(pairs: Iterable[tuple[ImageLike, str]], size: int) -> Iterator[list[tuple[int, tuple[ImageLike, str]]]]:
    rest = enumerate(pairs)
    while part := list(itertools.islice(rest, size)):
        yield part


class Client(_Asking):
    """Asks a server, and waits for its answers. Safe to use from several threads; `with`, or `close`, ends it."""

    _kind = "Client"

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, path: str, images: Sequence[ImageLike], prompts: str | Sequence[str]) -> dict[str, Any]:
        steps, reply = self._steps(path, images, prompts), None
        try:
            step = next(steps)
            while True:
                try:
                    if isinstance(step, _Wait):
                        time.sleep(step.seconds)
                        reply = None
                    else:
                        reply = self._http.post(step.path, data=step.fields, files=step.files)
                except Exception as error:  # noqa: BLE001  # the generator says which it knows, and raises the others
                    step = steps.throw(error)
                else:
                    step = steps.send(reply)
        except StopIteration as stop:
            said: dict[str, Any] = stop.value
            return said

    def score(self, images: Sequence[ImageLike], prompts: str | Sequence[str]) -> list[float]:
        """Score N images for N prompts, or for one.

        Raises:
            ImageError: one cannot be scored.
            InputError: the server refuses the request as it is.
            UnansweredError: it gave no answer in time.
        """
        return _scores(self._ask("/v1/score", images, prompts), images)

    def rank(self, prompt: str, images: Sequence[ImageLike]) -> list[dict[str, Any]]:
        """Images of one prompt, best first: `rank`, `index`, `score` and `probability` of each; see `score`."""
        lines: list[dict[str, Any]] = self._ask("/v1/rank", images, prompt)["ranking"]
        return lines

    def stream(
        self, pairs: Iterable[tuple[ImageLike, str]], *, at_once: int = 8, size: int = _STEP
    ) -> Iterator[float | ImageError]:
        """Score any number of pairs of image and prompt, read as they are needed; outcomes come in their order.

        At most `at_once + 1` requests of `size` images are in memory.
        """

        def ask(part: list[tuple[int, tuple[ImageLike, str]]]) -> list[float | ImageError]:
            own = _Stream(part)
            for images, texts in own.requests():
                own.answer(self._ask("/v1/score", images, texts), images)
            return own.outcomes()

        with ThreadPoolExecutor(at_once, thread_name_prefix="hpskit-ask") as pool:
            asked: deque[Future[list[float | ImageError]]] = deque()
            try:
                for part in _parts(pairs, size):
                    asked.append(pool.submit(ask, part))
                    if len(asked) > at_once:
                        yield from asked.popleft().result()
                while asked:
                    yield from asked.popleft().result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


class AsyncClient(_Asking):
    """The same for programs that use asyncio."""

    _kind = "AsyncClient"

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _ask(self, path: str, images: Sequence[ImageLike], prompts: str | Sequence[str]) -> dict[str, Any]:
        steps, reply = self._steps(path, images, prompts), None
        try:
            step = await asyncio.to_thread(next, steps)  # which reads files
            while True:
                try:
                    if isinstance(step, _Wait):
                        await asyncio.sleep(step.seconds)
                        reply = None
                    else:
                        reply = await self._http.post(step.path, data=step.fields, files=step.files)
                except Exception as error:  # noqa: BLE001  # the generator says which it knows, and raises the others
                    step = steps.throw(error)
                else:
                    step = steps.send(reply)
        except StopIteration as stop:
            said: dict[str, Any] = stop.value
            return said

    async def score(self, images: Sequence[ImageLike], prompts: str | Sequence[str]) -> list[float]:
        """Score N images for N prompts, or for one; see `Client.score`."""
        return _scores(await self._ask("/v1/score", images, prompts), images)

    async def rank(self, prompt: str, images: Sequence[ImageLike]) -> list[dict[str, Any]]:
        """Rank images of one prompt; see `Client.rank`."""
        lines: list[dict[str, Any]] = (await self._ask("/v1/rank", images, prompt))["ranking"]
        return lines

    async def stream(
        self, pairs: Iterable[tuple[ImageLike, str]], *, at_once: int = 8, size: int = _STEP
    ) -> AsyncIterator[float | ImageError]:
        """Score any number of pairs; see `Client.stream`."""

        async def ask(part: list[tuple[int, tuple[ImageLike, str]]]) -> list[float | ImageError]:
            own = await asyncio.to_thread(_Stream, part)
            for images, texts in own.requests():
                own.answer(await self._ask("/v1/score", images, texts), images)
            return own.outcomes()

        asked: deque[asyncio.Task[list[float | ImageError]]] = deque()
        try:
            for part in _parts(pairs, size):
                asked.append(asyncio.create_task(ask(part)))
                if len(asked) > at_once:
                    for outcome in await asked.popleft():
                        yield outcome
            while asked:
                for outcome in await asked.popleft():
                    yield outcome
        finally:
            for task in asked:
                task.cancel()
