"""What the known answers of the baselines were computed with: weights, images and prompts that anyone can make again.

The published weights cannot be shipped. A tensor of a stand-in depends on its name and shape alone, so its scores
mean nothing, but any difference in architecture, names, tokens, preprocessing or scale shows in them.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image

PROMPTS = (
    "a temple with a red roof beside a lake",
    "Café, naïve & “quoted” — 3 dahlias!!  in  the rain",
    "a very long prompt " + "with many words that nobody will ever read to the end " * 8,
)

SMALL_CLIP = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 224, "layers": 2, "width": 128, "head_width": 64, "patch_size": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 128, "heads": 2, "layers": 2},
}
"""open_clip's configuration of a CLIP of the same make that is loaded in a moment."""

CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
"""What Qwen2-VL and Qwen2.5-VL normalise by too, as their repositories write it."""

SMALL_BLIP = {"width": 128, "depth": 2, "heads": 2, "patch": 32}
"""Image tower and text encoder of an ImageReward of the same make."""

_SPECIAL = ["endoftext", "im_start", "im_end", "object_ref_start", "object_ref_end", "vision_start", "vision_end"]
SPECIAL = [f"<|{word}|>" for word in [*_SPECIAL, "image_pad", "video_pad"]]
"""Control words of Qwen-VL; they follow the words of its tokenizer."""
MERGES = ("Y e", "Ye s", "N o", "Ġ t", "Ġt h", "Ġth e", "i n", "e r", "Ġ a", ". Ċ", "Ċ Ċ")
"""Beside the 256 bytes: the two answers, and what a cut at the wrong place would show."""


def _numbers(*names: str) -> dict[str, int]:
    return {f"{name}_token_id": 256 + len(MERGES) + SPECIAL.index(f"<|{name}|>") for name in names}


