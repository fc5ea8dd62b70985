"""Damage inputs of every kind, run the real commands on them, and list every promise that hpskit broke.

    python benchmarks/fuzz.py --n 10000                     # all kinds, a worker for each processor
    python benchmarks/fuzz.py --only 4711 --keep input/     # one input again: its files, and what came of it

Promised is: no traceback; status 0 for what is right and another for what cannot be right; with status 0 the results of
what was not damaged are those of a clean run; an error is one printable line; time and memory are bounded; inputs stay
as they are, and nothing is written outside --out. What is right is told by readers of this file's own, which share no
code with hpskit. `damage.py` has the ways to damage. The same seed and number give the same input.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import io
import itertools
import json
import math
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from damage import MORE, damage

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

SECONDS, MEMORY, LONGEST = 20, 400 << 20, 2000
IMAGES = 2_400_000_000
"""Bytes that docs/scoring.md allows to images: a flipped bit can make an image of 100 million pixels of a small one."""
"""Bounds of one input: time, bytes beyond what was taken before it, characters of its error."""
MEMORY_DISK = "/dev/shm" if os.path.isdir("/dev/shm") else None
UNSTABLE = re.compile("package|command|time|seconds|.*sha256|files|versions|out|weights")
"""Fields that may differ between two runs of the same."""
QUICK = "--scorer random --precision fp32 --resamples 100"
TRAIN = (
    "train --recipe tiny --set architecture=ViT-small-test --set steps=2 --set warmup=1 --set batch=4 "
    "--set save_every=1 --set validate_every=1 --data judged/train.json --val judged/held-out.json "
    "--device cpu --workers 0 --no-tensorboard"
)
BENCHMARK = (
    "benchmark run --suite {} --name ours --scorer random --precision fp32 --images renders/ours --out out/ours.json"
)
PAIRS = "score --pairs {} --model random --precision fp32 --out out/s.jsonl"
SCORE = "score --json --precision fp32 cat a.jpg b.png"


# What a file means, read without hpskit


def read_text(data: bytes) -> str:
    return data.decode("utf-8-sig")


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name is there twice")
    return dict(pairs)


def read_json(data: bytes, pairs: Callable[[list[tuple[str, Any]]], Any] = once) -> Any:
    """JSON as its standard has it, of numbers and texts that can be written again."""
    try:
        value = json.loads(read_text(data), object_pairs_hook=pairs)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except RecursionError as error:
        raise ValueError("too deep") from error
    return value


def read_lines(data: bytes) -> Any:
    return [read_json(line.encode()) for line in re.split("\r\n|\n|\r", read_text(data)) if line.strip()]


def read_table(data: bytes, tab: str = ",") -> Any:
    quoting = csv.QUOTE_NONE if tab == "\t" else csv.QUOTE_MINIMAL
    text = io.StringIO(read_text(data), newline="")
    try:
        first, *rows = filter(None, csv.reader(text, delimiter=tab, strict=True, quoting=quoting))
    except csv.Error as error:
        raise ValueError(str(error)) from error
    if len(set(first)) < len(first):
        raise ValueError("a column is there twice")
    return [dict(zip(first, row, strict=True)) for row in rows]


def read_parquet(data: bytes) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(io.BytesIO(data)).to_pylist()
    except (pa.ArrowException, OSError, OverflowError) as error:
        raise ValueError(str(error)) from error


def read_safetensors(data: bytes) -> Any:
    """Type, shape and hash of every tensor, and the metadata."""
    size = int.from_bytes(data[:8], "little")
    header, body = read_json(data[8 : 8 + size], dict), data[8 + size :]
    metadata = header.pop("__metadata__", {})
    width, found, end = {"F32": 4, "I64": 8, "F64": 8, "I8": 1}, {}, 0
    try:
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            before, (start, end) = end, entry["data_offsets"]
            if start != before or width[entry["dtype"]] * math.prod(entry["shape"]) != end - start:
                raise ValueError("holes, or another shape")
            found[name] = [entry["dtype"], entry["shape"], hashlib.sha256(body[start:end]).hexdigest()]
    except (TypeError, KeyError, AttributeError, IndexError) as error:
        raise ValueError("no header") from error
    if end != len(body):
        raise ValueError("another size")
    return [found, metadata]


READERS: dict[str, Callable[[bytes], Any]] = {
    ".json": read_json,
    ".jsonl": read_lines,
    ".csv": read_table,
    ".tsv": lambda data: read_table(data, "\t"),
    ".txt": lambda data: [line for line in re.split("\r?\n", read_text(data)) if line.strip()],
    ".parquet": read_parquet,
    ".toml": lambda data: tomllib.loads(data.decode()),
    ".safetensors": read_safetensors,
}
"""Ending of a file -> what its content means; ValueError if it means nothing, so that it must be refused."""


def is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and value == value.encode(errors="ignore").decode()


def is_list_of(kind: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(kind, value))


def is_count(value: Any) -> bool:
    return type(value) is int and value > 0


FIELDS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("prompt", "caption", "image_0_uid", "image_1_uid", "prompt_id", "id"), is_text),
    "image": is_text,
    **dict.fromkeys(("path1", "path2", "first", "second"), lambda name: name == " " or is_text(name)),
    **dict.fromkeys(("file_path", "generations", "images"), is_list_of(lambda name: name == " " or is_text(name))),
    "image_path": lambda value: is_text(value) or is_list_of(lambda name: name == " " or is_text(name))(value),
    "ranking": is_list_of(is_count),
    "ranks": lambda value: value is None or is_list_of(lambda rank: rank is None or is_count(rank))(value),
    "rank": lambda value: is_count(value) or is_list_of(is_count)(value) or value is None,
    "human_preference": lambda value: value in ([1, 0], [0, 1], [0.5, 0.5]),
    "judgements": is_list_of(lambda value: isinstance(value, dict)),
    "votes": is_count,
}
"""Fields of rows that cannot be left out where a clean row has them, and what they must be."""
NAMES = ("image", "image_path", "file_path", "generations", "images", "path1", "path2", "first", "second")


@dataclass(kw_only=True)
class Target:
    """A file that is damaged, and the command that reads it."""

    kind: str
    file: str
    words: str
    check: Callable[[Any, Any, Target], str] | None = None
    """Says what is wrong with the product of a document that differs from the clean one."""
    root: str | None = None
    """Folder that every image in a row starts from, and, where the command copies it, may not lie outside of."""
    start: str = ""
    """Folder that is `out` at the beginning: what a run left. Any damage there is made good or refused."""
    product: Any = None
    """What the command gave for the file as it was."""
    document: Any = None
    """What that file means."""

    @property
    def command(self) -> str:
        return self.words.replace("{}", self.file)

    def read(self, data: bytes) -> Any:
        return READERS.get(Path(self.file).suffix, lambda content: content)(data)

    def is_wrong(self, document: Any) -> bool:
        """Tell that a document cannot be right, though it can be read: rows that lack a field, or have a wrong one."""
        if not isinstance(self.document, list) or not self.document:
            return False
        if not isinstance(document, list) or not document or {*map(type, document)} != {*map(type, self.document)}:
            return True
        if isinstance(document[0], str):
            return not all(map(is_text, document))
        first = {name.casefold(): value for name, value in self.document[0].items()}
        needed = {name: fits for name, fits in FIELDS.items() if name in first and fits(first[name])}
        for row in document:
            value = {name.casefold(): inner for name, inner in row.items()}
            value = {"votes": 1, **value}  # one is what a row without them has
            if not all(name in value and fits(value[name]) for name, fits in needed.items()):
                return True
        return self.root is not None and not all(map(self.is_there, document))

    def is_there(self, row: dict[str, Any]) -> bool:
        """Tell whether the images of a row are files below the folder."""
        root = Path(self.root or "").resolve()
        values = [row[name] for name in NAMES if name in row]
        for name in [name for value in values for name in ([value] if isinstance(value, str) else value)]:
            try:
                path = (root / name).resolve()
                if not path.is_file() or not (path.is_relative_to(root) or self.kind == "rows"):
                    return False
            except (OSError, ValueError, RuntimeError):
                return False
        return True


# How a product follows from what was read


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=repr)


def product_of(stdout: str) -> dict[str, Any]:
    """Everything that a command printed and wrote as data, without what differs from run to run."""
    found: dict[str, Any] = {"stdout": stdout}
    with contextlib.suppress(ValueError):
        found["stdout"] = json.loads(stdout)
    for path in (path for path in Path("out").rglob("*") if path.is_file()):
        if path.suffix in READERS and "manifest" not in path.name and path.stem not in ("state", "index", "config"):
            found[str(path)] = READERS[path.suffix](path.read_bytes())
    if "out/log.jsonl" in found:  # times differ
        found["out/log.jsonl"] = [[line["kind"], line["step"]] for line in found["out/log.jsonl"]]
    return plain(found)


def plain(value: Any) -> Any:
    if isinstance(value, dict):  # fields that `damage.change` adds are nobody's
        names = [name for name in value if not UNSTABLE.fullmatch(name) and name not in MORE]
        return {name: plain(value[name]) for name in names}
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, str):  # the place of an entry names its line, which depends on the layout
        return re.sub(r"\bline \d+", "line", value)
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def same_groups(document: Any, product: Any, target: Target) -> str:
    """Groups that were not damaged are as in a clean run."""
    file = next(name for name in target.product if name.startswith("out/c"))
    before = dict(zip(units(target.document), units(target.product[file]), strict=True))
    after, groups = units(document), units(product[file])
    if len(after) != len(groups):
        return f"{len(after)} groups gave {len(groups)}"
    changed = (group for unit, group in zip(after, groups, strict=True) if before.get(unit, group) != group)
    return next((f"a group that was not damaged became {group:.300}" for group in changed), "")


def units(rows: list[dict[str, Any]]) -> list[str]:
    """Rows, or those of a group together, without its name."""
    found: dict[Any, list[Any]] = {}
    for number, row in enumerate(rows):
        name = row.get("group", row.get("prompt_id") if "classification" in row else None)
        own = {key: value for key, value in row.items() if key != "group"}
        found.setdefault(number if name is None else canonical(name), []).append(own)
    return [canonical(group) for group in found.values()]


def same_scores(document: Any, product: Any, target: Target) -> str:
    """Every row is there with its columns, and with the score of a clean run."""
    known = {(line["image"], line["prompt"]): line["score"] for line in target.product["out/s.jsonl"]}
    lines = product["out/s.jsonl"]
    if len(document) != len(lines):
        return f"{len(document)} rows gave {len(lines)}"
    for number, (row, line) in enumerate(zip(document, lines, strict=True), 1):
        kept = {name: value for name, value in line.items() if name not in ("row", "score", "scorer")}
        score = known.get((row["image"], row["prompt"]), line["score"])
        if line["row"] != number or canonical(kept) != canonical(plain(row)) or line["score"] != score:
            return f"row {number} became {canonical(line):.300}"
    return ""


def same_prompts(document: Any, product: Any, _target: Target) -> str:
    """The prompts are those of the file, in its order."""
    rows = [{k.casefold(): v for k, v in row.items()} if isinstance(row, dict) else {"prompt": row} for row in document]
    file = product.get("out/p/prompts.jsonl") or product["out/ours.json"]["prompts"]
    found = [(row.get("category", ""), row["prompt"]) for row in file]
    return "" if found == [((row.get("category") or "").strip(), row["prompt"]) for row in rows] else f"{found[:3]}"


def same_means(document: Any, product: Any, _target: Target) -> str:
    """The mean of a model's scores on the board is that of its file."""
    for scorer in product["out/b/leaderboard.json"]["scorers"]:
        for row in (row for row in scorer["scopes"][0]["models"] if row["name"] == document["name"]):
            scores = [image["scores"][scorer["label"]] for prompt in document["prompts"] for image in prompt["images"]]
            if not math.isclose(row["value"], math.fsum(scores) / len(scores), rel_tol=1e-6):
                return f"the mean became {row['value']}"
    return ""


