"""The official package's side of `against_official.py`; runs in an environment that has `hpsv2` and not hpskit.

    python official_worker.py JOB.json RESULT.json

The package is used as it is. Two things are done from outside, and neither slows it down: its benchmark loop is
timed by a wrapper, and `score` is given a network to fill, because it would download other weights (the LAION
checkpoint that HPS v2 was trained from) only to overwrite them.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any


def main(job_path: str, result_path: str) -> None:
    job = json.loads(Path(job_path).read_text(encoding="utf-8"))
    result = {"throughput": throughput, "calls": calls}[job["task"]](job)
    result["peak_memory"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    Path(result_path).write_text(json.dumps(result), encoding="utf-8")


def throughput(job: dict[str, Any]) -> dict[str, Any]:
    """Seconds of the benchmark loop alone, without building and loading the network."""
    import torch
    from hpsv2 import evaluation

    torch.set_num_threads(job["threads"])
    loop = evaluation.evaluate_benchmark
    timing: dict[str, float] = {}

    def timed(*arguments: Any) -> None:
        start, busy = time.perf_counter(), time.process_time()
        loop(*arguments)
        timing.update(seconds=time.perf_counter() - start, cpu_seconds=time.process_time() - busy)

    evaluation.evaluate_benchmark = timed
    evaluation.evaluate(
        mode="benchmark", root_dir=job["images"], data_path=job["prompts"], checkpoint_path=job["checkpoint"]
    )
    return {**timing, "count": job["count"]}


def calls(job: dict[str, Any]) -> dict[str, Any]:
    """When each `score` call of this process began and ended, by the clock of the machine."""
    import torch
    from hpsv2 import evaluation, img_score

    torch.set_num_threads(job["threads"])
    evaluation.initialize_model()
    img_score.model_dict.update(evaluation.model_dict)
    spans, scores = [], []
    for images, prompt in job["calls"]:
        began = time.time()
        values = img_score.score(images, prompt, cp=job["checkpoint"])
        spans.append((began, time.time()))
        scores.append([100 * float(value) for value in values])
    return {"spans": spans, "scores": scores}


if __name__ == "__main__":
    main(*sys.argv[1:])
