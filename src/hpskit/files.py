"""Publishing files whole, and logs that survive a kill. Knows nothing of images or models."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import shutil
import stat
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

from hpskit.errors import InputError, OutputError, shown

LARGEST = 1 << 29
"""Bytes of a file that is read whole, at most; the figures of a thousand models have a tenth of that."""


def explain(error: OSError | ValueError) -> str:
    """Return the reason of an operating system error in a few words, for example `No space left on device`."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def unwritten(path: Path, error: OSError | UnicodeEncodeError) -> OutputError:
    """Say that an output could not be written, and why."""
    if isinstance(error, UnicodeEncodeError):
        found = f"would hold {shown(error.object[error.start : error.end])}, which is no character"
        return OutputError(path, found, expected="text", cure="correct the name or the option that has it")
    cure = "make room or choose a folder that you may write to; nothing was changed"
    left = room(path) if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else ""
    return OutputError(path, f"cannot be written ({explain(error)}{left})", cure=cure)


def room(path: Path, needed: int = 0) -> str:
    """Say what room the disk of an output has, to be added to a reason: `: 0 kB free, 12 kB needed`."""
    try:
        free = shutil.disk_usage(path.parent).free
    except OSError:
        return ""
    return f": {free / 1e3:,.0f} kB free" + f", {needed / 1e3:,.0f} kB needed" * (needed > 0)


def expand(path: str | os.PathLike[str]) -> Path:
    """Replace `~` or `~user` at the start of a path by that home; a user who is not known is an InputError."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(path, "names a user whose home is not known", cure="give the path in full") from error


def inside(path: Path, folders: Iterable[Path], place: str) -> Path:
    """Return where a file lies that data name, if it lies in the data's own folders; all links are followed.

    Whoever copies, embeds or shows a file that somebody else's data name asks this first. Such a name may be absolute,
    have `..` in it or lead over a link, and so be that of a private file. A hard link cannot be told from a file.

    Args:
        path: the name, joined to the folder that it starts from. Nothing need be there.
        folders: that of the file that the user gave, and those that the user named besides.
        place: file, row and name, as errors call it: `a.json: row 7: image 'x.png'`.

    Raises:
        InputError: it lies outside; the cure is `--allow-outside`, with which a command does not ask.
    """
    own = [os.path.realpath(folder) for folder in folders]
    try:
        real = Path(os.path.realpath(path))
    except ValueError as error:  # a NUL, or half of a surrogate pair
        raise InputError(place, f"is not the name of a file ({error})", cure="correct it") from error
    if not any(real.is_relative_to(folder) for folder in own):
        cure = "--allow-outside takes images from there, if you trust who made the data"
        raise InputError(place, "lies outside the data's own folder", expected=f"a file in {own[0]}", cure=cure)
    return real


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@contextlib.contextmanager
def publish(path: Path) -> Iterator[Path]:
    """Write a file that appears whole under its name or not at all.

    Yields the name of an empty temporary file in the same folder. When the block ends, its bytes are brought to
    the disk and it takes the name `path` in one step; a kill, an exception or a full disk leaves what stood there
    before. What a killed process left half written is removed by the next one that writes to the same name.

    Raises:
        OutputError: the folder cannot be made or the file cannot be written, or something stands there that is no file.
    """
    with _temporary(path, folder=False) as temporary:
        yield temporary
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)


@contextlib.contextmanager
def publish_folder(path: Path) -> Iterator[Path]:
    """Fill a folder that appears whole under its name or not at all.

    Yields the name of an empty hidden folder beside it. When the block ends, what is in there is brought to the disk
    and it takes the name `path` in one step. What a killed process left is removed as `publish` does it.

    Raises:
        OutputError: something stands at `path`, or the folder cannot be made or written.
    """
    with _temporary(path, folder=True) as temporary:
        yield temporary
        if hasattr(os, "sync"):  # one call for what may be a million files
            os.sync()
        temporary.chmod(0o777 & ~_umask())
        if path.exists():
            path.rmdir()
        temporary.rename(path)


@contextlib.contextmanager
def _temporary(path: Path, *, folder: bool) -> Iterator[Path]:
    """Make a hidden file or folder beside `path`, which is removed unless the block gives it another name."""
    temporary: Path | None = None
    try:
        if folder and path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise OutputError(path, "exists", expected="a new or an empty folder", cure="remove it or choose another")
        if not folder and path.exists() and not path.is_file():
            raise OutputError(path, "is there already and no file", expected="a file or nothing", cure="choose another")
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        if folder:
            temporary = Path(tempfile.mkdtemp(".tmp", f".{path.name}.", path.parent))
        else:
            descriptor, name = tempfile.mkstemp(".tmp", f".{path.name}.", path.parent)
            temporary = Path(name)
            os.close(descriptor)
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # a file system without locks
                stack.enter_context(held(temporary))
            yield temporary
    except (OSError, UnicodeEncodeError) as error:
        raise unwritten(path, error) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True) if folder else temporary.unlink(missing_ok=True)


def _sweep(path: Path) -> None:
    """Remove the half-filled folders and half-written files of `path` whose process is no more."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with contextlib.suppress(OSError), held(left):
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Lock a folder or a file until the block or the process ends.

    Raises:
        BlockingIOError: another process has it.
    """
    if sys.platform == "win32":  # no such lock there: two runs at once are the user's affair
        yield
        return
    import fcntl

    # NFS locks a file for one process only if it is open for writing, which a folder cannot be.
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def publish_json(path: Path, value: Any) -> None:
    """Publish one JSON document, as `json_text` writes it."""
    with publish(path) as temporary:
        temporary.write_text(json_text(value), encoding="utf-8")


def json_line(row: Mapping[str, Any]) -> bytes:
    """Write an object as a line of JSON."""
    return (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode()


def json_text(value: Any) -> str:
    """Write one JSON document, indented, ending in a newline."""
    return "".join(_pieces(value, "\n")) + "\n"


def _pieces(value: Any, newline: str) -> Iterator[str]:
    """Yield what `json.dumps(…, indent=2)` writes. That goes through every number in Python; here what holds no list or
    object goes to the encoder in C.
    """
    inner = f"{newline}  "
    nested = isinstance(value, dict | list | tuple) and len(value) > 0
    parts = value.values() if isinstance(value, dict) else value if nested else ()
    if not any(isinstance(part, dict | list | tuple) for part in parts):
        text = _encoder(inner).encode(value)
        yield f"{text[0]}{inner}{text[1:-1]}{newline}{text[-1]}" if nested else text
        return
    names = (
        [_encoder(inner).encode({name: 0})[1:-2] for name in value] if isinstance(value, dict) else [""] * len(value)
    )
    start, end = "{}" if isinstance(value, dict) else "[]"
    for name, part in zip(names, parts, strict=True):
        yield f"{start}{inner}{name}"
        yield from _pieces(part, inner)
        start = ","
    yield f"{newline}{end}"


@lru_cache
def _encoder(newline: str) -> json.JSONEncoder:
    return json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(f",{newline}", ": "))


def check_regular(path: Path, *, most: int | None = None) -> None:
    """See that a path leads to a file, and not to a pipe, a device or a folder, before it is opened and waited for.

    Raises:
        InputError: it does not, or the file has more than `most` bytes.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise InputError(path, f"cannot be read ({explain(error)})", cure="check the path") from error
    if not stat.S_ISREG(status.st_mode):
        raise InputError(path, "is not a regular file", expected="one that can be read more than once", cure="save it")
    if most is not None and status.st_size > most:
        raise InputError(path, f"has {status.st_size:,} bytes", expected=f"at most {most:,}", cure="check the path")