def same_fields(document: Any, product: Any, _target: Target) -> str:
    """The fields of the recipe are those of the file."""
    shown = tomllib.loads(product["stdout"])
    kinds = {name: (value, isinstance(value, bool)) for name, value in shown.items()}  # 2 is 2.0, and 1 is not true
    changed = (name for name, value in document.items() if kinds.get(name) != (value, isinstance(value, bool)))
    return next((f"{name} became {shown.get(name)!r}" for name in changed), "")


def same_weights(_document: Any, product: Any, target: Target) -> str:
    """Weights of the same hash give the same scores."""
    one, other = (whole["stdout"]["scorer"]["weight_hash"] for whole in (product, target.product))
    same = product["stdout"]["ranking"] == target.product["stdout"]["ranking"]
    return "the hash stayed, the scores did not" if one == other and not same else ""


def same_facts(document: Any, _product: Any, target: Target) -> str:
    """A result with other scores, hashes, prompts or figures does not pass a check; who scored is taken as told."""
    names = {*target.document["scorers"][0]} - {"info", "reads_prompt"}
    one, other = (
        [plain(whole["prompts"]), [plain({name: scorer.get(name) for name in names}) for scorer in whole["scorers"]]]
        for whole in (document, target.document)
    )
    return "" if canonical(one) == canonical(other) else "it passed"


