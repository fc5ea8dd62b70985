"""The book of scores: image x prompt x scorer -> score, each computed once and kept on a ledger.

A score is known by the identity of its scorer, the SHA-256 of the image file and the prompt. So an image that was made
anew is scored anew, one that only moved is not, and a scorer that is added later scores alone. Hash and pixels come
from one reading of the file: a score always belongs to the hash beside it.
"""

from __future__ import annotations

import itertools
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

from hpskit.errors import HpskitError, ImageError, ModelError, RecordError, shown
from hpskit.pixels import Encoded
from hpskit.scoring.contract import Scorer
from hpskit.scoring.scorer import streamed
from hpskit.scoring.streaming import stream
from hpskit.stage import Ledger

if TYPE_CHECKING:
    from hpskit.scoring.addresses import Address

_READ_AHEAD = 16  # files
_ADDED_AT_ONCE = 1000

_READERS = min(4, os.cpu_count() or 1)
"""Threads that read files."""


Source: TypeAlias = Union[Path, Encoded, "Address"]
"""Where an image is."""
Request: TypeAlias = tuple[Source, str]
"""An image and the prompt that it is to be scored for."""


class Digests:
    """SHA-256 of many images, 32 bytes each; empty for one that could not be read."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def append(self, digest: str) -> None:
        """Add one."""
        self._bytes += bytes.fromhex(digest) if digest else bytes(32)

    def __len__(self) -> int:
        return len(self._bytes) // 32

    def __getitem__(self, at: int) -> str:
        if not 0 <= at < len(self):
            raise IndexError(at)
        digest = self._bytes[32 * at : 32 * at + 32]
        return digest.hex() if any(digest) else ""

    def __iter__(self) -> Iterator[str]:
        return (self[at] for at in range(len(self)))


@dataclass(frozen=True, slots=True)
class Filled:
    """Result of `Book.fill`."""

    digests: Digests
    """SHA-256 of each image that was asked for, in order; empty if its file could not be read."""
    known: int
    """Scores of these requests that were in the book before."""


@dataclass(frozen=True, slots=True)
class _Task:
    number: int
    image: Encoded
    sha256: str
    prompt: str
    lacking: tuple[int, ...]
    """Numbers of the scorers that have not scored it."""
    url: str = ""
    """The address that it was brought from."""


class Book:
    """Scores by scorer, image and prompt."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def get(self, identity: str, sha256: str, prompt: str) -> float | None:
        """Return the score that the scorer of this identity gave; None if it gave none."""
        (value,) = self._ledger.get([(identity, sha256, prompt)])
        return value if isinstance(value, float) and math.isfinite(value) else None

    def score(self, identity: str, sha256: str, prompt: str) -> float:
        """Return a score that is in the book; if it is not, that is a KeyError."""
        if (found := self.get(identity, sha256, prompt)) is None:
            raise KeyError((identity, sha256, prompt))
        return found

    def add(self, scores: Iterable[tuple[str, str, str, float]]) -> None:
        """Add scores that stand elsewhere, as (identity, sha256, prompt, score)."""
        rows = iter(scores)
        while part := list(itertools.islice(rows, _ADDED_AT_ONCE)):
            self._ledger.put(((identity, sha256, prompt), score) for identity, sha256, prompt, score in part)

    def fill(
        self,
        scorers: Sequence[Scorer],
        requests: Iterable[Request],
        *,
        broken: Callable[[int, ImageError], None],
        progress: Callable[[int], None] = lambda *_: None,
        continuing: Callable[[int], None] = lambda *_: None,
        readers: int = _READERS,
    ) -> Filled:
        """Score what is not in the book yet, a batch at a time; each batch is on disk before the next.

        Args:
            scorers: of different identities.
            requests: read as they are needed, each image once.
            broken: told the number of a request, from 0, whose image cannot be used, and why; it may raise.
            progress: told how many requests are done.
            continuing: told once, before anything is scored, how many were done by an earlier run, if any were.
            readers: threads that read images.

        Raises:
            ModelError: a score is not a number.
            OutputError: the ledger cannot be written.
        """
        digests = Digests()
        known = 0
        done = 0
        fresh: set[int] = set()
        begun = len(self._ledger) > 0  # else nothing is known but what this run scores, and none of it is remembered
        tasks = self._tasks(scorers, requests, digests, broken, readers)
        for lacking, run in itertools.groupby(tasks, key=lambda task: task.lacking if task else ()):
            if not lacking:  # known to all, or not readable
                for task in run:
                    if task and begun and hash((task.sha256, task.prompt)) not in fresh:
                        known += len(scorers)
                    done += 1
                    progress(done)
                continue
            if known and not fresh:
                continuing(done)
            chosen = [scorers[number] for number in lacking]
            for batch in self._scored(chosen, (task for task in run if task), broken):
                if begun:
                    fresh |= {hash((task.sha256, task.prompt)) for task in batch}
                known += len(batch) * (len(scorers) - len(lacking))
                done += len(batch)
                progress(done)
        return Filled(digests, known)

    def _tasks(
        self,
        scorers: Sequence[Scorer],
        requests: Iterable[Request],
        digests: Digests,
        broken: Callable[[int, ImageError], None],
        readers: int,
    ) -> Iterator[_Task | None]:
        """Yield what is to be done for each request; None if its file cannot be read."""
        identities = [scorer.info.identity for scorer in scorers]

        def known(image: Source, prompt: str) -> str:
            """Return the digest of what an address gave, if all have scored it: it need not be brought again."""
            if isinstance(image, Path | Encoded):
                return ""
            (digest,) = self._ledger.get([("address", image.url)])
            every = digest and all(self.get(identity, digest, prompt) is not None for identity in identities)
            return digest if every else ""

        for number, (image, digest, prompt, url) in enumerate(_read_ahead(requests, readers, known)):
            digests.append(digest)
            if isinstance(image, ImageError):
                broken(number, image)
                yield None
                continue
            lacking = tuple(n for n, identity in enumerate(identities) if self.get(identity, digest, prompt) is None)
            yield _Task(number, image, digest, prompt, lacking, url)

    def _scored(
        self, scorers: Sequence[Scorer], tasks: Iterable[_Task], broken: Callable[[int, ImageError], None]
    ) -> Iterator[list[_Task]]:
        """Score tasks and put the scores into the ledger; yield each batch that is done."""
        waiting, images, prompts = itertools.tee(tasks, 3)
        outcomes_of = stream(
            [streamed(scorer) for scorer in scorers],
            (task.image for task in images),
            (task.prompt for task in prompts),
        )
        for outcomes in outcomes_of:
            batch = list(itertools.islice(waiting, len(outcomes)))
            scores = [
                ((scorer.info.identity, task.sha256, task.prompt), _checked(scorer, task, score))
                for task, outcome in zip(batch, outcomes, strict=True)
                if not isinstance(outcome, ImageError)
                for scorer, score in zip(scorers, outcome, strict=True)
            ]
            self._ledger.put([*scores, *((("address", task.url), task.sha256) for task in batch if task.url)])
            for task, outcome in zip(batch, outcomes, strict=True):
                if isinstance(outcome, ImageError):
                    broken(task.number, outcome)
            yield batch


