"""A generator that is a server which speaks OpenAI's images API. It takes no seed: an image cannot be had again."""

from __future__ import annotations

import base64
import itertools
import json
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from hpskit import __version__
from hpskit.errors import HpskitError, ImageError, InputError, need
from hpskit.images.contract import GeneratorInfo, GeneratorSettings, Options, Outcome
from hpskit.pixels import Encoded, open_image
from hpskit.remote import LONGEST_TIMEOUT, Address, Key, pause

if TYPE_CHECKING:
    import httpx2
    import openai

_MODERATION = {"moderation_blocked", "content_policy_violation", "content_filter"}
_NO_MONEY = {"insufficient_quota", "billing_hard_limit_reached"}
_OURS = ("model", "prompt", "n", "response_format", "stream", "partial_images")
"""Fields that are no `options`. OpenAI refuses `response_format`, and through gateways it gives empty answers."""


class Settings(GeneratorSettings):
    """Settings of a server, its model, and our patience. `batch` requests are under way at once."""

    model: Annotated[str, Field(min_length=1)]
    base_url: Address = "https://api.openai.com/v1"
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable with the key, which is kept nowhere else; empty for a server that wants none."""
    options: Options = Field(default_factory=dict)
    """Further fields of the request: `size`, `quality`, `background` and what else the server knows."""
    image_hosts: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Other hosts than that of `base_url` that images may be fetched from, where the server answers with addresses."""
    timeout: Annotated[float, Field(gt=0, le=LONGEST_TIMEOUT)] = 600.0
    """Seconds for one request."""
    tries: Annotated[int, Field(ge=1, le=20)] = 6
    """Requests for one image while the server is busy or not there."""
    longest_wait: Annotated[float, Field(ge=0, le=LONGEST_TIMEOUT)] = 300.0
    """Seconds between two of them, also if the server asks for more."""


