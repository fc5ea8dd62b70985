"""From the body of a request to images and prompts; images at addresses, but never at private ones."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import ipaddress
import json
import math
import socket
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import httpx
from pydantic import Field
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from hpskit import __version__
from hpskit.errors import HpskitError, ImageError, InputError, printable
from hpskit.pixels import Encoded
from hpskit.schema import Expected, Strict, parse
from hpskit.web import RefusedError

_LONGEST_PROMPT = 20_000
"""Characters. Networks read some hundred; more is no prompt."""
_LONGEST_DEADLINE = 3_600.0
_MOST_PARTS = 1_000_000
"""Commas, quotes and brackets of a document: 64 MB of `[[],[],…` would take gigabytes before anybody counts them."""
_IMAGE_URL, _SILENCE, _REDIRECTS = 50_000_000, 30.0, 10
"""Most bytes, seconds of silence and redirects of an image at an address."""
_CERTIFICATES = ssl.create_default_context()

Prompt = Annotated[str, Field(max_length=_LONGEST_PROMPT)]


class Body(Strict):
    """A request in JSON."""

    prompt: Annotated[
        Prompt | Annotated[tuple[Prompt, ...], Field(strict=False)],
        Expected(f"a text of at most {_LONGEST_PROMPT:,} characters, or a list of them"),
    ] = Field(description="The text that the images were made for; or one for each image.")
    images: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = Field(
        description="Files in base64, or http(s):// addresses where the server takes them."
    )
    model: Annotated[str, Field(max_length=1_000)] = ""
    deadline: Annotated[float, Field(gt=0, le=_LONGEST_DEADLINE)] | None = Field(
        default=None, description="Seconds after which the answer is of no use."
    )


@dataclass(kw_only=True, slots=True)
class Asked:
    """Request of a client, read."""

    prompts: list[str]
    """One for each image."""
    images: list[Encoded | HpskitError]
    model: str = ""
    deadline: float = math.inf
    """Seconds from the head of the request after which the answer is of no use."""
    until: float = math.inf
    """When that is, by the monotonic clock."""
    addresses: dict[int, str] = field(default_factory=dict)
    """Images that are still to be brought, by their number."""


def read(headers: Headers, most: int, data: bytes) -> Asked:
    """Read a body with at most this many images.

    Raises:
        InputError: it is not as described; a RefusedError if it is of another type or has more.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        try:
            read_form(headers, data, most).send(None)  # in memory nothing of it waits; a loop would take 1 ms to make
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        raise AssertionError("forms are read without waiting")
    if kind == "application/json":
        return read_json(data)
    raise RefusedError(415, "Content-Type", f"is {kind[:100]!r}", expected="multipart/form-data or application/json")


def read_json(data: bytes) -> Asked:
    """Read a body in JSON.

    Raises:
        InputError: it is not as `Body` says. An image that is none is an error in its place.
    """
    body = parse(Body, parsed(data), "body", cure="see /docs")
    images: list[Encoded | HpskitError] = []
    addresses = {}
    for number, text in enumerate(body.images):
        if text[:8].lower().startswith(("http://", "https://")):
            addresses[number] = text
            images.append(ImageError(f"images[{number}]", "was not brought"))
        else:
            images.append(decode(text, f"images[{number}]"))
    prompts, deadline = aligned(body.prompt, len(images)), body.deadline or math.inf
    return Asked(prompts=prompts, images=images, model=body.model, deadline=deadline, addresses=addresses)


def parsed(data: bytes) -> Any:
    """Parse JSON of strangers.

    Raises:
        InputError: it is none.
        RefusedError: it has too many parts.
    """
    if sum(data.count(mark) for mark in (b",", b'"', b"[", b"{")) > _MOST_PARTS:
        found = f"has more than {_MOST_PARTS:,} commas, quotes and brackets"
        raise RefusedError(413, "body", found, cure="send fewer images at a time")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError("body", f"is not JSON ({str(error)[:200]})", expected="an object {…}") from None


