"""Several processes as one: an error of one ends all with one message, and what the first one knows all know."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

import torch

from hpskit.errors import HpskitError, OutputError

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["StopSignals", "any_of", "first_says", "in_step", "is_shared", "together", "wait_until_seen"]

T = TypeVar("T")
_NOTE = "(every process of the run has stopped for this)"
_PATIENCE = 60.0
"""Seconds."""
_SECOND = 1.0
"""A signal that comes sooner after the first is the same one: a terminal and a launcher both pass Ctrl-C on."""


def any_of(accelerator: Accelerator, mine: bool) -> bool:
    """Whether it is so on any process; each must ask."""
    if accelerator.num_processes == 1:
        return mine
    flag = torch.tensor(float(mine), device=accelerator.device)
    return bool(accelerator.reduce(flag, reduction="sum") > 0)


@contextlib.contextmanager
def together(accelerator: Accelerator) -> Iterator[None]:
    """What each process does by itself, without the others: if one raises an hpskit error, those without one raise it.

    Without that the others would wait for it until their launcher kills them. Every process must come here.
    """
    error: HpskitError | None = None
    try:
        yield
    except HpskitError as raised:
        if accelerator.num_processes == 1:
            raise
        error = raised
    if not any_of(accelerator, error is not None):
        return
    from accelerate.utils import gather_object

    raised_first = next(found for found in gather_object([error]) if found is not None)
    mine = error or raised_first
    mine.add_note(_NOTE)
    raise mine


def is_shared(error: HpskitError) -> bool:
    """Whether all processes have raised it, so that one of them can speak for all."""
    return _NOTE in getattr(error, "__notes__", ())


def first_says(accelerator: Accelerator, value: T) -> T:
    """The first process's value, on all of them."""
    if accelerator.num_processes == 1:
        return value
    from accelerate.utils import broadcast_object_list

    said: T = broadcast_object_list([value])[0]
    return said


def wait_until_seen(path: Path) -> None:
    """Wait until this machine sees what the first process has written; network file systems take their time.

    Raises:
        OutputError: it still does not after a minute.
    """
    until = time.monotonic() + _PATIENCE
    while not path.exists():
        if time.monotonic() > until:
            where = f"the first process has written it, {socket.gethostname()} does not see it"
            raise OutputError(f"{path}: {where}; put --out on a disk that all machines share")
        time.sleep(0.1)


def in_step(accelerator: Accelerator, items: Iterator[T]) -> Iterator[T | None]:
    """Each process's own items, and None while others still have some: so often that all have made equally many turns.

    Raises:
        HpskitError: what the items of any process raise.
    """
    while True:
        with together(accelerator):
            item = next(items, None)
        if not any_of(accelerator, item is not None):
            return
        yield item


class StopSignals:
    """Lets Ctrl-C and SIGTERM ask for an end instead of making one; a second one does.

    In a thread that is not the main one nothing can be asked, and signals do what they did.
    """

    def __init__(self) -> None:
        self.asked = False
        """Whether somebody wants an end."""
        self._since = 0.0
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        if self.asked and time.monotonic() - self._since > _SECOND:
            raise KeyboardInterrupt
        if not self.asked:
            self.asked, self._since = True, time.monotonic()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
