"""Measure the scoring server: bits, throughput, ends, attacks and large bodies.

    python benchmarks/serving_load.py invariance            # which batches change which bits; what steps cost
    python benchmarks/serving_load.py bits --scores 100000  # 64 clients, requests of 1 to 64 images: bits that differ
    python benchmarks/serving_load.py load                  # images per second and waits, with and without a server
    python benchmarks/serving_load.py ends --kills 50       # SIGTERM and SIGKILL under load: who gets which answer
    python benchmarks/serving_load.py fuzz --bodies 100000  # damaged requests: statuses, memory, time
    python benchmarks/serving_load.py bodies                # how long /health takes while 60 MB are read

The server is a process of its own, on this machine; clients and server share its cores. The network `tiny` is a CLIP
with random weights and a vision tower of three layers, `vit` one of the size of ViT-S-32 of open_clip.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image, ImageFilter

from hpskit.scoring.scorer import PreferenceScorer, load_scorer

TINY = "ViT-tiny-serving"
_TINY = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 64, "layers": 3, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}
PROMPTS = [f"a {kind} of a {thing}" for kind in ("photo", "painting", "drawing") for thing in ("cat", "barn", "lake")]


# Scorers and images


def stand_in(folder: Path, architecture: str = TINY) -> Path:
    """A CLIP with random weights; made once in `folder`."""
    import open_clip
    import torch

    config = folder / f"{TINY}.json"
    config.write_text(json.dumps(_TINY))
    open_clip.add_model_config(config)
    path = folder / f"{architecture}.pt"
    if not path.exists():
        torch.manual_seed(0)
        torch.save({"state_dict": open_clip.create_model(architecture, load_weights=False).state_dict()}, path)
    return path


def images(count: int, size: int = 96, kind: str = "JPEG") -> list[bytes]:
    """Files of pictures that look a little like photographs: noise of several scales."""
    found = []
    for number in range(count):
        draw = np.random.default_rng(number)
        base = Image.fromarray(draw.integers(0, 256, (8, 8, 3), np.uint8)).resize(
            (size, size), Image.Resampling.BICUBIC
        )
        grain = Image.fromarray(draw.integers(0, 256, (size, size, 3), np.uint8)).filter(ImageFilter.GaussianBlur(1))
        data = io.BytesIO()
        Image.blend(base, grain, 0.3).save(data, kind, quality=90)
        found.append(data.getvalue())
    return found


def differing(one: Any, other: Any) -> int:
    """How many of two rows of float32 do not have the same bits."""
    import torch

    return int((one.view(torch.int32) != other.view(torch.int32)).sum())


# A server in a process


class Process:
    """`hpskit serve` in a process; `model` is mini or a file that `stand_in` made."""

    def __init__(self, model: str = "mini", *, port: int = 0, options: Sequence[str] = (), threads: int | None = None):
        command = [sys.executable, __file__, "serve", "--model", model, "--port", str(port), *options]
        environment = dict(os.environ) | ({"HPSKIT_THREADS": str(threads)} if threads else {})
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.errors, text=True, env=environment)
        assert self.process.stdout is not None
        self.url = ""
        for line in self.process.stdout:
            if line.startswith("http"):
                self.url = line.strip()
                break
        self.port = int(self.url.rpartition(":")[2])
        end = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), contextlib.closing(Raw(self.port)) as connection:
                if connection.ask(b"GET /ready HTTP/1.1\r\nHost: a\r\n\r\n")[0] == 200:
                    break
            assert time.monotonic() < end
            time.sleep(0.02)

    def memory(self) -> float:
        """Resident MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def cpu_seconds(self) -> float:
        """Time of processors that it has had."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def said(self) -> list[dict[str, Any]]:
        """What it has written to standard error in JSON: its log, and at the end what `Counted` counted."""
        self.errors.seek(0)
        return [json.loads(line) for line in self.errors if line.startswith(b"{")]

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        status = self.process.wait(90)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop(signal.SIGKILL)
        self.errors.close()


def form(files: Sequence[bytes], prompts: Sequence[str], extra: str = "", path: str = "/v1/score") -> bytes:
    """The bytes of a request with a form."""
    parts = [b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n%b\r\n' % text.encode() for text in prompts]
    for data in files:
        head = b'--b\r\nContent-Disposition: form-data; name="images"; filename="a"\r\nContent-Type: image/jpeg\r\n\r\n'
        parts.append(head + data + b"\r\n")
    body = b"".join(parts) + b"--b--\r\n"
    return request(body, "multipart/form-data; boundary=b", extra, path)


def request(body: bytes, kind: str, extra: str = "", path: str = "/v1/score") -> bytes:
    """The bytes of a request."""
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


class Counted:
    """Counts, outside of all that the server does, requests to score whose heads it read and those that it answered."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.read = self.answered = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        self.read += 1

        async def sending(message: Any) -> None:
            await send(message)
            self.answered += message["type"] == "http.response.body" and not message.get("more_body", False)

        await self.app(scope, receive, sending)


