"""Compute the known answers of the baselines by their originals: `python make_baselines.py NAME small|real`.

Run it where the original is installed; what was used is written beside the scores, in `NAME.json`. The environments:

    clip-score    pip install open_clip_torch "pillow<13" scikit-learn
    aesthetic     pip install git+https://github.com/openai/CLIP "pillow<13" scikit-learn
    hps-v1        likewise
    pickscore     pip install "transformers==4.27.3" "pillow<13" open_clip_torch scikit-learn
    imagereward   pip install image-reward==1.5 "transformers==4.27.3" timm==0.6.13 fairscale "pillow<13" scikit-learn
                  and CLIP as above
    mps           as for pickscore, and einops; PYTHONPATH is a clone of https://github.com/Kwai-Kolors/MPS at be9027f

The code below is what the page of each original shows, but for the weights (see `stand_ins.py`), which nobody has to
download, and for where a tokenizer's word list comes from.
"""

from __future__ import annotations

import copy
import gzip
import importlib.metadata
import importlib.util
import json
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import stand_ins
import torch
from PIL import Image

Score = Callable[[str, Path], float]

VIT_L = {"embed_dim": 768, "image_resolution": 224, "vision_layers": 24, "vision_width": 1024, "vision_patch_size": 14}
VIT_L |= {"context_length": 77, "vocab_size": 49408, "transformer_width": 768, "transformer_heads": 12}
VIT_L |= {"transformer_layers": 12}


def clip_score(size: str, folder: Path) -> Score:
    """open_clip's README."""
    import open_clip

    name = "ViT-H-14"
    if size == "small":
        name = "small"
        (folder / "small.json").write_text(json.dumps(stand_ins.SMALL_CLIP))
        open_clip.add_model_config(folder / "small.json")
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    tokenizer = open_clip.get_tokenizer(name)
    stand_ins.fill(model)
    model.eval()

    def score(prompt: str, path: Path) -> float:
        image_features = model.encode_image(preprocess(Image.open(path)).unsqueeze(0))
        text_features = model.encode_text(tokenizer([prompt]))
        image_features /= image_features.norm(dim=-1, keepdim=True)
        text_features /= text_features.norm(dim=-1, keepdim=True)
        return float((100.0 * image_features @ text_features.T)[0, 0])

    return score


def _openai_clip(size: str) -> tuple[Any, Any, Any]:
    import clip
    from clip.clip import _transform
    from clip.model import CLIP

    small = stand_ins.SMALL_CLIP
    vision, text = small["vision_cfg"], small["text_cfg"]
    settings = dict(VIT_L)
    if size == "small":
        settings |= {"embed_dim": small["embed_dim"], "vision_layers": vision["layers"]}
        settings |= {"vision_width": vision["width"], "vision_patch_size": vision["patch_size"]}
        settings |= {"transformer_width": text["width"], "transformer_heads": text["heads"]}
        settings |= {"transformer_layers": text["layers"]}
    model = CLIP(**settings).float().eval()
    stand_ins.fill(model)
    return model, _transform(model.visual.input_resolution), clip


def hps_v1(size: str, folder: Path) -> Score:
    """The README of align_sd."""
    model, preprocess, clip = _openai_clip(size)

    def score(prompt: str, path: Path) -> float:
        images = preprocess(Image.open(path)).unsqueeze(0)
        text = clip.tokenize([prompt], truncate=True)
        image_features = model.encode_image(images)
        text_features = model.encode_text(text)
        image_features = image_features / image_features.norm(dim=-1, keepdim=True)
        text_features = text_features / text_features.norm(dim=-1, keepdim=True)
        hps = image_features @ text_features.T
        return float(hps[0, 0])

    return score


def aesthetic(size: str, folder: Path) -> Score:
    """simple_inference.py of improved-aesthetic-predictor, without Lightning and CUDA."""
    import numpy as np

    model2, preprocess, _ = _openai_clip(size)
    layers = torch.nn.Sequential(
        torch.nn.Linear(model2.visual.output_dim, 1024),
        torch.nn.Dropout(0.2),
        torch.nn.Linear(1024, 128),
        torch.nn.Dropout(0.2),
        torch.nn.Linear(128, 64),
        torch.nn.Dropout(0.1),
        torch.nn.Linear(64, 16),
        torch.nn.Linear(16, 1),
    )
    model = torch.nn.ModuleDict({"layers": layers}).eval()
    stand_ins.fill(model)

    def normalized(a: Any, axis: int = -1, order: int = 2) -> Any:
        l2 = np.atleast_1d(np.linalg.norm(a, order, axis))
        l2[l2 == 0] = 1
        return a / np.expand_dims(l2, axis)

    def score(prompt: str, path: Path) -> float:
        image = preprocess(Image.open(path)).unsqueeze(0)
        im_emb_arr = normalized(model2.encode_image(image).cpu().detach().numpy())
        return float(layers(torch.from_numpy(im_emb_arr))[0, 0])

    return score


