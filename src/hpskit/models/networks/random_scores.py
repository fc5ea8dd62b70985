"""Random scores, drawn by the content of image and prompt: the floor of every comparison."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from hpskit.models.network import Arithmetic, Blueprint, Network
from hpskit.pixels import Preprocessing

_WORDS = 8  # of 16 bits, which float32 holds exactly
_DRAWN_BITS = 24


class RandomNetwork(Network):
    """Draws a number from 0 to 1 by hashing.

    The same image (to 8 bits, at 64 x 64 pixels), prompt and seed give the same number in every batch and on every
    machine; a change of any gives another.
    """

    scale = "uniform from 0 to 1, by hash; says nothing: every win probability is 1/2"
    log_odds_per_point = 0.0
    reads_prompt = True
    differentiable = False

    def __init__(self, plan: Blueprint) -> None:
        """Take the device and `seed` from the settings; the weights are not read."""
        self.device = plan.device
        self.preprocessing = Preprocessing(size=64, resize="squash", pillow=True, mean=(0, 0, 0), std=(1, 1, 1))
        self._seed = int(plan.settings.get("seed", "0"))

    @classmethod
    def arithmetic(cls, _precision: str, _device: torch.device) -> Arithmetic:
        """Return fp32: hashes are whole numbers, and no precision changes them."""
        return "fp32"

    def encode_images(self, pixels: Tensor) -> Tensor:
        """(N, 3, 64, 64) in [0, 1] -> (N, 8): the hash of each image."""
        levels = (pixels.detach() * 255).round().to(device="cpu", dtype=torch.uint8)
        return self._hashes([image.numpy().tobytes() for image in levels])

    def encode_prompts(self, prompts: Sequence[str]) -> Tensor:
        """M prompts -> (M, 8): the hash of each prompt and the seed."""
        return self._hashes([f"{self._seed}\0{prompt}".encode() for prompt in prompts])

    def compare(self, images: Tensor, prompts: Tensor) -> Tensor:
        """Two times (N, 8) -> (N,) in [0, 1)."""
        joint = torch.cat([images, prompts], dim=1).cpu().numpy()
        digests = [hashlib.sha256(row.astype("<u2").tobytes()).digest() for row in joint]
        drawn = [int.from_bytes(digest[:4], "little") >> (32 - _DRAWN_BITS) for digest in digests]
        return torch.tensor(drawn, dtype=torch.float32, device=self.device).div(2**_DRAWN_BITS)

    def _hashes(self, contents: Sequence[bytes]) -> Tensor:
        joined = b"".join(hashlib.sha256(content).digest()[: 2 * _WORDS] for content in contents)
        words = torch.frombuffer(bytearray(joined), dtype=torch.uint16).view(-1, _WORDS)
        return words.to(device=self.device, dtype=torch.float32)
