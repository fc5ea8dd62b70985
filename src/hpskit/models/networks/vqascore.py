"""VQAScore: the probability with which a Qwen-VL answers "Yes" to the question whether an image shows the prompt.

Source: arXiv 2404.01291 and the package t2v_metrics (3.0 and 3.1), `qwen2vl_model.py` and `qwen3vl_model.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hpskit.errors import CheckpointError
from hpskit.models.network import Blueprint
from hpskit.models.networks.qwen import KIND, QwenNetwork, published_json, renamed

_QUESTION = 'Does this figure show "{}"? Please answer Yes or No.'
_ANSWER = "Yes"
_LEAST, _MOST = 4, 16_384
"""Tokens of an image, by the defaults of qwen-vl-utils."""


class VqaScoreNetwork(QwenNetwork):
    """Qwen2-VL, Qwen2.5-VL or Qwen3-VL of any size, and the table of its words."""

    scale = 'probability of the answer "Yes", 0 to 1, not calibrated by choices of people, so it gives no other'

    def __init__(self, plan: Blueprint) -> None:
        """Build and fill the body, and take the words that it answers in.

        Raises:
            MissingExtraError: transformers is not installed.
            CheckpointError: the weights are not those of a Qwen-VL, or not complete.
        """
        super().__init__(plan, _QUESTION, lambda side: (_LEAST * side**2, _MOST * side**2))
        answer = self._tokens(_ANSWER)
        if len(answer) != 1:
            found = f"writes {_ANSWER!r} in {len(answer)} tokens"
            raise CheckpointError(plan.weights.origin, found, expected="one", cure="name a published Qwen-VL")
        (self._answer,) = answer
        self._words_out = self._output(plan)
        self._penalty = float(published_json(plan.weights, "generation_config.json").get("repetition_penalty", 1.0))
        self.reading += f" {_ANSWER}-{self._answer} penalty-{self._penalty:g}"

    def _output(self, plan: Blueprint) -> Tensor:
        """Return (words, D): the output table, which small models share with the input."""
        own = dict(plan.part("lm_head.weight").weights.tensors())
        if own:
            return own[""].to(device=plan.device, dtype=plan.dtype, copy=plan.precision != "fp32")
        facts = published_json(plan.weights, "config.json")
        if not facts.get("tie_word_embeddings", facts.get("text_config", {}).get("tie_word_embeddings")):
            raise plan.weights.lacks("lm_head.weight", KIND)
        table: Tensor = self._body.get_input_embeddings().weight
        return table

    def compare(self, images: Tensor, prompts: Tensor) -> Tensor:
        """(N, 3, H, W) and (N, L) -> (N,) probabilities, by a softmax in float32 over the whole vocabulary.

        The original reads the scores of `generate`, to which the repository's own penalty on words that the question
        has already been applied.
        """
        return self.read(images, prompts, self._probability)

    def _probability(self, read: Tensor, prompts: Tensor) -> Tensor:
        logits = (read @ self._words_out.T).float()
        if self._penalty != 1:
            said = torch.zeros_like(logits, dtype=torch.bool)
            for mine, row in zip(said, prompts.long(), strict=True):
                mine[row[row >= 0]] = True
            logits = torch.where(said, torch.where(logits < 0, logits * self._penalty, logits / self._penalty), logits)
        return logits.softmax(dim=1)[:, self._answer]

    @classmethod
    def arrange(cls, *published: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Join the weights and the text files of the repository."""
        return renamed(published, ("lm_head.weight",))
