"""Score the rows of shards, each exactly once, by Ray or by plain processes; killed, the same command goes on.

At the end what is there is counted, shard by shard: every row has a score or an error, once, or the command fails.
Only then does the record say that the output is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from hpskit import __version__
from hpskit.cluster.finding import find_shards, names_of
from hpskit.cluster.scoring import Loading, scored
from hpskit.cluster.shards import ROWS, Columns, Shard, blocks, columns_of, is_local, storage
from hpskit.cluster.store import FORMAT, OUTCOMES, Store
from hpskit.errors import InputError, OutputError, listed, shown
from hpskit.stage import Progress, check_same_run, goes_on

ELSEWHERE = "choose another --output"
_ROUNDS = 2
"""Ray deletes what a killed run had written and not yet noted, which is found when all is counted, and made then."""
_SECONDS = 5.0
"""Between two looks at how many shards are done."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreShards:
    """Settings of a run."""

    inputs: Sequence[str]
    """Files, folders and patterns, at paths or addresses."""
    output: str
    """Folder or address."""
    scorer: Loading
    columns: str = ""
    """`image=NAME,prompt=NAME`; what is not said is found in the first shard by usual names."""
    id: str = ""
    """Column that rows are called by; else they are SHARD:NUMBER."""
    engine: Literal["ray", "plain"] = "ray"
    workers: int | None = None
    """Actors of Ray; None is one for each GPU, else for each processor but those that Ray needs."""
    address: str = ""
    """Cluster of Ray; empty starts one on this machine."""
    part: str = "1/1"
    """With the plain engine the share of the shards of this process, `2/8`."""
    rows: int = ROWS
    """Rows that are scored and written at a time."""

    def __post_init__(self) -> None:
        number, _, of = self.part.partition("/")
        if not re.fullmatch(r"[1-9][0-9]{0,8}/[1-9][0-9]{0,8}", self.part, re.ASCII) or int(number) > int(of):
            raise InputError("--part", f"is {shown(self.part)}", expected="I/N with I from 1 to N, as 2/8")
        if self.engine == "ray" and self.part != "1/1":
            raise InputError("--part", "goes with --engine plain", cure="leave it out: Ray divides the work itself")
        for option, value in (("--workers", self.workers), ("--address", self.address)):
            if value and self.engine == "plain":
                raise InputError(option, "goes with --engine ray", cure="leave it out, or see --part")


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """Result of a run."""

    shards: int
    rows: int
    errors: int
    """Rows that could not be scored."""
    left: int = 0
    """Shards that processes of other parts have not finished yet."""


