"""A generator that is a pipeline of diffusers, with LoRA files, begun from noise or from a retrieved image."""

from __future__ import annotations

import gc
import inspect
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydantic import Field

from hpskit import __version__
from hpskit.errors import InputError, ModelError, need
from hpskit.files import check_regular, expand, read_json, sha256_file
from hpskit.images.contract import GeneratorInfo, GeneratorSettings, Options, Outcome
from hpskit.images.repository import Repository
from hpskit.images.retrieval import Retrieve, Retriever
from hpskit.pixels import open_image
from hpskit.schema import Strict, nearest

if TYPE_CHECKING:
    import torch

_OURS = ("prompt", "generator", "num_images_per_prompt", "output_type", "return_dict", "latents", "kwargs")
"""Arguments of a pipeline that are not the user's: with them an image would depend on the others of its batch."""


class Lora(Strict):
    """A LoRA in a .safetensors file, and how much of it is added."""

    file: str
    weight: float = 1.0


class Settings(GeneratorSettings):
    """Settings of a pipeline and its call. Those that are not given are left to the pipeline."""

    model: str
    """Repository of the hub, or a folder; weights are read from .safetensors files only."""
    revision: str = "main"
    """Branch, tag or commit of the repository."""
    variant: str | None = None
    """Which of several sets of weights, such as `fp16`."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    device: str = "auto"
    """`auto` is a GPU if there is one. Like `offload`, it moves the last bits of an image only."""
    offload: bool = False
    """Keep weights in main memory, and on the GPU only the model that computes."""
    scheduler: str = ""
    """Class of diffusers instead of the pipeline's own, such as `EulerDiscreteScheduler`."""
    scheduler_config: Options = Field(default_factory=dict)
    """Changes to its configuration."""
    steps: Annotated[int, Field(ge=1)] | None = None
    guidance: float | None = None
    width: Annotated[int, Field(ge=8)] | None = None
    height: Annotated[int, Field(ge=8)] | None = None
    negative_prompt: str | None = None
    options: Options = Field(default_factory=dict)
    """Further arguments of the pipeline's call."""
    lora: Annotated[tuple[Lora, ...], Field(strict=False)] = ()
    retrieve: Retrieve | None = None
    """Begin from the image of a folder that fits the prompt best; needs `width` and `height`."""