def same_added(_document: Any, product: Any, target: Target) -> str:
    """A scorer that is added to a result has its scores."""
    one, other = (
        [image["scores"]["random:3"] for prompt in whole["out/ours.json"]["prompts"] for image in prompt["images"]]
        for whole in (product, target.product)
    )
    return "" if one == other else "the new scores changed"


def same_others(_document: Any, product: Any, target: Target) -> str:
    """The images beside a damaged one have their scores."""
    one, other = (whole["out/s.jsonl"][:2] for whole in (product, target.product))
    return "" if canonical(one) == canonical(other) else "the scores of other images changed"


# Inputs


def write_all(folder: Path) -> None:
    """Write clean inputs of every kind, and what runs left that are not finished."""
    from PIL import Image

    import small_network
    from command_inputs import write_inputs, write_lines

    write_inputs(folder)
    small_network.register_small(folder)
    small = Image.open("b.png").resize((48, 36))
    for place in ("pictures", "lists"):
        Path(place).mkdir()
    formats = (
        "rgb.png rgba.png p.png l.png 1.png rgb.jpg l.jpg cmyk.jpg rgb.webp rgba.webp p.gif rgb.tif rgb.bmp rgb.ppm"
    )
    for name in f"{formats} rgb.avif i;16.png".split():
        mode = name.split(".")[0].upper()
        image = small.convert("L").convert(mode) if mode == "I;16" else small.convert(mode)
        image.save(f"pictures/{name}")
        rows = [{"image": image, "prompt": "cat"} for image in ("a.jpg", "b.png", f"pictures/{name}")]
        write_lines(Path(f"lists/{name}.jsonl"), rows)
    shutil.copyfile("a.jpg", "../outside.png")
    Path("items.tsv").write_text("image\tprompt\na.jpg\ta cat\nc.png\ttwo dogs\n")
    Path("items.csv").write_text("image,prompt,note\na.jpg,a cat,\nb.png,a cat,x\nc.png,two dogs,y\n")
    Path("recipe.toml").write_text(output_of("train --show-recipe tiny"))
    rows = [json.loads(line) for line in Path("suite.jsonl").read_text().splitlines()]
    Path("suite.csv").write_text("Prompt,Category\n" + "".join(f'"{r["prompt"]}",{r["category"]}\n' for r in rows))
    Path("suite.json").write_text(json.dumps([row["prompt"] for row in rows]))
    Path("suite.txt").write_text("\n".join(row["prompt"] for row in rows))
    names = [f"{row['category']}/{number // 3:05d}.png" for number, row in enumerate(rows)]
    write_lines(Path("map.jsonl"), [{"image": n, "prompt": r["prompt"]} for n, r in zip(names, rows, strict=True)])
    for words in ("--to parquet --out whole/all.parquet", "--to pairs --out pairs --allow-loss --no-images"):
        output_of(f"data convert HPDv2/ {words}")
    shutil.copytree("HPDv2/test", "pairs/images")
    for place in (".", "HPDv2/test", "imagereward", "ours/images", "pairs/images"):
        os.mkfifo(f"{place}/fifo")
        Path(f"{place}/folder").mkdir()
        Path(f"{place}/loop").symlink_to("loop")
        Path(f"{place}/leads-out.png").symlink_to(Path("../outside.png").resolve())


