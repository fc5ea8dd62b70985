"""An archive comes out whole and inside its folder, however it was cut; a bad one leaves nothing."""

from __future__ import annotations

import gzip
import io
import re
import stat
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from error_fields import at
from hpskit.dataset.fetch import ARCHIVE, part_order, unpack
from hpskit.errors import InputError

MEMBERS = {"a.png": b"first" * 300, "x/b.png": b"second" * 300, "c.png": b""}


def tar(mode: str, *others: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as packed:  # type: ignore[call-overload]
        for name, content in MEMBERS.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
        for member in others:
            packed.addfile(member)
    return buffer.getvalue()


def zipped(*others: zipfile.ZipInfo) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for name, content in MEMBERS.items():
            packed.writestr(name, content)
        for member in others:
            packed.writestr(member, "/etc/passwd")
    return buffer.getvalue()


PACKED = {"a.tar": tar("w"), "a.tar.gz": tar("w:gz"), "a.zip": zipped()}


@settings(max_examples=25)
@given(st.sampled_from(sorted(PACKED)), st.data())
def test_parts_are_joined_wherever_they_were_cut(name: str, data: st.DataObject) -> None:
    packed = PACKED[name]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(packed)), max_size=5)))
    with tempfile.TemporaryDirectory() as folder:
        parts = []
        for number, (start, end) in enumerate(zip([0, *cuts], [*cuts, len(packed)], strict=True)):
            parts.append(Path(folder) / f"part {number}")
            parts[-1].write_bytes(packed[start:end])
        told: list[tuple[str, int]] = []
        unpack(name, parts, Path(folder) / "out", lambda *done: told.append(done))
        found = {p.relative_to(f"{folder}/out").as_posix(): p for p in Path(folder, "out").rglob("*") if p.is_file()}
        assert {name: path.read_bytes() for name, path in found.items()} == MEMBERS
        assert told == [("out", 1), ("out", 2), ("out", 3)]


@pytest.mark.parametrize("top", ["out", "other"])
def test_a_single_folder_at_the_top_is_the_folder_itself(tmp_path: Path, top: str) -> None:
    with zipfile.ZipFile(tmp_path / "archive", "w") as packed:
        packed.writestr(f"{top}/a.png", "1")
        packed.writestr(f"{top}/{top}/b.png", "2")
    unpack("out.zip", [tmp_path / "archive"], tmp_path / "out", lambda *_: None)
    assert (tmp_path / "out/a.png").read_text() == "1"
    assert (tmp_path / "out" / top / "b.png").read_text() == "2"


