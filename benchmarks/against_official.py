"""Speed and memory of hpskit beside the official package `hpsv2`, on this machine, with nothing downloaded by hand.

    python benchmarks/against_official.py [--quick] [--out docs/performance.json] [--update docs/performance.md]

Everything it needs it makes under `.bench/`, once: an environment with `hpsv2` and the torch of the current one,
stand-in weights of ViT-H-14 in the published layout (pseudo-random: speed does not depend on their values), JPEG
images and prompts. Every figure comes from a fresh process; the two sides take turns (A B A B), because other jobs
on a machine change its speed from minute to minute. docs/performance.md explains the figures.

The orchestrating process never imports torch: on Linux a child's peak memory starts from its parent's.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import random
import resource
import shutil
import statistics
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).resolve().parent
ARCHITECTURE = "ViT-H-14"
STYLE = "stand-in"
MARKERS = ("<!-- table -->", "<!-- /table -->")
CALLS, IMAGES_PER_CALL = 3, 4
PEAK_SIZES = (1024, 2048, 3072, 4096)

Figures = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """What both sides are given."""

    python: Path
    """Interpreter of the environment with the official package."""
    work: Path
    checkpoint: Path
    images: list[Path]
    prompts: list[str]
    count: int
    """Images of the throughput part: the first so many."""
    threads: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of the table."""

    what: str
    official: str = ""
    hpskit: str
    ratio: str = ""
    target: str = ""
    met: bool | None = None


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        worker(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few images and one round: to see that it works")
    parser.add_argument(
        "--cache", type=Path, default=Path(".bench"), help="where environment and weights are kept"
    )
    parser.add_argument("--out", type=Path, help="write all raw figures to this JSON file")
    parser.add_argument("--update", type=Path, help="replace the table of this page")
    parser.add_argument("--images", type=int, help="images of the throughput part (24, or 4 with --quick)")
    parser.add_argument("--rounds", type=int, help="turns of each side (2, or 1 with --quick)")
    options = parser.parse_args()
    count = options.images or (4 if options.quick else 24)
    setup = prepare(options.cache.resolve(), count, many=64 if options.quick else 256)
    figures = {**machine(setup), **measure(setup, options.rounds or (1 if options.quick else 2))}
    text = markdown(rows(figures), figures)
    print(text)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if options.update:
        update(options.update, text)


def say(message: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {message}", file=sys.stderr, flush=True)


# ---------------------------------------------------------------------------------------------------- preparation


def prepare(cache: Path, count: int, *, many: int) -> Setup:
    python = official_environment(cache / "official")
    checkpoint = cache / "stand_in.pt"
    if not checkpoint.is_file():
        say("making stand-in weights (3.9 GB)")
        run_worker(cache, "weights", {"path": str(checkpoint)})
    images = make_images(cache / "images" / STYLE, max(many, count, CALLS * IMAGES_PER_CALL))
    return Setup(
        python=python,
        work=cache,
        checkpoint=checkpoint,
        images=images,
        prompts=make_prompts(len(images)),
        count=count,
        threads=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
    )


def official_environment(folder: Path) -> Path:
    """An environment with the official package and the torch of this one; returns its interpreter."""
    python = folder / "bin" / "python"
    done = folder / "complete"
    if done.is_file():
        return python
    say(f"installing the official package into {folder.name}")
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    same = [f"{name}=={version(name)}" for name in ("torch", "torchvision")]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *same, "hpsv2"], check=True, stdout=sys.stderr)
    # The wheel of hpsv2 1.2.0 lacks the vocabulary of its tokenizer; it is the same file in every open_clip.
    vocabulary = "bpe_simple_vocab_16e6.txt.gz"
    source = importlib.metadata.distribution("open_clip_torch").locate_file(f"open_clip/{vocabulary}")
    [target] = folder.glob("lib*/python*/site-packages/hpsv2/src/open_clip")
    shutil.copyfile(str(source), target / vocabulary)
    done.touch()
    return python


def version(package: str) -> str:
    return importlib.metadata.version(package).partition("+")[0]


