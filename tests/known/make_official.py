"""Compute what the official package hpsv2 1.2.0 answers: `python make_official.py small|real`, into official.json.

    python make_official.py JOB.json     # or only score the images of a job, and print the scores

Run it where that package is installed (`benchmarks/against_official.py` makes an environment in `.bench/official`). A
job has `architecture`, `config` (its file in open_clip's layout), `checkpoint`, `prompt` and `images`.

Everything that scores, counts or trains below is the package's own. It knows ViT-H-14 alone and would fetch its
weights; so a network with stand-in weights (see `stand_ins.py`) is put where it keeps the one that it has loaded.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import stand_ins
import torch
from hpsv2 import evaluation, img_score
from hpsv2.src.open_clip import add_model_config, create_model_and_transforms, loss, transform
from hpsv2.src.training import scheduler, train
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from command_inputs import write_judged

PACKAGES = ("hpsv2", "torch", "torchvision", "pillow", "scikit-learn")


def load(architecture: str) -> Any:
    """Put a network where the package keeps the one that it has loaded, and return its transform."""
    model, _, preprocess = create_model_and_transforms(
        architecture, None, device="cpu", light_augmentation=True, aug_cfg={}, output_dict=True
    )
    for module in (img_score, evaluation):
        module.model_dict.update(model=model, preprocess_val=preprocess)
    return preprocess


def stand_in(architecture: str, folder: Path) -> str:
    """Load an architecture with stand-in weights; return their file, which `score` and `evaluate` read again."""
    load(architecture)
    path = folder / "stand-in.pt"
    torch.save({"state_dict": stand_ins.fill(img_score.model_dict["model"])}, path)
    return str(path)


def scores(checkpoint: str, images: list[Path]) -> dict[str, list[float]]:
    """The scores of every image for each of the prompts."""
    paths = [str(image) for image in images]
    columns = [img_score.score(paths, prompt, cp=checkpoint) for prompt in stand_ins.PROMPTS]
    return {image.stem: [float(x) for x in row] for image, row in zip(images, zip(*columns, strict=True), strict=True)}


def transformed(preprocess: Any, images: list[Path]) -> dict[str, dict[str, list[float]]]:
    """A sample of the tensors, as the package makes them today, and as with the torchvision of the paper's time."""
    found = {}
    for name, antialias in (("antialias", True), ("no antialias", False)):
        resize = functools.partial(transform.F.resize, antialias=antialias)
        with mock.patch.object(transform.F, "resize", resize):
            found[name] = {image.name: stand_ins.sample(preprocess(Image.open(image))) for image in images}
    return found


def printed(mode: str, images: Path, data: Path, checkpoint: str) -> list[list[str]]:
    """The words of the lines that `evaluate` ends with."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.chdir(data):
        evaluation.evaluate(mode, str(images), str(data), checkpoint)
    return [line.split() for line in output.getvalue().splitlines() if ":" in line or "model" in line.split()]


def evaluated(folder: Path, checkpoint: str) -> dict[str, Any]:
    """Its accuracies on made-up judgements, and its benchmark."""
    write_judged(folder)
    (folder / "imagereward/test.json").rename(folder / "imagereward/ImageReward_test.json")
    stand_ins.write_benchmark(folder)
    return {
        "test": printed("test", folder / "HPDv2/test", folder / "HPDv2", checkpoint)[-1],
        "ImageReward": printed("ImageReward", folder / "imagereward", folder / "imagereward", checkpoint)[-1],
        "benchmark": sorted(printed("benchmark", folder / "model", folder / "prompts", checkpoint)[-3:]),
    }


def losses() -> dict[str, float]:
    """Of a batch of pairs and of one of groups."""
    images, prompts = stand_ins.features("images", 9), stand_ins.features("prompts", 5)
    pairs = torch.cat([images[:5], images[4:]])
    shares = torch.tensor(stand_ins.SHARES)
    logits, sizes = images @ prompts[:3].T, torch.tensor(stand_ins.SIZES)
    return {
        "pair": float(loss.HPSLoss()(100 * prompts @ pairs.T, torch.cat([shares, 1 - shares]))),
        "best of group": float(loss.PreferenceLoss()(100 * logits, sizes, torch.tensor(stand_ins.BEST))),
        "margin ranking": float(loss.RankingLoss()(logits, sizes, torch.tensor(stand_ins.RANKS))),
    }


def accuracies() -> dict[str, list[float]]:
    """Of the made-up rankings, group by group; the order of the scores is found as its `evaluate` does."""
    found: dict[str, list[float]] = {"hpdv2": [], "imagereward": []}
    for values, ranks in stand_ins.rankings():
        order = torch.argsort(-torch.tensor(values)).tolist()
        found["hpdv2"].append(train.inversion_score([order.index(n) for n in range(len(order))], ranks))
        found["imagereward"].append(train.calc_ImageReward(values, ranks))
    return found


def learning_rates() -> dict[int, float]:
    """Of the published recipe: 4,000 steps up to 3.3e-6, of which 500 warm up."""
    rate = scheduler.cosine_lr(torch.optim.SGD([torch.zeros(1)], lr=1.0), 3.3e-6, 500, 4000)
    return {step: float(rate(step)) for step in (0, 1, 100, 499, 500, 501, 1000, 2250, 3999)}


def small(folder: Path) -> dict[str, Any]:
    (folder / "small.json").write_text(json.dumps(stand_ins.SMALL_CLIP))
    add_model_config(folder / "small.json")
    checkpoint = stand_in("small", folder)
    images = stand_ins.shapes(folder)
    return {
        "scores": scores(checkpoint, images[:6]),
        "evaluate": evaluated(folder, checkpoint),
        "transform": transformed(img_score.model_dict["preprocess_val"], images),
        "losses": losses(),
        "accuracy": accuracies(),
        "learning rate": learning_rates(),
    }


def real(folder: Path) -> dict[str, Any]:
    """The published architecture: 4 GB, and minutes."""
    return {"scores": scores(stand_in("ViT-H-14", folder), stand_ins.pictures(folder))}


def main(what: str) -> None:
    torch.set_num_threads(1)
    if what.endswith(".json"):
        job = json.loads(Path(what).read_text())
        add_model_config(job["config"])
        load(job["architecture"])
        found = img_score.score(job["images"], job["prompt"], cp=job["checkpoint"])
        json.dump([float(score) for score in found], sys.stdout)
        return
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    with tempfile.TemporaryDirectory() as folder:
        found = {"small": small, "real": real}[what](Path(folder))
    target = Path(__file__).with_name("official.json")
    known = json.loads(target.read_text()) if target.exists() else {}
    target.write_text(json.dumps({**known, what: {"versions": versions, **found}}, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
