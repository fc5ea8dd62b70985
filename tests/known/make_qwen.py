"""Compute the known answers of hpsv3 and vqascore by their originals: `python make_qwen.py FILE KIND [KEY]`.

Run it where the original is installed; what was used is written beside the scores. The environments:

    hpsv3 qwen2_vl                          pip install hpsv3==1.0.0 "pillow<13" "huggingface_hub<1" trl==0.11.4
                                            peft==0.13.2 matplotlib tensorboard (deepspeed is not needed)
    hpsv3 qwen2_vl "with transformers 5"    pip install "hpskit[vlm]"
    hpsv3 qwen2_vl "with m-rope"            likewise
    vqascore qwen2_5_vl                     https://github.com/linzhiqiu/t2v_metrics, commit 6ecb74f (its 3.1), and pip
    vqascore qwen3_vl                       install "transformers>=5,<6" accelerate qwen-vl-utils==0.0.14 "pillow<13"

The originals get small networks of the published architectures with stand-in weights (see `stand_ins.py`), in
float32 on a CPU.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import json
import re
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import stand_ins
import torch
from PIL import Image

Answer = Callable[[str, Path], list[float]]
"""Prompt and image -> the score, and the second number of hpsv3."""

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}{% if c['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""What the published chat templates come to for one image and one text; Qwen2's and 2.5's have a system line before."""
SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"


def repository(folder: Path, kind: str) -> Path:
    """What transformers loads as a small model of that kind."""
    import transformers

    for name, content in stand_ins.qwen(kind).items():
        (folder / name).write_text(content, encoding="utf-8")
    words = {"tokenizer_class": "Qwen2Tokenizer", "pad_token": "<|endoftext|>", "eos_token": "<|im_end|>"}
    chat = CHAT if kind == "qwen3_vl" else SYSTEM + CHAT
    (folder / "tokenizer_config.json").write_text(json.dumps({**words, "chat_template": chat}))
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": chat}))
    name = {"qwen2_vl": "Qwen2VL", "qwen2_5_vl": "Qwen2_5_VL", "qwen3_vl": "Qwen3VL"}[kind]
    config = transformers.AutoConfig.from_pretrained(folder)
    model = getattr(transformers, f"{name}ForConditionalGeneration")(config)
    model.save_pretrained(folder)
    (folder / "config.json").write_text(stand_ins.qwen(kind)["config.json"], encoding="utf-8")
    (folder / "generation_config.json").write_text(stand_ins.qwen(kind)["generation_config.json"], encoding="utf-8")
    return folder


def hpsv3(folder: Path, kind: str) -> tuple[Answer, dict[str, torch.Tensor]]:
    """`HPSv3RewardInferencer.reward` of the package, with its own configuration but for where Qwen2-VL lies."""
    import hpsv3
    from hpsv3 import HPSv3RewardInferencer, inference
    from omegaconf import OmegaConf
    from safetensors.torch import save_file

    settings = OmegaConf.load(Path(hpsv3.__file__).with_name("config") / "HPSv3_7B.yaml")
    settings.model_name_or_path = str(repository(folder, kind))
    settings.output_dir = str(folder)
    OmegaConf.save(settings, folder / "small.yaml")
    kept: dict[str, torch.Tensor] = {}

    def create(**arguments: Any) -> Any:
        """Leave a checkpoint where the package then finds it."""
        model, processor, nothing = original(**arguments)
        kept.update((name, value.clone()) for name, value in stand_ins.fill(model.float()).items())
        save_file(kept, folder / "HPSv3.safetensors")
        return model, processor, nothing

    original = inference.create_model_and_processor
    with mock.patch.object(inference, "create_model_and_processor", create):
        found = HPSv3RewardInferencer(str(folder / "small.yaml"), str(folder / "HPSv3.safetensors"), device="cpu")
    return lambda prompt, image: found.reward([str(image)], [prompt])[0].tolist(), kept


