"""Speed and memory of hpskit beside the official package `hpsv2` and two peers, with nothing downloaded by hand.

    python benchmarks/against_official.py [--quick] [--out docs/performance.json] [--update docs/performance.md]

Everything it needs it makes under `.bench/`, once: an environment with `hpsv2`, open_clip, imscore and our torch,
stand-in weights of ViT-H-14 in the published layout (pseudo-random: speed does not depend on their values), JPEG
images and prompts. Every figure comes from a fresh process; the two sides take turns (A B A B), because other jobs
on a machine change its speed from minute to minute. docs/performance.md explains the figures.

The orchestrating process never imports torch: on Linux a child's peak memory starts from its parent's.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ARCHITECTURE = "ViT-H-14"
STYLE = "stand-in"
MARKERS = ("<!-- table -->", "<!-- /table -->")
CALLS, IMAGES_PER_CALL = 3, 4
PEERS = ("hpsv2", "imscore==0.0.11", "open_clip_torch==3.3.0", "transformers<5", "einops", "loguru")

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
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few images and one round: to see that it works")
    parser.add_argument("--cache", type=Path, default=Path(".bench"), help="where environment and weights are kept")
    parser.add_argument("--out", type=Path, help="write all raw figures to this JSON file")
    parser.add_argument("--update", type=Path, help="replace the table of this page")
    parser.add_argument("--images", type=int, help="images of the throughput part (24, or 4 with --quick)")
    parser.add_argument("--threads", type=int, help="of each side (all processors)")
    parser.add_argument("--rounds", type=int, help="turns of each side (2, or 1 with --quick)")
    options = parser.parse_args()
    count = options.images or (4 if options.quick else 24)
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = options.threads or processors or 1
    setup = prepare(options.cache.resolve(), count, many=64 if options.quick else 256, threads=threads)
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


def prepare(cache: Path, count: int, *, many: int, threads: int) -> Setup:
    images = make_images(cache / "images" / STYLE, max(many, count, CALLS * IMAGES_PER_CALL))
    setup = Setup(
        python=official_environment(cache / "official"),
        work=cache,
        checkpoint=cache / "stand_in.pt",
        images=images,
        prompts=make_prompts(len(images)),
        count=count,
        threads=threads,
    )
    if not setup.checkpoint.is_file():
        say("making stand-in weights (3.9 GB)")
        run_worker(setup, "make_weights", {}, cache)
    folder = cache / "prompts"
    folder.mkdir(exist_ok=True)
    (folder / f"{STYLE}.json").write_text(json.dumps(setup.prompts[:count]), encoding="utf-8")
    return setup


def official_environment(folder: Path) -> Path:
    """An environment with the official package and the torch of this one; returns its interpreter."""
    python = folder / "bin" / "python"
    done = folder / "complete"
    if done.is_file():
        return python
    say(f"installing the official package and peers into {folder.name}")
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    same = [f"{name}=={version(name)}" for name in ("torch", "torchvision")]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *same, *PEERS], check=True, stdout=sys.stderr)
    # The wheel of hpsv2 1.2.0 lacks the vocabulary of its tokenizer; it is the same file in every open_clip.
    vocabulary = "bpe_simple_vocab_16e6.txt.gz"
    source = importlib.metadata.distribution("open_clip_torch").locate_file(f"open_clip/{vocabulary}")
    for target in folder.glob("lib/python*/site-packages/hpsv2/src/open_clip"):
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
        total += (np.asarray(noise.resize((512, 512), Image.Resampling.BICUBIC), np.float32) - 128) / side**0.5
    return Image.fromarray(np.clip(128 + total * (60 / total.std()), 0, 255).astype(np.uint8))


def make_prompts(count: int) -> list[str]:
    """Distinct prompts of 10 to 30 words, in the manner of those that people write."""
    subjects = ("a young woman", "an old lighthouse", "a samurai cat", "an astronaut riding a horse", "a castle")
    places = ("in a neon city at night", "in a misty forest", "on a hill above the sea", "under a dramatic sky")
    styles = ("oil painting", "anime style", "digital art", "matte illustration", "watercolor", "studio photo")
    extras = (
        "highly detailed",
        "intricate",
        "sharp focus",
        "trending on artstation",
        "cinematic lighting",
        "volumetric light",
        "octane render",
        "wide angle",
        "soft golden hour",
        "smooth",
        "bokeh",
    )
    chooser = random.Random(0)
    prompts = []
    for number in range(count):
        parts = [f"{chooser.choice(subjects)} {chooser.choice(places)}, number {number}", chooser.choice(styles)]
        prompts.append(", ".join([*parts, *chooser.sample(extras, chooser.randint(1, 8))]))
    return prompts


# ------------------------------------------------------------------------------------------------------ measuring


def measure(setup: Setup, rounds: int) -> Figures:
    """All figures, each a list with one entry a round."""
    figures: Figures = {}

    def note(name: str, value: Figures) -> None:
        figures.setdefault(name, []).append(value)

    for number in range(1, rounds + 1):
        home = setup.work / "home"  # new in every round, so that the conversion of the pickle is measured, too
        shutil.rmtree(home, ignore_errors=True)
        for name, side in (
            ("official_calls", "official"),
            ("hpskit_calls_converting", "hpskit"),
            ("hpskit_calls", "hpskit"),
        ):
            say(f"round {number} of {rounds}: {name}")
            note(name, measure_calls(setup, side, home))
        say(f"round {number} of {rounds}: official throughput")
        note("official_throughput", measure_throughput(setup, "official", home))
        for precision in ("auto", "fp32"):
            say(f"round {number} of {rounds}: hpskit throughput, {precision}")
            found = measure_throughput(setup, "hpskit", home, precision=precision)
            note(f"hpskit_throughput_{precision}", found)
        for peer in ("peer_open_clip", "peer_imscore"):
            say(f"round {number} of {rounds}: {peer}")
            note(peer, measure_throughput(setup, peer, home))
        say(f"round {number} of {rounds}: mini")
        note("hpskit_mini", measure_mini(setup, home))
        shutil.rmtree(home, ignore_errors=True)
    say("hpskit --help")
    figures["help_seconds"] = [seconds for _ in range(5) if (seconds := help_seconds()) is not None]
    return figures


def measure_calls(setup: Setup, side: str, home: Path) -> Figures:
    """Seconds of `CALLS` score calls of four images in one process: the first from the start of the process."""
    calls = []
    for call in range(CALLS):
        start = call * IMAGES_PER_CALL
        calls.append([[str(p) for p in setup.images[start : start + IMAGES_PER_CALL]], setup.prompts[call]])
    began = time.time()
    result = run_worker(setup, f"{side}_calls", {"calls": calls}, home)
    [first, *later] = result.pop("spans")
    return {"first": first[1] - began, "repeated": [end - start for start, end in later], **result}


def measure_throughput(setup: Setup, side: str, home: Path, *, precision: str = "") -> Figures:
    job = {
        "images": [str(path) for path in setup.images[: setup.count]],
        "prompts": setup.prompts[: setup.count],
        "precision": precision,
        "image_root": str(setup.images[0].parent.parent),
        "prompt_root": str(setup.work / "prompts"),
    }
    return run_worker(setup, side if side.startswith("peer") else f"{side}_throughput", job, home)


def measure_mini(setup: Setup, home: Path) -> Figures:
    return run_worker(setup, "mini", {"images": [str(p) for p in setup.images], "prompts": setup.prompts}, home)


def help_seconds() -> float | None:
    start = time.perf_counter()
    run = subprocess.run([sys.executable, "-m", "hpskit", "--help"], capture_output=True, check=False)
    if run.returncode:
        say("skipped: `python -m hpskit --help` does not work here")
        return None
    return time.perf_counter() - start


def run_worker(setup: Setup, task: str, job: Figures, home: Path) -> Figures:
    """Run one task of worker.py in a fresh process: equal threads on both sides, and nothing reaches a network."""
    environment = {
        **os.environ,
        "HPSKIT_HOME": str(home),
        "HPS_ROOT": str(setup.work / "official_root"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": str(setup.threads),
        "PYTHONWARNINGS": "ignore",
    }
    python = sys.executable
    if task.startswith(("official", "peer")):
        environment.pop("PYTHONPATH", None)
        python = str(setup.python)
    else:
        environment["THP_MEM_ALLOC_ENABLE"] = "1"  # as our commands do
    common = {"checkpoint": str(setup.checkpoint), "architecture": ARCHITECTURE, "threads": setup.threads}
    given, result = setup.work / "job.json", setup.work / "result.json"
    given.write_text(json.dumps({**job, **common, "task": task}), encoding="utf-8")
    result.unlink(missing_ok=True)
    command: list[str | Path] = [python, HERE / "worker.py", given, result]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if run.returncode:
        raise SystemExit(f"{task}: the worker failed with status {run.returncode}\n{run.stderr[-4000:]}")
    figures: Figures = json.loads(result.read_text(encoding="utf-8"))
    return figures


# ------------------------------------------------------------------------------------------------------ reporting


def machine(setup: Setup) -> Figures:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    listed = subprocess.run([setup.python, "-m", "pip", "list", "--format", "json"], capture_output=True, check=True)
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
        "official": {name: official[name] for name in ("hpsv2", "imscore", "open_clip_torch", *wanted)},
        "image_bytes_mean": round(statistics.mean(path.stat().st_size for path in setup.images)),
        "tower_flops": image_tower_flops(),
    }


def image_tower_flops() -> int:
    """Floating-point operations of the image tower of ViT-H/14 for one image of 224 pixels: 2 for each multiply-add of
    its matrix products. Norms, softmax and GELU are not counted.

        patches     256 x 3 14^2 x 1280
        layers      see `layer_flops`, for 257 tokens
        projection  1280 x 1024                                           of the class token
    """
    return 2 * (256 * 3 * 14**2 * 1280 + 1280 * 1024) + 32 * layer_flops(tokens=257, width=1280)


def text_tower_flops(tokens: int) -> int:
    """The same of the text tower for one prompt of so many tokens, start and end included, padding not."""
    return 2 * 1024 * 1024 + 24 * layer_flops(tokens=tokens, width=1024)


def layer_flops(*, tokens: int, width: int) -> int:
    """Query, key, value and output (4 width), both products of the MLP (8 width), query x key and weights x value."""
    return 2 * (tokens * width * 12 * width + 2 * tokens**2 * width)


def rows(figures: Figures) -> list[Row]:
    return [
        *speed_rows(figures),
        *peer_rows(figures),
        *share_rows(figures),
        *call_rows(figures),
        *memory_rows(figures),
        *small_rows(figures),
    ]


def speed_rows(figures: Figures) -> list[Row]:
    official = best_rate(figures["official_throughput"])
    result = []
    for name, goal in (("auto", ">= 2.2"), ("fp32", "")):
        runs = figures[f"hpskit_throughput_{name}"]
        rate = best_rate(runs)
        what = f"images per second, {runs[0]['precision']}" + (" (auto)" if name == "auto" else "")
        result.append(compared(what, official, rate, rate / official, goal))
    return result


def peer_rows(figures: Figures) -> list[Row]:
    """Against the loops that a careful user writes with the peers, and what each costs in processor time."""
    ours = figures["hpskit_throughput_auto"]
    result = []
    for name, peer in (("open_clip", "peer_open_clip"), ("imscore", "peer_imscore")):
        theirs = figures[peer]
        rates = best_rate(theirs), best_rate(ours)
        busy = [min(run["cpu_seconds"] / run["count"] for run in runs) for runs in (theirs, ours)]
        memory = [min(run["peak_memory"] for run in runs) / 1e9 for runs in (theirs, ours)]
        goal = ">= 1.3" if name == "open_clip" else ""
        result += [
            compared(f"images per second, {name} in bf16", *rates, rates[1] / rates[0], goal),
            compared(f"processor seconds an image, {name} in bf16", *busy, busy[0] / busy[1]),
            compared(f"peak memory, GB, {name} in bf16", *memory, memory[1] / memory[0]),
        ]
    return result


def share_rows(figures: Figures) -> list[Row]:
    """Of the processor's own peak in the precision that `auto` chose, each run against its own peak."""
    runs = figures["hpskit_throughput_auto"]
    kind = {"bf16": "bfloat16", "fp32": "float32"}[runs[0]["precision"]]

    def share(run: Figures, part: Figures) -> float:
        text = sum(text_tower_flops(tokens) for tokens in part["tokens"])
        return (figures["tower_flops"] * part["count"] + text) / part["seconds"] / peak(run, kind)

    whole = max(share(run, run) for run in runs)
    warm = max(share(run, run["warm"]) for run in runs)
    tower = max(figures["tower_flops"] * run["tower_images_per_second"] / peak(run, kind) for run in runs)
    goal = {"target": ">= 88 %"}
    return [
        Row(
            what=f"share of the {kind} matmul peak, image tower",
            hpskit=f"{tower:.0%}",
            met=tower >= 0.88,
            **goal,
        ),
        Row(
            what=f"share of the {kind} matmul peak, all of `score`, first call",
            hpskit=f"{whole:.0%}",
            met=whole >= 0.88,
            **goal,
        ),
        Row(
            what=f"share of the {kind} matmul peak, all of `score`, later call",
            hpskit=f"{warm:.0%}",
            met=warm >= 0.88,
            **goal,
        ),
    ]


