"""mini, the embedded scorer: the body of EfficientNet-lite1, statistics of its channels, one linear layer.

The score of an image is a weighted sum of the mean and the standard deviation of every channel after every
depthwise convolution. The convolutions are those of a public ImageNet network with the batch normalisation folded
in; the weights of the sum were fitted to people's rankings by `runs/mini/fit.py`. The prompt is not read.

Source of the network (Apache-2.0):
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import relu6

from hpskit.errors import CheckpointError
from hpskit.models.checkpoint import check_names
from hpskit.models.network import Arithmetic, Blueprint, ImageNetwork, choose_precision
from hpskit.pixels import Preprocessing

_STAGES = (
    # blocks, kernel, stride, expansion, channels
    (1, 3, 1, 1, 16),
    (3, 3, 2, 6, 24),
    (3, 5, 2, 6, 40),
    (4, 3, 2, 6, 80),
    (4, 5, 1, 6, 112),
    (5, 5, 2, 6, 192),
)
"""EfficientNet-lite1 without its last stage and its classifier, whose features were worse."""

_STEM_CHANNELS = 32
_SIZES = range(32, 2_049, 32)  # pixels of a side: no stranger's file decides how much memory an image takes
_EPSILON = 1e-6  # keeps the gradient of a standard deviation finite where a channel is constant


class Block(nn.Module):
    """One inverted residual block: widen, filter each channel, narrow; ReLU6 after the first two."""

    def __init__(self, channels: int, out: int, *, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.expand = nn.Conv2d(channels, wide, 1) if expansion > 1 else nn.Identity()
        self.depthwise = _same_convolution(wide, wide, kernel=kernel, stride=stride, groups=wide)
        self.project = nn.Conv2d(wide, out, 1)
        self.residual = stride == 1 and channels == out
        self.widens = expansion > 1

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) -> (B, C', H', W') and the output of the depthwise convolution, (B, 6 C, H', W') in [0, 6]."""
        wide = relu6(self.expand(x), inplace=True) if self.widens else x
        seen = relu6(self.depthwise(wide), inplace=True)
        out = self.project(seen)
        return (x + out if self.residual else out), seen


class Mini(nn.Module):
    """Pixels to log-odds. Holds parameters only, so it can be built on the meta device and filled afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _same_convolution(3, _STEM_CHANNELS, kernel=3, stride=2, groups=1)
        blocks: list[Block] = []
        channels = _STEM_CHANNELS
        for count, kernel, stride, expansion, out in _STAGES:
            for i in range(count):
                step = stride if i == 0 else 1
                blocks.append(Block(channels, out, kernel=kernel, stride=step, expansion=expansion))
                channels = out
        self.blocks = nn.ModuleList(blocks)
        self.widths = tuple(block.depthwise.out_channels for block in blocks)
        """Channels after the depthwise convolution of each block; each gives two features."""
        features = 2 * sum(self.widths)
        self.centre = nn.Parameter(torch.empty(features))
        """Average of the features, so that the score of an average image is about 0."""
        self.weight = nn.Parameter(torch.empty(features))
        """Log-odds per unit of each feature."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised (B, 3, S, S), S a multiple of 32 -> (B,) float32 log-odds, typically between -4 and 4.

        The modelled probability that people prefer image a to image b is sigmoid(score a - score b).
        """
        return ((self.features(pixels) - self.centre) * self.weight).sum(dim=1)

    def features(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, F) float32: mean, then standard deviation of each channel, block by block."""
        x = pixels.to(dtype=self.stem.weight.dtype, memory_format=torch.channels_last)
        x = relu6(self.stem(x), inplace=True)
        pooled: list[Tensor] = []
        for block in self.blocks:
            x, seen = block(x)
            pooled += _moments(seen)
        return torch.cat(pooled, dim=1)

    def to_precision(self, dtype: torch.dtype) -> Mini:
        """Turn the convolutions to `dtype`, laid out channels-last, in place; the linear layer stays in float32."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                module.to(dtype).to(memory_format=torch.channels_last)
        return self


class MiniNetwork(ImageNetwork):
    """Mini on its device, frozen. An image is encoded as its score."""

    scale = "log-odds; a difference of 1 is one unit of log-odds"
    log_odds_per_point = 1.0

    def __init__(self, plan: Blueprint) -> None:
        """Build the network without initialising it, and fill it.

        Raises:
            CheckpointError: the weights are not those of mini.
        """
        weights, metadata = plan.weights, plan.weights.metadata()
        with torch.device("meta"):
            model = Mini()
        check_names(model, weights, "mini", option=None)
        state = {name: tensor.to(device=plan.device, dtype=torch.float32) for name, tensor in weights.tensors()}
        model.load_state_dict(state, strict=True, assign=True)
        self.model = model.to_precision(plan.dtype).eval().requires_grad_(False)
        self.device = plan.device
        self.differentiable = plan.precision == "fp32"  # bfloat16's gradients point elsewhere (docs/mini.md)
        self.preprocessing = _preprocessing(metadata)

    @classmethod
    def arithmetic(cls, precision: str, device: torch.device) -> Arithmetic:
        """Return fp32 for `auto` on a CPU: quick enough, and bf16 turns round one pair in a hundred (docs/mini.md)."""
        return "fp32" if precision == "auto" and device.type == "cpu" else choose_precision(precision, device)

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Preprocessed (N, 3, S, S) -> (N, 1) float32 log-odds."""
        scores: Tensor = self.model(pixels.to(self.device))
        return scores[:, None]


def _preprocessing(metadata: Mapping[str, str]) -> Preprocessing:
    try:
        mean, std = ([float(v) for v in metadata[key].split(",")] for key in ("mean", "std"))
        return Preprocessing(
            size=_SIZES[_SIZES.index(int(metadata["size"]))],
            resize=metadata["resize"],  # type: ignore[arg-type]  # checked there
            mean=(mean[0], mean[1], mean[2]),
            std=(std[0], std[1], std[2]),
        )
    except (LookupError, ValueError) as error:
        cure = "build it anew with runs/mini/fit.py, or use the embedded model"
        raise CheckpointError("mini: preprocessing", f"is missing or damaged ({error})", cure=cure) from error


def _same_convolution(channels: int, out: int, *, kernel: int, stride: int, groups: int) -> nn.Conv2d:
    """Make TensorFlow's "same" convolution for even sizes.

    At stride 2 it pads one pixel less on the left than on the right; a kernel wider by one whose first row and column
    are zero does that without a copy of the input.
    """
    return nn.Conv2d(channels, out, kernel + (stride == 2), stride, kernel // 2, groups=groups)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """(B, C, H, W) -> mean and standard deviation over H and W, each (B, C) float32."""
    mean = x.mean(dim=(2, 3), dtype=torch.float32)
    square = x.square().mean(dim=(2, 3), dtype=torch.float32)
    return mean, (square - mean.square()).clamp(min=0).add(_EPSILON).sqrt()
