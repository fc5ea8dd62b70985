"""Run every documented command on small made-up inputs and collect what each prints and writes.

    python tests/golden/make.py --update     # write tests/golden/outputs/ again
    python tests/golden/make.py              # compare with it, and list every difference

An output that changes is a change of the product: update only what was meant to change, and look at `git diff` first.
Everything runs in one process on one thread, so that floats are the same from run to run.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import math
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import PIL
import torch

import hpskit as package
from command_inputs import write_inputs
from conftest import run_here  # which sees to it that nothing is fetched and no file of the user's is seen

OUTPUTS = Path(__file__).with_name("outputs")
PLAIN = 1e-6
"""Relative difference that two floats may have on the kind of machine that made the outputs."""
ELSEWHERE = 2e-3
"""And elsewhere, where a network adds in another order."""
UNSTABLE = {
    *("package", "command", "time", "date", "created", "finished", "started", "seconds", "duration", "memory", "disk"),
    *("versions", "weight_hash", "digest", "hash", "digests", "space", "threads", "hardware", "machine", "environment"),
    *("free_disk", "peak", "peak_bytes", "peak_memory", "seconds_per_step", "seconds_left", "images_per_second"),
    *("check", "estimate", "bytes", "sha256", "python", "platform", "hpskit"),
}
"""Fields that differ from machine to machine, or from version to version."""


@dataclass(frozen=True)
class Case:
    """A command that is run, and the files of it that are kept."""

    name: str
    words: str
    """What follows `hpskit`, as one line; paths are relative to the inputs."""
    keep: tuple[str, ...] = ()
    """Patterns of the files to keep, in the folder of the inputs."""


SCORERS = "--scorer mini --scorer random --precision fp32"
FEW = "--resamples 500"
RESULTS = "results/ours.json results/base.json results/other.json"
PAPER = "--paper latex,csv,md"
RENDERS = "ours=renders/ours base=renders/base other=renders/other"
TRAIN = "--recipe tiny --data judged/train.json --val judged/held-out.json --device cpu --workers 0"
STEPS = "--set steps={} --set warmup=1 --set batch=4 --set validate_every=2 --set save_every=2"


def evaluate(name: str, data: str, more: str = "", *keep: str) -> Case:
    words = f"evaluate --data {data} {SCORERS} {FEW} --out out/{name} {more}"
    return Case(f"evaluate-{name}", words, keep or (f"out/{name}/result.json",))


def papers(stem: str) -> tuple[str, ...]:
    return tuple(f"{stem}.{ending}" for ending in ("tex", "csv", "md"))


def inspect(name: str, data: str) -> Case:
    return Case(f"inspect-{name}", f"data inspect {data} --json --decode")


def convert(name: str, words: str, *keep: str) -> Case:
    return Case(f"convert-{name}", f"data convert {words} --json", keep)


def benchmark(name: str) -> Case:
    words = f"benchmark run --suite suite.jsonl --images renders/{name} --name {name.title()} {SCORERS}"
    return Case(
        f"benchmark-{name}", f"{words} --meta settings.json --out results/{name}.json", (f"results/{name}.json",)
    )


CHAINS = {
    "score": (
        Case("score", "score 'a temple by a lake' a.jpg b.png c.png"),
        Case("score-json", "score --json --precision fp32 'a temple by a lake' a.jpg b.png c.png"),
        Case("score-random", "score --json --precision fp32 --model random:3 'a temple' a.jpg b.png"),
        Case("score-jsonl", "score --pairs items.jsonl --out out/scores.jsonl", ("out/scores.jsonl",)),
        Case(
            "score-csv",
            "score --pairs items.csv --out out/csv.jsonl --on-error skip --model random --precision fp32",
            ("out/csv.jsonl",),
        ),
        Case(
            "score-parquet",
            "score --pairs items.parquet --out out/parquet.jsonl --image-root . --json",
            ("out/parquet.jsonl",),
        ),
        Case("models", "models list --json"),
        Case("verify-mini", "models verify mini"),
    ),
    "data": (
        Case("inspect", "data inspect HPDv2/"),
        inspect("hpdv2", "HPDv2/test.json"),
        inspect("train", "judged/train.json"),
        inspect("imagereward", "imagereward/test.json"),
        inspect("database", "database/test.json --format imagerewarddb"),
        inspect("pickapic", "pickapic.parquet"),
        inspect("hpdv3", "HPDv3/test.json"),
        inspect("ours", "ours/"),
        inspect("broken", "broken.json"),
        convert("parquet", "HPDv2/ --to parquet --out out/hpdv2.parquet"),
        convert("back", "out/hpdv2.parquet --to jsonl --out out/back", "out/back/rankings.jsonl"),
        convert("pairs", "HPDv2/ --to pairs --out out/pairs --allow-loss", "out/pairs/*.jsonl"),
        convert("hpdv2", "ours/ --to hpdv2 --out out/hpdv2 --allow-loss --no-images", "out/hpdv2/*.json"),
        convert("train", "pickapic.parquet --to hpdv2-train --out out/train --allow-loss", "out/train/*.json"),
        convert("imagereward", "imagereward/ --to jsonl --out out/imagereward", "out/imagereward/rankings.jsonl"),
        convert("hpdv3", "HPDv3/ --to jsonl --out out/hpdv3 --no-images", "out/hpdv3/rankings.jsonl"),
        Case("split", "data split HPDv2/ --out out/parts --share 0.34 --json"),
        convert("split", "out/parts/validation.parquet --to jsonl --out out/split --no-images", "out/split/*.jsonl"),
    ),
    "reward": (
        Case(
            "calibrate",
            f"reward calibrate --data HPDv2/test.json {SCORERS} --out out/calibrated",
            ("out/calibrated/calibration.json",),
        ),
        Case("audit", "reward audit run/ --precision fp32 --out out/audit.html"),
        Case("watch", "reward watch hacked.jsonl --out out/watch.html"),
    ),
    "evaluate": (
        evaluate("hpdv2", "HPDv2/test.json", PAPER, "out/hpdv2/result.json", *papers("out/hpdv2/report")),
        Case(
            "evaluate-persons",
            f"evaluate --data HPDv2/test.json {SCORERS} {FEW} --persons --rule ties-half --seed 3 --out out/persons "
            "--json",
        ),
        evaluate("imagereward", "imagereward/test.json"),
        evaluate("pickapic", "pickapic.parquet", "--rule pickapic"),
        Case(
            "evaluate-threshold",
            f"evaluate --data pickapic.parquet --rule pickapic --tie-threshold 0.05 {FEW} --out out/threshold",
            ("out/threshold/result.json",),
        ),
        evaluate("hpdv3", "HPDv3/test.json"),
        evaluate("ours", "ours/"),
        Case("agreement", f"agreement --data HPDv2/test.json {FEW} --out out/agreement", ("out/agreement/*.json",)),
        Case("agreement-ours", f"agreement --data ours/ {FEW} --json"),
    ),
    "benchmark": (
        Case("prompts", "benchmark prompts --suite suite.jsonl --out out/suite", ("out/suite/**/*.json*",)),
        benchmark("ours"),
        benchmark("base"),
        benchmark("other"),
        Case("verify", "benchmark verify results/ours.json --images renders/ours"),
        Case(
            "leaderboard",
            f"benchmark leaderboard {RESULTS} --out out/leaderboard --allow-outside {FEW} {PAPER}",
            ("out/leaderboard/*.json", *papers("out/leaderboard/leaderboard")),
        ),
        Case(
            "compare",
            f"compare renders/base renders/ours --prompts suite.jsonl {SCORERS} {FEW} --out out/compared {PAPER}",
            ("out/compared/compare.json", *papers("out/compared/compare")),
        ),
        Case(
            "study-prompts",
            f"study prompts {RESULTS} --resolution 0.5 --resamples 200 --out out/number",
            ("out/number/*.json",),
        ),
        Case(
            "study-chrominance",
            f"study chrominance {RENDERS} --resamples 200 --out out/colours",
            ("out/colours/*.json",),
        ),
        Case(
            "study-resolution",
            f"study resolution {RENDERS} --prompts suite.jsonl --sizes 48,96 --details 24 --out out/sizes",
            ("out/sizes/*.json",),
        ),
    ),
    "train": (
        Case("recipe-hpsv2", "train --show-recipe hpsv2"),
        Case("recipe-tiny", "train --show-recipe tiny"),
        Case("train-dry", f"train {TRAIN} {STEPS.format(4)} --out out/dry --dry-run --json"),
        Case(
            "train",
            f"train {TRAIN} {STEPS.format(4)} --no-tensorboard --out out/run --json",
            ("out/run/log.jsonl", "out/run/config.json"),
        ),
        Case("verify-run", "models verify out/run/model.safetensors"),
        Case(
            "evaluate-run",
            f"evaluate --data judged/held-out.json --scorer out/run/model.safetensors --precision fp32 {FEW} "
            "--out out/evaluation",
            ("out/evaluation/result.json",),
        ),
        evaluate(
            "seen",
            "judged/train.json",
            f"--scorer out/run/model.safetensors {PAPER}",
            *papers("out/seen/report"),
        ),
        Case("export-official", "export out/run --to official --out out/mine.pt --json"),
        Case(
            "export-huggingface",
            "export out/run --to huggingface --out out/mine --licence Apache-2.0 --json "
            "--evaluation out/evaluation/result.json",
            ("out/mine/README.md", "out/mine/open_clip_config.json"),
        ),
        Case(
            "ablate",
            f"ablate {TRAIN} {STEPS.format(2)} --out out/ablation --grid lr=1e-5,1e-3",
            ("out/ablation/ablation.json", "out/ablation/ablation.md"),
        ),
    ),
    "prompts": (
        Case(
            "prompts-import",
            "prompts import log.jsonl coco=captions.json --out raw.jsonl --json",
            ("raw.jsonl", "raw.manifest.json"),
        ),
        Case("prompts-clean", "prompts clean raw.jsonl --out clean.jsonl --json", ("clean.jsonl",)),
        Case(
            "prompts-select",
            "prompts select clean.jsonl --n 4 --per-style --certainty 0 --out prompts.jsonl --json",
            ("prompts.jsonl",),
        ),
        Case(
            "images-generate",
            "images generate --prompts suite.jsonl --generators painters.toml --out images --json",
            ("images/images.jsonl", "images/fine.json"),
        ),
        Case(
            "images-import",
            "images import renders/ours --as ours --prompts suite.jsonl --out images --json",
            ("images/images.json",),
        ),
        Case("images-check", "images check images --json --out images.html"),
    ),
}
"""Commands that follow on one another in a folder of their own. Missing: `study metrics`, which a test compares with
two other packages, and `train --recipe mini`."""


def run_chain(name: str, folder: Path) -> dict[str, Any]:
    """Write the inputs into `folder`, run the commands of a chain there, and return what each gave, by name."""
    write_inputs(folder)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {case.name: run(case, folder) for case in CHAINS[name]}
    finally:
        torch.set_num_threads(threads)


def run(case: Case, folder: Path) -> dict[str, Any]:
    """Run one command; give its exit code with what it printed, and the files that are kept of it."""
    done = run_here(["hpskit", *shlex.split(case.words)], folder)
    if done.returncode not in (0, 1) or "Traceback" in done.stderr:
        raise RuntimeError(f"hpskit {case.words} ended with {done.returncode}: {done.stderr}")
    found: dict[str, Any] = {"exit code": done.returncode, "output": parse(done.stdout, folder)}
    for pattern in case.keep:
        paths = sorted(folder.glob(pattern))
        assert paths, f"{case.name}: no {pattern} in {sorted(map(str, (folder / pattern).parent.glob('*')))}"
        for path in paths:
            found[str(path.relative_to(folder))] = parse(path.read_text(encoding="utf-8"), folder, path.suffix)
    return found


def parse(text: str, folder: Path, suffix: str = "") -> Any:
    """JSON, or a list of lines, without what differs from machine to machine."""
    for path, name in ((folder.resolve(), "INPUTS"), (folder, "INPUTS"), (Path(package.__file__).parent, "PACKAGE")):
        text = text.replace(str(path), name)
    if suffix == ".jsonl":
        return [stable(json.loads(line)) for line in text.splitlines()]
    if suffix == ".csv":
        return [stable([as_number(cell) for cell in row]) for row in csv.reader(text.splitlines())]
    with contextlib.suppress(ValueError):
        return stable(json.loads(text))
    return [stable(line.rstrip()) for line in text.splitlines()]


def as_number(cell: str) -> float | str:
    with contextlib.suppress(ValueError):
        return float(cell)
    return cell


def stable(value: Any) -> Any:
    """`value` without the unstable fields, and with floats of nine digits."""
    if isinstance(value, dict):
        return {name: stable(inner) for name, inner in value.items() if name not in UNSTABLE}
    if isinstance(value, list):
        return [stable(inner) for inner in value]
    if isinstance(value, float) and math.isfinite(value):
        return float(f"{value:.9g}")
    if isinstance(value, str):
        return re.sub(r"hpskit \d+\.\d+[\w.+]*|\b[0-9a-f]{12,64}\b", "…", value)
    return value


def differences(stored: Any, found: Any, tolerance: float, place: str = "") -> Iterator[str]:
    """Every place where two outputs are not the same, with both values."""
    one, other = (dict(leaves(value, place)) for value in (stored, found))
    for where in dict.fromkeys([*one, *other]):
        if where not in one or where not in other:
            yield f"{where}: only in {'the stored output' if where in one else 'the new one'}: {(one | other)[where]!r}"
        elif not is_alike(one[where], other[where], tolerance):
            yield f"{where}: was {one[where]!r}, is {other[where]!r}"


def leaves(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Everything that holds nothing else, with its place."""
    if not isinstance(value, dict | list) or not value:
        yield place, value
        return
    for key, part in value.items() if isinstance(value, dict) else enumerate(value):
        yield from leaves(part, f"{place}.{key}")