def write_runs() -> None:
    """Write results, checkpoints, and what runs left that are not finished."""
    bench = BENCHMARK.format("suite.jsonl").replace("out/", "results/")
    for words in (
        *(bench, bench.replace("ours", "base")),
        *(f"{TRAIN} --out done", "export done --to official --out done.pt"),
        f"evaluate --data HPDv2/test.json {QUICK} --out left-evaluate",
        f"compare renders/base renders/ours --prompts suite.jsonl {QUICK} --out left-compare",
        PAIRS.format("items.jsonl").replace("out/", "left-scored/"),
    ):
        output_of(words)
    shutil.copytree("results", "left-result")
    shutil.copytree(
        "done", "left-train", ignore=shutil.ignore_patterns("step-000002", "model.*n", "report*", "summary*")
    )
    Path("left-train/model.safetensors").unlink()
    for words, image in ((PAIRS.format("items.jsonl"), "b.png"), (bench, "renders/ours/photo/00002.png")):
        whole = Path(image).read_bytes()
        Path(image).write_bytes(whole[: len(whole) // 2])  # a broken image ends the run
        run(re.sub("(out|results)/", "left-partial/", words))
        Path(image).write_bytes(whole)


def output_of(words: str) -> str:
    """Return what a command prints that must not fail."""
    code, stdout, stderr = run(words)
    if code:
        raise RuntimeError(f"{words}: {stderr}")
    return stdout


def targets() -> list[Target]:
    """Every file that is damaged, with every command that reads it."""
    found: list[Target] = []

    def add(kind: str, file: str, words: str, check: Any = None, root: str | None = None, start: str = "") -> None:
        found.append(Target(kind=kind, file=file, words=words, check=check, root=root, start=start))

    for path in sorted(Path("pictures").iterdir()):
        add("images", str(path), f"{SCORE} {{}} --model random")
        words = PAIRS.format(f"lists/{path.name}.jsonl")
        add("images", str(path), f"{words} --image-root . --on-error skip", same_others)
    for end in ("jsonl", "csv", "tsv", "parquet"):
        add("rows", f"items.{end}", PAIRS, same_scores, ".")
    for file, root in (
        *(("HPDv2/test.json", "HPDv2/test"), ("judged/train.json", "judged/train"), ("database/test.json", "database")),
        *(
            ("imagereward/test.json", "imagereward"),
            ("HPDv3/test.json", "HPDv3"),
            ("pairs/pairs.jsonl", "pairs/images"),
        ),
        *(("ours/rankings.jsonl", "ours/images"), ("whole/all.parquet", None), ("pickapic.parquet", None)),
    ):
        add("data sets", file, "data convert {} --to jsonl --no-images --out out/c", same_groups)
        add("data sets", file, "data convert {} --to jsonl --out out/c", same_groups, root)
        add("data sets", file, "data convert {} --to parquet --out out/c.parquet", same_groups, root)
        add("data sets", file, "data inspect {} --json")
        add("data sets", file, f"evaluate --data {{}} {QUICK} --out out/e")
    add("data sets", "HPDv2/test.json", "agreement --data {} --resamples 100 --json")
    result = "results/ours.json"
    add("results", result, "benchmark leaderboard {} results/base.json --resamples 100 --out out/b", same_means)
    add("results", result, "study prompts {} results/base.json --resolution 0.5 --resamples 100 --out out/n")
    add("results", result, "benchmark verify {} --images renders/ours --suite suite.jsonl --json", same_facts)
    more = BENCHMARK.replace("{}", "suite.jsonl").replace("random", "random:3")
    add("results", "out/ours.json", more, same_added, start="left-result")
    add("checkpoints", "done/model.safetensors", f"{SCORE} --model {{}}", same_weights)
    add("checkpoints", "done/model.safetensors", "models verify {} --json")
    add("checkpoints", "done.pt", f"{SCORE} --model {{}} --arch ViT-small-test", same_weights)
    for end in ("jsonl", "json", "csv", "txt"):
        add("suites", f"suite.{end}", "benchmark prompts --suite {} --out out/p", same_prompts)
    add("suites", "suite.jsonl", BENCHMARK, same_prompts)
    add("suites", "map.jsonl", f"{BENCHMARK.replace('{}', 'suite.jsonl')} --manifest {{}}")
    add("settings", "recipe.toml", "train --show-recipe {}", same_fields)
    add("settings", "settings.json", f"{BENCHMARK.replace('{}', 'suite.jsonl')} --meta {{}}")
    for start, words, files in (
        ("partial", PAIRS.format("items.jsonl"), "s.jsonl.partial"),
        ("partial", BENCHMARK.format("suite.jsonl"), "ours.json.partial"),
        ("scored", PAIRS.format("items.jsonl"), "s.jsonl s.jsonl.manifest.json"),
        ("evaluate", f"evaluate --data HPDv2/test.json {QUICK} --out out", "scores.ledger manifest.json result.json"),
        (
            "compare",
            f"compare renders/base renders/ours --prompts suite.jsonl {QUICK} --out out",
            "scores.ledger compare.json",
        ),
    ):
        for file in files.split():
            add("unfinished runs", f"out/{file}", words, start=f"left-{start}")
    for path in sorted(path for path in Path("left-train").rglob("*") if path.is_file()):
        words = f"{TRAIN} --resume --out out"
        add("training", str(Path("out", path.relative_to("left-train"))), words, start="left-train")
    return found


SHARES = {"images": 16, "rows": 12, "data sets": 30, "results": 12, "checkpoints": 8, "suites": 8, "settings": 6}
SHARES |= {"unfinished runs": 13, "training": 2}
"""Share of each kind in the inputs."""


# One input


def run(words: str) -> tuple[int, str, str]:
    """Run `hpskit` in this process and this folder: status, output, errors."""
    from conftest import run_here

    done = run_here(["hpskit", *shlex.split(words)], None)
    return done.returncode, done.stdout, done.stderr


def prepare(target: Target) -> None:
    for place in ("out", "home"):
        shutil.rmtree(place, ignore_errors=True)
    if target.start:
        shutil.copytree(target.start, "out")
    if target.product is None:
        target.document = target.read(Path(target.file).read_bytes())
        stdout = output_of(target.command)
        target.product = product_of("" if target.start else stdout)
        prepare(target)


def put(rng: Random, target: Target) -> tuple[str, str | None]:
    """Damage the file; return what was done, and the verdict."""
    path = Path(target.file)
    data = path.read_bytes()
    path.unlink()
    what = rng.choice(("folder", "fifo", path.name, "nothing", "/dev/zero")) if rng.random() < 0.03 else ""
    verdict: str | None = "refuse"
    if what == "folder":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    elif what:
        path.symlink_to(what)
    else:
        content, what, verdict = damage(rng, path, data)
        path.write_bytes(content)
        if verdict is None and target.check:
            return what, None
    return what, "same or refuse" if target.start else verdict


def kind_of(number: int, seed: int) -> str:
    return Random(f"{seed}/{number}").choices([*SHARES], [*SHARES.values()])[0]


def try_input(number: int, seed: int, found: list[Target], keep: Path | None = None) -> dict[str, Any]:
    """Damage one file, run its command, say what is wrong with what it does, and put everything back."""
    rng, kind = Random(f"damage {seed}/{number}"), kind_of(number, seed)
    target = rng.choice([target for target in found if target.kind == kind])
    prepare(target)
    path = Path(target.file)
    original = path.read_bytes()
    code, stderr, problems, before, began = None, "", list[str](), set[Any](), time.process_time()
    try:
        what, verdict = put(rng, target)
        document = None
        if verdict is None:
            verdict, document = verdict_of(target)
        if keep:
            shutil.copytree(".", keep, symlinks=True, ignore=shutil.ignore_patterns("fifo"), dirs_exist_ok=True)
        before, began = tree(), time.process_time()
        with limited(problems, IMAGES if target.kind == "images" else MEMORY):
            code, stdout, stderr = run(target.command)
            problems += [*manners(code, stdout, stderr), *judged(code, stdout, verdict, document, target)]
        problems += [f"changed or made outside --out: {entry[0]}" for entry in sorted(before ^ tree())[:3]]
    finally:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        if not target.start:
            path.write_bytes(original)
    about = {"number": number, "kind": kind, "command": target.command, "file": target.file, "what": what}
    answer = {"verdict": verdict or "as read", "code": code, "seconds": round(time.process_time() - began, 2)}
    return {**about, **answer, "error": stderr.strip()[-400:], "problems": problems}


class TooLongError(BaseException):
    """An input takes too much time; no command may catch it."""


@contextlib.contextmanager
def limited(problems: list[str], most: int) -> Iterator[None]:
    """Bound time and memory, in bytes, of a block."""

    def late(*_: object) -> None:
        raise TooLongError

    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, late)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)  # of its own work, and, if it waits for something, of the clock
    signal.alarm(10 * SECONDS)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak of memory
    before = memory("VmRSS")
    try:
        yield
    except TooLongError:
        problems.append(f"takes more than {SECONDS} s")
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
    if (taken := memory("VmHWM") - before) > most:
        problems.append(f"takes {taken >> 20} MB")


