"""Small inputs of every kind that commands take, the same each time: parts of two photographs, better and worse."""

from __future__ import annotations

import functools
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageEnhance, ImageFilter

from made_up_task import write_task

SIDE = 96
STYLES = ("anime", "photo", "painting")
WORDS = ("temple", "flower", "lake", "garden", "roof", "petal", "tower", "meadow", "bridge", "leaf")


@functools.cache
def photographs() -> list[Image.Image]:
    """The temple and the flower that scikit-learn ships, at half their size."""
    from sklearn.datasets import load_sample_images

    return [Image.fromarray(array).reduce(2) for array in load_sample_images().images]


def part(number: int) -> Image.Image:
    """A square of one of the photographs, another for each number."""
    photograph = photographs()[number % 2]
    left, top = number * 37 % (photograph.width - SIDE), number * 23 % (photograph.height - SIDE)
    return photograph.crop((left, top, left + SIDE, top + SIDE))


def spoil(image: Image.Image, how: int) -> Image.Image:
    """The image as it is (0), blurred (1), compressed (2), or washed out (3)."""
    if how == 1:
        return image.filter(ImageFilter.GaussianBlur(1.5))
    if how == 2:
        buffer = io.BytesIO()
        image.save(buffer, "jpeg", quality=8)
        return Image.open(buffer).convert("RGB")
    if how == 3:
        return ImageEnhance.Contrast(ImageEnhance.Color(image).enhance(0.4)).enhance(0.5)
    return image


def write_inputs(folder: Path) -> None:
    write_scoring(folder)
    write_suite(folder)
    write_judged(folder)
    write_training_run(folder)
    write_raw_prompts(folder)
    write_task(folder / "judged", pairs=16, seed=0)
    write_task(folder / "judged", pairs=8, seed=0, held_out=True)