def _checked(scorer: Scorer, task: _Task, score: float) -> float:
    if not math.isfinite(score):
        place = f"{scorer.info.name}: {task.image.place} for {shown(task.prompt)}"
        cure = "try --precision fp32, or other weights"
        raise ModelError(place, f"has the score {score}", expected="a number", cure=cure)
    return shortest(score)


def stopped(error: HpskitError, place: str) -> RecordError:
    """Make the error of a run that stops at an image: the cure of the image, and how to go on.

    `place` is the row that names it.
    """
    inside = error if error.place.startswith(place) else error.within(place)
    again = "run the same command again (the scores so far are kept), or leave it out with --on-error skip"
    cure = f"{error.cure or 'mend it'}; then {again}"
    return RecordError(inside.place, error.found, expected=error.expected, cure=cure)


def shortest(score: float) -> float:
    """Return the shortest decimal that gives the same float32."""
    return float(f"{score:.9g}")


def _read_ahead(
    requests: Iterable[Request],
    readers: int = _READERS,
    known: Callable[[Source, str], str] = lambda *_: "",
) -> Iterator[tuple[Encoded | ImageError, str, str, str]]:
    """Read and hash images on several threads, a bounded number ahead: (image, sha256, prompt, address) in order.

    Of an image whose digest is `known` nothing is read.
    """
    queue: deque[tuple[Future[tuple[Encoded | ImageError, str]], str, str]] = deque()

    def finished() -> tuple[Encoded | ImageError, str, str, str]:
        future, asked, url = queue.popleft()
        return *future.result(), asked, url

    with ThreadPoolExecutor(readers, thread_name_prefix="hpskit-read") as pool:
        try:
            for image, prompt in requests:
                url = "" if isinstance(image, Path | Encoded) else image.url
                queue.append((pool.submit(_read, image, known(image, prompt)), prompt, url))
                if len(queue) > max(_READ_AHEAD, readers):
                    yield finished()
            while queue:
                yield finished()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _read(image: Source, known: str) -> tuple[Encoded | ImageError, str]:
    if known:
        return Encoded(b"", ""), known
    try:
        encoded = (
            image if isinstance(image, Encoded) else Encoded.read(image) if isinstance(image, Path) else image.read()
        )
    except ImageError as error:
        return error.alone(), ""
    return encoded, encoded.sha256


def read_images(
    paths: Iterable[Path], progress: Callable[[int], None] = lambda *_: None, *, broken: bool = False
) -> list[str]:
    """Hash image files: the SHA-256 of each, in order.

    One that cannot be read is an ImageError; with `broken` it is empty, as in `Filled.digests`.
    """
    digests = []
    for done, (image, digest, *_) in enumerate(_read_ahead((path, "") for path in paths), 1):
        if isinstance(image, ImageError) and not broken:
            raise image
        digests.append(digest)
        progress(done)
    return digests
