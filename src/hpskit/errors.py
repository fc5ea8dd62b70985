"""Everything that hpskit raises on purpose.

    HpskitError
    ├── InputError            something given by the caller cannot be used (also a ValueError)
    │   ├── ImageError        an image cannot be opened, decoded or used
    │   ├── RecordError       a row of a file is not what it should be
    │   └── DivergedError     training has left the numbers: its settings cannot be used
    ├── OutputError           a result cannot be written, or belongs to another run
    ├── ModelError            a model cannot be had or loaded
    │   ├── UnknownModelError no model has that name
    │   ├── NotCachedError    its files are not on this machine and cannot be fetched now
    │   ├── CheckpointError   its file is not a checkpoint of that architecture
    │   └── HashMismatchError its content is not what was published or recorded
    └── MissingExtraError     an optional dependency is not installed (also an ImportError)

Each of them holds the place, what was found there, what was expected and the cure, and puts them into one line. The
command line prints that line and exits with status 2. Tests compare the fields, so that wording stays free.
"""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Self

_SECRET = re.compile(
    r"""(?ix)
      (?P<before> \w:/{1,2} ) (?: [^\s/?#'"]{1,300} | [^\s/:@]{1,99} : (?!\d+/) [^\s@]{1,300} ) (?=@)  # USER:PASSWORD@
    | (?P<name> [?&] [\w.-]{0,40} (?:token|key|secret|sig|signature|credential|password|passwd|pwd|auth) [\w.-]{0,40} =
        | -- [\w-]{0,40} (?:token|secret|password|api-key) [=\s]
        | \b authorization ['"]? \s? [:=] \s? ['"]? (?:(?:bearer|basic|token)\s)? ) [^\s&'"]{1,2000}
    | \b (?-i: hf_[A-Za-z0-9]{16,} | sk-[\w-]{16,} | gh[pousr]_[A-Za-z0-9]{16,} )""",
)
"""What lets whoever reads it in: in an address, an option, a header of HTTP, or a token by itself."""
_JOINERS = "\u200c\u200d"
"""Persian words and emoji have them; they move nothing."""


def masked(text: str) -> str:
    """Return a text without the passwords and tokens that are in it."""
    return _SECRET.sub(lambda found: f"{found['before'] or found['name'] or ''}…", text)


def printable(text: str, limit: int = 800) -> str:
    """Return anybody's text as a terminal and a log may have it.

    It is one line; what could steer a terminal is escaped (`\\x1b`), secrets are masked, and of a text of more than
    `limit` characters the middle is left out.
    """
    text = masked(text)
    if len(text) > limit:
        text = f"{text[: limit * 2 // 3]} … {text[-limit // 3 :]}"
    if text.isprintable():
        return text
    return "".join(c if _harmless(c) else c.encode("unicode_escape").decode() for c in text)


def _harmless(character: str) -> bool:
    """Tell what is seen, or is a space of some script, from what steers: a control, a turn of direction."""
    return character.isprintable() or character in _JOINERS or unicodedata.category(character) == "Zs"


def listed(items: Iterable[object], most: int = 5, *, between: str = ", ") -> str:
    """Write the first of several, and how many more there are: `a, b and 3 more`."""
    texts = [str(item) for item in items]
    return between.join(texts[:most]) + (f" and {len(texts) - most:,} more" if len(texts) > most else "")


def shown(value: object, limit: int = 80) -> str:
    """Return a value as an error may quote it: its `repr`, cut to `limit` characters."""
    try:
        text = repr(value[: limit + 1] if isinstance(value, str | bytes) else value)
    except (ValueError, RecursionError):  # Python writes no whole number of more than 4,300 digits
        return "too long to be shown"
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


class HpskitError(Exception):
    """Base of every error that hpskit raises on purpose.

    `str(error)` is `PLACE: FOUND, expected EXPECTED; CURE`, each as `printable` writes it; an empty field is left out.
    """

    def __init__(self, place: str | os.PathLike[str], found: str = "", *, expected: str = "", cure: str = "") -> None:
        """Hold what went wrong, where, and what helps.

        Args:
            place: file, row, field or option, for example `votes.csv: row 7` or `lr`.
            found: what is there, as a predicate: `is 'x'`, `has 3 ranks for 4 images`, `cannot be read (…)`.
            expected: what should be there, as a noun phrase: `a number from 0 to 1`.
            cure: what the reader can do, as a command to them: `correct it or remove the row`.
        """
        super().__init__(os.fspath(place), found)  # what pickle calls this with; the rest it sets itself
        self.place = os.fspath(place)
        self.found = found
        self.expected = expected
        self.cure = cure

    def __str__(self) -> str:
        text = printable(self.place)
        text += f": {printable(self.found)}" if self.found else ""
        text += f", expected {printable(self.expected)}" if self.expected else ""
        return text + (f"; {printable(self.cure)}" if self.cure else "")

    def alone(self) -> Self:
        """Return the same error without its traceback and cause, to be kept as a value: their frames hold images."""
        return type(self)(self.place, self.found, expected=self.expected, cure=self.cure)

    def within(self, place: str | os.PathLike[str]) -> Self:
        """Return the same error with its place inside another: `items.csv: row 7` before `column 'image'`."""
        inner = f"{os.fspath(place)}: {self.place}" if self.place else os.fspath(place)
        return type(self)(inner, self.found, expected=self.expected, cure=self.cure)

    def _render_traceback_(self) -> list[str]:
        """Lines that IPython shows instead of a traceback: where the reader's own code called, and the sentence."""
        import traceback

        ours = str(Path(__file__).parent)
        frames = traceback.extract_tb(self.__traceback__)
        theirs = [frame for frame in frames if not frame.filename.startswith((ours, sys.prefix, sys.base_prefix))]
        places = [
            f"{'cell' if 'ipykernel' in f.filename or '<' in f.filename else f.filename}, line {f.lineno}: {f.line}"
            for f in theirs
        ]
        return [*map(printable, places), f"{type(self).__name__}: {self}"]


class InputError(HpskitError, ValueError):
    """Something given by the caller cannot be used."""


class ImageError(InputError):
    """An image cannot be opened, decoded or used."""


class RecordError(InputError):
    """A row of a file is not what it should be."""


class DivergedError(InputError):
    """Training has left the numbers: its settings cannot be used on these data."""


class OutputError(HpskitError):
    """A result cannot be written, or what stands there belongs to another run."""


class ModelError(HpskitError):
    """A model cannot be had or loaded."""


class UnknownModelError(ModelError, LookupError):
    """No model has that name."""


class NotCachedError(ModelError):
    """A model's files are not on this machine and cannot be fetched now."""


class CheckpointError(ModelError):
    """A file is not a checkpoint of the architecture asked for."""


class HashMismatchError(ModelError):
    """A file's content is not what was published or recorded."""


class MissingExtraError(HpskitError, ImportError):
    """An optional dependency is not installed."""


def need(module: str, place: str, extra: str, *, instead: str = "") -> None:
    """See that an optional package is installed, without the time that its import takes.

    Raises:
        MissingExtraError: it is not; `extra` is the name under which hpskit installs it.
    """
    if find_spec(module) is None:
        cure = f"run `pip install 'hpskit[{extra}]'`{instead}"
        raise MissingExtraError(place, f"needs {module}, which is not installed", cure=cure)
