"""A CLIP of half a million parameters, for tests that train, save and resume many times."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip

__all__ = ["SMALL", "register_small"]

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
