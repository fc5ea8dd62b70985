"""Which image belongs to which prompt: the official layout of folders, or a manifest. Looks at the head of a file, not
at its pixels.

Official layout: `STYLE/00000.jpg` and so on, numbered from 0 within each category; without categories directly in the
folder. Also `.jpeg`, `.png`, `.webp`; several images of one prompt are `00000_0.png`, `00000_1.png` ….
"""

from __future__ import annotations

import difflib
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpskit.benchmark.suites import Suite, SuitePrompt, image_name
from hpskit.errors import ImageError, InputError, RecordError
from hpskit.files import explain
from hpskit.pixels import check_head
from hpskit.rows import read_rows

__all__ = ["ImageSet", "find_images"]

_ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
_OTHER_ENDINGS = (".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".jp2")
"""Of images that are not read; what has none of these endings is no image, and is left alone."""
_NAME = re.compile(r"(\d+)(?:_(\d+))?")
_SHOWN = 20
"""Of each kind of problem; runs of numbers count once."""

Key = tuple[str, int]
"""Category and number of a prompt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageSet:
    """The images of one model for a suite."""

    root: Path
    """The folder that names of images start from."""
    images: tuple[tuple[Path, ...], ...]
    """For each prompt of the suite in order its images; none where they are missing."""
    other_folders: tuple[str, ...] = ()
    """Folders beside those of the suite, which were not looked into; published images have `drawbench`, for example."""

    @property
    def complete(self) -> bool:
        """Whether every prompt has as many images as the others."""
        return len({len(paths) for paths in self.images}) == 1

    def name(self, path: Path) -> str:
        """An image as results name it: from `root`, with `/`."""
        return path.relative_to(self.root).as_posix()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    """Files by prompt and sample, and what is wrong with the rest."""

    files: dict[Key, dict[int, Path]] = field(default_factory=dict)
    """By prompt and sample; a plain name is sample 0."""
    extra: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)

    def add(self, key: Key, sample: int, path: Path, name: str) -> None:
        other = self.files.setdefault(key, {}).setdefault(sample, path)
        if other is not path:
            self.duplicates.append(f"{name} beside {other.name}")


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
        raise InputError(f"{folder}: is not a folder, expected the images of a model; see docs/benchmark.md")
    found = _by_layout(suite, folder) if manifest is None else _by_manifest(suite, folder, manifest)
    _check(suite, folder, found, allow_missing)
    others = () if manifest else _other_folders(suite, folder)
    images = tuple(
        tuple(path for _, path in sorted(found.files.get((prompt.category, prompt.number), {}).items()))
        for prompt in suite.prompts
    )
    return ImageSet(root=folder, images=images, other_folders=others)


def _by_layout(suite: Suite, folder: Path) -> _Found:
    found = _Found()
    sizes = _sizes(suite)
    for category, size in sizes.items():
        below = folder / category
        plain: dict[int, str] = {}
        for path in _image_files(below) if below.is_dir() else ():
            name = f"{category}/{path.name}" if category else path.name
            match = _NAME.fullmatch(path.stem) if path.suffix.lower() in _ENDINGS else None
            number = int(match[1]) if match else size
            if match is None or number >= size:
                found.extra.append(name)
                continue
            if match[2] is None:
                plain[number] = path.name
            elif number in plain:  # names are sorted, and a plain one comes before 00000_0
                found.duplicates.append(f"{name} beside {plain[number]}")
                continue
            found.add((category, number), int(match[2] or 0), path, name)
    if "" not in sizes:
        found.extra.extend(path.name for path in _image_files(folder))
    return found


def _image_files(folder: Path) -> list[Path]:
    try:
        paths = sorted(path for path in folder.iterdir() if path.name[0] != "." and path.is_file())
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({explain(error)})") from error
    return [path for path in paths if path.suffix.lower() in (*_ENDINGS, *_OTHER_ENDINGS)]


def _sizes(suite: Suite) -> dict[str, int]:
    """Category -> number of its prompts."""
    sizes: dict[str, int] = {}
    for prompt in suite.prompts:
        sizes[prompt.category] = sizes.get(prompt.category, 0) + 1
    return sizes


def _other_folders(suite: Suite, folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name not in suite.categories))


def _by_manifest(suite: Suite, folder: Path, manifest: Path) -> _Found:
    found = _Found()
    known = {(prompt.category, prompt.number): prompt.prompt for prompt in suite.prompts}
    by_text = _by_text(suite)
    rows: dict[str, int] = {}
    for number, row in read_rows(manifest):
        place = f"{manifest}: row {number}"
        name = row.get("image")
        if not isinstance(name, str) or not name:
            raise RecordError(f"{place}: image is {name!r}, expected the path of a file from {folder}; fill it in")
        name = posixpath.normpath(name)
        if name in rows:
            raise RecordError(f"{place}: image {name!r} is in row {rows[name]} already; remove one of the rows")
        rows[name] = number
        key = _key(place, row, by_text, known)
        samples = found.files.setdefault(key, {})
        samples[len(samples)] = _inside(place, folder, name)
    return found


def _by_text(suite: Suite) -> Mapping[tuple[str | None, str], list[SuitePrompt]]:
    """Prompts by (category, text), and by text alone."""
    by_text: dict[tuple[str | None, str], list[SuitePrompt]] = {}
    for prompt in suite.prompts:
        for category in (prompt.category, None):
            by_text.setdefault((category, prompt.prompt), []).append(prompt)
    return by_text


def _key(
    place: str,
    row: Mapping[str, Any],
    by_text: Mapping[tuple[str | None, str], Sequence[SuitePrompt]],
    known: Mapping[Key, str],
) -> Key:
    category = row.get("category")
    text = row.get("prompt")
    if "number" in row:
        key = (category or "", _number(place, row["number"]))
        if key not in known:
            where = f"category {key[0]!r}, number {key[1]}" if key[0] else f"number {key[1]}"
            raise RecordError(f"{place}: {where} is no prompt of the suite; number from 0 within the category")
        if text is not None and text != known[key]:
            cure = "correct one of them, or leave one out"
            raise RecordError(f"{place}: prompt is {text!r}, but number {key[1]} is {known[key]!r}; {cure}")
        return key
    if not isinstance(text, str):
        raise RecordError(f"{place}: has neither 'number' nor 'prompt', expected one of them beside 'image'; add it")
    matches = by_text.get((category, text), ())
    if len(matches) != 1:
        what = f"is {len(matches)} prompts of the suite" if matches else "is no prompt of the suite"
        cure = "give 'category' and 'number' instead" if matches else "correct it, or remove the row"
        raise RecordError(f"{place}: {text!r} {what}; {cure}")
    return matches[0].category, matches[0].number


def _number(place: str, value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().isdecimal():  # all that CSV has is text
        return int(value)
    raise RecordError(f"{place}: number is {value!r}, expected a whole number from 0; correct it")


def _inside(place: str, folder: Path, name: str) -> Path:
    path = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise RecordError(f"{place}: image {name!r} lies outside {folder}; give a path that starts there")
    if not path.is_file():
        raise RecordError(f"{place}: image {name!r} does not exist below {folder}; make it, or remove the row")
    return path


def _check(suite: Suite, folder: Path, found: _Found, allow_missing: bool) -> None:
    """Everything that is wrong, in one error."""
    missing = _missing(suite, found)
    count = sum(len(names) for names in missing.values())
    if not found.files:
        expected = f"expected {image_name(suite.prompts[0])} and so on{_near(suite, folder)}"
        cure = "name them so (`hpskit benchmark prompts` lists the names), or say which is which with --manifest"
        raise InputError(f"{folder}: holds no image of the suite{_instead(folder)}, {expected}; {cure}")
    problems = []
    if unusable := list(_unusable(found)):
        problems.append(f"{len(unusable)} that cannot be read: {'; '.join(unusable[:_SHOWN])}")
    if found.duplicates:
        problems.append(f"{len(found.duplicates)} for a place that is taken: {_listed(found.duplicates)}")
    if found.extra:
        problems.append(f"{len(found.extra)} that belong to no prompt: {_listed(found.extra)}")
    if count and not allow_missing:
        hint = _near(suite, folder) or _from_one(suite, found)
        problems.append(f"{count} missing: {_listed(_ranges(missing))}{hint}")
    if problems:
        cure = "mend the folder" + (
            ", or score what is there with --allow-missing" if count and not allow_missing else ""
        )
        raise InputError(f"{folder}: images do not fit the suite: {'; '.join(problems)}. Nothing was scored; {cure}")


def _unusable(found: _Found) -> Iterator[str]:
    """What is wrong with files that are empty, unreadable or no images, as far as their heads tell."""
    for samples in found.files.values():
        for path in samples.values():
            try:
                check_head(path)
            except ImageError as error:
                yield str(error)


def _instead(folder: Path) -> str:
    """What a folder holds in place of a suite's images."""
    there = _image_files(folder)
    return f", but {len(there)} other image files, {there[0].name} for one" if there else ""


def _from_one(suite: Suite, found: _Found) -> str:
    """A hint where images are numbered from 1."""
    for category, size in _sizes(suite).items():
        prefix = f"{category}/" if category else ""
        last = (Path(name).stem for name in found.extra if name.startswith(prefix))
        if (category, 0) not in found.files and any(stem.isdecimal() and int(stem) == size for stem in last):
            return " (numbers start at 0)"
    return ""


def _missing(suite: Suite, found: _Found) -> dict[str, list[tuple[int, int | None]]]:
    """Category -> (number, sample) of what is not there; each prompt is to have as many images as the others."""
    samples = sorted({sample for files in found.files.values() for sample in files})
    missing: dict[str, list[tuple[int, int | None]]] = {}
    for prompt in suite.prompts:
        there = found.files.get((prompt.category, prompt.number), {})
        if not there:
            missing.setdefault(prompt.category, []).append((prompt.number, None))
        elif absent := [sample for sample in samples if sample not in there]:
            missing.setdefault(prompt.category, []).extend((prompt.number, sample) for sample in absent)
    return missing


def _ranges(missing: Mapping[str, Sequence[tuple[int, int | None]]]) -> list[str]:
    """`anime/00003`, `anime/00007 to 00012`, `anime/00013_2`."""
    names = []
    for category, places in missing.items():
        prefix = f"{category}/" if category else ""
        names += [f"{prefix}{number:05d}_{sample}" for number, sample in places if sample is not None]
        for first, last in _runs([number for number, sample in places if sample is None]):
            names.append(f"{prefix}{first:05d}" + (f" to {last:05d}" if last > first else ""))
    return names


def _runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _near(suite: Suite, folder: Path) -> str:
    """A hint where a folder has nearly the name of a category."""
    there = {path.name for path in folder.iterdir() if path.is_dir()}
    for category in suite.categories:
        if category and category not in there:
            lower = {name.casefold(): name for name in there}
            close = difflib.get_close_matches(category.casefold(), lower, n=1)
            if close:
                return f" (is the folder {lower[close[0]]!r} meant to be {category!r}?)"
    return ""