def memory(name: str) -> int:
    """Return a figure of /proc/self/status in bytes; 0 where there is none."""
    with contextlib.suppress(OSError):
        if found := re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text()):
            return int(found[1]) * 1024
    return 0


def tree() -> set[tuple[str, int, int]]:
    """Name, size and time of every file but those of --out and of hpskit's home."""
    found = set()
    for folder, folders, files in os.walk(".."):
        folders[:] = [name for name in folders if f"{folder}/{name}" not in ("../work/out", "../work/home")]
        for status, name in ((os.lstat(f"{folder}/{name}"), name) for name in files):
            found.add((f"{folder}/{name}", status.st_size, status.st_mtime_ns))
    return found


def manners(code: int, stdout: str, stderr: str) -> Iterator[str]:
    """What is wrong with status and words of a command, whatever it was given."""
    lines = stderr.splitlines()
    if "Traceback" in stderr:
        yield f"traceback: {lines[-1]:.300}"
    elif code == 2:
        if not lines or not lines[-1].startswith("error: ") or sum(line.startswith("error: ") for line in lines) > 1:
            yield f"an error that is not one line: {stderr[-200:]!r}"
        elif len(lines[-1]) > LONGEST or not lines[-1].isprintable():
            yield f"an error of {len(lines[-1])} characters: {lines[-1]!a:.300}"
    elif code:
        yield from () if code == 1 else (f"status {code}",)
    if raw := {sign for sign in stdout + stderr if unicodedata.category(sign) in ("Cc", "Cs")} - {"\n", "\t"}:
        yield f"control characters in the output: {sorted(map(ascii, raw))}"