class Diffusion:
    """See `hpskit.images.contract.Generator`. The pipeline is loaded when the first image is made."""

    def __init__(self, settings: Settings) -> None:
        """Look for the libraries and files.

        Raises:
            MissingExtraError: diffusers is not installed.
            InputError: the settings contradict each other, or a LoRA is not there.
        """
        self.settings, self.place = settings, f"generator {settings.name}"
        need("diffusers", self.place, "generate")
        for lora in settings.lora:
            check_regular(expand(lora.file))
        if settings.retrieve and not (settings.width and settings.height):
            raise InputError(f"{self.place}: retrieve", "has no size", expected="width and height", cure="add them")
        self.repository = Repository(settings.model, settings.revision, "model_index.json", f"{self.place}: model")
        self.retriever = Retriever(settings.retrieve, self.place) if settings.retrieve else None
        self._most = settings.batch
        """Images at once for which memory has room, as far as is known."""
        self._relieved: list[str] = []
        """What was done because one image alone was too much."""

    @cached_property
    def info(self) -> GeneratorInfo:
        """The repository's commit or the folder's hash, the whole scheduler, and the hash of each other file.

        Raises:
            ModelError: the repository is neither here nor to be reached.
            InputError: the scheduler does not fit.
        """
        import diffusers
        import torch

        settings = self.settings.own()
        for where in ("device", "offload"):
            del settings[where]
        settings |= {"model": self.repository.name, "revision": self.repository.identity}
        settings["scheduler"] = self._scheduler and json.loads(self._scheduler.to_json_string())
        files = [(expand(lora.file), lora.weight) for lora in self.settings.lora]
        settings["lora"] = [{"file": file.name, "weight": w, "sha256": sha256_file(file)} for file, w in files]
        settings["retrieve"] = self.retriever and self.retriever.info
        version = f"diffusers {diffusers.__version__}, torch {torch.__version__}"
        name, package = self.repository.name, f"hpskit {__version__}"
        return GeneratorInfo(name=name, version=version, settings=settings, package=package)

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Outcome]:
        """Make images in batches that memory has room for.

        If memory runs out, batches become half as large; if one image is too much, the VAE works in tiles, then weights
        go to main memory. The seeds stay, and what was done about a single image is among its facts.

        Raises:
            ModelError: the pipeline cannot be loaded, or memory has no room for one image.
            InputError: the pipeline has no such option, or a LoRA is none of its own.
        """
        import torch

        pairs, made = list(zip(prompts, seeds, strict=True)), list[Outcome]()
        while len(made) < len(pairs):
            batch = pairs[len(made) : len(made) + self._most]
            with suppress(torch.OutOfMemoryError):
                made += self._batch(*zip(*batch, strict=True))
                continue
            self._relieve(len(batch))  # here and not in `except`: the error holds the tensors of its frames
        return made

    def _batch(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Outcome]:
        import torch

        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        options, facts = dict(self._options), [self._facts(prompt) for prompt in prompts]
        if "negative_prompt" in options:
            options["negative_prompt"] = [options["negative_prompt"]] * len(prompts)
        if self.retriever:
            names = self.retriever.nearest(prompts, self._device)
            options["latents"] = self._begin([open_image(self.retriever.folder / name) for name in names], generators)
            facts = [{**fact, "retrieved": name} for fact, name in zip(facts, names, strict=True)]
        try:
            made = self._pipe(prompt=list(prompts), generator=generators, output_type="np", **options)
        except (AttributeError, TypeError, ValueError) as error:
            what = f"is refused by the pipeline ({error})"
            raise InputError(self.place, what, cure="correct the settings") from error
        flags = getattr(made, "nsfw_content_detected", None) or [False] * len(prompts)
        return [_outcome(*each) for each in zip(made.images, flags, facts, strict=True)]

    def _facts(self, prompt: str) -> dict[str, Any]:
        longest = self._options.get("max_sequence_length", self._parameters.get("max_sequence_length"))
        lost = truncated_tokens(self._pipe.components.values(), prompt, longest or math.inf)
        facts: dict[str, Any] = {"truncated_tokens": lost} if lost else {}
        return facts | ({"memory": list(self._relieved)} if self._relieved else {})

    def _relieve(self, size: int) -> None:
        """Make room after a batch of this size was too much.

        Raises:
            ModelError: all has been tried.
        """
        import torch

        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if size > 1:
            self._most = size // 2
        elif "tiling" not in self._relieved and hasattr(getattr(self._pipe, "vae", None), "enable_tiling"):
            self._pipe.vae.enable_tiling()
            self._relieved.append("tiling")
        elif "offload" not in self._relieved and self._device != "cpu" and not self.settings.offload:
            self._pipe.enable_model_cpu_offload(device=self._device)
            self._relieved.append("offload")
        else:
            cure = "make width and height smaller, or set dtype to float16 or device to cpu"
            raise ModelError(self.place, f"has no room for one image on {self._device}", cure=cure)

    @cached_property
    def _device(self) -> str:
        import torch

        if self.settings.device != "auto":
            return self.settings.device
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"

    @cached_property
    def _scheduler(self) -> Any:
        """The scheduler as it will be used, None if the pipeline has none; needs no weights."""
        import diffusers

        place, changes = f"{self.place}: scheduler", self.settings.scheduler_config
        with self.repository.loading():
            library, name = read_json(self.repository.file("model_index.json")).get("scheduler") or ("", "")
            if library != "diffusers" and not (self.settings.scheduler or changes):
                return None
            config = read_json(self.repository.file("scheduler/scheduler_config.json"))
            scheduler = getattr(diffusers, name).from_config(config)
        known = {kind.__name__: kind for kind in (type(scheduler), *scheduler.compatibles)}
        kind = known.get(self.settings.scheduler or name)
        if kind is None:
            raise _unknown(place, self.settings.scheduler, f"scheduler that {self.repository.name} can have", known)
        allowed = inspect.signature(kind).parameters
        for change in changes:
            if change not in allowed:
                raise _unknown(f"{place}_config", change, f"setting of {kind.__name__}", allowed)
        return kind.from_config(scheduler.config, **changes)

    @cached_property
    def _pipe(self) -> Any:
        """The pipeline, on its device, with its LoRAs."""
        import diffusers
        import torch
        from diffusers.utils import logging

        settings, source = self.settings, self.repository.source
        arguments = {**self.repository.arguments, "variant": settings.variant, "use_safetensors": True}
        arguments["dtype"] = getattr(torch, settings.dtype)
        if self._scheduler is not None:
            arguments["scheduler"] = self._scheduler
        logging.disable_progress_bar()
        with self.repository.loading():
            try:
                pipe = diffusers.AutoPipelineForText2Image.from_pretrained(source, **arguments)  # type: ignore[no-untyped-call]
            except ValueError:  # "can't find a pipeline linked to": a family that it does not map
                pipe = diffusers.DiffusionPipeline.from_pretrained(source, **arguments)  # type: ignore[no-untyped-call]
            self._add_loras(pipe)
            if settings.offload:
                pipe.enable_model_cpu_offload(device=self._device)
            else:
                pipe.to(self._device)
        pipe.set_progress_bar_config(disable=True)
        logging.set_verbosity_error()  # a truncated prompt is a fact of its image, not a line on the screen
        if getattr(pipe, "vae", None) is not None:
            decode_again(pipe.vae)
        return pipe

    def _add_loras(self, pipe: Any) -> None:
        names = [f"lora{number}" for number in range(len(self.settings.lora))]
        for name, lora in zip(names, self.settings.lora, strict=True):
            file = expand(lora.file)
            try:
                pipe.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name=name)
                pipe.set_adapters(name)  # which raises if nothing in the file was for this pipeline
            except Exception as error:
                found = f"is no LoRA of {self.repository.name} ({error})"
                raise InputError(file, found, cure="take another") from error
        if names:
            pipe.set_adapters(names, [lora.weight for lora in self.settings.lora])

    @cached_property
    def _parameters(self) -> dict[str, Any]:
        """Arguments of the pipeline's call, with their defaults."""
        found = inspect.signature(self._pipe.__call__).parameters
        return {name: parameter.default for name, parameter in found.items() if name not in _OURS}

    @cached_property
    def _options(self) -> dict[str, Any]:
        settings = self.settings
        named = {"steps": "num_inference_steps", "guidance": "guidance_scale"}
        fields = ("steps", "guidance", "width", "height", "negative_prompt")
        values = {named.get(name, name): value for name in fields if (value := getattr(settings, name)) is not None}
        for name in (values := values | settings.options):
            if name not in self._parameters:
                what = f"option of {type(self._pipe).__name__}"
                raise _unknown(f"{self.place}: options", name, what, self._parameters)
        return values

    def _begin(self, images: list[Image.Image], generators: list[torch.Generator]) -> Any:
        """Blend latents of images with noise: sqrt(a) latent + sqrt(1 - a) noise, a being `strength`; (N, C, H, W)."""
        import torch

        pipe, settings = self._pipe, self.settings
        if getattr(pipe, "vae", None) is None or hasattr(pipe, "_pack_latents") or not hasattr(pipe, "prepare_latents"):
            found = f"cannot be had with {type(pipe).__name__}"
            raise InputError(f"{self.place}: retrieve", found, expected="a pipeline like Stable Diffusion's or SDXL's")
        size = settings.width or 0, settings.height or 0
        fitted = [ImageOps.fit(image, size) for image in images]
        config, strength = pipe.vae.config, settings.retrieve.strength if settings.retrieve else 0.0
        dtype = getattr(torch, settings.dtype)
        with torch.no_grad(), in_float32(pipe.vae):
            pixels = pipe.image_processor.preprocess(fitted).to(self._device)
            latents = [pipe.vae.encode(image[None]).latent_dist.mode()[0].cpu() for image in pixels]
        shift = getattr(config, "shift_factor", None) or 0.0
        latent = (torch.stack(latents) - shift) * config.scaling_factor
        noise = torch.stack([torch.randn(latent.shape[1:], generator=each, dtype=dtype) for each in generators])
        return math.sqrt(strength) * latent.to(dtype) + math.sqrt(1 - strength) * noise


