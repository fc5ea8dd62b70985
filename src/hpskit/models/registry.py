"""The models that hpskit knows by name, and the class that runs each kind of network. Knows no torch.

Four names take an argument: `clip-score:ARCH:PRETRAINED` is any network of open_clip's list of pretrained ones,
`vqascore:OWNER/NAME` any Qwen-VL of the hub, `random:SEED` is `random` with another seed, and `mps:RULE:CONDITIONS` is
`mps` by another rule or with other conditions. Other packages add names by entry points, see `hpskit.models.plugins`.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpskit.errors import UnknownModelError, shown
from hpskit.schema import nearest

if TYPE_CHECKING:
    from hpskit.models.network import Network

DEFAULT_MODEL = "mini"

OPEN_CLIP_FILE, OPEN_CLIP_SAFE_FILE = "open_clip_pytorch_model.bin", "open_clip_model.safetensors"
"""open_clip's names of the weights in a repository of the hub, the old one and today's."""

SAFE_FILE = "model.safetensors"
"""transformers' name of the weights; a repository may have them in parts, which an index lists."""

QWEN_FILES = ("config.json", "preprocessor_config.json", "tokenizer.json")
"""How a Qwen-VL is built, what it is shown, and its words; beside the weights."""

NETWORKS = {
    "hps": "hpskit.models.networks.clip:ClipNetwork",
    "clip-score": "hpskit.models.networks.clip:ClipScoreNetwork",
    "pickscore": "hpskit.models.networks.pickscore:PickScoreNetwork",
    "aesthetic": "hpskit.models.networks.aesthetic:AestheticNetwork",
    "imagereward": "hpskit.models.networks.imagereward:ImageRewardNetwork",
    "mps": "hpskit.models.networks.mps:MpsNetwork",
    "hpsv3": "hpskit.models.networks.hpsv3:HpsV3Network",
    "vqascore": "hpskit.models.networks.vqascore:VqaScoreNetwork",
    "mini": "hpskit.models.networks.mini:MiniNetwork",
    "random": "hpskit.models.networks.random_scores:RandomNetwork",
}
"""The class that turns images and prompts into scores, by the kind that a model states."""

MPS_RULES = {"per-image": 0.3, "whole-batch": 0.01}
"""How near to the conditions a token must be, as a share of the nearest of its prompt, or of all prompts of the batch.
The first is the authors' evaluation, the second their model's own `forward`."""


def network_class(kind: str) -> type[Network]:
    """Import the class of a kind of network."""
    found: type[Network] = pkgutil.resolve_name(NETWORKS[kind])
    return found


@dataclass(frozen=True, slots=True)
class Source:
    """A published file that a model is made of."""

    repository: str | None
    """Repository on the Hugging Face hub; None if none is known to have the file, so that a person has to bring it."""
    file: str
    """Name in the repository, or of the file to bring."""
    page: str = ""
    """Page on which a person finds the file to bring."""
    sha256: str | None = None
    """Hash of the file as its authors published it, where the repository is not theirs."""

    def __str__(self) -> str:
        return f"{self.repository}/{self.file}" if self.repository else self.page


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """A model that has a name: its facts, and the origin of its weights."""

    name: str
    version: str = "1.0"
    architecture: str
    """open_clip's name of the network, or `mini`, `blip-large`, `none`."""
    licence: str
    summary: str
    size: int
    """Bytes on disk, approximately for files on the hub; 0 if nobody counted them."""
    kind: str = "hps"
    """Kind of its network, a key of `NETWORKS`."""
    sources: tuple[Source, ...] = ()
    """The published files that it is made of; none for a model inside the wheel."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Further facts that the network needs beside its weights; kept in the ready file."""
    variant_of: str = ""
    """Name of the model whose ready file it uses, if that is another's; the settings are then not kept there."""

    @property
    def embedded(self) -> Path | None:
        """The weights inside the wheel, if that is where they are."""
        base = self.name.partition(":")[0]
        return None if self.sources else Path(__file__).with_name(f"{base}.safetensors")

    @property
    def stem(self) -> str:
        """The name without characters that some file systems refuse."""
        return (self.variant_of or self.name).replace(":", "--").replace("/", "--")


def _qwen(repository: str) -> tuple[Source, ...]:
    """Return what a Qwen-VL that answers in words is made of."""
    return tuple(Source(repository, file) for file in (SAFE_FILE, *QWEN_FILES, "generation_config.json"))


