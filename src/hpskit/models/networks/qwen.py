"""Qwen-VL, which reads an image and a text together: what the scorers that stand on one have in common.

The modules are those of transformers; the parts around them, as the sources do it: patches and placeholders of
`Qwen2VLImageProcessor` and `Qwen2VLProcessor`, positions of `get_rope_index`, chat templates of the published
repositories, `smart_resize` of qwen-vl-utils (see `hpskit.pixels.Preprocessing`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from hpskit.errors import CheckpointError, InputError, need, shown
from hpskit.models.architecture import fill
from hpskit.models.checkpoint import Weights, check_names
from hpskit.models.network import Arithmetic, Blueprint, Network
from hpskit.models.networks.clip import warn_of_long_prompt
from hpskit.pixels import Preprocessing

KIND = "a Qwen-VL"

_USER = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>{}<|im_end|>\n<|im_start|>assistant\n"
_SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
CHATS = {"qwen2_vl": _SYSTEM + _USER, "qwen2_5_vl": _SYSTEM + _USER, "qwen3_vl": _USER}
"""`model_type` of an architecture -> what its published chat template makes of one image and one text."""
_IMAGE = "<|image_pad|>"
_LONGEST_PROMPT = 1_024
"""Tokens; the rest is cut off."""
_PIXELS_AT_ONCE = 2**22
"""On an accelerator, of all images of a step together; a CPU takes one image after another, which is as fast there."""
_RENAMED = ((r"^visual\.", "model.visual."), (r"^model\.(?!visual\.|language_model\.)", "model.language_model."))
"""Names before transformers 4.52, and today's."""