def decode(text: str, place: str) -> Encoded | HpskitError:
    """Decode base64, with or without `data:…;base64,` before it; or return why that is none."""
    try:
        data = base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text, validate=True)
    except (binascii.Error, ValueError):
        return ImageError(place, "is not base64", expected="an image file in base64")
    if not data:
        return ImageError(place, "is empty (0 bytes)", expected="an image")
    return Encoded(data, place)


def aligned(prompts: str | Sequence[str], count: int) -> list[str]:
    """Return one prompt for each of `count` images.

    Raises:
        InputError: there are not as many, or one is empty or no text.
    """
    texts = [prompts] * count if isinstance(prompts, str) else list(prompts)
    if len(texts) != count:
        raise InputError("prompt", f"has {len(texts)} texts for {count} images", expected="one, or one for each")
    for number, text in enumerate(texts):
        if not text.strip():
            raise InputError(f"prompt[{number}]", "is empty", expected="the text that the image was made for")
        if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
            raise InputError(f"prompt[{number}]", "has half of a surrogate pair", expected="Unicode text")
    return texts


class _InMemory(MultiPartParser):
    spool_max_size = 2**40  # what may be in memory is bounded already, and images of people are not for the disk


async def read_form(headers: Headers, data: bytes, most: int) -> Asked:
    """Read a body in multipart/form-data: `prompt` and `images`, once or several times each, `model`, `deadline`.

    Raises:
        InputError: it is something else.
    """

    async def whole() -> AsyncIterator[bytes]:
        yield data

    try:
        parser = _InMemory(headers, whole(), max_files=most, max_fields=most + 8, max_part_size=4 * _LONGEST_PROMPT)  # type: ignore[arg-type]
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError, LookupError) as error:
        if str(error).startswith("Too many"):
            raise RefusedError(413, "images", "are too many", expected=f"at most {most:,}") from None
        raise InputError("body", f"is no form ({printable(str(error), 200)})", expected="multipart/form-data") from None
    try:
        images, texts = fields_of(form)
    finally:
        await form.close()
    if not images or not texts["prompt"]:
        raise InputError("body", f"has no {'prompt' if images else 'images'}", cure="see /docs")
    if max(map(len, texts["prompt"])) > _LONGEST_PROMPT:
        raise InputError("prompt", "is too long", expected=f"at most {_LONGEST_PROMPT:,} characters")
    prompts = texts["prompt"]
    deadline = seconds_of(texts["deadline"][0]) if texts["deadline"] else math.inf
    prompts = aligned(prompts[0] if len(prompts) == 1 else prompts, len(images))
    return Asked(prompts=prompts, images=images, model="".join(texts["model"][:1]), deadline=deadline)


def fields_of(form: FormData) -> tuple[list[Encoded | HpskitError], dict[str, list[str]]]:
    """Return the images of a form, and its texts by their names.

    Raises:
        InputError: it has a field of another name.
    """
    images: list[Encoded | HpskitError] = []
    texts: dict[str, list[str]] = {"prompt": [], "model": [], "deadline": []}
    for name, value in form.multi_items():
        if name == "images" and isinstance(value, UploadFile):
            place = f"images[{len(images)}]"
            content = value.file.read()
            images.append(Encoded(content, place) if content else ImageError(place, "is empty (0 bytes)"))
        elif isinstance(value, str) and name in texts:
            texts[name].append(value)
        else:
            expected = "prompt, images (files), model or deadline"
            raise InputError("body", f"has a field {name[:100]!r}", expected=expected, cure="see /docs")
    return images, texts


def seconds_of(text: str) -> float:
    """Read a deadline.

    Raises:
        InputError: it is no number of seconds, or beyond an hour.
    """
    with contextlib.suppress(ValueError):
        if 0 < float(text) <= _LONGEST_DEADLINE:
            return float(text)
    raise InputError("deadline", f"is {text[:40]!r}", expected=f"seconds above 0, at most {_LONGEST_DEADLINE:g}")