def make_images(folder: Path, count: int) -> list[Path]:
    """JPEG images of 512 x 512 pixels with structure on every scale, about as large as generated pictures are."""
    paths = [folder / f"{index:05d}.jpg" for index in range(count)]
    folder.mkdir(parents=True, exist_ok=True)
    for index, path in enumerate(paths):
        if not path.is_file():
            make_image(index).save(path, quality=90)
    return paths


def make_image(seed: int) -> Any:
    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(seed)
    total = np.zeros((512, 512, 3), np.float32)
    for octave in range(2, 9):
        side = 2**octave
        noise = Image.fromarray(generator.integers(0, 256, (side, side, 3), dtype=np.uint8))
        total += (
            np.asarray(noise.resize((512, 512), Image.Resampling.BICUBIC), np.float32) - 128
        ) / side**0.75
    return Image.fromarray(np.clip(128 + total * (60 / total.std()), 0, 255).astype(np.uint8))


def make_prompts(count: int) -> list[str]:
    """Distinct prompts of 12 to 30 words, in the manner of those that people write."""
    words = (
        "portrait of a young woman old lighthouse neon city at night samurai cat astronaut riding horse misty forest "
        "castle on hill oil painting by anime style digital art concept highly detailed intricate sharp focus "
        "trending on artstation cinematic lighting volumetric 8k octane render wide angle soft golden hour smooth "
        "illustration matte fantasy dramatic sky watercolor studio photo bokeh close up"
    ).split()
    chooser = random.Random(0)
    return [
        f"{' '.join(chooser.choices(words, k=chooser.randint(12, 30)))} {number}" for number in range(count)
    ]


# ------------------------------------------------------------------------------------------------------ measuring


def measure(setup: Setup, rounds: int) -> Figures:
    """All figures, each a list with one entry a round."""
    figures: Figures = {}

    def note(name: str, value: Figures) -> None:
        figures.setdefault(name, []).append(value)

    write_official_layout(setup)
    for number in range(1, rounds + 1):
        home = (
            setup.work / "home"
        )  # new in every round, so that the conversion of the pickle is measured, too
        shutil.rmtree(home, ignore_errors=True)
        for name, side in (
            ("official_calls", "official"),
            ("hpskit_calls_converting", "hpskit"),
            ("hpskit_calls", "hpskit"),
        ):
            say(f"round {number} of {rounds}: {name}")
            note(name, measure_calls(setup, side, home))
        say(f"round {number} of {rounds}: official throughput")
        note("official_throughput", measure_official_throughput(setup))
        for precision in ("auto", "fp32"):
            say(f"round {number} of {rounds}: hpskit throughput, {precision}")
            note(f"hpskit_throughput_{precision}", measure_throughput(setup, precision, home))
        say(f"round {number} of {rounds}: mini")
        note("hpskit_mini", measure_mini(setup, home))
        shutil.rmtree(home, ignore_errors=True)
    say("hpskit --help")
    figures["help_seconds"] = [seconds for _ in range(5) if (seconds := help_seconds()) is not None]
    return figures


def write_official_layout(setup: Setup) -> None:
    """STYLE/00000.jpg exist already; the loop of the official package takes as many images as there are prompts."""
    folder = setup.work / "prompts"
    folder.mkdir(exist_ok=True)
    (folder / f"{STYLE}.json").write_text(json.dumps(setup.prompts[: setup.count]), encoding="utf-8")


def measure_calls(setup: Setup, side: str, home: Path) -> Figures:
    """Seconds of `CALLS` score calls of four images in one process: the first from the start of the process."""
    calls = []
    for call in range(CALLS):
        start = call * IMAGES_PER_CALL
        calls.append([[str(p) for p in setup.images[start : start + IMAGES_PER_CALL]], setup.prompts[call]])
    began = time.time()
    result = run_side(setup, side, {"task": "calls", "calls": calls}, home)
    [first, *later] = result.pop("spans")
    return {"first": first[1] - began, "repeated": [end - start for start, end in later], **result}


def measure_official_throughput(setup: Setup) -> Figures:
    job = {
        "images": str(setup.images[0].parent.parent),
        "prompts": str(setup.work / "prompts"),
        "count": setup.count,
    }
    return run_side(setup, "official", {"task": "throughput", **job}, setup.work)


