"""The protocols of other reward servers, so that their clients need no change but the address.

Each is off unless it is named. Sources, read at these commits: UniRL `reward_service/schemas.py` and `server.py`
(Tencent-Hunyuan/UniRL @287aec0); Flow-Factory `reward_server/example_server.py` and `my_reward_remote.py`
(X-GenGroup/Flow-Factory @696af07); flow_grpo `rewards.py` (yifan123/flow_grpo @54809b5); verl-omni
`http_scorer_client.py` (verl-project/verl-omni @0ef63e5).
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import struct
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import AliasChoices, BaseModel, Field

from hpskit.errors import HpskitError, InputError
from hpskit.pixels import Encoded
from hpskit.schema import parse
from hpskit.serving.app import Server, body_of, outcomes_of, scores_of
from hpskit.serving.batching import Outcome
from hpskit.serving.reading import Asked, aligned, decode, parsed
from hpskit.web import RefusedError

_Image = Encoded | HpskitError


class _Turn(BaseModel):
    text: str
    image_b64: str | None = None


class _Wanted(BaseModel):
    history: Annotated[list[_Turn], Field(min_length=1)]
    required_rewards: list[str]


class UniRL(BaseModel):
    """Body of UniRL's `POST /score`; fields that scorers of images do not read may be there."""

    requests: list[_Wanted]
    protocol_version: str = "1"
    grad_mode: bool = False


class Lists(BaseModel):
    """Body of Flow-Factory's `POST /compute`, whose client says `prompt`, and of the pickle wire without pickle."""

    images: Annotated[list[str], Field(validation_alias=AliasChoices("images", "image"))]
    prompts: Annotated[list[str] | None, Field(validation_alias=AliasChoices("prompts", "prompt"))] = None


async def unirl(request: Request) -> Response:
    """Score for UniRL: every request by every reward that it names; a failure is told for its request and reward."""
    body, images = await body_of(request, _of_unirl)
    results: list[dict[str, dict[str, float]]] = [{} for _ in body.requests]
    errors: list[dict[str, str]] = [{} for _ in body.requests]
    names = list(dict.fromkeys(name for wanted in body.requests for name in wanted.required_rewards))
    for name in names:
        Server.of(request).models.named(name)
    for name in names:
        rows = [n for n, wanted in enumerate(body.requests) if name in wanted.required_rewards]
        texts = [body.requests[n].history[-1].text for n in rows]
        asked = Asked(prompts=aligned(texts, len(rows)), images=[images[n] for n in rows], model=name)
        _, outcomes = await outcomes_of(request, asked)
        for n, outcome in zip(rows, outcomes, strict=True):
            if isinstance(outcome, float):
                results[n][name] = {name: outcome}
            else:
                errors[n][name] = str(outcome)
    return JSONResponse({"results": results, "errors": errors, "identities": [{} for _ in body.requests],
                         "protocol_version": "1"})  # fmt: skip


def _of_unirl(data: bytes) -> tuple[UniRL, list[_Image]]:
    body = parse(UniRL, parsed(data), "body")
    if body.protocol_version != "1" or body.grad_mode:
        found = "wants gradients" if body.grad_mode else f"is of protocol {body.protocol_version[:20]!r}"
        raise InputError("body", found, expected="protocol 1 without gradients")
    return body, [decode(one.history[-1].image_b64 or "", f"requests[{n}]") for n, one in enumerate(body.requests)]


async def flow_factory(request: Request) -> Response:
    """Score for Flow-Factory, which has one number for each image and no place for an error of one."""
    outcomes = await _scored(request, *await body_of(request, _of_lists))
    return JSONResponse({"rewards": scores_of(outcomes)})


async def pickled(request: Request) -> Response:
    """Score for flow_grpo and verl-omni, whose bodies are pickles, or JSON for those who can change."""
    plain = request.headers.get("content-type", "").startswith("application/json")

    def reply(said: object, status: int = 200) -> Response:
        if plain:
            return JSONResponse(said, status)
        return Response(pickle.dumps(said, protocol=4), status, media_type="application/octet-stream")

    try:
        scores = scores_of(await _scored(request, *await body_of(request, _of_lists if plain else _of_pickle)))
    except RefusedError:
        raise  # 429 and its kin: clients look at the status
    except HpskitError as error:
        return reply({"error": str(error)}, 400)
    return reply({"outputs": scores, "scores": scores})  # the words of flow_grpo, and of verl-omni


def _of_lists(data: bytes) -> tuple[list[str] | None, list[_Image]]:
    body = parse(Lists, parsed(data), "body")
    return body.prompts, [decode(text, f"images[{n}]") for n, text in enumerate(body.images)]


async def _scored(request: Request, prompts: list[str] | None, images: list[_Image]) -> list[Outcome]:
    models = Server.of(request).models
    if prompts is None:
        if models.facts[models.default].reads_prompt:
            raise InputError("prompts", "are missing", expected=f"texts: {models.default} reads them")
        prompts = ["-"] * len(images)
    if not images:
        raise InputError("images", "there are none")
    _, outcomes = await outcomes_of(request, Asked(prompts=aligned(prompts, len(images)), images=images))
    return outcomes


