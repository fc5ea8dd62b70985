"""A judge: any model that sees images, on a server of OpenAI's chat completions; `judge:ENDPOINT/MODEL#TEMPLATE`.

An answer that is no score (a refusal, one that was cut off, one in another form) is the error of its image, never a
number. Answers are kept where scores are, by image, prompt, model and template, as the identity has the hash of what is
asked. Which weights answer to the model's name, only the server knows.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import io
import re
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal

from PIL import Image
from pydantic import Field

from hpskit import __version__
from hpskit.errors import ImageError, UnknownModelError, need, shown
from hpskit.files import read_toml
from hpskit.records import ScorerInfo
from hpskit.remote import Chat, ChatSettings, Reply, plain_json
from hpskit.schema import Strict, parse

_NAME = re.compile(r"judge:(?P<base>https?://[^#\s]+?/v1(?=/)|https?://[^#\s]+)/(?P<model>[^#\s]+?)(?:#(?P<form>.+))?")
"""The endpoint ends with the first /v1, because models are called OWNER/NAME; without one at the last slash."""


class Template(Strict):
    """A question to a judge, and how its answer is read; judges.toml says more."""

    question: str
    low: int
    high: int
    marks: Annotated[tuple[str, ...], Field(strict=False)] = ()
    structured: Literal["schema", "none"] = "none"
    """Whether the server is told the form of the answer."""

    @property
    def hash(self) -> str:
        """Name of all that is asked, and of what is made of the answer."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    @property
    def scale(self) -> str:
        """Unit of the score, in words."""
        mean = f"mean of {len(self.marks)} marks, " if len(self.marks) > 1 else ""
        return f"{mean}{self.low} to {self.high}, as the model says; not log-odds, so it gives no probability"

    def read(self, answer: str) -> float:
        """Return the score of an answer; if it has none, that is a ValueError."""
        if self.marks:
            said = [re.match(_MARK, answer.rpartition(name)[2]) for name in self.marks if name in answer]
            values = [float(own[1]) for own in said if own]
            if len(values) < len(self.marks):
                raise ValueError
        else:
            values = [Rating.model_validate_json(plain_json(answer)).score]
        if not all(self.low <= value <= self.high for value in values):
            raise ValueError
        return sum(values) / len(values)


_MARK = r"(?: \(1-5\))?:[^\w-]*?(\d+(?:\.\d+)?)[*_)\]]*(?: ?/ ?5)?[*_)\]]*(?=[.;,]?[ \t]*(?:\n|\Z)|[.;,][ \t])"
"""What follows the name of a mark; behind its number nothing that could change it, such as `3 to 4` or `3,5`."""


class Rating(Strict):
    """Answer that a judge is asked to write."""

    score: float


_SCHEMA = {
    "type": "object",
    "properties": {"score": {"type": "number"}},
    "required": ["score"],
    "additionalProperties": False,
}


@functools.cache
def templates() -> dict[str, Template]:
    """Name -> template; the first is the default."""
    path = Path(__file__).with_name("judges.toml")
    return {name: parse(Template, value, path) for name, value in read_toml(path).items()}


class Judge:
    """A scorer that asks; see `hpskit.scoring.scorer.Plain`."""

    log_odds_per_point = None
    reads_prompt = True

    def __init__(self, name: str) -> None:
        """Read the name and the key, `HPSKIT_JUDGE_KEY`; nothing is asked of the server.

        Raises:
            UnknownModelError: the name is not ENDPOINT/MODEL, or there is no such template.
            MissingExtraError: openai is not installed.
            InputError: the endpoint is no address, or the variable holds no key.
        """
        found = _NAME.fullmatch(name)
        form = (found and found["form"]) or next(iter(templates()))
        if found is None or form not in templates():
            expected = f"judge:http(s)://HOST/v1/MODEL, then perhaps # and one of {', '.join(templates())}"
            raise UnknownModelError("model", f"is {shown(name)}", expected=expected, cure="correct it")
        need("openai", "judge", "judge")
        self.template = templates()[form]
        value = {"model": found["model"], "base_url": found["base"], "key_variable": "HPSKIT_JUDGE_KEY"}
        value |= {"structured": self.template.structured, "most_tokens": 2_000, "timeout": 120.0}
        cures = {"refused": "check model and address", "senseless": "try #rate-plain, or another model"}
        self._chat = Chat(parse(ChatSettings, value, "judge"), "judge", **cures)
        self.info = ScorerInfo(
            name=name.removesuffix(f"#{next(iter(templates()))}"),
            version=f"{form}-{self.template.hash}",
            architecture="chat-completions",
            weight_hash="unstated",
            preprocessing="png",
            precision="unstated",
            scale=self.template.scale,
            licence="unstated",
            package=f"hpskit {__version__}",
        )

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[float | ImageError]:
        """Ask about all images at once; one whose answer is no score has an error instead.

        Raises:
            InputError: the server cannot be used, or never answers as it is asked to.
        """
        return run(self._all(images, prompts))

    async def _all(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[float | ImageError]:
        async with self._chat.client() as client:
            asked = (self._one(client, image, prompt) for image, prompt in zip(images, prompts, strict=True))
            outcomes = await asyncio.gather(*asked, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, ImageError):
                raise outcome
        return [outcome for outcome in outcomes if isinstance(outcome, float | ImageError)]

    async def _one(self, client: Any, image: Image.Image, prompt: str) -> float | ImageError:
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=1)
        url = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        question = {"type": "text", "text": self.template.question.replace("{prompt}", prompt)}
        content = [{"type": "image_url", "image_url": {"url": url}}, question]
        reply = await self._chat.ask(client, [{"role": "user", "content": content}], _SCHEMA, single=True)
        return self._read(reply)

    def _read(self, reply: Reply) -> float | ImageError:
        outcome: str = reply.outcome
        said = reply.said
        if outcome == "text":
            try:
                score = self.template.read(said)
            except ValueError:
                outcome, said = "invalid", self._chat.key.harmless(said)
            else:
                self._chat.see_sense(right=True, said="")
                return score
        self._chat.see_sense(right=outcome not in ("invalid", "empty", "rejected"), said=said)
        found = f"gave no score ({outcome}: {said})" if said else f"gave no score ({outcome})"
        other = "add #rate-plain if the server knows no JSON schema, else look at the image"
        return ImageError(self.info.name, found, cure=other if outcome == "rejected" else "ask another judge")


def run(work: Coroutine[Any, Any, list[float | ImageError]]) -> list[float | ImageError]:
    """Wait for what is asked, also in a notebook, which has a loop of its own."""
    busy = True
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        busy = False
    if not busy:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