def in_transformers_5(folder: Path, kind: str, *, grid: bool) -> Answer:
    """The two ways to call the body, by the class of transformers 5 with the same weights.

    The official forward gives it embeddings in which those of the image were laid, and no tokens (`grid` False); the
    port in verl-omni gives it tokens and the shape of the image (True). Text, images and head are those above.
    """
    from transformers import AutoProcessor, Qwen2VLForConditionalGeneration

    from hpskit.models.networks.hpsv3 import INSTRUCTION
    from hpskit.models.networks.qwen import CHATS
    from hpskit.pixels import Preprocessing

    shown = Preprocessing(size=28, resize="multiple", area=(200704, 200704))
    question = CHATS[kind].format(INSTRUCTION)
    known = json.loads(Path(__file__).with_name("hpsv3.json").read_text())[kind]
    state = stand_ins.state({name: [*map(int, shape.split("x"))] for name, shape in known["shapes"].items()})
    model = Qwen2VLForConditionalGeneration.from_pretrained(repository(folder, kind)).eval()
    model = model.to(torch.bfloat16).float()  # as both do, which rounds the frequencies of the positions
    processor = AutoProcessor.from_pretrained(folder, padding_side="right")
    processor.tokenizer.add_special_tokens({"additional_special_tokens": ["<|Reward|>"]})
    model.resize_token_embeddings(len(processor.tokenizer), mean_resizing=False)
    renamed = {
        re.sub(r"^model\.(?!visual)", "model.language_model.", re.sub(r"^visual", "model.visual", name)): value
        for name, value in state.items()
    }
    head = {name: renamed.pop(name) for name in [*renamed] if name.startswith("rm_head")}
    model.load_state_dict(renamed)

    def score(prompt: str, image: Path) -> list[float]:
        picture = Image.open(image).convert("RGB")
        height, width = shown(picture).shape[-2:]
        picture = picture.resize((width, picture.height)).resize((width, height))  # the order of every Pillow before 13
        text = question.replace("{}", prompt)
        batch = processor(text=[text], images=[picture], return_tensors="pt")
        if grid:
            read = model.model(**batch)
        else:
            embeddings = model.get_input_embeddings()(batch["input_ids"])
            seen = model.model.visual(batch["pixel_values"], grid_thw=batch["image_grid_thw"]).pooler_output
            place = (batch["input_ids"] == model.config.image_token_id)[..., None].expand_as(embeddings)
            embeddings = embeddings.masked_scatter(place, seen)
            read = model.model(inputs_embeds=embeddings, attention_mask=batch["attention_mask"])
        reward = processor.tokenizer.convert_tokens_to_ids("<|Reward|>")
        x = read.last_hidden_state[batch["input_ids"] == reward]
        for number in (0, 3, 5):
            x = torch.nn.functional.linear(x, head[f"rm_head.{number}.weight"], head[f"rm_head.{number}.bias"])
            x = x if number == 5 else x.relu()
        return x[0].tolist()

    return score


def vqascore(folder: Path, kind: str) -> tuple[Answer, dict[str, torch.Tensor]]:
    """`forward` of t2v_metrics' model; what its package imports beside it for videos is passed over."""
    sys.modules["decord"] = mock.MagicMock(__spec__=None)
    spec = importlib.util.find_spec("t2v_metrics")
    assert spec is not None
    package = types.ModuleType("vqascore_models")
    package.__path__ = [str(Path(str(spec.origin)).parent / "models/vqascore_models")]
    sys.modules["vqascore_models"] = package
    models = types.ModuleType("vqascore_models.vqa_model")
    models.VQAScoreModel = object
    sys.modules[models.__name__] = models
    three = kind == "qwen3_vl"
    module = importlib.import_module(f"vqascore_models.{'qwen3vl_model' if three else 'qwen2vl_model'}")
    name = "qwen3-vl-2b" if three else "qwen2.5-vl-3b"
    entry = (module.QWEN3_VL_MODELS if three else module.QWEN2_VL_MODELS)[name]
    entry["tokenizer"]["path"] = entry["model"]["path"] = str(repository(folder, kind))
    entry["model"]["torch_dtype"] = torch.float32
    found = (module.Qwen3VLModel if three else module.Qwen2VLModel)(name, device="cpu")
    state = stand_ins.fill(found.model)
    if three:  # whose table of words has two names, of which the second is not saved
        del state["lm_head.weight"]
        table = "model.language_model.embed_tokens.weight"
        state[table].copy_(stand_ins.tensor(table, tuple(state[table].shape)))
    return lambda prompt, image: found.forward([str(image)], [prompt]).tolist(), state


PACKAGES = ("torch", "torchvision", "pillow", "transformers", "tokenizers", "hpsv3", "qwen-vl-utils")


def versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def main(name: str, kind: str, key: str = "scores") -> None:
    target = Path(__file__).with_name(f"{name}.json")
    known = json.loads(target.read_text()) if target.exists() else {}
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place, torch.no_grad():
        folder = Path(place)
        images = stand_ins.pictures(folder)
        mine = known.setdefault(kind, {})
        if key == "scores":
            answer, state = ORIGINALS[name](folder, kind)
            mine["versions"] = versions()
            mine["shapes"] = {parameter: "x".join(map(str, value.shape)) for parameter, value in state.items()}
        else:
            answer = in_transformers_5(folder, kind, grid=key == "with m-rope")
            mine[f"versions {key}"] = versions()
        found = {image.stem: [answer(prompt, image) for prompt in stand_ins.PROMPTS] for image in images}
        mine[key] = {stem: [values[0] for values in rows] for stem, rows in found.items()}
        if name == "hpsv3" and key == "scores":
            mine["log_spread"] = {stem: [values[1] for values in rows] for stem, rows in found.items()}
    target.write_text(json.dumps(known, indent=1) + "\n")


ORIGINALS = {"hpsv3": hpsv3, "vqascore": vqascore}

if __name__ == "__main__":
    main(*sys.argv[1:4])