def _of_pickle(data: bytes) -> tuple[list[str] | None, list[_Image]]:
    said = unpickled(data)
    if not isinstance(said, dict) or not isinstance(said.get("images"), list | tuple):
        raise InputError("body", "has no images", expected="a dict with images and prompts")
    if not all(isinstance(image, bytes) for image in said["images"]):
        raise InputError("images", "are not all bytes", expected="a list of image files")
    prompts = said.get("prompts")
    if prompts is not None and not (
        isinstance(prompts, list | tuple) and all(isinstance(text, str) for text in prompts)
    ):
        raise InputError("prompts", "are not texts", expected="a list or a NumPy array of str")
    images: list[_Image] = [Encoded(data, f"images[{n}]") for n, data in enumerate(said["images"])]
    return None if prompts is None else list(prompts), images


# Pickles of strangers

_HARMLESS = re.compile(
    r"(SHORT_)?BIN(BYTES|UNICODE)8?|BYTEARRAY8|BIN(INT[12]?|FLOAT)|LONG1|INT|NONE|NEW(TRUE|FALSE)|EMPTY_(LIST|DICT|TUPLE)|LIST|"
    r"DICT|TUPLE[123]?|APPENDS?|SETITEMS?|PROTO|FRAME|STOP|MARK|POP(_MARK)?|DUP|MEMOIZE|(LONG_)?BIN(PUT|GET)|"
    r"(STACK_)?GLOBAL|REDUCE|BUILD"
)
"""Opcodes of containers, texts, bytes and numbers; the last four also make an array of NumPy."""
_MOST_OPCODES = 200_000


class _Dtype:
    """Stands for a NumPy type of texts: `U`, and the number of characters."""

    def __init__(self, kind: object, *_: object) -> None:
        if not isinstance(kind, str) or kind[:1] != "U" or not kind[1:].isdecimal() or len(kind) > 8:
            raise pickle.UnpicklingError("an array that is not of texts")
        self.width, self.order = int(kind[1:]), "<"

    def __setstate__(self, state: Any) -> None:
        self.order = ">" if state[1] == ">" else "<"


class _Texts(list[str]):
    """Stands for a NumPy array of texts; NumPy itself is not given what a stranger says of memory."""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, _, data = state
        row = isinstance(shape, tuple) and len(shape) == 1
        if not (row and isinstance(dtype, _Dtype) and isinstance(data, bytes | bytearray)):
            raise pickle.UnpicklingError("an array that is not a row of texts")
        size, codec = 4 * dtype.width, "utf-32-le" if dtype.order == "<" else "utf-32-be"
        if type(shape[0]) is not int or not size or divmod(len(data), size) != (shape[0], 0):
            raise pickle.UnpicklingError("an array whose size is not that of its texts")
        self[:] = [data[n : n + size].decode(codec).rstrip("\0") for n in range(0, len(data), size)]


class _Reconstruct:
    """Makes one. No function: a pickle could hang anything on that, and it would stay."""

    def __new__(cls, *_: object) -> _Texts:  # type: ignore[misc]
        return _Texts()

    @staticmethod
    def __setstate__(_: object) -> None:
        raise pickle.UnpicklingError("a state of what makes arrays")


class _FromBuffer(_Reconstruct):
    """Makes one as protocol 5 does."""

    def __new__(cls, data: object, dtype: object, shape: object, *_: object) -> _Texts:  # type: ignore[misc]
        made = _Texts()
        made.__setstate__((1, shape, dtype, False, data))
        return made


_NAMES: Mapping[tuple[str, str], object] = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Texts,
    ("numpy.core.multiarray", "_reconstruct"): _Reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _Reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _FromBuffer,  # as of protocol 5
    ("numpy._core.numeric", "_frombuffer"): _FromBuffer,
}


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return one of our stand-ins; nothing is imported."""
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"{module}.{name}"[:200])
        return _NAMES[module, name]


def look_at(data: bytes) -> None:
    """See that the opcodes of a pickle are harmless.

    Raises:
        UnpicklingError: one is not, or there are too many.
    """
    for count, (code, argument, _) in enumerate(pickletools.genops(data)):
        memo = code.name in ("BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET")
        if not _HARMLESS.fullmatch(code.name) or count > _MOST_OPCODES or (memo and int(argument or 0) > count):
            raise pickle.UnpicklingError(f"{code.name} at {count:,}")


def unpickled(data: bytes) -> object:
    """Load a pickle of containers, texts, bytes, numbers and NumPy arrays of texts; these become lists.

    Its opcodes are looked at first, as some make Python's own unpickler allocate what a stranger says.

    Raises:
        InputError: it holds anything else.
    """
    try:
        look_at(data)
        return _Restricted(io.BytesIO(data)).load()
    except (pickle.UnpicklingError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError,
            RecursionError, MemoryError, OverflowError, struct.error) as error:  # fmt: skip
        found = f"is no pickle of texts, bytes, numbers and lists ({str(error)[:120]})"
        raise InputError("body", found, expected="a dict with images and prompts", cure="or send JSON") from None


WIRES: Mapping[str, tuple[str, Callable[[Request], Awaitable[Response]]]] = {
    "unirl": ("/score", unirl),
    "flow-factory": ("/compute", flow_factory),
    "pickle": ("/", pickled),
}
"""Route and function of each; `pickle` is for flow_grpo and verl-omni."""


def add_wires(names: list[str]) -> Callable[[FastAPI], None]:
    """Return what adds these wires to an application.

    Raises:
        InputError: there is no such wire.
    """
    for name in names:
        if name not in WIRES:
            raise InputError("--wire", f"is {name!r}", expected=f"one of {', '.join(WIRES)}")

    def add(app: FastAPI) -> None:
        for name in names:
            path, route = WIRES[name]
            app.add_api_route(path, route, methods=["POST"], name=name, include_in_schema=False)

    return add
