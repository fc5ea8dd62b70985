"""The output of a run over shards: a folder or an address, with a part for each shard and what became of its rows.

OUT/_hpskit.json                             the record: whose run it is; written again at the end, when all is there
OUT/outcome=scores/shard=NAME/*.parquet      the rows that have a score
OUT/outcome=errors/shard=NAME/*.parquet      the others, with the reason
OUT/outcome=ends/shard=NAME/*.parquet        a row behind the last of each shard
"""

from __future__ import annotations

import contextlib
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hpskit.cluster.shards import SHIFT, Shard, is_local, reachable, storage
from hpskit.errors import OutputError, listed
from hpskit.files import JSON, held, json_text, publish

FORMAT = "hpskit cluster scores 1"
RECORD = "_hpskit.json"
OUTCOMES = ("scores", "errors", "ends")
_READERS = 8


@dataclass(frozen=True, slots=True)
class Tally:
    """Result of counting what is there of a shard."""

    rows: int = 0
    errors: int = 0
    scorers: frozenset[str] = frozenset()
    problem: str = ""
    """Rows that are missing or there twice, in words; empty if the shard is whole."""


class Store:
    """A folder or an address with the output of one run."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.files, self.root = storage(place)

    def record(self) -> dict[str, Any]:
        """Read the record; empty if there is none.

        Raises:
            OutputError: there is something else, or it cannot be reached.
        """
        path = posixpath.join(self.root, RECORD)
        with reachable(self.place, OutputError):
            others = (
                self.files.ls(self.root, detail=False) if self.files.exists(self.root) else []
            )  # before the record:
            there = self.files.exists(path)  # whoever starts beside this process writes it first
            content = self.files.cat_file(path) if there else b""
        try:
            value = JSON.decode(content.decode()) if there else {}
        except ValueError:
            value = None
        strange = not there and any(posixpath.basename(one)[:1] != "." for one in others)  # which a kill may leave
        if strange or not isinstance(value, dict) or (there and value.get("format") != FORMAT):
            raise OutputError(self.place, "has other things in it", cure="choose a new or an empty --output")
        return value

    def write(self, name: str, data: bytes) -> None:
        """Write a file that is there whole or not at all."""
        path = posixpath.join(self.root, name)
        if is_local(self.files):
            with publish(Path(path)) as temporary:
                temporary.write_bytes(data)
            return
        with reachable(self.place, OutputError):
            self.files.pipe_file(path, data)  # what object stores do in one step

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Write the record."""
        self.write(RECORD, json_text(dict(record)).encode())

    def write_part(self, outcome: str, shard: str, rows: pa.Table) -> None:
        """Write what became of a shard, without the columns that the names of its folders say."""
        sink = pa.BufferOutputStream()
        pq.write_table(rows.drop_columns(["outcome", "shard"]), sink, compression="zstd")
        self.write(f"outcome={outcome}/shard={quote(shard, safe='')}/part.parquet", sink.getvalue().to_pybytes())

    def ends(self) -> int:
        """Count the shards that were read to their end."""
        with reachable(self.place, OutputError):
            self.files.invalidate_cache()
            found = self.files.find(posixpath.join(self.root, "outcome=ends"))
        return sum(path.endswith(".parquet") for path in found)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep a folder to this process; whoever else writes to an address is noticed when all rows are counted.

        Raises:
            OutputError: another process has it.
        """
        if not is_local(self.files):
            yield
            return
        lock = Path(self.root) / ".running"
        lock.touch()
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(held(lock))
            except BlockingIOError as error:
                cure = "wait for it, or choose another --output"
                raise OutputError(self.place, "is being written by another process", cure=cure) from error
            yield

    def remove(self, name: str) -> None:
        """Remove a folder that is not needed any more."""
        path = posixpath.join(self.root, name)
        with reachable(self.place, OutputError):
            if self.files.exists(path):
                self.files.rm(path, recursive=True)

    def count(self, shards: Sequence[Shard]) -> dict[str, Tally]:
        """Count what is there of each shard, by its name; one shard at a time is in memory, of eight each."""
        there: dict[tuple[str, str], list[str]] = defaultdict(list)
        with reachable(self.place, OutputError):
            self.files.invalidate_cache()
            found = self.files.find(self.root) if self.files.exists(self.root) else []
        for path in found:
            if named := re.search(r"/outcome=(\w+)/shard=([^/]+)/[^/]+\.parquet$", path):
                there[unquote(named[2]), named[1]].append(path)
        with ThreadPoolExecutor(_READERS) as pool:
            tallies = pool.map(lambda one: self._tally(one, [there.get((one.name, o), []) for o in OUTCOMES]), shards)
            return {shard.name: tally for shard, tally in zip(shards, tallies, strict=True)}

    def _tally(self, shard: Shard, parts: Sequence[Iterable[str]]) -> Tally:
        positions, scorers = list[Any](), set[str]()
        for paths in parts:
            own = [np.empty(0, np.int64)]
            for path in paths:
                try:
                    with self.files.open(path, "rb") as handle:
                        table = pq.read_table(handle, columns=["position", "scorer"])
                except (pa.ArrowException, OSError) as error:
                    return Tally(problem=f"{path} cannot be read ({str(error)[:200]})")
                own.append(table["position"].to_numpy() - (shard.number << SHIFT))
                scorers.update(filter(None, table["scorer"].unique().to_pylist()))
            positions.append(np.concatenate(own))
        scores, errors, ends = positions
        rows = np.concatenate([scores, errors])
        if not len(ends):
            return Tally(problem="was not read to its end")
        times = np.bincount(np.concatenate([rows, ends]), minlength=ends.max() + 1)[1:]
        lost, double = np.flatnonzero(times == 0) + 1, np.flatnonzero(times > 1) + 1
        said = [f"{len(lost):,} rows are missing ({listed(lost)})"] if len(lost) else []
        said += [f"{len(double):,} rows are there twice ({listed(double)})"] if len(double) else []
        return Tally(len(rows), len(errors), frozenset(scorers), ", ".join(said))
