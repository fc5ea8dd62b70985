"""The models that hpskit knows by name.

Two names take an argument: `clip-score:ARCH:PRETRAINED` is any network of open_clip's list of pretrained ones, and
`random:SEED` is `random` with another seed. Other packages add names by entry points, see `hpskit.models.plugins`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from hpskit.errors import UnknownModelError

__all__ = ["DEFAULT_MODEL", "MODELS", "OPEN_CLIP_FILE", "OPEN_CLIP_SAFE_FILE", "Kind", "Model", "Source", "find"]

DEFAULT_MODEL = "mini"

OPEN_CLIP_FILE, OPEN_CLIP_SAFE_FILE = "open_clip_pytorch_model.bin", "open_clip_model.safetensors"
"""What open_clip calls the weights in a repository of the hub, of old and today."""

Kind = Literal["hps", "mini", "clip-score", "pickscore", "aesthetic", "imagereward", "random"]
"""How images and prompts become a score: which module builds the network."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A published file that a model is made of."""

    repository: str
    """Repository on the Hugging Face hub."""
    file: str
    """Name in that repository."""
    sha256: str | None = None
    """Of the file as its authors published it, where the repository is not theirs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """Where the weights of a named model come from and what they are."""

    name: str
    version: str
    architecture: str
    """open_clip's name of the network, or `mini`, `blip-large`, `none`."""
    licence: str
    summary: str
    size: int
    """Bytes on disk, approximately for files on the hub; 0 if nobody counted them."""
    kind: Kind = "hps"
    repository: str | None = None
    """Repository on the Hugging Face hub; None for a model inside the wheel, or one that has to be brought by hand."""
    file: str = ""
    """Name in that repository, of the file inside the wheel, or of the file to bring."""
    parts: tuple[Source, ...] = ()
    """Further files, if the model was published in several."""
    page: str | None = None
    """Where a person finds the file, if no repository of the hub is known to have it."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """What the network has to know beside its weights; kept in the ready file."""

    @property
    def embedded(self) -> Path | None:
        """The weights inside the wheel, if that is where they are."""
        return None if self.repository or self.page else Path(__file__).with_name(self.file)

    @property
    def sources(self) -> tuple[Source, ...]:
        """The files of the hub that it is made of."""
        return (Source(repository=self.repository, file=self.file), *self.parts) if self.repository else ()

    @property
    def stem(self) -> str:
        """The name without what a file's name cannot hold everywhere."""
        return self.name.replace(":", "--")


MODELS = {
    model.name: model
    for model in (
        Model(
            name="mini",
            version="1.0",
            architecture="mini",
            licence="Apache-2.0",
            summary="embedded, fast, does not read the prompt; for trying things and for small machines",
            size=6_400_000,
            kind="mini",
            file="mini.safetensors",
        ),
        Model(
            name="hps-v2.0",
            version="2.0",
            architecture="ViT-H-14",
            licence="Apache-2.0",
            summary="the model of the paper (arXiv 2306.09341)",
            size=3_900_000_000,
            repository="xswu/HPSv2",
            file="HPS_v2_compressed.pt",
        ),
        Model(
            name="hps-v2.1",
            version="2.1",
            architecture="ViT-H-14",
            licence="Apache-2.0",
            summary="trained on better data by the same authors; the usual choice",
            size=3_900_000_000,
            repository="xswu/HPSv2",
            file="HPS_v2.1_compressed.pt",
        ),
        Model(
            name="hps-v1",
            version="1.0",
            architecture="ViT-L-14-quickgelu",
            licence="not stated",
            summary="the forerunner, a CLIP ViT-L/14 tuned on choices of Discord users (arXiv 2303.14420)",
            size=1_710_000_000,
            kind="clip-score",
            file="hpc.pt",
            page="https://github.com/tgxs002/align_sd, section Human Preference Classifier",
        ),
        Model(
            name="pickscore",
            version="1.0",
            architecture="ViT-H-14",
            licence="not stated",
            summary="CLIP ViT-H/14 tuned on Pick-a-Pic (arXiv 2305.01569)",
            size=3_944_000_000,
            kind="pickscore",
            repository="yuvalkirstain/PickScore_v1",
            file="model.safetensors",
        ),
        Model(
            name="imagereward",
            version="1.0",
            architecture="blip-large",
            licence="Apache-2.0",
            summary="BLIP with a reward head (arXiv 2304.05977); needs hpskit[baselines]",
            size=1_790_000_000,
            kind="imagereward",
            repository="THUDM/ImageReward",
            file="ImageReward.pt",
            parts=(Source(repository="google-bert/bert-base-uncased", file="vocab.txt"),),
        ),
        Model(
            name="aesthetic",
            version="2.0",
            architecture="ViT-L-14-quickgelu",
            licence="Apache-2.0 (head), MIT (CLIP)",
            summary="LAION's improved aesthetic predictor: a rating from 1 to 10, does not read the prompt",
            size=1_715_000_000,
            kind="aesthetic",
            repository="timm/vit_large_patch14_clip_224.openai",
            file=OPEN_CLIP_FILE,
            parts=(
                Source(
                    repository="camenduru/improved-aesthetic-predictor",
                    file="sac+logos+ava1-l14-linearMSE.pth",
                    sha256="21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0",
                ),
            ),
        ),
        Model(
            name="clip-score",
            version="laion2b_s32b_b79k",
            architecture="ViT-H-14",
            licence="MIT",
            summary="CLIP ViT-H/14 as it was before HPS v2; clip-score:ARCH:PRETRAINED is any other of open_clip",
            size=3_944_000_000,
            kind="clip-score",
            repository="laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
            file=OPEN_CLIP_FILE,
        ),
        Model(
            name="random",
            version="1.0",
            architecture="none",
            licence="Apache-2.0",
            summary="a number drawn by the content of image and prompt; random:SEED draws others",
            size=0,
            kind="random",
            file="random.safetensors",
        ),
    )
}


