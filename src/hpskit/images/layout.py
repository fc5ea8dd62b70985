"""Find the image of each prompt: by the official layout of folders, by sorted names, or by a manifest.

Official layout: `STYLE/00000.jpg` and so on, numbered from 0 within each category; without categories directly in the
folder. Also `.jpeg`, `.png`, `.webp`; several images of one prompt are `00000_0.png`, `00000_1.png` …. Numbers that
start elsewhere are understood if that leaves no doubt, and told in `ImageSet.notes`; what could be one off is refused.
Only the head of a file is looked at, not its pixels.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import ConfigDict, Field, field_validator

from hpskit.errors import ImageError, InputError, RecordError, listed, printable, shown
from hpskit.files import explain
from hpskit.pages.format import counted
from hpskit.pixels import check_head
from hpskit.prompts.suites import Suite, SuitePrompt, image_name
from hpskit.rows import read_rows
from hpskit.schema import Strict, nearest, parse

ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
"""Endings of the images that are read."""
OTHER_ENDINGS = (".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".jp2")
"""Endings of images that are not read; a file with none of these endings is no image, and is left alone."""
_NAME = re.compile(r"(\d+)(?:_(\d+))?")

Match: TypeAlias = Literal["auto", "number", "order"]
"""How names are read: as numbers, from wherever they start; as numbers from 0; or sorted, the first for the first
prompt, whatever the names are."""

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
    notes: tuple[str, ...] = ()
    """How names were read, where it is not the official layout."""

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
    unsure: list[str] = field(default_factory=list)
    """Places whose numbers can be read in two ways, one off from each other."""
    notes: list[str] = field(default_factory=list)


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


def find_images(
    suite: Suite,
    folder: Path,
    *,
    manifest: Path | None = None,
    match: Match = "auto",
    allow_missing: bool = False,
    option: str = "--manifest",
) -> ImageSet:
    """Find the images of a suite; everything that does not fit is listed in one error.

    Args:
        suite: the prompts.
        folder: the images, in the official layout or as `manifest` says.
        manifest: JSONL, CSV, TSV or parquet with the columns `image` (a path that starts from `folder`) and either
            `number` (and `category`, if the suite has categories) or `prompt`. Several rows may belong to one prompt.
        match: see `Match`. By `order` there must be one image for each prompt.
        allow_missing: leave prompts without an image empty instead of refusing. Nothing else is forgiven.
        option: what the caller's users give a manifest by, for errors.

    Raises:
        InputError: images are missing (without `allow_missing`), empty or no images, are of no prompt of the suite, or
            two files claim one place; it is open where numbers start; or there is no image at all.
        RecordError: a row of the manifest is broken.
    """
    if not os.path.isdir(folder):
        raise InputError(folder, "is not a folder", expected="the images of a model", cure="see docs/benchmark.md")
    if manifest is None:
        found = by_layout(suite, folder, match)
    elif match == "order":
        raise InputError("match", f"is 'order' beside {manifest}", expected="one of the two", cure="leave one out")
    else:
        found = by_manifest(suite, folder, manifest, match)
    check(suite, folder, found, allow_missing, option)
    images = (found.files.get((prompt.category, prompt.number), {}) for prompt in suite.prompts)
    below = () if manifest else (printable(path.name) for path in folder.iterdir() if path.is_dir())
    return ImageSet(
        root=folder,
        images=tuple(tuple(path for _, path in sorted(samples.items())) for samples in images),
        other_folders=tuple(sorted(set(below) - set(suite.categories))),
        notes=tuple(found.notes),
    )


def by_layout(suite: Suite, folder: Path, match: Match) -> Found:
    """Sort files by their names, each folder of the suite by itself; all of them if the suite lies in one folder."""
    found = Found()
    parts: dict[str, list[SuitePrompt]] = {name: [] for name in suite.categories}
    for prompt in suite.prompts:
        parts[prompt.category].append(prompt)
    there = {name: prompts for name, prompts in parts.items() if (folder / name).is_dir()}
    through = not there and match != "number"
    for name, prompts in ({"": list(suite.prompts)} if through else there).items():
        if match == "order":
            by_order(found, folder, name, prompts)
        else:
            by_number(found, folder, name, prompts, match, through=through)
    if not through and "" not in there:
        found.extra.extend(path.name for path in image_files(folder))
    return found


def by_number(
    found: Found, folder: Path, name: str, prompts: Sequence[SuitePrompt], match: Match, *, through: bool
) -> None:
    """Sort the files of one folder by their numbers; `through` if it has those of several categories."""
    named = [(path, _NAME.fullmatch(path.stem)) for path in image_files(folder / name)]
    read = {path: (int(own[1]), own[2]) for path, own in named if own and path.suffix.lower() in ENDINGS}
    numbers = {number for number, _ in read.values()}
    start = start_of(numbers, len(prompts)) if match == "auto" else 0
    if through and (start is None or numbers != set(range(start, start + len(prompts)))):
        found.extra.extend(path.name for path, _ in named)  # such numbers are no layout at all
        return
    if start is None:
        numbered = f"numbers {min(numbers)} to {max(numbers)} for {len(prompts)} prompts"
        found.unsure.append(f"{name or folder.name} has {numbered}")
        return
    for path, _ in named:
        number, sample = read.get(path, (-1, None))
        place, own = number - start, path.relative_to(folder).as_posix()
        if not 0 <= place < len(prompts):
            found.extra.append(own)
            continue
        samples = found.files[prompts[place].category, prompts[place].number]
        plain = samples.get(0) if sample else None  # names are sorted: 00000 comes before 00000_0
        taken = plain if plain and "_" not in plain.stem else samples.setdefault(int(sample or 0), path)
        if taken != path:
            found.duplicates.append(f"{own} beside {taken.name}")
    if start or through:
        first = found.files[prompts[0].category, prompts[0].number]
        what = f"numbers start at {start}{' and go through the whole suite' * through}"
        found.notes.append(f"{what}: {min(first.values()).relative_to(folder).as_posix()} is of the first prompt")


def start_of(numbers: Collection[int], size: int) -> int | None:
    """Tell which number the first of `size` prompts has; None if that is open.

    Numbers start at 0, or where a whole run of them does. They start at 1 also with gaps, if 1 and `size` are there.
    """
    low, high = min(numbers, default=0), max(numbers, default=0)
    if low == 0 or high - low >= size:  # too many: those beyond the suite belong to no prompt
        return 0
    return low if high - low + 1 == size and (low == 1 or len(numbers) == size) else None


def by_order(found: Found, folder: Path, name: str, prompts: Sequence[SuitePrompt]) -> None:
    """Give the sorted files of a folder to its prompts: 2 comes before 10."""
    own: dict[tuple[str | int, ...], Path] = {}
    for path in image_files(folder / name):
        key = natural(path.stem)
        if path.suffix.lower() not in ENDINGS:
            found.extra.append(path.relative_to(folder).as_posix())
        elif own.setdefault(key, path) != path:
            found.duplicates.append(f"{path.relative_to(folder).as_posix()} beside {own[key].name}")
    cure = "a name more or less would shift all others: mend the folder, or write a manifest"
    if len(own) != len(prompts):
        what, expected = f"holds {len(own)} images", f"{len(prompts)}, one for each prompt"
        raise InputError(folder / name, what, expected=expected, cure=cure)
    if len({key[0] for key in own}) > 1:
        named = " and ".join(shown(path.name) for path in {key[0]: path for key, path in own.items()}.values())
        raise InputError(folder / name, f"holds {named}", expected="names that begin alike", cure=cure)
    paths = [path for _, path in sorted(own.items())]
    for prompt, path in zip(prompts, paths, strict=True):
        found.files[prompt.category, prompt.number][0] = path
    ends = [shown(path.relative_to(folder).as_posix()) for path in (paths[0], paths[-1])]
    found.notes.append(f"names are sorted: {ends[0]} is of the first prompt, {ends[1]} of the last")


def natural(name: str) -> tuple[str | int, ...]:
    """Key of a name when names are sorted as people do: 2 comes before 10."""
    return tuple(int(part) if n % 2 else part for n, part in enumerate(re.split(r"(\d+)", name.casefold())))


def images_of(paths: Iterable[Path]) -> tuple[list[Path], list[str]]:
    """Put in the place of each folder its images, in the order of their names.

    Returns:
        The files, and a sentence about each folder: how many, and what in it was left out; hidden files are not there.

    Raises:
        InputError: a folder holds no image, or cannot be read.
    """
    files, notes = list[Path](), list[str]()
    for path in paths:
        if not os.path.isdir(path):
            files.append(path)
            continue
        own = sorted(image_files(path), key=lambda file: (natural(file.name), file.name))
        others = sorted({file.name for file in path.iterdir() if file.name[0] != "."} - {file.name for file in own})
        left = f"; no images, and left out: {listed(others)}" if others else ""
        if not own:
            raise InputError(
                path, "holds no image" + (f", but {listed(others)}" if others else ""), cure="name another"
            )
        files += own
        notes.append(f"{path}: {counted(len(own), 'image')}{left}")
    return files, notes


def image_files(folder: Path) -> list[Path]:
    """List the image files of a folder by name, also those that cannot be read."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.name[0] != "." and path.is_file())
    except OSError as error:
        raise InputError(folder, f"cannot be read ({explain(error)})", cure="change its permissions") from error
    return [path for path in paths if path.suffix.lower() in (*ENDINGS, *OTHER_ENDINGS)]


