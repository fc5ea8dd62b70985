"""Scores of every image of a data set by several scorers: each once, kept on disk, continued after a kill.

Each scorer has a log of its own, `scores/NAME-IDENTITY.jsonl`: a header and one line for each image and prompt. So a
scorer that is added later scores alone, and two precisions of one model never mix.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hpskit.dataset.group import Group
from hpskit.errors import ImageError, ModelError, OutputError, RecordError
from hpskit.evaluation.material import Material, OnError, image_stamp
from hpskit.files import AppendLog
from hpskit.records import ScorerInfo
from hpskit.scoring.contract import Scorer
from hpskit.scoring.scorer import streamed
from hpskit.scoring.streaming import stream

__all__ = ["Scored", "score_material"]

_FORMAT = "hpskit evaluation scores 1"

Key = tuple[str, str]
"""An image and the prompt that it is scored for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """The groups that every scorer has scored, and the scores."""

    material: Material
    """Without the groups of which an image turned out to be broken."""
    scores: tuple[tuple[NDArray[np.float64], ...], ...]
    """For each scorer, for each group, (images,)."""
    logs: tuple[Path, ...]
    resumed: int
    """Scores that an earlier run had made."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Task:
    """One image to be scored for one prompt by the scorers that have not done it yet."""

    place: str
    key: Key
    stamp: str
    """Of the image, see `image_stamp`."""
    image: Path | Image.Image
    missing: tuple[int, ...]
    """Numbers of the scorers."""


class _Book:
    """The scores of one scorer, on disk and in memory."""

    def __init__(self, scorer: Scorer, log: AppendLog, material: Material) -> None:
        self.scorer, self._log = scorer, log
        header = {"format": _FORMAT, "scorer": scorer.info.identity, "data_sha256": material.sha256}
        if not log.lines:
            log.append(header)
        for name, value in header.items():
            if log.lines and log.lines[0].get(name) != value:
                found = f"{name} is {log.lines[0].get(name)!r}, this run has {value!r}"
                raise OutputError(f"{log.path}: {found}; choose another --out, or delete the file")
        self._scores = {(line["image"], line["prompt"]): (line["score"], line["stamp"]) for line in log.lines[1:]}

    def has(self, key: Key, stamp: str) -> bool:
        """Whether the image was scored as it is now."""
        return key in self._scores and self._scores[key][1] == stamp

    def add(self, tasks: Sequence[_Task], scores: Sequence[float]) -> None:
        """All of them are on disk afterwards; a score of an image that has changed since is replaced."""
        lines = []
        for task, score in zip(tasks, scores, strict=True):
            image, prompt = task.key
            if not math.isfinite(score):
                what = f"the score of {image} for {prompt!r} is {score}, expected a number"
                raise ModelError(f"{self.scorer.info.name}: {what}; try --precision fp32, or other weights")
            shortest = float(f"{score:.9g}")  # the shortest decimal that gives the same float32
            lines.append({"image": image, "prompt": prompt, "score": shortest, "stamp": task.stamp})
            self._scores[task.key] = (shortest, task.stamp)
        self._log.append(*lines)

    def of(self, group: Group) -> NDArray[np.float64]:
        """(images,)"""
        return np.array([self._scores[image, group.prompt][0] for image in group.images], dtype=np.float64)


def score_material(
    material: Material,
    scorers: Sequence[Scorer],
    folder: Path,
    *,
    on_error: OnError = "fail",
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Scored:
    """Score each image once for its prompt by every scorer; continue where a killed run stopped.

    Args:
        material: the groups.
        scorers: at least one, of different identities.
        folder: where the logs are.
        on_error: whether an image that cannot be decoded stops the run or removes its group for every scorer.
        progress: called with images done and images in all.

    Raises:
        RecordError: an image cannot be decoded, in mode `fail`; what was scored before is kept.
        ModelError: a score is not a number.
        OutputError: a log cannot be written or belongs to other data.
    """
    paths = [_log_path(folder, scorer.info) for scorer in scorers]
    broken: dict[Key, str] = {}
    with contextlib.ExitStack() as stack:
        logs = [stack.enter_context(AppendLog(path)) for path in paths]
        books = [_Book(scorer, log, material) for scorer, log in zip(scorers, logs, strict=True)]
        total = len({(image, group.prompt) for group in material.groups for image in group.images})
        done = resumed = 0
        for missing, run in itertools.groupby(_tasks(material, books), key=lambda task: task.missing):
            for finished in _score(run, [books[number] for number in missing], on_error, broken):
                done += finished
                resumed += finished * (len(books) - len(missing))
                progress(done, total)
    if broken:
        material = material.without(_places(material, broken))
    scores = tuple(tuple(book.of(group) for group in material.groups) for book in books)
    return Scored(material=material, scores=scores, logs=tuple(paths), resumed=resumed)


def _log_path(folder: Path, info: ScorerInfo) -> Path:
    name = re.sub(r"[^\w.-]+", "_", info.name)
    return folder / f"{name}-{hashlib.sha256(info.identity.encode()).hexdigest()[:8]}.jsonl"


def _tasks(material: Material, books: Sequence[_Book]) -> Iterator[_Task]:
    """Each image and prompt once, in the order of the data. The data is read again: it may carry its images."""
    wanted = {group.place for group in material.groups}
    seen: dict[Key, str] = {}
    for group in material.data:
        if group.place not in wanted:
            continue
        for name in group.images:
            key = (name, group.prompt)
            stamp = image_stamp(material.data, group, name)
            if seen.get(key, stamp) != stamp:
                cure = "give images that differ names that differ"
                raise RecordError(f"{group.place}: image {name!r} is another one than before under this name; {cure}")
            if key not in seen:
                seen[key] = stamp
                missing = tuple(number for number, book in enumerate(books) if not book.has(key, stamp))
                image = material.data.image(group, name)
                yield _Task(place=group.place, key=key, stamp=stamp, image=image, missing=missing)


def _score(run: Iterator[_Task], books: Sequence[_Book], on_error: OnError, broken: dict[Key, str]) -> Iterator[int]:
    """Score a run of images by these scorers; yields how many images each step has finished.

    Images that cannot be decoded go into `broken`, or stop the run.
    """
    if not books:
        yield sum(1 for _ in run)
        return
    waiting: deque[_Task] = deque()
    images, prompts = itertools.tee(_noted(run, waiting))
    pairs = (task.image for task in images), (task.key[1] for task in prompts)
    for outcomes in stream([streamed(book.scorer) for book in books], *pairs):
        tasks = [waiting.popleft() for _ in outcomes]
        good = [(t, o) for t, o in zip(tasks, outcomes, strict=True) if not isinstance(o, ImageError)]
        for column, book in enumerate(books):
            book.add([task for task, _ in good], [scores[column] for _, scores in good])
        for task, outcome in zip(tasks, outcomes, strict=True):
            if isinstance(outcome, ImageError):
                broken[task.key] = str(outcome)
                _stop_at(task, outcome, on_error)
        yield len(tasks)


def _noted(run: Iterator[_Task], waiting: deque[_Task]) -> Iterator[_Task]:
    for task in run:
        waiting.append(task)
        yield task


def _stop_at(task: _Task, error: ImageError, on_error: OnError) -> None:
    if on_error == "fail":
        cure = "mend it and run the same command again, or leave the group out with --on-error skip"
        raise RecordError(f"{task.place}: {error}. The scores so far are kept; {cure}") from error


def _places(material: Material, broken: Mapping[Key, str]) -> dict[str, str]:
    """Every group that shows a broken image, with the reason."""
    reasons = {
        group.place: [broken[image, group.prompt] for image in group.images if (image, group.prompt) in broken]
        for group in material.groups
    }
    return {place: found[0] for place, found in reasons.items() if found}