def find(name: str) -> Model:
    """The model of that name.

    Raises:
        UnknownModelError: there is none; the message suggests the nearest name.
    """
    if name in MODELS:
        return MODELS[name]
    base, _, argument = name.partition(":")
    if base == "clip-score" and argument:
        return _any_clip(name, *argument.partition(":")[::2])
    if base == "random" and argument:
        return _seeded(name, argument)
    near = difflib.get_close_matches(name, MODELS, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    known = ", ".join(MODELS)
    raise UnknownModelError(f"model: {name!r} is neither a known name nor a file; {hint}Known: {known}")


def _seeded(name: str, seed: str) -> Model:
    if not re.fullmatch(r"0|[1-9][0-9]{0,17}", seed):
        raise UnknownModelError(f"model: the seed of {name!r} is {seed!r}, expected a whole number, as in random:1")
    return replace(MODELS["random"], name=name, settings={"seed": seed})


def _any_clip(name: str, architecture: str, pretrained: str) -> Model:
    """An entry for a network of open_clip's list, with the preprocessing that the list gives it."""
    import open_clip

    if architecture not in open_clip.list_models():
        near = difflib.get_close_matches(architecture, open_clip.list_models(), n=1, cutoff=0.3)
        hint = f"did you mean {near[0]!r}?" if near else "see open_clip.list_models()"
        raise UnknownModelError(f"model: {name!r}: open_clip has no architecture {architecture!r}; {hint}")
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if pretrained not in tags:
        raise UnknownModelError(
            f"model: {name!r}: open_clip has no weights {pretrained!r} for it, expected one of {', '.join(tags)}"
        )
    config = open_clip.get_pretrained_cfg(architecture, pretrained)
    repository, _, file = config.get("hf_hub", "").rpartition("/")
    if not repository:
        page = config.get("url") or "open_clip's list of pretrained networks"
        raise UnknownModelError(f"model: {name!r} is not on the hub but at {page}; fetch it, and name the file instead")
    settings = {
        "resize": {"shortest": "crop", "longest": "letterbox"}.get(config["resize_mode"], config["resize_mode"])
    }
    settings |= {"interpolation": config["interpolation"]}
    settings |= {key: ",".join(map(str, config[key])) for key in ("mean", "std")}
    quick = config.get("quick_gelu", False) and not architecture.endswith("-quickgelu")
    return replace(
        MODELS["clip-score"],
        name=name,
        version=pretrained,
        architecture=f"{architecture}-quickgelu" if quick else architecture,
        licence="see its page on the hub",
        size=0,
        repository=repository,
        file=file or OPEN_CLIP_FILE,
        settings=settings,
    )