def qwen(kind: str) -> dict[str, str]:
    """The text files of a repository with a small Qwen-VL, in the form of the published ones, by their names.

    Args:
        kind: `qwen2_vl`, `qwen2_5_vl`, or `qwen3_vl`, which shares the table of words between input and output.
    """
    three = kind == "qwen3_vl"
    ids = {name.replace("_pad", ""): number for name, number in _numbers("image_pad", "video_pad").items()}
    ids |= _numbers("vision_start", "vision_end")
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu", "rms_norm_eps": 1e-6}
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "vocab_size": 320}
    text = {**heads, **sizes, "max_position_embeddings": 32768, "rope_theta": 5e6 if three else 1e6}
    text |= {"attention_dropout": 0.0, "initializer_range": 0.02, "use_cache": True, "tie_word_embeddings": three}
    vision = {"depth": 3, "num_heads": 2, "spatial_merge_size": 2, "temporal_patch_size": 2}
    vision |= {"patch_size": 16 if three else 14}
    config = {"model_type": kind, "torch_dtype": "bfloat16", **ids}
    if three:
        text |= {"rope_scaling": {"mrope_interleaved": True, "mrope_section": [4, 2, 2], "rope_type": "default"}}
        vision |= {"hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 64, "in_channels": 3}
        vision |= {"deepstack_visual_indexes": [0, 1], "num_position_embeddings": 64, "model_type": kind}
        vision |= {"hidden_act": "gelu_pytorch_tanh"}
        text |= {"model_type": "qwen3_vl_text", "head_dim": 16, "attention_bias": False}
        config |= {"text_config": text, "tie_word_embeddings": True}
    else:
        text |= {"rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}, "max_window_layers": 28}
        config |= {**text, "use_sliding_window": False, "sliding_window": 32768}
        vision |= {"in_chans": 3, "spatial_patch_size": 14}
        vision |= {"embed_dim": 32, "hidden_size": 64, "mlp_ratio": 4} if kind == "qwen2_vl" else {}
    if kind == "qwen2_5_vl":
        vision |= {"hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 64, "hidden_act": "silu"}
        vision |= {"window_size": 112, "fullatt_block_indexes": [1], "tokens_per_second": 2}
    shows = {"patch_size": vision["patch_size"], "merge_size": 2, "temporal_patch_size": 2}
    shows |= (
        {"image_mean": [0.5] * 3, "image_std": [0.5] * 3} if three else {"image_mean": CLIP_MEAN, "image_std": CLIP_STD}
    )
    processor = {"image_processor_type": f"Qwen2VLImageProcessor{'Fast' * three}"}
    processor |= {
        "processor_class": {"qwen2_vl": "Qwen2VLProcessor", "qwen2_5_vl": "Qwen2_5_VLProcessor"}.get(
            kind, "Qwen3VLProcessor"
        )
    }
    limits = (
        {"size": {"shortest_edge": 65536, "longest_edge": 16777216}}
        if three
        else {"min_pixels": 3136, "max_pixels": 12845056}
    )
    generation = {
        "do_sample": True,
        "temperature": 0.7,
        "top_k": 20,
        "top_p": 0.8,
        "eos_token_id": _numbers("im_end")["im_end_token_id"],
    }
    files: dict[str, object] = {
        "config.json": {**config, "vision_config": vision},
        "preprocessor_config.json": {**shows, **processor, **limits},
        "tokenizer.json": _tokenizer(),
        "generation_config.json": generation | ({} if three else {"repetition_penalty": 1.05}),
    }
    return {name: json.dumps(value, ensure_ascii=False) for name, value in files.items()}


def _tokenizer() -> dict[str, object]:
    """Byte-level BPE with the rules of Qwen2's."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = [*map(chr, printable), *(chr(256 + n) for n in range(len(others)))]
    words = {word: n for n, word in enumerate([*letters, *(merge.replace(" ", "") for merge in MERGES)])}
    split = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"  # noqa: E501
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    first = {"type": "Split", "pattern": {"Regex": split}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": len(words) + n, "content": word, **plain} for n, word in enumerate(SPECIAL)],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [first, bytes_]},
        "post_processor": bytes_,
        "decoder": bytes_,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": words,
            "merges": [*MERGES],
        },
    }


_WORDS = "a the in and of to with that very long prompt many words will ever read end red roof lake temple rain".split()  # noqa: SIM905


def tensor(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The float32 tensor that `name` has in a stand-in."""
    if not shape:
        return torch.tensor(4.5)  # logit_scale
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    values = generator.standard_normal(size=shape, dtype=np.float32)
    if len(shape) > 1:
        values *= (shape[-1] if shape[0] == 1 else math.prod(shape[1:])) ** -0.5
    elif name.endswith("weight"):  # of a norm
        values = 1 + values / 10
    else:
        values /= 50
    return torch.from_numpy(values)


def state(shapes: Mapping[str, Iterable[int]]) -> dict[str, torch.Tensor]:
    return {name: tensor(name, tuple(shape)) for name, shape in shapes.items()}


def fill(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Overwrite the parameters of a model in place; return its state dict."""
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                value.copy_(tensor(name, tuple(value.shape)))
    return model.state_dict()


def vocabulary(size: int) -> str:
    """A vocab.txt of BERT's form with `size` entries: single characters, a few words, and unused ones."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    marks = "!\"#$%&'()*+,-./:;?“”—"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *marks, *_WORDS]
    words = [*dict.fromkeys([*words, *(f"##{letter}" for letter in letters), "##ing", "##s"])]
    return "".join(f"{word}\n" for word in [*words, *(f"[unused{n}]" for n in range(size - len(words)))])


def pictures(folder: Path) -> list[Path]:
    """Two photographs that scikit-learn ships and pieces of them: tall, narrow, small, and with odd margins."""
    from sklearn.datasets import load_sample_images

    temple, flower = (Image.fromarray(array) for array in load_sample_images().images)
    images = {
        "temple": temple,
        "flower": flower,
        "tall": flower.crop((200, 0, 384, 427)),
        "strip": temple.transpose(Image.Transpose.ROTATE_90).crop((40, 0, 300, 640)),
        "small": temple.crop((100, 100, 251, 201)),
        "odd": temple.crop((3, 5, 458, 328)),
    }
    paths = []
    for name, image in images.items():
        paths.append(folder / f"{name}.png")
        image.save(paths[-1])
    return paths


def shapes(folder: Path) -> list[Path]:
    """Those, and a grey one, one with a palette, one of the network's size, and one of seven lines."""
    paths = pictures(folder)
    temple = Image.open(paths[0])
    palette = temple.convert("L").point(lambda value: value // 8)
    palette.putpalette([value for n in range(32) for value in (8 * n, 255 - 8 * n, n * n // 4)])
    images = {"grey": temple.convert("L"), "palette": palette, "exact": temple.crop((0, 0, 224, 224))}
    images["thin"] = temple.crop((0, 200, 600, 207))
    for name, image in images.items():
        paths.append(folder / f"{name}.png")
        image.save(paths[-1])
    return paths


def sample(pixels: torch.Tensor) -> list[float]:
    """Sixty values of a tensor, at places that were drawn once."""
    places = np.random.Generator(np.random.PCG64(0)).integers(0, pixels.numel(), size=60)
    return [round(value, 7) for value in pixels.flatten()[torch.from_numpy(places)].tolist()]


def write_benchmark(folder: Path) -> dict[str, int]:
    """Prompts of two styles in `prompts/`, an image of each in `model/`; not a whole number of the groups of 80 over
    which the package takes its deviation. Return how many there are."""
    temple, flower = (Image.open(path) for path in pictures(folder)[:2])
    styles = {"anime": (temple, 90), "photo": (flower, 170)}
    (folder / "prompts").mkdir()
    for style, (image, count) in styles.items():
        (folder / f"prompts/{style}.json").write_text(json.dumps([f"{style} of {n} things" for n in range(count)]))
        (folder / "model" / style).mkdir(parents=True)
        for n in range(count):
            left, top = n * 37 % 500, n * 23 % 300
            image.crop((left, top, left + 64, top + 48)).save(folder / f"model/{style}/{n:05d}.jpg", quality=95)
    return {style: count for style, (_, count) in styles.items()}


def rankings() -> list[tuple[list[float], list[int]]]:
    """Scores of the images of forty groups, some of them equal, and somebody's ranks, some of them tied."""
    rng = np.random.Generator(np.random.PCG64(1))
    sizes = rng.integers(2, 11, size=40)
    drawn = [(rng.normal(0, 1, n).round(1).tolist(), rng.integers(1, n + 1, n).tolist()) for n in sizes]
    return [(scores, [1, *ranks[1:-1], 2]) for scores, ranks in drawn]


# A batch: what people said of five pairs, and of groups of four, two and three images.
SHARES = (1.0, 0.0, 0.5, 0.3, 1.0)
SIZES = (4, 2, 3)
BEST = (2, 0, 1)
RANKS = (1, 3, 2, 4, 2, 1, 1, 2, 3)


def features(name: str, rows: int) -> torch.Tensor:
    """Rows of sixteen numbers and length 1, as the towers of a network give them."""
    return torch.nn.functional.normalize(tensor(name, (rows, 16)), dim=-1)
