"""Small checkpoints, a machine with an empty home and a hub of its own, and ways to damage what lies there."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from hpskit.files import sha256_file
from hpskit.models.checkpoint import read_tensors, write_tensors
from hpskit.models.registry import MODELS
from hub_server import COMMIT, File, Hub, serve

REPOSITORY, FILE = "xswu/HPSv2", "HPS_v2.1_compressed.pt"
READY = "models/hps-v2.1.safetensors"


@dataclass
class Machine:
    """Folders of their own for a home and for the Hugging Face cache, and a hub on 127.0.0.1."""

    hub: Hub
    folder: Path
    environment: dict[str, str]
    """For processes; `home` is set for this process too."""

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def ready(self) -> Path:
        return self.home / READY

    @property
    def cached(self) -> Path:
        """The file of HPS v2.1 as the hub's client leaves it."""
        return self.cache / f"models--xswu--HPSv2/snapshots/{COMMIT}/{FILE}"

    def partial(self, file: File, content: bytes | None = None) -> Path:
        """What has arrived of it; with `content` it is made so."""
        path = self.cache / f"models--xswu--HPSv2/blobs/{file.sha256}.incomplete"
        if content is not None:
            path.parent.mkdir(parents=True)
            path.write_bytes(content)
        return path

    def offer(self, source: Path) -> File:
        """Put a file on the hub as HPS v2.1."""
        return self.hub.put(REPOSITORY, FILE, source.read_bytes())

    def lay_into_cache(self, source: Path, *, shared: bool = False) -> Path:
        """Do as a download does; `shared` as one over Xet since huggingface_hub 2. Return where the bytes are."""
        folder = self.cache / "models--xswu--HPSv2"
        blob = folder / "blobs" / sha256_file(source)
        for parent in (blob.parent, self.cached.parent, folder / "refs"):
            parent.mkdir(parents=True)
        (folder / "refs/main").write_text(COMMIT)
        self.cached.symlink_to(f"../../blobs/{blob.name}")
        store = self.cache / "blobs/ab" / ("ab" * 32) if shared else blob
        store.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, store)
        if shared:
            blob.symlink_to(f"../../blobs/ab/{store.name}")
        return store


@contextmanager
def machine_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.setenv("HPSKIT_HOME", str(folder / "home"))
    with serve() as hub:
        yield Machine(hub, folder, {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(folder / "cache")})


def checkpoint(path: Path, numbers: int, seed: int = 0) -> Path:
    values = torch.rand(numbers, generator=torch.Generator().manual_seed(seed))
    torch.save({"state_dict": {"weight": values, "logit_scale": torch.tensor(4.6)}}, path)
    return path


def ready_file(home: Path, source: Path, name: str = "hps-v2.1") -> Path:
    """What `fetch` leaves, without a hub."""
    path = home / "models" / f"{name}.safetensors"
    write_tensors(read_tensors(source), path, {"name": name, "version": MODELS[name].version})
    return path


def flip(path: Path, place: int = -1) -> None:
    """Change one byte; the time of the file stays, as with a failing disk."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def files_in(folder: Path) -> list[str]:
    """Every file but locks, which are empty and stay."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


def assert_one_line(result: subprocess.CompletedProcess[str], *parts: object) -> None:
    """Status 2 and an error of one line; a download that began may have shown its progress before."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert lines[-1].startswith("error: ")
    assert sum("error" in line.lower() for line in lines) == 1
    assert all(str(part) in lines[-1] for part in parts), lines[-1]
