"""What a run says of its validation data, beside what `hpskit evaluate` says of the same weights on them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpskit.evaluation.run import Evaluation, run
from hpskit.models.training_record import read_record
from hpskit.scoring.contract import Candidate
from hpskit.scoring.scorer import load_scorer
from hpskit.training.recipes import tiny
from hpskit.training.run_folder import RunFolder, lines_of
from hpskit.training.trainer import TrainConfig, train
from made_up_task import write_task
from small_network import SMALL, register_small

GROUPS = 8


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    """A few steps in fp32, to be validated on what `held_out` of a test writes."""
    register_small(tmp_path)
    write_task(tmp_path, pairs=16, seed=0)
    write_task(tmp_path, pairs=2 * GROUPS, seed=0, held_out=True)
    settings = ("steps=4", "warmup=1", "batch=4", "validate_every=2", "save_every=2", "precision=fp32", "lr=1e-2")
    return TrainConfig(
        recipe=tiny().with_settings((f"architecture={SMALL}", *settings)),
        data=(str(tmp_path / "train.json"),),
        validation=str(tmp_path / "held-out.json"),
        out=tmp_path / "run",
        tensorboard=False,
        workers=0,
    )


def fours(folder: Path) -> list[tuple[str, list[str]]]:
    """Prompts with four images each, which are the pairs of `held-out.json` by two."""
    rows = json.loads((folder / "held-out.json").read_text())
    return [
        (one["prompt"], [*one["file_path"], *other["file_path"]])
        for one, other in zip(rows[::2], rows[1::2], strict=True)
    ]


def as_published_orders(folder: Path) -> Path:
    """The test set of HPD v2: an order of all together, and ten people, of whom some tie images or say the contrary."""
    rng, rows = np.random.default_rng(1), []
    for prompt, images in fours(folder):
        published = rng.permutation(4) + 1
        people = [rng.permutation(4) + 1 if n % 2 else rng.integers(1, 4, 4) for n in range(10)]
        annotations = [{"rank": ranks.tolist(), "user_hash": f"person-{n}"} for n, ranks in enumerate(people)]
        row = {"prompt": prompt, "image_path": images, "rank": published.tolist(), "raw_annotations": annotations}
        rows.append(row)
    (folder / "test").symlink_to(folder / "train")
    (folder / "test.json").write_text(json.dumps(rows))
    return folder / "test.json"


def as_pairs(folder: Path) -> Path:
    return folder / "held-out.json"


def as_partial_rankings(folder: Path) -> Path:
    """Three people for each group, who leave images out and tie some; one group has a published order too, and somebody
    who looked at one image only."""
    rng, lines = np.random.default_rng(2), list[dict[str, Any]]()
    for number, (prompt, images) in enumerate(fours(folder)):
        group = {"group": str(number), "prompt": prompt, "images": [f"train/{image}" for image in images]}
        if number == 0:
            lines += [{**group, "ranks": [3, 1, 2, 4], "published": True}, {**group, "ranks": [1, None, None, None]}]
            continue
        for person in range(3):
            ranks: list[int | None] = rng.integers(1, 4, 4).tolist()
            ranks[int(rng.integers(4))] = None
            lines.append({**group, "ranks": ranks, "annotator": f"person-{person}", "votes": 1 + person})
    (folder / "rankings.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "rankings.jsonl"


@pytest.mark.parametrize("held_out", [as_published_orders, as_pairs, as_partial_rankings])
def test_its_accuracies_are_those_of_an_evaluation(config: TrainConfig, tmp_path: Path, held_out: Any) -> None:
    """They were those of single judgements, where an evaluation goes by the order that the data publish."""
    path = held_out(tmp_path)
    summary = train(replace(config, validation=str(path)))
    scorer = load_scorer(config.out / "model.safetensors", precision="fp32")
    record = read_record(config.out / "model.safetensors", summary.weight_hash)
    candidates = [Candidate(label="it", scorer=scorer, training=record)]
    evaluated = run(Evaluation(data=path, out=tmp_path / "report", resamples=100), lambda: candidates).result
    (found,) = evaluated["scorers"]
    for name, rule in (("accuracy", "ties-half"), ("hpdv2", "hpdv2")):
        expected = found["accuracy"][rule]
        assert summary.validation[name]["value"] == pytest.approx(expected["value"], abs=1e-9)
    assert summary.validation["groups"] == found["accuracy"]["ties-half"]["groups"]
    assert summary.validation["pairs"] == found["accuracy"]["ties-half"]["pairs"]
    groups = evaluated["data"]["groups"]
    assert (found["training"]["seen"], found["training"]["chosen_on"]) == (0, groups)
    page = (tmp_path / "report/report.html").read_text()
    assert f"its checkpoint was chosen on this.</strong> {groups} of the {groups} groups" in page


def test_groups_without_their_files_stay_out_when_a_file_appears(config: TrainConfig, tmp_path: Path) -> None:
    """They came back into the validation, and its figures before and after could not be compared."""
    file = tmp_path / "train/held-out-3-a.png"
    content = file.read_bytes()
    file.unlink()

    def progress(what: str, *_: Any) -> None:
        if what == "training":
            file.write_bytes(content)

    summary = train(replace(config, on_broken="drop"), progress)
    assert file.exists()
    folder = RunFolder(config.out)
    (facts,) = folder.config().validation
    validations = lines_of(folder.log(), "validation")
    assert [(line["groups"], line["pairs"], line["dropped"]) for line in validations] == [(15, 15, 0)] * 2
    assert (facts.groups, facts.pairs) == (15, 15)
    assert "left out because image files are missing or empty: 1 (first: " in (config.out / "report.html").read_text()
    record = read_record(config.out / "model.safetensors", summary.weight_hash)
    assert record is not None
    assert len(record.chosen_on) == 15