# Images at addresses


class _Public(httpx.AsyncHTTPTransport):
    """Connects to hosts on the public internet alone: what was looked up is looked at, and connected to."""

    def __init__(self, until: float) -> None:
        super().__init__(verify=_CERTIFICATES)
        self._until = until

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; each redirect comes here, too."""
        host = request.url.raw_host.decode("ascii")
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
        ips = [str(place[0]) for *_, place in found]
        if not all(map(is_public, ips)):
            raise PermissionError(host)
        for ip in ips:
            url, half = request.url.copy_with(host=ip), (self._until - time.monotonic()) / 2  # the next has a turn, too
            said = {"timeout": {**request.extensions["timeout"], "connect": half}, "sni_hostname": host}
            with contextlib.suppress(httpx.ConnectError, httpx.ConnectTimeout):
                own = httpx.Request("GET", url, headers=request.headers, extensions=said)
                return await super().handle_async_request(own)
        raise httpx.ConnectError(f"{host} does not answer")


def is_public(text: str) -> bool:
    """Tell whether an IP address is on the public internet, and hides no other one inside."""
    ip = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if ip.sixtofour or ip.teredo or ip not in ipaddress.ip_network("2000::/3"):
            return False
    return ip.is_global and not ip.is_multicast


async def bring(asked: Asked, turns: asyncio.Semaphore, most: int, until: float) -> None:
    """Bring the images that are at addresses; one that is not here by `until` is an error in its place.

    Connecting, TLS, heads and redirects count. Images behind the first `most` bytes are not brought.
    """
    left, beyond = most, f"is not brought: those before it have {most / 1e6:.0f} MB"

    async def one(number: int, url: str) -> None:
        nonlocal left
        place = f"images[{number}]"
        try:
            async with asyncio.timeout(until - time.monotonic()), turns:
                image = await brought(url, place, until) if left > 0 else ImageError(place, beyond, cure="ask apart")
        except TimeoutError:
            image = ImageError(place, "was not here in time", cure="send the file, or fewer addresses at a time")
        left -= len(image.data) if isinstance(image, Encoded) else 0
        asked.images[number] = image

    await asyncio.gather(*(one(number, url) for number, url in asked.addresses.items()))


async def brought(url: str, place: str, until: float) -> Encoded | ImageError:
    """Read an image at a public address; or return why that failed. Nothing of a private network is told."""
    parts, size, options = list[bytes](), 0, dict[str, Any](timeout=_SILENCE, trust_env=False)
    headers = {"User-Agent": f"hpskit/{__version__}", "Accept": "image/*, */*;q=0.1", "Accept-Encoding": "identity"}
    try:
        # a client for each: one that keeps connections could ask a host through that of another at the same address
        async with httpx.AsyncClient(transport=_Public(until), headers=headers, **options) as client:
            request = client.build_request("GET", url)
            for _ in range(_REDIRECTS + 1):  # by hand: httpx would read all that comes with a redirect
                reply = await client.send(request, stream=True)
                if reply.next_request is None:
                    break
                request = reply.next_request
            if not reply.is_success:
                return ImageError(place, f"cannot be brought (status {reply.status_code})", cure="check the address")
            async for part in reply.aiter_raw():
                parts.append(part)
                size += len(part)
                if size > _IMAGE_URL:
                    return ImageError(place, f"has more than {_IMAGE_URL / 1e6:g} MB", cure="give the image itself")
    except Exception as error:  # noqa: BLE001  # whatever httpx makes of an address or an answer
        private = isinstance(error, PermissionError)
        why = "is at a private address" if private else f"cannot be brought ({type(error).__name__})"
        return ImageError(place, why, expected="an image at a public http(s) address")
    return Encoded(b"".join(parts), place) if size else ImageError(place, "is empty (0 bytes)", expected="an image")