def by_manifest(suite: Suite, folder: Path, manifest: Path, match: Match) -> Found:
    """Sort files as a manifest says."""
    found = Found()
    known = {(prompt.category, prompt.number): prompt.prompt for prompt in suite.prompts}
    by_text: defaultdict[tuple[str | None, str], list[Key]] = defaultdict(list)
    for key, text in known.items():
        for category in (key[0], None):
            by_text[category, text].append(key)
    rows: dict[str, int] = {}
    by_number = set()
    for number, value in read_rows(manifest):
        place = f"{manifest}: row {number}"
        row = parse(ManifestRow, value, place, error=RecordError)
        name = posixpath.normpath(row.image)
        if name in rows:
            raise RecordError(f"{place}: image", f"is {name!r}, as in row {rows[name]}", cure="remove one of the rows")
        rows[name] = number
        key = prompt_of(row, place, known, by_text)
        if row.prompt is None:
            by_number.add(key[0])
        samples = found.files[key]
        if Path(name).is_absolute() or ".." in Path(name).parts or not os.path.isfile(folder / name):
            expected, cure = f"the path of a file that starts from {folder}", "make it, or remove the row"
            if os.path.isfile(row.image) and (inner := os.path.relpath(row.image, folder))[:2] != "..":
                cure = f"write {inner!r}"
            raise RecordError(f"{place}: image", f"is {shown(row.image)}", expected=expected, cure=cure)
        samples[len(samples)] = folder / name
    for category in sorted(by_number) if match == "auto" else ():
        if (category, 0) not in found.files:
            what = f"{category}, number 0" if category else "number 0"
            found.unsure.append(f"{manifest.name} has no image of {what}")
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