def call_rows(figures: Figures) -> list[Row]:
    official, ours = figures["official_calls"], figures["hpskit_calls"]
    again, our_again = (min(second for run in runs for second in run["repeated"]) for runs in (official, ours))
    first, our_first = (min(run["first"] for run in runs) for runs in (official, ours))
    ever = min(run["first"] for run in figures["hpskit_calls_converting"])
    return [
        compared("four images, repeated call, s", again, our_again, again / our_again, ">= 4"),
        compared("four images, first call of a process, s", first, our_first, first / our_first, ">= 2"),
        compared("four images, first call ever (converts the .pt), s", first, ever, first / ever),
    ]


def memory_rows(figures: Figures) -> list[Row]:
    result = []
    for what, theirs, ours, goal in (
        ("throughput run", "official_throughput", "hpskit_throughput_auto", "<= 0.5"),
        ("four-image calls", "official_calls", "hpskit_calls", "<= 0.5"),
        ("throughput run, fp32", "official_throughput", "hpskit_throughput_fp32", ""),
        ("first call ever (converts the .pt)", "official_calls", "hpskit_calls_converting", ""),
    ):
        official, hpskit = (min(run["peak_memory"] for run in figures[name]) / 1e9 for name in (theirs, ours))
        result.append(compared(f"peak memory, GB, {what}", official, hpskit, hpskit / official, goal))
    sides = [[run["peak_anonymous"] for run in figures[name]] for name in ("official_calls", "hpskit_calls")]
    if all(all(side) for side in sides):
        official, hpskit = (min(side) / 1e9 for side in sides)
        what = "of it without the pages of mapped files, GB, four-image calls"
        result.append(compared(what, official, hpskit, hpskit / official))
    return result