def write_scoring(folder: Path) -> None:
    """Three images, and lists of them in each format; the list in CSV names a file that is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(("a.jpg", "b.png", "c.png")):
        spoil(part(0), number).save(folder / name, **({"quality": 92} if name == "a.jpg" else {}))
    rows = [{"image": image, "prompt": prompt} for prompt in ("a cat", "a temple") for image in ("a.jpg", "b.png")]
    write_lines(folder / "items.jsonl", rows)
    pq.write_table(pa.Table.from_pylist(rows), folder / "items.parquet")
    (folder / "items.csv").write_text("image,prompt\na.jpg,a cat\nmissing.png,a cat\nc.png,two dogs\n")
    write_tables(folder / "tables")


def write_training_run(folder: Path) -> None:
    """Images of ten steps with their rewards, in `run/`, and what a watch saw, in `watch.jsonl`."""
    rows, seen = [], []
    for number in range(40):
        name = f"step_{10 * (number // 4)}/{number % 4}.png"
        (folder / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        part(number).crop((0, 0, SIDE, SIDE * 2 // 3)).save(folder / "run" / name)
        rows.append({"image": name, "prompt": ("a temple", "a flower")[number % 2], "reward": number * 7 % 11 / 10})
    for step in range(1, 31):
        late = max(0, step - 20)
        alarm = late > 4
        z = {"reward": 0.9 * late, "saturation": 0.8 * late, "contrast": 0.7 * late} if step > 8 else {}
        line: dict[str, Any] = {"step": step, "reward": 0.1 * late, "held_out": 1 - 0.05 * late}
        line |= {"signs": {"saturation": 0.3 + 0.02 * late, "contrast": 0.2 + 0.01 * late}, "z": z}
        line |= {"out": ["saturation", "contrast"] if alarm else [], "rises": late > 3, "falls": False, "same": []}
        seen.append(line | {"worst": [f"step {step}, image 3"] if alarm else [], "alarm": alarm})
    write_lines(folder / "run/log.jsonl", rows)
    write_lines(folder / "watch.jsonl", seen[:20])
    write_lines(folder / "hacked.jsonl", seen)


def write_tables(folder: Path) -> None:
    """The same images as others have them: in parquet files, in tars, and compared by people."""
    folder.mkdir()
    names = ("a.jpg", "b.png", "c.png")
    for shard in range(2):
        rows = []
        with tarfile.open(folder / f"shard-{shard:04}.tar", "w") as archive:
            for name in names:
                data = (folder.parent / name).read_bytes()
                (folder / name).write_bytes(data)
                rows.append({"image": {"bytes": data, "path": name}, "caption": "a temple", "seed": shard})
                for member, content in ((name, data), (f"{name[0]}.txt", b"a temple")):
                    header = tarfile.TarInfo(member)
                    header.size = len(content)
                    archive.addfile(header, io.BytesIO(content))
        pq.write_table(pa.Table.from_pylist(rows), folder / f"test-{shard:05}-of-00002.parquet")
    lines = [
        "caption,image_a,image_b,label",
        *(f"a temple,{a},{b},{n}" for n, (a, b) in enumerate((names[:2], names[1:]))),
    ]
    (folder / "choices.csv").write_text("\n".join(lines))


def write_suite(folder: Path) -> None:
    """Eleven prompts in three styles, rendered by three models: one good, one blurred, one mostly spoilt."""
    rows = [{"category": STYLES[n % 3], "prompt": f"a {word}, number {n}"} for n, word in enumerate([*WORDS, "moon"])]
    write_lines(folder / "suite.jsonl", rows)
    for model, ways in (("ours", (0,)), ("base", (1, 0)), ("other", (3, 2, 1))):
        for number, row in enumerate(rows):
            path = folder / "renders" / model / row["category"] / f"{number // 3:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            spoil(part(number), ways[number % len(ways)]).save(path)
    (folder / "settings.json").write_text(json.dumps({"sampler": "none", "steps": 1}))


def write_judged(folder: Path) -> None:
    """Twelve groups of four images, judged by three or four of five people who err, in every layout."""
    rng = np.random.default_rng(7)
    people = [f"person-{number}" for number in range(5)]
    groups = []
    for number in range(12):
        judges = rng.choice(people, size=3 + number % 2, replace=False)
        ranks = []
        for _ in judges:
            worth = np.arange(4) + rng.normal(0, 1.0, 4)
            ranks.append([int(1 + (worth < own).sum()) for own in worth])
        names = [f"{number:02d}-{way}.png" for way in range(4)]
        prompt = f"a {WORDS[number % len(WORDS)]} of {number} people, {STYLES[number % 3]}"
        groups.append({"prompt": prompt, "images": names, "judges": [str(judge) for judge in judges], "ranks": ranks})
    for place in ("HPDv2/test", "imagereward", "database/images/test", "HPDv3/images", "ours/images"):
        for number, group in enumerate(groups):
            for way, name in enumerate(group["images"]):
                path = folder / place / name
                path.parent.mkdir(parents=True, exist_ok=True)
                spoil(part(number), way).save(path)
    write_hpdv2(folder / "HPDv2/test.json", groups)
    write_imagereward(folder, groups)
    write_pairs(folder, groups)
    write_ours(folder / "ours/rankings.jsonl", groups)
    broken = [{"prompt": "a cat", "file_path": ["a.jpg", "b.png"], "human_preference": label} for label in ([1, 0], 3)]
    write_json(folder / "broken.json", broken)


def write_hpdv2(path: Path, groups: list[dict[str, Any]]) -> None:
    entries = []
    for group in groups:
        sums = [sum(column) for column in zip(*group["ranks"], strict=True)]
        judged = zip(group["ranks"], group["judges"], strict=True)
        notes = [{"rank": rank, "user_hash": judge} for rank, judge in judged]
        rank = [sorted(sums).index(value) + 1 for value in sums]
        entries.append(
            {"prompt": group["prompt"], "image_path": group["images"], "rank": rank, "raw_annotations": notes}
        )
    write_json(path, entries)


def write_imagereward(folder: Path, groups: list[dict[str, Any]]) -> None:
    """One person's ranking of each group, with ties: the two worst images are equal in every other group."""
    entries, rows = [], []
    for number, group in enumerate(groups):
        ranks = [min(rank, 3) if number % 2 else rank for rank in group["ranks"][0]]
        entries.append(
            {"id": f"{number:06d}-0001", "prompt": group["prompt"], "generations": group["images"], "ranking": ranks}
        )
        for name, rank in zip(group["images"], ranks, strict=True):
            row = {"image_path": f"images/test/{name}", "prompt_id": entries[-1]["id"], "prompt": group["prompt"]}
            row |= {"classification": STYLES[number % 3], "image_amount_in_total": 4, "rank": rank}
            rows.append(row | {"overall_rating": 7 - rank, "fidelity_rating": 6 - rank})
    write_json(folder / "imagereward/test.json", entries)
    write_json(folder / "database/test.json", rows)