def check(suite: Suite, folder: Path, found: Found, allow_missing: bool, option: str) -> None:
    """Refuse everything that is wrong, in one error."""
    if not found.files and not found.unsure:
        there = image_files(folder)
        instead = f", but {len(there)} other image files, {there[0].name} for one" if there else ""
        raise InputError(
            folder,
            f"holds no image of the suite{instead}",
            expected=f"{image_name(suite.prompts[0])} and so on{near(suite, folder)}",
            cure=f"name them so (`hpskit benchmark prompts` lists the names), say which is which with {option}, or "
            "take them in the order of their names (--match order)",
        )
    unusable = []
    for path in (path for samples in found.files.values() for path in samples.values()):
        try:
            str(path).encode()
            check_head(path)
        except ImageError as error:
            unusable.append(str(error))
        except UnicodeEncodeError:
            unusable.append(f"{shown(path.name)}, whose name is no text")
    kinds = {
        "that cannot be read": unusable,
        "for a place that is taken": found.duplicates,
        "that belong to no prompt": found.extra,
    }
    problems = [f"{len(names)} {what}: {listed(names, 20)}" for what, names in kinds.items() if names]
    cure = "nothing was scored; mend the folder"
    if found.unsure:
        problems.append(f"{listed(found.unsure, 20)}: where the first prompt is missing, all others may be one off")
        cure += f", or say --match number if numbers do start at 0, or which image is whose with {option}"
    elif not allow_missing and (absent := missing(suite, found)):
        problems.append(f"{len(absent)} missing: {listed(absent, 20)}{near(suite, folder)}")
        cure += ", or score what is there with --allow-missing"
    if problems:
        raise InputError(folder, f"has images that do not fit the suite: {'; '.join(problems)}", cure=cure)


def missing(suite: Suite, found: Found) -> list[str]:
    """Name what is not there, `anime/00003` or `anime/00013_2`; each prompt is to have as many images as the others."""
    samples = sorted({sample for files in found.files.values() for sample in files})
    absent = []
    for prompt in suite.prompts:
        there, name = found.files.get((prompt.category, prompt.number)), image_name(prompt, "")
        absent += [f"{name}_{sample}" for sample in samples if sample not in there] if there else [name]
    return sorted(absent)


def near(suite: Suite, folder: Path) -> str:
    """Hint at a folder that has nearly the name of a category; empty if there is none."""
    there = {path.name.casefold(): path.name for path in folder.iterdir() if path.is_dir()}
    for category in suite.categories:
        if category and category not in there.values() and (close := nearest(category.casefold(), there)):
            return f" (is the folder {there[close]!r} meant to be {category!r}?)"
    return ""
