"""Shards of every kind with the same images, some of them broken, for tests of the cluster."""

from __future__ import annotations

import io
import json
import socket
import tarfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

BROKEN = {3: b"no image", 8: b""}
"""Rows of each shard whose image is none."""


def free_port() -> int:
    """Find a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    """Wait until somebody listens."""
    for _ in range(300):
        with socket.socket() as probe:
            if not probe.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.2)
    raise TimeoutError(port)


def encoded(photographs: list[Image.Image], number: int) -> bytes:
    """A part of a photograph, another one for each number."""
    photograph, left = photographs[number % 2], 7 * number % 300
    with io.BytesIO() as file:
        photograph.crop((left, left % 90, left + 120, left % 90 + 120)).save(file, "JPEG")
        return file.getvalue()


def write_shards(folder: Path, photographs: list[Image.Image], kind: str, shards: int = 3, rows: int = 12) -> Path:
    """Write `shards` files of `rows` rows, of which BROKEN has two."""
    folder.mkdir(parents=True)
    for shard in range(shards):
        images = {n: BROKEN.get(n, encoded(photographs, 100 * shard + n)) for n in range(1, rows + 1)}
        path = folder / f"{shard}.{kind}"
        if kind == "images":
            (folder / str(shard)).mkdir()
            for n, data in images.items():
                (folder / f"{shard}/{n:03}.jpg").write_bytes(data)
                (folder / f"{shard}/{n:03}.txt").write_text(f"a photograph, {n}\n")
        elif kind == "parquet":
            columns = {
                "image": pa.array(images.values(), pa.binary()),
                "prompt": [f"a photograph, {n}" for n in images],
                "key": [f"{shard}-{n}" for n in images],
            }
            pq.write_table(pa.table(columns), path)
        elif kind == "tar":
            with tarfile.open(path, "w") as archive:
                for n, data in images.items():
                    for name, content in ((f"{n:03}.jpg", data), (f"{n:03}.txt", f"a photograph, {n}".encode())):
                        member = tarfile.TarInfo(name)
                        member.size = len(content)
                        archive.addfile(member, io.BytesIO(content))
        else:
            (folder / "images").mkdir(exist_ok=True)
            lines = []
            for n, data in images.items():
                (folder / f"images/{shard}-{n}.jpg").write_bytes(data)
                lines.append(json.dumps({"image": f"images/{shard}-{n}.jpg", "prompt": f"a photograph, {n}"}))
            lines[4] = "{not JSON"
            path.write_text("\n\n".join(lines) + "\n")
    return folder
