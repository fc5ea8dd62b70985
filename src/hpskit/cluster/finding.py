"""Find shards: files of rows, and images of folders, at paths and addresses."""

from __future__ import annotations

import glob
import hashlib
import itertools
import json
import os
import posixpath
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import fsspec

from hpskit.cluster.shards import Shard, is_local, is_missing, reachable, storage, version
from hpskit.errors import InputError, listed
from hpskit.images.layout import ENDINGS as PICTURES
from hpskit.images.layout import OTHER_ENDINGS
from hpskit.scoring.tables import ENDINGS, check_kinds, unbraced

_IN_SHARD = 1_000
"""Images of a folder that are a shard, at most."""
_LONGEST = 255
"""Bytes of the name of a file."""


def names_of(inputs: Iterable[str]) -> Iterator[str]:
    """Write out the braces of names."""
    for text in inputs:
        yield from [text] if os.path.lexists(text) else unbraced(text)


def find_shards(inputs: Iterable[str]) -> list[Shard]:
    """Find the files that names mean: folders, files, with braces and wildcards, at paths or addresses.

    Raises:
        InputError: nothing is there, it cannot be reached, or a file is of no kind that is read.
    """
    found: dict[str, str] = {}
    captions: dict[str, str] = {}
    for name in names_of(inputs):
        files, path = storage(name)
        with reachable(name):
            there = listed_files(files, path, name)
        for one in there:
            place = one if is_local(files) else files.unstrip_protocol(one)
            if place in found:
                raise InputError("--input", f"names {place} twice", expected="each file once")
            with reachable(place):
                found[place] = version(files.info(one))
                if place.lower().endswith(PICTURES):
                    captions[place], stamp = caption_of(files, one)
                    found[place] += f" {stamp}"
    if captions and len(captions) < len(found):
        cure = "score the images, and the files, each by a run of its own"
        raise InputError("--input", "names images as well as files of rows", expected="one of both", cure=cure)
    parts = {place: place.split("/") for place in found}
    folders = zip(*(one[:-1] for one in parts.values()), strict=False)
    depth = sum(1 for _ in itertools.takewhile(lambda level: len({*level}) == 1, folders))
    names = sorted(("/".join(one[depth:]), place) for place, one in parts.items())
    if captions:
        shards = list(of_images(names, found, captions))
    else:
        check_kinds("--input", [*map(Path, found)])
        shards = [Shard(number, name, place, found[place]) for number, (name, place) in enumerate(names)]
    for shard in shards:
        check_name(shard)
    return shards


def check_name(shard: Shard) -> None:
    """See that the part of the output for a shard can be called as it is.

    Raises:
        InputError: its name is no text, or too long.
    """
    try:
        f"{shard.place}/{shard.name}".encode()
    except UnicodeEncodeError as error:
        raise InputError(shard.place, "has a name that is not Unicode text", cure="rename it") from error
    if (length := len(f"shard={quote(shard.name, safe='')}")) > _LONGEST:
        found, cure = f"would give its part of the output a name of {length} bytes", "shorten the names of its folders"
        raise InputError(shard.place, found, expected=f"at most {_LONGEST}", cure=cure)


def of_images(
    images: Iterable[tuple[str, str]], versions: Mapping[str, str], captions: Mapping[str, str]
) -> Iterator[Shard]:
    """Make shards of images, given by name and place; those of a folder are called FOLDER/1, FOLDER/2 and so on."""
    folders: dict[str, list[tuple[str, str]]] = {}
    for name, place in images:
        folders.setdefault(posixpath.dirname(place), []).append((name, place))
    count = itertools.count()
    for folder, members in folders.items():
        for first in range(0, len(members), _IN_SHARD):
            part = members[first : first + _IN_SHARD]
            stamp = hashlib.sha256(json.dumps([versions[place] for _, place in part]).encode()).hexdigest()
            called = posixpath.join(posixpath.dirname(part[0][0]), str(first // _IN_SHARD + 1))
            pictures = tuple((posixpath.basename(place), captions[place]) for _, place in part)
            yield Shard(next(count), called, folder, stamp, pictures)


def caption_of(files: fsspec.AbstractFileSystem, image: str) -> tuple[str, str]:
    """Return name and version of the text that holds the prompt of an image; both empty if there is none."""
    stem = posixpath.splitext(image)[0]
    for ending in (".txt", ".TXT"):
        try:
            return posixpath.basename(stem) + ending, version(files.info(stem + ending))
        except FileNotFoundError as error:
            if not is_missing(error):
                raise
    return "", ""


def listed_files(files: fsspec.AbstractFileSystem, path: str, name: str) -> list[str]:
    """List the files that one name means, in order."""
    if glob.has_magic(path) and not (is_local(files) and os.path.lexists(path)):
        found = sorted(files.glob(path))
        if not found:
            raise InputError(name, "fits no file", cure="check the path and the pattern")
        return found
    if path.lower().endswith(ENDINGS) or not files.isdir(path):
        return [path]
    every = [one for one in sorted(below(files, path)) if "/." not in one[len(path.rstrip("/")) :]]  # hidden
    for kinds in (ENDINGS, PICTURES):  # images beside a table are those that it names
        if found := [one for one in every if one.lower().endswith(kinds)]:
            break
    else:
        expected = f"files that end in {', '.join(ENDINGS)}; or images, each with its prompt in a .txt beside it"
        raise InputError(name, "has neither rows nor images", expected=expected)
    if kinds is PICTURES and (others := [one for one in every if one.lower().endswith(OTHER_ENDINGS)]):
        warnings.warn(f"{name}: not read: {listed(others)}; images end in {', '.join(PICTURES)}", stacklevel=4)
    return found


def below(files: fsspec.AbstractFileSystem, root: str) -> Iterator[str]:
    """Find the files in a folder and all folders in it; links are followed.

    Raises:
        OSError: one cannot be listed.
        InputError: a link leads to a folder above it.
    """
    if not is_local(files):
        yield from files.find(root)
        return

    def stop(error: OSError) -> None:
        raise error

    for folder, _, names in os.walk(root, followlinks=True, onerror=stop):
        real, above = os.path.realpath(folder), os.path.realpath(Path(folder).parent)
        if folder != root and f"{above}/".startswith(f"{real}/"):
            raise InputError(folder, "is a link to a folder above it", cure="remove it")
        yield from (posixpath.join(folder, one) for one in names)
