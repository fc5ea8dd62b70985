"""Files that appear whole or not at all, and logs that survive."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from error_fields import at
from hpskit.errors import InputError, OutputError
from hpskit.files import (
    inside,
    json_text,
    publish,
    publish_folder,
    publish_json,
    read_json,
)


def test_publish_replaces_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.json"
    publish_json(path, {"a": "ä"})
    assert read_json(path) == {"a": "ä"}

    def fail_half_way() -> None:
        with publish(path) as temporary:
            temporary.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert read_json(path) == {"a": "ä"}
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "No such file"),
        (b"", "is not JSON"),
        (b"\xff\xfe{\x00}\x00", "utf-8"),
        (b'{"a": NaN}', "NaN is not a number"),
        (b'{"a": 1e999}', "is not JSON"),
        (b'{"a": "\\ud83d"}', "surrogates"),
        (b'{"a": 1, "a": 2}', "'a' is there twice"),
        (b"[" * 100_000, "is not JSON"),
        (b"9" * 1_000_000, "is not JSON"),
    ],
)
def test_what_is_no_json_is_refused_in_a_line(tmp_path: Path, content: bytes | None, found: str) -> None:
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, check=at(tmp_path / "a.json", found=found)) as caught:
        read_json(tmp_path / "a.json")
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "loop", "huge", "x" * 300, "a\0b", "a\ud83d"])
def test_what_is_no_file_is_refused_before_it_is_opened(tmp_path: Path, kind: str) -> None:
    path = Path("/dev/zero") if kind == "device" else tmp_path / kind
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "huge":
        path.touch()
        os.truncate(path, 300 << 30)
    with pytest.raises(InputError, check=at(path)):
        read_json(path)
    if kind in ("pipe", "device", "folder"):
        with pytest.raises(OutputError, check=at(path)):
            publish_json(path, 1)


def test_json_may_begin_with_a_mark_of_its_order_of_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes('\ufeff{"a": "ä"}'.encode())
    assert read_json(tmp_path / "a.json") == {"a": "ä"}


def test_what_cannot_be_written_leaves_what_stands_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, check=at(tmp_path / "file/a.json", found="cannot be written")):
        publish_json(tmp_path / "file" / "a.json", {})
    with pytest.raises(OutputError, check=at(tmp_path / "file", found="which is no character")):
        publish_json(tmp_path / "file", "\ud83d")
    with pytest.raises(OutputError, check=at(tmp_path, found="File name too long")):
        publish_json(tmp_path / ("x" * 250), {})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A data set's folder, with links that stay in it and links that lead out, beside what is none of its own."""
    for folder in ("own/images", "own-too", "private"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.png").touch()
    for link, target in {"stays": "images", "out": "../private", "out.png": "../private/a.png", "loop": "loop"}.items():
        (tmp_path / "own" / link).symlink_to(target)
    (tmp_path / "linked").symlink_to("own")
    return tmp_path / "own"


@pytest.mark.parametrize(
    "name", ["images/a.png", "images/../a.png", "stays/a.png", "none/b.png", "{own}/images/a.png", "loop"]
)
def test_a_name_that_stays_in_the_folder_is_its_own(own: Path, name: str) -> None:
    for folder in (own, own.parent / "linked"):
        found = inside(folder / name.format(own=own), [own.parent / "private/none", folder], "row 1")
        assert found.is_relative_to(own)


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../private/a.png", "images/../../own-too/a.png", "out/a.png", "stays/../out.png", "out.png"],
)
def test_a_name_that_leads_out_is_not(own: Path, name: str) -> None:
    with pytest.raises(
        InputError, check=at("a.json: row 1", found="outside", expected=str(own), cure="--allow-outside")
    ):
        inside(own / name, [own], "a.json: row 1")


def on_a_full_disk(code: str) -> str:
    """What a process says whose files may have 4 KB."""
    limit = (
        "import resource, signal, sys; from pathlib import Path; from hpskit.files import publish_json\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
    )
    return subprocess.run([sys.executable, "-c", limit + code], capture_output=True, text=True, check=False).stderr


def test_a_full_disk_leaves_the_old_file_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    publish_json(path, "old")
    said = on_a_full_disk(f"publish_json(Path({str(path)!r}), 'x' * 100000)")
    assert "OutputError" in said
    assert "nothing was changed" in said
    assert read_json(path) == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "deep/out"
    with publish_folder(out) as temporary:
        (temporary / "a.txt").write_text("a")
        assert not out.exists()
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert (out / "a.txt").read_text() == "a"
    (tmp_path / "empty").mkdir()
    with pytest.raises(OutputError, check=at(tmp_path / "empty")), publish_folder(tmp_path / "empty") as temporary:
        (temporary / "no folder" / "a.txt").write_text("a")
    assert not any((tmp_path / "empty").iterdir())
    assert not [*tmp_path.glob(".*")]
    with pytest.raises(OutputError, check=at(out, expected="a new or an empty folder")), publish_folder(out):
        pass


def test_only_the_folder_of_a_process_that_is_no_more_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / ".out.dead.tmp").mkdir()
    with publish_folder(tmp_path / "out") as first, publish_folder(tmp_path / "out") as second:
        assert not (tmp_path / ".out.dead.tmp").exists()
        assert first.is_dir()
        assert second.is_dir()
        (second / "a.txt").touch()
        first.joinpath("b.txt").touch()
        second.joinpath("a.txt").unlink()


def test_files_are_held_where_only_what_is_open_for_writing_can_be_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS: its clients turn `flock` into locks of the server; folders are locked on the machine alone."""
    real = fcntl.flock

    def flock(descriptor: int, operation: int) -> None:
        readable = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
        if readable and stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    (tmp_path / ".a.bin.dead.tmp").touch()
    with publish(tmp_path / "a.bin") as first, publish(tmp_path / "a.bin"):
        assert first.exists()
    with publish_folder(tmp_path / "b"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "b"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner, inner),
    )
)
def test_json_is_written_as_python_does(value: object) -> None:
    assert json_text(value) == json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
