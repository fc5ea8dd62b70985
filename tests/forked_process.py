"""Processes that are quick to start: forked off one that has imported what others wrote, and nothing of ours.

What is said by environment variables is read as in any new process: hpskit and the hub's client, which read them once,
are imported by each process itself.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

__all__ = ["ForkedProcess", "seen_beside_others"]

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["torch", "open_clip", "pyarrow.parquet", "accelerate", "scipy.stats"])
_READ_VARIABLES = "huggingface_hub"  # which open_clip imports


class ForkedProcess:
    """A piece of Python in a process of its own, as `subprocess.Popen([python, "-c", code])` would start it."""

    def __init__(self, code: str, *, cwd: Path | None = None, **environment: str) -> None:
        """
        Args:
            code: what to run.
            cwd: where; the folder of this process if not given.
            environment: variables in addition to those of this process.
        """
        self._code = code
        self._streams = tempfile.TemporaryDirectory(prefix="hpskit-process-")
        arguments = (code, cwd or Path.cwd(), {**os.environ, **environment}, *self._files)
        self._process = _CONTEXT.Process(target=_run, args=arguments)
        self._process.start()
        self._done: subprocess.CompletedProcess[str] | None = None

    @property
    def _files(self) -> tuple[Path, Path]:
        folder = Path(self._streams.name)
        return folder / "output", folder / "errors"

    def poll(self) -> int | None:
        """Exit status, or minus the signal that ended it; None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def finish(self, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Wait for its end; as often as you like.

        Raises:
            subprocess.TimeoutExpired: it has not ended in `timeout` seconds, and was killed.
        """
        if self._done is None:
            self._done = self._wait(timeout)
        return self._done

    def _wait(self, timeout: float) -> subprocess.CompletedProcess[str]:
        self._process.join(timeout)
        status = self.poll()
        if status is None:
            self.kill()
            self._process.join()
            raise subprocess.TimeoutExpired(self._code, timeout)
        output, errors = (path.read_text(encoding="utf-8") if path.exists() else "" for path in self._files)
        self._streams.cleanup()
        return subprocess.CompletedProcess(self._code, status, output, errors)


def _run(code: str, cwd: Path, environment: dict[str, str], output: Path, errors: Path) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    for stream, path in ((1, output), (2, errors)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    sys.argv = ["-c"]
    for name in [name for name in sys.modules if name.partition(".")[0] == _READ_VARIABLES]:
        del sys.modules[name]
    exec(compile(code, "<code>", "exec"), {"__name__": "__main__"})


def seen_beside_others(folder: Path, count: int) -> str | None:
    """The GPUs of this process, once there are as many."""
    (folder / str(os.getpid())).touch()
    deadline = time.monotonic() + 240
    while len([*folder.iterdir()]) < count and time.monotonic() < deadline:
        time.sleep(0.05)
    return os.environ.get("CUDA_VISIBLE_DEVICES")
