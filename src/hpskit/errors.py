"""Everything that hpskit raises on purpose.

    HpskitError
    ├── InputError            something given by the caller cannot be used (also a ValueError)
    │   ├── ImageError        an image cannot be opened, decoded or used
    │   ├── RecordError       a row of a file is not what it should be
    │   │   └── BrokenImageError  an image that it names cannot be used
    │   └── DivergedError     training has left the numbers: its settings cannot be used
    ├── OutputError           a result cannot be written, or belongs to another run
    ├── ModelError            a model cannot be had or loaded
    │   ├── UnknownModelError no model has that name
    │   ├── NotCachedError    its files are not on this machine and cannot be fetched now
    │   ├── CheckpointError   its file is not a checkpoint of that architecture
    │   └── HashMismatchError its content is not what was published or recorded
    └── MissingExtraError     an optional dependency is not installed (also an ImportError)

Each message is one line that names the place, the value found, what was expected and the cure. The command
line prints it as it is and exits with status 2.
"""

from __future__ import annotations

__all__ = [
    "BrokenImageError",
    "CheckpointError",
    "DivergedError",
    "HashMismatchError",
    "HpskitError",
    "ImageError",
    "InputError",
    "MissingExtraError",
    "ModelError",
    "NotCachedError",
    "OutputError",
    "RecordError",
    "UnknownModelError",
]


class HpskitError(Exception):
    """Base of every error that hpskit raises on purpose."""


class InputError(HpskitError, ValueError):
    """Something given by the caller cannot be used."""


class ImageError(InputError):
    """An image cannot be opened, decoded or used."""


class RecordError(InputError):
    """A row of a file is not what it should be."""


class BrokenImageError(RecordError):
    """An image that a row names cannot be decoded or used."""

    image = ""
    """Its name."""


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
