"""What `against_official.py` measures inside one fresh process, of either side.

    python worker.py JOB.json RESULT.json

Tasks whose name begins with `official` or `peer` run in an environment that has the packages of others and not hpskit.
Those are used as they are. Two things are done from outside, and neither slows them down: the official benchmark loop
is timed by a wrapper, and networks are given to fill, because the packages would download other weights (those that
HPS v2 was trained from) only to overwrite them.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

Figures = dict[str, Any]

PEAK_SIZES = (1024, 2048, 3072, 4096)


def main(job_path: str, result_path: str) -> None:
    job = json.loads(Path(job_path).read_text(encoding="utf-8"))
    tasks: dict[str, Callable[[Figures], Figures]] = {
        "make_weights": make_weights,
        "official_calls": official_calls,
        "official_throughput": official_throughput,
        "peer_open_clip": peer_open_clip,
        "peer_imscore": peer_imscore,
        "hpskit_calls": hpskit_calls,
        "hpskit_throughput": hpskit_throughput,
        "mini": mini,
    }
    torch.set_num_threads(job["threads"])
    with sampled_anonymous_memory() as anonymous:
        result = tasks[job["task"]](job)
    result.setdefault("peak_memory", peak_memory())
    result["peak_anonymous"] = max(anonymous, default=None)
    Path(result_path).write_text(json.dumps(result), encoding="utf-8")


def peak_memory() -> int:
    """Bytes, the pages of mapped files included."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@contextlib.contextmanager
def sampled_anonymous_memory() -> Iterator[list[int]]:
    """Collects what the process holds beside mapped files, 20 times a second; nothing where there is no /proc."""
    samples: list[int] = []
    stop = threading.Event()
    status = Path("/proc/self/status")

    def watch() -> None:
        while not stop.wait(0.05):
            lines = status.read_text().splitlines()
            samples.extend(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))

    thread = threading.Thread(target=watch, daemon=True)
    if status.is_file():
        thread.start()
    try:
        yield samples
    finally:
        stop.set()
        if thread.is_alive():
            thread.join()


@contextlib.contextmanager
def timed(figures: Figures) -> Iterator[None]:
    """Wall time of a block, and the processor time that all threads of this process got in it."""
    start, busy = time.perf_counter(), time.process_time()
    yield
    figures.update(seconds=time.perf_counter() - start, cpu_seconds=time.process_time() - busy)


def make_weights(job: Figures) -> Figures:
    """A checkpoint as the published ones are: a pickle with float32 tensors under `state_dict`."""
    import logging

    import open_clip

    logging.disable(logging.WARNING)  # open_clip warns that no pretrained weights were loaded
    model = open_clip.create_model(job["architecture"], load_weights=False, device="meta")
    state = {name: pseudo_random(name, tensor.shape) for name, tensor in model.state_dict().items()}
    path = Path(job["checkpoint"])
    temporary = path.with_suffix(".tmp")
    torch.save({"state_dict": state}, temporary)
    temporary.rename(path)
    return {}


def pseudo_random(name: str, shape: torch.Size) -> torch.Tensor:
    """Values that depend on name and shape only, of a size at which the activations of a transformer stay finite."""
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
    if name == "logit_scale":
        return torch.tensor(4.6052)
    if len(shape) < 2:
        return noise.mul_(0.02).add_(0 if name.endswith(("bias", "class_embedding")) else 1)
    return noise.mul_(0.02 if "embedding" in name else shape[1:].numel() ** -0.5)


def official_calls(job: Figures) -> Figures:
    """When each `score` call of this process began and ended, by the clock of the machine."""
    from hpsv2 import evaluation, img_score

    evaluation.initialize_model()
    img_score.model_dict.update(evaluation.model_dict)
    spans, scores = [], []
    for images, prompt in job["calls"]:
        began = time.time()
        values = img_score.score(images, prompt, cp=job["checkpoint"])
        spans.append((began, time.time()))
        scores.append([100 * float(value) for value in values])
    return {"spans": spans, "scores": scores}


def hpskit_calls(job: Figures) -> Figures:
    """The same calls by hpskit, with one scorer that is kept, and the time that making it took."""
    import hpskit

    began = time.time()
    scorer = hpskit.load_scorer(job["checkpoint"], arch=job["architecture"])
    loading = time.time() - began
    spans, scores = [], []
    for images, prompt in job["calls"]:
        began = time.time()
        values = scorer.score(images, prompt)
        spans.append((began, time.time()))
        scores.append(values.tolist())
    return {"spans": spans, "scores": scores, "loading": loading, "precision": scorer.info.precision}


def official_throughput(job: Figures) -> Figures:
    """Seconds of the benchmark loop alone, without building and loading the network."""
    from hpsv2 import evaluation

    loop = evaluation.evaluate_benchmark
    result: Figures = {"count": len(job["images"])}

    def timed_loop(*arguments: Any) -> None:
        with timed(result):
            loop(*arguments)

    evaluation.evaluate_benchmark = timed_loop
    evaluation.evaluate(
        mode="benchmark", root_dir=job["image_root"], data_path=job["prompt_root"], checkpoint_path=job["checkpoint"]
    )
    return result


