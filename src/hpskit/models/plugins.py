"""Scorers of other people: named by an entry point of the group `hpskit.scorers`, or as `FILE.py:NAME`.

Either names a class or a function. It is called, with `precision` and `device` if it has parameters of these names,
and gives an object with `score(images, prompts)`, or a `hpskit.models.network.Network`. Nothing of other people is
imported before its name is asked for. docs/baselines.md has an example.

The scores need an identity that changes when they may have changed. What the object says of itself is believed; what
it does not say is `unstated`, and nothing is guessed. Beside that the identity holds the hash of the source file and
the version of the package that the file came with, so that an edit makes other scores. An object with a `ScorerInfo`
of its own, `info`, is taken at its word.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from hpskit import __version__
from hpskit.errors import InputError, ModelError
from hpskit.files import expand, explain, sha256_file
from hpskit.models.network import choose_device, choose_precision
from hpskit.models.registry import MODELS
from hpskit.models.store import is_path
from hpskit.pixels import Preprocessing
from hpskit.records import ScorerInfo

__all__ = ["GROUP", "Plugin", "find_plugin", "load_plugin", "plugins"]

GROUP = "hpskit.scorers"
_UNSTATED = "unstated"
_HASH_DIGITS = 16
_IN_FILE = re.compile(r"(?P<file>.+\.py):(?P<name>[^\W\d]\w*)")
_NETWORK = (
    "preprocessing",
    "device",
    "scale",
    "log_odds_per_point",
    "reads_prompt",
    "differentiable",
    "encode_images",
    "encode_prompts",
    "compare",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plugin:
    """A scorer of somebody else, found but not imported."""

    name: str
    """What the scorer is called if it does not say so itself."""
    place: str
    """For errors: where it comes from."""
    package: str | None
    """Name and version of the installed package; None for a file."""
    version: str | None
    """That of the package."""
    open: Callable[[], tuple[Any, str]]
    """Imports it: the class or function, and name and hash of its source file."""


def plugins() -> dict[str, EntryPoint]:
    """Name -> entry point of every scorer that an installed package offers; nothing is imported.

    Raises:
        ModelError: two packages offer the same name.
    """
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            cure = "uninstall one of them"
            raise ModelError(f"{point.name}: is offered by {_package(other)} and by {_package(point)}; {cure}")
    return found


def find_plugin(name_or_path: str | os.PathLike[str]) -> Plugin | None:
    """The scorer of somebody else that is meant, or None: hpskit's own names, and files of weights, come first.

    Raises:
        InputError: a file of Python without the name of what is in it.
    """
    text = os.fspath(name_or_path)
    if found := _IN_FILE.fullmatch(text):
        return _in_file(expand(found["file"]), found["name"])
    if text.endswith(".py"):
        raise InputError(f"{text}: is Python; name the class in it that scores, as in {text}:Name")
    if is_path(name_or_path) or text.partition(":")[0] in MODELS:
        return None
    point = plugins().get(text)
    return None if point is None else _of_package(point)


def load_plugin(plugin: Plugin, *, precision: str, device: str) -> tuple[Any, ScorerInfo]:
    """Import what a plugin names, call it, and see that it gives a scorer or a network. Also: who it says it is.

    Raises:
        ModelError: it cannot be imported, or is something else. Errors of its own code pass through.
        InputError: `precision` or `device` is not `auto`, but it has no such parameter.
    """
    target, source = plugin.open()
    chosen_device = choose_device(device)
    arithmetic = choose_precision(precision, chosen_device)
    offered = {"precision": arithmetic, "device": chosen_device}
    wanted = _wanted(plugin, target)
    for name, value in (("precision", precision), ("device", device)):
        if value != "auto" and name not in wanted:
            raise InputError(f"{name}: is {value!r}, but {plugin.name} has no such parameter; leave the option out")
    made = target(**{name: offered[name] for name in wanted})
    if hasattr(made, "encode_images"):
        if missing := [name for name in _NETWORK if not hasattr(made, name)]:
            what = f"gives a network without {', '.join(missing)}"
            raise ModelError(f"{plugin.place} {what}; see hpskit.models.network.Network")
    elif not callable(getattr(made, "score", None)):
        raise ModelError(f"{plugin.place} gives a {type(made).__name__} without score(images, prompts); add it")
    return made, _info(made, plugin, source, arithmetic if "precision" in wanted else _UNSTATED)


def _of_package(point: EntryPoint) -> Plugin:
    place = f"{point.name}: {point.value} of {_package(point)}"

    def open_point() -> tuple[Any, str]:
        try:
            target = point.load()
        except (ImportError, AttributeError) as error:
            raise ModelError(f"{place} cannot be imported ({error}); install that package again") from error
        if not (inspect.isclass(target) or inspect.isfunction(target)):
            raise ModelError(f"{place} is a {type(target).__name__}, expected a class or a function")
        path = Path(inspect.getfile(target))
        return target, f"{path.name} {sha256_file(path)[:_HASH_DIGITS]}"

    package, version = (f"{point.dist.name} {point.dist.version}", point.dist.version) if point.dist else (None, None)
    return Plugin(name=point.name, place=place, package=package, version=version, open=open_point)


def _in_file(path: Path, name: str) -> Plugin:
    place = f"{path}:{name}"

    def open_file() -> tuple[Any, str]:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ModelError(f"{path}: cannot be read ({explain(error)}); check the path") from error
        try:
            module = _run(path, content)
        except ImportError as error:
            raise ModelError(f"{place} cannot be imported ({error}); install what it needs") from error
        target = getattr(module, name, None)
        if not (inspect.isclass(target) or inspect.isfunction(target)):
            raise ModelError(f"{path}: has no class or function {name!r}; name one that is there")
        return target, f"{path.name} {hashlib.sha256(content).hexdigest()[:_HASH_DIGITS]}"

    return Plugin(name=name, place=place, package=None, version=None, open=open_file)


def _run(path: Path, content: bytes) -> ModuleType:
    """The module that a file makes: of exactly these bytes, not of a compiled copy from before. Like a script it finds
    the modules beside it, but what is installed comes first."""
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    module = ModuleType(f"{path.stem}_{hashlib.sha256(content).hexdigest()[:_HASH_DIGITS]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where dataclasses and pickle look for it
    exec(compile(content, path, "exec"), module.__dict__)  # noqa: S102  # the user has named this file to be run
    return module


def _wanted(plugin: Plugin, target: Callable[..., Any]) -> list[str]:
    """Which of `precision` and `device` it takes."""
    parameters = inspect.signature(target).parameters.values()
    known = [parameter.name for parameter in parameters if parameter.name in ("precision", "device")]
    required = [
        parameter.name
        for parameter in parameters
        if parameter.name not in known
        and parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if required:
        cure = "give them defaults; only precision and device are passed"
        raise ModelError(f"{plugin.place} needs the arguments {', '.join(required)}; {cure}")
    return known


def _info(made: Any, plugin: Plugin, source: str, precision: str) -> ScorerInfo:
    if isinstance(stated := getattr(made, "info", None), ScorerInfo):
        return stated
    own = getattr(made, "preprocessing", None)
    origin = f"{plugin.package} ({source})" if plugin.package else source
    return ScorerInfo(
        name=_said(made, plugin, "name", plugin.name),
        version=_said(made, plugin, "version", plugin.version or _UNSTATED),
        architecture=_said(made, plugin, "architecture", type(made).__name__),
        weight_hash=_said(made, plugin, "weight_hash", _UNSTATED),
        preprocessing=own.name if isinstance(own, Preprocessing) else _said(made, plugin, "preprocessing", _UNSTATED),
        precision=_said(made, plugin, "precision", precision),
        scale=_said(made, plugin, "scale", _UNSTATED),
        licence=_said(made, plugin, "licence", _UNSTATED),
        package=f"{origin}, hpskit {__version__}",
    )


def _said(made: Any, plugin: Plugin, field: str, default: str) -> str:
    """What the object says of itself, or the default."""
    value = getattr(made, field, default)
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ModelError(f"{plugin.place}: {field} is {value!r}, expected a text on one line")
    return value


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "an unnamed package"