MODELS = {
    model.name: model
    for model in (
        Model(
            name="mini",
            architecture="mini",
            licence="Apache-2.0",
            summary="embedded, fast, does not read the prompt; for trying things and for small machines",
            size=6_400_000,
            kind="mini",
        ),
        Model(
            name="hps-v2.0",
            version="2.0",
            architecture="ViT-H-14",
            licence="Apache-2.0",
            summary="the model of the paper (arXiv 2306.09341)",
            size=3_900_000_000,
            sources=(Source("xswu/HPSv2", "HPS_v2_compressed.pt"),),
        ),
        Model(
            name="hps-v2.1",
            version="2.1",
            architecture="ViT-H-14",
            licence="Apache-2.0",
            summary="trained on better data by the same authors; the usual choice",
            size=3_900_000_000,
            sources=(Source("xswu/HPSv2", "HPS_v2.1_compressed.pt"),),
        ),
        Model(
            name="hps-v1",
            architecture="ViT-L-14-quickgelu",
            licence="not stated",
            summary="the forerunner, a CLIP ViT-L/14 tuned on choices of Discord users (arXiv 2303.14420)",
            size=1_710_000_000,
            kind="clip-score",
            sources=(
                Source(None, "hpc.pt", "https://github.com/tgxs002/align_sd, section Human Preference Classifier"),
            ),
        ),
        Model(
            name="pickscore",
            architecture="ViT-H-14",
            licence="not stated",
            summary="CLIP ViT-H/14 tuned on Pick-a-Pic (arXiv 2305.01569)",
            size=3_944_000_000,
            kind="pickscore",
            sources=(Source("yuvalkirstain/PickScore_v1", "model.safetensors"),),
        ),
        Model(
            name="imagereward",
            architecture="blip-large",
            licence="Apache-2.0",
            summary="BLIP with a reward head (arXiv 2304.05977); needs hpskit[baselines]",
            size=1_790_000_000,
            kind="imagereward",
            sources=(
                Source("THUDM/ImageReward", "ImageReward.pt"),
                Source("google-bert/bert-base-uncased", "vocab.txt"),
            ),
        ),
        Model(
            name="aesthetic",
            version="2.0",
            architecture="ViT-L-14-quickgelu",
            licence="Apache-2.0 (head), MIT (CLIP)",
            summary="LAION's improved aesthetic predictor: a rating from 1 to 10, does not read the prompt",
            size=1_715_000_000,
            kind="aesthetic",
            sources=(
                Source("timm/vit_large_patch14_clip_224.openai", OPEN_CLIP_FILE),
                Source(
                    "camenduru/improved-aesthetic-predictor",
                    "sac+logos+ava1-l14-linearMSE.pth",
                    sha256="21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0",
                ),
            ),
        ),
        Model(
            name="mps",
            architecture="ViT-H-14",
            licence="MIT",
            summary="CLIP ViT-H/14 whose image looks at words near given conditions (CVPR 2024); also mps:whole-batch",
            size=4_418_000_000,
            kind="mps",
            sources=(Source("RE-N-Y/mpsv1", "model.safetensors"),),
        ),
        Model(
            name="clip-score",
            version="laion2b_s32b_b79k",
            architecture="ViT-H-14",
            licence="MIT",
            summary="CLIP ViT-H/14 as it was before HPS v2; clip-score:ARCH:PRETRAINED is any other of open_clip",
            size=3_944_000_000,
            kind="clip-score",
            sources=(Source("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", OPEN_CLIP_FILE),),
        ),
        Model(
            name="hpsv3",
            version="3.0",
            architecture="Qwen2-VL-7B",
            licence="MIT (code), Apache-2.0 (weights)",
            summary="HPS v3: Qwen2-VL-7B with a ranking head (arXiv 2508.03789); needs hpskit[vlm] and 16 GB",
            size=15_500_000_000,
            kind="hpsv3",
            sources=(
                Source("MizzenAI/HPSv3", "HPSv3.safetensors"),
                *(Source("Qwen/Qwen2-VL-7B-Instruct", file) for file in QWEN_FILES),
            ),
        ),
        Model(
            name="vqascore",
            architecture="Qwen3-VL-2B-Instruct",
            licence="Apache-2.0",
            summary="the chance that a Qwen-VL answers Yes (arXiv 2404.01291); vqascore:OWNER/NAME is any; hpskit[vlm]",
            size=4_300_000_000,
            kind="vqascore",
            sources=_qwen("Qwen/Qwen3-VL-2B-Instruct"),
        ),
        Model(
            name="random",
            architecture="none",
            licence="Apache-2.0",
            summary="a number drawn by the content of image and prompt; random:SEED draws others",
            size=0,
            kind="random",
        ),
    )
}