def peer_open_clip(job: Figures) -> Figures:
    """Seconds of the loop that a careful user of open_clip writes: all in bf16, batches of eight, no gradient."""
    import open_clip
    from PIL import Image

    model = open_clip.create_model(job["architecture"], load_weights=False)
    model.load_state_dict(torch.load(job["checkpoint"], weights_only=True)["state_dict"])
    model = model.eval().to(torch.bfloat16)
    preprocess = open_clip.image_transform(model.visual.image_size, is_train=False, resize_mode="longest")
    tokenize = open_clip.get_tokenizer(job["architecture"])
    scores: list[float] = []
    result: Figures = {"count": len(job["images"])}
    with timed(result), torch.inference_mode():
        for start in range(0, len(job["images"]), 8):
            files = job["images"][start : start + 8]
            pixels = torch.stack([preprocess(Image.open(path).convert("RGB")) for path in files]).to(torch.bfloat16)
            images = model.encode_image(pixels, normalize=True).float()
            texts = model.encode_text(tokenize(job["prompts"][start : start + 8]), normalize=True).float()
            scores += (100 * (images * texts).sum(dim=1)).tolist()
    return {**result, "scores": scores}


def peer_imscore(job: Figures) -> Figures:
    """Seconds of imscore's HPS v2 in bf16, batches of eight, from files."""
    import open_clip
    from imscore.hps import model as hps
    from PIL import Image
    from torchvision.transforms.functional import to_tensor

    def without_download(name: str, _: str, **options: Any) -> Any:
        return open_clip.create_model_and_transforms(name, load_weights=False, **options)

    hps.create_model_and_transforms = without_download
    scorer = hps.HPSv2()
    scorer.model.load_state_dict(torch.load(job["checkpoint"], weights_only=True)["state_dict"])
    scorer = scorer.eval().to(torch.bfloat16)
    scores: list[float] = []
    result: Figures = {"count": len(job["images"])}
    with timed(result), torch.inference_mode():
        for start in range(0, len(job["images"]), 8):
            files = job["images"][start : start + 8]
            pixels = torch.stack([to_tensor(Image.open(path).convert("RGB")) for path in files]).to(torch.bfloat16)
            scores += (100 * scorer.score(pixels, job["prompts"][start : start + 8]).float()).tolist()
    return {**result, "scores": scores}


def hpskit_throughput(job: Figures) -> Figures:
    """Seconds of one `score` over all pairs, of the image tower alone, and the machine's peak before and after."""
    from hpskit.models.loading import load_network
    from hpskit.scoring.scorer import NetworkScorer

    network, info = load_network(job["checkpoint"], arch=job["architecture"], precision=job["precision"])
    scorer = NetworkScorer(network, info)
    result: Figures = {"count": len(job["images"]), "precision": info.precision}
    result["tokens"] = token_counts(job["architecture"], job["prompts"])
    result["peak_memory_after_loading"] = peak_memory()
    result["matmul_before"] = matmul_peaks()
    with timed(result):
        scores = scorer.score(job["images"], job["prompts"])
    result["scores"] = scores.tolist()
    result["peak_memory"] = peak_memory()
    again = [f"{prompt} again" for prompt in job["prompts"]]
    warm: Figures = {"count": len(again), "tokens": token_counts(job["architecture"], again)}
    with timed(warm):
        scorer.score(job["images"], again)
    result["warm"] = warm
    rates, peaks = [], []
    for _ in range(3):  # by turns, so that both meet the same moments of a machine with other work to do
        peaks.append(matmul_peaks())
        rates.append(tower_rate(network))
    result["matmul_after"] = {kind: max(peak[kind] for peak in peaks) for kind in peaks[0]}
    result["tower_images_per_second"] = max(rates)
    return result


def token_counts(architecture: str, prompts: list[str]) -> list[int]:
    """Tokens of each distinct prompt with start and end, as open_clip counts them."""
    import open_clip

    rows = open_clip.get_tokenizer(architecture)([*dict.fromkeys(prompts)])
    return [int(count) for count in (rows != 0).sum(dim=1)]


def tower_rate(network: Any) -> float:
    """Images per second of the image tower alone, for inputs that are ready: best of two batches of eight."""
    size = network.preprocessing.size
    pixels = torch.randn(8, 3, size, size, generator=torch.Generator().manual_seed(0))
    best = float("inf")
    with torch.inference_mode():
        for _ in range(2):
            start = time.perf_counter()
            network.encode_images(pixels)
            best = min(best, time.perf_counter() - start)
    return len(pixels) / best


def matmul_peaks() -> Figures:
    """Most floating-point operations a second that `torch.mm` reaches here, over a few sizes, best of five."""
    peaks = {}
    for kind in (torch.bfloat16, torch.float32):
        best = 0.0
        for size in PEAK_SIZES:
            left, right = (torch.randn(size, size).to(kind) for _ in range(2))
            for _ in range(5):
                start = time.perf_counter()
                torch.mm(left, right)
                best = max(best, 2 * size**3 / (time.perf_counter() - start))
        peaks[str(kind).removeprefix("torch.")] = best
    return peaks


def mini(job: Figures) -> Figures:
    """Seconds from JPEG files to scores with the embedded model; skipped where its weights are not."""
    import hpskit
    from hpskit.errors import HpskitError

    try:
        scorer = hpskit.load_scorer("mini")
    except (HpskitError, ImportError) as error:
        return {"skipped": f"{type(error).__name__}: {error}"}
    first: Figures = {"count": len(job["images"])}
    with timed(first):
        scorer.score(job["images"], job["prompts"])
    result: Figures = {"count": len(job["images"]), "first": first}
    with timed(result):
        scorer.score(job["images"], job["prompts"])
    return result


if __name__ == "__main__":
    main(*sys.argv[1:])