def verdict_of(target: Target) -> tuple[str | None, Any]:
    """Read the damaged file; return what must come of it, if that is certain, and what it means."""
    try:
        document = target.read(Path(target.file).read_bytes())
    except (ValueError, RecursionError):
        return "refuse", None
    same = canonical(document) == canonical(target.document)
    return "same" if same else "refuse" if target.is_wrong(document) else None, document


def judged(code: int, stdout: str, verdict: str | None, document: Any, target: Target) -> Iterator[str]:
    """What is wrong with status and results, by what was done to the input."""
    product = product_of("" if target.start else stdout) if code == 0 else {}
    skipped = code == 0 and target.check is same_others and product["out/s.jsonl"][2]["score"] is None
    if code or skipped:
        if verdict == "same":
            yield "harmless, and was refused"
    elif verdict == "refuse":
        yield "cannot be right, and was accepted"
    elif verdict and canonical(product) != canonical(target.product):
        yield "the result changed"
    if code == 0 and verdict is None and target.check and (said := target.check(document, product, target)):
        yield said


# All of them


def worker(seed: int) -> None:
    """Read numbers, and write a line of JSON for each."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory(prefix="hpskit-fuzz-", dir=MEMORY_DISK) as folder:
        found = ready(Path(folder))
        os.sync = os.fsync = lambda *_: None  # it is not about disks that fail
        most = memory("VmSize") + (3 << 30)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        print("ready", file=answers, flush=True)
        for line in sys.stdin:
            print(json.dumps(try_input(int(line), seed, found)), file=answers, flush=True)


def ready(folder: Path, *, runs: bool = True) -> list[Target]:
    """Make the inputs in a folder and go there; without `runs` those that no command has to make."""
    import torch

    from conftest import run_here  # which sees to it that nothing is fetched

    assert run_here
    torch.set_num_threads(1)
    (folder / "work").mkdir()
    os.chdir(folder / "work")
    os.environ["HPSKIT_HOME"], os.environ["COLUMNS"] = f"{folder}/work/home", "200"
    write_all(folder / "work")
    if runs:
        write_runs()
    return targets()


def feed(numbers: Iterator[int], seed: int, done: Callable[[dict[str, Any]], None]) -> None:
    """Give numbers to a worker; one that dies or hangs is a problem of its number, and another goes on."""
    words = [sys.executable, __file__, "--seed", str(seed), "--worker"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    line = ""
    while not line:
        with subprocess.Popen(words, env=environment, stdin=-1, stdout=-1, text=True, bufsize=1) as process:
            assert process.stdin
            assert process.stdout
            process.stdout.readline()  # that it is ready
            for number in numbers:
                process.stdin.write(f"{number}\n")
                timer = threading.Timer(30 * SECONDS, process.kill)
                timer.start()
                line = process.stdout.readline()
                timer.cancel()
                if not line:
                    ended = f"the process ended ({process.wait()})"
                    about = {"number": number, "kind": kind_of(number, seed), "code": None, "seconds": 0}
                    done({**about, "problems": [ended]})
                    break
                done(json.loads(line))
            else:
                return


def run_all(seed: int, numbers: list[int], workers: int) -> list[dict[str, Any]]:
    """Try inputs on several processes."""
    from rich.progress import Progress

    answers: list[dict[str, Any]] = []
    with Progress() as bar:
        task = bar.add_task("inputs", total=len(numbers))

        def done(answer: dict[str, Any]) -> None:
            answers.append(answer)
            bar.update(task, advance=1)
            if answer["problems"]:
                bar.console.print(told(answer), markup=False, highlight=False, soft_wrap=True, end="")

        left = iter(numbers)
        threads = [threading.Thread(target=feed, args=(left, seed, done)) for _ in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return answers


def told(answer: dict[str, Any]) -> str:
    """Write the problems of an input, and what was done to it."""
    problems = "".join(f"{answer['number']}: {problem}\n" for problem in answer["problems"])
    return problems + "".join(
        f"    {answer[name]}\n" for name in ("file", "what", "command", "error") if name in answer
    )


def table(answers: list[dict[str, Any]]) -> Iterator[str]:
    """Write the figures of each kind."""
    columns = ("inputs", "exit 0", "exit 1", "exit 2", "problems", "seconds")
    yield f"{'kind':16}{''.join(f'{name:>10}' for name in columns)}"
    for kind in (*sorted({answer["kind"] for answer in answers}), ""):
        own = [answer for answer in answers if kind in ("", answer["kind"])]
        codes = Counter(answer["code"] for answer in own)
        figures = [len(own), codes[0], codes[1], codes[2], sum(bool(answer["problems"]) for answer in own)]
        seconds = sum(answer["seconds"] for answer in own)
        yield f"{kind or 'all':16}{''.join(f'{figure:10,.0f}' for figure in (*figures, seconds))}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=10_000, help="inputs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=SHARES, help="only inputs of this kind")
    parser.add_argument("--only", type=int, help="number of one input")
    parser.add_argument("--keep", type=Path, help="with --only: a new folder for its files")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        worker(asked.seed)
    elif asked.only is not None:
        keep = asked.keep and asked.keep.absolute()
        with tempfile.TemporaryDirectory(prefix="hpskit-fuzz-", dir=MEMORY_DISK) as folder:
            answer = try_input(asked.only, asked.seed, ready(Path(folder)), keep)
            print(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        fitting = (number for number in itertools.count() if asked.kind in (None, kind_of(number, asked.seed)))
        answers = run_all(asked.seed, [*itertools.islice(fitting, asked.n)], asked.workers)
        print("\n".join(table(answers)))
        sys.exit(any(answer["problems"] for answer in answers))


if __name__ == "__main__":
    main()
