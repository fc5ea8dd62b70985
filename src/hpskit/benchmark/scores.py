"""Scores of a model's images by several scorers: each once, kept on disk, continued after a kill.

What identifies a score is the scorer's identity, the SHA-256 of the image file and the prompt; so an image that was
made anew is scored anew, and one that only moved is not.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hpskit.benchmark.result import ScoredImage
from hpskit.benchmark.unfinished import begin, unfinished
from hpskit.errors import ImageError, InputError, ModelError
from hpskit.files import AppendLog, sha256_file
from hpskit.scoring.contract import Scorer
from hpskit.scoring.scorer import streamed
from hpskit.scoring.streaming import stream

__all__ = ["Book", "Progress", "SuiteImage", "hash_images", "open_book", "score_images"]

_FORMAT = "hpskit benchmark scores 1"
_SHOWN_PROBLEMS = 20

Progress = Callable[[str, int, int], None]
"""Told what is being done, how many images are done and how many there are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SuiteImage:
    """One image of a suite as it is now."""

    row: int
    """Number of the prompt in the suite, from 0."""
    prompt: str
    path: Path
    name: str
    """As the result names it."""
    sha256: str
    """Of the file, 64 hex digits."""


class Book:
    """Scores that are known, in memory and in a log on disk."""

    def __init__(self, log: AppendLog, suite_sha256: str) -> None:
        self._log = log
        self._scores: dict[tuple[str, str, str], float] = {}
        begin(log, {"format": _FORMAT, "suite_sha256": suite_sha256}, "on another suite")
        for line in log.lines[1:]:
            self.learn(line["scorer"], line["sha256"], line["prompt"], line["score"])

    def learn(self, identity: str, sha256: str, prompt: str, score: float) -> None:
        """Know a score that is on disk elsewhere."""
        self._scores[identity, sha256, prompt] = score

    def has(self, identity: str, image: SuiteImage) -> bool:
        return (identity, image.sha256, image.prompt) in self._scores

    def score(self, identity: str, image: SuiteImage) -> float:
        return self._scores[identity, image.sha256, image.prompt]

    def add(self, scorers: Sequence[Scorer], images: Sequence[SuiteImage], scores: Sequence[Sequence[float]]) -> None:
        """Scores of each image by each scorer; all of them are on disk afterwards.

        Raises:
            ModelError: a score is not a number.
            OutputError: they cannot be written.
        """
        lines = []
        for image, own in zip(images, scores, strict=True):
            for scorer, score in zip(scorers, own, strict=True):
                if not math.isfinite(score):
                    what = f"the score of {image.name} for {image.prompt!r} is {score}, expected a number"
                    raise ModelError(f"{scorer.info.name}: {what}; try --precision fp32, or other weights")
                shortest = float(f"{score:.9g}")  # the shortest decimal that gives the same float32
                identity = scorer.info.identity
                lines.append({"scorer": identity, "sha256": image.sha256, "prompt": image.prompt, "score": shortest})
                self.learn(identity, image.sha256, image.prompt, shortest)
        self._log.append(*lines)

    def by_prompt(self, images: Sequence[SuiteImage], scorers: Mapping[str, str]) -> Mapping[int, list[ScoredImage]]:
        """Collect the images of each prompt with their scores, by number of the prompt; empty if it has none.

        Args:
            images: all of them are scored.
            scorers: label -> identity.
        """
        rows: defaultdict[int, list[ScoredImage]] = defaultdict(list)
        for image in images:
            scores = {label: self.score(identity, image) for label, identity in scorers.items()}
            rows[image.row].append(ScoredImage(image=image.name, sha256=image.sha256, scores=scores))
        return rows


@contextlib.contextmanager
def open_book(path: Path, suite_sha256: str) -> Iterator[Book]:
    """The scores of unfinished work; see `unfinished`.

    Raises:
        OutputError: another process has the log, or it belongs to another suite.
    """
    with unfinished(path) as log:
        yield Book(log, suite_sha256)


def hash_images(paths: Sequence[Path], progress: Progress) -> list[str]:
    """SHA-256 of each file."""
    digests = []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="hpskit-hash") as pool:
        for done, digest in enumerate(pool.map(sha256_file, paths), 1):
            digests.append(digest)
            progress("reading", done, len(paths))
    return digests


def score_images(images: Sequence[SuiteImage], scorers: Sequence[Scorer], book: Book, progress: Progress) -> int:
    """Score what the book does not have yet.

    Returns:
        Scores that it had.

    Raises:
        InputError: images cannot be decoded. All the others have been scored by then; the broken ones are listed.
        ModelError: a score is not a number.
        OutputError: the log cannot be written.
    """
    todo = [(_lacking(image, scorers, book), image) for image in images]
    done = sum(not lacking for lacking, _ in todo)
    known = sum(len(scorers) - len(lacking) for lacking, _ in todo)
    progress("scoring", done, len(images))
    broken: list[str] = []
    waiting = sorted(((lacking, image) for lacking, image in todo if lacking), key=lambda both: both[0])
    for lacking, run in itertools.groupby(waiting, key=lambda both: both[0]):
        for finished in _score([image for _, image in run], [scorers[n] for n in lacking], book, broken):
            done += finished
            progress("scoring", done, len(images))
    if broken:
        more = f"; and {len(broken) - _SHOWN_PROBLEMS} more" if len(broken) > _SHOWN_PROBLEMS else ""
        shown = "; ".join(broken[:_SHOWN_PROBLEMS])
        cure = "or delete them and count them as missing with --allow-missing; the scores of the others are kept"
        raise InputError(f"{len(broken)} of {len(images)} images cannot be scored: {shown}{more}; {cure}")
    return known


def _lacking(image: SuiteImage, scorers: Sequence[Scorer], book: Book) -> tuple[int, ...]:
    """Numbers of the scorers that have not scored it."""
    return tuple(number for number, scorer in enumerate(scorers) if not book.has(scorer.info.identity, image))


def _score(images: Sequence[SuiteImage], scorers: Sequence[Scorer], book: Book, broken: list[str]) -> Iterator[int]:
    """Yields how many images each step has finished; those that cannot be decoded go into `broken`."""
    waiting = deque(images)
    for outcomes in stream([streamed(s) for s in scorers], (i.path for i in images), (i.prompt for i in images)):
        step = [waiting.popleft() for _ in outcomes]
        broken += [str(outcome) for outcome in outcomes if isinstance(outcome, ImageError)]
        good = [(i, o) for i, o in zip(step, outcomes, strict=True) if not isinstance(o, ImageError)]
        book.add(scorers, [image for image, _ in good], [scores for _, scores in good])
        yield len(step)