def link(name: str, kind: bytes, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def zip_link() -> zipfile.ZipInfo:
    member = zipfile.ZipInfo("link.png")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


def locked() -> bytes:
    """Bit 0 of the flags, in the header of the file and in the directory, says that there is a password."""
    packed = bytearray(PACKED["a.zip"])
    packed[6] |= 1
    packed[packed.index(b"PK\x01\x02") + 8] |= 1
    return bytes(packed)


def bomb(kind: bytes) -> bytes:
    """A header that announces a gigabyte, and what follows for as long as anybody should read."""
    member = tarfile.TarInfo("a.png")
    member.type, member.size = kind, 1 << 30
    return gzip.compress(member.tobuf() + bytes(1 << 20))


BAD = {
    "a zip with a password": ("a.zip", locked(), "password"),
    "a symbolic link": ("a.tar", tar("w", link("l.png", tarfile.SYMTYPE, "a.png")), "is a link or a device"),
    "a hard link": ("a.tar.gz", tar("w:gz", link("l.png", tarfile.LNKTYPE, "a.png")), "is a link or a device"),
    "a device": ("a.tar", tar("w", link("null", tarfile.CHRTYPE, "")), "is a link or a device"),
    "outside": ("a.tar.gz", tar("w:gz", tarfile.TarInfo("../evil")), "outside"),
    "outside by way of a folder": ("a.tar", tar("w", tarfile.TarInfo("x/../../evil")), "outside"),
    "a link in a zip": ("a.zip", zipped(zip_link()), "is a link or a device"),
    "outside a zip": ("a.zip", zipped(zipfile.ZipInfo("../evil")), "outside"),
    "the root in a zip": ("a.zip", zipped(zipfile.ZipInfo("/evil")), "outside"),
    "outside a tar by its root": ("a.tar", tar("w", tarfile.TarInfo("/evil")), "outside"),
    "a name twice in a tar": ("a.tar.gz", tar("w:gz", tarfile.TarInfo("x/./b.png")), "'x/./b.png' is there twice"),
    "a name twice in a zip": ("a.zip", PACKED["a.zip"].replace(b"c.png", b"a.png"), "'a.png' is there twice"),
    "a damaged header": ("a.tar", PACKED["a.tar"].replace(b"x/b.png", b"x/B.png", 1), "header is damaged"),
    "something behind the end": ("a.tar", PACKED["a.tar"] + PACKED["a.tar"], "something follows"),
    "half a block behind the end": ("a.tar", PACKED["a.tar"] + bytes(100), "whole blocks"),
    "a bomb": ("a.tar.gz", bomb(tarfile.REGTYPE), "more than 100 times its size"),
    "a bomb of a name": ("a.tar.gz", bomb(tarfile.GNUTYPE_LONGNAME), "a header says that it is"),
    "a tar cut off between files": ("a.tar", PACKED["a.tar"][:2048], "cut off"),
    "a tar cut off in a file": ("a.tar", PACKED["a.tar"][:900], "unexpected end"),
    "a tar.gz without its last byte": ("a.tar.gz", PACKED["a.tar.gz"][:-1], "end-of-stream|EOF|end of"),
    "a zip without its end": ("a.zip", PACKED["a.zip"][:-30], "not a zip file"),
    "a zip with a changed byte": ("a.zip", PACKED["a.zip"].replace(b"firstfirst", b"firstFirst", 1), "CRC"),
    "nothing": ("a.tar", b"", "empty|too short"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_trusted_leaves_nothing(tmp_path: Path, case: str) -> None:
    name, content, message = BAD[case]
    (tmp_path / "archive").write_bytes(content)
    with pytest.raises(InputError, check=at(tmp_path / "archive", cure="delete it")) as caught:
        unpack(name, [tmp_path / "archive"], tmp_path / "deep/out", lambda *_: None)
    assert re.search(message, caught.value.found)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["archive", "deep"]


@pytest.mark.parametrize(
    ("name", "stem", "kind"),
    [
        ("test.tar.gz", "test", "tar.gz"),
        ("images.tar.gz.00", "images", "tar.gz"),
        ("images.tar.gz.part-12", "images", "tar.gz"),
        ("images.tar.partaa", "images", "tar"),
        ("a.b.zip", "a.b", "zip"),
        ("train.zip.001", "train", "zip"),
        ("a.tgz_ab", "a", "tgz"),
    ],
)
def test_archives_are_known_by_their_names(name: str, stem: str, kind: str) -> None:
    match = ARCHIVE.fullmatch(name)
    assert match is not None
    assert (match["stem"], match["kind"]) == (stem, kind)


@pytest.mark.parametrize(
    "name", ["test.json", "a.parquet", "a.tar.xz", "a.tar.zst", "tar.gz.md", "a.zip.json", "a.tar.gz.txt.x"]
)
def test_other_files_are_no_archives(name: str) -> None:
    assert ARCHIVE.fullmatch(name) is None


def test_parts_are_in_the_order_in_which_they_were_cut() -> None:
    assert sorted(["a.tar.10", "a.tar.9", "a.tar.0100"], key=part_order) == ["a.tar.9", "a.tar.10", "a.tar.0100"]
    letters = ["a.zip.partaaa", "a.zip.partzz", "a.zip.partab", "a.zip.partaa"]
    assert sorted(letters, key=part_order) == letters[::-1]