def is_alike(stored: Any, found: Any, tolerance: float) -> bool:
    """Tell whether two values are the same, or as near as the kind of machine allows."""
    if is_number(stored) and is_number(found):
        return math.isclose(stored, found, rel_tol=tolerance, abs_tol=tolerance)
    return bool(stored == found) or (tolerance > PLAIN and is_rounded_alike(stored, found))


def is_rounded_alike(stored: Any, found: Any) -> bool:
    """Tell whether two texts differ at most by one in the last digit of their numbers."""
    if not (isinstance(stored, str) and isinstance(found, str)):
        return False
    number = re.compile(r"\d+\.\d+")
    pairs = [*zip(number.findall(stored), number.findall(found), strict=False)]
    steps = [abs(int(one.replace(".", "")) - int(other.replace(".", ""))) for one, other in pairs]
    return number.sub("#", stored) == number.sub("#", found) and max(steps, default=0) <= 1


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def machine() -> str:
    """Name what the last digits of images and of a network's output depend on."""
    capability = torch.backends.cpu.get_cpu_capability()
    return f"torch {torch.__version__.split('+')[0]}, pillow {PIL.__version__}, {capability}"


def load(chain: str) -> dict[str, Any]:
    """The stored outputs of a chain."""
    return {case.name: json.loads((OUTPUTS / f"{case.name}.json").read_text("utf-8")) for case in CHAINS[chain]}


def tolerance() -> float:
    """The relative difference that two floats may have here."""
    return PLAIN if json.loads((OUTPUTS / "machine.json").read_text()) == machine() else ELSEWHERE


def store(found: dict[str, Any]) -> None:
    OUTPUTS.mkdir(exist_ok=True)
    for path in OUTPUTS.glob("*.json"):
        path.unlink()
    for name, value in {**found, "machine": machine()}.items():
        text = json.dumps(value, ensure_ascii=False, indent=1)
        text = re.sub(r"\[\s+([^\[\]{}\"]{1,100}?)\s+\]", lambda m: f"[{' '.join(m[1].split())}]", text)
        (OUTPUTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--update", action="store_true", help="store what is found instead of comparing")
    update = parser.parse_args().update
    with tempfile.TemporaryDirectory() as folder:
        found = {chain: run_chain(chain, Path(folder) / chain) for chain in CHAINS}
    if update:
        store({name: value for outputs in found.values() for name, value in outputs.items()})
        return
    wrong = [line for chain in CHAINS for line in differences(load(chain), found[chain], tolerance(), chain)]
    print(*wrong, f"{len(wrong)} differences", sep="\n")  # noqa: T201
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