class Raw:
    """A connection that sends bytes and reads a reply: cheaper than a client of HTTP, as it shares the cores."""

    def __init__(self, port: int) -> None:
        import socket

        self.socket = socket.create_connection(("127.0.0.1", port), timeout=120)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = self.socket.makefile("rb")

    def ask(self, data: bytes) -> tuple[int, bytes]:
        self.socket.sendall(data)
        return self.reply()

    def reply(self) -> tuple[int, bytes]:
        line = self.reader.readline()
        if not line:
            raise ConnectionResetError("no answer")
        length = 0
        while (header := self.reader.readline()) not in (b"\r\n", b""):
            if header.lower().startswith(b"content-length:"):
                length = int(header.split(b":")[1])
        body = self.reader.read(length)
        if len(body) < length:
            raise ConnectionResetError("half an answer")
        return int(line.split()[1]), body

    def close(self) -> None:
        self.reader.close()
        self.socket.close()


# Bits


def invariance(folder: Path, sizes: Sequence[int] = (2, 3, 8, 16, 64)) -> None:
    """How many scores of 64 change with the batch, and what steps of one cost."""
    import torch

    files = images(64, 256)
    from hpskit.pixels import Encoded

    pictures = [Encoded(data, "image") for data in files]
    prompts = [PROMPTS[n % len(PROMPTS)] for n in range(64)]
    networks = [("mini", None, "fp32"), ("mini", None, "bf16")]
    networks += [(str(stand_in(folder, "ViT-S-32")), "ViT-S-32", kind) for kind in ("fp32", "bf16")]
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}")
    for name, architecture, precision in networks:

        def load(**options: Any) -> PreferenceScorer:
            return load_scorer(name, arch=architecture, precision=precision, device="cpu", **options)  # noqa: B023

        label = f"{architecture or name} {precision}"
        alone = load(batch_size=1).score(pictures, prompts)
        row = [(size, load(batch_size=size).score(pictures, prompts)) for size in sizes]
        counts = " ".join(f"{size}:{differing(alone, found)}" for size, found in row)
        largest = max(float((alone - found).abs().max()) for _, found in row)
        print(f"{label}: scores of 64 whose bits differ from batches of 1, by size: {counts}; at most {largest:.1e}")
        order = list(range(64))
        steady, worst = load(batch_invariant=True), 0
        first = steady.score(pictures, prompts)
        for seed in range(4):
            random.Random(seed).shuffle(order)
            keep = order[: random.Random(seed).randint(1, 64)]
            worst += differing(first[keep], steady.score([pictures[n] for n in keep], [prompts[n] for n in keep]))
        print(f"  batch-invariant: {worst} differ in 4 shuffled parts")
        scorers = {"batch-invariant": steady}
        torch.set_num_threads(os.cpu_count() or 1)  # which loading that has set to 1
        scorers |= {f"batches of {size}": load(batch_size=size) for size in (1, 8)}
        prepared = [steady.preprocessing(tensor) for tensor in torch.rand(64, 3, 224, 224)]  # type: ignore[misc]
        for what, scorer in scorers.items():
            size, speeds = scorer.batch_size, []
            for _ in range(3):
                begun = time.perf_counter()
                for start in range(0, 64, size):
                    scorer.score_prepared(prepared[start : start + size], prompts[start : start + size])
                speeds.append(64 / (time.perf_counter() - begun))
            print(f"  {what}: {max(speeds):.1f} images/s in the network")


@dataclass
class Tally:
    """What clients saw."""

    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    images: int = 0
    wrong: int = 0


