"""Make a project: bring images in so that nothing in them tells where they are from, and write its tasks.

Annotators get copies named by their content, without texts, EXIF data, colour profiles and comments, in which a
generator may name itself; their pixels are those that scorers see. A JPEG file is stripped, all else becomes PNG.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import random
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops
from sqlalchemy import insert

from hpskit.annotation.project import SETTINGS, Project, Settings, write_settings
from hpskit.annotation.store import Store, record
from hpskit.annotation.tables import image, setting, task
from hpskit.dataset.group import Group
from hpskit.dataset.reading import DataSet, open_data
from hpskit.errors import InputError, OutputError
from hpskit.files import publish, publish_folder
from hpskit.images.run import ROWS
from hpskit.pixels import Encoded, open_image
from hpskit.pixels.containers import STRIPPED
from hpskit.rows import read_rows

LEAST, MOST = 2, 12
"""Images of a task."""
_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Stated:
    """Contents of a new project."""

    tasks: int
    practice: int
    gold: int
    images: int
    votes: int
    """Votes that all tasks want."""
    identical: tuple[str, ...]
    """Tasks in which two images have the same pixels: people cannot but tie them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Groups of images to be ranked, and how the bytes of one are read."""

    groups: Iterable[Group]
    read: Callable[[Group, str], Encoded]


def open_source(path: Path, *, allow_outside: bool = False) -> Source:
    """Open the images of a project: the folder of `hpskit images generate`, or any data set, judged or not.

    Raises:
        InputError: it is neither.
    """
    if (path / ROWS).is_file():
        return Source(groups=list(run_groups(path)), read=lambda _, name: Encoded.read(path / name))
    try:
        data: DataSet = open_data(path, allow_outside=allow_outside)
    except InputError as error:
        if not path.is_dir():
            raise
        cure = "bring each folder of images in with `hpskit images import`, see docs/annotation.md"
        raise InputError(error.place, error.found, expected=error.expected, cure=cure) from error
    return Source(groups=data, read=data.own_image)


def run_groups(folder: Path) -> Iterator[Group]:
    """Read the images of a run as groups: those of one prompt and sample, of all generators.

    Raises:
        InputError: a generator has no image for a prompt that others have one for.
    """
    found: dict[tuple[str, int, int], list[dict[str, Any]]] = {}
    for number, row in read_rows(folder / ROWS):
        if row.get("state") != "done":
            what = f"{row.get('file') or row.get('prompt')!r} is {row.get('state')}"
            cure = "finish the run: hpskit images generate … (the same command)"
            raise InputError(f"{folder / ROWS}: row {number}", what, expected="every image of the run", cure=cure)
        found.setdefault((row["category"], row["number"], row["sample"]), []).append(row)
    for (category, number, sample), rows in found.items():
        yield Group(
            place=f"{folder / ROWS}: {category} {number}",
            prompt=rows[0]["prompt"],
            images=tuple(row["file"] for row in rows),
            sources=tuple(row["generator"] for row in rows),
            category=category or None,
            id=f"{category or 'prompt'}/{number:05d}" + f"_{sample}" * (sample > 0),
        )


def make_project(
    folder: Path,
    settings: Settings,
    source: Source,
    *,
    gold: Source | None = None,
    train_share: float = 0.0,
    database: str = "",
    progress: Callable[[str, int, int | None], None] = lambda *_: None,
) -> Stated:
    """Make a project in a new folder; it is there whole or not at all.

    Args:
        folder: is made; its database is in it unless `database` says otherwise.
        settings: the project's.
        source: what people rank.
        gold: groups that experts ranked. The first `settings.practice_tasks` are the qualification, the rest hidden
            checks.
        train_share: the share of tasks, 0 to 1, drawn by `settings.seed`, that are for training and want
            `settings.train_overlap` votes instead of `settings.overlap`.
        database: address of a PostgreSQL database.
        progress: is told what is done, and how much of it.

    Raises:
        InputError: a group has fewer than 2 or more than 12 images, two have one name, an image cannot be used.
        OutputError: something stands there, or it cannot be written.
    """
    if (folder / SETTINGS).exists():
        cure = "choose another folder, or serve that one"
        raise OutputError(folder, "is an annotation project already", cure=cure)
    with publish_folder(folder) as made:
        project = Project(made, settings, database)
        project.images.mkdir()
        with contextlib.closing(Store(project.database)) as store:
            if database and not store.is_new():
                raise OutputError(store.shown, "has a project already", cure="give an empty database")
            store.upgrade()
            with store.write() as connection:
                writer = Writer(project, connection, train_share, progress)
                writer.write(source, "work")
                if gold is not None:
                    writer.write(gold, "gold")
                values = [{"name": "key", "value": secrets.token_hex(32)}, {"name": "project", "value": settings.name}]
                connection.execute(insert(setting), values)
                record(connection, store.now(), "init", "init", settings.name, **writer.counts)
        write_settings(made / SETTINGS, settings)
    return writer.stated()


class Writer:
    """Writes the tasks of a project and its images."""

    def __init__(self, project: Project, connection: Any, share: float, progress: Callable[..., None]) -> None:
        self.project, self.connection, self.share, self.progress = project, connection, share, progress
        self.counts = {"work": 0, "gold": 0, "practice": 0, "images": 0, "votes": 0}
        self.identical: list[str] = []
        self._names: set[str] = set()
        self._images: dict[str, tuple[int, str]] = {}
        self._draw = random.Random(f"{project.settings.seed} tasks")  # noqa: S311

    def write(self, source: Source, kind: str) -> None:
        """Write all groups of a source as tasks, some hundred at a time."""
        settings = self.project.settings
        rows: list[dict[str, Any]] = []
        for group in source.groups:
            check_group(group, gold=kind == "gold")
            for part in parts(group, settings.mode):
                own = kind
                if kind == "gold" and self.counts["practice"] < settings.practice_tasks:
                    own = "practice"
                rows.append(self.row(source, part, own))
            self.progress("tasks", self.counts["work"] + self.counts["gold"] + self.counts["practice"], None)
            if len(rows) >= _AT_ONCE:
                self.connection.execute(insert(task), rows)
                rows = []
        if rows:
            self.connection.execute(insert(task), rows)
        if not self.counts["work"]:
            raise InputError("--images", "hold no group", expected="at least one")

    def row(self, source: Source, group: Group, kind: str) -> dict[str, Any]:
        """Make the row of a task, and bring its images."""
        settings = self.project.settings
        self.counts[kind] += 1
        name = group.id or f"{kind}-{self.counts[kind]:06d}"
        if kind != "work":
            name = f"{kind}: {name}"
        if name in self._names:
            raise InputError(f"{group.place}: group", f"is {name!r}, as another one", cure="give it another name")
        self._names.add(name)
        sources = group.sources or (None,) * len(group.images)
        brought = [self.bring(source, group, name_, made) for name_, made in zip(group.images, sources, strict=True)]
        if len({file for _, file in brought}) < len(brought):
            self.identical.append(name)
        train = kind == "work" and self._draw.random() < self.share
        wanted = 0 if kind != "work" else settings.train_overlap if train else settings.overlap
        self.counts["votes"] += wanted
        return {
            "name": name,
            "kind": kind,
            "split": "train" if train else "test",
            "prompt": group.prompt,
            "category": group.category,
            "images": [number for number, _ in brought],
            "gold": [list(one.ranks) for one in experts(group)] if kind != "work" else None,
            "wanted": wanted,
            "done": 0,
            "held": 0,
            "shuffle": self._draw.getrandbits(31) if settings.task_order == "random" else sum(self.counts.values()),
        }

    def bring(self, source: Source, group: Group, name: str, made_by: str | None) -> tuple[int, str]:
        """Copy an image into the project, if it is not there, and return its number and its file."""
        known = name if name not in group.embedded else f"{group.id or group.place}/{name}"
        if known not in self._images:
            data, ending, size = blind(source.read(group, name))
            file = f"{hashlib.sha256(data).hexdigest()[:32]}{ending}"
            path = self.project.images / file
            if not path.exists():
                with publish(path) as temporary:
                    temporary.write_bytes(data)
            values = {"file": file, "width": size[0], "height": size[1], "name": known, "source": made_by}
            number = self.connection.execute(insert(image).values(values).returning(image.c.id)).scalar_one()
            self._images[known] = (int(number), file)
            self.counts["images"] += 1
        return self._images[known]

    def stated(self) -> Stated:
        """Sum up."""
        counts = dict(self.counts)
        return Stated(tasks=counts.pop("work"), **counts, identical=tuple(self.identical))


def check_group(group: Group, *, gold: bool) -> None:
    """See that people can rank a group, and that experts did, if it is a gold one."""
    if not LEAST <= len(group.images) <= MOST:
        found, cure = f"has {len(group.images)} images", "split it, or leave images out"
        raise InputError(group.place, found, expected=f"{LEAST} to {MOST}", cure=cure)
    if gold and not experts(group):
        raise InputError(
            group.place, "has no ranking", expected="those of experts", cure="add `ranks`, or leave it out"
        )


def experts(group: Group) -> Sequence[Any]:
    """Return the rankings of a gold group; of published orders alone, that one."""
    from hpskit.dataset.group import orders

    return [one for one in orders(group) for _ in range(one.votes)]


def parts(group: Group, mode: str) -> Iterator[Group]:
    """Split a group into the tasks that it makes: itself, or all its pairs."""
    if mode == "rank" or len(group.images) == LEAST:
        yield group
        return
    for pair in itertools.combinations(range(len(group.images)), 2):
        yield replace(
            group,
            id=f"{group.id or group.place} {pair[0] + 1}-{pair[1] + 1}",
            images=tuple(group.images[place] for place in pair),
            sources=group.sources and tuple(group.sources[place] for place in pair),
            judgements=tuple(replace(one, ranks=tuple(one.ranks[p] for p in pair)) for one in group.judgements),
            rank=group.rank and tuple(group.rank[place] for place in pair),
        )


def blind(source: Encoded) -> tuple[bytes, str, tuple[int, int]]:
    """Return the bytes of an image without anything but its pixels, an ending, and width and height.

    Raises:
        ImageError: it cannot be decoded.
    """
    pixels = open_image(source)
    if source.data[:3] == b"\xff\xd8\xff":
        with contextlib.suppress(ValueError, IndexError):
            stripped = without_segments(STRIPPED["JPEG"](source.data).data)
            again = open_image(Encoded(stripped, source.place))
            if again.size == pixels.size and ImageChops.difference(again, pixels).getbbox() is None:
                return stripped, ".jpg", pixels.size
    memory = io.BytesIO()
    Image.frombytes("RGB", pixels.size, pixels.tobytes()).save(memory, "PNG", compress_level=6)
    return memory.getvalue(), ".png", pixels.size


def without_segments(data: bytes) -> bytes:
    """Return a JPEG file without what can stand between and after its scans: comments, application data, a second file.

    Raises:
        ValueError, IndexError: it does not end.
    """
    kept, start = [data[:2]], 2
    while True:
        marker = data[start + 1]
        if data[start] != 0xFF:
            raise ValueError(start)
        if marker == 0xD9:
            return b"".join([*kept, data[start : start + 2]])
        end = start + 2 + int.from_bytes(data[start + 2 : start + 4])
        if marker == 0xDA:  # entropy-coded data follow, in which FF is followed by 00 or by a restart marker
            while not (data[end] == 0xFF and data[end + 1] not in (0x00, 0xFF, *range(0xD0, 0xD8))):
                end = data.index(b"\xff", end + 1)
        text = 0xE0 <= marker <= 0xEF or marker == 0xFE
        colours = marker == 0xEE and data[start + 4 : start + 9] == b"Adobe"
        if not text or colours:
            kept.append(data[start:end])
        start = end
