"""A CLIP of half a million parameters, for tests that train, save and resume many times."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import open_clip

from hpskit.training.recipes import tiny
from hpskit.training.trainer import TrainConfig
from made_up_task import write_task

__all__ = ["SMALL", "register_small", "small_run"]

SMALL = "ViT-small-test"
_CONFIG = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 8, "head_width": 8, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1},
}


def register_small(folder: Path) -> None:
    """Make it known to open_clip; its description stays in `folder`."""
    path = folder / f"{SMALL}.json"
    path.write_text(json.dumps(_CONFIG))
    open_clip.add_model_config(path)


def small_run(folder: Path, settings: Sequence[str], *, pairs: int, held_out: int) -> TrainConfig:
    """The made-up task in `folder`, and a run in `folder/whole` that learns it."""
    register_small(folder)
    write_task(folder, pairs=pairs, seed=0)
    write_task(folder, pairs=held_out, seed=0, held_out=True)
    return TrainConfig(
        recipe=tiny().with_settings([f"architecture={SMALL}", *settings]),
        data=(str(folder / "train.json"),),
        validation=str(folder / "held-out.json"),
        out=folder / "whole",
        tensorboard=False,
        workers=0,
    )