def small_rows(figures: Figures) -> list[Row]:
    runs = [run for run in figures["hpskit_mini"] if "skipped" not in run]
    if runs:
        small = [
            Row(what=f"mini, images per second, {when}", hpskit=f"{rate:.0f}", target=f">= {goal}", met=rate >= goal)
            for when, rate, goal in (
                ("256 images, warm", best_rate(runs), 110),
                ("256 images, first call", best_rate([run["first"] for run in runs]), 90),
            )
        ]
    else:
        say(f"mini skipped: {figures['hpskit_mini'][0]['skipped']}")
        small = [Row(what="mini, images per second", hpskit="skipped", target=">= 110")]
    times = figures["help_seconds"]
    if not times:
        return [*small, Row(what="`hpskit --help`, s", hpskit="skipped", target="< 0.5")]
    middle = statistics.median(times)
    return [*small, Row(what="`hpskit --help`, s", hpskit=f"{middle:.2f}", target="< 0.5", met=middle < 0.5)]


def compared(what: str, official: float, hpskit: float, ratio: float, goal: str = "") -> Row:
    """A row with a figure of each side; `goal` is for example `>= 2` and is held against the ratio."""
    row = Row(what=what, official=f"{official:.2f}", hpskit=f"{hpskit:.2f}", ratio=f"{ratio:.2f}x")
    if not goal:
        return row
    relation, limit = goal.split()
    met = ratio >= float(limit) if relation == ">=" else ratio <= float(limit)
    return replace(row, target=f"{goal}x", met=met)


