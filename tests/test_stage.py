"""The ledger and the publication of a stage: nothing acknowledged is lost, nothing of others is touched."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from error_fields import at
from hpskit.benchmark.result import relative_to
from hpskit.errors import InputError, OutputError
from hpskit.files import publish_folder, unwritten
from hpskit.stage import Ledger, check_kind, check_space, ledger_until_published, publish

RUN = {"format": "a test 1", "size": 512}
KEYS = st.tuples(st.text(max_size=8), st.text(max_size=8))
VALUES = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False), st.text(), st.dictionaries(st.text(), st.integers())
)
WRITER = """
import sys, pathlib
from hpskit.stage import Ledger
with Ledger(pathlib.Path(sys.argv[1]), {"format": "a test 1", "size": 512}) as ledger:
    start = len(ledger)
    for n in range(start, start + 100_000):
        ledger.put([((str(n),), n)])
        print(n, flush=True)
"""


def writer(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)


@settings(max_examples=15)
@given(st.lists(st.dictionaries(KEYS, VALUES, max_size=5), max_size=5))
def test_a_ledger_is_a_dictionary_that_is_still_there_later(
    tmp_path_factory: pytest.TempPathFactory, steps: list[dict[tuple[str, str], object]]
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "x.ledger"
    expected: dict[tuple[str, str], object] = {}
    for step in steps:
        with Ledger(path, RUN) as ledger:
            ledger.put(step.items())
        expected |= step
    with Ledger(path, RUN) as ledger:
        assert len(ledger) == len(expected)
        assert ledger.get(list(expected)) == list(expected.values())
        assert ledger.get([("not", "there", "at all")]) == [None]


def test_keys_whose_parts_run_together_are_different(tmp_path: Path) -> None:
    with Ledger(tmp_path / "x.ledger", RUN) as ledger:
        ledger.put([(("ab", "c"), 1), (("a", "bc"), 2)])
        assert ledger.get([("ab", "c"), ("a", "bc"), ("abc",)]) == [1, 2, None]


def test_what_was_acknowledged_survives_sigkill(tmp_path: Path) -> None:
    path = tmp_path / "x.ledger"
    acknowledged = 0
    for kill_after in (3, 40, 11):
        process = writer(path)
        assert process.stdout is not None
        for _ in range(kill_after):
            acknowledged = int(process.stdout.readline()) + 1
        os.kill(process.pid, signal.SIGKILL)
        acknowledged = max([acknowledged, *(int(n) + 1 for n in process.communicate()[0].split())])
        with Ledger(path, RUN) as ledger:
            assert len(ledger) >= acknowledged
            assert ledger.get([(str(n),) for n in range(len(ledger))]) == list(range(len(ledger)))


def test_a_second_writer_is_refused_while_the_first_writes(tmp_path: Path) -> None:
    path = tmp_path / "x.ledger"
    process = writer(path)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(OutputError, check=at(path, found="another process", cure="wait")):
            Ledger(path, RUN)
    finally:
        process.kill()
        process.communicate()
    Ledger(path, RUN).close()


def test_a_ledger_can_be_opened_while_another_process_closes_it(tmp_path: Path) -> None:
    """Its log is there at one moment and gone at the next."""
    path, ended = tmp_path / "x.ledger-wal", threading.Event()

    def come_and_go() -> None:
        while not ended.is_set():
            path.write_bytes(b"\x37\x7f\x06\x82")
            path.unlink()

    seen = set[bool]()
    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        for _ in range(5_000):
            seen.add(path.exists())
            check_kind(tmp_path / "x.ledger")
        assert seen == {True, False}, "it did not come and go while it was looked at"
    finally:
        ended.set()
        thread.join()


def test_another_run_is_refused_with_both_values(tmp_path: Path) -> None:
    path = tmp_path / "x.ledger"
    Ledger(path, RUN).close()
    with pytest.raises(OutputError, check=at(path, found="size 512", expected="224")):
        Ledger(path, RUN | {"size": 224})


NOTES = b"somebody's notes, which are longer than a header of a hundred bytes" * 9


def test_files_of_others_are_refused_and_left_alone(tmp_path: Path) -> None:
    path, log, pipe = (tmp_path / name for name in ("x.ledger", "x.ledger-wal", "pipe"))
    foreign, marked = (tmp_path / name for name in ("foreign", "marked"))
    for other, text in ((foreign, "CREATE TABLE run (name TEXT, value TEXT)"), (marked, "PRAGMA application_id = 5")):
        with sqlite3.connect(other) as database:
            database.execute(text)
        database.close()
    os.mkfifo(pipe)
    for part, content, found in (
        (path, NOTES, "no ledger"),
        (path, b"x", "no ledger"),
        (path, foreign.read_bytes(), "another program"),
        (path, marked.read_bytes(), "another program"),
        (log, NOTES, "no ledger"),
        (tmp_path / "x.ledger-journal", NOTES, "no ledger"),
    ):
        part.write_bytes(content)
        with pytest.raises(OutputError, check=at(part, found=found, cure="choose another")):
            Ledger(path, RUN)
        assert part.read_bytes() == content
        part.unlink()
    Ledger(path, RUN).close()
    log.write_bytes(NOTES)
    with pytest.raises(OutputError, check=at(log, found="no ledger")):
        Ledger(path, RUN)
    with pytest.raises(OutputError, check=at(pipe, found="no regular file")):
        Ledger(pipe, RUN)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A ledger of two hundred entries."""
    path = tmp_path_factory.mktemp("kept") / "x.ledger"
    with Ledger(path, RUN) as ledger:
        ledger.put([((str(n),), n + 0.5) for n in range(200)])
    return path.read_bytes()