def bits(
    model: str, architecture: str | None, scores: int, clients: int = 64, threads: int | None = None, seed: int = 0
) -> Tally:
    """Ask for `scores` scores by many clients at once, 1 to 64 images a request; count bits that differ from ours."""
    from hpskit.pixels import Encoded

    files = images(128)
    local = load_scorer(model, arch=architecture, batch_invariant=True)
    expected: dict[tuple[int, int], float] = {}
    for text, prompt in enumerate(PROMPTS):
        found = local.score([Encoded(data, "image") for data in files], prompt).tolist()
        expected |= {(number, text): value for number, value in enumerate(found)}
    tally, lock, left = Tally(), threading.Lock(), [scores]

    def ask(port: int, number: int) -> None:
        draw, connection = random.Random(seed * 1000 + number), Raw(port)
        while True:
            count = draw.randint(1, 64)
            with lock:
                if left[0] <= 0:
                    break
                left[0] -= count
            chosen = [(draw.randrange(len(files)), draw.randrange(len(PROMPTS))) for _ in range(count)]
            data = form([files[n] for n, _ in chosen], [PROMPTS[text] for _, text in chosen])
            begun = time.perf_counter()
            status, body = connection.ask(data)
            while status == 429:
                time.sleep(json.loads(body)["retry_after"])
                status, body = connection.ask(data)
            results = json.loads(body)["results"]
            with lock:
                tally.statuses[str(status)] += 1
                tally.seconds.append(time.perf_counter() - begun)
                tally.images += len(results)
                tally.wrong += sum(
                    item.get("score") != expected[pair] for item, pair in zip(results, chosen, strict=True)
                )
        connection.close()

    options = ["--arch", architecture] if architecture else []
    with Process(model, options=[*options, "--queue", "2048"], threads=threads) as server:
        begun = time.perf_counter()
        asking = [threading.Thread(target=ask, args=(server.port, number)) for number in range(clients)]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
        seconds = time.perf_counter() - begun
        assert server.stop() == 0
    print(f"{Path(model).stem}: {tally.images:,} scores by {clients} clients in {seconds:.0f} s "
          f"({tally.images / seconds:.0f}/s), {tally.wrong} differ from ours; {dict(tally.statuses)}")  # fmt: skip
    return tally


# Throughput


def load(model: str, clients: int = 64, seconds: float = 30.0, size: int = 512) -> dict[str, float]:
    """Images per second without a server, and with one by requests of 1 and of 8 images."""
    files = images(128, size)
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{n}.jpg" for n in range(len(files))]
        for path, data in zip(paths, files, strict=True):
            path.write_bytes(data)
        for name, options in (("offline", {}), ("offline, batch-invariant", {"batch_invariant": True})):
            code = (
                "import sys, time\nfrom hpskit.scoring.scorer import load_scorer\n"
                f"scorer = load_scorer({model!r}, **{options!r})\npaths = sys.argv[1:]\nscorer.score(paths[:16], 'a')\n"
                "begun, work, done = time.perf_counter(), time.process_time(), 0\n"
                f"while time.perf_counter() - begun < {seconds / 2}:\n    scorer.score(paths, 'a cat')\n"
                "    done += len(paths)\n"
                "print(done / (time.perf_counter() - begun), 1000 * (time.process_time() - work) / done)"
            )
            done = subprocess.run(
                [sys.executable, "-c", code, *map(str, paths)], capture_output=True, text=True, check=True
            )
            found[name], work = map(float, done.stdout.split())
            print(f"{name}: {found[name]:.1f} images/s, {work:.0f} ms of processors each", flush=True)
    for count in (1, 8):
        requests = [form([files[(n + k) % len(files)] for k in range(count)], ["a cat"]) for n in range(len(files))]
        with Process(model, options=["--no-log"]) as server:
            before = server.cpu_seconds()
            tally = asyncio.run(crowd(server.port, requests, clients, seconds, count))
            work = 1000 * (server.cpu_seconds() - before) / max(1, tally.images)
            assert server.stop() == 0
        speed = tally.images / seconds
        found[f"server, {count}"] = speed
        waits = sorted(tally.seconds)
        points = [1000 * waits[int(len(waits) * share)] for share in (0.5, 0.95, 0.99)]
        print(
            f"server, {clients} clients, {count} images a request: {speed:.1f} images/s, "
            f"{100 * speed / found['offline']:.0f} % of offline, {work:.0f} ms of processors each; "
            f"p50 {points[0]:.0f}, p95 {points[1]:.0f}, "
            f"p99 {points[2]:.0f} ms; {dict(tally.statuses)}"
        )
    return found


