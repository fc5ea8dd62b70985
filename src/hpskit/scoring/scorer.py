"""From a name to a scorer; and the scorer that runs a network, with one encoding for each distinct prompt."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from hpskit.errors import InputError, ModelError
from hpskit.models.loading import load_network
from hpskit.models.network import Network
from hpskit.models.plugins import find_plugin, load_plugin
from hpskit.models.registry import DEFAULT_MODEL
from hpskit.records import ScorerInfo
from hpskit.scoring.plain import PlainScorer
from hpskit.scoring.preference import PreferenceScorer, check_batch_size
from hpskit.scoring.streaming import Prepared

__all__ = ["NetworkScorer", "PreferenceScorer", "load_scorer"]

_CACHED_PROMPTS = 10_000


def load_scorer(
    name_or_path: str | os.PathLike[str] = DEFAULT_MODEL,
    *,
    arch: str | None = None,
    precision: str = "auto",
    device: str = "auto",
    batch_size: int | None = None,
    antialias: bool | None = None,
) -> PreferenceScorer:
    """Load a preference model, once; keep the result and use it for every score.

    Args:
        name_or_path: a name such as `mini` or `hps-v2.1`, a checkpoint file (`.pt` with a state dict, `.safetensors`),
            or `FILE.py:NAME`, a scorer of your own (docs/baselines.md); that file is run.
        arch: open_clip architecture of a local checkpoint; ViT-H-14 if not given.
        precision: `fp32`, `bf16`, `fp16`, or `auto`: the fastest that the hardware has. Scores are float32 in every
            case; see docs/scoring.md for how far they move.
        device: `cpu`, `cuda`, `cuda:1`, `mps`, or `auto`.
        batch_size: images per step of the network; if not given 8 on a CPU, 64 elsewhere. Changes no score in fp32;
            in lower precision by less than the precision itself does (docs/scoring.md).
        antialias: False resizes as torchvision did before 0.17, when the published tables were computed. True is
            what the official code does today, and the default.

    Raises:
        ModelError: unknown name, no such file, another architecture, damaged, or not on this machine and offline.
        InputError: an option has an impossible value.
    """
    check_batch_size(batch_size)  # before gigabytes are read
    if (plugin := find_plugin(name_or_path)) is None:
        network, info = load_network(name_or_path, arch=arch, precision=precision, device=device, antialias=antialias)
        return NetworkScorer(network, info, batch_size=batch_size)
    if arch is not None or antialias is not None:
        raise InputError(f"arch and antialias: are not for {plugin.name}, which is not of hpskit; leave them out")
    made, info = load_plugin(plugin, precision=precision, device=device)
    kind = NetworkScorer if hasattr(made, "encode_images") else PlainScorer
    return kind(made, info, batch_size=batch_size)


class NetworkScorer(PreferenceScorer):
    """Scores images for prompts with one network, which it keeps loaded."""

    def __init__(self, network: Network, info: ScorerInfo, *, batch_size: int | None = None) -> None:
        """Use `load_scorer`; this is for networks that a program has made itself."""
        super().__init__(
            info,
            preprocessing=network.preprocessing,
            log_odds_per_point=network.log_odds_per_point,
            reads_prompt=network.reads_prompt,
            batch_size=batch_size or (8 if network.device.type == "cpu" else 64),
        )
        self._network = network
        self._prompts: OrderedDict[str, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def score_prepared(self, images: Sequence[Prepared], prompts: Sequence[str]) -> Tensor:
        """N tensors (3, S, S) and N prompts -> (N,) float32, no gradient.

        Raises:
            ModelError: a score is not finite.
        """
        with torch.inference_mode():
            texts = self._encode_prompts(prompts)
            pixels = torch.stack(list(images))  # type: ignore[arg-type]  # tensors, because there is a preprocessing
            encoded = self._network.encode_images(pixels.to(self._network.device))
            return self._all_finite(self._network.compare(encoded, texts))

    def _all_finite(self, scores: Tensor) -> Tensor:
        """The scores, if all are numbers; if not, the weights or the precision are to blame."""
        if not bool(scores.detach().isfinite().all()):
            cure = "check the weights with `hpskit models verify`" + (
                "" if self.info.precision == "fp32" else ", or score with precision fp32"
            )
            raise ModelError(f"{self.info.name}: gives a score that is not finite, in {self.info.precision}; {cure}")
        return scores

    def _score_tensor(self, images: Tensor, prompts: list[str], *, grad: bool) -> Tensor:
        network = self._network
        if grad and not network.differentiable:
            cure = "load the scorer with precision='fp32'" if self.info.precision != "fp32" else "score without it"
            raise InputError(f"grad: is True, but {self.info.name} in {self.info.precision} has no gradient; {cure}")
        if not prompts:
            return images.new_zeros(0, dtype=torch.float32)
        with torch.no_grad():
            texts = self._encode_prompts(prompts)
        parts = []
        with torch.set_grad_enabled(grad):
            for start in range(0, len(prompts), self.batch_size):
                stop = start + self.batch_size
                pixels = network.preprocessing(images[start:stop].float().to(network.device))
                parts.append(network.compare(network.encode_images(pixels), texts[start:stop]))
            return self._all_finite(torch.cat(parts)).to(images.device)

    def _encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """(N, E): each distinct prompt is encoded once and remembered."""
        with self._lock:
            known = {prompt: self._prompts[prompt] for prompt in set(prompts) & self._prompts.keys()}
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in known]
        for start in range(0, len(new), 64):
            part = new[start : start + 64]
            with torch.no_grad():
                known |= dict(zip(part, self._network.encode_prompts(part), strict=True))
        with self._lock:
            for prompt, encoded in known.items():
                self._prompts[prompt] = encoded
                self._prompts.move_to_end(prompt)
            while len(self._prompts) > _CACHED_PROMPTS:
                self._prompts.popitem(last=False)
        return torch.stack([known[prompt] for prompt in prompts])
