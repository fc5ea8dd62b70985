"""Rights of those who ask: sessions in signed cookies, tokens against forged requests, rate limits.

docs/security.md says what this protects against whom.
"""

from __future__ import annotations

import hmac
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from itsdangerous import BadSignature, URLSafeSerializer
from sqlalchemy import Connection, Row, bindparam, select, update

from hpskit.annotation.people import ROLES, Role
from hpskit.annotation.tables import person

COOKIE = "hpskit_session"
_WHOSE = select(person).where(person.c.id == bindparam("number"), person.c.sessions == bindparam("sessions"))
"""Made once: every request asks it."""
_SEEN_EVERY = 60.0
"""Seconds between two notes of when somebody was last here: a write for each request would be dear."""


class Sessions:
    """Cookies that say who somebody is, which nobody else can make."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()
        self._cookies = URLSafeSerializer(key, salt="session")

    def cookie(self, found: Row[Any]) -> str:
        """Make the cookie of a person; it is void as soon as the link is made anew."""
        return str(self._cookies.dumps([found.id, found.sessions]))

    def claim(self, cookie: str | None) -> dict[str, int] | None:
        """Read a cookie of ours: the number of a person and of their sessions; None if we did not make it."""
        try:
            number, sessions = self._cookies.loads(cookie or "")
        except (BadSignature, ValueError, TypeError):
            return None
        return {"number": number, "sessions": sessions}

    def person(self, connection: Connection, claim: dict[str, int]) -> Row[Any] | None:
        """Find whose cookie it is; None if it is of an earlier link."""
        return connection.execute(_WHOSE, claim).one_or_none()

    def csrf(self, cookie: str) -> str:
        """Make the token that forms and scripts send back: another site can send a cookie, but cannot know this."""
        return hmac.new(self._key, f"csrf {cookie}".encode(), sha256).hexdigest()

    def is_csrf(self, cookie: str, token: str) -> bool:
        """Tell whether a token belongs to a cookie."""
        return hmac.compare_digest(self.csrf(cookie).encode(), token.encode("utf-8", "replace"))


def may(found: Row[Any], role: Role) -> bool:
    """Tell whether somebody has at least a role: a researcher may do what an inspector may, and so on."""
    return ROLES.index(found.role) >= ROLES.index(role)


def note_seen(connection: Connection, found: Row[Any], now: float) -> None:
    """Note when somebody was last here."""
    if found.seen_at is None or now - found.seen_at > _SEEN_EVERY:
        connection.execute(update(person).where(person.c.id == found.id).values(seen_at=now))


class Limiter:
    """A bucket of requests for each client that fills again steadily; a fixed number of clients is remembered."""

    def __init__(
        self, *, burst: int, each_second: float, clients: int = 10_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst, self._rate, self._clients, self._clock = burst, each_second, clients, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, client: str) -> float:
        """Take one request from a client's bucket; return the seconds to wait, 0 if there was one left."""
        now = self._clock()
        with self._lock:
            left, at = self._buckets.pop(client, (float(self._burst), now))
            left = min(self._burst, left + (now - at) * self._rate)
            waits = 0.0 if left >= 1 else (1 - left) / self._rate
            self._buckets[client] = (left - (left >= 1), now)
            if len(self._buckets) > self._clients:
                self._buckets.popitem(last=False)
        return waits
