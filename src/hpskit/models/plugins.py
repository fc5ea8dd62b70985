"""Scorers of other people: named by an entry point of the group `hpskit.scorers`, or as `FILE.py:NAME`.

Either names a class or a function. It is called, with `precision` and `device` if it has parameters of these names,
and gives an object with `score(images, prompts)`, or a `hpskit.models.network.Network`. Nothing of other people is
imported before its name is asked for. docs/baselines.md has an example.

This module and `hpskit.scoring.scorer`, which wraps such an object, are the only ones that look at its optional
attributes. Scores need an identity that changes when they may have changed: what the object says of itself is believed,
what it does not say is `unstated`, and the hash of its source file and the version of its package are added. An object
with a `ScorerInfo` of its own, `info`, is taken at its word.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import math
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from hpskit import __version__
from hpskit.errors import HpskitError, InputError, ModelError, shown
from hpskit.files import expand, explain
from hpskit.models.network import choose_device, choose_precision
from hpskit.models.registry import MODELS
from hpskit.models.store import is_path
from hpskit.pixels import Preprocessing
from hpskit.records import ScorerInfo

if TYPE_CHECKING:
    from torch import Tensor

_UNSTATED = "unstated"
_IN_FILE = re.compile(r"(?P<file>.+\.py):(?P<name>[^\W\d]\w*)")
_METHODS = ("encode_images", "encode_prompts", "compare")
_MEMBERS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "preprocessing": (lambda it: isinstance(it, Preprocessing), "a hpskit.pixels.Preprocessing"),
    "device": (lambda it: type(it).__name__ == "device", "a torch.device"),
    "scale": (lambda it: isinstance(it, str), "a text"),
    "log_odds_per_point": (
        lambda it: it is None or (type(it) in (int, float) and 0 <= it < math.inf),
        "a number of at least 0, or None",
    ),
    "reads_prompt": (lambda it: isinstance(it, bool), "True or False"),
    "differentiable": (lambda it: isinstance(it, bool), "True or False"),
}
"""Members of `Network` that somebody's network states: what each must be."""
_STATED = ("name", "version", "architecture", "weight_hash", "preprocessing", "precision", "scale", "licence")


@dataclass(frozen=True, kw_only=True, slots=True)
class Plugin:
    """A scorer of somebody else, found but not imported: in a file, or at an entry point."""

    name: str
    """Name of the scorer if it does not say so itself."""
    where: Path | EntryPoint

    def __str__(self) -> str:
        if isinstance(self.where, Path):
            return f"{self.where}:{self.name}"
        return f"{self.name}: {self.where.value} of {_package(self.where)}"


def plugins() -> dict[str, EntryPoint]:
    """Name -> entry point of every scorer that an installed package offers; nothing is imported.

    Raises:
        ModelError: two packages offer the same name.
    """
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group="hpskit.scorers"):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            what = f"is offered by {_package(other)} and by {_package(point)}"
            raise ModelError(point.name, what, cure="uninstall one of them")
    return found


def find_plugin(name_or_path: str | os.PathLike[str]) -> Plugin | None:
    """Return the scorer of somebody else that is meant, or None: hpskit's names and files of weights come first.

    Raises:
        InputError: a file of Python without the name of what is in it.
    """
    text = os.fspath(name_or_path)
    if found := _IN_FILE.fullmatch(text):
        return Plugin(name=found["name"], where=expand(found["file"]))
    if text.endswith(".py"):
        raise InputError(text, "is Python", cure=f"name the class in it that scores, as in {text}:Name")
    if is_path(name_or_path) or text.partition(":")[0] in MODELS:
        return None
    point = plugins().get(text)
    return None if point is None else Plugin(name=text, where=point)


def load_plugin(plugin: Plugin, *, precision: str, device: str) -> tuple[Any, ScorerInfo]:
    """Import what a plugin names, call it, and see that it gives a scorer or a network.

    Returns:
        The object, and who it says it is.

    Raises:
        ModelError: it cannot be imported or called, or is something else.
        InputError: `precision` or `device` is not `auto`, but it has no such parameter.
    """
    target, source = _import(plugin)
    chosen_device = choose_device(device)
    offered = {"precision": choose_precision(precision, chosen_device), "device": chosen_device}
    signature = inspect.signature(target)
    wanted = {name: value for name, value in offered.items() if name in signature.parameters}
    for name, value in (("precision", precision), ("device", device)):
        if value != "auto" and name not in wanted:
            found = f"is {value!r}, but {plugin.name} has no such parameter"
            raise InputError(name, found, cure="leave the option out")
    try:
        signature.bind(**wanted)
    except TypeError as error:
        cure = "give its arguments defaults; only precision and device are passed"
        raise ModelError(str(plugin), f"cannot be called ({error})", cure=cure) from error
    with own_code(str(plugin)):
        made = target(**wanted)
    scorer = made
    if hasattr(made, "encode_images"):
        scorer = CheckedNetwork(made, str(plugin))
    elif not callable(getattr(made, "score", None)):
        raise ModelError(str(plugin), f"gives a {type(made).__name__} without score(images, prompts)", cure="add it")
    if isinstance(stated := getattr(made, "info", None), ScorerInfo):
        return scorer, stated
    arithmetic = str(wanted.get("precision", _UNSTATED))
    return scorer, _identity(made, plugin, source, arithmetic)


