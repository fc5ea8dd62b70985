"""The plan of Ray Data over shards, and the cluster that it runs on.

A task reads a shard, actors with one scorer each score its blocks, and tasks write what became of them. Which rows are
written stands in a checkpoint of Ray's, so a run that goes on leaves them out. The traps of Ray 2.60 that were measured
have a guard here each; docs/cluster.md tells of them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import posixpath
import re
import socket
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.fs
import ray
import ray.data
from ray._private.services import canonicalize_bootstrap_address
from ray.data.block import BlockMetadata
from ray.data.checkpoint import CheckpointConfig
from ray.data.datasource import Datasource, ReadTask

from hpskit import errors
from hpskit.cluster.scoring import Loading, scored
from hpskit.cluster.shards import BYTES, ROWS, Columns, Shard, blocks, is_local
from hpskit.cluster.store import Store
from hpskit.errors import HpskitError, InputError, printable

SPARE = 3
"""Processors that actors leave to what reads, filters and writes: without them a plan hangs."""
STORE = 2_000_000_000
"""Bytes of the object store of a cluster that is started here; with 0.3 GB a plan hangs."""
_LEAST_STORE = 1_000_000_000
_DECODERS = 12
"""Processors for one GPU, at most, which decode images for it."""
_ANSWER = 10.0
"""Seconds within which a cluster has to answer."""
_PATIENCE = 60.0
"""Seconds after which a person is told that a cluster has no place."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """A cluster of Ray that this process has joined, as far as processes of one kind use it."""

    workers: int
    cpus: int = 1
    gpus: int = 0
    """Of each worker."""

    @property
    def share(self) -> dict[str, int]:
        """The part of it that a worker takes."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus}


@contextlib.contextmanager
def joined(address: str, workers: int | None, device: str = "auto") -> Iterator[Cluster]:
    """Join a cluster, or start one on this machine, for as long as the block lasts.

    Raises:
        InputError: it cannot be reached, or is too small.
        HpskitError: what a worker has raised.
    """
    mine = not ray.is_initialized()
    quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    count = workers or os.cpu_count() or 1
    if address.startswith("ray://"):
        found, cure = "is that of a client of Ray, over which Ray Data does not run", "run the command on the cluster"
        raise InputError("--address", found, expected="auto or HOST:PORT", cure=f"{cure}, as `ray job submit` does")
    try:
        if mine and address:
            named = canonicalize_bootstrap_address(address) if address == "auto" else address  # running or not
            if (where := urlsplit(f"//{named}")).port:  # Ray would try for minutes
                socket.create_connection((where.hostname or "", where.port), _ANSWER).close()
            ray.init(address, **quiet)
        elif mine:  # processors are only counted: work is shared out by them
            ray.init("local", num_cpus=count + SPARE + 1, object_store_memory=STORE, include_dashboard=False, **quiet)
    except Exception as error:  # RuntimeError, ConnectionError, ValueError, and those of grpc
        place, found = f"--address {address}" if address else "Ray", printable(f"{type(error).__name__}: {error}", 300)
        cure = "check that `ray status` works there, and set RAY_AUTH_MODE=token if it asks for one"
        cure = cure if address else "run the same command again"
        raise InputError(place, f"cannot be reached ({found})", cure=cure) from error
    try:
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        yield room(workers, [node["Resources"] for node in ray.nodes() if node["Alive"]], device)
    except ray.exceptions.RayError as error:
        raise cause_of(error) from error
    finally:
        if mine:
            ray.shutdown()


