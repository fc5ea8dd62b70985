"""The plan of `hpskit images generate`, by many processes that Ray starts.

All work on one folder that the machines share, and claim images from its ledger; so nothing here knows which are done.
"""

from __future__ import annotations

from dataclasses import replace

import ray

from hpskit.cluster.ray_data import joined
from hpskit.images.run import GenerateRun, Made
from hpskit.images.run import generate as work


def generate(run: GenerateRun, *, workers: int | None = None, address: str = "") -> Made:
    """Make all images that are not there yet, and return the states of all.

    Raises:
        HpskitError: see `hpskit.images.run.generate`.
        InputError: the cluster cannot be reached, or has no room for a process.
    """
    with joined(address, workers) as cluster:
        place = ray.remote(work).options(**cluster.share, max_retries=-1)
        ray.get([place.remote(run) for _ in range(cluster.workers)])
    return work(replace(run, retry_failed=""))  # finds nothing to do, and says so of each image
