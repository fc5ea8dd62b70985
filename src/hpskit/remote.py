"""Servers that speak OpenAI's protocols: addresses, the key that is written nowhere, waits, a model that chats."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from hpskit.errors import InputError, printable
from hpskit.schema import Expected, Strict

LONGEST_TIMEOUT = 86_400.0
"""Seconds; the clocks of systems cannot hold any number."""
_ADDRESS = re.compile(r"https?://[\w.:\[\]-]+(/[!-\"$->@-~]*)?", re.ASCII)
_SAID = 300
"""Characters of what a server said that are kept."""
_LONGEST_WAIT = 120.0
_HEADERS = frozenset(
    ["accept", "accept-encoding", "authorization", "connection", "content-length", "content-type", "host", "user-agent"]
)
"""What a request of a chat may have."""
_WRONG = 10
"""Answers in a row that are none, after which a model is asked no more."""


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
            name = variable if re.fullmatch("[A-Z][A-Z0-9_]*", variable) else "a variable"  # or a key was typed
            raise InputError(place, f"names {name}, which holds no key", cure=f"set {name}, and give its name here")

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


def plain_json(text: str) -> str:
    """Return JSON without the fence that models put around it."""
    return text.strip().removeprefix("```json").strip("`").strip()


class ChatSettings(Strict):
    """A model that answers chats, and the limits of asking it."""

    model: Annotated[str, Field(min_length=1)]
    base_url: Address = "https://api.openai.com/v1"
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable with the key, which is written nowhere; a server without keys needs none."""
    structured: Literal["schema", "object", "none"] = "schema"
    """How the server is asked for JSON; some know `object` only, or nothing."""
    most_tokens: Annotated[int, Field(ge=16)] = 500
    """Of an answer."""
    tries: Annotated[int, Field(ge=1, le=20)] = 6
    timeout: Annotated[float, Field(gt=0, le=LONGEST_TIMEOUT, strict=False)] = 60.0
    """Seconds for an answer."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, or the way in which it is none."""

    outcome: Literal["text", "refusal", "length", "filter", "empty", "rejected"]
    said: str
    """The text, or words for people."""
    tokens: tuple[int, int] | None = None
    """Of input and output, if the server says so."""
    answered: bool = True
    """False for a request that was refused as such, which costs nothing."""


