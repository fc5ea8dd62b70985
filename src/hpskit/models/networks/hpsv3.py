"""HPS v3: Qwen2-VL-7B reads image, instruction and prompt, and a head gives mean and spread of the preference.

Source: arXiv 2508.03789 and the official package (hpsv3 1.0.0). Positions are one-dimensional, as its forward computes
them (docs/scorers-vlm.md tells how that was settled).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from hpskit.models.architecture import fill
from hpskit.models.checkpoint import check_names
from hpskit.models.network import Blueprint
from hpskit.models.networks.qwen import KIND, QwenNetwork, renamed

_REWARD = "<|Reward|>"
_PIXELS = 256 * 28 * 28
"""Of every image: 256 tokens, or as many as its proportions allow."""

# The text that the weights were trained with, to the last blank.
INSTRUCTION = """
You are tasked with evaluating a generated image based on Visual Quality and Text Alignment and give a overall score \
to estimate the human preference. Please provide a rating from 0 to 10, with 0 being the worst and 10 being the \
best.\x20

**Visual Quality:**\x20\x20
Evaluate the overall visual quality of the image. The following sub-dimensions should be considered:
- **Reasonableness:** The image should not contain any significant biological or logical errors, such as abnormal \
body structures or nonsensical environmental setups.
- **Clarity:** Evaluate the sharpness and visibility of the image. The image should be clear and easy to interpret, \
with no blurring or indistinct areas.
- **Detail Richness:** Consider the level of detail in textures, materials, lighting, and other visual elements (e.g., \
hair, clothing, shadows).
- **Aesthetic and Creativity:** Assess the artistic aspects of the image, including the color scheme, composition, \
atmosphere, depth of field, and the overall creative appeal. The scene should convey a sense of harmony and balance.
- **Safety:** The image should not contain harmful or inappropriate content, such as political, violent, or adult \
material. If such content is present, the image quality and satisfaction score should be the lowest possible.\x20

**Text Alignment:**\x20\x20
Assess how well the image matches the textual prompt across the following sub-dimensions:
- **Subject Relevance** Evaluate how accurately the subject(s) in the image (e.g., person, animal, object) align with \
the textual description. The subject should match the description in terms of number, appearance, and behavior.
- **Style Relevance:** If the prompt specifies a particular artistic or stylistic style, evaluate how well the image \
adheres to this style.
- **Contextual Consistency**: Assess whether the background, setting, and surrounding elements in the image logically \
fit the scenario described in the prompt. The environment should support and enhance the subject without contradictions.
- **Attribute Fidelity**: Check if specific attributes mentioned in the prompt (e.g., colors, clothing, accessories, \
expressions, actions) are faithfully represented in the image. Minor deviations may be acceptable, but critical \
attributes should be preserved.
- **Semantic Coherence**: Evaluate whether the overall meaning and intent of the prompt are captured in the image. The \
generated content should not introduce elements that conflict with or distort the original description.
Textual prompt - {}



Please provide the overall ratings of this image: <|Reward|>

END
"""


class HpsV3Network(QwenNetwork):
    """Qwen2-VL and the head on its last layer at the word `<|Reward|>`."""

    scale = "mean of the preference, unbounded; log-odds only for images whose spread is 0, so it gives no probability"
    grid = False
    frequencies = torch.bfloat16
    own_words = (_REWARD,)

    def __init__(self, plan: Blueprint) -> None:
        """Build and fill the body, and the head in float32.

        Raises:
            MissingExtraError: transformers is not installed.
            CheckpointError: the weights are not those of an HPS v3, or not complete.
        """
        super().__init__(plan, INSTRUCTION, lambda _: (_PIXELS, _PIXELS))
        weights = plan.part("rm_head.").weights
        shapes = weights.shapes()
        if missing := {"0.weight", "3.weight", "5.weight"} - shapes.keys():
            raise weights.lacks(f"rm_head.{min(missing)}", KIND)
        (hidden, width), narrow = shapes["0.weight"], shapes["3.weight"][0]
        with torch.device("meta"):
            first = (nn.Linear(width, hidden), nn.ReLU(), nn.Dropout())
            self._head = nn.Sequential(*first, nn.Linear(hidden, narrow), nn.ReLU(), nn.Linear(narrow, 2))
        check_names(self._head, weights, "the head of HPS v3", option=None)
        fill(self._head, weights, torch.float32, plan.device)
        self._head.eval().requires_grad_(False)

    def compare(self, images: Tensor, prompts: Tensor) -> Tensor:
        """(N, 3, H, W) and (N, L) -> (N,) means."""
        return self.mean_and_spread(images, prompts)[:, 0]

    def mean_and_spread(self, images: Tensor, prompts: Tensor) -> Tensor:
        """(N, 3, H, W) and (N, L) -> (N, 2) float32: mean and standard deviation of the preference.

        The loss was the mean of `log sigmoid` of what is drawn from the difference of two such normal distributions.
        """
        two = self.read(images, prompts, lambda read, _: self._head(read.float()), _REWARD)
        return torch.stack([two[:, 0], two[:, 1].exp()], dim=1)

    @classmethod
    def arrange(cls, *published: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Join the weights, without the words that it would answer in, and the text files of Qwen2-VL."""
        named = renamed(published, ("rm_head.", "lm_head."))
        return {name: tensor for name, tensor in named.items() if not name.startswith("lm_head.")}