@settings(max_examples=40)
@given(st.data())
def test_a_damaged_ledger_gives_its_own_values_none_or_an_error(
    kept: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    damaged = bytearray(kept)
    for place in data.draw(st.lists(st.integers(0, len(kept) - 1), min_size=1, max_size=40)):
        damaged[place] ^= data.draw(st.integers(1, 255))
    start, size = data.draw(st.integers(0, len(kept))), data.draw(st.sampled_from([0, 16, 400, 3000]))
    damaged[start : start + size] = bytes(len(damaged[start : start + size]))
    path = tmp_path_factory.mktemp("damaged") / "x.ledger"
    path.write_bytes(damaged[: data.draw(st.integers(1, len(kept)) | st.just(len(kept)))])
    try:
        with Ledger(path, RUN) as ledger:
            found = ledger.get([(str(n),) for n in range(200)])
            ledger.put([((str(n),), n + 0.5) for n in range(200)])
            assert ledger.get([(str(n),) for n in range(200)]) == [n + 0.5 for n in range(200)]
    except OutputError as error:
        assert "move it away" in error.cure or "delete the file" in error.cure  # noqa: PT017
        return
    assert all(value in (None, n + 0.5) for n, value in enumerate(found))


def test_a_changed_entry_counts_as_missing(tmp_path: Path, kept: bytes) -> None:
    path = tmp_path / "x.ledger"
    path.write_bytes(kept)
    with sqlite3.connect(path) as other:
        other.execute("UPDATE entry SET value = '99.5' WHERE value = '27.5'")
        other.execute("INSERT INTO entry VALUES (x'00', '1.5', 7)")
    other.close()
    with Ledger(path, RUN) as ledger:
        assert ledger.get([("27",), ("28",)]) == [None, 28.5]


@pytest.mark.parametrize(("entries", "stays"), [({}, False), ({("a",): 1}, True)])
def test_an_unpublished_ledger_stays_if_it_holds_something(
    tmp_path: Path, entries: dict[tuple[str], int], stays: bool
) -> None:
    path = tmp_path / "x.ledger"

    def fail_half_way() -> None:
        with ledger_until_published(path, RUN) as ledger:
            ledger.put(entries.items())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert path.exists() == stays
    with ledger_until_published(path, RUN):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    check_space(tmp_path / "not" / "there", 1, "one byte")
    full = OSError(errno.ENOSPC, "No space left on device")
    assert re.fullmatch(
        r"cannot be written \(No space left on device: [\d,]+ kB free\)", unwritten(tmp_path, full).found
    )
    with pytest.raises(OutputError, check=at(tmp_path, expected="checkpoints")):
        check_space(tmp_path, 10**18, "three checkpoints")


def test_a_record_is_replaced_only_by_a_complete_one(tmp_path: Path) -> None:
    publish(tmp_path, "study.json", {"format": "study 1", "n": 3}, {"a.html": b"a", "b.html": b"b"})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / ".a.html.killed.tmp").touch()

    def fails() -> Iterator[bytes]:
        yield b"new"
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, check=at(cure="make room")):
        publish(tmp_path, "study.json", {"format": "study 1"}, {"a.html": b"new", "b.html": fails()})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    (tmp_path / "b.html").unlink()
    (tmp_path / "b.html").mkdir()
    with pytest.raises(OutputError, check=at(tmp_path / "b.html", found="no file")):
        publish(tmp_path, "study.json", {"format": "study 1"}, {"a.html": b"new", "b.html": b"new"})
    assert (tmp_path / "study.json").read_bytes() == before["study.json"]
    with pytest.raises(OutputError, check=at(tmp_path / ("x" * 300))):
        publish(tmp_path / ("x" * 300), "study.json", {"format": "study 1"}, {})
    with pytest.raises(InputError, check=at("--out", cure=f"give --out {tmp_path / 'a'}")):
        publish(tmp_path / "a.csv", "study.json", {"format": "study 1"}, {})


def test_files_of_others_are_not_replaced_and_those_of_a_killed_run_are(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("mine")
    publish(tmp_path, "study.json", {"format": "study 1"}, {"a.html": b"old"})

    def both(content: bytes | Iterator[bytes]) -> None:
        publish(tmp_path, "study.json", {"format": "study 1"}, {"a.html": b"new", "a.csv": content})

    with pytest.raises(OutputError, check=at(tmp_path / "a.csv", found="not made by this command")):
        both(b"new")
    assert [(tmp_path / name).read_text() for name in ("a.csv", "a.html")] == ["mine", "old"]
    (tmp_path / "a.csv").unlink()

    def killed() -> Iterator[bytes]:
        yield b"new"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        both(killed())
    (tmp_path / "a.csv").write_text("new")  # a little later it would have got its name
    both(b"new")
    assert json.loads((tmp_path / "study.json").read_text())["files"].keys() == {"a.html", "a.csv"}


def test_an_output_that_is_a_link_to_itself_is_no_surprise(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    check_space(tmp_path / "loop/out", 1, "a test")
    assert relative_to(tmp_path / "loop", tmp_path) == "loop"
    refused = pytest.raises(OutputError, check=at(tmp_path / "loop", found="cannot be written"))
    with refused, publish_folder(tmp_path / "loop"):
        pass