class Chat:
    """One model on one server, asked again where that can help. Redirections are not followed."""

    def __init__(self, settings: ChatSettings, key_place: str, *, refused: str, senseless: str) -> None:
        """Read the key; nothing is asked of the server.

        Args:
            settings: of the model.
            key_place: where the variable of the key is named, for errors.
            refused: the cure if the server does not take a request.
            senseless: the cure if it answers, but never in the form that it is asked for.

        Raises:
            InputError: see `Key`.
        """
        self.settings, self.key = settings, Key(settings.key_variable, key_place, needed=False)
        self._cures = (refused, senseless)
        self._place = f"{settings.base_url}: {settings.model}"
        self._wrong, self._said = 0, ""

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Any]:
        """Open connections, for `ask`."""
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient

        settings, key = self.settings, self.key.value or "none"

        async def only_ours(request: Any) -> None:
            """Leave out what the client adds for its own vendor, such as the OPENAI_ORG_ID of the environment."""
            for name in [name for name in request.headers if name.lower() not in _HEADERS]:
                del request.headers[name]
            request.headers["authorization"] = f"Bearer {key}"

        hooks = {"request": [only_ours]}
        transport = DefaultAsyncHttpxClient(follow_redirects=False, timeout=settings.timeout, event_hooks=hooks)
        server: dict[str, Any] = {"api_key": key, "base_url": settings.base_url, "timeout": settings.timeout}
        async with AsyncOpenAI(**server, max_retries=0, http_client=transport) as client:
            yield client

    async def ask(
        self,
        client: Any,
        messages: list[Any],
        schema: Mapping[str, Any],
        turn: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(0),
        *,
        single: bool = False,
    ) -> Reply:
        """Ask once, and again where that can help.

        Args:
            client: see there.
            messages: of the chat.
            schema: of the JSON that is wanted.
            turn: waits before each request.
            single: a request that the server rejects (400, 413, 422) says nothing of others, as it may be of its image.

        Raises:
            InputError: no answer can be had from this server, or not any more.
        """
        import openai

        self._check_sense()
        settings, place, request = self.settings, self._place, self._request(messages, schema)
        for tried in range(1, settings.tries + 1):
            await turn()
            try:
                async with asyncio.timeout(settings.timeout):  # that of the client is for each piece of an answer
                    response = await client.chat.completions.create(**request)
            except openai.APIStatusError as error:
                if (reply := self._refusal(error, single=single, last=tried == settings.tries)) is not None:
                    return reply
                await asyncio.sleep(min(_LONGEST_WAIT, pause(tried - 1, error.response.headers.get("retry-after"))))
            except (TimeoutError, openai.APIConnectionError) as error:  # the latter for timeouts too
                if tried == settings.tries:
                    found = f"cannot be reached ({self.key.harmless(error or 'timeout')})"
                    raise InputError(
                        place, found, cure="check the address (base_url); answers so far are kept"
                    ) from error
                await asyncio.sleep(pause(tried - 1, None))
            except (ValueError, RecursionError) as error:  # no JSON
                found = f"answers with no chat completion ({self.key.harmless(error)})"
                raise InputError(place, found, cure="check base_url and model") from error
            else:
                return self._read(response)
        raise AssertionError("the last try returns or raises")

    def _refusal(self, error: Any, *, single: bool, last: bool) -> Reply | None:
        """Return what an answer with an error says of its request; None to ask again.

        Raises:
            InputError: it says something of all requests, or nobody asks again.
        """
        status, reason = error.status_code, self.key.harmless(error)
        code = str(getattr(error, "code", "") or "")
        if status in (401, 403):
            cure = f"set the environment variable {self.settings.key_variable}"
            raise InputError(self._place, f"refuses the key ({status})", cure=cure) from error
        if status == 400 and re.search("filter|policy|moderation", f"{code} {reason}"):
            return Reply("filter", reason, answered=False)
        if single and status in (400, 413, 422):
            return Reply("rejected", reason, answered=False)
        again = status in (408, 409, 429) or status >= 500
        if not again or code == "insufficient_quota" or last:
            cure = f"{'run the same command later' if again else self._cures[0]}; answers so far are kept"
            raise InputError(self._place, f"answers {status} ({reason})", cure=cure) from error
        return None

    def see_sense(self, *, right: bool, said: str) -> None:
        """Stop asking a model that never answers as it is asked to. Say so of each answer.

        Raises:
            InputError: too many answers in a row were none.
        """
        self._wrong, self._said = (0, "") if right else (self._wrong + 1, said)
        self._check_sense()

    def _check_sense(self) -> None:
        if self._wrong >= _WRONG:
            found = f"answers {_WRONG} times in a row without what it is asked for ({self._said})"
            raise InputError(self._place, found, cure=self._cures[1])

    def _request(self, messages: list[Any], schema: Mapping[str, Any]) -> dict[str, Any]:
        asked: dict[str, Any] = {"model": self.settings.model, "messages": messages, "temperature": 0}
        asked["max_tokens"] = self.settings.most_tokens
        if self.settings.structured == "object":
            asked["response_format"] = {"type": "json_object"}
        elif self.settings.structured == "schema":
            named = {"name": next(iter(schema["properties"])), "strict": True, "schema": schema}
            asked["response_format"] = {"type": "json_schema", "json_schema": named}
        return asked

    def _read(self, response: Any) -> Reply:
        """Tell the ways in which an answer is none, the cut one first: what looks like JSON may be half of it."""
        try:
            choice = response.choices[0]
            message, reason = choice.message, choice.finish_reason
            content = message.content
        except (AttributeError, TypeError, LookupError):
            found = f"answers with no chat completion: {self.key.harmless(response)}"
            raise InputError(self._place, found, cure="check base_url and model") from None
        usage = getattr(response, "usage", None)
        into, out = (getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens"))
        tokens = (into, out) if isinstance(into, int) and isinstance(out, int) and min(into, out) >= 0 else None
        if reason == "length":
            return Reply("length", f"longer than {self.settings.most_tokens} tokens", tokens)
        if reason == "content_filter":
            return Reply("filter", "", tokens)
        if refusal := getattr(message, "refusal", None):
            return Reply("refusal", self.key.harmless(refusal), tokens)
        if not isinstance(content, str) or not content.strip():
            return Reply("empty", "", tokens)
        return Reply("text", content, tokens)