async def crowd(port: int, requests: Sequence[bytes], clients: int, seconds: float, count: int) -> Tally:
    """Clients that each send their next request when the last is answered."""
    tally, end = Tally(), 0.0

    async def one(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        position = number
        while time.perf_counter() < end:
            begun = time.perf_counter()
            writer.write(requests[position % len(requests)])
            status, length = int((await reader.readline()).split()[1]), 0
            while (header := await reader.readline()) != b"\r\n":
                if header.lower().startswith(b"content-length:"):
                    length = int(header.split(b":")[1])
            body = await reader.readexactly(length)
            tally.statuses[str(status)] += 1
            if status == 200:
                tally.images += count
                tally.seconds.append(time.perf_counter() - begun)
                position += clients
            else:
                await asyncio.sleep(json.loads(body)["retry_after"])
        writer.close()

    end = time.perf_counter() + seconds
    await asyncio.gather(*(one(number) for number in range(clients)))
    return tally


# Ends


def ends(kills: int, clients: int = 16, seed: int = 0) -> Counter[str]:
    """End servers under load, by SIGTERM and by SIGKILL in turn; count what clients saw.

    An answer is whole or there is none, and nobody waits without end. Only what comes after the signal may meet a
    broken connection; after SIGTERM only if the server had not read its head.
    """
    files, draw, seen = images(32, 128), random.Random(seed), Counter[str]()
    expected = json.loads(_once(files))
    for turn in range(kills):
        name, own = "TERM" if turn % 2 == 0 else "KILL", Counter[str]()
        with Process() as server:
            stop, told = threading.Event(), threading.Event()
            asking = [threading.Thread(target=_ask, args=(n, server.port, files, expected, stop, told, own))
                      for n in range(clients)]  # fmt: skip
            for thread in asking:
                thread.start()
            time.sleep(draw.uniform(0.2, 1.5))
            told.set()
            begun = time.monotonic()
            status = server.stop(signal.SIGTERM if name == "TERM" else signal.SIGKILL)
            seen["took as long as what hangs"] += time.monotonic() - begun > 45
            stop.set()
            for thread in asking:
                thread.join()
            said = server.said()
        answers = Counter({what: count for what, count in own.items() if what.isdecimal()})
        others = Counter({f"{name}: {what}": count for what, count in own.items() if what not in {*answers, "sent"}})
        refused = sum(count for what, count in own.items() if what.startswith("refused"))
        seen["sent, without an outcome"] += own["sent"] - (answers.total() + others.total() - refused)
        if name == "TERM":
            counts = said.pop()
            # what is refused has no route yet, and is `other`
            logged = Counter(str(line["status"]) for line in said if line["route"] in ("/v1/score", "other"))
            seen["TERM: head read, not answered"] += counts["read"] - counts["answered"]
            seen["TERM: head read, no answer arrived"] += counts["read"] - answers.total()
            seen["TERM: logged, did not arrive"] += (logged - answers).total()
            seen["TERM: arrived, not logged"] += (answers - logged).total()
        seen.update(answers + others)
        seen[f"{name}: exit status {status}"] += 1
    print(f"{kills} ends: {dict(sorted(seen.items()))}")
    return seen


_COUNTING = threading.Lock()


def _ask(number: int, port: int, files: Sequence[bytes], expected: Sequence[float], stop: threading.Event,
         told: threading.Event, seen: Counter[str]) -> None:  # fmt: skip
    """Ask until there is nobody to ask any more, and count what became of each request."""
    pick = random.Random(number)

    def note(what: str) -> None:
        with _COUNTING:
            seen[what] += 1

    while not stop.is_set():
        chosen = [pick.randrange(len(files)) for _ in range(pick.randint(1, 6))]
        try:
            connection = Raw(port)
        except OSError:
            note("refused connection" if told.is_set() else "refused connection BEFORE THE END")
            return
        note("sent")
        try:
            status, body = connection.ask(form([files[n] for n in chosen], ["a cat"]))
            scores = [item.get("score") for item in json.loads(body).get("results", [])]
            note(str(status) if status != 200 or scores == [expected[n] for n in chosen] else "WRONG")
        except TimeoutError:
            note("HUNG")
            return
        except (OSError, ValueError) as error:
            note(f"broken ({type(error).__name__}){'' if told.is_set() else ' BEFORE THE END'}")
            return
        finally:
            connection.close()


def _once(files: Sequence[bytes]) -> str:
    from hpskit.pixels import Encoded

    return json.dumps(
        load_scorer("mini", batch_invariant=True).score([Encoded(d, "i") for d in files], "a cat").tolist()
    )


# Attacks


def damaged(draw: random.Random) -> bytes:
    """A request that is wrong in some way, or by chance right."""
    files = images(2, 32)
    kind = draw.randrange(6)
    if kind == 0:
        raw = bytearray(form([*files], ["a cat"]))
        begin = raw.index(b"\r\n\r\n") + 4
        for _ in range(draw.randint(1, 20)):
            raw[draw.randrange(begin, len(raw))] = draw.randrange(256)
        return bytes(raw)
    if kind == 1:
        return request(
            draw.randbytes(draw.randrange(400)), draw.choice(["application/json", "multipart/form-data; boundary=b"])
        )
    if kind == 2:
        value = _value(draw, 4)
        return request(
            json.dumps(value).encode(),
            "application/json",
            path=draw.choice(["/v1/score", "/v1/rank", "/score", "/compute", "/"]),
        )
    if kind == 3:
        import base64

        data = bytearray(files[0])
        for _ in range(draw.randint(0, 30)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        cut = data[: draw.randrange(1, len(data) + 1)]
        body = {
            "prompt": draw.choice(["a", "\u0000", "é" * 1000]),
            "images": [base64.b64encode(cut).decode()] * draw.randint(1, 3),
        }
        return request(json.dumps(body).encode(), "application/json", path=draw.choice(["/v1/score", "/v1/compare"]))
    import pickle

    good = pickle.dumps({"images": [files[0]], "prompts": np.array(["a", "b"])})
    if kind == 4:
        raw = bytearray(good)
        for _ in range(draw.randint(1, 10)):
            raw[draw.randrange(len(raw))] = draw.randrange(256)
        return request(bytes(raw), "application/octet-stream", path="/")
    return request(draw.randbytes(draw.randrange(60)) + good[: draw.randrange(len(good))], "a/b", path="/")


def _value(draw: random.Random, depth: int) -> Any:
    names = (
        "prompt",
        "images",
        "model",
        "deadline",
        "requests",
        "history",
        "text",
        "image_b64",
        "required_rewards",
        "image",
        "prompts",
    )
    if depth and draw.random() < 0.6:
        if draw.random() < 0.5:
            return [_value(draw, depth - 1) for _ in range(draw.randrange(4))]
        return {draw.choice(names): _value(draw, depth - 1) for _ in range(draw.randrange(5))}
    return draw.choice(["", "a", "mini", "aGVsbG8=", None, True, -1, 1e308, 10**40, "\ud800", "http://127.0.0.1/"])


def fuzz(bodies: int, clients: int = 8, seed: int = 0) -> Counter[str]:
    """Send damaged requests: each has an answer, none is 500, and memory does not grow."""
    statuses: Counter[str] = Counter()
    slowest, lock = [0.0], threading.Lock()
    options = ["--no-log", "--wire", "unirl", "--wire", "flow-factory", "--wire", "pickle"]
    with Process(options=options) as server:

        def ask(number: int, count: int) -> None:
            draw, connection = random.Random(seed * 1_000_003 + number), Raw(server.port)
            for _ in range(count):
                data = damaged(draw)
                begun = time.perf_counter()
                with lock:
                    statuses["sent"] += 1
                try:
                    status, _ = connection.ask(data)
                    found = str(status)
                except OSError as error:
                    found = "HUNG" if isinstance(error, TimeoutError) else "closed"
                    connection.close()
                    connection = Raw(server.port)
                with lock:
                    statuses[found] += 1
                    slowest[0] = max(slowest[0], time.perf_counter() - begun)
            connection.close()

        memory = []
        parts, begun = 10, time.perf_counter()
        for part in range(parts):
            threads = [
                threading.Thread(target=ask, args=(part * clients + n, bodies // parts // clients))
                for n in range(clients)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            memory.append(server.memory())
        seconds = time.perf_counter() - begun
        assert server.stop() == 0
        counts = server.said().pop()
    answers = sum(count for what, count in statuses.items() if what.isdecimal())
    statuses["head read, not answered"] = counts["read"] - counts["answered"]
    statuses["head read, no answer arrived"] = counts["read"] - answers
    statuses["sent, without an answer"] = statuses["sent"] - answers
    rounded = [round(value) for value in memory]
    print(f"{statuses['sent']:,} bodies in {seconds:.0f} s: {dict(sorted(statuses.items()))}; "
          f"slowest {slowest[0]:.2f} s; "
          f"memory of the server after each tenth, MB: {rounded}")  # fmt: skip
    statuses["growth"] = round(memory[-1] - statistics.median(memory[:3]))
    return statuses


# Large bodies


def large() -> Iterator[tuple[str, bytes]]:
    """Requests of about 60 MB in every form; their images are none, so that reading is all the work."""
    import base64
    import pickle

    noise = random.Random(0).randbytes(60_000_000)
    parts = [noise[n : n + 60_000] for n in range(0, len(noise), 60_000)]
    texts = [base64.b64encode(part[:45_000]).decode() for part in parts]
    one, prompts = base64.b64encode(noise[:45_000_000]).decode(), ["a"] * len(parts)
    yield "form, 1 file", form([noise], ["a"])
    yield "form, 1,000 files", form(parts, ["a"])
    for name, path, said in (
        ("JSON, 1 image", "/v1/score", {"prompt": "a", "images": [one]}),
        ("JSON, 1,000 images", "/v1/score", {"prompt": "a", "images": texts}),
        ("unirl", "/score", {"requests": [{"history": [{"text": "a", "image_b64": text}], "required_rewards": ["mini"]}
                                          for text in texts]}),
        ("flow-factory", "/compute", {"prompt": prompts, "image": texts}),
        ("pickle, as JSON", "/", {"prompts": prompts, "images": texts}),
    ):  # fmt: skip
        yield name, request(json.dumps(said).encode(), "application/json", path=path)
    yield "pickle", request(pickle.dumps({"prompts": prompts, "images": parts}), "a/b", path="/")


def bodies(times: int = 5) -> None:
    """Ask /health again and again while one large body is read."""
    with Process(options=["--no-log", "--wire", "unirl", "--wire", "flow-factory", "--wire", "pickle"]) as server:
        for name, data in large():
            done, waits, seconds = threading.Event(), list[float](), list[float]()

            def look(done: threading.Event = done, waits: list[float] = waits) -> None:
                with contextlib.closing(Raw(server.port)) as connection:
                    while not done.is_set():
                        begun = time.perf_counter()
                        assert connection.ask(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")[0] == 200
                        waits.append(time.perf_counter() - begun)
                        time.sleep(0.002)

            looking = threading.Thread(target=look)
            looking.start()
            for _ in range(times):
                with contextlib.closing(Raw(server.port)) as connection:
                    begun = time.perf_counter()
                    status, _ = connection.ask(data)
                    seconds.append(time.perf_counter() - begun)
            done.set()
            looking.join()
            waits.sort()
            points = [1000 * waits[int(share * (len(waits) - 1))] for share in (0.5, 0.99, 1)]
            print(f"{name}: {len(data) / 1e6:.0f} MB, {status} after {min(seconds):.2f} s; /health: "
                  f"p50 {points[0]:.0f}, p99 {points[1]:.0f}, longest {points[2]:.0f} ms", flush=True)  # fmt: skip
        assert server.stop() == 0


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="serving-") as folder:
        yield Path(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["invariance", "bits", "load", "ends", "fuzz", "bodies", "serve"])
    parser.add_argument("--scores", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--bodies", type=int, default=100_000)
    parser.add_argument("--network", default="mini", help="mini, or tiny: a CLIP with random weights")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--threads", type=int, help="of the server that score, instead of one for each processor")
    known, _ = parser.parse_known_args()
    run: dict[str, Callable[[Path], object]] = {
        "invariance": invariance,
        "bits": lambda folder: bits(*_named(known.network, folder), known.scores, known.clients, known.threads),
        "load": lambda _: load("mini", known.clients, known.seconds),
        "ends": lambda _: ends(known.kills),
        "fuzz": lambda _: fuzz(known.bodies),
        "bodies": lambda _: bodies(),
    }
    if known.what == "serve":
        serve()
        return
    with workplace() as folder:
        run[known.what](folder)


def _named(network: str, folder: Path) -> tuple[str, str | None]:
    return ("mini", None) if network == "mini" else (str(stand_in(folder)), TINY)


def serve() -> None:
    """Be `hpskit serve`, with the network of the stand-in known."""
    import open_clip

    model = sys.argv[sys.argv.index("--model") + 1]
    if (config := Path(model).with_name(f"{TINY}.json")).exists():
        open_clip.add_model_config(config)
    sys.argv = ["hpskit", *sys.argv[1:]]
    if threads := os.environ.get("HPSKIT_THREADS"):
        os.cpu_count = lambda: int(threads)
    from hpskit.cli import main as run
    from hpskit.serving import running

    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    apps, make = list[Counted](), running.create_app
    running.create_app = lambda *args, **more: apps.append(Counted(make(*args, **more))) or apps[0]  # type: ignore
    try:
        run()
    finally:
        print(json.dumps({"read": apps[0].read, "answered": apps[0].answered}), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