def best_rate(runs: list[Figures]) -> float:
    return max(float(run["count"] / run["seconds"]) for run in runs)


def peak(run: Figures, kind: str) -> float:
    return max(float(run["matmul_before"][kind]), float(run["matmul_after"][kind]))


def largest_difference(figures: Figures) -> float:
    """Between the scores of both sides for the same images, on the 0 to 100 scale: that they did the same work."""
    theirs, ours = (figures[name][0]["scores"] for name in ("official_calls", "hpskit_calls"))
    pairs = zip(itertools.chain(*theirs), itertools.chain(*ours), strict=True)
    return max(abs(float(left) - float(right)) for left, right in pairs)


def markdown(table: list[Row], figures: Figures) -> str:
    """The table and a paragraph about the machine, both made of figures only."""
    lines = ["| what | other | hpskit | ratio | target | met |", "|---|---:|---:|---:|---:|---|"]
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
        (
            f"{figures['date']}, {figures['cpu']}, {figures['threads']} threads, Python {figures['python']}; "
            f"{runs[0]['count']} images of {figures['image_bytes_mean'] / 1000:.0f} kB; best of {len(runs)} rounds. "
            f"`torch.mm` peaks at {peaks['bfloat16']:.0f} GFLOP/s in bfloat16 and {peaks['float32']:.0f} in float32; "
            f"the image tower takes {figures['tower_flops'] / 1e9:.0f} GFLOP an image. "
            f"Of the processor time there was, the throughput runs got at least {busy[0]:.0%} (official) and "
            f"{busy[1]:.0%} (hpskit). Largest difference between the scores of both sides: "
            f"{largest_difference(figures):.3f} on the scale of 0 to 100."
        ),
    ]
    lines += ["", f"hpskit's side: {sides[0]}. Official side: {sides[1]}."]
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
