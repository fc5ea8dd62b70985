"""Look for what is wrong with the images of a run: broken, blank, alike, of another size, changed, or not there.

People were asked to rank identical images elsewhere, and a picture that says "content blocked" was scored as art.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hpskit import __version__
from hpskit.errors import ImageError, InputError
from hpskit.files import inside
from hpskit.images.run import ROWS
from hpskit.pages.page import page, publish_page
from hpskit.pixels import Encoded, open_image, thumbnail
from hpskit.rows import read_rows

KINDS = {
    "missing": "the run has no image, for the reason that is named",
    "gone": "the file is not there any more",
    "changed": "the file is not what the run wrote",
    "broken": "the file cannot be decoded",
    "blank": "one colour all over",
    "placeholder": "the same picture for three prompts or more",
    "identical": "the same pixels as another image of the prompt",
    "near-identical": "hardly to be told from another image of the prompt",
    "size": "not as large as most images of the generator",
}
"""What can be wrong with an image, worst first."""
_UNSEEN = ("missing", "gone", "changed", "broken")
"""Kinds of which there is nothing to be seen."""
_SMALL = 32
"""Side of the small copies by which images are compared."""
NEAR = 2.0
"""Mean difference of small copies, in grey levels, up to which images are near-identical: a JPEG of quality 80 against
its original differs by less than 1, two seeds of one prompt by 10 and more."""
_FLAT = 4
"""Grey levels from the least to the largest, in each colour, of an image that is blank."""
_AT_ONCE = 256
_SHEET = 12
"""Prompts on the contact sheet."""
_SHOWN = 8
"""Images of each fault on the page."""

Row = dict[str, Any]


class Fault(NamedTuple):
    """Something wrong with an image."""

    kind: str
    row: Row
    said: str
    other: str = ""
    """File that it is like."""


class _Seen(NamedTuple):
    """The part of an image's pixels that is kept."""

    digest: bytes
    size: tuple[int, int]
    small: NDArray[np.float32]
    flat: str
    """The colour, if there is but one."""


def check_images(folder: Path, progress: Callable[[str, int, int | None], None] = lambda *_: None) -> dict[str, Any]:
    """Look at every image of a run.

    Args:
        folder: what `hpskit images generate` or `import` wrote.
        progress: told what is done, and of how much.

    Returns:
        `images` and `missing`, counts; `generators`, each with its `images` and most frequent `size`; `faults`, in the
        order of `KINDS`; and `rows`.

    Raises:
        InputError: the folder holds no run, or a row names a file outside of it.
    """
    rows = list(_rows(folder))
    if not rows:
        raise InputError(folder / ROWS, "has no rows", expected="one for each image", cure="make the images again")
    faults = [Fault("missing", row, _why(row)) for row in rows if row["state"] != "done"]
    there = [row for row in rows if row["state"] == "done"]
    seen: dict[str, _Seen] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        waiting = iter(there)
        while some := list(islice(waiting, _AT_ONCE)):
            for row, found in zip(some, pool.map(lambda row: _look(folder, row), some), strict=True):
                if isinstance(found, Fault):
                    faults.append(found)
                else:
                    seen[row["file"]] = found
            progress("looking at images", len(seen), len(there))
    faults += _alone(there, seen)
    faults += _alike(there, seen)
    order = {kind: number for number, kind in enumerate(KINDS)}
    sizes: defaultdict[str, Counter[tuple[int, int]]] = defaultdict(Counter)
    for row in there:
        if row["file"] in seen:
            sizes[row["generator"]][seen[row["file"]].size] += 1
    names = dict.fromkeys(row["generator"] for row in rows)
    return {
        "package": f"hpskit {__version__}",
        "name": folder.resolve().name,
        "images": len(there),
        "missing": len(rows) - len(there),
        "generators": {
            name: {"images": sizes[name].total(), "size": (sizes[name].most_common(1) or [((0, 0), 0)])[0][0]}
            for name in names
        },
        "faults": sorted(faults, key=lambda fault: order[fault.kind]),
        "rows": rows,
    }


def _why(row: Row) -> str:
    return " ".join(str(row[name]) for name in ("state", "reason", "said") if row.get(name))


def _rows(folder: Path) -> Iterator[Row]:
    path = folder / ROWS
    if not path.is_file():
        cure = "bring images in by `hpskit images import`, or make them by `hpskit images generate`"
        raise InputError(folder, f"holds no {ROWS}", expected="the folder of a run", cure=cure)
    for number, row in read_rows(path):
        place = f"{path}: row {number}"
        names = ("generator", "state", "prompt", "category") + (
            ("file", "sha256") if row.get("state") == "done" else ()
        )
        if wrong := next((name for name in names if not isinstance(row.get(name), str)), None):
            raise InputError(
                f"{place}: {wrong}", "is missing", expected="a row that hpskit wrote", cure="make it again"
            )
        if row["state"] == "done":
            inside(folder / row["file"], [folder], f"{place}: file")
        yield row


