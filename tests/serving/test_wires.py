"""Wires of other reward servers, as their clients speak them; and pickles of strangers."""

from __future__ import annotations

import base64
import os
import pickle
import random
import struct
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from requests.adapters import HTTPAdapter, Retry

from hpskit.errors import InputError
from hpskit.serving.batching import Limits
from hpskit.serving.wires import add_wires, unpickled
from scoring_server import Served, gated, picture, served


@pytest.fixture(scope="module")
def wired() -> Iterator[Served]:
    _, load = gated()
    with served(load=load, wires=["unirl", "flow-factory", "pickle"]) as found:
        yield found


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_wires_are_off_unless_named() -> None:
    _, load = gated()
    with served(load=load) as server:
        for path in ("/score", "/compute", "/"):
            assert server.http.post(path, json={}).status_code in (404, 405)
    with pytest.raises(InputError, match="unirl"):
        add_wires(["uni-rl"])


def test_unirl(wired: Served) -> None:
    def wanted(image: bytes, *rewards: str) -> dict[str, Any]:
        history = [{"text": "a cat", "image_b64": text(image)}]
        return {"history": history, "required_rewards": list(rewards), "metadata": None, "request_id": "7"}

    body = {"requests": [wanted(picture(7), "gated"), wanted(b"no image", "gated"), wanted(picture(9))]}
    said = wired.http.post("/score", json=body | {"protocol_version": "1"}).json()
    assert said["results"] == [{"gated": {"gated": 7}}, {}, {}]
    assert [set(errors) for errors in said["errors"]] == [set(), {"gated"}, set()]
    assert wired.http.post("/score", json={"requests": []}).json()["results"] == []
    assert wired.http.post("/score", json={"requests": [wanted(picture(), "hpsv3")]}).status_code == 404
    assert wired.http.post("/score", json=body | {"grad_mode": True}).status_code == 400


def test_flow_factory(wired: Served) -> None:
    body = {"prompt": ["a", "b"], "image": [text(picture(3)), text(picture(4))], "video": None, "kwargs": None}
    assert wired.http.post("/compute", json=body).json() == {"rewards": [3, 4]}
    body = {"prompts": ["a"], "images": [text(picture(5))]}
    assert wired.http.post("/compute", json=body).json() == {"rewards": [5]}
    body = {"prompt": ["a"], "image": [text(b"x")]}
    assert wired.http.post("/compute", json=body).status_code == 400


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("prompts", [np.array(["ein Bär", "b"]), ["ein Bär", "b"], ("ein Bär", "b")], ids=type)
def test_flow_grpo_and_verl_omni(wired: Served, prompts: Any, protocol: int) -> None:
    if protocol == 2 and not isinstance(prompts, list):
        pytest.skip("bytes of protocol 2 are made by _codecs.encode")
    body = pickle.dumps({"images": [picture(3, kind="JPEG"), picture(4)], "prompts": prompts, "metadata": {}}, protocol)
    if protocol == 2:
        assert wired.http.post("/", content=body).status_code == 400
        return
    reply = wired.http.post("/", content=body)
    said = pickle.loads(reply.content)
    assert said["outputs"] == said["scores"] == [3, 4]


def test_the_twin_without_pickle(wired: Served) -> None:
    body = {"images": [text(picture(3))], "prompts": ["a"]}
    assert wired.http.post("/", json=body).json() == {"outputs": [3], "scores": [3]}
    assert "prompts" in wired.http.post("/", json={"images": [text(picture(3))]}).json()["error"]


