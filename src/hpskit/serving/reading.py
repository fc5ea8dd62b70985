"""From the body of a request to images and prompts; images at addresses, but never at private ones."""

from __future__ import annotations

import base64
import binascii
import contextlib
import http.client
import ipaddress
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from hpskit import __version__
from hpskit.errors import HpskitError, ImageError, InputError, printable
from hpskit.pixels import Encoded
from hpskit.schema import Expected, Strict, parse
from hpskit.scoring.addresses import brought
from hpskit.web import RefusedError

__all__ = ["Asked", "Body", "bring", "decode", "read_form", "read_json"]

_LONGEST_PROMPT = 20_000
"""Characters. Networks read some hundred; more is no prompt."""
_LONGEST_DEADLINE = 3_600.0
_MOST_PARTS = 1_000_000
"""Commas, quotes and brackets of a document: 64 MB of `[[],[],…` would take gigabytes before anybody counts them."""
_IMAGE_URL, _PATIENCE = 50_000_000, 60.0
"""Most bytes and seconds of an image that is brought from an address."""

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
    deadline: float | None = None
    addresses: dict[int, str] = field(default_factory=dict)
    """Images that are still to be brought, by their number."""


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
    asked = Asked(prompts=aligned(body.prompt, len(images)), images=images, model=body.model, addresses=addresses)
    asked.deadline = body.deadline
    return asked


def parsed(data: bytes) -> Any:
    """Parse JSON of strangers.

    Raises:
        InputError: it is none.
        RefusedError: it has too many parts.
    """
    if sum(map(data.count, (b",", b'"', b"[", b"{"))) > _MOST_PARTS:
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
    asked = Asked(prompts=aligned(prompts[0] if len(prompts) == 1 else prompts, len(images)), images=images)
    asked.model = "".join(texts["model"][:1])
    asked.deadline = seconds_of(texts["deadline"][0]) if texts["deadline"] else None
    return asked


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
    raise InputError("deadline", f"is {text[:40]!r}", expected=f"seconds, at most {_LONGEST_DEADLINE:g}")


# Images at addresses


def _connect_public(
    address: tuple[str, int], timeout: float | None = None, source_address: Any = None
) -> socket.socket:
    """Connect to a host that is on the public internet: what was looked up is looked at, and connected to."""
    host, port = address
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for *_, (ip, *_rest) in found:
        if not is_public(str(ip)):
            raise PermissionError(f"{host} is a private address")
    for *_, place in found:
        with contextlib.suppress(OSError):
            return socket.create_connection((str(place[0]), int(place[1])), timeout, source_address)
    raise ConnectionError(f"{host} does not answer")


def is_public(text: str) -> bool:
    """Tell whether an IP address is on the public internet, and hides no other one inside."""
    ip = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if ip.sixtofour or ip.teredo or ip not in ipaddress.ip_network("2000::/3"):
            return False
    return ip.is_global and not ip.is_multicast


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_public(http.client.HTTPConnection), req)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_public(http.client.HTTPSConnection), req)


def _public(kind: type[http.client.HTTPConnection]) -> Any:
    def make(*arguments: Any, **options: Any) -> http.client.HTTPConnection:
        made = kind(*arguments, **options)
        made._create_connection = _connect_public  # type: ignore[attr-defined]  # where both kinds connect
        return made

    return make


def public_opener() -> urllib.request.OpenerDirector:
    """Make an opener of public http(s) addresses alone: each redirect is looked at again, and no proxy is asked."""
    made = urllib.request.OpenerDirector()
    for handler in (_Http, _Https, urllib.request.HTTPRedirectHandler, urllib.request.HTTPDefaultErrorHandler,
                    urllib.request.HTTPErrorProcessor, urllib.request.UnknownHandler):  # fmt: skip
        made.add_handler(handler())
    made.addheaders = [("User-Agent", f"hpskit/{__version__}"), ("Accept", "image/*, */*;q=0.1")]
    return made


_OPENER = public_opener()


def bring(url: str, place: str) -> Encoded | HpskitError:
    """Bring an image from a public address; or return why that failed. Nothing of a private network is told."""
    try:
        return Encoded(brought(url, time.monotonic() + _PATIENCE, opener=_OPENER, most=_IMAGE_URL), place)
    except ImageError as error:
        return ImageError(place, error.found, expected=error.expected)
    except urllib.error.HTTPError as error:
        error.close()
        return ImageError(place, f"cannot be brought (status {error.code})", cure="check the address")
    except Exception as error:  # noqa: BLE001  # whatever urllib makes of an answer
        private = "private address" in str(error)
        why = "is at a private address" if private else f"cannot be brought ({type(error).__name__})"
        return ImageError(place, why, expected="an image at a public http(s) address")


def no_addresses() -> RefusedError:
    """Refuse addresses where the server takes none."""
    cure = "send the files, or let the server be started with --allow-urls"
    return RefusedError(400, "images", "are addresses, which this server does not open", cure=cure)