def measure_throughput(setup: Setup, precision: str, home: Path) -> Figures:
    images = [str(path) for path in setup.images[: setup.count]]
    job = {
        "task": "throughput",
        "images": images,
        "prompts": setup.prompts[: setup.count],
        "precision": precision,
    }
    return run_side(setup, "hpskit", job, home)


def measure_mini(setup: Setup, home: Path) -> Figures:
    job = {"task": "mini", "images": [str(path) for path in setup.images], "prompts": setup.prompts}
    return run_side(setup, "hpskit", job, home)


def help_seconds() -> float | None:
    start = time.perf_counter()
    run = subprocess.run([sys.executable, "-m", "hpskit", "--help"], capture_output=True, check=False)
    if run.returncode:
        say("skipped: `python -m hpskit --help` does not work here")
        return None
    return time.perf_counter() - start


def run_side(setup: Setup, side: str, job: Figures, home: Path) -> Figures:
    """Run one worker in a fresh process, with equal threads on both sides and nothing that reaches a network."""
    environment = {
        **os.environ,
        "HPSKIT_HOME": str(home),
        "HPS_ROOT": str(setup.work / "official_root"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": str(setup.threads),
        "PYTHONWARNINGS": "ignore",
    }
    job = {**job, "checkpoint": str(setup.checkpoint), "threads": setup.threads}
    if side == "official":
        environment.pop("PYTHONPATH", None)
        command = [str(setup.python), str(HERE / "official_worker.py")]
        return run_process(setup.work, command, job, environment)
    return run_worker(setup.work, job["task"], job, environment)


def run_worker(folder: Path, task: str, job: Figures, environment: dict[str, str] | None = None) -> Figures:
    command = [sys.executable, str(HERE / "against_official.py"), "--worker"]
    return run_process(folder, command, {**job, "task": task}, environment)


def run_process(
    folder: Path, command: list[str], job: Figures, environment: dict[str, str] | None
) -> Figures:
    given, result = folder / "job.json", folder / "result.json"
    given.write_text(json.dumps(job), encoding="utf-8")
    result.unlink(missing_ok=True)
    run = subprocess.run(
        [*command, given, result], env=environment, capture_output=True, text=True, check=False
    )
    if run.returncode:
        raise SystemExit(
            f"{job['task']}: the worker failed with status {run.returncode}\n{run.stderr[-4000:]}"
        )
    figures: Figures = json.loads(result.read_text(encoding="utf-8"))
    return figures


# ------------------------------------------------------------------------ what runs in a process of hpskit's side


def worker(job_path: str, result_path: str) -> None:
    job = json.loads(Path(job_path).read_text(encoding="utf-8"))
    tasks: dict[str, Callable[[Figures], Figures]] = {
        "weights": make_weights,
        "calls": calls,
        "throughput": throughput,
        "mini": mini,
    }
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
            for line in status.read_text().splitlines():
                if line.startswith("RssAnon:"):
                    samples.append(1024 * int(line.split()[1]))

    thread = threading.Thread(target=watch, daemon=True)
    if status.is_file():
        thread.start()
    try:
        yield samples
    finally:
        stop.set()
        if thread.is_alive():
            thread.join()


def make_weights(job: Figures) -> Figures:
    """A checkpoint as the published ones are: a pickle with float32 tensors under `state_dict`."""
    import logging

    import open_clip
    import torch

    logging.disable(logging.WARNING)  # open_clip warns that no pretrained weights were loaded
    model = open_clip.create_model(ARCHITECTURE, load_weights=False, device="meta")
    state = {}
    for name, tensor in model.state_dict().items():
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        fan_in = max(1, tensor[0].numel()) if tensor.ndim > 1 else 1
        noise = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim < 2:  # biases near 0, gains of layer norms and the logit scale near their own size
            centre = (
                4.6 if name == "logit_scale" else 0.0 if name.endswith(("bias", "class_embedding")) else 1.0
            )
            state[name] = noise.mul_(0.02).add_(centre)
        else:
            state[name] = noise.mul_(0.02 if "embedding" in name else fan_in**-0.5)
    path = Path(job["path"])
    temporary = path.with_suffix(".tmp")
    torch.save({"state_dict": state}, temporary)
    temporary.rename(path)
    return {}


def calls(job: Figures) -> Figures:
    """When each `score` call of this process began and ended, by the clock of the machine."""
    import torch

    import hpskit

    torch.set_num_threads(job["threads"])
    imported = time.time()
    scorer = hpskit.load_scorer(job["checkpoint"], arch=ARCHITECTURE)
    loaded = time.time()
    spans, scores = [], []
    for images, prompt in job["calls"]:
        began = time.time()
        values = scorer.score(images, prompt)
        spans.append((began, time.time()))
        scores.append(values.tolist())
    return {
        "spans": spans,
        "scores": scores,
        "loading": loaded - imported,
        "precision": scorer.info.precision,
    }


def throughput(job: Figures) -> Figures:
    """Seconds of one `score` over all pairs, of the image tower alone, and the machine's peak before and after."""
    import torch

    from hpskit import PreferenceScorer
    from hpskit.models.loading import load_network

    torch.set_num_threads(job["threads"])
    network, info = load_network(job["checkpoint"], arch=ARCHITECTURE, precision=job["precision"])
    scorer = PreferenceScorer(network, info)
    after_loading = peak_memory()
    before = matmul_peaks(torch)
    start, busy = time.perf_counter(), time.process_time()
    scorer.score(job["images"], job["prompts"])
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - busy
    memory = peak_memory()
    tower = tower_seconds(torch, network)
    after = matmul_peaks(torch)
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "count": len(job["images"]),
        "precision": info.precision,
        "tower_images_per_second": tower,
        "matmul_before": before,
        "matmul_after": after,
        "peak_memory_after_loading": after_loading,
        "peak_memory": memory,
    }


