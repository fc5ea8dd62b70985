"""The kit of every long job: a ledger of what is done, one writer at a time, a record that is written last.

A stage asks its `Ledger` what is missing, computes that, and puts it in; killed at any moment and run again, it goes on
there. An entry is known by what its value depends on (scorer, SHA-256 of the image, prompt, settings), so an input
that was replaced is simply another entry. `publish` brings the results to their names, the record of them last.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import stat
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar

from hpskit import __version__
from hpskit.errors import InputError, OutputError, printable, shown
from hpskit.files import explain, held, json_text, publish_json, read_json, room, sha256_file, unwritten
from hpskit.files import publish as publish_file
from hpskit.schema import Strict, parse

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import ProgressColumn, Task

Progress: TypeAlias = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done and how much there is."""

Key: TypeAlias = tuple[str, ...]
"""All that a value depends on."""

_SILENT = 30.0
"""Seconds after which a job that nobody can watch says what it does; later it speaks after a tenth more of its time."""
_APPLICATION = 0x48505354
"""`HPST` in the header of the file: no other program's database is taken for a ledger."""
_UNWRITABLE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_ELSEWHERE = "choose another output"
_GOES_ON = "the same command goes on with what is done"
_FILES = {".csv", ".html", ".json", ".jsonl", ".md", ".pdf", ".svg", ".tex", ".txt"}
"""Endings of files that results are published as."""
_BEGINNINGS = {
    "": (b"SQLite format 3\0",),
    "-wal": (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83"),
    "-journal": (b"\xd9\xd5\x05\xf9", bytes(4)),
}
"""How a ledger begins, and the files that SQLite keeps beside it: of another file it would make an empty one."""
_TABLES = (
    f"PRAGMA application_id = {_APPLICATION}",
    "CREATE TABLE run (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE entry (key BLOB PRIMARY KEY, value TEXT NOT NULL, crc INTEGER NOT NULL) STRICT, WITHOUT ROWID",
)


class Ledger:
    """Values by key in one SQLite file: on disk when `put` returns, with one writer at a time.

    Keys are kept as digests of 16 bytes. Each value has a checksum; an entry that was damaged counts as missing.
    """

    def __init__(self, path: Path, run: Mapping[str, Any], *, wait: float = 0) -> None:
        """Open the ledger, or make it; `run` is what must be equal for two runs to be parts of one, ready for JSON.

        `wait` are the seconds to wait for another process that has it, for those that share one and keep it shortly.

        Raises:
            OutputError: it belongs to another run, another process writes it, it is damaged or no ledger, or it cannot
                be written.
        """
        self.path = path
        until = time.monotonic() + wait
        while True:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                check_kind(path)
                self._db = sqlite3.connect(path, isolation_level=None, timeout=0)
                with contextlib.ExitStack() as stack:
                    stack.callback(self._db.close)
                    self._begin(run)
                    stack.pop_all()
                return
            except (OSError, sqlite3.Error, ValueError) as error:  # ValueError: text or JSON that was damaged
                busy = getattr(error, "sqlite_errorcode", 0) & 0xFF in _BUSY
                if not busy or time.monotonic() >= until:
                    raise self._refusal(error) from error
            time.sleep(0.01)  # SQLite's own waiting gives up at once where it fears a deadlock

    def _begin(self, run: Mapping[str, Any]) -> None:
        # Exclusive locking lasts until the file is closed, and lets WAL do without shared memory (network disks).
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._db.execute("PRAGMA synchronous = FULL")
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")  # before anything is read: of two that start at once, one goes on
            if not self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                for text in _TABLES:  # with the mark, before there is a log: the file itself says whose it is
                    self._db.execute(text)
                rows = [(name, json.dumps(value)) for name, value in run.items()]
                self._db.executemany("INSERT INTO run VALUES (?, ?)", rows)
            (said,) = self._db.execute("PRAGMA integrity_check(1)").fetchone()  # 0.3 s for a million entries
            if said != "ok":  # what is put might not be found again
                raise ValueError(said.splitlines()[-1])
            known = {name: json.loads(value) for name, value in self._db.execute("SELECT name, value FROM run")}
            self._db.execute("SELECT key, value, crc FROM entry LIMIT 1")
        cure = "finish that run first, choose another output, or delete the file to start anew"
        check_same_run(self.path, known, run, cure=cure)
        with contextlib.suppress(sqlite3.OperationalError):  # where it cannot be had, the slower journal serves
            self._db.execute("PRAGMA journal_mode = WAL")

    def _refusal(self, error: OSError | sqlite3.Error | ValueError, needed: int = 0) -> OutputError:
        """Say why the file cannot be used; `needed` are the bytes that were to be written."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _BUSY:
            return OutputError(
                self.path, "is being written by another process", cure="wait for it, or choose another output"
            )
        if isinstance(error, OSError) or code in _UNWRITABLE:
            reason = explain(error) if isinstance(error, OSError) else str(error)
            full = code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
            cure = f"make room, or {_ELSEWHERE}" if full else _ELSEWHERE
            cure = "what was written before is safe; make room and run the same command again" if needed else cure
            return OutputError(self.path, f"cannot be written ({reason}{room(self.path, needed)})", cure=cure)
        return OutputError(self.path, f"is damaged or no ledger ({error})", cure="move it away to start anew")

    def get(self, keys: Sequence[Key]) -> list[Any]:
        """Return the value of each key, None where there is none (or a damaged one)."""
        return [self._value(_digest(key)) for key in keys]

    def _value(self, digest: bytes) -> Any:
        try:
            query = "SELECT CAST(value AS BLOB), crc FROM entry WHERE key = ?"  # bytes: they may be no text any more
            row = self._db.execute(query, (digest,)).fetchone()
        except (sqlite3.Error, ValueError) as error:
            raise self._refusal(error) from error
        if row is None or _checksum(digest, row[0]) != row[1]:
            return None
        return json.loads(row[0])

    def put(self, entries: Iterable[tuple[Key, Any]]) -> None:
        """Add or replace entries, all of them or none; they are on disk afterwards.

        Values are what JSON can hold, without NaN and infinities.

        Raises:
            OutputError: they cannot be written, for example because the disk is full.
        """
        rows = []
        for key, value in entries:
            digest, text = _digest(key), json.dumps(value, allow_nan=False)
            rows.append((digest, text, _checksum(digest, text.encode())))
        if not rows:
            return
        try:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany("INSERT OR REPLACE INTO entry VALUES (?, ?, ?)", rows)
        except sqlite3.Error as error:
            raise self._refusal(error, sum(len(text) for _, text, _ in rows)) from error

    def __len__(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM entry").fetchone()[0])

    def close(self) -> None:
        """Let go of the file; another process may write it then."""
        self._db.close()

    def remove(self) -> None:
        """Close the ledger and delete its file: what it held is published."""
        self.close()
        for end in _BEGINNINGS:
            self.path.with_name(self.path.name + end).unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, _: TracebackType | None) -> None:
        self.close()
        if isinstance(value, KeyboardInterrupt):
            value.add_note(_GOES_ON)


def check_kind(path: Path) -> None:
    """See that none of the files of a ledger is somebody's, whatever SQLite would make of it."""
    for end, beginnings in _BEGINNINGS.items():
        part = path.with_name(path.name + end)
        head = b""
        with contextlib.suppress(FileNotFoundError):  # another process may close the ledger just now, and remove it
            if not stat.S_ISREG(part.stat().st_mode):
                raise OutputError(part, "is no regular file", expected="a ledger or nothing", cure=_ELSEWHERE)
            with part.open("rb") as handle:
                head = handle.read(100)
        if head and not head.startswith(beginnings):
            raise OutputError(part, "is no ledger", cure=f"move it away or {_ELSEWHERE}")
        if head and not end and head[68:72] != _APPLICATION.to_bytes(4):
            cure = f"move it away or {_ELSEWHERE}"
            raise OutputError(part, "is a database of another program", expected="a ledger of hpskit", cure=cure)


def _digest(key: Key) -> bytes:
    return hashlib.blake2b(json.dumps(key).encode(), digest_size=16).digest()


def _checksum(digest: bytes, value: bytes) -> int:
    return zlib.crc32(value, zlib.crc32(digest))


@contextlib.contextmanager
def goes_on() -> Iterator[None]:
    """Tell whoever interrupts the block that the same command goes on."""
    try:
        yield
    except KeyboardInterrupt as stop:
        stop.add_note(_GOES_ON)
        raise


@contextlib.contextmanager
def ledger_until_published(path: Path, run: Mapping[str, Any]) -> Iterator[Ledger]:
    """Open the ledger of a job whose results are published when the block ends well; then it is removed.

    If the block raises, the ledger stays for the next run, unless it is empty.

    Raises:
        OutputError: see `Ledger`.
    """
    with Ledger(path, run) as ledger:
        try:
            yield ledger
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # a damaged one stays, as it is what the error is about
                if not len(ledger):
                    ledger.remove()
            raise
        ledger.remove()


def check_same_run(place: Path, found: Mapping[str, Any], run: Mapping[str, Any], *, cure: str) -> None:
    """See that what stands at a place was begun with the same settings.

    Raises:
        OutputError: a setting differs; it is named with both values.
    """
    for name, value in json.loads(json.dumps(run)).items():
        if found.get(name) != value:
            what = f"has {name} {shown(found.get(name), 200)}"
            raise OutputError(place, what, expected=f"{shown(value, 200)} as in this run", cure=cure)


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep a folder to this process, as against others that ask for it too; it is made if it is not there.

    Raises:
        OutputError: another process has it, or it cannot be made.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(held(folder))
        except BlockingIOError as error:
            cure = "wait for it, or choose another folder"
            raise OutputError(folder, "is being written by another process", cure=cure) from error
        except OSError as error:
            raise OutputError(folder, f"cannot be written ({explain(error)})", cure="choose another folder") from error
        yield


def check_space(folder: Path, needed: int, what: str) -> None:
    """See that the disk of a folder, which need not exist, has `needed` bytes for `what`; less is an OutputError."""
    there = next(place for place in (folder, *Path(os.path.realpath(folder)).parents) if place.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        found = f"has {free / 1e9:.2f} GB free"
        raise OutputError(
            folder, found, expected=f"{needed / 1e9:.2f} GB for {what}", cure="make room or choose another folder"
        )


def check_folder(out: Path, cure: str = "") -> None:
    """See that what is to be a folder is not named as a file of ours would be; `cure` goes on after the folder's name.

    Raises:
        InputError: it is, and no such folder is there.
    """
    if out.suffix.lower() in _FILES and not out.is_dir():
        found, expected = f"is {str(out)!r}, the name of a file", "a folder, for all files of the result"
        raise InputError("--out", found, expected=expected, cure=f"give --out {out.with_suffix('')}{cure}")


def check_free(out: Path, record: str, products: Iterable[str], kind: str) -> dict[str, Any]:
    """See that a folder holds nothing of others under the names that a stage is about to write.

    Its JSON document, `record`, is the stage's own if `kind` is its `format`, and so are the files that it names; if it
    names none, all are. The folder need not exist. Returns the record, empty if there is none.

    Raises:
        InputError: the folder is named as a file.
        OutputError: something of another kind is there, or a file of that name cannot be.
    """
    cure = "choose another --out, or move it away"
    if os.path.lexists(out) and not out.is_dir():
        raise OutputError(out, "is a file", expected="a folder", cure=cure)
    check_folder(out)
    found = read_record(out / record)
    if _stands(out / record) and found.get("format") != kind:
        raise OutputError(out / record, "is there already", expected=f"nothing, or {kind!r}", cure=cure)
    for name in products:
        if _stands(out / name) and name not in found.get("files", products if found else ()):
            raise OutputError(out / name, "is there already and was not made by this command", cure=cure)
    return found


def read_record(path: Path) -> dict[str, Any]:
    """Read the JSON document that a stage may have left; empty if there is none, or it is none of ours."""
    try:
        value = read_json(path)
    except InputError:
        return {}
    return value if isinstance(value, dict) and isinstance(value.get("files", {}), dict) else {}


def _stands(path: Path) -> bool:
    """Tell whether something stands under a name, a link that leads nowhere included."""
    try:
        path.with_name(f".{path.name}.12345678.tmp").lstat()  # which publishing needs, and may be too long
    except FileNotFoundError:
        pass
    except OSError as error:
        raise unwritten(path, error) from error
    return os.path.lexists(path)


def heading(kind: str, command: str) -> dict[str, Any]:
    """Begin a document: its format, what makes it, and how to make it again."""
    return {"format": kind, "package": f"hpskit {__version__}", "command": command}


class Manifest(Strict):
    """The record of a stage whose results stand in files of their own."""

    format: str
    run: dict[str, Any]
    """What must be equal for the results to be those of another run."""
    files: dict[str, str]
    """SHA-256 of each product."""

    def holds(self, out: Path) -> bool:
        """Tell whether every product is there unchanged."""
        return all((out / name).is_file() and sha256_file(out / name) == digest for name, digest in self.files.items())


Record = TypeVar("Record", bound=Manifest)


def read_manifest(
    out: Path, kind: str, products: Sequence[str], *, record: str = "manifest.json", model: type[Record]
) -> Record | None:
    """Read the record of what a stage has made; None if there is none, or not of all products, as after a kill.

    It may name other files besides.

    Raises:
        OutputError: see `check_free`; or the record is damaged.
    """
    value = check_free(out, record, products, kind)
    if not value or value.get("complete") is False:
        return None
    try:
        found = parse(model, value, out / record)
    except InputError as error:
        cure = "delete it to make the results again, or choose another --out"
        raise OutputError(error.place, error.found, expected=error.expected, cure=cure) from error
    return found if found.files.keys() >= set(products) else None


def publish(out: Path, record: str, value: dict[str, Any], products: Mapping[str, bytes | Iterable[bytes]]) -> None:
    """Publish the files of a stage in a folder, the record of them last.

    All are written under other names first, so that what stood there stays whole if one of them cannot be written. A
    kill while they take their names leaves a record that names them all, but with hashes of others, which
    `Manifest.holds` tells; the very first record says that it is not complete.

    `value`, the content of the record, has a `format` and gets `files`, the SHA-256 of each product. Bytes of products
    are whole or in parts.

    Raises:
        OutputError: something of another kind is there, or a file cannot be written.
    """
    before = check_free(out, record, products, value["format"]) or {"format": value["format"], "complete": False}
    if not (named := before.get("files", {})).keys() >= products.keys():
        publish_json(out / record, before | {"files": dict.fromkeys(products, "") | named})
    with contextlib.ExitStack() as stack:  # it leaves in reverse order: the record takes its name last
        temporary = {name: stack.enter_context(publish_file(out / name)) for name in (record, *products)}
        for name, content in products.items():
            with temporary[name].open("wb") as handle:
                handle.writelines([content] if isinstance(content, bytes) else content)
        value["files"] = {name: sha256_file(temporary[name]) for name in products}
        temporary[record].write_text(json_text(value), encoding="utf-8")


def progress_bar(*columns: ProgressColumn, console: Console | None = None, silent: float = _SILENT) -> Bar:
    """Make a bar on standard error that goes away when it is done; where that is no terminal, lines from time to time.

    `columns` are shown instead of the usual ones; a console that is quiet says nothing.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Speed(ProgressColumn):
        """Images, rows or prompts a second."""

        def render(self, task: Task) -> Text:
            return Text("" if task.speed is None else f"{task.speed:,.1f}/s", style="progress.data.speed")

    class Speaking(Progress):
        """A bar that says in lines what it cannot show, also while nothing is told to it."""

        _ended: threading.Event | None = None

        def start(self) -> None:
            super().start()
            if self.disable and not self.console.quiet and self._ended is None:
                self._ended = threading.Event()
                threading.Thread(target=self._speak, args=(self._ended,), daemon=True, name="hpskit-progress").start()

        def stop(self) -> None:
            if self._ended is not None:
                self._ended.set()
            super().stop()

        def _speak(self, ended: threading.Event) -> None:
            begun = time.monotonic()
            while not ended.wait(max(silent, (time.monotonic() - begun) / 10)):
                print(standing(self.tasks[-1] if self.tasks else None), file=sys.stderr, flush=True)  # noqa: T201

    console = console or Console(stderr=True)
    said = TextColumn("{task.description}", markup=False)
    usual = (said, BarColumn(), MofNCompleteColumn(), Speed(), TimeRemainingColumn())
    return Speaking(*(columns or usual), console=console, transient=True, disable=not console.is_terminal)


def standing(task: Task | None) -> str:
    """Write how far a job is, on one line."""
    if task is None:
        return "starting"
    figures = printable(str(task.fields.get("figures") or ""))
    left = "" if task.time_remaining is None else f"{timedelta(seconds=round(task.time_remaining))} to go"
    parts = [f"{task.completed:,.0f}" + (f" of {task.total:,.0f}" if task.total else ""), figures, left]
    return f"{printable(task.description)}: " + ", ".join(part for part in parts if part)


@contextlib.contextmanager
def told(progress: bool | Callable[[int], None] | None, what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Give what a loop calls with the number done: the caller's own function, or for True a bar, in a notebook too."""
    if progress is None or progress is False:
        yield lambda _: None
    elif progress is not True:
        yield progress
    elif (display := _notebook()) is not None:
        yield from _notebook_bar(display, what, total)
    else:
        with progress_bar() as bar:
            task = bar.add_task(what, total=total)
            yield lambda done: bar.update(task, completed=done)


def _notebook() -> Callable[..., Any] | None:
    """Return IPython's `display` if this is the kernel of a notebook."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return sys.modules["IPython"].display.display if getattr(shell, "kernel", None) else None


def _notebook_bar(display: Callable[..., Any], what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Draw a bar in HTML alone: the widgets that other bars need may not be there."""
    begun, drawn = time.monotonic(), [0.0, 0]

    def content(done: int, ended: bool = False) -> dict[str, str]:
        passed = time.monotonic() - begun
        seconds = passed if ended else passed * (total - done) / max(done, 1)
        text = f"{what}: {done:,} of {total:,}, {timedelta(seconds=round(seconds))} {'in all' if ended else 'to go'}"
        return {"text/plain": text, "text/html": f"<progress value='{done}' max='{total}'></progress> {text}"}

    handle = display(content(0), raw=True, display_id=True)

    def draw(done: int) -> None:
        drawn[1] = done
        if (now := time.monotonic()) - drawn[0] > 0.2:
            drawn[0] = now
            handle.update(content(done), raw=True)

    try:
        yield draw
    finally:
        handle.update(content(int(drawn[1]), ended=True), raw=True)
