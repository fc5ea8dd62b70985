"""A generator that is any program: it takes a prompt and a seed and writes an image file."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from hpskit import __version__
from hpskit.errors import ImageError, InputError, printable
from hpskit.images.contract import GeneratorInfo, GeneratorSettings, Outcome
from hpskit.pixels import Encoded, open_image

_PLACES = ("{prompt}", "{prompt_file}", "{seed}", "{out}")
_SAID = 300
"""Characters that are kept of the last line that a program said before it failed."""


class Settings(GeneratorSettings):
    """Settings of a program, and the time that it may take."""

    command: Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
    """Program and arguments, without a shell. `{prompt}`, `{seed}` and `{out}` are filled in; `{prompt_file}` is a
    text file with the prompt, for those that are too long for an argument."""
    version: str = ""
    """Change it when the program paints differently: its images are made again then."""
    timeout: Annotated[float, Field(gt=0)] = 600.0
    """Seconds for one image."""


class Command:
    """See `hpskit.images.contract.Generator`; whether a seed gives the same image again is the program's affair."""

    def __init__(self, settings: Settings) -> None:
        """Look for the program.

        Raises:
            InputError: it is not there, or is not told where to write or what to paint.
        """
        place = f"generator {settings.name}: command"
        text = " ".join(settings.command)
        if "{out}" not in text or ("{prompt}" not in text and "{prompt_file}" not in text):
            cure = "write it as command = ['program', '--prompt', '{prompt}', '--seed', '{seed}', '--out', '{out}']"
            raise InputError(place, f"is {text!r}", expected="{out}, and {prompt} or {prompt_file}", cure=cure)
        if shutil.which(settings.command[0]) is None:
            raise InputError(place, f"begins with {settings.command[0]!r}, which is no program here", cure="install it")
        self.settings = settings

    @property
    def info(self) -> GeneratorInfo:
        """The command line, and the version that the settings state."""
        own = {"command": list(self.settings.command)}
        name = Path(self.settings.command[0]).name
        return GeneratorInfo(name=name, version=self.settings.version, settings=own, package=f"hpskit {__version__}")

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Outcome]:
        """Run the program once for each prompt, one after the other."""
        return [self._run(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]

    def _run(self, prompt: str, seed: int) -> Outcome:
        with tempfile.TemporaryDirectory(prefix="hpskit-") as folder:
            out, file, log = (Path(folder) / name for name in ("image.png", "prompt.txt", "log.txt"))
            file.write_text(prompt, encoding="utf-8")
            values = dict(zip(_PLACES, (prompt, str(file), str(seed), str(out)), strict=True))
            words = [_filled(word, values) for word in self.settings.command]
            try:
                status = _status(words, log, self.settings.timeout)
            except (OSError, ValueError) as error:  # an argument that is too long, or holds a NUL
                return Outcome(reason="start", said=printable(str(error), _SAID))
            lines = log.read_bytes()[-4 * _SAID :].decode(errors="replace").strip().splitlines()
            said = printable(lines[-1] if lines else "", _SAID)
            if status is None:
                return Outcome(
                    reason="timeout", said="; ".join(filter(None, (f"after {self.settings.timeout:g} s", said)))
                )
            if status:
                return Outcome(reason="exit", said="; ".join(filter(None, (f"status {status}", said))))
            if not out.is_file():
                return Outcome(reason="no-image", said="; ".join(filter(None, ("nothing at {out}", said))))
            data = out.read_bytes()
        try:
            open_image(Encoded(data, "{out}"))
        except ImageError as error:
            return Outcome(reason="no-image", said=str(error))
        return Outcome(image=data)


load = Command


def _filled(word: str, values: dict[str, str]) -> str:
    """Put values into one argument, each place once: what a prompt says is never read as a place."""
    for place, value in values.items():
        before, sign, after = word.partition(place)
        if sign:
            return _filled(before, values) + value + _filled(after, values)
    return word


def _status(words: list[str], log: Path, timeout: float) -> int | None:
    """Run a program and return its exit status; None if it was ended because it took too long."""
    with log.open("wb") as handle:
        process = subprocess.Popen(  # noqa: S603  # the user's own settings name it
            words, stdin=subprocess.DEVNULL, stdout=handle, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None
        finally:  # with all that it started, also when this process is interrupted
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
