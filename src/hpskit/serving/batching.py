"""The queue of a server: what is let in, decoding, steps of the network, and errors of single images.

A request is let in or refused before its images are decoded; what was let in is answered. Images are decoded in a pool
of threads, wait in one queue, and go through the network in steps, first come, first served. One thread scores, as one
processor does.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from hpskit.errors import HpskitError, ImageError, ModelError
from hpskit.pixels import Encoded, check_head
from hpskit.scoring.streaming import Prepared, by_halves, prepare
from hpskit.serving.models import Models
from hpskit.web import RefusedError

_LOG = logging.getLogger("hpskit.serving")
_SMOOTHING = 0.2
"""Weight of the newest step in the mean time of a round."""

Outcome = float | HpskitError
"""A score, or why there is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Bounds of a server. What is beyond them is refused at once, never kept waiting without end."""

    requests: int = 256
    """Requests at work: whose body is being read, or whose images wait."""
    images: int = 1_024
    """Images at work. A decoded one has 0.6 MB for most models."""
    pixels: int = 2**29
    """Pixels of the images at work, as stored: 512 images of 1024x1024."""
    body: int = 64 * 2**20
    """Bytes of one request."""
    bodies: int = 512 * 2**20
    """Bytes of all requests at work."""
    linger: float = 0.002
    """Seconds for which a step that is not full waits for images that are being decoded."""
    stall: float = 120.0
    """Seconds without a finished image, while some are at work, after which the server calls itself ill."""
    drain: float = 60.0
    """Seconds that what was let in may take when the server is told to end."""


class BusyError(RefusedError):
    """A request that is refused now and may be welcome later."""

    def __init__(self, found: str, seconds: float, *, status: int = 429, place: str = "server") -> None:
        wait = max(0.05, seconds)
        super().__init__(status, place, found, cure=f"ask again in {wait:.2g} s")
        self.seconds = wait


@dataclass(slots=True)
class Job:
    """Images of one request."""

    model: str
    prompts: Sequence[str]
    pixels: Sequence[int]
    until: float
    """When an answer is of no use any more, by the monotonic clock."""
    outcomes: list[Outcome | None]
    left: int
    done: Future[list[Outcome]] = field(default_factory=Future)
    gone: bool = False
    """Whether nobody waits for it any more."""


class Scoring:
    """Images of many requests through the scorers of one process."""

    def __init__(self, models: Models, limits: Limits, *, stepped: Callable[[str, int, float], None]) -> None:
        """Begin to work; `stepped` is told the model, images and seconds of every step."""
        self.models, self.limits, self._stepped = models, limits, stepped
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Job, int, Prepared]] = deque()
        self._held: Counter[str] = Counter()
        """Images of each model that were let in and have no outcome yet."""
        self._pixels = 0
        self._seconds = {name: facts.seconds for name, facts in models.facts.items()}
        """Of a round of each model: see `Facts.at_once`."""
        self._moved = time.monotonic()
        """When an image was last finished, or came to an idle server."""
        self._ending = self._busy = False
        self._decoders = ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="hpskit-decode")
        self._thread = threading.Thread(target=self._work, name="hpskit-score", daemon=True)
        self._thread.start()

    # What is let in

    def submit(self, model: str, images: Sequence[Encoded | HpskitError], prompts: Sequence[str], pixels: Sequence[int],
               *, until: float = math.inf) -> Job:  # fmt: skip
        """Let N images in, or refuse all of them.

        Args:
            model: a name of `models`.
            images: bytes, or why there are none: such an image has its outcome already.
            prompts: one for each.
            pixels: of each image, as `pixels_of` tells.
            until: when the answer is of no use any more, by the monotonic clock.

        Raises:
            BusyError: the queue is full, or will take longer than that.
            RefusedError: it is over already, or the images are more than the queue can ever hold.
        """
        broken = [image if isinstance(image, HpskitError) else None for image in images]
        count, size = broken.count(None), sum(pixels)
        if count > self.limits.images or size > self.limits.pixels:
            expected = f"at most {self.limits.images:,} images with {self.limits.pixels / 1e6:,.0f} megapixels"
            found = f"are {count:,} with {size / 1e6:,.0f} megapixels"
            raise RefusedError(413, "images", found, expected=expected, cure="send fewer at a time")
        job = Job(model, prompts, pixels, until, [*broken], count)
        if (left := until - time.monotonic()) <= 0:
            raise too_late()
        with self._changed:
            wait = self._wait()
            own = self._rounds(model, count) * self._seconds[model]
            if self._held.total() + count > self.limits.images or self._pixels + size > self.limits.pixels:
                raise BusyError("has no room for more images", wait / 2)
            step = self.models.facts[model].batch_size  # is tried where nothing waits: only so is the time learnt
            if wait + own > left and (self._held.total() or count > step):
                found = f"is over in {left:.2g} s, and the answer would take about {wait + own:.2g} s"
                raise BusyError(found, wait + own - left, place="deadline")
            if not self._held.total():
                self._moved = time.monotonic()
            self._held[model] += count
            self._pixels += size
        if not count:
            job.done.set_result([outcome for outcome in job.outcomes if outcome is not None])
        for number, image in enumerate(images):
            if isinstance(image, Encoded):
                self._decoders.submit(self._decode, job, number, image)
        return job

    def _wait(self) -> float:
        return sum(self._rounds(name, count) * self._seconds[name] for name, count in self._held.items())

    def _rounds(self, model: str, count: int) -> int:
        return math.ceil(count / self.models.facts[model].at_once)

    @property
    def wait(self) -> float:
        """Seconds until what is at work now will be done, about."""
        with self._changed:
            return self._wait()

    @property
    def at_work(self) -> tuple[int, int]:
        """Images, and pixels, that were let in and have no outcome yet."""
        with self._changed:
            return self._held.total(), self._pixels

    def illness(self) -> str:
        """Say why the server is not well; empty if it is."""
        with self._changed:
            idle = time.monotonic() - self._moved
            if not self._thread.is_alive() and not self._ending:
                return "the thread that scores has ended"
            if self._held.total() and idle > self.limits.stall:
                return f"no image was finished for {idle:.0f} s, and {self._held.total():,} are at work"
        return ""

    def close(self) -> None:
        """End the threads; what still waits stays without an answer."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._decoders.shutdown(wait=False, cancel_futures=True)
        self._thread.join(timeout=10)

    # The way of an image

    def _decode(self, job: Job, number: int, image: Encoded) -> None:
        if job.gone or time.monotonic() > job.until:
            self._finish(job, number, too_late())
            return
        try:
            kind = self.models.facts[job.model].preprocessing
            ready = prepare(image, [kind])
        except Exception as error:  # noqa: BLE001  # no image may cost a thread of the pool, or leave its request waiting
            _LOG.exception("decoding failed")
            ready = ImageError(image.place, f"cannot be decoded ({type(error).__name__})")
        if isinstance(ready, ImageError):
            self._finish(job, number, ready)
            return
        with self._changed:
            self._waiting.append((job, number, ready[kind]))
            self._changed.notify_all()

    def _work(self) -> None:
        while step := self._take():
            self._score(step)

    def _take(self) -> list[tuple[Job, int, Prepared]]:
        """Wait for images, and take those of the model that is first, up to a step; empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ending)
            if self._ending:
                return []
            model = self._waiting[0][0].model
            size = self.models.facts[model].batch_size
            until = time.monotonic() + self.limits.linger

            def full() -> bool:
                there = sum(job.model == model for job, _, _ in self._waiting)
                return self._ending or there >= min(size, self._held[model])

            if size > 1:
                self._changed.wait_for(full, timeout=max(0.0, until - time.monotonic()))
            taken, others = list[tuple[Job, int, Prepared]](), deque[tuple[Job, int, Prepared]]()
            while self._waiting and len(taken) < size:
                one = self._waiting.popleft()
                (taken if one[0].model == model else others).append(one)
            self._waiting.extendleft(reversed(others))
            return taken

    def _score(self, step: list[tuple[Job, int, Prepared]]) -> None:
        now = time.monotonic()
        late = [one for one in step if one[0].gone or now > one[0].until]
        for job, number, _ in late:
            self._finish(job, number, too_late())
        step = [one for one in step if one not in late] if late else step
        if not step:
            return
        model = step[0][0].model
        self._busy = True
        for (job, number, _), outcome in zip(step, self._outcomes(model, step), strict=True):
            self._finish(job, number, outcome)
        self._busy = False

    def _outcomes(self, model: str, step: list[tuple[Job, int, Prepared]]) -> list[Outcome]:
        """Score a step; an image that fails, whatever a network or its memory gives up with, spoils no other."""
        try:
            scorer = self.models.get(model)  # it may have to be loaded, which is no time of an image
        except Exception as error:  # noqa: BLE001  # a file that is damaged, memory that is not there
            return [self._failed(model, error)] * len(step)
        begun = time.perf_counter()
        prompts = [job.prompts[number] for job, number, _ in step]
        found = by_halves(scorer.outcomes, [image for *_, image in step], prompts)
        seconds = time.perf_counter() - begun
        with self._changed:
            self._seconds[model] += _SMOOTHING * (seconds / self._rounds(model, len(step)) - self._seconds[model])
        self._stepped(model, len(step), seconds)
        return [one if isinstance(one, float) and math.isfinite(one) else self._failed(model, one) for one in found]

    def _failed(self, model: str, found: object) -> HpskitError:
        if isinstance(found, float):
            return ModelError(model, "gives a score that is not finite", cure="mend the scorer")
        if isinstance(found, HpskitError):
            return found.alone()
        _LOG.error("scoring failed", exc_info=found if isinstance(found, Exception) else None)
        return ModelError(model, f"failed ({type(found).__name__})", cure="see the server's log")

    def _finish(self, job: Job, number: int, outcome: Outcome) -> None:
        with self._changed:
            self._held[job.model] -= 1
            self._pixels -= job.pixels[number]
            here = threading.current_thread() is self._thread
            if here or not (self._busy or self._waiting):  # a broken image says nothing of a network that hangs
                self._moved = time.monotonic()
            job.outcomes[number] = outcome
            job.left -= 1
            last = not job.left
        if last:
            job.done.set_result([outcome for outcome in job.outcomes if outcome is not None])


def too_late() -> RefusedError:
    """Make the outcome of an image whose turn came when its deadline was over."""
    return RefusedError(504, "deadline", "was over before the image's turn came", cure="ask again, or allow more time")


def pixels_of(images: Sequence[Encoded | HpskitError]) -> tuple[list[Encoded | HpskitError], list[int]]:
    """Read the heads of image files; one that is no image becomes its error, and has 0 pixels."""
    found: list[Encoded | HpskitError] = []
    sizes = []
    for image in images:
        size = 0
        if isinstance(image, Encoded):
            try:
                width, height = check_head(image)
                size = width * height
            except ImageError as error:
                image = error.alone()
        found.append(image)
        sizes.append(size)
    return found, sizes
