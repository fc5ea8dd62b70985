"""Servers that speak OpenAI's protocols: addresses, the key that is written nowhere, waits between requests."""

from __future__ import annotations

import contextlib
import os
import random
import re
import time
from email.utils import parsedate_to_datetime
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

from hpskit.errors import InputError, printable
from hpskit.schema import Expected

__all__ = ["LONGEST_TIMEOUT", "Address", "Key", "pause"]

LONGEST_TIMEOUT = 86_400.0
"""Seconds; the clocks of systems cannot hold any number."""
_ADDRESS = re.compile(r"https?://[\w.:\[\]-]+(/[!-\"$->@-~]*)?", re.ASCII)
_SAID = 300
"""Characters of what a server said that are kept."""


def _usable(address: str) -> str:
    found = urlsplit(address)  # ValueError: no address of IPv6
    (found.hostname or "").encode("idna")  # an empty or too long part of a name
    if not _ADDRESS.fullmatch(address) or not found.hostname or found.port == 0:  # no port, or beyond 65,535
        raise ValueError
    return address


Address = Annotated[str, AfterValidator(_usable), Expected("http(s)://HOST/PATH without a password")]


class Key:
    """The key of a server, from an environment variable."""

    def __init__(self, variable: str, place: str, *, needed: bool) -> None:
        """Read the key; `variable` is empty for a server that wants none.

        Raises:
            InputError: the variable holds something else, or nothing where a key is `needed`.
        """
        self.value = os.environ.get(variable, "").strip() if variable else ""
        if not (self.value.isascii() and self.value.isprintable()) or (needed and variable and not self.value):
            raise InputError(place, f"names {variable}, which holds no key", cure=f"set {variable}")

    def out_of(self, text: str) -> str:
        """Return a text without the key."""
        return text.replace(self.value, "…") if self.value else text

    def harmless(self, said: object) -> str:
        """Return what a server said, shortened and without the key."""
        return printable(self.out_of(str(said)), _SAID)


def pause(failed: int, header: str | None) -> float:
    """Return the seconds until the next request after `failed` others: what `Retry-After` says, as seconds or a date.

    Without it 0.5, 1, 2, 4 …; a little more of either, so that not all ask again at once.
    """
    seconds = 0.5 * 2.0**failed
    if header:
        with contextlib.suppress(ValueError, OverflowError):
            seconds = float(header) if header[0].isdigit() else parsedate_to_datetime(header).timestamp() - time.time()
    return max(0.0, seconds) * random.uniform(1, 1.25)  # noqa: S311