def tower_seconds(torch: ModuleType, network: Any) -> float:
    """Images per second of the image tower alone, for inputs that are ready: best of four batches of eight."""
    size = network.preprocessing.size
    pixels = torch.randn(8, 3, size, size, generator=torch.Generator().manual_seed(0))
    best = float("inf")
    with torch.inference_mode():
        for _ in range(4):
            start = time.perf_counter()
            network.encode_images(pixels)
            best = min(best, time.perf_counter() - start)
    return len(pixels) / best


def matmul_peaks(torch: ModuleType) -> Figures:
    """Most floating-point operations a second that `torch.mm` reaches here, over a few sizes, best of five."""
    peaks = {}
    for name in ("bfloat16", "float32"):
        best = 0.0
        for size in PEAK_SIZES:
            left, right = (torch.randn(size, size).to(getattr(torch, name)) for _ in range(2))
            for _ in range(5):
                start = time.perf_counter()
                torch.mm(left, right)
                best = max(best, 2 * size**3 / (time.perf_counter() - start))
        peaks[name] = best
    return peaks


def mini(job: Figures) -> Figures:
    """Images a second from JPEG files to scores; skipped where the embedded weights are not."""
    import torch

    import hpskit
    from hpskit.errors import HpskitError

    torch.set_num_threads(job["threads"])
    try:
        scorer = hpskit.load_scorer("mini")
    except (HpskitError, ImportError) as error:
        return {"skipped": f"{type(error).__name__}: {error}"}
    scorer.score(job["images"][:16], job["prompts"][:16])
    start, busy = time.perf_counter(), time.process_time()
    scorer.score(job["images"], job["prompts"])
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - busy
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "count": len(job["images"])}


# ------------------------------------------------------------------------------------------------------ reporting


def machine(setup: Setup) -> Figures:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    listed = subprocess.run(
        [setup.python, "-m", "pip", "list", "--format", "json"], capture_output=True, check=True
    )
    official = {package["name"]: package["version"] for package in json.loads(listed.stdout)}
    wanted = ("torch", "torchvision", "timm", "pillow", "numpy")
    import hpskit

    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": names[0] if names else platform.processor(),
        "threads": setup.threads,
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "hpskit": {"hpskit": hpskit.__version__, "open_clip_torch": version("open_clip_torch")}
        | {name: version(name) for name in wanted},
        "official": {name: official[name] for name in ("hpsv2", *wanted)},
        "image_bytes_mean": round(statistics.mean(path.stat().st_size for path in setup.images)),
        "tower_flops": image_tower_flops(),
    }