@contextlib.contextmanager
def own_code(name: str) -> Iterator[None]:
    """Turn whatever somebody's code raises into one line that says where."""
    try:
        yield
    except HpskitError:
        raise
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}, line {last.lineno}"
        raise ModelError(name, f"raised {type(error).__name__} ({error}) in {where}", cure="mend it there") from error


class CheckedNetwork:
    """Somebody's network, held to the contract of `Network` in what it states and in what it returns."""

    def __init__(self, network: Any, name: str) -> None:
        """
        Raises:
            ModelError: a member is missing, or is not what the contract has.
        """
        if missing := [member for member in (*_MEMBERS, *_METHODS) if not hasattr(network, member)]:
            cure = "see hpskit.models.network.Network"
            raise ModelError(name, f"gives a network without {', '.join(missing)}", cure=cure)
        self.network, self.name = network, name
        for member, (fits, expected) in _MEMBERS.items():
            value = getattr(network, member)
            if not fits(value):
                raise ModelError(name, f"{member} is {shown(value)}", expected=expected, cure="correct it")

    def __getattr__(self, member: str) -> Any:
        return getattr(self.network, member)

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Preprocessed (N, 3, S, S) -> (N, D)."""
        return self._checked("encode_images", 2, len(pixels), pixels)

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """M prompts -> (M, E)."""
        return self._checked("encode_prompts", 2, len(prompts), prompts)

    def compare(self, images: Tensor, prompts: Tensor) -> Tensor:
        """(N, D) and (N, E) -> (N,)."""
        return self._checked("compare", 1, len(images), images, prompts)

    def _checked(self, method: str, dimensions: int, rows: int, *arguments: Any) -> Tensor:
        """Call a method and see that it gives a tensor of numbers with so many rows."""
        import torch

        with own_code(f"{self.name}: {method}"):
            found = getattr(self.network, method)(*arguments)
        right = isinstance(found, torch.Tensor) and found.is_floating_point()
        if not right or found.ndim != dimensions or len(found) != rows:
            kind = type(found).__name__
            what = f"{str(found.dtype).removeprefix('torch.')} {tuple(found.shape)}" if kind == "Tensor" else kind
            expected = f"floats ({rows}{', any' if dimensions == 2 else ','})"
            raise ModelError(f"{self.name}: {method}", f"returned {what}", expected=expected, cure="correct it")
        checked: Tensor = found.float()
        return checked


def _identity(made: Any, plugin: Plugin, source: str, precision: str) -> ScorerInfo:
    """Gather what the object says of itself, and what hpskit knows of its source."""
    distribution = plugin.where.dist if isinstance(plugin.where, EntryPoint) else None
    said = dict.fromkeys(_STATED, _UNSTATED)
    said |= {"name": plugin.name, "architecture": type(made).__name__, "precision": precision}
    if distribution:
        said["version"] = distribution.version
        source = f"{distribution.name} {distribution.version} ({source})"
    for field in _STATED:
        value = getattr(made, field, said[field])
        if field == "preprocessing" and isinstance(value, Preprocessing):
            value = value.name
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise ModelError(str(plugin), f"{field} is {value!r}", expected="a text on one line", cure="correct it")
        said[field] = value
    return ScorerInfo(**said, package=f"{source}, hpskit {__version__}")


def _import(plugin: Plugin) -> tuple[Callable[..., Any], str]:
    """Import the class or function, and return it with the name and the hash of its source file."""
    where = plugin.where
    try:
        content = where.read_bytes() if isinstance(where, Path) else b""
    except OSError as error:
        raise ModelError(str(plugin), f"cannot be read ({explain(error)})", cure="check the path") from error
    try:
        with own_code(str(plugin)):
            target = getattr(_run(where, content), plugin.name, None) if isinstance(where, Path) else where.load()
    except ModelError as error:
        if isinstance(error.__cause__, ImportError | AttributeError):
            found = f"cannot be imported ({error.__cause__})"
            raise ModelError(str(plugin), found, cure="install what it needs") from error
        raise
    if not (inspect.isclass(target) or inspect.isfunction(target)):
        found = "is missing" if target is None else f"is a {type(target).__name__}"
        raise ModelError(str(plugin), found, expected="a class or a function", cure="name one that is there")
    if isinstance(where, EntryPoint):
        where = Path(inspect.getfile(target))
        content = where.read_bytes()
    return target, f"{where.name} {_short_hash(content)}"


def _run(path: Path, content: bytes) -> ModuleType:
    """Make a module of exactly these bytes, not of a compiled copy from before.

    Like a script it finds the modules beside it, but what is installed comes first.
    """
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    module = ModuleType(f"{path.stem}_{_short_hash(content)}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where dataclasses and pickle look for it
    exec(compile(content, path, "exec"), module.__dict__)  # noqa: S102  # the user has named this file to be run
    return module


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "an unnamed package"


def _short_hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
