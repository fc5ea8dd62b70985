"""Folders of training runs as the trainer leaves them, with curves that look like those of a real run."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hpskit.files import publish_json
from hpskit.models.store import locate
from hpskit.models.training_record import write_record
from hpskit.training.engine import cosine_lr
from hpskit.training.recipes import Recipe, tiny
from hpskit.training.run_folder import Line, RunConfig, RunFolder, TrainState, check_of
from hpskit.training.student import Student

__all__ = ["ablation_of", "chained", "config_of", "log_of", "write_run", "write_trained"]


def config_of(recipe: Recipe, name: str = "first") -> RunConfig:
    data = {"name": "train.json", "path": "data/train.json", "format": "hpdv2-train", "ratio": 1.0}
    held_out = {"name": "test.json", "path": "data/test.json", "format": "hpdv2-test"}
    return RunConfig(
        recipe=recipe,
        data=[{**data, "groups": 6_000, "pairs": 6_000, "digest": "a" * 64}],
        validation=[{**held_out, "groups": 400, "pairs": 15_300, "digest": "b" * 64}],
        left_out=["training groups left out because they share prompts: 12 of 6,012"],
        base=None,
        parameters={"trained": 123_456, "all": 234_567},
        preprocessing="letterbox",
        package="hpskit 0.0",
        versions={},
        on_broken="drop",
        command=f"hpskit train --recipe tiny --data train.json --val test.json --out runs/{name}",
    )


def log_of(recipe: Recipe, *, best: float = 0.8, warning: bool = False, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Losses that fall from ln 2, validation that is best some time before the end, one step that had no figure."""
    rng = np.random.default_rng(seed)
    yield {"kind": "start", "step": 0, "time": 1.8e9, "processes": 1}
    for step in range(1, recipe.steps + 1):
        done = step / recipe.steps
        gain = 1 - math.exp(-4 * done)
        yield {
            "kind": "step",
            "step": step,
            "loss": float(math.log(2) - 0.22 * gain + rng.normal(0, 0.03)),
            "chance": math.log(2),
            "accuracy": None if step == 7 else float(np.clip(0.5 + (best - 0.5) * gain + rng.normal(0, 0.04), 0, 1)),
            "lr": cosine_lr(step - 1, base_lr=recipe.lr, warmup=recipe.warmup, total=recipe.steps),
            "logit_scale": 14.3 + 3 * done,
            "gradient_norm": float(1 + rng.gamma(2, 0.3)),
            "pairs": recipe.batch,
            "images": 2 * recipe.batch,
            "dropped": 1 if step == 3 else 0,
            "skipped": False,
            "seconds": float(0.6 + rng.gamma(2, 0.05)),
        }
        if step % recipe.validate_every == 0 or step == recipe.steps:
            value = best - 0.15 * (done - 0.75) ** 2
            low_high = {"low": value - 0.02, "high": value + 0.02}
            yield {
                "kind": "validation",
                "step": step,
                "loss": math.log(2) - 0.2 * gain + 0.03 * max(0, done - 0.75),
                "chance": math.log(2),
                "hpdv2": {"value": value + 0.001, **low_high},
                "accuracy": {"value": value, **low_high},
                "groups": 400,
                "pairs": 15_300,
                "dropped": 0,
            }
        if warning and step == 100:
            text = "the loss has been at ln 2 for 100 steps; check labels and learning rate"
            yield {"kind": "warning", "step": 100, "name": "stuck", "text": text}


def chained(lines: Iterable[Line]) -> Iterator[Line]:
    """Give each line as a log has it, with its `check`."""
    check = ""
    for line in lines:
        check = check_of(line, check)
        yield {**line, "check": check}


def write_run(path: Path, recipe: Recipe | None = None, **settings: Any) -> RunFolder:
    """`config.json` and `log.jsonl`."""
    recipe = recipe or tiny()
    folder = RunFolder(path)
    publish_json(folder.config_file, config_of(recipe, path.name).model_dump(mode="json"))
    folder.log_file.write_text("".join(json.dumps(line) + "\n" for line in chained(log_of(recipe, **settings))))
    return folder


def write_trained(path: Path) -> Path:
    """A run of the recipe `tiny` with weights of step 150, its best, and of step 200; they were drawn, not trained."""
    folder = write_run(path)
    for step in (150, 200):
        student = Student.build(tiny().model_copy(update={"seed": step}))
        metadata = {"kind": "hps", "architecture": "hpskit-tiny", "name": path.name, "version": f"step {step}"}
        folder.save(
            TrainState(step=step, best=150), student.network.state_dict(), {}, {**metadata, "licence": "unknown"}
        )
    shutil.copyfile(folder.weights("150")[0], folder.model)
    write_record(folder.model, weight_hash=locate(folder.model).weight_hash, data="train.json", prompts=["a red barn"])
    return path


def ablation_of(fields: dict[str, list[Any]], *, stopped: bool = False) -> dict[str, Any]:
    """What `ablation.json` holds, with an accuracy that is highest in the middle of each field."""
    rows = []
    for number, values in enumerate(itertools.product(*fields.values())):
        settings = dict(zip(fields, values, strict=True))
        far = sum(abs(fields[f].index(v) - (len(fields[f]) - 1) / 2) for f, v in settings.items())
        value = 0.82 - 0.015 * far**2 - 0.001 * number
        failed = stopped and number == 0
        span = None if failed else {"value": value, "low": value - 0.02, "high": value + 0.02}
        rows.append(
            {
                "name": ",".join(f"{field}={value}" for field, value in settings.items()),
                "settings": settings,
                "steps": 60 if failed else 200,
                "best_step": None if failed else 150,
                "accuracy": span,
                "hpdv2": span,
                "loss": None if failed else 0.5,
                "trained_parameters": 1_000_000,
                "images_per_second": 120.5,
                "weight_hash": None if failed else f"sha256:{number:064d}",
                "stopped": "step 60: the loss is not finite" if failed else None,
            }
        )
    config = config_of(tiny()).model_dump(mode="json")
    return {
        "package": "hpskit 0.0",
        "command": "hpskit ablate --recipe tiny --data train.json --val test.json --grid lr=1e-06 --out ablation",
        **{name: config[name] for name in ("recipe", "data", "validation")},
        "fields": fields,
        "runs": rows,
        "best": max((r for r in rows if r["accuracy"]), key=lambda row: row["accuracy"]["value"])["name"],
    }