load = Diffusion


def _unknown(place: str, found: str, what: str, known: Iterable[str]) -> InputError:
    """Say that a name is not among those that there are, and which these are."""
    near = nearest(found, known)
    names = f"one of {', '.join(sorted(known))}"
    cure = f"did you mean {near!r}?" if near else "correct it"
    return InputError(place, f"{found!r} is no {what}", expected=names, cure=cure)


def _outcome(pixels: NDArray[np.floating[Any]], refused: bool, facts: Mapping[str, Any]) -> Outcome:
    """Make an image of numbers from 0 to 1, or tell why it would be black: NaN, or the safety checker."""
    if refused:
        return Outcome(reason="refused", said="by the pipeline's safety checker", final=True, facts=facts)
    if not np.isfinite(pixels).all():
        return Outcome(reason="nan", said="the latent is not finite; try another dtype", facts=facts)
    return Outcome(image=Image.fromarray((pixels * 255).round().astype(np.uint8)), facts=facts)


def truncated_tokens(components: Iterable[Any], prompt: str, longest: float) -> int:
    """Return how many tokens of a prompt none of a pipeline's text encoders reads.

    Args:
        components: of the pipeline; some are tokenizers.
        prompt: the prompt.
        longest: what the pipeline cuts any prompt to, for encoders without a limit of their own.
    """
    from transformers import PreTrainedTokenizerBase

    lost = []
    for tokenizer in components:
        if isinstance(tokenizer, PreTrainedTokenizerBase):
            whole = tokenizer(prompt, truncation=True, max_length=1 << 30).input_ids  # without, it warns of long ones
            lost.append(max(0, len(whole) - min(tokenizer.model_max_length, longest)))
    return int(min(lost, default=0))


@contextmanager
def in_float32(vae: torch.nn.Module) -> Iterator[None]:
    """Let a VAE compute in float32; its weights are as before afterwards."""
    import torch

    dtype = next(vae.parameters()).dtype
    vae.to(torch.float32)
    try:
        yield
    finally:
        vae.to(dtype)


def decode_again(vae: Any) -> None:
    """Make a VAE decode in float32 what it could not in its own precision, as that of SDXL cannot in float16.

    Only the images that are not finite are decoded again, so that the others of the batch stay as they are.
    """
    import torch

    decode: Callable[..., Any] = vae.decode

    def decode_finite(latents: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        found = decode(latents, *arguments, **options)
        image = found[0]
        wrong = torch.isfinite(latents).flatten(1).all(1) & ~torch.isfinite(image).flatten(1).all(1)
        if image.dtype != torch.float32 and wrong.any():
            with in_float32(vae):
                image[wrong] = decode(latents[wrong].float(), return_dict=False)[0].to(image.dtype)
        return found

    vae.decode = decode_finite
