"""Images at addresses: `http(s)://` by the standard library, `s3://`, `gs://` and any other scheme by fsspec.

Only the bytes are brought here, a bounded number of them; whether they are an image is for the decoder to say, as it is
for files.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.client
import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, unquote, urlsplit

from hpskit import __version__
from hpskit.errors import ImageError, MissingExtraError, printable
from hpskit.files import publish
from hpskit.pixels import LARGEST_FILE, Encoded
from hpskit.remote import pause

__all__ = ["Address", "as_address"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_ATTEMPTS = 4
_TIMEOUT = 30.0
"""Seconds of silence after which a server is given up."""
_PATIENCE = 300.0
"""Seconds that one image may take, and that a server may ask us to wait."""
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_CHUNK = 1 << 20
_CURE = "check the address and the network"
_HTTP = urllib.request.OpenerDirector()
"""Opens http and https alone: a server that sends us on to `file:` or `ftp:` gets nothing."""
for _handler in (
    urllib.request.ProxyHandler,
    urllib.request.HTTPHandler,
    urllib.request.HTTPSHandler,
    urllib.request.HTTPRedirectHandler,
    urllib.request.HTTPDefaultErrorHandler,
    urllib.request.HTTPErrorProcessor,
    urllib.request.UnknownHandler,
):
    _HTTP.add_handler(_handler())
_HTTP.addheaders = [("User-Agent", f"hpskit/{__version__}"), ("Accept", "image/*, */*;q=0.1")]


@dataclass(frozen=True, slots=True)
class Address:
    """An image that is brought when it is read."""

    url: str
    cache: Path | None = None
    """Folder in which what was brought is kept; None keeps nothing."""

    def read(self) -> Encoded:
        """Bring the bytes, from the cache if they are there.

        Raises:
            ImageError: there is nothing, it is too large, or nobody answers after four attempts.
            OutputError: the cache cannot be written.
        """
        if self.cache is None:
            return Encoded(self._bring(), self.url)
        name = hashlib.sha256(self.url.encode()).hexdigest()
        kept = self.cache / name[:2] / name
        with contextlib.suppress(FileNotFoundError, ImageError):
            return Encoded(Encoded.read(kept).data, self.url)
        data = self._bring()
        with publish(kept) as temporary:
            temporary.write_bytes(data)
        return Encoded(data, self.url)

    def _bring(self) -> bytes:
        bring = from_web if self.url[:4].lower() == "http" else from_storage
        began = time.monotonic()
        for left in reversed(range(_ATTEMPTS)):
            header = None
            try:
                return checked(bring(self.url), self.url)
            except ImageError:
                raise
            except Exception as error:  # each storage service of fsspec has errors of its own
                found = f"cannot be brought ({printable(f'{type(error).__name__}: {error}', 200)})"
                final = isinstance(error, FileNotFoundError | PermissionError | http.client.InvalidURL | UnicodeError)
                if isinstance(error, urllib.error.HTTPError):
                    header, final = error.headers["Retry-After"], error.code not in _AGAIN
                    error.close()
                if final or not left:
                    raise ImageError(self.url, found, expected="an image", cure=_CURE) from error
            wait = pause(_ATTEMPTS - 1 - left, header)
            time.sleep(min(wait, max(0.0, began + _PATIENCE - time.monotonic())))
        raise AssertionError


def as_address(text: str, cache: Path | None = None) -> Address | Path | None:
    """Return what an address names: a file for `file://`, None if the text is no address but a path.

    Raises:
        ImageError: nothing can read such addresses.
        MissingExtraError: what reads them is not installed.
    """
    if not (found := _SCHEME.match(text)):
        return None
    scheme = found[1].lower()
    if scheme == "file":
        return Path(unquote(urlsplit(text).path))
    if scheme not in ("http", "https"):
        check_scheme(scheme)
    return Address(text, cache)


@functools.cache
def check_scheme(scheme: str) -> None:
    """See that fsspec can read addresses of a scheme."""
    try:
        import fsspec

        fsspec.get_filesystem_class(scheme)
    except ValueError as error:
        expected = "http, https, s3, gs, or another that fsspec knows"
        raise ImageError(f"{scheme}://", "is no scheme of addresses that is known", expected=expected) from error
    except ImportError as error:
        needs = f"needs {printable(str(error), 120)}"
        raise MissingExtraError(
            f"{scheme}://", needs, cure="pip install 'hpskit[cloud]', which has s3:// and gs://"
        ) from error


def from_web(url: str) -> bytes:
    """Read at most one byte more than an image may have, from a server that goes on sending."""
    began, parts, size = time.monotonic(), list[bytes](), 0
    with _HTTP.open(quote(url, safe="%/:=&?~#+!$,;'@()*[]"), timeout=_TIMEOUT) as answer:
        if int(answer.headers.get("Content-Length") or 0) > LARGEST_FILE:
            return checked(bytes(0), url, int(answer.headers["Content-Length"]))
        for chunk in iter(lambda: answer.read1(_CHUNK), b""):
            parts.append(chunk)
            size += len(chunk)
            if size > LARGEST_FILE:
                break
            if time.monotonic() - began > _PATIENCE:
                raise TimeoutError(f"not here after {_PATIENCE:.0f} s")
        announced = answer.headers.get("Content-Length")
    if announced is not None and size < int(announced):
        raise http.client.IncompleteRead(b"", int(announced) - size)
    return b"".join(parts)


def from_storage(url: str) -> bytes:
    """Read at most one byte more than an image may have."""
    import fsspec

    with fsspec.open(url, "rb") as handle:
        return read_up_to(handle, LARGEST_FILE + 1)


def read_up_to(handle: IO[bytes] | Any, most: int) -> bytes:
    """Read at most so many bytes, in parts: what a header announces is not believed."""
    parts, size = list[bytes](), 0
    while size < most and (part := handle.read(min(_CHUNK, most - size))):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def checked(data: bytes, url: str, size: int | None = None) -> bytes:
    """See that there is something, and not too much."""
    size = len(data) if size is None else size
    if not size:
        raise ImageError(url, "is empty (0 bytes)", expected="an image")
    if size > LARGEST_FILE:
        found = f"has more than {LARGEST_FILE / 1e9:g} GB"
        raise ImageError(url, found, expected="an image", cure="give the image itself")
    return data