def test_the_session_of_flow_grpo_waits_for_a_full_queue() -> None:
    """Its `Retry(status_forcelist=[500])` obeys `Retry-After` of 429."""
    made, load = gated()
    session = requests.Session()
    session.mount("http://", HTTPAdapter(max_retries=Retry(total=1000, status_forcelist=[500], allowed_methods=False)))
    with served(load=load, wires=["pickle"], limits=Limits(images=1)) as server:
        made.open.clear()
        data = pickle.dumps({"images": [picture(5)], "prompts": np.array(["a"])})
        first = threading.Thread(target=server.http.post, args=("/",), kwargs={"content": data})
        first.start()
        while server.server.scoring.at_work[0] < 1:
            time.sleep(0.01)
        threading.Timer(0.4, made.open.set).start()
        assert pickle.loads(session.post(server.url, data=data, timeout=20).content)["outputs"] == [5]
        first.join()


# Pickles of strangers


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("evil",)


def array_of(dtype: Any, state: tuple[Any, ...]) -> bytes:
    """A pickle of an array whose state is made up."""

    class Made:
        def __reduce__(self) -> tuple[Any, ...]:
            return np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), state

    return pickle.dumps({"images": Made()})


class Lying:
    """A NumPy type of objects whose state says that it holds none, so that bytes would be taken for pointers."""

    def __reduce__(self) -> tuple[Any, ...]:
        return np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, 0)


HOSTILE = {
    "a call": pickle.dumps(Evil()),
    "a call inside": pickle.dumps({"images": [Evil()]}),
    "the old opcode": b"(S'evil'\nios\nmkdir\n.",
    "a global": b"cbuiltins\neval\n.",
    "a dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0edtype.__init__\x93.",
    "an object array": pickle.dumps(np.array([print], dtype=object)),
    "numbers": pickle.dumps(np.zeros(3)),
    "pointers": array_of(None, (1, (1,), Lying(), False, struct.pack("P", 4_242_424_242))),
    "too small": array_of(None, (1, (10**9,), np.dtype("<U4"), False, b"abcd")),
    "a text that would be repeated": array_of(None, (1, ("x" * 100,), np.dtype("<U999999"), False, b"abcd")),
    "a state of what makes arrays": b"\x80\x04cnumpy.core.multiarray\n_reconstruct\n}\x8c\x01a\x8c\x01bsb.",
    "a huge memo": b"\x80\x04N\x72\xff\xff\xff\x7f.",
    "huge bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"abc.",
    "a huge number": b"\x80\x04\x8b\xff\xff\xff\x7f1.",
    "an extension": b"\x80\x02\x82\x01.",
    "a persistent id": b"\x80\x04\x8c\x01aQ.",
    "deep": b"\x80\x04" + b"]" * 150_000 + b"a" * 149_999 + b".",
    "nothing": b"",
    "cut": pickle.dumps({"images": [b"a" * 100]})[:50],
    "build a list": b"\x80\x04]}b.",
    "reduce a text": b"\x80\x04\x8c\x01a)R.",
    "NumPy's type called twice": b"\x80\x04cnumpy\ndtype\n\x8c\x02U4\x85R)R.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wired: Served) -> None:
    monkeypatch.chdir(tmp_path)
    tracemalloc.start()
    with pytest.raises(InputError):
        unpickled(HOSTILE[name])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000_000
    assert wired.http.post("/", content=HOSTILE[name]).status_code == 400
    assert not list(tmp_path.iterdir())


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=8,
)


@given(plain, st.integers(3, pickle.HIGHEST_PROTOCOL))
def test_plain_things_come_through(value: Any, protocol: int) -> None:
    assert unpickled(pickle.dumps(value, protocol)) == value


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1))
def test_arrays_of_texts_come_through(texts: list[str]) -> None:
    array = np.array(texts)
    if array.dtype.itemsize:
        assert unpickled(pickle.dumps(array)) == array.tolist()
        assert unpickled(pickle.dumps(array.astype(array.dtype.newbyteorder(">")))) == array.tolist()


def test_a_damaged_pickle_is_refused_or_plain() -> None:
    draw = random.Random(0)
    good = pickle.dumps({"images": [picture()], "prompts": np.array(["a", "bc"])})
    for _ in range(3_000):
        data = bytearray(good)
        for _ in range(draw.randint(1, 5)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        try:
            unpickled(bytes(data))
        except InputError:
            continue
