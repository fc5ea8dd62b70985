"""The pictures of a leaderboard: small ones to stand in the page where models differ most, addresses of all others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hpskit.benchmark.result import Result, relative_to
from hpskit.benchmark.suites import image_name
from hpskit.errors import ImageError
from hpskit.files import sha256_file
from hpskit.pixels import thumbnail

__all__ = ["Pictures", "gather_pictures"]

_SIDE = 176
"""Pixels of a thumbnail's longer side."""
_BUDGET = 3_000_000
"""Characters of all thumbnails together, so that a page with its scores stays under some 5 MB."""

Place = tuple[str, int]
"""Name of a model, and number of a prompt in the suite."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pictures:
    """What a page can show of the images."""

    thumbnails: dict[Place, str] = field(default_factory=dict)
    """`data:` addresses of small JPEGs."""
    links: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    """Name of a model -> `root`, an address relative to the page, and `ending`, if every image is named as in the
    official layout, else `names`, with null for those that are not there. None if no image is there."""
    notes: list[str] = field(default_factory=list)
    """What could not be shown, and why."""


def gather_pictures(
    results: Sequence[Result], boards: Sequence[Mapping[str, Any]], folders: Mapping[str, Path], out: Path
) -> Pictures:
    """Find the images, and make small ones where models differ most.

    Args:
        results: of all models.
        boards: see `hpskit.benchmark.leaderboard.figures.scorer_board`.
        folders: name of a model -> where its images are, if not where the result says.
        out: folder of the page, from which addresses start.
    """
    pictures = Pictures()
    by_name = {result.name: result for result in results}
    files = {name: _files(result, folders.get(name)) for name, result in by_name.items()}
    for name, result in by_name.items():
        root = folders.get(name) or result.path.parent / (result.images_root or ".")
        pictures.links[name] = _links(result, files[name], root, out)
    room = _BUDGET
    changed: Counter[str] = Counter()
    for name, row in dict.fromkeys(_wanted(boards, _rows(results[0]))):
        path = files[name][row]
        if path is None:
            continue
        small = _thumbnail(path, by_name[name].prompts[row].images[0].sha256)
        if small is None:
            changed[name] += 1
        elif len(small) > room:
            break
        else:
            pictures.thumbnails[name, row] = small
            room -= len(small)
    pictures.notes.extend(f"{_changed(count)} of {name} and are not shown." for name, count in changed.items())
    return pictures


def _changed(count: int) -> str:
    return "One image is not the file that was scored" if count == 1 else f"{count} images are not the files scored"


def _files(result: Result, folder: Path | None) -> list[Path | None]:
    """The first image of each prompt, None where the file is not there."""
    if folder is None:
        return [result.image_path(row) for row in range(len(result.prompts))]
    paths = [folder / row.images[0].image if row.images else None for row in result.prompts]
    return [path if path and path.is_file() else None for path in paths]


def _links(result: Result, files: Sequence[Path | None], root: Path, out: Path) -> dict[str, Any] | None:
    address = relative_to(root, out)
    if address is None or not any(files):
        return None
    names = [row.images[0].image if path else None for row, path in zip(result.prompts, files, strict=True)]
    link: dict[str, Any] = {"root": f"{quote(address)}/", "names": [name and quote(name) for name in names]}
    ending = Path(next(name for name in names if name)).suffix
    official = [image_name(row, ending) for row in result.prompts]
    there = [bool(row.images) for row in result.prompts]
    if names == [name if has else None for name, has in zip(official, there, strict=True)]:
        link = {"root": link["root"], "ending": ending}
    return link


def _rows(result: Result) -> dict[tuple[str, int], int]:
    """Category and number of a prompt -> its number in the suite."""
    return {(row.category, row.number): n for n, row in enumerate(result.prompts)}


def _wanted(boards: Sequence[Mapping[str, Any]], rows: Mapping[tuple[str, int], int]) -> Iterator[Place]:
    """The pictures that a reader is likely to open, the likeliest first, some of them more than once."""
    for board in boards:
        yield from ((name, rows[where(case)]) for case in board["extremes"]["spread"] for name in board["models"])
    for board in boards:
        for model in board["extremes"]["models"]:
            yield from ((model["name"], rows[where(case)]) for case in [*model["best"], *model["worst"]])
    place = {name: n for board in reversed(boards) for n, name in enumerate(board["models"])}
    pairs = [pair for board in boards for pair in board["extremes"]["pairs"]]
    for pair in sorted(pairs, key=lambda pair: abs(place[pair["first"]] - place[pair["second"]])):
        for case in [*pair["for_second"], *pair["for_first"]]:
            yield from ((pair[side], rows[where(case)]) for side in ("first", "second"))


def where(case: Mapping[str, Any]) -> tuple[str, int]:
    """Category and number of a prompt."""
    return case["category"], case["number"]


def _thumbnail(path: Path, sha256: str) -> str | None:
    """A small picture; None if the file is not the one that was scored."""
    try:
        return thumbnail(path, side=_SIDE) if sha256_file(path) == sha256 else None
    except (ImageError, OSError):  # unreadable now, so it is not what was scored
        return None
