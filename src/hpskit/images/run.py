"""Make the images of a plan: every image is there whole, or has the reason why it is not; killed, a run goes on.

OUT/.images.ledger          a state for each image; processes share it, and each claims a batch at a time
OUT/GENERATOR/STYLE/        the images, as `hpskit benchmark run` reads them
OUT/GENERATOR.json          who made them; `hpskit benchmark run --meta` takes it
OUT/images.jsonl            a row for each image of the plan, with its state; written anew at the end of each run
OUT/images.json             the record of it
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from hpskit import __version__
from hpskit.errors import ImageError, InputError, OutputError
from hpskit.files import held, publish, publish_json, sha256_file
from hpskit.images.contract import Generator, GeneratorSettings, Outcome
from hpskit.images.plan import Cell, load_generator, make_plan
from hpskit.pixels import Encoded, check_head, open_image
from hpskit.rows import read_rows
from hpskit.schema import parse
from hpskit.stage import Ledger, check_free, check_same_run, check_space, goes_on
from hpskit.stage import publish as publish_products

if TYPE_CHECKING:
    from PIL import Image

    from hpskit.images.layout import ImageSet
    from hpskit.prompts.suites import Suite, SuitePrompt

FORMAT = "hpskit images 1"
LEDGER, ROWS, RECORD = ".images.ledger", "images.jsonl", "images.json"
_WAIT = 120.0
"""Seconds for which a process waits until another has written down what it did."""
_ENDINGS = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"RIFF": ".webp"}

Entry = dict[str, Any]
"""What the ledger holds of a cell: `state` (claimed, done, failed, refused), and what belongs to it."""


@dataclass(frozen=True, kw_only=True)
class GenerateRun:
    """Settings of a run."""

    suite: Suite
    generators: Sequence[GeneratorSettings]
    out: Path
    seed: int = 0
    """Decides the seeds of all images."""
    retry_failed: str = ""
    """Reason of failed images that are tried again; `all` is any."""
    progress: Callable[[str, int, int | None], None] = field(default=lambda *_: None, repr=False)
    """Told the generator, and how many of its images are there, of how many."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """Images that are there at the end of a run, and those that are not."""

    states: dict[str, dict[str, int]]
    """Generator -> state, failures with their reason (`failed: timeout`) -> number of images."""
    said: dict[tuple[str, str], str]
    """Generator and state -> what was said of the first such image, if anything was."""

    @property
    def missing(self) -> int:
        """Images of the plan that are not there."""
        return sum(count for states in self.states.values() for state, count in states.items() if state != "done")


def generate(run: GenerateRun) -> Made:
    """Make all images that are not there yet, and return the states of all.

    Raises:
        InputError: settings of a generator do not fit.
        OutputError: the folder was begun with other prompts, seed or settings, holds something else under a name that
            is needed, cannot be written, or has no room.
    """
    folder = Folder(run.out, run.suite)
    generators = [load_generator(settings) for settings in run.generators]
    plans = []
    for settings, about in zip(run.generators, [one.info.to_json() for one in generators], strict=True):
        info = {name: value for name, value in about.items() if name != "package"}
        plan = make_plan(run.suite, settings, info, run.seed)
        folder.register(settings.name, {**info, "images": settings.images, "seed": run.seed}, about, plan)
        plans.append(plan)
    folder.check_reason(run.retry_failed)
    try:
        with goes_on(), folder.working() as me:
            for settings, plan in zip(run.generators, plans, strict=True):
                Worker(folder, me, settings, generators.pop(0), run).work(plan)  # and let its weights go
    finally:  # also of a run that is stopped: what is there can be used
        made = folder.publish()
    return made


def import_images(
    suite: Suite,
    images: ImageSet,
    name: str,
    out: Path,
    *,
    progress: Callable[[str, int, int | None], None] = lambda *_: None,
) -> Made:
    """Bring images that somebody else made into the folder of a run, each as it is, as those of a generator.

    Raises:
        InputError: the name cannot be that of a generator.
        ImageError: an image cannot be used.
        OutputError: other images were brought in under this name; and see `generate`.
    """
    most = max(map(len, images.images))
    settings = parse(GeneratorSettings, {"kind": "import", "name": name, "images": most}, "import")
    found: list[tuple[SuitePrompt, int, Path]] = [
        (prompt, sample, path)
        for prompt, paths in zip(suite.prompts, images.images, strict=True)
        for sample, path in enumerate(paths)
    ]
    for number, (_, _, path) in enumerate(found):  # before the first is copied
        progress("looking at images", number, len(found))
        open_image(path)
    folder = Folder(out, suite)
    info = {"name": "import", "version": "", "settings": {}}
    plan = make_plan(suite, settings, info, 0)
    folder.register(name, {**info, "images": most}, {**info, "package": f"hpskit {__version__}"}, plan)
    by_place = {(cell.prompt.category, cell.prompt.number, cell.sample): cell for cell in plan}
    cells = [by_place[prompt.category, prompt.number, sample] for prompt, sample, _ in found]
    with folder.ledger() as ledger:
        known = folder.entries(ledger, cells)
    for cell, (_, _, path), before in zip(cells, found, known, strict=True):
        if before is None:
            folder.check_free(cell)
        elif before["state"] == "done" and before["sha256"] != sha256_file(path):
            what, cure = f"is another image than {path}", "give the images another name, or choose another --out"
            raise OutputError(out / before["file"], what, cure=cure)
    try:
        for number, (cell, (_, _, path)) in enumerate(zip(cells, found, strict=True)):
            progress(f"copying {name}", number, len(found))
            entry = folder.keep(cell, Outcome(image=Encoded.read(path).data, facts={"source": images.name(path)}))
            with folder.ledger() as ledger:
                ledger.put([(("cell", cell.id), {**entry, "tries": 1})])
    finally:
        made = folder.publish()
    return made


class Folder:
    """The folder of a run, and its ledger, which is held only for moments so that processes can share it."""

    def __init__(self, out: Path, suite: Suite) -> None:
        """See that the folder is free, or of images for the same prompts.

        Raises:
            OutputError: it is not.
        """
        self.out, self._run = out, {"format": FORMAT, "suite": suite.sha256}
        check_free(out, RECORD, [ROWS], FORMAT)
        self._plan: dict[str, Cell] = {}
        with self.ledger():
            pass

    def ledger(self) -> Ledger:
        """Open the ledger; others wait for it meanwhile."""
        return Ledger(self.out / LEDGER, self._run, wait=_WAIT)

    def register(self, name: str, decisive: dict[str, Any], about: dict[str, Any], plan: Sequence[Cell]) -> None:
        """Note a generator and its plan, or see that the one that made the images of this name is the same.

        Raises:
            OutputError: it is another, or something stands under its name that no run has made.
        """
        if name.casefold() == "images" or name.casefold().endswith((".json", ".jsonl")):  # names of files beside it
            raise InputError("generator: name", f"is {name!r}", expected="another name")
        key = ("generator", name)
        with self.ledger() as ledger:
            (known,) = ledger.get([key])
            made = known is not None and any(path.is_file() for path in (self.out / name).rglob("*"))
            if known is not None and made:
                cure = "give the generator another name, or choose another --out"
                check_same_run(self.out / name, known, decisive, cure=cure)
            elif known is not None:  # of which nothing came: the settings may be corrected
                ledger.put([(key, decisive)])
            else:
                for path in (self.out / name, self.out / f"{name}.json"):
                    if os.path.lexists(path):
                        cure = "give the generator another name, or bring it in by `hpskit images import`"
                        raise OutputError(path, "is there already and was not made by this command", cure=cure)
                ledger.put([(key, decisive)])
        publish_json(self.out / f"{name}.json", about)
        self._plan |= {cell.id: cell for cell in plan}

    @contextlib.contextmanager
    def working(self) -> Iterator[str]:
        """Give this process a name that others can tell to be alive: a file that it keeps locked."""
        path = self.out / ".workers" / uuid4().hex
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        try:
            with held(path):
                yield path.name
        finally:
            path.unlink(missing_ok=True)

    def is_alive(self, worker: str) -> bool:
        """Tell whether the process of a name still works."""
        try:
            with held(self.out / ".workers" / worker):
                return False
        except BlockingIOError:
            return True
        except OSError:
            return False

    def entries(self, ledger: Ledger, cells: Iterable[Cell]) -> list[Entry | None]:
        """Return what the ledger holds of some cells."""
        return ledger.get([("cell", cell.id) for cell in cells])

    def check_reason(self, reason: str) -> None:
        """See that images have failed for the reason for which they shall be tried again.

        Raises:
            InputError: none has.
        """
        with self.ledger() as ledger:
            entries = self.entries(ledger, self._plan.values())
        found = sorted({entry["reason"] for entry in entries if entry and entry["state"] == "failed"})
        if reason not in ("", "all", *found):
            expected = ", ".join(["all", *found]) if found else "nothing, as no image has failed"
            raise InputError("--retry-failed", f"is {reason!r}", expected=expected)

    def check_free(self, cell: Cell) -> None:
        """See that nothing stands where the image of a cell will be that no run has made.

        Raises:
            OutputError: something does.
        """
        for path in self.places(cell):
            if os.path.lexists(path):
                cure = "move it away, or choose another --out"
                raise OutputError(path, "is there already and was not made by this command", cure=cure)

    def places(self, cell: Cell) -> list[Path]:
        """List the files that the image of a cell can be."""
        return [self.out / f"{cell.stem}{ending}" for ending in _ENDINGS.values()]

    def keep(self, cell: Cell, outcome: Outcome) -> Entry:
        """Write the image of a cell, if there is one, and return its entry.

        What a run has left there goes: a damaged image, or one of another kind that a killed run did not write down.
        """
        entry = self._written(cell, outcome)
        for path in self.places(cell):
            if path != self.out / entry.get("file", ""):
                path.unlink(missing_ok=True)
        return entry

    def _written(self, cell: Cell, outcome: Outcome) -> Entry:
        facts = dict(outcome.facts)
        if outcome.image is None:
            state = "refused" if outcome.final else "failed"
            return {"state": state, "reason": outcome.reason or "unknown", "said": outcome.said, "facts": facts}
        try:
            data, ending, size = encoded(outcome.image)
        except ImageError as error:
            return {"state": "failed", "reason": "no-image", "said": str(error), "facts": facts}
        path = self.out / f"{cell.stem}{ending}"
        with publish(path) as temporary:
            temporary.write_bytes(data)
        image = Encoded(data, str(path))
        name = path.relative_to(self.out).as_posix()
        return {"state": "done", "file": name, "bytes": len(data), "sha256": image.sha256, "size": size, "facts": facts}

    def publish(self) -> Made:
        """Write the rows of all images, and the record of them; return what is there of the generators of this run.

        Of generators of earlier runs those stay that have an image.
        """
        cells = list(self._plan.values())
        planned = {cell.generator for cell in cells}
        with self.ledger() as ledger:  # until all is written: another process may end just now
            entries = self.entries(ledger, cells)
            before = list(self._rows_before())
            others = {row["generator"] for row in before if row["state"] == "done"} - planned
            rows = [row for row in before if row["generator"] in others]
            rows += [described(cell, entry) for cell, entry in zip(cells, entries, strict=True)]
            states: dict[str, Counter[str]] = {}
            said: dict[tuple[str, str], str] = {}
            for row in rows:
                name, state = (
                    row["generator"],
                    f"{row['state']}: {row['reason']}" if row.get("reason") else row["state"],
                )
                states.setdefault(name, Counter())[state] += 1
                if row.get("said"):
                    said.setdefault((name, state), row["said"])
            record = {**self._run, "package": f"hpskit {__version__}", "states": states}
            lines = (json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
            publish_products(self.out, RECORD, record, {ROWS: lines})
        return Made(states={name: dict(states[name]) for name in states if name in planned}, said=said)

    def _rows_before(self) -> Iterator[dict[str, Any]]:
        """Read the rows of earlier runs."""
        path = self.out / ROWS
        for number, row in read_rows(path) if path.is_file() else ():
            if not isinstance(row.get("generator"), str) or not isinstance(row.get("state"), str):
                found, cure = "is no row of an image", f"delete {path}: the ledger has what is in there"
                raise OutputError(f"{path}: row {number}", found, cure=cure)
            yield row


def described(cell: Cell, entry: Entry | None) -> dict[str, Any]:
    """Return the row of an image: what it is of, and what became of it."""
    stands = entry if entry is not None and entry["state"] != "claimed" else {"state": "pending"}
    return {
        "id": cell.id,
        "generator": cell.generator,
        "category": cell.prompt.category,
        "number": cell.prompt.number,
        "prompt": cell.prompt.prompt,
        "sample": cell.sample,
        "seed": cell.seed,
        **stands,
    }


class Worker:
    """One process that makes the images of one generator."""

    def __init__(
        self, folder: Folder, me: str, settings: GeneratorSettings, generator: Generator, run: GenerateRun
    ) -> None:
        self.folder, self.me, self.settings, self.generator, self.run = folder, me, settings, generator, run
        self._todo: deque[Cell] = deque()
        self._sizes: list[int] = []

    def work(self, plan: Sequence[Cell]) -> None:
        """Claim and make a batch after the other until nothing is left to claim.

        Raises:
            OutputError: a file stands where an image will be, and no run has made it; or the disk is full.
        """
        self._look_through(plan)
        done = len(plan) - len(self._todo)
        self.run.progress(self.settings.name, done, len(plan))
        while batch := self._claim():
            done += self._make(batch)
            self.run.progress(self.settings.name, done, len(plan))
            self._check_room()

    def _look_through(self, plan: Sequence[Cell]) -> None:
        """Find what is to do: an image that is not what was written is made again."""
        with self.folder.ledger() as ledger:
            entries = self.folder.entries(ledger, plan)
        left: list[Entry | None] = []
        for number, (cell, entry) in enumerate(zip(plan, entries, strict=True)):
            if number % 100 == 0:
                self.run.progress(f"looking through {cell.generator}", number, len(plan))
            if entry is not None and entry["state"] == "done":
                path = self.folder.out / entry["file"]
                if path.is_file() and sha256_file(path) == entry["sha256"]:
                    continue
            self._todo.append(cell)
            left.append(entry)
        damaged = []
        with self.folder.ledger() as ledger:
            for cell, before, entry in zip(self._todo, left, self.folder.entries(ledger, self._todo), strict=True):
                if entry != before:  # another process has it
                    continue
                if entry is None or self._is_retried(entry):
                    self.folder.check_free(cell)
                elif entry["state"] == "done":
                    damaged.append((("cell", cell.id), {"state": "pending", "tries": entry["tries"]}))
            ledger.put(damaged)

    def _claim(self) -> list[tuple[Cell, int]]:
        """Claim the next batch: cells, and how often each was tried before."""
        alive: dict[str, bool] = {}
        free: list[tuple[Cell, int]] = []
        with self.folder.ledger() as ledger:
            while self._todo and len(free) < self.settings.batch:
                some = [self._todo.popleft() for _ in range(min(len(self._todo), self.settings.batch - len(free)))]
                for cell, entry in zip(some, self.folder.entries(ledger, some), strict=True):
                    if entry is None or self._is_free(entry, alive):
                        free.append((cell, entry["tries"] if entry else 0))
            ledger.put((("cell", cell.id), {"state": "claimed", "worker": self.me, "tries": n}) for cell, n in free)
        return free

    def _is_free(self, entry: Entry, alive: dict[str, bool]) -> bool:
        if entry["state"] == "claimed":
            if (worker := entry["worker"]) not in alive:
                alive[worker] = self.folder.is_alive(worker)
            return not alive[worker]
        return entry["state"] == "pending" or self._is_retried(entry)

    def _is_retried(self, entry: Entry) -> bool:
        return entry["state"] == "failed" and self.run.retry_failed in ("all", entry["reason"])

    def _make(self, batch: Sequence[tuple[Cell, int]]) -> int:
        """Make a batch, write down what became of each cell, and return how many are done."""
        began = time.perf_counter()
        found = self.generator.generate([cell.prompt.prompt for cell, _ in batch], [cell.seed for cell, _ in batch])
        if len(found) != len(batch):
            raise InputError(f"generator {self.settings.name}", f"gave {len(found)} images for {len(batch)} prompts")
        seconds = round((time.perf_counter() - began) / len(batch), 4)
        entries: list[tuple[tuple[str, str], Entry]] = []
        try:
            for (cell, tries), one in zip(batch, found, strict=True):
                entry = self.folder.keep(cell, one if isinstance(one, Outcome) else Outcome(image=one))
                entries.append((("cell", cell.id), {**entry, "seconds": seconds, "tries": tries + 1}))
        finally:  # also if there was no room for all: what is there is not made again
            with self.folder.ledger() as ledger:
                ledger.put(entries)
        sizes = [entry["bytes"] for _, entry in entries if entry["state"] == "done"]
        self._sizes += sizes
        return len(sizes)

    def _check_room(self) -> None:
        """See, every now and then, that the disk has room for what is to do, in images as large as those so far."""
        if self._sizes and self._todo and len(self._sizes) % 64 <= self.settings.batch:
            needed = round(1.05 * len(self._todo) * sum(self._sizes) / len(self._sizes))
            check_space(self.folder.out, needed, f"{len(self._todo):,} more images of {self.settings.name}")


def encoded(image: Image.Image | bytes) -> tuple[bytes, str, tuple[int, int]]:
    """Return the bytes of an image file, the ending of its name, and its width and height.

    Raises:
        ImageError: the bytes are no image of a kind that benchmarks read (PNG, JPEG, WebP).
    """
    if not isinstance(image, bytes):
        with io.BytesIO() as buffer:
            image.convert("RGB").save(buffer, "PNG")
            return buffer.getvalue(), ".png", image.size
    ending = next((ending for head, ending in _ENDINGS.items() if image.startswith(head)), None)
    size = check_head(Encoded(image, "image"))
    if ending is None:
        raise ImageError("image", "is of another kind", expected="PNG, JPEG or WebP")
    return image, ending, size
