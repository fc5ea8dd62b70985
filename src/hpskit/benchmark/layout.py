"""Find the image of each prompt: by the official layout of folders, or by a manifest.

Official layout: `STYLE/00000.jpg` and so on, numbered from 0 within each category; without categories directly in the
folder. Also `.jpeg`, `.png`, `.webp`; several images of one prompt are `00000_0.png`, `00000_1.png` …. Only the head of
a file is looked at, not its pixels.
"""

from __future__ import annotations

import itertools
import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, field_validator

from hpskit.benchmark.suites import Suite, image_name
from hpskit.errors import ImageError, InputError, RecordError, listed, shown
from hpskit.files import explain
from hpskit.pixels import check_head
from hpskit.rows import read_rows
from hpskit.schema import Strict, nearest, parse

__all__ = ["ImageSet", "find_images"]

_ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
_OTHER_ENDINGS = (".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".jp2")
"""Endings of images that are not read; a file with none of these endings is no image, and is left alone."""
_NAME = re.compile(r"(\d+)(?:_(\d+))?")

Key = tuple[str, int]
"""Category and number of a prompt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageSet:
    """The images of one model for a suite."""

    root: Path
    """The folder that names of images start from."""
    images: tuple[tuple[Path, ...], ...]
    """The images of each prompt of the suite, in order; none where they are missing."""
    other_folders: tuple[str, ...] = ()
    """Folders beside those of the suite, which were not looked into; published images have `drawbench`, for example."""

    @property
    def complete(self) -> bool:
        """True if every prompt has as many images as the others."""
        return len({len(paths) for paths in self.images}) == 1

    def name(self, path: Path) -> str:
        """Return an image as results name it: from `root`, with `/`."""
        return path.relative_to(self.root).as_posix()


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """Files by prompt and sample, and what is wrong with the rest."""

    files: defaultdict[Key, dict[int, Path]] = field(default_factory=lambda: defaultdict(dict))
    """Files by prompt and sample; a plain name is sample 0."""
    extra: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)


class ManifestRow(Strict):
    """A row of a manifest; other columns are left alone."""

    model_config = ConfigDict(extra="ignore")

    image: Annotated[str, Field(min_length=1)]
    category: str | None = None
    number: int | None = None
    prompt: str | None = None

    @field_validator("number", mode="before")
    @classmethod
    def _from_text(cls, number: object) -> object:
        return int(number) if isinstance(number, str) and number.strip().isdecimal() else number  # all that CSV has


def find_images(suite: Suite, folder: Path, *, manifest: Path | None = None, allow_missing: bool = False) -> ImageSet:
    """Find the images of a suite; everything that does not fit is listed in one error.

    Args:
        suite: the prompts.
        folder: the images, in the official layout or as `manifest` says.
        manifest: JSONL, CSV, TSV or parquet with the columns `image` (a path that starts from `folder`) and either
            `number` (and `category`, if the suite has categories) or `prompt`. Several rows may belong to one prompt.
        allow_missing: leave prompts without an image empty instead of refusing. Nothing else is forgiven.

    Raises:
        InputError: images are missing (without `allow_missing`), empty or no images, are of no prompt of the suite, or
            two files claim one place; or there is no image at all.
        RecordError: a row of the manifest is broken.
    """
    if not folder.is_dir():
        raise InputError(folder, "is not a folder", expected="the images of a model", cure="see docs/benchmark.md")
    sizes = Counter(prompt.category for prompt in suite.prompts)
    found = by_layout(sizes, folder) if manifest is None else by_manifest(suite, folder, manifest)
    check(suite, folder, found, allow_missing)
    images = (found.files.get((prompt.category, prompt.number), {}) for prompt in suite.prompts)
    beside = () if manifest else (path.name for path in folder.iterdir() if path.is_dir() and path.name not in sizes)
    return ImageSet(
        root=folder,
        images=tuple(tuple(path for _, path in sorted(samples.items())) for samples in images),
        other_folders=tuple(sorted(beside)),
    )


def by_layout(sizes: Mapping[str, int], folder: Path) -> Found:
    """Sort files by their names; `sizes` are the numbers of prompts of the categories."""
    found = Found()
    for category, size in sizes.items():
        below = folder / category
        for path in image_files(below) if below.is_dir() else ():
            name = path.relative_to(folder).as_posix()
            match = _NAME.fullmatch(path.stem) if path.suffix.lower() in _ENDINGS else None
            if match is None or int(match[1]) >= size:
                found.extra.append(name)
                continue
            samples = found.files[category, int(match[1])]
            plain = samples.get(0) if match[2] else None  # names are sorted: 00000 comes before 00000_0
            taken = plain if plain and "_" not in plain.stem else samples.setdefault(int(match[2] or 0), path)
            if taken != path:
                found.duplicates.append(f"{name} beside {taken.name}")
    if "" not in sizes:
        found.extra.extend(path.name for path in image_files(folder))
    return found


def image_files(folder: Path) -> list[Path]:
    """List the image files of a folder by name, also those that cannot be read."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.name[0] != "." and path.is_file())
    except OSError as error:
        raise InputError(folder, f"cannot be read ({explain(error)})", cure="change its permissions") from error
    return [path for path in paths if path.suffix.lower() in (*_ENDINGS, *_OTHER_ENDINGS)]


def by_manifest(suite: Suite, folder: Path, manifest: Path) -> Found:
    """Sort files as a manifest says."""
    found = Found()
    known = {(prompt.category, prompt.number): prompt.prompt for prompt in suite.prompts}
    by_text: defaultdict[tuple[str | None, str], list[Key]] = defaultdict(list)
    for key, text in known.items():
        for category in (key[0], None):
            by_text[category, text].append(key)
    rows: dict[str, int] = {}
    for number, value in read_rows(manifest):
        place = f"{manifest}: row {number}"
        row = parse(ManifestRow, value, place, error=RecordError)
        name = posixpath.normpath(row.image)
        if name in rows:
            raise RecordError(f"{place}: image", f"is {name!r}, as in row {rows[name]}", cure="remove one of the rows")
        rows[name] = number
        samples = found.files[prompt_of(row, place, known, by_text)]
        if Path(name).is_absolute() or ".." in Path(name).parts or not (folder / name).is_file():
            expected, cure = f"a file below {folder}", "make it, or remove the row"
            raise RecordError(f"{place}: image", f"is {name!r}", expected=expected, cure=cure)
        samples[len(samples)] = folder / name
    return found


def prompt_of(
    row: ManifestRow,
    place: str,
    known: Mapping[Key, str],
    by_text: Mapping[tuple[str | None, str], Sequence[Key]],
) -> Key:
    """Find the prompt that a row of a manifest is of, by its number or by its text."""
    if row.number is None and row.prompt is None:
        raise RecordError(place, "has neither 'number' nor 'prompt'", expected="one of them", cure="add it")
    if row.number is None:
        matches = by_text.get((row.category, row.prompt or ""), ())
        if len(matches) != 1:
            found = f"is {shown(row.prompt)}, which {len(matches)} prompts of the suite are"
            raise RecordError(f"{place}: prompt", found, expected="one", cure="correct it, or give category and number")
        return matches[0]
    key = (row.category or "", row.number)
    if key not in known:
        found, expected = f"is {row.number}, category {key[0]!r}", "that of a prompt, from 0 within its category"
        raise RecordError(f"{place}: number", found, expected=expected)
    if row.prompt not in (None, known[key]):
        cure = "correct one of them, or leave one out"
        raise RecordError(f"{place}: prompt", f"is {shown(row.prompt)}", expected=shown(known[key]), cure=cure)
    return key


def check(suite: Suite, folder: Path, found: Found, allow_missing: bool) -> None:
    """Refuse everything that is wrong, in one error."""
    if not found.files:
        there = image_files(folder)
        instead = f", but {len(there)} other image files, {there[0].name} for one" if there else ""
        raise InputError(
            folder,
            f"holds no image of the suite{instead}",
            expected=f"{image_name(suite.prompts[0])} and so on{near(suite, folder)}",
            cure="name them so (`hpskit benchmark prompts` lists the names), or say which is which with --manifest",
        )
    unusable = []
    for path in (path for samples in found.files.values() for path in samples.values()):
        try:
            check_head(path)
        except ImageError as error:
            unusable.append(str(error))
    kinds = {
        "that cannot be read": unusable,
        "for a place that is taken": found.duplicates,
        "that belong to no prompt": found.extra,
    }
    problems = [f"{len(names)} {what}: {listed(names, 20)}" for what, names in kinds.items() if names]
    cure = "nothing was scored; mend the folder"
    if not allow_missing and (absent := missing(suite, found)):
        hint = near(suite, folder) or from_one(suite, found)
        problems.append(f"{len(absent)} missing: {listed(ranges(absent), 20)}{hint}")
        cure += ", or score what is there with --allow-missing"
    if problems:
        raise InputError(folder, f"has images that do not fit the suite: {'; '.join(problems)}", cure=cure)


def missing(suite: Suite, found: Found) -> list[tuple[str, int, int | None]]:
    """List category, number and sample of what is not there; each prompt is to have as many images as the others."""
    samples = sorted({sample for files in found.files.values() for sample in files})
    absent: list[tuple[str, int, int | None]] = []
    for prompt in suite.prompts:
        there = found.files.get((prompt.category, prompt.number))
        gone = [sample for sample in samples if sample not in there] if there else [None]
        absent += [(prompt.category, prompt.number, sample) for sample in gone]
    return sorted(absent, key=lambda place: suite.categories.index(place[0]))


def ranges(places: Sequence[tuple[str, int, int | None]]) -> list[str]:
    """Write category, number and sample as `anime/00003`, `anime/00007 to 00012`, `anime/00013_2`."""
    found = []
    for (category, sample, _), group in itertools.groupby(
        enumerate(places), key=lambda one: (one[1][0], one[1][2], one[1][1] - one[0] if one[1][2] is None else one[0])
    ):
        numbers = [number for _, (_, number, _) in group]
        end = f"_{sample}" if sample is not None else f" to {numbers[-1]:05d}" if len(numbers) > 1 else ""
        found.append(f"{category}/" * bool(category) + f"{numbers[0]:05d}{end}")
    return found


def from_one(suite: Suite, found: Found) -> str:
    """Hint at images that are numbered from 1; empty if they are not."""
    for category, size in Counter(prompt.category for prompt in suite.prompts).items():
        last = f"{category}/" * bool(category) + f"{size:05d}"
        if (category, 0) not in found.files and any(
            Path(name).with_suffix("").as_posix() == last for name in found.extra
        ):
            return " (numbers start at 0)"
    return ""


def near(suite: Suite, folder: Path) -> str:
    """Hint at a folder that has nearly the name of a category; empty if there is none."""
    there = {path.name.casefold(): path.name for path in folder.iterdir() if path.is_dir()}
    for category in suite.categories:
        if category and category not in there.values() and (close := nearest(category.casefold(), there)):
            return f" (is the folder {there[close]!r} meant to be {category!r}?)"
    return ""