def read_bytes(path: Path, *, most: int = LARGEST) -> bytes:
    """Read a whole file that somebody named.

    Raises:
        InputError: it cannot be read; see `check_regular`.
    """
    check_regular(path, most=most)
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(path, f"cannot be read ({explain(error)})", cure="check the path") from error


def read_toml(path: Path) -> dict[str, Any]:
    """Read one TOML document.

    Raises:
        InputError: the file cannot be read or is not TOML.
    """
    content = read_bytes(path)
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(
            path, f"is not TOML ({error})", expected="lines such as NAME = VALUE", cure="correct it"
        ) from error


def read_json(path: Path) -> Any:
    """Read one JSON document.

    Raises:
        InputError: the file cannot be read, is not JSON, or has half of a surrogate pair or a number beyond all floats.
    """
    content = read_bytes(path)
    try:
        value = JSON.decode(content.decode("utf-8-sig"))
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()  # so that it can be written too
        return value
    except (ValueError, RecursionError) as error:
        raise InputError(path, f"is not JSON ({error})", cure="bring the file again or correct it") from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number that JSON knows")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        name = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"{shown(name)} is there twice")
    return value


JSON = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_distinct)
"""Decodes JSON as its standard has it: no NaN, no infinity, and no name twice in an object.

`decode` and `raw_decode` raise ValueError, or RecursionError at too many levels.
"""