def pickscore(size: str, folder: Path) -> Score:
    """The README of PickScore."""
    from transformers import CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    model = CLIPModel(_clip_config(size)).eval()
    state = stand_ins.fill(model)
    _keep_shapes(state, folder)
    processor = CLIPProcessor(CLIPImageProcessor(), CLIPTokenizer(*_clip_words(folder)))

    def score(prompt: str, path: Path) -> float:
        image_inputs = processor(
            images=[Image.open(path)], padding=True, truncation=True, max_length=77, return_tensors="pt"
        )
        text_inputs = processor(text=prompt, padding=True, truncation=True, max_length=77, return_tensors="pt")
        image_embs = model.get_image_features(**image_inputs)
        image_embs = image_embs / torch.norm(image_embs, dim=-1, keepdim=True)
        text_embs = model.get_text_features(**text_inputs)
        text_embs = text_embs / torch.norm(text_embs, dim=-1, keepdim=True)
        scores = model.logit_scale.exp() * (text_embs @ image_embs.T)[0]
        return float(scores[0])

    return score


def _clip_config(size: str) -> Any:
    """transformers' configuration of ViT-H-14, or of the small stand-in."""
    from transformers import CLIPConfig

    text = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    vision = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16}
    vision["patch_size"], width = 14, 1024
    if size == "small":
        text = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 2}
        vision, width = {**text, "patch_size": 32}, 64
    parts = {"text_config": {**text, "hidden_act": "gelu"}, "vision_config": {**vision, "hidden_act": "gelu"}}
    for part in parts.values():
        part["projection_dim"] = width
    return CLIPConfig(projection_dim=width, **parts)


def mps(size: str, folder: Path) -> Score:
    """`infer_one_sample` of eval_overall_mps_on_hpdv2.py; beside it the README's `forward`, on three prompts at once.

    In float32: what the original casts to half precision it leaves. What half precision changes stands beside it.
    """
    from trainer.models import clip_model
    from transformers import CLIPImageProcessor, CLIPTokenizer

    cross = clip_model.Cross_model
    clip_model.XCLIPModel.from_pretrained = clip_model.XCLIPModel
    if size == "small":
        clip_model.Cross_model = lambda dim, layer_num, heads: cross(dim=64, layer_num=layer_num, heads=2)
    model = clip_model.CLIPModel(_clip_config(size)).eval()
    kept = {name: value.clone() for name, value in model.named_buffers() if name.endswith("inv_freq")}
    state = stand_ins.fill(model)
    for name, value in kept.items():
        state[name].copy_(value)  # computed, not trained
    _keep_shapes(state, folder)
    tokenizer = CLIPTokenizer(*_clip_words(folder), model_max_length=77)
    condition = (
        "light, color, clarity, tone, style, ambiance, artistry, shape, face, hair, hands, limbs, structure, instance, "
        "texture, quantity, attributes, position, number, location, word, things."
    )

    def tokenize(caption: str | list[str]) -> Any:
        return tokenizer(
            caption,
            max_length=tokenizer.model_max_length,
            padding="max_length",
            truncation=True,
            return_tensors="pt",
        ).input_ids

    def pixels(path: Path) -> torch.Tensor:
        return CLIPImageProcessor()(Image.open(path).convert("RGB"), return_tensors="pt")["pixel_values"]

    def score(prompt: str, path: Path, clip_model: Any = model) -> float:
        text_f, text_features = clip_model.model.get_text_features(tokenize(prompt))
        image_f = clip_model.model.get_image_features(pixels(path).half())
        condition_f, _ = clip_model.model.get_text_features(tokenize(condition))
        sim = torch.einsum("b i d, b j d -> b j i", text_f, condition_f)
        sim = torch.max(sim, dim=1, keepdim=True)[0]
        sim = sim / sim.max()
        mask = torch.where(sim > 0.3, 0, float("-inf")).repeat(1, image_f.shape[1], 1)
        image_features = clip_model.cross_model(image_f, text_f, mask.half())[:, 0, :]
        image_features = image_features / image_features.norm(dim=-1, keepdim=True)
        text_features = text_features / text_features.norm(dim=-1, keepdim=True)
        return float((clip_model.logit_scale.exp() * text_features @ image_features.T)[0, 0])

    def forward(paths: list[Path]) -> dict[str, list[float]]:
        """The two images of each prompt."""
        prompts = list(stand_ins.PROMPTS)
        images = torch.concatenate([pixels(path) for path in paths for _ in prompts])
        text, *features = model(tokenize(prompts), images, tokenize([condition] * len(prompts)))
        text = text / text.norm(dim=-1, keepdim=True)
        found = {}
        for path, own in zip(paths, features, strict=True):
            own = own / own.norm(dim=-1, keepdim=True)
            scores = model.logit_scale.exp() * torch.diag(torch.einsum("bd,cd->bc", text, own))
            found[path.stem] = scores.tolist()
        return found

    more, paths = {}, [folder / "temple.png", folder / "flower.png"]
    if size == "small":
        halved = copy.deepcopy(model).half()
        more = {p.stem: [score(prompt, p, halved) for prompt in stand_ins.PROMPTS] for p in paths}
    torch.Tensor.half = torch.Tensor.float
    (folder / "more.json").write_text(json.dumps({"whole_batch": forward(paths), "half_precision": more}))
    return score