def find(name: str) -> Model:
    """Return the model of that name.

    Raises:
        UnknownModelError: there is none; the error suggests the nearest name.
    """
    if name in MODELS:
        return MODELS[name]
    base, _, argument = name.partition(":")
    if base == "clip-score" and argument:
        return _pretrained_clip(name, *argument.partition(":")[::2])
    if base == "random" and argument:
        if not re.fullmatch(r"0|[1-9][0-9]{0,17}", argument):
            expected = "a whole number as seed, as in random:1"
            raise UnknownModelError("model", f"is {name!r}", expected=expected, cure="correct it")
        return replace(MODELS["random"], name=name, settings={"seed": argument})
    if base == "mps" and argument:
        return _mps(name, *argument.partition(":")[::2])
    if base == "vqascore" and argument:
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", argument):
            expected = "a repository of the hub, as in vqascore:Qwen/Qwen3-VL-4B-Instruct"
            raise UnknownModelError("model", f"is {name!r}", expected=expected, cure="correct it")
        own = replace(MODELS["vqascore"], name=name, sources=_qwen(argument), architecture=argument.rpartition("/")[2])
        return replace(own, licence="see its page on the hub", size=0)
    guess = nearest(name, MODELS)
    hint = f"did you mean {guess!r}? " if guess else ""
    cure = f"{hint}the known names are {', '.join(MODELS)}"
    raise UnknownModelError("model", f"{name!r} is neither a known name nor a file", cure=cure)


def _mps(name: str, rule: str, conditions: str) -> Model:
    """Make the entry of another rule, or of other conditions; the weights are the same."""
    if rule not in MPS_RULES or not (conditions.strip() or name.endswith(rule)) or not conditions.isprintable():
        expected = f"{' or '.join(MPS_RULES)} and perhaps conditions, as in mps:per-image:light, color"
        raise UnknownModelError("model", f"is {shown(name)}", expected=expected, cure="correct it")
    if rule == "per-image" and not conditions:
        return MODELS["mps"]
    settings = {"rule": rule, **({"conditions": conditions} if conditions else {})}
    return replace(MODELS["mps"], name=name, variant_of="mps", settings=settings)


def _pretrained_clip(name: str, architecture: str, pretrained: str) -> Model:
    """Make the entry of a network of open_clip's list, with the preprocessing that the list gives it."""
    import open_clip

    place = f"model: {name!r}"
    if architecture not in open_clip.list_models():
        guess = nearest(architecture, open_clip.list_models())
        cure = f"did you mean {guess!r}?" if guess else "see open_clip.list_models()"
        raise UnknownModelError(place, f"open_clip has no architecture {architecture!r}", cure=cure)
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if pretrained not in tags:
        found = f"open_clip has no weights {pretrained!r} for it"
        raise UnknownModelError(place, found, expected=f"one of {', '.join(tags)}", cure="correct it")
    config: dict[str, Any] = open_clip.get_pretrained_cfg(architecture, pretrained)
    repository, _, file = config.get("hf_hub", "").rpartition("/")
    if not repository:
        page = config.get("url") or "open_clip's list of pretrained networks"
        raise UnknownModelError(place, f"is not on the hub but at {page}", cure="fetch it, and name the file instead")
    resize = config["resize_mode"]
    quick = config.get("quick_gelu", False) and not architecture.endswith("-quickgelu")
    return replace(
        MODELS["clip-score"],
        name=name,
        version=pretrained,
        architecture=f"{architecture}-quickgelu" if quick else architecture,
        licence="see its page on the hub",
        size=0,
        sources=(Source(repository, file or OPEN_CLIP_FILE),),
        settings={
            "resize": {"shortest": "crop", "longest": "letterbox"}.get(resize, resize),
            "interpolation": config["interpolation"],
            "mean": ",".join(map(str, config["mean"])),
            "std": ",".join(map(str, config["std"])),
        },
    )
