"""Find the image of each prompt: by the official layout of folders, or by a manifest.

Official layout: `STYLE/00000.jpg` and so on, numbered from 0 within each category; without categories directly in the
folder. Also `.jpeg`, `.png`, `.webp`; several images of one prompt are `00000_0.png`, `00000_1.png` …. Only the head of
a file is looked at, not its pixels.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, field_validator

from hpskit.benchmark.suites import Suite, image_name
from hpskit.errors import ImageError, InputError, RecordError, shown
from hpskit.files import explain
from hpskit.pixels import check_head
from hpskit.rows import read_rows
from hpskit.schema import Strict, nearest, parse

__all__ = ["ImageSet", "find_images"]

_ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
_OTHER_ENDINGS = (".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".jp2")
"""Endings of images that are not read; a file with none of these endings is no image, and is left alone."""
_NAME = re.compile(r"(\d+)(?:_(\d+))?")
_SHOWN = 20
"""Entries of each kind of problem; runs of numbers count once."""

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
class _Found:
    """Files by prompt and sample, and what is wrong with the rest."""

    files: dict[Key, dict[int, Path]] = field(default_factory=dict)
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
    _check(suite, sizes, folder, found, allow_missing)
    images = (found.files.get((prompt.category, prompt.number), {}) for prompt in suite.prompts)
    beside = () if manifest else (path.name for path in folder.iterdir() if path.is_dir() and path.name not in sizes)
    return ImageSet(
        root=folder,
        images=tuple(tuple(path for _, path in sorted(samples.items())) for samples in images),
        other_folders=tuple(sorted(beside)),
    )


def by_layout(sizes: Mapping[str, int], folder: Path) -> _Found:
    """Sort files by their names; `sizes` are the numbers of prompts of the categories."""
    found = _Found()
    for category, size in sizes.items():
        below = folder / category
        plain: dict[int, Path] = {}
        for path in image_files(below) if below.is_dir() else ():
            name = f"{category}/{path.name}" if category else path.name
            match = _NAME.fullmatch(path.stem) if path.suffix.lower() in _ENDINGS else None
            number = int(match[1]) if match else size
            if match is None or number >= size:
                found.extra.append(name)
                continue
            samples, sample = found.files.setdefault((category, number), {}), int(match[2] or 0)
            taken = samples.get(sample)
            if match[2] and number in plain:  # names are sorted, and a plain one comes before 00000_0
                taken = plain[number]
            if taken is not None:
                found.duplicates.append(f"{name} beside {taken.name}")
                continue
            samples[sample] = path
            if match[2] is None:
                plain[number] = path
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


def by_manifest(suite: Suite, folder: Path, manifest: Path) -> _Found:
    """Sort files as a manifest says.

    Raises:
        RecordError: a row of it is broken.
    """
    found = _Found()
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
        samples = found.files.setdefault(_key(place, row, by_text, known), {})
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise RecordError(f"{place}: image", f"is {name!r}", expected=f"a path that starts from {folder}")
        if not (folder / name).is_file():
            cure = "make it, or remove the row"
            raise RecordError(f"{place}: image", f"is {name!r}, which does not exist below {folder}", cure=cure)
        samples[len(samples)] = folder / name
    return found


def _key(
    place: str,
    row: ManifestRow,
    by_text: Mapping[tuple[str | None, str], Sequence[Key]],
    known: Mapping[Key, str],
) -> Key:
    if row.number is not None:
        key = (row.category or "", row.number)
        if key not in known:
            found = f"is {row.number}" + (f", category {row.category!r}" if row.category else "")
            raise RecordError(f"{place}: number", found, expected="that of a prompt, from 0 within its category")
        if row.prompt is not None and row.prompt != known[key]:
            cure = "correct one of them, or leave one out"
            raise RecordError(f"{place}: prompt", f"is {shown(row.prompt)}", expected=shown(known[key]), cure=cure)
        return key
    if row.prompt is None:
        raise RecordError(
            place, "has neither 'number' nor 'prompt'", expected="one of them beside 'image'", cure="add it"
        )
    matches = by_text.get((row.category, row.prompt), ())
    if len(matches) != 1:
        what = f"{len(matches)} prompts" if matches else "no prompt"
        cure = "give 'category' and 'number' instead" if matches else "correct it, or remove the row"
        raise RecordError(f"{place}: prompt", f"is {shown(row.prompt)}, {what} of the suite", cure=cure)
    return matches[0]


def _check(suite: Suite, sizes: Mapping[str, int], folder: Path, found: _Found, allow_missing: bool) -> None:
    """Refuse everything that is wrong, in one error."""
    if not found.files:
        there = image_files(folder)
        instead = f", but {len(there)} other image files, {there[0].name} for one" if there else ""
        raise InputError(
            folder,
            f"holds no image of the suite{instead}",
            expected=f"{image_name(suite.prompts[0])} and so on{_near(suite, folder)}",
            cure="name them so (`hpskit benchmark prompts` lists the names), or say which is which with --manifest",
        )
    problems = []
    unusable = []
    for path in (path for samples in found.files.values() for path in samples.values()):
        try:
            check_head(path)
        except ImageError as error:
            unusable.append(str(error))
    if unusable:
        problems.append(f"{len(unusable)} that cannot be read: {'; '.join(unusable[:_SHOWN])}")
    if found.duplicates:
        problems.append(f"{len(found.duplicates)} for a place that is taken: {_listed(found.duplicates)}")
    if found.extra:
        problems.append(f"{len(found.extra)} that belong to no prompt: {_listed(found.extra)}")
    cure = "nothing was scored; mend the folder"
    if not allow_missing and (missing := _missing(suite, found)):
        hint = _near(suite, folder) or _from_one(sizes, found)
        problems.append(f"{len(missing)} missing: {_listed(_ranges(missing))}{hint}")
        cure += ", or score what is there with --allow-missing"
    if problems:
        raise InputError(folder, f"has images that do not fit the suite: {'; '.join(problems)}", cure=cure)


def _missing(suite: Suite, found: _Found) -> list[tuple[str, int, int | None]]:
    """Category, number and sample of what is not there; each prompt is to have as many images as the others."""
    samples = sorted({sample for files in found.files.values() for sample in files})
    missing: list[tuple[str, int, int | None]] = []
    for prompt in suite.prompts:
        there = found.files.get((prompt.category, prompt.number), {})
        absent = [sample for sample in samples if sample not in there] if there else [None]
        missing += [(prompt.category, prompt.number, sample) for sample in absent]
    return sorted(missing, key=lambda place: list(suite.categories).index(place[0]))


def _ranges(missing: Iterable[tuple[str, int, int | None]]) -> list[str]:
    """`anime/00003`, `anime/00007 to 00012`, `anime/00013_2`."""
    runs: list[tuple[str, int, int, int | None]] = []
    for category, number, sample in missing:
        if sample is None and runs and runs[-1][0] == category and runs[-1][2:] == (number - 1, None):
            runs[-1] = (category, runs[-1][1], number, None)
        else:
            runs.append((category, number, number, sample))
    return [
        f"{category}/" * bool(category)
        + f"{first:05d}"
        + (f"_{sample}" if sample is not None else f" to {last:05d}" if last > first else "")
        for category, first, last, sample in runs
    ]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _from_one(sizes: Mapping[str, int], found: _Found) -> str:
    """A hint where images are numbered from 1."""
    for category, size in sizes.items():
        prefix = f"{category}/" if category else ""
        last = (Path(name).stem for name in found.extra if name.startswith(prefix))
        if (category, 0) not in found.files and any(stem.isdecimal() and int(stem) == size for stem in last):
            return " (numbers start at 0)"
    return ""


def _near(suite: Suite, folder: Path) -> str:
    """A hint where a folder has nearly the name of a category."""
    there = {path.name.casefold(): path.name for path in folder.iterdir() if path.is_dir()}
    for category in suite.categories:
        if category and category not in there.values() and (close := nearest(category.casefold(), there)):
            return f" (is the folder {there[close]!r} meant to be {category!r}?)"
    return ""