class QwenNetwork(Network):
    """A Qwen-VL that is asked a question about an image and a prompt, which meet in `compare`."""

    reads_prompt = True
    differentiable = True
    log_odds_per_point = None
    grid = True
    """Whether the language model is told where in the image a patch is (M-RoPE), or only its place in the row."""
    frequencies: torch.dtype = torch.float32
    """What the frequencies of the positions were rounded to when the weights were trained."""
    own_words: tuple[str, ...] = ()
    """Control words that the question needs and the published tokenizer lacks."""

    def __init__(self, plan: Blueprint, question: str, area: Callable[[int], tuple[int, int]]) -> None:
        """Build the body, fill it, and make the tokenizer.

        Args:
            plan: its weights hold `model.…` and the published text files.
            question: with `{}` for the prompt.
            area: from the side of a square that becomes one token, the least and the most pixels of an image.

        Raises:
            MissingExtraError: transformers is not installed.
            CheckpointError: the weights are those of something else, or not complete.
        """
        facts = published_json(plan.weights, "config.json")
        if (kind := facts.get("model_type")) not in CHATS:
            found, cure = f"is a {shown(kind)}", "name a repository of one of these"
            raise CheckpointError(plan.weights.origin, found, expected=f"one of {', '.join(CHATS)}", cure=cure)
        self.device = plan.device
        self._body = _filled_body(facts, plan, self.frequencies)
        self._tokenizer = self._words(plan.weights.text("tokenizer.json", KIND))
        added = self._tokenizer.get_added_tokens_decoder()
        self._special = {number for number, word in added.items() if word.special}
        self._question = CHATS[kind].format(question)
        frame = self._tokens(self._question)
        self._controls = sum(token in self._special for token in frame)
        self._context = len(frame) + _LONGEST_PROMPT
        template = hashlib.sha256(self._question.encode()).hexdigest()[:8]
        self.reading = f"sdpa {'m-rope' if self.grid else '1-d'} template-{template}"
        shows = published_json(plan.weights, "preprocessor_config.json")
        self._patch, self._merge, self._frames = (
            int(shows[name]) for name in ("patch_size", "merge_size", "temporal_patch_size")
        )
        mean, std = ((float(r), float(g), float(b)) for r, g, b in (shows["image_mean"], shows["image_std"]))
        side = self._patch * self._merge
        self.preprocessing = Preprocessing(
            size=side, resize="multiple", area=area(side), pillow=True, mean=mean, std=std
        )

    @classmethod
    def arithmetic(cls, precision: str, device: torch.device) -> Arithmetic:
        """Return bf16 for `auto` on CUDA: it is what Qwen-VL is published in, and fp16 overflows in it."""
        return super().arithmetic("bf16" if precision == "auto" and device.type == "cuda" else precision, device)

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Preprocessed (N, 3, H, W) -> the same: image and prompt meet in `compare`."""
        return pixels.to(self.device)

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """M prompts -> (M, L): the tokens of each question, then -1, as float32, which holds them exactly.

        Raises:
            InputError: a prompt has a control word of the model in it.
        """
        rows = torch.full((len(prompts), self._context), -1.0, device=self.device)
        for row, prompt in zip(rows, prompts, strict=True):
            before, after = self._question.split("{}")
            tokens = self._tokens(before + prompt + after)
            if self._controls != sum(token in self._special for token in tokens):
                found, cure = f"has a control word of the model: {shown(prompt)}", "take <|…|> out"
                raise InputError("prompt", found, cure=cure)
            if len(tokens) > self._context:
                end = len(self._tokens(after))
                warn_of_long_prompt(prompt, len(tokens) - self._context + _LONGEST_PROMPT, _LONGEST_PROMPT)
                tokens = tokens[: self._context - end] + tokens[-end:]
            row[: len(tokens)] = torch.tensor(tokens, dtype=torch.float32)
        return rows

    def read(
        self, images: Tensor, prompts: Tensor, finish: Callable[[Tensor, Tensor], Tensor], word: str | None = None
    ) -> Tensor:
        """(N, 3, H, W) and (N, L) -> what `finish` makes, step by step, of the body's last layer and the prompts.

        It gets (n, D), at a control word or else at the end, and (n, L).
        """
        step = 1 if self.device.type == "cpu" else max(1, _PIXELS_AT_ONCE // images[0, 0].numel())
        parts = [slice(start, start + step) for start in range(0, len(images), step)]
        return torch.cat([finish(self._read(images[part], prompts[part], word), prompts[part]) for part in parts])

    def _read(self, pixels: Tensor, prompts: Tensor, word: str | None) -> Tensor:
        rows, columns = (side // self._patch for side in pixels.shape[-2:])
        height, width = rows // self._merge, columns // self._merge
        image = self._tokenizer.token_to_id(_IMAGE)
        lengths = (prompts >= 0).sum(dim=1) + height * width - 1
        tokens = torch.zeros(len(prompts), int(lengths.max()), dtype=torch.long, device=self.device)
        for line, row, length in zip(tokens, prompts.long(), lengths.tolist(), strict=True):
            start = int((row == image).nonzero())
            line[:start] = row[:start]
            line[start : start + height * width] = image
            line[start + height * width : length] = row[start + 1 : length - height * width + 1]
        read = self._body(
            input_ids=tokens,
            pixel_values=self._patches(pixels),
            image_grid_thw=torch.tensor([[1, rows, columns]] * len(tokens), device=self.device),
            position_ids=self._positions(tokens, start, height, width),
            use_cache=False,
        ).last_hidden_state
        at = lengths - 1 if word is None else (tokens == self._tokenizer.token_to_id(word)).int().argmax(dim=1)
        found: Tensor = read[torch.arange(len(read), device=self.device), at]
        return found

    def _patches(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) -> (patches of all images, values of each): squares that become one token follow each other."""
        patch, merge = self._patch, self._merge
        rows, columns = (side // (patch * merge) for side in pixels.shape[-2:])
        split = pixels.view(len(pixels), 3, rows, merge, patch, columns, merge, patch)
        ordered = split.permute(0, 2, 5, 3, 6, 1, 4, 7)[..., None, :, :]
        still = ordered.expand(*ordered.shape[:-3], self._frames, patch, patch)  # an image is a film that stands still
        return still.reshape(len(pixels) * rows * columns * merge**2, -1)

    def _positions(self, tokens: Tensor, start: int, height: int, width: int) -> Tensor:
        """(3, N, L): time, row and column of each token; the same for all rows, as their images have one shape."""
        place = torch.arange(tokens.shape[1], device=self.device).expand(3, -1)
        if self.grid:
            after = place[:, start + height * width :]
            rows, columns = (torch.arange(n, device=self.device) + start for n in (height, width))
            row, column = torch.meshgrid(rows, columns, indexing="ij")
            inside = torch.stack([torch.full_like(row, start), row, column]).flatten(1)
            place = torch.cat([place[:, :start], inside, after - height * width + max(height, width)], dim=1)
        return place[:, None].expand(3, len(tokens), -1)

    def _words(self, text: str) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(text)
        if self.own_words:
            tokenizer.add_special_tokens([*self.own_words])
        return tokenizer

    def _tokens(self, text: str) -> list[int]:
        tokens: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return tokens


def renamed(published: Sequence[Mapping[str, Tensor]], parts: tuple[str, ...]) -> dict[str, Tensor]:
    """Join weights and text files, under the names of transformers 5.

    Args:
        published: the weights, then the text files.
        parts: beginnings of the names of tensors beside the body's.

    Raises:
        CheckpointError: a tensor has none of those names.
    """
    weights, *texts = published
    named = {}
    for name, tensor in weights.items():
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        named[name] = tensor
    if strange := [name for name in named if not name.startswith(("model.visual.", "model.language_model.", *parts))]:
        cure = "give a Qwen2-VL, Qwen2.5-VL or Qwen3-VL"
        raise CheckpointError(strange[0], "is no tensor of such a Qwen-VL", cure=cure)
    for text in texts:
        named |= text
    return named


def published_json(weights: Weights, name: str) -> dict[str, Any]:
    """Return the object of a JSON file that lies among the weights."""
    value: dict[str, Any] = json.loads(weights.text(name, KIND))
    return value


def _filled_body(facts: Mapping[str, Any], plan: Blueprint, frequencies: torch.dtype) -> Any:
    """Build vision tower and language model without initialising them, and fill them, all in the precision asked for.

    Only SDPA computes attention: other implementations round otherwise, and the score would depend on what is
    installed.
    """
    need("transformers", plan.architecture, "vlm")
    from transformers import CONFIG_MAPPING, AutoModel

    weights = plan.part("model.").weights
    config = CONFIG_MAPPING[facts["model_type"]].from_dict(dict(facts))
    words = weights.shapes().get("language_model.embed_tokens.weight")
    if words is None:
        raise weights.lacks("model.language_model.embed_tokens.weight", KIND)
    config.text_config.vocab_size = words[0]
    make: Any = AutoModel.from_config
    with torch.device("meta"):
        body = make(config, attn_implementation="sdpa")
    for name, module in [*body.named_modules()]:
        if any(buffer.is_meta for buffer in module.buffers(recurse=False)):  # turns of the positions, in no file
            body.set_submodule(name, type(module)(module.config).to(frequencies).to(plan.device, torch.float32))
    check_names(body, weights, f"a {facts['model_type']}", option=None)
    spread = _needs_several(plan.dtype.itemsize * sum(weight.numel() for weight in body.parameters()), plan.device)
    fill(body, weights, plan.dtype, torch.device("cpu") if spread else plan.device, throughout=True)
    body.eval().requires_grad_(False)
    return spread_out(body) if spread else body


def _needs_several(size: int, device: torch.device) -> bool:
    """Tell if one GPU cannot hold so many bytes, others are there, none was named, and accelerate is installed."""
    if device != torch.device("cuda") or torch.cuda.device_count() < 2 or find_spec("accelerate") is None:
        return False
    return size > 0.8 * torch.cuda.mem_get_info(device)[0]


def spread_out(body: Any, **places: Any) -> Any:
    """Lay the layers of a body on all devices that there are, one after another; see accelerate's `dispatch_model`."""
    from accelerate import dispatch_model, infer_auto_device_map

    if not places:
        blocks = {name for module in body.modules() for name in getattr(module, "_no_split_modules", None) or ()}
        places = {"device_map": infer_auto_device_map(body, no_split_module_classes=[*blocks])}
    return dispatch_model(body, **places)