def write_pairs(folder: Path, groups: list[dict[str, Any]]) -> None:
    """Pairs in the layouts of Pick-a-Pic, with the images inside and some ties, and of HPD v3."""
    pickapic, hpdv3 = [], []
    for number, group in enumerate(groups):
        first, second = (number % 4, (number + 1 + number // 4) % 4)
        ahead = sum(ranks[first] < ranks[second] for ranks in group["ranks"])
        votes = len(group["ranks"])
        label = 0.5 if number % 5 == 4 else float(ahead * 2 >= votes)
        pickapic.append(pickapic_row(number, group["prompt"], (first, second), label))
        row = {"prompt": group["prompt"], "choice_dist": sorted((4 * ahead, 4 * (votes - ahead) + 1), reverse=True)}
        better, worse = (first, second) if 2 * ahead > votes else (second, first)
        row |= {"confidence": 0.8, "path1": f"images/{group['images'][better]}", "model1": "one", "model2": "two"}
        hpdv3.append(row | {"path2": f"images/{group['images'][worse]}"})
    pq.write_table(pa.Table.from_pylist(pickapic), folder / "pickapic.parquet")
    write_json(folder / "HPDv3/test.json", hpdv3)


def pickapic_row(number: int, prompt: str, ways: tuple[int, int], label: float) -> dict[str, Any]:
    uids = [f"u{number}-{way}" for way in ways]
    row = {"are_different": True, "best_image_uid": "tie" if label == 0.5 else uids[label < 0.5], "caption": prompt}
    row |= {"has_label": True, "label_0": label, "label_1": 1 - label, "ranking_id": number, "user_id": number % 3}
    for side, (uid, way) in enumerate(zip(uids, ways, strict=True)):
        buffer = io.BytesIO()
        spoil(part(number), way).save(buffer, "PNG")
        row |= {f"image_{side}_uid": uid, f"image_{side}_url": f"https://example.org/{uid}"}
        row |= {f"jpg_{side}": buffer.getvalue(), f"model_{side}": f"model-{way}"}
    return row | {"num_example_per_prompt": 1, "__index_level_0__": number}


def write_ours(path: Path, groups: list[dict[str, Any]]) -> None:
    """A line for each judgement, of which some are of three images only."""
    lines = []
    for number, group in enumerate(groups):
        for which, (judge, ranks) in enumerate(zip(group["judges"], group["ranks"], strict=True)):
            line = {
                "group": number,
                "prompt": group["prompt"],
                "images": group["images"],
                "category": STYLES[number % 3],
            }
            partial = [None if which == 2 and rank == 4 else rank for rank in ranks]
            lines.append(line | {"ranks": partial, "annotator": judge, "votes": 1})
    write_lines(path, lines)


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_json(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def write_raw_prompts(folder: Path) -> None:
    """A log of raw prompts with some of what is wrong with them, and captions of photographs."""
    things = ("temple", "harbour", "kitchen", "orchard", "lighthouse", "library", "station", "bakery")
    ways = ("oil painting of a {} , 8 k, artstation ", "concept art of a {}, trending on artstation", "anime style {}")
    rows = [{"prompt": ways[n % 3].format(thing), "nsfw": n / 100} for n, thing in enumerate(things)]
    rows += [{"prompt": "Anime style kitchen!"}, {"prompt": "a letter to someone@example.com", "nsfw": 0.9}]
    write_lines(folder / "log.jsonl", [{"id": f"{n:03d}", **row} for n, row in enumerate(rows)])
    notes = [{"image_id": n, "id": n, "caption": f"A man standing in a {thing}."} for n, thing in enumerate(things)]
    painters = (f'[[generator]]\nkind = "painter"\nname = "{name}"\nsize = 64\ncare = {care}\n' for name, care in
                (("fine", 1.0), ("poor", 0.1)))  # fmt: skip
    (folder / "painters.toml").write_text("\n".join(painters))
    write_json(folder / "captions.json", {"annotations": notes})