def room(workers: int | None, nodes: Sequence[Mapping[str, float]], device: str = "auto") -> Cluster:
    """See how many workers machines have room for; that there are fewer than a person wants is a warning.

    A worker has its processors and its GPU on one machine. Each has as many processors as all of them can have.

    Args:
        workers: as many as a person wants; None is as many as there is room for.
        nodes: resources of each machine, as Ray names them.
        device: workers take no GPU if it is `cpu`.

    Raises:
        InputError: there is no room for one.
    """
    there = [(int(node.get("CPU", 0)), 0 if device == "cpu" else int(node.get("GPU", 0))) for node in nodes]
    cpus, gpus = sum(one for one, _ in there), sum(one for _, one in there)

    def fit(each: int) -> int:
        return sum(min(cpu // each, gpu) if gpus else cpu // each for cpu, gpu in there)

    if cpus <= SPARE:
        expected = f"at least {SPARE + 1}: {SPARE} read, filter and write, or nothing would ever be read"
        raise InputError("the cluster", f"has {cpus} CPUs", expected=expected, cure="ray start --num-cpus says more")
    if (store := min(node.get("object_store_memory", 0) for node in nodes if node.get("CPU"))) < _LEAST_STORE:
        found = f"has {store / 1e9:.2f} GB of object store on a machine"
        cure = "ray start --object-store-memory gives more"
        raise InputError("the cluster", found, expected=f"at least {_LEAST_STORE / 1e9:g} GB", cure=cure)
    if not (most := min(fit(1), cpus - SPARE)):
        cure = "give the machines with GPUs CPUs, too, or score with --device cpu"
        raise InputError("the cluster", f"has {gpus} GPUs, none beside a CPU", expected="a CPU for each", cure=cure)
    if workers is not None and workers > most:
        what = f"{gpus} GPUs and {cpus} CPUs" if gpus else f"{cpus} CPUs"
        said = f"{most} workers instead of {workers}: the cluster has {what}, of which {SPARE} read, filter and write"
        warnings.warn(said, stacklevel=3)
    count = min(workers or most, most)
    several = range(_DECODERS if gpus else 1, 1, -1)
    each = next((n for n in several if fit(n) >= count and cpus - count * n >= SPARE), 1)
    return Cluster(workers=count, cpus=each, gpus=min(gpus, 1))


def cause_of(error: ray.exceptions.RayError) -> Exception:
    """Return the error of ours that a worker has raised, as far as Ray has kept it; else what Ray says."""
    if isinstance(cause := getattr(error, "cause", None), HpskitError):
        return cause.alone()
    if said := re.findall(r"^hpskit\.errors\.(\w+): (.+)$", str(error), re.MULTILINE):  # of others it keeps the text
        kind, text = said[-1]
        return getattr(errors, kind)(text)  # type: ignore[no-any-return]
    last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
    return InputError("Ray", f"has given up ({printable(last, 300)})", cure="run the same command again")


class Source(Datasource):  # type: ignore[misc]  # ray has types by halves
    """Shards, each read by one task: so Ray merges no two of them, and none is a block that fails."""

    def __init__(self, shards: Sequence[Shard], columns: Columns) -> None:
        super().__init__()
        self._tasks = [
            ReadTask(
                partial(blocks, shard, columns),
                BlockMetadata(num_rows=None, size_bytes=None, input_files=[shard.place], exec_stats=None),
            )
            for shard in shards
        ]

    def estimate_inmemory_data_size(self) -> int | None:
        """Say nothing: it would take reading them."""
        return None

    def get_read_tasks(self, *_: Any, **__: Any) -> list[ReadTask]:
        """Give the tasks."""
        return self._tasks


class Scoring:
    """An actor with its scorer."""

    def __init__(self, loading: Loading) -> None:
        self.scorer = loading.load()

    def __call__(self, block: pa.Table) -> pa.Table:
        """Score a block."""
        return scored(self.scorer, block)


def identity(loading: Loading, cluster: Cluster) -> str:
    """Load a scorer once where others will be, and return who it is: what is wrong with it shows before the plan."""
    place = ray.remote(max_calls=1, **cluster.share)  # and the process ends, with the weights that it has loaded
    first = place(lambda: None).remote()
    if not ray.wait([first], timeout=_PATIENCE)[0]:
        wanted = f"{cluster.cpus} CPUs" + (f" and {cluster.gpus} GPU" if cluster.gpus else "")
        warnings.warn(f"waiting for {wanted} on one machine; `ray status` says who has them", stacklevel=2)
    ray.get(first)
    return str(ray.get(place(lambda: loading.load().info.identity).remote()))


def score(
    loading: Loading, shards: Sequence[Shard], columns: Columns, store: Store, cluster: Cluster, rows: int = ROWS
) -> None:
    """Score what is not written yet, `rows` at most at a time.

    Raises:
        RayError: with what a worker has raised; see `cause_of`.
    """
    files = pa.fs.LocalFileSystem() if is_local(store.files) else pa.fs.PyFileSystem(pa.fs.FSSpecHandler(store.files))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray deprecates its own options, and tells of fewer blocks than actors
        context = ray.data.DataContext.get_current().copy()
        context.target_max_block_size = BYTES
        context.enable_progress_bars = False
        context.checkpoint_config = CheckpointConfig(
            "position",
            posixpath.join(store.root, "_checkpoint"),
            delete_checkpoint_on_success=False,  # not before all rows are counted
            override_filesystem=files,
        )
        with ray.data.DataContext.current(context):
            (
                ray.data.read_datasource(Source(shards, columns), override_num_blocks=len(shards))
                .repartition(target_num_rows_per_block=rows)
                .map_batches_internal(  # map_batches wants a batch size beside GPUs, and would join blocks up to it
                    Scoring,
                    fn_constructor_args=[loading],
                    batch_size=None,
                    batch_format="pyarrow",
                    compute=ray.data.ActorPoolStrategy(size=cluster.workers),
                    **cluster.share,
                )
                .write_parquet(store.root, filesystem=files, partition_cols=["outcome", "shard"])
            )