class OpenAI:
    """See `hpskit.images.contract.Generator`, but a seed gives another image each time."""

    def __init__(self, settings: Settings) -> None:
        """Look for library and key; nothing is asked of the server.

        Raises:
            MissingExtraError: openai is not installed.
            InputError: the key is not there, or an option is not the user's.
        """
        self.settings, self.place = settings, f"generator {settings.name}"
        need("openai", self.place, "generate")
        self._key = Key(settings.key_variable, f"{self.place}: key_variable", needed=True)
        for option in settings.options:
            if option in _OURS:
                raise InputError(f"{self.place}: options", f"has {option!r}", cure="remove it")
        self._stopped = threading.Event()
        self._reason: HpskitError | None = None
        """Why no image can be made, once that is known."""

    @property
    def info(self) -> GeneratorInfo:
        """Server, model and request. What answers to the model's name may change."""
        own = self.settings.own()
        for patience in ("key_variable", "image_hosts", "timeout", "tries", "longest_wait"):
            del own[patience]
        own["seed"] = "not sent, as the API has none"
        return GeneratorInfo(name=self.settings.model, version="", settings=own, package=f"hpskit {__version__}")

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Outcome]:
        """Ask for all images, `batch` at a time; the seeds are not used.

        Raises:
            InputError: key or model are refused, there is no money left, or there is no server. Images that came
                before that are returned, and the next call raises.
        """
        import openai

        if self._reason is not None:
            raise self._reason
        settings, pairs = self.settings, zip(prompts, seeds, strict=True)
        self._stopped.clear()
        server: dict[str, Any] = {
            "api_key": self._key.value or "none",
            "base_url": settings.base_url,
            "timeout": settings.timeout,
        }
        with openai.OpenAI(**server, max_retries=0) as client, ThreadPoolExecutor(settings.batch) as pool:
            try:
                outcomes = list(pool.map(lambda pair: self._one(client, pair[0]), pairs))
            finally:
                self._stopped.set()  # after Ctrl-C nobody waits to ask again
        if self._reason is not None and not any(outcome.image for outcome in outcomes):
            raise self._reason
        return outcomes

    def _one(self, client: openai.OpenAI, prompt: str) -> Outcome:
        """Ask until there is an image, or a reason why there is none."""
        import openai

        settings, outcome, facts = self.settings, Outcome(), dict[str, Any]()
        for attempt in range(settings.tries):
            if self._stopped.is_set():
                return Outcome(reason="stopped", said=str(self._reason or ""), facts=facts)
            facts["attempts"], header = attempt + 1, None
            try:
                answer = client.images.with_raw_response.generate(
                    prompt=prompt, model=settings.model, extra_body=settings.options
                )
                return self._image(answer.http_response, facts)
            except openai.APITimeoutError:  # not asked again: it may have been made, and be paid for
                return Outcome(reason="timeout", said=f"after {settings.timeout:g} s", facts=facts)
            except openai.APIConnectionError as error:
                outcome = Outcome(reason="unreachable", said=self._key.harmless(error.__cause__ or error), facts=facts)
            except openai.APIStatusError as error:
                outcome, header = self._refusal(error, facts), error.response.headers.get("retry-after")
            if outcome.reason not in ("unreachable", "busy", "server"):
                return outcome
            if attempt + 1 < settings.tries:
                self._stopped.wait(min(settings.longest_wait, pause(attempt, header)))
        if outcome.reason == "unreachable":
            self._stop(f"cannot be reached ({outcome.said})", "start the server, or correct base_url")
        return outcome

    def _refusal(self, error: openai.APIStatusError, facts: Mapping[str, Any]) -> Outcome:
        """Tell what an answer with an error means for its prompt, and for all others."""
        said = self._key.harmless(error.body.get("message") if isinstance(error.body, dict) else error)
        words = {str(error.code), str(error.type)}
        if words & _MODERATION:
            return Outcome(reason="moderation", said=said, final=True, facts=facts)
        if words & _NO_MONEY or error.status_code in (401, 403, 404):
            self._stop(
                f"refuses ({error.status_code}: {said})", "correct key, model or base_url, or see to the account"
            )
            return Outcome(reason="stopped", said=said, facts=facts)
        if error.status_code == 429 or error.status_code >= 500:
            return Outcome(reason="busy" if error.status_code == 429 else "server", said=said, facts=facts)
        return Outcome(reason="rejected", said=said, final=True, facts=facts)

    def _stop(self, found: str, cure: str) -> None:
        self._reason = InputError(f"{self.place}: {self.settings.base_url}", found, cure=cure)
        self._stopped.set()

    def _image(self, answer: httpx2.Response, facts: dict[str, Any]) -> Outcome:
        """Take the image from an answer that claims to have one."""
        import httpx2

        try:
            found = answer.json()
            first = found["data"][0]
            coded, url = first.get("b64_json"), first.get("url")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return Outcome(reason="empty", said=self._key.harmless(answer.text), facts=facts)
        told = {"usage": found.get("usage"), "size": found.get("size"), "revised_prompt": first.get("revised_prompt")}
        told["request"] = answer.headers.get("x-request-id")
        told = {name: value for name, value in told.items() if value}
        try:  # NaN and half a surrogate pair can be read and not be written
            text = json.dumps(told, ensure_ascii=False, allow_nan=False)
            text.encode()
            facts |= json.loads(self._key.out_of(text))
        except (ValueError, RecursionError):
            facts["told"] = self._key.harmless(told)
        try:
            data = base64.b64decode(coded) if coded else self._fetched(str(url or ""))
            open_image(Encoded(data, "answer"))
        except (ValueError, TypeError, httpx2.HTTPError, httpx2.InvalidURL) as error:
            return Outcome(reason="no-image", said=self._key.harmless(error), facts=facts)
        return Outcome(image=data, facts=facts)

    def _fetched(self, address: str) -> bytes:
        """Fetch an image from the server itself, or a host that the user trusts; the key is not sent.

        Raises:
            ImageError: it is elsewhere: a server must not make this machine ask others, in its own network for example.
            HTTPError: it cannot be had; redirections are not followed.
        """
        import httpx2

        base = httpx2.URL(self.settings.base_url)
        url = base.join(address)
        own = (url.host, url.port, url.scheme) == (base.host, base.port, base.scheme)
        if not address or not (own or (url.host in self.settings.image_hosts and url.scheme in ("http", "https"))):
            expected = f"an image, or an address at {base.host} or one of image_hosts"
            raise ImageError("answer", f"names {address!r}", expected=expected)
        with httpx2.stream("GET", url, timeout=self.settings.timeout, follow_redirects=False) as response:
            response.raise_for_status()
            return b"".join(itertools.islice(response.iter_bytes(1 << 20), 100))  # 100 MB, if it never ends


load = OpenAI
