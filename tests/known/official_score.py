"""Score images by the official package's own `score`, with any checkpoint: `python official_score.py JOB.json`.

Run it where `hpsv2` 1.2.0 is installed (`benchmarks/against_official.py` makes an environment in `.bench/official`).
JOB.json has `architecture`, `config` (its file in open_clip's layout), `checkpoint`, `prompt` and `images`; the scores
are printed as a JSON list. `score` itself knows ViT-H-14 alone and would fetch its weights; so the network that it
fills with the checkpoint is put where it keeps it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from hpsv2 import img_score
from hpsv2.src.open_clip import add_model_config, create_model_and_transforms


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    add_model_config(job["config"])
    model, _, preprocess = create_model_and_transforms(
        job["architecture"], None, device="cpu", light_augmentation=True, aug_cfg={}, output_dict=True
    )
    img_score.model_dict.update(model=model, preprocess_val=preprocess)
    scores = img_score.score(job["images"], job["prompt"], cp=job["checkpoint"])
    json.dump([float(score) for score in scores], sys.stdout)


if __name__ == "__main__":
    main()
