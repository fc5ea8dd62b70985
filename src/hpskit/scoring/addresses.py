"""Images at addresses: `http(s)://` by the standard library, `s3://`, `gs://` and any other scheme by fsspec.

Only the bytes are brought here, a bounded number of them in a bounded time. Whether they are an image is for the
decoder to say, as it is for files; what is kept begins like one.
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
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from hpskit import __version__
from hpskit.errors import ImageError, MissingExtraError, printable
from hpskit.files import publish
from hpskit.pixels import LARGEST_FILE, Encoded, check_head
from hpskit.remote import pause

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_ATTEMPTS = 4
_TIMEOUT = 30.0
"""Seconds of silence after which a server is given up."""
_PATIENCE = 300.0
"""Seconds that one image may take, with all attempts and the waits between them."""
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
    """Folder in which images that were brought are kept; None keeps nothing."""

    def read(self) -> Encoded:
        """Bring the bytes, from the cache if they are there.

        Raises:
            ImageError: there is nothing, it is too large, or nobody answers after four attempts.
            OutputError: the cache cannot be written.
        """
        if self.cache is None:
            return self._bring()
        name = hashlib.sha256(self.url.encode()).hexdigest()
        kept = self.cache / name[:2] / name
        with contextlib.suppress(ImageError):
            found = Encoded(Encoded.read(kept).data, self.url)
            check_head(found)
            return found
        found = self._bring()
        check_head(found)  # else a page that asks to log in would be kept for ever
        with publish(kept) as temporary:
            temporary.write_bytes(found.data)
        return found

    def _bring(self) -> Encoded:
        until = time.monotonic() + _PATIENCE
        for left in reversed(range(_ATTEMPTS)):
            header = None
            try:
                return Encoded(brought(self.url, until), self.url)
            except ImageError:
                raise
            except Exception as error:  # each storage service of fsspec has errors of its own
                found = f"cannot be brought ({printable(f'{type(error).__name__}: {error}', 200)})"
                final = isinstance(error, FileNotFoundError | PermissionError | http.client.InvalidURL | UnicodeError)
                if isinstance(error, urllib.error.HTTPError):
                    header, final = error.headers["Retry-After"], error.code not in _AGAIN
                    error.close()
                wait = pause(_ATTEMPTS - 1 - left, header)
                if final or not left or time.monotonic() + wait > until:
                    raise ImageError(self.url, found, expected="an image", cure=_CURE) from error
            time.sleep(wait)
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
        if scheme == "local" or "::" in text:  # which would open files of this machine unchecked
            what = "is an address of this machine" if scheme == "local" else "is a chain of addresses"
            raise ImageError(text, what, expected="that of one image elsewhere", cure="give a file by its path")
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
        found = f"cannot be read yet ({printable(str(error), 120)})"
        cure = "pip install 'hpskit[cloud]', which has s3:// and gs://"
        raise MissingExtraError(f"{scheme}://", found, cure=cure) from error


def brought(
    url: str, until: float, *, opener: urllib.request.OpenerDirector | None = None, most: int = LARGEST_FILE
) -> bytes:
    """Read an image in parts, from a server that may go on sending: what it announces is not believed.

    Raises:
        ImageError: there is nothing, or more than an image may have.
        TimeoutError: it is not here by `until`, on the clock of `time.monotonic`.
    """
    parts, size = list[bytes](), 0
    with opened(url, until, opener or _HTTP) as handle:
        announced = int(getattr(handle, "headers", {}).get("Content-Length") or 0)
        read = getattr(handle, "read1", handle.read)
        while max(size, announced) <= most and (part := read(_CHUNK)):
            parts.append(part)
            size += len(part)
            if time.monotonic() > until:
                raise TimeoutError(f"not here after {_PATIENCE:.0f} s")
    if max(size, announced) > most:
        found = f"has more than {most / 1e9:g} GB"
        raise ImageError(url, found, expected="an image", cure="give the image itself")
    if size < announced:
        raise http.client.IncompleteRead(b"", announced - size)
    if not size:
        raise ImageError(url, "is empty (0 bytes)", expected="an image")
    return b"".join(parts)


def opened(
    url: str, until: float, opener: urllib.request.OpenerDirector = _HTTP
) -> contextlib.AbstractContextManager[Any]:
    """Open an address to be read."""
    if url[:4].lower() == "http":
        timeout = min(_TIMEOUT, max(1.0, until - time.monotonic()))
        return opener.open(quote(url, safe="%/:=&?~#+!$,;'@()*[]"), timeout=timeout)  # type: ignore[no-any-return]
    import fsspec

    return fsspec.open(url, "rb")  # type: ignore[no-any-return]