def image_tower_flops(
    *,
    size: int = 224,
    patch: int = 14,
    width: int = 1280,
    layers: int = 32,
    mlp: int = 5120,
    output: int = 1024,
) -> int:
    """Floating-point operations of the image tower for one image: 2 for each multiply-add of its matrix products.

        tokens  T = (size / patch)^2 + 1                                  257 for ViT-H/14
        patches     (T - 1) x 3 patch^2 x width
        a layer     T x width x (3 width + width + 2 mlp)                  query-key-value, output, both of the MLP
                    + 2 x T^2 x width                                      query x key, and weights x value
        projection  width x output                                         of the class token

    Norms, softmax and GELU are not counted, nor is the text tower.
    """
    tokens = (size // patch) ** 2 + 1
    layer = tokens * width * (4 * width + 2 * mlp) + 2 * tokens**2 * width
    return 2 * ((tokens - 1) * 3 * patch**2 * width + layers * layer + width * output)


def rows(figures: Figures) -> list[Row]:
    return [
        *speed_rows(figures),
        *share_rows(figures),
        *call_rows(figures),
        *memory_rows(figures),
        *small_rows(figures),
    ]


def speed_rows(figures: Figures) -> list[Row]:
    official = best_rate(figures["official_throughput"])
    result = []
    for name, target in (("auto", 2.2), ("fp32", None)):
        runs = figures[f"hpskit_throughput_{name}"]
        rate = best_rate(runs)
        what = f"images per second, {runs[0]['precision']}" + (" (auto)" if name == "auto" else "")
        result.append(compared(what, official, rate, "{:.2f}", rate / official, at_least=target))
    return result


def share_rows(figures: Figures) -> list[Row]:
    """Of the processor's own peak in the precision that `auto` chose, each run against its own peak."""
    runs = figures["hpskit_throughput_auto"]
    kind = {"bf16": "bfloat16", "fp32": "float32"}[runs[0]["precision"]]
    whole = max(figures["tower_flops"] * run["count"] / run["seconds"] / peak(run, kind) for run in runs)
    tower = max(figures["tower_flops"] * run["tower_images_per_second"] / peak(run, kind) for run in runs)
    goal = {"target": ">= 85 %"}
    return [
        Row(
            what=f"share of the {kind} matmul peak, image tower",
            hpskit=f"{tower:.0%}",
            met=tower >= 0.85,
            **goal,
        ),
        Row(
            what=f"share of the {kind} matmul peak, all of `score`",
            hpskit=f"{whole:.0%}",
            met=whole >= 0.85,
            **goal,
        ),
    ]


def call_rows(figures: Figures) -> list[Row]:
    official, ours = figures["official_calls"], figures["hpskit_calls"]
    again = [min(second for run in runs for second in run["repeated"]) for runs in (official, ours)]
    first = [min(run["first"] for run in runs) for runs in (official, ours)]
    ever = min(run["first"] for run in figures["hpskit_calls_converting"])
    ratio = first[0] / ever
    return [
        compared("four images, repeated call, s", *again, "{:.2f}", again[0] / again[1], at_least=4),
        compared(
            "four images, first call of a process, s", *first, "{:.2f}", first[0] / first[1], at_least=2
        ),
        compared("four images, first call ever (converts the .pt), s", first[0], ever, "{:.2f}", ratio),
    ]


def memory_rows(figures: Figures) -> list[Row]:
    official = [
        min(run["peak_memory"] for run in figures[f"official_{name}"]) for name in ("throughput", "calls")
    ]
    result = []
    for what, name, theirs, goal in (
        ("peak memory, throughput run, GB", "throughput_auto", official[0], 0.5),
        ("peak memory, four-image calls, GB", "calls", official[1], 0.5),
        ("peak memory, throughput run, fp32, GB", "throughput_fp32", official[0], None),
        ("peak memory, first call ever (converts the .pt), GB", "calls_converting", official[1], None),
    ):
        ours = min(run["peak_memory"] for run in figures[f"hpskit_{name}"])
        result.append(compared(what, theirs / 1e9, ours / 1e9, "{:.2f}", ours / theirs, at_most=goal))
    samples = [run["peak_anonymous"] for run in figures["hpskit_calls"] if run["peak_anonymous"]]
    if samples:
        text = f"{min(samples) / 1e9:.2f}"
        result.append(Row(what="of it not mapped from files, four-image calls, GB", hpskit=text))
    return result


def small_rows(figures: Figures) -> list[Row]:
    runs = [run for run in figures["hpskit_mini"] if "skipped" not in run]
    if runs:
        rate = best_rate(runs)
        small = Row(what="mini, images per second", hpskit=f"{rate:.0f}", target=">= 50", met=rate >= 50)
    else:
        say(f"mini skipped: {figures['hpskit_mini'][0]['skipped']}")
        small = Row(what="mini, images per second", hpskit="skipped", target=">= 50")
    times = figures["help_seconds"]
    if not times:
        return [small, Row(what="`hpskit --help`, s", hpskit="skipped", target="< 0.5")]
    middle = statistics.median(times)
    return [small, Row(what="`hpskit --help`, s", hpskit=f"{middle:.2f}", target="< 0.5", met=middle < 0.5)]


def compared(
    what: str,
    official: float,
    hpskit: float,
    form: str,
    ratio: float,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Row:
    target, met = "", None
    if at_least is not None:
        target, met = f">= {at_least:g}x", ratio >= at_least
    if at_most is not None:
        target, met = f"<= {at_most:g}x", ratio <= at_most
    shown = f"{ratio:.2f}x"
    return Row(
        what=what,
        official=form.format(official),
        hpskit=form.format(hpskit),
        ratio=shown,
        target=target,
        met=met,
    )


def best_rate(runs: list[Figures]) -> float:
    return max(float(run["count"] / run["seconds"]) for run in runs)


def peak(run: Figures, kind: str) -> float:
    return max(float(run["matmul_before"][kind]), float(run["matmul_after"][kind]))


def largest_difference(figures: Figures) -> float:
    """Between the scores of both sides for the same images, on the 0 to 100 scale: that they did the same work."""
    theirs, ours = (figures[name][0]["scores"] for name in ("official_calls", "hpskit_calls"))
    return max(
        abs(a - b) for left, right in zip(theirs, ours, strict=True) for a, b in zip(left, right, strict=True)
    )


def markdown(table: list[Row], figures: Figures) -> str:
    """The table and a paragraph about the machine, both made of figures only."""
    lines = ["| what | official | hpskit | ratio | target | met |", "|---|---:|---:|---:|---:|---|"]
    for row in table:
        met = {True: "yes", False: "**no**", None: ""}[row.met]
        lines.append(f"| {row.what} | {row.official} | {row.hpskit} | {row.ratio} | {row.target} | {met} |")
    runs = figures["hpskit_throughput_auto"]
    peaks = {kind: max(peak(run, kind) for run in runs) / 1e9 for kind in ("bfloat16", "float32")}
    busy = [
        min(run["cpu_seconds"] / run["seconds"] / figures["threads"] for run in figures[name])
        for name in ("official_throughput", "hpskit_throughput_auto")
    ]
    sides = [", ".join(f"{k} {v}" for k, v in figures[side].items()) for side in ("hpskit", "official")]
    lines += [
        "",
        f"{figures['date']}, {figures['cpu']}, {figures['threads']} threads, Python {figures['python']}; "
        f"{runs[0]['count']} images of {figures['image_bytes_mean'] / 1000:.0f} kB; best of {len(runs)} rounds. "
        f"`torch.mm` peaks at {peaks['bfloat16']:.0f} GFLOP/s in bfloat16 and {peaks['float32']:.0f} in float32; "
        f"the image tower takes {figures['tower_flops'] / 1e9:.0f} GFLOP an image. "
        f"Of the processor time there was, the throughput runs got at least {busy[0]:.0%} (official) and "
        f"{busy[1]:.0%} (hpskit). Largest difference between the scores of both sides: "
        f"{largest_difference(figures):.3f} on the scale of 0 to 100.",
        "",
        f"hpskit's side: {sides[0]}. Official side: {sides[1]}.",
    ]
    return "\n".join(lines)


def update(page: Path, text: str) -> None:
    begin, end = MARKERS
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"{page}: has no {begin} … {end}; put both where the table belongs")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