def _keep_shapes(state: dict[str, torch.Tensor], folder: Path) -> None:
    """The published layout, from which the tests make the same stand-in without the original."""
    shapes = {name: "x".join(map(str, value.shape)) for name, value in state.items() if value.is_floating_point()}
    (folder / "shapes.json").write_text(json.dumps(shapes))


def _clip_words(folder: Path) -> tuple[str, str]:
    """vocab.json and merges.txt, as on the hub, from the list that open_clip ships."""
    import open_clip
    from open_clip.tokenizer import SimpleTokenizer

    source = Path(open_clip.__file__).with_name("bpe_simple_vocab_16e6.txt.gz")
    merges = gzip.decompress(source.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    ends = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    words = {ends.get(word, word): number for word, number in SimpleTokenizer().encoder.items()}
    (folder / "vocab.json").write_text(json.dumps(words))
    return str(folder / "vocab.json"), str(folder / "merges.txt")


def imagereward(size: str, folder: Path) -> Score:
    """`ImageReward.score` of the package; its `__init__`, which imports a trainer, is passed over."""
    import transformers

    spec = importlib.util.find_spec("ImageReward")
    assert spec is not None
    package = types.ModuleType("ImageReward")
    package.__path__ = list(spec.submodule_search_locations or [])
    sys.modules["ImageReward"] = package
    from ImageReward.ImageReward import MLP, ImageReward, _transform
    from ImageReward.models.BLIP import blip_pretrain
    from ImageReward.models.BLIP.med import BertConfig
    from ImageReward.models.BLIP.vit import VisionTransformer

    small = stand_ins.SMALL_BLIP
    words = 30522 if size == "real" else 200
    (folder / "vocab.txt").write_text(stand_ins.vocabulary(words))
    transformers.BertTokenizer.from_pretrained = lambda _: transformers.BertTokenizer(str(folder / "vocab.txt"))
    config = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    if size == "small":
        config = {"hidden_size": small["width"], "intermediate_size": 4 * small["width"]}
        config |= {"num_hidden_layers": small["depth"], "num_attention_heads": small["heads"]}
        tower = VisionTransformer(224, small["patch"], embed_dim=192, depth=small["depth"], num_heads=3)
        blip_pretrain.create_vit = lambda *_: (tower, 192)
    path = folder / "med_config.json"
    config |= {"vocab_size": words + 2, "layer_norm_eps": 1e-12, "type_vocab_size": 2}
    BertConfig(**config, add_cross_attention=True, encoder_width=768).to_json_file(path)
    if size == "real":
        model = ImageReward(med_config=str(path), device="cpu")
    else:
        model = ImageReward.__new__(ImageReward)
        torch.nn.Module.__init__(model)
        model.device, model.preprocess = "cpu", _transform(224)
        model.blip = blip_pretrain.BLIP_Pretrain(image_size=224, vit="large", med_config=str(path))
        model.mlp = MLP(small["width"])
        model.mean, model.std = 0.16717362830052426, 1.0333394966054072
    state = stand_ins.fill(model.eval())
    _keep_shapes(state, folder)
    return lambda prompt, image: model.score(prompt, str(image))


ORIGINALS: dict[str, Callable[[str, Path], Score]] = {
    "clip-score": clip_score,
    "hps-v1": hps_v1,
    "aesthetic": aesthetic,
    "pickscore": pickscore,
    "imagereward": imagereward,
    "mps": mps,
}
PACKAGES = ("torch", "torchvision", "pillow", "transformers", "timm", "open_clip_torch", "image-reward", "scikit-learn")


def versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def main(name: str, size: str) -> None:
    target = Path(__file__).with_name(f"{name}.json")
    known = json.loads(target.read_text()) if target.exists() else {}
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place, torch.no_grad():
        folder = Path(place)
        images = stand_ins.pictures(folder)
        score = ORIGINALS[name](size, folder)
        scores = {image.stem: [score(prompt, image) for prompt in stand_ins.PROMPTS] for image in images}
        known[size] = {"versions": versions(), "scores": scores}
        if (folder / "shapes.json").exists():
            known[size]["shapes"] = json.loads((folder / "shapes.json").read_text())
        if (folder / "more.json").exists():
            known[size] |= json.loads((folder / "more.json").read_text())
    target.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