def run(config: ScoreShards, progress: Progress = lambda *_: None) -> Summary:
    """Score all shards, or those of this part; what is guessed is a warning.

    Raises:
        InputError: an input or the cluster cannot be used or reached.
        OutputError: the output is of another run, or is not whole at the end.
        ModelError: the scorer cannot be loaded.
    """
    store = Store(config.output)
    for name in names_of(config.inputs):
        files, path = storage(name)
        root, place = (os.path.realpath(one) if is_local(files) else one for one in (store.root, path.rstrip("/")))
        if files.protocol == store.files.protocol and f"{root}/".startswith(f"{place}/"):
            raise InputError("--output", f"lies in the input {shown(name)}", cure="choose another folder or address")
    shards = find_shards(config.inputs)
    scorer = {name: v for name, v in asdict(config.scorer).items() if name not in ("device", "batch_size")}
    versions = json.dumps([[one.name, one.version] for one in shards])
    request = {
        "engine": config.engine,
        "input": f"shards: {len(shards)}, SHA-256 {hashlib.sha256(versions.encode()).hexdigest()[:16]}",
        **scorer,
        "columns": config.columns,
        "id": config.id,
    }
    record = store.record()
    if record:
        check_same_run(Path(config.output), record["run"], request, cure=ELSEWHERE)
    if record.get("complete"):  # Ray would hang: there is nothing left for its actors
        return Summary(shards=len(shards), rows=record["rows"], errors=record["errors"])
    number, of = map(int, config.part.split("/"))
    work = Work(config=config, store=store, shards=shards, own=shards[number - 1 :: of], request=request)
    with goes_on():
        work.score(progress)
        return work.finish()


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """A run that is not finished."""

    config: ScoreShards
    store: Store
    shards: Sequence[Shard]
    own: Sequence[Shard]
    """Those of this process."""
    request: dict[str, Any]
    """What must be equal for two runs to be parts of one."""

    def unfinished(self) -> list[Shard]:
        """List the shards of this process of which something is not there."""
        tallies = self.store.count(self.own)
        return [shard for shard in self.own if tallies[shard.name].problem]

    def score(self, progress: Progress) -> None:
        """Score what is not there."""
        if not (todo := self.unfinished()):
            return
        columns, note = columns_of(self.shards, self.config.columns, self.config.id)
        if note:
            warnings.warn(note, stacklevel=4)
        if self.config.engine == "plain":
            self.score_here(todo, columns, progress)
            return
        from hpskit.cluster import ray_data

        with ray_data.joined(self.config.address, self.config.workers, self.config.scorer.device) as cluster:
            self.begin(ray_data.identity(self.config.scorer, cluster))
            for _ in range(_ROUNDS):
                with self.store.alone(), self.watched(todo, progress):
                    ray_data.score(self.config.scorer, todo, columns, self.store, cluster, self.config.rows)
                if not (todo := self.unfinished()):
                    return

    def begin(self, identity: str) -> None:
        """Note the scorer before its first score, or see that it is the one that gave the others."""
        record = self.store.record()
        if record:  # of a process that was started at the same time, too
            check_same_run(Path(self.store.place), record["run"], self.request, cure=ELSEWHERE)
        before = record.get("scorer", identity)
        if before != identity:
            raise OutputError(self.store.place, f"has scores of {before}", expected=identity, cure=ELSEWHERE)
        about = {"format": FORMAT, "package": f"hpskit {__version__}", "run": self.request, "scorer": identity}
        self.store.write_record(about | {"complete": False})

    def score_here(self, todo: Sequence[Shard], columns: Columns, progress: Progress) -> None:
        """Score shards in this process, one after the other; the end of each is written last."""
        scorer = self.config.scorer.load()
        self.begin(scorer.info.identity)
        for done, shard in enumerate(todo):
            progress("scoring shards", done, len(todo))
            rows = pa.concat_tables(scored(scorer, block) for block in blocks(shard, columns, self.config.rows))
            for outcome in OUTCOMES:
                self.store.write_part(outcome, shard.name, rows.filter(pc.equal(rows["outcome"], outcome)))

    @contextmanager
    def watched(self, todo: Sequence[Shard], progress: Progress) -> Iterator[None]:
        """Tell from time to time how many shards are done."""
        ended, before = threading.Event(), self.store.ends()

        def look() -> None:
            while not ended.wait(_SECONDS):
                with suppress(OutputError):  # an address that is busy; whoever writes there says so if it lasts
                    progress("scoring shards", self.store.ends() - before, len(todo))

        thread = threading.Thread(target=look, daemon=True, name="hpskit-progress")
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def finish(self) -> Summary:
        """See that every row is there once, and say so in the record if no other process has shards left.

        Raises:
            OutputError: rows are missing or there twice.
        """
        place, tallies = self.store.place, self.store.count(self.shards)
        bad = [one.name for one in self.shards if tallies[one.name].problem]
        if mine := [f"{one.name}: {tallies[one.name].problem}" for one in self.own if one.name in bad]:
            cure = "run the same command again; where rows are there twice, into another --output"
            raise OutputError(place, f"is not whole: {listed(mine, between='; ')}", cure=cure)
        record = self.store.record()
        scorers = {name for tally in tallies.values() for name in tally.scorers}
        if scorers - {record.get("scorer")}:
            raise OutputError(place, f"has scores of {listed(sorted(scorers))}", expected="one", cure=ELSEWHERE)
        rows, errors = sum(one.rows for one in tallies.values()), sum(one.errors for one in tallies.values())
        if not rows and not bad:
            raise InputError("--input", "has no rows", expected="at least one with an image and a prompt")
        if not bad:
            self.store.write_record(record | {"complete": True, "rows": rows, "errors": errors})
            self.store.remove("_checkpoint")
        return Summary(shards=len(self.shards), rows=rows, errors=errors, left=len(bad))