def _look(folder: Path, row: Row) -> _Seen | Fault:
    """Read one image once: its hash and its pixels."""
    path = folder / row["file"]
    if not path.is_file():
        return Fault("gone", row, "")
    try:
        data = Encoded.read(path)
        if data.sha256 != row["sha256"]:
            return Fault("changed", row, "")
        image = open_image(data)
    except ImageError as error:
        return Fault("broken", row, error.found)
    extrema = np.asarray(image.getextrema())
    flat = "#{:02x}{:02x}{:02x}".format(*extrema[:, 0]) if np.ptp(extrema, axis=1).max() <= _FLAT else ""
    small = np.asarray(image.resize((_SMALL, _SMALL), Image.Resampling.BOX), np.float32)
    return _Seen(hashlib.sha256(image.tobytes()).digest(), image.size, small, flat)


def _alone(rows: Sequence[Row], seen: dict[str, _Seen]) -> Iterator[Fault]:
    """Find images that are blank, of another size than others of their generator, or a picture for all occasions."""
    by_generator: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["file"] in seen:
            by_generator[row["generator"]].append(row)
    for own in by_generator.values():
        usual = Counter(seen[row["file"]].size for row in own).most_common(1)[0][0]
        prompts: defaultdict[bytes, set[str]] = defaultdict(set)
        for row in own:
            prompts[seen[row["file"]].digest].add(row["prompt"])
        for row in own:
            found = seen[row["file"]]
            if found.flat:
                yield Fault("blank", row, found.flat)
            elif len(prompts[found.digest]) >= 3:
                yield Fault("placeholder", row, f"{len(prompts[found.digest])} prompts have this picture")
            if found.size != usual:
                yield Fault("size", row, f"{found.size[0]} x {found.size[1]}, most have {usual[0]} x {usual[1]}")


def _alike(rows: Sequence[Row], seen: dict[str, _Seen]) -> Iterator[Fault]:
    """Find images of one prompt that are the same, or nearly."""
    groups: defaultdict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row["file"] in seen and not seen[row["file"]].flat:
            groups[row["category"], row["prompt"]].append(row)
    for group in groups.values():
        told: set[str] = set()
        for one, other in combinations(group, 2):
            first, second = seen[one["file"]], seen[other["file"]]
            if other["file"] in told:
                continue
            apart = float(np.abs(first.small - second.small).mean())
            if first.digest == second.digest:
                yield Fault("identical", other, f"as {one['file']}", one["file"])
            elif apart <= NEAR:
                yield Fault("near-identical", other, f"{apart:.1f} grey levels from {one['file']}", one["file"])
            else:
                continue
            told.add(other["file"])


def check_page(folder: Path, found: dict[str, Any], out: Path) -> None:
    """Write what `check_images` found as one page, with the images of some prompts side by side.

    Raises:
        InputError, OutputError: see `hpskit.pages.page.publish_page`.
    """
    by_kind: defaultdict[str, list[Fault]] = defaultdict(list)
    for fault in found["faults"]:
        by_kind[fault.kind].append(fault)
    unusable = {fault.row.get("file") for fault in found["faults"] if fault.kind in _UNSEEN}

    def picture(name: str) -> str:
        return "" if name in unusable else thumbnail(folder / name, side=200)

    faults = []
    for kind, own in by_kind.items():
        examples = []
        for fault in own[:_SHOWN]:
            names = (fault.row.get("file", ""), fault.other) if kind not in _UNSEEN else ()
            examples.append((fault, [picture(name) for name in names if name]))
        faults.append((kind, KINDS[kind], len(own), examples))
    first: defaultdict[tuple[str, str], dict[str, Row]] = defaultdict(dict)
    for row in found["rows"]:
        first[row["category"], row["prompt"]].setdefault(row["generator"], row)
    step = max(1, len(first) // _SHEET)
    sheet = [
        (
            prompt,
            category,
            [(name, picture(row["file"]) if row["state"] == "done" else "") for name, row in own.items()],
        )
        for (category, prompt), own in islice(first.items(), 0, step * _SHEET, step)
    ]
    text = page("hpskit.images", "check.html", result=found, faults=faults, sheet=sheet)
    publish_page(out, text)
